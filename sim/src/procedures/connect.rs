//! Procedures about the connection and the host.

use super::{Caller, Written};
use crate::limits::STRING_BYTES;
use crate::wire::{RpcError, code, get_domain};
use crate::xdr::{Decoder, Encoder};

/// libvirt 9.0.0: of which the behaviour is.
const LIBVIRT: u64 = 9_000_000;
/// QEMU 7.2.22, likewise.
const QEMU: u64 = 7_002_022;
/// Processors of the host: enough for the largest of its guests.
const PROCESSORS: i32 = 256;

/// What `VIR_DRV_FEATURE_*` this daemon has.
mod feature {
    pub(super) const TYPED_PARAM_STRING: i32 = 9;
    pub(super) const KEEPALIVE: i32 = 10;
    pub(super) const EVENT_CALLBACK: i32 = 14;
    pub(super) const CLOSE_CALLBACK: i32 = 15;
}

pub(super) fn open(caller: &Caller<'_>, input: &mut Decoder<'_>, _out: &mut Encoder) -> Written {
    let uri = input.optional_text(STRING_BYTES)?;
    input.u32()?;
    if caller.client.is_open() {
        return Err(RpcError::rpc(code::INTERNAL, "internal error: connection already open"));
    }
    tracing::debug!(connection = caller.client.number, uri, "opened");
    caller.client.set_open(true);
    Ok(())
}

pub(super) fn close(caller: &Caller<'_>, _input: &mut Decoder<'_>, _out: &mut Encoder) -> Written {
    caller.client.set_open(false);
    Ok(())
}

pub(super) fn auth_list(_caller: &Caller<'_>, _input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    const NONE: i32 = 0;
    out.count(1);
    out.i32(NONE);
    Ok(())
}

pub(super) fn supports_feature(caller: &Caller<'_>, input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    let asked = input.i32()?;
    if asked == feature::KEEPALIVE {
        caller.client.wants_keepalive();
    }
    out.bool(matches!(
        asked,
        feature::TYPED_PARAM_STRING | feature::KEEPALIVE | feature::EVENT_CALLBACK | feature::CLOSE_CALLBACK
    ));
    Ok(())
}

pub(super) fn get_type(_caller: &Caller<'_>, _input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    out.text("QEMU");
    Ok(())
}

pub(super) fn uri(_caller: &Caller<'_>, _input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    out.text("qemu:///system");
    Ok(())
}

pub(super) fn hostname(_caller: &Caller<'_>, _input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    out.text("virtstat-sim");
    Ok(())
}

pub(super) fn version(_caller: &Caller<'_>, _input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    out.u64(QEMU);
    Ok(())
}

pub(super) fn lib_version(_caller: &Caller<'_>, _input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    out.u64(LIBVIRT);
    Ok(())
}

pub(super) fn is_secure(_caller: &Caller<'_>, _input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    out.bool(true);
    Ok(())
}

pub(super) fn max_vcpus(_caller: &Caller<'_>, input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    input.optional_text(STRING_BYTES)?;
    out.i32(PROCESSORS);
    Ok(())
}

pub(super) fn node_info(_caller: &Caller<'_>, _input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    const MEMORY_KIB: u64 = 4 << 30;
    let mut model = [0_u8; 32];
    model[..6].copy_from_slice(b"x86_64");
    for letter in model {
        out.u32(letter.into());
    }
    out.u64(MEMORY_KIB);
    for word in [PROCESSORS, 2_450, 2, 1, PROCESSORS / 4, 2] {
        out.i32(word); // cpus, MHz, nodes, sockets, cores, threads
    }
    Ok(())
}

pub(super) fn cpu_map(_caller: &Caller<'_>, input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    let (want_map, want_online) = (input.i32()? != 0, input.i32()? != 0);
    input.u32()?;
    let bytes = usize::try_from(PROCESSORS / 8).unwrap_or_default();
    out.opaque(&vec![0xff; if want_map { bytes } else { 0 }]);
    out.i32(if want_online { PROCESSORS } else { 0 });
    out.i32(PROCESSORS);
    Ok(())
}

pub(super) fn register(caller: &Caller<'_>, input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    /// The events of libvirt 9.0.
    const EVENTS: i32 = 27;
    let event = input.i32()?;
    let guest = if input.bool()? { Some(get_domain(input, STRING_BYTES)?.uuid) } else { None };
    if !(0..EVENTS).contains(&event) {
        return Err(RpcError::rpc(code::INTERNAL, format!("internal error: unsupported event ID {event}")));
    }
    out.i32(caller.client.subscribe(event, guest));
    Ok(())
}

pub(super) fn deregister(caller: &Caller<'_>, input: &mut Decoder<'_>, _out: &mut Encoder) -> Written {
    let callback = input.i32()?;
    if caller.client.unsubscribe(callback) {
        Ok(())
    } else {
        Err(RpcError::rpc(code::INTERNAL, format!("internal error: domain event callback {callback} not registered")))
    }
}

/// Our connection to the hypervisor never closes by itself, so nobody is ever called back.
pub(super) fn close_callback(_caller: &Caller<'_>, _input: &mut Decoder<'_>, _out: &mut Encoder) -> Written {
    Ok(())
}
