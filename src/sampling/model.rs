//! The hand-over between worker, deadline and store, in every order that threads can take it (loom).
//!
//! `cargo test --lib --features model-check sampling::model` runs it; the lock of the budget is loom's then. The engine is
//! the real one; only what libvirtd would answer is made up.

use loom::sync::mpsc::{Receiver, Sender, channel};
use loom::thread::{self, JoinHandle};

use super::budget::Budget;
use super::tests::{Lab, PERIOD, SECOND, id};
use super::work::{Answer, Finished};
use crate::model::{Group, SourceError};

/// What comes of a call on its own thread.
type Outcome = Result<Answer, SourceError>;

/// A worker's part of the hand-over: the call returns, its place goes back, and the scheduler is told.
fn worker(lab: &mut Lab, number: usize, outcome: Outcome, report: Sender<Finished>) -> JoinHandle<()> {
    let pending = lab.pending.remove(number);
    let ended = lab.store.now();
    thread::spawn(move || {
        let (call, started) = (pending.order.call, pending.started);
        pending.order.settle(matches!(outcome, Err(SourceError::Disconnected { .. })), None);
        report.send(Finished { call, started, ended, answer: outcome }).expect("the scheduler listens");
    })
}

/// The one monitor call that is open, and what it would bring.
fn monitor_call(lab: &mut Lab) -> (usize, Outcome) {
    lab.order();
    let number = lab.pending.iter().position(|it| it.lane == super::lanes::Lane::Monitor).expect("a call");
    let outcome = lab.answer_of(number).expect("nobody hangs any more");
    (number, outcome)
}

/// Takes reports until there have been so many, looking at the clock in between, as the scheduler does.
fn schedule(lab: &mut Lab, reports: &Receiver<Finished>, count: usize) {
    for _ in 0..count {
        let finished = reports.recv().expect("a report");
        lab.core.finished(finished);
        lab.core.tick();
    }
}

fn lab() -> Lab {
    let mut lab = Lab::with(1, &[(Group::Cpu, PERIOD)], Budget::new(4));
    lab.settle();
    lab.clock.advance(PERIOD);
    lab.core.tick();
    lab
}

fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

#[test]
fn a_call_that_returns_at_its_deadline_is_either_taken_or_asked_again_and_leaves_nothing_behind() {
    check(|| {
        let mut lab = lab();
        let (report, reports) = channel();
        let (number, outcome) = monitor_call(&mut lab);
        let first = worker(&mut lab, number, outcome, report.clone());
        // The deadline passes while the worker is at its hand-over.
        lab.clock.advance(SECOND);
        lab.core.tick();
        lab.order();
        let asked_again = lab.pending.iter().position(|it| it.lane == super::lanes::Lane::Monitor);
        let again = asked_again.map(|number| {
            let outcome = lab.answer_of(number).expect("nobody hangs");
            worker(&mut lab, number, outcome, report.clone())
        });
        assert!(lab.open() <= 4);
        schedule(&mut lab, &reports, 1 + usize::from(again.is_some()));
        first.join().expect("no panic");
        if let Some(thread) = again {
            thread.join().expect("no panic");
        }
        let newest = lab.sampled(1, Group::Cpu).expect("a sample");
        assert!(newest >= PERIOD, "a sample of this period");
        assert!(
            asked_again.is_none() || newest == PERIOD + SECOND,
            "what was asked later wins, in whatever order it came"
        );
        lab.settle();
        assert_eq!(lab.open(), 0, "every place came back once");
        assert_eq!(lab.core.calls.len(), 0);
    });
}

#[test]
fn a_connection_that_dies_at_the_deadline_leaves_its_place_with_libvirtd_until_the_domains_are_free() {
    check(|| {
        let mut lab = lab();
        let (report, reports) = channel();
        let (number, _) = monitor_call(&mut lab);
        let lost = SourceError::Disconnected { call: "a call", message: "End of file".to_owned() };
        let first = worker(&mut lab, number, Err(lost), report);
        lab.clock.advance(SECOND);
        lab.core.tick();
        let open = lab.open();
        assert!((1..=4).contains(&open), "never given back before libvirtd is known to be done: {open}");
        schedule(&mut lab, &reports, 1);
        first.join().expect("no panic");
        lab.run(PERIOD);
        assert_eq!((lab.open(), lab.budget.orphans().len()), (0, 0), "controlInfo said 0");
        assert!(lab.store.snapshot().get(id(1)).is_some());
    });
}

#[test]
fn places_that_two_threads_take_and_give_back_never_exceed_the_budget() {
    use super::budget::{Class, Kind};
    check(|| {
        let budget = Budget::new(2);
        let threads: Vec<_> = [Class::Free, Class::Doubtful]
            .map(|class| {
                let budget = budget.clone();
                thread::spawn(move || {
                    let place = budget.take(Kind::Free, class);
                    let taken = usize::from(place.is_some());
                    assert!(budget.open().iter().map(|(_, open)| open).sum::<usize>() <= 2);
                    drop(place);
                    taken
                })
            })
            .into_iter()
            .collect();
        let taken: usize = threads.into_iter().map(|thread| thread.join().expect("no panic")).sum();
        assert!(taken >= 1);
        assert_eq!(budget.open().iter().map(|(_, open)| open).sum::<usize>(), 0);
    });
}
