//! The threads of a guest that have a part of their own: vCPUs, I/O threads, and QEMU's main thread.
//!
//! QEMU names its threads (`debug-threads=on`, which libvirt asks for). Others come and go with the guest's I/O, so the
//! threads are looked for anew when their number has changed, and each of the others is asked for its name once.

use std::time::{Duration, Instant};

use rustix::fs::{Dir, Mode, OFlags, openat};
use rustix::io::Errno;

use crate::model::{IoThread, Vcpu, VcpuSample};

use super::files::{File, Place, Reader, is_gone};
use super::parse::{fields, lines, nanos_of_millis, number, small_number};

/// For what the number of threads does not show: one that ended while another one began. A thread that is read and has ended is
/// seen at once, so that this is about a vCPU that was plugged in just when QEMU ended a worker.
const RESCAN: Duration = Duration::from_secs(60);
/// `virVcpuState`: what libvirt's QEMU driver says of every vCPU that is online.
const RUNNING: i64 = 1;

/// Whose thread it is, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Vcpu(u32),
    IoThread(u32),
}

/// `CPU 0/KVM`, `CPU 12/TCG`, `IO iothread1`.
fn role(comm: &[u8]) -> Option<Role> {
    if let Some(rest) = comm.strip_prefix(b"IO iothread") {
        return small_number(rest).map(Role::IoThread);
    }
    let rest = comm.strip_prefix(b"CPU ")?;
    let number = rest.strip_suffix(b"/KVM").or_else(|| rest.strip_suffix(b"/TCG"))?;
    small_number(number).map(Role::Vcpu)
}

/// What the scheduler says of a thread.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Times {
    pub(super) run_ns: Option<u64>,
    pub(super) delay_ns: Option<u64>,
    wait_ns: Option<u64>,
}

#[derive(Debug)]
struct Thread {
    /// Of its vCPU or I/O thread.
    number: u32,
    tid: u32,
    schedstat: File,
    sched: File,
    /// It was looked for anew, and still says nothing: that is how this kernel is.
    is_silent: bool,
}

impl Thread {
    fn new(number: u32, tid: u32) -> Self {
        Self { number, tid, schedstat: File::default(), sched: File::default(), is_silent: false }
    }

    /// `None` if the thread is gone.
    fn times(&mut self, reader: &mut Reader, place: Place<'_>, waits: bool) -> Option<Times> {
        let tid = self.tid;
        if self.is_silent {
            return None;
        }
        let mut times = match self.schedstat.read(reader, place, format_args!("task/{tid}/schedstat")) {
            Ok(text) => {
                let mut numbers = fields(text).map(number);
                Times { run_ns: numbers.next().flatten(), delay_ns: numbers.next().flatten(), wait_ns: None }
            }
            Err(error) if is_gone(error) => return None,
            Err(_) => Times::default(),
        };
        if waits {
            let text = self.sched.read(reader, place, format_args!("task/{tid}/sched"));
            times.wait_ns = text.ok().and_then(wait_sum);
        }
        Some(times)
    }
}

/// `wait_sum : 12.345678`, milliseconds; older kernels have `se.statistics.` before it. Only there with CONFIG_SCHEDSTATS,
/// and while it is switched on.
fn wait_sum(text: &[u8]) -> Option<u64> {
    let is_it = |line: &&[u8]| line.strip_prefix(b"se.statistics.").unwrap_or(line).starts_with(b"wait_sum");
    fields(lines(text).find(is_it)?).last().and_then(nanos_of_millis)
}

/// The threads of one guest.
#[derive(Debug)]
pub(super) struct Threads {
    main: Thread,
    /// By number, as the I/O threads.
    vcpus: Vec<Thread>,
    iothreads: Vec<Thread>,
    /// Known to be none of these.
    others: Vec<u32>,
    /// When they were looked for, and how many there were.
    scanned: Option<(Instant, Option<u64>)>,
    /// Does the kernel tell for how long a vCPU waited?
    waits: Option<bool>,
}

impl Threads {
    pub(super) fn of(pid: u32) -> Self {
        let (vcpus, iothreads, others) = (Vec::new(), Vec::new(), Vec::new());
        Self { main: Thread::new(0, pid), vcpus, iothreads, others, scanned: None, waits: None }
    }

    /// Are there threads that are named as vCPUs?
    pub(super) fn are_named(&self) -> bool {
        !self.vcpus.is_empty()
    }

    /// Is there a vCPU of which the kernel tells no times?
    pub(super) fn are_silent(&self) -> bool {
        self.vcpus.iter().any(|thread| thread.is_silent)
    }

    pub(super) fn tell_waits(&self) -> Option<bool> {
        self.waits
    }

    /// The vCPUs; `None` if no thread is named as one. `count` is the number of threads by the stat that was just read.
    pub(super) fn look(
        &mut self,
        reader: &mut Reader,
        place: Place<'_>,
        count: Option<u64>,
        now: Instant,
    ) -> Option<VcpuSample> {
        let is_fresh =
            |(at, before): (Instant, Option<u64>)| before == count && now.saturating_duration_since(at) < RESCAN;
        if !self.scanned.is_some_and(is_fresh) {
            self.scan(reader, place);
            self.scanned = Some((now, count));
        }
        let (vcpus, gone) = self.read(reader, place);
        if gone.is_empty() {
            return vcpus;
        }
        // Its number may be another thread's by now, so it counts as new.
        self.vcpus.retain(|thread| !gone.contains(&thread.tid));
        self.scan(reader, place);
        let (vcpus, gone) = self.read(reader, place);
        for thread in self.vcpus.iter_mut().filter(|thread| gone.contains(&thread.tid)) {
            thread.is_silent = true;
        }
        vcpus
    }

    /// QEMU's main thread, and the I/O threads. One that is gone says nothing, and is known to be gone with the next scan.
    pub(super) fn others(&mut self, reader: &mut Reader, place: Place<'_>) -> (Times, Vec<IoThread>) {
        let main = self.main.times(reader, place, false).unwrap_or_default();
        let iothreads = self.iothreads.iter_mut().filter_map(|thread| {
            let Times { run_ns, delay_ns, .. } = thread.times(reader, place, false)?;
            Some(IoThread { id: thread.number, time_ns: run_ns, delay_ns })
        });
        (main, iothreads.collect())
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Thread> {
        std::iter::once(&mut self.main).chain(&mut self.vcpus).chain(&mut self.iothreads)
    }

    /// The vCPUs, and which threads turned out to be gone.
    fn read(&mut self, reader: &mut Reader, place: Place<'_>) -> (Option<VcpuSample>, Vec<u32>) {
        let mut gone = Vec::new();
        let waits = self.waits == Some(true);
        let mut vcpus = Vec::with_capacity(self.vcpus.len());
        for thread in &mut self.vcpus {
            let Times { run_ns, delay_ns, wait_ns } = thread.times(reader, place, waits).unwrap_or_else(|| {
                if !thread.is_silent {
                    gone.push(thread.tid);
                }
                Times::default()
            });
            vcpus.push(Vcpu { index: thread.number, state: Some(RUNNING), time_ns: run_ns, wait_ns, delay_ns });
        }
        let current = u64::try_from(vcpus.len()).ok();
        ((!vcpus.is_empty()).then_some(VcpuSample { current, maximum: None, vcpus }), gone)
    }

    /// Looks for threads.
    fn scan(&mut self, reader: &mut Reader, place: Place<'_>) {
        let Ok(tids) = tids(place) else { return };
        let mut sorted = tids.clone();
        sorted.sort_unstable();
        let is_there = |tid: u32| sorted.binary_search(&tid).is_ok();
        self.vcpus.retain(|thread| is_there(thread.tid));
        self.iothreads.retain(|thread| is_there(thread.tid));
        self.others.retain(|tid| is_there(*tid));
        self.all().for_each(|thread| thread.is_silent = false);
        let main = self.main.tid;
        let main_name = reader.once(place, format_args!("task/{main}/comm")).unwrap_or_default().to_vec();
        // In the order in which they were made.
        for tid in tids {
            if self.others.contains(&tid) || self.all().any(|thread| thread.tid == tid) {
                continue;
            }
            let Ok(comm) = reader.once(place, format_args!("task/{tid}/comm")) else { continue };
            // A thread is made with the name of the one that makes it, and names itself a moment later: with the main
            // thread's name, or as a second one of its kind, it is asked again the next time.
            match role(comm.trim_ascii_end()) {
                Some(Role::Vcpu(number)) => add(&mut self.vcpus, number, tid),
                Some(Role::IoThread(number)) => add(&mut self.iothreads, number, tid),
                None if *comm == *main_name => {}
                None => self.others.push(tid),
            }
        }
        if let (None, Some(first)) = (self.waits, self.vcpus.first()) {
            let tid = first.tid;
            let text = reader.once(place, format_args!("task/{tid}/sched"));
            self.waits = Some(text.is_ok_and(|text| wait_sum(text).is_some()));
        }
    }
}

/// Adds a thread in its place, unless one has its number.
fn add(threads: &mut Vec<Thread>, number: u32, tid: u32) {
    if let Err(place) = threads.binary_search_by_key(&number, |thread| thread.number) {
        threads.insert(place, Thread::new(number, tid));
    }
}

/// The threads of a process.
fn tids(place: Place<'_>) -> Result<Vec<u32>, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let entries = Dir::new(openat(place.directory, "task", flags, Mode::empty())?)?;
    entries.filter_map(|entry| entry.map(|entry| small_number(entry.file_name().to_bytes())).transpose()).collect()
}

#[cfg(test)]
mod tests;
