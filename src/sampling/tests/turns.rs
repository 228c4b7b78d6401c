//! What is asked when nothing is wrong.

use super::*;
use crate::model::DomainId;

#[test]
fn the_list_comes_first_then_a_look_at_every_monitor_and_the_samples_right_after() {
    let mut lab = Lab::new(3);
    lab.settle();
    let calls: Vec<&str> =
        lab.asked.iter().filter(|(_, lane, _)| *lane != Lane::Storage).map(|(.., job)| job.call()).collect();
    assert_eq!(calls[..2], ["virConnectListAllDomains", "virDomainGetControlInfo"]);
    assert!(lab.store.snapshot().link.up);
    assert_eq!(lab.late(1..=3, &FREE), []);
    assert_eq!(lab.late(1..=3, &MONITOR), []);
    assert_eq!(lab.now(), Duration::ZERO);
}

#[test]
fn free_groups_share_one_call_and_monitor_groups_are_asked_by_name_in_shards() {
    let mut lab = Lab::started(60);
    lab.asked.clear();
    lab.run(PERIOD);
    let asked = lab.asked.clone();
    let free = lab.bulk_calls(Lane::Free);
    assert_eq!(free, [BulkRequest { groups: FREE.into_iter().collect(), scope: Scope::All }]);
    lab.asked = asked;
    let shards = lab.bulk_calls(Lane::Monitor);
    let sizes: Vec<usize> =
        shards.iter().map(|it| if let Scope::Only(ids) = &it.scope { ids.len() } else { 0 }).collect();
    assert_eq!(sizes, [30, 30], "they take no time here, so as few calls as there are workers");
    assert!(shards.iter().all(|it| !it.groups.contains(Group::State) && it.groups.contains(Group::Cpu)));
}

#[test]
fn groups_have_periods_of_their_own_and_share_calls() {
    let groups = [(Group::Cpu, 5 * SECOND), (Group::Block, 10 * SECOND)];
    let mut lab = Lab::with(1, &groups, Budget::new(4));
    lab.run(20 * SECOND);
    let asked: Vec<(u64, usize)> = lab
        .asked
        .iter()
        .filter_map(|(at, _, job)| match job {
            Job::Bulk(request) => Some((at.as_secs(), request.groups.iter().count())),
            _ => None,
        })
        .collect();
    assert_eq!(asked, [(0, 2), (5, 1), (10, 2), (15, 1), (20, 2)]);
}

#[test]
fn disks_are_asked_one_a_call_and_one_call_a_domain_at_a_time() {
    let mut lab = Lab::new(2);
    lab.world.change(1, |domain| domain.disks = vec!["/images", "/images"]);
    lab.settle();
    let order: Vec<(DomainId, Box<str>)> = lab
        .asked
        .iter()
        .filter_map(|(.., job)| match job {
            Job::BlockInfo(disks) => Some(disks.clone()),
            _ => None,
        })
        .map(|disks| <[_; 1]>::try_from(disks).expect("one a call")[0].clone())
        .collect();
    assert_eq!(order, [(id(1), "vda".into()), (id(2), "vda".into()), (id(1), "vdb".into())]);
}

#[test]
fn a_new_domain_makes_the_list_be_read_and_is_sampled_with_the_next_turn() {
    let mut lab = Lab::started(2);
    lab.world.edit(|host| host.domains.insert(id(3), Domain::default()));
    lab.announce(id(3));
    lab.run(SECOND);
    assert!(lab.store.snapshot().get(id(3)).is_some(), "the event is enough");
    lab.run(SECOND);
    assert_eq!(lab.late(1..=3, &MONITOR), []);
}

#[test]
fn it_sleeps_exactly_until_something_is_due() {
    let mut lab = Lab::with(1, &[(Group::State, 7 * SECOND)], Budget::new(4));
    lab.settle();
    let begin = lab.store.now();
    assert_eq!(lab.core.next(), Some(begin + 5 * SECOND), "a look at who scraped");
    assert_eq!(lab.core.wait(), 5 * SECOND, "and its heartbeat");
    lab.run(5 * SECOND);
    assert_eq!(lab.core.next(), Some(begin + 7 * SECOND));
    assert_eq!(lab.core.wait(), 2 * SECOND);
}

#[test]
fn missed_ticks_are_not_made_up_for() {
    let mut lab = Lab::started(1);
    lab.asked.clear();
    lab.clock.advance(9 * SECOND);
    lab.settle();
    assert_eq!(lab.bulk_calls(Lane::Free).len(), 1);
    lab.run(SECOND);
    assert_eq!(lab.bulk_calls(Lane::Free).len(), 1, "and the rhythm stays");
}

/// The bulk calls of one lane in a turn, by the number of their domains.
fn sizes_of_a_turn(lab: &mut Lab, lane: Lane) -> Vec<usize> {
    lab.asked.clear();
    lab.run(PERIOD);
    let calls = lab.bulk_calls(lane);
    calls.iter().map(|it| if let Scope::Only(ids) = &it.scope { ids.len() } else { 0 }).collect()
}

#[test]
fn a_call_that_is_too_large_is_halved_at_once_and_nobody_loses_a_sample() {
    let mut lab = Lab::started(64);
    lab.world.edit(|host| host.record_bytes = 10_000);
    lab.run(PERIOD);
    lab.world.edit(|host| host.largest = Some(10));
    let sizes = sizes_of_a_turn(&mut lab, Lane::Monitor);
    assert_eq!(sizes.iter().filter(|size| **size <= 10).sum::<usize>(), 64, "{sizes:?}");
    assert_eq!(lab.late(1..=64, &MONITOR), []);
    assert_eq!(lab.late(1..=64, &FREE), []);
    let halved = lab.store.snapshot().shards.monitor.halved;
    assert!(halved > 0);
    // What was learnt is kept: the next turn asks in calls that fit from the start.
    let sizes = sizes_of_a_turn(&mut lab, Lane::Monitor);
    assert!(sizes.iter().all(|size| *size <= 10), "{sizes:?}");
    let shards = lab.store.snapshot().shards.monitor;
    assert_eq!((shards.halved, shards.calls), (halved, sizes.len()));
    assert!(shards.bytes <= Some(shards.limit_bytes) && shards.domains <= Some(10), "{shards:?}");
    assert_eq!(lab.store.snapshot().problem, None);
}

#[test]
fn one_domain_that_makes_every_call_fail_costs_no_other_its_sample() {
    let mut lab = Lab::started(60);
    lab.world.edit(|host| host.poisoned = Some(id(17)));
    for _ in 0..3 {
        let calls = sizes_of_a_turn(&mut lab, Lane::Monitor).len();
        assert!(calls <= 14, "{calls} calls to find one of 60");
        assert_eq!(lab.late((1..=60).filter(|number| *number != 17), &MONITOR), []);
        assert_eq!(lab.late((1..=60).filter(|number| *number != 17), &FREE), []);
    }
    assert!(lab.skipped(Lane::Monitor, "refused") >= 3);
    lab.world.edit(|host| host.poisoned = None);
    lab.run(PERIOD);
    assert_eq!(lab.late(1..=60, &MONITOR), []);
}

#[test]
fn where_everything_is_refused_asking_has_an_end() {
    let mut lab = Lab::started(200);
    lab.world.edit(|host| host.largest = Some(0));
    let calls = sizes_of_a_turn(&mut lab, Lane::Monitor).len();
    assert!(calls <= 210, "{calls}");
    assert!(lab.store.snapshot().problem.is_some());
}

#[test]
fn very_many_domains_are_not_all_asked_by_one_call() {
    let mut lab = Lab::started(200);
    // Each takes a good part of what a reply may take.
    lab.world.edit(|host| host.record_bytes = 50_000);
    lab.run(2 * PERIOD);
    for lane in [Lane::Free, Lane::Monitor] {
        let sizes = sizes_of_a_turn(&mut lab, lane);
        assert_eq!(sizes.iter().sum::<usize>(), 200, "{lane:?}: {sizes:?}");
        assert!(sizes.iter().all(|size| (1..=20).contains(size)), "{lane:?}: {sizes:?}");
    }
    assert_eq!(lab.late(1..=200, &MONITOR), []);
}

#[test]
fn all_are_looked_at_first_when_there_are_very_many() {
    let mut lab = Lab::new(200);
    lab.world.edit(|host| {
        // As many as need three looks.
        for number in 201..=1200_u16 {
            let mut bytes = [0; 16];
            bytes[..2].copy_from_slice(&number.to_be_bytes());
            host.domains.insert(DomainId::from_bytes(bytes), Domain::default());
        }
    });
    lab.run(10 * MS);
    let looks: Vec<usize> = lab
        .asked
        .iter()
        .filter_map(|(.., job)| if let Job::Control(ids) = job { Some(ids.len()) } else { None })
        .collect();
    assert_eq!(looks, [500, 500, 200]);
    assert_eq!(lab.store.snapshot().incomplete, None);
}

#[test]
fn the_state_of_who_is_paused_or_goes_on_is_asked_for_at_once() {
    let mut lab = Lab::started(3);
    lab.run(PERIOD / 2);
    lab.bulk_calls(Lane::Free);
    lab.asked.clear();
    for what in [Happened::Paused(crate::model::PauseReason::Paused), Happened::Resumed] {
        let event = DomainEvent { id: id(2), run: None, what };
        lab.core.event(lab.store.moment(), &event);
    }
    lab.run(10 * MS);
    let only = BulkRequest { groups: GroupSet::of(Group::State), scope: Scope::Only(vec![id(2)]) };
    assert_eq!(lab.bulk_calls(Lane::Free), [only]);
    assert!(lab.age(2, Group::State) < PERIOD / 4 && lab.age(1, Group::State) > PERIOD / 4);
}

#[test]
fn limits_that_are_set_without_end_make_a_list_in_five_seconds_and_keep_nothing_else_waiting() {
    let mut lab = Lab::started(3);
    lab.run(SECOND);
    lab.asked.clear();
    for step in 0..2_000_u32 {
        lab.happens(id(u8::try_from(step % 3 + 1).expect("small")), Happened::Tuned);
        lab.run(10 * MS);
    }
    let lists = |lab: &Lab| lab.asked.iter().filter(|(.., job)| matches!(job, Job::Inventory(_))).count();
    assert!((4..=5).contains(&lists(&lab)), "{} in 20 s", lists(&lab));
    lab.run(5 * SECOND);
    lab.asked.clear();
    lab.world.edit(|host| host.domains.insert(id(4), Domain::default()));
    lab.announce(id(4));
    lab.run(300 * MS);
    assert!(lists(&lab) == 1 && lab.store.snapshot().get(id(4)).is_some());
}
