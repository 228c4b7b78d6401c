//! Every row finds its field; whatever else comes loses itself alone.

use super::*;
use crate::model::{Io, Traffic};

fn decode(params: &[(&str, Value<'_>)]) -> (Figures, DecodeCounts) {
    decode_with(&Decoder::default(), params)
}

fn decode_with(decoder: &Decoder, params: &[(&str, Value<'_>)]) -> (Figures, DecodeCounts) {
    let mut counts = DecodeCounts::default();
    let figures = decoder.figures(params.iter().map(|(key, value)| (key.as_bytes(), *value)), &mut counts);
    (figures, counts)
}

use Value::{Signed, Text, Unsigned};

#[test]
fn a_whole_record_finds_its_places() {
    let (figures, counts) = decode(&[
        ("state.state", Signed(1)),
        ("state.reason", Signed(5)),
        ("cpu.time", Unsigned(u64::MAX)),
        ("cpu.user", Unsigned(2)),
        ("cpu.system", Unsigned(3)),
        ("cpu.haltpoll.success.time", Unsigned(9)),
        ("balloon.current", Unsigned(1024)),
        ("balloon.rss", Unsigned(99)),
        ("vcpu.current", Unsigned(2)),
        ("vcpu.0.state", Signed(1)),
        ("vcpu.0.time", Unsigned(7)),
        ("vcpu.0.halted", Value::Other),
        ("vcpu.0.exits.sum", Unsigned(1)),
        ("vcpu.2.state", Signed(1)),
        ("vcpu.2.delay", Unsigned(8)),
        ("net.count", Unsigned(1)),
        ("net.0.name", Text(b"vnet0")),
        ("net.0.rx.bytes", Unsigned(10)),
        ("net.0.tx.drop", Unsigned(11)),
        ("block.count", Unsigned(1)),
        ("block.0.name", Text(b"vda")),
        ("block.0.rd.reqs", Unsigned(12)),
        ("block.0.fl.times", Unsigned(13)),
        ("block.0.physical", Unsigned(14)),
    ]);
    assert_eq!(counts, DecodeCounts::default());
    assert_eq!(figures.state, Some(StateSample { state: Some(1), reason: Some(5) }));
    assert_eq!(figures.cpu.and_then(|cpu| cpu.time_ns), Some(u64::MAX));
    let balloon = figures.balloon.expect("balloon");
    assert_eq!((balloon.current_kib, balloon.rss_kib, balloon.is_partial()), (Some(1024), Some(99), false));
    let vcpu = figures.vcpu.expect("vcpu");
    assert_eq!(vcpu.vcpus.iter().map(|v| v.index).collect::<Vec<_>>(), [0, 2], "a gap is no vCPU 1");
    assert_eq!((vcpu.vcpus[0].time_ns, vcpu.vcpus[1].delay_ns), (Some(7), Some(8)));
    let nic = &figures.interface.expect("interface").interfaces[0];
    assert_eq!((nic.name.as_deref(), nic.receive.bytes, nic.transmit.drops), (Some("vnet0"), Some(10), Some(11)));
    let disk = &figures.block.expect("block").disks[0];
    assert_eq!(
        (disk.name.as_deref(), disk.read.requests, disk.flush.time_ns, disk.physical_bytes),
        (Some("vda"), Some(12), Some(13), Some(14))
    );
}

/// A value of its own for each row of a table, so that no two rows can be swapped unseen.
fn numbered(prefix: &str, keys: &[&str]) -> Figures {
    let named: Vec<(String, Value<'_>)> =
        (1..).zip(keys).map(|(number, key)| (format!("{prefix}{key}"), Unsigned(number))).collect();
    let mut params: Vec<_> = named.iter().map(|(key, value)| (key.as_str(), *value)).collect();
    params.push(("net.count", Unsigned(1)));
    decode(&params).0
}

#[test]
fn every_row_of_the_disks_goes_to_its_own_field() {
    let keys = ["rd.reqs", "rd.bytes", "rd.times", "wr.reqs", "wr.bytes", "wr.times", "fl.reqs", "fl.times"];
    let sizes = ["allocation", "capacity", "physical"];
    let figures = numbered("block.0.", &[&keys[..], &sizes].concat());
    let io = |requests, bytes, time_ns| Io { requests: Some(requests), bytes, time_ns: Some(time_ns) };
    let expected = Block {
        read: io(1, Some(2), 3),
        write: io(4, Some(5), 6),
        flush: io(7, None, 8),
        allocation_bytes: Some(9),
        capacity_bytes: Some(10),
        physical_bytes: Some(11),
        ..Block::default()
    };
    assert_eq!(figures.block.map(|sample| sample.disks), Some(vec![expected]));
}

#[test]
fn every_row_of_the_nics_goes_to_its_own_field() {
    let keys = ["rx.bytes", "rx.pkts", "rx.errs", "rx.drop", "tx.bytes", "tx.pkts", "tx.errs", "tx.drop"];
    let traffic = |first| Traffic {
        bytes: Some(first),
        packets: Some(first + 1),
        errors: Some(first + 2),
        drops: Some(first + 3),
    };
    let expected = Interface { receive: traffic(1), transmit: traffic(5), ..Interface::default() };
    assert_eq!(numbered("net.0.", &keys).interface.map(|sample| sample.interfaces), Some(vec![expected]));
}

#[test]
fn every_row_of_memory_and_cpus_goes_to_its_own_field() {
    let keys = ["current", "maximum", "swap_in", "swap_out", "major_fault", "minor_fault", "unused"];
    let more = ["available", "usable", "last-update", "disk_caches", "hugetlb_pgalloc", "hugetlb_pgfail", "rss"];
    let expected = BalloonSample {
        current_kib: Some(1),
        maximum_kib: Some(2),
        swap_in_kib: Some(3),
        swap_out_kib: Some(4),
        major_faults: Some(5),
        minor_faults: Some(6),
        unused_kib: Some(7),
        available_kib: Some(8),
        usable_kib: Some(9),
        last_update_s: Some(10),
        disk_caches_kib: Some(11),
        hugetlb_pgalloc: Some(12),
        hugetlb_pgfail: Some(13),
        rss_kib: Some(14),
    };
    assert_eq!(numbered("balloon.", &[keys, more].concat()).balloon, Some(expected));
    let cpu = CpuSample { time_ns: Some(1), user_ns: Some(2), system_ns: Some(3) };
    assert_eq!(numbered("cpu.", &["time", "user", "system"]).cpu, Some(cpu));
    let vcpu = Vcpu { index: 3, state: Some(1), time_ns: Some(2), wait_ns: Some(3), delay_ns: Some(4) };
    let vcpus = numbered("vcpu.3.", &["state", "time", "wait", "delay"]).vcpu.map(|sample| sample.vcpus);
    assert_eq!(vcpus, Some(vec![vcpu]));
}

#[test]
fn a_record_that_nowait_cut_short_claims_no_group_it_has_not() {
    let (figures, counts) = decode(&[
        ("state.state", Signed(1)),
        ("cpu.time", Unsigned(1)),
        ("balloon.current", Unsigned(1)),
        ("balloon.maximum", Unsigned(1)),
        ("vcpu.current", Unsigned(1)),
        ("vcpu.maximum", Unsigned(1)),
        ("net.count", Unsigned(0)),
        ("block.count", Unsigned(1)),
        ("block.0.name", Text(b"vda")),
        ("block.0.path", Text(b"/disk")),
    ]);
    assert_eq!(counts, DecodeCounts::default());
    assert!(figures.state.is_some() && figures.cpu.is_some() && figures.interface.is_some());
    assert_eq!((figures.vcpu, figures.block), (None, None));
    assert!(figures.balloon.is_some_and(|balloon| balloon.is_partial()));
}

#[test]
fn a_domain_without_disks_has_a_block_sample_all_the_same() {
    let (figures, _) = decode(&[("block.count", Unsigned(0))]);
    assert_eq!(figures.block, Some(BlockSample { count: Some(0), disks: Vec::new() }));
}

#[test]
fn a_value_of_the_wrong_type_is_lost_alone() {
    let (figures, counts) = decode(&[
        ("cpu.time", Unsigned(5)),
        ("cpu.user", Text(b"much")),
        ("cpu.system", Signed(-1)),
        ("state.state", Unsigned(u64::MAX)),
        ("block.0.name", Unsigned(3)),
        ("block.0.rd.reqs", Signed(4)),
    ]);
    assert_eq!(counts, DecodeCounts { wrong_type: 4, ..DecodeCounts::default() });
    assert_eq!(figures.cpu, Some(CpuSample { time_ns: Some(5), ..CpuSample::default() }));
    assert_eq!(figures.block.expect("block").disks[0].read.requests, Some(4));
}

#[test]
fn an_index_that_is_missing_loses_one_value() {
    let (figures, counts) = decode(&[
        ("vcpu..time", Unsigned(1)),
        ("vcpu.-1.time", Unsigned(1)),
        ("vcpu.99999999999.time", Unsigned(1)),
        ("vcpu.total", Unsigned(1)),
        ("vcpu.4294967295.time", Unsigned(1)),
    ]);
    assert_eq!(counts, DecodeCounts { bad_index: 3, unknown: 1, ..DecodeCounts::default() });
    assert_eq!(figures.vcpu.expect("vcpu").vcpus.len(), 1, "a huge index costs one entry, no more");
}

#[test]
fn an_unknown_kind_counts_once_over_all_records_and_clones() {
    let decoder = Decoder::default();
    let params = [
        ("block.0.brand.new", Unsigned(1)),
        ("block.1.brand.new", Unsigned(1)),
        ("novel.thing", Unsigned(1)),
        ("novel", Unsigned(1)),
    ];
    assert_eq!(decode_with(&decoder, &params).1.unknown, 3);
    assert_eq!(decode_with(&decoder.clone(), &params).1.unknown, 0);
}

proptest::proptest! {
    #[test]
    fn no_parameters_make_it_panic(keys in proptest::collection::vec("(state|vcpu|net|block|balloon|x)?\\.?[0-9]{0,12}\\.?[a-z.]{0,12}", 0..50), number: u64) {
        let params: Vec<_> = keys.iter().map(|key| (key.as_bytes(), Unsigned(number))).collect();
        Decoder::default().figures(params.into_iter(), &mut DecodeCounts::default());
    }
}
