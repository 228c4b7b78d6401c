//! How large bulk calls are: by what replies took in libvirt's messages, by how long they took, and by what was refused.
//!
//! libvirt refuses a message above 32 MiB (older releases: 16), and above 16,384 domains. Long before that a reply is a burden:
//! libvirt.so holds it three times over while it is unpacked. So calls are cut to a megabyte, as far as it is known what a
//! domain takes; and a call that is refused all the same is halved, and the halves are asked at once.

use std::collections::HashMap;
use std::time::Duration;

use super::Ask;
use crate::model::{DomainId, GroupSet, Scope};

/// What a reply may take in libvirt's message. Unpacked it is about five times that, for each worker.
const LIMIT: u64 = 1 << 20;
/// What is refused below this is not refused for its size.
const LEAST_LIMIT: u64 = 16 << 10;
/// What a domain counts for before its first reply: more than most take of state and network.
const UNKNOWN: u32 = 1024;

/// Domains of one call at most where nothing is known of the time they take: few enough that the others of a call that hangs
/// are soon asked again, and enough that the call itself costs nothing beside what it asks.
const FEW: usize = 25;
/// And where they take next to nothing: more would save nothing any more.
const MANY: usize = 500;
/// A call should take no longer than this, if it can be so short with `FEW` domains: others wait for its place.
const CALL_TIME: Duration = Duration::from_millis(100);

/// What is known about the sizes of one lane's replies.
#[derive(Debug)]
pub(super) struct Shards {
    bytes: HashMap<DomainId, u32>,
    limit: u64,
    halved: u64,
}

impl Default for Shards {
    fn default() -> Self {
        Self { bytes: HashMap::new(), limit: LIMIT, halved: 0 }
    }
}

impl Shards {
    /// A reply came, with these sizes. What a domain took before counts on for a while: it may have been asked for more.
    pub(super) fn learn(&mut self, sizes: &[(DomainId, u32)]) {
        for (id, size) in sizes {
            let known = self.bytes.entry(*id).or_default();
            *known = (*size).max(*known - *known / 8);
        }
    }

    /// Another libvirtd may have other limits.
    pub(super) fn forget_limit(&mut self) {
        self.limit = LIMIT;
    }

    pub(super) fn keep_only(&mut self, running: impl Fn(DomainId) -> bool) {
        self.bytes.retain(|id, _| running(*id));
    }

    /// What the reply about these is expected to take.
    pub(super) fn size_of(&self, ids: &[DomainId]) -> u64 {
        ids.iter().map(|id| u64::from(self.size(*id))).sum()
    }

    fn size(&self, id: DomainId) -> u32 {
        self.bytes.get(&id).copied().unwrap_or(UNKNOWN)
    }

    /// May one call be about all of these?
    pub(super) fn fit_one(&self, ids: &[DomainId]) -> bool {
        self.size_of(ids) <= self.limit
    }

    /// Is anything known about these yet?
    pub(super) fn knows(&self, ids: &[DomainId]) -> bool {
        ids.iter().any(|id| self.bytes.contains_key(id))
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit
    }

    pub(super) fn halved(&self) -> u64 {
        self.halved
    }

    /// A call was refused: its two halves. None if it was about one domain.
    pub(super) fn halve(&mut self, ids: &[DomainId], groups: GroupSet, depth: usize, for_size: bool) -> Vec<Ask> {
        if for_size && self.knows(ids) {
            self.limit = self.limit.min(self.size_of(ids) / 2).max(LEAST_LIMIT);
        }
        if ids.len() < 2 {
            return Vec::new();
        }
        self.halved += 1;
        let half = ids.len().div_ceil(2);
        ids.chunks(half).map(|ids| Ask { groups, scope: Scope::Only(ids.to_vec()), depth }).collect()
    }

    /// Cuts into calls of nearly as many domains each: as few calls as possible, but at least `fewest`, of at most `largest`
    /// domains each, and of no larger replies than may be.
    pub(super) fn cut(
        &self,
        ids: &[DomainId],
        groups: GroupSet,
        (fewest, largest): (usize, usize),
        depth: usize,
    ) -> Vec<Ask> {
        let by_bytes = usize::try_from(self.size_of(ids).div_ceil(self.limit)).unwrap_or(usize::MAX);
        let calls = ids.len().div_ceil(largest.max(1)).max(fewest).max(by_bytes).clamp(1, ids.len().max(1));
        let most = ids.len().div_ceil(calls).max(1);
        let mut asks = Vec::with_capacity(calls);
        let (mut begin, mut bytes) = (0, 0);
        for (at, id) in ids.iter().enumerate() {
            let size = u64::from(self.size(*id));
            if at > begin && (at - begin == most || bytes + size > self.limit) {
                asks.push(Ask { groups, scope: Scope::Only(ids[begin..at].to_vec()), depth });
                (begin, bytes) = (at, 0);
            }
            bytes += size;
        }
        if begin < ids.len() {
            asks.push(Ask { groups, scope: Scope::Only(ids[begin..].to_vec()), depth });
        }
        asks
    }
}

/// Domains of one call at most, if each takes so long.
pub(super) fn largest(each: Option<Duration>) -> usize {
    let fit = |each: Duration| CALL_TIME.as_nanos() / each.as_nanos().max(1);
    each.map_or(FEW, |each| usize::try_from(fit(each)).unwrap_or(MANY).clamp(FEW, MANY))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Group;

    fn id(number: u16) -> DomainId {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        DomainId::from_bytes(bytes)
    }

    fn groups() -> GroupSet {
        GroupSet::of(Group::Vcpu)
    }

    fn sizes(asks: &[Ask]) -> Vec<usize> {
        asks.iter().map(|ask| ask.ids().len()).collect()
    }

    #[test]
    fn large_guests_share_a_call_with_few() {
        let mut shards = Shards::default();
        let ids: Vec<DomainId> = (0..200).map(id).collect();
        assert_eq!(sizes(&shards.cut(&ids, groups(), (1, 500), 0)), [200], "nothing is known: a KiB each");
        let learnt: Vec<_> = ids.iter().map(|it| (*it, if *it < id(8) { 130_000 } else { 7_000 })).collect();
        shards.learn(&learnt);
        let asks = shards.cut(&ids, groups(), (1, 500), 0);
        assert!(asks.iter().all(|ask| shards.size_of(ask.ids()) <= LIMIT));
        assert_eq!((asks[0].ids().len(), asks.len()), (9, 4), "{:?}", sizes(&asks));
        // One that is larger than all limits is asked alone.
        shards.learn(&[(id(0), 3 << 20)]);
        assert_eq!(shards.cut(&ids[..3], groups(), (1, 500), 0)[0].ids(), [id(0)]);
    }

    #[test]
    fn what_is_refused_for_its_size_is_halved_and_later_calls_are_smaller() {
        let mut shards = Shards::default();
        let ids: Vec<DomainId> = (0..100).map(id).collect();
        shards.learn(&ids.iter().map(|id| (*id, 2_000)).collect::<Vec<_>>());
        assert_eq!(sizes(&shards.cut(&ids, groups(), (1, 500), 0)), [100]);
        assert_eq!(sizes(&shards.halve(&ids, groups(), 0, true)), [50, 50]);
        assert_eq!((shards.limit(), shards.halved()), (100_000, 1));
        assert_eq!(sizes(&shards.cut(&ids, groups(), (1, 500), 0)), [50, 50]);
        assert!(shards.halve(&ids[..1], groups(), 0, true).is_empty(), "one cannot be halved");
        assert_eq!(shards.limit(), LEAST_LIMIT);
        shards.forget_limit();
        assert!(shards.fit_one(&ids));
        shards.halve(&ids, groups(), 0, false);
        assert!(shards.fit_one(&ids), "it was for something else");
    }

    #[test]
    fn what_took_more_before_may_take_it_again() {
        let mut shards = Shards::default();
        shards.learn(&[(id(1), 8_000)]);
        shards.learn(&[(id(1), 100)]);
        assert_eq!(shards.size_of(&[id(1)]), 7_000);
        (0..100).for_each(|_| shards.learn(&[(id(1), 100)]));
        assert_eq!(shards.size_of(&[id(1)]), 100);
    }

    #[test]
    fn calls_are_large_where_domains_are_quick() {
        assert_eq!(largest(None), FEW);
        assert_eq!(largest(Some(Duration::from_millis(4))), 25);
        assert_eq!(largest(Some(Duration::from_millis(1))), 100);
        assert_eq!(largest(Some(Duration::from_micros(50))), MANY);
        assert_eq!(largest(Some(Duration::ZERO)), MANY);
    }

    proptest! {
        #[test]
        fn nobody_is_left_out_or_asked_twice(
            sizes in prop::collection::vec(1_u32..200_000, 0..300),
            fewest in 1_usize..4,
            largest in 1_usize..600,
        ) {
            let mut shards = Shards::default();
            let ids: Vec<DomainId> = (0..).map(id).take(sizes.len()).collect();
            shards.learn(&ids.iter().copied().zip(sizes).collect::<Vec<_>>());
            let asks = shards.cut(&ids, groups(), (fewest, largest), 0);
            let asked: Vec<DomainId> = asks.iter().flat_map(|ask| ask.ids().to_vec()).collect();
            prop_assert_eq!(asked, ids);
            for ask in &asks {
                prop_assert!((1..=largest).contains(&ask.ids().len()));
                prop_assert!(ask.ids().len() == 1 || shards.fit_one(ask.ids()));
            }
        }
    }
}
