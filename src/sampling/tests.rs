//! The engine with scripted pools and a clock that is moved by hand: no threads, no waiting.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::engine::Core;
use super::pool::{Answer, Dispatch, Finished, Job};
use crate::clock::{Clock, ManualClock};
use crate::config::Sampling;
use crate::model::{
    BulkReply, BulkRequest, DomainId, DomainRecord, Figures, Group, GroupSet, InventoryReply, InventoryRequest,
    ListedDomain, RunId, Scope, SourceError, Stamp,
};
use crate::store::Store;

/// A pool that keeps the jobs for the test to answer.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<VecDeque<Job>>>);

impl Dispatch for Script {
    fn dispatch(&self, job: Job) -> Result<(), Job> {
        self.0.lock().push_back(job);
        Ok(())
    }
}

struct Lab {
    clock: Arc<ManualClock>,
    store: Arc<Store>,
    core: Core,
    bulk: Script,
    inventory: Script,
    epoch: Arc<AtomicU64>,
}

const SECOND: Duration = Duration::from_secs(1);

fn set(groups: &[Group]) -> GroupSet {
    groups.iter().copied().collect()
}

fn lost() -> SourceError {
    SourceError::Disconnected { call: "a call", message: "End of file".to_owned() }
}

fn refused() -> SourceError {
    SourceError::Connect { uri: "qemu:///system".to_owned(), message: "no socket".to_owned() }
}

impl Lab {
    fn new(groups: &[(Group, u64)]) -> Self {
        let clock = Arc::new(ManualClock::new());
        let store = Arc::new(Store::new(clock.clone()));
        let settings = Sampling {
            groups: groups.iter().map(|(group, seconds)| (*group, Duration::from_secs(*seconds))).collect(),
            inventory: 60 * SECOND,
            workers: 2,
        };
        let (bulk, inventory) = (Script::default(), Script::default());
        let pools = (Box::new(bulk.clone()), Box::new(inventory.clone()));
        let epoch = Arc::new(AtomicU64::new(0));
        let core = Core::new(&settings, Arc::clone(&store), (pools.0, pools.1), Arc::clone(&epoch));
        Self { clock, store, core, bulk, inventory, epoch }
    }

    fn connected(groups: &[(Group, u64)]) -> Self {
        let mut lab = Self::new(groups);
        lab.core.tick();
        lab.list(Ok(InventoryReply::default()));
        lab.core.tick();
        lab
    }

    fn stamp(&self) -> Stamp {
        Stamp { at: self.clock.now(), wall: self.clock.wall() }
    }

    fn wait(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.clock.advance(SECOND);
            self.core.tick();
        }
    }

    fn asked(&self) -> Option<BulkRequest> {
        match self.bulk.0.lock().pop_front()? {
            Job::Bulk(request) => Some(request),
            Job::Inventory(_) => panic!("the wrong pool"),
        }
    }

    fn asked_list(&self) -> Option<InventoryRequest> {
        match self.inventory.0.lock().pop_front()? {
            Job::Inventory(request) => Some(request),
            Job::Bulk(_) => panic!("the wrong pool"),
        }
    }

    fn finish(&mut self, started: Stamp, answer: Answer) {
        let ended = self.clock.now();
        self.core.finished(Finished { started, ended, answer });
        self.core.tick();
    }

    /// Answers the oldest bulk call.
    fn answer(&mut self, reply: Result<BulkReply, SourceError>) {
        let request = self.asked().expect("a bulk call");
        self.finish(self.stamp(), Answer::Bulk(request, reply));
    }

    /// Answers the oldest inventory call.
    fn list(&mut self, reply: Result<InventoryReply, SourceError>) -> InventoryRequest {
        let request = self.asked_list().expect("an inventory call");
        self.finish(self.stamp(), Answer::Inventory(reply));
        request
    }

    fn skipped(&self, reason: &str) -> u64 {
        self.store.metrics.lane_skipped.with_label_values(&["bulk", reason]).get()
    }
}

#[test]
fn the_list_comes_first_and_the_sample_right_after() {
    let mut lab = Lab::new(&[(Group::State, 15), (Group::Block, 15)]);
    lab.core.tick();
    assert!(lab.asked().is_none(), "nobody asks before libvirt is known to answer");
    assert!(lab.list(Ok(InventoryReply::default())).full);
    let request = lab.asked().expect("at once");
    assert_eq!(request, BulkRequest { groups: set(&[Group::State, Group::Block]), scope: Scope::All });
    assert!(lab.store.snapshot().link.up);
}

#[test]
fn groups_have_periods_of_their_own_and_share_calls() {
    let mut lab = Lab::connected(&[(Group::State, 5), (Group::Block, 10)]);
    lab.answer(Ok(BulkReply::default()));
    let mut calls = Vec::new();
    for second in 1..=20 {
        lab.wait(1);
        if let Some(request) = lab.asked() {
            calls.push((second, request.groups.iter().count()));
            lab.finish(lab.stamp(), Answer::Bulk(request, Ok(BulkReply::default())));
        }
    }
    assert_eq!(calls, [(5, 1), (10, 2), (15, 1), (20, 2)]);
}

#[test]
fn a_slow_call_delays_its_own_groups_alone_and_missed_ticks_are_not_made_up_for() {
    let mut lab = Lab::connected(&[(Group::State, 5), (Group::Block, 20)]);
    let slow = lab.asked().expect("both groups");
    lab.wait(17);
    assert!(lab.asked().is_none(), "state is under way with block");
    assert_eq!(lab.skipped("busy"), 3);
    let started = lab.stamp();
    lab.finish(started, Answer::Bulk(slow, Ok(BulkReply::default())));
    assert!(lab.asked().is_none(), "not before the next tick");
    lab.wait(3);
    assert_eq!(lab.asked().map(|request| request.groups), Some(set(&[Group::State, Group::Block])));
    lab.wait(5);
    assert_eq!(lab.asked(), None);
    assert_eq!(lab.skipped("busy"), 4);
}

#[test]
fn a_new_domain_makes_the_list_be_read_at_once() {
    let mut lab = Lab::connected(&[(Group::State, 5)]);
    let id = DomainId::from_bytes([1; 16]);
    let record = DomainRecord { id, name: "new".into(), run: Some(RunId(1)), figures: Figures::default() };
    lab.answer(Ok(BulkReply { records: vec![record], ..BulkReply::default() }));
    let request = lab.asked_list().expect("at once");
    assert!(!request.full && request.wants(id, Some(RunId(1))));
}

#[test]
fn while_libvirt_is_away_nothing_is_asked_and_when_it_is_back_everything_is() {
    let mut lab = Lab::new(&[(Group::State, 5)]);
    lab.core.tick();
    lab.list(Err(refused()));
    let snapshot = lab.store.snapshot();
    assert!(!snapshot.link.up);
    assert_eq!(snapshot.incomplete.as_deref(), Some("cannot connect to qemu:///system: no socket"));
    lab.wait(20);
    assert!(lab.asked().is_none());
    assert_eq!(lab.skipped("disconnected"), 4, "every 5 s; the start, before anything was tried, does not count");
    // One retry was due meanwhile and is still open: pauses never lead to two calls at once.
    lab.list(Ok(InventoryReply::default()));
    assert!(lab.asked().is_some(), "at once, not at the next tick");
    assert_eq!(lab.store.metrics.reconnects.get(), 0, "the first connection is no reconnection");
}

#[test]
fn a_connection_lost_in_a_call_is_looked_after_at_once() {
    let mut lab = Lab::connected(&[(Group::State, 5)]);
    lab.answer(Err(lost()));
    lab.list(Err(lost()));
    assert!(!lab.store.snapshot().link.up);
    assert_eq!(lab.epoch.load(Ordering::Acquire), 2, "every worker opens its connection anew");
    let listed = ListedDomain {
        id: DomainId::from_bytes([1; 16]),
        name: "kept".into(),
        run: Some(RunId(1)),
        state: None,
        description: None,
    };
    lab.list(Ok(InventoryReply { domains: vec![listed], ..InventoryReply::default() }));
    assert!(lab.store.snapshot().link.up);
    assert_eq!(lab.store.metrics.reconnects.get(), 1);
    assert!(lab.asked().is_some(), "the sample that was lost is asked for again");
}

#[test]
fn a_bulk_call_that_kills_its_connection_each_time_is_not_repeated_without_end() {
    let mut lab = Lab::connected(&[(Group::State, 5)]);
    lab.answer(Err(lost()));
    lab.list(Ok(InventoryReply::default()));
    lab.answer(Err(lost()));
    lab.list(Ok(InventoryReply::default()));
    assert!(lab.asked().is_none(), "only at the next tick");
    lab.wait(5);
    assert!(lab.asked().is_some());
}

#[test]
fn a_refused_call_is_counted_and_asked_again_at_its_next_tick() {
    let mut lab = Lab::connected(&[(Group::State, 5)]);
    lab.answer(Err(SourceError::Call { call: "a call", message: "unsupported".to_owned() }));
    assert!(lab.asked_list().is_none(), "the connection is good");
    assert!(lab.asked().is_none());
    assert_eq!(lab.store.metrics.lane_runs.with_label_values(&["bulk", "error"]).get(), 1);
    let incomplete = lab.store.snapshot().incomplete.clone();
    assert!(incomplete.is_some_and(|reason| reason.ends_with("a call failed: unsupported")), "said in /-/ready");
    lab.wait(5);
    assert!(lab.asked().is_some());
}

#[test]
fn it_sleeps_exactly_until_something_is_due() {
    let mut lab = Lab::connected(&[(Group::State, 7)]);
    lab.answer(Ok(BulkReply::default()));
    assert_eq!(lab.core.next(), Some(lab.clock.now() + 7 * SECOND));
}
