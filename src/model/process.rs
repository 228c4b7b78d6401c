//! The QEMU process of a domain, as the host's kernel sees it.

use super::{DomainId, RunId};

/// What a process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessState {
    /// Runs, or sleeps until something happens.
    Runs,
    /// Stopped by a signal or a debugger: it answers nothing until it is continued.
    Stopped,
    /// In uninterruptible sleep, most likely waiting for a disk.
    Uninterruptible,
    /// Dead, or gone: libvirt is about to notice, or is ending the domain.
    Ended,
}

/// One look at a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// When it started, in clock ticks since the host's boot.
    pub start_ticks: u64,
    /// What it is doing.
    pub state: ProcessState,
}

/// Looks at processes. Never blocks.
pub trait Processes: Send {
    /// The process of a run of a domain; `None` if it is not known.
    fn look(&mut self, id: DomainId, name: &str, run: RunId) -> Option<Process>;

    /// Forgets what is remembered of all domains but these.
    fn keep_only(&mut self, wanted: &dyn Fn(DomainId) -> bool);
}
