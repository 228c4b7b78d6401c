//! A migration to another host, as `virDomainGetJobStats` and the event of its end tell it.

use std::time::Duration;

use super::guest::Job;
use super::shape::Shape;
use super::{Params, Value};

/// `virDomainJobType`: one whose end nobody knows, and one that has ended.
const UNBOUNDED: i32 = 2;
const COMPLETED: i32 = 3;

/// `VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT`.
const MIGRATION_OUT: i32 = 5;

/// Bytes a second over the network.
const SPEED: f64 = 320e6;

/// Bytes a second that the guest writes to pages which were sent already, for each busy vCPU.
const DIRTYING: f64 = 60e6;

const PAGE: u64 = 4096;

/// The time that the guest stood still at the end, ms.
const DOWNTIME_MS: u64 = 87;

impl Job {
    /// Its parameters, in libvirt's order.
    pub fn params(&self, out: &mut dyn Params) {
        for (name, value) in &self.params {
            out.put(name, *value);
        }
    }
}

/// The job of a migration that has lasted so long.
pub(super) fn migration(shape: &Shape, lasted: Duration, completed: bool) -> Job {
    let total = (shape.current_kib + 16_384) * 1024;
    let seconds = lasted.as_secs_f64();
    let dirtying = (DIRTYING * shape.load.cpu * f64::from(shape.vcpus_current)).min(SPEED * 0.8);
    let sent = (seconds * SPEED) as u64;
    // Pages that hold nothing need not be sent.
    let constant = total / 5 / PAGE * PAGE;
    let to_send = total - constant;
    let first = to_send as f64 / SPEED;
    // After the first round each one is shorter by the share that was written meanwhile; what is left hardly shrinks.
    let left = dirtying * first.min(2.0) / 4.0;
    let (remaining, iteration) = if completed {
        (0, 3)
    } else if seconds < first {
        (to_send - sent.min(to_send), 1)
    } else {
        let round = 2 + ((seconds - first) / 2.0) as u64;
        ((left * (1.0 - (seconds - first) / 2.0 % 1.0)) as u64, round)
    };
    let (remaining, processed) = (remaining / PAGE * PAGE, sent / PAGE * PAGE);
    let mut params = vec![
        ("operation", Value::Int(MIGRATION_OUT)),
        ("time_elapsed", Value::ULLong(u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX))),
    ];
    if completed {
        params.push(("downtime", Value::ULLong(DOWNTIME_MS)));
    }
    params.extend([
        ("setup_time", Value::ULLong(4)),
        ("data_total", Value::ULLong(total)),
        ("data_processed", Value::ULLong(processed)),
        ("data_remaining", Value::ULLong(remaining)),
        ("memory_total", Value::ULLong(total)),
        ("memory_processed", Value::ULLong(processed)),
        ("memory_remaining", Value::ULLong(remaining)),
        ("memory_bps", Value::ULLong(SPEED as u64)),
        ("memory_constant", Value::ULLong(constant / PAGE)),
        ("memory_normal", Value::ULLong(processed / PAGE)),
        ("memory_normal_bytes", Value::ULLong(processed)),
        ("memory_dirty_rate", Value::ULLong(if iteration > 1 { dirtying as u64 / PAGE } else { 0 })),
        ("memory_iteration", Value::ULLong(iteration)),
        ("memory_postcopy_requests", Value::ULLong(0)),
        ("memory_page_size", Value::ULLong(PAGE)),
    ]);
    Job { kind: if completed { COMPLETED } else { UNBOUNDED }, params }
}
