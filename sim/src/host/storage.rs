//! Where the managers of guests put the disks.

use super::disk::Source;
use super::random::{Random, chance, uuid_text};
use super::shape::Manager;

/// Who has guests.
pub(super) const TEAMS: &[(u32, &str)] =
    &[(4, "Shop"), (3, "Finance"), (3, "R&D"), (2, "Büro Köln"), (2, "\"Platform\" team"), (1, "QA <night shift>")];

/// GiB.
pub(super) const CAPACITIES: &[(u32, u64)] = &[(20, 10), (30, 20), (20, 40), (15, 80), (8, 200), (5, 500), (2, 2048)];

/// What is in a drive for CDs: mostly nothing.
pub(super) fn medium(random: &mut Random) -> Source {
    if chance(random, 70) {
        return Source::None;
    }
    Source::File { path: "/var/lib/libvirt/images/iso/debian-12.5.0-amd64-netinst.iso".to_owned(), backing: Vec::new() }
}

/// The source of disk `number` of a guest, and its format.
pub(super) fn source(
    random: &mut Random,
    manager: Manager,
    number: u32,
    name: &str,
    uuid: &[u8; 16],
) -> (Source, &'static str) {
    match manager {
        Manager::Nova => nova(random, number, &uuid::Uuid::from_bytes(*uuid).to_string()),
        Manager::Ovirt => ovirt(random),
        Manager::KubeVirt => kubevirt(random, number),
        Manager::Plain => plain(random, number, name),
    }
}

fn file(path: String, backing: Vec<String>) -> (Source, &'static str) {
    (Source::File { path, backing }, "qcow2")
}

fn nova(random: &mut Random, number: u32, uuid: &str) -> (Source, &'static str) {
    // Disks after the first are Cinder's volumes.
    match (number, random.u32(0..10)) {
        (0, 0..5) => {
            let base = format!("/var/lib/nova/instances/_base/{:040x}", random.u64(..));
            file(format!("/var/lib/nova/instances/{uuid}/disk"), vec![base])
        }
        (0, _) => (Source::Rbd { image: format!("vms/{uuid}_disk") }, "raw"),
        (_, 0..6) => (Source::Rbd { image: format!("volumes/volume-{}", uuid_text(random)) }, "raw"),
        (_, 6..8) => (Source::Block { path: format!("/dev/dm-{}", random.u32(0..400)) }, "raw"),
        _ => {
            let name = format!("iqn.2010-10.org.openstack:volume-{}/1", uuid_text(random));
            (Source::Iscsi { name }, "raw")
        }
    }
}

fn ovirt(random: &mut Random) -> (Source, &'static str) {
    let domain = "5c1f9c3a-8d27-4a6e-9f43-0b6d5c2e7a18";
    let (image, volume) = (uuid_text(random), uuid_text(random));
    if chance(random, 55) {
        let path = format!("/rhev/data-center/mnt/blockSD/{domain}/images/{image}/{volume}");
        return (Source::Block { path }, if chance(random, 60) { "qcow2" } else { "raw" });
    }
    let directory = format!("/rhev/data-center/mnt/nfs.example.com:_export_data/{domain}/images/{image}");
    // Snapshots: a chain of one or two.
    let below = if chance(random, 30) { random.u32(1..3) } else { 0 };
    let backing = (0..below).map(|_| format!("{directory}/{}", uuid_text(random))).collect();
    file(format!("{directory}/{volume}"), backing)
}

fn kubevirt(random: &mut Random, number: u32) -> (Source, &'static str) {
    match (number, random.u32(0..10)) {
        (0, 0..4) => {
            let base = vec!["/var/run/kubevirt/container-disks/disk_0.img".to_owned()];
            file("/var/run/kubevirt-ephemeral-disks/disk-data/rootdisk/disk.qcow2".to_owned(), base)
        }
        (_, 4..8) => {
            let path = format!("/var/run/kubevirt-private/vmi-disks/data{number}/disk.img");
            (Source::File { path, backing: Vec::new() }, "raw")
        }
        _ => (Source::Block { path: format!("/dev/datavolume{number}") }, "raw"),
    }
}

fn plain(random: &mut Random, number: u32, name: &str) -> (Source, &'static str) {
    // Attributes keep no tab; file names no more than 255 bytes.
    let stem = name.replace('\t', " ");
    let suffix = if number == 0 { String::new() } else { format!("-{number}") };
    match random.u32(0..20) {
        0..9 => file(format!("/var/lib/libvirt/images/{stem}{suffix}.qcow2"), Vec::new()),
        9..12 => {
            let backing = vec!["/var/lib/libvirt/images/templates/debian-12.qcow2".to_owned()];
            file(format!("/var/lib/libvirt/images/{stem}{suffix}.qcow2"), backing)
        }
        12..14 => {
            let path = format!("/var/lib/libvirt/images/{stem}{suffix}.img");
            (Source::File { path, backing: Vec::new() }, "raw")
        }
        14..16 => (Source::Block { path: format!("/dev/vg0/guest-{:08x}", random.u32(..)) }, "raw"),
        16..18 => {
            let volume = format!("{stem}{suffix}");
            let path = format!("/srv/pools/fast/{volume}");
            (Source::Volume { pool: "fast", volume, path }, "qcow2")
        }
        18 => (Source::Iscsi { name: format!("iqn.2024-01.com.example:{:08x}/{number}", random.u32(..)) }, "raw"),
        _ => (Source::Nbd { export: format!("export-{:08x}", random.u32(..)) }, "raw"),
    }
}
