//! Memory: what the guest says of it, and the balloon.

use super::super::table::{self, Field, Json, Record, Row};
use super::{Guest, Pair, Vm};
use crate::model::{BalloonSample, DomainDescription, Group};

const KIB_PER_MIB: u64 = 1024;

pub(super) static FIELDS: &[Field<Vm>] = &[
    Field::string(
        "memUsage",
        "%",
        "What of `<memory>` the guest does not have free (memoryStats.mem_free), rounded down as VDSM does. VDSM asks its agent in \
         the guest first.",
        |vm, slot| {
            let total_mib = vm.xml?.memory_maximum_kib? / KIB_PER_MIB;
            slot.quoted(used_percent(free_kib(&stats(vm)?.newest.figures)?, total_mib)?)
        },
    ),
    Field::new(
        "memoryStats",
        Json::Object,
        "",
        "What the guest's balloon driver says. Only if `balloon.available` came, for which the domain needs `<stats period>` in its \
         `<memballoon>`.",
        |vm, slot| slot.object(STATS, &stats(vm)?),
    ),
    Field::new(
        "balloonInfo",
        Json::Object,
        "",
        "The balloon. Only if the XML has exactly one `<memballoon>`, and there is a sample.",
        |vm, slot| {
            let xml = vm.xml.filter(|xml| xml.balloons == 1)?;
            slot.object(BALLOON, &Balloon { xml, sample: &sample(vm)?.newest.figures })
        },
    ),
];

pub(super) fn records() -> [(&'static str, &'static str, Vec<Row>); 2] {
    [
        ("RunningVmStats.memoryStats", "what the guest says of its memory", table::rows(STATS)),
        ("RunningVmStats.balloonInfo", "the balloon", table::rows(BALLOON)),
    ]
}

fn sample<'a>(vm: &Guest<'a>) -> Option<Pair<'a, BalloonSample>> {
    vm.pair(&vm.domain.windows.balloon, Group::Balloon)
}

fn stats<'a>(vm: &Guest<'a>) -> Option<Pair<'a, BalloonSample>> {
    sample(vm).filter(|sample| sample.newest.figures.available_kib.is_some())
}

/// Whole percent of memory that is not free; a guest that has more free than it can have says nothing.
fn used_percent(free_kib: u64, total_mib: u64) -> Option<u64> {
    // Memory in KiB stays far below 2^53, where f64 is exact; the result is between 0 and 100.
    #[allow(clippy::cast_precision_loss)]
    let free = free_kib as f64 / KIB_PER_MIB as f64 / total_mib as f64 * 100.0;
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (0.0..=100.0).contains(&free).then_some((100.0 - free) as u64)
}

/// What the guest could use at once; not every guest tells its caches.
fn free_kib(balloon: &BalloonSample) -> Option<u64> {
    balloon.unused_kib?.checked_add(balloon.disk_caches_kib.unwrap_or_default())
}

pub(super) enum Stats {}

impl Record for Stats {
    type Of<'a> = Pair<'a, BalloonSample>;
}

static STATS: &[Field<Stats>] = &[
    Field::string("mem_total", "KiB", "`balloon.available`.", |it, slot| slot.quoted(it.newest.figures.available_kib?)),
    Field::string("mem_unused", "KiB", "`balloon.unused`.", |it, slot| slot.quoted(it.newest.figures.unused_kib?)),
    Field::string(
        "mem_free",
        "KiB",
        "`balloon.unused`, and `balloon.disk_caches` on top where the guest tells it.",
        |it, slot| slot.quoted(free_kib(&it.newest.figures)?),
    ),
    Field::number(
        "swap_in",
        "KiB/s",
        "`balloon.swap_in`, between the two newest samples, in whole numbers.",
        |it, slot| slot.number(whole(it.rate(|it| it.swap_in_kib)?)?),
    ),
    Field::number("swap_out", "KiB/s", "`balloon.swap_out`, likewise.", |it, slot| {
        slot.number(whole(it.rate(|it| it.swap_out_kib)?)?)
    }),
    Field::number("majflt", "1/s", "`balloon.major_fault`, likewise.", |it, slot| slot.number(major(it)?)),
    Field::number("minflt", "1/s", "`balloon.minor_fault`, likewise.", |it, slot| slot.number(minor(it)?)),
    Field::number("pageflt", "1/s", "majflt and minflt together.", |it, slot| slot.number(major(it)? + minor(it)?)),
];

fn major(it: &Pair<'_, BalloonSample>) -> Option<u64> {
    whole(it.rate(|it| it.major_faults)?)
}

fn minor(it: &Pair<'_, BalloonSample>) -> Option<u64> {
    whole(it.rate(|it| it.minor_faults)?)
}

/// As Python rounds: a half goes to the even number.
fn whole(rate: f64) -> Option<u64> {
    let rate = rate.round_ties_even();
    // Counters of 64 bits grow no faster than that.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (0.0..1e18).contains(&rate).then_some(rate as u64)
}

pub(super) enum Info {}

impl Record for Info {
    type Of<'a> = Balloon<'a>;
}

pub(super) struct Balloon<'a> {
    xml: &'a DomainDescription,
    sample: &'a BalloonSample,
}

static BALLOON: &[Field<Info>] = &[
    Field::string("balloon_max", "KiB", "`<memory>` without NVDIMMs, in whole MiB.", |it, slot| {
        slot.quoted(whole_mib(it.xml.memory_maximum_kib?.checked_sub(it.xml.nvdimm_kib)?))
    }),
    Field::string("balloon_min", "KiB", "`minGuaranteedMemoryMb` of oVirt's metadata; \"0\" without.", |it, slot| {
        let guaranteed = it.xml.ovirt.as_ref().and_then(|ovirt| ovirt.guaranteed_memory_mib);
        slot.quoted(guaranteed.unwrap_or_default().checked_mul(KIB_PER_MIB)?)
    }),
    Field::string("balloon_cur", "KiB", "`balloon.current`.", |it, slot| slot.quoted(it.sample.current_kib?)),
    Field::string(
        "balloon_target",
        "KiB",
        "`balloonTarget` of oVirt's metadata, else `<currentMemory>` in whole MiB.",
        |it, slot| {
            let target = it.xml.ovirt.as_ref().and_then(|ovirt| ovirt.balloon_target_kib);
            slot.quoted(target.or_else(|| it.xml.memory_kib.map(whole_mib))?)
        },
    ),
    Field {
        name: "ballooning_enabled",
        json: Json::Boolean,
        unit: "",
        what: "`ballooningEnabled` of oVirt's metadata; true without.",
        write: |it, slot| {
            let enabled = it.xml.ovirt.as_ref().and_then(|ovirt| ovirt.ballooning_enabled);
            slot.boolean(enabled.unwrap_or(true))
        },
    },
];

fn whole_mib(kib: u64) -> u64 {
    kib / KIB_PER_MIB * KIB_PER_MIB
}
