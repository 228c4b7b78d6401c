//! The state machine of one domain's health. Pure: signs and times are handed in.
//!
//! | state | monitor groups, block info | left by |
//! |---|---|---|
//! | healthy | asked with the others | a call that hangs on it; its process stopped twice running, or in D state for a second; found occupied at our start |
//! | quarantined | not asked | its process runs twice running and controlInfo is 0; its stuck call returned; the pause is over |
//! | probation | asked alone | an answer: healthy; a deadline: quarantined, with a longer pause; its process stopped again: quarantined |

use std::time::{Duration, Instant};

use crate::model::{ControlState, ProcessState, Stamp, Standing};

/// The first pause in quarantine; it doubles with each probation that fails.
pub(super) const FIRST_PAUSE: Duration = Duration::from_secs(5);
/// A domain that nobody can tell anything about is tried this often.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How many looks in a row must agree on what a process does.
const LOOKS: u8 = 2;
/// A process that ends is in D state for some moments, while the kernel takes its virtual machine and its devices down. One
/// that waits for a dead disk is so for longer than this. Neither is asked anything meanwhile.
const CLEARING_UP: Duration = Duration::from_secs(1);

/// What was learned of a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    /// A call was written off, and this domain holds it.
    Hangs,
    /// At our start its monitor was occupied, and had been for a while.
    Occupied,
    /// A look at its process; `None` where there is none to look at.
    Process(Option<ProcessState>),
    /// A look at its monitor.
    Control(ControlState),
    /// The call that hung on it came back with an answer.
    Returned,
    /// The call of its probation answered.
    Answered,
    /// The call of its probation overran.
    Overran,
    /// The call of its probation could not be made, or lost its connection: nothing was learned.
    Unasked,
}

/// A domain that is not plainly healthy, or was seen with a process that does not run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Patient {
    standing: Standing,
    since: Stamp,
    /// Looks in a row at a process that runs, and at one that does not.
    running: u8,
    stopped: u8,
    /// The first of the looks at one that does not.
    stopped_since: Instant,
    pause: Duration,
    until: Instant,
    /// Is it on probation because its process runs and controlInfo says 0?
    verified: bool,
}

impl Patient {
    pub(super) fn new(now: Stamp) -> Self {
        Self {
            standing: Standing::Healthy,
            since: now,
            running: 0,
            stopped: 0,
            stopped_since: now.at,
            pause: FIRST_PAUSE,
            until: now.at + FIRST_PAUSE,
            verified: false,
        }
    }

    pub(super) fn standing(&self) -> Standing {
        self.standing
    }

    /// Since when it does not answer; `None` while it is healthy.
    pub(super) fn since(&self) -> Option<Stamp> {
        (self.standing != Standing::Healthy).then_some(self.since)
    }

    /// Is there nothing to remember of it?
    pub(super) fn is_well(&self) -> bool {
        self.standing == Standing::Healthy && self.stopped == 0
    }

    /// Was its process seen not to run the last time?
    pub(super) fn is_stopped(&self) -> bool {
        self.stopped > 0
    }

    /// Would one word of controlInfo end its quarantine?
    pub(super) fn wants_control(&self) -> bool {
        self.standing == Standing::Quarantined && self.running >= LOOKS
    }

    /// May its probation take the place that is kept for the healthy?
    pub(super) fn is_verified(&self) -> bool {
        self.verified && !self.is_stopped()
    }

    /// When its pause ends.
    pub(super) fn until(&self) -> Option<Instant> {
        (self.standing == Standing::Quarantined).then_some(self.until)
    }

    /// Takes a sign. `jitter`, from 0 to 1, spreads the ends of pauses that began together.
    pub(super) fn take(&mut self, sign: Sign, now: Stamp, jitter: f64) {
        match (self.standing, sign) {
            (_, Sign::Process(state)) => self.look(state, now, jitter),
            (Standing::Healthy, Sign::Hangs | Sign::Occupied) => self.quarantine(now, jitter),
            (Standing::Probation, Sign::Hangs | Sign::Overran) => {
                self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                self.rest(now, jitter);
            }
            (Standing::Probation, Sign::Unasked) => self.rest(now, jitter),
            (Standing::Quarantined, Sign::Control(ControlState::Ok)) if self.running >= LOOKS => self.try_it(true),
            (Standing::Quarantined, Sign::Returned) => self.try_it(false),
            (Standing::Quarantined | Standing::Probation, Sign::Answered) => {
                *self = Self::new(now);
            }
            _ => {}
        }
    }

    /// Time passed. A process that is known to be stopped would only hold one more call, so its pause goes on.
    pub(super) fn tick(&mut self, now: Stamp, jitter: f64) {
        if self.standing != Standing::Quarantined || now.at < self.until {
            return;
        }
        if self.is_stopped() {
            self.rest(now, jitter);
        } else {
            self.try_it(false);
        }
    }

    fn look(&mut self, state: Option<ProcessState>, now: Stamp, jitter: f64) {
        match state {
            Some(ProcessState::Stopped | ProcessState::Uninterruptible) => {
                if self.stopped == 0 {
                    self.stopped_since = now.at;
                }
                (self.running, self.stopped) = (0, self.stopped.saturating_add(1));
            }
            // A process that is ending is libvirt's to report, and an unknown one may be well.
            Some(ProcessState::Runs | ProcessState::Ended) | None => {
                (self.running, self.stopped) = (self.running.saturating_add(1), 0);
            }
        }
        let may_be_ending = state == Some(ProcessState::Uninterruptible)
            && now.at.saturating_duration_since(self.stopped_since) < CLEARING_UP;
        if self.stopped >= LOOKS && !may_be_ending {
            match self.standing {
                Standing::Healthy => self.quarantine(now, jitter),
                Standing::Probation => self.rest(now, jitter),
                Standing::Quarantined => {}
            }
        }
    }

    fn quarantine(&mut self, now: Stamp, jitter: f64) {
        self.since = now;
        self.pause = FIRST_PAUSE;
        self.running = 0;
        self.rest(now, jitter);
    }

    fn rest(&mut self, now: Stamp, jitter: f64) {
        self.standing = Standing::Quarantined;
        self.running = 0;
        // From three quarters of the pause to the whole: never above the longest.
        self.until = now.at + self.pause.mul_f64(0.75 + 0.25 * jitter.clamp(0.0, 1.0));
    }

    fn try_it(&mut self, verified: bool) {
        (self.standing, self.verified) = (Standing::Probation, verified);
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::model::Standing::{Healthy, Probation, Quarantined};

    const SECOND: Duration = Duration::from_secs(1);

    fn stamp(base: Instant, seconds: u64) -> Stamp {
        Stamp { at: base + Duration::from_secs(seconds), wall: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) }
    }

    fn in_state(standing: Standing, now: Stamp) -> Patient {
        let mut patient = Patient::new(now);
        if standing != Healthy {
            patient.take(Sign::Hangs, now, 1.0);
        }
        if standing == Probation {
            patient.take(Sign::Returned, now, 1.0);
        }
        assert_eq!(patient.standing(), standing);
        patient
    }

    const RUNS: Sign = Sign::Process(Some(ProcessState::Runs));
    const STOPPED: Sign = Sign::Process(Some(ProcessState::Stopped));
    const BLOCKED: Sign = Sign::Process(Some(ProcessState::Uninterruptible));
    const ENDED: Sign = Sign::Process(Some(ProcessState::Ended));
    const UNKNOWN: Sign = Sign::Process(None);

    #[test]
    fn every_sign_in_every_state() {
        use ControlState::{Error, Job, Occupied, Ok};
        let table: &[(Standing, &[Sign], Standing)] = &[
            (Healthy, &[Sign::Hangs], Quarantined),
            (Healthy, &[Sign::Occupied], Quarantined),
            (Healthy, &[STOPPED], Healthy),
            (Healthy, &[STOPPED, STOPPED], Quarantined),
            // At one moment; see below.
            (Healthy, &[BLOCKED, BLOCKED], Healthy),
            (Healthy, &[BLOCKED, STOPPED], Quarantined),
            (Healthy, &[STOPPED, RUNS, STOPPED], Healthy),
            (Healthy, &[ENDED, ENDED], Healthy),
            (Healthy, &[UNKNOWN, UNKNOWN], Healthy),
            (Healthy, &[Sign::Control(Occupied)], Healthy),
            (Healthy, &[Sign::Returned], Healthy),
            (Healthy, &[Sign::Answered], Healthy),
            (Healthy, &[Sign::Overran], Healthy),
            (Quarantined, &[RUNS, RUNS], Quarantined),
            (Quarantined, &[RUNS, Sign::Control(Ok)], Quarantined),
            (Quarantined, &[RUNS, RUNS, Sign::Control(Ok)], Probation),
            (Quarantined, &[UNKNOWN, UNKNOWN, Sign::Control(Ok)], Probation),
            (Quarantined, &[RUNS, STOPPED, RUNS, Sign::Control(Ok)], Quarantined),
            (Quarantined, &[RUNS, RUNS, Sign::Control(Occupied)], Quarantined),
            (Quarantined, &[RUNS, RUNS, Sign::Control(Job)], Quarantined),
            (Quarantined, &[RUNS, RUNS, Sign::Control(Error)], Quarantined),
            (Quarantined, &[Sign::Returned], Probation),
            (Quarantined, &[Sign::Answered], Healthy),
            (Quarantined, &[Sign::Hangs], Quarantined),
            (Probation, &[Sign::Answered], Healthy),
            (Probation, &[Sign::Overran], Quarantined),
            (Probation, &[Sign::Hangs], Quarantined),
            (Probation, &[Sign::Unasked], Quarantined),
            (Probation, &[STOPPED], Probation),
            (Probation, &[STOPPED, STOPPED], Quarantined),
            (Probation, &[Sign::Control(Occupied)], Probation),
        ];
        let now = stamp(Instant::now(), 0);
        for (from, signs, to) in table {
            let mut patient = in_state(*from, now);
            for sign in *signs {
                patient.take(*sign, now, 1.0);
            }
            assert_eq!(patient.standing(), *to, "{from:?} {signs:?}");
        }
    }

    #[test]
    fn one_in_d_state_is_quarantined_after_a_second_of_it() {
        let base = Instant::now();
        for (at, signs, to) in [
            ([0, 1], [BLOCKED, BLOCKED], Quarantined),
            ([0, 1], [STOPPED, BLOCKED], Quarantined),
            ([0, 1], [BLOCKED, RUNS], Healthy),
            ([5, 5], [BLOCKED, BLOCKED], Healthy),
        ] {
            let mut patient = in_state(Healthy, stamp(base, 0));
            for (at, sign) in at.into_iter().zip(signs) {
                patient.take(sign, stamp(base, at), 1.0);
            }
            assert_eq!(patient.standing(), to, "{at:?} {signs:?}");
            assert_eq!(patient.is_stopped(), signs[1] == BLOCKED, "and not asked meanwhile");
        }
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_are_spread() {
        let base = Instant::now();
        let mut now = stamp(base, 0);
        let mut patient = in_state(Quarantined, now);
        let mut pauses = Vec::new();
        for _ in 0..6 {
            let until = patient.until().expect("in quarantine");
            pauses.push((until - now.at).as_secs());
            patient.tick(Stamp { at: until - SECOND, ..now }, 1.0);
            assert_eq!(patient.standing(), Quarantined, "not before its end");
            now = Stamp { at: until, ..now };
            patient.tick(now, 1.0);
            assert_eq!(patient.standing(), Probation);
            patient.take(Sign::Overran, now, 1.0);
        }
        assert_eq!(pauses, [5, 10, 20, 40, 60, 60]);
        let mut early = in_state(Probation, now);
        early.take(Sign::Unasked, now, 0.0);
        assert_eq!(early.until(), Some(now.at + FIRST_PAUSE.mul_f64(0.75)), "same pause, other end");
    }

    #[test]
    fn a_process_known_to_be_stopped_is_not_tried_at_the_end_of_its_pause() {
        let base = Instant::now();
        let mut patient = in_state(Quarantined, stamp(base, 0));
        patient.take(STOPPED, stamp(base, 1), 1.0);
        patient.tick(stamp(base, 60), 1.0);
        assert_eq!(patient.standing(), Quarantined);
        patient.take(RUNS, stamp(base, 61), 1.0);
        patient.tick(stamp(base, 66), 1.0);
        assert_eq!(patient.standing(), Probation);
    }

    #[test]
    fn it_is_unresponsive_since_it_was_found_out_until_it_answers() {
        let base = Instant::now();
        let mut patient = in_state(Quarantined, stamp(base, 3));
        patient.take(Sign::Returned, stamp(base, 9), 1.0);
        assert_eq!(patient.since(), Some(stamp(base, 3)), "probation is no answer yet");
        patient.take(Sign::Overran, stamp(base, 10), 1.0);
        assert_eq!(patient.since(), Some(stamp(base, 3)));
        patient.take(Sign::Answered, stamp(base, 20), 1.0);
        assert_eq!((patient.since(), patient.is_well()), (None, true));
        patient.take(Sign::Hangs, stamp(base, 30), 1.0);
        assert_eq!(patient.since(), Some(stamp(base, 30)), "another time is another beginning");
        assert_eq!(patient.until(), Some(base + 30 * SECOND + FIRST_PAUSE), "and the pause is short again");
    }
}
