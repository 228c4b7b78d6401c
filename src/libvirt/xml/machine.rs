//! What a domain's XML says of the machine as a whole, and of its limits.

use std::hash::{DefaultHasher, Hasher as _};
use std::str::FromStr;

use roxmltree::Node;

use super::{attribute, child, kib, number};
use crate::model::GraphicsDescription;

/// Is there `<features><acpi/>`?
pub(super) fn acpi(domain: Node<'_, '_>) -> bool {
    child(domain, "features").and_then(|features| child(features, "acpi")).is_some()
}

/// Seconds that the clock is off by. Only a clock that keeps what the guest set it to has them.
pub(super) fn clock_adjustment(domain: Node<'_, '_>) -> Option<i64> {
    let clock = child(domain, "clock").filter(|clock| clock.attribute("offset") == Some("variable"))?;
    number(clock.attribute("adjustment"))
}

/// A number in `<cputune>`. What was never set is not there, and is as the kernel has it.
pub(super) fn cpu_tuning<T: FromStr>(domain: Node<'_, '_>, name: &str) -> Option<T> {
    number(child(child(domain, "cputune")?, name)?.text())
}

/// A `<graphics>`.
pub(super) fn graphics(graphics: Node<'_, '_>) -> GraphicsDescription {
    let listen = attribute(child(graphics, "listen"), "address");
    let graphics = Some(graphics);
    GraphicsDescription {
        graphics_type: attribute(graphics, "type"),
        port: attribute(graphics, "port"),
        tls_port: attribute(graphics, "tlsPort"),
        // Old XML has the attribute alone, and libvirt still writes both.
        address: if listen.is_empty() { attribute(graphics, "listen") } else { listen },
    }
}

/// The size of a `<memory>` among the devices, if that is an NVDIMM; else 0.
pub(super) fn nvdimm_kib(memory: Node<'_, '_>) -> u64 {
    if memory.attribute("model") != Some("nvdimm") {
        return 0;
    }
    kib(child(memory, "target").and_then(|target| child(target, "size"))).unwrap_or_default()
}

/// Changes with any letter of the element's text, and is the same for as long as the service runs.
pub(super) fn hash(element: Node<'_, '_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(&element.document().input_text().as_bytes()[element.range()]);
    hasher.finish()
}

/// The limits of a disk: all in `<iotune>` but the name of the group that shares them, which may look like a number.
pub(super) fn io_limits(disk: Node<'_, '_>) -> Box<[(Box<str>, u64)]> {
    let limits = child(disk, "iotune").into_iter().flat_map(|iotune| iotune.children());
    let limits = limits.filter(|limit| limit.is_element() && !limit.has_tag_name("group_name"));
    limits.filter_map(|limit| Some((limit.tag_name().name().into(), number(limit.text())?))).collect()
}

#[cfg(test)]
mod tests {
    use crate::libvirt::describe;
    use crate::model::DomainDescription;

    fn domain(inner: &str) -> DomainDescription {
        describe(&format!("<domain type='kvm'>{inner}</domain>")).expect("well-formed")
    }

    /// A running domain, as libvirt 9.0 writes it.
    const RUNNING: &str = "
  <cputune>
    <period>50000</period>
    <quota>-1</quota>
  </cputune>
  <features>
    <acpi/>
  </features>
  <clock offset='variable' adjustment='-3600' basis='utc'/>
  <devices>
    <disk type='file' device='disk'>
      <source file='/images/a' index='1'/>
      <target dev='vda' bus='virtio'/>
      <iotune>
        <total_bytes_sec>1048576</total_bytes_sec>
        <total_iops_sec>100</total_iops_sec>
        <group_name>7</group_name>
        <total_iops_sec_max>500</total_iops_sec_max>
      </iotune>
      <alias name='virtio-disk0'/>
    </disk>
    <graphics type='vnc' port='5900' autoport='yes' listen='127.0.0.1'>
      <listen type='address' address='127.0.0.1'/>
    </graphics>
    <graphics type='spice' port='5901' tlsPort='5902' autoport='yes' listen='192.0.2.7'>
      <listen type='network' address='192.0.2.7' network='display'/>
      <listen type='address' address='192.0.2.8'/>
    </graphics>
    <memballoon model='none'/>
    <memory model='nvdimm' access='shared'>
      <source><path>/tmp/nvdimm</path></source>
      <target><size unit='KiB'>524288</size><node>1</node><label><size unit='KiB'>256</size></label></target>
    </memory>
    <memory model='dimm'><target><size unit='KiB'>1048576</size><node>0</node></target></memory>
    <memory model='nvdimm'><target><size unit='KiB'>1024</size></target></memory>
  </devices>";

    #[test]
    fn a_running_domain_says_all() {
        let domain = domain(RUNNING);
        assert!(domain.acpi);
        assert_eq!(domain.clock_adjustment_s, Some(-3600));
        assert_eq!((domain.vcpu_quota_us, domain.vcpu_period_us), (Some(-1), Some(50_000)));
        let limits = domain.disks[0].io_limits.iter().map(|(name, limit)| (&**name, *limit)).collect::<Vec<_>>();
        let expected = [("total_bytes_sec", 1_048_576), ("total_iops_sec", 100), ("total_iops_sec_max", 500)];
        assert_eq!(limits, expected, "a name is no limit");
        let graphics = domain.graphics.iter().map(|it| [&*it.graphics_type, &it.port, &it.tls_port, &it.address]);
        let expected = [["vnc", "5900", "", "127.0.0.1"], ["spice", "5901", "5902", "192.0.2.7"]];
        assert_eq!(graphics.collect::<Vec<_>>(), expected);
        assert_eq!((domain.balloons, domain.nvdimm_kib), (1, 525_312));
        assert_eq!(domain.ovirt, None);
    }

    #[test]
    fn what_is_not_said_is_absent() {
        let domain = domain(
            "<features><apic/></features><clock offset='utc' adjustment='reset'/><cputune><shares>1</shares></cputune>
            <devices><disk><iotune><read_bytes_sec>much</read_bytes_sec></iotune></disk>
            <graphics type='vnc' port='-1' listen='192.0.2.7'><listen type='socket' socket='/run/x'/></graphics>
            <graphics type='egl-headless'/><memory model='nvdimm'><target/></memory></devices>",
        );
        assert!(!domain.acpi && domain.disks[0].io_limits.is_empty());
        assert_eq!(domain.clock_adjustment_s, None);
        assert_eq!((domain.vcpu_quota_us, domain.vcpu_period_us), (None, None));
        assert_eq!((domain.balloons, domain.nvdimm_kib), (0, 0));
        assert_eq!((&*domain.graphics[0].port, &*domain.graphics[0].address), ("-1", "192.0.2.7"), "as old XML has it");
        assert_eq!((&*domain.graphics[1].port, &*domain.graphics[1].address), ("", ""));
        let clock = |clock: &str| self::domain(clock).clock_adjustment_s;
        assert_eq!(clock("<clock offset='variable' adjustment='soon'/>"), None);
        assert_eq!(clock("<clock offset='localtime' adjustment='5'/>"), None);
        assert_eq!(clock("<clock offset='variable' adjustment='5' basis='localtime'/>"), Some(5));
    }

    #[test]
    fn the_hash_is_that_of_the_devices_and_of_nothing_else() {
        let hash = |xml: &str| domain(xml).devices_hash;
        let first = hash(RUNNING);
        assert!(first.is_some());
        assert_eq!(hash(&RUNNING.replace("-3600", "7200")), first, "not among the devices");
        assert_ne!(hash(&RUNNING.replace("500</total", "600</total")), first);
        assert_eq!(hash("<title>none</title>"), None);
    }
}
