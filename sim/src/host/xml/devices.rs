//! The devices, in libvirt's order: disks, controllers, NICs, the rest.

use super::super::disk::{Bus, Disk, Source};
use super::super::guest::Guest;
use super::super::nic::{Nic, Plug};
use super::super::shape::slots;
use super::balloon;
use super::writer::Writer;

/// Where PCI devices are: each behind a port of its own (q35), or all on one bus.
#[derive(Clone, Copy)]
struct Pci {
    q35: bool,
    running: bool,
}

impl Pci {
    fn address(self, xml: &mut Writer, slot: u32) {
        let number = format!("0x{slot:02x}");
        let (bus, slot) = if self.q35 { (number.as_str(), "0x00") } else { ("0x00", number.as_str()) };
        let address = [("type", "pci"), ("domain", "0x0000"), ("bus", bus), ("slot", slot), ("function", "0x0")];
        xml.empty("address", &address);
    }

    /// Shut-off guests have none.
    fn alias(self, xml: &mut Writer, name: &str) {
        if self.running {
            xml.empty("alias", &[("name", name)]);
        }
    }
}

pub(super) fn write(xml: &mut Writer, guest: &Guest) {
    let pci = Pci { q35: guest.shape.q35, running: guest.is_running() };
    for disk in &guest.shape.disks {
        write_disk(xml, pci, disk, guest.shape.iothreads > 0);
    }
    controllers(xml, pci, guest);
    for nic in &guest.shape.nics {
        write_nic(xml, pci, nic);
    }
    others(xml, pci, guest);
}

fn write_disk(xml: &mut Writer, pci: Pci, disk: &Disk, iothreads: bool) {
    let kind = match disk.source {
        Source::None | Source::File { .. } => "file",
        Source::Block { .. } => "block",
        Source::Volume { .. } => "volume",
        Source::Rbd { .. } | Source::Iscsi { .. } | Source::Nbd { .. } => "network",
    };
    xml.open("disk", &[("type", kind), ("device", if disk.cdrom { "cdrom" } else { "disk" })]);
    let mut driver = vec![("name", "qemu")];
    // libvirt forgets the format of a drive that runs without a medium.
    if disk.is_loaded() || !pci.running {
        driver.push(("type", disk.format));
    }
    if !disk.cdrom {
        driver.extend(disk.cache.map(|cache| ("cache", cache)));
        if disk.cache == Some("none") {
            driver.push(("io", "native"));
        }
        if disk.discard {
            driver.push(("discard", "unmap"));
        }
        if iothreads && disk.bus == Bus::Virtio {
            driver.push(("iothread", "1"));
        }
    }
    xml.empty("driver", &driver);
    source(xml, pci, disk);
    xml.empty("target", &[("dev", &disk.target), ("bus", disk.bus.name())]);
    if let Some(serial) = &disk.serial {
        xml.text("serial", &[], serial);
    }
    if disk.cdrom {
        xml.empty("readonly", &[]);
    }
    pci.alias(xml, &disk.alias());
    if disk.bus == Bus::Virtio {
        pci.address(xml, disk.slot);
    } else {
        let (controller, unit) = (disk.controller().to_string(), disk.unit().to_string());
        let address = [
            ("type", "drive"),
            ("controller", controller.as_str()),
            ("bus", "0"),
            ("target", "0"),
            ("unit", unit.as_str()),
        ];
        xml.empty("address", &address);
    }
    xml.close();
}

fn source(xml: &mut Writer, pci: Pci, disk: &Disk) {
    let node = disk.node.to_string();
    let index = pci.running.then_some(("index", node.as_str()));
    match &disk.source {
        Source::None => return,
        Source::File { path, .. } => flat(xml, &[("file", path)], index),
        Source::Block { path } => flat(xml, &[("dev", path)], index),
        Source::Volume { pool, volume, .. } => flat(xml, &[("pool", pool), ("volume", volume)], index),
        Source::Rbd { image } => remote(xml, "rbd", image, index, &["192.0.2.11", "192.0.2.12", "192.0.2.13"], "6789"),
        Source::Iscsi { name } => remote(xml, "iscsi", name, index, &["192.0.2.40"], "3260"),
        Source::Nbd { export } => remote(xml, "nbd", export, index, &["nbd.example.com"], "10809"),
    }
    // libvirt finds the chain out when it starts the guest.
    if pci.running {
        let backing = if let Source::File { backing, .. } = &disk.source { backing.as_slice() } else { &[] };
        backing_store(xml, backing, disk.node + 1);
    }
}

fn flat(xml: &mut Writer, place: &[(&str, &str)], index: Option<(&str, &str)>) {
    let attributes: Vec<_> = place.iter().copied().chain(index).collect();
    xml.empty("source", &attributes);
}

fn remote(xml: &mut Writer, protocol: &str, name: &str, index: Option<(&str, &str)>, hosts: &[&str], port: &str) {
    if protocol == "rbd" {
        xml.open("auth", &[("username", "cinder")]);
        xml.empty("secret", &[("type", "ceph"), ("uuid", "457eb676-33da-42ec-9a8c-9293d545c337")]);
        xml.close();
    }
    let attributes: Vec<_> = [("protocol", protocol), ("name", name)].into_iter().chain(index).collect();
    xml.open("source", &attributes);
    for host in hosts {
        xml.empty("host", &[("name", host), ("port", port)]);
    }
    xml.close();
}

/// The files below an image, each inside the one above it.
fn backing_store(xml: &mut Writer, chain: &[String], index: u32) {
    let Some((path, below)) = chain.split_first() else {
        xml.empty("backingStore", &[]);
        return;
    };
    let format = if below.is_empty() && path.contains("_base") { "raw" } else { "qcow2" };
    xml.open("backingStore", &[("type", "file"), ("index", &index.to_string())]);
    xml.empty("format", &[("type", format)]);
    xml.empty("source", &[("file", path)]);
    backing_store(xml, below, index + 1);
    xml.close();
}

fn controllers(xml: &mut Writer, pci: Pci, guest: &Guest) {
    let shape = &guest.shape;
    let mut controller = |kind: &str, index: u32, model: Option<&str>, alias: &str, slot: Option<u32>| {
        let (index, model) = (index.to_string(), model.map(|model| ("model", model)));
        let attributes: Vec<_> = [("type", kind), ("index", index.as_str())].into_iter().chain(model).collect();
        xml.open("controller", &attributes);
        pci.alias(xml, alias);
        if let Some(slot) = slot {
            pci.address(xml, slot);
        }
        xml.close();
    };
    controller("usb", 0, Some("qemu-xhci"), "usb", Some(slots::USB));
    controller(
        "pci",
        0,
        Some(if pci.q35 { "pcie-root" } else { "pci-root" }),
        if pci.q35 { "pcie.0" } else { "pci.0" },
        None,
    );
    controller("scsi", 0, Some("virtio-scsi"), "scsi0", Some(slots::SCSI));
    let drives = shape.disks.iter().filter(|disk| disk.bus == Bus::Sata);
    for index in 0..drives.map(|disk| disk.controller() + 1).max().unwrap_or(0) {
        // The chip set's own is called so.
        let alias = if index == 0 && pci.q35 { "ide".to_owned() } else { format!("sata{index}") };
        controller("sata", index, None, &alias, None);
    }
    if pci.q35 {
        for port in 1..shape.end_of_slots() {
            root_port(xml, pci, port);
        }
    }
}

/// A port for one device.
fn root_port(xml: &mut Writer, pci: Pci, port: u32) {
    let number = port.to_string();
    xml.open("controller", &[("type", "pci"), ("index", &number), ("model", "pcie-root-port")]);
    xml.empty("model", &[("name", "pcie-root-port")]);
    xml.empty("target", &[("chassis", &number), ("port", &format!("0x{:x}", port + 15))]);
    pci.alias(xml, &format!("pci.{port}"));
    let (slot, function) = (format!("0x{:02x}", 2 + (port - 1) / 8), format!("0x{:x}", (port - 1) % 8));
    let mut address =
        vec![("type", "pci"), ("domain", "0x0000"), ("bus", "0x00"), ("slot", &slot), ("function", &function)];
    if (port - 1).is_multiple_of(8) {
        address.push(("multifunction", "on"));
    }
    xml.empty("address", &address);
    xml.close();
}

fn write_nic(xml: &mut Writer, pci: Pci, nic: &Nic) {
    let kind = match nic.plug {
        Plug::Bridge { .. } | Plug::OpenVSwitch { .. } => "bridge",
        Plug::Network { .. } => "network",
        Plug::Ethernet => "ethernet",
        Plug::Direct { .. } => "direct",
        Plug::VhostUser { .. } => "vhostuser",
        Plug::Hostdev { .. } => "hostdev",
        Plug::User => "user",
    };
    let hostdev = matches!(nic.plug, Plug::Hostdev { .. });
    if hostdev {
        xml.open("interface", &[("type", kind), ("managed", "yes")]);
    } else {
        xml.open("interface", &[("type", kind)]);
    }
    xml.empty("mac", &[("address", &nic.mac_text())]);
    plug(xml, pci, nic);
    // A name that libvirt chose is no part of the definition.
    if !nic.device.is_empty() && (pci.running || !nic.chosen) {
        xml.empty("target", &[("dev", &nic.device)]);
    }
    if !hostdev {
        xml.empty("model", &[("type", nic.model)]);
        if nic.queues > 1 && nic.model == "virtio" {
            xml.empty("driver", &[("name", "vhost"), ("queues", &nic.queues.to_string())]);
        }
    }
    if let Some(mtu) = nic.mtu {
        xml.empty("mtu", &[("size", &mtu.to_string())]);
    }
    pci.alias(xml, &nic.alias());
    pci.address(xml, nic.slot);
    xml.close();
}

fn plug(xml: &mut Writer, pci: Pci, nic: &Nic) {
    match &nic.plug {
        Plug::Bridge { bridge } => xml.empty("source", &[("bridge", bridge)]),
        Plug::OpenVSwitch { bridge, interface } => {
            xml.empty("source", &[("bridge", bridge)]);
            xml.open("virtualport", &[("type", "openvswitch")]);
            xml.empty("parameters", &[("interfaceid", interface)]);
            xml.close();
        }
        Plug::Network { network, bridge, port } if pci.running => {
            xml.empty("source", &[("network", network), ("portid", port), ("bridge", bridge)]);
        }
        Plug::Network { network, .. } => xml.empty("source", &[("network", network)]),
        Plug::Direct { device } => xml.empty("source", &[("dev", device), ("mode", "bridge")]),
        Plug::VhostUser { path } => xml.empty("source", &[("type", "unix"), ("path", path), ("mode", "server")]),
        Plug::Hostdev { function } => {
            xml.open("source", &[]);
            let (slot, function) = (format!("0x{:02x}", 2 + function / 8), format!("0x{:x}", function % 8));
            let address =
                [("type", "pci"), ("domain", "0x0000"), ("bus", "0x3b"), ("slot", &slot), ("function", &function)];
            xml.empty("address", &address);
            xml.close();
            xml.open("vlan", &[]);
            xml.empty("tag", &[("id", "120")]);
            xml.close();
        }
        Plug::Ethernet | Plug::User => {}
    }
}

fn others(xml: &mut Writer, pci: Pci, guest: &Guest) {
    let terminal = format!("/dev/pts/{}", guest.number % 4096);
    xml.open("serial", &[("type", "pty")]);
    if pci.running {
        xml.empty("source", &[("path", &terminal)]);
    }
    xml.open("target", &[("type", "isa-serial"), ("port", "0")]);
    xml.empty("model", &[("name", "isa-serial")]);
    xml.close();
    pci.alias(xml, "serial0");
    xml.close();
    for (input, alias) in [("mouse", "input0"), ("keyboard", "input1")] {
        xml.open("input", &[("type", input), ("bus", "ps2")]);
        pci.alias(xml, alias);
        xml.close();
    }
    let spice = guest.number.is_multiple_of(3);
    let kind = if spice { "spice" } else { "vnc" };
    let port = (5900 + guest.number).to_string();
    let port = if pci.running { port.as_str() } else { "-1" };
    let graphics = [("type", kind), ("port", port), ("autoport", "yes"), ("listen", "127.0.0.1")];
    xml.open("graphics", &graphics);
    xml.empty("listen", &[("type", "address"), ("address", "127.0.0.1")]);
    xml.close();
    xml.empty("audio", &[("id", "1"), ("type", if spice { "spice" } else { "none" })]);
    xml.open("video", &[]);
    xml.empty("model", &[("type", "virtio"), ("heads", "1"), ("primary", "yes")]);
    pci.alias(xml, "video0");
    xml.close();
    let (model, asked) = balloon(guest.shape.balloon);
    if model == "none" {
        xml.empty("memballoon", &[("model", model)]);
    } else {
        xml.open("memballoon", &[("model", model)]);
        if asked {
            xml.empty("stats", &[("period", "10")]);
        }
        pci.alias(xml, "balloon0");
        pci.address(xml, slots::BALLOON);
        xml.close();
    }
    xml.open("rng", &[("model", "virtio")]);
    xml.text("backend", &[("model", "random")], "/dev/urandom");
    pci.alias(xml, "rng0");
    pci.address(xml, slots::RNG);
    xml.close();
}
