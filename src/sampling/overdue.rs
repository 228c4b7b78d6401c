//! What overran: written off, and asked again.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use super::core::{Core, Open, SECOND_LOOK};
use super::deadline::LEAST;
use super::health::{Patient, Sign};
use super::lanes::{Ask, Lane};
use super::storage::Change;
use super::work::{CallId, Job, Target};
use crate::model::{DomainId, Group, GroupSet, Scope, Stamp, Standing};
use crate::store::Snapshot;

/// A connection may take this long to open, or nearly half the shortest period.
const OPENING: Duration = Duration::from_secs(5);

/// How long an attempt to connect may take.
pub(super) fn opening_limit(shortest: Duration) -> Duration {
    OPENING.min((shortest * 9 / 20).max(LEAST))
}

impl Core {
    /// Writes off what is overdue.
    pub(super) fn expire(&mut self, now: Stamp) {
        let due = self.calls.iter().filter(|(_, open)| !open.overdue && open.deadline <= now.at);
        let mut due: Vec<CallId> = due.map(|(call, _)| *call).collect();
        due.sort_unstable();
        for call in due {
            let Some(open) = self.calls.get_mut(&call) else { continue };
            let opening = Self::is_opening(open);
            let limit = open.begun.at + opening_limit(self.shortest);
            if std::mem::replace(&mut open.connects, opening) && !opening {
                // The connection is open, so what counts from now on is the call.
                open.counted_from = now.at;
            }
            let due = if opening { limit } else { open.counted_from + open.allowed };
            if due > now.at {
                open.deadline = due;
            } else {
                self.write_off(call, opening, now);
            }
        }
    }

    fn write_off(&mut self, call: CallId, opening: bool, now: Stamp) {
        let Some(open) = self.calls.get_mut(&call) else { return };
        open.overdue = true;
        let freed = if opening { Vec::new() } else { narrow(open) };
        let (lane, worker, job) = (open.lane, open.worker, open.job.clone());
        let (ask, probation, begun) = (open.ask.clone(), open.probation, open.begun.at);
        if let Some(place) = open.place {
            self.budget.write_off(place);
        }
        self.pools.of(lane).write_off(worker);
        if lane == Lane::Storage {
            self.steering.forget_turn();
            if let Some(Change::Blocked(mount)) = self.storage.overran(call) {
                tracing::warn!(%mount, "storage does not answer; disks on it are asked for what needs no look at it");
                self.note_storage();
            }
            return;
        }
        let delays = match job {
            Job::Bulk(_) | Job::BlockInfo(..) | Job::BlockCounters(..) => !probation,
            Job::Control(_) => self.link.admitting,
            Job::Inventory(_) | Job::CpuStats(_) | Job::Leases | Job::Probe(_) => false,
        };
        if delays {
            self.steering.forget_turn();
        }
        let name = if opening { "virConnectOpen" } else { job.call() };
        self.store.metrics.lane_runs.with_label_values(&[lane.label(), "timeout"]).inc();
        self.store.metrics.calls_timed_out.with_label_values(&[name]).inc();
        tracing::debug!(call = name, lane = lane.label(), "written off");
        if opening {
            // It fails soon after, and its lane with it. Nothing was asked of any domain yet.
            self.factory.abandon_opening();
            return;
        }
        self.control_wanted = true;
        self.look_soon(now.at + SECOND_LOOK);
        match (&job, ask) {
            (Job::Inventory(_), _) => {
                let jitter = self.ward.jitter();
                self.inventory.failed(false, now.at, jitter);
            }
            (Job::Control(_), _) => self.link.admitting = false,
            (Job::Leases, _) => self.store.apply_leases(Err("libvirt's networks do not answer")),
            (_, Some(ask)) if probation => {
                for id in ask.ids() {
                    self.ward.hangs(call, *id, job.call());
                    self.sign(*id, Sign::Overran, now);
                }
            }
            (_, Some(ask)) => self.ask_again(lane, &ask, begun, now),
            (Job::BlockInfo(_), None) if !freed.is_empty() => {
                let ids: Vec<DomainId> = freed.iter().map(|(id, _)| *id).collect();
                self.block.overran(freed);
                self.ask_set_aside(&ids);
            }
            _ => {}
        }
    }

    /// Asks again at once, on another connection, for what the call did not bring: a healthy domain then has its sample in
    /// the same period.
    fn ask_again(&mut self, lane: Lane, ask: &Ask, begun: Instant, now: Stamp) {
        let snapshot = self.store.snapshot();
        let ids = asked(&snapshot, ask);
        let lacking = lacking(&snapshot, ask.groups, &ids, begun);
        if lane == Lane::Monitor {
            // It may be the storage that hangs, and then of more domains than one.
            if ask.groups.contains(Group::Block) {
                self.storage.begin(self.disks.files_of(&lacking), now.at);
            }
            self.monitor.overran(ask, &lacking);
        } else if !self.too_many_free_overdue() {
            let domains: Vec<_> = lacking.iter().filter_map(|id| snapshot.get(*id)).collect();
            let alive: Vec<DomainId> = self.look_at_all(&domains, now).iter().map(|domain| domain.id).collect();
            // Who has disks on storage that hangs is the likeliest to be locked.
            let (likely, others): (Vec<_>, Vec<_>) = alive.into_iter().partition(|id| self.is_on_blocked_storage(*id));
            self.free.overran(ask, &others);
            self.free.also(ask.groups, &likely);
        }
    }

    /// Looks at the processes of patients, ends pauses, and finds out more where something is not known yet.
    pub(super) fn look(&mut self, now: Stamp) {
        if self.next_look.is_none_or(|at| at > now.at) {
            return;
        }
        if let Some((groups, mut ids)) = self.cut_short.take(now.at) {
            ids.retain(|id| self.ward.is_healthy(*id));
            self.monitor.also(groups, &ids);
        }
        let snapshot = self.store.snapshot();
        for id in self.ward.ids() {
            let Some((domain, run)) = snapshot.get(id).and_then(|domain| Some((domain, domain.run?))) else { continue };
            let state = self.processes.look(id, &domain.name, run).map(|process| process.state);
            self.sign(id, Sign::Process(state), now);
            // Left out of a call for its process: asked in the same turn after all, or not at all.
            let well = self.ward.is_healthy(id);
            if (well || self.ward.get(id).is_some_and(|patient| patient.standing() != Standing::Healthy))
                && let Some(groups) = self.aside.remove(&id)
                && well
            {
                self.monitor.also(groups, &[id]);
            }
        }
        self.ward.tick(now);
        self.judge(&snapshot, &HashMap::new(), now);
        let unknown = self.calls.iter().any(|(call, open)| self.is_unjudged(*call, open));
        let stopped = self.ward.any(|patient| patient.standing() == Standing::Healthy);
        self.control_wanted |= self.link.admitting
            || unknown
            || self.ward.any(Patient::wants_control)
            || !self.budget.orphans().is_empty();
        let quiet = self.ward.ids().is_empty() && !self.control_wanted;
        let interval = if unknown || stopped { SECOND_LOOK } else { self.look_interval() };
        self.next_look = (!quiet).then(|| now.at + interval);
        if let Some(due) = self.cut_short.due() {
            self.look_soon(due);
        }
    }

    /// Was the call written off, and is it not known yet which domain holds it?
    pub(super) fn is_unjudged(&self, call: CallId, open: &Open) -> bool {
        let can_hang = matches!(open.lane, Lane::Monitor | Lane::BlockInfo);
        open.overdue && can_hang && !Self::is_opening(open) && !self.ward.is_judged(call)
    }

    pub(super) fn asked_of(open: &Open) -> (GroupSet, Vec<DomainId>) {
        match (&open.job, &open.ask) {
            (_, Some(ask)) => (ask.groups, ask.ids().to_vec()),
            (Job::BlockInfo(_), _) => (GroupSet::of(Group::BlockInfo), open.job.block_domains()),
            (Job::BlockCounters(id, _), _) => (GroupSet::of(Group::Block), vec![*id]),
            _ => (GroupSet::EMPTY, Vec::new()),
        }
    }

    /// Domains that an overdue call may be holding, since nothing came from them since: nothing is asked of them until that
    /// is known.
    pub(super) fn held(&self, snapshot: &Snapshot) -> HashSet<DomainId> {
        let unjudged = self.calls.iter().filter(|(call, open)| self.is_unjudged(**call, open));
        unjudged
            .flat_map(|(_, open)| {
                let (groups, ids) = Self::asked_of(open);
                let none = |id: &DomainId| {
                    let older = |group| is_older(snapshot, *id, group, open.begun.at);
                    groups.iter().all(older)
                };
                ids.into_iter().filter(none).collect::<Vec<_>>()
            })
            .collect()
    }

    /// Domains that a free call waits for, by name: libvirt holds the lock of one of them, and whatever asks for it waits
    /// too. So it does in block info on storage that hangs.
    pub(super) fn locked(&self, snapshot: &Snapshot) -> HashSet<DomainId> {
        let overdue = self.calls.values().filter(|open| open.overdue);
        overdue
            .flat_map(|open| match (&open.job, &open.ask) {
                (_, Some(ask)) if open.lane == Lane::Free => lacking(snapshot, ask.groups, ask.ids(), open.begun.at),
                (Job::BlockInfo(_), _) => {
                    let ids = open.job.block_domains().into_iter();
                    ids.filter(|id| self.is_on_blocked_storage(*id)).collect()
                }
                (Job::Control(ids) | Job::CpuStats(ids), _) => {
                    ids.iter().copied().filter(|id| !self.ward.is_healthy(*id)).collect()
                }
                _ => Vec::new(),
            })
            .collect()
    }

    pub(super) fn is_on_blocked_storage(&self, id: DomainId) -> bool {
        self.disks.mount_where(id, |mount| self.storage.is_blocked(mount)).is_some()
    }

    /// Are free calls of this turn still to be answered?
    pub(super) fn is_sounding(&self) -> bool {
        let asks = self.calls.values().filter(|open| open.lane == Lane::Free && open.ask.is_some());
        self.free.has_work() || asks.into_iter().any(|open| !open.overdue)
    }

    /// Does a call that enters no monitor wait for the lock of a domain?
    pub(super) fn is_locked_out(&self) -> bool {
        self.calls.values().any(|open| open.overdue && Self::waits_for_locks_alone(open))
    }

    pub(super) fn waits_for_locks_alone(open: &Open) -> bool {
        (open.lane == Lane::Inventory && !Self::is_opening(open)) || (open.lane == Lane::Free && open.ask.is_some())
    }

    /// Domains of which an overdue call still lacks something.
    pub(super) fn suspected(&self, snapshot: &Snapshot) -> HashSet<DomainId> {
        let unjudged = self.calls.iter().filter(|(call, open)| self.is_unjudged(**call, open));
        let ids = unjudged.flat_map(|(_, open)| {
            let (groups, ids) = Self::asked_of(open);
            lacking(snapshot, groups, &ids, open.begun.at)
        });
        ids.collect()
    }

    /// Those of its domains that an overdue call may be holding. One that is held may still have brought, with NOWAIT and by
    /// another call, what needs no monitor.
    pub(super) fn suspects(&self, snapshot: &Snapshot, open: &Open, now: Instant) -> Vec<DomainId> {
        let (groups, ids) = Self::asked_of(open);
        let mut suspects = lacking(snapshot, groups, &ids, open.begun.at);
        let known = |id: &DomainId| snapshot.get(*id).is_some_and(|domain| !self.is_newcomer(domain, now));
        suspects.retain(|id| known(id) && !self.ward.is_blocked(*id));
        suspects
    }

    /// Notes which domains have disks on storage that does not answer.
    pub(super) fn note_storage(&mut self) {
        let blocked = |id| Some((id, self.disks.mount_where(id, |mount| self.storage.is_blocked(mount))?));
        let blocked = self.disks.ids().filter_map(blocked).collect();
        self.ward.set_storage(blocked);
    }
}

/// Ends an order about several disks with the one that it is at, which is what the call is about from now on, and returns the
/// others. What was answered of them comes when the call returns, and may be too late by then.
fn narrow(open: &mut Open) -> Vec<Target> {
    let Job::BlockInfo(disks) = &mut open.job else { return Vec::new() };
    let at = open.progress.cut();
    if disks.len() < 2 || at >= disks.len() {
        return Vec::new();
    }
    let hangs = disks.remove(at);
    std::mem::replace(disks, vec![hangs])
}

pub(super) fn running(snapshot: &Snapshot) -> impl Iterator<Item = DomainId> {
    snapshot.domains.iter().filter(|domain| domain.run.is_some()).map(|domain| domain.id)
}

/// Whom a bulk call is about.
pub(super) fn asked(snapshot: &Snapshot, ask: &Ask) -> Vec<DomainId> {
    match &ask.scope {
        Scope::All => running(snapshot).collect(),
        Scope::Only(ids) => ids.clone(),
    }
}

fn is_older(snapshot: &Snapshot, id: DomainId, group: Group, than: Instant) -> bool {
    let stamp = snapshot.get(id).and_then(|domain| domain.windows.answered(group));
    stamp.is_none_or(|stamp| stamp.at < than)
}

/// The running domains that have no newer sample than that in one of the groups.
fn lacking(snapshot: &Snapshot, groups: GroupSet, ids: &[DomainId], than: Instant) -> Vec<DomainId> {
    let runs = |id: &DomainId| snapshot.get(*id).is_some_and(|domain| domain.run.is_some());
    let lacks = |id: &DomainId| runs(id) && groups.iter().any(|group| is_older(snapshot, *id, group, than));
    ids.iter().copied().filter(lacks).collect()
}
