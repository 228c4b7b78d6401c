//! Making a call: who may be asked, with which place, by which worker.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::budget::{Class, Kind, Place};
use super::core::{Core, Open, SECOND_LOOK};
use super::health::Sign;
use super::lanes::{Ask, Lane};
use super::overdue::opening_limit;
use super::work::{Job, Order};
use crate::model::{BulkRequest, DomainId, Group, Process, ProcessState, RunId, Scope, Stamp, Standing};
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
    pub(super) fn runs(&mut self, snapshot: &Snapshot, id: DomainId, now: Stamp) -> bool {
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

    pub(super) fn bulk(
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

    pub(super) fn give(&mut self, call: Call, place: Option<Place>, now: Stamp) -> Option<u64> {
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
    pub(super) fn busy(&self, lane: Lane) -> HashSet<DomainId> {
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
    pub(super) fn storage_known(&mut self, ids: &[DomainId], now: Stamp) -> bool {
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
