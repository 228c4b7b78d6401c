//! Memory, swap space, huge pages, NUMA nodes and merged pages.

use super::super::table::{self, Field, Json, Record, Row, Write};
use super::{Host, Machine};
use crate::model::host::{HostSample, Hugepages, Ksm, Memory, NumaNode};

/// Bytes become MiB by so many bits.
const MIB: u32 = 20;

pub(super) static FIELDS: &[Field<Host>] = &[
    Field::new(
        "memUsed",
        Json::String,
        "%",
        "100 less the whole percent of `MemTotal` of /proc/meminfo that `MemFree`, `Cached`, `Buffers` and `SReclaimable` are together.",
        |host, slot| slot.quoted(used_percent(free(host)?, host.newest.memory.total_bytes?)?),
    ),
    Field::new(
        "memFree",
        Json::Number,
        "MiB",
        "`MemFree`, `Cached`, `Buffers` and `SReclaimable` together.",
        |host, slot| slot.number(free(host)? >> MIB),
    ),
    Field::new("swapTotal", Json::Number, "MiB", "`SwapTotal`.", |host, slot| {
        slot.number(host.newest.swap.total_bytes? >> MIB)
    }),
    Field::new("swapFree", Json::Number, "MiB", "`SwapFree`.", |host, slot| {
        slot.number(host.newest.swap.free_bytes? >> MIB)
    }),
    Field::new("anonHugePages", Json::String, "MiB", "`AnonHugePages`.", |host, slot| {
        slot.quoted(host.newest.transparent_hugepages.anonymous_bytes? >> MIB)
    }),
    Field::new(
        "hugepages",
        Json::Map,
        "",
        "A record for each size of huge pages, by the size in KiB.",
        |host, slot| slot.map(POOL, pools(&host.newest.hugepages)),
    ),
    Field::new(
        "thpState",
        Json::String,
        "",
        "\"always\", \"madvise\" or \"never\": the word in brackets in /sys/kernel/mm/transparent_hugepage/enabled.",
        |host, slot| slot.text(host.newest.transparent_hugepages.mode.as_deref()?),
    ),
    Field::new(
        "numaNodeMemFree",
        Json::Map,
        "",
        "A record for each NUMA node, by its number; a host without NUMA is node 0.",
        |host, slot| slot.map(NODE, nodes(host.newest).into_iter().map(|node| (node.number.to_string(), node))),
    ),
    Field::new(
        "ksmState",
        Json::Boolean,
        "",
        "Does the kernel merge equal pages? `run` in /sys/kernel/mm/ksm is not 0.",
        |host, slot| slot.boolean(ksm(host)?.run? != 0),
    ),
    Field::new("ksmPages", Json::Number, "pages", "`pages_to_scan`.", |host, slot| {
        slot.number(ksm(host)?.pages_to_scan?)
    }),
    Field::new("ksmMergeAcrossNodes", Json::Boolean, "", "`merge_across_nodes` is not 0.", |host, slot| {
        slot.boolean(ksm(host)?.merge_across_nodes? != 0)
    }),
    Field::new(
        "memShared",
        Json::Number,
        "bytes",
        "`pages_sharing` times the size of a page. Bytes, as VDSM's schema says; VDSM itself sends MiB.",
        |host, slot| {
            let ksm = ksm(host)?;
            slot.number(ksm.pages_sharing?.checked_mul(ksm.page_bytes)?)
        },
    ),
    Field::new(
        "ksmCpu",
        Json::Number,
        "% of one CPU",
        "CPU time of the kernel's thread `ksmd`, between the two newest looks, in whole numbers.",
        |host, slot| {
            let rate = host.rate(|it| it.ksm.as_ref()?.ksmd_time_ns)?;
            // One thread takes no more than one CPU.
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            slot.number((rate * 100.0 / 1e9).round() as u64)
        },
    ),
];

pub(super) fn records() -> [(&'static str, &'static str, Vec<Row>); 3] {
    [
        ("HostStats.hugepages", "each size, in KiB", table::rows(POOL)),
        ("HostStats.numaNodeMemFree", "each NUMA node", table::rows(NODE)),
        ("HostStats.numaNodeMemFree.hugepages", "each size, in KiB", table::rows(NODE_POOL)),
    ]
}

fn free(host: &Machine<'_>) -> Option<u64> {
    let it = &host.newest.memory;
    let parts = [it.free_bytes?, it.cached_bytes?, it.buffers_bytes?, it.slab_reclaimable_bytes?];
    parts.into_iter().try_fold(0_u64, u64::checked_add)
}

fn ksm<'a>(host: &Machine<'a>) -> Option<&'a Ksm> {
    host.newest.ksm.as_ref()
}

/// 100 less the whole percent that is free.
fn used_percent(free: u64, total: u64) -> Option<u64> {
    let free = (u128::from(free) * 100).checked_div(u128::from(total))?;
    100_u64.checked_sub(u64::try_from(free).ok()?)
}

fn pools(pools: &[Hugepages]) -> impl Iterator<Item = (String, &Hugepages)> {
    pools.iter().map(|pool| ((pool.size_bytes >> 10).to_string(), pool))
}

pub(super) enum PoolRecord {}

impl Record for PoolRecord {
    type Of<'a> = &'a Hugepages;
}

static POOL: &[Field<PoolRecord>] = &[
    pages("nr_hugepages", "The file of that name below /sys/kernel/mm/hugepages, like the next five.", |pool, slot| {
        slot.number(pool.total?)
    }),
    pages("free_hugepages", "", |pool, slot| slot.number(pool.free?)),
    pages("resv_hugepages", "", |pool, slot| slot.number(pool.reserved?)),
    pages("surplus_hugepages", "", |pool, slot| slot.number(pool.surplus?)),
    pages("nr_hugepages_mempolicy", "", |pool, slot| slot.number(pool.mempolicy?)),
    pages("nr_overcommit_hugepages", "", |pool, slot| slot.number(pool.overcommit?)),
    pages("vm.free_hugepages", "free_hugepages, as VDSM in effect says too.", |pool, slot| slot.number(pool.free?)),
];

const fn pages(name: &'static str, what: &'static str, write: Write<PoolRecord>) -> Field<PoolRecord> {
    Field::<PoolRecord>::number(name, "pages", what, write)
}

pub(super) enum NodeRecord {}

impl Record for NodeRecord {
    type Of<'a> = Node<'a>;
}

pub(super) struct Node<'a> {
    number: u32,
    free_bytes: Option<u64>,
    total_bytes: Option<u64>,
    hugepages: &'a [Hugepages],
}

/// A host without NUMA is one node, for libvirt as well.
fn nodes<'a>(host: &'a HostSample) -> Vec<Node<'a>> {
    if host.numa_nodes.is_empty() {
        let Memory { free_bytes, total_bytes, .. } = host.memory;
        return vec![Node { number: 0, free_bytes, total_bytes, hugepages: &host.hugepages }];
    }
    let node = |it: &'a NumaNode| Node {
        number: it.node,
        free_bytes: it.memory_free_bytes,
        total_bytes: it.memory_total_bytes,
        hugepages: &it.hugepages,
    };
    host.numa_nodes.iter().map(node).collect()
}

static NODE: &[Field<NodeRecord>] = &[
    Field {
        name: "memFree",
        json: Json::String,
        unit: "MiB",
        what: "`MemFree` of the node: what caches take is not free here.",
        write: |node, slot| slot.quoted(node.free_bytes? >> MIB),
    },
    Field {
        name: "memPercent",
        json: Json::Number,
        unit: "%",
        what: "100 less the whole percent of its memory that is free; 100 of a node without memory.",
        write: |node, slot| {
            let (free, total) = (node.free_bytes? >> MIB, node.total_bytes? >> MIB);
            slot.number(if total == 0 { 100 } else { used_percent(free, total)? })
        },
    },
    Field {
        name: "hugepages",
        json: Json::Map,
        unit: "",
        what: "A record for each size of huge pages, by the size in KiB.",
        write: |node, slot| slot.map(NODE_POOL, pools(node.hugepages)),
    },
];

static NODE_POOL: &[Field<PoolRecord>] =
    &[pages("freePages", "`free_hugepages` of the node.", |pool, slot| slot.number(pool.free?))];
