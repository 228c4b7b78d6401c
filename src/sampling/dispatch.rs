//! Making calls: who may be asked, with which place, by which worker.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::budget::{Class, Kind, Place};
use super::core::{Core, Open, SECOND_LOOK};
use super::deadline;
use super::health::{Patient, Sign};
use super::lanes::{Ask, Lane};
use super::overdue::opening_limit;
use super::storage::PATIENCE;
use super::work::{Job, Order};
use crate::model::{BulkRequest, DomainId, Group, GroupSet, Process, ProcessState, RunId, Scope, Stamp, Standing};
use crate::store::{Domain, Snapshot};

/// Written-off calls that wait for a lock at most before what they did not bring waits for the next turn.
const FREE_OVERDUE: usize = 3;

/// A look at storage is as good as new for this long in the turn that it was made for.
const LOOK_IS_GOOD: Duration = Duration::from_secs(2);

/// What goes with a new call.
pub(super) struct Call {
    pub(super) lane: Lane,
    pub(super) job: Job,
    pub(super) ask: Option<Ask>,
    pub(super) probation: bool,
    pub(super) allowed: Duration,
}

impl Core {
    /// Makes the calls that have a place and a worker.
    pub(super) fn pump(&mut self, now: Stamp) {
        self.pump_storage(now);
        if !self.link.up {
            return;
        }
        self.pump_control(now);
        self.pump_free(now);
        self.pump_cpu(now);
        self.pump_leases(now);
        if !self.link.admitting {
            // Who is about to lose a turn to the monitor lane gets one place before it, if the monitor lane has another.
            let is_at_work = |lane| self.calls.values().any(|it| it.lane == lane && !it.overdue);
            if self.block.is_behind(now.at) && is_at_work(Lane::Monitor) && !is_at_work(Lane::BlockInfo) {
                self.pump_block_info(1, now);
            }
            self.pump_monitor(now);
            self.pump_probation(now);
            self.pump_block_info(usize::MAX, now);
        }
    }

    /// Looks at the process of each, and returns those that libvirt is not about to end.
    pub(super) fn look_at_all<'d>(&mut self, domains: &[&'d Arc<Domain>], now: Stamp) -> Vec<&'d Arc<Domain>> {
        let mut starts: Vec<(DomainId, RunId, Process)> = Vec::new();
        let mut alive = Vec::with_capacity(domains.len());
        for domain in domains {
            let process = domain.run.and_then(|run| self.processes.look(domain.id, &domain.name, run));
            let state = process.map(|process| process.state);
            if let (Some(process), Some(run)) = (process, domain.run)
                && process.state != ProcessState::Ended
            {
                starts.push((domain.id, run, process));
            }
            if state != Some(ProcessState::Ended) {
                alive.push(*domain);
            }
            let stopped = matches!(state, Some(ProcessState::Stopped | ProcessState::Uninterruptible));
            // What runs needs no note, unless something else was noted before; looks that count come at their own pace.
            if stopped && self.ward.get(domain.id).is_none() {
                self.sign(domain.id, Sign::Process(state), now);
                self.look_soon(now.at + SECOND_LOOK);
            }
        }
        if self.store.apply_processes(&starts).domains {
            self.inventory.request([]);
        }
        alive
    }

    /// May this domain be asked with others at this moment? A process that does not run is noted, and looked at again.
    fn runs(&mut self, snapshot: &Snapshot, id: DomainId, now: Stamp) -> bool {
        let Some(domain) = snapshot.get(id) else { return false };
        let Some(run) = domain.run else { return false };
        if !self.ward.is_healthy(id) {
            return false;
        }
        match self.processes.look(id, &domain.name, run).map(|process| process.state) {
            Some(ProcessState::Ended) => false,
            state @ Some(ProcessState::Stopped | ProcessState::Uninterruptible) => {
                self.sign(id, Sign::Process(state), now);
                self.look_soon(now.at + SECOND_LOOK);
                false
            }
            Some(ProcessState::Runs) | None => true,
        }
    }

    fn pump_storage(&mut self, now: Stamp) {
        while self.pools.storage.has_room() {
            let Some((mount, path)) = self.storage.take() else { return };
            let job = Job::Probe(Arc::clone(&path));
            let call = Call { lane: Lane::Storage, job, ask: None, probation: false, allowed: PATIENCE };
            match self.give(call, None, now) {
                Some(number) => self.storage.begun(mount, number),
                None => return self.storage.put_back((mount, path)),
            }
        }
    }

    fn pump_free(&mut self, now: Stamp) {
        while self.pools.free.has_room() {
            let Some(ask) = self.free.take() else { return };
            let Some(ask) = self.without_ended(ask) else { continue };
            let deadline = self.free.usual.deadline(self.size(&ask), self.free.period(ask.groups));
            if !self.bulk(Lane::Free, Kind::Free, Class::Free, (ask.clone(), false), deadline, now) {
                return self.free.put_back(ask);
            }
        }
    }

    /// Without those whose QEMU is gone; `None` if nobody is left.
    fn without_ended(&mut self, ask: Ask) -> Option<Ask> {
        let Scope::Only(ids) = ask.scope else { return Some(ask) };
        let ids = self.not_ended(ids);
        (!ids.is_empty()).then_some(Ask { scope: Scope::Only(ids), ..ask })
    }

    /// Those whose QEMU is not gone: libvirt holds the lock of each that is until it has cleared up behind it. Some may have
    /// ended since the turn began.
    pub(super) fn not_ended(&mut self, mut ids: Vec<DomainId>) -> Vec<DomainId> {
        let snapshot = self.store.snapshot();
        ids.retain(|id| {
            let process = snapshot.get(*id).and_then(|it| self.processes.look(*id, &it.name, it.run?));
            process.is_none_or(|process| process.state != ProcessState::Ended)
        });
        ids
    }

    fn pump_monitor(&mut self, now: Stamp) {
        if !self.monitor.has_work() {
            return;
        }
        let snapshot = self.store.snapshot();
        let locked = self.locked(&snapshot);
        let mut unsounded = Vec::new();
        while self.pools.monitor.has_room() && self.budget.admits(Class::Healthy) {
            let Some(ask) = self.monitor.take() else { break };
            let (sounded, waiting): (Vec<_>, Vec<_>) =
                ask.ids().iter().partition(|id| self.is_sounded(&snapshot, **id));
            if !waiting.is_empty() {
                unsounded.push(Ask { scope: Scope::Only(waiting), ..ask.clone() });
            }
            if sounded.is_empty() {
                continue;
            }
            let ask = Ask { scope: Scope::Only(sounded), ..ask };
            if ask.groups.contains(Group::Block) && !self.storage_known(ask.ids(), now) {
                self.monitor.put_back(ask);
                break;
            }
            // A domain that another call of ours is at would be skipped for it, or hang a second one.
            let busy = self.busy(Lane::BlockInfo);
            let (waiting, before): (Vec<_>, Vec<_>) = ask.ids().iter().partition(|id| busy.contains(id));
            self.set_aside(&waiting, ask.groups);
            let (ids, others): (Vec<_>, Vec<_>) =
                before.into_iter().partition(|id| !locked.contains(id) && self.runs(&snapshot, *id, now));
            let stopped = |id: &DomainId| self.ward.get(*id).is_some_and(Patient::is_stopped);
            let stopped: Vec<DomainId> = others.into_iter().filter(stopped).collect();
            self.set_aside(&stopped, ask.groups);
            // libvirtd would hang with the storage of these, so their disks are asked for one by one.
            let blocked = |id: &DomainId| self.is_on_blocked_storage(*id);
            let (apart, ids) = if ask.groups.contains(Group::Block) {
                ids.into_iter().partition::<Vec<_>, _>(blocked)
            } else {
                (Vec::new(), ids)
            };
            if !apart.is_empty() {
                let rest = ask.groups.without(GroupSet::of(Group::Block));
                self.counters.extend(apart.iter().copied());
                if !rest.is_empty() {
                    self.monitor.put_back(Ask { groups: rest, scope: Scope::Only(apart), depth: ask.depth });
                }
            }
            if ids.is_empty() {
                continue;
            }
            let ask = Ask { scope: Scope::Only(ids), ..ask };
            let deadline = self.monitor.usual.deadline(self.size(&ask), self.monitor.period(ask.groups));
            if !self.bulk(Lane::Monitor, Kind::Monitor, Class::Healthy, (ask.clone(), false), deadline, now) {
                self.monitor.put_back(ask);
                break;
            }
        }
        unsounded.into_iter().rev().for_each(|ask| self.monitor.put_back(ask));
    }

    /// These are left out of a call for now, and asked in the same turn if they can be.
    fn set_aside(&mut self, ids: &[DomainId], groups: GroupSet) {
        for id in ids {
            let noted = self.aside.entry(*id).or_default();
            *noted = noted.union(groups);
        }
    }

    /// Has the free lane's present turn shown that libvirt does not hold this domain's lock, or come to its end?
    ///
    /// Free calls come first: whatever asks for a locked domain waits with it, and stays for as long.
    fn is_sounded(&self, snapshot: &Snapshot, id: DomainId) -> bool {
        let groups = self.free.groups();
        let newest = snapshot.get(id).and_then(|domain| {
            groups.iter().filter_map(|group| domain.windows.started(group)).map(|stamp| stamp.at).max()
        });
        !self.is_sounding() || self.free_begun.is_none_or(|begun| newest.is_some_and(|newest| newest >= begun))
    }

    /// Those on probation are asked alone, and one at a time.
    fn pump_probation(&mut self, now: Stamp) {
        let groups = self.monitor.groups();
        if groups.is_empty() {
            // Nobody but block info enters a monitor: its next call is the trial.
            for id in self.on_probation() {
                self.sign(id, Sign::Answered, now);
            }
            return;
        }
        if !self.pools.monitor.has_room() || self.calls.values().any(|it| it.probation && !it.overdue) {
            return;
        }
        for id in self.on_probation() {
            let stopped = self.ward.get(id).is_some_and(Patient::is_stopped);
            if stopped || self.ward.is_blocked(id) || (groups.contains(Group::Block) && !self.storage_known(&[id], now))
            {
                continue;
            }
            let hangs = self.is_on_blocked_storage(id);
            let groups = if hangs { groups.without(GroupSet::of(Group::Block)) } else { groups };
            let verified = self.ward.get(id).is_some_and(Patient::is_verified);
            let class = if verified { Class::Healthy } else { Class::Doubtful };
            let ask = Ask { groups, scope: Scope::Only(vec![id]), depth: usize::MAX };
            let deadline = deadline::of_one(self.shortest);
            if self.bulk(Lane::Monitor, Kind::Probation, class, (ask, true), deadline, now) {
                return;
            }
        }
    }

    /// Asks for so many disks at most.
    fn pump_block_info(&mut self, mut most: usize, now: Stamp) {
        if !self.counters.is_empty() {
            let ids = std::mem::take(&mut self.counters);
            let targets = ids.into_iter().filter_map(|id| Some((id, self.disks.targets(id)?)));
            let targets: HashMap<_, _> = targets.collect();
            self.block.counters(targets);
        }
        while most > 0
            && self.block.has_work()
            && !self.is_sounding()
            && self.pools.block_info.has_room()
            && self.budget.admits(Class::Healthy)
        {
            let snapshot = self.store.snapshot();
            let mut held = self.suspected(&snapshot);
            held.extend(self.busy(Lane::Monitor));
            held.extend(self.locked(&snapshot));
            let may = |id: DomainId, target: Option<&str>| {
                let storage_hangs = |target: &str| self.disks.is_on(id, target, |mount| self.storage.is_blocked(mount));
                let is_well = self.ward.is_healthy(id) && !self.ward.is_blocked(id) && !held.contains(&id);
                is_well && !target.is_some_and(storage_hangs)
            };
            let Some(mut job) = self.block.take(may) else { return };
            let is_counters = matches!(job, Job::BlockCounters(..));
            let running = match &mut job {
                Job::BlockInfo(disks) => {
                    disks.retain(|(id, _)| self.runs(&snapshot, *id, now));
                    disks.len()
                }
                Job::BlockCounters(id, _) => usize::from(self.runs(&snapshot, *id, now)),
                _ => 0,
            };
            if running == 0 {
                continue;
            }
            if !is_counters && !self.storage_known(&job.block_domains(), now) {
                return self.block.put_back(job);
            }
            let one = deadline::of_one(self.shortest);
            let deadline = self.block.usual.of(running).map_or(one, |usual| (usual * 4).max(one));
            let call = Call { lane: Lane::BlockInfo, job: job.clone(), ask: None, probation: false, allowed: deadline };
            if !self.call(Kind::BlockInfo, Class::Healthy, call, now) {
                return self.block.put_back(job);
            }
            most -= 1;
        }
    }

    fn bulk(
        &mut self,
        lane: Lane,
        kind: Kind,
        class: Class,
        (ask, probation): (Ask, bool),
        deadline: Duration,
        now: Stamp,
    ) -> bool {
        let job = Job::Bulk(BulkRequest { groups: ask.groups, scope: ask.scope.clone() });
        self.call(kind, class, Call { lane, job, ask: Some(ask), probation, allowed: deadline }, now)
    }

    /// Makes a call at libvirtd, if there is a place for it.
    pub(super) fn call(&mut self, kind: Kind, class: Class, call: Call, now: Stamp) -> bool {
        let Some(place) = self.budget.take(kind, class) else { return false };
        self.give(call, Some(place), now).is_some()
    }

    fn give(&mut self, call: Call, place: Option<Place>, now: Stamp) -> Option<u64> {
        self.next_call += 1;
        let number = self.next_call;
        let held = place.as_ref().map(Place::number);
        let order = Order::new(number, call.job.clone(), place);
        let (opening, progress) = (order.opening(), order.progress());
        // An order that nobody takes gives its place back.
        let worker = self.pools.of(call.lane).assign(order)?;
        let open = Open {
            lane: call.lane,
            worker,
            job: call.job,
            ask: call.ask,
            probation: call.probation,
            begun: now,
            deadline: now.at + call.allowed.min(opening_limit(self.shortest)),
            allowed: call.allowed,
            counted_from: now.at,
            connects: false,
            overdue: false,
            place: held,
            opening,
            progress,
        };
        tracing::trace!(number, call = open.job.call(), lane = open.lane.label(), ask = ?open.ask, "asked");
        self.calls.insert(number, open);
        Some(number)
    }

    /// The domains that a call of that lane is at, and is not written off.
    fn busy(&self, lane: Lane) -> HashSet<DomainId> {
        let open = self.calls.values().filter(|open| open.lane == lane && !open.overdue);
        open.flat_map(|open| match (&open.job, &open.ask) {
            (Job::BlockInfo(_) | Job::BlockCounters(..), _) => open.job.block_domains(),
            (_, ask) => ask.as_ref().map(|ask| ask.ids().to_vec()).unwrap_or_default(),
        })
        .collect()
    }

    /// How many domains a call is about.
    pub(super) fn size(&self, ask: &Ask) -> usize {
        match &ask.scope {
            Scope::All => self.disks.ids().count().max(1),
            Scope::Only(ids) => ids.len(),
        }
    }

    /// Is it known how the storage of these is? If not, it is looked at, and whoever asks comes again.
    fn storage_known(&mut self, ids: &[DomainId], now: Stamp) -> bool {
        // Good enough is a look of this turn, as long as that is not long ago.
        let since =
            self.turn_begun.map_or(now.at, |begun| begun.max(now.at.checked_sub(LOOK_IS_GOOD).unwrap_or(begun)));
        let unknown = self.disks.files_of(ids).filter(|(mount, _)| !self.storage.is_known(mount, since, now.at));
        let unknown: Vec<_> = unknown.collect();
        let known = unknown.is_empty();
        self.storage.begin(unknown.into_iter(), now.at);
        self.pump_storage(now);
        known
    }

    /// Are there so many written-off calls that wait for a lock that another would cost more than it brings?
    pub(super) fn too_many_free_overdue(&self) -> bool {
        self.calls.values().filter(|open| open.overdue && Self::waits_for_locks_alone(open)).count() >= FREE_OVERDUE
    }

    /// Takes a sign, and tells the log what came of it.
    pub(super) fn sign(&mut self, id: DomainId, sign: Sign, now: Stamp) {
        let Some(moved) = self.ward.sign(id, sign, now) else { return };
        let name = self.store.snapshot().get(id).map(|domain| Arc::clone(&domain.name));
        let domain = name.as_deref().unwrap_or("?");
        match (moved.from, moved.to) {
            (Standing::Healthy, Standing::Quarantined) => {
                let why = match sign {
                    Sign::Hangs => "a call hangs on it",
                    Sign::Occupied => "its monitor has been occupied since before the start",
                    _ => "its process is stopped or waits for a disk",
                };
                tracing::warn!(domain, uuid = %id, why, "unresponsive; its monitor is left alone until it is well");
                // What needs no monitor goes on, in this very period.
                if self.monitor.groups().contains(Group::Cpu) {
                    self.cpu_wanted.insert(id);
                }
            }
            (_, Standing::Healthy) => tracing::info!(domain, uuid = %id, "responsive again"),
            (from, to) => tracing::debug!(domain, ?from, ?to, "standing"),
        }
        self.look_soon(now.at + self.look_interval());
    }

    /// Is the worker of this call opening a connection?
    pub(super) fn is_opening(open: &Open) -> bool {
        open.opening.load(Ordering::Acquire)
    }
}
