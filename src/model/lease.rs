//! Addresses that are lent to domains.

use std::net::IpAddr;
use std::time::SystemTime;

use super::Mac;

/// One address that one of libvirt's networks has lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The address.
    pub address: IpAddr,
    /// Of the NIC that has it.
    pub mac: Mac,
    /// Until then; `None` if for ever.
    pub expires: Option<SystemTime>,
}
