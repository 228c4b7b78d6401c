//! What the host's kernel says of a domain's process, as JSON.

use schemars::JsonSchema;
use serde::Serialize;

use super::samples::Before;
use super::{figures, rfc3339};
use crate::model::{IoThread, KernelDetails, KernelSample};

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Kernel")]
pub(super) struct KernelJson {
    #[serde(flatten)]
    process: Process,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<Details>,
}
figures!(Process {
    resident_kib: u64,
    major_faults: u64,
    minor_faults: u64,
    threads: u64,
    major_faults_per_second: f64,
    minor_faults_per_second: f64,
});
/// What is read every five seconds where samples come more often.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "KernelDetails")]
struct Details {
    sampled_at: String,
    #[serde(flatten)]
    figures: DetailFigures,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    iothreads: Vec<IoThreadJson>,
}
figures!(DetailFigures {
    hugetlb_kib: u64,
    voluntary_switches: u64,
    involuntary_switches: u64,
    emulator_time_ns: u64,
    emulator_delay_ns: u64,
    io_read_bytes: u64,
    io_read_operations: u64,
    io_write_bytes: u64,
    io_write_operations: u64,
});
figures!(
    #[schemars(rename = "IoThread")]
    IoThreadJson { iothread: u32, time_ns: u64, delay_ns: u64 }
);

/// The newest sample.
pub(super) fn of(sample: &KernelSample, before: &Before<'_, KernelSample>) -> KernelJson {
    KernelJson {
        process: Process {
            resident_kib: sample.resident_kib,
            major_faults: sample.major_faults,
            minor_faults: sample.minor_faults,
            threads: sample.threads,
            major_faults_per_second: before.rate(sample, |sample| sample.major_faults),
            minor_faults_per_second: before.rate(sample, |sample| sample.minor_faults),
        },
        details: sample.details.as_deref().map(details),
    }
}

fn details(details: &KernelDetails) -> Details {
    let iothread = |thread: &IoThread| IoThreadJson {
        iothread: Some(thread.id),
        time_ns: thread.time_ns,
        delay_ns: thread.delay_ns,
    };
    Details {
        sampled_at: rfc3339(details.read.wall),
        figures: DetailFigures {
            hugetlb_kib: details.hugetlb_kib,
            voluntary_switches: details.voluntary_switches,
            involuntary_switches: details.involuntary_switches,
            emulator_time_ns: details.emulator_time_ns,
            emulator_delay_ns: details.emulator_delay_ns,
            io_read_bytes: details.io_read.bytes,
            io_read_operations: details.io_read.operations,
            io_write_bytes: details.io_write.bytes,
            io_write_operations: details.io_write.operations,
        },
        iothreads: details.iothreads.iter().map(iothread).collect(),
    }
}
