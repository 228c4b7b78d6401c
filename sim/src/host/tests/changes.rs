//! Changes: what libvirt sends, what it refuses, and what is left behind.

use std::time::{Duration, SystemTime};

use super::super::*;
use super::{Record, begun, later, plan};

type Uuid = [u8; 16];

fn host() -> Host {
    Host::new(plan(60))
}

/// A running persistent guest, one that is shut off, and a transient one.
fn some(host: &Host, like: impl Fn(&Guest) -> bool) -> Uuid {
    *host.guests().find(|guest| like(guest)).expect("there is one").uuid()
}

fn running(host: &Host) -> Uuid {
    some(host, |guest| guest.state().0 == 1 && guest.is_persistent() && guest.shape.disks.len() == 2)
}

fn off(host: &Host) -> Uuid {
    some(host, |guest| !guest.is_running())
}

/// The lifecycle events of a change, as pairs.
fn told(host: &mut Host, change: &Change, now: SystemTime) -> Vec<(i32, i32)> {
    let events = host.apply(change, now).unwrap_or_else(|refused| panic!("{change:?}: {refused}"));
    let pair = |event: &Event| match event.what {
        EventKind::Lifecycle { event, detail } => Some((event, detail)),
        _ => None,
    };
    events.iter().filter_map(pair).collect()
}

#[test]
fn a_life() {
    let mut host = host();
    let events = host.apply(&Change::Define { seed: 9 }, later(1)).expect("there is room");
    assert_eq!(events[0].what, EventKind::Lifecycle { event: 0, detail: 0 });
    assert_eq!((events[0].guest.id, host.len()), (-1, 61));
    let uuid = events[0].guest.uuid;
    assert_eq!(told(&mut host, &Change::Start(uuid), later(2)), [(4, 0), (2, 0)]);
    let id = host.get(&uuid).expect("defined").reference().id;
    assert_eq!(host.by_run(id).map(Guest::uuid), Some(&uuid));
    assert_eq!(told(&mut host, &Change::Pause(uuid), later(3)), [(3, 0)]);
    assert_eq!(host.get(&uuid).map(Guest::state), Some((3, 1)));
    assert_eq!(told(&mut host, &Change::Pause(uuid), later(4)), []);
    assert_eq!(host.apply(&Change::Shutdown(uuid), later(4)), Err(Refused::Paused));
    assert_eq!(told(&mut host, &Change::Resume(uuid), later(5)), [(4, 0)]);
    assert_eq!(host.get(&uuid).map(Guest::state), Some((1, 5)));
    assert_eq!(told(&mut host, &Change::Shutdown(uuid), later(6)), [(6, 1), (5, 0)]);
    assert_eq!(host.get(&uuid).map(Guest::state), Some((5, 1)));
    assert!(host.by_run(id).is_none());
    assert_eq!(told(&mut host, &Change::Start(uuid), later(7)), [(4, 0), (2, 0)]);
    assert!(host.get(&uuid).expect("defined").reference().id > id, "another run, another number");
    assert_eq!(told(&mut host, &Change::Stop(uuid), later(8)), [(6, 2), (5, 1)]);
    assert_eq!(told(&mut host, &Change::Undefine(uuid), later(9)), [(1, 0)]);
    assert!(host.get(&uuid).is_none());
    assert_eq!(host.len(), 60);
}

#[test]
fn a_newcomer_is_nobody_who_is_there_already_whatever_the_seed() {
    let mut host = host();
    host.apply(&Change::Define { seed: host.plan().seed }, later(1)).expect("there is room");
    let uuids: std::collections::HashSet<Uuid> = host.guests().map(|guest| *guest.uuid()).collect();
    assert_eq!(uuids.len(), host.len());
}

#[test]
fn what_libvirt_refuses_is_refused() {
    let mut host = host();
    let (on, off) = (running(&host), off(&host));
    let name = host.get(&on).expect("it is there").name().to_owned();
    for (change, refused) in [
        (Change::Start([7; 16]), Refused::NoGuest),
        (Change::Start(on), Refused::Running),
        (Change::Resume(on), Refused::Running),
        (Change::Stop(off), Refused::NotRunning),
        (Change::Shutdown(off), Refused::NotRunning),
        (Change::Crash(off), Refused::NotRunning),
        (Change::Pause(off), Refused::NotRunning),
        (Change::Resume(off), Refused::NotRunning),
        (Change::ResetCounters(off), Refused::NotRunning),
        (Change::MigrateOutBegin(off), Refused::NotRunning),
        (Change::MigrateOutEnd(on), Refused::NotMigrating),
        (Change::Rename(on, "x".to_owned()), Refused::Running),
        (Change::Rename(off, name), Refused::NameTaken),
        (Change::Rename(off, "a/b".to_owned()), Refused::BadName),
        (Change::Rename(off, String::new()), Refused::BadName),
        (Change::Rename(off, "a\nb".to_owned()), Refused::BadName),
    ] {
        assert_eq!(host.apply(&change, later(1)), Err(refused), "{change:?}");
    }
}

#[test]
fn a_transient_guest_is_gone_with_its_run() {
    let mut host = host();
    let uuid = running(&host);
    assert_eq!(told(&mut host, &Change::Undefine(uuid), later(1)), [(1, 0)]);
    assert_eq!(host.apply(&Change::Undefine(uuid), later(1)), Err(Refused::Transient));
    assert!(host.get(&uuid).is_some_and(|guest| guest.is_running() && !guest.is_persistent()));
    assert_eq!(told(&mut host, &Change::Crash(uuid), later(2)), [(5, 5)]);
    assert!(host.get(&uuid).is_none());
}

#[test]
fn a_name_can_be_changed() {
    let mut host = host();
    let uuid = off(&host);
    let old = host.get(&uuid).expect("it is there").name().to_owned();
    let events = host.apply(&Change::Rename(uuid, "new & shiny".to_owned()), later(1)).expect("a legal name");
    let names: Vec<_> = events.iter().map(|event| event.guest.name.as_str()).collect();
    assert_eq!(names, [old.as_str(), "new & shiny"]);
    assert!(host.by_name(&old).is_none() && host.by_name("new & shiny").is_some());
}

#[test]
fn a_migration_out_has_a_job_and_takes_the_guest_away() {
    let mut host = host();
    let uuid = running(&host);
    assert_eq!(told(&mut host, &Change::MigrateOutBegin(uuid), later(0)), []);
    assert_eq!(host.apply(&Change::MigrateOutBegin(uuid), later(0)), Err(Refused::Migrating));
    assert_eq!(host.apply(&Change::AttachNic(uuid), later(0)), Err(Refused::Migrating));
    let guest = host.get(&uuid).expect("it is still there");
    let remaining = |at| {
        let job = guest.job(later(at)).expect("it migrates");
        assert_eq!((job.kind, job.params[0]), (2, ("operation", Value::Int(5))));
        assert_eq!(job.params[1], ("time_elapsed", Value::ULLong(at * 1000)));
        job.params.iter().find_map(|(name, value)| match value {
            Value::ULLong(value) if *name == "memory_remaining" => Some(*value),
            _ => None,
        })
    };
    assert!(remaining(0) > remaining(1));
    let events = host.apply(&Change::MigrateOutEnd(uuid), later(30)).expect("it migrates");
    let kinds: Vec<_> = events
        .iter()
        .map(|event| match &event.what {
            EventKind::Lifecycle { event, detail } => (*event, *detail),
            EventKind::JobCompleted { params } => (100, i32::from(params.iter().any(|(name, _)| *name == "downtime"))),
            _ => (101, 0),
        })
        .collect();
    assert_eq!(kinds, [(3, 1), (100, 1), (5, 3), (1, 0)]);
    assert_eq!(events.last().map(|event| event.guest.id), Some(-1));
    assert!(host.get(&uuid).is_none());
}

#[test]
fn a_migration_in_brings_a_running_guest() {
    let mut host = host();
    let events = host.apply(&Change::MigrateIn { seed: 1 }, later(1)).expect("there is room");
    let uuid = events[0].guest.uuid;
    let guest = host.get(&uuid).expect("it came");
    assert_eq!((guest.state(), guest.is_persistent()), ((1, 2), true));
    assert_eq!(told(&mut host, &Change::MigrateIn { seed: 1 }, later(2)), [(2, 1), (0, 0), (4, 1)]);
    assert_eq!(host.len(), 62);
}

#[test]
fn devices_come_and_go() {
    let mut host = host();
    let uuid = running(&host);
    let before = host.get(&uuid).expect("it is there").clone();
    let mut apply = |change: Change| host.apply(&change, later(50)).expect("there is room").remove(0).what;
    let EventKind::DeviceAdded { alias: disk } = apply(Change::AttachDisk(uuid)) else { panic!("a disk was added") };
    let EventKind::DeviceAdded { alias: nic } = apply(Change::AttachNic(uuid)) else { panic!("a NIC was added") };
    let guest = host.get(&uuid).expect("it is there").clone();
    assert!(guest.xml().contains(&format!("<alias name='{disk}'/>")) && guest.xml().contains(&format!("'{nic}'")));
    assert_eq!(guest.disk_targets().count(), before.disk_targets().count() + 1);
    for (number, added) in guest.shape.disks.iter().enumerate().filter(|(_, other)| other.alias() == disk) {
        let now = Record::of(&guest, Depth::Whole, later(50)).number(&format!("block.{number}.wr.bytes"));
        let then = Record::of(&guest, Depth::Whole, later(50_000)).number(&format!("block.{number}.wr.bytes"));
        assert!(now == Some(0) && then > now, "{}: {now:?}, {then:?}", added.target);
    }
    let mut apply = |change: Change| host.apply(&change, later(60)).expect("they are there").remove(0).what;
    assert_eq!(apply(Change::DetachNic(uuid)), EventKind::DeviceRemoved { alias: nic });
    assert!(matches!(apply(Change::DetachDisk(uuid)), EventKind::DeviceRemoved { .. }));
    let mut room = 0;
    while host.apply(&Change::AttachDisk(uuid), later(70)).is_ok() {
        room += 1;
    }
    assert_eq!(host.get(&uuid).map(|guest| guest.shape.disks.len()), Some(16), "{room} were added");
    while host.apply(&Change::DetachDisk(uuid), later(70)).is_ok() {}
    assert!(host.get(&uuid).is_some_and(|guest| guest.shape.disks.iter().all(|disk| disk.cdrom)));
    let off = off(&host);
    assert_eq!(host.apply(&Change::AttachNic(off), later(70)), Ok(Vec::new()), "nobody is told");
}

#[test]
fn time_stands_still_in_a_pause() {
    let mut host = host();
    let uuid = running(&host);
    let cpu = |host: &Host, at| host.get(&uuid).expect("it is there").info(later(at)).cpu_time_ns;
    host.apply(&Change::Pause(uuid), later(100)).expect("it runs");
    let paused = cpu(&host, 100);
    assert_eq!(cpu(&host, 100_000), paused);
    host.apply(&Change::Resume(uuid), later(100_000)).expect("it is paused");
    assert_eq!(cpu(&host, 100_000), paused);
    assert!(cpu(&host, 200_000) > paused);
}

#[test]
fn counters_begin_anew_with_a_reset_and_with_a_run() {
    let mut host = host();
    let uuid = running(&host);
    let of = |host: &Host, at| Record::of(host.get(&uuid).expect("it is there"), Depth::Whole, later(at));
    let id = host.get(&uuid).expect("it is there").reference().id;
    assert!(of(&host, 10).number("cpu.time") > Some(0));
    let held = of(&host, 10).number("block.0.physical");
    host.apply(&Change::ResetCounters(uuid), later(10)).expect("it runs");
    assert_eq!(of(&host, 10).number("cpu.time"), Some(0));
    assert_eq!(of(&host, 10).number("block.0.wr.bytes"), Some(0));
    assert_eq!(of(&host, 10).number("block.0.physical"), held, "what was written stays");
    assert_eq!(host.get(&uuid).expect("it is there").reference().id, id);
    host.apply(&Change::Stop(uuid), later(1000)).expect("it runs");
    assert_eq!(of(&host, 1000).get("cpu.time"), None);
    host.apply(&Change::Start(uuid), later(2000)).expect("it is off");
    assert_eq!(of(&host, 2000).number("cpu.time"), Some(0));
    assert!(of(&host, 2000).number("block.0.physical") >= held);
}

#[test]
fn a_new_title_is_told_and_read() {
    let mut host = host();
    let uuid = running(&host);
    let events = host.apply(&Change::SetMetadata(uuid), begun() + Duration::from_secs(1)).expect("it is there");
    assert_eq!(events[0].what, EventKind::MetadataChanged { kind: 1, namespace: None });
    assert!(host.get(&uuid).is_some_and(|guest| guest.xml().contains(", seen to at 1760000001</title>")));
}
