//! When one client came: is it steady, and when does it come next?

use std::time::{Duration, Instant};

use super::rounded;
use crate::sampling::schedule::remainder;

/// The newest scrapes say whether a client is steady: four intervals.
const JUDGED: usize = 5;

/// Scrapes that are kept of a steady one: the more, the less their jitter moves what is expected.
const KEPT: usize = 9;

/// What may be jitter, of a thread or a network, where it is a whole number of seconds else.
const JITTER: Duration = Duration::from_millis(500);

/// Who comes more often than Prometheus can does something else.
const SHORTEST_INTERVAL: Duration = Duration::from_secs(1);

/// Prometheus forgets a series that it has not seen for five minutes, so that no scraper is slower.
const LONGEST_INTERVAL: Duration = Duration::from_secs(300);

/// A client is gone after this many intervals without a scrape. As many less one may be missed and change nothing.
const GONE_AFTER: u32 = 3;

/// The scrapes of one client.
#[derive(Debug)]
pub(super) struct Beats {
    /// When it came first.
    pub(super) since: Instant,
    /// Oldest first, at least one.
    kept: Vec<Beat>,
    interval: Option<Duration>,
}

#[derive(Debug, Clone, Copy)]
struct Beat {
    at: Instant,
    /// How many intervals after the one before: more than one where scrapes were missed.
    places: u32,
}

impl Beats {
    pub(super) fn new(first: Instant) -> Self {
        let mut kept = Vec::with_capacity(KEPT);
        kept.push(Beat { at: first, places: 0 });
        Self { since: first, kept, interval: None }
    }

    pub(super) fn push(&mut self, at: Instant) {
        let since_last = at.saturating_duration_since(self.last());
        if since_last.is_zero() {
            return;
        }
        self.kept.push(Beat { at, places: self.interval.map_or(1, |interval| places(since_last, interval)) });
        let steady = self.is_steady();
        // What came before it was steady does not count.
        let keep = if steady && self.interval.is_some() { KEPT } else { JUDGED };
        self.kept.drain(..self.kept.len().saturating_sub(keep));
        self.interval = steady.then(|| self.estimate());
    }

    pub(super) fn last(&self) -> Instant {
        self.kept.last().map_or(self.since, |beat| beat.at)
    }

    /// The interval of a client that is steady, and was here lately.
    pub(super) fn interval(&self, now: Instant) -> Option<Duration> {
        self.interval.filter(|interval| now.saturating_duration_since(self.last()) <= *interval * GONE_AFTER)
    }

    /// When it comes next, at the earliest: its scrapes are laid over each other, and the one that came earliest in its
    /// interval counts, because a sample that is not ready in time is of no use for a whole interval.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let interval = self.interval(now)?;
        let mut places = 0;
        let laid_over = self.kept.iter().rev().map(|beat| {
            let at = beat.at + interval * places;
            places += beat.places;
            at
        });
        let last = laid_over.min()?;
        let since = now.saturating_duration_since(last);
        Some(now + (interval - remainder(since, interval)))
    }

    /// Are the newest intervals all about as long? Without missed scrapes if possible: else a client that takes to coming
    /// half as often would be one that misses every second scrape for ever.
    fn is_steady(&mut self) -> bool {
        let Some(first) = self.kept.len().checked_sub(JUDGED) else { return false };
        if !alike(&self.kept[first..], |_| 1) {
            return alike(&self.kept[first..], |beat| beat.places);
        }
        if self.kept[first..].iter().any(|beat| beat.places > 1) {
            self.kept.drain(..first);
            self.kept.iter_mut().for_each(|beat| beat.places = 1);
        }
        true
    }

    /// The interval that all kept scrapes make likely: whole seconds, as people set it, if jitter explains the rest.
    fn estimate(&self) -> Duration {
        let places: u32 = self.kept.iter().skip(1).map(|beat| beat.places).sum();
        let time = self.kept.first().map_or(Duration::ZERO, |first| self.last() - first.at);
        let mean = time / places.max(1);
        let whole = rounded(mean, Duration::from_secs(1));
        if time.abs_diff(whole * places) <= JITTER { whole } else { mean }
    }
}

fn alike(beats: &[Beat], places: impl Fn(&Beat) -> u32) -> bool {
    let mut intervals = [Duration::ZERO; JUDGED - 1];
    for (interval, pair) in intervals.iter_mut().zip(beats.windows(2)) {
        *interval = (pair[1].at - pair[0].at) / places(&pair[1]).max(1);
    }
    intervals.sort_unstable();
    let median = (intervals[1] + intervals[2]) / 2;
    let usual = (SHORTEST_INTERVAL..=LONGEST_INTERVAL).contains(&median);
    usual && intervals.iter().all(|interval| interval.abs_diff(median) <= tolerance(median))
}

/// How far an interval may be from the median. A tenth; at least half a second, by which a busy Prometheus is late now and
/// then; but never more than a quarter, or whoever comes at random every second or two were steady.
fn tolerance(interval: Duration) -> Duration {
    (interval / 10).max(JITTER).min(interval / 4)
}

/// How many intervals a time is: 1, or a few if it is just so long as if scrapes had been missed.
fn places(time: Duration, interval: Duration) -> u32 {
    let missed = (2..=GONE_AFTER).find(|places| time.abs_diff(interval * *places) <= tolerance(interval));
    missed.unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The interval after scrapes at these seconds.
    fn interval(seconds: &[f64]) -> Option<f64> {
        let start = Instant::now();
        let mut at = seconds.iter().map(|seconds| start + Duration::from_secs_f64(*seconds));
        let mut beats = Beats::new(at.next().expect("a first scrape"));
        at.for_each(|at| beats.push(at));
        beats.interval(beats.last()).map(|interval| interval.as_secs_f64())
    }

    #[test]
    fn five_scrapes_at_about_the_same_interval_are_steady() {
        assert_eq!(interval(&[0.0, 15.0, 30.0, 45.0]), None, "four are too few");
        assert_eq!(interval(&[0.0, 15.0, 30.0, 45.0, 60.0]), Some(15.0));
        assert_eq!(interval(&[0.0, 15.0, 31.0, 45.0, 60.0]), Some(15.0), "a tenth is allowed");
        assert_eq!(interval(&[0.0, 15.0, 32.0, 45.0, 60.0]), None);
        assert_eq!(interval(&[0.0, 15.0, 32.0, 45.0, 60.0, 75.0, 90.0, 105.0]), Some(15.0), "steady again");
        assert_eq!(interval(&[0.0, 2.0, 4.4, 6.0, 8.0]), Some(2.0), "half a second, though more than a tenth");
        assert_eq!(interval(&[0.0, 1.0, 2.3, 3.0, 4.0]), None, "more than a quarter");
        assert_eq!(interval(&[0.0, 0.5, 1.0, 1.5, 2.0]), None, "too often");
        assert_eq!(interval(&[0.0, 400.0, 800.0, 1200.0, 1600.0]), None, "too seldom");
    }

    #[test]
    fn missed_scrapes_change_nothing_and_a_longer_interval_is_learned() {
        let steady = [0.0, 15.0, 30.0, 45.0, 60.0];
        assert_eq!(interval(&[&steady[..], &[90.0]].concat()), Some(15.0), "one missed");
        assert_eq!(interval(&[&steady[..], &[105.0, 120.0]].concat()), Some(15.0), "two missed");
        assert_eq!(interval(&[&steady[..], &[90.0, 120.0, 150.0]].concat()), Some(15.0));
        assert_eq!(interval(&[&steady[..], &[90.0, 120.0, 150.0, 180.0]].concat()), Some(30.0));
        assert_eq!(interval(&[&steady[..], &[65.0]].concat()), None);
        assert_eq!(interval(&[&steady[..], &[65.0, 70.0, 75.0, 80.0]].concat()), Some(5.0));
    }

    #[test]
    fn the_earliest_scrape_says_when_the_next_one_comes_and_silence_ends_it() {
        let start = Instant::now();
        let mut beats = Beats::new(start);
        for millis in [15_000, 30_000, 45_400, 60_000] {
            beats.push(start + Duration::from_millis(millis));
        }
        let next = |seconds| beats.next(start + Duration::from_secs(seconds)).map(|at| (at - start).as_secs_f64());
        assert_eq!(next(60), Some(75.0));
        assert_eq!(next(80), Some(90.0));
        assert_eq!(next(105), Some(120.0));
        assert_eq!(next(106), None, "gone");
    }
}
