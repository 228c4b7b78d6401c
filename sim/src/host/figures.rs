//! Processor and memory of a guest at a moment of its run.

use super::load::Moment;
use super::shape::Shape;

/// How often a balloon driver reports, ms.
pub(super) const REPORT_MS: u64 = 10_000;

const SECOND: f64 = 1e9;

/// The kernel counts a thread's time in these, ns.
const TICK: u64 = 10_000_000;

/// Host CPUs that vCPUs run on.
const HOST_CPUS: u32 = 16;

/// CPU time of the whole QEMU process, ns. As cgroups have it: in whole microseconds, and user + system is all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cpu {
    pub(super) user: u64,
    pub(super) system: u64,
}

impl Cpu {
    pub(super) fn time(self) -> u64 {
        self.user + self.system
    }
}

/// One vCPU.
#[derive(Debug, Clone, Copy)]
pub(super) struct Vcpu {
    /// Seconds that it computed.
    pub(super) busy: f64,
    /// Runnable, but without a CPU, ns.
    pub(super) delay: u64,
    /// Waiting, ns.
    pub(super) wait: u64,
    /// Does it wait for an interrupt at this moment?
    pub(super) blocking: bool,
    pub(super) host_cpu: i32,
}

impl Vcpu {
    /// As libvirt has it from /proc: in whole ticks.
    pub(super) fn time(&self) -> u64 {
        (self.busy * SECOND) as u64 / TICK * TICK
    }
}

/// What a vCPU does that others of the guest do not.
fn salt(shape: &Shape, number: u32) -> u32 {
    let seed = shape.seed.to_be_bytes();
    let seed = u32::from_be_bytes([seed[0], seed[1], seed[2], seed[3]]);
    (seed ^ number.wrapping_mul(0x9e37_79b9)).wrapping_mul(0x85eb_ca6b)
}

/// Seconds that a vCPU computed. All but the first have a share of the load of half to all.
fn busy(shape: &Shape, moment: &Moment, number: u32) -> f64 {
    let salt = salt(shape, number);
    let share = if number == 0 { 1.0 } else { 1.0 - f64::from(salt >> 16) / 131_072.0 };
    moment.count(shape.load.cpu * share, salt)
}

/// A vCPU at a moment.
pub(super) fn vcpu(shape: &Shape, moment: &Moment, number: u32) -> Vcpu {
    let salt = salt(shape, number);
    let busy = busy(shape, moment, number);
    // How crowded the host is for this guest: up to a twentieth of what it computes.
    let crowd = f64::from(salt & 0xff) / 255.0 / 20.0;
    let second = moment.seconds as u64;
    let lot = second.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(u64::from(salt)) >> 40;
    let host_cpu = (u32::try_from(second / 8 % 1024).unwrap_or(0) + salt) % HOST_CPUS;
    Vcpu {
        busy,
        delay: (busy * crowd * SECOND) as u64 + (moment.seconds * 20_000.0) as u64,
        wait: (busy * crowd * 0.1 * SECOND) as u64,
        blocking: (lot % 1000) as f64 >= shape.load.cpu * 1000.0,
        host_cpu: i32::try_from(host_cpu).unwrap_or(0),
    }
}

/// The CPU time of the process: its vCPUs, and QEMU's own work for the devices.
pub(super) fn cpu(shape: &Shape, moment: &Moment) -> Cpu {
    let vcpus: f64 = (0..shape.vcpus_current).map(|number| busy(shape, moment, number)).sum();
    let devices = (shape.disks.len() + shape.nics.len()) as f64;
    let own = moment.count(0.001 + shape.load.cpu * 0.02 * devices, salt(shape, u32::MAX)) + moment.seconds * 0.0005;
    let micros = |seconds: f64| (seconds * 1e6) as u64 * 1000;
    Cpu { user: micros(vcpus * 0.88 + own * 0.4), system: micros(vcpus * 0.12 + own * 0.6) }
}

/// What the balloon driver reports; KiB but for the faults, the time, and the huge pages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    swap_in: u64,
    swap_out: u64,
    major_fault: u64,
    minor_fault: u64,
    unused: u64,
    available: u64,
    usable: u64,
    /// Seconds since 1970.
    pub(super) last_update: u64,
    disk_caches: u64,
    hugetlb_pgalloc: u64,
}

impl Memory {
    /// `virDomainMemoryStatTags`, the parameter of the bulk call, and the value; all but the last update.
    pub(super) fn figures(&self) -> [(i32, &'static str, u64); 10] {
        [
            (0, "balloon.swap_in", self.swap_in),
            (1, "balloon.swap_out", self.swap_out),
            (2, "balloon.major_fault", self.major_fault),
            (3, "balloon.minor_fault", self.minor_fault),
            (4, "balloon.unused", self.unused),
            (5, "balloon.available", self.available),
            (8, "balloon.usable", self.usable),
            (10, "balloon.disk_caches", self.disk_caches),
            (11, "balloon.hugetlb_pgalloc", self.hugetlb_pgalloc),
            (12, "balloon.hugetlb_pgfail", 0),
        ]
    }
}

/// The report of a moment.
pub(super) fn memory(shape: &Shape, moment: &Moment, last_update: u64) -> Memory {
    let salt = salt(shape, 0x00ff_ffff);
    // The guest's kernel keeps some for itself.
    let available = shape.current_kib - shape.current_kib / 40 - 20_480;
    let base = 0.15 + 0.55 * f64::from(salt & 0xffff) / 65_535.0;
    let used = base + 0.2 * moment.swing(7200.0, salt) + 0.05 * moment.swing(240.0, salt >> 8);
    let free = available as f64 * (1.0 - used);
    let disk_caches = (free * (0.3 + 0.4 * f64::from(salt >> 24) / 255.0)) as u64;
    let unused = free as u64 - disk_caches;
    let swap = if shape.swaps { 3.0 } else { 0.0 };
    let count = |rate: f64, n: u32| moment.count(rate, salt.rotate_right(n)) as u64;
    Memory {
        swap_in: count(swap, 3) * 4,
        swap_out: count(swap * 1.4, 6) * 4,
        major_fault: count(0.1 + swap, 9),
        minor_fault: count(120.0 + 4000.0 * shape.load.cpu, 12),
        unused,
        available,
        usable: unused + disk_caches / 10 * 9,
        last_update,
        disk_caches,
        hugetlb_pgalloc: if shape.hugepages { 512 } else { 0 },
    }
}

/// What of QEMU is in the host's memory, KiB: nearly all after some hours; huge pages do not count.
pub(super) fn resident_kib(shape: &Shape, moment: &Moment) -> u64 {
    const QEMU: u64 = 61_440;
    if shape.hugepages {
        return QEMU;
    }
    let touched = moment.seconds / (moment.seconds + 1800.0);
    QEMU + (shape.current_kib as f64 * (0.15 + 0.8 * touched)) as u64 / 4 * 4
}
