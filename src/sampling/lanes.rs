//! The lanes: what is due and what is under way. Pure state; the engine acts on what they say.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use super::schedule::Schedule;
use crate::model::{DomainId, Group, GroupSet, InventoryRequest};

/// Bulk stats: groups with their own periods; those due together share a call; none is asked for twice at once.
pub(super) struct BulkLane {
    schedule: Schedule<Group>,
    under_way: GroupSet,
    failed_before: bool,
}

/// A turn of the bulk lane: what to ask for, and what is skipped because its last call has not returned.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BulkTurn {
    pub(super) ask: GroupSet,
    pub(super) busy: GroupSet,
}

impl BulkLane {
    pub(super) const LABEL: &'static str = "bulk";

    pub(super) fn new(periods: impl IntoIterator<Item = (Group, Duration)>, now: Instant) -> Self {
        Self { schedule: Schedule::new(periods, now), under_way: GroupSet::EMPTY, failed_before: false }
    }

    pub(super) fn turn(&mut self, now: Instant) -> BulkTurn {
        let due: GroupSet = self.schedule.due(now).into_iter().collect();
        BulkTurn { ask: due.without(self.under_way), busy: due.intersection(self.under_way) }
    }

    pub(super) fn started(&mut self, groups: GroupSet) {
        self.under_way = self.under_way.union(groups);
    }

    pub(super) fn ended(&mut self, groups: GroupSet) {
        self.under_way = self.under_way.without(groups);
    }

    pub(super) fn succeeded(&mut self) {
        self.failed_before = false;
    }

    /// A call lost its connection. Once, it is worth asking again as soon as the inventory has found libvirt alive; after
    /// that, only at the next tick, or a call that kills every connection would be repeated without end.
    pub(super) fn lost(&mut self) -> bool {
        !std::mem::replace(&mut self.failed_before, true)
    }

    pub(super) fn restart(&mut self, now: Instant) {
        self.schedule.restart(now);
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.schedule.next()
    }
}

/// The first pause after a failure to connect; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// libvirtd that comes back is found within this time.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// The list of domains and their XML: every period in full, at once for what changed, and with growing pauses while libvirt
/// is away. One call at a time.
pub(super) struct InventoryLane {
    schedule: Schedule<()>,
    under_way: bool,
    wanted: bool,
    full: bool,
    refresh: HashSet<DomainId>,
    retry: Option<Instant>,
    pause: Duration,
}

impl InventoryLane {
    pub(super) const LABEL: &'static str = "inventory";

    pub(super) fn new(period: Duration, now: Instant) -> Self {
        Self {
            schedule: Schedule::new([((), period)], now),
            under_way: false,
            wanted: false,
            full: false,
            refresh: HashSet::new(),
            retry: None,
            pause: FIRST_PAUSE,
        }
    }

    /// Asks for a turn as soon as possible, with the XML of these.
    pub(super) fn request(&mut self, refresh: impl IntoIterator<Item = DomainId>) {
        self.wanted = true;
        self.refresh.extend(refresh);
    }

    /// Whether to start a call now. `known` is asked only if so.
    pub(super) fn turn(&mut self, now: Instant, known: impl FnOnce() -> InventoryRequest) -> Option<InventoryRequest> {
        if !self.schedule.due(now).is_empty() {
            (self.wanted, self.full) = (true, true);
        }
        if self.under_way || !self.wanted || self.retry.is_some_and(|at| at > now) {
            return None;
        }
        (self.under_way, self.wanted) = (true, false);
        let request = InventoryRequest { full: self.full, refresh: std::mem::take(&mut self.refresh), ..known() };
        self.full = false;
        Some(request)
    }

    pub(super) fn succeeded(&mut self) {
        self.under_way = false;
        self.retry = None;
        self.pause = FIRST_PAUSE;
    }

    /// Failed: everything is read again later, at once if the connection merely turned out to be dead.
    pub(super) fn failed(&mut self, was_connected: bool, now: Instant) {
        self.under_way = false;
        (self.wanted, self.full) = (true, true);
        if was_connected && self.retry.is_none() {
            self.retry = Some(now);
        } else {
            self.retry = Some(now + self.pause);
            self.pause = (self.pause * 2).min(LONGEST_PAUSE);
        }
    }

    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        if self.under_way {
            // Its end wakes the engine; a tick meanwhile must only be noted.
            return self.schedule.next();
        }
        match (self.wanted, self.retry) {
            (true, retry) => Some(retry.unwrap_or(now)),
            (false, _) => self.schedule.next(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn set(groups: &[Group]) -> GroupSet {
        groups.iter().copied().collect()
    }

    #[test]
    fn groups_due_together_share_a_turn_and_none_is_asked_twice_at_once() {
        let start = Instant::now();
        let mut lane = BulkLane::new([(Group::State, 5 * SECOND), (Group::Block, 10 * SECOND)], start);
        let both = set(&[Group::State, Group::Block]);
        assert_eq!(lane.turn(start), BulkTurn { ask: both, busy: GroupSet::EMPTY });
        lane.started(both);
        let state = set(&[Group::State]);
        assert_eq!(lane.turn(start + 5 * SECOND), BulkTurn { ask: GroupSet::EMPTY, busy: state });
        lane.ended(both);
        lane.started(set(&[Group::Block]));
        let turn = lane.turn(start + 10 * SECOND);
        assert_eq!(turn, BulkTurn { ask: state, busy: set(&[Group::Block]) }, "one slow group holds up itself alone");
    }

    #[test]
    fn a_lost_call_is_repeated_once() {
        let mut lane = BulkLane::new([], Instant::now());
        assert!(lane.lost());
        assert!(!lane.lost());
        lane.succeeded();
        assert!(lane.lost());
    }

    #[test]
    fn the_inventory_is_read_in_full_by_period_and_in_part_on_request() {
        let start = Instant::now();
        let mut lane = InventoryLane::new(60 * SECOND, start);
        let first = lane.turn(start, InventoryRequest::default).expect("due at the start");
        assert!(first.full);
        lane.succeeded();
        assert!(lane.turn(start + SECOND, InventoryRequest::default).is_none());
        let id = DomainId::from_bytes([1; 16]);
        lane.request([id]);
        let part = lane.turn(start + SECOND, InventoryRequest::default).expect("asked for");
        assert!(!part.full && part.refresh.contains(&id));
        lane.request([]);
        assert!(lane.turn(start + SECOND, InventoryRequest::default).is_none(), "one call at a time");
        lane.succeeded();
        let again = lane.turn(start + SECOND, InventoryRequest::default).expect("asked for meanwhile");
        assert!(!again.full && again.refresh.is_empty());
        lane.succeeded();
        assert_eq!(lane.next(start + SECOND), Some(start + 60 * SECOND));
        assert!(lane.turn(start + 60 * SECOND, InventoryRequest::default).expect("due").full);
    }

    #[test]
    fn pauses_grow_while_libvirt_is_away_and_a_dead_connection_is_replaced_at_once() {
        let start = Instant::now();
        let mut lane = InventoryLane::new(60 * SECOND, start);
        lane.turn(start, InventoryRequest::default).expect("due at the start");
        let mut now = start;
        lane.failed(true, now);
        assert_eq!(lane.next(now), Some(now), "the connection was dead: open another at once");
        let mut pauses = Vec::new();
        for _ in 0..6 {
            assert!(lane.turn(now, InventoryRequest::default).expect("retry").full);
            lane.failed(false, now);
            let next = lane.next(now).expect("a retry");
            assert!(lane.turn(next - SECOND / 2, InventoryRequest::default).is_none());
            pauses.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 15, 15]);
        lane.turn(now, InventoryRequest::default).expect("retry");
        lane.succeeded();
        assert!(lane.next(now) > Some(now));
    }
}
