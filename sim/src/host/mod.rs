//! The guests of the simulated host: what they are made of, how their figures grow, what their XML says.
//!
//! Knows nothing of sockets and of faults. Time is handed in.

mod apply;
mod change;
mod disk;
mod figures;
mod guest;
mod job;
mod load;
mod names;
mod nic;
mod qemu;
mod random;
mod shape;
mod stats;
mod storage;
#[cfg(test)]
mod tests;
mod xml;

use std::collections::{BTreeMap, HashMap};
use std::time::SystemTime;

pub use change::{Change, Event, EventKind, Refused, Told};
pub use guest::{Guest, Job, VcpuInfo};

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

/// All guests, running or not.
#[derive(Debug)]
pub struct Host {
    plan: Plan,
    /// In the order in which they came; a number is never used twice.
    guests: BTreeMap<u32, Guest>,
    by_uuid: HashMap<[u8; 16], u32>,
    by_name: HashMap<String, u32>,
    by_run: BTreeMap<i32, u32>,
    next: u32,
    next_run: i32,
}

impl Host {
    /// The host of a plan: the same guests each time.
    #[must_use]
    pub fn new(plan: Plan) -> Self {
        let mut host = Self {
            guests: BTreeMap::new(),
            by_uuid: HashMap::new(),
            by_name: HashMap::new(),
            by_run: BTreeMap::new(),
            next: 0,
            next_run: 1,
            plan,
        };
        for number in 0..host.plan.domains {
            let run = (!host.plan.is_shut_off(number)).then(|| host.new_run());
            let guest = Guest::planned(&host.plan, number, run);
            host.add(guest);
        }
        host.share_an_address();
        host
    }

    /// What it was made from.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// How many guests there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.guests.len()
    }

    /// Are there none?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.guests.is_empty()
    }

    /// All guests, those that came first first.
    pub fn guests(&self) -> impl Iterator<Item = &Guest> {
        self.guests.values()
    }

    /// The guest of a UUID.
    #[must_use]
    pub fn get(&self, uuid: &[u8; 16]) -> Option<&Guest> {
        self.guests.get(self.by_uuid.get(uuid)?)
    }

    /// The guest of a name.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<&Guest> {
        self.guests.get(self.by_name.get(name)?)
    }

    /// The guest that a run's number belongs to.
    #[must_use]
    pub fn by_run(&self, id: i32) -> Option<&Guest> {
        self.guests.get(self.by_run.get(&id)?)
    }

    /// The number of the next run.
    fn new_run(&mut self) -> i32 {
        self.next_run += 1;
        self.next_run - 1
    }

    fn add(&mut self, guest: Guest) {
        let number = guest.number;
        self.next = self.next.max(number + 1);
        self.by_uuid.insert(*guest.uuid(), number);
        self.by_name.insert(guest.name().to_owned(), number);
        if guest.is_running() {
            self.by_run.insert(guest.id(), number);
        }
        self.guests.insert(number, guest);
    }

    /// Two NICs have the same MAC address, as happens after copying a guest.
    fn share_an_address(&mut self) {
        let mut pair = self
            .guests
            .values_mut()
            .filter(|guest| guest.is_running())
            .skip(1)
            .filter_map(|guest| guest.shape.nics.first_mut());
        if let (Some(one), Some(other)) = (pair.next(), pair.next()) {
            other.mac = one.mac;
        }
    }
}

impl Plan {
    /// The shut-off ones are spread evenly.
    fn is_shut_off(&self, number: u32) -> bool {
        let so_far = |count: u32| u64::from(count) * u64::from(self.shut_off_per_mille.min(1000)) / 1000;
        so_far(number + 1) > so_far(number)
    }
}
