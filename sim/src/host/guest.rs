//! A guest, and what libvirt says of it.

use std::time::{Duration, SystemTime};

use super::{BlockInfo, Depth, GuestRef, Info, Params, Plan, Value};

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

/// A guest: what it is made of, whether it runs, and since when.
#[derive(Debug, Clone)]
pub struct Guest {
    name: String,
    uuid: [u8; 16],
    id: i32,
    begun: SystemTime,
    disks: Vec<String>,
}

impl Guest {
    pub(super) fn planned(plan: &Plan, number: u32) -> Self {
        let mut uuid = [0; 16];
        uuid[..4].copy_from_slice(&number.to_be_bytes());
        Self {
            name: format!("instance-{number:08x}"),
            uuid,
            id: if number % 1000 < plan.shut_off_per_mille { -1 } else { 0 },
            begun: plan.begun,
            disks: vec!["vda".to_owned()],
        }
    }

    pub(super) fn set_run(&mut self, id: i32) {
        self.id = id;
    }

    pub(super) fn id(&self) -> i32 {
        self.id
    }

    /// The guest as the protocol names it.
    #[must_use]
    pub fn reference(&self) -> GuestRef {
        GuestRef { name: self.name.clone(), uuid: self.uuid, id: self.id }
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
        self.id >= 0
    }

    /// Is it there when it does not run?
    #[must_use]
    pub fn is_persistent(&self) -> bool {
        true
    }

    /// `virDomainGetState`: state and reason.
    #[must_use]
    pub fn state(&self) -> (i32, i32) {
        if self.is_running() { (1, 1) } else { (5, 1) }
    }

    /// `virDomainGetInfo`.
    #[must_use]
    pub fn info(&self, now: SystemTime) -> Info {
        let cpu_time_ns = self.cpu_ns(now);
        Info { state: 1, max_mem_kib: 1 << 22, memory_kib: 1 << 22, vcpus: 1, cpu_time_ns }
    }

    /// `virDomainGetOSType`.
    #[must_use]
    pub fn os_type(&self) -> &'static str {
        "hvm"
    }

    /// `virDomainGetXMLDesc`.
    #[must_use]
    pub fn xml(&self) -> String {
        format!("<domain type='kvm'><name>{}</name></domain>", self.name)
    }

    /// Does its balloon driver report, so that libvirt enters the monitor for the balloon group?
    #[must_use]
    pub fn has_balloon(&self) -> bool {
        false
    }

    /// Its record of `virConnectGetAllDomainStats`, in libvirt's order.
    pub fn stats(&self, groups: u32, depth: Depth, now: SystemTime, out: &mut dyn Params) {
        let _ = (groups, depth);
        out.put("state.state", Value::Int(self.state().0));
        out.put("state.reason", Value::Int(self.state().1));
        out.put("cpu.time", Value::ULLong(self.cpu_ns(now)));
    }

    /// The targets of its disks, in the XML's order.
    pub fn disk_targets(&self) -> impl Iterator<Item = &str> {
        self.disks.iter().map(String::as_str)
    }

    /// Is there a disk of that target, or of that path?
    #[must_use]
    pub fn has_disk(&self, target_or_path: &str) -> bool {
        self.disk_targets().any(|target| target == target_or_path)
    }

    /// `virDomainGetBlockInfo`.
    #[must_use]
    pub fn block_info(&self, target_or_path: &str, now: SystemTime) -> Option<BlockInfo> {
        let _ = now;
        self.has_disk(target_or_path).then_some(BlockInfo { allocation: 0, capacity: 0, physical: 0 })
    }

    /// `virDomainBlockStatsFlags`; false if there is no such disk.
    pub fn block_counters(&self, target_or_path: &str, now: SystemTime, out: &mut dyn Params) -> bool {
        let _ = (now, out);
        self.has_disk(target_or_path)
    }

    /// `virDomainInterfaceStats`: bytes, packets, errors, drops received, then the same sent.
    #[must_use]
    pub fn interface_counters(&self, device: &str, now: SystemTime) -> Option<[i64; 8]> {
        let _ = (device, now);
        None
    }

    /// `virDomainMemoryStats`: tags of `virDomainMemoryStatTags` and values.
    #[must_use]
    pub fn memory_stats(&self, now: SystemTime) -> Vec<(i32, u64)> {
        let _ = now;
        Vec::new()
    }

    /// The totals of `virDomainGetCPUStats`.
    pub fn cpu_totals(&self, now: SystemTime, out: &mut dyn Params) {
        out.put("cpu_time", Value::ULLong(self.cpu_ns(now)));
    }

    /// `virDomainGetVcpus`.
    #[must_use]
    pub fn vcpu_infos(&self, now: SystemTime) -> Vec<VcpuInfo> {
        let _ = now;
        Vec::new()
    }

    /// `virDomainGetJobStats`, while there is a job.
    #[must_use]
    pub fn job(&self, now: SystemTime) -> Option<Job> {
        let _ = now;
        None
    }

    fn cpu_ns(&self, now: SystemTime) -> u64 {
        let run = now.duration_since(self.begun).unwrap_or(Duration::ZERO);
        u64::try_from(run.as_nanos() / 10).unwrap_or(u64::MAX)
    }
}
