//! When which request is due: decided before anything is sent, from a seed, so that a slow server does not slow its
//! own test down, and so that a run can be repeated.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use fastrand::Rng;

/// How the requests of a source follow each other.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Open loop: at random, independent of each other, so many a second on average.
    Poisson { rate: f64 },
    /// Open loop: at equal distances, so many a second. For requests that must not queue behind each other by chance.
    Steady { rate: f64 },
    /// Closed loop: so many at once, each next one when one has ended; at most so many in all, if a number is given.
    Closed { at_once: usize, requests: Option<u64> },
}

/// When a source is active, from the beginning of the run, and how.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Timing {
    pub pace: Pace,
    pub from: Duration,
    pub until: Duration,
}

/// A request that is due, of the source of that index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrival {
    /// From the beginning of the run.
    pub due: Duration,
    pub source: usize,
}

/// The arrivals of all open-loop sources of a run, in order of time.
pub struct Schedule {
    sources: Vec<(Timing, Rng)>,
    next: BinaryHeap<Reverse<Arrival>>,
}

impl Schedule {
    /// Each source has random numbers of its own: leaving one out does not change the others.
    pub fn new(timings: &[Timing], seed: u64) -> Schedule {
        let random = |index: usize| Rng::with_seed(seed.wrapping_add(0x9E37_79B9 * (index as u64 + 1)));
        let sources: Vec<(Timing, Rng)> =
            timings.iter().enumerate().map(|(index, timing)| (*timing, random(index))).collect();
        let mut schedule = Schedule { sources, next: BinaryHeap::new() };
        for (source, timing) in timings.iter().enumerate() {
            schedule.advance(source, timing.from);
        }
        schedule
    }

    fn advance(&mut self, source: usize, after: Duration) {
        let (timing, random) = &mut self.sources[source];
        let gap = match &timing.pace {
            // 1 - f64() is above 0: its logarithm is finite.
            Pace::Poisson { rate } => -(1.0 - random.f64()).ln() / *rate,
            Pace::Steady { rate } => 1.0 / *rate,
            Pace::Closed { .. } => return,
        };
        // A rate of next to nothing gives a gap beyond every run.
        let due = after + Duration::try_from_secs_f64(gap).unwrap_or(Duration::MAX / 2);
        if due < timing.until {
            self.next.push(Reverse(Arrival { due, source }));
        }
    }
}

impl Iterator for Schedule {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        let Reverse(arrival) = self.next.pop()?;
        self.advance(arrival.source, arrival.due);
        Some(arrival)
    }
}

/// Chooses among things by their weights.
#[derive(Debug, Clone)]
pub struct Weighted<T> {
    items: Vec<(T, f64)>,
    sum: f64,
}

impl<T> Weighted<T> {
    /// At least one item, all weights above 0.
    pub fn new(items: Vec<(T, f64)>) -> Weighted<T> {
        assert!(!items.is_empty() && items.iter().all(|(_, weight)| *weight > 0.0), "nothing to choose from");
        let sum = items.iter().map(|(_, weight)| weight).sum();
        Weighted { items, sum }
    }

    /// Just one thing.
    pub fn one(item: T) -> Weighted<T> {
        Weighted::new(vec![(item, 1.0)])
    }

    /// One of them.
    pub fn choose(&self, random: &mut Rng) -> &T {
        let mut left = random.f64() * self.sum;
        let found = self.items.iter().find(|(_, weight)| {
            left -= weight;
            left < 0.0
        });
        // Rounding may leave a little after the last.
        &found.unwrap_or(&self.items[self.items.len() - 1]).0
    }

    /// All of them.
    pub fn items(&self) -> impl Iterator<Item = &T> {
        self.items.iter().map(|(item, _)| item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn arrivals(paces: &[Pace], seconds: u32, seed: u64) -> Vec<Arrival> {
        let timing = |pace: &Pace| Timing { pace: *pace, from: Duration::ZERO, until: SECOND * seconds };
        Schedule::new(&paces.iter().map(timing).collect::<Vec<_>>(), seed).collect()
    }

    #[test]
    fn steady_requests_come_at_equal_distances() {
        let found = arrivals(&[Pace::Steady { rate: 4.0 }], 1, 1);
        let at = |found: Vec<Arrival>| found.iter().map(|arrival| arrival.due.as_millis()).collect::<Vec<_>>();
        assert_eq!(at(found), [250, 500, 750]);
        let later = Timing { pace: Pace::Steady { rate: 2.0 }, from: SECOND * 3, until: SECOND * 4 };
        assert_eq!(at(Schedule::new(&[later], 1).collect()), [3500]);
    }

    #[test]
    fn random_requests_come_as_often_as_asked_and_again_by_their_seed() {
        for seed in 0..20 {
            let paces = [Pace::Poisson { rate: 400.0 }, Pace::Steady { rate: 10.0 }, Pace::Poisson { rate: 100.0 }];
            let found = arrivals(&paces, 10, seed);
            assert_eq!(found, arrivals(&paces, 10, seed), "seed {seed}");
            assert!(found.is_sorted(), "seed {seed}");
            let of = |source| found.iter().filter(|arrival| arrival.source == source).count() as f64;
            // Five standard deviations of a Poisson count.
            for (source, mean) in [(0, 4000.0_f64), (2, 1000.0)] {
                assert!((of(source) - mean).abs() < 5.0 * mean.sqrt(), "seed {seed}: {}", of(source));
            }
            let alone: Vec<Duration> = arrivals(&paces[..1], 10, seed).iter().map(|arrival| arrival.due).collect();
            let among: Vec<Duration> = found.iter().filter(|a| a.source == 0).map(|a| a.due).collect();
            assert_eq!(alone, among, "seed {seed}");
        }
        assert_ne!(arrivals(&[Pace::Poisson { rate: 9.0 }], 9, 1), arrivals(&[Pace::Poisson { rate: 9.0 }], 9, 2));
    }

    #[test]
    fn closed_loops_and_next_to_nothing_are_not_scheduled() {
        let paces = [Pace::Closed { at_once: 5, requests: None }, Pace::Poisson { rate: 1e-300 }];
        assert_eq!(arrivals(&paces, 1000, 3), []);
        assert_eq!(arrivals(&[], 1000, 3), []);
    }

    #[test]
    fn choices_follow_their_weights() {
        let mut random = Rng::with_seed(5);
        let weighted = Weighted::new(vec![("a", 1.0), ("b", 3.0)]);
        let b = (0..4000).filter(|_| *weighted.choose(&mut random) == "b").count();
        assert!((2850..3150).contains(&b), "{b}");
        assert_eq!(*Weighted::one(7).choose(&mut random), 7);
    }
}
