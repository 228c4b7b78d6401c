//! What libvirt calls back, on the thread of the event loop.

use std::borrow::Cow;
use std::ffi::{CStr, c_void};
use std::mem;
use std::os::raw::{c_char, c_int, c_longlong};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use virt::connect::Connect;
use virt::error::Error;
use virt::sys;

use crate::libvirt::happened;
use crate::model::{DomainEvent, EventSink, Happened, RunId};

type Generic = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void);
type Lifecycle = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void) -> c_int;
type Device = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *const c_char, *mut c_void);
type IoError = unsafe extern "C" fn(
    sys::virConnectPtr,
    sys::virDomainPtr,
    *const c_char,
    *const c_char,
    c_int,
    *const c_char,
    *mut c_void,
);
type Metadata = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, *const c_char, *mut c_void);
type Watchdog = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, *mut c_void);
type Clock = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_longlong, *mut c_void);
type Tunable = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut Params, c_int, *mut c_void);
type Params = sys::virTypedParameter;
type Graphics = unsafe extern "C" fn(
    sys::virConnectPtr,
    sys::virDomainPtr,
    c_int,
    *const Address,
    *const Address,
    *const c_char,
    *const sys::virDomainEventGraphicsSubject,
    *mut c_void,
);
type Address = sys::virDomainEventGraphicsAddress;

/// Sends what happens to all domains to `sink`: lifecycle, devices that come and go, metadata, limits, errors of disks,
/// watchdogs, clocks, and who is at the graphics. Gives the numbers to deregister it by, without which the connection never
/// closes. A kind that the driver does not know, but for the first, is left out.
pub(super) fn register(connect: &Connect, sink: &EventSink) -> Result<Vec<c_int>, Error> {
    // SAFETY: all are pointers to functions. libvirt calls back with the arguments that belong to the event's number, as the
    // types above say for each; the cast through the generic type is the documented way.
    let kinds = unsafe {
        let device = mem::transmute::<Device, Generic>(device);
        [
            (sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE, mem::transmute::<Lifecycle, Generic>(lifecycle)),
            (sys::VIR_DOMAIN_EVENT_ID_DEVICE_ADDED, device),
            (sys::VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, device),
            (sys::VIR_DOMAIN_EVENT_ID_METADATA_CHANGE, mem::transmute::<Metadata, Generic>(metadata)),
            (sys::VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON, mem::transmute::<IoError, Generic>(io_error)),
            (sys::VIR_DOMAIN_EVENT_ID_TUNABLE, mem::transmute::<Tunable, Generic>(tunable)),
            (sys::VIR_DOMAIN_EVENT_ID_WATCHDOG, mem::transmute::<Watchdog, Generic>(watchdog)),
            (sys::VIR_DOMAIN_EVENT_ID_RTC_CHANGE, mem::transmute::<Clock, Generic>(clock)),
            (sys::VIR_DOMAIN_EVENT_ID_GRAPHICS, mem::transmute::<Graphics, Generic>(graphics)),
        ]
    };
    let mut numbers = Vec::with_capacity(kinds.len());
    for (event, callback) in kinds {
        // Not taken back if libvirt refuses: it does not promise that it has not freed it by then.
        let opaque = Box::into_raw(Box::new(EventSink::clone(sink))).cast::<c_void>();
        let all_domains = ptr::null_mut();
        // SAFETY: the connection is open. `opaque` is a `Box<EventSink>`, which the callbacks expect, and nobody but
        // `free_sink` frees it, which libvirt calls once, after the last call of the callback.
        let number = unsafe {
            let (connect, free) = (connect.as_ptr(), Some(free_sink as unsafe extern "C" fn(_)));
            let event = event.cast_signed();
            sys::virConnectDomainEventRegisterAny(connect, all_domains, event, Some(callback), opaque, free)
        };
        if number >= 0 {
            numbers.push(number);
            continue;
        }
        let error = Error::last_error();
        if numbers.is_empty() {
            return Err(error);
        }
        tracing::debug!(event, %error, "no events of this kind");
    }
    Ok(numbers)
}

/// Something happened to a domain.
///
/// # Safety
/// Both pointers are those of a callback that is under way.
unsafe fn tell(domain: sys::virDomainPtr, what: impl FnOnce() -> Happened, opaque: *mut c_void) {
    // A panic must not run on into C. What it was has been said by the panic hook.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: `opaque` is the box of `register`, which lives until `free_sink`, and is only ever shared.
        let sink = unsafe { &*opaque.cast::<EventSink>() };
        // SAFETY: libvirt holds a reference to the domain during the callback.
        if let Some(id) = unsafe { super::uuid(domain) } {
            // SAFETY: as above; it reads a field. What does not run has the number -1, which is what it says on errors too.
            let number = unsafe { sys::virDomainGetID(domain) };
            let run = (number != u32::MAX).then_some(RunId(number));
            sink(DomainEvent { id, run, what: what() });
        }
    }));
}

unsafe extern "C" fn lifecycle(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    event: c_int,
    detail: c_int,
    opaque: *mut c_void,
) -> c_int {
    // SAFETY: both are as libvirt gave them.
    unsafe { tell(domain, || happened::lifecycle(event, detail), opaque) };
    0
}

unsafe extern "C" fn device(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _alias: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: both are as libvirt gave them.
    unsafe { tell(domain, || Happened::Other, opaque) };
}

unsafe extern "C" fn metadata(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _kind: c_int,
    _namespace: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: both are as libvirt gave them.
    unsafe { tell(domain, || Happened::Other, opaque) };
}

unsafe extern "C" fn tunable(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _params: *mut Params,
    _count: c_int,
    opaque: *mut c_void,
) {
    // SAFETY: both are as libvirt gave them.
    unsafe { tell(domain, || Happened::Tuned, opaque) };
}

unsafe extern "C" fn watchdog(_: sys::virConnectPtr, domain: sys::virDomainPtr, action: c_int, opaque: *mut c_void) {
    // SAFETY: both are as libvirt gave them.
    unsafe { tell(domain, || happened::watchdog(action), opaque) };
}

unsafe extern "C" fn clock(_: sys::virConnectPtr, domain: sys::virDomainPtr, offset: c_longlong, opaque: *mut c_void) {
    // SAFETY: both are as libvirt gave them.
    unsafe { tell(domain, || Happened::ClockSet(offset), opaque) };
}

unsafe extern "C" fn graphics(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    phase: c_int,
    _local: *const Address,
    remote: *const Address,
    _scheme: *const c_char,
    _subject: *const sys::virDomainEventGraphicsSubject,
    opaque: *mut c_void,
) {
    let what = || {
        // SAFETY: NULL, or libvirt's address, which lives for the callback.
        let node = unsafe { remote.as_ref() }.map_or(ptr::null(), |remote| remote.node.cast_const());
        // SAFETY: so does the text in it.
        happened::graphics(phase, &unsafe { text(node) })
    };
    // SAFETY: both are as libvirt gave them.
    unsafe { tell(domain, what, opaque) };
}

unsafe extern "C" fn io_error(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    path: *const c_char,
    device: *const c_char,
    action: c_int,
    reason: *const c_char,
    opaque: *mut c_void,
) {
    // SAFETY: libvirt's texts, which live for the callback.
    let what = || unsafe { happened::io_error(&text(path), &text(device), action, &text(reason)) };
    // SAFETY: both are as libvirt gave them.
    unsafe { tell(domain, what, opaque) };
}

/// A text of libvirt's; the name of a file may be of any encoding.
///
/// # Safety
/// It is NULL, or ends with a NUL and lives for as long as what is returned.
unsafe fn text<'t>(text: *const c_char) -> Cow<'t, str> {
    if text.is_null() {
        return Cow::Borrowed("");
    }
    // SAFETY: not NULL, and the caller says the rest.
    unsafe { CStr::from_ptr(text) }.to_string_lossy()
}

/// libvirt needs the sink of a callback no more.
unsafe extern "C" fn free_sink(opaque: *mut c_void) {
    // SAFETY: `opaque` is the box of `register`; libvirt calls this once for it, and uses it no more.
    let sink = unsafe { Box::from_raw(opaque.cast::<EventSink>()) };
    let _ = catch_unwind(AssertUnwindSafe(|| drop(sink)));
}
