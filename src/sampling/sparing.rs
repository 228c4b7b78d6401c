//! What the kernel lane spares libvirt, and what it tells the scheduler.

use std::time::Instant;

use super::core::Core;
use super::kernel::Noticed;
use super::lanes::{Lane, Spared};
use crate::model::{Group, GroupSet};
use crate::store::{Domain, Snapshot};

impl Core {
    /// The kernel lane noticed something.
    pub(super) fn noticed(&mut self, noticed: &Noticed) {
        match noticed {
            Noticed::Restarted => self.inventory.request([]),
            Noticed::Stopped(id) => {
                let snapshot = self.store.snapshot();
                let now = self.store.stamp();
                if let Some(domain) = snapshot.get(*id) {
                    self.look_at_all(&[domain], now);
                }
            }
        }
    }

    /// What a turn of a lane need not ask for, since the kernel lane tells it; nothing when it is time to compare.
    pub(super) fn spared(&mut self, lane: Lane, groups: GroupSet, snapshot: &Snapshot, now: Instant) -> Spared {
        let shared = groups.intersection(Group::SHARED.into_iter().collect());
        let is_off = shared.is_empty() || snapshot.stale_after.get(Group::Kernel).is_none();
        let every = self.cross_check;
        if is_off || self.bulk_lane(lane).is_to_compare(shared, every, now) {
            return Spared::default();
        }
        let feeds = |domain: &Domain| shared.iter().all(|group| snapshot.kernel_feeds(domain, group, now));
        let domains = snapshot.domains.iter().filter(|domain| feeds(domain)).map(|domain| domain.id).collect();
        Spared { groups: shared, domains }
    }
}
