//! Titles apart, what the managers of guests write down about them: OpenStack Nova, oVirt, KubeVirt, and others.

use super::super::disk::Disk;
use super::super::guest::Guest;
use super::super::random::{self, Random, chance, pick, uuid_text};
use super::super::shape::{Balloon, Manager};
use super::super::storage::TEAMS;
use super::uuid;
use super::writer::Writer;

const USERS: &[(u32, &str)] = &[(4, "admin"), (3, "alice"), (2, "bob.o'neil"), (2, "ci-runner"), (1, "müller")];

/// A description, on some.
pub(super) fn description(guest: &Guest) -> Option<String> {
    let random = &mut random::of(guest.shape.seed, 7);
    if !chance(random, 25) {
        return None;
    }
    let team = pick(random, TEAMS);
    Some(match random.u32(0..3) {
        0 => format!("Belongs to {team}"),
        1 => format!("Owner: {team}\nTicket: OPS-{}\n<do not delete> & ask first", random.u32(100..9999)),
        _ => String::from("created by terraform"),
    })
}

/// `<metadata>`, if there is any.
pub(super) fn write(xml: &mut Writer, guest: &Guest) {
    // What was drawn for one guest stays its own for ever.
    let random = &mut random::of(guest.shape.seed, 8);
    match guest.shape.manager {
        Manager::Nova => section(xml, |xml| nova(xml, guest, random)),
        Manager::Ovirt => section(xml, |xml| ovirt(xml, guest, random)),
        Manager::KubeVirt => section(xml, |xml| kubevirt(xml, random)),
        Manager::Plain => match random.u32(0..10) {
            0..6 => section(xml, |xml| libosinfo(xml, random)),
            6 => section(xml, |xml| {
                libosinfo(xml, random);
                inventory(xml, random);
            }),
            _ => {}
        },
    }
}

/// libvirt keeps metadata as it was given: with the other quotes.
fn section(xml: &mut Writer, write: impl FnOnce(&mut Writer)) {
    xml.open("metadata", &[]);
    xml.quote('"');
    write(xml);
    xml.quote('\'');
    xml.close();
}

fn nova(xml: &mut Writer, guest: &Guest, random: &mut Random) {
    let shape = &guest.shape;
    let (team, user) = (pick(random, TEAMS), pick(random, USERS));
    xml.open("nova:instance", &[("xmlns:nova", "http://openstack.org/xmlns/libvirt/nova/1.1")]);
    xml.empty("nova:package", &[("version", "27.1.0")]);
    let role = pick(random, &[(5, "web"), (4, "db"), (3, "worker"), (2, "R&D <test>"), (1, "größe \"XL\"")]);
    xml.text("nova:name", &[], &format!("{role}-{}", guest.number));
    xml.text("nova:creationTime", &[], &format!("2024-{:02}-{:02} 08:15:30", random.u32(1..13), random.u32(1..29)));
    let size = pick(random, &[(4, "small"), (3, "medium"), (2, "large")]);
    xml.open("nova:flavor", &[("name", &format!("m{}.{size}", shape.vcpus))]);
    let disk = shape.disks.first().map_or(0, |disk| disk.capacity >> 30);
    for (name, value) in [
        ("nova:memory", shape.memory_kib / 1024),
        ("nova:disk", disk),
        ("nova:swap", 0),
        ("nova:ephemeral", 0),
        ("nova:vcpus", u64::from(shape.vcpus)),
    ] {
        xml.text(name, &[], &value.to_string());
    }
    xml.close();
    xml.open("nova:owner", &[]);
    // A user and a project have the same number everywhere.
    xml.text("nova:user", &[("uuid", &of_name(user))], user);
    xml.text("nova:project", &[("uuid", &of_name(team))], team);
    xml.close();
    xml.empty("nova:root", &[("type", "image"), ("uuid", &uuid_text(random))]);
    xml.open("nova:ports", &[]);
    for nic in &shape.nics {
        let [.., a, b] = nic.mac;
        xml.open("nova:port", &[("uuid", &uuid_text(random))]);
        let address = format!("10.20.{a}.{b}");
        xml.empty("nova:ip", &[("type", "fixed"), ("address", &address), ("ipVersion", "4")]);
        xml.close();
    }
    xml.close();
    xml.close();
}

/// Keystone's numbers: without dashes.
fn of_name(name: &str) -> String {
    let seed = name.bytes().fold(0, |seed: u64, byte| seed.wrapping_mul(31).wrapping_add(u64::from(byte)));
    uuid_text(&mut random::of(seed, 9)).replace('-', "")
}

fn ovirt(xml: &mut Writer, guest: &Guest, random: &mut Random) {
    let shape = &guest.shape;
    let tune = [("xmlns:ovirt-tune", "http://ovirt.org/vm/tune/1.0")];
    if chance(random, 20) {
        xml.open("ovirt-tune:qos", &tune);
        xml.text("ovirt-tune:vcpuLimit", &[], &random.u32(20..100).to_string());
        xml.close();
    } else {
        xml.empty("ovirt-tune:qos", &tune);
    }
    xml.open("ovirt-vm:vm", &[("xmlns:ovirt-vm", "http://ovirt.org/vm/1.0")]);
    let int = [("type", "int")];
    xml.text("ovirt-vm:balloonTarget", &int, &shape.current_kib.to_string());
    let ballooning = if shape.balloon == Balloon::None { "false" } else { "true" };
    xml.text("ovirt-vm:ballooningEnabled", &[], ballooning);
    xml.text("ovirt-vm:clusterVersion", &[], "4.7");
    xml.text("ovirt-vm:destroy_on_reboot", &[("type", "bool")], "False");
    xml.text("ovirt-vm:launchPaused", &[], "false");
    xml.text("ovirt-vm:memGuaranteedSize", &int, &(shape.memory_kib / 2048).to_string());
    xml.text("ovirt-vm:minGuaranteedMemoryMb", &int, &(shape.memory_kib / 2048).to_string());
    xml.text("ovirt-vm:resumeBehavior", &[], "auto_resume");
    for nic in &shape.nics {
        xml.open("ovirt-vm:device", &[("mac_address", &nic.mac_text())]);
        xml.text("ovirt-vm:network", &[], "ovirtmgmt");
        xml.close();
    }
    for disk in &shape.disks {
        ovirt_disk(xml, disk);
    }
    xml.close();
}

/// Domain, image and volume are parts of the path.
fn ovirt_disk(xml: &mut Writer, disk: &Disk) {
    xml.open("ovirt-vm:device", &[("devtype", "disk"), ("name", &disk.target)]);
    if let Some((domain, (image, volume))) = disk.path().filter(|_| !disk.cdrom).and_then(|path| {
        let (domain, image) = path.split_once("/images/")?;
        Some((domain.rsplit('/').next()?, image.split_once('/')?))
    }) {
        xml.text("ovirt-vm:domainID", &[], domain);
        xml.text("ovirt-vm:imageID", &[], image);
        xml.text("ovirt-vm:poolID", &[], "8f1e7c62-02ab-4d0e-8f6b-6a1f8c0d9b55");
        xml.text("ovirt-vm:volumeID", &[], volume);
    }
    xml.close();
}

fn kubevirt(xml: &mut Writer, random: &mut Random) {
    xml.open("kubevirt", &[("xmlns", "http://kubevirt.io")]);
    xml.text("uid", &[], &uuid_text(random));
    xml.open("graceperiod", &[]);
    xml.text("deletionGracePeriodSeconds", &[], "30");
    xml.close();
    xml.close();
}

fn libosinfo(xml: &mut Writer, random: &mut Random) {
    let id = pick(
        random,
        &[(4, "http://debian.org/debian/12"), (3, "http://redhat.com/rhel/9.2"), (2, "http://microsoft.com/win/2k22")],
    );
    xml.open("libosinfo:libosinfo", &[("xmlns:libosinfo", "http://libosinfo.org/xmlns/libvirt/domain/1.0")]);
    xml.empty("libosinfo:os", &[("id", id)]);
    xml.close();
}

/// A house's own.
fn inventory(xml: &mut Writer, random: &mut Random) {
    xml.open(
        "inv:asset",
        &[("xmlns:inv", "http://example.com/xmlns/inventory/1.0"), ("inv:id", &uuid(&random::uuid(random)))],
    );
    xml.text("inv:team", &[], pick(random, TEAMS));
    xml.text("inv:cost-center", &[], &random.u32(1000..9999).to_string());
    xml.close();
}
