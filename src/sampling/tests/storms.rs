//! Domains that are started and destroyed: libvirt holds their locks, and every bulk call waits for those.

use super::*;

#[test]
fn a_domain_that_is_being_destroyed_delays_nobody() {
    let mut lab = Lab::started(20);
    for _ in 0..5 {
        lab.world.change(9, |domain| (domain.locked, domain.process) = (true, Some(ProcessState::Ended)));
        lab.run(2 * PERIOD);
        assert_eq!(lab.late((1..=20).filter(|number| *number != 9), &FREE), []);
        assert_eq!(lab.late((1..=20).filter(|number| *number != 9), &MONITOR), []);
        lab.world.change(9, |domain| (domain.locked, domain.process) = (false, Some(ProcessState::Runs)));
        lab.run(2 * PERIOD);
    }
    assert_eq!(lab.health(9), DomainHealth::default(), "and is not called unresponsive for it");
    assert_eq!(lab.timed_out("virConnectGetAllDomainStats") + lab.timed_out("virDomainListGetStats"), 0);
}

#[test]
fn domains_that_end_in_the_middle_of_a_turn_delay_nobody() {
    let mut lab = Lab::started(20);
    lab.world.edit(|host| host.takes = 10 * MS);
    let end = |lab: &Lab, number| {
        lab.world.change(number, |domain| (domain.locked, domain.process) = (true, Some(ProcessState::Ended)));
    };
    // While one ends, the others are asked by name, and that takes a while.
    end(&lab, 1);
    while !lab.core.free.has_work() {
        lab.run(MS);
    }
    (10..=13).for_each(|number| end(&lab, number));
    lab.run(PERIOD);
    let others = || (2..=20).filter(|number| !(10..=13).contains(number));
    assert_eq!(lab.late(others(), &FREE), []);
    assert_eq!(lab.late(others(), &MONITOR), []);
    assert_eq!(lab.timed_out("virConnectGetAllDomainStats") + lab.timed_out("virDomainListGetStats"), 0);
}

#[test]
fn a_call_for_all_that_waits_for_a_lock_is_asked_again_in_pieces_and_then_by_name() {
    let mut lab = Lab::started(20);
    // Nothing tells that this one is locked.
    lab.world.change(9, |domain| domain.locked = true);
    let others = || (1..=20).filter(|number| *number != 9);
    lab.run(PERIOD + 1950 * MS);
    assert_eq!(lab.timed_out("virConnectGetAllDomainStats"), 1);
    assert_eq!(lab.late(others(), &FREE), [], "in pieces, and then one by one");
    lab.run(SECOND);
    for _ in 0..10 {
        lab.run(PERIOD);
        assert_eq!(lab.late(others(), &FREE), []);
        assert_eq!(lab.late(others(), &MONITOR), []);
        assert!(lab.open() < 4, "and a place is left");
    }
    assert_eq!(lab.timed_out("virConnectGetAllDomainStats"), 1, "nobody asks for all while one is locked");
    lab.world.change(9, |domain| domain.locked = false);
    lab.run(2 * PERIOD);
    assert_eq!(lab.late(1..=20, &FREE), []);
    assert_eq!(lab.late(1..=20, &MONITOR), []);
    for number in 1..=20 {
        assert_eq!(lab.health(number), DomainHealth::default());
    }
    assert_eq!(lab.open(), 0);
}

#[test]
fn a_storm_of_starts_costs_the_residents_no_period_and_blames_nobody() {
    let mut lab = Lab::started(20);
    lab.run(SECOND);
    for number in 21..=50 {
        // Locked while it starts, then well.
        lab.world.edit(|host| host.domains.insert(id(number), Domain { locked: true, ..Domain::default() }));
        lab.announce(id(number));
        lab.run(400 * MS);
        lab.world.change(number, |domain| domain.locked = false);
        lab.run(100 * MS);
        for resident in 1..=20 {
            let age = FREE.iter().chain(&MONITOR).map(|group| lab.age(resident, *group)).max();
            assert!(age < Some(2 * PERIOD), "{resident} lost two in a row at {number}: {age:?}");
        }
        assert!(lab.open() <= 4);
    }
    for number in 1..=50 {
        assert_eq!(lab.health(number).unresponsive_since, None, "{number}");
    }
    lab.run(2 * PERIOD);
    assert_eq!(lab.late(1..=50, &MONITOR), []);
}

#[test]
fn no_order_of_faults_opens_more_than_four_calls_or_leaves_anything_behind() {
    // A fixed seed each, so that a failure comes again.
    for seed in 0..20_u64 {
        let mut lab = Lab::started(30);
        let mut random = crate::sampling::ward::Ward::new(seed, &lab.store.snapshot());
        let mut pick = |most: u8| (random.jitter() * f64::from(most)).floor().clamp(0.0, f64::from(most - 1)) as u8;
        for _ in 0..120 {
            let number = 1 + pick(30);
            match pick(9) {
                0 => lab.world.freeze(number),
                1 => lab.world.freeze_unseen(number),
                2 | 3 => lab.world.thaw(number),
                4 => lab.world.edit(|host| host.hung.extend(["/images"])),
                5 => lab.world.edit(|host| host.hung.clear()),
                6 => lab.world.change(number, |domain| domain.locked = !domain.locked),
                7 => {
                    lab.world.edit(|host| host.peer += 1);
                    lab.lose_all();
                }
                _ => {}
            }
            lab.run(Duration::from_millis(100 * u64::from(pick(12))));
            assert!(lab.open() <= 4, "seed {seed}");
        }
        assert!(lab.world.edit(|host| host.most_open) <= 4, "seed {seed}");
        for number in 1..=30 {
            lab.world.thaw(number);
            lab.world.change(number, |domain| domain.locked = false);
        }
        lab.world.edit(|host| host.hung.clear());
        lab.run(70 * SECOND);
        assert_eq!(lab.late(1..=30, &FREE), [], "seed {seed}");
        assert_eq!(lab.late(1..=30, &MONITOR), [], "seed {seed}");
        for number in 1..=30 {
            assert_eq!(lab.health(number), DomainHealth::default(), "seed {seed}");
        }
        assert_eq!((lab.open(), lab.pending.len()), (0, 0), "seed {seed}");
    }
}
