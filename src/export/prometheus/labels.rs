//! Label blocks, escaped once and kept: `domain="a",uuid="b"`, and what comes on top: `,target_device="vda"`.
//!
//! There are dozens of them for each domain, so they lie in one text each domain, one behind the other.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use super::code::{Bits, CODE};
use super::names::Names;
use super::table::View;
use crate::model::{DiskDescription, DomainDescription, DomainId, NicDescription};
use crate::store::Domain;

/// Between a domain's name and its UUID, in its label block.
pub(super) const TAG: &str = "\",uuid=\"";
/// How long a UUID is.
pub(super) const UUID: usize = 36;

/// What labels there are for, beside the domain itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Of {
    /// Each vCPU of the sample, in its order.
    Vcpu,
    /// Each disk of the sample, in its order.
    Disk,
    /// Each NIC of the sample, in its order.
    Nic,
    /// `libvirt_domain_info`, one or none.
    Info,
    /// `libvirt_domain_openstack_info`, one or none.
    OpenStack,
    /// `libvirt_domain_block_stats_info`, of a running domain.
    DiskInfo,
    /// `libvirt_domain_interface_stats_info`, of a running domain.
    NicInfo,
}

impl Of {
    const COUNT: usize = 7;
}

/// The labels of one domain.
#[derive(Debug)]
pub(super) struct DomainLabels {
    /// What they were made from; where it is unchanged, they are good still.
    basis: Box<[u8]>,
    /// Keeps the description that `basis` knows by address.
    _description: Option<Arc<DomainDescription>>,
    /// The block of `domain` and `uuid`, and then all others.
    text: Box<[u8]>,
    /// Where in `text` each ends.
    ends: Box<[u32]>,
    /// Which of the ends is the first of each kind.
    firsts: [u16; Of::COUNT + 1],
    /// The UUID, as packed lines have it.
    pub(super) uuid: [Bits; 4],
}

impl DomainLabels {
    /// `domain` and `uuid`.
    pub(super) fn block(&self) -> &[u8] {
        &self.text[..self.ends[0] as usize]
    }

    /// The further labels of each series of that kind, with a comma before each; `None` where a device's name is taken.
    pub(super) fn of(&self, kind: Of) -> impl Iterator<Item = Option<&[u8]>> {
        let [first, end] = [kind as usize, kind as usize + 1].map(|kind| usize::from(self.firsts[kind]));
        let ends = self.ends[first - 1..end].windows(2).map(|ends| &self.text[ends[0] as usize..ends[1] as usize]);
        ends.map(|labels| Some(labels).filter(|labels| !labels.is_empty()))
    }
}

/// The labels of all domains, kept from rendering to rendering.
#[derive(Debug, Default)]
pub(super) struct LabelCache {
    domains: HashMap<DomainId, Arc<DomainLabels>>,
    /// Where bases are made.
    basis: Vec<u8>,
}

impl LabelCache {
    /// The labels for a domain with these samples; made anew only if something in them changed.
    pub(super) fn get(&mut self, view: &View<'_>) -> Arc<DomainLabels> {
        write_basis(view, &mut self.basis);
        if let Some(labels) = self.domains.get(&view.domain.id)
            && *labels.basis == *self.basis
        {
            return Arc::clone(labels);
        }
        let labels = Arc::new(DomainLabels::new(view, self.basis.as_slice().into()));
        self.domains.insert(view.domain.id, Arc::clone(&labels));
        labels
    }

    /// Forgets domains that are gone, once each of these has its labels here.
    pub(super) fn keep_only<'d>(&mut self, domains: impl ExactSizeIterator<Item = &'d Arc<Domain>>) {
        // There are others only if there are more.
        if self.domains.len() > domains.len() {
            let known: HashSet<DomainId> = domains.map(|domain| domain.id).collect();
            self.domains.retain(|id, _| known.contains(id));
        }
    }
}

/// Everything that the labels of a domain are made from, in such a form that no two bases are the same by chance.
fn write_basis(view: &View<'_>, basis: &mut Vec<u8>) {
    let View { domain, vcpu, disks, interface, .. } = view;
    basis.clear();
    let text = |basis: &mut Vec<u8>, text: Option<&str>| {
        basis.extend_from_slice(&text.map_or(u32::MAX, |text| text.len() as u32).to_ne_bytes());
        basis.extend_from_slice(text.unwrap_or_default().as_bytes());
    };
    text(basis, Some(&domain.name));
    let description = domain.description.as_ref().map_or(0, |description| Arc::as_ptr(description).addr());
    basis.extend_from_slice(&description.to_ne_bytes());
    basis.push(domain.run.is_some().into());
    let vcpus = vcpu.map_or(&[][..], |sample| &sample.vcpus);
    let nics = interface.map_or(&[][..], |sample| &sample.interfaces);
    for count in [vcpus.len(), disks.len(), nics.len()] {
        basis.extend_from_slice(&count.to_ne_bytes());
    }
    vcpus.iter().for_each(|vcpu| basis.extend_from_slice(&vcpu.index.to_ne_bytes()));
    for disk in disks {
        basis.extend_from_slice(&disk.index.unwrap_or(u32::MAX).to_ne_bytes());
        text(basis, disk.name);
    }
    for nic in nics {
        basis.extend_from_slice(&nic.index.to_ne_bytes());
        text(basis, nic.name.as_deref());
    }
}

impl DomainLabels {
    fn new(view: &View<'_>, basis: Box<[u8]>) -> Self {
        let domain = view.domain;
        let description = domain.description.as_deref();
        let described = description.filter(|_| domain.run.is_some());
        let (disks, nics) = (described.map_or(&[][..], |it| &it.disks), described.map_or(&[][..], |it| &it.nics));
        let vcpus = view.vcpu.map_or(&[][..], |sample| &sample.vcpus);
        let sampled_nics = view.interface.map_or(&[][..], |sample| &sample.interfaces);

        let mut names = Names::default();
        let disk_names = view.disks.iter().map(|disk| {
            // Without a place of its own it bears the name under which it was asked for.
            let Some(index) = disk.index else { return names.only(disk.name?) };
            let target = disks.get(index as usize).map(|disk| &*disk.target);
            names.take(index, &[disk.name, target], "disk")
        });
        let disk_names: Vec<_> = disk_names.collect();
        let mut names = Names::default();
        let nic_names = sampled_nics.iter().map(|sampled| {
            let nic = nics.get(sampled.index as usize);
            let said = [sampled.name.as_deref(), nic.map(|nic| &*nic.target), nic.map(|nic| &*nic.mac)];
            names.take(sampled.index, &said, "nic")
        });
        let nic_names: Vec<_> = nic_names.collect();

        let mut builder = Builder::new(domain);
        builder.begin(Of::Vcpu);
        vcpus.iter().for_each(|vcpu| builder.add([("vcpu", itoa::Buffer::new().format(vcpu.index))]));
        for (kind, names) in [(Of::Disk, &disk_names), (Of::Nic, &nic_names)] {
            builder.begin(kind);
            for name in names {
                match name {
                    Some(name) => builder.add([("target_device", name)]),
                    None => builder.add([]),
                }
            }
        }
        builder.begin(Of::Info);
        if let Some(it) = description {
            let labels = [("os_type", &it.os_type), ("os_type_arch", &it.os_arch), ("os_type_machine", &it.os_machine)];
            builder.add(labels.map(|(name, value)| (name, &**value)));
        }
        builder.begin(Of::OpenStack);
        if let Some(nova) = description.and_then(|it| it.openstack.as_ref()) {
            builder.add([
                ("instance_name", &*nova.instance_name),
                ("instance_id", &nova.instance_id),
                ("flavor_name", &nova.flavor_name),
                ("user_name", &nova.user_name),
                ("user_id", &nova.user_id),
                ("project_name", &nova.project_name),
                ("project_id", &nova.project_id),
            ]);
        }
        builder.begin(Of::DiskInfo);
        let mut names = Names::default();
        for (index, disk) in (0..).zip(disks) {
            if let Some(name) = names.take(index, &[Some(&*disk.target)], "disk") {
                builder.add(disk_labels(&name, disk));
            }
        }
        builder.begin(Of::NicInfo);
        let mut names = Names::default();
        for (index, nic) in (0..).zip(nics) {
            // A NIC that is sampled bears the same name in both places.
            let sampled = sampled_nics.iter().zip(&nic_names).find(|(sampled, _)| sampled.index == index);
            let sampled = sampled.and_then(|(_, name)| name.as_deref());
            if let Some(name) = names.take(index, &[sampled, Some(&nic.target), Some(&nic.mac)], "nic") {
                builder.add(nic_labels(&name, nic));
            }
        }
        builder.finish(basis, domain.description.clone())
    }
}

/// Labels under construction: kind after kind, in their order.
struct Builder {
    text: String,
    ends: Vec<u32>,
    firsts: [u16; Of::COUNT + 1],
    uuid: [Bits; 4],
}

impl Builder {
    fn new(domain: &Domain) -> Self {
        let mut text = String::new();
        push(&mut text, "domain", &domain.name);
        // The tag begins with the quote that is there already.
        let _ = write!(text, "{}{}\"", &TAG[1..], domain.id);
        let mut uuid = [Bits::default(); 4];
        let digits = &text.as_bytes()[text.len() - 1 - UUID..text.len() - 1];
        for (bits, digits) in uuid.iter_mut().zip(digits.chunks(UUID / 4)) {
            *bits = digits.iter().fold(*bits, |bits, digit| bits.and(CODE.literals[usize::from(*digit)]));
        }
        let mut builder = Self { text, ends: Vec::new(), firsts: [0; Of::COUNT + 1], uuid };
        builder.add([]);
        builder
    }

    fn begin(&mut self, kind: Of) {
        // More devices than that cannot be numbered; what is beyond is not shown.
        let first = u16::try_from(self.ends.len()).unwrap_or(u16::MAX);
        self.firsts[kind as usize..].fill(first);
    }

    fn add<const N: usize>(&mut self, labels: [(&str, &str); N]) {
        labels.iter().for_each(|(name, value)| push(&mut self.text, name, value));
        self.ends.push(u32::try_from(self.text.len()).expect("the labels of a domain are far from 4 GB"));
    }

    fn finish(mut self, basis: Box<[u8]>, description: Option<Arc<DomainDescription>>) -> DomainLabels {
        self.firsts[Of::COUNT] = u16::try_from(self.ends.len()).unwrap_or(u16::MAX);
        let Self { text, ends, firsts, uuid } = self;
        let (text, ends) = (text.into_bytes().into(), ends.into());
        DomainLabels { basis, _description: description, text, ends, firsts, uuid }
    }
}

fn disk_labels<'a>(name: &'a str, disk: &'a DiskDescription) -> [(&'static str, &'a str); 10] {
    [
        ("target_device", name),
        ("disk_type", &disk.disk_type),
        ("target_bus", &disk.target_bus),
        ("driver_name", &disk.driver_name),
        ("driver_type", &disk.driver_type),
        ("driver_cache", &disk.driver_cache),
        ("driver_discard", &disk.driver_discard),
        ("source_file", &disk.source),
        ("source_protocol", &disk.source_protocol),
        ("serial", &disk.serial),
    ]
}

fn nic_labels<'a>(name: &'a str, nic: &'a NicDescription) -> [(&'static str, &'a str); 6] {
    [
        ("target_device", name),
        ("interface_type", &nic.interface_type),
        ("source_bridge", &nic.source_bridge),
        ("mac_address", &nic.mac),
        ("model_type", &nic.model),
        ("mtu_size", &nic.mtu),
    ]
}

/// Appends `name="value"`, escaped, with a comma where one is due.
pub(super) fn push(block: &mut String, name: &str, value: &str) {
    if !block.is_empty() {
        block.push(',');
    }
    block.push_str(name);
    block.push_str("=\"");
    for character in value.chars() {
        match character {
            '\\' => block.push_str("\\\\"),
            '"' => block.push_str("\\\""),
            '\n' => block.push_str("\\n"),
            other => block.push(other),
        }
    }
    block.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_escaped_as_the_exposition_format_wants() {
        let mut block = String::new();
        push(&mut block, "a", "q\" b\\ n\n ü\t");
        push(&mut block, "b", "");
        assert_eq!(block, "a=\"q\\\" b\\\\ n\\n ü\t\",b=\"\"");
    }
}
