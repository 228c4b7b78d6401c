//! Memory, as the balloon and the host see it.

use super::Kind::{self, Counter, Gauge};
use super::{Family, Read, View, domain, row};
use crate::export::prometheus::value::{Value, int, kib};
use crate::model::{BalloonSample, Group};

pub(super) static FAMILIES: &[Family] = &[
    balloon(
        Gauge,
        "libvirt_domain_memory_stats_unused_bytes",
        "bytes",
        "balloon.unused",
        "Memory that the guest does not use at all.",
        |v| kib(v.balloon?.unused_kib),
    ),
    balloon(
        Gauge,
        "libvirt_domain_memory_stats_available_bytes",
        "bytes",
        "balloon.available",
        "Memory that the guest sees.",
        |v| kib(v.balloon?.available_kib),
    ),
    balloon(
        Gauge,
        "libvirt_domain_memory_stats_usable_bytes",
        "bytes",
        "balloon.usable",
        "Memory that the guest could give back without swapping.",
        |v| kib(v.balloon?.usable_kib),
    ),
    row(
        Gauge,
        ("libvirt_domain_memory_stats_rss_bytes", "bytes"),
        "Resident memory of the domain's process on the host.",
        ("/proc/PID/stat rss, else balloon.rss", ""),
        Read::OneOf(|v| {
            let kernel = v.kernel.and_then(|kernel| Some((kib(kernel.resident_kib)?, Group::Kernel)));
            kernel.or_else(|| Some((kib(v.balloon?.rss_kib)?, Group::Balloon)))
        }),
    ),
    balloon(
        Gauge,
        "libvirt_domain_memory_stats_current_balloon_bytes",
        "bytes",
        "balloon.current",
        "Size of the balloon: memory that the domain has now.",
        |v| kib(v.balloon?.current_kib),
    ),
    balloon(
        Gauge,
        "libvirt_domain_memory_stats_maximum_bytes",
        "bytes",
        "balloon.maximum",
        "Memory that the domain may use at most.",
        |v| kib(v.balloon?.maximum_kib),
    ),
    balloon(
        Gauge,
        "libvirt_domain_memory_stats_disk_caches_bytes",
        "bytes",
        "balloon.disk_caches",
        "Memory that the guest uses for disk caches.",
        |v| kib(v.balloon?.disk_caches_kib),
    ),
    balloon(
        Counter,
        "libvirt_domain_memory_stats_major_fault_total",
        "faults",
        "balloon.major_fault",
        "Page faults in the guest that needed its disk.",
        |v| int(v.balloon?.major_faults),
    ),
    balloon(
        Counter,
        "libvirt_domain_memory_stats_minor_fault_total",
        "faults",
        "balloon.minor_fault",
        "Page faults in the guest that needed no disk.",
        |v| int(v.balloon?.minor_faults),
    ),
    balloon(
        Counter,
        "libvirt_domain_memory_stats_swap_in_bytes_total",
        "bytes",
        "balloon.swap_in",
        "Memory that the guest read back from its swap.",
        |v| kib(v.balloon?.swap_in_kib),
    ),
    balloon(
        Counter,
        "libvirt_domain_memory_stats_swap_out_bytes_total",
        "bytes",
        "balloon.swap_out",
        "Memory that the guest wrote to its swap.",
        |v| kib(v.balloon?.swap_out_kib),
    ),
    balloon(
        Counter,
        "libvirt_domain_memory_stats_hugetlb_pgalloc_total",
        "pages",
        "balloon.hugetlb_pgalloc",
        "Huge pages that the guest allocated.",
        |v| int(v.balloon?.hugetlb_pgalloc),
    ),
    balloon(
        Counter,
        "libvirt_domain_memory_stats_hugetlb_pgfail_total",
        "pages",
        "balloon.hugetlb_pgfail",
        "Huge pages that the guest could not allocate.",
        |v| int(v.balloon?.hugetlb_pgfail),
    ),
    balloon(
        Gauge,
        "libvirt_domain_memory_stats_last_update_timestamp_seconds",
        "seconds",
        "balloon.last-update",
        "When the guest last reported its memory, Unix time.",
        |v| int(v.balloon?.last_update_s.filter(|at| *at > 0)),
    ),
    balloon(
        Gauge,
        "libvirt_domain_memory_stats_used_percent",
        "percent",
        "balloon.available, balloon.usable",
        "Part of its memory that the guest uses and could not give back.",
        |v| used_percent(v.balloon?),
    ),
];

const fn balloon(
    kind: Kind,
    name: &'static str,
    unit: &'static str,
    source: &'static str,
    help: &'static str,
    read: fn(&View<'_>) -> Option<Value>,
) -> Family {
    domain(Group::Balloon, kind, name, unit, source, help, read)
}

fn used_percent(balloon: &BalloonSample) -> Option<Value> {
    let (available, usable) = (balloon.available_kib?, balloon.usable_kib?);
    let used = available.checked_sub(usable)?;
    if available == 0 {
        return None;
    }
    #[allow(clippy::cast_precision_loss)] // KiB of memory stay far below 2^53.
    let percent = used as f64 / available as f64 * 100.0;
    Some(Value::Float(percent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_percent_is_absent_rather_than_made_up() {
        let balloon = |available_kib, usable_kib| BalloonSample { available_kib, usable_kib, ..Default::default() };
        assert_eq!(used_percent(&balloon(Some(200), Some(50))), Some(Value::Float(75.0)));
        assert_eq!(used_percent(&balloon(Some(200), None)), None);
        assert_eq!(used_percent(&balloon(None, None)), None);
        assert_eq!(used_percent(&balloon(Some(0), Some(0))), None);
        assert_eq!(used_percent(&balloon(Some(1), Some(2))), None);
    }
}
