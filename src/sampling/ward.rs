//! The domains that are not plainly healthy, and what is shown of them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::health::{Patient, Sign};
use super::work::CallId;
use crate::model::{DomainHealth, DomainId, Stamp, Standing};
use crate::store::Snapshot;

/// Patients, calls that hang on domains, and storage that does not answer.
pub(super) struct Ward {
    patients: HashMap<DomainId, Patient>,
    /// The written-off call that hangs on a domain, as it was found out.
    blocked: HashMap<CallId, (DomainId, &'static str)>,
    /// Domains with disks on storage that does not answer.
    storage: HashMap<DomainId, Arc<str>>,
    /// Who is shown otherwise than well.
    shown: HashSet<DomainId>,
    random: u64,
}

/// A change of standing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Moved {
    pub(super) from: Standing,
    pub(super) to: Standing,
}

impl Ward {
    /// `snapshot` may show patients of the engine before this one.
    pub(super) fn new(seed: u64, snapshot: &Snapshot) -> Self {
        let ill = snapshot.domains.iter().filter(|domain| domain.health != DomainHealth::default());
        Self {
            patients: HashMap::new(),
            blocked: HashMap::new(),
            storage: HashMap::new(),
            shown: ill.map(|domain| domain.id).collect(),
            random: seed,
        }
    }

    /// From 0 to 1, another one each time (SplitMix64): only to keep what began together from ending together.
    pub(super) fn jitter(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        f64::from(u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap_or(0)) / f64::from(u32::MAX)
    }

    /// Takes a sign of a domain, and says whether its standing changed.
    pub(super) fn sign(&mut self, id: DomainId, sign: Sign, now: Stamp) -> Option<Moved> {
        let jitter = self.jitter();
        let patient = self.patients.entry(id).or_insert_with(|| Patient::new(now));
        let from = patient.standing();
        patient.take(sign, now, jitter);
        let to = patient.standing();
        if patient.is_well() {
            self.patients.remove(&id);
        }
        (from != to).then_some(Moved { from, to })
    }

    /// Ends pauses that are over.
    pub(super) fn tick(&mut self, now: Stamp) {
        let over = |patient: &Patient| patient.until().is_some_and(|until| until <= now.at);
        let due: Vec<DomainId> = self.patients.iter().filter(|(_, it)| over(it)).map(|(id, _)| *id).collect();
        for id in due {
            let jitter = self.jitter();
            if let Some(patient) = self.patients.get_mut(&id) {
                patient.tick(now, jitter);
            }
        }
    }

    pub(super) fn get(&self, id: DomainId) -> Option<&Patient> {
        self.patients.get(&id)
    }

    /// May its monitor be asked with others'?
    pub(super) fn is_healthy(&self, id: DomainId) -> bool {
        self.get(id).is_none_or(Patient::is_well)
    }

    /// Is there nothing to show of anybody, and nothing to take back?
    pub(super) fn is_empty(&self) -> bool {
        self.patients.is_empty() && self.blocked.is_empty() && self.storage.is_empty() && self.shown.is_empty()
    }

    pub(super) fn ids(&self) -> Vec<DomainId> {
        self.patients.keys().copied().collect()
    }

    pub(super) fn any(&self, test: impl Fn(&Patient) -> bool) -> bool {
        self.patients.values().any(test)
    }

    pub(super) fn filter(&self, test: impl Fn(&Patient) -> bool) -> Vec<DomainId> {
        let mut ids: Vec<DomainId> = self.patients.iter().filter(|(_, it)| test(it)).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }

    pub(super) fn quarantined(&self) -> usize {
        self.patients.values().filter(|patient| patient.standing() != Standing::Healthy).count()
    }

    /// A written-off call was found to hang on this domain.
    pub(super) fn hangs(&mut self, call: CallId, id: DomainId, name: &'static str) {
        self.blocked.insert(call, (id, name));
    }

    /// It returned; says on which domain it had hung.
    pub(super) fn returned(&mut self, call: CallId) -> Option<DomainId> {
        self.blocked.remove(&call).map(|(id, _)| id)
    }

    /// Its monitor is free: whatever hangs, hangs on another domain.
    pub(super) fn acquit(&mut self, id: DomainId) {
        self.blocked.retain(|_, (blocked, _)| *blocked != id);
    }

    /// Was this call found out already?
    pub(super) fn is_judged(&self, call: CallId) -> bool {
        self.blocked.contains_key(&call)
    }

    /// Does a written-off call hang on this domain?
    pub(super) fn is_blocked(&self, id: DomainId) -> bool {
        self.blocked.values().any(|(blocked, _)| *blocked == id)
    }

    /// Which domains have disks on storage that does not answer.
    pub(super) fn set_storage(&mut self, blocked: HashMap<DomainId, Arc<str>>) {
        self.storage = blocked;
    }

    /// Forgets domains that do not run any more.
    pub(super) fn keep_only(&mut self, running: &HashSet<DomainId>) {
        self.patients.retain(|id, _| running.contains(id));
    }

    /// What is to be shown otherwise than it is. Domains that begin a run, and those about whom nothing was shown, are well.
    pub(super) fn changes(&mut self, snapshot: &Snapshot) -> Vec<(DomainId, DomainHealth)> {
        let mut health: HashMap<DomainId, DomainHealth> = HashMap::new();
        for (id, patient) in &self.patients {
            let it = health.entry(*id).or_default();
            (it.standing, it.unresponsive_since) = (patient.standing(), patient.since());
        }
        for (id, call) in self.blocked.values() {
            health.entry(*id).or_default().blocked_call = Some(call);
        }
        for (id, mount) in &self.storage {
            health.entry(*id).or_default().blocked_storage = Some(Arc::clone(mount));
        }
        for id in std::mem::take(&mut self.shown) {
            health.entry(id).or_default();
        }
        let running = |id: &DomainId| snapshot.get(*id).filter(|domain| domain.run.is_some());
        health.retain(|id, _| running(id).is_some());
        self.shown = health.iter().filter(|(_, it)| **it != DomainHealth::default()).map(|(id, _)| *id).collect();
        let changed = |id: &DomainId, wanted: &DomainHealth| running(id).is_some_and(|domain| domain.health != *wanted);
        health.into_iter().filter(|(id, wanted)| changed(id, wanted)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Instant, SystemTime};

    use super::*;
    use crate::clock::ManualClock;
    use crate::model::ProcessState;
    use crate::store::Store;

    fn id(number: u8) -> DomainId {
        DomainId::from_bytes([number; 16])
    }

    fn now() -> Stamp {
        Stamp { at: Instant::now(), wall: SystemTime::UNIX_EPOCH }
    }

    fn ward(seed: u64) -> Ward {
        Ward::new(seed, &Store::new(Arc::new(ManualClock::new())).snapshot())
    }

    #[test]
    fn a_process_seen_stopped_once_is_not_shown_and_not_asked() {
        let mut ward = ward(1);
        let stopped = Sign::Process(Some(ProcessState::Stopped));
        assert_eq!(ward.sign(id(1), stopped, now()), None);
        assert!(!ward.is_healthy(id(1)) && ward.quarantined() == 0);
        ward.sign(id(1), Sign::Process(Some(ProcessState::Runs)), now());
        assert!(ward.is_healthy(id(1)) && ward.ids().is_empty(), "nothing is remembered of the well");
    }

    #[test]
    fn jitter_differs_and_stays_in_its_bounds() {
        let mut ward = ward(5);
        let values: Vec<f64> = (0..1000).map(|_| ward.jitter()).collect();
        assert!(values.iter().all(|value| (0.0..=1.0).contains(value)));
        let mean = values.iter().sum::<f64>() / 1000.0;
        assert!((0.45..0.55).contains(&mean), "{mean}");
    }
}
