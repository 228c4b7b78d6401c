//! The fence: every unsafe block of the project, around what the `virt` crate lacks or leaks.
//!
//! What C hands out is owned by a type that frees it. `virt`'s own wrapper of the bulk call frees the array alone and
//! leaks the records; its `Drop`s panic when libvirt refuses, so the two handles here log instead.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::os::raw::{c_char, c_int};
use std::{ptr, slice};

use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::Error;
use virt::sys;

use super::decode::Value;
use crate::model::{DomainId, Group, GroupSet, RunId};

/// A connection that closes without panicking.
pub(super) struct Connection(ManuallyDrop<Connect>);

impl Connection {
    pub(super) fn new(connect: Connect) -> Self {
        Self(ManuallyDrop::new(connect))
    }

    pub(super) fn get(&self) -> &Connect {
        &self.0
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: the pointer came from a successful open, and the inner `Drop`, the only other one to release this
        // reference, never runs.
        if unsafe { sys::virConnectClose(self.0.as_ptr()) } < 0 {
            tracing::debug!(error = %Error::last_error(), "virConnectClose refused");
        }
    }
}

/// A reference to a domain, valid on the connection that it was looked up on.
pub(super) struct Handle(ManuallyDrop<Domain>);

impl Handle {
    pub(super) fn new(domain: Domain) -> Self {
        Self(ManuallyDrop::new(domain))
    }

    pub(super) fn get(&self) -> &Domain {
        &self.0
    }

    /// `virDomainGetState`: state and reason, as numbers.
    pub(super) fn state(&self) -> Result<(c_int, c_int), Error> {
        let (mut state, mut reason) = (0, 0);
        // SAFETY: the handle holds a reference to a live domain, and both results are written to locals.
        match unsafe { sys::virDomainGetState(self.0.as_ptr(), &raw mut state, &raw mut reason, 0) } {
            0 => Ok((state, reason)),
            _ => Err(Error::last_error()),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: `Handle` owns one reference, and the inner `Drop`, the only other one to release it, never runs.
        if unsafe { sys::virDomainFree(self.0.as_ptr()) } < 0 {
            tracing::debug!(error = %Error::last_error(), "virDomainFree refused");
        }
    }
}

/// `virConnectGetAllDomainStats` over the active domains, with NOWAIT.
pub(super) fn all_active(connection: &Connection, groups: GroupSet) -> Result<Records<'_>, Error> {
    let mut list = ptr::null_mut();
    let flags = sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_ACTIVE | sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT;
    // SAFETY: the connection is open, and `list` is a local that libvirt sets on success only.
    let count =
        unsafe { sys::virConnectGetAllDomainStats(connection.get().as_ptr(), mask(groups), &raw mut list, flags) };
    Records::new(list, count)
}

/// `virDomainListGetStats` of chosen domains, with NOWAIT. All handles must be of one connection; libvirt refuses a mix.
pub(super) fn of_domains<'c>(handles: &[&'c Handle], groups: GroupSet) -> Result<Records<'c>, Error> {
    // SAFETY: the pointers are used in this function only, while `handles` keeps the domains.
    let mut domains: Vec<sys::virDomainPtr> = handles.iter().map(|handle| unsafe { handle.get().as_ptr() }).collect();
    domains.push(ptr::null_mut());
    let mut list = ptr::null_mut();
    let flags = sys::VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT;
    // SAFETY: `domains` ends with NULL and its entries are live references, held by `handles` over the call.
    let count = unsafe { sys::virDomainListGetStats(domains.as_mut_ptr(), mask(groups), &raw mut list, flags) };
    Records::new(list, count)
}

fn mask(groups: GroupSet) -> u32 {
    groups
        .iter()
        .map(|group| match group {
            Group::State => sys::VIR_DOMAIN_STATS_STATE,
            Group::Cpu => sys::VIR_DOMAIN_STATS_CPU_TOTAL,
            Group::Vcpu => sys::VIR_DOMAIN_STATS_VCPU,
            Group::Interface => sys::VIR_DOMAIN_STATS_INTERFACE,
            Group::Block => sys::VIR_DOMAIN_STATS_BLOCK,
            Group::Balloon => sys::VIR_DOMAIN_STATS_BALLOON,
        })
        .fold(0, |mask, bit| mask | bit)
}

/// The reply of a bulk call, freed whole.
pub(super) struct Records<'c> {
    list: *mut sys::virDomainStatsRecordPtr,
    count: usize,
    connection: PhantomData<&'c Connection>,
}

impl Records<'_> {
    fn new(list: *mut sys::virDomainStatsRecordPtr, count: c_int) -> Result<Self, Error> {
        let count = usize::try_from(count).map_err(|_| Error::last_error())?;
        Ok(Self { list, count, connection: PhantomData })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Record<'_>> {
        let list: &[sys::virDomainStatsRecordPtr] = if self.list.is_null() {
            &[]
        } else {
            // SAFETY: libvirt returned `count` records behind a NULL-terminated list, which lives until `drop`.
            unsafe { slice::from_raw_parts(self.list, self.count) }
        };
        // SAFETY: each entry points to a record that lives as long as the list, and nobody changes it.
        list.iter().filter_map(|record| unsafe { record.as_ref() }).map(Record)
    }
}

impl Drop for Records<'_> {
    fn drop(&mut self) {
        if !self.list.is_null() {
            // SAFETY: the list came from libvirt, has not been freed, and every borrow of it has ended.
            unsafe { sys::virDomainStatsRecordListFree(self.list) }
        }
    }
}

/// One domain of a bulk reply.
pub(super) struct Record<'r>(&'r sys::virDomainStatsRecord);

impl<'r> Record<'r> {
    pub(super) fn id(&self) -> Option<DomainId> {
        let mut uuid = [0; sys::VIR_UUID_BUFLEN as usize];
        // SAFETY: the record holds a reference to its domain, and the buffer has the length that libvirt writes.
        let result = unsafe { sys::virDomainGetUUID(self.0.dom, uuid.as_mut_ptr()) };
        (result == 0).then(|| DomainId::from_bytes(uuid))
    }

    pub(super) fn name(&self) -> Box<str> {
        // SAFETY: the record holds a reference to its domain.
        let name = unsafe { sys::virDomainGetName(self.0.dom) };
        if name.is_null() {
            return Box::default();
        }
        // SAFETY: libvirt owns the NUL-terminated name as long as the domain, which the record holds.
        unsafe { CStr::from_ptr(name) }.to_string_lossy().into()
    }

    pub(super) fn run(&self) -> Option<RunId> {
        // SAFETY: the record holds a reference to its domain.
        let id = unsafe { sys::virDomainGetID(self.0.dom) };
        (id != u32::MAX).then_some(RunId(id))
    }

    pub(super) fn params(&self) -> impl Iterator<Item = (&'r [u8], Value<'r>)> + use<'r> {
        let count = usize::try_from(self.0.nparams).unwrap_or(0);
        let params: &'r [sys::virTypedParameter] = if self.0.params.is_null() {
            &[]
        } else {
            // SAFETY: libvirt allocated `nparams` parameters, which live as long as the record.
            unsafe { slice::from_raw_parts(self.0.params, count) }
        };
        params.iter().map(|param| (name(&param.field), value(param)))
    }
}

/// The name in a fixed field, up to its NUL (or its end, should there be none).
fn name(field: &[c_char; sys::VIR_TYPED_PARAM_FIELD_LENGTH as usize]) -> &[u8] {
    // SAFETY: `c_char` and `u8` have the same size and alignment, and every bit pattern is a valid `u8`.
    let bytes = unsafe { slice::from_raw_parts(field.as_ptr().cast::<u8>(), field.len()) };
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    &bytes[..end]
}

fn value(param: &sys::virTypedParameter) -> Value<'_> {
    let value = &param.value;
    // SAFETY: `type_` says which member of the union libvirt set; strings are NUL-terminated or NULL and live as long as
    // the parameter.
    unsafe {
        match u32::try_from(param.type_).unwrap_or(0) {
            sys::VIR_TYPED_PARAM_INT => Value::Signed(i64::from(value.i)),
            sys::VIR_TYPED_PARAM_UINT => Value::Unsigned(u64::from(value.ui)),
            sys::VIR_TYPED_PARAM_LLONG => Value::Signed(value.l),
            sys::VIR_TYPED_PARAM_ULLONG => Value::Unsigned(value.ul),
            sys::VIR_TYPED_PARAM_STRING if !value.s.is_null() => Value::Text(CStr::from_ptr(value.s).to_bytes()),
            // Doubles and booleans are in no table yet.
            _ => Value::Other,
        }
    }
}
