//! The metric families: name, help, type, unit, source and accessor, one row each.
//!
//! A row is all that a new figure needs here. Names are kept for ever once released.

use super::labels::DomainLabels;
use super::value::{Value, int, kib, nanos, signed};
use crate::model::{
    BalloonSample, Block, BlockSample, CpuSample, Interface, InterfaceSample, Vcpu, VcpuSample, state_name,
};
use crate::store::{Domain, Snapshot};

/// The type of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// One metric family.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
    pub(super) unit: &'static str,
    /// Where the figure comes from, for the reference.
    pub(super) source: &'static str,
    /// Labels beyond `domain` and `uuid`, for the reference.
    pub(super) labels: &'static str,
    pub(super) read: Read,
}

/// What of a domain is fresh enough to be exported.
pub(super) struct View<'a> {
    pub(super) domain: &'a Domain,
    pub(super) cpu: Option<&'a CpuSample>,
    pub(super) vcpu: Option<&'a VcpuSample>,
    pub(super) interface: Option<&'a InterfaceSample>,
    pub(super) block: Option<&'a BlockSample>,
    pub(super) balloon: Option<&'a BalloonSample>,
    pub(super) state: Option<(Option<i64>, Option<i64>)>,
}

/// Receives the series of a host family: label block without braces, value.
pub(super) type Emit<'e> = &'e mut dyn FnMut(&[(&str, &str)], Value);

/// The accessor: what the family has a series for, and its value.
pub(super) enum Read {
    /// One or a few for the host.
    Host(fn(&Snapshot, Emit<'_>)),
    /// One per domain.
    Domain(fn(&View<'_>) -> Option<Value>),
    /// One per vCPU.
    Vcpu(fn(&Vcpu) -> Option<Value>),
    /// One per disk.
    Disk(fn(&Block) -> Option<Value>),
    /// One per NIC.
    Nic(fn(&Interface) -> Option<Value>),
    /// Value 1 for each of the label blocks.
    Info(fn(&DomainLabels) -> &[String]),
}

const fn row(
    kind: Kind,
    (name, unit): (&'static str, &'static str),
    help: &'static str,
    (source, labels): (&'static str, &'static str),
    read: Read,
) -> Family {
    Family { name, help, kind, unit, source, labels, read }
}

use Kind::{Counter, Gauge};
use Read::{Disk, Host, Info, Nic};

const fn disk(kind: Kind, name: &'static str, unit: &'static str, source: &'static str, help: &'static str, read: fn(&Block) -> Option<Value>) -> Family {
    row(kind, (name, unit), help, (source, "target_device"), Disk(read))
}

const fn nic(name: &'static str, unit: &'static str, source: &'static str, help: &'static str, read: fn(&Interface) -> Option<Value>) -> Family {
    row(Counter, (name, unit), help, (source, "target_device"), Nic(read))
}

const fn vcpu(kind: Kind, name: &'static str, unit: &'static str, source: &'static str, help: &'static str, read: fn(&Vcpu) -> Option<Value>) -> Family {
    row(kind, (name, unit), help, (source, "vcpu"), Read::Vcpu(read))
}

const fn domain(kind: Kind, name: &'static str, unit: &'static str, source: &'static str, help: &'static str, read: fn(&View<'_>) -> Option<Value>) -> Family {
    row(kind, (name, unit), help, (source, ""), Read::Domain(read))
}

/// Every family but the ages and our own metrics, which are rendered per scrape.
pub(super) static FAMILIES: &[Family] = &[
    row(
        Gauge,
        ("libvirt_up", "1"),
        "Whether the connection to libvirt lives.",
        ("inventory", ""),
        Host(|snapshot, emit| emit(&[], Value::Int(u64::from(snapshot.link.up)))),
    ),
    row(
        Gauge,
        ("libvirt_domains", "domains"),
        "Domains known, running or not.",
        ("inventory", ""),
        Host(|snapshot, emit| emit(&[], Value::Int(snapshot.domains.len() as u64))),
    ),
    row(
        Gauge,
        ("libvirt_domains_by_state", "domains"),
        "Domains by state.",
        ("state.state", "state"),
        Host(domains_by_state),
    ),
    row(
        Gauge,
        ("libvirt_version_info", "1"),
        "Versions of libvirtd, hypervisor and libvirt library; always 1.",
        ("inventory", "daemon, hypervisor, library"),
        Host(|snapshot, emit| {
            if let Some(v) = &snapshot.link.versions {
                emit(&[("daemon", &v.daemon), ("hypervisor", &v.hypervisor), ("library", &v.library)], Value::Int(1));
            }
        }),
    ),
    row(
        Gauge,
        ("libvirt_domain_info", "1"),
        "What the domain emulates; always 1.",
        ("XML", "os_type, os_type_arch, os_type_machine"),
        Info(|labels| labels.info.as_slice()),
    ),
    row(
        Gauge,
        ("libvirt_domain_openstack_info", "1"),
        "What OpenStack Nova says about the domain; always 1.",
        (
            "XML metadata",
            "instance_name, instance_id, flavor_name, user_name, user_id, project_name, project_id",
        ),
        Info(|labels| labels.openstack.as_slice()),
    ),
    domain(Gauge, "libvirt_domain_info_state", "1", "state.state", "State: 0 none, 1 running, 2 blocked, 3 paused, 4 shutting down, 5 shut off, 6 crashed, 7 suspended by power management.", |v| signed(v.state?.0)),
    domain(Gauge, "libvirt_domain_state_reason_code", "1", "state.reason", "Reason of the state; what a number means depends on the state (libvirt's virDomain*Reason).", |v| signed(v.state?.1)),
    domain(Gauge, "libvirt_domain_info_maximum_memory_bytes", "bytes", "balloon.maximum", "Memory that the domain may use at most.", |v| kib(v.balloon?.maximum_kib)),
    domain(Gauge, "libvirt_domain_info_memory_usage_bytes", "bytes", "balloon.current", "Memory that the domain has now.", |v| kib(v.balloon?.current_kib)),
    domain(Gauge, "libvirt_domain_info_virtual_cpus", "vCPUs", "vcpu.current", "Virtual CPUs that the domain has now.", |v| int(v.vcpu?.current)),
    domain(Counter, "libvirt_domain_info_cpu_time_seconds_total", "seconds", "cpu.time", "CPU time that the domain used.", |v| nanos(v.cpu?.time_ns)),
    domain(Counter, "libvirt_domain_cpu_user_seconds_total", "seconds", "cpu.user", "CPU time that the domain used in user mode of the host.", |v| nanos(v.cpu?.user_ns)),
    domain(Counter, "libvirt_domain_cpu_system_seconds_total", "seconds", "cpu.system", "CPU time that the domain used in the host's kernel.", |v| nanos(v.cpu?.system_ns)),
    domain(Gauge, "libvirt_domain_vcpu_current", "vCPUs", "vcpu.current", "Virtual CPUs that are online.", |v| int(v.vcpu?.current)),
    domain(Gauge, "libvirt_domain_vcpu_maximum", "vCPUs", "vcpu.maximum", "Virtual CPUs that can be online.", |v| int(v.vcpu?.maximum)),
    vcpu(Gauge, "libvirt_domain_vcpu_state", "1", "vcpu.N.state", "State of the vCPU: 0 offline, 1 running, 2 blocked.", |v| signed(v.state)),
    vcpu(Counter, "libvirt_domain_vcpu_time_seconds_total", "seconds", "vcpu.N.time", "CPU time that the vCPU used.", |v| nanos(v.time_ns)),
    vcpu(Counter, "libvirt_domain_vcpu_wait_seconds_total", "seconds", "vcpu.N.wait", "Time that the vCPU waited for I/O; stays 0 on kernels without scheduler statistics.", |v| nanos(v.wait_ns)),
    vcpu(Counter, "libvirt_domain_vcpu_delay_seconds_total", "seconds", "vcpu.N.delay", "Time that the vCPU was ready to run and the host did not run it.", |v| nanos(v.delay_ns)),
    disk(Counter, "libvirt_domain_block_stats_read_bytes_total", "bytes", "block.N.rd.bytes", "Bytes read from the disk.", |d| int(d.read.bytes)),
    disk(Counter, "libvirt_domain_block_stats_read_requests_total", "requests", "block.N.rd.reqs", "Read requests to the disk.", |d| int(d.read.requests)),
    disk(Counter, "libvirt_domain_block_stats_read_time_seconds_total", "seconds", "block.N.rd.times", "Time that read requests took.", |d| nanos(d.read.time_ns)),
    disk(Counter, "libvirt_domain_block_stats_write_bytes_total", "bytes", "block.N.wr.bytes", "Bytes written to the disk.", |d| int(d.write.bytes)),
    disk(Counter, "libvirt_domain_block_stats_write_requests_total", "requests", "block.N.wr.reqs", "Write requests to the disk.", |d| int(d.write.requests)),
    disk(Counter, "libvirt_domain_block_stats_write_time_seconds_total", "seconds", "block.N.wr.times", "Time that write requests took.", |d| nanos(d.write.time_ns)),
    disk(Counter, "libvirt_domain_block_stats_flush_requests_total", "requests", "block.N.fl.reqs", "Flush requests to the disk.", |d| int(d.flush.requests)),
    disk(Counter, "libvirt_domain_block_stats_flush_time_seconds_total", "seconds", "block.N.fl.times", "Time that flush requests took.", |d| nanos(d.flush.time_ns)),
    disk(Gauge, "libvirt_domain_block_stats_capacity_bytes", "bytes", "block.N.capacity", "Size of the disk, as the guest sees it.", |d| int(d.capacity_bytes)),
    disk(Gauge, "libvirt_domain_block_stats_allocation_bytes", "bytes", "block.N.allocation", "Highest extent of the image that was written.", |d| int(d.allocation_bytes)),
    disk(Gauge, "libvirt_domain_block_stats_physicalsize_bytes", "bytes", "block.N.physical", "Size of the image on the host.", |d| int(d.physical_bytes)),
    row(
        Gauge,
        ("libvirt_domain_block_stats_info", "1"),
        "What the disk of a running domain is; always 1.",
        (
            "XML",
            "target_device, disk_type, target_bus, driver_name, driver_type, driver_cache, driver_discard, source_file, source_protocol, serial",
        ),
        Info(|labels| &labels.disk_info),
    ),
    nic("libvirt_domain_interface_stats_receive_bytes_total", "bytes", "net.N.rx.bytes", "Bytes that the guest received.", |n| int(n.receive.bytes)),
    nic("libvirt_domain_interface_stats_receive_packets_total", "packets", "net.N.rx.pkts", "Packets that the guest received.", |n| int(n.receive.packets)),
    nic("libvirt_domain_interface_stats_receive_errors_total", "packets", "net.N.rx.errs", "Errors while receiving.", |n| int(n.receive.errors)),
    nic("libvirt_domain_interface_stats_receive_drops_total", "packets", "net.N.rx.drop", "Packets to the guest that were dropped.", |n| int(n.receive.drops)),
    nic("libvirt_domain_interface_stats_transmit_bytes_total", "bytes", "net.N.tx.bytes", "Bytes that the guest sent.", |n| int(n.transmit.bytes)),
    nic("libvirt_domain_interface_stats_transmit_packets_total", "packets", "net.N.tx.pkts", "Packets that the guest sent.", |n| int(n.transmit.packets)),
    nic("libvirt_domain_interface_stats_transmit_errors_total", "packets", "net.N.tx.errs", "Errors while sending.", |n| int(n.transmit.errors)),
    nic("libvirt_domain_interface_stats_transmit_drops_total", "packets", "net.N.tx.drop", "Packets from the guest that were dropped.", |n| int(n.transmit.drops)),
    row(
        Gauge,
        ("libvirt_domain_interface_stats_info", "1"),
        "What the NIC of a running domain is; always 1.",
        ("XML", "target_device, interface_type, source_bridge, mac_address, model_type, mtu_size"),
        Info(|labels| &labels.nic_info),
    ),
    domain(Gauge, "libvirt_domain_memory_stats_unused_bytes", "bytes", "balloon.unused", "Memory that the guest does not use at all.", |v| kib(v.balloon?.unused_kib)),
    domain(Gauge, "libvirt_domain_memory_stats_available_bytes", "bytes", "balloon.available", "Memory that the guest sees.", |v| kib(v.balloon?.available_kib)),
    domain(Gauge, "libvirt_domain_memory_stats_usable_bytes", "bytes", "balloon.usable", "Memory that the guest could give back without swapping.", |v| kib(v.balloon?.usable_kib)),
    domain(Gauge, "libvirt_domain_memory_stats_rss_bytes", "bytes", "balloon.rss", "Resident memory of the domain's process on the host.", |v| kib(v.balloon?.rss_kib)),
    domain(Gauge, "libvirt_domain_memory_stats_current_balloon_bytes", "bytes", "balloon.current", "Size of the balloon: memory that the domain has now.", |v| kib(v.balloon?.current_kib)),
    domain(Gauge, "libvirt_domain_memory_stats_maximum_bytes", "bytes", "balloon.maximum", "Memory that the domain may use at most.", |v| kib(v.balloon?.maximum_kib)),
    domain(Gauge, "libvirt_domain_memory_stats_disk_caches_bytes", "bytes", "balloon.disk_caches", "Memory that the guest uses for disk caches.", |v| kib(v.balloon?.disk_caches_kib)),
    domain(Counter, "libvirt_domain_memory_stats_major_fault_total", "faults", "balloon.major_fault", "Page faults in the guest that needed its disk.", |v| int(v.balloon?.major_faults)),
    domain(Counter, "libvirt_domain_memory_stats_minor_fault_total", "faults", "balloon.minor_fault", "Page faults in the guest that needed no disk.", |v| int(v.balloon?.minor_faults)),
    domain(Counter, "libvirt_domain_memory_stats_swap_in_bytes_total", "bytes", "balloon.swap_in", "Memory that the guest read back from its swap.", |v| kib(v.balloon?.swap_in_kib)),
    domain(Counter, "libvirt_domain_memory_stats_swap_out_bytes_total", "bytes", "balloon.swap_out", "Memory that the guest wrote to its swap.", |v| kib(v.balloon?.swap_out_kib)),
    domain(Counter, "libvirt_domain_memory_stats_hugetlb_pgalloc_total", "pages", "balloon.hugetlb_pgalloc", "Huge pages that the guest allocated.", |v| int(v.balloon?.hugetlb_pgalloc)),
    domain(Counter, "libvirt_domain_memory_stats_hugetlb_pgfail_total", "pages", "balloon.hugetlb_pgfail", "Huge pages that the guest could not allocate.", |v| int(v.balloon?.hugetlb_pgfail)),
    domain(Gauge, "libvirt_domain_memory_stats_last_update_timestamp_seconds", "seconds", "balloon.last-update", "When the guest last reported its memory, Unix time.", |v| int(v.balloon?.last_update_s.filter(|at| *at > 0))),
    domain(Gauge, "libvirt_domain_memory_stats_used_percent", "percent", "balloon.available, balloon.usable", "Part of its memory that the guest uses and could not give back.", |v| used_percent(v.balloon?)),
];

/// The family of ages, rendered per scrape.
pub(super) const AGE_NAME: &str = "libvirt_domain_sample_age_seconds";
/// Its help.
pub(super) const AGE_HELP: &str = "Time since the newest sample of the group was asked for; since the domain was found running where there is none yet. Every running domain and group sampled has it.";

fn used_percent(balloon: &BalloonSample) -> Option<Value> {
    let (available, usable) = (balloon.available_kib?, balloon.usable_kib?);
    let used = available.checked_sub(usable)?;
    if available == 0 {
        return None;
    }
    #[allow(clippy::cast_precision_loss)] // KiB of memory stay far below 2^53.
    let percent = used as f64 / available as f64 * 100.0;
    Some(Value::Float(percent))
}

fn domains_by_state(snapshot: &Snapshot, emit: Emit<'_>) {
    // Every state has its series, so that a sum over time has no holes.
    let mut counts = [0_u64; 9];
    for domain in &snapshot.domains {
        let state = domain.state().and_then(|sampled| sampled.figures.state);
        let place = state.and_then(|state| usize::try_from(state).ok()).filter(|state| *state < 8).unwrap_or(8);
        counts[place] += 1;
    }
    for (state, count) in (0_i64..).zip(counts) {
        emit(&[("state", state_name(state))], Value::Int(count));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_follow_the_rules() {
        let mut names = HashSet::new();
        for family in FAMILIES {
            assert!(names.insert(family.name), "{} twice", family.name);
            assert_eq!(family.kind == Counter, family.name.ends_with("_total"), "{}", family.name);
            assert!(family.help.ends_with('.') && !family.help.contains(['\n', '\\']), "{}", family.name);
        }
    }

    #[test]
    fn used_percent_is_absent_rather_than_made_up() {
        let balloon = |available_kib, usable_kib| BalloonSample { available_kib, usable_kib, ..Default::default() };
        assert_eq!(used_percent(&balloon(Some(200), Some(50))), Some(Value::Float(75.0)));
        assert_eq!(used_percent(&balloon(Some(200), None)), None);
        assert_eq!(used_percent(&balloon(None, None)), None);
        assert_eq!(used_percent(&balloon(Some(0), Some(0))), None);
        assert_eq!(used_percent(&balloon(Some(1), Some(2))), None);
    }
}
