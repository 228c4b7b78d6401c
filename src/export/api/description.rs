//! What a domain's XML says, as JSON.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::figures;
use crate::model::{DiskDescription, DomainDescription, NicDescription};

#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Description<'a> {
    #[serde(flatten)]
    kind: Kind<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'a str>,
    #[serde(flatten)]
    size: Size,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    boot: &'a [Box<str>],
    disks: Vec<DiskJson<'a>>,
    nics: Vec<NicJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    openstack: Option<OpenStackJson<'a>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    metadata: BTreeMap<&'a str, &'a str>,
}

figures!(Kind<'a> { domain_type: &'a str, os_type: &'a str, os_arch: &'a str, os_machine: &'a str });
figures!(Size { vcpus: u32, vcpus_maximum: u32, memory_kib: u64, memory_maximum_kib: u64 });
figures!(#[schemars(rename = "DiskDescription")] DiskJson<'a> {
    target: &'a str, disk_type: &'a str, device: &'a str, target_bus: &'a str, driver_name: &'a str, driver_type: &'a str,
    driver_cache: &'a str, driver_discard: &'a str, source: &'a str, source_protocol: &'a str, serial: &'a str,
    backing: &'a [Box<str>],
});
figures!(#[schemars(rename = "NicDescription")] NicJson<'a> {
    target: &'a str, interface_type: &'a str, source_bridge: &'a str, source_network: &'a str, virtual_port: &'a str,
    mac: &'a str, model: &'a str, mtu: &'a str,
});
figures!(#[schemars(rename = "OpenStack")] OpenStackJson<'a> {
    instance_name: &'a str, instance_id: &'a str, flavor_name: &'a str, user_name: &'a str, user_id: &'a str,
    project_name: &'a str, project_id: &'a str,
});

/// The description; what the XML does not say is absent.
pub(super) fn of(it: &DomainDescription) -> Description<'_> {
    Description {
        kind: Kind {
            domain_type: said(&it.domain_type),
            os_type: said(&it.os_type),
            os_arch: said(&it.os_arch),
            os_machine: said(&it.os_machine),
        },
        title: it.title.as_deref(),
        description: it.description.as_deref(),
        size: Size {
            vcpus: it.vcpus,
            vcpus_maximum: it.vcpus_maximum,
            memory_kib: it.memory_kib,
            memory_maximum_kib: it.memory_maximum_kib,
        },
        boot: &it.boot,
        disks: it.disks.iter().map(disk_description).collect(),
        nics: it.nics.iter().map(nic_description).collect(),
        openstack: it.openstack.as_ref().map(|nova| OpenStackJson {
            instance_name: said(&nova.instance_name),
            instance_id: said(&nova.instance_id),
            flavor_name: said(&nova.flavor_name),
            user_name: said(&nova.user_name),
            user_id: said(&nova.user_id),
            project_name: said(&nova.project_name),
            project_id: said(&nova.project_id),
        }),
        metadata: it.metadata.iter().map(|entry| (&*entry.key, &*entry.value)).collect(),
    }
}

pub(super) fn disk_description(disk: &DiskDescription) -> DiskJson<'_> {
    DiskJson {
        target: said(&disk.target),
        disk_type: said(&disk.disk_type),
        device: said(&disk.device),
        target_bus: said(&disk.target_bus),
        driver_name: said(&disk.driver_name),
        driver_type: said(&disk.driver_type),
        driver_cache: said(&disk.driver_cache),
        driver_discard: said(&disk.driver_discard),
        source: said(&disk.source),
        source_protocol: said(&disk.source_protocol),
        serial: said(&disk.serial),
        backing: (!disk.backing.is_empty()).then_some(&*disk.backing),
    }
}

pub(super) fn nic_description(nic: &NicDescription) -> NicJson<'_> {
    NicJson {
        target: said(&nic.target),
        interface_type: said(&nic.interface_type),
        source_bridge: said(&nic.source_bridge),
        source_network: said(&nic.source_network),
        virtual_port: said(&nic.virtual_port),
        mac: said(&nic.mac),
        model: said(&nic.model),
        mtu: said(&nic.mtu),
    }
}

fn said(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}
