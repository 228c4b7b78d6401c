//! Timers: what is due, and when to look again. Pure; the time is handed in.

use std::time::{Duration, Instant};

/// Keys with periods. All count from the same moment, so that keys whose periods fit fall due together.
#[derive(Debug)]
pub(super) struct Schedule<K> {
    timers: Vec<Timer<K>>,
    /// Has the fastest timer had a turn since the timers were last moved?
    turned: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Timer<K> {
    key: K,
    pub(super) period: Duration,
    /// When it falls due next.
    pub(super) due: Instant,
}

/// How far to move timers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shift {
    Earlier(Duration),
    Later(Duration),
}

impl<K: Copy + PartialEq> Schedule<K> {
    /// Every key is due at `start` for the first time. Periods must not be zero.
    pub(super) fn new(periods: impl IntoIterator<Item = (K, Duration)>, start: Instant) -> Self {
        let timers = periods.into_iter().map(|(key, period)| Timer { key, period, due: start }).collect();
        Self { timers, turned: false }
    }

    /// The keys that are due. Each falls due again at its next tick after `now`: ticks that were missed are skipped, never
    /// made up for.
    pub(super) fn due(&mut self, now: Instant) -> Vec<K> {
        let fastest = self.timers.iter().map(|timer| timer.period).min();
        let due = self.timers.iter_mut().filter(|timer| timer.due <= now);
        due.map(|timer| {
            self.turned |= Some(timer.period) == fastest;
            let into_tick = remainder(now.saturating_duration_since(timer.due), timer.period);
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

    /// The shortest period.
    pub(super) fn fastest(&self) -> Option<Duration> {
        self.timers.iter().map(|timer| timer.period).min()
    }

    /// Moves all timers alike, so that those due together stay together.
    pub(super) fn shift(&mut self, shift: Shift) {
        for timer in &mut self.timers {
            timer.due = match shift {
                Shift::Earlier(by) => timer.due.checked_sub(by).unwrap_or(timer.due),
                Shift::Later(by) => timer.due + by,
            };
        }
    }
}

/// The shortest period of all these.
pub(super) fn fastest<K: Copy + PartialEq>(schedules: &[&mut Schedule<K>]) -> Option<Duration> {
    schedules.iter().filter_map(|schedule| schedule.fastest()).min()
}

/// Moves the timers of all these alike, so that schedules that are in step stay it; at most once a turn of the fastest timer
/// of all, so that a bound on one move is a bound on the rhythm. Returns the move.
pub(super) fn steer<K: Copy + PartialEq>(
    schedules: &mut [&mut Schedule<K>],
    advice: impl FnOnce(&[Timer<K>]) -> Option<Shift>,
) -> Option<Shift> {
    let fastest = fastest(schedules);
    // Every mark is taken, and those of slower schedules do not count.
    let mut turned = false;
    for schedule in schedules.iter_mut() {
        turned |= std::mem::take(&mut schedule.turned) && schedule.fastest() == fastest;
    }
    if !turned {
        return None;
    }
    let timers: Vec<Timer<K>> = schedules.iter().flat_map(|schedule| schedule.timers.iter().copied()).collect();
    let shift = advice(&timers)?;
    schedules.iter_mut().for_each(|schedule| schedule.shift(shift));
    Some(shift)
}

/// Gives some timers of all these another period, counted from their last turn. The others wait for their next tick, so
/// that periods that fit fall due together again.
pub(super) fn set_period<K: Copy + PartialEq>(
    schedules: &mut [&mut Schedule<K>],
    of: impl Fn(K) -> bool,
    period: Duration,
) {
    let mut base = None;
    let timers = schedules.iter_mut().flat_map(|schedule| schedule.timers.iter_mut());
    for timer in timers.filter(|timer| of(timer.key) && timer.period != period) {
        timer.due = timer.due.checked_sub(timer.period).map_or(timer.due, |last| last + period);
        timer.period = period;
        base = Some(base.map_or(timer.due, |base: Instant| base.min(timer.due)));
    }
    let Some(base) = base else { return };
    let timers = schedules.iter_mut().flat_map(|schedule| schedule.timers.iter_mut());
    for timer in timers.filter(|timer| !of(timer.key)) {
        let wait = match base.checked_duration_since(timer.due) {
            Some(early) => remainder(early, period),
            None => remainder(period - remainder(timer.due - base, period), period),
        };
        timer.due += wait;
    }
}

/// What is left of a time after whole units.
pub(super) fn remainder(time: Duration, unit: Duration) -> Duration {
    Duration::from_nanos(u64::try_from(time.as_nanos() % unit.as_nanos().max(1)).unwrap_or_default())
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

    #[test]
    fn all_timers_move_alike_and_once_a_turn_of_the_fastest() {
        let start = Instant::now();
        let mut schedule = Schedule::new([('a', 10 * SECOND), ('b', 20 * SECOND)], start);
        steer(&mut [&mut schedule], |_| panic!("before the first turn"));
        schedule.due(start);
        steer(&mut [&mut schedule], |timers| {
            assert_eq!(timers.iter().map(|timer| timer.due - start).collect::<Vec<_>>(), [10 * SECOND, 20 * SECOND]);
            Some(Shift::Later(2 * SECOND))
        });
        steer(&mut [&mut schedule], |_| panic!("a second time in a turn"));
        assert_eq!(schedule.due(start + 11 * SECOND), []);
        assert_eq!(schedule.due(start + 12 * SECOND), ['a']);
        steer(&mut [&mut schedule], |_| Some(Shift::Earlier(SECOND)));
        assert_eq!(schedule.due(start + 21 * SECOND), ['a', 'b'], "still together");
        assert_eq!(schedule.due(start + 48 * SECOND), ['a', 'b'], "what was missed is skipped");
        assert_eq!(schedule.next(), Some(start + 51 * SECOND));
    }

    #[test]
    fn another_period_counts_from_the_last_turn_and_the_others_fall_in() {
        let start = Instant::now();
        let mut schedule = Schedule::new([('a', 15 * SECOND), ('b', 15 * SECOND), ('c', 60 * SECOND)], start);
        schedule.due(start);
        schedule.due(start + 15 * SECOND);
        set_period(&mut [&mut schedule], |key| key != 'c', 20 * SECOND);
        let mut seen = Vec::new();
        for _ in 0..6 {
            let now = schedule.next().expect("three timers");
            seen.push(((now - start).as_secs(), schedule.due(now).into_iter().collect::<String>()));
        }
        let expected = [(35, "ab"), (55, "ab"), (75, "abc"), (95, "ab"), (115, "ab"), (135, "abc")];
        assert_eq!(seen, expected.map(|(at, keys)| (at, keys.to_owned())));
        set_period(&mut [&mut schedule], |key| key != 'c', 20 * SECOND);
        assert_eq!(schedule.next(), Some(start + 155 * SECOND), "the same again changes nothing");
    }

    #[test]
    fn two_schedules_in_step_stay_it() {
        let start = Instant::now();
        let mut slow = Schedule::new([('a', 60 * SECOND)], start);
        let mut fast = Schedule::new([('b', 15 * SECOND)], start);
        slow.due(start);
        fast.due(start);
        assert_eq!(steer(&mut [&mut slow, &mut fast], |_| None), None);
        fast.due(start + 15 * SECOND);
        let moved = steer(&mut [&mut slow, &mut fast], |timers| {
            assert_eq!(timers.iter().map(|timer| timer.period).min(), Some(15 * SECOND), "the fastest of both");
            Some(Shift::Later(SECOND))
        });
        assert_eq!(moved, Some(Shift::Later(SECOND)));
        assert_eq!((slow.next(), fast.next()), (Some(start + 61 * SECOND), Some(start + 31 * SECOND)));
        set_period(&mut [&mut slow, &mut fast], |key| key == 'b', 20 * SECOND);
        assert_eq!((slow.next(), fast.next()), (Some(start + 76 * SECOND), Some(start + 36 * SECOND)), "76 = 36 + 40");
    }
}
