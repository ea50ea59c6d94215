//! The six parameters: how their values are spread, what is missing, and their AQI.
//!
//! A value is looked up by its *rank*, its place among all values of the parameter in millionths. The tables hold what
//! the 2020 fire season has at those ranks, so values drawn by ranks that are spread evenly are as skewed as the real
//! ones: half of PM2.5 below 9, one in ten thousand above 1,390. Concentrations are whole tenths of the unit.

use fastrand::Rng;

/// The highest rank.
pub const RANK_MAX: i32 = 1_000_000;

/// The ranks that the tables below have values for.
const RANKS: [i32; 18] = [
    0, 100, 1_000, 10_000, 50_000, 100_000, 250_000, 500_000, 750_000, 900_000, 950_000, 980_000, 990_000, 995_000,
    999_000, 999_900, 999_990, RANK_MAX,
];

/// A parameter.
pub struct Pollutant {
    pub name: &'static str,
    pub unit: &'static str,
    /// The concentration at each of [`RANKS`].
    concentration: [i32; RANKS.len()],
    /// The hour's own value, where the concentration is a moving average; else it is the same.
    raw: Option<[i32; RANKS.len()]>,
    /// Values are whole numbers.
    is_whole: bool,
    /// Of 10,000 rows, how many have no concentration (and so no AQI), no raw value, or only no AQI.
    missing: [u32; 3],
    /// The upper bound of each segment of the index, and the index there; empty if there is none.
    aqi: &'static [(i32, i32)],
    /// How far a value moves up and down with the hour of the day, in ranks.
    pub daily: i32,
}

pub static POLLUTANTS: [Pollutant; 6] = [
    Pollutant {
        name: "OZONE",
        unit: "PPB",
        concentration: [0, 0, 0, 20, 70, 100, 180, 270, 380, 500, 560, 650, 710, 770, 930, 1170, 1420, 1520],
        raw: Some([-220, -30, 0, 0, 40, 80, 170, 280, 400, 530, 600, 700, 770, 850, 1050, 1420, 1680, 1730]),
        is_whole: true,
        missing: [165, 188, 0],
        aqi: &[(540, 50), (700, 100), (850, 150), (1050, 200), (2000, 300)],
        daily: 220_000,
    },
    Pollutant {
        name: "PM2.5",
        unit: "UG/M3",
        concentration: [0, 0, 0, 0, 20, 32, 53, 86, 150, 365, 711, 1413, 2413, 3587, 5834, 13912, 54010, 56438],
        raw: Some([-249, -91, -42, -10, 18, 30, 50, 86, 150, 360, 710, 1420, 2426, 3646, 5993, 13250, 53740, 58630]),
        is_whole: false,
        missing: [24, 64, 0],
        aqi: &[(120, 50), (354, 100), (554, 150), (1504, 200), (2504, 300), (3504, 400), (5004, 500)],
        daily: 30_000,
    },
    Pollutant {
        name: "PM10",
        unit: "UG/M3",
        concentration: [0, 0, 0, 30, 80, 110, 170, 270, 460, 800, 1190, 1930, 2640, 3810, 10010, 18690, 30840, 72940],
        raw: Some([
            -680, -120, -30, 20, 80, 100, 160, 270, 460, 800, 1220, 2000, 2750, 3980, 11140, 21690, 32160, 39400,
        ]),
        is_whole: true,
        missing: [18, 40, 0],
        aqi: &[(540, 50), (1540, 100), (2540, 150), (3540, 200), (4240, 300), (5040, 400), (6040, 500)],
        daily: 40_000,
    },
    Pollutant {
        name: "NO2",
        unit: "PPB",
        concentration: [-48, -39, -8, 0, 6, 10, 21, 50, 110, 198, 264, 350, 404, 455, 574, 768, 1096, 1096],
        raw: None,
        is_whole: false,
        missing: [0, 0, 8],
        aqi: &[(530, 50), (1000, 100), (3600, 150)],
        daily: 100_000,
    },
    Pollutant {
        name: "SO2",
        unit: "PPB",
        concentration: [-34, -21, -19, -3, 0, 0, 0, 3, 9, 16, 26, 46, 66, 110, 311, 940, 1520, 1520],
        raw: None,
        is_whole: false,
        missing: [0, 0, 45],
        aqi: &[(350, 50), (750, 100), (1850, 150)],
        daily: 0,
    },
    Pollutant {
        name: "CO",
        unit: "PPM",
        // The highest value is one reading of a broken instrument, as in the real data.
        concentration: [-2, -1, 0, 0, 1, 1, 2, 3, 4, 7, 9, 12, 14, 16, 25, 44, 60, 32982],
        raw: None,
        is_whole: false,
        missing: [0, 0, 0],
        aqi: &[],
        daily: 60_000,
    },
];

/// What a row says; `None` is written as -999.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    pub concentration: Option<i32>,
    pub raw: Option<i32>,
    pub aqi: Option<i32>,
}

impl Pollutant {
    /// The parameter of that name; every name in this module is one.
    pub fn by_name(name: &str) -> Option<&'static Pollutant> {
        POLLUTANTS.iter().find(|pollutant| pollutant.name == name)
    }

    /// The reading at a rank, of which the hour's own value strays a little.
    pub fn read(&self, rank: i32, random: &mut Rng) -> Reading {
        let value = self.at(&self.concentration, rank);
        let raw = match &self.raw {
            Some(table) => self.at(table, fold(rank + random.i32(-RAW_STRAYS..=RAW_STRAYS))),
            None => value,
        };
        let dice = random.u32(0..10_000);
        let [without_value, without_raw, without_aqi] = self.missing;
        let has_value = dice >= without_value;
        let has_raw = !(without_value..without_value + without_raw).contains(&dice);
        let has_aqi = has_value && dice < 10_000 - without_aqi && !self.aqi.is_empty();
        Reading {
            concentration: has_value.then_some(value),
            raw: has_raw.then_some(raw),
            aqi: has_aqi.then(|| self.aqi_of(value)),
        }
    }

    fn at(&self, table: &[i32; RANKS.len()], rank: i32) -> i32 {
        let value = interpolate(&RANKS, table, rank);
        if self.is_whole { (value + 5).div_euclid(10) * 10 } else { value }
    }

    /// The index of 2020: linear within its segments, rounded half up, and on beyond the last one.
    fn aqi_of(&self, value: i32) -> i32 {
        let value = value.max(0);
        // The unit in which the index is defined: tenths for PM2.5, whole numbers for the others.
        let step = if self.is_whole || self.name != "PM2.5" { 10 } else { 1 };
        let value = value / step * step;
        let (mut low, mut index_low) = (0, 0);
        for (segment, &(high, index_high)) in self.aqi.iter().enumerate() {
            if value <= high || segment + 1 == self.aqi.len() {
                let (rise, run) = (i64::from(index_high - index_low), i64::from(high - low));
                let above = i64::from(value - low) * rise;
                return index_low + ((2 * above + run) / (2 * run)) as i32;
            }
            (low, index_low) = (high + step, index_high + 1);
        }
        0
    }
}

/// How far the hour's own value may stray from the moving average, in ranks.
const RAW_STRAYS: i32 = 40_000;

/// 1 to 6 by the index.
pub fn category(aqi: i32) -> i32 {
    1 + [50, 100, 150, 200, 300].iter().filter(|&&bound| aqi > bound).count() as i32
}

/// Brings a rank that left the range back into it, as a mirror at either end would. Ranks spread evenly stay so,
/// whatever is added to them: that is what keeps the values as skewed as the tables.
pub fn fold(rank: i32) -> i32 {
    let within = rank.rem_euclid(2 * RANK_MAX);
    within.min(2 * RANK_MAX - within)
}

/// The value at `x`, linear between the points. `xs` ascend and contain `x`.
pub fn interpolate<const N: usize>(xs: &[i32; N], ys: &[i32; N], x: i32) -> i32 {
    let after = xs.partition_point(|&point| point <= x).clamp(1, N - 1);
    let (x0, x1, y0, y1) = (xs[after - 1], xs[after], ys[after - 1], ys[after]);
    let rise = i64::from(y1 - y0) * i64::from(x - x0);
    y0 + (rise / i64::from(x1 - x0)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_that_of_2020() {
        let check = |name: &str, value: i32, aqi: i32| {
            assert_eq!(Pollutant::by_name(name).unwrap().aqi_of(value), aqi, "{name} {value}");
        };
        for (value, aqi) in [(-5, 0), (0, 0), (101, 42), (120, 50), (121, 51), (354, 100), (1504, 200), (5004, 500)] {
            check("PM2.5", value, aqi);
        }
        // Beyond the table it goes on as its last segment does.
        check("PM2.5", 6004, 566);
        check("PM10", 72_940, 7190);
        for (value, aqi) in [(400, 37), (540, 50), (550, 51), (6040, 500)] {
            check("PM10", value, aqi);
        }
        for (value, aqi) in [(540, 50), (609, 67), (700, 100), (2000, 300)] {
            check("OZONE", value, aqi);
        }
        assert_eq!([0, 50, 51, 100, 150, 200, 201, 300, 301, 7000].map(category), [1, 1, 2, 2, 3, 4, 5, 5, 6, 6]);
    }

    #[test]
    fn ranks_stay_within_their_range_and_values_within_their_tables() {
        for (rank, folded) in [(0, 0), (-3, 3), (RANK_MAX + 7, RANK_MAX - 7), (2 * RANK_MAX, 0), (-RANK_MAX, RANK_MAX)]
        {
            assert_eq!(fold(rank), folded, "{rank}");
        }
        for pollutant in &POLLUTANTS {
            assert!(pollutant.concentration.is_sorted() && pollutant.raw.is_none_or(|raw| raw.is_sorted()));
            for (rank, value) in RANKS.into_iter().zip(pollutant.concentration) {
                assert_eq!(pollutant.at(&pollutant.concentration, rank), value, "{} {rank}", pollutant.name);
            }
        }
    }
}
