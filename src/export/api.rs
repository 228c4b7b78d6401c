//! Our own JSON: domains with counters, rates and ages, and the service's status.
//!
//! Units are in the field names. A field whose value was not obtained is absent. Field names are only added to.

use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use crate::model::{
    BalloonSample, Block, BlockSample, CpuSample, DiskDescription, DomainDescription, Group, HostVersions, Interface,
    InterfaceSample, NicDescription, Stamp, StateSample, Vcpu, VcpuSample, per_second, state_name,
};
use crate::store::{Domain, Snapshot, Window};

/// A struct of optional figures, absent in JSON where they are `None`.
macro_rules! figures {
    ($name:ident $(<$life:lifetime>)? { $($field:ident: $type:ty),* $(,)? }) => {
        #[derive(Debug, Default, Serialize)]
        struct $name$(<$life>)? { $(#[serde(skip_serializing_if = "Option::is_none")] $field: Option<$type>),* }
    };
}

/// `/api/v1/domains`.
#[derive(Debug, Serialize)]
pub struct DomainList<'a> {
    sequence: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sampled_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_seconds: Option<f64>,
    domains: Vec<DomainJson<'a>>,
}

/// `/api/v1/domains/{uuid-or-name}`.
#[derive(Debug, Serialize)]
pub struct DomainJson<'a> {
    uuid: String,
    name: &'a str,
    running: bool,
    #[serde(flatten)]
    state: State,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<Description<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    samples: Option<Samples<'a>>,
}

figures!(State { state: &'static str, state_code: i64, state_reason_code: i64 });

#[derive(Debug, Serialize)]
struct Description<'a> {
    domain_type: &'a str,
    os_type: &'a str,
    os_arch: &'a str,
    os_machine: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    disks: Vec<DiskJson<'a>>,
    nics: Vec<NicJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    openstack: Option<OpenStackJson<'a>>,
}

figures!(DiskJson<'a> {
    target: &'a str, disk_type: &'a str, target_bus: &'a str, driver_name: &'a str, driver_type: &'a str,
    driver_cache: &'a str, driver_discard: &'a str, source: &'a str, source_protocol: &'a str, serial: &'a str,
});
figures!(NicJson<'a> {
    target: &'a str, interface_type: &'a str, source_bridge: &'a str, mac: &'a str, model: &'a str, mtu: &'a str,
});
figures!(OpenStackJson<'a> {
    instance_name: &'a str, instance_id: &'a str, flavor_name: &'a str, user_name: &'a str, user_id: &'a str,
    project_name: &'a str, project_id: &'a str,
});

/// The newest sample of each group; a group without one is absent.
#[derive(Debug, Serialize)]
struct Samples<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<Aged<State>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<Aged<Cpu>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vcpu: Option<Aged<Vcpus>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    interface: Option<Aged<Interfaces<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block: Option<Aged<Disks<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    balloon: Option<Aged<Balloon>>,
}

/// Figures with the time at which they were asked for.
#[derive(Debug, Serialize)]
struct Aged<T> {
    sampled_at: String,
    age_seconds: f64,
    /// Too old to be in /metrics.
    stale: bool,
    /// What the rates are over; absent without a second sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    interval_seconds: Option<f64>,
    #[serde(flatten)]
    figures: T,
}

figures!(Cpu {
    time_ns: u64, user_ns: u64, system_ns: u64,
    time_seconds_per_second: f64, user_seconds_per_second: f64, system_seconds_per_second: f64,
});
#[derive(Debug, Serialize)]
struct Vcpus {
    #[serde(flatten)]
    counts: VcpuCounts,
    vcpus: Vec<VcpuJson>,
}
figures!(VcpuCounts { current: u64, maximum: u64 });
figures!(VcpuJson {
    vcpu: u32, state_code: i64, time_ns: u64, wait_ns: u64, delay_ns: u64,
    time_seconds_per_second: f64, wait_seconds_per_second: f64, delay_seconds_per_second: f64,
});
#[derive(Debug, Serialize)]
struct Interfaces<'a> {
    interfaces: Vec<InterfaceJson<'a>>,
}
figures!(InterfaceJson<'a> {
    index: u32, name: &'a str,
    receive_bytes: u64, receive_packets: u64, receive_errors: u64, receive_drops: u64,
    transmit_bytes: u64, transmit_packets: u64, transmit_errors: u64, transmit_drops: u64,
    receive_bytes_per_second: f64, receive_packets_per_second: f64,
    transmit_bytes_per_second: f64, transmit_packets_per_second: f64,
});
#[derive(Debug, Serialize)]
struct Disks<'a> {
    disks: Vec<BlockJson<'a>>,
}
figures!(BlockJson<'a> {
    index: u32, name: &'a str, path: &'a str,
    read_requests: u64, read_bytes: u64, read_time_ns: u64,
    write_requests: u64, write_bytes: u64, write_time_ns: u64,
    flush_requests: u64, flush_time_ns: u64,
    allocation_bytes: u64, capacity_bytes: u64, physical_bytes: u64,
    read_requests_per_second: f64, read_bytes_per_second: f64,
    write_requests_per_second: f64, write_bytes_per_second: f64, flush_requests_per_second: f64,
});
figures!(Balloon {
    current_kib: u64, maximum_kib: u64, rss_kib: u64, available_kib: u64, usable_kib: u64, unused_kib: u64,
    disk_caches_kib: u64, swap_in_kib: u64, swap_out_kib: u64, major_faults: u64, minor_faults: u64,
    hugetlb_pgalloc: u64, hugetlb_pgfail: u64, last_update_unix_seconds: u64,
    swap_in_kib_per_second: f64, swap_out_kib_per_second: f64,
    major_faults_per_second: f64, minor_faults_per_second: f64,
});

/// `/api/v1/status`.
#[derive(Debug, Serialize)]
pub struct Status<'a> {
    version: &'static str,
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_ready_reason: Option<&'a str>,
    libvirt: LibvirtStatus<'a>,
    sequence: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sampled_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_seconds: Option<f64>,
    domains: usize,
    domains_running: usize,
    groups: Vec<GroupStatus>,
}

#[derive(Debug, Serialize)]
struct LibvirtStatus<'a> {
    up: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hypervisor_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    daemon_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    library_version: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct GroupStatus {
    group: &'static str,
    stale_after_seconds: f64,
    /// The oldest sample of any running domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_age_seconds: Option<f64>,
    stale_domains: usize,
}

/// Every domain.
#[must_use]
pub fn domains(snapshot: &Snapshot, now: Instant) -> DomainList<'_> {
    DomainList {
        sequence: snapshot.sequence,
        sampled_at: snapshot.sampled.map(|stamp| rfc3339(stamp.wall)),
        age_seconds: snapshot.sampled.map(|stamp| age(stamp, now)),
        domains: snapshot.domains.iter().map(|it| domain(snapshot, it, now)).collect(),
    }
}

/// One domain.
#[must_use]
pub fn domain<'a>(snapshot: &Snapshot, domain: &'a Domain, now: Instant) -> DomainJson<'a> {
    let windows = &domain.windows;
    let aging = Aging { snapshot, now };
    let samples = domain.run.map(|_| Samples {
        state: aging.of(&windows.state, Group::State, |state, _| state_json(*state)),
        cpu: aging.of(&windows.cpu, Group::Cpu, cpu),
        vcpu: aging.of(&windows.vcpu, Group::Vcpu, vcpus),
        interface: aging.of(&windows.interface, Group::Interface, interfaces),
        block: aging.of(&windows.block, Group::Block, disks),
        balloon: aging.of(&windows.balloon, Group::Balloon, balloon),
    });
    DomainJson {
        uuid: domain.id.to_string(),
        name: &domain.name,
        running: domain.run.is_some(),
        state: domain.state().map(|sampled| state_json(sampled.figures)).unwrap_or_default(),
        description: domain.description.as_deref().map(description),
        samples,
    }
}

/// The service.
#[must_use]
pub fn status(snapshot: &Snapshot, now: Instant) -> Status<'_> {
    let versions = snapshot.link.versions.as_ref();
    let version = |of: fn(&HostVersions) -> &str| versions.map(of).filter(|version| !version.is_empty());
    let running = || snapshot.domains.iter().filter(|domain| domain.run.is_some());
    let group = |group: Group| {
        let limit = snapshot.stale_after.get(group)?;
        let ages = || running().map(|domain| domain.age(group, now));
        Some(GroupStatus {
            group: group.label(),
            stale_after_seconds: limit.as_secs_f64(),
            oldest_age_seconds: ages().max().map(round),
            stale_domains: ages().filter(|age| *age > limit).count(),
        })
    };
    Status {
        version: env!("CARGO_PKG_VERSION"),
        ready: snapshot.incomplete.is_none(),
        not_ready_reason: snapshot.incomplete.as_deref(),
        libvirt: LibvirtStatus {
            up: snapshot.link.up,
            problem: snapshot.link.problem.as_deref(),
            hypervisor_version: version(|versions| &versions.hypervisor),
            daemon_version: version(|versions| &versions.daemon),
            library_version: version(|versions| &versions.library),
        },
        sequence: snapshot.sequence,
        sampled_at: snapshot.sampled.map(|stamp| rfc3339(stamp.wall)),
        age_seconds: snapshot.sampled.map(|stamp| age(stamp, now)),
        domains: snapshot.domains.len(),
        domains_running: running().count(),
        groups: Group::ALL.into_iter().filter_map(group).collect(),
    }
}

struct Aging<'s> {
    snapshot: &'s Snapshot,
    now: Instant,
}

impl Aging<'_> {
    fn of<'w, T, J>(
        &self,
        window: &'w Window<T>,
        group: Group,
        figures: impl FnOnce(&'w T, Before<'w, T>) -> J,
    ) -> Option<Aged<J>> {
        let newest = window.newest()?;
        let before = Before(window.previous());
        Some(Aged {
            sampled_at: rfc3339(newest.started.wall),
            age_seconds: age(newest.started, self.now),
            stale: self.snapshot.fresh(window, group, self.now).is_none(),
            interval_seconds: before.0.map(|(_, elapsed)| round(elapsed)),
            figures: figures(&newest.figures, before),
        })
    }
}

/// The sample before the newest, and how long before.
struct Before<'w, T>(Option<(&'w T, Duration)>);

impl<'w, T> Before<'w, T> {
    /// How fast a counter grows.
    fn rate(&self, newest: &T, counter: impl Fn(&T) -> Option<u64>) -> Option<f64> {
        let (previous, elapsed) = self.0?;
        per_second(counter(previous), counter(newest), elapsed)
    }

    /// How fast a counter of nanoseconds grows, in seconds.
    fn rate_ns(&self, newest: &T, counter: impl Fn(&T) -> Option<u64>) -> Option<f64> {
        self.rate(newest, counter).map(|rate| rate / 1e9)
    }

    /// The same for a device of the sample.
    fn device<D>(&self, find: impl FnOnce(&'w T) -> Option<&'w D>) -> Before<'w, D> {
        Before(self.0.and_then(|(sample, elapsed)| Some((find(sample)?, elapsed))))
    }
}

fn state_json(state: StateSample) -> State {
    State { state: state.state.map(state_name), state_code: state.state, state_reason_code: state.reason }
}

fn cpu(cpu: &CpuSample, before: Before<'_, CpuSample>) -> Cpu {
    Cpu {
        time_ns: cpu.time_ns,
        user_ns: cpu.user_ns,
        system_ns: cpu.system_ns,
        time_seconds_per_second: before.rate_ns(cpu, |cpu| cpu.time_ns),
        user_seconds_per_second: before.rate_ns(cpu, |cpu| cpu.user_ns),
        system_seconds_per_second: before.rate_ns(cpu, |cpu| cpu.system_ns),
    }
}

fn vcpus(sample: &VcpuSample, before: Before<'_, VcpuSample>) -> Vcpus {
    let vcpu = |vcpu: &Vcpu| {
        let before = before.device(|sample| sample.vcpus.iter().find(|other| other.index == vcpu.index));
        VcpuJson {
            vcpu: Some(vcpu.index),
            state_code: vcpu.state,
            time_ns: vcpu.time_ns,
            wait_ns: vcpu.wait_ns,
            delay_ns: vcpu.delay_ns,
            time_seconds_per_second: before.rate_ns(vcpu, |vcpu| vcpu.time_ns),
            wait_seconds_per_second: before.rate_ns(vcpu, |vcpu| vcpu.wait_ns),
            delay_seconds_per_second: before.rate_ns(vcpu, |vcpu| vcpu.delay_ns),
        }
    };
    Vcpus {
        counts: VcpuCounts { current: sample.current, maximum: sample.maximum },
        vcpus: sample.vcpus.iter().map(vcpu).collect(),
    }
}

fn interfaces<'w>(sample: &'w InterfaceSample, before: Before<'w, InterfaceSample>) -> Interfaces<'w> {
    let interface = |nic: &'w Interface| {
        let same = |other: &&Interface| other.index == nic.index && other.name == nic.name;
        let before = before.device(|sample| sample.interfaces.iter().find(same));
        InterfaceJson {
            index: Some(nic.index),
            name: nic.name.as_deref(),
            receive_bytes: nic.receive.bytes,
            receive_packets: nic.receive.packets,
            receive_errors: nic.receive.errors,
            receive_drops: nic.receive.drops,
            transmit_bytes: nic.transmit.bytes,
            transmit_packets: nic.transmit.packets,
            transmit_errors: nic.transmit.errors,
            transmit_drops: nic.transmit.drops,
            receive_bytes_per_second: before.rate(nic, |nic| nic.receive.bytes),
            receive_packets_per_second: before.rate(nic, |nic| nic.receive.packets),
            transmit_bytes_per_second: before.rate(nic, |nic| nic.transmit.bytes),
            transmit_packets_per_second: before.rate(nic, |nic| nic.transmit.packets),
        }
    };
    Interfaces { interfaces: sample.interfaces.iter().map(interface).collect() }
}

fn disks<'w>(sample: &'w BlockSample, before: Before<'w, BlockSample>) -> Disks<'w> {
    let disk = |disk: &'w Block| {
        let same = |other: &&Block| other.index == disk.index && other.name == disk.name;
        let before = before.device(|sample| sample.disks.iter().find(same));
        BlockJson {
            index: Some(disk.index),
            name: disk.name.as_deref(),
            path: disk.path.as_deref(),
            read_requests: disk.read.requests,
            read_bytes: disk.read.bytes,
            read_time_ns: disk.read.time_ns,
            write_requests: disk.write.requests,
            write_bytes: disk.write.bytes,
            write_time_ns: disk.write.time_ns,
            flush_requests: disk.flush.requests,
            flush_time_ns: disk.flush.time_ns,
            allocation_bytes: disk.allocation_bytes,
            capacity_bytes: disk.capacity_bytes,
            physical_bytes: disk.physical_bytes,
            read_requests_per_second: before.rate(disk, |disk| disk.read.requests),
            read_bytes_per_second: before.rate(disk, |disk| disk.read.bytes),
            write_requests_per_second: before.rate(disk, |disk| disk.write.requests),
            write_bytes_per_second: before.rate(disk, |disk| disk.write.bytes),
            flush_requests_per_second: before.rate(disk, |disk| disk.flush.requests),
        }
    };
    Disks { disks: sample.disks.iter().map(disk).collect() }
}

fn balloon(sample: &BalloonSample, before: Before<'_, BalloonSample>) -> Balloon {
    Balloon {
        current_kib: sample.current_kib,
        maximum_kib: sample.maximum_kib,
        rss_kib: sample.rss_kib,
        available_kib: sample.available_kib,
        usable_kib: sample.usable_kib,
        unused_kib: sample.unused_kib,
        disk_caches_kib: sample.disk_caches_kib,
        swap_in_kib: sample.swap_in_kib,
        swap_out_kib: sample.swap_out_kib,
        major_faults: sample.major_faults,
        minor_faults: sample.minor_faults,
        hugetlb_pgalloc: sample.hugetlb_pgalloc,
        hugetlb_pgfail: sample.hugetlb_pgfail,
        last_update_unix_seconds: sample.last_update_s.filter(|at| *at > 0),
        swap_in_kib_per_second: before.rate(sample, |sample| sample.swap_in_kib),
        swap_out_kib_per_second: before.rate(sample, |sample| sample.swap_out_kib),
        major_faults_per_second: before.rate(sample, |sample| sample.major_faults),
        minor_faults_per_second: before.rate(sample, |sample| sample.minor_faults),
    }
}

fn description(it: &DomainDescription) -> Description<'_> {
    Description {
        domain_type: &it.domain_type,
        os_type: &it.os_type,
        os_arch: &it.os_arch,
        os_machine: &it.os_machine,
        title: it.title.as_deref(),
        description: it.description.as_deref(),
        disks: it.disks.iter().map(disk_description).collect(),
        nics: it.nics.iter().map(nic_description).collect(),
        openstack: it.openstack.as_ref().map(|nova| OpenStackJson {
            instance_name: said(&nova.instance_name),
            instance_id: said(&nova.instance_id),
            flavor_name: said(&nova.flavor_name),
            user_name: said(&nova.user_name),
            user_id: said(&nova.user_id),
            project_name: said(&nova.project_name),
            project_id: said(&nova.project_id),
        }),
    }
}

fn disk_description(disk: &DiskDescription) -> DiskJson<'_> {
    DiskJson {
        target: said(&disk.target),
        disk_type: said(&disk.disk_type),
        target_bus: said(&disk.target_bus),
        driver_name: said(&disk.driver_name),
        driver_type: said(&disk.driver_type),
        driver_cache: said(&disk.driver_cache),
        driver_discard: said(&disk.driver_discard),
        source: said(&disk.source),
        source_protocol: said(&disk.source_protocol),
        serial: said(&disk.serial),
    }
}

fn nic_description(nic: &NicDescription) -> NicJson<'_> {
    NicJson {
        target: said(&nic.target),
        interface_type: said(&nic.interface_type),
        source_bridge: said(&nic.source_bridge),
        mac: said(&nic.mac),
        model: said(&nic.model),
        mtu: said(&nic.mtu),
    }
}

fn said(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

fn age(stamp: Stamp, now: Instant) -> f64 {
    round(now.saturating_duration_since(stamp.at))
}

/// Seconds, to the millisecond.
fn round(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}
