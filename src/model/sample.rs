//! What one bulk call says about one domain, a type for each stats group.
//!
//! A value that was not obtained is `None`: never 0. Counters are as libvirt sends them.

use super::{DomainId, RunId};

/// libvirt `state.*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StateSample {
    /// `state.state`, a `virDomainState` number.
    pub state: Option<i64>,
    /// `state.reason`; what it means depends on the state.
    pub reason: Option<i64>,
}

/// libvirt `cpu.*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CpuSample {
    /// `cpu.time`, nanoseconds.
    pub time_ns: Option<u64>,
    /// `cpu.user`, nanoseconds.
    pub user_ns: Option<u64>,
    /// `cpu.system`, nanoseconds.
    pub system_ns: Option<u64>,
}

/// libvirt `vcpu.*`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VcpuSample {
    /// `vcpu.current`, online vCPUs.
    pub current: Option<u64>,
    /// `vcpu.maximum`.
    pub maximum: Option<u64>,
    /// Each vCPU; numbers may be missing after a hot-unplug.
    pub vcpus: Vec<Vcpu>,
}

/// libvirt `vcpu.N.*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Vcpu {
    /// N.
    pub index: u32,
    /// `state`, a `virVcpuState` number.
    pub state: Option<i64>,
    /// `time`, nanoseconds.
    pub time_ns: Option<u64>,
    /// `wait`, nanoseconds spent waiting for I/O.
    pub wait_ns: Option<u64>,
    /// `delay`, nanoseconds spent runnable and not running.
    pub delay_ns: Option<u64>,
}

/// libvirt `net.*`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InterfaceSample {
    /// `net.count`.
    pub count: Option<u64>,
    /// Each NIC that has a device on the host.
    pub interfaces: Vec<Interface>,
}

/// libvirt `net.N.*`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Interface {
    /// N, the place among the `<interface>` elements of the domain.
    pub index: u32,
    /// `name`, the device on the host (`vnet0`).
    pub name: Option<Box<str>>,
    /// `rx.*`: what the guest received.
    pub receive: Traffic,
    /// `tx.*`: what the guest sent.
    pub transmit: Traffic,
}

/// One direction of a NIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Traffic {
    /// `bytes`.
    pub bytes: Option<u64>,
    /// `pkts`.
    pub packets: Option<u64>,
    /// `errs`.
    pub errors: Option<u64>,
    /// `drop`.
    pub drops: Option<u64>,
}

/// libvirt `block.*`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BlockSample {
    /// `block.count`.
    pub count: Option<u64>,
    /// Each disk.
    pub disks: Vec<Block>,
}

/// libvirt `block.N.*`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Block {
    /// N.
    pub index: u32,
    /// `name`, the target in the guest (`vda`).
    pub name: Option<Box<str>>,
    /// `path` of the source, if it is a local file or device.
    pub path: Option<Box<str>>,
    /// `rd.*`.
    pub read: Io,
    /// `wr.*`.
    pub write: Io,
    /// `fl.*`; has no bytes.
    pub flush: Io,
    /// `allocation`, bytes.
    pub allocation_bytes: Option<u64>,
    /// `capacity`, bytes.
    pub capacity_bytes: Option<u64>,
    /// `physical`, bytes.
    pub physical_bytes: Option<u64>,
}

/// One kind of request to a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Io {
    /// `reqs`.
    pub requests: Option<u64>,
    /// `bytes`.
    pub bytes: Option<u64>,
    /// `times`, nanoseconds.
    pub time_ns: Option<u64>,
}

/// What `virDomainGetBlockInfo` says of one disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BlockInfo {
    /// `capacity`, bytes: the size that the guest sees.
    pub capacity_bytes: Option<u64>,
    /// `allocation`, bytes: the highest byte written to, or what the file occupies.
    pub allocation_bytes: Option<u64>,
    /// `physical`, bytes: the size of the file or device on the host.
    pub physical_bytes: Option<u64>,
}

/// libvirt `balloon.*`. All but the first two need QEMU's monitor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BalloonSample {
    /// `current`, KiB.
    pub current_kib: Option<u64>,
    /// `maximum`, KiB.
    pub maximum_kib: Option<u64>,
    /// `swap_in`, KiB.
    pub swap_in_kib: Option<u64>,
    /// `swap_out`, KiB.
    pub swap_out_kib: Option<u64>,
    /// `major_fault`.
    pub major_faults: Option<u64>,
    /// `minor_fault`.
    pub minor_faults: Option<u64>,
    /// `unused`, KiB.
    pub unused_kib: Option<u64>,
    /// `available`, KiB.
    pub available_kib: Option<u64>,
    /// `usable`, KiB.
    pub usable_kib: Option<u64>,
    /// `last-update`, seconds since the epoch; 0 is "never" and becomes `None` on export.
    pub last_update_s: Option<u64>,
    /// `disk_caches`, KiB.
    pub disk_caches_kib: Option<u64>,
    /// `hugetlb_pgalloc`.
    pub hugetlb_pgalloc: Option<u64>,
    /// `hugetlb_pgfail`.
    pub hugetlb_pgfail: Option<u64>,
    /// `rss`, KiB of the QEMU process.
    pub rss_kib: Option<u64>,
}

impl BalloonSample {
    /// Did only what needs no monitor come? That is all that some drivers have, and what is left of a record that NOWAIT
    /// cut short.
    #[must_use]
    pub fn is_partial(&self) -> bool {
        Self { current_kib: None, maximum_kib: None, ..*self } == Self::default()
    }
}

/// What came of each group; `None` where no marker key of the group came.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Figures {
    /// Run state.
    pub state: Option<StateSample>,
    /// CPU time.
    pub cpu: Option<CpuSample>,
    /// vCPUs.
    pub vcpu: Option<VcpuSample>,
    /// NICs.
    pub interface: Option<InterfaceSample>,
    /// Disks.
    pub block: Option<BlockSample>,
    /// Memory.
    pub balloon: Option<BalloonSample>,
}

impl Figures {
    /// How many groups were obtained.
    #[must_use]
    pub fn count(&self) -> u64 {
        let obtained = [
            self.state.is_some(),
            self.cpu.is_some(),
            self.vcpu.is_some(),
            self.interface.is_some(),
            self.block.is_some(),
            self.balloon.is_some(),
        ];
        obtained.into_iter().map(u64::from).sum()
    }
}

/// One domain's part of a bulk reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainRecord {
    /// UUID.
    pub id: DomainId,
    /// Name at the time of the call.
    pub name: Box<str>,
    /// Which run; `None` if the domain stopped while it was being asked.
    pub run: Option<RunId>,
    /// What was obtained.
    pub figures: Figures,
}

/// The name of a `virDomainState` number, as `virsh` and the exporters in use spell it.
#[must_use]
pub fn state_name(state: i64) -> &'static str {
    match state {
        0 => "no_state",
        1 => "running",
        2 => "blocked",
        3 => "paused",
        4 => "shutdown",
        5 => "shutoff",
        6 => "crashed",
        7 => "pmsuspended",
        _ => "unknown",
    }
}
