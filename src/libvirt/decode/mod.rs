//! From libvirt's typed parameters to samples, by tables: a new figure is one row.
//!
//! What is in no table is ignored, and counted the first time that its kind is seen. A value of the wrong type or without
//! an index is lost alone. libvirt sends parameters in the order of its own code, so each search begins at the row after
//! the last hit and seldom takes more than one comparison.

mod tables;
#[cfg(test)]
mod tests;

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::Mutex;

use self::tables::{
    BALLOON, BLOCK, BLOCK_COUNTERS, BLOCK_EACH, CPU, CPU_TOTALS, NET, NET_EACH, STATE, Slot, Table, VCPU, VCPU_EACH,
};
use crate::model::{
    BalloonSample, Block, BlockSample, CpuSample, DecodeCounts, Figures, Interface, InterfaceSample, StateSample, Vcpu,
    VcpuSample,
};

/// The value of a typed parameter, integers widened.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// `int` or `llong`.
    Signed(i64),
    /// `uint` or `ullong`.
    Unsigned(u64),
    /// `string`, in whatever encoding.
    Text(&'a [u8]),
    /// Any other type.
    Other,
}

/// A device of a domain, found by its index.
trait Indexed {
    fn index(&self) -> u32;
    fn with_index(index: u32) -> Self;
}

macro_rules! indexed {
    ($($device:ident),*) => {$(
        impl Indexed for $device {
            fn index(&self) -> u32 {
                self.index
            }

            fn with_index(index: u32) -> Self {
                Self { index, ..Self::default() }
            }
        }
    )*};
}

indexed!(Vcpu, Interface, Block);

/// Decodes records. Clones share the memory of which unknown parameters were seen.
#[derive(Debug, Clone, Default)]
pub struct Decoder {
    unknown: Arc<Mutex<HashSet<String>>>,
}

impl Decoder {
    /// Decodes the parameters of one record. A group is `None` unless one of its marker keys came.
    pub fn figures<'a>(
        &self,
        params: impl Iterator<Item = (&'a [u8], Value<'a>)>,
        counts: &mut DecodeCounts,
    ) -> Figures {
        let mut scratch = Scratch::default();
        self.each(params, counts, |key, value, cursor| scratch.take(key, value, cursor));
        scratch.into_figures()
    }

    /// Decodes what `virDomainGetCPUStats` says of all CPUs together.
    pub(super) fn cpu_totals<'a>(
        &self,
        params: impl Iterator<Item = (&'a [u8], Value<'a>)>,
        counts: &mut DecodeCounts,
    ) -> CpuSample {
        let mut cpu = CpuSample::default();
        self.each(params, counts, |key, value, cursor| put(CPU_TOTALS, &mut cpu, key, value, cursor));
        cpu
    }

    /// Decodes what `virDomainBlockStatsFlags` says of one disk, whose index and name are the caller's to tell.
    pub(super) fn block_counters<'a>(
        &self,
        params: impl Iterator<Item = (&'a [u8], Value<'a>)>,
        counts: &mut DecodeCounts,
    ) -> Block {
        let mut block = Block::default();
        self.each(params, counts, |key, value, cursor| put(BLOCK_COUNTERS, &mut block, key, value, cursor));
        block
    }

    fn each<'a>(
        &self,
        params: impl Iterator<Item = (&'a [u8], Value<'a>)>,
        counts: &mut DecodeCounts,
        mut take: impl FnMut(&[u8], Value<'_>, &mut usize) -> Outcome,
    ) {
        let mut cursor = 0;
        for (key, value) in params {
            match take(key, value, &mut cursor) {
                Outcome::Taken => {}
                Outcome::WrongType => counts.wrong_type += 1,
                Outcome::BadIndex => counts.bad_index += 1,
                Outcome::Unknown => counts.unknown += u64::from(self.first_sight(key)),
            }
        }
    }

    /// Is this the first parameter of its kind (its name, with numbers taken out)?
    fn first_sight(&self, key: &[u8]) -> bool {
        let key = String::from_utf8_lossy(key);
        let kind = key
            .split('.')
            .map(|part| if part.bytes().all(|b| b.is_ascii_digit()) { "N" } else { part })
            .collect::<Vec<_>>()
            .join(".");
        let mut unknown = self.unknown.lock();
        // Whoever sends endless new names gets no memory of ours for it.
        if unknown.len() >= 1000 || unknown.contains(&kind) {
            return false;
        }
        tracing::debug!(parameter = %key, "libvirt sends a parameter that is in no table; it is ignored");
        unknown.insert(kind)
    }
}

#[derive(Clone, Copy)]
enum Outcome {
    Taken,
    WrongType,
    BadIndex,
    Unknown,
}

#[derive(Default)]
struct Scratch {
    state: StateSample,
    cpu: CpuSample,
    vcpu: VcpuSample,
    interface: InterfaceSample,
    block: BlockSample,
    balloon: BalloonSample,
}

impl Scratch {
    fn take(&mut self, key: &[u8], value: Value<'_>, cursor: &mut usize) -> Outcome {
        let Some(dot) = key.iter().position(|byte| *byte == b'.') else { return Outcome::Unknown };
        let rest = &key[dot + 1..];
        match &key[..dot] {
            b"state" => put(STATE, &mut self.state, rest, value, cursor),
            b"cpu" => put(CPU, &mut self.cpu, rest, value, cursor),
            b"balloon" => put(BALLOON, &mut self.balloon, rest, value, cursor),
            // Statistics that QEMU itself names (`vcpu.0.exits.sum`): many, and free to change.
            b"vcpu" if [&b".sum"[..], b".cur", b".max"].iter().any(|end| rest.ends_with(end)) => Outcome::Taken,
            b"vcpu" => match put(VCPU, &mut self.vcpu, rest, value, cursor) {
                Outcome::Unknown => put_indexed(VCPU_EACH, &mut self.vcpu.vcpus, rest, value, cursor),
                outcome => outcome,
            },
            b"net" => match put(NET, &mut self.interface, rest, value, cursor) {
                Outcome::Unknown => put_indexed(NET_EACH, &mut self.interface.interfaces, rest, value, cursor),
                outcome => outcome,
            },
            b"block" => match put(BLOCK, &mut self.block, rest, value, cursor) {
                Outcome::Unknown => put_indexed(BLOCK_EACH, &mut self.block.disks, rest, value, cursor),
                outcome => outcome,
            },
            _ => Outcome::Unknown,
        }
    }

    /// Keeps the groups whose marker came: a record that NOWAIT cut short has names and sizes, and no counters.
    fn into_figures(self) -> Figures {
        let vcpus = self.vcpu.vcpus.iter().any(|vcpu| vcpu.state.is_some() || vcpu.time_ns.is_some());
        let disks = self.block.count == Some(0) || self.block.disks.iter().any(|disk| disk.read.requests.is_some());
        Figures {
            state: self.state.state.is_some().then_some(self.state),
            cpu: self.cpu.time_ns.is_some().then_some(self.cpu),
            vcpu: vcpus.then_some(self.vcpu),
            interface: self.interface.count.is_some().then_some(self.interface),
            block: disks.then_some(self.block),
            balloon: (self.balloon != BalloonSample::default()).then_some(self.balloon),
        }
    }
}

fn put<T>(table: &Table<T>, target: &mut T, key: &[u8], value: Value<'_>, cursor: &mut usize) -> Outcome {
    let hit = |row: &&(&'static str, Slot<T>)| row.0.as_bytes() == key;
    let found = match table.get(*cursor).filter(hit) {
        Some(row) => Some((*cursor, row)),
        None => table.iter().enumerate().find(|(_, row)| hit(row)),
    };
    let Some((place, (_, slot))) = found else { return Outcome::Unknown };
    *cursor = place + 1;
    match (slot, value) {
        (Slot::U64(field), Value::Unsigned(number)) => *field(target) = Some(number),
        (Slot::U64(field), Value::Signed(number)) => match u64::try_from(number) {
            Ok(number) => *field(target) = Some(number),
            Err(_) => return Outcome::WrongType,
        },
        (Slot::I64(field), Value::Signed(number)) => *field(target) = Some(number),
        (Slot::I64(field), Value::Unsigned(number)) => match i64::try_from(number) {
            Ok(number) => *field(target) = Some(number),
            Err(_) => return Outcome::WrongType,
        },
        (Slot::Text(field), Value::Text(text)) => *field(target) = Some(String::from_utf8_lossy(text).into()),
        (Slot::Unused, _) => {}
        _ => return Outcome::WrongType,
    }
    Outcome::Taken
}

fn put_indexed<T: Indexed>(
    table: &Table<T>,
    devices: &mut Vec<T>,
    key: &[u8],
    value: Value<'_>,
    cursor: &mut usize,
) -> Outcome {
    if key.first().is_some_and(u8::is_ascii_alphabetic) {
        // A name where an index would be: a figure of the group as a whole that is not known yet.
        return Outcome::Unknown;
    }
    let digits = key.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let index = std::str::from_utf8(&key[..digits]).ok().and_then(|digits| digits.parse::<u32>().ok());
    let (Some(index), Some(b'.')) = (index, key.get(digits)) else { return Outcome::BadIndex };
    let place = match devices.last() {
        Some(last) if last.index() == index => devices.len() - 1,
        _ => devices.iter().position(|device| device.index() == index).unwrap_or_else(|| {
            devices.push(T::with_index(index));
            devices.len() - 1
        }),
    };
    put(table, &mut devices[place], &key[digits + 1..], value, cursor)
}
