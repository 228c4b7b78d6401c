//! Who has which IP address, as far as libvirt's own networks lent it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use crate::model::{Lease, Mac};

/// What is known of addresses. A clone shares it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leases {
    by_address: Arc<HashMap<IpAddr, Lease>>,
    /// Why nothing is known, in words.
    problem: Option<Arc<str>>,
    /// When they were read; `None` before the first time.
    read: Option<Instant>,
}

impl Leases {
    pub(super) fn new(leases: &[Lease], read: Instant) -> Self {
        let by_address = leases.iter().map(|lease| (canonical(lease.address), *lease)).collect();
        Self { by_address: Arc::new(by_address), problem: None, read: Some(read) }
    }

    pub(super) fn unknown(problem: &str) -> Self {
        Self { problem: Some(problem.into()), ..Self::default() }
    }

    /// The NIC that has this address at that time.
    #[must_use]
    pub fn mac(&self, address: IpAddr, now: SystemTime) -> Option<Mac> {
        let lease = self.by_address.get(&canonical(address))?;
        lease.expires.is_none_or(|until| now < until).then_some(lease.mac)
    }

    /// Why no lease is known; `None` if they are.
    #[must_use]
    pub fn problem(&self) -> Option<&str> {
        match (&self.problem, self.read) {
            (Some(problem), _) => Some(problem),
            (None, Some(_)) => None,
            (None, None) => Some("they were not read yet"),
        }
    }

    /// When they were read.
    pub(super) fn read(&self) -> Option<Instant> {
        self.read
    }
}

/// An IPv4 address has one form.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}
