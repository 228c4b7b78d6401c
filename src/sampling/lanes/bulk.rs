//! Bulk stats: groups with their own periods; those due together share calls.
//!
//! Two lanes are of this kind. The free one asks for all domains in one call, unless they are too many for that. The monitor's
//! asks in shards, always by name. Either asks again, in smaller calls, for what a call that overran, or was refused, did not
//! bring.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use super::Ask;
use super::shards::{Shards, largest};
use crate::model::{DomainId, Group, GroupSet, Scope};
use crate::sampling::deadline::Usual;
use crate::sampling::schedule::Schedule;
use crate::store::LaneShards;

/// How many domains share a call after one with more overran, and after that one overran too.
const SMALLER: [usize; 2] = [5, 1];
/// Calls of a turn by name at most, where there are more domains than that.
const MOST_CALLS: usize = 200;
/// Calls of a turn at most that repeat refused ones in halves. One domain that makes each call fail costs some twenty to be
/// found; where everything is refused, asking on finds nothing.
const MOST_HALVINGS: usize = 200;
/// Domains of one call at most that are asked by name beside a call for all.
const FEW_BESIDE: usize = 100;
/// After a call for all domains overran, or a domain was seen to end, so many turns ask by name and in smaller calls, so that
/// a domain that is being started or destroyed holds up few of the others.
const CAREFUL_TURNS: u32 = 5;

/// How a turn asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sampling) enum Plan {
    /// All domains in one call, if one reply can hold them.
    Whole,
    /// By name, in at least so many calls.
    Shards(usize),
}

/// What a turn need not ask libvirt for, since another lane tells it, and of whom.
#[derive(Debug, Default)]
pub(in crate::sampling) struct Spared {
    pub(in crate::sampling) groups: GroupSet,
    pub(in crate::sampling) domains: HashSet<DomainId>,
}

impl Spared {
    fn has(&self, id: &DomainId) -> bool {
        self.domains.contains(id)
    }

    /// The domains with what is to be asked of them.
    fn split(&self, groups: GroupSet, ids: &[DomainId]) -> [(GroupSet, Vec<DomainId>); 2] {
        let (spared, others) = ids.iter().partition(|id| self.has(id));
        [(groups.without(self.groups), spared), (groups, others)]
    }
}

/// Groups, their timers, and the calls of the present turn that are still to be made.
pub(in crate::sampling) struct BulkLane {
    schedule: Schedule<Group>,
    periods: Vec<(Group, Duration)>,
    plan: Plan,
    careful: u32,
    queue: VecDeque<Ask>,
    failed_before: bool,
    shards: Shards,
    halvings: usize,
    shown: LaneShards,
    /// Of calls with groups that another lane may tell, and of those without: the latter are much shorter.
    usual: [Usual; 2],
    /// When libvirt is to be asked next for what another lane tells too.
    compare_at: Option<Instant>,
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
            shards: Shards::default(),
            halvings: 0,
            shown: LaneShards::default(),
            usual: [Usual::default(), Usual::default()],
            compare_at: None,
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
        spared: &Spared,
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
        self.halvings = 0;
        let fewest = match self.plan {
            Plan::Whole if self.careful == 0 && self.shards.fit_one(&residents) => {
                self.ask_all(groups, spared, &[&residents[..], newcomers].concat());
                self.note_shards(&residents);
                return skipped;
            }
            Plan::Whole if self.careful == 0 => Some(1),
            Plan::Whole => None,
            Plan::Shards(fewest) => Some(fewest),
        };
        let careful = self.careful > 0;
        self.careful = self.careful.saturating_sub(1);
        for (groups, ids) in spared.split(groups, &residents) {
            let usual = largest(self.usual(groups).of(1));
            let most = if careful { residents.len().div_ceil(MOST_CALLS).clamp(SMALLER[0], usual) } else { usual };
            let asks = match fewest {
                Some(fewest) => self.shards.cut(&ids, groups, (fewest, most), 0),
                None => self.one_by_one(&ids, groups),
            };
            self.queue.extend(asks);
        }
        for (groups, ids) in spared.split(groups, newcomers) {
            self.queue.extend(self.shards.cut(&ids, groups, (1, SMALLER[0]), 1));
        }
        self.queue.retain(|ask| !ask.groups.is_empty());
        self.note_shards(&residents);
        skipped
    }

    /// Asks for all domains in one call, and for what others are spared by name.
    fn ask_all(&mut self, groups: GroupSet, spared: &Spared, ids: &[DomainId]) {
        let [(fewer, some), (_, others)] = spared.split(groups, ids);
        let all = if some.is_empty() { groups } else { fewer };
        if !all.is_empty() {
            self.queue.push_back(Ask { groups: all, scope: Scope::All, depth: 0 });
        }
        let more = groups.without(all);
        if !more.is_empty() {
            self.queue.extend(self.shards.cut(&others, more, (1, FEW_BESIDE), 0));
        }
    }

    /// Is this turn to ask for what another lane tells too, which is done every so often? The turn that is nearest is, since timers
    /// move.
    pub(in crate::sampling) fn is_to_compare(&mut self, groups: GroupSet, every: Duration, now: Instant) -> bool {
        let is_due = self.compare_at.is_none_or(|at| now + self.period(groups) / 2 >= at);
        if is_due {
            self.compare_at = Some(now + every);
        }
        is_due
    }

    /// How long calls for such groups take.
    pub(in crate::sampling) fn usual(&self, groups: GroupSet) -> &Usual {
        &self.usual[Self::kind(groups)]
    }

    /// A call for such groups, about so many domains, took so long.
    pub(in crate::sampling) fn learn_usual(&mut self, groups: GroupSet, took: Duration, domains: usize) {
        self.usual[Self::kind(groups)].learn(took, domains);
    }

    fn kind(groups: GroupSet) -> usize {
        usize::from(Group::SHARED.into_iter().any(|group| groups.contains(group)))
    }

    /// Notes how the turn that begins is cut.
    fn note_shards(&mut self, residents: &[DomainId]) {
        let all = self.queue.iter().any(|ask| ask.scope == Scope::All);
        let largest = self.queue.iter().map(|ask| ask.ids().len()).max().unwrap_or(0);
        let bytes = self.queue.iter().map(|ask| self.shards.size_of(ask.ids())).max().unwrap_or(0);
        self.shown = LaneShards {
            calls: self.queue.len(),
            domains: (!all).then_some(largest),
            bytes: self.shards.knows(residents).then(|| if all { self.shards.size_of(residents) } else { bytes }),
            ..LaneShards::default()
        };
    }

    /// How the newest turn was cut.
    pub(in crate::sampling) fn shards(&self) -> LaneShards {
        LaneShards { limit_bytes: self.shards.limit(), halved: self.shards.halved(), ..self.shown }
    }

    /// A reply came, with these sizes.
    pub(in crate::sampling) fn learn_sizes(&mut self, sizes: &[(DomainId, u32)]) {
        self.shards.learn(sizes);
    }

    /// Forgets domains that do not run any more.
    pub(in crate::sampling) fn keep_only(&mut self, running: &HashSet<DomainId>) {
        self.shards.keep_only(|id| running.contains(&id));
    }

    /// libvirt refused a call about these: it is halved, and the halves come next. Returns whether that will be of use: not
    /// for one domain alone, and not without end.
    pub(in crate::sampling) fn refused(&mut self, ask: &Ask, ids: &[DomainId], for_size: bool) -> bool {
        let halves = self.shards.halve(ids, ask.groups, ask.depth, for_size);
        if halves.is_empty() || self.halvings >= MOST_HALVINGS {
            return false;
        }
        self.halvings += halves.len();
        halves.into_iter().rev().for_each(|half| self.queue.push_front(half));
        true
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
            let asks = self.one_by_one(lacking, ask.groups);
            asks.into_iter().rev().for_each(|ask| self.queue.push_front(ask));
            return;
        }
        if let Some(size) = SMALLER.get(ask.depth) {
            let smaller = self.shards.cut(lacking, ask.groups, (1, *size), ask.depth + 1);
            smaller.into_iter().rev().for_each(|ask| self.queue.push_front(ask));
        }
    }

    /// Asks for these in the present turn after all, or at once.
    pub(in crate::sampling) fn also(&mut self, groups: GroupSet, ids: &[DomainId]) {
        let asks = self.shards.cut(ids, groups, (1, SMALLER[0]), 1);
        self.queue.extend(asks);
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

    /// libvirt is there again, and may be another one.
    pub(in crate::sampling) fn restart(&mut self, now: Instant) {
        self.shards.forget_limit();
        self.schedule.restart(now);
    }

    pub(in crate::sampling) fn schedule(&mut self) -> &mut Schedule<Group> {
        &mut self.schedule
    }

    pub(in crate::sampling) fn next(&self) -> Option<Instant> {
        self.schedule.next()
    }

    /// Since a lock is held: each that shares a call with its domain would wait, and each such call keeps a place. Only of
    /// very many domains a few share one.
    fn one_by_one(&self, ids: &[DomainId], groups: GroupSet) -> Vec<Ask> {
        let size = ids.len().div_ceil(MOST_CALLS).max(1);
        let depth = if size == 1 { SMALLER.len() } else { SMALLER.len() - 1 };
        self.shards.cut(ids, groups, (1, size), depth)
    }
}

#[cfg(test)]
mod tests;
