//! When which request is due: decided before anything is sent, from a seed, so that a slow server does not slow its
//! own test down, and so that a run can be repeated.

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

/// When the requests of one open-loop source are due, from the beginning of the run, in order; a closed loop has none.
pub struct Schedule {
    timing: Timing,
    random: Rng,
    /// When the last one was.
    at: Duration,
}

impl Schedule {
    /// Of the source with that number. Each has random numbers of its own: leaving one out does not change the others.
    pub fn new(timing: Timing, seed: u64, source: usize) -> Schedule {
        let random = Rng::with_seed(seed.wrapping_add(0x9E37_79B9 * (source as u64 + 1)));
        Schedule { timing, random, at: timing.from }
    }
}

impl Iterator for Schedule {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let gap = match &self.timing.pace {
            // 1 - f64() is above 0: its logarithm is finite.
            Pace::Poisson { rate } => -(1.0 - self.random.f64()).ln() / *rate,
            Pace::Steady { rate } => 1.0 / *rate,
            Pace::Closed { .. } => return None,
        };
        // A rate of next to nothing gives a gap beyond every run.
        let gap = Duration::try_from_secs_f64(gap).unwrap_or(Duration::MAX / 2);
        self.at = self.at.saturating_add(gap);
        (self.at < self.timing.until).then_some(self.at)
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

    fn arrivals(pace: Pace, seconds: u32, seed: u64, source: usize) -> Vec<Duration> {
        Schedule::new(Timing { pace, from: Duration::ZERO, until: SECOND * seconds }, seed, source).collect()
    }

    #[test]
    fn steady_requests_come_at_equal_distances() {
        let at = |found: Vec<Duration>| found.iter().map(Duration::as_millis).collect::<Vec<_>>();
        assert_eq!(at(arrivals(Pace::Steady { rate: 4.0 }, 1, 1, 0)), [250, 500, 750]);
        let later = Timing { pace: Pace::Steady { rate: 2.0 }, from: SECOND * 3, until: SECOND * 4 };
        assert_eq!(at(Schedule::new(later, 1, 0).collect()), [3500]);
    }

    #[test]
    fn random_requests_come_as_often_as_asked_and_again_by_their_seed() {
        for seed in 0..20 {
            for (source, rate) in [400.0_f64, 100.0].into_iter().enumerate() {
                let found = arrivals(Pace::Poisson { rate }, 10, seed, source);
                assert_eq!(found, arrivals(Pace::Poisson { rate }, 10, seed, source), "seed {seed}");
                assert!(found.is_sorted(), "seed {seed}");
                // Five standard deviations of a Poisson count.
                let mean = 10.0 * rate;
                assert!((found.len() as f64 - mean).abs() < 5.0 * mean.sqrt(), "seed {seed}: {}", found.len());
            }
        }
        let nine = |seed, source| arrivals(Pace::Poisson { rate: 9.0 }, 9, seed, source);
        assert_ne!(nine(1, 0), nine(2, 0));
        assert_ne!(nine(1, 0), nine(1, 1));
    }

    #[test]
    fn closed_loops_and_next_to_nothing_are_not_scheduled() {
        assert_eq!(arrivals(Pace::Closed { at_once: 5, requests: None }, 1000, 3, 0), []);
        assert_eq!(arrivals(Pace::Poisson { rate: 1e-300 }, 1000, 3, 0), []);
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
