//! The host as a whole: believable, repeatable, and of one mind with itself.

mod changes;
mod growth;
mod xml;

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use super::*;

/// A value that outlives the call.
#[derive(Debug, Clone, PartialEq)]
enum Owned {
    Int(i32),
    UInt(u32),
    LLong(i64),
    ULLong(u64),
    Double(f64),
    Boolean(bool),
    Text(String),
}

/// A record in the order in which it came.
#[derive(Debug, Default, Clone, PartialEq)]
struct Record(Vec<(String, Owned)>);

impl Params for Record {
    fn put(&mut self, name: &str, value: Value<'_>) {
        let value = match value {
            Value::Int(value) => Owned::Int(value),
            Value::UInt(value) => Owned::UInt(value),
            Value::LLong(value) => Owned::LLong(value),
            Value::ULLong(value) => Owned::ULLong(value),
            Value::Double(value) => Owned::Double(value),
            Value::Boolean(value) => Owned::Boolean(value),
            Value::Text(value) => Owned::Text(value.to_owned()),
        };
        self.0.push((name.to_owned(), value));
    }
}

impl Record {
    fn of(guest: &Guest, depth: Depth, now: SystemTime) -> Self {
        let mut record = Self::default();
        guest.stats(groups::ALL, depth, now, &mut record);
        record
    }

    fn get(&self, name: &str) -> Option<&Owned> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    fn number(&self, name: &str) -> Option<u64> {
        match self.get(name)? {
            Owned::ULLong(value) => Some(*value),
            Owned::UInt(value) => Some(u64::from(*value)),
            _ => None,
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Owned::Text(value) => Some(value),
            _ => None,
        }
    }

    fn names(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }
}

fn begun() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_760_000_000)
}

fn plan(domains: u32) -> Plan {
    Plan { seed: 42, domains, shut_off_per_mille: 100, begun: begun() }
}

fn later(seconds: u64) -> SystemTime {
    begun() + Duration::from_secs(seconds)
}

#[test]
fn the_same_plan_makes_the_same_host() {
    let (one, other) = (Host::new(plan(200)), Host::new(plan(200)));
    for (a, b) in one.guests().zip(other.guests()) {
        assert_eq!(a.xml(), b.xml());
        assert_eq!(Record::of(a, Depth::Whole, later(77)), Record::of(b, Depth::Whole, later(77)));
    }
    let another = Host::new(Plan { seed: 43, ..plan(200) });
    let same = one.guests().zip(another.guests()).filter(|(a, b)| a.uuid() == b.uuid()).count();
    assert_eq!(same, 0);
}

#[test]
fn a_large_host_is_of_the_usual_mix() {
    let host = Host::new(plan(10_000));
    let mean = |count: &dyn Fn(&Guest) -> usize| host.guests().map(count).sum::<usize>() as f64 / 10_000.0;
    let vcpus = mean(&|guest| guest.shape.vcpus as usize);
    let disks = mean(&|guest| guest.shape.disks.len());
    let nics = mean(&|guest| guest.shape.nics.len());
    for mean in [vcpus, disks, nics] {
        assert!((1.85..2.15).contains(&mean), "{vcpus} vCPUs, {disks} disks, {nics} NICs");
    }
    assert_eq!(host.guests().filter(|guest| guest.is_running()).count(), 9000);
    let most = |count: &dyn Fn(&Guest) -> usize| host.guests().map(count).max();
    assert_eq!(most(&|guest| guest.shape.vcpus as usize), Some(64));
    assert_eq!(most(&|guest| guest.shape.disks.len()), Some(16));
    assert_eq!(most(&|guest| guest.shape.nics.len()), Some(10));
    assert_eq!(host.guests().filter(|guest| guest.shape.nics.is_empty()).count(), 1);
    assert!(host.guests().any(|guest| guest.state().0 == 3), "some are paused");
    assert!(host.guests().any(|guest| !guest.is_persistent()), "some are transient");
    assert!(host.guests().all(|guest| guest.is_persistent() || guest.is_running()));
}

#[test]
fn names_uuids_and_devices_are_unique_and_legal() {
    let host = Host::new(plan(10_000));
    let mut names = HashSet::new();
    let mut uuids = HashSet::new();
    let mut devices = HashSet::new();
    let mut addresses: HashMap<_, u32> = HashMap::new();
    for guest in host.guests() {
        assert!(names::is_legal(guest.name()) && guest.name().len() <= 200, "{:?}", guest.name());
        assert!(names.insert(guest.name().to_owned()), "{:?} twice", guest.name());
        assert!(uuids.insert(*guest.uuid()));
        for nic in &guest.shape.nics {
            *addresses.entry(nic.mac).or_default() += 1;
            assert!(nic.device.len() <= 15, "{} is too long for Linux", nic.device);
            assert!(nic.device.is_empty() || devices.insert(nic.device.clone()), "{} twice", nic.device);
        }
    }
    assert_eq!(addresses.values().filter(|count| **count > 1).collect::<Vec<_>>(), [&2], "one shared pair");
    for part in [" ", "'", "\"", "&", "<", "仮", "🚀", "\t"] {
        assert!(names.iter().any(|name| name.contains(part)), "no name with {part:?}");
    }
    assert!(names.iter().any(|name| name.len() > 195));
    assert!(names.iter().any(|name| uuid::Uuid::parse_str(name).is_ok()));
    assert!(names.iter().any(|name| name.parse::<u64>().is_ok()));
}

#[test]
fn guests_are_found() {
    let host = Host::new(plan(50));
    assert_eq!(host.len(), 50);
    for guest in host.guests() {
        assert_eq!(host.get(guest.uuid()).map(Guest::name), Some(guest.name()));
        assert_eq!(host.by_name(guest.name()).map(Guest::uuid), Some(guest.uuid()));
        let id = guest.reference().id;
        assert_eq!(guest.is_running(), id > 0);
        assert_eq!(host.by_run(id).map(Guest::name), guest.is_running().then_some(guest.name()));
    }
    assert!(host.get(&[0; 16]).is_none() && host.by_name("").is_none() && host.by_run(0).is_none());
}

#[test]
fn a_shut_off_host_has_no_runs_and_a_full_one_only_runs() {
    for (per_mille, running) in [(1000, 0), (2000, 0), (0, 64), (500, 32)] {
        let host = Host::new(Plan { shut_off_per_mille: per_mille, ..plan(64) });
        assert_eq!(host.guests().filter(|guest| guest.is_running()).count(), running);
    }
}

#[test]
fn other_calls_say_what_the_bulk_call_says() {
    let host = Host::new(plan(300));
    for guest in host.guests() {
        let now = later(1234);
        let stats = Record::of(guest, Depth::Whole, now);
        let info = guest.info(now);
        assert_eq!(Some(info.cpu_time_ns), stats.number("cpu.time").or(Some(0)));
        assert_eq!(stats.get("state.state"), Some(&Owned::Int(i32::from(info.state))));
        let mut totals = Record::default();
        guest.cpu_totals(now, &mut totals);
        assert_eq!(totals.get("user_time"), stats.get("cpu.user"));
        let vcpus = guest.vcpu_infos(now);
        assert!(vcpus.iter().all(|v| stats.number(&format!("vcpu.{}.time", v.number)) == Some(v.cpu_time_ns)));
        let memory: HashMap<_, _> = guest.memory_stats(now).into_iter().collect();
        for (tag, name) in
            [(4, "unused"), (5, "available"), (7, "rss"), (8, "usable"), (9, "last-update"), (3, "minor_fault")]
        {
            assert_eq!(memory.get(&tag).copied(), stats.number(&format!("balloon.{name}")), "{name}");
        }
    }
}
