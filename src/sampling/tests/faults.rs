//! Domains that hang.

use super::*;
use crate::model::Standing;

fn quarantined(lab: &Lab, number: u8) -> bool {
    lab.health(number).standing == Standing::Quarantined
}

/// Freezes a domain behind the back of the looks at processes, so that the next call finds out by hanging.
fn hang(lab: &mut Lab, number: u8) {
    lab.world.freeze_unseen(number);
    lab.run(PERIOD + SECOND + SECOND / 2);
}

#[test]
fn a_process_that_is_stopped_is_not_asked_at_all_and_quarantined_at_the_second_look() {
    let mut lab = Lab::started(5);
    lab.world.freeze(1);
    lab.run(PERIOD);
    assert!(lab.health(1).unresponsive_since.is_none(), "one look is not enough");
    lab.run(300 * MS);
    assert!(quarantined(&lab, 1));
    assert_eq!(lab.timed_out("virDomainListGetStats"), 0, "no call was lost for it");
    assert_eq!(lab.late([1], &[Group::State, Group::Interface, Group::Cpu]), [], "what needs no monitor goes on");
    assert_eq!(lab.late(2..=5, &MONITOR), []);
}

#[test]
fn a_process_in_d_state_for_a_moment_has_its_sample_in_the_same_turn() {
    let mut lab = Lab::started(5);
    lab.run(PERIOD - 10 * MS);
    lab.world.change(1, |domain| domain.process = Some(ProcessState::Uninterruptible));
    lab.run(20 * MS);
    lab.world.change(1, |domain| domain.process = Some(ProcessState::Runs));
    lab.run(300 * MS);
    assert_eq!(lab.late(1..=5, &MONITOR), []);
    assert_eq!(lab.health(1), DomainHealth::default());
}

#[test]
fn a_call_that_hangs_is_written_off_and_the_others_are_asked_again_in_the_same_period() {
    let mut lab = Lab::started(40);
    lab.world.freeze_unseen(7);
    lab.run(PERIOD + 950 * MS);
    assert_eq!(lab.timed_out("virDomainListGetStats"), 1);
    let others: Vec<u8> = (1..=40).filter(|number| *number != 7).collect();
    assert_eq!(lab.late(others.iter().copied(), &FREE), []);
    assert_eq!(lab.late(others.iter().copied(), &[Group::Cpu, Group::Vcpu, Group::Block, Group::Balloon]), []);
    let shard: Vec<Duration> = (1..=20).filter(|n| *n != 7).filter_map(|n| lab.sampled(n, Group::Block)).collect();
    assert!(shard.iter().all(|at| *at < PERIOD + PERIOD / 2), "late by less than half a period: {shard:?}");
}

#[test]
fn the_culprit_is_named_within_two_periods_and_keeps_what_needs_no_monitor() {
    let mut lab = Lab::started(40);
    hang(&mut lab, 7);
    lab.run(SECOND);
    let health = lab.health(7);
    assert!(quarantined(&lab, 7) && health.unresponsive_since.is_some());
    assert_eq!(health.blocked_call, Some("virDomainListGetStats"));
    for number in (1..=40).filter(|number| *number != 7) {
        assert_eq!(lab.health(number), DomainHealth::default(), "{number}");
    }
    for _ in 0..20 {
        lab.run(PERIOD);
        assert_eq!(lab.late([7], &[Group::State, Group::Interface, Group::Cpu]), []);
        assert_eq!(lab.late((1..=40).filter(|number| *number != 7), &MONITOR), []);
    }
    assert_eq!(lab.timed_out("virDomainListGetStats"), 1, "nobody ran into it again");
    assert_eq!(lab.store.metrics.quarantined.get(), 1);
}

#[test]
fn what_a_written_off_call_brings_later_overwrites_nothing_newer() {
    let mut lab = Lab::started(3);
    lab.world.freeze_unseen(2);
    lab.run(PERIOD + SECOND);
    let newer = lab.sampled(3, Group::Block).expect("asked again");
    lab.world.thaw(2);
    lab.run(100 * MS);
    assert_eq!(lab.sampled(3, Group::Block), Some(newer));
    assert!(lab.store.metrics.samples_dropped.with_label_values(&["late"]).get() > 0, "dropped, and counted");
}

#[test]
fn when_its_stuck_call_returns_a_domain_is_asked_alone_and_then_with_the_others() {
    let mut lab = Lab::started(5);
    hang(&mut lab, 2);
    lab.run(4 * PERIOD);
    assert_eq!(lab.open(), 1);
    lab.asked.clear();
    lab.world.thaw(2);
    lab.run(50 * MS);
    assert_eq!(lab.health(2), DomainHealth::default());
    let alone = lab.bulk_calls(Lane::Monitor);
    assert_eq!(alone.len(), 1);
    assert_eq!(alone[0].scope, Scope::Only(vec![id(2)]));
    assert_eq!(lab.open(), 0);
    lab.run(PERIOD);
    assert_eq!(lab.late(1..=5, &MONITOR), []);
}

#[test]
fn a_process_that_runs_again_and_a_free_monitor_end_a_quarantine_within_two_periods() {
    let mut lab = Lab::started(5);
    lab.world.freeze(2);
    lab.run(10 * PERIOD);
    assert!(quarantined(&lab, 2));
    lab.world.thaw(2);
    lab.run(2 * PERIOD);
    assert_eq!(lab.health(2), DomainHealth::default());
    assert_eq!(lab.late(1..=5, &MONITOR), []);
    assert_eq!(lab.timed_out("virDomainListGetStats"), 0);
}

#[test]
fn without_a_process_to_look_at_a_growing_pause_decides_when_it_is_tried() {
    let mut lab = Lab::started(5);
    lab.world.change(2, |domain| domain.process = None);
    hang(&mut lab, 2);
    assert!(quarantined(&lab, 2));
    // Its own stuck call would tell of a thaw; without it only a trial can.
    let stuck = lab.pending.iter().position(|it| it.lane == Lane::Monitor).expect("the stuck call");
    let message = "the connection broke".to_owned();
    lab.finish(stuck, Err(SourceError::Call { call: "a call", message }));
    lab.run(70 * SECOND);
    let trials = lab.asked.iter().filter(|(.., job)| match job {
        Job::Bulk(BulkRequest { scope: Scope::Only(ids), .. }) => *ids == [id(2)],
        _ => false,
    });
    assert!((1..=4).contains(&trials.count()), "few, since each may be stuck for ever");
    assert!(lab.open() <= 2);
    assert_eq!(lab.late((1..=5).filter(|number| *number != 2), &MONITOR), []);
}

#[test]
fn half_of_all_frozen_at_one_instant_costs_the_others_one_late_sample() {
    let mut lab = Lab::started(40);
    // In the middle of a turn: two shards hang, each on one of theirs, and the kernel shows the rest.
    lab.run(PERIOD - 10 * MS);
    for number in 1..=20 {
        lab.world.freeze_unseen(number * 2);
    }
    lab.run(10 * MS);
    for number in 1..=20 {
        lab.world.freeze(number * 2);
    }
    let healthy = || (1..=40).filter(|number| number % 2 == 1);
    lab.run(SECOND);
    assert_eq!(lab.late(healthy(), &[Group::Cpu, Group::Vcpu, Group::Block, Group::Balloon]), []);
    for _ in 0..10 {
        lab.run(PERIOD);
        assert_eq!(lab.late(1..=40, &[Group::State, Group::Interface, Group::Cpu]), []);
        assert_eq!(lab.late(healthy(), &MONITOR), []);
    }
    assert_eq!(lab.store.metrics.quarantined.get(), 20);
    assert!(lab.world.edit(|host| host.most_open) <= 4);
    // One by one, while others are still stuck.
    for number in 1..=20 {
        lab.world.thaw(number * 2);
        lab.run(2 * PERIOD);
        assert_eq!(lab.late([number * 2], &MONITOR), [], "{number}");
    }
    assert_eq!((lab.open(), lab.store.metrics.quarantined.get()), (0, 0));
}

#[test]
fn two_stuck_calls_never_stop_the_healthy_even_where_the_kernel_shows_nothing() {
    let mut lab = Lab::started(40);
    hang(&mut lab, 3);
    hang(&mut lab, 33);
    lab.run(2 * PERIOD);
    assert_eq!(lab.open(), 2);
    for _ in 0..10 {
        lab.run(PERIOD);
        assert_eq!(lab.late((1..=40).filter(|number| ![3, 33].contains(number)), &[Group::Cpu, Group::Block]), []);
        assert!(lab.open() <= 4);
    }
}

#[test]
fn with_everybody_frozen_free_groups_go_on_and_four_calls_are_the_end() {
    let mut lab = Lab::started(30);
    for number in 1..=30 {
        lab.world.change(number, |domain| (domain.frozen, domain.process) = (true, None));
    }
    for _ in 0..60 {
        lab.run(PERIOD);
        assert_eq!(lab.late(1..=30, &FREE), []);
        assert!(lab.open() <= 4, "{}", lab.open());
    }
    assert!(lab.world.edit(|host| host.most_open) <= 4);
    assert!(lab.skipped(Lane::Monitor, "no_place") > 0, "what got no place was counted");
}

#[test]
fn who_is_occupied_at_our_start_begins_in_quarantine_and_its_call_keeps_a_place() {
    let mut before = Lab::started(20);
    hang(&mut before, 4);
    assert_eq!(before.open(), 1);
    // The sampler is killed, and another one starts; libvirtd is still at the call.
    let world = before.world.clone();
    let jobs = world.edit(|host| host.jobs.clone());
    drop(before);
    world.edit(|host| host.jobs = jobs);
    let mut lab = Lab::on(world.clone(), &all_groups(), Budget::new(4));
    lab.clock.advance(10 * SECOND);
    lab.run(100 * MS);
    assert!(quarantined(&lab, 4));
    assert_eq!(lab.timed_out("virDomainListGetStats"), 0, "nobody had to run into it");
    assert_eq!(lab.late((1..=20).filter(|number| *number != 4), &MONITOR), []);
    assert_eq!(lab.open(), 1, "the call of before is counted");
    world.edit(|host| host.jobs.clear());
    lab.world.thaw(4);
    lab.run(3 * PERIOD);
    assert_eq!((lab.open(), lab.health(4)), (0, DomainHealth::default()));
}

#[test]
fn who_is_stopped_at_our_start_is_never_asked() {
    let mut lab = Lab::new(5);
    lab.world.freeze(2);
    lab.run(SECOND);
    assert!(quarantined(&lab, 2));
    assert_eq!(lab.timed_out("virDomainListGetStats"), 0);
    assert_eq!(lab.late([1, 3, 4, 5], &MONITOR), []);
}

#[test]
fn frozen_during_block_info_costs_its_own_disks_alone() {
    let mut lab = Lab::with(6, &[(Group::State, PERIOD), (Group::BlockInfo, PERIOD)], Budget::new(4));
    lab.run(SECOND);
    lab.world.freeze_unseen(2);
    lab.run(4 * PERIOD);
    assert_eq!(lab.timed_out("virDomainGetBlockInfo"), 1);
    assert_eq!(lab.health(2).blocked_call, Some("virDomainGetBlockInfo"));
    assert_eq!(lab.late([1, 3, 4, 5, 6], &[Group::State, Group::BlockInfo]), []);
    assert!(lab.age(2, Group::BlockInfo) > 2 * PERIOD);
}

#[test]
fn frozen_during_block_info_on_a_large_host_costs_those_of_the_same_order_a_deadline() {
    let world = World::default();
    // A thousand disks: two an order.
    let domain = || Domain { disks: vec!["/images"; 5], ..Domain::default() };
    world.edit(|host| host.domains = (1..=220).map(|number| (id(number), domain())).collect());
    let groups = [(Group::State, PERIOD), (Group::BlockInfo, PERIOD), (Group::Balloon, 2 * PERIOD)];
    let mut lab = Lab::on(world, &groups, Budget::new(4));
    // Before a turn in which nothing but disks needs its monitor.
    lab.run(PERIOD - 10 * MS);
    lab.world.freeze_unseen(2);
    let others = (1..=220).filter(|number| *number != 2);
    for _ in 0..16 {
        lab.run(PERIOD / 4);
        let oldest = others.clone().map(|number| lab.age(number, Group::Balloon)).max();
        assert!(oldest < Some(2 * PERIOD + SECOND), "{oldest:?}");
    }
    assert_eq!(lab.timed_out("virDomainGetBlockInfo"), 1);
    assert_eq!(lab.health(2).blocked_call, Some("virDomainGetBlockInfo"));
    assert_eq!(lab.late(others, &[Group::State, Group::BlockInfo]), []);
    assert!(lab.age(2, Group::BlockInfo) > 2 * PERIOD);
}

#[test]
fn one_that_somebody_else_kept_busy_is_not_left_out_for_another_one_that_hangs() {
    let groups = [Group::State, Group::Cpu, Group::Vcpu, Group::Block].map(|group| (group, PERIOD));
    let mut lab = Lab::with(10, &groups, Budget::new(4));
    lab.run(PERIOD);
    // Another client's command holds the one, the next call hangs on the other.
    let now = lab.store.now();
    lab.world.edit(|host| host.jobs.insert(id(2), (u64::MAX, now)));
    lab.world.freeze_unseen(4);
    lab.run(5 * SECOND);
    lab.world.edit(|host| host.jobs.remove(&id(2)));
    lab.run(30 * PERIOD);
    assert_eq!(lab.late(1..=3, &[Group::Vcpu, Group::Block]), []);
    assert_eq!(lab.health(2), DomainHealth::default());
    assert_eq!(lab.health(4).blocked_call, Some("virDomainListGetStats"));
    assert_ne!(lab.health(4).standing, Standing::Healthy);
}

#[test]
fn those_that_seem_to_thaw_and_stop_again_leave_one_trial_stuck_at_most() {
    let mut lab = Lab::started(10);
    (1..=6).for_each(|number| lab.world.freeze(number));
    lab.run(4 * PERIOD);
    // The first trial hangs, and the others wait for it.
    (1..=6).for_each(|number| lab.world.change(number, |domain| domain.process = Some(ProcessState::Runs)));
    for _ in 0..200 {
        lab.run(10 * MS);
        if lab.open() > 0 {
            break;
        }
    }
    assert_eq!(lab.open(), 1, "a trial hangs");
    lab.run(20 * MS);
    (1..=6).for_each(|number| lab.world.freeze(number));
    lab.run(5 * PERIOD);
    assert!(lab.open() <= 1);
}

#[test]
fn one_that_is_started_anew_and_does_not_run_is_shown_in_quarantine() {
    let mut lab = Lab::started(5);
    lab.world.freeze(2);
    lab.run(2 * PERIOD);
    lab.world.change(2, |domain| domain.run = 2);
    lab.announce(id(2));
    lab.run(10 * PERIOD);
    assert!(quarantined(&lab, 2));
}
