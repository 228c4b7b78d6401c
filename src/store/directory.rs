//! Who has this address, this disk, this device, this process: an index that is kept along with the snapshot.

use std::collections::HashMap;
use std::sync::Arc;

use super::snapshot::Domain;
use crate::model::{DomainDescription, DomainId, Mac};

/// What a domain can be found by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// The address of a NIC.
    Mac(Mac),
    /// The name of a NIC on the host.
    Nic(Box<str>),
    /// The source of a disk, or its serial number.
    Disk(Box<str>),
    /// Its QEMU process.
    Pid(u32),
}

/// The index. A clone shares all of it, as snapshots do; a change copies it, and comes only with another description or process.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    entries: Arc<HashMap<Key, Vec<DomainId>>>,
}

impl Directory {
    /// Every domain with that key; none twice.
    #[must_use]
    pub fn find(&self, key: &Key) -> &[DomainId] {
        self.entries.get(key).map_or(&[], Vec::as_slice)
    }

    fn add(&mut self, key: Key, id: DomainId) {
        let ids = Arc::make_mut(&mut self.entries).entry(key).or_default();
        if let Err(place) = ids.binary_search(&id) {
            ids.insert(place, id);
        }
    }

    fn remove(&mut self, key: &Key, id: DomainId) {
        let entries = Arc::make_mut(&mut self.entries);
        if let Some(ids) = entries.get_mut(key) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                entries.remove(key);
            }
        }
    }
}

/// What of a domain is in the directory.
#[derive(Debug, Clone, Default)]
struct Entry {
    description: Option<Arc<DomainDescription>>,
    pid: Option<u32>,
}

impl Entry {
    fn of(domain: &Domain) -> Self {
        Self { description: domain.description.clone(), pid: domain.pid }
    }

    /// Descriptions are replaced by others, never changed.
    fn is(&self, other: &Self) -> bool {
        self.pid == other.pid
            && self.description.as_ref().map(Arc::as_ptr) == other.description.as_ref().map(Arc::as_ptr)
    }

    fn keys(&self) -> impl Iterator<Item = Key> {
        let (nics, disks) = self.description.as_deref().map(|it| (&it.nics[..], &it.disks[..])).unwrap_or_default();
        let macs = nics.iter().filter_map(|nic| Mac::parse(&nic.mac)).map(Key::Mac);
        let names = nics.iter().map(|nic| &nic.target).filter(|name| !name.is_empty()).cloned().map(Key::Nic);
        let disks = disks.iter().flat_map(|disk| [&disk.source, &disk.serial]);
        let disks = disks.filter(|text| !text.is_empty()).cloned().map(Key::Disk);
        macs.chain(names).chain(disks).chain(self.pid.map(Key::Pid))
    }
}

/// Keeps the directory.
#[derive(Debug, Default)]
pub(super) struct Registrar {
    pub(super) directory: Directory,
    entered: HashMap<DomainId, Entry>,
}

impl Registrar {
    /// Enters a domain as it is now, or takes it out.
    pub(super) fn enter(&mut self, id: DomainId, domain: Option<&Domain>) {
        let now = domain.map(Entry::of);
        if let (Some(before), Some(now)) = (self.entered.get(&id), &now)
            && before.is(now)
        {
            return;
        }
        let before = match &now {
            Some(now) => self.entered.insert(id, now.clone()),
            None => self.entered.remove(&id),
        };
        for key in before.iter().flat_map(Entry::keys) {
            self.directory.remove(&key, id);
        }
        for key in now.iter().flat_map(Entry::keys) {
            self.directory.add(key, id);
        }
    }
}
