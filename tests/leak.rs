//! 20,000 bulk samples over one connection leave nothing behind. One test, since it looks at the whole process.
#![allow(clippy::unwrap_used)]

mod support;

use virtstatd::libvirt::LibvirtFactory;
use virtstatd::model::{BulkRequest, DomainId, Group, InventoryRequest, Scope, Source, SourceFactory as _};

const SAMPLES: usize = 20_000;
/// Bytes by which memory may grow over all samples.
const GROWTH: u64 = 1024 * 1024;

fn anonymous_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a kernel since 4.5");
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

fn samples(source: &mut dyn Source, request: &BulkRequest, count: usize) {
    for _ in 0..count {
        let reply = source.bulk(request).unwrap();
        assert!(reply.records.iter().all(|record| record.figures.state.is_some()) && !reply.records.is_empty());
    }
}

/// The requests in turn, and how much memory they leave behind after the first tenth.
fn growth(uri: &str, groups: &[Group], only: impl Fn(&[DomainId]) -> Vec<DomainId>) -> u64 {
    let mut source = LibvirtFactory::new(uri.to_owned()).open().unwrap();
    let listed = source.inventory(&InventoryRequest::default()).unwrap();
    let ids: Vec<_> = listed.domains.iter().filter(|domain| domain.run.is_some()).map(|domain| domain.id).collect();
    let groups = groups.iter().copied().collect();
    let requests = [Scope::All, Scope::Only(only(&ids))].map(|scope| BulkRequest { groups, scope });
    for request in &requests {
        samples(source.as_mut(), request, SAMPLES / 20);
    }
    let before = anonymous_memory();
    for request in &requests {
        samples(source.as_mut(), request, SAMPLES / 2);
    }
    anonymous_memory().saturating_sub(before)
}

#[test]
fn twenty_thousand_samples_grow_memory_by_less_than_a_mebibyte() {
    let test_driver = growth("test:///default", &Group::ALL, <[_]>::to_vec);
    assert!(test_driver < GROWTH, "grew by {test_driver} bytes on the test driver");
    if let Some(_lab) = support::lab::enter() {
        // Replies with strings and devices, in the groups that enter no guest, so that it takes seconds.
        let real = growth("qemu:///system", &[Group::State, Group::Interface], |ids| ids[..1].to_vec());
        assert!(real < GROWTH, "grew by {real} bytes on real guests");
        eprintln!("{SAMPLES} samples: {test_driver} bytes on the test driver, {real} bytes on real guests");
    }
}
