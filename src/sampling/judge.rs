//! On whom a call hangs: whose monitor libvirt says is occupied, and what follows from it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::budget::{Class, Kind};
use super::core::{Core, Open};
use super::health::{Patient, Sign};
use super::overdue::running;
use super::work::{CallId, Job};
use crate::model::{Control, ControlState, DomainId, Group, ProcessState, Stamp};
use crate::store::Snapshot;

/// So many domains are looked at by one call when libvirt came up: on a host with very many, nobody waits for all of them.
const ADMITTED_AT_ONCE: usize = 500;
/// A monitor that has been occupied for less than this is busy with a command of somebody's.
const OCCUPIED: Duration = Duration::from_millis(300);

impl Core {
    /// Whose controlInfo is wanted: of everybody at our start, else of those who may hold an overdue call, of patients whose
    /// process runs again, and of those that a lost connection may have left a call with.
    pub(super) fn wanted_controls(&self, now: Instant) -> Vec<DomainId> {
        let snapshot = self.store.snapshot();
        if self.link.admitting {
            return running(&snapshot).filter(|id| !self.link.admitted.contains(id)).take(ADMITTED_AT_ONCE).collect();
        }
        let unjudged = self.calls.iter().filter(|(call, open)| self.is_unjudged(**call, open));
        let mut ids: HashSet<DomainId> = unjudged.flat_map(|(_, open)| self.suspects(&snapshot, open, now)).collect();
        ids.extend(self.ward.filter(Patient::wants_control));
        ids.extend(self.budget.orphans().into_iter().flat_map(|orphan| orphan.ids));
        let mut ids: Vec<DomainId> = ids.into_iter().filter(|id| snapshot.get(*id).is_some()).collect();
        ids.sort_unstable();
        ids
    }

    /// Takes what libvirt says of monitors.
    pub(super) fn controlled(&mut self, open: &Open, controls: &[(DomainId, Control)], now: Stamp) {
        let Job::Control(asked) = &open.job else { return };
        let known: HashMap<DomainId, Control> = controls.iter().copied().collect();
        let occupied = |control: &Control| {
            matches!(control.state, ControlState::Occupied | ControlState::Error) && control.since >= OCCUPIED
        };
        if self.link.admitting {
            self.link.admitted.extend(asked);
            // Perhaps there are more; the next look finds none left.
            self.control_wanted = true;
            for (id, control) in controls.iter().filter(|(_, control)| occupied(control)) {
                tracing::debug!(uuid = %id, ?control, "occupied at the start");
                self.sign(*id, Sign::Occupied, now);
                // Most likely a call of ours from before, which libvirtd is still at.
                // Calls that are known to be stuck hang on some of them.
                if self.link.known_stuck > 0 {
                    self.link.known_stuck -= 1;
                } else if let Some(place) = self.budget.take(Kind::Orphaned, Class::Healthy) {
                    place.orphan(vec![*id], self.link.peer);
                }
            }
        }
        for (id, control) in controls {
            if control.state == ControlState::Ok {
                self.ward.acquit(*id);
            }
            self.sign_known(*id, Sign::Control(control.state), now);
        }
        let is_free = |id: &DomainId| {
            let state = known.get(id).map(|control| control.state);
            // Who was asked about and is not in the answer is gone, and its calls with it.
            asked.contains(id) && matches!(state, None | Some(ControlState::Ok))
        };
        self.bury_orphans(is_free);
        self.judge(&self.store.snapshot(), &known, now);
    }

    /// Gives back the places of calls whose domains are all free, or run no more.
    pub(super) fn bury_orphans(&self, is_free: impl Fn(&DomainId) -> bool) {
        let snapshot = self.store.snapshot();
        let is_gone = |id: &DomainId| snapshot.get(*id).is_none_or(|domain| domain.run.is_none());
        for orphan in self.budget.orphans() {
            if orphan.ids.iter().all(|id| is_free(id) || is_gone(id)) {
                self.budget.bury(&orphan);
            }
        }
    }

    /// A sign that says something only of those who are patients already.
    fn sign_known(&mut self, id: DomainId, sign: Sign, now: Stamp) {
        if self.ward.get(id).is_some() {
            self.sign(id, sign, now);
        }
    }

    /// Finds out which domain holds each overdue call: the one whose monitor has been occupied for longest. Nobody is blamed
    /// who merely started or stopped: libvirt waits for the lock of such a domain too.
    pub(super) fn judge(&mut self, snapshot: &Snapshot, controls: &HashMap<DomainId, Control>, now: Stamp) {
        let mut unjudged: Vec<CallId> =
            self.calls.iter().filter(|(call, open)| self.is_unjudged(**call, open)).map(|(call, _)| *call).collect();
        unjudged.sort_unstable();
        for call in unjudged {
            let Some(open) = self.calls.get(&call) else { continue };
            let (name, on_storage) = (open.job.call(), !matches!(open.job, Job::BlockCounters(..)));
            let (groups, _) = Self::asked_of(open);
            let looks_at_disks = on_storage && (groups.contains(Group::Block) || groups.contains(Group::BlockInfo));
            let suspects = self.suspects(snapshot, open, now.at);
            // libvirt is ending one of them, and the call may well wait for its lock.
            if suspects.iter().any(|id| self.is_ending(snapshot, *id)) {
                continue;
            }
            let Some(id) = self.culprit(&suspects, controls) else { continue };
            if !self.is_stopped(id) && looks_at_disks {
                if !self.storage.is_settled(now.at) {
                    continue;
                }
                if let Some(mount) = self.disks.mount_where(id, |mount| self.storage.is_blocked(mount)) {
                    let domain = snapshot.get(id).map(|domain| Arc::clone(&domain.name)).unwrap_or_default();
                    tracing::warn!(%domain, uuid = %id, call = name, %mount, "a call hangs with its storage");
                    self.ward.hangs(call, id, name);
                    continue;
                }
            }
            self.ward.hangs(call, id, name);
            self.sign(id, Sign::Hangs, now);
        }
    }

    fn culprit(&self, suspects: &[DomainId], controls: &HashMap<DomainId, Control>) -> Option<DomainId> {
        if let [only] = suspects
            && self.is_stopped(*only)
        {
            return Some(*only);
        }
        let occupied = suspects.iter().filter_map(|id| Some((*id, controls.get(id)?)));
        // A job of the background is shown as such only beside one of the foreground, which may be ours.
        let at_work = |state| matches!(state, ControlState::Occupied | ControlState::Job);
        let occupied = occupied.filter(|(_, control)| at_work(control.state) && control.since >= OCCUPIED);
        let longest = occupied.max_by_key(|(_, control)| control.since).map(|(id, _)| id);
        let held = |id: &&DomainId| controls.get(id).is_some_and(|control| control.state == ControlState::Error);
        let mut errors = suspects.iter().filter(held);
        // Held, and not in the monitor: libvirtd itself is at something of this domain's, such as a file.
        longest.or_else(|| errors.next().copied().filter(|_| errors.next().is_none()))
    }

    fn is_ending(&mut self, snapshot: &Snapshot, id: DomainId) -> bool {
        let Some((domain, run)) = snapshot.get(id).and_then(|domain| Some((domain, domain.run?))) else { return true };
        let process = self.processes.look(id, &domain.name, run);
        process.is_some_and(|process| process.state == ProcessState::Ended)
    }

    fn is_stopped(&self, id: DomainId) -> bool {
        self.ward.get(id).is_some_and(Patient::is_stopped)
    }
}
