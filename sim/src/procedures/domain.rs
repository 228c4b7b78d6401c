//! Procedures that list and find domains, and those about one domain as a whole.

use super::{Caller, Written, filter, get};
use crate::host::{Guest, Host, Job, Value};
use crate::limits::{DOMAINS, STRING_BYTES};
use crate::wire::{RpcError, TypedParams, code, put_domain};
use crate::xdr::{Decoder, Encoder};

pub(super) fn put(out: &mut Encoder, guest: &Guest) {
    let reference = guest.reference();
    put_domain(out, &reference.name, &reference.uuid, reference.id);
}

/// For what only a guest that runs can answer.
pub(super) fn running(guest: &Guest) -> Written {
    if guest.is_running() {
        return Ok(());
    }
    Err(RpcError::qemu(code::OPERATION_INVALID, "Requested operation is not valid: domain is not running"))
}

pub(super) fn list_all(caller: &Caller<'_>, input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    let (wanted, flags) = (input.i32()? != 0, input.u32()?);
    let host = caller.daemon.host.read();
    let listed: Vec<&Guest> = host.guests().filter(|guest| filter::matches(guest, flags)).collect();
    if listed.len() > DOMAINS {
        return Err(too_many(listed.len()));
    }
    if wanted {
        out.count(listed.len());
        listed.iter().for_each(|guest| put(out, guest));
    } else {
        out.count(0);
    }
    out.count(listed.len());
    Ok(())
}

fn too_many(domains: usize) -> RpcError {
    RpcError::rpc(code::INTERNAL, format!("internal error: Too many domains '{domains}' for limit '{DOMAINS}'"))
}

pub(super) fn count_active(caller: &Caller<'_>, _input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    out.count(caller.daemon.host.read().guests().filter(|guest| guest.is_running()).count());
    Ok(())
}

pub(super) fn count_defined(caller: &Caller<'_>, _input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    out.count(caller.daemon.host.read().guests().filter(|guest| !guest.is_running()).count());
    Ok(())
}

/// How many of a list a caller has room for.
fn room(input: &mut Decoder<'_>) -> Result<usize, RpcError> {
    let room = input.i32()?;
    usize::try_from(room).ok().filter(|room| *room <= DOMAINS).ok_or_else(|| {
        RpcError::rpc(code::INTERNAL, format!("internal error: Too many domains '{room}' for limit '{DOMAINS}'"))
    })
}

pub(super) fn list_ids(caller: &Caller<'_>, input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    let room = room(input)?;
    let host = caller.daemon.host.read();
    let ids: Vec<i32> = host.guests().map(|guest| guest.reference().id).filter(|id| *id >= 0).take(room).collect();
    out.count(ids.len());
    ids.into_iter().for_each(|id| out.i32(id));
    Ok(())
}

pub(super) fn list_defined(caller: &Caller<'_>, input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    let room = room(input)?;
    let host = caller.daemon.host.read();
    let names: Vec<&str> = host.guests().filter(|guest| !guest.is_running()).map(Guest::name).take(room).collect();
    out.count(names.len());
    names.into_iter().for_each(|name| out.text(name));
    Ok(())
}

pub(super) fn by_id<'h>(host: &'h Host, input: &mut Decoder<'_>) -> Result<&'h Guest, RpcError> {
    let id = input.i32()?;
    host.by_run(id).ok_or_else(|| no_domain(format_args!("no domain with matching id {id}")))
}

pub(super) fn by_name<'h>(host: &'h Host, input: &mut Decoder<'_>) -> Result<&'h Guest, RpcError> {
    let name = input.text(STRING_BYTES)?;
    host.by_name(name).ok_or_else(|| no_domain(format_args!("no domain with matching name '{name}'")))
}

pub(super) fn by_uuid<'h>(host: &'h Host, input: &mut Decoder<'_>) -> Result<&'h Guest, RpcError> {
    get(host, &input.array()?)
}

fn no_domain(what: std::fmt::Arguments<'_>) -> RpcError {
    RpcError::qemu(code::NO_DOMAIN, format!("Domain not found: {what}"))
}

pub(super) fn xml(_caller: &Caller<'_>, guest: &Guest, _input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    out.text(&guest.xml());
    Ok(())
}

pub(super) fn autostart(_caller: &Caller<'_>, _guest: &Guest, _input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    out.bool(false);
    Ok(())
}

pub(super) fn info(caller: &Caller<'_>, guest: &Guest, _input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    let info = guest.info(caller.now);
    out.u32(info.state.into());
    out.u64(info.max_mem_kib);
    out.u64(info.memory_kib);
    out.u32(info.vcpus.into());
    out.u64(info.cpu_time_ns);
    Ok(())
}

pub(super) fn max_memory(caller: &Caller<'_>, guest: &Guest, _input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    out.u64(guest.info(caller.now).max_mem_kib);
    Ok(())
}

pub(super) fn max_vcpus(caller: &Caller<'_>, guest: &Guest, _input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    out.u32(guest.info(caller.now).vcpus.into());
    Ok(())
}

pub(super) fn os_type(_caller: &Caller<'_>, guest: &Guest, _input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    out.text(guest.os_type());
    Ok(())
}

pub(super) fn state(_caller: &Caller<'_>, guest: &Guest, _input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    let (state, reason) = guest.state();
    out.i32(state);
    out.i32(reason);
    Ok(())
}

/// How long somebody has been waiting for the monitor, if somebody is.
pub(super) fn control_info(caller: &Caller<'_>, guest: &Guest, _input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    const OK: u32 = 0;
    const OCCUPIED: u32 = 2;
    running(guest)?;
    let held = caller.daemon.troubles.held(guest.uuid());
    out.u32(if held.is_some() { OCCUPIED } else { OK });
    out.u32(0);
    out.u64(held.map_or(0, |held| u64::try_from(held.since.elapsed().as_millis()).unwrap_or(u64::MAX)));
    Ok(())
}

pub(super) fn is_active(_caller: &Caller<'_>, guest: &Guest, _input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    out.bool(guest.is_running());
    Ok(())
}

pub(super) fn is_persistent(
    _caller: &Caller<'_>,
    guest: &Guest,
    _input: &mut Decoder<'_>,
    out: &mut Encoder,
) -> Written {
    out.bool(guest.is_persistent());
    Ok(())
}

pub(super) fn has_managed_save(
    _caller: &Caller<'_>,
    _guest: &Guest,
    _input: &mut Decoder<'_>,
    out: &mut Encoder,
) -> Written {
    out.bool(false);
    Ok(())
}

pub(super) fn messages(_caller: &Caller<'_>, _guest: &Guest, _input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    out.count(0);
    Ok(())
}

pub(super) fn memory_stats(caller: &Caller<'_>, guest: &Guest, input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    running(guest)?;
    let room = usize::try_from(input.u32()?).unwrap_or(usize::MAX);
    let stats = guest.memory_stats(caller.now);
    let told = stats.get(..room).unwrap_or(&stats);
    out.count(told.len());
    for (tag, value) in told {
        out.i32(*tag);
        out.u64(*value);
    }
    Ok(())
}

pub(super) fn vcpus(caller: &Caller<'_>, guest: &Guest, input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    /// `REMOTE_VCPUINFO_MAX` and `REMOTE_CPUMAPS_MAX`.
    const MOST: usize = 16_384;
    running(guest)?;
    let (room, map_bytes) = (input.i32()?, input.i32()?);
    let (Ok(room), Ok(map_bytes)) = (usize::try_from(room), usize::try_from(map_bytes)) else {
        return Err(RpcError::rpc(code::INTERNAL, "internal error: maxinfo or maplen out of range"));
    };
    if room > MOST || room.saturating_mul(map_bytes) > MOST * 256 {
        return Err(RpcError::rpc(code::INTERNAL, "internal error: maxinfo * maplen > REMOTE_CPUMAPS_MAX"));
    }
    let vcpus = guest.vcpu_infos(caller.now);
    let told = vcpus.get(..room).unwrap_or(&vcpus);
    out.count(told.len());
    for vcpu in told {
        out.u32(vcpu.number);
        out.i32(vcpu.state);
        out.u64(vcpu.cpu_time_ns);
        out.i32(vcpu.cpu);
    }
    out.opaque(&vec![0xff; told.len() * map_bytes]);
    Ok(())
}

/// Totals alone: of single processors of the host there are none.
pub(super) fn cpu_stats(caller: &Caller<'_>, guest: &Guest, input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    running(guest)?;
    let (room, start) = (input.u32()?, input.i32()?);
    if start != -1 {
        return Err(RpcError::qemu(code::NO_SUPPORT, "this function is not supported by the connection driver"));
    }
    let before = out.len();
    let count = TypedParams::array(out, |sink| guest.cpu_totals(caller.now, sink));
    if room == 0 {
        out.truncate(before);
        out.count(0);
    }
    out.count(count);
    Ok(())
}

pub(super) fn job_stats(caller: &Caller<'_>, guest: &Guest, _input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    let Job { kind, params } = guest.job(caller.now).unwrap_or(Job { kind: 0, params: Vec::new() });
    out.i32(kind);
    TypedParams::array(out, |sink| params.iter().for_each(|(name, value)| sink.put(name, *value)));
    Ok(())
}

/// The same in the older shape, of eleven numbers.
pub(super) fn job_info(caller: &Caller<'_>, guest: &Guest, _input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    const FIELDS: [&str; 11] = [
        "time_elapsed",
        "time_remaining",
        "data_total",
        "data_processed",
        "data_remaining",
        "memory_total",
        "memory_processed",
        "memory_remaining",
        "disk_total",
        "disk_processed",
        "disk_remaining",
    ];
    running(guest)?;
    let Job { kind, params } = guest.job(caller.now).unwrap_or(Job { kind: 0, params: Vec::new() });
    out.i32(kind);
    for field in FIELDS {
        let value = params.iter().find(|(name, _)| *name == field).map(|(_, value)| *value);
        out.u64(if let Some(Value::ULLong(value)) = value { value } else { 0 });
    }
    Ok(())
}
