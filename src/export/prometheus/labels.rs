//! Label blocks, escaped once and kept: `domain="a",uuid="b",target_device="vda"`.
//!
//! Also where devices get their names: the one on the host, else the MAC address, else the index, and never the same
//! twice, since one duplicate series makes Prometheus refuse the whole scrape.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use super::table::View;
use crate::model::{DomainDescription, DomainId, NicDescription};
use crate::store::Domain;

/// What makes a domain's label blocks; where it is unchanged, the blocks are good still.
#[derive(Debug)]
struct Basis {
    name: Arc<str>,
    description: Option<usize>,
    running: bool,
    vcpus: Vec<u32>,
    disks: Vec<(Option<u32>, Option<Box<str>>)>,
    nics: Vec<(u32, Option<Box<str>>)>,
}

/// The label blocks of one domain.
#[derive(Debug)]
pub(super) struct DomainLabels {
    basis: Basis,
    /// Keeps the description that `basis` knows by address.
    _description: Option<Arc<DomainDescription>>,
    /// `domain` and `uuid`.
    pub(super) domain: String,
    /// One per vCPU of the sample, in its order.
    pub(super) vcpus: Vec<String>,
    /// One per disk of the sample; `None` where the name is taken.
    pub(super) disks: Vec<Option<String>>,
    /// One per NIC of the sample; `None` where the name is taken.
    pub(super) nics: Vec<Option<String>>,
    /// `libvirt_domain_info`.
    pub(super) info: Option<String>,
    /// `libvirt_domain_openstack_info`.
    pub(super) openstack: Option<String>,
    /// `libvirt_domain_block_stats_info`, of a running domain.
    pub(super) disk_info: Vec<String>,
    /// `libvirt_domain_interface_stats_info`, of a running domain.
    pub(super) nic_info: Vec<String>,
}

/// The blocks of all domains, kept from rendering to rendering.
#[derive(Debug, Default)]
pub(super) struct LabelCache {
    domains: HashMap<DomainId, Arc<DomainLabels>>,
}

impl LabelCache {
    /// The blocks for a domain with these samples; built anew only if something in them changed.
    pub(super) fn get(&mut self, view: &View<'_>) -> Arc<DomainLabels> {
        if let Some(labels) = self.domains.get(&view.domain.id)
            && labels.basis.holds(view)
        {
            return Arc::clone(labels);
        }
        let labels = Arc::new(DomainLabels::new(view.domain, Basis::new(view)));
        self.domains.insert(view.domain.id, Arc::clone(&labels));
        labels
    }

    /// Forgets domains that are gone.
    pub(super) fn keep_only(&mut self, domains: &imbl::Vector<Arc<Domain>>) {
        // Each of these has its labels here, so there are others only if there are more.
        if self.domains.len() > domains.len() {
            let known: HashSet<DomainId> = domains.iter().map(|domain| domain.id).collect();
            self.domains.retain(|id, _| known.contains(id));
        }
    }
}

fn address(description: Option<&Arc<DomainDescription>>) -> Option<usize> {
    description.map(|description| Arc::as_ptr(description).addr())
}

impl Basis {
    fn new(view: &View<'_>) -> Self {
        let View { domain, vcpu, disks, interface, .. } = view;
        Self {
            name: Arc::clone(&domain.name),
            description: address(domain.description.as_ref()),
            running: domain.run.is_some(),
            vcpus: vcpu.map(|sample| sample.vcpus.iter().map(|v| v.index).collect()).unwrap_or_default(),
            disks: disks.iter().map(|disk| (disk.index, disk.name.map(Into::into))).collect(),
            nics: interface
                .map(|s| s.interfaces.iter().map(|n| (n.index, n.name.clone())).collect())
                .unwrap_or_default(),
        }
    }

    /// Would a new basis be the same?
    fn holds(&self, view: &View<'_>) -> bool {
        let View { domain, vcpu, disks, interface, .. } = view;
        let vcpus = vcpu.map_or(&[][..], |sample| &sample.vcpus);
        let nics = interface.map_or(&[][..], |sample| &sample.interfaces);
        self.name == domain.name
            && self.description == address(domain.description.as_ref())
            && self.running == domain.run.is_some()
            && self.vcpus.iter().eq(vcpus.iter().map(|vcpu| &vcpu.index))
            && self.disks.len() == disks.len()
            && self
                .disks
                .iter()
                .zip(disks)
                .all(|(known, disk)| known.0 == disk.index && known.1.as_deref() == disk.name)
            && self.nics.len() == nics.len()
            && self.nics.iter().zip(nics).all(|(known, nic)| known.0 == nic.index && known.1 == nic.name)
    }
}

impl DomainLabels {
    fn new(domain: &Domain, basis: Basis) -> Self {
        let mut own = String::new();
        push(&mut own, "domain", &domain.name);
        let _ = write!(own, ",uuid=\"{}\"", domain.id);
        let with = |labels: &[(&str, &str)]| {
            let mut block = own.clone();
            for (name, value) in labels {
                push(&mut block, name, value);
            }
            block
        };
        let description = domain.description.as_deref();
        let described = description.filter(|_| basis.running);

        let mut disk_names = Names::default();
        let disks: Vec<_> = basis
            .disks
            .iter()
            .map(|(index, name)| {
                // Without a place of its own it bears the name under which it was asked for.
                let Some(index) = *index else { return disk_names.only(name.as_deref()?) };
                let target = described.and_then(|it| it.disks.get(index as usize)).map(|disk| &*disk.target);
                disk_names.take(index, &[name.as_deref(), target], "disk")
            })
            .collect();
        let mut nic_names = Names::default();
        let nics: Vec<_> = basis
            .nics
            .iter()
            .map(|(index, name)| {
                let nic = described.and_then(|it| it.nics.get(*index as usize));
                nic_names.take(*index, &[name.as_deref(), nic.map(|nic| &*nic.target), nic.map(|nic| &*nic.mac)], "nic")
            })
            .collect();

        let device = |name: &Option<String>| name.as_deref().map(|name| with(&[("target_device", name)]));
        let mut info_names = Names::default();
        let nic_info = described.map_or(&[][..], |it| &it.nics).iter().enumerate().filter_map(|(place, nic)| {
            let index = u32::try_from(place).ok()?;
            // A NIC that is sampled bears the same name in both places.
            let sampled =
                basis.nics.iter().zip(&nics).find(|((n, _), _)| *n == index).and_then(|(_, name)| name.as_deref());
            let name = info_names.take(index, &[sampled, Some(&nic.target), Some(&nic.mac)], "nic")?;
            Some(with(&nic_labels(&name, nic)))
        });
        let nic_info: Vec<String> = nic_info.collect();
        let mut disk_info_names = Names::default();
        let disk_info = described.map_or(&[][..], |it| &it.disks).iter().enumerate().filter_map(|(place, disk)| {
            let name = disk_info_names.take(u32::try_from(place).ok()?, &[Some(&disk.target)], "disk")?;
            Some(with(&[
                ("target_device", &name),
                ("disk_type", &disk.disk_type),
                ("target_bus", &disk.target_bus),
                ("driver_name", &disk.driver_name),
                ("driver_type", &disk.driver_type),
                ("driver_cache", &disk.driver_cache),
                ("driver_discard", &disk.driver_discard),
                ("source_file", &disk.source),
                ("source_protocol", &disk.source_protocol),
                ("serial", &disk.serial),
            ]))
        });
        Self {
            vcpus: basis.vcpus.iter().map(|index| with(&[("vcpu", itoa::Buffer::new().format(*index))])).collect(),
            disks: disks.iter().map(device).collect(),
            nics: nics.iter().map(device).collect(),
            info: description.map(|it| {
                with(&[("os_type", &it.os_type), ("os_type_arch", &it.os_arch), ("os_type_machine", &it.os_machine)])
            }),
            openstack: description.and_then(|it| it.openstack.as_ref()).map(|nova| {
                with(&[
                    ("instance_name", &nova.instance_name),
                    ("instance_id", &nova.instance_id),
                    ("flavor_name", &nova.flavor_name),
                    ("user_name", &nova.user_name),
                    ("user_id", &nova.user_id),
                    ("project_name", &nova.project_name),
                    ("project_id", &nova.project_id),
                ])
            }),
            disk_info: disk_info.collect(),
            nic_info,
            _description: domain.description.clone(),
            basis,
            domain: own,
        }
    }
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

/// Gives each device a name that no other device of the domain has.
#[derive(Default)]
struct Names {
    taken: HashSet<String>,
}

impl Names {
    /// That name, unless it is taken.
    fn only(&mut self, name: &str) -> Option<String> {
        self.taken.insert(name.to_owned()).then(|| name.to_owned())
    }

    /// The first candidate that is neither empty nor another device's, else the kind and index; `None` if even that is
    /// taken.
    fn take(&mut self, index: u32, candidates: &[Option<&str>], kind: &str) -> Option<String> {
        let last = format!("{kind}{index}");
        let said = candidates.iter().flatten().copied().filter(|name| !name.is_empty());
        said.chain([last.as_str()]).find(|name| self.taken.insert((*name).to_owned())).map(str::to_owned)
    }
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

    #[test]
    fn devices_fall_back_on_mac_and_index_and_never_share_a_name() {
        let mut names = Names::default();
        assert_eq!(names.take(0, &[Some("vnet0"), None], "nic").as_deref(), Some("vnet0"));
        assert_eq!(
            names.take(1, &[None, Some(""), Some("52:54:00:00:00:01")], "nic").as_deref(),
            Some("52:54:00:00:00:01")
        );
        assert_eq!(names.take(2, &[Some(""), None], "nic").as_deref(), Some("nic2"));
        assert_eq!(
            names.take(3, &[Some("vnet0"), Some("52:54:00:00:00:03")], "nic").as_deref(),
            Some("52:54:00:00:00:03")
        );
        assert_eq!(names.take(4, &[Some("nic5")], "nic").as_deref(), Some("nic5"));
        assert_eq!(names.take(5, &[Some("vnet0")], "nic"), None, "nothing is left to call it");
    }
}
