//! Bulk stats: groups with their own periods; those due together share calls.
//!
//! Two lanes are of this kind. The free one asks for all domains in one call. The monitor's asks in shards, always by name.
//! Either asks again, in smaller calls, for what a call that overran did not bring.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::{Ask, cut};
use crate::model::{DomainId, Group, GroupSet, Scope};
use crate::sampling::deadline::Usual;
use crate::sampling::schedule::Schedule;

/// Domains of one call at most: few enough that the others of a call that hangs are soon asked again, and enough that the
/// call itself costs nothing beside what it asks.
const SHARD: usize = 25;
/// How many domains share a call after one with more overran, and after that one overran too.
const SMALLER: [usize; 2] = [5, 1];
/// Calls of a turn by name at most, where there are more domains than that.
const MOST_CALLS: usize = 200;
/// After a call for all domains overran, or a domain was seen to end, so many turns ask by name and in smaller calls, so that
/// a domain that is being started or destroyed holds up few of the others.
const CAREFUL_TURNS: u32 = 5;

/// How a turn asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sampling) enum Plan {
    /// All domains in one call.
    Whole,
    /// By name, in at least so many calls.
    Shards(usize),
}

/// Groups, their timers, and the calls of the present turn that are still to be made.
pub(in crate::sampling) struct BulkLane {
    schedule: Schedule<Group>,
    periods: Vec<(Group, Duration)>,
    plan: Plan,
    careful: u32,
    queue: VecDeque<Ask>,
    failed_before: bool,
    pub(in crate::sampling) usual: Usual,
}

impl BulkLane {
    pub(in crate::sampling) fn new(
        periods: impl IntoIterator<Item = (Group, Duration)>,
        plan: Plan,
        now: Instant,
    ) -> Self {
        let periods: Vec<(Group, Duration)> = periods.into_iter().collect();
        Self {
            schedule: Schedule::new(periods.iter().copied(), now),
            periods,
            plan,
            careful: 0,
            queue: VecDeque::new(),
            failed_before: false,
            usual: Usual::default(),
        }
    }

    /// The groups that are due.
    pub(in crate::sampling) fn due(&mut self, now: Instant) -> GroupSet {
        self.schedule.due(now).into_iter().collect()
    }

    /// Begins a turn, and returns how many domains of the turn before were never asked: they have lost theirs, and come first
    /// now, or the same ones would lose every turn.
    ///
    /// `newcomers` started a moment ago: libvirt may hold their locks for seconds, so they share calls with nobody else.
    pub(in crate::sampling) fn begin(
        &mut self,
        groups: GroupSet,
        residents: &[DomainId],
        newcomers: &[DomainId],
    ) -> usize {
        let skipped = self.queue.iter().map(|ask| ask.ids().len().max(1)).sum();
        let left: HashSet<DomainId> = self.queue.drain(..).flat_map(|ask| ask.ids().to_vec()).collect();
        if groups.is_empty() {
            return skipped;
        }
        let mut residents = residents.to_vec();
        residents.sort_by_key(|id| !left.contains(id));
        let fewest = match self.plan {
            Plan::Whole if self.careful == 0 => {
                self.queue.push_back(Ask { groups, scope: Scope::All, depth: 0 });
                return skipped;
            }
            Plan::Whole => None,
            Plan::Shards(fewest) => Some(fewest),
        };
        let most =
            if self.careful == 0 { SHARD } else { residents.len().div_ceil(MOST_CALLS).clamp(SMALLER[0], SHARD) };
        self.careful = self.careful.saturating_sub(1);
        match fewest {
            Some(fewest) => self.queue.extend(cut(&residents, groups, (fewest, most), 0)),
            None => self.queue.extend(one_by_one(&residents, groups)),
        }
        self.queue.extend(cut(newcomers, groups, (1, SMALLER[0]), 1));
        self.queue.retain(|ask| !ask.ids().is_empty());
        skipped
    }

    /// The next turn asks by name, whatever the plan.
    pub(in crate::sampling) fn by_name(&mut self) {
        self.careful = self.careful.max(1);
    }

    /// The next turns ask by name, and in small calls: a domain ends, and more may.
    pub(in crate::sampling) fn with_care(&mut self) {
        self.careful = CAREFUL_TURNS;
    }

    /// A call overran: what it should have brought is asked for again, first of all, in smaller calls. `lacking` has the
    /// domains in question.
    pub(in crate::sampling) fn overran(&mut self, ask: &Ask, lacking: &[DomainId]) {
        if ask.scope == Scope::All {
            self.with_care();
            one_by_one(lacking, ask.groups).into_iter().rev().for_each(|ask| self.queue.push_front(ask));
            return;
        }
        if let Some(size) = SMALLER.get(ask.depth) {
            for smaller in cut(lacking, ask.groups, (1, *size), ask.depth + 1).into_iter().rev() {
                if !smaller.ids().is_empty() {
                    self.queue.push_front(smaller);
                }
            }
        }
    }

    /// Asks for these in the present turn after all, or at once.
    pub(in crate::sampling) fn also(&mut self, groups: GroupSet, ids: &[DomainId]) {
        self.queue.extend(cut(ids, groups, (1, SMALLER[0]), 1).into_iter().filter(|ask| !ask.ids().is_empty()));
    }

    /// The next call to make.
    pub(in crate::sampling) fn take(&mut self) -> Option<Ask> {
        self.queue.pop_front()
    }

    /// It could not be made yet.
    pub(in crate::sampling) fn put_back(&mut self, ask: Ask) {
        self.queue.push_front(ask);
    }

    pub(in crate::sampling) fn has_work(&self) -> bool {
        !self.queue.is_empty()
    }

    /// What is queued will not be asked: libvirt is away.
    pub(in crate::sampling) fn clear(&mut self) -> usize {
        self.queue.drain(..).map(|ask| ask.ids().len().max(1)).sum()
    }

    /// The shortest period of these groups.
    pub(in crate::sampling) fn period(&self, groups: GroupSet) -> Duration {
        let periods = self.periods.iter().filter(|(group, _)| groups.contains(*group)).map(|(_, period)| *period);
        periods.min().unwrap_or(Duration::from_secs(1))
    }

    /// Notes another period of some groups; the timers are moved apart from that.
    pub(in crate::sampling) fn set_period(&mut self, of: GroupSet, period: Duration) {
        for (_, known) in self.periods.iter_mut().filter(|(group, _)| of.contains(*group)) {
            *known = period;
        }
    }

    pub(in crate::sampling) fn groups(&self) -> GroupSet {
        self.periods.iter().map(|(group, _)| *group).collect()
    }

    pub(in crate::sampling) fn succeeded(&mut self) {
        self.failed_before = false;
    }

    /// A call lost its connection. Once, it is worth asking again as soon as the inventory has found libvirt alive; after
    /// that, only at the next tick, or a call that kills every connection would be repeated without end.
    pub(in crate::sampling) fn lost(&mut self) -> bool {
        !std::mem::replace(&mut self.failed_before, true)
    }

    pub(in crate::sampling) fn restart(&mut self, now: Instant) {
        self.schedule.restart(now);
    }

    pub(in crate::sampling) fn schedule(&mut self) -> &mut Schedule<Group> {
        &mut self.schedule
    }

    pub(in crate::sampling) fn next(&self) -> Option<Instant> {
        self.schedule.next()
    }
}

/// Since a lock is held: each that shares a call with its domain would wait, and each such call keeps a place. Only of very
/// many domains a few share one.
fn one_by_one(ids: &[DomainId], groups: GroupSet) -> Vec<Ask> {
    let size = ids.len().div_ceil(MOST_CALLS).max(1);
    let depth = if size == 1 { SMALLER.len() } else { SMALLER.len() - 1 };
    cut(ids, groups, (1, size), depth).into_iter().filter(|ask| !ask.ids().is_empty()).collect()
}

#[cfg(test)]
mod tests {
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
        lane.begin(groups(), &ids(0..40), &[]);
        assert_eq!(sizes(&mut lane), [20, 20]);
        lane.begin(groups(), &ids(0..100), &ids(100..106));
        assert_eq!(sizes(&mut lane), [25, 25, 25, 25, 3, 3]);
        lane.begin(groups(), &ids(0..1), &[]);
        assert_eq!(sizes(&mut lane), [1]);
        lane.begin(groups(), &[], &[]);
        assert!(sizes(&mut lane).is_empty());
    }

    #[test]
    fn shards_are_smaller_for_some_turns_after_a_domain_ended() {
        let mut lane = lane(Plan::Shards(2));
        lane.with_care();
        for _ in 0..CAREFUL_TURNS {
            lane.begin(groups(), &ids(0..40), &[]);
            assert_eq!(sizes(&mut lane), [5; 8]);
        }
        lane.begin(groups(), &ids(0..40), &[]);
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
        lane.begin(groups(), &many, &[]);
        assert_eq!(sizes(&mut lane), [20; MOST_CALLS]);
    }

    #[test]
    fn what_overran_is_asked_for_again_first_and_in_smaller_calls() {
        let mut lane = lane(Plan::Shards(2));
        lane.begin(groups(), &ids(0..40), &[]);
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
        lane.begin(groups(), &residents, &[]);
        let all = lane.take().expect("one call");
        assert_eq!(all.scope, Scope::All);
        lane.overran(&all, &residents);
        assert_eq!(sizes(&mut lane), [1, 1, 1]);
        for _ in 0..CAREFUL_TURNS {
            lane.begin(groups(), &residents, &[]);
            assert_eq!(sizes(&mut lane), [1, 1, 1]);
        }
        lane.begin(groups(), &residents, &[]);
        assert_eq!(lane.take().map(|ask| ask.scope), Some(Scope::All));
    }

    #[test]
    fn what_was_not_asked_by_the_next_turn_has_lost_its_own() {
        let mut lane = lane(Plan::Shards(2));
        assert_eq!(lane.begin(groups(), &ids(0..40), &[]), 0);
        lane.take();
        assert_eq!(lane.begin(groups(), &ids(0..40), &[]), 20);
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
}
