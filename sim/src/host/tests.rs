//! The host as a whole: believable, repeatable, and of one mind with itself.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime};

use roxmltree::{Document, Node};

use super::*;

/// A value that outlives the call.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Owned {
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
pub(super) struct Record(pub(super) Vec<(String, Owned)>);

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
    pub(super) fn of(guest: &Guest, depth: Depth, now: SystemTime) -> Self {
        let mut record = Self::default();
        guest.stats(groups::ALL, depth, now, &mut record);
        record
    }

    pub(super) fn get(&self, name: &str) -> Option<&Owned> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    pub(super) fn number(&self, name: &str) -> Option<u64> {
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

    pub(super) fn names(&self) -> Vec<&str> {
        self.0.iter().map(|(name, _)| name.as_str()).collect()
    }
}

pub(super) fn begun() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_760_000_000)
}

pub(super) fn plan(domains: u32) -> Plan {
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
        assert!(super::names::is_legal(guest.name()) && guest.name().len() <= 200, "{:?}", guest.name());
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

fn child<'a>(node: Node<'a, 'a>, name: &str) -> Option<Node<'a, 'a>> {
    node.children().find(|child| child.has_tag_name(name))
}

fn inner<'a>(node: Node<'a, 'a>, name: &str) -> &'a str {
    child(node, name).and_then(|child| child.text()).unwrap_or_default()
}

fn attribute<'a>(node: Node<'a, 'a>, element: &str, name: &str) -> Option<&'a str> {
    child(node, element)?.attribute(name)
}

#[test]
fn xml_and_stats_agree() {
    let host = Host::new(plan(300));
    for guest in host.guests() {
        let xml = guest.xml();
        let document = Document::parse(&xml).unwrap_or_else(|error| panic!("{error}: {xml}"));
        let root = document.root_element();
        let stats = Record::of(guest, Depth::Whole, later(60));
        assert_eq!(inner(root, "name"), guest.name());
        assert_eq!(inner(root, "uuid"), uuid::Uuid::from_bytes(*guest.uuid()).to_string());
        assert_eq!(root.attribute("id").map(|id| id.parse().expect("a number")), guest.run.as_ref().map(|run| run.id));
        assert!(!inner(root, "title").contains('\n'));
        assert_eq!(inner(root, "memory").parse().ok(), stats.number("balloon.maximum"));
        assert_eq!(inner(root, "currentMemory").parse().ok(), stats.number("balloon.current"));
        assert_eq!(inner(root, "vcpu").parse().ok(), stats.number("vcpu.maximum"));
        let current = attribute(root, "vcpu", "current").unwrap_or(inner(root, "vcpu"));
        assert_eq!(current.parse().ok(), stats.number("vcpu.current"));
        let devices = child(root, "devices").expect("devices");
        disks_agree(devices, guest, &stats);
        nics_agree(devices, guest, &stats);
        let balloon = attribute(devices, "memballoon", "model");
        assert_eq!(balloon, Some(if guest.has_balloon() { "virtio" } else { "none" }));
        let mut places = HashSet::new();
        for place in devices.children().filter_map(|device| child(device, "address")) {
            let place: Vec<_> = place.attributes().filter(|a| a.name() != "multifunction").map(|a| a.value()).collect();
            let controller = places.insert(place.clone());
            assert!(controller || place[0] == "drive", "two devices at {place:?} of {}", guest.name());
        }
        let aliases: Vec<_> = devices.children().filter_map(|device| attribute(device, "alias", "name")).collect();
        assert_eq!(aliases.is_empty(), !guest.is_running());
        assert_eq!(aliases.iter().collect::<HashSet<_>>().len(), aliases.len(), "{aliases:?}");
    }
}

fn disks_agree(devices: Node<'_, '_>, guest: &Guest, stats: &Record) {
    let disks: Vec<_> = devices.children().filter(|device| device.has_tag_name("disk")).collect();
    assert_eq!(stats.number("block.count"), u64::try_from(disks.len()).ok());
    let targets: Vec<_> = disks.iter().filter_map(|disk| attribute(*disk, "target", "dev")).collect();
    assert_eq!(guest.disk_targets().collect::<Vec<_>>(), targets);
    assert_eq!(targets.iter().collect::<HashSet<_>>().len(), targets.len());
    for (number, disk) in disks.iter().enumerate() {
        let of = |name: &str| format!("block.{number}.{name}");
        let target = targets[number];
        assert_eq!(stats.text(&of("name")), Some(target));
        let path = attribute(*disk, "source", "file").or(attribute(*disk, "source", "dev"));
        if disk.attribute("type") != Some("volume") {
            assert_eq!(stats.text(&of("path")), path);
        }
        let node = attribute(*disk, "source", "index").map(|index| index.parse().expect("a number"));
        assert_eq!(stats.number(&of("backingIndex")), node);
        assert!(guest.has_disk(target) && stats.text(&of("path")).is_none_or(|path| guest.has_disk(path)));
        let mut counters = Record::default();
        assert_eq!(guest.block_counters(target, later(60), &mut counters), guest.is_running());
        for (ours, theirs) in
            [("rd.bytes", "rd_bytes"), ("wr.reqs", "wr_operations"), ("fl.times", "flush_total_times")]
        {
            let theirs = counters
                .get(theirs)
                .map(|value| matches!(value, Owned::LLong(v) if u64::try_from(*v).ok() == stats.number(&of(ours))));
            assert!(theirs.unwrap_or(!guest.is_running()));
        }
        let info = guest.block_info(target, later(60));
        assert_eq!(info.map(|info| info.capacity), stats.number(&of("capacity")));
        if let Some(info) = info {
            assert!(info.allocation <= info.capacity + (1 << 20) && info.physical <= info.capacity);
        }
    }
}

fn nics_agree(devices: Node<'_, '_>, guest: &Guest, stats: &Record) {
    let nics: Vec<_> = devices.children().filter(|device| device.has_tag_name("interface")).collect();
    if !guest.is_running() {
        assert_eq!(stats.get("net.count"), None);
        return;
    }
    assert_eq!(stats.number("net.count"), u64::try_from(nics.len()).ok());
    for (number, nic) in nics.iter().enumerate() {
        let name = stats.text(&format!("net.{number}.name"));
        assert_eq!(name, attribute(*nic, "target", "dev"));
        let Some(name) = name else {
            assert!(matches!(nic.attribute("type"), Some("hostdev" | "user")));
            continue;
        };
        let counters = guest.interface_counters(name, later(60)).expect("it has a device");
        let received = stats.number(&format!("net.{number}.rx.bytes"));
        assert_eq!(u64::try_from(counters[0]).ok(), received);
        assert_eq!(
            guest.interface_counters(attribute(*nic, "mac", "address").expect("a MAC"), later(60)).map(|c| c.len()),
            Some(8)
        );
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
