//! Leases of libvirt's own networks. `virt` has no wrapper for them.

use std::ffi::CStr;
use std::os::raw::{c_char, c_int};
use std::ptr;
use std::time::{Duration, SystemTime};

use virt::connect::Connect;
use virt::error::Error;
use virt::sys;

use super::Connection;
use crate::model::{Lease, Mac};

/// A network that libvirt runs.
struct Network(sys::virNetworkPtr);

impl Drop for Network {
    fn drop(&mut self) {
        // SAFETY: the pointer is a reference of this value's own, released once.
        if unsafe { sys::virNetworkFree(self.0) } < 0 {
            tracing::debug!(error = %Error::last_error(), "virNetworkFree refused");
        }
    }
}

impl Connection {
    /// The leases of all networks that are active. A network that does not tell its leases costs the others nothing; its error is
    /// told only if no network told any.
    pub(in crate::libvirt) fn leases(&self) -> Result<Vec<Lease>, Error> {
        let mut leases = Vec::new();
        let mut refused = None;
        for network in networks(&self.connect)? {
            match of(&network) {
                Ok(some) => leases.extend(some),
                Err(error) => {
                    tracing::debug!(%error, "a network does not tell its leases");
                    refused = Some(error);
                }
            }
        }
        match refused {
            Some(error) if leases.is_empty() => Err(error),
            _ => Ok(leases),
        }
    }
}

fn networks(connect: &Connect) -> Result<Vec<Network>, Error> {
    let mut list: *mut sys::virNetworkPtr = ptr::null_mut();
    // SAFETY: the connection is open, and `list` is a local that libvirt sets on success only.
    let count = unsafe {
        let flags = sys::VIR_CONNECT_LIST_NETWORKS_ACTIVE;
        sys::virConnectListAllNetworks(connect.as_ptr(), &raw mut list, flags)
    };
    // SAFETY: on success the list ends with NULL, and is the caller's, as is each entry.
    unsafe { taken(count, list) }.map(|entries| entries.into_iter().map(Network).collect())
}

fn of(network: &Network) -> Result<Vec<Lease>, Error> {
    let mut list: *mut sys::virNetworkDHCPLeasePtr = ptr::null_mut();
    let any_mac = ptr::null();
    // SAFETY: the network is alive, and `list` is a local that libvirt sets on success only.
    let count = unsafe { sys::virNetworkGetDHCPLeases(network.0, any_mac, &raw mut list, 0) };
    // SAFETY: on success the list is the caller's, as is each entry. libvirt.so makes it with room for one more than the reply
    // has, set to zero (remoteNetworkGetDHCPLeases), so that it ends with NULL.
    let entries = unsafe { taken(count, list) }?;
    let read = entries.into_iter().map(|entry| {
        // SAFETY: the entry is whole until it is freed below, and its texts are NULL or end with a zero.
        let lease = unsafe {
            let it = &*entry;
            lease(text(it.ipaddr), text(it.mac), it.expirytime)
        };
        // SAFETY: it is the caller's, and nobody uses it any more.
        unsafe { sys::virNetworkDHCPLeaseFree(entry) };
        lease
    });
    Ok(read.collect::<Vec<_>>().into_iter().flatten().collect())
}

/// The entries of a list that libvirt made, whose array is freed.
///
/// # Safety
/// If `count` is not negative, `list` is NULL or an array that ends with NULL and was allocated with `malloc`.
unsafe fn taken<T>(count: c_int, list: *mut *mut T) -> Result<Vec<*mut T>, Error> {
    if count < 0 {
        return Err(Error::last_error());
    }
    if list.is_null() {
        return Ok(Vec::new());
    }
    // SAFETY: no entry beyond the NULL is read; the count of a damaged reply is not believed.
    let entries = (0..).map(|at| unsafe { *list.add(at) }).take_while(|entry| !entry.is_null()).collect();
    // SAFETY: the array is the caller's, as the caller of this one promises.
    unsafe { libc::free(list.cast()) };
    Ok(entries)
}

/// # Safety
/// `text` is NULL, or ends with a zero and lives as long as the result is used.
unsafe fn text<'a>(text: *const c_char) -> Option<&'a str> {
    if text.is_null() {
        return None;
    }
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(text) }.to_str().ok()
}

/// `None` if it is not known whose it is: some IPv6 clients give no MAC address.
fn lease(address: Option<&str>, mac: Option<&str>, expires: i64) -> Option<Lease> {
    let expires = u64::try_from(expires).ok().filter(|at| *at > 0).map(Duration::from_secs);
    Some(Lease {
        address: address?.parse().ok()?,
        mac: Mac::parse(mac?)?,
        expires: expires.and_then(|since| SystemTime::UNIX_EPOCH.checked_add(since)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_needs_an_address_and_a_mac() {
        let mac = "52:54:00:00:00:01";
        let known = lease(Some("192.0.2.7"), Some(mac), 1_000).expect("good");
        assert_eq!((known.address.to_string(), Some(known.mac)), ("192.0.2.7".to_owned(), Mac::parse(mac)));
        assert_eq!(known.expires, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000)));
        assert_eq!(lease(Some("2001:db8::1"), Some(mac), 0).expect("good").expires, None, "it never ends");
        for (address, mac) in
            [(None, Some(mac)), (Some("192.0.2.7"), None), (Some("x"), Some(mac)), (Some("::1"), Some("y"))]
        {
            assert!(lease(address, mac, 1).is_none(), "{address:?} {mac:?}");
        }
    }
}
