//! Domains whose lock libvirt holds for long: whatever asks for them waits, and a place with it.

use std::time::Instant;

use super::*;

/// A call of somebody else.
const ANOTHER: u64 = u64::MAX;

/// The numbers up to 20 without these.
fn others(locked: &[u8]) -> impl Iterator<Item = u8> {
    (1..=20).filter(move |number| !locked.contains(number))
}

#[test]
fn a_list_that_waits_for_a_lock_ages_nobody() {
    let groups = Group::ALL.map(|group| (group, 30 * SECOND));
    let mut lab = Lab::with(10, &groups, Budget::new(4));
    lab.run(SECOND);
    lab.world.edit(|host| host.list_waits = true);
    lab.world.change(3, |domain| domain.locked = true);
    // The list runs into it long before the next turn does.
    lab.announce(id(3));
    lab.run(148 * SECOND);
    assert!(lab.age(5, Group::State) <= 35 * SECOND);
    assert!(lab.age(5, Group::Block) <= 35 * SECOND);
}

#[test]
fn one_that_is_frozen_and_then_locked_delays_nobody() {
    // Without and with a call that is stuck on it.
    for (freeze, stuck) in [(World::freeze as fn(&World, u8), 0), (World::freeze_unseen, 1)] {
        let mut lab = Lab::started(20);
        freeze(&lab.world, 9);
        lab.run(3 * PERIOD);
        assert_eq!(lab.open(), stuck);
        lab.world.change(9, |domain| domain.locked = true);
        lab.run(10 * PERIOD);
        assert_eq!(lab.late(others(&[9]), &FREE), [], "{stuck} stuck");
        assert_eq!(lab.late(others(&[9]), &MONITOR), [], "{stuck} stuck");
    }
}

#[test]
fn one_that_is_frozen_and_then_locked_delays_nobody_where_no_free_group_would_show_it() {
    let mut lab = Lab::with(20, &[(Group::Cpu, PERIOD), (Group::Vcpu, PERIOD)], Budget::new(4));
    lab.run(SECOND);
    lab.world.freeze(9);
    lab.run(3 * PERIOD);
    lab.world.change(9, |domain| domain.locked = true);
    lab.run(10 * PERIOD);
    assert_eq!(lab.late(others(&[9]), &[Group::Vcpu]), []);
}

#[test]
fn two_that_are_locked_one_after_the_other_delay_nobody() {
    let mut lab = Lab::started(20);
    lab.world.change(9, |domain| domain.locked = true);
    lab.run(5 * PERIOD);
    lab.world.change(15, |domain| domain.locked = true);
    lab.run(10 * PERIOD);
    assert_eq!(lab.late(others(&[9, 15]), &FREE), []);
    assert_eq!(lab.late(others(&[9, 15]), &MONITOR), []);
}

/// Runs until a monitor call is open that a lock can then hold.
fn run_into_monitor_call(lab: &mut Lab) {
    lab.world.edit(|host| host.takes = 50 * MS);
    while !lab.core.calls.values().any(|open| open.lane == Lane::Monitor && !open.overdue) {
        lab.run(MS);
    }
}

#[test]
fn who_is_skipped_for_another_client_is_asked_again_in_the_same_turn() {
    let mut lab = Lab::started(20);
    for round in 0..5 {
        lab.run(PERIOD - 20 * MS);
        // Just as the turn begins, another client is at one of them.
        lab.world.edit(|host| host.jobs.insert(id(9), (ANOTHER, Instant::now())));
        lab.run(100 * MS);
        assert!(lab.age(9, Group::Block) > SECOND, "{round}: the record was cut short");
        assert!(lab.age(8, Group::Block) < SECOND, "{round}: that of its neighbour was not");
        lab.world.edit(|host| host.jobs.remove(&id(9)));
        lab.run(PERIOD / 4);
        assert!(lab.age(9, Group::Block) < SECOND, "{round}: asked again");
        lab.run(PERIOD - 580 * MS);
    }
}

#[test]
fn who_is_skipped_in_calls_that_end_one_after_the_other_is_asked_again_too() {
    let mut lab = Lab::started(60);
    lab.run(PERIOD - 20 * MS);
    for number in [9, 50] {
        lab.world.edit(|host| host.jobs.insert(id(number), (ANOTHER, Instant::now())));
    }
    // One of its calls is answered later than the other.
    lab.world.edit(|host| host.takes = 30 * MS);
    lab.run(100 * MS);
    lab.world.edit(|host| host.jobs.clear());
    lab.run(PERIOD / 2);
    for number in [9, 50] {
        assert!(lab.age(number, Group::Block) < SECOND, "{number}: {:?}", lab.age(number, Group::Block));
    }
}

#[test]
fn another_client_that_stays_at_a_domain_costs_one_call_more_in_a_turn() {
    // Block info would get stuck behind it.
    let mut lab = Lab::with(20, &[(Group::Block, PERIOD), (Group::Balloon, PERIOD)], Budget::new(4));
    lab.run(SECOND);
    let mut calls = [false, true].map(|is_there| {
        if is_there {
            lab.world.edit(|host| host.jobs.insert(id(9), (ANOTHER, Instant::now())));
        }
        lab.asked.clear();
        lab.run(5 * PERIOD);
        lab.bulk_calls(Lane::Monitor).len()
    });
    calls[0] += 5;
    assert_eq!(calls[1], calls[0]);
}

#[test]
fn who_may_hold_a_call_is_asked_in_the_same_turn_if_the_call_returns() {
    // With so few places neither is anybody asked again, nor found out who holds the call.
    let groups = Group::ALL.map(|group| (group, PERIOD));
    let mut lab = Lab::with(20, &groups, Budget::new(2));
    lab.run(SECOND);
    run_into_monitor_call(&mut lab);
    lab.world.change(9, |domain| domain.locked = true);
    lab.run(PERIOD + 300 * MS);
    let (before, skipped) = (lab.age(8, Group::Block), lab.skipped(Lane::Monitor, "unresponsive"));
    assert!(before > PERIOD, "{before:?}: it is left out of this turn");
    lab.world.change(9, |domain| domain.locked = false);
    lab.run(SECOND);
    assert!(lab.age(8, Group::Block) <= SECOND, "{:?}: and asked in it after all", lab.age(8, Group::Block));
    lab.run(2 * PERIOD);
    assert_eq!(lab.skipped(Lane::Monitor, "unresponsive"), skipped, "so it has not lost its turn");
    assert_eq!(lab.late(1..=20, &MONITOR), []);
}

#[test]
fn who_is_ending_is_not_asked_how_its_monitor_is() {
    let mut lab = Lab::started(20);
    run_into_monitor_call(&mut lab);
    lab.world.change(8, |domain| (domain.locked, domain.process) = (true, Some(ProcessState::Ended)));
    lab.run(PERIOD + SECOND);
    assert_eq!(lab.timed_out("virDomainListGetStats"), 1, "the call that was under way");
    assert_eq!(lab.timed_out("virDomainGetControlInfo"), 0);
}
