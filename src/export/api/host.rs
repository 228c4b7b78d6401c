//! The host itself, as JSON: counters, rates from two looks, and how full file systems are.

use std::time::{Duration, Instant, SystemTime};

use schemars::JsonSchema;
use serde::Serialize;

use super::samples::{Before, TrafficJson, traffic};
use super::{age, figures, rfc3339, round};
use crate::model::host::{CpuTimes, HostInterface, HostSample, Hugepages, NumaNode, PathSpace};
use crate::store::HostWindow;

/// `/api/v1/host`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct HostJson<'a> {
    sampled_at: String,
    age_seconds: f64,
    /// Too old to be in /metrics.
    stale: bool,
    /// What the rates are over; absent without a second look.
    #[serde(skip_serializing_if = "Option::is_none")]
    interval_seconds: Option<f64>,
    #[serde(flatten)]
    boot: Boot,
    #[serde(skip_serializing_if = "Option::is_none")]
    load: Option<LoadJson>,
    processes: Processes,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<AllCpus>,
    numa_nodes: Vec<NodeJson<'a>>,
    memory: MemoryJson,
    swap: SwapJson,
    hugepages: Vec<PoolJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ksm: Option<KsmJson>,
    transparent_hugepages: TransparentHugepagesJson<'a>,
    interfaces: Vec<HostInterfaceJson<'a>>,
    paths: Vec<PathJson<'a>>,
}

figures!(Boot { boot_time: String, boot_time_unix_seconds: u64 });
#[derive(Debug, Serialize, JsonSchema)]
struct LoadJson {
    one_minute: f64,
    five_minutes: f64,
    fifteen_minutes: f64,
}
figures!(Processes {
    running: u64,
    blocked: u64,
    forks: u64,
    context_switches: u64,
    forks_per_second: f64,
    context_switches_per_second: f64,
});
#[derive(Debug, Serialize, JsonSchema)]
struct AllCpus {
    #[serde(flatten)]
    total: CpuJson,
    /// How many are online.
    online: usize,
    cpus: Vec<OneCpu>,
}
#[derive(Debug, Serialize, JsonSchema)]
struct OneCpu {
    cpu: u32,
    #[serde(flatten)]
    times: CpuJson,
}
figures!(CpuJson {
    user_ns: u64,
    nice_ns: u64,
    system_ns: u64,
    idle_ns: u64,
    iowait_ns: u64,
    irq_ns: u64,
    softirq_ns: u64,
    steal_ns: u64,
    guest_ns: u64,
    guest_nice_ns: u64,
    utilization_ratio: f64,
    user_ratio: f64,
    system_ratio: f64,
    iowait_ratio: f64,
    steal_ratio: f64,
    guest_ratio: f64,
});
#[derive(Debug, Serialize, JsonSchema)]
struct NodeJson<'a> {
    node: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    cpus: Option<&'a [u32]>,
    #[serde(flatten)]
    figures: NodeFigures,
    hugepages: Vec<PoolJson>,
}
figures!(NodeFigures {
    utilization_ratio: f64,
    guest_ratio: f64,
    memory_total_bytes: u64,
    memory_free_bytes: u64,
    memory_used_bytes: u64,
});
figures!(MemoryJson {
    total_bytes: u64,
    free_bytes: u64,
    available_bytes: u64,
    buffers_bytes: u64,
    cached_bytes: u64,
    shared_bytes: u64,
    anonymous_bytes: u64,
    slab_bytes: u64,
    slab_reclaimable_bytes: u64,
    page_tables_bytes: u64,
    dirty_bytes: u64,
    writeback_bytes: u64,
    committed_bytes: u64,
    page_faults: u64,
    major_page_faults: u64,
    oom_kills: u64,
    page_faults_per_second: f64,
    major_page_faults_per_second: f64,
});
figures!(SwapJson {
    total_bytes: u64,
    free_bytes: u64,
    cached_bytes: u64,
    in_bytes: u64,
    out_bytes: u64,
    in_bytes_per_second: f64,
    out_bytes_per_second: f64,
});
#[derive(Debug, Serialize, JsonSchema)]
struct PoolJson {
    size_bytes: u64,
    #[serde(flatten)]
    figures: PoolFigures,
}
figures!(PoolFigures { total: u64, free: u64, reserved: u64, surplus: u64, mempolicy: u64, overcommit: u64 });
figures!(KsmJson {
    run: u64,
    pages_shared: u64,
    pages_sharing: u64,
    pages_unshared: u64,
    pages_volatile: u64,
    full_scans: u64,
    pages_to_scan: u64,
    merge_across_nodes: u64,
});
figures!(TransparentHugepagesJson<'a> { mode: &'a str, anonymous_bytes: u64 });
#[derive(Debug, Serialize, JsonSchema)]
struct HostInterfaceJson<'a> {
    name: &'a str,
    #[serde(flatten)]
    figures: HostInterfaceFigures<'a>,
    #[serde(flatten)]
    traffic: TrafficJson,
}
figures!(HostInterfaceFigures<'a> {
    operational_state: &'a str, speed_bits_per_second: u64, duplex: &'a str, mtu_bytes: u64,
});
#[derive(Debug, Serialize, JsonSchema)]
struct PathJson<'a> {
    path: &'a str,
    blocked: bool,
    #[serde(flatten)]
    figures: PathFigures<'a>,
}
figures!(PathFigures<'a> {
    blocked_since: String, blocked_seconds: f64, error: &'a str,
    sampled_at: String, age_seconds: f64,
    total_bytes: u64, free_bytes: u64, available_bytes: u64, inodes: u64, inodes_free: u64,
});

/// The host; `None` before the first look at it.
#[must_use]
pub fn host(window: &HostWindow, now: Instant) -> Option<HostJson<'_>> {
    let newest = window.samples.newest()?;
    let (sample, before) = (&newest.figures, Before(window.samples.previous()));
    let earlier = before.0.map(|(sample, _)| sample);
    Some(HostJson {
        sampled_at: rfc3339(newest.started.wall),
        age_seconds: age(newest.started, now),
        stale: !window.is_fresh(newest.started, now),
        interval_seconds: before.0.map(|(_, elapsed)| round(elapsed)),
        boot: boot(sample.boot_unix_seconds),
        load: sample.load.map(|load| LoadJson {
            one_minute: load.one_minute,
            five_minutes: load.five_minutes,
            fifteen_minutes: load.fifteen_minutes,
        }),
        processes: Processes {
            running: sample.processes.running,
            blocked: sample.processes.blocked,
            forks: sample.processes.forks,
            context_switches: sample.processes.context_switches,
            forks_per_second: before.rate(sample, |it| it.processes.forks),
            context_switches_per_second: before.rate(sample, |it| it.processes.context_switches),
        },
        cpu: sample.cpu.map(|times| AllCpus {
            total: cpu(&times, earlier.and_then(|earlier| earlier.cpu.as_ref())),
            online: sample.cpus.len(),
            cpus: sample
                .cpus
                .iter()
                .map(|it| OneCpu {
                    cpu: it.cpu,
                    times: cpu(&it.times, earlier.and_then(|them| times_of(them, it.cpu))),
                })
                .collect(),
        }),
        numa_nodes: sample.numa_nodes.iter().map(|it| node(it, sample, earlier)).collect(),
        memory: memory(sample, &before),
        swap: SwapJson {
            total_bytes: sample.swap.total_bytes,
            free_bytes: sample.swap.free_bytes,
            cached_bytes: sample.swap.cached_bytes,
            in_bytes: sample.swap.in_bytes,
            out_bytes: sample.swap.out_bytes,
            in_bytes_per_second: before.rate(sample, |it| it.swap.in_bytes),
            out_bytes_per_second: before.rate(sample, |it| it.swap.out_bytes),
        },
        hugepages: sample.hugepages.iter().map(pool).collect(),
        ksm: sample.ksm.map(|ksm| KsmJson {
            run: ksm.run,
            pages_shared: ksm.pages_shared,
            pages_sharing: ksm.pages_sharing,
            pages_unshared: ksm.pages_unshared,
            pages_volatile: ksm.pages_volatile,
            full_scans: ksm.full_scans,
            pages_to_scan: ksm.pages_to_scan,
            merge_across_nodes: ksm.merge_across_nodes,
        }),
        transparent_hugepages: TransparentHugepagesJson {
            mode: sample.transparent_hugepages.mode.as_deref(),
            anonymous_bytes: sample.transparent_hugepages.anonymous_bytes,
        },
        interfaces: sample.interfaces.iter().map(|it| interface(it, &before)).collect(),
        paths: window.paths.iter().map(|it| path(it, now)).collect(),
    })
}

fn boot(unix_seconds: Option<u64>) -> Boot {
    let time = |seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    // What cannot be written as a date would be a panic there.
    let year_9999 = 253_402_300_799;
    let time = unix_seconds.filter(|seconds| *seconds <= year_9999).and_then(time);
    Boot { boot_time: time.map(rfc3339), boot_time_unix_seconds: unix_seconds }
}

fn cpu(times: &CpuTimes, earlier: Option<&CpuTimes>) -> CpuJson {
    let shares = earlier.and_then(|earlier| times.shares_since(earlier));
    CpuJson {
        user_ns: times.user_ns,
        nice_ns: times.nice_ns,
        system_ns: times.system_ns,
        idle_ns: times.idle_ns,
        iowait_ns: times.iowait_ns,
        irq_ns: times.irq_ns,
        softirq_ns: times.softirq_ns,
        steal_ns: times.steal_ns,
        guest_ns: times.guest_ns,
        guest_nice_ns: times.guest_nice_ns,
        utilization_ratio: shares.map(|shares| shares.busy),
        user_ratio: shares.and_then(|shares| shares.user),
        system_ratio: shares.and_then(|shares| shares.system),
        iowait_ratio: shares.and_then(|shares| shares.iowait),
        steal_ratio: shares.and_then(|shares| shares.steal),
        guest_ratio: shares.and_then(|shares| shares.guest),
    }
}

/// The time of a CPU; `None` if it was offline.
fn times_of(sample: &HostSample, cpu: u32) -> Option<&CpuTimes> {
    // They come by number.
    let place = sample.cpus.binary_search_by_key(&cpu, |it| it.cpu).ok()?;
    Some(&sample.cpus[place].times)
}

/// A node's share of time is that of its CPUs which were online both times.
fn node<'a>(node: &'a NumaNode, sample: &HostSample, earlier: Option<&HostSample>) -> NodeJson<'a> {
    let both = |cpu: &u32| Some((*times_of(sample, *cpu)?, *times_of(earlier?, *cpu)?));
    let cpus = node.cpus.iter().flatten().filter_map(both);
    let sums = cpus.reduce(|(newest, earlier), (one, other)| (newest.plus(&one), earlier.plus(&other)));
    let shares = sums.and_then(|(newest, earlier)| newest.shares_since(&earlier));
    NodeJson {
        node: node.node,
        cpus: node.cpus.as_deref(),
        figures: NodeFigures {
            utilization_ratio: shares.map(|shares| shares.busy),
            guest_ratio: shares.and_then(|shares| shares.guest),
            memory_total_bytes: node.memory_total_bytes,
            memory_free_bytes: node.memory_free_bytes,
            memory_used_bytes: node.memory_used_bytes,
        },
        hugepages: node.hugepages.iter().map(pool).collect(),
    }
}

fn memory(sample: &HostSample, before: &Before<'_, HostSample>) -> MemoryJson {
    let it = &sample.memory;
    MemoryJson {
        total_bytes: it.total_bytes,
        free_bytes: it.free_bytes,
        available_bytes: it.available_bytes,
        buffers_bytes: it.buffers_bytes,
        cached_bytes: it.cached_bytes,
        shared_bytes: it.shared_bytes,
        anonymous_bytes: it.anonymous_bytes,
        slab_bytes: it.slab_bytes,
        slab_reclaimable_bytes: it.slab_reclaimable_bytes,
        page_tables_bytes: it.page_tables_bytes,
        dirty_bytes: it.dirty_bytes,
        writeback_bytes: it.writeback_bytes,
        committed_bytes: it.committed_bytes,
        page_faults: it.page_faults,
        major_page_faults: it.major_page_faults,
        oom_kills: it.oom_kills,
        page_faults_per_second: before.rate(sample, |it| it.memory.page_faults),
        major_page_faults_per_second: before.rate(sample, |it| it.memory.major_page_faults),
    }
}

fn pool(pool: &Hugepages) -> PoolJson {
    let Hugepages { size_bytes, total, free, reserved, surplus, mempolicy, overcommit } = *pool;
    PoolJson { size_bytes, figures: PoolFigures { total, free, reserved, surplus, mempolicy, overcommit } }
}

fn interface<'a>(nic: &'a HostInterface, before: &Before<'a, HostSample>) -> HostInterfaceJson<'a> {
    let before = before.device(|sample| sample.interfaces.iter().find(|other| other.name == nic.name));
    HostInterfaceJson {
        name: &nic.name,
        figures: HostInterfaceFigures {
            operational_state: nic.operational_state.as_deref(),
            speed_bits_per_second: nic.speed_bits_per_second,
            duplex: nic.duplex.as_deref(),
            mtu_bytes: nic.mtu_bytes,
        },
        traffic: traffic(nic, &before, |nic| (nic.receive, nic.transmit)),
    }
}

fn path(known: &PathSpace, now: Instant) -> PathJson<'_> {
    let (asked, space) = known.space.unzip();
    PathJson {
        path: &known.path,
        blocked: known.blocked_since.is_some(),
        figures: PathFigures {
            blocked_since: known.blocked_since.map(|since| rfc3339(since.wall)),
            blocked_seconds: known.blocked_since.map(|since| age(since, now)),
            error: known.problem.as_deref(),
            sampled_at: asked.map(|asked| rfc3339(asked.wall)),
            age_seconds: asked.map(|asked| age(asked, now)),
            total_bytes: space.map(|space| space.total_bytes),
            free_bytes: space.map(|space| space.free_bytes),
            available_bytes: space.map(|space| space.available_bytes),
            inodes: space.and_then(|space| space.inodes),
            inodes_free: space.and_then(|space| space.inodes_free),
        },
    }
}
