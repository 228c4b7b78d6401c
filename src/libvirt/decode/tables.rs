//! Which parameter goes where: a new figure of libvirt is one row here.

use crate::model::{
    BalloonSample, Block, BlockSample, CpuSample, Interface, InterfaceSample, StateSample, Vcpu, VcpuSample,
};

/// Where a value goes.
pub(super) enum Slot<T> {
    U64(fn(&mut T) -> &mut Option<u64>),
    I64(fn(&mut T) -> &mut Option<i64>),
    Text(fn(&mut T) -> &mut Option<Box<str>>),
    /// Known, and nothing exports it.
    Unused,
}

use Slot::{I64, Text, U64, Unused};

pub(super) type Table<T> = [(&'static str, Slot<T>)];

pub(super) static STATE: &Table<StateSample> = &[("state", I64(|s| &mut s.state)), ("reason", I64(|s| &mut s.reason))];

pub(super) static CPU: &Table<CpuSample> = &[
    ("time", U64(|s| &mut s.time_ns)),
    ("user", U64(|s| &mut s.user_ns)),
    ("system", U64(|s| &mut s.system_ns)),
    ("haltpoll.success.time", Unused),
    ("haltpoll.fail.time", Unused),
    ("cache.monitor.count", Unused),
];

pub(super) static BALLOON: &Table<BalloonSample> = &[
    ("current", U64(|s| &mut s.current_kib)),
    ("maximum", U64(|s| &mut s.maximum_kib)),
    ("swap_in", U64(|s| &mut s.swap_in_kib)),
    ("swap_out", U64(|s| &mut s.swap_out_kib)),
    ("major_fault", U64(|s| &mut s.major_faults)),
    ("minor_fault", U64(|s| &mut s.minor_faults)),
    ("unused", U64(|s| &mut s.unused_kib)),
    ("available", U64(|s| &mut s.available_kib)),
    ("usable", U64(|s| &mut s.usable_kib)),
    ("last-update", U64(|s| &mut s.last_update_s)),
    ("disk_caches", U64(|s| &mut s.disk_caches_kib)),
    ("hugetlb_pgalloc", U64(|s| &mut s.hugetlb_pgalloc)),
    ("hugetlb_pgfail", U64(|s| &mut s.hugetlb_pgfail)),
    ("rss", U64(|s| &mut s.rss_kib)),
];

pub(super) static VCPU: &Table<VcpuSample> =
    &[("current", U64(|s| &mut s.current)), ("maximum", U64(|s| &mut s.maximum))];

pub(super) static VCPU_EACH: &Table<Vcpu> = &[
    ("state", I64(|v| &mut v.state)),
    ("time", U64(|v| &mut v.time_ns)),
    ("wait", U64(|v| &mut v.wait_ns)),
    ("halted", Unused),
    ("delay", U64(|v| &mut v.delay_ns)),
];

pub(super) static NET: &Table<InterfaceSample> = &[("count", U64(|s| &mut s.count))];

pub(super) static NET_EACH: &Table<Interface> = &[
    ("name", Text(|i| &mut i.name)),
    ("rx.bytes", U64(|i| &mut i.receive.bytes)),
    ("rx.pkts", U64(|i| &mut i.receive.packets)),
    ("rx.errs", U64(|i| &mut i.receive.errors)),
    ("rx.drop", U64(|i| &mut i.receive.drops)),
    ("tx.bytes", U64(|i| &mut i.transmit.bytes)),
    ("tx.pkts", U64(|i| &mut i.transmit.packets)),
    ("tx.errs", U64(|i| &mut i.transmit.errors)),
    ("tx.drop", U64(|i| &mut i.transmit.drops)),
];

pub(super) static BLOCK: &Table<BlockSample> = &[("count", U64(|s| &mut s.count))];

pub(super) static BLOCK_EACH: &Table<Block> = &[
    ("name", Text(|b| &mut b.name)),
    ("path", Text(|b| &mut b.path)),
    ("backingIndex", Unused),
    ("rd.reqs", U64(|b| &mut b.read.requests)),
    ("rd.bytes", U64(|b| &mut b.read.bytes)),
    ("rd.times", U64(|b| &mut b.read.time_ns)),
    ("wr.reqs", U64(|b| &mut b.write.requests)),
    ("wr.bytes", U64(|b| &mut b.write.bytes)),
    ("wr.times", U64(|b| &mut b.write.time_ns)),
    ("fl.reqs", U64(|b| &mut b.flush.requests)),
    ("fl.times", U64(|b| &mut b.flush.time_ns)),
    ("allocation", U64(|b| &mut b.allocation_bytes)),
    ("capacity", U64(|b| &mut b.capacity_bytes)),
    ("physical", U64(|b| &mut b.physical_bytes)),
    ("threshold", Unused),
    ("errors", Unused),
];

/// Of `virDomainGetCPUStats`.
pub(super) static CPU_TOTALS: &Table<CpuSample> = &[
    ("cpu_time", U64(|s| &mut s.time_ns)),
    ("user_time", U64(|s| &mut s.user_ns)),
    ("system_time", U64(|s| &mut s.system_ns)),
    ("vcpu_time", Unused),
];

/// Of `virDomainBlockStatsFlags`.
pub(super) static BLOCK_COUNTERS: &Table<Block> = &[
    ("wr_bytes", U64(|b| &mut b.write.bytes)),
    ("wr_operations", U64(|b| &mut b.write.requests)),
    ("rd_bytes", U64(|b| &mut b.read.bytes)),
    ("rd_operations", U64(|b| &mut b.read.requests)),
    ("flush_operations", U64(|b| &mut b.flush.requests)),
    ("wr_total_times", U64(|b| &mut b.write.time_ns)),
    ("rd_total_times", U64(|b| &mut b.read.time_ns)),
    ("flush_total_times", U64(|b| &mut b.flush.time_ns)),
    ("errs", Unused),
];
