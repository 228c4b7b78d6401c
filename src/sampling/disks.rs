//! Which disks domains have, and on which mounts: from their XML, worked out once for each.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::lanes::Disk;
use crate::model::{DomainDescription, DomainId, Storage};
use crate::store::Snapshot;

/// The disks of running domains.
pub(super) struct Disks {
    storage: Arc<dyn Storage>,
    domains: HashMap<DomainId, (Arc<DomainDescription>, Vec<Disk>)>,
}

impl Disks {
    pub(super) fn new(storage: Arc<dyn Storage>) -> Self {
        Self { storage, domains: HashMap::new() }
    }

    /// Takes what is new in the snapshot.
    pub(super) fn refresh(&mut self, snapshot: &Snapshot) {
        let mut before = std::mem::take(&mut self.domains);
        for domain in snapshot.domains.iter().filter(|domain| domain.run.is_some()) {
            let Some(description) = &domain.description else { continue };
            let known = before.remove(&domain.id).filter(|(known, _)| Arc::ptr_eq(known, description));
            let disks = known.unwrap_or_else(|| (Arc::clone(description), self.disks_of(description)));
            self.domains.insert(domain.id, disks);
        }
    }

    fn disks_of(&self, description: &DomainDescription) -> Vec<Disk> {
        let disk = |disk: &crate::model::DiskDescription| {
            let is_local = matches!(&*disk.disk_type, "file" | "block" | "dir") && !disk.source.is_empty();
            let path: Arc<str> = disk.source.as_ref().into();
            let mount = is_local.then(|| self.storage.mount_of(&path)).flatten();
            Disk { target: disk.target.clone(), path, mount }
        };
        description.disks.iter().map(disk).collect()
    }

    /// The targets of all disks of a domain; `None` if they are not known yet, or there are none.
    pub(super) fn targets(&self, id: DomainId) -> Option<Vec<Box<str>>> {
        let (_, disks) = self.domains.get(&id)?;
        (!disks.is_empty()).then(|| disks.iter().map(|disk| disk.target.clone()).collect())
    }

    /// A mount that this domain has a disk on, and for which this holds.
    pub(super) fn mount_where(&self, id: DomainId, test: impl Fn(&str) -> bool) -> Option<Arc<str>> {
        let (_, disks) = self.domains.get(&id)?;
        disks.iter().filter_map(|disk| disk.mount.as_ref()).find(|mount| test(mount)).map(Arc::clone)
    }

    /// Is that disk on a mount for which this holds?
    pub(super) fn is_on(&self, id: DomainId, target: &str, test: impl Fn(&str) -> bool) -> bool {
        let disk = self.domains.get(&id).and_then(|(_, disks)| disks.iter().find(|disk| *disk.target == *target));
        disk.and_then(|disk| disk.mount.as_deref()).is_some_and(test)
    }

    /// Mount and path of these domains' disks that are files or devices of this host.
    pub(super) fn files_of<'a>(&'a self, ids: &'a [DomainId]) -> impl Iterator<Item = (Arc<str>, Arc<str>)> + 'a {
        let disks = ids.iter().filter_map(|id| self.domains.get(id)).flat_map(|(_, disks)| disks);
        disks.filter_map(|disk| Some((Arc::clone(disk.mount.as_ref()?), Arc::clone(&disk.path))))
    }

    pub(super) fn mounts(&self) -> HashSet<Arc<str>> {
        let disks = self.domains.values().flat_map(|(_, disks)| disks);
        disks.filter_map(|disk| disk.mount.clone()).collect()
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = DomainId> {
        self.domains.keys().copied()
    }
}
