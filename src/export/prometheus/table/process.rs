//! The QEMU process, as the host's kernel sees it; and rates of the last minute.

use super::Kind::{self, Counter, Gauge};
use super::{Family, Read, View, domain, row};
use crate::export::prometheus::value::{Value, int, kib, nanos};
use crate::model::{Group, KernelDetails};
use crate::store::{Minute, Spread};

pub(super) static FAMILIES: &[Family] = &[
    process(
        Gauge,
        "libvirt_domain_process_hugetlb_bytes",
        "bytes",
        "/proc/PID/status HugetlbPages",
        "Memory in huge pages that the domain's process uses on the host; not part of its resident memory.",
        |v| kib(details(v)?.hugetlb_kib),
    ),
    process(
        Counter,
        "libvirt_domain_process_major_faults_total",
        "faults",
        "/proc/PID/stat majflt",
        "Page faults of the domain's process on the host that needed a disk.",
        |v| int(v.kernel?.major_faults),
    ),
    process(
        Counter,
        "libvirt_domain_process_minor_faults_total",
        "faults",
        "/proc/PID/stat minflt",
        "Page faults of the domain's process on the host that needed no disk.",
        |v| int(v.kernel?.minor_faults),
    ),
    process(
        Gauge,
        "libvirt_domain_process_threads",
        "threads",
        "/proc/PID/stat num_threads",
        "Threads of the domain's process.",
        |v| int(v.kernel?.threads),
    ),
    process(
        Counter,
        "libvirt_domain_emulator_voluntary_switches_total",
        "switches",
        "/proc/PID/status voluntary_ctxt_switches",
        "Times that QEMU's main thread gave up its CPU to wait for something.",
        |v| int(details(v)?.voluntary_switches),
    ),
    process(
        Counter,
        "libvirt_domain_emulator_involuntary_switches_total",
        "switches",
        "/proc/PID/status nonvoluntary_ctxt_switches",
        "Times that QEMU's main thread was made to give up its CPU.",
        |v| int(details(v)?.involuntary_switches),
    ),
    process(
        Counter,
        "libvirt_domain_emulator_time_seconds_total",
        "seconds",
        "/proc/PID/task/PID/schedstat",
        "CPU time of QEMU's main thread, which emulates devices and answers libvirt.",
        |v| nanos(details(v)?.emulator_time_ns),
    ),
    process(
        Counter,
        "libvirt_domain_emulator_delay_seconds_total",
        "seconds",
        "/proc/PID/task/PID/schedstat",
        "Time that QEMU's main thread was ready to run and the host did not run it.",
        |v| nanos(details(v)?.emulator_delay_ns),
    ),
    process(
        Counter,
        "libvirt_domain_process_read_bytes_total",
        "bytes",
        "cgroup io.stat rbytes",
        "Bytes that the domain's cgroup read from block devices of the host.",
        |v| int(details(v)?.io_read.bytes),
    ),
    process(
        Counter,
        "libvirt_domain_process_read_operations_total",
        "operations",
        "cgroup io.stat rios",
        "Read operations of the domain's cgroup on block devices of the host.",
        |v| int(details(v)?.io_read.operations),
    ),
    process(
        Counter,
        "libvirt_domain_process_write_bytes_total",
        "bytes",
        "cgroup io.stat wbytes",
        "Bytes that the domain's cgroup wrote to block devices of the host.",
        |v| int(details(v)?.io_write.bytes),
    ),
    process(
        Counter,
        "libvirt_domain_process_write_operations_total",
        "operations",
        "cgroup io.stat wios",
        "Write operations of the domain's cgroup on block devices of the host.",
        |v| int(details(v)?.io_write.operations),
    ),
    minute(
        ("libvirt_domain_cpu_utilization_min_ratio", "1"),
        "Least part of its vCPUs that the domain used in one step of the last minute; 1 is all of them, and what QEMU does beside counts too. A step is a second, or the time between two samples where that is longer.",
        |v| utilization(v, |spread| spread.minimum),
    ),
    minute(
        ("libvirt_domain_cpu_utilization_max_ratio", "1"),
        "Greatest part of its vCPUs that the domain used in one step of the last minute; 1 is all of them, and what QEMU does beside counts too. A step is a second, or the time between two samples where that is longer.",
        |v| utilization(v, |spread| spread.maximum),
    ),
    minute(
        ("libvirt_domain_receive_rate_min_bytes_per_second", "bytes per second"),
        "Least that all NICs of the guest received, per second, in one step of the last minute.",
        |v| network(v, |[receive, _]| receive.minimum),
    ),
    minute(
        ("libvirt_domain_receive_rate_max_bytes_per_second", "bytes per second"),
        "Most that all NICs of the guest received, per second, in one step of the last minute.",
        |v| network(v, |[receive, _]| receive.maximum),
    ),
    minute(
        ("libvirt_domain_transmit_rate_min_bytes_per_second", "bytes per second"),
        "Least that all NICs of the guest sent, per second, in one step of the last minute.",
        |v| network(v, |[_, transmit]| transmit.minimum),
    ),
    minute(
        ("libvirt_domain_transmit_rate_max_bytes_per_second", "bytes per second"),
        "Most that all NICs of the guest sent, per second, in one step of the last minute.",
        |v| network(v, |[_, transmit]| transmit.maximum),
    ),
];

const fn process(
    kind: Kind,
    name: &'static str,
    unit: &'static str,
    source: &'static str,
    help: &'static str,
    read: fn(&View<'_>) -> Option<Value>,
) -> Family {
    domain(Group::Kernel, kind, name, unit, source, help, read)
}

/// With `export.minute-metrics` only.
const fn minute(
    name_and_unit: (&'static str, &'static str),
    help: &'static str,
    read: fn(&View<'_>) -> Option<Value>,
) -> Family {
    row(Gauge, name_and_unit, help, ("samples of the last minute; export.minute-metrics", ""), Read::Domain(read))
}

fn details<'v>(view: &View<'v>) -> Option<&'v KernelDetails> {
    view.kernel?.details.as_deref()
}

/// CPU time by time, for each vCPU.
#[allow(clippy::cast_precision_loss)] // Nobody has 2^53 vCPUs.
fn utilization(view: &View<'_>, of: fn(&Spread) -> f64) -> Option<Value> {
    let Minute { spreads: [time], .. } = view.cpu_minute?;
    let vcpus = view.vcpu?.current.filter(|count| *count > 0)?;
    Some(Value::Float(of(&time) / 1e9 / vcpus as f64))
}

fn network(view: &View<'_>, of: fn(&[Spread; 2]) -> f64) -> Option<Value> {
    Some(Value::Float(of(&view.network_minute?.spreads)))
}
