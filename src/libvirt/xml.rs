//! What we want of a domain's XML.

mod machine;

use std::iter;
use std::str::FromStr;

use roxmltree::{Document, Node};
use thiserror::Error;

use super::{metadata, ovirt};
use crate::model::{DiskDescription, DomainDescription, NicDescription};

/// XML that is no domain's.
#[derive(Debug, Error)]
pub enum XmlError {
    /// Not well-formed.
    #[error("not well-formed: {0}")]
    Syntax(#[from] roxmltree::Error),
    /// The root is another element.
    #[error("the root element is <{0}>, not <domain>")]
    NotADomain(String),
}

/// Reads a domain's XML. What is absent in it is absent in the result.
///
/// # Errors
/// [`XmlError`] if it is no XML of a domain.
pub fn describe(xml: &str) -> Result<DomainDescription, XmlError> {
    let document = Document::parse(xml)?;
    let root = document.root_element();
    if !root.has_tag_name("domain") {
        return Err(XmlError::NotADomain(root.tag_name().name().to_owned()));
    }
    let os_type = child(root, "os").and_then(|os| child(os, "type"));
    let (devices, metadata) = (child(root, "devices"), child(root, "metadata"));
    let each = move |name| children(devices, name);
    let vcpu = child(root, "vcpu");
    let vcpus_maximum = number(vcpu.and_then(|vcpu| vcpu.text()));
    let memory_maximum_kib = kib(child(root, "memory"));
    Ok(DomainDescription {
        domain_type: attribute(Some(root), "type"),
        os_type: text(os_type).unwrap_or_default(),
        os_arch: attribute(os_type, "arch"),
        os_machine: attribute(os_type, "machine"),
        boot: boot(root, devices),
        vcpus: number(vcpu.and_then(|vcpu| vcpu.attribute("current"))).or(vcpus_maximum),
        vcpus_maximum,
        memory_kib: kib(child(root, "currentMemory")).or(memory_maximum_kib),
        memory_maximum_kib,
        title: text(child(root, "title")),
        description: text(child(root, "description")),
        disks: each("disk").map(disk).collect(),
        nics: each("interface").map(nic).collect(),
        acpi: machine::acpi(root),
        clock_adjustment_s: machine::clock_adjustment(root),
        vcpu_quota_us: machine::cpu_tuning(root, "quota"),
        vcpu_period_us: machine::cpu_tuning(root, "period"),
        graphics: each("graphics").map(machine::graphics).collect(),
        balloons: u32::try_from(each("memballoon").count()).unwrap_or(u32::MAX),
        nvdimm_kib: each("memory").map(machine::nvdimm_kib).fold(0, u64::saturating_add),
        devices_hash: devices.map(machine::hash),
        ovirt: metadata.and_then(ovirt::read).map(Box::new),
        openstack: metadata.and_then(metadata::openstack),
        metadata: metadata.map(metadata::all).unwrap_or_default(),
    })
}

fn disk(disk: Node<'_, '_>) -> DiskDescription {
    let (target, driver, source) = (child(disk, "target"), child(disk, "driver"), child(disk, "source"));
    let disk_type = attribute(Some(disk), "type");
    DiskDescription {
        target: attribute(target, "dev"),
        target_bus: attribute(target, "bus"),
        driver_name: attribute(driver, "name"),
        driver_type: attribute(driver, "type"),
        driver_cache: attribute(driver, "cache"),
        driver_discard: attribute(driver, "discard"),
        source: source_of(&disk_type, source),
        device: attribute(Some(disk), "device"),
        source_protocol: attribute(source, "protocol"),
        serial: text(child(disk, "serial")).unwrap_or_default(),
        backing: backing(disk),
        io_limits: machine::io_limits(disk),
        disk_type,
    }
}

/// Path, device, `pool/volume` or network name.
fn source_of(disk_type: &str, source: Option<Node<'_, '_>>) -> Box<str> {
    match disk_type {
        "volume" => match source.and_then(|source| source.attribute("volume")) {
            Some(volume) => format!("{}/{volume}", attribute(source, "pool")).into(),
            None => Box::default(),
        },
        _ => first_attribute(source, &["file", "dev", "name", "dir", "path"]),
    }
}

/// The sources of a disk's chain of images; the last `<backingStore>` is empty.
fn backing(disk: Node<'_, '_>) -> Vec<Box<str>> {
    let chain = iter::successors(child(disk, "backingStore"), |store| child(*store, "backingStore"));
    let sources = chain.map(|store| source_of(store.attribute("type").unwrap_or_default(), child(store, "source")));
    sources.filter(|source| !source.is_empty()).collect()
}

/// What is booted from, in order: kinds of devices for all, or an order on each device.
fn boot(root: Node<'_, '_>, devices: Option<Node<'_, '_>>) -> Vec<Box<str>> {
    let kinds: Vec<Box<str>> = children(child(root, "os"), "boot")
        .map(|boot| attribute(Some(boot), "dev"))
        .filter(|dev| !dev.is_empty())
        .collect();
    if !kinds.is_empty() {
        return kinds;
    }
    let all = devices.into_iter().flat_map(|devices| devices.children());
    let mut ordered: Vec<(u32, Box<str>)> = all
        .filter_map(|device| {
            let order = number(child(device, "boot")?.attribute("order"))?;
            let named = attribute(child(device, "target"), "dev");
            Some((order, if named.is_empty() { device.tag_name().name().into() } else { named }))
        })
        .collect();
    ordered.sort();
    ordered.into_iter().map(|(_, device)| device).collect()
}

/// A size that libvirt writes in KiB, as it writes all of memory.
fn kib(node: Option<Node<'_, '_>>) -> Option<u64> {
    let node = node.filter(|node| node.attribute("unit").is_none_or(|unit| unit == "KiB"))?;
    number(node.text())
}

pub(super) fn number<T: FromStr>(text: Option<&str>) -> Option<T> {
    text?.trim().parse().ok()
}

fn nic(nic: Node<'_, '_>) -> NicDescription {
    NicDescription {
        target: attribute(child(nic, "target"), "dev"),
        interface_type: attribute(Some(nic), "type"),
        source_bridge: first_attribute(child(nic, "source"), &["bridge", "network", "dev"]),
        source_network: attribute(child(nic, "source"), "network"),
        virtual_port: attribute(child(nic, "virtualport"), "type"),
        mac: attribute(child(nic, "mac"), "address"),
        model: attribute(child(nic, "model"), "type"),
        mtu: attribute(child(nic, "mtu"), "size"),
    }
}

pub(super) fn child<'a, 'input>(parent: Node<'a, 'input>, name: &str) -> Option<Node<'a, 'input>> {
    parent.children().find(|node| node.has_tag_name(name))
}

fn children<'a, 'input>(
    parent: Option<Node<'a, 'input>>,
    name: &'static str,
) -> impl Iterator<Item = Node<'a, 'input>> {
    parent.into_iter().flat_map(|parent| parent.children()).filter(move |node| node.has_tag_name(name))
}

pub(super) fn text(node: Option<Node<'_, '_>>) -> Option<Box<str>> {
    node.and_then(|node| node.text()).map(Into::into)
}

pub(super) fn attribute(node: Option<Node<'_, '_>>, name: &str) -> Box<str> {
    node.and_then(|node| node.attribute(name)).unwrap_or_default().into()
}

fn first_attribute(node: Option<Node<'_, '_>>, names: &[&str]) -> Box<str> {
    names.iter().find_map(|name| node.and_then(|node| node.attribute(*name))).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = r#"<domain type='kvm' id='3'>
  <name>a &amp; "b"</name>
  <uuid>6695eb01-f6a4-8304-79aa-97f2502e193f</uuid>
  <title>t</title>
  <description>line one
line &lt;two&gt;</description>
  <metadata>
    <nova:instance xmlns:nova="http://openstack.org/xmlns/libvirt/nova/1.1">
      <nova:name>web-1</nova:name>
      <nova:flavor name="m1.small"><nova:memory>2048</nova:memory></nova:flavor>
      <nova:owner>
        <nova:user uuid="u-1">alice</nova:user>
        <nova:project uuid="p-1">shop</nova:project>
      </nova:owner>
    </nova:instance>
  </metadata>
  <memory unit='KiB'>2097152</memory><currentMemory unit='KiB'>1048576</currentMemory>
  <vcpu placement='static' current='2'>8</vcpu>
  <os><type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type></os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='none' discard='unmap'/>
      <source file='/images/a.qcow2' index='1'/>
      <backingStore type='file'><format type='qcow2'/><source file='/images/base.qcow2'/>
        <backingStore type='block'><source dev='/dev/vg/base'/><backingStore/></backingStore></backingStore>
      <target dev='vda' bus='virtio'/><boot order='2'/>
      <serial>S1</serial>
    </disk>
    <disk type='network' device='disk'>
      <source protocol='rbd' name='pool/image'><host name='mon' port='6789'/></source>
      <target dev='vdb' bus='virtio'/>
    </disk>
    <disk type='volume' device='disk'><source pool='p' volume='v'/><target dev='vdc' bus='virtio'/></disk>
    <disk type='file' device='cdrom'><target dev='sda' bus='sata'/><readonly/></disk>
    <interface type='network'>
      <mac address='52:54:00:00:00:01'/>
      <source network='default' portid='x' bridge='virbr0'/><virtualport type='openvswitch'/><boot order='1'/>
      <target dev='vnet0'/>
      <model type='virtio'/>
      <mtu size='9000'/>
    </interface>
    <interface type='hostdev' managed='yes'><mac address='52:54:00:00:00:02'/></interface>
  </devices>
</domain>"#;

    #[test]
    fn a_full_domain() {
        let domain = describe(FULL).expect("well-formed");
        assert_eq!((&*domain.domain_type, &*domain.os_type, &*domain.os_arch), ("kvm", "hvm", "x86_64"));
        assert_eq!(domain.description.as_deref(), Some("line one\nline <two>"));
        let sources: Vec<_> = domain.disks.iter().map(|disk| (&*disk.target, &*disk.source)).collect();
        assert_eq!(sources, [("vda", "/images/a.qcow2"), ("vdb", "pool/image"), ("vdc", "p/v"), ("sda", "")]);
        assert_eq!(&*domain.disks[0].serial, "S1");
        assert_eq!((&*domain.disks[0].device, &*domain.disks[3].device), ("disk", "cdrom"));
        assert_eq!(domain.disks[0].backing, ["/images/base.qcow2".into(), "/dev/vg/base".into()]);
        assert_eq!(domain.boot, ["vnet0".into(), "vda".into()]);
        assert_eq!((domain.vcpus, domain.vcpus_maximum), (Some(2), Some(8)));
        assert_eq!((domain.memory_kib, domain.memory_maximum_kib), (Some(1_048_576), Some(2_097_152)));
        assert_eq!((&*domain.nics[0].source_network, &*domain.nics[0].virtual_port), ("default", "openvswitch"));
        assert_eq!(&*domain.disks[1].source_protocol, "rbd");
        assert_eq!(&*domain.nics[0].source_bridge, "virbr0");
        assert_eq!((&*domain.nics[0].mtu, &*domain.nics[1].target), ("9000", ""));
        let nova = domain.openstack.expect("nova metadata");
        assert_eq!((&*nova.instance_name, &*nova.flavor_name), ("web-1", "m1.small"));
        assert_eq!((&*nova.user_name, &*nova.project_id), ("alice", "p-1"));
        assert_eq!(&*nova.instance_id, "6695eb01-f6a4-8304-79aa-97f2502e193f");
    }

    #[test]
    fn a_bare_domain_has_what_it_has() {
        let domain = describe("<domain type='test'><name>x</name></domain>").expect("well-formed");
        assert_eq!(domain, DomainDescription { domain_type: "test".into(), ..DomainDescription::default() });
    }

    #[test]
    fn what_is_booted_from_may_be_said_for_all_devices_at_once() {
        let boot =
            "<domain><os><boot dev='network'/><boot dev='hd'/></os><vcpu>4</vcpu><memory unit='b'>1</memory></domain>";
        let domain = describe(boot).expect("well-formed");
        assert_eq!(domain.boot, ["network".into(), "hd".into()]);
        assert_eq!((domain.vcpus, domain.vcpus_maximum), (Some(4), Some(4)));
        assert_eq!(domain.memory_kib, None, "in a unit that libvirt does not write");
    }

    #[test]
    fn what_is_no_domain_is_refused() {
        assert!(matches!(describe("<network/>"), Err(XmlError::NotADomain(name)) if name == "network"));
        assert!(matches!(describe("<domain>"), Err(XmlError::Syntax(_))));
    }
}
