//! Timers: what is due, and when to look again. Pure; the time is handed in.

use std::time::{Duration, Instant};

/// Keys with periods. All count from the same moment, so that keys whose periods fit fall due together.
#[derive(Debug)]
pub(super) struct Schedule<K> {
    timers: Vec<Timer<K>>,
}

#[derive(Debug)]
struct Timer<K> {
    key: K,
    period: Duration,
    due: Instant,
}

impl<K: Copy + PartialEq> Schedule<K> {
    /// Every key is due at `start` for the first time. Periods must not be zero.
    pub(super) fn new(periods: impl IntoIterator<Item = (K, Duration)>, start: Instant) -> Self {
        let timers = periods.into_iter().map(|(key, period)| Timer { key, period, due: start }).collect();
        Self { timers }
    }

    /// The keys that are due. Each falls due again at its next tick after `now`: ticks that were missed are skipped, never
    /// made up for.
    pub(super) fn due(&mut self, now: Instant) -> Vec<K> {
        let due = self.timers.iter_mut().filter(|timer| timer.due <= now);
        due.map(|timer| {
            let late = now.saturating_duration_since(timer.due);
            let into_tick = Duration::from_nanos(
                u64::try_from(late.as_nanos() % timer.period.as_nanos().max(1)).unwrap_or_default(),
            );
            timer.due = now + timer.period.saturating_sub(into_tick);
            timer.key
        })
        .collect()
    }

    /// When something is due next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.timers.iter().map(|timer| timer.due).min()
    }

    /// Everything is due now, and counts from now on.
    pub(super) fn restart(&mut self, now: Instant) {
        for timer in &mut self.timers {
            timer.due = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn periods_that_fit_fall_due_together() {
        let start = Instant::now();
        let mut schedule = Schedule::new([('a', 15 * SECOND), ('b', 30 * SECOND), ('c', 20 * SECOND)], start);
        let mut seen = Vec::new();
        for _ in 0..6 {
            let now = schedule.next().expect("three timers");
            seen.push(((now - start).as_secs(), schedule.due(now).into_iter().collect::<String>()));
        }
        let expected = [(0, "abc"), (15, "a"), (20, "c"), (30, "ab"), (40, "c"), (45, "a")];
        assert_eq!(seen, expected.map(|(at, keys)| (at, keys.to_owned())));
    }

    #[test]
    fn missed_ticks_are_skipped_and_the_rhythm_stays() {
        let start = Instant::now();
        let mut schedule = Schedule::new([('a', 10 * SECOND)], start);
        assert_eq!(schedule.due(start), ['a']);
        assert_eq!(schedule.due(start + 9 * SECOND), []);
        assert_eq!(schedule.due(start + 47 * SECOND), ['a'], "once, not four times");
        assert_eq!(schedule.next(), Some(start + 50 * SECOND));
    }

    #[test]
    fn a_restart_makes_all_due() {
        let start = Instant::now();
        let mut schedule = Schedule::new([('a', 10 * SECOND), ('b', 20 * SECOND)], start);
        schedule.due(start);
        schedule.restart(start + 3 * SECOND);
        assert_eq!(schedule.due(start + 3 * SECOND), ['a', 'b']);
        assert_eq!(schedule.next(), Some(start + 13 * SECOND));
    }
}
