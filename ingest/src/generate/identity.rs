//! Who a site is: its place on the map, its name, its agency and its ids.

use fastrand::Rng;

use super::pollutant::{RANK_MAX, interpolate};

/// The first ones have the most sites.
const AGENCIES: [&str; 16] = [
    "California Air Resources Board",
    "Texas Commission on Environmental Quality",
    "Ohio EPA-DAPC",
    "Oregon Department of Environmental Quality",
    "National Park Service",
    "Illinois EPA",
    "North Coast Unified Air Quality Management District",
    "Utah Department of Environmental Quality",
    "Lane Regional Air Protection Agency",
    "Florida Department of Environmental Protection",
    "Colorado Department of Public Health and Environment",
    "Michigan Department of Environment, Great Lakes, and Energy",
    "Georgia Department of Natural Resources, EPD ",
    "Washington, Department of Ecology ",
    "AIRSIS",
    "Nevada DEP",
];

const PLACES: [&str; 24] = [
    "Crescent City",
    "Klamath Glen",
    "Jacobs",
    "Riverside",
    "Lakeview",
    "Medford",
    "Bend",
    "Salmon",
    "Boise",
    "Elko",
    "Provo",
    "Tucson",
    "Pueblo",
    "Amarillo",
    "Waco",
    "Tulsa",
    "Peoria",
    "Dayton",
    "Macon",
    "Tampa",
    "Asheville",
    "Scranton",
    "Ithaca",
    "Bangor",
];

const STREETS: [&str; 16] = [
    "",
    " - Elm St.",
    " 2",
    " Airport",
    " - Main St. & 3rd",
    " School",
    " East",
    " Water Tower",
    " I-5",
    " Harbor",
    " County Fair",
    " Ranger Station",
    " - Pine Ave",
    " West",
    " Fire Station",
    " Hilltop",
];

/// Where sites are: a tenth of them each at either coast, and few in the middle.
const PLACE_RANKS: [i32; 7] = [0, 100_000, 250_000, 500_000, 750_000, 900_000, RANK_MAX];
const LATITUDES: [i32; 7] = [28_745_600, 32_250_000, 34_510_955, 38_102_507, 40_554_760, 42_731_400, 45_400_799];
const LONGITUDES: [i32; 7] =
    [-124_203_470, -121_294_068, -115_504_200, -95_015_600, -84_200_770, -79_859_167, -75_341_100];

/// Which stretch of the country a longitude is in, 0 to 5.
pub fn region_of(longitude: i32) -> usize {
    LONGITUDES[1..6].partition_point(|&edge| edge <= longitude)
}

/// Latitude and longitude in millionths of a degree.
pub fn place(random: &mut Rng) -> (i32, i32) {
    let mut one_of = |places| interpolate(&PLACE_RANKS, places, random.i32(0..=RANK_MAX));
    (one_of(&LATITUDES), one_of(&LONGITUDES))
}

/// Names are mostly unique, but no key: mobile monitors have none, and some places have two sites.
pub fn name(number: u32, mobile: bool) -> String {
    if mobile {
        return "N/A".to_owned();
    }
    let number = if number % 90 == 89 { number - 1 } else { number } as usize;
    let (place, street) = (PLACES[number % PLACES.len()], STREETS[number / PLACES.len() % STREETS.len()]);
    match (number % 160, number / (PLACES.len() * STREETS.len())) {
        (3, 0) => format!("{place}, North{street}"),
        (3, turn) => format!("{place}, North{street} {turn}"),
        (_, 0) => format!("{place}{street}"),
        (_, turn) => format!("{place}{street} {turn}"),
    }
}

pub fn agency(number: u32, mobile: bool, random: &mut Rng) -> &'static str {
    if mobile {
        return "AIRSIS";
    }
    // Commas and trailing spaces occur however few sites there are.
    match number % 160 {
        4 => AGENCIES[12],
        _ => {
            let draws = [(); 3].map(|()| random.usize(0..AGENCIES.len()));
            AGENCIES[draws[0].min(draws[1]).min(draws[2])]
        }
    }
}

/// The short and the full id. The site's number is in both, so both are unique.
pub fn ids(number: u32, mobile: bool, random: &mut Rng) -> (String, String) {
    if mobile {
        let aqs_id = format!("MMAIR{number:04}");
        return (aqs_id, format!("840MMA{number:06}"));
    }
    let country = if number % 70 == 69 { "124" } else { "840" };
    let local = format!("{:02}{number:07}", random.u32(1..57));
    let full = format!("{country}{local}");
    (if number % 11 == 10 { full.clone() } else { local }, full)
}

/// As few digits as say it: the real files have four to six, without zeros at the end.
pub fn degrees(number: i32) -> String {
    let sign = if number < 0 { "-" } else { "" };
    let number = number.unsigned_abs();
    let text = format!("{sign}{}.{:06}", number / 1_000_000, number % 1_000_000);
    let short = text.trim_end_matches('0');
    if short.ends_with('.') { format!("{short}0") } else { short.to_owned() }
}
