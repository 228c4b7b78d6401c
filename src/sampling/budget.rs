//! The place-keeper: how many calls are open at libvirtd, stuck ones included, over all lanes.
//!
//! libvirtd stops reading a connection with five open calls, and has five ordinary workers at rest: a sampler that starts
//! one more call for each hung guest takes the host's management down with it. Shared by an engine and the one that takes
//! its place, since calls outlive both.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{DomainId, Peer};
use crate::sync::Mutex;

/// What a place is for, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Free,
    Monitor,
    Probation,
    BlockInfo,
    Inventory,
    Control,
    Orphaned,
}

impl Kind {
    pub(super) const ALL: [Self; 7] =
        [Self::Free, Self::Monitor, Self::Probation, Self::BlockInfo, Self::Inventory, Self::Control, Self::Orphaned];

    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Monitor => "monitor",
            Self::Probation => "probation",
            Self::BlockInfo => "block_info",
            Self::Inventory => "inventory",
            Self::Control => "control",
            Self::Orphaned => "orphaned",
        }
    }
}

/// How much a call may take for granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Enters no monitor, so it cannot get stuck: one place is kept for these.
    Free,
    /// Asks domains that are believed healthy: another place is kept for these, and taken only when all others are stuck.
    Healthy,
    /// Whatever else may get stuck.
    Doubtful,
}

/// Hands out places. Clones share them.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    limit: usize,
    next: u64,
    places: BTreeMap<u64, Entry>,
}

#[derive(Debug)]
struct Entry {
    kind: Kind,
    class: Class,
    written_off: bool,
    orphan: Option<Orphan>,
}

/// What is known of a call whose connection died before it returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Orphan {
    pub(super) place: u64,
    /// One of these holds it, if anything does.
    pub(super) ids: Vec<DomainId>,
    /// The libvirtd that may still be at it.
    pub(super) peer: Option<Peer>,
}

/// One call's place; given back when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    budget: Budget,
    number: u64,
}

impl Budget {
    /// For that many calls at once, at least one.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Mutex::new(State { limit: limit.max(1), next: 0, places: BTreeMap::new() })))
    }

    /// Allows more or fewer from now on; calls that are open stay.
    pub fn set_limit(&self, limit: usize) {
        self.0.lock().limit = limit.max(1);
    }

    /// Is there a place for this class?
    pub(super) fn admits(&self, class: Class) -> bool {
        self.0.lock().admits(class)
    }

    /// A place, if there is one for this class.
    pub(super) fn take(&self, kind: Kind, class: Class) -> Option<Place> {
        let mut state = self.0.lock();
        if !state.admits(class) {
            return None;
        }
        state.next += 1;
        let number = state.next;
        state.places.insert(number, Entry { kind, class, written_off: false, orphan: None });
        drop(state);
        Some(Place { budget: self.clone(), number })
    }

    /// This call overran: whoever waits for it may count it as stuck.
    pub(super) fn write_off(&self, number: u64) {
        if let Some(entry) = self.0.lock().places.get_mut(&number) {
            entry.written_off = true;
        }
    }

    /// Whoever waited for the calls that are open has gone: they may be stuck.
    pub(super) fn write_off_all(&self) {
        self.0.lock().places.values_mut().for_each(|entry| entry.written_off = true);
    }

    /// How many written-off calls there are that may hang on a domain.
    pub(super) fn stuck(&self) -> usize {
        self.0.lock().places.values().filter(|entry| entry.class != Class::Free && entry.written_off).count()
    }

    /// How many calls of each kind are open.
    pub(super) fn open(&self) -> [(Kind, usize); Kind::ALL.len()] {
        let state = self.0.lock();
        Kind::ALL.map(|kind| (kind, state.places.values().filter(|entry| entry.kind == kind).count()))
    }

    /// Calls whose connection died, and which libvirtd may still be at.
    pub(super) fn orphans(&self) -> Vec<Orphan> {
        self.0.lock().places.values().filter_map(|entry| entry.orphan.clone()).collect()
    }

    /// The orphan's call has ended, or libvirtd has.
    pub(super) fn bury(&self, orphan: &Orphan) {
        self.0.lock().places.remove(&orphan.place);
    }

    fn release(&self, number: u64) {
        let mut state = self.0.lock();
        if state.places.get(&number).is_some_and(|entry| entry.orphan.is_none()) {
            state.places.remove(&number);
        }
    }
}

impl State {
    fn admits(&self, class: Class) -> bool {
        let may_block = || self.places.values().filter(|entry| entry.class != Class::Free);
        let (open, stuck) = (may_block().count(), may_block().all(|entry| entry.written_off));
        // A budget too small for kept places has one place for everybody.
        let general = self.limit.saturating_sub(2).max(1);
        let guarded = self.limit.saturating_sub(1).max(1);
        self.places.len() < self.limit
            && match class {
                Class::Free => true,
                Class::Healthy => open < general || (open < guarded && stuck),
                Class::Doubtful => open < general,
            }
    }
}

impl Place {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The connection died before the call returned: the place stays taken until libvirtd is known to be done with it.
    pub(super) fn orphan(self, ids: Vec<DomainId>, peer: Option<Peer>) {
        if let Some(entry) = self.budget.0.lock().places.get_mut(&self.number) {
            entry.orphan = Some(Orphan { place: self.number, ids, peer });
            (entry.kind, entry.written_off) = (Kind::Orphaned, true);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.budget.release(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(budget: &Budget, class: Class) -> Vec<Place> {
        std::iter::from_fn(|| budget.take(Kind::Monitor, class)).collect()
    }

    #[test]
    fn one_place_is_kept_for_calls_that_cannot_block_and_one_for_the_healthy() {
        let budget = Budget::new(4);
        let doubtful = full(&budget, Class::Doubtful);
        assert_eq!(doubtful.len(), 2);
        assert!(budget.take(Kind::Monitor, Class::Healthy).is_none(), "the others are not stuck: it can wait for them");
        doubtful.iter().for_each(|place| budget.write_off(place.number()));
        assert!(budget.take(Kind::Probation, Class::Doubtful).is_none());
        let healthy = full(&budget, Class::Healthy);
        assert_eq!(healthy.len(), 1);
        let free = full(&budget, Class::Free);
        assert_eq!(free.len(), 1);
        assert!(budget.take(Kind::Control, Class::Free).is_none(), "four are the end");
        drop(free);
        assert!(budget.take(Kind::Control, Class::Free).is_some());
    }

    #[test]
    fn a_small_budget_has_one_place_for_everybody() {
        for limit in [1, 2, 3] {
            let budget = Budget::new(limit);
            assert_eq!(full(&budget, Class::Doubtful).len(), 1, "{limit}");
            assert_eq!(full(&budget, Class::Free).len(), limit, "{limit}: places came back");
        }
    }

    #[test]
    fn an_orphan_keeps_its_place_until_it_is_buried() {
        let budget = Budget::new(4);
        let peer = Some(Peer { pid: 1, start_ticks: 2 });
        let ids = vec![DomainId::from_bytes([1; 16])];
        budget.take(Kind::Monitor, Class::Healthy).expect("a place").orphan(ids.clone(), peer);
        let orphans = budget.orphans();
        assert_eq!((orphans.len(), &orphans[0].ids, orphans[0].peer), (1, &ids, peer));
        assert_eq!(budget.open().iter().map(|(_, open)| open).sum::<usize>(), 1);
        budget.bury(&orphans[0]);
        assert_eq!(budget.open().iter().map(|(_, open)| open).sum::<usize>(), 0);
    }

    #[test]
    fn a_smaller_limit_holds_for_new_calls() {
        let budget = Budget::new(4);
        let mut open = full(&budget, Class::Free);
        budget.set_limit(2);
        open.truncate(2);
        assert!(budget.take(Kind::Free, Class::Free).is_none());
        open.truncate(1);
        assert!(budget.take(Kind::Free, Class::Free).is_some());
    }
}
