//! Runs that bear one id, told apart; and what comes too late to be of use.

use super::*;
use crate::model::{Process, ProcessState};

fn process(start_ticks: u64) -> Process {
    Process { pid: 41, start_ticks, state: ProcessState::Runs }
}

fn is_complete(bench: &Bench) -> bool {
    bench.store.snapshot().domains[0].windows.cpu.previous().is_some()
}

#[test]
fn another_process_is_another_run() {
    let bench = Bench::new();
    bench.inventory(bench.tick(), vec![described(1, Some(1), &[], &[])]);
    bench.bulk(bench.tick(), vec![record(1, 1, 10)]);
    bench.bulk(bench.tick(), vec![record(1, 1, 20)]);
    let none = Changes::default();
    assert_eq!(
        bench.store.apply_processes(&[(id(1), RunId(1), process(500)), (id(9), RunId(1), process(1))]),
        none,
        "noted"
    );
    assert_eq!(bench.store.apply_processes(&[(id(1), RunId(1), process(500))]), none);
    assert_eq!(bench.store.apply_processes(&[(id(1), RunId(2), process(700))]), none, "of a run that is not known yet");
    assert!(is_complete(&bench));
    assert!(!bench.store.known_descriptions().wants(id(1), Some(RunId(1))));
    let before = bench.tick();
    bench.tick();
    assert!(bench.store.apply_processes(&[(id(1), RunId(1), process(700))]).domains, "the list is to be read again");
    assert!(bench.store.known_descriptions().wants(id(1), Some(RunId(1))), "with its XML");
    assert_eq!(bench.store.apply_processes(&[(id(1), RunId(1), process(700))]), none, "told once");
    // Its CPU time is higher already than that of the run before, so that alone would tell nothing.
    bench.bulk(before, vec![record(1, 1, 25)]);
    assert_eq!((bench.cpu(1), bench.late()), (None, 2), "asked before: it may be about the run before");
    assert_eq!(bench.names(), ["guest-1"], "and it is there all the same");
    bench.bulk(bench.tick(), vec![record(1, 1, 30)]);
    assert!(bench.cpu(1) == Some(30) && !is_complete(&bench), "no rate across the restart");
}

#[test]
fn a_run_with_an_id_of_its_own_is_told_by_that() {
    let bench = Bench::new();
    bench.bulk(bench.tick(), vec![record(1, 1, 10)]);
    bench.store.apply_processes(&[(id(1), RunId(1), process(500))]);
    bench.bulk(bench.tick(), vec![record(1, 2, 1)]);
    let sequence = bench.store.snapshot().sequence;
    assert_eq!(
        bench.store.apply_processes(&[(id(1), RunId(2), process(700))]),
        Changes::default(),
        "the first start of it"
    );
    assert_eq!(bench.store.snapshot().sequence, sequence);
}

#[test]
fn what_was_asked_before_a_restart_under_the_same_id_is_late() {
    let bench = Bench::new();
    bench.bulk(bench.tick(), vec![record(1, 1, 1000)]);
    let early = bench.tick();
    bench.bulk(bench.tick(), vec![record(1, 1, 3)]);
    bench.bulk(early, vec![with_devices(record(1, 1, 1001), &["vda"], &[])]);
    assert_eq!((bench.cpu(1), bench.late()), (Some(3), 4));
    assert!(bench.store.snapshot().domains[0].windows.block.newest().is_none());
}

#[test]
fn a_call_that_was_written_off_long_ago_brings_nothing() {
    let bench = Bench::new();
    bench.bulk(bench.tick(), vec![record(1, 1, 10)]);
    let hung = bench.tick();
    bench.clock.advance(Duration::from_secs(31));
    bench.bulk(hung, vec![record(1, 1, 99)]);
    assert_eq!((bench.cpu(1), bench.late()), (Some(10), 2), "figures of now under the time of then make no rate");
}

#[test]
fn a_run_with_the_id_of_the_one_before_is_told_by_its_cpu_time() {
    let bench = Bench::new();
    bench.bulk(bench.tick(), vec![record(1, 1, 1000)]);
    assert!(bench.bulk(bench.tick(), vec![record(1, 1, 3)]).domains);
    let snapshot = bench.store.snapshot();
    assert!(snapshot.domains[0].windows.cpu.previous().is_none(), "no rate across a restart");
}

#[test]
fn cpu_time_that_is_somewhat_less_is_no_other_run_and_is_not_believed() {
    const SECOND: u64 = 1_000_000_000;
    let bench = Bench::new();
    let went_back = || bench.store.metrics.samples_dropped.with_label_values(&["went_back"]).get();
    bench.bulk(bench.tick(), vec![record(1, 1, 1000 * SECOND)]);
    assert_eq!(bench.bulk(bench.tick(), vec![record(1, 1, 990 * SECOND)]), Changes::default());
    assert_eq!((bench.cpu(1), went_back()), (Some(1000 * SECOND), 1));
    // The process is the same, and knows better than any figure.
    bench.store.apply_processes(&[(id(1), RunId(1), process(500))]);
    assert_eq!(bench.bulk(bench.tick(), vec![record(1, 1, SECOND)]), Changes::default());
    assert_eq!((bench.cpu(1), went_back()), (Some(1000 * SECOND), 2));
}

#[test]
fn a_late_answer_is_dropped_and_counted_per_group() {
    let bench = Bench::new();
    let (early, late) = (bench.tick(), bench.tick());
    bench.bulk(late, vec![record(1, 1, 20)]);
    bench.bulk(early, vec![record(1, 1, 10)]);
    assert_eq!((bench.cpu(1), bench.late()), (Some(20), 2), "state and cpu were late");
}

#[test]
fn a_late_record_says_nothing_of_name_and_devices() {
    let bench = Bench::new();
    bench.inventory(bench.tick(), vec![described(1, Some(1), &["vda"], &[])]);
    let early = bench.tick();
    let renamed = DomainRecord { name: "renamed".into(), ..with_devices(record(1, 1, 2), &["vda"], &[]) };
    bench.bulk(bench.tick(), vec![renamed]);
    let changes = bench.bulk(early, vec![with_devices(record(1, 1, 1), &["vda", "vdb"], &[])]);
    assert_eq!(changes, Changes::default());
    assert_eq!(bench.names(), ["renamed"]);
}

#[test]
fn a_late_list_says_nothing_of_names() {
    let bench = Bench::new();
    bench.inventory(bench.tick(), vec![described(1, Some(1), &[], &[])]);
    let early = bench.tick();
    bench.bulk(bench.tick(), vec![DomainRecord { name: "renamed".into(), ..record(1, 1, 2) }]);
    bench.inventory(early, vec![described(1, Some(1), &[], &[])]);
    assert_eq!(bench.names(), ["renamed"]);
}

#[test]
fn a_call_that_took_longer_than_the_memory_of_the_gone_brings_nobody_back() {
    let bench = Bench::new();
    bench.bulk(bench.tick(), vec![record(1, 1, 10)]);
    let early = bench.tick();
    bench.bulk(bench.tick(), vec![]);
    bench.clock.advance(Duration::from_secs(700));
    bench.inventory(bench.tick(), vec![]);
    bench.bulk(early, vec![record(1, 1, 15)]);
    bench.inventory(early, vec![described(1, Some(1), &[], &[])]);
    assert!(bench.names().is_empty());
}

#[test]
fn figures_of_before_the_process_began_are_of_another_run() {
    let bench = Bench::new();
    let looked = |ago: u64| {
        let started = bench.store.moment().since_boot - Duration::from_secs(ago);
        let start_ticks = u64::try_from(started.as_millis()).expect("small") / 10;
        bench.store.apply_processes(&[(id(1), RunId(1), process(start_ticks))])
    };
    bench.clock.advance(Duration::from_secs(1000));
    bench.bulk(bench.tick(), vec![record(1, 1, 70)]);
    // It ended and started anew, and only its process is known yet, under the number of the run before.
    bench.clock.advance(Duration::from_secs(10));
    looked(3);
    assert_eq!(bench.cpu(1), None);
    assert_eq!(bench.store.snapshot().domains[0].pid, Some(41));
    bench.bulk(bench.tick(), vec![record(1, 2, 5)]);
    looked(4);
    assert_eq!(bench.cpu(1), Some(5), "these are younger than it");
}
