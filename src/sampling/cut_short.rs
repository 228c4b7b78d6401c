//! Domains whose record NOWAIT cut short: somebody else was at their monitor at that moment, such as another exporter.
//!
//! Each is asked once more, a little later in the same turn.

use std::collections::HashSet;
use std::time::Instant;

use crate::model::{BulkReply, DomainId, Group, GroupSet};

#[derive(Debug, Default)]
pub(super) struct CutShort {
    waiting: Vec<DomainId>,
    groups: GroupSet,
    due: Option<Instant>,
    /// Those who had their second call in this turn.
    asked: HashSet<DomainId>,
}

impl CutShort {
    /// A new turn asks everybody.
    pub(super) fn begin(&mut self) {
        *self = Self::default();
    }

    /// Notes whose disks are missing in this reply, and says whether that is anybody new; they are due then.
    pub(super) fn note(&mut self, groups: GroupSet, reply: &BulkReply, due: Instant) -> bool {
        if !groups.contains(Group::Block) {
            return false;
        }
        let before = self.waiting.len();
        let cut = reply.records.iter().filter(|record| record.figures.block.is_none()).map(|record| record.id);
        self.waiting.extend(cut.filter(|id| self.asked.insert(*id)));
        let is_news = self.waiting.len() > before;
        if is_news {
            self.groups = self.groups.union(groups);
            self.due.get_or_insert(due);
        }
        is_news
    }

    /// When somebody is to be asked.
    pub(super) fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Who is to be asked now, and for what.
    pub(super) fn take(&mut self, now: Instant) -> Option<(GroupSet, Vec<DomainId>)> {
        self.due.take_if(|due| *due <= now)?;
        Some((self.groups, std::mem::take(&mut self.waiting)))
    }
}
