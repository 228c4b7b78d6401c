//! One domain, as the store knows it.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::lanes::{Crossings, Lanes};
use super::life::{Life, Runs};
use super::minute::{self, Meter};
use super::snapshot::{Domain, StaleAfter};
use super::window::Windows;
use crate::model::{DomainDescription, DomainHealth, DomainId, DomainRecord, Group, GroupSet, Moment, RunId, Stamp};

/// In which starts of processes are told.
const TICK: Duration = Duration::from_millis(10);

pub(super) struct Known {
    pub(super) domain: Arc<Domain>,
    /// The start of the newest call that said whether, and in which run, the domain is running.
    pub(super) seen: Instant,
    /// The run whose XML is in `domain`.
    pub(super) described: Option<Option<RunId>>,
    pub(super) disks: Option<u64>,
    pub(super) nics: Option<u64>,
    /// If the run before had the same id: answers to what was asked before this moment may be about that one.
    not_before: Option<Instant>,
    /// When the QEMU process of this run started, in clock ticks.
    process: Option<u64>,
    pub(super) runs: Runs,
    pub(super) crossings: Crossings,
    cpu_meter: Meter<1>,
    network_meter: Meter<2>,
}

/// What is remembered of a domain that is not there: it went away, or an event told of it before the list did.
#[derive(Default)]
pub(super) struct Apart {
    pub(super) life: Life,
    pub(super) runs: Runs,
}

impl Known {
    /// A domain that is seen for the first time, or again; `is_new` if it was not there before.
    pub(super) fn new(
        (id, name, run): (DomainId, Box<str>, Option<RunId>),
        started: Stamp,
        Apart { mut life, mut runs }: Apart,
        is_new: bool,
    ) -> Self {
        runs.first_seen(run, is_new, &mut life);
        let domain = Arc::new(Domain {
            id,
            name: name.into(),
            run,
            pid: None,
            known_since: started,
            health: DomainHealth::default(),
            resting: None,
            life,
            description: None,
            described_run: None,
            windows: Windows::default(),
            cpu_minute: None,
            network_minute: None,
        });
        Self {
            domain,
            seen: started.at,
            described: None,
            disks: None,
            nics: None,
            not_before: None,
            process: None,
            runs,
            crossings: Crossings::default(),
            cpu_meter: Meter::default(),
            network_meter: Meter::default(),
        }
    }

    /// Another run: its counters began anew, so nothing of the old samples may be compared with them.
    pub(super) fn begin_run(&mut self, run: Option<RunId>, started: Stamp) {
        let same_id = self.domain.run == run;
        self.not_before = same_id.then_some(started.at);
        if same_id {
            // By its id alone nobody could tell that its XML is that of the run before.
            self.described = None;
        }
        let domain = Arc::make_mut(&mut self.domain);
        domain.described_run = None;
        self.runs.begin(domain.run, run, &mut domain.life);
        (domain.run, domain.pid) = (run, None);
        domain.known_since = started;
        domain.health = DomainHealth::default();
        domain.resting = None;
        self.forget_figures();
        (self.disks, self.nics, self.process) = (None, None, None);
    }

    /// Forgets all samples, and what was made of them.
    fn forget_figures(&mut self) {
        Arc::make_mut(&mut self.domain).windows = Windows::default();
        self.crossings = Crossings::default();
        self.forget_rates(Group::SHARED.into_iter().collect());
    }

    /// May an answer to what was asked then be about a run before this one, though it bears its id?
    pub(super) fn predates_run(&self, started: Stamp) -> bool {
        self.not_before.is_some_and(|begin| started.at < begin)
    }

    /// Notes when the process of this run started. Another start than the one noted is another run.
    pub(super) fn is_another_process(&mut self, start_ticks: u64) -> bool {
        self.process.replace(start_ticks).is_some_and(|before| before != start_ticks)
    }

    /// Forgets figures that are older than the process that was found for this run: they are of one before. A domain may start
    /// anew before its next run is known by its number. Says whether there were any.
    pub(super) fn forget_before_process(&mut self, process_start: Duration, now: Moment) -> bool {
        let age = now.since_boot.checked_sub(process_start);
        let Some(start) = age.and_then(|age| now.stamp.at.checked_sub(age)) else { return false };
        // Starts are told in ticks.
        let is_older = |stamp: Stamp| stamp.at + TICK < start;
        let windows = &self.domain.windows;
        let any = Group::ALL.into_iter().filter_map(|group| windows.started(group)).any(is_older);
        if any {
            self.forget_figures();
        }
        any
    }

    /// Did the domain start anew under the same run id? libvirt numbers runs from 1 again when it is restarted itself while
    /// no guest runs. The process tells; where there is none to look at, CPU time does that is far less than before. (What is
    /// somewhat less was read from elsewhere.)
    pub(super) fn restarted(&self, started: Stamp, record: &DomainRecord) -> bool {
        let known = self.domain.windows.cpu.newest().filter(|known| known.started.at < started.at);
        let before = known.and_then(|known| known.figures.time_ns);
        let now = record.figures.cpu.and_then(|cpu| cpu.time_ns);
        self.process.is_none() && before.zip(now).is_some_and(|(before, now)| now < before / 2)
    }

    /// Forgets the samples of groups that are not sampled any more, and who told them.
    pub(super) fn keep_groups(&mut self, stale_after: &StaleAfter) {
        let dropped: GroupSet = Group::ALL.into_iter().filter(|group| stale_after.get(*group).is_none()).collect();
        let windows = &mut Arc::make_mut(&mut self.domain).windows;
        dropped.iter().for_each(|group| windows.clear(group));
        if dropped.contains(Group::Kernel) {
            windows.lanes = Lanes::default();
            self.crossings = Crossings::default();
        }
        self.forget_rates(dropped);
    }

    /// Begins the rates of the last minute anew, where those are of such a group.
    pub(super) fn forget_rates(&mut self, groups: GroupSet) {
        if groups.contains(Group::Cpu) {
            self.cpu_meter = Meter::default();
            Arc::make_mut(&mut self.domain).cpu_minute = None;
        }
        if groups.contains(Group::Interface) {
            self.network_meter = Meter::default();
            Arc::make_mut(&mut self.domain).network_minute = None;
        }
    }

    /// Takes the newest samples into the rates of the last minute.
    pub(super) fn measure(&mut self) {
        let domain = Arc::make_mut(&mut self.domain);
        if let Some(cpu) = domain.windows.cpu.newest()
            && let Some(counted) = minute::cpu_counter(&cpu.figures)
            && self.cpu_meter.take(cpu.started.at, counted)
        {
            domain.cpu_minute = self.cpu_meter.minute();
        }
        let Some(network) = domain.windows.interface.newest() else { return };
        match minute::network_counters(&network.figures) {
            Some(counted) if self.network_meter.take(network.started.at, counted) => {
                domain.network_minute = self.network_meter.minute();
            }
            Some(_) => {}
            // It has no NIC any more.
            None => self.forget_rates(GroupSet::of(Group::Interface)),
        }
    }

    pub(super) fn rename(&mut self, name: &str) -> bool {
        let other = *self.domain.name != *name;
        if other {
            Arc::make_mut(&mut self.domain).name = name.into();
        }
        other
    }

    /// Do the record's devices differ from what the XML, or the record before, said? Each difference is told once.
    pub(super) fn devices_changed(&mut self, record: &DomainRecord) -> bool {
        let description = self.domain.description.as_deref();
        let disks = record.figures.block.as_ref().map(|block| {
            let print = print_of(block.disks.iter().map(|disk| (disk.index, &disk.name, &disk.path)));
            let names = block.disks.iter().map(|disk| disk.name.as_deref().unwrap_or_default());
            let expected = |it: &DomainDescription| it.disks.iter().map(|d| &*d.target).eq(names);
            (print, description.is_some_and(expected))
        });
        let nics = record.figures.interface.as_ref().map(|net| {
            let print = print_of(net.interfaces.iter().map(|nic| (nic.index, &nic.name)));
            let names = net.interfaces.iter().filter_map(|nic| nic.name.as_deref());
            let targets =
                |it: &DomainDescription| it.nics.iter().map(|n| &*n.target).filter(|n| !n.is_empty()).eq(names);
            (print, description.is_some_and(targets))
        });
        // Both must be looked at: `||` would stop at the first.
        let (disks, nics) = (differs(&mut self.disks, disks), differs(&mut self.nics, nics));
        disks || nics
    }
}

/// Notes the newest fingerprint. The first one of a run is a change unless it is what the XML says.
fn differs(noted: &mut Option<u64>, newest: Option<(u64, bool)>) -> bool {
    let Some((print, as_described)) = newest else { return false };
    noted.replace(print).map_or(!as_described, |before| before != print)
}

fn print_of<T: Hash>(devices: impl Iterator<Item = T>) -> u64 {
    let mut hasher = DefaultHasher::new();
    devices.for_each(|device| device.hash(&mut hasher));
    hasher.finish()
}
