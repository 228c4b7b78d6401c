//! The sizes of a domain's disks, which are asked for disk by disk and so have a time each.

use std::sync::Arc;

use super::window::Sampled;
use crate::model::{BlockInfo, DomainId, RunId, Stamp};

/// What came of asking for the sizes of one disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockInfoAnswer {
    /// Just before the call.
    pub started: Stamp,
    /// Whose disk.
    pub id: DomainId,
    /// In which run it was asked.
    pub run: Option<RunId>,
    /// The disk's target in the guest (`vda`).
    pub target: Box<str>,
    /// Its sizes; `None` if there is nothing to tell, as of a drive without a medium.
    pub info: Option<BlockInfo>,
}

/// The newest answer about each disk of a domain. Shared until it changes: most snapshots change nothing in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DiskSizes {
    disks: Arc<Vec<Disk>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Disk {
    target: Box<str>,
    /// Also of disks that have nothing to tell, so that what was asked is not taken for overdue.
    newest: Sampled<Option<BlockInfo>>,
}

impl DiskSizes {
    /// The sizes of a disk, and when they were asked for.
    #[must_use]
    pub fn get(&self, target: &str) -> Option<(BlockInfo, Stamp)> {
        let disk = self.disks.iter().find(|disk| *disk.target == *target)?;
        Some((disk.newest.figures?, disk.newest.started))
    }

    /// Each disk that has sizes to tell, in the order in which they were first asked for.
    pub fn iter(&self) -> impl Iterator<Item = (&str, BlockInfo, Stamp)> {
        self.disks.iter().filter_map(|disk| Some((&*disk.target, disk.newest.figures?, disk.newest.started)))
    }

    /// When the disk that was not asked about for longest was asked about.
    #[must_use]
    pub fn oldest(&self) -> Option<Stamp> {
        self.disks.iter().map(|disk| disk.newest.started).min_by_key(|started| started.at)
    }

    /// Takes an answer; one that was asked for earlier than what is here is refused.
    pub(super) fn push(&mut self, started: Stamp, target: &str, info: Option<BlockInfo>) -> bool {
        let newest = Sampled { started, figures: info };
        match self.disks.iter().position(|disk| *disk.target == *target) {
            Some(place) if self.disks[place].newest.started.at >= started.at => return false,
            Some(place) => Arc::make_mut(&mut self.disks)[place].newest = newest,
            None => Arc::make_mut(&mut self.disks).push(Disk { target: target.into(), newest }),
        }
        true
    }

    /// Would [`Self::keep_only`] change anything?
    pub(super) fn has_others(&self, targets: &[Box<str>]) -> bool {
        self.disks.iter().any(|disk| !targets.contains(&disk.target))
    }

    /// Forgets disks other than these.
    pub(super) fn keep_only(&mut self, targets: &[Box<str>]) {
        Arc::make_mut(&mut self.disks).retain(|disk| targets.contains(&disk.target));
    }
}
