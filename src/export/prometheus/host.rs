//! The host's own figures: written per scrape, and only if the configuration wants them, since node_exporter owns them.
//!
//! One row a family, as in [`super::table`]; the table is apart because these are of no domain and no snapshot.

use std::time::Instant;

use super::labels::push;
use super::lines::header;
use super::table::{Emit, Kind};
use super::value::{Value, int, nanos};
use crate::model::host::{CpuTimes, HostInterface, HostSample, Hugepages, NumaNode, PathSpace, Space};
use crate::store::HostWindow;

/// One metric family.
pub(super) struct HostFamily {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) unit: &'static str,
    /// Where the figure comes from, for the reference.
    pub(super) source: &'static str,
    pub(super) labels: &'static str,
    pub(super) help: &'static str,
    read: Read,
}

/// Kinds of time, and how much of each.
type Modes = Vec<(&'static str, Option<u64>)>;

/// The accessor: what the family has a series for, and its value.
enum Read {
    /// One.
    Host(fn(&HostSample) -> Option<Value>),
    /// One a CPU and kind of time.
    Cpu(fn(&CpuTimes) -> Modes),
    /// One a NUMA node.
    Node(fn(&NumaNode) -> Option<Value>),
    /// One a size of huge pages.
    Pool(fn(&Hugepages) -> Option<Value>),
    /// One a size and NUMA node.
    NodePool(fn(&Hugepages) -> Option<Value>),
    /// One a network interface.
    Interface(fn(&HostInterface) -> Option<Value>),
    /// One a path that is watched and whose newest answer is not too old.
    Space(fn(&Space) -> Option<Value>),
    /// One a path that is watched.
    Path(fn(&PathSpace) -> Value),
    /// The mode of transparent huge pages.
    Mode,
}

use Kind::{Counter, Gauge};

const fn row(
    kind: Kind,
    (name, unit): (&'static str, &'static str),
    (source, labels): (&'static str, &'static str),
    help: &'static str,
    read: Read,
) -> HostFamily {
    HostFamily { name, kind, unit, source, labels, help, read }
}

const fn gauge(
    name: &'static str,
    unit: &'static str,
    source: &'static str,
    help: &'static str,
    read: fn(&HostSample) -> Option<Value>,
) -> HostFamily {
    row(Gauge, (name, unit), (source, "-"), help, Read::Host(read))
}

const fn counter(
    name: &'static str,
    unit: &'static str,
    source: &'static str,
    help: &'static str,
    read: fn(&HostSample) -> Option<Value>,
) -> HostFamily {
    row(Counter, (name, unit), (source, "-"), help, Read::Host(read))
}

const fn interface(
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    read: fn(&HostInterface) -> Option<Value>,
) -> HostFamily {
    row(Counter, (name, unit), ("/proc/net/dev", "device"), help, Read::Interface(read))
}

const fn space(
    name: &'static str,
    unit: &'static str,
    help: &'static str,
    read: fn(&Space) -> Option<Value>,
) -> HostFamily {
    row(Gauge, (name, unit), ("statvfs", "path"), help, Read::Space(read))
}

const STAT: &str = "/proc/stat";
const MEMINFO: &str = "/proc/meminfo";
const VMSTAT: &str = "/proc/vmstat";
const KSM: &str = "/sys/kernel/mm/ksm";
const HUGEPAGES: &str = "/sys/kernel/mm/hugepages";
const NODE: &str = "/sys/devices/system/node";
const CLASS: &str = "/sys/class/net";

/// Every family, in the order of /metrics.
#[rustfmt::skip]
pub(super) static FAMILIES: &[HostFamily] = &[
    gauge("libvirt_host_boot_time_seconds", "seconds", STAT, "When the host was started, Unix time.", |it| int(it.boot_unix_seconds)),
    row(Counter, ("libvirt_host_cpu_seconds_total", "seconds"), (STAT, "cpu, mode"), "Time of each CPU that is online, by mode; that of guests is in user and nice.",
        Read::Cpu(|times| times.modes().to_vec())),
    row(Counter, ("libvirt_host_cpu_guest_seconds_total", "seconds"), (STAT, "cpu, mode"), "Time of each CPU that is online in guests, by mode.",
        Read::Cpu(|times| vec![("user", times.guest_ns), ("nice", times.guest_nice_ns)])),
    gauge("libvirt_host_cpus_online", "CPUs", STAT, "CPUs that are online.", |it| Some(Value::Int(it.cpus.len() as u64)).filter(|_| !it.cpus.is_empty())),
    gauge("libvirt_host_load1", "threads", "/proc/loadavg", "Threads that ran, could have or waited for a disk, on average over a minute.", |it| Some(Value::Float(it.load?.one_minute))),
    gauge("libvirt_host_load5", "threads", "/proc/loadavg", "The same over 5 minutes.", |it| Some(Value::Float(it.load?.five_minutes))),
    gauge("libvirt_host_load15", "threads", "/proc/loadavg", "The same over 15 minutes.", |it| Some(Value::Float(it.load?.fifteen_minutes))),
    gauge("libvirt_host_processes_running", "threads", STAT, "Threads that run or could.", |it| int(it.processes.running)),
    gauge("libvirt_host_processes_blocked", "threads", STAT, "Threads that wait for a disk.", |it| int(it.processes.blocked)),
    counter("libvirt_host_forks_total", "processes", STAT, "Processes and threads that were started.", |it| int(it.processes.forks)),
    counter("libvirt_host_context_switches_total", "switches", STAT, "Times that a CPU went from one thread to another.", |it| int(it.processes.context_switches)),
    gauge("libvirt_host_memory_total_bytes", "bytes", MEMINFO, "Memory of the host (MemTotal).", |it| int(it.memory.total_bytes)),
    gauge("libvirt_host_memory_free_bytes", "bytes", MEMINFO, "Memory that nothing uses (MemFree).", |it| int(it.memory.free_bytes)),
    gauge("libvirt_host_memory_available_bytes", "bytes", MEMINFO, "Memory that programs could get without swapping (MemAvailable).", |it| int(it.memory.available_bytes)),
    gauge("libvirt_host_memory_buffers_bytes", "bytes", MEMINFO, "Raw disk blocks in memory (Buffers).", |it| int(it.memory.buffers_bytes)),
    gauge("libvirt_host_memory_cached_bytes", "bytes", MEMINFO, "Files in memory (Cached).", |it| int(it.memory.cached_bytes)),
    gauge("libvirt_host_memory_shared_bytes", "bytes", MEMINFO, "tmpfs and shared memory (Shmem).", |it| int(it.memory.shared_bytes)),
    gauge("libvirt_host_memory_anonymous_bytes", "bytes", MEMINFO, "Memory of processes that is of no file (AnonPages).", |it| int(it.memory.anonymous_bytes)),
    gauge("libvirt_host_memory_slab_bytes", "bytes", MEMINFO, "The kernel's own objects (Slab).", |it| int(it.memory.slab_bytes)),
    gauge("libvirt_host_memory_slab_reclaimable_bytes", "bytes", MEMINFO, "Those that can be given up (SReclaimable).", |it| int(it.memory.slab_reclaimable_bytes)),
    gauge("libvirt_host_memory_page_tables_bytes", "bytes", MEMINFO, "Page tables (PageTables).", |it| int(it.memory.page_tables_bytes)),
    gauge("libvirt_host_memory_dirty_bytes", "bytes", MEMINFO, "Memory that waits to be written to disk (Dirty).", |it| int(it.memory.dirty_bytes)),
    gauge("libvirt_host_memory_writeback_bytes", "bytes", MEMINFO, "Memory that is being written to disk (Writeback).", |it| int(it.memory.writeback_bytes)),
    gauge("libvirt_host_memory_committed_bytes", "bytes", MEMINFO, "Memory that processes were promised (Committed_AS).", |it| int(it.memory.committed_bytes)),
    counter("libvirt_host_page_faults_total", "faults", VMSTAT, "Page faults (pgfault).", |it| int(it.memory.page_faults)),
    counter("libvirt_host_major_page_faults_total", "faults", VMSTAT, "Those that read from disk (pgmajfault).", |it| int(it.memory.major_page_faults)),
    counter("libvirt_host_oom_kills_total", "processes", VMSTAT, "Processes that were killed for want of memory (oom_kill).", |it| int(it.memory.oom_kills)),
    gauge("libvirt_host_swap_total_bytes", "bytes", MEMINFO, "Swap space (SwapTotal).", |it| int(it.swap.total_bytes)),
    gauge("libvirt_host_swap_free_bytes", "bytes", MEMINFO, "Swap space that is not used (SwapFree).", |it| int(it.swap.free_bytes)),
    gauge("libvirt_host_swap_cached_bytes", "bytes", MEMINFO, "What is both in swap space and in memory (SwapCached).", |it| int(it.swap.cached_bytes)),
    counter("libvirt_host_swap_in_bytes_total", "bytes", VMSTAT, "Read from swap space (pswpin).", |it| int(it.swap.in_bytes)),
    counter("libvirt_host_swap_out_bytes_total", "bytes", VMSTAT, "Written to swap space (pswpout).", |it| int(it.swap.out_bytes)),
    row(Gauge, ("libvirt_host_hugepages", "pages"), (HUGEPAGES, "size_bytes"), "Huge pages in the pool (nr_hugepages).", Read::Pool(|it| int(it.total))),
    row(Gauge, ("libvirt_host_hugepages_free", "pages"), (HUGEPAGES, "size_bytes"), "Those that nobody uses, reserved ones included (free_hugepages).", Read::Pool(|it| int(it.free))),
    row(Gauge, ("libvirt_host_hugepages_reserved", "pages"), (HUGEPAGES, "size_bytes"), "Those that are promised and not used yet (resv_hugepages).", Read::Pool(|it| int(it.reserved))),
    row(Gauge, ("libvirt_host_hugepages_surplus", "pages"), (HUGEPAGES, "size_bytes"), "Those beyond what the pool was set to (surplus_hugepages).", Read::Pool(|it| int(it.surplus))),
    gauge("libvirt_host_transparent_hugepages_anonymous_bytes", "bytes", MEMINFO, "Memory of processes in transparent huge pages (AnonHugePages).", |it| int(it.transparent_hugepages.anonymous_bytes)),
    row(Gauge, ("libvirt_host_transparent_hugepages_info", "1"), ("/sys/kernel/mm/transparent_hugepage/enabled", "mode"), "When the kernel makes transparent huge pages: always, madvise or never; always 1.", Read::Mode),
    gauge("libvirt_host_ksm_run", "1", KSM, "Whether equal pages are merged: 0 no, 1 yes, 2 no, and all were taken apart (run).", |it| int(it.ksm?.run)),
    gauge("libvirt_host_ksm_pages_shared", "pages", KSM, "Pages that stand for several (pages_shared).", |it| int(it.ksm?.pages_shared)),
    gauge("libvirt_host_ksm_pages_sharing", "pages", KSM, "Pages that were saved by that (pages_sharing).", |it| int(it.ksm?.pages_sharing)),
    gauge("libvirt_host_ksm_pages_unshared", "pages", KSM, "Pages that are looked at and have no equal (pages_unshared).", |it| int(it.ksm?.pages_unshared)),
    gauge("libvirt_host_ksm_pages_volatile", "pages", KSM, "Pages that change too fast to be merged (pages_volatile).", |it| int(it.ksm?.pages_volatile)),
    counter("libvirt_host_ksm_full_scans_total", "scans", KSM, "Times that all memory was gone through (full_scans).", |it| int(it.ksm?.full_scans)),
    row(Gauge, ("libvirt_host_numa_memory_total_bytes", "bytes"), (NODE, "node"), "Memory of each NUMA node (MemTotal).", Read::Node(|it| int(it.memory_total_bytes))),
    row(Gauge, ("libvirt_host_numa_memory_free_bytes", "bytes"), (NODE, "node"), "What nothing uses of it (MemFree).", Read::Node(|it| int(it.memory_free_bytes))),
    row(Gauge, ("libvirt_host_numa_memory_used_bytes", "bytes"), (NODE, "node"), "What is used of it (MemUsed).", Read::Node(|it| int(it.memory_used_bytes))),
    row(Gauge, ("libvirt_host_numa_hugepages", "pages"), (NODE, "node, size_bytes"), "Huge pages of each NUMA node (nr_hugepages).", Read::NodePool(|it| int(it.total))),
    row(Gauge, ("libvirt_host_numa_hugepages_free", "pages"), (NODE, "node, size_bytes"), "Those that nobody uses (free_hugepages).", Read::NodePool(|it| int(it.free))),
    row(Gauge, ("libvirt_host_network_up", "1"), (CLASS, "device"), "Whether the interface is up (operstate).", Read::Interface(|it| Some(Value::Int(u64::from(it.operational_state.as_deref()? == "up"))))),
    row(Gauge, ("libvirt_host_network_speed_bytes", "bytes per second"), (CLASS, "device"), "Speed of the link, as far as it tells it (speed).", Read::Interface(|it| Some(Value::Int(it.speed_bits_per_second? / 8)))),
    row(Gauge, ("libvirt_host_network_mtu_bytes", "bytes"), (CLASS, "device"), "Largest packet (mtu).", Read::Interface(|it| int(it.mtu_bytes))),
    interface("libvirt_host_network_receive_bytes_total", "bytes", "Bytes received by interfaces of the host; taps of guests are none.", |it| int(it.receive.bytes)),
    interface("libvirt_host_network_receive_packets_total", "packets", "Packets received.", |it| int(it.receive.packets)),
    interface("libvirt_host_network_receive_errors_total", "packets", "Packets received damaged.", |it| int(it.receive.errors)),
    interface("libvirt_host_network_receive_drops_total", "packets", "Packets received and dropped.", |it| int(it.receive.drops)),
    interface("libvirt_host_network_transmit_bytes_total", "bytes", "Bytes sent.", |it| int(it.transmit.bytes)),
    interface("libvirt_host_network_transmit_packets_total", "packets", "Packets sent.", |it| int(it.transmit.packets)),
    interface("libvirt_host_network_transmit_errors_total", "packets", "Packets that could not be sent.", |it| int(it.transmit.errors)),
    interface("libvirt_host_network_transmit_drops_total", "packets", "Packets dropped instead of sent.", |it| int(it.transmit.drops)),
    space("libvirt_host_filesystem_size_bytes", "bytes", "Size of the file system that a configured path is on.", |it| Some(Value::Int(it.total_bytes))),
    space("libvirt_host_filesystem_free_bytes", "bytes", "What is not used of it.", |it| Some(Value::Int(it.free_bytes))),
    space("libvirt_host_filesystem_avail_bytes", "bytes", "What users without privileges can still use of it.", |it| Some(Value::Int(it.available_bytes))),
    space("libvirt_host_filesystem_files", "inodes", "Inodes that it can have.", |it| int(it.inodes)),
    space("libvirt_host_filesystem_files_free", "inodes", "How many more it can have.", |it| int(it.inodes_free)),
    row(Gauge, ("libvirt_host_filesystem_blocked", "1"), ("statvfs", "path"), "Whether it has not answered for a second or longer.", Read::Path(|it| Value::Int(u64::from(it.blocked_since.is_some())))),
];

/// The text; empty if the newest look is too old.
pub(super) fn text(window: &HostWindow, now: Instant) -> String {
    let Some(newest) = window.fresh(now) else { return String::new() };
    let mut out = Vec::with_capacity(16 << 10);
    for family in FAMILIES {
        let mut announced = false;
        let mut line = |labels: &[(&str, &str)], value: Value| {
            if !std::mem::replace(&mut announced, true) {
                header(family.name, family.help, family.kind.name(), &mut out);
            }
            let mut block = String::new();
            labels.iter().for_each(|(name, value)| push(&mut block, name, value));
            out.extend_from_slice(family.name.as_bytes());
            if !block.is_empty() {
                out.extend([b"{", block.as_bytes(), b"}"].concat());
            }
            out.push(b' ');
            value.write(&mut out);
            out.push(b'\n');
        };
        family.read.series(window, &newest.figures, now, &mut line);
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl Read {
    fn series(&self, window: &HostWindow, host: &HostSample, now: Instant, emit: Emit<'_>) {
        let mut some = |labels: &[(&str, &str)], value: Option<Value>| {
            if let Some(value) = value {
                emit(labels, value);
            }
        };
        match self {
            Self::Host(read) => some(&[], read(host)),
            Self::Cpu(read) => {
                for it in &host.cpus {
                    let cpu = it.cpu.to_string();
                    let series = read(&it.times).into_iter();
                    series.for_each(|(mode, time)| some(&[("cpu", &cpu), ("mode", mode)], nanos(time)));
                }
            }
            Self::Node(read) => {
                host.numa_nodes.iter().for_each(|node| some(&[("node", &node.node.to_string())], read(node)));
            }
            Self::Pool(read) => {
                let pools = host.hugepages.iter();
                pools.for_each(|pool| some(&[("size_bytes", &pool.size_bytes.to_string())], read(pool)));
            }
            Self::NodePool(read) => {
                for node in &host.numa_nodes {
                    let number = node.node.to_string();
                    for pool in &node.hugepages {
                        let size = pool.size_bytes.to_string();
                        some(&[("node", &number), ("size_bytes", &size)], read(pool));
                    }
                }
            }
            Self::Interface(read) => {
                host.interfaces.iter().for_each(|it| some(&[("device", &it.name)], read(it)));
            }
            Self::Space(read) => {
                for it in &window.paths {
                    let fresh = it.space.filter(|(asked, _)| window.is_fresh(*asked, now));
                    some(&[("path", &it.path)], fresh.and_then(|(_, space)| read(&space)));
                }
            }
            Self::Path(read) => window.paths.iter().for_each(|it| some(&[("path", &it.path)], Some(read(it)))),
            Self::Mode => {
                if let Some(mode) = &host.transparent_hugepages.mode {
                    some(&[("mode", mode)], Some(Value::Int(1)));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::export::prometheus::table::families;

    #[test]
    fn names_follow_the_rules() {
        let mut names: HashSet<_> = families().map(|family| family.name).collect();
        for family in FAMILIES {
            assert!(names.insert(family.name), "{} twice", family.name);
            assert_eq!(family.kind == Counter, family.name.ends_with("_total"), "{}", family.name);
            assert!(family.help.ends_with('.') && !family.help.contains(['\n', '\\']), "{}", family.name);
        }
    }
}
