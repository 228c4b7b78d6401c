//! The XML is well-formed, and says what the records say.

use std::collections::HashSet;

use roxmltree::{Document, Node};

use super::super::*;
use super::{Owned, Record, later, plan};

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
            assert!(places.insert(place.clone()) || place[0] == "drive", "two at {place:?} of {}", guest.name());
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
