//! Another engine in the place of one, in the same process: what the one before left is still at libvirtd.

use super::*;
use crate::model::Standing;

/// An engine in the place of another one, and the calls of that, which nobody answers any more.
fn reload(old: Lab) -> (Lab, Vec<Pending>) {
    let Lab { clock, store, core, world, budget, pending, .. } = old;
    drop(core);
    let mut lab = Lab::after(world, &settings(&all_groups()), budget, clock, store);
    // The made-up libvirtd tells calls apart by their numbers.
    lab.core.next_call = 1_000_000;
    lab.run(10 * MS);
    (lab, pending)
}

#[test]
fn a_reload_writes_off_what_the_engine_before_waited_for() {
    let mut lab = Lab::started(10);
    lab.world.freeze_unseen(3);
    lab.run(PERIOD + 500 * MS);
    assert_eq!(lab.open(), 1, "the call hangs, and is not overdue yet");
    let (mut lab, _kept) = reload(lab);
    lab.run(10 * PERIOD);
    assert_eq!(lab.late((1..=10).filter(|number| *number != 3), &MONITOR), []);
}

#[test]
fn a_stuck_call_keeps_one_place_over_a_reload_and_another_one_stops_nobody() {
    let mut lab = Lab::started(10);
    lab.world.freeze_unseen(3);
    lab.run(3 * PERIOD);
    assert_eq!(lab.open(), 1);
    let (mut lab, _kept) = reload(lab);
    lab.run(2 * PERIOD);
    assert_eq!(lab.open(), 1);
    lab.world.freeze_unseen(8);
    lab.run(10 * PERIOD);
    assert_eq!(lab.late((1..=10).filter(|number| ![3, 8].contains(number)), &MONITOR), []);
}

#[test]
fn one_that_thaws_before_a_reload_is_shown_well_after_it() {
    let mut lab = Lab::started(5);
    lab.world.freeze(2);
    lab.run(3 * PERIOD);
    assert_eq!(lab.health(2).standing, Standing::Quarantined);
    lab.world.thaw(2);
    let (mut lab, _kept) = reload(lab);
    lab.run(20 * PERIOD);
    assert_eq!(lab.late(1..=5, &MONITOR), []);
    assert_eq!(lab.health(2), DomainHealth::default());
}

#[test]
fn a_problem_of_before_a_reload_is_not_shown_after_it() {
    let mut lab = Lab::started(1);
    lab.clock.advance(PERIOD);
    lab.core.tick();
    lab.order();
    lab.fail(Lane::Free, SourceError::Call { call: "a call", message: "no".to_owned() });
    assert!(lab.store.snapshot().problem.is_some());
    let (mut lab, _kept) = reload(lab);
    lab.run(20 * PERIOD);
    assert_eq!(lab.late([1], &MONITOR), []);
    assert_eq!(lab.store.snapshot().problem, None);
}
