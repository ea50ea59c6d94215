//! The last times of something.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::counts::Waits;

/// As many as the earlier systems averaged over, so that their figures compare.
const TIMES_MAX: usize = 200;

/// A ring of the last [`TIMES_MAX`] times.
#[derive(Debug, Default)]
pub(super) struct Recent {
    times: VecDeque<Duration>,
    /// Of all of them: every refusal asks for the mean.
    sum: Duration,
}

impl Recent {
    pub fn add(&mut self, time: Duration) {
        if self.times.len() == TIMES_MAX
            && let Some(oldest) = self.times.pop_front()
        {
            self.sum -= oldest;
        }
        self.times.push_back(time);
        self.sum += time;
    }

    /// The mean; none of nothing.
    pub fn average(&self) -> Option<Duration> {
        (!self.times.is_empty()).then(|| self.sum / self.times.len() as u32)
    }

    /// The mean of the last ones, at the most and at the least so many of them; none if there are not as many.
    pub fn average_of(&self, counts: RangeInclusive<usize>) -> Option<Duration> {
        let count = self.times.len().min(*counts.end());
        let sum: Duration = self.times.range(self.times.len() - count..).sum();
        (count > 0 && count >= *counts.start()).then(|| sum / count as u32)
    }

    /// The three figures that are told.
    pub fn summary(&self) -> Waits {
        Waits { average: self.average(), p50: self.percentile(50), p99: self.percentile(99) }
    }

    /// The shortest time that so many percent do not exceed; none of nothing.
    pub fn percentile(&self, percent: usize) -> Option<Duration> {
        let mut sorted: Vec<Duration> = self.times.iter().copied().collect();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100);
        sorted.get(rank.saturating_sub(1)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_200_count() {
        let ms = Duration::from_millis;
        let mut recent = Recent::default();
        assert_eq!((recent.average(), recent.percentile(99)), (None, None));
        recent.add(ms(7));
        assert_eq!(
            (recent.average(), recent.percentile(50), recent.percentile(99)),
            (Some(ms(7)), Some(ms(7)), Some(ms(7)))
        );
        (1..=1_000).for_each(|i| recent.add(ms(i)));
        assert_eq!(recent.average(), Some(Duration::from_micros(900_500)));
        assert_eq!((recent.percentile(50), recent.percentile(99)), (Some(ms(900)), Some(ms(998))));
        assert_eq!((recent.average_of(1..=3), recent.average_of(1..=900)), (Some(ms(999)), recent.average()));
        assert_eq!((recent.average_of(0..=0), recent.average_of(201..=900)), (None, None));
    }
}
