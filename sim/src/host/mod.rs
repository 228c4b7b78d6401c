//! The guests of the simulated host: what they are made of, how their figures grow, what their XML says.
//!
//! Knows nothing of sockets and of faults. Time is handed in.

use std::time::SystemTime;

/// What the host is like; the same plan makes the same host.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Where all that looks random comes from.
    pub seed: u64,
    /// How many guests there are, shut-off ones included.
    pub domains: u32,
    /// How many of a thousand are shut off.
    pub shut_off_per_mille: u32,
    /// When the host began: running guests started some time before it.
    pub begun: SystemTime,
}

/// The stats groups of `virConnectGetAllDomainStats`, as its bits.
pub mod groups {
    #![allow(missing_docs)] // libvirt's names.
    pub const STATE: u32 = 1;
    pub const CPU_TOTAL: u32 = 2;
    pub const BALLOON: u32 = 4;
    pub const VCPU: u32 = 8;
    pub const INTERFACE: u32 = 16;
    pub const BLOCK: u32 = 32;
    pub const PERF: u32 = 64;
    pub const IOTHREAD: u32 = 128;
    pub const MEMORY: u32 = 256;
    pub const DIRTYRATE: u32 = 512;
    pub const VM: u32 = 1024;
    pub const ALL: u32 = 2047;
}

/// The value of a typed parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)] // libvirt's names.
pub enum Value<'a> {
    Int(i32),
    UInt(u32),
    LLong(i64),
    ULLong(u64),
    Double(f64),
    Boolean(bool),
    Text(&'a str),
}

/// Takes the typed parameters of a record, one by one.
pub trait Params {
    /// Takes one.
    fn put(&mut self, name: &str, value: Value<'_>);
}

/// How much of a record is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// All of it.
    Whole,
    /// What libvirtd has without entering the monitor.
    NoMonitor,
}

/// A guest as the protocol names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GuestRef {
    /// Name.
    pub name: String,
    /// UUID.
    pub uuid: [u8; 16],
    /// libvirt's number of the run; -1 if it does not run.
    pub id: i32,
}

/// `virDomainGetInfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // libvirt's names.
pub struct Info {
    pub state: u8,
    pub max_mem_kib: u64,
    pub memory_kib: u64,
    pub vcpus: u16,
    pub cpu_time_ns: u64,
}

/// `virDomainGetBlockInfo`, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // libvirt's names.
pub struct BlockInfo {
    pub allocation: u64,
    pub capacity: u64,
    pub physical: u64,
}
