//! How turns are cut into calls.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn ids(numbers: std::ops::Range<u8>) -> Vec<DomainId> {
    numbers.map(|number| DomainId::from_bytes([number; 16])).collect()
}

fn groups() -> GroupSet {
    [Group::Cpu, Group::Block].into_iter().collect()
}

fn lane(plan: Plan) -> BulkLane {
    BulkLane::new([(Group::Cpu, 2 * SECOND), (Group::Block, 10 * SECOND)], plan, Instant::now())
}

fn sizes(lane: &mut BulkLane) -> Vec<usize> {
    std::iter::from_fn(|| lane.take()).map(|ask| ask.ids().len()).collect()
}

#[test]
fn shards_are_equal_and_small_and_newcomers_are_apart() {
    let mut lane = lane(Plan::Shards(2));
    lane.begin(groups(), &Spared::default(), &ids(0..40), &[]);
    assert_eq!(sizes(&mut lane), [20, 20]);
    lane.begin(groups(), &Spared::default(), &ids(0..100), &ids(100..106));
    assert_eq!(sizes(&mut lane), [25, 25, 25, 25, 3, 3]);
    lane.begin(groups(), &Spared::default(), &ids(0..1), &[]);
    assert_eq!(sizes(&mut lane), [1]);
    lane.begin(groups(), &Spared::default(), &[], &[]);
    assert!(sizes(&mut lane).is_empty());
}

#[test]
fn shards_are_smaller_for_some_turns_after_a_domain_ended() {
    let mut lane = lane(Plan::Shards(2));
    lane.with_care();
    for _ in 0..CAREFUL_TURNS {
        lane.begin(groups(), &Spared::default(), &ids(0..40), &[]);
        assert_eq!(sizes(&mut lane), [5; 8]);
    }
    lane.begin(groups(), &Spared::default(), &ids(0..40), &[]);
    assert_eq!(sizes(&mut lane), [20, 20]);
    // Many domains have no more calls than that.
    let many: Vec<DomainId> = (0..4000_u16)
        .map(|number| {
            let mut bytes = [0; 16];
            bytes[..2].copy_from_slice(&number.to_be_bytes());
            DomainId::from_bytes(bytes)
        })
        .collect();
    lane.with_care();
    lane.begin(groups(), &Spared::default(), &many, &[]);
    assert_eq!(sizes(&mut lane), [20; MOST_CALLS]);
}

#[test]
fn what_overran_is_asked_for_again_first_and_in_smaller_calls() {
    let mut lane = lane(Plan::Shards(2));
    lane.begin(groups(), &Spared::default(), &ids(0..40), &[]);
    let first = lane.take().expect("a shard");
    lane.overran(&first, &ids(0..19));
    let again = lane.take().expect("again");
    assert_eq!((again.ids(), again.depth), (&ids(0..5)[..], 1));
    lane.overran(&again, &ids(0..4));
    let alone = lane.take().expect("again");
    assert_eq!((alone.ids(), alone.depth), (&ids(0..1)[..], 2));
    lane.overran(&alone, &ids(0..1));
    assert_eq!(sizes(&mut lane), [1, 1, 1, 5, 5, 4, 20], "whoever overran alone waits for its next turn");
}

#[test]
fn after_a_call_for_all_overran_some_turns_ask_by_name() {
    let mut lane = lane(Plan::Whole);
    let residents = ids(0..3);
    lane.begin(groups(), &Spared::default(), &residents, &[]);
    let all = lane.take().expect("one call");
    assert_eq!(all.scope, Scope::All);
    lane.overran(&all, &residents);
    assert_eq!(sizes(&mut lane), [1, 1, 1]);
    for _ in 0..CAREFUL_TURNS {
        lane.begin(groups(), &Spared::default(), &residents, &[]);
        assert_eq!(sizes(&mut lane), [1, 1, 1]);
    }
    lane.begin(groups(), &Spared::default(), &residents, &[]);
    assert_eq!(lane.take().map(|ask| ask.scope), Some(Scope::All));
}

#[test]
fn what_was_not_asked_by_the_next_turn_has_lost_its_own() {
    let mut lane = lane(Plan::Shards(2));
    assert_eq!(lane.begin(groups(), &Spared::default(), &ids(0..40), &[]), 0);
    lane.take();
    assert_eq!(lane.begin(groups(), &Spared::default(), &ids(0..40), &[]), 20);
    let first = lane.take().expect("a shard");
    assert_eq!(first.ids(), ids(20..40), "first of all, and not last again");
}

#[test]
fn a_call_has_the_shortest_period_of_its_groups() {
    let lane = lane(Plan::Whole);
    assert_eq!(lane.period(groups()), 2 * SECOND);
    assert_eq!(lane.period([Group::Block].into_iter().collect()), 10 * SECOND);
}

#[test]
fn a_lost_call_is_repeated_once() {
    let mut lane = lane(Plan::Whole);
    assert!(lane.lost());
    assert!(!lane.lost());
    lane.succeeded();
    assert!(lane.lost());
}
