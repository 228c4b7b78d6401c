//! CPUs.

use super::super::PERCENT;
use super::super::table::{Field, Json, Record, Write};
use super::{Host, Machine};
use crate::model::host::{CpuTimes, HostSample};
use crate::model::per_second;

pub(super) static FIELDS: &[Field<Host>] = &[
    Field::new(
        "cpuUser",
        Json::String,
        "% of all CPUs, two decimals",
        "`user` and `nice` of the line `cpu` of /proc/stat, between the two newest looks, by the number of CPUs that are online. Left \
         out before the second look.",
        |host, slot| slot.fixed(user(host)?),
    ),
    Field::new("cpuSys", Json::String, "% of all CPUs, two decimals", "`system`, likewise.", |host, slot| {
        slot.fixed(system(host)?)
    }),
    Field::new(
        "cpuIdle",
        Json::String,
        "% of all CPUs, two decimals",
        "The rest, which so has the waiting for disks, interrupts and stolen time in it, not below 0.",
        |host, slot| slot.fixed((100.0 - user(host)? - system(host)?).max(0.0)),
    ),
    Field::new(
        "cpuUserVdsmd",
        Json::String,
        "% of one CPU, two decimals",
        "User time of this service itself, between the two newest looks.",
        |host, slot| slot.fixed(PERCENT * host.rate(|it| Some(it.own_cpu?.user_ns))?),
    ),
    Field::new(
        "cpuSysVdsmd",
        Json::String,
        "% of one CPU, two decimals",
        "Its system time, likewise.",
        |host, slot| slot.fixed(PERCENT * host.rate(|it| Some(it.own_cpu?.system_ns))?),
    ),
    Field::new("cpuLoad", Json::String, "", "The load average of 5 minutes, of /proc/loadavg.", |host, slot| {
        slot.fixed(host.newest.load?.five_minutes)
    }),
    Field::new(
        "cpuStatistics",
        Json::Map,
        "",
        "A record for each CPU that is online, by its number. Left out before the second look.",
        |host, slot| slot.map(CPU, cpus(host)),
    ),
];

fn user(host: &Machine<'_>) -> Option<f64> {
    of_all(host, |times| times.user_ns?.checked_add(times.nice_ns?))
}

fn system(host: &Machine<'_>) -> Option<f64> {
    of_all(host, |times| times.system_ns)
}

fn of_all(host: &Machine<'_>, of: impl Fn(&CpuTimes) -> Option<u64>) -> Option<f64> {
    let online = u32::try_from(host.newest.cpus.len()).ok().filter(|online| *online > 0)?;
    Some(PERCENT * host.rate(|it| of(it.cpu.as_ref()?))? / f64::from(online))
}

pub(super) enum CpuRecord {}

impl Record for CpuRecord {
    type Of<'a> = Cpu;
}

pub(super) struct Cpu {
    user: f64,
    system: f64,
    node: Option<u32>,
}

fn cpus<'a>(host: &Machine<'a>) -> impl Iterator<Item = (String, Cpu)> + use<'a> {
    let (newest, previous) = (host.newest, host.previous);
    newest.cpus.iter().filter_map(move |cpu| {
        let (previous, elapsed) = previous?;
        let earlier = previous.cpus.iter().find(|other| other.cpu == cpu.cpu)?.times;
        let rate = |of: fn(&CpuTimes) -> Option<u64>| per_second(of(&earlier), of(&cpu.times), elapsed);
        let (user, system) = (PERCENT * rate(|it| it.user_ns)?, PERCENT * rate(|it| it.system_ns)?);
        Some((cpu.cpu.to_string(), Cpu { user, system, node: node_of(newest, cpu.cpu) }))
    })
}

/// A host without NUMA is one node, for libvirt as well.
fn node_of(host: &HostSample, cpu: u32) -> Option<u32> {
    if host.numa_nodes.is_empty() {
        return Some(0);
    }
    let has = |cpus: &Option<Vec<u32>>| cpus.as_ref().is_some_and(|cpus| cpus.contains(&cpu));
    host.numa_nodes.iter().find(|node| has(&node.cpus)).map(|node| node.node)
}

pub(super) static CPU: &[Field<CpuRecord>] = &[
    percent("cpuUser", "`user` of its line of /proc/stat, without `nice`.", |cpu, slot| slot.fixed(cpu.user)),
    percent("cpuSys", "`system`.", |cpu, slot| slot.fixed(cpu.system)),
    percent("cpuIdle", "The rest, not below 0.", |cpu, slot| slot.fixed((100.0 - cpu.user - cpu.system).max(0.0))),
    Field {
        name: "nodeIndex",
        json: Json::Number,
        unit: "",
        what: "Its NUMA node; 0 on a host without NUMA.",
        write: |cpu, slot| slot.number(cpu.node?.into()),
    },
];

const fn percent(name: &'static str, what: &'static str, write: Write<CpuRecord>) -> Field<CpuRecord> {
    Field::<CpuRecord>::string(name, "% of the CPU, two decimals", what, write)
}
