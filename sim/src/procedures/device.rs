//! Procedures about one device of a domain.

use std::time::SystemTime;

use super::domain::running;
use super::{Caller, Written};
use crate::host::{Guest, Params, Value};
use crate::limits::STRING_BYTES;
use crate::wire::{RpcError, TypedParams, code};
use crate::xdr::{Decoder, Encoder};

fn no_disk(path: &str, guest: &Guest) -> RpcError {
    let name = guest.name();
    RpcError::qemu(code::INVALID_ARG, format!("invalid argument: invalid path {path} not assigned to domain '{name}'"))
}

/// The counters of a disk; of an empty path, the sums over all disks. False if there is no such disk.
fn counters(guest: &Guest, path: &str, now: SystemTime, out: &mut dyn Params) -> bool {
    /// Adds up what comes.
    #[derive(Default)]
    struct Sums(Vec<(String, i64)>);
    impl Params for Sums {
        fn put(&mut self, name: &str, value: Value<'_>) {
            let Value::LLong(value) = value else { return };
            match self.0.iter_mut().find(|(known, _)| known == name) {
                Some((_, sum)) => *sum = sum.saturating_add(value),
                None => self.0.push((name.to_owned(), value)),
            }
        }
    }
    if !path.is_empty() {
        return guest.block_counters(path, now, out);
    }
    let mut sums = Sums::default();
    guest.disk_targets().for_each(|target| _ = guest.block_counters(target, now, &mut sums));
    sums.0.iter().for_each(|(name, sum)| out.put(name, Value::LLong(*sum)));
    true
}

pub(super) fn block_info(caller: &Caller<'_>, guest: &Guest, input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    let path = input.text(STRING_BYTES)?;
    let info = guest.block_info(path, caller.now).ok_or_else(|| no_disk(path, guest))?;
    out.u64(info.allocation);
    out.u64(info.capacity);
    out.u64(info.physical);
    Ok(())
}

pub(super) fn block_stats(caller: &Caller<'_>, guest: &Guest, input: &mut Decoder<'_>, out: &mut Encoder) -> Written {
    /// Keeps the five counters of the older shape; a counter that there is not is -1.
    struct Five([i64; 5]);
    impl Params for Five {
        fn put(&mut self, name: &str, value: Value<'_>) {
            let place = match name {
                "rd_operations" => 0,
                "rd_bytes" => 1,
                "wr_operations" => 2,
                "wr_bytes" => 3,
                _ => return,
            };
            self.0[place] = match value {
                Value::LLong(value) => value,
                Value::ULLong(value) => i64::try_from(value).unwrap_or(i64::MAX),
                _ => return,
            };
        }
    }
    running(guest)?;
    let path = input.text(STRING_BYTES)?;
    let mut five = Five([-1; 5]);
    if !counters(guest, path, caller.now, &mut five) {
        return Err(no_disk(path, guest));
    }
    five.0.into_iter().for_each(|counter| out.i64(counter));
    Ok(())
}

pub(super) fn block_stats_flags(
    caller: &Caller<'_>,
    guest: &Guest,
    input: &mut Decoder<'_>,
    out: &mut Encoder,
) -> Written {
    running(guest)?;
    let (path, room) = (input.text(STRING_BYTES)?, input.i32()?);
    let before = out.len();
    let mut there = false;
    let count = TypedParams::array(out, |sink| there = counters(guest, path, caller.now, sink));
    if !there {
        return Err(no_disk(path, guest));
    }
    if room == 0 {
        out.truncate(before);
        out.count(0);
    }
    out.count(count);
    Ok(())
}

pub(super) fn interface_stats(
    caller: &Caller<'_>,
    guest: &Guest,
    input: &mut Decoder<'_>,
    out: &mut Encoder,
) -> Written {
    running(guest)?;
    let device = input.text(STRING_BYTES)?;
    let counters = guest.interface_counters(device, caller.now).ok_or_else(|| {
        RpcError::qemu(code::INVALID_ARG, format!("invalid argument: '{device}' is not a known interface"))
    })?;
    counters.into_iter().for_each(|counter| out.i64(counter));
    Ok(())
}
