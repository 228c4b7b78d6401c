//! The life of a domain: when its run began, how often one did, and why runs were paused and ended.
//!
//! A run is told by an event, by the list, by a sample, or by its process, in any order; each counts once. What was lost while
//! nobody listened is not made up: of that only the runs show that somebody saw.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::model::{
    DomainEvent, Happened, IoError, Moment, PauseReason, RunId, StartReason, StopReason, WatchdogAction,
};

/// What takes longer is no start of a process: the clock was wrong, or the event is about something else.
const LONGEST_STARTUP: Duration = Duration::from_secs(600);

/// So many runs of a domain begin at most between an event and its arrival.
const REMEMBERED: usize = 8;

/// What is shown of a domain's life, since the service began.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Life {
    /// The start of the present run; `None` if it does not run, or began before we looked and its process cannot be seen.
    pub start: Option<Start>,
    /// Was it seen running since the service began, or heard to have run? Its stop may have been missed.
    pub ran: bool,
    /// Runs that began, those that came from another host included; a run that was there when the domain was first listed is
    /// none of them.
    pub starts: u64,
    /// Panics of the guest.
    pub panics: u64,
    /// Errors of its disks.
    pub io_errors: u64,
    /// What the guest set its clock to in its newest run, as seconds from what its `<clock>` goes by; `None` if it was not heard
    /// to.
    pub clock_offset_s: Option<i64>,
    /// Why it was paused and stopped; `None` while it never was. Most never are.
    pub history: Option<Arc<History>>,
}

/// When a run began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// Wall-clock time, as it went when this became known.
    pub at: SystemTime,
    /// Since the host's boot, which no step of the wall clock changes.
    pub since_boot: Duration,
    /// Who says so.
    pub source: StartSource,
}

/// Who tells when a run began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartSource {
    /// The kernel, of the QEMU process.
    Process,
    /// libvirt's event, which comes when libvirt is done starting it.
    Event,
}

impl Start {
    fn by_event(at: Moment) -> Self {
        Self { at: at.stamp.wall, since_boot: at.since_boot, source: StartSource::Event }
    }
}

impl StartSource {
    /// As it is written in JSON.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Event => "event",
        }
    }
}

/// What happened to a domain, when, and in which run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noted<T> {
    /// What.
    pub what: T,
    /// Wall-clock time.
    pub at: SystemTime,
    /// `None` if that is not known, or was a run before the present one whose number may be another's by now.
    run: Option<RunId>,
}

impl<T> Noted<T> {
    /// It, if it happened in that run. Times would not tell: the start of a run may be unknown, and the wall clock be set back.
    #[must_use]
    pub fn of_run(&self, run: Option<RunId>) -> Option<&Self> {
        (self.run.is_some() && self.run == run).then_some(self)
    }
}

/// Why a domain was paused and stopped, and what happened last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    pauses: [u64; PauseReason::ALL.len()],
    stops: [u64; StopReason::ALL.len()],
    /// Why its vCPUs were stopped last.
    pub last_pause: Option<Noted<PauseReason>>,
    /// How its last run ended, and when.
    pub last_stop: Option<(StopReason, SystemTime)>,
    /// The last error of a disk.
    pub last_io_error: Option<Noted<IoError>>,
    /// What was done when its watchdog fired last.
    pub last_watchdog: Option<Noted<WatchdogAction>>,
    /// Who connected to its graphics last, in this run; empty after somebody left, `None` if neither was heard of.
    pub graphics_client: Option<Box<str>>,
}

impl History {
    /// How often it was paused, by reason; those that never were the reason are left out.
    pub fn pauses(&self) -> impl Iterator<Item = (PauseReason, u64)> {
        PauseReason::ALL.iter().copied().zip(self.pauses).filter(|(_, count)| *count > 0)
    }

    /// How often it was stopped, by reason; those that never were the reason are left out.
    pub fn stops(&self) -> impl Iterator<Item = (StopReason, u64)> {
        StopReason::ALL.iter().copied().zip(self.stops).filter(|(_, count)| *count > 0)
    }

    /// The runs that something was noted of.
    fn runs(&mut self) -> impl Iterator<Item = &mut Option<RunId>> {
        let pause = self.last_pause.as_mut().map(|noted| &mut noted.run);
        let io_error = self.last_io_error.as_mut().map(|noted| &mut noted.run);
        let watchdog = self.last_watchdog.as_mut().map(|noted| &mut noted.run);
        [pause, io_error, watchdog].into_iter().flatten()
    }
}

impl Life {
    /// Takes in what happened in that run, but for starts.
    fn take(&mut self, what: &Happened, at: SystemTime, run: Option<RunId>) {
        match what {
            Happened::Paused(reason) => {
                let history = self.history();
                history.pauses[*reason as usize] += 1;
                history.last_pause = Some(Noted { what: *reason, at, run });
            }
            Happened::Stopped(reason) => {
                let history = self.history();
                history.stops[*reason as usize] += 1;
                history.last_stop = Some((*reason, at));
            }
            Happened::Panicked => self.panics += 1,
            Happened::IoError(error) => {
                self.io_errors += 1;
                self.history().last_io_error = Some(Noted { what: (**error).clone(), at, run });
            }
            Happened::Watchdog(action) => {
                self.history().last_watchdog = Some(Noted { what: *action, at, run });
            }
            Happened::Graphics(client) => self.history().graphics_client = Some(client.clone()),
            Happened::ClockSet(offset) => self.clock_offset_s = Some(*offset),
            Happened::Started(_) | Happened::Resumed | Happened::Tuned | Happened::Other => {}
        }
    }

    fn history(&mut self) -> &mut History {
        Arc::make_mut(self.history.get_or_insert_default())
    }

    /// What was noted of other runs than these is of no run that is to come.
    fn keep_runs(&mut self, is_kept: impl Fn(&RunId) -> bool) {
        if let Some(history) = &mut self.history {
            for run in Arc::make_mut(history).runs() {
                *run = run.filter(&is_kept);
            }
        }
    }

    fn forget_client(&mut self) {
        if let Some(history) = self.history.as_mut().filter(|history| history.graphics_client.is_some()) {
            Arc::make_mut(history).graphics_client = None;
        }
    }
}

/// What tells one run of a domain from the next, so that each is counted once.
#[derive(Debug, Clone, Default)]
pub(super) struct Runs {
    /// The newest runs that were counted, or were there at first: a list may tell of a third run before the events of the
    /// first come. libvirt numbers runs anew only when it is restarted itself.
    counted: Vec<RunId>,
    /// The newest start that an event told.
    told: Option<Box<Told>>,
    /// When the process of the present run started, since the host's boot.
    process: Option<Duration>,
    /// The run that told last what goes with a run: who is at its graphics, and what its clock was set to. It may be told before
    /// the run is listed.
    heard: Option<RunId>,
}

#[derive(Debug, Clone)]
struct Told {
    run: RunId,
    at: Moment,
    /// Its process started for it, and how long that took was not noted yet.
    is_startup: bool,
    /// It is what the present run began with, and goes with that.
    is_present: bool,
}

impl Runs {
    /// The domain is seen for the first time, or again; `is_new` if it was not there before.
    pub(super) fn first_seen(&mut self, run: Option<RunId>, is_new: bool, life: &mut Life) {
        if run.is_some() && !is_new {
            self.counted.extend(run);
        }
        self.begin(None, run, life);
    }

    /// Another run, or none, after that one.
    pub(super) fn begin(&mut self, before: Option<RunId>, run: Option<RunId>, life: &mut Life) {
        self.counted.retain(|counted| Some(*counted) != before);
        self.count(run, life);
        life.ran |= run.is_some();
        (life.start, self.process) = (None, None);
        self.leave(before, life);
        if run.is_none() || run != self.heard {
            life.forget_client();
            // How the last run left its clock may be wanted when the run is over.
            life.clock_offset_s = life.clock_offset_s.filter(|_| run.is_none());
        }
        self.told = self.told.take().filter(|told| !told.is_present);
        if let Some(told) = self.told.as_mut().filter(|told| Some(told.run) == run) {
            told.is_present = true;
            life.start = Some(Start::by_event(told.at));
        }
    }

    /// That run is over. Its number may come again, of another run, if libvirtd was restarted.
    fn leave(&mut self, run: Option<RunId>, life: &mut Life) {
        let is_kept = |other: &RunId| Some(*other) != run;
        self.heard = self.heard.filter(is_kept);
        life.keep_runs(is_kept);
    }

    /// The domain went away, and its run with it. Who tells later that the run began does not make it another one.
    pub(super) fn went_away(&mut self, run: Option<RunId>, life: &mut Life) {
        self.leave(run, life);
        self.begin(None, None, life);
    }

    fn count(&mut self, run: Option<RunId>, life: &mut Life) {
        let Some(run) = run.filter(|run| !self.counted.contains(run)) else { return };
        if self.counted.len() >= REMEMBERED {
            self.counted.remove(0);
        }
        self.counted.push(run);
        life.starts += 1;
    }

    /// Whoever numbers the runs may begin anew: of the numbers before only those still mean something that guests run under, and
    /// that keep them: that of the present run, and of one that was told and is not listed yet.
    pub(super) fn forget_numbers(&mut self, present: Option<RunId>, life: &mut Life) {
        let told = self.told.as_ref().filter(|told| !told.is_present).map(|told| told.run);
        let is_kept = |run: &RunId| Some(*run) == present || Some(*run) == told;
        self.counted.retain(is_kept);
        self.heard = self.heard.filter(is_kept);
        life.keep_runs(is_kept);
    }

    /// Takes in an event; `present` is the run that is known.
    pub(super) fn happened(&mut self, event: &DomainEvent, at: Moment, present: Option<RunId>, life: &mut Life) {
        let goes_with_run = matches!(event.what, Happened::Graphics(_) | Happened::ClockSet(_));
        if goes_with_run && !self.hears(event.run, present, life) {
            return;
        }
        life.take(&event.what, at.stamp.wall, event.run.or(present));
        life.ran |= event.run.is_some() || matches!(event.what, Happened::Stopped(_));
        // Who wakes up goes on with the run, and the process, of before.
        let (Happened::Started(reason), Some(run)) = (&event.what, event.run) else { return };
        if *reason == StartReason::Wakeup {
            return;
        }
        self.count(Some(run), life);
        let is_present = present == Some(run);
        // Back to a snapshot goes a QEMU that may have run for long.
        let is_startup = *reason != StartReason::FromSnapshot;
        self.told = Some(Box::new(Told { run, at, is_startup, is_present }));
        if is_present && self.process.is_none() {
            life.start = Some(Start::by_event(at));
        }
    }

    /// Is what a run tells of itself not about one that is over? What the run before told is forgotten.
    fn hears(&mut self, run: Option<RunId>, present: Option<RunId>, life: &mut Life) -> bool {
        // Numbers of runs grow.
        let Some(run) = run.filter(|run| present.is_none_or(|present| run.0 >= present.0)) else { return false };
        if self.heard.replace(run) != Some(run) {
            life.forget_client();
            life.clock_offset_s = None;
        }
        true
    }

    /// Notes when the process of the present run started, since the host's boot.
    pub(super) fn has_process(&mut self, started: Duration, now: Moment, life: &mut Life) {
        if self.process == Some(started) {
            return;
        }
        self.process = Some(started);
        // As the wall clock goes now: what it showed then may have been wrong.
        let ago = now.since_boot.saturating_sub(started);
        let at = now.stamp.wall.checked_sub(ago).filter(|at| *at >= SystemTime::UNIX_EPOCH);
        life.start = at.map(|at| Start { at, since_boot: started, source: StartSource::Process });
    }

    /// How long the present run took from the start of its process to the event, once both are known; told once a run.
    pub(super) fn take_startup(&mut self) -> Option<Duration> {
        let process = self.process?;
        let told = self.told.as_mut().filter(|told| told.is_startup && told.is_present)?;
        told.is_startup = false;
        told.at.since_boot.checked_sub(process).filter(|took| *took < LONGEST_STARTUP)
    }
}

/// Ticks of the kernel's clock as time.
pub(super) fn ticks(ticks: u64) -> Duration {
    let per_second = rustix::param::clock_ticks_per_second().max(1);
    let rest = (ticks % per_second) * 1_000_000_000 / per_second;
    Duration::from_secs(ticks / per_second) + Duration::from_nanos(rest)
}
