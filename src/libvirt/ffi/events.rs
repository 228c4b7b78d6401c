//! What libvirt calls back, on the thread of the event loop.

use std::ffi::c_void;
use std::mem;
use std::os::raw::c_int;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use virt::connect::Connect;
use virt::error::Error;
use virt::sys;

use crate::model::{DomainEvent, EventSink};

type Generic = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void);
type Lifecycle = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void) -> c_int;

/// Sends lifecycle events of all domains to `sink`. Gives the number to deregister it by, without which the connection
/// never closes.
pub(super) fn register(connect: &Connect, sink: EventSink) -> Result<c_int, Error> {
    // SAFETY: both are pointers to functions. libvirt calls back with the arguments that belong to the event's number,
    // and those of lifecycle events are `Lifecycle`'s; the cast through the generic type is the documented way.
    let callback = unsafe { mem::transmute::<Lifecycle, Generic>(lifecycle) };
    // Not taken back if libvirt refuses: it does not promise that it has not freed it by then.
    let opaque = Box::into_raw(Box::new(sink)).cast::<c_void>();
    let (event, all_domains) = (sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE.cast_signed(), ptr::null_mut());
    // SAFETY: the connection is open. `opaque` is a `Box<EventSink>`, which `lifecycle` expects, and nobody but
    // `free_sink` frees it, which libvirt calls once, after the last call of `lifecycle`.
    let number = unsafe {
        let (connect, callback, free) = (connect.as_ptr(), Some(callback), Some(free_sink as unsafe extern "C" fn(_)));
        sys::virConnectDomainEventRegisterAny(connect, all_domains, event, callback, opaque, free)
    };
    if number < 0 { Err(Error::last_error()) } else { Ok(number) }
}

/// Something happened to a domain.
unsafe extern "C" fn lifecycle(
    _: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _event: c_int,
    _detail: c_int,
    opaque: *mut c_void,
) -> c_int {
    // A panic must not run on into C. What it was has been said by the panic hook.
    let _ = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: `opaque` is the box of `register`, which lives until `free_sink`, and is only ever shared.
        let sink = unsafe { &*opaque.cast::<EventSink>() };
        // SAFETY: libvirt holds a reference to the domain during the callback.
        if let Some(id) = unsafe { super::uuid(domain) } {
            sink(DomainEvent { id });
        }
    }));
    0
}

/// libvirt needs the sink of a callback no more.
unsafe extern "C" fn free_sink(opaque: *mut c_void) {
    // SAFETY: `opaque` is the box of `register`; libvirt calls this once for it, and uses it no more.
    let sink = unsafe { Box::from_raw(opaque.cast::<EventSink>()) };
    let _ = catch_unwind(AssertUnwindSafe(|| drop(sink)));
}
