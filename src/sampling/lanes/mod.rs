//! The lanes: what is due, what is queued and what is under way. Pure state; the engine acts on what they say.

mod block_info;
mod bulk;
mod inventory;
mod shards;

use crate::model::{DomainId, GroupSet, Scope};

pub(super) use block_info::{BlockInfoLane, Disk};
pub(super) use bulk::{BulkLane, Plan, Spared};
pub(super) use inventory::InventoryLane;

/// The lanes, as labels and pools.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Lane {
    Free,
    Monitor,
    BlockInfo,
    Inventory,
    Storage,
}

impl Lane {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Monitor => "monitor",
            Self::BlockInfo => "block_info",
            Self::Inventory => "inventory",
            Self::Storage => "storage",
        }
    }
}

/// One bulk call to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) groups: GroupSet,
    pub(super) scope: Scope,
    /// How often its domains were cut into smaller calls after one that overran.
    pub(super) depth: usize,
}

impl Ask {
    pub(super) fn ids(&self) -> &[DomainId] {
        match &self.scope {
            Scope::All => &[],
            Scope::Only(ids) => ids,
        }
    }
}
