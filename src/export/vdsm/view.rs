//! What is known at one moment, from which all answers to one request are made.

use std::sync::Arc;

use super::vm;
use crate::model::Moment;
use crate::store::{Domain, HostWindow, Snapshot, Store};

/// One moment's picture.
#[derive(Clone)]
pub struct View {
    pub(super) snapshot: Arc<Snapshot>,
    pub(super) host: Arc<HostWindow>,
    pub(super) now: Moment,
    pub(super) began: Moment,
}

impl View {
    /// Of now.
    #[must_use]
    pub fn new(store: &Store) -> Self {
        Self { snapshot: store.snapshot(), host: store.host(), now: store.moment(), began: store.began() }
    }

    /// Why there is no complete picture yet; `None` if there is. VDSM too refuses to answer until it knows all VMs.
    #[must_use]
    pub fn incomplete(&self) -> Option<&str> {
        self.snapshot.incomplete.as_deref()
    }

    /// The domains that lists show, by name: those that were seen running since the service began. VDSM knows no others either.
    pub fn listed(&self) -> impl Iterator<Item = &Arc<Domain>> {
        self.snapshot.domains.iter().filter(|domain| is_listed(domain))
    }

    /// A domain by its UUID, whether lists show it or not.
    #[must_use]
    pub fn find(&self, uuid: &str) -> Option<&Arc<Domain>> {
        crate::model::DomainId::parse(uuid).and_then(|id| self.snapshot.get(id))
    }

    /// Writes the `VmStats` of a domain.
    pub fn write_vm(&self, domain: &Domain, out: &mut Vec<u8>) {
        vm::write(self, domain, out);
    }

    /// Writes what `Host.getVMList` says of a domain.
    pub fn write_entry(&self, domain: &Domain, out: &mut Vec<u8>) {
        vm::write_entry(self, domain, out);
    }
}

pub(super) fn is_listed(domain: &Domain) -> bool {
    domain.life.ran
}
