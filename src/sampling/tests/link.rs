//! libvirtd's own faults: gone, refusing, mute, another one.

use super::*;

#[test]
fn while_libvirt_is_away_nothing_is_asked_and_when_it_is_back_everything_is() {
    let mut lab = Lab::new(3);
    lab.world.edit(|host| host.refuses = true);
    lab.run(20 * SECOND);
    let snapshot = lab.store.snapshot();
    assert!(!snapshot.link.up);
    assert_eq!(snapshot.incomplete.as_deref(), Some("cannot connect to qemu:///system: Failed to connect socket"));
    assert!(lab.asked.iter().all(|(_, lane, _)| *lane == Lane::Inventory));
    assert!(lab.asked.len() >= 10, "an attempt a period at least: {}", lab.asked.len());
    assert!(lab.skipped(Lane::Free, "disconnected") > 0 && lab.skipped(Lane::Monitor, "disconnected") > 0);
    lab.world.edit(|host| host.refuses = false);
    lab.run(2 * PERIOD);
    assert_eq!(lab.late(1..=3, &MONITOR), []);
    assert_eq!(lab.store.metrics.reconnects.get(), 0, "the first connection is no reconnection");
}

#[test]
fn a_libvirtd_that_was_killed_costs_no_place_once_another_one_answers() {
    let mut lab = Lab::started(30);
    lab.world.freeze_unseen(3);
    lab.run(PERIOD + 2 * SECOND);
    assert_eq!(lab.open(), 1);
    lab.world.edit(|host| host.refuses = true);
    lab.lose_all();
    lab.run(10 * SECOND);
    assert!(!lab.store.snapshot().link.up);
    assert_eq!(lab.open(), 1, "nobody knows yet whether libvirtd is still at it");
    lab.world.thaw(3);
    lab.world.edit(|host| (host.refuses, host.peer) = (false, 77));
    lab.run(2 * PERIOD);
    assert_eq!(lab.open(), 0);
    assert_eq!(lab.store.metrics.reconnects.get(), 1);
    assert_eq!(lab.late(1..=30, &MONITOR), []);
}

#[test]
fn a_connection_that_died_with_a_call_keeps_its_place_until_the_domain_is_free() {
    let mut lab = Lab::started(5);
    lab.world.freeze_unseen(3);
    lab.run(PERIOD + 2 * SECOND);
    let held = lab.world.edit(|host| host.jobs.clone());
    assert_eq!(held.len(), 1);
    // The same libvirtd closed the connection; its worker is still stuck.
    lab.lose_all();
    lab.world.edit(|host| host.jobs = held);
    lab.run(5 * PERIOD);
    assert!(lab.store.snapshot().link.up);
    assert_eq!(lab.open(), 1);
    assert_eq!(lab.budget.orphans().len(), 1);
    lab.world.edit(|host| host.jobs.clear());
    lab.world.thaw(3);
    lab.run(2 * PERIOD);
    assert_eq!((lab.open(), lab.budget.orphans().len()), (0, 0));
}

#[test]
fn samples_are_kept_over_a_reconnection_and_counters_do_not_begin_anew() {
    let mut lab = Lab::started(2);
    lab.run(PERIOD);
    let before = lab.sampled(1, Group::Cpu).expect("a sample");
    lab.world.edit(|host| host.refuses = true);
    lab.run(5 * PERIOD);
    assert_eq!(lab.sampled(1, Group::Cpu), Some(before), "kept, if old");
    lab.world.edit(|host| (host.refuses, host.peer) = (false, 9));
    lab.run(2 * PERIOD);
    let snapshot = lab.store.snapshot();
    let window = &snapshot.get(id(1)).expect("known").windows.cpu;
    assert!(window.previous().is_some(), "a rate is possible at once");
}

#[test]
fn a_libvirtd_that_stopped_fills_no_more_than_the_budget_and_is_found_again() {
    let mut lab = Lab::started(40);
    lab.world.edit(|host| host.stopped = true);
    for _ in 0..20 {
        lab.run(PERIOD);
        assert!(lab.open() <= 4, "{}", lab.open());
    }
    // The keepalive gives up, and the socket is there still.
    lab.world.edit(|host| host.mute = true);
    lab.lose_all();
    lab.run(PERIOD);
    assert!(!lab.store.snapshot().link.up);
    assert!(lab.open() <= 4);
    lab.world.edit(|host| (host.stopped, host.mute) = (false, false));
    lab.run(2 * PERIOD);
    assert_eq!(lab.late(1..=40, &MONITOR), []);
    assert_eq!(lab.open(), 0);
}

#[test]
fn a_mute_socket_is_tried_by_one_attempt_at_a_time_at_least_once_a_period() {
    let mut lab = Lab::new(2);
    lab.world.edit(|host| host.mute = true);
    for _ in 0..1000 {
        lab.run(10 * MS);
        assert!(lab.pending.len() <= 1);
    }
    assert!((3..=10).contains(&lab.abandoned), "{} in 10 s at a period of 2 s", lab.abandoned);
    assert!(lab.timed_out("virConnectOpen") >= 3);
    assert!(!lab.store.snapshot().link.up);
    lab.world.edit(|host| host.mute = false);
    lab.run(2 * PERIOD);
    assert_eq!(lab.late(1..=2, &MONITOR), []);
}

#[test]
fn a_refused_call_is_counted_and_asked_again_at_its_next_tick() {
    let mut lab = Lab::with(1, &[(Group::State, PERIOD)], Budget::new(4));
    lab.world.change(1, |domain| domain.locked = true);
    lab.run(10 * MS);
    let call = lab.pending.iter().position(|it| matches!(it.order.job, Job::Bulk(_))).expect("it hangs");
    lab.finish(call, Err(SourceError::Call { call: "a call", message: "unsupported".to_owned() }));
    assert!(lab.store.snapshot().problem.as_deref().is_some_and(|it| it.ends_with("a call failed: unsupported")));
    lab.world.change(1, |domain| domain.locked = false);
    lab.run(PERIOD);
    assert_eq!(lab.late([1], &[Group::State]), []);
    assert_eq!(lab.store.snapshot().problem, None);
}

#[test]
fn a_call_that_kills_its_connection_each_time_is_not_repeated_without_end() {
    let mut lab = Lab::with(1, &[(Group::State, 5 * SECOND)], Budget::new(4));
    lab.world.change(1, |domain| domain.locked = true);
    for _ in 0..200 {
        lab.run(20 * MS);
        while let Some(call) = lab.pending.iter().position(|it| matches!(it.order.job, Job::Bulk(_))) {
            lab.finish(call, Err(SourceError::Disconnected { call: "a call", message: "End of file".to_owned() }));
        }
    }
    let calls = lab.bulk_calls(Lane::Free).len();
    assert!(calls <= 3, "{calls} calls in 4 s at a period of 5 s");
}

#[test]
fn a_list_that_loses_its_connection_alone_makes_no_stuck_call_count_twice() {
    let mut lab = Lab::started(10);
    lab.world.freeze_unseen(3);
    lab.run(3 * PERIOD);
    assert_eq!(lab.open(), 1);
    lab.announce(id(1));
    lab.clock.advance(SECOND);
    lab.core.tick();
    lab.order();
    let message = "End of file while reading data".to_owned();
    lab.fail(Lane::Inventory, SourceError::Disconnected { call: "a call", message });
    lab.run(3 * PERIOD);
    assert_eq!(lab.open(), 1);
}

#[test]
fn a_call_that_outlived_its_connection_gives_its_place_back_when_its_domain_is_gone() {
    let mut lab = Lab::with(3, &[(Group::State, PERIOD), (Group::BlockInfo, PERIOD)], Budget::new(4));
    lab.run(SECOND);
    lab.world.freeze_unseen(2);
    lab.run(2 * PERIOD);
    assert_eq!(lab.open(), 1);
    // The connections break, and libvirtd is still at it.
    let jobs = lab.world.edit(|host| host.jobs.clone());
    lab.lose_all();
    lab.world.edit(|host| host.jobs = jobs);
    lab.run(5 * PERIOD);
    assert_eq!(lab.budget.orphans().len(), 1);
    lab.world.edit(|host| {
        host.jobs.clear();
        host.domains.remove(&id(2));
    });
    lab.announce(id(2));
    lab.run(100 * PERIOD);
    assert_eq!(lab.open(), 0);
}
