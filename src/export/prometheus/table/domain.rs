//! Each domain: what it is, its state, its CPU time.

use std::time::SystemTime;

use super::Kind::{Counter, Gauge};
use super::Read::{self, Info};
use super::{Family, domain, row, vcpu};
use super::{Value, View};
use crate::export::prometheus::labels::Of;
use crate::export::prometheus::value::{int, kib, nanos, signed};
use crate::model::{DomainHealth, Group};

pub(super) static FAMILIES: &[Family] = &[
    row(
        Gauge,
        ("libvirt_domain_info", "1"),
        "What the domain emulates; always 1.",
        ("XML", "os_type, os_type_arch, os_type_machine"),
        Info(Of::Info),
    ),
    row(
        Gauge,
        ("libvirt_domain_openstack_info", "1"),
        "What OpenStack Nova says about the domain; always 1.",
        ("XML metadata", "instance_name, instance_id, flavor_name, user_name, user_id, project_name, project_id"),
        Info(Of::OpenStack),
    ),
    domain(
        Group::State,
        Gauge,
        "libvirt_domain_info_state",
        "1",
        "state.state",
        "State: 0 none, 1 running, 2 blocked, 3 paused, 4 shutting down, 5 shut off, 6 crashed, 7 suspended by power management.",
        |v| signed(v.state?.0),
    ),
    domain(
        Group::State,
        Gauge,
        "libvirt_domain_state_reason_code",
        "1",
        "state.reason",
        "Reason of the state; what a number means depends on the state (libvirt's virDomain*Reason).",
        |v| signed(v.state?.1),
    ),
    row(
        Gauge,
        ("libvirt_domain_responsive", "1"),
        "Whether a running domain's QEMU answers; 0 while it does not, and then most groups have no samples.",
        ("answers to all calls", ""),
        Read::Domain(|v| health(v, |health| health.unresponsive_since.is_none())),
    ),
    row(
        Gauge,
        ("libvirt_domain_timed_out", "1"),
        "Whether a call that was written off still hangs on a running domain.",
        ("answers to all calls", ""),
        Read::Domain(|v| health(v, |health| health.blocked_call.is_some())),
    ),
    row(
        Gauge,
        ("libvirt_domain_start_time_seconds", "seconds"),
        "When a running domain's present run began, Unix time: the start of its QEMU process, else the moment of libvirt's event. Absent where neither was seen.",
        ("/proc, lifecycle events", ""),
        Read::Domain(|v| start_time(v.domain.life.start?.at)),
    ),
    row(
        Counter,
        ("libvirt_domain_starts_total", "starts"),
        "Runs of the domain that began since the service did, those that came from another host included.",
        ("lifecycle events, list, samples, /proc", ""),
        Read::Domain(|v| int(Some(v.domain.life.starts))),
    ),
    row(
        Counter,
        ("libvirt_domain_panics_total", "panics"),
        "Panics of the guest since the service began; only a guest with a panic device tells.",
        ("lifecycle events", ""),
        Read::Domain(|v| int(Some(v.domain.life.panics))),
    ),
    row(
        Counter,
        ("libvirt_domain_io_errors_total", "errors"),
        "Errors of the domain's disks that QEMU told since the service began.",
        ("I/O error events", ""),
        Read::Domain(|v| int(Some(v.domain.life.io_errors))),
    ),
    domain(
        Group::Balloon,
        Gauge,
        "libvirt_domain_info_maximum_memory_bytes",
        "bytes",
        "balloon.maximum",
        "Memory that the domain may use at most.",
        |v| kib(v.balloon?.maximum_kib),
    ),
    domain(
        Group::Balloon,
        Gauge,
        "libvirt_domain_info_memory_usage_bytes",
        "bytes",
        "balloon.current",
        "Memory that the domain has now.",
        |v| kib(v.balloon?.current_kib),
    ),
    domain(
        Group::Vcpu,
        Gauge,
        "libvirt_domain_info_virtual_cpus",
        "vCPUs",
        "vcpu.current",
        "Virtual CPUs that the domain has now.",
        |v| int(v.vcpu?.current),
    ),
    domain(
        Group::Cpu,
        Counter,
        "libvirt_domain_info_cpu_time_seconds_total",
        "seconds",
        "cpu.time",
        "CPU time that the domain used.",
        |v| nanos(v.cpu?.time_ns),
    ),
    domain(
        Group::Cpu,
        Counter,
        "libvirt_domain_cpu_user_seconds_total",
        "seconds",
        "cpu.user",
        "CPU time that the domain used in user mode of the host.",
        |v| nanos(v.cpu?.user_ns),
    ),
    domain(
        Group::Cpu,
        Counter,
        "libvirt_domain_cpu_system_seconds_total",
        "seconds",
        "cpu.system",
        "CPU time that the domain used in the host's kernel.",
        |v| nanos(v.cpu?.system_ns),
    ),
    domain(
        Group::Vcpu,
        Gauge,
        "libvirt_domain_vcpu_current",
        "vCPUs",
        "vcpu.current",
        "Virtual CPUs that are online.",
        |v| int(v.vcpu?.current),
    ),
    domain(
        Group::Vcpu,
        Gauge,
        "libvirt_domain_vcpu_maximum",
        "vCPUs",
        "vcpu.maximum",
        "Virtual CPUs that can be online.",
        |v| int(v.vcpu?.maximum),
    ),
    vcpu(
        Gauge,
        "libvirt_domain_vcpu_state",
        "1",
        "vcpu.N.state",
        "State of the vCPU: 0 offline, 1 running, 2 blocked.",
        |v| signed(v.state),
    ),
    vcpu(
        Counter,
        "libvirt_domain_vcpu_time_seconds_total",
        "seconds",
        "vcpu.N.time",
        "CPU time that the vCPU used.",
        |v| nanos(v.time_ns),
    ),
    vcpu(
        Counter,
        "libvirt_domain_vcpu_wait_seconds_total",
        "seconds",
        "vcpu.N.wait",
        "Time that the vCPU waited for I/O. Of a host whose kernel keeps no scheduler statistics it is absent, or 0 where libvirt tells it.",
        |v| nanos(v.wait_ns),
    ),
    vcpu(
        Counter,
        "libvirt_domain_vcpu_delay_seconds_total",
        "seconds",
        "vcpu.N.delay",
        "Time that the vCPU was ready to run and the host did not run it.",
        |v| nanos(v.delay_ns),
    ),
];

/// Nanoseconds last until the year 2554.
fn start_time(at: SystemTime) -> Option<Value> {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).ok()?;
    nanos(u64::try_from(since.as_nanos()).ok())
}

/// A yes or no of running domains: who is not running has nothing to answer with.
fn health(view: &View<'_>, is: fn(&DomainHealth) -> bool) -> Option<Value> {
    view.domain.run.map(|_| Value::Int(u64::from(is(&view.domain.health))))
}
