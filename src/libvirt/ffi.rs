//! The fence: every unsafe block of the project, around what the `virt` crate lacks or leaks.
//!
//! What C hands out is owned by a type that frees it. `virt`'s own wrapper of the bulk call frees the array alone and
//! leaks the records; that of the list of domains believes a count in the reply; its `Drop`s panic when libvirt refuses,
//! so the two handles here log instead; its wrapper of `virDomainGetBlockInfo` reads memory that a failed call never wrote.
#![allow(unsafe_code)]

pub(super) mod event_loop;
mod events;
mod networks;

use std::ffi::CStr;
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop};
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd, RawFd};
use std::os::raw::{c_char, c_int};
use std::{ptr, slice};

use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::Error;
use virt::sys;

use super::decode::Value;
use crate::model::{BlockInfo, DomainId, EventSink, Group, GroupSet, RunId};

/// Sets glibc's allocator, which is libvirt.so's.
///
/// All threads share one arena: libvirt's event loop frees what workers allocated. With an arena a thread, what is freed in
/// one is of no use to the others, and each new connection leaves a little more behind. And what the reply of one call needed
/// is kept for that of the next, up to some MiB: to give it back and take it again costs a tenth of the call.
pub(super) fn set_allocator() {
    const MIB: c_int = 1024 * 1024;
    for (parameter, value) in [
        (libc::M_ARENA_MAX, 1),
        (libc::M_TRIM_THRESHOLD, 16 * MIB),
        (libc::M_MMAP_THRESHOLD, 16 * MIB),
        (libc::M_TOP_PAD, MIB),
    ] {
        // SAFETY: sets a number in the allocator, under its own lock; a refusal changes nothing.
        if unsafe { libc::mallopt(parameter, value) } != 1 {
            tracing::debug!(parameter, "mallopt refused");
        }
    }
}

/// A connection that closes without panicking.
pub(super) struct Connection {
    connect: ManuallyDrop<Connect>,
    /// libvirt's numbers of the callbacks for events. They hold references to the connection, which would never close.
    watch: Vec<c_int>,
}

impl Connection {
    pub(super) fn new(connect: Connect) -> Self {
        Self { connect: ManuallyDrop::new(connect), watch: Vec::new() }
    }

    pub(super) fn get(&self) -> &Connect {
        &self.connect
    }

    /// `virConnectListAllDomains`: all that are defined or run.
    ///
    /// `virt`'s own wrapper believes the count, which a reply that is damaged may set beyond the end of its list.
    pub(super) fn domains(&self) -> Result<Vec<Handle>, Error> {
        let mut list: *mut sys::virDomainPtr = ptr::null_mut();
        let flags = sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE | sys::VIR_CONNECT_LIST_DOMAINS_INACTIVE;
        // SAFETY: the connection is open, and `list` is a local that libvirt sets on success only.
        if unsafe { sys::virConnectListAllDomains(self.connect.as_ptr(), &raw mut list, flags) } < 0 {
            return Err(Error::last_error());
        }
        let mut handles = Vec::new();
        if !list.is_null() {
            // SAFETY: on success the list ends with NULL, and no entry beyond that is read.
            let entries = (0..).map(|at| unsafe { *list.add(at) }).take_while(|domain| !domain.is_null());
            // SAFETY: each entry is a reference of its own, which nobody else releases.
            handles.extend(entries.map(|domain| Handle::new(unsafe { Domain::from_ptr(domain) })));
            // SAFETY: the array itself is the caller's to free, and libvirt allocates with `malloc`.
            unsafe { libc::free(list.cast()) };
        }
        Ok(handles)
    }

    /// Sends what happens to all domains to `sink`, and to no earlier one.
    pub(super) fn watch(&mut self, sink: &EventSink) -> Result<(), Error> {
        self.unwatch();
        self.watch = events::register(&self.connect, sink)?;
        Ok(())
    }

    fn unwatch(&mut self) {
        for number in mem::take(&mut self.watch) {
            // SAFETY: the connection is open, and the number is that of a callback registered on it and still there.
            if unsafe { sys::virConnectDomainEventDeregisterAny(self.connect.as_ptr(), number) } < 0 {
                tracing::debug!(error = %Error::last_error(), "virConnectDomainEventDeregisterAny refused");
            }
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.unwatch();
        // SAFETY: the pointer came from a successful open, and the inner `Drop`, the only other one to release this
        // reference, never runs.
        if unsafe { sys::virConnectClose(self.connect.as_ptr()) } < 0 {
            tracing::debug!(error = %Error::last_error(), "virConnectClose refused");
        }
    }
}

/// # Safety
/// The domain must be live.
unsafe fn uuid(domain: sys::virDomainPtr) -> Option<DomainId> {
    let mut uuid = [0; sys::VIR_UUID_BUFLEN as usize];
    // SAFETY: the caller says that the domain is live, and the buffer has the length that libvirt writes.
    let result = unsafe { sys::virDomainGetUUID(domain, uuid.as_mut_ptr()) };
    (result == 0).then(|| DomainId::from_bytes(uuid))
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

    /// The run that it was looked up in; never changes.
    pub(super) fn run(&self) -> Option<RunId> {
        self.0.id().map(RunId)
    }

    pub(super) fn name(&self) -> Box<str> {
        self.0.name().unwrap_or_default().into()
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

    /// `virDomainGetControlInfo`: state, and for how many milliseconds.
    pub(super) fn control(&self) -> Result<(u32, u64), Error> {
        let mut info = sys::virDomainControlInfo { state: 0, details: 0, stateTime: 0 };
        // SAFETY: the handle holds a reference to a live domain, and the result is written to a local.
        match unsafe { sys::virDomainGetControlInfo(self.0.as_ptr(), &raw mut info, 0) } {
            0 => Ok((info.state, info.stateTime)),
            _ => Err(Error::last_error()),
        }
    }

    /// `virDomainGetBlockInfo` of a disk, by its target.
    pub(super) fn block_info(&self, target: &CStr) -> Result<BlockInfo, Error> {
        let mut info = sys::virDomainBlockInfo { capacity: 0, allocation: 0, physical: 0 };
        // SAFETY: as above; the target ends with NUL.
        match unsafe { sys::virDomainGetBlockInfo(self.0.as_ptr(), target.as_ptr(), &raw mut info, 0) } {
            0 => Ok(BlockInfo {
                capacity_bytes: Some(info.capacity),
                allocation_bytes: Some(info.allocation),
                physical_bytes: Some(info.physical),
            }),
            _ => Err(Error::last_error()),
        }
    }

    /// `virDomainGetCPUStats`: the totals over all CPUs.
    pub(super) fn cpu_totals(&self) -> Result<Params, Error> {
        let mut params = Params::room();
        // SAFETY: the handle holds a reference to a live domain, and there is room for as many parameters as are said.
        let count =
            unsafe { sys::virDomainGetCPUStats(self.0.as_ptr(), params.list.as_mut_ptr(), PARAMS.into(), -1, 1, 0) };
        params.filled(count)
    }

    /// `virDomainBlockStatsFlags` of a disk, by its target.
    pub(super) fn block_stats(&self, target: &CStr) -> Result<Params, Error> {
        let (mut params, mut count) = (Params::room(), PARAMS.into());
        let list = params.list.as_mut_ptr();
        // SAFETY: as above; the target ends with NUL.
        match unsafe { sys::virDomainBlockStatsFlags(self.0.as_ptr(), target.as_ptr(), list, &raw mut count, 0) } {
            0 => params.filled(count),
            _ => Err(Error::last_error()),
        }
    }
}

/// The most typed parameters that libvirt lets a client ask for about one disk. There are 8; CPU totals are 3.
const PARAMS: u8 = 16;

/// The typed parameters of a call about one thing.
pub(super) struct Params {
    list: [sys::virTypedParameter; PARAMS as usize],
    /// How many libvirt filled.
    count: c_int,
}

impl Params {
    fn room() -> Self {
        // SAFETY: a parameter is a plain C struct of numbers and a union whose pointer may be NULL: zeros are valid.
        Self { list: unsafe { mem::zeroed() }, count: 0 }
    }

    fn filled(mut self, count: c_int) -> Result<Self, Error> {
        if count < 0 {
            return Err(Error::last_error());
        }
        self.count = count.min(PARAMS.into());
        Ok(self)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], Value<'_>)> {
        self.list.iter().take(self.count.unsigned_abs() as usize).map(|param| (name(&param.field), value(param)))
    }
}

impl Drop for Params {
    fn drop(&mut self) {
        // SAFETY: libvirt filled the first `count`; their strings are ours to free, and nobody has them any more.
        unsafe { sys::virTypedParamsClear(self.list.as_mut_ptr(), self.count) }
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

/// `virDomainListGetStats` of chosen domains, with NOWAIT. All handles must be of one connection, or libvirt refuses.
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
            // Has a call of its own.
            Group::BlockInfo | Group::Kernel => 0,
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
        // SAFETY: the record holds a reference to its domain.
        unsafe { uuid(self.0.dom) }
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
    // SAFETY: `type_` says which member of the union libvirt set; strings are NUL-terminated or NULL and live as long
    // as the parameter.
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

/// A duplicate of a file descriptor that libvirt keeps to itself; what it is of, only the duplicate can tell.
pub(super) fn duplicate(fd: RawFd) -> Option<OwnedFd> {
    // SAFETY: borrowed for this one system call, which refuses a number that is not open. Should the number be closed
    // and given out again meanwhile, what is duplicated is another open file, which the caller must expect.
    let borrowed = (fd >= 0).then(|| unsafe { BorrowedFd::borrow_raw(fd) })?;
    rustix::io::fcntl_dupfd_cloexec(borrowed, 0).ok()
}

/// `SO_PEERCRED`: who listened at the other end; `None` if that process is in no namespace of ours. `rustix` has this
/// call too, and no value for that case.
pub(super) fn peer_pid(socket: &OwnedFd) -> Option<u32> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut length = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the descriptor is open, and the kernel writes at most `length` bytes to a local of that size.
    let result = unsafe {
        let peer = (&raw mut peer).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, peer, &raw mut length)
    };
    u32::try_from(peer.pid).ok().filter(|pid| result == 0 && *pid != 0)
}
