//! What is asked beside the samples' own calls: the list, lent addresses, how monitors are, and CPU time of those that are left alone.

use std::sync::Arc;

use super::budget::{Class, Kind};
use super::core::Core;
use super::deadline::{self, LEAST};
use super::dispatch::Call;
use super::lanes::Lane;
use super::work::Job;
use crate::model::{DomainId, Group, InventoryRequest, Stamp};

impl Core {
    /// Reads the list when that is due.
    pub(super) fn inventory_turn(&mut self, now: Stamp) {
        // The list waits for every domain's lock as well. While one is held, it would only take one more place.
        if !self.pools.inventory.has_room() || self.is_locked_out() {
            return;
        }
        let store = Arc::clone(&self.store);
        let Some(request) = self.inventory.turn(now.at, || store.known_descriptions()) else { return };
        let usual = self.inventory.usual.deadline(1, self.inventory.period());
        let job = Job::Inventory(request.clone());
        let call = Call { lane: Lane::Inventory, job, ask: None, probation: false, allowed: usual.max(LEAST) };
        if !self.call(Kind::Inventory, Class::Free, call, now) {
            self.put_off(request, now);
        }
    }

    fn put_off(&mut self, request: InventoryRequest, now: Stamp) {
        self.skip(Lane::Inventory, "no_place", 1);
        self.inventory.put_off(request, now.at);
    }

    /// The addresses that networks lent, after each full list. Their service may be another than libvirtd, and hang on its own, so
    /// this waits for a place that nobody else needs.
    pub(super) fn pump_leases(&mut self, now: Stamp) {
        let waits = self.calls.values().any(|open| matches!(open.job, Job::Leases));
        if !self.leases_wanted || waits || !self.pools.free.has_room() || !self.budget.admits(Class::Doubtful) {
            return;
        }
        let deadline = deadline::of_one(self.shortest);
        let call = Call { lane: Lane::Free, job: Job::Leases, ask: None, probation: false, allowed: deadline };
        if self.call(Kind::Inventory, Class::Doubtful, call, now) {
            self.leases_wanted = false;
        }
    }

    /// CPU time from the host's accounting, of those whose monitor is not asked.
    pub(super) fn pump_cpu(&mut self, now: Stamp) {
        let waits = self.calls.values().any(|open| matches!(open.job, Job::CpuStats(_)));
        if self.cpu_wanted.is_empty() || waits || self.is_sounding() || !self.pools.free.has_room() {
            return;
        }
        // It needs no monitor, but the domain's lock.
        let snapshot = self.store.snapshot();
        let locked = self.locked(&snapshot);
        let feeds =
            |id: &DomainId| snapshot.get(*id).is_some_and(|domain| snapshot.kernel_feeds(domain, Group::Cpu, now.at));
        let ids = self.cpu_wanted.drain().filter(|id| !locked.contains(id) && !feeds(id)).collect();
        let mut ids = self.not_ended(ids);
        if ids.is_empty() {
            return;
        }
        ids.sort_unstable();
        let deadline = deadline::of_one(self.shortest);
        let job = Job::CpuStats(ids);
        let call = Call { lane: Lane::Free, job: job.clone(), ask: None, probation: false, allowed: deadline };
        if let (false, Job::CpuStats(ids)) = (self.call(Kind::Free, Class::Free, call, now), job) {
            self.cpu_wanted.extend(ids);
        }
    }

    /// How the monitors are of those about whom that is wanted.
    pub(super) fn pump_control(&mut self, now: Stamp) {
        let waits = self.calls.values().any(|open| matches!(open.job, Job::Control(_)));
        // What enters no monitor overran as well: it is a lock that is waited for, or libvirtd itself, and controlInfo would
        // wait with it.
        if (self.is_locked_out() || self.is_sounding()) && !self.link.admitting {
            return;
        }
        if !self.control_wanted || waits || !self.pools.free.has_room() {
            return;
        }
        let wanted = self.wanted_controls(now.at);
        let ids = self.not_ended(wanted.clone());
        if ids.is_empty() && self.link.admitting && !wanted.is_empty() {
            // All of these have ended; others are still to be looked at.
            self.link.admitted.extend(wanted);
            return self.look_soon(now.at);
        }
        if ids.is_empty() {
            // Nobody is left who could be asked.
            self.bury_orphans(|_| false);
            (self.control_wanted, self.link.admitting) = (false, false);
            return;
        }
        let deadline = deadline::of_one(self.shortest);
        let job = Job::Control(ids);
        let call = Call { lane: Lane::Free, job, ask: None, probation: false, allowed: deadline };
        if self.call(Kind::Control, Class::Free, call, now) {
            self.control_wanted = false;
        }
    }
}
