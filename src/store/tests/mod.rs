//! What the store promises: newest wins, late is lost, gone is gone, runs are never mixed.

mod block_info;
mod directory;
mod health;
mod lanes;
mod life;
mod of_runs;
mod runs;

use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::clock::{Clock as _, ManualClock};
use crate::model::{
    Block, BlockSample, BulkReply, BulkRequest, CpuSample, DiskDescription, DomainDescription, DomainId, DomainRecord,
    Figures, Group, GroupSet, Interface, InterfaceSample, InventoryReply, ListedDomain, NicDescription, RunId, Scope,
    Stamp, StateSample,
};

struct Bench {
    clock: Arc<ManualClock>,
    store: Store,
}

fn id(number: u8) -> DomainId {
    DomainId::from_bytes([number; 16])
}

fn all_groups() -> BulkRequest {
    BulkRequest { groups: Group::ALL.into_iter().collect(), scope: Scope::All }
}

fn record(number: u8, run: u32, cpu_ns: u64) -> DomainRecord {
    let figures = Figures {
        state: Some(StateSample { state: Some(1), reason: Some(1) }),
        cpu: Some(CpuSample { time_ns: Some(cpu_ns), ..CpuSample::default() }),
        ..Figures::default()
    };
    DomainRecord { id: id(number), name: format!("guest-{number}").into(), run: Some(RunId(run)), figures }
}

fn with_devices(mut record: DomainRecord, disks: &[&str], nics: &[&str]) -> DomainRecord {
    let block = |(index, name): (u32, &&str)| Block { index, name: Some((*name).into()), ..Block::default() };
    let nic = |(index, name): (u32, &&str)| Interface { index, name: Some((*name).into()), ..Interface::default() };
    let count = |devices: &[&str]| Some(devices.len() as u64);
    record.figures.block = Some(BlockSample { count: count(disks), disks: (0..).zip(disks).map(block).collect() });
    record.figures.interface =
        Some(InterfaceSample { count: count(nics), interfaces: (0..).zip(nics).map(nic).collect() });
    record
}

fn described(number: u8, run: Option<u32>, disks: &[&str], nics: &[&str]) -> ListedDomain {
    let description = DomainDescription {
        disks: disks.iter().map(|d| DiskDescription { target: (*d).into(), ..DiskDescription::default() }).collect(),
        nics: nics.iter().map(|n| NicDescription { target: (*n).into(), ..NicDescription::default() }).collect(),
        ..DomainDescription::default()
    };
    ListedDomain {
        id: id(number),
        name: format!("guest-{number}").into(),
        run: run.map(RunId),
        state: run.is_none().then_some(StateSample { state: Some(5), reason: Some(1) }),
        description: Some(Arc::new(description)),
    }
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::new());
        let store = Store::new(clock.clone());
        let mut stale_after = StaleAfter::default();
        for group in Group::ALL {
            stale_after.set(group, Duration::from_secs(30));
        }
        stale_after.set_list(Duration::from_secs(150));
        store.configure(stale_after);
        Self { clock, store }
    }

    /// Moves on by a second and says when it is.
    fn tick(&self) -> Stamp {
        self.clock.advance(Duration::from_secs(1));
        Stamp { at: self.clock.now(), wall: self.clock.wall() }
    }

    fn bulk(&self, started: Stamp, records: Vec<DomainRecord>) -> Changes {
        self.store.apply_bulk(started, &all_groups(), BulkReply { records, ..BulkReply::default() })
    }

    fn inventory(&self, started: Stamp, domains: Vec<ListedDomain>) {
        self.store.apply_inventory(started, InventoryReply { domains, ..InventoryReply::default() });
    }

    fn names(&self) -> Vec<String> {
        self.store.snapshot().domains.iter().map(|domain| domain.name.to_string()).collect()
    }

    fn cpu(&self, number: u8) -> Option<u64> {
        let snapshot = self.store.snapshot();
        let domain = snapshot.find(&id(number).to_string())?;
        domain.windows.cpu.newest()?.figures.time_ns
    }

    fn late(&self) -> u64 {
        self.store.metrics.samples_dropped.with_label_values(&["late"]).get()
    }
}

#[test]
fn snapshots_are_immutable_and_newer_ones_show_more() {
    let bench = Bench::new();
    bench.bulk(bench.tick(), vec![record(1, 1, 10)]);
    let before = bench.store.snapshot();
    bench.bulk(bench.tick(), vec![record(1, 1, 20), record(2, 2, 5)]);
    let after = bench.store.snapshot();
    assert_eq!((before.domains.len(), after.domains.len()), (1, 2));
    let cpu = |snapshot: &Snapshot| snapshot.domains[0].windows.cpu.newest().map(|sampled| sampled.figures.time_ns);
    assert_eq!((cpu(&before), cpu(&after)), (Some(Some(10)), Some(Some(20))));
    assert!(after.sequence > before.sequence);
    let (previous, elapsed) = after.domains[0].windows.cpu.previous().expect("two samples");
    assert_eq!((previous.time_ns, elapsed), (Some(10), Duration::from_secs(1)));
}

#[test]
fn who_is_missing_is_removed_at_once_and_a_late_answer_cannot_bring_him_back() {
    let bench = Bench::new();
    bench.bulk(bench.tick(), vec![record(1, 1, 10), record(2, 2, 10)]);
    let early = bench.tick();
    let changes = bench.bulk(bench.tick(), vec![record(2, 2, 20)]);
    assert!(changes.domains);
    assert_eq!(bench.names(), ["guest-2"]);
    bench.bulk(early, vec![record(1, 1, 15), record(2, 2, 15)]);
    assert_eq!(bench.names(), ["guest-2"]);
    bench.inventory(early, vec![described(1, Some(1), &[], &[]), described(2, Some(2), &[], &[])]);
    assert_eq!(bench.names(), ["guest-2"]);
    bench.bulk(bench.tick(), vec![record(1, 9, 1), record(2, 2, 30)]);
    assert_eq!(bench.names(), ["guest-1", "guest-2"], "started again");
}

#[test]
fn a_late_answer_removes_nobody_who_came_after_it() {
    let bench = Bench::new();
    let early = bench.tick();
    bench.bulk(bench.tick(), vec![record(1, 1, 10)]);
    bench.bulk(early, vec![]);
    bench.inventory(early, vec![]);
    assert_eq!(bench.names(), ["guest-1"]);
}

#[test]
fn a_call_about_some_domains_says_nothing_about_others() {
    let bench = Bench::new();
    bench.bulk(bench.tick(), vec![record(1, 1, 10), record(2, 2, 10), record(3, 3, 10)]);
    let request = BulkRequest { scope: Scope::Only(vec![id(1), id(2)]), ..all_groups() };
    let reply = BulkReply { records: vec![record(1, 1, 20)], ..BulkReply::default() };
    assert!(bench.store.apply_bulk(bench.tick(), &request, reply).domains);
    assert_eq!(bench.names(), ["guest-1", "guest-3"]);
}

#[test]
fn another_run_shares_no_sample_with_the_one_before() {
    let bench = Bench::new();
    bench.bulk(bench.tick(), vec![record(1, 1, 1000)]);
    assert!(bench.bulk(bench.tick(), vec![record(1, 2, 3)]).domains);
    let snapshot = bench.store.snapshot();
    let cpu = &snapshot.domains[0].windows.cpu;
    assert_eq!(cpu.newest().map(|sampled| sampled.figures.time_ns), Some(Some(3)));
    assert!(cpu.previous().is_none(), "no rate across a restart");
}

#[test]
fn a_late_record_of_an_old_run_does_not_undo_a_restart() {
    let bench = Bench::new();
    bench.bulk(bench.tick(), vec![record(1, 1, 1000)]);
    let early = bench.tick();
    bench.bulk(bench.tick(), vec![record(1, 2, 3)]);
    bench.bulk(early, vec![record(1, 1, 1001)]);
    assert_eq!((bench.cpu(1), bench.late()), (Some(3), 2));
}

#[test]
fn shut_off_domains_come_from_the_list() {
    let bench = Bench::new();
    bench.inventory(bench.tick(), vec![described(1, None, &[], &[]), described(2, Some(2), &[], &[])]);
    bench.bulk(bench.tick(), vec![record(2, 2, 10)]);
    let snapshot = bench.store.snapshot();
    let states: Vec<_> = snapshot.domains.iter().map(|d| d.state().and_then(|sampled| sampled.figures.state)).collect();
    assert_eq!(states, [Some(5), Some(1)], "a bulk call lists running ones only, and removes no others");
    assert!(bench.bulk(bench.tick(), vec![record(1, 7, 1), record(2, 2, 20)]).domains, "it was started");
    assert_eq!(bench.store.snapshot().domains[0].state().and_then(|s| s.figures.state), Some(1));
}

#[test]
fn hot_plug_asks_for_the_xml_once() {
    let bench = Bench::new();
    bench.inventory(bench.tick(), vec![described(1, Some(1), &["vda"], &["tap0"])]);
    let same = || with_devices(record(1, 1, 1), &["vda"], &["tap0"]);
    let more = || with_devices(record(1, 1, 1), &["vda", "vdb"], &["tap0"]);
    let none = Changes::default();
    assert_eq!(bench.bulk(bench.tick(), vec![same()]), none, "as its XML says");
    assert_eq!(bench.bulk(bench.tick(), vec![more()]).devices, [id(1)]);
    assert_eq!(bench.bulk(bench.tick(), vec![more()]), none, "told once");
    let nic = with_devices(record(1, 1, 1), &["vda", "vdb"], &[]);
    assert_eq!(bench.bulk(bench.tick(), vec![nic]).devices, [id(1)]);
}

#[test]
fn devices_other_than_the_xml_says_are_a_change_from_the_first_sample() {
    let bench = Bench::new();
    bench.inventory(bench.tick(), vec![described(1, Some(1), &["vda"], &[])]);
    let changed = with_devices(record(1, 1, 1), &["vdb"], &[]);
    assert_eq!(bench.bulk(bench.tick(), vec![changed]).devices, [id(1)]);
}

#[test]
fn a_rename_is_shown_and_found() {
    let bench = Bench::new();
    bench.bulk(bench.tick(), vec![record(1, 1, 1), record(2, 2, 1)]);
    let renamed = DomainRecord { name: "zebra".into(), ..record(1, 1, 2) };
    bench.bulk(bench.tick(), vec![renamed, record(2, 2, 2)]);
    assert_eq!(bench.names(), ["guest-2", "zebra"]);
    let snapshot = bench.store.snapshot();
    assert_eq!(snapshot.find("zebra").map(|domain| domain.id), Some(id(1)));
    assert_eq!(snapshot.find(&id(2).to_string()).map(|domain| &*domain.name), Some("guest-2"));
    assert!(snapshot.find("guest-1").is_none() && snapshot.find("").is_none());
}

#[test]
fn complete_means_listed_and_asked_for_every_group() {
    let bench = Bench::new();
    let incomplete = || bench.store.snapshot().incomplete.as_deref().map(str::to_owned);
    assert_eq!(incomplete().as_deref(), Some("connecting to libvirt"));
    bench.store.link_lost("no socket");
    assert_eq!(incomplete().as_deref(), Some("no socket"));
    bench.inventory(bench.tick(), vec![]);
    assert!(incomplete().is_some_and(|reason| reason.starts_with("no complete sample yet of: state, cpu")));
    let some: GroupSet = [Group::State].into_iter().collect();
    let request = BulkRequest { groups: some, scope: Scope::All };
    bench.store.apply_bulk(bench.tick(), &request, BulkReply::default());
    assert!(incomplete().is_some_and(|reason| !reason.contains("state")));
    bench.bulk(bench.tick(), vec![]);
    assert_eq!(incomplete(), None, "an empty host is complete too");
}

#[test]
fn a_problem_of_bulk_calls_is_said_until_it_is_over() {
    let bench = Bench::new();
    bench.inventory(bench.tick(), vec![]);
    bench.store.set_bulk_problem(Some("refused"));
    let snapshot = bench.store.snapshot();
    assert_eq!(snapshot.problem.as_deref(), Some("refused"));
    assert!(snapshot.incomplete.as_deref().is_some_and(|reason| reason.ends_with("; refused")));
    bench.store.set_bulk_problem(None);
    assert_eq!(bench.store.snapshot().problem, None);
}

#[test]
fn stale_samples_are_not_fresh_and_the_moment_is_known() {
    let bench = Bench::new();
    let started = bench.tick();
    bench.bulk(started, vec![record(1, 1, 1)]);
    let snapshot = bench.store.snapshot();
    let cpu = &snapshot.domains[0].windows.cpu;
    let limit = started.at + Duration::from_secs(30);
    assert_eq!(snapshot.next_staleness(started.at), Some(limit));
    assert!(snapshot.fresh(cpu, Group::Cpu, limit).is_some());
    assert!(snapshot.fresh(cpu, Group::Cpu, limit + Duration::from_millis(1)).is_none());
    assert_eq!(snapshot.next_staleness(limit + Duration::from_millis(1)), None);
    assert_eq!(snapshot.domains[0].age(Group::Block, limit), Duration::from_secs(30), "since it was found");
}

#[test]
fn listeners_are_told_once_until_they_look() {
    let bench = Bench::new();
    let news = bench.store.subscribe();
    bench.bulk(bench.tick(), vec![]);
    bench.bulk(bench.tick(), vec![]);
    assert_eq!(news.try_iter().count(), 1);
    bench.bulk(bench.tick(), vec![]);
    assert_eq!(news.try_iter().count(), 1);
}

#[test]
fn known_descriptions_are_those_of_the_run_they_were_read_in() {
    let bench = Bench::new();
    bench.inventory(bench.tick(), vec![described(1, Some(1), &[], &[])]);
    let request = bench.store.known_descriptions();
    assert!(!request.wants(id(1), Some(RunId(1))));
    bench.bulk(bench.tick(), vec![record(1, 2, 1)]);
    assert!(bench.store.known_descriptions().wants(id(1), Some(RunId(2))), "restarted since");
}

#[test]
fn the_newest_answer_stays_the_newest() {
    let bench = Bench::new();
    let (early, late) = (bench.tick(), bench.tick());
    bench.bulk(late, vec![]);
    bench.bulk(early, vec![]);
    assert_eq!(bench.store.snapshot().sampled, Some(late));
}

#[test]
fn a_group_that_is_not_sampled_any_more_is_forgotten() {
    let bench = Bench::new();
    bench.bulk(bench.tick(), vec![record(1, 1, 10)]);
    let mut only_state = StaleAfter::default();
    only_state.set(Group::State, Duration::from_secs(30));
    bench.store.configure(only_state);
    let snapshot = bench.store.snapshot();
    let windows = &snapshot.domains[0].windows;
    assert!(windows.cpu.newest().is_none() && windows.state.newest().is_some());
}

#[test]
fn another_host_begins_with_nothing() {
    let bench = Bench::new();
    let news = bench.store.subscribe();
    bench.inventory(bench.tick(), vec![described(1, None, &[], &[])]);
    bench.store.forget();
    assert!(bench.names().is_empty() && bench.store.snapshot().incomplete.is_some());
    assert!(news.try_recv().is_ok());
    bench.bulk(bench.tick(), vec![record(2, 1, 1)]);
    assert!(news.try_recv().is_ok(), "listeners stay");
}

#[test]
fn the_list_turns_stale_too() {
    let bench = Bench::new();
    let started = bench.tick();
    bench.inventory(started, vec![described(1, None, &[], &[])]);
    let snapshot = bench.store.snapshot();
    let limit = started.at + Duration::from_secs(150);
    assert_eq!(snapshot.next_staleness(started.at), Some(limit));
    assert!(snapshot.list_is_fresh(limit) && !snapshot.list_is_fresh(limit + Duration::from_millis(1)));
}
