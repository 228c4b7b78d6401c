//! The host itself: what its kernel counts and says, and how full its file systems are.
//!
//! A figure that could not be read is `None`, or not in its list; it never costs the others.

mod cpu;

use std::io;
use std::sync::Arc;

pub use self::cpu::{CpuShares, CpuTimes, HostCpu};
use super::{Stamp, Traffic};

/// One look at the host.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct HostSample {
    /// CPU time of all CPUs together.
    pub cpu: Option<CpuTimes>,
    /// That of each CPU that is online, by number.
    pub cpus: Vec<HostCpu>,
    /// By number.
    pub numa_nodes: Vec<NumaNode>,
    /// Memory.
    pub memory: Memory,
    /// Swap space.
    pub swap: Swap,
    /// One pool a size, by size.
    pub hugepages: Vec<Hugepages>,
    /// Merging of equal pages.
    pub ksm: Option<Ksm>,
    /// Huge pages that the kernel makes by itself.
    pub transparent_hugepages: TransparentHugepages,
    /// Load averages.
    pub load: Option<Load>,
    /// In the order of the kernel's table.
    pub interfaces: Vec<HostInterface>,
    /// What is neither the host's own nor a tap, such as the ends of containers' links; in the same order.
    pub other_interfaces: Vec<HostInterface>,
    /// Processes and scheduling.
    pub processes: Scheduling,
    /// CPU time of this service itself.
    pub own_cpu: Option<OwnCpu>,
    /// When the host was started, in Unix seconds.
    pub boot_unix_seconds: Option<u64>,
}

/// One NUMA node.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NumaNode {
    /// Its number.
    pub node: u32,
    /// The numbers of its CPUs that are online; `None` if they could not be read, empty for a node of memory alone.
    pub cpus: Option<Vec<u32>>,
    /// Memory there is.
    pub memory_total_bytes: Option<u64>,
    /// Memory that nothing uses.
    pub memory_free_bytes: Option<u64>,
    /// The difference of both, as the kernel says it.
    pub memory_used_bytes: Option<u64>,
    /// One pool a size, by size.
    pub hugepages: Vec<Hugepages>,
}

/// Memory, as /proc/meminfo has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memory {
    /// What the kernel has to give.
    pub total_bytes: Option<u64>,
    /// What nothing uses.
    pub free_bytes: Option<u64>,
    /// What programs could get without swapping.
    pub available_bytes: Option<u64>,
    /// Raw disk blocks in memory.
    pub buffers_bytes: Option<u64>,
    /// Files in memory.
    pub cached_bytes: Option<u64>,
    /// tmpfs and memory shared by processes.
    pub shared_bytes: Option<u64>,
    /// Memory of processes that is of no file.
    pub anonymous_bytes: Option<u64>,
    /// The kernel's own objects.
    pub slab_bytes: Option<u64>,
    /// Those of them that can be given up.
    pub slab_reclaimable_bytes: Option<u64>,
    /// Page tables.
    pub page_tables_bytes: Option<u64>,
    /// Waits to be written to disk.
    pub dirty_bytes: Option<u64>,
    /// Is being written to disk.
    pub writeback_bytes: Option<u64>,
    /// What processes were promised.
    pub committed_bytes: Option<u64>,
    /// Pages that were given to processes at their touch, since boot.
    pub page_faults: Option<u64>,
    /// Those of them that were read from disk.
    pub major_page_faults: Option<u64>,
    /// Processes that were killed for want of memory, since boot.
    pub oom_kills: Option<u64>,
}

/// Swap space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Swap {
    /// All of it.
    pub total_bytes: Option<u64>,
    /// What is not used.
    pub free_bytes: Option<u64>,
    /// What is in memory too.
    pub cached_bytes: Option<u64>,
    /// Read from it, since boot.
    pub in_bytes: Option<u64>,
    /// Written to it, since boot.
    pub out_bytes: Option<u64>,
}

/// A pool of huge pages of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Hugepages {
    /// The size of one.
    pub size_bytes: u64,
    /// How many there are.
    pub total: Option<u64>,
    /// Those that nobody uses, reserved ones included.
    pub free: Option<u64>,
    /// Promised, and not used yet. Of the whole host only.
    pub reserved: Option<u64>,
    /// Beyond what the pool was set to.
    pub surplus: Option<u64>,
    /// What the pool was set to by who asked for it under a memory policy (`nr_hugepages_mempolicy`). Of the whole host only.
    pub mempolicy: Option<u64>,
    /// How far it may grow beyond what it was set to. Of the whole host only.
    pub overcommit: Option<u64>,
}

/// CPU time of a process, in nanoseconds since it started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OwnCpu {
    /// In user mode.
    pub user_ns: u64,
    /// In the kernel.
    pub system_ns: u64,
}

/// Merging of equal pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ksm {
    /// 0: it does not run; 1: it does; 2: it does not, and all merged pages were taken apart.
    pub run: Option<u64>,
    /// Pages that stand for several.
    pub pages_shared: Option<u64>,
    /// Pages that were saved by that.
    pub pages_sharing: Option<u64>,
    /// Pages that are looked at again and again, and have no equal.
    pub pages_unshared: Option<u64>,
    /// Pages that change too fast.
    pub pages_volatile: Option<u64>,
    /// How often all memory was gone through.
    pub full_scans: Option<u64>,
    /// Pages that are looked at in one go.
    pub pages_to_scan: Option<u64>,
    /// 1 if pages of different NUMA nodes are merged.
    pub merge_across_nodes: Option<u64>,
    /// The size of one page.
    pub page_bytes: u64,
    /// CPU time of the kernel's thread that does it, `ksmd`, nanoseconds since boot.
    pub ksmd_time_ns: Option<u64>,
}

/// Huge pages that the kernel makes by itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TransparentHugepages {
    /// `always`, `madvise` or `never`.
    pub mode: Option<Box<str>>,
    /// Memory of processes in such pages.
    pub anonymous_bytes: Option<u64>,
}

/// How many wanted to run or waited for a disk, on average.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Load {
    /// Over a minute.
    pub one_minute: f64,
    /// Over 5 minutes.
    pub five_minutes: f64,
    /// Over 15 minutes.
    pub fifteen_minutes: f64,
}

/// Processes and scheduling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scheduling {
    /// Threads that run, or could.
    pub running: Option<u64>,
    /// Threads that wait for a disk.
    pub blocked: Option<u64>,
    /// Threads and processes that were started, since boot.
    pub forks: Option<u64>,
    /// How often a CPU went from one thread to another, since boot.
    pub context_switches: Option<u64>,
}

/// One network interface of the host; a tap of a guest is none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostInterface {
    /// Its name.
    pub name: Arc<str>,
    /// `up`, `down` and the like, of RFC 2863.
    pub operational_state: Option<Box<str>>,
    /// Only of a link that is up and says it.
    pub speed_bits_per_second: Option<u64>,
    /// `full` or `half`, of a link that is up and says it.
    pub duplex: Option<Box<str>>,
    /// The largest packet.
    pub mtu_bytes: Option<u64>,
    /// Received.
    pub receive: Traffic,
    /// Sent.
    pub transmit: Traffic,
}

/// Looks at the host.
pub trait HostSource: Send {
    /// What can be read at present. Never blocks.
    fn sample(&mut self) -> HostSample;
}

/// How full a file system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Space {
    /// All of it.
    pub total_bytes: u64,
    /// What is not used.
    pub free_bytes: u64,
    /// What users without privileges can still use.
    pub available_bytes: u64,
    /// Files that it can have; `None` where there is no such limit.
    pub inodes: Option<u64>,
    /// How many more it can have.
    pub inodes_free: Option<u64>,
}

/// Asks file systems how full they are.
pub trait Spaces: Send + Sync {
    /// How full the file system is that a path is on. Blocks for as long as that does not answer.
    ///
    /// # Errors
    /// Whatever it answers.
    fn space(&self, path: &str) -> io::Result<Space>;
}

/// What is known of a path whose space is watched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathSpace {
    /// The path.
    pub path: Arc<str>,
    /// The newest answer, and when it was asked for.
    pub space: Option<(Stamp, Space)>,
    /// When the question was put that is not answered yet, if that is too long ago.
    pub blocked_since: Option<Stamp>,
    /// What went wrong the last time, in the system's words.
    pub problem: Option<Arc<str>>,
}
