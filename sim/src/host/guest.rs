//! A guest: what it is made of, whether it runs and since when, and what libvirt answers about it alone.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::disk::Disk;
use super::figures::{self, Memory};
use super::load::Moment;
use super::names;
use super::random::{self, Random, chance, pick};
use super::shape::{Balloon, Manager, Shape};
use super::{BlockInfo, Depth, GuestRef, Info, Params, Plan, Value, job, stats, xml};

/// Seconds of a day.
const DAY: u64 = 86_400;

/// libvirt's `virDomainState`.
pub(super) mod state {
    pub(in super::super) const RUNNING: i32 = 1;
    pub(in super::super) const PAUSED: i32 = 3;
    pub(in super::super) const SHUT_OFF: i32 = 5;
}

/// One vCPU as `virDomainGetVcpus` has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // libvirt's names.
pub struct VcpuInfo {
    pub number: u32,
    pub state: i32,
    pub cpu_time_ns: u64,
    pub cpu: i32,
}

/// A migration under way: `virDomainGetJobStats`.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// `virDomainJobType`.
    pub kind: i32,
    /// Times in ms, memory in bytes.
    pub params: Vec<(&'static str, Value<'static>)>,
}

/// From a start to the stop after it.
#[derive(Debug, Clone)]
pub(super) struct Run {
    pub(super) id: i32,
    /// When its counters were 0.
    pub(super) begun: SystemTime,
    /// How long it was paused since, the present pause left out.
    pub(super) paused: Duration,
    pub(super) paused_at: Option<SystemTime>,
    /// When its migration to another host began.
    pub(super) leaving: Option<SystemTime>,
}

impl Run {
    pub(super) fn new(id: i32, begun: SystemTime) -> Self {
        Self { id, begun, paused: Duration::ZERO, paused_at: None, leaving: None }
    }

    /// How long its vCPUs ran. In whole ms: a curve grows by more in one than its rounding takes away.
    pub(super) fn lasted(&self, now: SystemTime) -> Duration {
        let until = self.paused_at.map_or(now, |paused| paused.min(now));
        let lasted = until.duration_since(self.begun).unwrap_or_default().saturating_sub(self.paused);
        Duration::from_millis(u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX))
    }

    /// The second of the day at which it began.
    fn second_of_day(&self) -> f64 {
        let since = self.begun.duration_since(UNIX_EPOCH).unwrap_or_default();
        (since.as_secs() % DAY) as f64
    }
}

/// A guest of the host.
#[derive(Debug, Clone)]
pub struct Guest {
    pub(super) name: String,
    pub(super) uuid: [u8; 16],
    /// Its place in the order in which guests came.
    pub(super) number: u32,
    pub(super) persistent: bool,
    pub(super) state: i32,
    pub(super) reason: i32,
    pub(super) run: Option<Run>,
    pub(super) shape: Shape,
    /// How many devices were plugged in.
    plugged: u32,
}

impl Guest {
    /// One that is shut off.
    pub(super) fn new(seed: u64, number: u32, planned: bool) -> Self {
        let random = &mut random::of(seed, 0);
        let manager =
            pick(random, &[(40, Manager::Nova), (20, Manager::Ovirt), (12, Manager::KubeVirt), (28, Manager::Plain)]);
        let uuid = random::uuid(random);
        let name = names::name(random, manager, number);
        let shape = Shape::new(seed, number, planned, &name, manager, &uuid);
        // Unknown after a restart of libvirtd, shut down, destroyed, crashed, failed.
        let reason = pick(random, &[(30, 0), (40, 1), (25, 2), (3, 3), (2, 6)]);
        Self { name, uuid, number, persistent: true, state: state::SHUT_OFF, reason, run: None, shape, plugged: 0 }
    }

    /// Guest `number` of a plan, with the number of its run if it shall run.
    pub(super) fn planned(plan: &Plan, number: u32, run: Option<i32>) -> Self {
        let seed = random::of(plan.seed, u64::from(number) + 1).u64(..);
        let mut guest = Self::new(seed, number, true);
        let Some(id) = run else { return guest };
        let random = &mut random::of(seed, 5);
        // From two minutes to three months: about as many in the last hour as in the last day.
        let age = Duration::from_secs_f64(120.0 * 10_f64.powf(random.f64() * 4.81));
        guest.begin(id, plan.begun - age);
        guest.persistent = chance(random, 95);
        if chance(random, 2) {
            let since = age.mul_f64(random.f64());
            // By somebody, or an I/O error.
            guest.suspend(pick(random, &[(3, 1), (1, 5)]), plan.begun - since);
        }
        guest
    }

    /// Booted.
    pub(super) fn begin(&mut self, id: i32, now: SystemTime) {
        (self.state, self.reason) = (state::RUNNING, 1);
        self.run = Some(Run::new(id, now));
        self.shape.number_sources();
        self.shape.count_from_start();
    }

    /// Its run is over. What was written to its disks stays there.
    pub(super) fn end(&mut self, reason: i32, now: SystemTime) {
        self.keep_written(now);
        self.run = None;
        (self.state, self.reason) = (state::SHUT_OFF, reason);
    }

    /// The counters of its run are 0 now.
    pub(super) fn reset_counters(&mut self, now: SystemTime) {
        self.keep_written(now);
        if let Some(run) = &mut self.run {
            run.begun = now;
            run.paused = Duration::ZERO;
            run.paused_at = run.paused_at.map(|_| now);
        }
        self.shape.count_from_start();
    }

    fn keep_written(&mut self, now: SystemTime) {
        let Some(moment) = self.moment(now) else { return };
        for disk in &mut self.shape.disks {
            disk.filled = disk.held(disk.counters(&moment).wr_bytes);
        }
    }

    /// Its time stands still from now on.
    pub(super) fn suspend(&mut self, reason: i32, now: SystemTime) {
        if let Some(run) = &mut self.run {
            run.paused_at = Some(now);
            (self.state, self.reason) = (state::PAUSED, reason);
        }
    }

    pub(super) fn id(&self) -> i32 {
        self.run.as_ref().map_or(-1, |run| run.id)
    }

    /// The guest as the protocol names it.
    #[must_use]
    pub fn reference(&self) -> GuestRef {
        GuestRef { name: self.name.clone(), uuid: self.uuid, id: self.id() }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its UUID.
    #[must_use]
    pub fn uuid(&self) -> &[u8; 16] {
        &self.uuid
    }

    /// Has it a process? Paused ones have.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.run.is_some()
    }

    /// Is it still there when it does not run?
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        self.persistent
    }

    /// `virDomainGetState`: state and reason.
    #[must_use]
    pub fn state(&self) -> (i32, i32) {
        (self.state, self.reason)
    }

    /// `virDomainGetInfo`.
    #[must_use]
    pub fn info(&self, now: SystemTime) -> Info {
        Info {
            state: u8::try_from(self.state).unwrap_or(0),
            max_mem_kib: self.shape.memory_kib,
            memory_kib: self.shape.current_kib,
            vcpus: u16::try_from(self.shape.vcpus_current).unwrap_or(u16::MAX),
            cpu_time_ns: self.moment(now).map_or(0, |moment| figures::cpu(&self.shape, &moment).time()),
        }
    }

    /// `virDomainGetOSType`.
    #[must_use]
    pub fn os_type(&self) -> &'static str {
        "hvm"
    }

    /// `virDomainGetXMLDesc`.
    #[must_use]
    pub fn xml(&self) -> String {
        xml::domain(self)
    }

    /// Has it a balloon device? libvirt enters the monitor for the balloon group of such a guest only.
    #[must_use]
    pub fn has_balloon(&self) -> bool {
        self.shape.balloon != Balloon::None
    }

    /// Its record of `virConnectGetAllDomainStats`, in libvirt's order.
    pub fn stats(&self, groups: u32, depth: Depth, now: SystemTime, out: &mut dyn Params) {
        stats::record(self, groups, depth, now, out);
    }

    /// The targets of its disks, in the XML's order.
    pub fn disk_targets(&self) -> impl Iterator<Item = &str> {
        self.shape.disks.iter().map(|disk| disk.target.as_str())
    }

    /// Is there a disk of that target, or of that path?
    #[must_use]
    pub fn has_disk(&self, target_or_path: &str) -> bool {
        self.disk(target_or_path).is_some()
    }

    /// `virDomainGetBlockInfo`; None without such a disk, without a medium, and of a shut-off guest's remote disks.
    #[must_use]
    pub fn block_info(&self, target_or_path: &str, now: SystemTime) -> Option<BlockInfo> {
        let disk = self.disk(target_or_path).filter(|disk| disk.is_loaded())?;
        let written = self.moment(now).map(|moment| disk.counters(&moment).wr_bytes);
        let sizes = disk.sizes(written.unwrap_or(0));
        let allocation = sizes.taken.or(written.map(|_| sizes.highest))?;
        Some(BlockInfo { allocation, capacity: sizes.capacity, physical: sizes.length.unwrap_or(0) })
    }

    /// `virDomainBlockStatsFlags`; false if there is no such disk, or the guest does not run.
    pub fn block_counters(&self, target_or_path: &str, now: SystemTime, out: &mut dyn Params) -> bool {
        let (Some(disk), Some(moment)) = (self.disk(target_or_path), self.moment(now)) else { return false };
        let counters = disk.counters(&moment);
        for (name, value) in [
            ("wr_bytes", counters.wr_bytes),
            ("wr_operations", counters.wr_reqs),
            ("rd_bytes", counters.rd_bytes),
            ("rd_operations", counters.rd_reqs),
            ("flush_operations", counters.fl_reqs),
            ("wr_total_times", counters.wr_times),
            ("rd_total_times", counters.rd_times),
            ("flush_total_times", counters.fl_times),
        ] {
            out.put(name, Value::LLong(i64::try_from(value).unwrap_or(i64::MAX)));
        }
        true
    }

    /// `virDomainInterfaceStats`: bytes, packets, errors, drops received, then the same sent.
    #[must_use]
    pub fn interface_counters(&self, device: &str, now: SystemTime) -> Option<[i64; 8]> {
        let nic = self.shape.nics.iter().find(|nic| nic.is(device))?;
        let counters = nic.counters(&self.moment(now)?);
        Some(counters.map(|value| i64::try_from(value).unwrap_or(i64::MAX)))
    }

    /// `virDomainMemoryStats`: tags of `virDomainMemoryStatTags` and values; nothing of one that does not run.
    #[must_use]
    pub fn memory_stats(&self, now: SystemTime) -> Vec<(i32, u64)> {
        let Some(moment) = self.moment(now) else { return Vec::new() };
        let mut all = vec![(6, self.shape.current_kib)];
        if self.has_balloon() {
            let memory = self.memory(now);
            all.extend(memory.iter().flat_map(Memory::figures).map(|(tag, _, value)| (tag, value)));
            all.push((9, memory.map_or(0, |memory| memory.last_update)));
        }
        all.push((7, figures::resident_kib(&self.shape, &moment)));
        all
    }

    /// The totals of `virDomainGetCPUStats`; nothing of one that does not run.
    pub fn cpu_totals(&self, now: SystemTime, out: &mut dyn Params) {
        let Some(moment) = self.moment(now) else { return };
        let cpu = figures::cpu(&self.shape, &moment);
        out.put("cpu_time", Value::ULLong(cpu.time()));
        out.put("user_time", Value::ULLong(cpu.user));
        out.put("system_time", Value::ULLong(cpu.system));
    }

    /// `virDomainGetVcpus`; nothing of one that does not run.
    #[must_use]
    pub fn vcpu_infos(&self, now: SystemTime) -> Vec<VcpuInfo> {
        let Some(moment) = self.moment(now) else { return Vec::new() };
        let info = |number| {
            let vcpu = figures::vcpu(&self.shape, &moment, number);
            VcpuInfo { number, state: 1, cpu_time_ns: vcpu.time(), cpu: vcpu.host_cpu }
        };
        (0..self.shape.vcpus_current).map(info).collect()
    }

    /// `virDomainGetJobStats`, while there is a job.
    #[must_use]
    pub fn job(&self, now: SystemTime) -> Option<Job> {
        let begun = self.run.as_ref()?.leaving?;
        Some(job::migration(&self.shape, now.duration_since(begun).unwrap_or_default(), false))
    }

    /// Where its run is; None if it does not run.
    pub(super) fn moment(&self, now: SystemTime) -> Option<Moment> {
        let run = self.run.as_ref()?;
        Some(self.shape.load.at(run.second_of_day(), run.lasted(now).as_secs_f64()))
    }

    /// What its balloon driver last reported, if it does.
    pub(super) fn memory(&self, now: SystemTime) -> Option<Memory> {
        let run = self.run.as_ref().filter(|_| self.shape.balloon == Balloon::Reporting)?;
        let lasted = run.lasted(now);
        let age = Duration::from_millis(u64::try_from(lasted.as_millis()).unwrap_or(0) % figures::REPORT_MS);
        let at = run.paused_at.map_or(now, |paused| paused.min(now)) - age;
        let moment = self.shape.load.at(run.second_of_day(), (lasted - age).as_secs_f64());
        let last_update = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        Some(figures::memory(&self.shape, &moment, last_update))
    }

    fn disk(&self, target_or_path: &str) -> Option<&Disk> {
        let disks = &self.shape.disks;
        disks.iter().find(|disk| disk.target == target_or_path || disk.path() == Some(target_or_path))
    }

    /// A generator for the next device that is plugged in.
    pub(super) fn plug(&mut self) -> Random {
        self.plugged += 1;
        random::of(self.shape.seed, u64::from(self.plugged) << 8)
    }
}
