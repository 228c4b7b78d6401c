//! Counters over time: never back, never faster than can be.

use std::time::Duration;

use proptest::prelude::*;

use super::super::*;
use super::{Owned, Record, begun, plan};

/// What may go down.
const GAUGES: &[&str] =
    &["balloon.unused", "balloon.usable", "balloon.disk_caches", "balloon.rss", "vm.pages_4k.cur", "vm.pages_2m.cur"];

/// The kernel's tick, ns: vCPU times are that coarse.
const TICK: u64 = 10_000_000;

/// Both are records of one guest, of one run.
fn none_goes_back(earlier: &Record, later: &Record) {
    assert_eq!(earlier.names(), later.names());
    for ((name, before), (_, after)) in earlier.0.iter().zip(&later.0) {
        if let (Owned::ULLong(before), Owned::ULLong(after)) = (before, after) {
            assert!(before <= after || GAUGES.contains(&name.as_str()), "{name}: {before}, then {after}");
            assert!(*after < 1 << 60, "{name} is {after}");
        }
    }
}

fn processors_are_no_faster_than_time(guest: &Guest, earlier: &Record, later: &Record, passed_ns: u64) {
    let grown = |name: &str| later.number(name).zip(earlier.number(name)).map_or(0, |(after, before)| after - before);
    let mut sum = 0;
    for number in 0..guest.shape.vcpus_current {
        let name = format!("vcpu.{number}.time");
        assert!(grown(&name) <= passed_ns + TICK, "{name} of {} in {passed_ns}", grown(&name));
        sum += later.number(&name).expect("it runs");
    }
    assert!(sum <= later.number("cpu.time").expect("it runs"));
    // QEMU's own threads take little.
    let all = grown("cpu.time");
    assert!(all <= (passed_ns + TICK) * (u64::from(guest.shape.vcpus_current) + 1), "{all} in {passed_ns}");
}

fn memory_adds_up(record: &Record) {
    let number = |name: &str| record.number(&format!("balloon.{name}"));
    let (current, maximum) = (number("current").expect("always"), number("maximum").expect("always"));
    assert!(current <= maximum);
    if let (Some(unused), Some(available), Some(usable)) = (number("unused"), number("available"), number("usable")) {
        let caches = number("disk_caches").expect("with the others");
        assert!(unused <= usable && usable <= available && unused + caches <= available && available <= current);
    }
    assert!(number("rss").is_none_or(|rss| rss < current + 100_000));
}

fn requests_fit_bytes_and_times(guest: &Guest, record: &Record) {
    for number in 0..guest.shape.disks.len() {
        for side in ["rd", "wr"] {
            let of = |name: &str| record.number(&format!("block.{number}.{side}.{name}")).expect("it runs");
            let (requests, bytes, times) = (of("reqs"), of("bytes"), of("times"));
            assert_eq!((bytes % 512, requests == 0 && (bytes > 0 || times > 0)), (0, false));
            if requests > 1000 {
                assert!((512..4 << 20).contains(&(bytes / requests)), "{bytes} bytes in {requests}");
                assert!((10_000..100_000_000).contains(&(times / requests)), "{times} ns for {requests}");
            }
        }
        let sizes = ["allocation", "physical"].map(|name| record.number(&format!("block.{number}.{name}")));
        let capacity = record.number(&format!("block.{number}.capacity"));
        assert!(sizes.into_iter().flatten().all(|size| Some(size) <= capacity));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn counters_only_grow(number in 0_u32..300, at in 0_u64..100_000_000_000, step in prop_oneof![0_u64..20, 0_u64..100_000, 0_u64..9_000_000_000]) {
        let guest = Guest::planned(&plan(300), number, Some(1));
        let at = begun() + Duration::from_millis(at);
        let then = at + Duration::from_millis(step);
        let (earlier, later) = (Record::of(&guest, Depth::Whole, at), Record::of(&guest, Depth::Whole, then));
        none_goes_back(&earlier, &later);
        processors_are_no_faster_than_time(&guest, &earlier, &later, step * 1_000_000);
        memory_adds_up(&later);
        requests_fit_bytes_and_times(&guest, &later);
    }

    #[test]
    fn a_young_run_is_as_good_as_an_old_one(seed in any::<u64>(), at in 0_u64..100_000, step in 0_u64..3000) {
        let mut guest = Guest::new(seed, 1000, false);
        guest.begin(7, begun());
        let at = begun() + Duration::from_millis(at);
        let then = at + Duration::from_millis(step);
        let start = Record::of(&guest, Depth::Whole, begun());
        let (earlier, later) = (Record::of(&guest, Depth::Whole, at), Record::of(&guest, Depth::Whole, then));
        none_goes_back(&start, &earlier);
        none_goes_back(&earlier, &later);
        processors_are_no_faster_than_time(&guest, &earlier, &later, step * 1_000_000);
        prop_assert_eq!(start.number("cpu.time"), Some(0));
    }
}

#[test]
fn hosts_are_busier_by_day_and_batch_by_night() {
    let host = Host::new(plan(1000));
    let midnight = begun() + Duration::from_secs(86_400 - 1_760_000_000 % 86_400);
    let cpu = |hour: u32| -> f64 {
        let busy = |guest: &Guest, at| guest.info(midnight + Duration::from_secs(at)).cpu_time_ns;
        let hour = u64::from(hour) * 3600;
        host.guests().map(|guest| busy(guest, hour + 3600) - busy(guest, hour)).sum::<u64>() as f64
    };
    let by_hour: Vec<f64> = (0..24).map(cpu).collect();
    assert!(by_hour[14] > by_hour[7] && by_hour[14] > by_hour[21], "{by_hour:?}");
    assert!(by_hour[2] > by_hour[22] && by_hour[2] > by_hour[6], "{by_hour:?}");
}

#[test]
fn what_needs_the_monitor_is_missing_without_it() {
    let host = Host::new(plan(300));
    for guest in host.guests() {
        let whole = Record::of(guest, Depth::Whole, begun());
        let cut = Record::of(guest, Depth::NoMonitor, begun());
        let allowed = |name: &str| {
            let last = name.rsplit('.').next().unwrap_or_default();
            ["state.", "net."].iter().any(|group| name.starts_with(group))
                || ["cpu.time", "cpu.user", "cpu.system", "cpu.cache.monitor.count"].contains(&name)
                || ["balloon.current", "balloon.maximum", "vcpu.current", "vcpu.maximum", "block.count"].contains(&name)
                || (name.starts_with("vcpu.") && ["state", "time", "wait", "delay"].contains(&last))
                || (name.starts_with("block.") && ["name", "path", "backingIndex"].contains(&last))
        };
        if guest.is_running() {
            let left: Vec<_> = whole.0.iter().filter(|(name, _)| allowed(name)).cloned().collect();
            assert_eq!(cut.0, left);
        } else {
            assert_eq!(cut, whole);
        }
    }
}

#[test]
fn a_usual_record_is_as_long_as_a_real_one() {
    let host = Host::new(plan(10_000));
    let usual = |guest: &&Guest| {
        let shape = &guest.shape;
        let counted = shape.nics.iter().all(|nic| !nic.device.is_empty());
        guest.is_running() && (shape.vcpus_current, shape.disks.len(), shape.nics.len()) == (2, 2, 2) && counted
    };
    for guest in host.guests().filter(usual) {
        let record = Record::of(guest, Depth::Whole, begun());
        assert!((165..=195).contains(&record.0.len()), "{}", record.0.len());
    }
    for guest in host.guests() {
        let record = Record::of(guest, Depth::Whole, begun());
        assert!(record.names().iter().all(|name| name.len() <= 79));
        let mut names = record.names();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), record.0.len(), "a name came twice");
    }
}

#[test]
fn groups_come_alone() {
    let host = Host::new(plan(40));
    for guest in host.guests() {
        let mut parts = Record::default();
        for bit in 0..11 {
            guest.stats(1 << bit, Depth::Whole, begun(), &mut parts);
        }
        assert_eq!(parts, Record::of(guest, Depth::Whole, begun()));
    }
}
