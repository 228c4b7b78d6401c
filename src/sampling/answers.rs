//! Taking the ends of calls: samples into the store, signs to the ward, places and workers back.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::core::{Core, Open, SECOND_LOOK};
use super::health::Sign;
use super::lanes::{Ask, BulkLane, Lane};
use super::overdue::asked;
use super::storage::Change;
use super::work::{Answer, Finished, Job};
use crate::model::{BulkReply, BulkRequest, DomainId, Group, GroupSet, InventoryReply, Scope, SourceError, Stamp};
use crate::store::{BlockInfoAnswer, Changes};

/// Answers about single disks are put into the store so many at a time: each time makes a snapshot.
const BATCH: usize = 100;

impl Core {
    /// Takes the end of a call.
    pub(super) fn finished(&mut self, finished: Finished) {
        let Some(open) = self.calls.remove(&finished.call) else { return };
        let now = self.store.stamp();
        self.pools.of(open.lane).returned(open.worker);
        if open.lane == Lane::Storage {
            if let Some(Change::Answers(mount)) = self.storage.answered(finished.call, now.at) {
                tracing::info!(%mount, "storage answers again");
                self.note_storage();
            }
            return;
        }
        let took = finished.ended.saturating_duration_since(finished.started.at);
        tracing::trace!(number = finished.call, ?took, overdue = open.overdue, "answered");
        self.count(&open, &finished, took.as_secs_f64());
        if let Err(error) = &finished.answer
            && matches!(error, SourceError::Disconnected { .. })
        {
            // libvirtd went away, most likely, and every other connection with it.
            self.epoch.fetch_add(1, Ordering::Release);
        }
        let hung = self.ward.returned(finished.call);
        if let Some(id) = hung {
            let sign = if finished.answer.is_ok() { Sign::Returned } else { Sign::Unasked };
            self.sign(id, sign, now);
        }
        let started = finished.started;
        match (&open.job, finished.answer) {
            (Job::Inventory(request), Ok(Answer::Inventory(reply))) => {
                self.leases_wanted |= request.full;
                self.inventory.usual.learn(took, 1);
                self.listed(started, reply);
            }
            (Job::Inventory(_), Err(error)) => self.not_listed(&error, open.overdue, now),
            (Job::Control(_), Ok(Answer::Control(controls))) => self.controlled(&open, &controls, now),
            (Job::Control(_), Err(error)) => {
                // Without the connection it is asked again a moment later; what libvirt refuses would be refused again.
                self.link.admitting &= error.is_disconnect();
                self.look_soon(now.at + SECOND_LOOK);
                self.failed(&open, &error, now);
            }
            (Job::Leases, Ok(Answer::Leases(leases))) => self.store.apply_leases(Ok(&leases)),
            // Some drivers have no networks, and nobody else needs to know.
            (Job::Leases, Err(error)) => {
                self.store.apply_leases(Err(&error.to_string()));
                self.failed(&open, &error, now);
            }
            (Job::BlockInfo(disks), Ok(Answer::BlockInfo(infos))) => {
                if !open.overdue {
                    self.block.usual.learn(took, disks.len());
                }
                let snapshot = self.store.snapshot();
                self.block_answers.extend(infos.into_iter().map(|(started, (id, target), info)| {
                    let run = snapshot.get(id).and_then(|domain| domain.run);
                    BlockInfoAnswer { started, id, run, target, info }
                }));
            }
            (_, Ok(Answer::Bulk(reply))) => {
                if !open.overdue
                    && let Some(ask) = &open.ask
                {
                    let domains = self.size(ask);
                    self.bulk_lane(open.lane).learn_usual(ask.groups, took, domains);
                }
                if open.ask.is_some() {
                    self.bulk_lane(open.lane).learn_sizes(&reply.sizes);
                }
                self.sampled(&open, started, reply, now);
            }
            (_, Err(error)) => self.failed(&open, &error, now),
            (_, Ok(_)) => {
                tracing::error!(call = open.job.call(), "an answer of another kind; this is a bug of virtstatd");
            }
        }
        self.ask_set_aside(&open.job.block_domains());
        if open.overdue {
            self.ask_held_back(&open);
        }
        if self.block_answers.len() >= BATCH {
            self.keep_block_answers();
        }
    }

    /// The call that these were left out of the monitor's calls for is over.
    pub(super) fn ask_set_aside(&mut self, ids: &[DomainId]) {
        let mut waiting: Vec<(GroupSet, Vec<DomainId>)> = Vec::new();
        for id in ids {
            let Some(groups) = self.aside.remove(id) else { continue };
            match waiting.iter_mut().find(|(others, _)| *others == groups) {
                Some((_, ids)) => ids.push(*id),
                None => waiting.push((groups, vec![*id])),
            }
        }
        waiting.into_iter().for_each(|(groups, ids)| self.monitor.also(groups, &ids));
    }

    pub(super) fn bulk_lane(&mut self, lane: Lane) -> &mut BulkLane {
        if lane == Lane::Free { &mut self.free } else { &mut self.monitor }
    }

    /// A call has returned after all: whoever was left out of the present turn because it might hold that call is asked in it.
    fn ask_held_back(&mut self, open: &Open) {
        let (groups, held_back) = &mut self.held_back;
        let (groups, mut ids) = (*groups, Self::asked_of(open).1);
        ids.retain(|id| held_back.remove(id));
        self.monitor.also(groups, &ids);
    }

    /// Puts answers about disks into the store.
    pub(super) fn keep_block_answers(&mut self) {
        if !self.block_answers.is_empty() {
            self.store.apply_block_infos(std::mem::take(&mut self.block_answers));
        }
    }

    fn count(&self, open: &Open, finished: &Finished, took: f64) {
        if open.lane == Lane::Free && open.ask.is_none() {
            // A question beside the lane's own calls, and of another cost.
            return;
        }
        let metrics = &self.store.metrics;
        let lane = open.lane.label();
        // A call that was written off has been counted as that.
        if !open.overdue {
            let result = if finished.answer.is_ok() { "ok" } else { "error" };
            metrics.lane_runs.with_label_values(&[lane, result]).inc();
        }
        metrics.lane_duration.with_label_values(&[lane]).observe(took);
    }

    /// Takes samples. Which of them are news is for the store to say, by the time at which they were asked for.
    fn sampled(&mut self, open: &Open, started: Stamp, reply: BulkReply, now: Stamp) {
        let request = match (&open.job, &open.ask) {
            (Job::Bulk(request), _) => request.clone(),
            // Who is not in these replies could not be read; that does not mean that it is gone.
            (job, _) => {
                let group = if matches!(job, Job::CpuStats(_)) { Group::Cpu } else { Group::Block };
                let scope = Scope::Only(reply.records.iter().map(|record| record.id).collect());
                BulkRequest { groups: GroupSet::of(group), scope }
            }
        };
        if open.probation
            && let Some(ask) = &open.ask
        {
            self.probed(ask, &reply, now);
        }
        if self.bulk_complaint.settle() {
            tracing::info!("bulk stats come again");
            self.store.set_bulk_problem(None);
        }
        if open.ask.is_some() {
            self.free.succeeded();
            self.monitor.succeeded();
        }
        if open.lane == Lane::Monitor && !open.probation && !open.overdue {
            let due = now.at + self.look_interval();
            if self.cut_short.note(request.groups, &reply, due) {
                self.look_soon(due);
            }
        }
        let Changes { domains, devices } = self.store.apply_bulk(started, &request, reply);
        if domains || !devices.is_empty() {
            self.inventory.request(devices);
        }
    }

    /// What a call of probation says of its domain. A record that NOWAIT cut short says nothing: somebody else was at it.
    fn probed(&mut self, ask: &Ask, reply: &BulkReply, now: Stamp) {
        for id in ask.ids().to_vec() {
            let record = reply.records.iter().find(|record| record.id == id);
            let whole = record.is_some_and(|it| !ask.groups.contains(Group::Block) || it.figures.block.is_some());
            self.sign(id, if whole { Sign::Answered } else { Sign::Unasked }, now);
        }
    }

    fn failed(&mut self, open: &Open, error: &SourceError, now: Stamp) {
        if open.probation
            && let Some(ask) = &open.ask
        {
            for id in ask.ids() {
                self.sign(*id, Sign::Unasked, now);
            }
        }
        if open.ask.is_none() && !error.is_disconnect() {
            // About one domain, or a few: those fail alone.
            tracing::debug!(%error, "not answered");
            return;
        }
        if !error.is_disconnect() && self.halved(open, error, now) {
            return;
        }
        let text = error.to_string();
        if self.bulk_complaint.is_news(&text, now.at) {
            tracing::warn!(%error, "no bulk stats");
        }
        self.store.set_bulk_problem(Some(&text));
        if !open.probation {
            self.steering.forget_turn();
        }
        if error.is_disconnect() {
            if open.ask.is_some() {
                self.link.bulk_lost |= self.bulk_lane(open.lane).lost();
            }
            self.inventory.request([]);
        }
    }

    /// A bulk call was refused, and the connection is good: what it did not bring is asked for in halves, so that one domain
    /// that makes every call fail costs no other its sample. Returns whether there is no more to say of it.
    fn halved(&mut self, open: &Open, error: &SourceError, now: Stamp) -> bool {
        let Some(ask) = open.ask.as_ref().filter(|_| !open.probation) else { return false };
        if open.overdue {
            // What it did not bring has been asked for already.
            return true;
        }
        let snapshot = self.store.snapshot();
        let ids = asked(&snapshot, ask);
        let for_size = matches!(error, SourceError::TooLarge { .. });
        if self.bulk_lane(open.lane).refused(ask, &ids, for_size) {
            self.show_shards();
            tracing::debug!(%error, domains = ids.len(), lane = open.lane.label(), "refused; asked again in halves");
            return true;
        }
        // Of a call for all that cannot be halved there is nobody who could be named.
        let (Scope::Only(_), [only]) = (&ask.scope, &ids[..]) else { return false };
        let only = *only;
        self.skip(open.lane, "refused", 1);
        let domain = snapshot.get(only).map(|domain| Arc::clone(&domain.name)).unwrap_or_default();
        if self.refused_complaints.entry(only).or_default().is_news(&error.to_string(), now.at) {
            tracing::warn!(%domain, uuid = %only, %error, "no stats of one domain");
        }
        true
    }

    fn listed(&mut self, started: Stamp, reply: InventoryReply) {
        let now = self.store.stamp();
        self.link.tried = true;
        let (domains, peer) = (reply.domains.len(), reply.peer);
        self.inventory.succeeded(now.at);
        self.store.apply_inventory(started, reply);
        self.keep_disks();
        for orphan in self.budget.orphans() {
            // Another process than the one that had the call.
            if orphan.peer.is_some() && peer.is_some() && orphan.peer != peer {
                self.budget.bury(&orphan);
            } else {
                self.control_wanted = true;
            }
        }
        if !self.link.up {
            tracing::info!(domains, "connected to libvirt");
            if self.link.was_up {
                self.store.metrics.reconnects.inc();
            }
            (self.link.up, self.link.was_up, self.link.since) = (true, true, Some(now.at));
            // Some may hang already; asking all of them would only find out by getting stuck.
            (self.link.admitting, self.control_wanted) = (true, true);
            (self.link.admitted, self.link.known_stuck) = (HashSet::new(), self.budget.stuck());
            self.free.restart(now.at);
            self.monitor.restart(now.at);
            self.block.restart(now.at);
            self.link.bulk_lost = false;
        } else if std::mem::take(&mut self.link.bulk_lost) {
            self.free.restart(now.at);
            self.monitor.restart(now.at);
        }
        self.link.peer = peer;
        self.inventory_complaint.settle();
    }

    /// Disks that are gone must not keep block info old for ever.
    fn keep_disks(&mut self) {
        let snapshot = self.store.snapshot();
        self.disks.refresh(&snapshot);
        for id in self.disks.ids().collect::<Vec<DomainId>>() {
            if let Some(targets) = self.disks.targets(id) {
                self.store.keep_block_info(id, &targets);
            }
        }
    }

    fn not_listed(&mut self, error: &SourceError, overdue: bool, now: Stamp) {
        self.link.tried = true;
        if matches!(error, SourceError::Call { .. }) && overdue {
            return;
        }
        let was_connected = !matches!(error, SourceError::Connect { .. });
        let jitter = self.ward.jitter();
        self.inventory.failed(was_connected, now.at, jitter);
        let text = error.to_string();
        if self.inventory_complaint.is_news(&text, now.at) {
            tracing::warn!(%error, "libvirt does not answer; trying again");
        }
        self.link.up = false;
        for (lane, count) in [
            (Lane::Free, self.free.clear()),
            (Lane::Monitor, self.monitor.clear()),
            (Lane::BlockInfo, self.block.clear()),
        ] {
            self.skip(lane, "disconnected", count);
        }
        (self.link.admitting, self.control_wanted) = (false, false);
        (self.free_turn, self.monitor_turn) = (GroupSet::EMPTY, GroupSet::EMPTY);
        self.steering.forget_turn();
        self.cpu_wanted.clear();
        self.state_wanted.clear();
        self.aside.clear();
        self.cut_short.begin();
        self.held_back.1.clear();
        self.counters.clear();
        self.store.link_lost(&text);
    }
}
