//! The metric families: name, help, type, unit, source and accessor, one row each.
//!
//! A row is all that a new figure needs here. Names are kept for ever once released.

mod devices;
mod domain;
mod host;
mod memory;

use super::labels::DomainLabels;
use super::value::Value;
use crate::model::{BalloonSample, Block, BlockSample, CpuSample, Interface, InterfaceSample, Vcpu, VcpuSample};
use crate::store::{Domain, Snapshot};

/// The type of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
}

impl Kind {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
        }
    }
}

/// One metric family.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    pub(super) kind: Kind,
    pub(super) unit: &'static str,
    /// Where the figure comes from, for the reference.
    pub(super) source: &'static str,
    /// Labels beyond `domain` and `uuid`, for the reference.
    pub(super) labels: &'static str,
    pub(super) read: Read,
}

/// What of a domain is fresh enough to be exported.
pub(super) struct View<'a> {
    pub(super) domain: &'a Domain,
    pub(super) cpu: Option<&'a CpuSample>,
    pub(super) vcpu: Option<&'a VcpuSample>,
    pub(super) interface: Option<&'a InterfaceSample>,
    pub(super) block: Option<&'a BlockSample>,
    pub(super) balloon: Option<&'a BalloonSample>,
    pub(super) state: Option<(Option<i64>, Option<i64>)>,
}

/// The host as a whole.
pub(super) struct HostView<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) views: &'a [View<'a>],
    pub(super) list_is_fresh: bool,
}

/// Receives the series of a host family: label block without braces, value.
pub(super) type Emit<'e> = &'e mut dyn FnMut(&[(&str, &str)], Value);

/// The accessor: what the family has a series for, and its value.
pub(super) enum Read {
    /// One or a few for the host.
    Host(fn(&HostView<'_>, Emit<'_>)),
    /// One per domain.
    Domain(fn(&View<'_>) -> Option<Value>),
    /// One per vCPU.
    Vcpu(fn(&Vcpu) -> Option<Value>),
    /// One per disk.
    Disk(fn(&Block) -> Option<Value>),
    /// One per NIC.
    Nic(fn(&Interface) -> Option<Value>),
    /// Value 1 for each of the label blocks.
    Info(fn(&DomainLabels) -> &[String]),
}

const fn row(
    kind: Kind,
    (name, unit): (&'static str, &'static str),
    help: &'static str,
    (source, labels): (&'static str, &'static str),
    read: Read,
) -> Family {
    Family { name, help, kind, unit, source, labels, read }
}

const fn disk(
    kind: Kind,
    name: &'static str,
    unit: &'static str,
    source: &'static str,
    help: &'static str,
    read: fn(&Block) -> Option<Value>,
) -> Family {
    row(kind, (name, unit), help, (source, "target_device"), Read::Disk(read))
}

const fn nic(
    name: &'static str,
    unit: &'static str,
    source: &'static str,
    help: &'static str,
    read: fn(&Interface) -> Option<Value>,
) -> Family {
    row(Kind::Counter, (name, unit), help, (source, "target_device"), Read::Nic(read))
}

const fn vcpu(
    kind: Kind,
    name: &'static str,
    unit: &'static str,
    source: &'static str,
    help: &'static str,
    read: fn(&Vcpu) -> Option<Value>,
) -> Family {
    row(kind, (name, unit), help, (source, "vcpu"), Read::Vcpu(read))
}

const fn domain(
    kind: Kind,
    name: &'static str,
    unit: &'static str,
    source: &'static str,
    help: &'static str,
    read: fn(&View<'_>) -> Option<Value>,
) -> Family {
    row(kind, (name, unit), help, (source, ""), Read::Domain(read))
}

/// Every family but the ages and our own metrics, which are rendered per scrape; in the order of /metrics.
pub(super) fn families() -> impl Iterator<Item = &'static Family> {
    [host::FAMILIES, domain::FAMILIES, devices::FAMILIES, memory::FAMILIES].into_iter().flatten()
}

/// The family of ages, rendered per scrape.
pub(super) const AGE_NAME: &str = "libvirt_domain_sample_age_seconds";
/// Its help.
pub(super) const AGE_HELP: &str = "Time since the newest sample of the group was asked for; since the domain was found running where there is none yet. Every running domain and group sampled has it.";

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_follow_the_rules() {
        let mut names = HashSet::new();
        for family in families() {
            assert!(names.insert(family.name), "{} twice", family.name);
            assert_eq!(family.kind == Kind::Counter, family.name.ends_with("_total"), "{}", family.name);
            assert!(family.help.ends_with('.') && !family.help.contains(['\n', '\\']), "{}", family.name);
        }
    }
}
