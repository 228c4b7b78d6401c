//! Sizes of disks: each has a time of its own, and they come in batches.

use super::*;
use crate::model::BlockInfo;

fn answer(started: Stamp, run: u32, target: &str, capacity: Option<u64>) -> BlockInfoAnswer {
    let info = capacity.map(|capacity| BlockInfo { capacity_bytes: Some(capacity), ..BlockInfo::default() });
    BlockInfoAnswer { started, id: id(1), run: Some(RunId(run)), target: target.into(), info }
}

impl Bench {
    fn with_disks() -> Self {
        let bench = Self::new();
        bench.inventory(bench.tick(), vec![described(1, Some(1), &["vda", "vdb"], &[])]);
        bench
    }

    fn sizes(&self) -> Vec<(String, u64)> {
        let snapshot = self.store.snapshot();
        let sizes = snapshot.domains[0].windows.block_info.iter();
        sizes.map(|(target, info, _)| (target.to_owned(), info.capacity_bytes.unwrap_or_default())).collect()
    }

    fn oldest(&self) -> Option<Stamp> {
        self.store.snapshot().domains[0].windows.started(Group::BlockInfo)
    }
}

#[test]
fn a_batch_makes_one_snapshot_and_its_oldest_disk_gives_the_age() {
    let bench = Bench::with_disks();
    let (first, second) = (bench.tick(), bench.tick());
    let before = bench.store.snapshot().sequence;
    bench.store.apply_block_infos(vec![answer(second, 1, "vda", Some(10)), answer(first, 1, "vdb", Some(20))]);
    assert_eq!(bench.store.snapshot().sequence, before + 1);
    assert_eq!(bench.sizes(), [("vda".to_owned(), 10), ("vdb".to_owned(), 20)]);
    assert_eq!(bench.oldest(), Some(first));
    let third = bench.tick();
    bench.store.apply_block_infos(vec![answer(third, 1, "vdb", Some(30))]);
    assert_eq!(bench.oldest(), Some(second));
}

#[test]
fn what_is_late_is_lost_and_counted() {
    let bench = Bench::with_disks();
    let (early, late) = (bench.tick(), bench.tick());
    bench.store.apply_block_infos(vec![answer(late, 1, "vda", Some(10)), answer(early, 1, "vda", Some(1))]);
    assert_eq!((bench.sizes(), bench.late()), (vec![("vda".to_owned(), 10)], 1));
    // Written off long ago: the figures are of now, the time is not.
    bench.clock.advance(Duration::from_secs(31));
    bench.store.apply_block_infos(vec![answer(late, 1, "vdb", Some(1))]);
    assert_eq!((bench.sizes().len(), bench.late()), (1, 2));
}

#[test]
fn unknown_domains_and_other_runs_are_ignored() {
    let bench = Bench::with_disks();
    let before = bench.store.snapshot().sequence;
    let nobody = BlockInfoAnswer { id: id(9), ..answer(bench.tick(), 1, "vda", Some(1)) };
    let resting = BlockInfoAnswer { run: None, ..answer(bench.tick(), 1, "vda", Some(1)) };
    bench.store.apply_block_infos(vec![nobody, resting, answer(bench.tick(), 2, "vda", Some(1))]);
    assert_eq!((bench.sizes().len(), bench.late()), (0, 0));
    assert_eq!(bench.store.snapshot().sequence, before, "nothing new, nothing published");
}

#[test]
fn another_run_begins_with_nothing() {
    let bench = Bench::with_disks();
    bench.bulk(bench.tick(), vec![record(1, 1, 10)]);
    let early = bench.tick();
    bench.store.apply_block_infos(vec![answer(early, 1, "vda", Some(1))]);
    bench.bulk(bench.tick(), vec![record(1, 1, 1)]);
    assert_eq!(bench.sizes(), [], "CPU time went down");
    bench.store.apply_block_infos(vec![answer(early, 1, "vda", Some(1))]);
    assert_eq!((bench.sizes().len(), bench.late()), (0, 1), "asked before this run began");
}

#[test]
fn a_drive_without_a_medium_has_no_sizes_and_is_not_overdue() {
    let bench = Bench::with_disks();
    bench.store.apply_block_infos(vec![answer(bench.tick(), 1, "vda", Some(10))]);
    let empty = bench.tick();
    bench.store.apply_block_infos(vec![answer(empty, 1, "vda", None)]);
    assert_eq!((bench.sizes(), bench.oldest()), (vec![], Some(empty)));
}

#[test]
fn disks_that_are_gone_keep_nothing_old() {
    let bench = Bench::with_disks();
    bench.store.apply_block_infos(vec![answer(bench.tick(), 1, "vda", Some(10))]);
    let newer = bench.tick();
    bench.store.apply_block_infos(vec![answer(newer, 1, "vdb", Some(20))]);
    bench.store.keep_block_info(id(1), &["vdb".into()]);
    assert_eq!((bench.sizes(), bench.oldest()), (vec![("vdb".to_owned(), 20)], Some(newer)));
    let sequence = bench.store.snapshot().sequence;
    bench.store.keep_block_info(id(1), &["vdb".into()]);
    assert_eq!(bench.store.snapshot().sequence, sequence);
}

#[test]
fn every_disk_turns_stale_at_its_own_time() {
    let bench = Bench::with_disks();
    let (first, second) = (bench.tick(), bench.tick());
    bench.store.apply_block_infos(vec![answer(first, 1, "vda", Some(1)), answer(second, 1, "vdb", Some(2))]);
    let snapshot = bench.store.snapshot();
    let (limit, moment) = (Duration::from_secs(30), Duration::from_millis(1));
    assert_eq!(snapshot.next_staleness(second.at), Some(first.at + limit));
    assert_eq!(snapshot.next_staleness(first.at + limit + moment), Some(second.at + limit));
    let fresh = |target| snapshot.fresh_sizes(&snapshot.domains[0], target, first.at + limit + moment).is_some();
    assert_eq!((fresh("vda"), fresh("vdb")), (false, true));
}

#[test]
fn the_disks_to_ask_are_the_sampled_ones_else_the_described_ones() {
    let bench = Bench::with_disks();
    let disks = || bench.store.snapshot().domains[0].disks().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(disks(), ["vda", "vdb"]);
    bench.bulk(bench.tick(), vec![with_devices(record(1, 1, 1), &["vdc"], &[])]);
    assert_eq!(disks(), ["vdc"]);
    bench.bulk(bench.tick(), vec![with_devices(record(1, 1, 1), &[], &[])]);
    assert!(!bench.store.snapshot().domains[0].has(Group::BlockInfo));
}

#[test]
fn a_complete_picture_waits_for_bulk_groups_alone() {
    let bench = Bench::with_disks();
    let bulk = BulkRequest { groups: Group::BULK.into_iter().collect(), scope: Scope::All };
    bench.store.apply_bulk(bench.tick(), &bulk, BulkReply::default());
    assert_eq!(bench.store.snapshot().incomplete, None);
}
