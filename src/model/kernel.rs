//! What the host's kernel says of a running domain, without libvirt: who is asked about, what came, and why what did not.

use std::fmt;
use std::sync::Arc;

use super::{CpuSample, DomainId, InterfaceSample, NicDescription, Process, RunId, Stamp, VcpuSample};

/// Whom a look is about.
#[derive(Debug, Clone, Copy)]
pub struct KernelTarget<'a> {
    /// UUID.
    pub id: DomainId,
    /// Name.
    pub name: &'a str,
    /// Which run.
    pub run: RunId,
    /// Each `<interface>` of its XML, in order; `None` while that is not known.
    pub nics: Option<&'a [NicDescription]>,
}

/// Which process a figure is about, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelFigures {
    /// The QEMU process, verified to be this domain's.
    pub process: Process,
    /// CPU time of the whole guest: of its cgroup, else of its process.
    pub cpu: Option<CpuSample>,
    /// Its vCPU threads; `None` where they cannot be told from others. `maximum` is not known to the kernel.
    pub vcpu: Option<VcpuSample>,
    /// Its NICs, as the guest sees them; `None` unless each that has a device on the host was found.
    pub interface: Option<InterfaceSample>,
    /// What libvirt does not say.
    pub kernel: KernelSample,
}

/// What the kernel says of a domain's process beyond libvirt's own groups.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KernelSample {
    /// Resident memory, KiB: the same figure as libvirt's `balloon.rss`.
    pub resident_kib: Option<u64>,
    /// Page faults of the process that needed a disk.
    pub major_faults: Option<u64>,
    /// Page faults of the process that needed none.
    pub minor_faults: Option<u64>,
    /// Threads of the process.
    pub threads: Option<u64>,
    /// What costs more to read than all else, and so is read every five seconds where samples come more often.
    pub details: Option<Arc<KernelDetails>>,
}

/// What of a process is read less often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelDetails {
    /// When it was read.
    pub read: Stamp,
    /// Memory in huge pages of hugetlbfs, KiB; not part of the resident memory.
    pub hugetlb_kib: Option<u64>,
    /// How often QEMU's main thread gave up its CPU, to wait for something.
    pub voluntary_switches: Option<u64>,
    /// How often QEMU's main thread was made to give up its CPU.
    pub involuntary_switches: Option<u64>,
    /// CPU time of QEMU's main thread, which emulates devices and answers libvirt, nanoseconds.
    pub emulator_time_ns: Option<u64>,
    /// For how long that thread was ready to run, and the host did not run it, nanoseconds.
    pub emulator_delay_ns: Option<u64>,
    /// The domain's `<iothreads>`.
    pub iothreads: Vec<IoThread>,
    /// Read from block devices of the host, by the accounting of its cgroup.
    pub io_read: KernelIo,
    /// Written to them.
    pub io_write: KernelIo,
}

/// One of the domain's I/O threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IoThread {
    /// Its number, as libvirt counts them.
    pub id: u32,
    /// CPU time, nanoseconds.
    pub time_ns: Option<u64>,
    /// For how long it was ready to run, and the host did not run it, nanoseconds.
    pub delay_ns: Option<u64>,
}

/// One direction of the I/O of a cgroup, all devices together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KernelIo {
    /// Bytes.
    pub bytes: Option<u64>,
    /// Operations.
    pub operations: Option<u64>,
}

/// Why nothing came of a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unseen {
    /// No process on this host was found to be this domain's.
    NoProcess,
    /// Processes of other users are hidden from this one.
    Hidden,
    /// Its process has ended, and no other was found.
    Ended,
}

impl Unseen {
    /// In words.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::NoProcess => "no process on this host is known to be this domain's",
            Self::Hidden => "processes of other users are hidden (hidepid of /proc, or ProtectProc= of the unit)",
            Self::Ended => "its process has ended",
        }
    }
}

/// A kind of figures that is not to be had here, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lack {
    /// What.
    pub figures: &'static str,
    /// Why not, and what would help.
    pub reason: String,
}

impl fmt::Display for Lack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.figures, self.reason)
    }
}

/// How the lane does its work at present.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KernelState {
    /// Files that are kept open.
    pub open_files: usize,
    /// How many may be kept open.
    pub open_files_limit: usize,
    /// What is not to be had.
    pub lacks: Vec<Lack>,
}

/// Looks at the kernel's figures. Nothing here waits for QEMU, for libvirt or for a disk.
pub trait Kernel: Send {
    /// A turn begins: what is asked once for all domains is asked now.
    fn begin(&mut self);

    /// The figures of a domain.
    ///
    /// # Errors
    /// [`Unseen`].
    fn look(&mut self, target: &KernelTarget<'_>) -> Result<KernelFigures, Unseen>;

    /// Forgets, and closes the files of, all domains but these.
    fn keep_only(&mut self, wanted: &dyn Fn(DomainId) -> bool);

    /// How it goes.
    fn state(&self) -> KernelState;
}
