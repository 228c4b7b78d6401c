//! The looks at all guests of the host.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::clock::{Clock, SystemClock};
use crate::model::{
    DomainId, Kernel, KernelFigures, KernelState, KernelTarget, Lack, ProcessState, RunId, Stamp, Unseen,
};

use super::cgroup::Hierarchies;
use super::files::{Budget, Reader};
use super::find::{Finder, PROC, RUN};
use super::guest::{Gone, Guest, Surroundings};
use super::links::Links;
use super::netlink::{Dump, Route};

/// Reads the kernel's figures of QEMU's processes.
pub struct QemuKernel {
    proc: PathBuf,
    clock: Arc<dyn Clock>,
    finder: Finder,
    hierarchies: Hierarchies,
    links: Links,
    reader: Reader,
    guests: HashMap<DomainId, Known>,
    now: Stamp,
}

/// A domain whose process was found once.
struct Known {
    run: RunId,
    /// `None` once it has ended.
    guest: Option<Box<Guest>>,
}

impl QemuKernel {
    /// On this host. Raises this process's limit of open files as far as it may.
    #[must_use]
    pub fn new() -> Self {
        Self::below(RUN.into(), PROC.into(), Arc::new(SystemClock))
    }

    /// With pid files and processes in other places, and another clock. The devices are this host's.
    #[must_use]
    pub fn below(run: PathBuf, proc: PathBuf, clock: Arc<dyn Clock>) -> Self {
        Self::with(run, proc, clock, Budget::of_this_process(), Box::new(Route::default()))
    }

    fn with(run: PathBuf, proc: PathBuf, clock: Arc<dyn Clock>, budget: Budget, route: Box<dyn Dump>) -> Self {
        let mounts = std::fs::read(proc.join("self/mountinfo")).unwrap_or_default();
        Self {
            finder: Finder::new(run, proc.clone(), Arc::clone(&clock)),
            hierarchies: Hierarchies::parse(&mounts),
            links: Links::new(route),
            reader: Reader::new(budget),
            guests: HashMap::new(),
            now: stamp(&*clock),
            proc,
            clock,
        }
    }

    /// Its figures except for its NICs.
    fn figures(&mut self, target: &KernelTarget<'_>) -> Result<KernelFigures, Unseen> {
        let Self { proc, finder, hierarchies, reader, guests, now, .. } = self;
        let mut around = Surroundings { proc, hierarchies, reader, now: *now };
        // Another run has another process.
        let known = guests.get_mut(&target.id).filter(|known| known.run == target.run);
        let was_known = known.is_some();
        if let Some(known) = known
            && let Some(guest) = &mut known.guest
        {
            match guest.look(&mut around) {
                Ok(figures) => return Ok(figures),
                Err(Gone) => known.guest = None,
            }
        }
        let unseen = |unseen| if was_known { Unseen::Ended } else { unseen };
        let found = finder.find(target.id, target.name, target.run).map_err(unseen)?;
        let mut guest = Box::new(Guest::new(found));
        let figures = match found.state {
            ProcessState::Ended => Err(Gone),
            _ => guest.look(&mut around),
        };
        let guest = figures.is_ok().then_some(guest);
        guests.insert(target.id, Known { run: target.run, guest });
        figures.map_err(|Gone| Unseen::Ended)
    }
}

fn stamp(clock: &dyn Clock) -> Stamp {
    Stamp { at: clock.now(), wall: clock.wall() }
}

impl Default for QemuKernel {
    fn default() -> Self {
        Self::new()
    }
}

impl Kernel for QemuKernel {
    fn begin(&mut self) {
        self.now = stamp(&*self.clock);
        self.links.refresh(self.now.at);
    }

    fn look(&mut self, target: &KernelTarget<'_>) -> Result<KernelFigures, Unseen> {
        let mut figures = self.figures(target)?;
        figures.interface = target.nics.and_then(|nics| self.links.sample(nics));
        Ok(figures)
    }

    fn keep_only(&mut self, wanted: &dyn Fn(DomainId) -> bool) {
        self.guests.retain(|id, _| wanted(*id));
        self.finder.keep_only(wanted);
    }

    fn state(&self) -> KernelState {
        let guests = || self.guests.values().filter_map(|known| known.guest.as_deref());
        let lack = |figures, reason: &str| Lack { figures, reason: reason.to_owned() };
        let mut lacks = Vec::new();
        if let Some(error) = self.links.refusal() {
            let reason = format!("netlink: {error}; RestrictAddressFamilies= of the unit must allow AF_NETLINK");
            lacks.push(Lack { figures: "network", reason });
        }
        if guests().any(|guest| !guest.accounts().has_io()) {
            let reason = "guests have no cgroup of their own with I/O accounting (io of version 2, blkio of version 1), and \
                          /proc/PID/io of other users' processes is not read, since that needs CAP_SYS_PTRACE";
            lacks.push(lack("I/O on the host's block devices", reason));
        }
        if guests().any(|guest| !guest.threads().are_named()) {
            let reason = "no thread is named as a vCPU: QEMU runs with debug-threads=off, or all vCPUs in one thread";
            lacks.push(lack("vCPUs", reason));
        }
        if guests().any(|guest| guest.threads().are_silent()) {
            let reason = "the kernel tells no times of threads (/proc/PID/task/TID/schedstat); it was built without CONFIG_SCHED_INFO";
            lacks.push(lack("vCPU time", reason));
        }
        if guests().any(|guest| guest.threads().tell_waits() == Some(false)) {
            let reason = "the kernel was built without CONFIG_SCHEDSTATS, or sysctl kernel.sched_schedstats is 0";
            lacks.push(lack("vCPU wait", reason));
        }
        KernelState { open_files: self.reader.budget.used(), open_files_limit: self.reader.budget.limit(), lacks }
    }
}

#[cfg(test)]
mod tests;
