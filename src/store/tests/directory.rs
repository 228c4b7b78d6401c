//! Who is found by what, as domains come, change and go.

use super::*;
use crate::model::{Mac, Process, ProcessState};

fn mac(last: u8) -> Key {
    Key::Mac(Mac::parse(&format!("52:54:00:00:00:{last:02x}")).expect("valid"))
}

/// A domain with NICs of these addresses, and a disk of that source and serial.
fn with(number: u8, run: Option<u32>, macs: &[u8], source: &str, serial: &str) -> ListedDomain {
    let nic = |last: &u8| NicDescription {
        mac: format!("52:54:00:00:00:{last:02X}").into(),
        target: format!("vnet{last}").into(),
        ..NicDescription::default()
    };
    let disk = DiskDescription { source: source.into(), serial: serial.into(), ..DiskDescription::default() };
    let description =
        DomainDescription { nics: macs.iter().map(nic).collect(), disks: vec![disk], ..DomainDescription::default() };
    ListedDomain { description: Some(Arc::new(description)), ..described(number, run, &[], &[]) }
}

fn found(bench: &Bench, key: &Key) -> Vec<String> {
    bench.store.snapshot().lookup(key).iter().map(|domain| domain.name.to_string()).collect()
}

#[test]
fn domains_are_found_by_what_their_xml_says_running_or_not() {
    let bench = Bench::new();
    let nobody: [&str; 0] = [];
    let domains = || {
        vec![
            with(2, Some(1), &[1, 2], "/images/a", "S1"),
            with(1, None, &[2], "/images/b", ""),
            described(3, None, &[], &[]),
        ]
    };
    bench.inventory(bench.tick(), domains());
    assert_eq!(found(&bench, &mac(1)), ["guest-2"]);
    assert_eq!(found(&bench, &mac(2)), ["guest-1", "guest-2"], "a shared address has both, by name");
    assert_eq!(found(&bench, &Key::Nic("vnet1".into())), ["guest-2"]);
    assert_eq!(found(&bench, &Key::Disk("/images/b".into())), ["guest-1"]);
    assert_eq!(found(&bench, &Key::Disk("S1".into())), ["guest-2"]);
    assert_eq!(found(&bench, &Key::Disk("".into())), nobody, "what is not said is nothing to find by");
    assert_eq!(found(&bench, &mac(9)), nobody);

    // Hot-plug: one address goes, another comes.
    let mut changed = domains();
    changed[0] = with(2, Some(1), &[2, 3], "/images/a", "S1");
    let before = bench.store.snapshot();
    bench.inventory(bench.tick(), changed);
    assert_eq!((found(&bench, &mac(1)).len(), found(&bench, &mac(3)).len()), (0, 1));
    assert_eq!(before.lookup(&mac(1)).len(), 1, "a snapshot never changes");

    // Renamed, then gone.
    let mut renamed = domains();
    renamed[1].name = "zz".into();
    bench.inventory(bench.tick(), renamed);
    assert_eq!(found(&bench, &mac(2)), ["guest-2", "zz"]);
    bench.inventory(bench.tick(), domains().into_iter().take(1).collect());
    assert_eq!(found(&bench, &mac(2)), ["guest-2"]);
    bench.inventory(bench.tick(), Vec::new());
    assert_eq!(found(&bench, &mac(2)), nobody);
    assert_eq!(found(&bench, &Key::Disk("S1".into())), nobody);
}

#[test]
fn a_process_is_its_domains_while_it_runs() {
    let bench = Bench::new();
    bench.inventory(bench.tick(), vec![with(1, Some(1), &[1], "/images/a", "")]);
    let process = |pid, start_ticks| Process { pid, start_ticks, state: ProcessState::Runs };
    bench.store.apply_processes(&[(id(1), RunId(1), process(41, 500))]);
    bench.bulk(bench.tick(), vec![record(1, 1, 10)]);
    assert_eq!(found(&bench, &Key::Pid(41)), ["guest-1"]);
    // Another process is another run.
    bench.store.apply_processes(&[(id(1), RunId(1), process(42, 900))]);
    assert_eq!((found(&bench, &Key::Pid(41)).len(), found(&bench, &Key::Pid(42)).len()), (0, 1));
    bench.inventory(bench.tick(), vec![with(1, None, &[1], "/images/a", "")]);
    assert_eq!((found(&bench, &Key::Pid(42)).len(), found(&bench, &mac(1)).len()), (0, 1));
}

#[test]
fn another_host_has_none_of_it() {
    let bench = Bench::new();
    bench.inventory(bench.tick(), vec![with(1, Some(1), &[1], "/images/a", "")]);
    bench.store.forget();
    assert_eq!(found(&bench, &mac(1)).len(), 0);
}
