//! A guest's XML as libvirt 9 writes it for QEMU. What is of a run alone (numbers, aliases, ports) is there only while it
//! runs.

mod devices;
mod metadata;
mod writer;

use super::guest::Guest;
use super::shape::{Balloon, Manager};
use writer::Writer;

/// The whole description.
pub(super) fn domain(guest: &Guest) -> String {
    let shape = &guest.shape;
    let mut xml = Writer::new();
    match &guest.run {
        Some(run) => xml.open("domain", &[("type", "kvm"), ("id", &run.id.to_string())]),
        None => xml.open("domain", &[("type", "kvm")]),
    }
    xml.text("name", &[], &guest.name);
    xml.text("uuid", &[], &uuid(&guest.uuid));
    if let Some(title) = &shape.title {
        xml.text("title", &[], title);
    }
    if let Some(description) = metadata::description(guest) {
        xml.text("description", &[], &description);
    }
    metadata::write(&mut xml, guest);
    xml.text("memory", &[("unit", "KiB")], &shape.memory_kib.to_string());
    xml.text("currentMemory", &[("unit", "KiB")], &shape.current_kib.to_string());
    if shape.hugepages {
        xml.open("memoryBacking", &[]);
        xml.empty("hugepages", &[]);
        xml.close();
    }
    let vcpus = shape.vcpus.to_string();
    if shape.vcpus_current == shape.vcpus {
        xml.text("vcpu", &[("placement", "static")], &vcpus);
    } else {
        let current = shape.vcpus_current.to_string();
        xml.text("vcpu", &[("placement", "static"), ("current", &current)], &vcpus);
    }
    if shape.iothreads > 0 {
        xml.text("iothreads", &[], &shape.iothreads.to_string());
    }
    if guest.is_running() {
        xml.open("resource", &[]);
        xml.text("partition", &[], "/machine");
        xml.close();
    }
    system(&mut xml, guest);
    xml.open("devices", &[]);
    xml.text("emulator", &[], "/usr/bin/qemu-system-x86_64");
    devices::write(&mut xml, guest);
    xml.close();
    if guest.is_running() {
        xml.open("seclabel", &[("type", "dynamic"), ("model", "dac"), ("relabel", "yes")]);
        xml.text("label", &[], "+107:+107");
        xml.text("imagelabel", &[], "+107:+107");
        xml.close();
    }
    xml.close();
    xml.finish()
}

/// Firmware, machine, processor, clock.
fn system(xml: &mut Writer, guest: &Guest) {
    let shape = &guest.shape;
    if shape.manager != Manager::Plain {
        let (maker, product) = match shape.manager {
            Manager::Nova => ("OpenStack Foundation", "OpenStack Nova"),
            Manager::Ovirt => ("oVirt", "RHEL"),
            Manager::KubeVirt | Manager::Plain => ("KubeVirt", "None"),
        };
        xml.open("sysinfo", &[("type", "smbios")]);
        xml.open("system", &[]);
        xml.text("entry", &[("name", "manufacturer")], maker);
        xml.text("entry", &[("name", "product")], product);
        xml.text("entry", &[("name", "uuid")], &uuid(&guest.uuid));
        xml.close();
        xml.close();
    }
    xml.open("os", &[]);
    let machine = match (shape.manager, shape.q35) {
        (Manager::Ovirt | Manager::KubeVirt, true) => "pc-q35-rhel9.2.0",
        (Manager::Ovirt | Manager::KubeVirt, false) => "pc-i440fx-rhel7.6.0",
        (_, true) => "pc-q35-7.2",
        (_, false) => "pc-i440fx-7.2",
    };
    xml.text("type", &[("arch", "x86_64"), ("machine", machine)], "hvm");
    xml.empty("boot", &[("dev", "hd")]);
    if shape.manager != Manager::Plain {
        xml.empty("smbios", &[("mode", "sysinfo")]);
    }
    xml.close();
    xml.open("features", &[]);
    xml.empty("acpi", &[]);
    xml.empty("apic", &[]);
    xml.close();
    let check = if guest.is_running() { "full" } else { "partial" };
    xml.open("cpu", &[("mode", "custom"), ("match", "exact"), ("check", check)]);
    xml.text("model", &[("fallback", "forbid")], "Cascadelake-Server");
    let cores = shape.vcpus.to_string();
    xml.empty("topology", &[("sockets", "1"), ("dies", "1"), ("cores", &cores), ("threads", "1")]);
    xml.empty("feature", &[("policy", "require"), ("name", "hypervisor")]);
    xml.close();
    xml.open("clock", &[("offset", "utc")]);
    xml.empty("timer", &[("name", "rtc"), ("tickpolicy", "catchup")]);
    xml.empty("timer", &[("name", "pit"), ("tickpolicy", "delay")]);
    xml.empty("timer", &[("name", "hpet"), ("present", "no")]);
    xml.close();
    xml.text("on_poweroff", &[], "destroy");
    xml.text("on_reboot", &[], "restart");
    xml.text("on_crash", &[], "destroy");
}

/// `<memballoon>`'s model and whether it is asked, and how often.
fn balloon(balloon: Balloon) -> (&'static str, bool) {
    match balloon {
        Balloon::None => ("none", false),
        Balloon::Silent => ("virtio", false),
        Balloon::Reporting => ("virtio", true),
    }
}

fn uuid(bytes: &[u8; 16]) -> String {
    uuid::Uuid::from_bytes(*bytes).to_string()
}
