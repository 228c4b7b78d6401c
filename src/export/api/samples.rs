//! The samples of a domain, as JSON: counters, rates from two samples, time and age.

use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use super::kernel::{self, KernelJson};
use super::{Fields, Form, age, figures, rfc3339, round};
use crate::model::{
    BalloonSample, Block, BlockInfo, BlockSample, CpuSample, Group, GroupSet, Interface, InterfaceSample, Stamp,
    StateSample, Traffic, Vcpu, VcpuSample, per_second, state_name,
};
use crate::store::{Domain, Snapshot, Window};

figures!(State { state: &'static str, state_code: i64, state_reason_code: i64 });

impl State {
    /// What of it is chosen.
    pub(super) fn only(self, fields: Fields) -> Self {
        Self {
            state: self.state.filter(|_| fields.has("state")),
            state_code: self.state_code.filter(|_| fields.has("state_code")),
            state_reason_code: self.state_reason_code.filter(|_| fields.has("state_reason_code")),
        }
    }
}

/// The newest sample of each group; a group without one is absent.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Samples<'a> {
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
    #[serde(skip_serializing_if = "Option::is_none")]
    block_info: Option<Aged<DiskSizes<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<Aged<KernelJson>>,
}

/// Figures with the time at which they were asked for.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "{T}Sample")]
struct Aged<T> {
    sampled_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_seconds: Option<f64>,
    /// Too old to be in /metrics.
    #[serde(skip_serializing_if = "Option::is_none")]
    stale: Option<bool>,
    /// What the rates are over; absent without a second sample.
    #[serde(skip_serializing_if = "Option::is_none")]
    interval_seconds: Option<f64>,
    /// Who told it, of groups that two can tell: `kernel` or `libvirt`.
    #[serde(skip_serializing_if = "Option::is_none")]
    lane: Option<&'static str>,
    #[serde(flatten)]
    figures: T,
}

figures!(Cpu {
    time_ns: u64,
    user_ns: u64,
    system_ns: u64,
    time_seconds_per_second: f64,
    user_seconds_per_second: f64,
    system_seconds_per_second: f64,
});
#[derive(Debug, Serialize, JsonSchema)]
struct Vcpus {
    #[serde(flatten)]
    counts: VcpuCounts,
    vcpus: Vec<VcpuJson>,
}
figures!(VcpuCounts { current: u64, maximum: u64 });
figures!(
    #[schemars(rename = "Vcpu")]
    VcpuJson {
        vcpu: u32,
        state_code: i64,
        time_ns: u64,
        wait_ns: u64,
        delay_ns: u64,
        time_seconds_per_second: f64,
        wait_seconds_per_second: f64,
        delay_seconds_per_second: f64,
    }
);
#[derive(Debug, Serialize, JsonSchema)]
struct Interfaces<'a> {
    interfaces: Vec<InterfaceJson<'a>>,
}
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Interface")]
struct InterfaceJson<'a> {
    #[serde(flatten)]
    id: InterfaceId<'a>,
    #[serde(flatten)]
    traffic: TrafficJson,
}
figures!(InterfaceId<'a> { index: u32, name: &'a str });
figures!(TrafficJson {
    receive_bytes: u64,
    receive_packets: u64,
    receive_errors: u64,
    receive_drops: u64,
    transmit_bytes: u64,
    transmit_packets: u64,
    transmit_errors: u64,
    transmit_drops: u64,
    receive_bytes_per_second: f64,
    receive_packets_per_second: f64,
    transmit_bytes_per_second: f64,
    transmit_packets_per_second: f64,
});
#[derive(Debug, Serialize, JsonSchema)]
struct Disks<'a> {
    disks: Vec<BlockJson<'a>>,
}
figures!(#[schemars(rename = "Disk")] BlockJson<'a> {
    index: u32, name: &'a str, path: &'a str,
    read_requests: u64, read_bytes: u64, read_time_ns: u64,
    write_requests: u64, write_bytes: u64, write_time_ns: u64,
    flush_requests: u64, flush_time_ns: u64,
    allocation_bytes: u64, capacity_bytes: u64, physical_bytes: u64,
    read_requests_per_second: f64, read_bytes_per_second: f64,
    write_requests_per_second: f64, write_bytes_per_second: f64, flush_requests_per_second: f64,
});
#[derive(Debug, Serialize, JsonSchema)]
struct DiskSizes<'a> {
    disks: Vec<Aged<SizesJson<'a>>>,
}
figures!(#[schemars(rename = "DiskSize")] SizesJson<'a> { name: &'a str, capacity_bytes: u64, allocation_bytes: u64, physical_bytes: u64 });
figures!(Balloon {
    current_kib: u64,
    maximum_kib: u64,
    rss_kib: u64,
    available_kib: u64,
    usable_kib: u64,
    unused_kib: u64,
    disk_caches_kib: u64,
    swap_in_kib: u64,
    swap_out_kib: u64,
    major_faults: u64,
    minor_faults: u64,
    hugetlb_pgalloc: u64,
    hugetlb_pgfail: u64,
    last_update_unix_seconds: u64,
    swap_in_kib_per_second: f64,
    swap_out_kib_per_second: f64,
    major_faults_per_second: f64,
    minor_faults_per_second: f64,
});

/// The newest sample of each group of a running domain.
pub(super) fn of<'a>(snapshot: &Snapshot, domain: &'a Domain, form: Form) -> Samples<'a> {
    let windows = &domain.windows;
    let aging = Aging { snapshot, form, by_kernel: windows.lanes.kernel() };
    Samples {
        state: aging.of(&windows.state, (Group::State, "samples.state"), |state, _| self::state(*state)),
        cpu: aging.of(&windows.cpu, (Group::Cpu, "samples.cpu"), cpu),
        vcpu: aging.of(&windows.vcpu, (Group::Vcpu, "samples.vcpu"), vcpus),
        interface: aging.of(&windows.interface, (Group::Interface, "samples.interface"), interfaces),
        block: aging.of(&windows.block, (Group::Block, "samples.block"), disks),
        balloon: aging.of(&windows.balloon, (Group::Balloon, "samples.balloon"), balloon),
        block_info: aging.sizes(domain),
        kernel: aging.of(&windows.kernel, (Group::Kernel, "samples.kernel"), kernel::of),
    }
}

struct Aging<'s> {
    snapshot: &'s Snapshot,
    form: Form,
    by_kernel: GroupSet,
}

impl Aging<'_> {
    fn of<'w, T, J>(
        &self,
        window: &'w Window<T>,
        (group, field): (Group, &str),
        figures: impl FnOnce(&'w T, &Before<'w, T>) -> J,
    ) -> Option<Aged<J>> {
        let newest = window.newest().filter(|_| self.form.fields.has(field))?;
        let before = Before(window.previous());
        let interval_seconds = before.0.map(|(_, elapsed)| round(elapsed));
        let figures = figures(&newest.figures, &before);
        Some(Aged { interval_seconds, ..self.at(group, newest.started) }.with(figures))
    }

    /// The age of a sample that was asked for then.
    fn at(&self, group: Group, started: Stamp) -> Aged<()> {
        Aged {
            sampled_at: rfc3339(started.wall),
            age_seconds: self.form.at.map(|now| age(started, now)),
            stale: self.form.at.map(|now| !self.snapshot.is_fresh(started, group, now)),
            interval_seconds: None,
            lane: Group::SHARED
                .contains(&group)
                .then(|| if self.by_kernel.contains(group) { "kernel" } else { "libvirt" }),
            figures: (),
        }
    }

    /// Sizes have no rates. The whole is as old as the disk that was asked about longest ago.
    fn sizes<'a>(&self, domain: &'a Domain) -> Option<Aged<DiskSizes<'a>>> {
        let at = |started: Stamp| self.at(Group::BlockInfo, started);
        let disk = |(name, sizes, started): (&'a str, BlockInfo, Stamp)| {
            at(started).with(SizesJson {
                name: Some(name),
                capacity_bytes: sizes.capacity_bytes,
                allocation_bytes: sizes.allocation_bytes,
                physical_bytes: sizes.physical_bytes,
            })
        };
        let sizes = &domain.windows.block_info;
        let disks: Vec<_> = sizes.iter().map(disk).collect();
        let oldest = sizes.oldest().filter(|_| !disks.is_empty() && self.form.fields.has("samples.block_info"))?;
        Some(at(oldest).with(DiskSizes { disks }))
    }
}

impl Aged<()> {
    fn with<T>(self, figures: T) -> Aged<T> {
        let Self { sampled_at, age_seconds, stale, interval_seconds, lane, figures: () } = self;
        Aged { sampled_at, age_seconds, stale, interval_seconds, lane, figures }
    }
}

/// The sample before the newest, and how long before.
pub(super) struct Before<'w, T>(pub(super) Option<(&'w T, Duration)>);

impl<'w, T> Before<'w, T> {
    /// How fast a counter grows.
    pub(super) fn rate(&self, newest: &T, counter: impl Fn(&T) -> Option<u64>) -> Option<f64> {
        let (previous, elapsed) = self.0?;
        per_second(counter(previous), counter(newest), elapsed)
    }

    /// How fast a counter of nanoseconds grows, in seconds.
    fn rate_ns(&self, newest: &T, counter: impl Fn(&T) -> Option<u64>) -> Option<f64> {
        self.rate(newest, counter).map(|rate| rate / 1e9)
    }

    /// The same for a device of the sample.
    pub(super) fn device<D>(&self, find: impl FnOnce(&'w T) -> Option<&'w D>) -> Before<'w, D> {
        Before(self.0.and_then(|(sample, elapsed)| Some((find(sample)?, elapsed))))
    }
}

/// A state, by number and name.
pub(super) fn state(state: StateSample) -> State {
    State { state: state.state.map(state_name), state_code: state.state, state_reason_code: state.reason }
}

fn cpu(cpu: &CpuSample, before: &Before<'_, CpuSample>) -> Cpu {
    Cpu {
        time_ns: cpu.time_ns,
        user_ns: cpu.user_ns,
        system_ns: cpu.system_ns,
        time_seconds_per_second: before.rate_ns(cpu, |cpu| cpu.time_ns),
        user_seconds_per_second: before.rate_ns(cpu, |cpu| cpu.user_ns),
        system_seconds_per_second: before.rate_ns(cpu, |cpu| cpu.system_ns),
    }
}

fn vcpus(sample: &VcpuSample, before: &Before<'_, VcpuSample>) -> Vcpus {
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

fn interfaces<'w>(sample: &'w InterfaceSample, before: &Before<'w, InterfaceSample>) -> Interfaces<'w> {
    let interface = |nic: &'w Interface| {
        let same = |other: &&Interface| other.index == nic.index && other.name == nic.name;
        let before = before.device(|sample| sample.interfaces.iter().find(same));
        InterfaceJson {
            id: InterfaceId { index: Some(nic.index), name: nic.name.as_deref() },
            traffic: traffic(nic, &before, |nic| (nic.receive, nic.transmit)),
        }
    };
    Interfaces { interfaces: sample.interfaces.iter().map(interface).collect() }
}

/// What went over a NIC, of a guest or of the host: what it received, and what it sent.
pub(super) fn traffic<D>(nic: &D, before: &Before<'_, D>, of: fn(&D) -> (Traffic, Traffic)) -> TrafficJson {
    let (receive, transmit) = of(nic);
    TrafficJson {
        receive_bytes: receive.bytes,
        receive_packets: receive.packets,
        receive_errors: receive.errors,
        receive_drops: receive.drops,
        transmit_bytes: transmit.bytes,
        transmit_packets: transmit.packets,
        transmit_errors: transmit.errors,
        transmit_drops: transmit.drops,
        receive_bytes_per_second: before.rate(nic, |nic| of(nic).0.bytes),
        receive_packets_per_second: before.rate(nic, |nic| of(nic).0.packets),
        transmit_bytes_per_second: before.rate(nic, |nic| of(nic).1.bytes),
        transmit_packets_per_second: before.rate(nic, |nic| of(nic).1.packets),
    }
}

fn disks<'w>(sample: &'w BlockSample, before: &Before<'w, BlockSample>) -> Disks<'w> {
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

fn balloon(sample: &BalloonSample, before: &Before<'_, BalloonSample>) -> Balloon {
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
