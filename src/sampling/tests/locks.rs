//! Domains whose lock libvirt holds for long: whatever asks for them waits, and a place with it.

use super::*;
use crate::model::DomainEvent;

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
    lab.core.event(DomainEvent { id: id(3) });
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
