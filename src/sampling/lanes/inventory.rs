//! The list of domains and their XML: every period in full, at once for what changed, and with growing pauses while libvirt
//! is away. One call at a time.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::model::{DomainId, InventoryRequest};
use crate::sampling::deadline::Usual;
use crate::sampling::schedule::Schedule;

/// The first pause after a failure to connect; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// libvirtd that comes back is found within this time, or within the shortest period if that is less.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// Domains come and go in storms; the list is read again for all that came in this time at once.
const BETWEEN: Duration = Duration::from_millis(250);
/// A manager that steers by limits of CPUs and disks sets them on all guests every few seconds, one after the other, and a turn
/// lists all domains however few it reads the XML of. So limits alone ask for one turn in this time at most.
const BETWEEN_LIMITS: Duration = Duration::from_secs(5);

/// The list of domains and their XML: every period in full, at once for what changed, and with growing pauses while libvirt
/// is away. One call at a time.
pub(in crate::sampling) struct InventoryLane {
    schedule: Schedule<()>,
    period: Duration,
    pub(in crate::sampling) usual: Usual,
    under_way: bool,
    wanted: bool,
    full: bool,
    refresh: HashSet<DomainId>,
    /// Were limits set that no turn has read yet?
    limits: bool,
    /// Not before this because of limits.
    next_limits: Instant,
    /// Not before this, whatever is wanted.
    retry: Option<Instant>,
    failing: bool,
    pause: Duration,
    longest_pause: Duration,
}

impl InventoryLane {
    /// `shortest` is the shortest period of any lane: an attempt to connect is made at least as often.
    pub(in crate::sampling) fn new(period: Duration, shortest: Duration, now: Instant) -> Self {
        Self {
            schedule: Schedule::new([((), period)], now),
            period,
            usual: Usual::default(),
            under_way: false,
            wanted: false,
            full: false,
            refresh: HashSet::new(),
            limits: false,
            next_limits: now,
            retry: None,
            failing: false,
            pause: FIRST_PAUSE.min(shortest),
            longest_pause: LONGEST_PAUSE.min(shortest),
        }
    }

    /// Another lane's period changed, and `shortest` with it.
    pub(in crate::sampling) fn set_shortest(&mut self, shortest: Duration) {
        self.longest_pause = LONGEST_PAUSE.min(shortest);
        self.pause = self.pause.min(self.longest_pause);
    }

    pub(in crate::sampling) fn period(&self) -> Duration {
        self.period
    }

    /// Asks for a turn as soon as possible, with the XML of these.
    pub(in crate::sampling) fn request(&mut self, refresh: impl IntoIterator<Item = DomainId>) {
        self.wanted = true;
        self.refresh.extend(refresh);
    }

    /// Asks for the XML of this one, of which a limit was set: with the next turn, which may come a while later for that.
    pub(in crate::sampling) fn request_for_limits(&mut self, id: DomainId) {
        self.limits = true;
        self.refresh.insert(id);
    }

    /// Whether to start a call now. `known` is asked only if so.
    pub(in crate::sampling) fn turn(
        &mut self,
        now: Instant,
        known: impl FnOnce() -> InventoryRequest,
    ) -> Option<InventoryRequest> {
        if !self.schedule.due(now).is_empty() {
            (self.wanted, self.full) = (true, true);
        }
        self.wanted |= self.limits && self.next_limits <= now;
        if self.under_way || !self.wanted || self.retry.is_some_and(|at| at > now) {
            return None;
        }
        (self.under_way, self.wanted) = (true, false);
        if std::mem::take(&mut self.limits) {
            self.next_limits = now + BETWEEN_LIMITS;
        }
        let request = InventoryRequest { full: self.full, refresh: std::mem::take(&mut self.refresh), ..known() };
        self.full = false;
        Some(request)
    }

    pub(in crate::sampling) fn succeeded(&mut self, now: Instant) {
        self.under_way = false;
        self.retry = Some(now + BETWEEN);
        self.pause = FIRST_PAUSE.min(self.longest_pause);
        self.failing = false;
    }

    /// Failed, or overran: everything is read again later, at once if the connection merely turned out to be dead. `jitter`,
    /// from 0 to 1, keeps the daemons of many hosts that lost the same thing from coming back in step.
    pub(in crate::sampling) fn failed(&mut self, was_connected: bool, now: Instant, jitter: f64) {
        self.under_way = false;
        (self.wanted, self.full) = (true, true);
        if was_connected && !std::mem::replace(&mut self.failing, true) {
            self.retry = Some(now);
        } else {
            self.retry = Some(now + self.pause.mul_f64(0.75 + 0.25 * jitter.clamp(0.0, 1.0)));
            self.pause = (self.pause * 2).min(self.longest_pause);
        }
    }

    /// There was no place or no worker for it: a moment later there may be.
    pub(in crate::sampling) fn put_off(&mut self, request: InventoryRequest, now: Instant) {
        self.under_way = false;
        self.wanted = true;
        self.full |= request.full;
        self.refresh.extend(request.refresh);
        self.retry = Some(now + BETWEEN);
    }

    pub(in crate::sampling) fn next(&self, now: Instant) -> Option<Instant> {
        if self.under_way {
            // Its end wakes the engine; a tick meanwhile must only be noted.
            return self.schedule.next();
        }
        if self.wanted {
            return Some(self.retry.unwrap_or(now));
        }
        let limits = self.limits.then(|| self.retry.map_or(self.next_limits, |retry| retry.max(self.next_limits)));
        self.schedule.next().into_iter().chain(limits).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_inventory_is_read_in_full_by_period_and_in_part_on_request() {
        let start = Instant::now();
        let mut lane = InventoryLane::new(60 * SECOND, 15 * SECOND, start);
        let first = lane.turn(start, InventoryRequest::default).expect("due at the start");
        assert!(first.full);
        lane.succeeded(start);
        assert!(lane.turn(start + SECOND, InventoryRequest::default).is_none());
        let id = DomainId::from_bytes([1; 16]);
        lane.request([id]);
        let part = lane.turn(start + SECOND, InventoryRequest::default).expect("asked for");
        assert!(!part.full && part.refresh.contains(&id));
        lane.request([]);
        assert!(lane.turn(start + SECOND, InventoryRequest::default).is_none(), "one call at a time");
        lane.succeeded(start + SECOND);
        assert!(lane.turn(start + SECOND, InventoryRequest::default).is_none(), "a storm of changes is read in one");
        assert_eq!(lane.next(start + SECOND), Some(start + SECOND + BETWEEN));
        let again = lane.turn(start + SECOND + BETWEEN, InventoryRequest::default).expect("asked for meanwhile");
        assert!(!again.full && again.refresh.is_empty());
        lane.succeeded(start + 2 * SECOND);
        assert_eq!(lane.next(start + 2 * SECOND), Some(start + 60 * SECOND));
        assert!(lane.turn(start + 60 * SECOND, InventoryRequest::default).expect("due").full);
    }

    #[test]
    fn limits_ask_for_a_turn_in_five_seconds_and_go_along_with_others() {
        let start = Instant::now();
        let mut lane = InventoryLane::new(60 * SECOND, 15 * SECOND, start);
        lane.turn(start, InventoryRequest::default).expect("due at the start");
        lane.succeeded(start);
        let (first, second) = (DomainId::from_bytes([1; 16]), DomainId::from_bytes([2; 16]));
        let (now, quarter) = (start + SECOND, SECOND / 4);
        lane.request_for_limits(first);
        assert!(lane.next(now) <= Some(now), "nothing was read for limits lately");
        assert!(lane.turn(now, InventoryRequest::default).expect("asked for").refresh.contains(&first));
        lane.request_for_limits(first);
        lane.succeeded(now + quarter);
        lane.request_for_limits(second);
        assert_eq!(lane.next(now + quarter), Some(now + BETWEEN_LIMITS));
        assert!(lane.turn(now + BETWEEN_LIMITS - quarter, InventoryRequest::default).is_none(), "five seconds");
        let both = lane.turn(now + BETWEEN_LIMITS, InventoryRequest::default).expect("five seconds are over");
        assert!(!both.full && both.refresh.len() == 2);
        lane.succeeded(now + BETWEEN_LIMITS);
        // What else happens waits no longer for it, and takes the limits along.
        let now = now + BETWEEN_LIMITS + SECOND;
        lane.request_for_limits(first);
        assert!(lane.turn(now, InventoryRequest::default).is_none());
        lane.request([second]);
        assert_eq!(lane.turn(now, InventoryRequest::default).expect("asked for").refresh.len(), 2);
        lane.succeeded(now);
        assert!(lane.turn(now + BETWEEN_LIMITS, InventoryRequest::default).is_none(), "all is read");
        // What failed is read in full, as soon as libvirt answers.
        lane.request_for_limits(first);
        lane.turn(now + BETWEEN_LIMITS, InventoryRequest::default).expect("due");
        lane.failed(false, now + BETWEEN_LIMITS, 1.0);
        assert!(lane.turn(now + BETWEEN_LIMITS + SECOND, InventoryRequest::default).expect("retry").full);
    }

    #[test]
    fn pauses_grow_while_libvirt_is_away_and_a_dead_connection_is_replaced_at_once() {
        let start = Instant::now();
        let mut lane = InventoryLane::new(60 * SECOND, 15 * SECOND, start);
        lane.turn(start, InventoryRequest::default).expect("due at the start");
        let mut now = start;
        lane.failed(true, now, 1.0);
        assert_eq!(lane.next(now), Some(now), "the connection was dead: open another at once");
        let mut pauses = Vec::new();
        for _ in 0..6 {
            assert!(lane.turn(now, InventoryRequest::default).expect("retry").full);
            lane.failed(false, now, 1.0);
            let next = lane.next(now).expect("a retry");
            assert!(lane.turn(next - SECOND / 2, InventoryRequest::default).is_none());
            pauses.push((next - now).as_secs());
            now = next;
        }
        assert_eq!(pauses, [1, 2, 4, 8, 15, 15]);
        lane.turn(now, InventoryRequest::default).expect("retry");
        lane.succeeded(now);
        assert!(lane.next(now) > Some(now));
    }
}
