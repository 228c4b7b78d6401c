//! Lane by lane, the calls that have a place and a worker.

use std::collections::HashMap;
use std::sync::Arc;

use super::budget::{Class, Kind};
use super::core::Core;
use super::deadline;
use super::dispatch::Call;
use super::health::{Patient, Sign};
use super::lanes::{Ask, Lane};
use super::storage::PATIENCE;
use super::work::Job;
use crate::model::{DomainId, Group, GroupSet, Scope, Stamp};
use crate::store::Snapshot;

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

    pub(super) fn pump_storage(&mut self, now: Stamp) {
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
        let wanted = std::mem::take(&mut self.state_wanted);
        if self.free.groups().contains(Group::State) {
            self.free.also(GroupSet::of(Group::State), &wanted);
        }
        while self.pools.free.has_room() {
            let Some(ask) = self.free.take() else { return };
            let Some(ask) = self.without_ended(ask) else { continue };
            let deadline = self.free.usual(ask.groups).deadline(self.size(&ask), self.free.period(ask.groups));
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
            let deadline = self.monitor.usual(ask.groups).deadline(self.size(&ask), self.monitor.period(ask.groups));
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
            groups.iter().filter_map(|group| domain.windows.answered(group)).map(|stamp| stamp.at).max()
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
}
