//! What oVirt's VDSM wrote into a domain's `<metadata>`. Which prefixes its elements bear is nobody's promise; their
//! namespaces are.

use std::str::FromStr;

use roxmltree::Node;

use super::xml::{attribute, number};
use crate::model::{OVirt, OVirtDisk};

/// The namespace of `<vm>`.
const VM: &str = "http://ovirt.org/vm/1.0";
/// The namespace of `<qos>`.
const TUNE: &str = "http://ovirt.org/vm/tune/1.0";

/// `None` if oVirt wrote nothing.
pub(super) fn read(metadata: Node<'_, '_>) -> Option<OVirt> {
    let (vm, qos) = (child(metadata, VM, "vm"), child(metadata, TUNE, "qos"));
    if vm.is_none() && qos.is_none() {
        return None;
    }
    let limit = qos.and_then(|qos| said(qos, TUNE, "vcpuLimit"));
    let of_vm = |name| vm.and_then(|vm| said(vm, VM, name));
    let devices = vm.into_iter().flat_map(|vm| vm.children()).filter(|node| node.has_tag_name((VM, "device")));
    Some(OVirt {
        vcpu_limit: limit.map(Into::into),
        guaranteed_memory_mib: number(of_vm("minGuaranteedMemoryMb")),
        balloon_target_kib: number(of_vm("balloonTarget")),
        ballooning_enabled: of_vm("ballooningEnabled").and_then(truth),
        disks: devices.filter_map(disk).collect(),
    })
}

/// A disk of which it is known what is in it.
fn disk(device: Node<'_, '_>) -> Option<OVirtDisk> {
    let target = attribute(Some(device), "name");
    if device.attribute("devtype") != Some("disk") || target.is_empty() {
        return None;
    }
    let is_image = ["poolID", "domainID", "imageID", "volumeID"].iter().all(|id| said(device, VM, id).is_some());
    let guid = said(device, VM, "GUID");
    let image = if is_image { said(device, VM, "imageID") } else { guid };
    Some(OVirtDisk { target, image_id: Some(image?.into()), lun_guid: guid.filter(|_| !is_image).map(Into::into) })
}

/// As Python writes it, and as JSON does.
fn truth(text: &str) -> Option<bool> {
    bool::from_str(&text.to_ascii_lowercase()).ok()
}

/// The text of a child; what is empty is not said.
fn said<'a>(parent: Node<'a, '_>, space: &str, name: &str) -> Option<&'a str> {
    let text = child(parent, space, name)?.text()?.trim();
    (!text.is_empty()).then_some(text)
}

fn child<'a, 'input>(parent: Node<'a, 'input>, space: &str, name: &str) -> Option<Node<'a, 'input>> {
    parent.children().find(|node| node.has_tag_name((space, name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::libvirt::describe;

    fn ovirt(metadata: &str) -> Option<OVirt> {
        let domain = describe(&format!("<domain><metadata>{metadata}</metadata></domain>")).expect("well-formed");
        domain.ovirt.map(|it| *it)
    }

    /// As VDSM writes it: the first namespace gets a prefix that the XML library made up.
    const VDSM: &str = r#"
    <ns0:qos xmlns:ns0="http://ovirt.org/vm/tune/1.0">
      <ns0:vcpuLimit>50</ns0:vcpuLimit>
    </ns0:qos>
    <ovirt-vm:vm xmlns:ovirt-vm="http://ovirt.org/vm/1.0">
      <ovirt-vm:balloonTarget type="int">1048576</ovirt-vm:balloonTarget>
      <ovirt-vm:ballooningEnabled>true</ovirt-vm:ballooningEnabled>
      <ovirt-vm:clusterVersion>4.7</ovirt-vm:clusterVersion>
      <ovirt-vm:minGuaranteedMemoryMb type="int">512</ovirt-vm:minGuaranteedMemoryMb>
      <ovirt-vm:startTime type="float">1795745262.1</ovirt-vm:startTime>
      <ovirt-vm:device mac_address="56:6f:00:00:00:01"><ovirt-vm:network>ovirtmgmt</ovirt-vm:network></ovirt-vm:device>
      <ovirt-vm:device devtype="disk" name="sda">
        <ovirt-vm:domainID>d-1</ovirt-vm:domainID>
        <ovirt-vm:imageID>i-1</ovirt-vm:imageID>
        <ovirt-vm:poolID>p-1</ovirt-vm:poolID>
        <ovirt-vm:volumeID>v-1</ovirt-vm:volumeID>
        <ovirt-vm:volumeChain><ovirt-vm:volumeChainNode>
          <ovirt-vm:imageID>i-0</ovirt-vm:imageID>
        </ovirt-vm:volumeChainNode></ovirt-vm:volumeChain>
      </ovirt-vm:device>
      <ovirt-vm:device devtype="disk" name="sdb">
        <ovirt-vm:GUID>360014050000000000000000000000001</ovirt-vm:GUID>
        <ovirt-vm:imageID/>
      </ovirt-vm:device>
      <ovirt-vm:device devtype="disk" name="sdc"><ovirt-vm:imageID>i-3</ovirt-vm:imageID></ovirt-vm:device>
      <ovirt-vm:device devtype="hostdev" name="sdd"><ovirt-vm:GUID>g</ovirt-vm:GUID></ovirt-vm:device>
    </ovirt-vm:vm>"#;

    #[test]
    fn all_that_is_shown_is_read() {
        let lun = "360014050000000000000000000000001";
        let expected = OVirt {
            vcpu_limit: Some("50".into()),
            guaranteed_memory_mib: Some(512),
            balloon_target_kib: Some(1_048_576),
            ballooning_enabled: Some(true),
            disks: vec![
                OVirtDisk { target: "sda".into(), image_id: Some("i-1".into()), lun_guid: None },
                OVirtDisk { target: "sdb".into(), image_id: Some(lun.into()), lun_guid: Some(lun.into()) },
            ],
        };
        assert_eq!(ovirt(VDSM), Some(expected.clone()));
        assert_eq!(ovirt(&VDSM.replace("ns0:", "x:").replace(":ns0", ":x").replace("ovirt-vm", "o")), Some(expected));
    }

    #[test]
    fn what_is_of_others_or_makes_no_sense_is_absent() {
        assert_eq!(ovirt(""), None);
        assert_eq!(ovirt("<vm xmlns='http://ovirt.org/vm/2.0'/><qos/>"), None, "in other namespaces");
        let odd = "<vm xmlns='http://ovirt.org/vm/1.0'><balloonTarget>much</balloonTarget>
            <ballooningEnabled>False</ballooningEnabled><device devtype='disk'><GUID>g</GUID></device></vm>";
        assert_eq!(ovirt(odd), Some(OVirt { ballooning_enabled: Some(false), ..OVirt::default() }));
        assert_eq!(ovirt("<qos xmlns='http://ovirt.org/vm/tune/1.0'/>"), Some(OVirt::default()));
    }
}
