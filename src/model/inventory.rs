//! Which domains there are, running or not, and what their XML says about them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::{DomainId, Peer, RunId, StateSample};

/// What the XML of a domain says; it changes seldom.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DomainDescription {
    /// `type` of `<domain>`: `kvm`, `qemu`, `test`.
    pub domain_type: Box<str>,
    /// Text of `<os><type>`: `hvm`.
    pub os_type: Box<str>,
    /// `<os><type arch>`.
    pub os_arch: Box<str>,
    /// `<os><type machine>`.
    pub os_machine: Box<str>,
    /// `<os><boot dev>` or the devices' `<boot order>`: `hd`, `network`, or targets of disks and NICs, in order.
    pub boot: Vec<Box<str>>,
    /// `<vcpu current>`, or its text where all are there from the start.
    pub vcpus: Option<u32>,
    /// Text of `<vcpu>`.
    pub vcpus_maximum: Option<u32>,
    /// `<currentMemory>`.
    pub memory_kib: Option<u64>,
    /// `<memory>`.
    pub memory_maximum_kib: Option<u64>,
    /// `<title>`.
    pub title: Option<Box<str>>,
    /// `<description>`; may hold anything, newlines too.
    pub description: Option<Box<str>>,
    /// Each `<disk>`, in order.
    pub disks: Vec<DiskDescription>,
    /// Each `<interface>`, in order.
    pub nics: Vec<NicDescription>,
    /// Is there `<features><acpi/>`?
    pub acpi: bool,
    /// `<clock adjustment>`, seconds.
    pub clock_adjustment_s: Option<i64>,
    /// `<cputune><quota>`, microseconds of a period that each vCPU may run; less than 0 is no limit.
    pub vcpu_quota_us: Option<i64>,
    /// `<cputune><period>`, microseconds.
    pub vcpu_period_us: Option<u64>,
    /// Each `<graphics>`, in order.
    pub graphics: Vec<GraphicsDescription>,
    /// How many `<memballoon>` there are, that of model `none` included.
    pub balloons: u32,
    /// Sizes of all `<memory model='nvdimm'>` together, which are part of `<memory>`.
    pub nvdimm_kib: u64,
    /// A hash of the text of `<devices>`, to see that something changed.
    pub devices_hash: Option<u64>,
    /// What oVirt wrote into `<metadata>`.
    pub ovirt: Option<Box<OVirt>>,
    /// What OpenStack Nova wrote into `<metadata>`.
    pub openstack: Option<OpenStack>,
    /// All that applications wrote into `<metadata>`.
    pub metadata: Box<[Metadata]>,
}

/// A text or an attribute in `<metadata>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// Where it is: `nova:instance/nova:flavor@name`.
    pub key: Box<str>,
    /// What it says.
    pub value: Box<str>,
}

/// One `<disk>`; an empty string is "not said".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DiskDescription {
    /// `<target dev>`.
    pub target: Box<str>,
    /// `type`: `file`, `block`, `network`, `volume`.
    pub disk_type: Box<str>,
    /// `device`: `disk`, `cdrom`, `floppy`, `lun`.
    pub device: Box<str>,
    /// `<target bus>`.
    pub target_bus: Box<str>,
    /// `<driver name>`.
    pub driver_name: Box<str>,
    /// `<driver type>`.
    pub driver_type: Box<str>,
    /// `<driver cache>`.
    pub driver_cache: Box<str>,
    /// `<driver discard>`.
    pub driver_discard: Box<str>,
    /// Path, device, `pool/volume` or network name of `<source>`.
    pub source: Box<str>,
    /// `<source protocol>`, of network disks.
    pub source_protocol: Box<str>,
    /// `<serial>`.
    pub serial: Box<str>,
    /// Sources of the chain of `<backingStore>`, the nearest first.
    pub backing: Vec<Box<str>>,
    /// Each limit in `<iotune>`, by its name (`total_bytes_sec`), in order.
    pub io_limits: Box<[(Box<str>, u64)]>,
}

/// One `<graphics>`; an empty string is "not said".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GraphicsDescription {
    /// `type`: `vnc`, `spice`.
    pub graphics_type: Box<str>,
    /// `port`; -1 while the domain does not run.
    pub port: Box<str>,
    /// `tlsPort`.
    pub tls_port: Box<str>,
    /// `address` of the first `<listen>`.
    pub address: Box<str>,
}

/// One `<interface>`; an empty string is "not said".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NicDescription {
    /// `<target dev>`.
    pub target: Box<str>,
    /// `type`: `bridge`, `network`, `ethernet`, `hostdev`.
    pub interface_type: Box<str>,
    /// Bridge, network or device of `<source>`.
    pub source_bridge: Box<str>,
    /// `<source network>`.
    pub source_network: Box<str>,
    /// `<virtualport type>`: `openvswitch`, `802.1Qbh`.
    pub virtual_port: Box<str>,
    /// `<mac address>`.
    pub mac: Box<str>,
    /// `<model type>`.
    pub model: Box<str>,
    /// `<mtu size>`.
    pub mtu: Box<str>,
}

/// Nova's `<nova:instance>`; an empty string is "not said".
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OpenStack {
    /// `<nova:name>`.
    pub instance_name: Box<str>,
    /// The instance's id, which is the domain's UUID.
    pub instance_id: Box<str>,
    /// `<nova:flavor name>`.
    pub flavor_name: Box<str>,
    /// `<nova:user>`.
    pub user_name: Box<str>,
    /// `<nova:user uuid>`.
    pub user_id: Box<str>,
    /// `<nova:project>`.
    pub project_name: Box<str>,
    /// `<nova:project uuid>`.
    pub project_id: Box<str>,
}

/// What oVirt's VDSM wrote: `<vm>` of <http://ovirt.org/vm/1.0> and `<qos>` of <http://ovirt.org/vm/tune/1.0>.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OVirt {
    /// `vcpuLimit` in `<qos>`, percent, as it is written.
    pub vcpu_limit: Option<Box<str>>,
    /// `minGuaranteedMemoryMb`.
    pub guaranteed_memory_mib: Option<u64>,
    /// `balloonTarget`, KiB.
    pub balloon_target_kib: Option<u64>,
    /// `ballooningEnabled`.
    pub ballooning_enabled: Option<bool>,
    /// Each `<device devtype="disk">` that says which image it is.
    pub disks: Vec<OVirtDisk>,
}

/// A disk of oVirt's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OVirtDisk {
    /// `name`, the target.
    pub target: Box<str>,
    /// `imageID`, where pool, storage domain, image and volume are all told; else `GUID` of a LUN.
    pub image_id: Option<Box<str>>,
    /// `GUID` of a LUN without an image.
    pub lun_guid: Option<Box<str>>,
}

/// What an inventory call need not read again, and what it must.
#[derive(Debug, Clone, Default)]
pub struct InventoryRequest {
    /// Domains whose XML is known, with the run it was read in. Others are read.
    pub known: HashMap<DomainId, Option<RunId>>,
    /// Read the XML of these in any case.
    pub refresh: HashSet<DomainId>,
    /// Read every XML again.
    pub full: bool,
}

impl InventoryRequest {
    /// Does this request want the XML of that run of that domain?
    #[must_use]
    pub fn wants(&self, id: DomainId, run: Option<RunId>) -> bool {
        self.full || self.refresh.contains(&id) || self.known.get(&id) != Some(&run)
    }
}

/// One domain of the list.
#[derive(Debug, Clone)]
pub struct ListedDomain {
    /// UUID.
    pub id: DomainId,
    /// Name.
    pub name: Box<str>,
    /// Which run; `None` if it is not running.
    pub run: Option<RunId>,
    /// State of a domain that is not running; running ones are sampled.
    pub state: Option<StateSample>,
    /// Its XML, if it was asked for and could be read.
    pub description: Option<Arc<DomainDescription>>,
}

/// Versions of what we talk to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostVersions {
    /// The hypervisor, `QEMU 7.2.22`.
    pub hypervisor: Box<str>,
    /// libvirtd.
    pub daemon: Box<str>,
    /// libvirt.so, in our process.
    pub library: Box<str>,
}

/// The answer of an inventory call.
#[derive(Debug, Clone, Default)]
pub struct InventoryReply {
    /// Every domain of the host.
    pub domains: Vec<ListedDomain>,
    /// Versions.
    pub versions: HostVersions,
    /// Domains whose XML could not be read or understood.
    pub failed_descriptions: u64,
    /// Who answered.
    pub peer: Option<Peer>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_read_when_unknown_restarted_named_or_in_full() {
        let id = DomainId::from_bytes([1; 16]);
        let other = DomainId::from_bytes([2; 16]);
        let mut request = InventoryRequest::default();
        assert!(request.wants(id, None));
        request.known.insert(id, Some(RunId(7)));
        assert!(!request.wants(id, Some(RunId(7))));
        assert!(request.wants(id, Some(RunId(8))));
        assert!(request.wants(id, None));
        assert!(request.wants(other, Some(RunId(7))));
        request.refresh.insert(id);
        assert!(request.wants(id, Some(RunId(7))));
        let full = InventoryRequest { full: true, refresh: HashSet::new(), ..request };
        assert!(full.wants(id, Some(RunId(7))));
    }
}
