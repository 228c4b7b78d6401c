//! Statistics of many domains in one call: `virConnectGetAllDomainStats` and `virDomainListGetStats`.
//!
//! Guest by guest, as the QEMU driver does it: its lock, its job if a group needs the monitor, its record. Whoever hangs
//! holds up all who come behind it.

use std::time::SystemTime;

use super::{Caller, Written, filter};
use crate::faults::{About, Patience, Uuid, Wants};
use crate::host::{Depth, Guest, groups};
use crate::limits::{DOMAINS, MESSAGE_BYTES, STRING_BYTES};
use crate::wire::{RpcError, TypedParams, code, get_domain};
use crate::xdr::{Decoder, Encoder};

const NOWAIT: u32 = 1 << 29;
const ENFORCE: u32 = 1 << 31;
/// The flags that choose domains.
const FILTER: u32 = 0xffff;

/// Groups for which libvirt takes the job.
const JOB: u32 = groups::CPU_TOTAL
    | groups::BALLOON
    | groups::VCPU
    | groups::BLOCK
    | groups::IOTHREAD
    | groups::DIRTYRATE
    | groups::VM;

/// After so many records others get a turn.
const TURN: usize = 64;

pub(super) async fn answer(caller: &Caller<'_>, input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    let mut named = Vec::new();
    for _ in 0..input.count(DOMAINS)? {
        named.push(get_domain(input, STRING_BYTES)?.uuid);
    }
    let (asked, flags) = (input.u32()?, input.u32()?);
    let unknown = asked & !groups::ALL;
    if flags & ENFORCE != 0 && unknown != 0 {
        let message =
            format!("argument unsupported: Stats types bits 0x{unknown:x} are not supported by this daemon or QEMU");
        return Err(RpcError::qemu(code::ARGUMENT_UNSUPPORTED, message));
    }
    let asked = if asked == 0 { groups::ALL } else { asked };
    let guests = choose(caller, named, flags & FILTER).await;
    let count = out.gap();
    let mut records = 0;
    for (number, guest) in guests.iter().enumerate() {
        if number % TURN == TURN - 1 {
            tokio::task::yield_now().await;
        }
        records += usize::from(record(caller, guest, asked, flags & NOWAIT != 0, out).await?);
        if out.len() > MESSAGE_BYTES {
            return Err(RpcError::too_long());
        }
    }
    if records > DOMAINS {
        let message =
            format!("internal error: Number of domain stats records is {records}, which exceeds max limit: {DOMAINS}");
        return Err(RpcError::rpc(code::INTERNAL, message));
    }
    out.fill(count, records);
    Ok(())
}

/// The domains that a call is about; to find out, libvirt takes the lock of each of them. Unknown ones are left out.
async fn choose(caller: &Caller<'_>, mut named: Vec<Uuid>, flags: u32) -> Vec<Uuid> {
    let (host, troubles) = (&caller.daemon.host, &caller.daemon.troubles);
    let locked = troubles.any_locked();
    let waits = |guest: &&Uuid| named.is_empty() || named.contains(guest);
    for guest in locked.iter().filter(waits) {
        troubles.lock_free(guest).await;
    }
    let host = host.read();
    let wanted = |guest: &&Guest| filter::matches(guest, flags);
    if named.is_empty() {
        return host.guests().filter(wanted).map(|guest| *guest.uuid()).collect();
    }
    named.retain(|guest| host.get(guest).filter(wanted).is_some());
    named
}

/// Writes the record of a guest; false if it is gone.
async fn record(
    caller: &Caller<'_>,
    uuid: &Uuid,
    asked: u32,
    no_wait: bool,
    out: &mut Encoder,
) -> Result<bool, RpcError> {
    let (host, troubles) = (&caller.daemon.host, &caller.daemon.troubles);
    troubles.lock_free(uuid).await;
    let (wants, delay) = {
        let host = host.read();
        let Some(guest) = host.get(uuid) else { return Ok(false) };
        let about = About::Guest(guest.name());
        if let Some(error) = caller.daemon.rules.failure(caller.procedure, about) {
            return Err(error);
        }
        (wants(guest, asked), caller.daemon.rules.delay(caller.procedure, about))
    };
    let patience = if no_wait { Patience::None } else { Patience::For(caller.daemon.times.job_wait) };
    let entered = troubles.enter(uuid, wants, caller.procedure.name, patience, delay).await;
    let depth = if entered.is_ok() { Depth::Whole } else { Depth::NoMonitor };
    let host = host.read();
    let Some(guest) = host.get(uuid) else { return Ok(false) };
    super::domain::put(out, guest);
    TypedParams::array(out, |sink| guest.stats(asked, depth, SystemTime::now(), sink));
    Ok(true)
}

fn wants(guest: &Guest, asked: u32) -> Wants {
    let quiet = if guest.has_balloon() { 0 } else { groups::BALLOON };
    let runs = guest.is_running();
    Wants {
        job: runs && asked & JOB != 0,
        monitor: runs && asked & JOB & !quiet != 0,
        block: runs && asked & groups::BLOCK != 0,
        file: false,
    }
}
