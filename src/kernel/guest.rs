//! One guest: its process's directory and files, which are kept open, and what they say.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::param::page_size;

use crate::model::{CpuSample, KernelDetails, KernelFigures, KernelSample, Process, ProcessState, Stamp};

use super::account::{Accounts, nanos_of_ticks};
use super::cgroup::Hierarchies;
use super::files::{File, Held, Place, Reader};
use super::parse::{lines, number, value};
use super::stat::Stat;
use super::threads::Threads;

/// What costs twice as much as all else together is read no more often than this, less what a timer may be early.
const DETAILS: Duration = Duration::from_millis(4_750);

/// A guest without a group of its own is asked for one this often.
const REGROUP: Duration = Duration::from_secs(10);

/// The process is no more, or is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

/// What the looks at all guests share.
pub(super) struct Surroundings<'a> {
    pub(super) proc: &'a Path,
    pub(super) hierarchies: &'a Hierarchies,
    pub(super) reader: &'a mut Reader,
    pub(super) now: Stamp,
}

/// A guest whose process is known.
#[derive(Debug)]
pub(super) struct Guest {
    pid: u32,
    start_ticks: u64,
    /// Whatever is opened below it is this process's, or is not there. Only while it is kept, others are.
    directory: Option<Held>,
    stat: File,
    status: File,
    accounts: Accounts,
    grouped: Option<Instant>,
    threads: Threads,
    details: Option<Arc<KernelDetails>>,
}

impl Guest {
    /// Of a process that was verified to be this domain's.
    pub(super) fn new(process: Process) -> Self {
        Self {
            pid: process.pid,
            start_ticks: process.start_ticks,
            directory: None,
            stat: File::default(),
            status: File::default(),
            accounts: Accounts::default(),
            grouped: None,
            threads: Threads::of(process.pid),
            details: None,
        }
    }

    pub(super) fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    pub(super) fn threads(&self) -> &Threads {
        &self.threads
    }

    /// Its figures, except for its NICs.
    pub(super) fn look(&mut self, around: &mut Surroundings<'_>) -> Result<KernelFigures, Gone> {
        // Past the limit of files it is opened for this look alone; whose it is, its stat tells.
        let mut for_now = None;
        if self.directory.is_none() {
            match around.reader.budget.hold(directory(around.proc, self.pid).map_err(|_| Gone)?) {
                Ok(held) => self.directory = Some(held),
                Err(fd) => for_now = Some(fd),
            }
        }
        let place = match (&self.directory, &for_now) {
            (Some(held), _) => Place { directory: held.as_fd(), may_hold: true },
            (None, Some(fd)) => Place { directory: fd.as_fd(), may_hold: false },
            (None, None) => return Err(Gone),
        };
        let text = self.stat.read(around.reader, place, format_args!("stat")).map_err(|_| Gone)?;
        let stat = Stat::parse(text).filter(|stat| stat.start_ticks == self.start_ticks).ok_or(Gone)?;
        if stat.state == ProcessState::Ended {
            return Err(Gone);
        }
        let process = stat.process(self.pid);
        let ticks = CpuSample {
            time_ns: stat
                .user_ticks
                .zip(stat.system_ticks)
                .and_then(|(user, system)| nanos_of_ticks(user.checked_add(system)?)),
            user_ns: stat.user_ticks.and_then(nanos_of_ticks),
            system_ns: stat.system_ticks.and_then(nanos_of_ticks),
        };
        let kernel = KernelSample {
            resident_kib: stat.resident_pages.and_then(|pages| Some(pages.checked_mul(page_size() as u64)? / 1024)),
            major_faults: stat.major_faults,
            minor_faults: stat.minor_faults,
            threads: stat.threads,
            details: None,
        };

        let is_due = |at: Instant| self.accounts.is_stale() && around.now.at.saturating_duration_since(at) >= REGROUP;
        if self.grouped.is_none_or(is_due) {
            self.grouped = Some(around.now.at);
            let groups = around.reader.once(place, format_args!("cgroup")).unwrap_or_default();
            self.accounts = Accounts::of(&around.hierarchies.own(groups));
        }
        let cpu = self.accounts.cpu(around.reader).unwrap_or(ticks);
        let vcpu = self.threads.look(around.reader, place, kernel.threads, around.now.at);
        // Where the kernel tells no times, libvirt reads them from elsewhere.
        let vcpu = vcpu.filter(|sample| sample.vcpus.iter().all(|vcpu| vcpu.time_ns.is_some()));
        let is_old = |it: &Arc<KernelDetails>| around.now.at.saturating_duration_since(it.read.at) >= DETAILS;
        if self.details.as_ref().is_none_or(is_old) {
            let (io_read, io_write) = self.accounts.io(around.reader);
            let (emulator, iothreads) = self.threads.others(around.reader, place);
            let mut details = KernelDetails {
                read: around.now,
                hugetlb_kib: None,
                voluntary_switches: None,
                involuntary_switches: None,
                emulator_time_ns: emulator.run_ns,
                emulator_delay_ns: emulator.delay_ns,
                iothreads,
                io_read,
                io_write,
            };
            if let Ok(text) = self.status.read(around.reader, place, format_args!("status")) {
                read_status(text, &mut details);
            }
            self.details = Some(Arc::new(details));
        }
        let kernel = KernelSample { details: self.details.clone(), ..kernel };
        let cpu = Some(cpu).filter(|cpu| cpu.time_ns.is_some());
        Ok(KernelFigures { process, cpu, vcpu, interface: None, kernel })
    }
}

fn directory(proc: &Path, pid: u32) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, proc.join(pid.to_string()), flags, Mode::empty())
}

/// What only /proc/PID/status has. Of its switches, those of the main thread.
fn read_status(text: &[u8], kernel: &mut KernelDetails) {
    // The last lines but for what some architectures add.
    for line in lines(text).rev() {
        if let Some(text) = value(line, b"voluntary_ctxt_switches:") {
            kernel.voluntary_switches = number(text);
            break;
        } else if let Some(text) = value(line, b"nonvoluntary_ctxt_switches:") {
            kernel.involuntary_switches = number(text);
        }
    }
    kernel.hugetlb_kib = lines(text).find_map(|line| value(line, b"HugetlbPages:")).and_then(number);
}

#[cfg(test)]
mod tests;
