//! The metric families: name, help, type, unit, source and accessor, one row each.
//!
//! A row is all that a new figure needs here. Names are kept for ever once released.

mod devices;
mod domain;
mod host;
mod memory;
mod process;

use super::labels::Of;
use super::value::Value;
use crate::model::{
    BalloonSample, Block, BlockInfo, CpuSample, Group, Interface, InterfaceSample, KernelSample, Stamp, Vcpu,
    VcpuSample,
};
use crate::store::{Domain, Minute, Snapshot};

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
    /// Whose sample the figures are from; `None` for what is not sampled, or from several.
    pub(super) group: Option<Group>,
    pub(super) read: Read,
}

/// What of a domain is fresh enough to be exported.
pub(super) struct View<'a> {
    pub(super) domain: &'a Domain,
    pub(super) cpu: Option<&'a CpuSample>,
    pub(super) vcpu: Option<&'a VcpuSample>,
    pub(super) interface: Option<&'a InterfaceSample>,
    /// Each disk of the block sample, in its order; behind them those of which only the sizes are known.
    pub(super) disks: Vec<Disk<'a>>,
    pub(super) balloon: Option<&'a BalloonSample>,
    pub(super) kernel: Option<&'a KernelSample>,
    /// If they are wanted.
    pub(super) cpu_minute: Option<Minute<1>>,
    pub(super) network_minute: Option<Minute<2>>,
    pub(super) state: Option<(Option<i64>, Option<i64>)>,
    /// When each group's sample was asked for, in Unix milliseconds; `None` where that is not to be written.
    pub(super) stamps: [Option<u64>; Group::ALL.len()],
}

/// What of a disk is fresh enough to be exported.
pub(super) struct Disk<'a> {
    /// Its name in the guest, if libvirt says it.
    pub(super) name: Option<&'a str>,
    /// Its place among the domain's disks, unless only its sizes are known.
    pub(super) index: Option<u32>,
    /// Its counters.
    pub(super) counters: Option<&'a Block>,
    /// Its sizes, asked for on their own.
    pub(super) sizes: Option<(BlockInfo, Stamp)>,
    /// When those were asked for, in Unix milliseconds; `None` where that is not to be written.
    pub(super) sizes_stamp: Option<u64>,
}

/// The host as a whole.
pub(super) struct HostView<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) list_is_fresh: bool,
    /// How many domains are in each state, by its number; the last are those of which no fresh sample tells it.
    pub(super) by_state: [u64; STATES + 1],
}

/// States that libvirt knows.
pub(super) const STATES: usize = 8;

impl<'a> HostView<'a> {
    /// A host whose domains are counted yet.
    pub(super) fn new(snapshot: &'a Snapshot, list_is_fresh: bool) -> Self {
        Self { snapshot, list_is_fresh, by_state: [0; STATES + 1] }
    }

    /// Counts a domain.
    pub(super) fn count(&mut self, view: &View<'_>) {
        let state = view.state.and_then(|(state, _)| usize::try_from(state?).ok());
        self.by_state[state.filter(|state| *state < STATES).unwrap_or(STATES)] += 1;
    }
}

/// Receives the series of a host family: label block without braces, value.
pub(super) type Emit<'e> = &'e mut dyn FnMut(&[(&str, &str)], Value);

/// The accessor: what the family has a series for, and its value.
pub(super) enum Read {
    /// One or a few for the host.
    Host(fn(&HostView<'_>, Emit<'_>)),
    /// One per domain.
    Domain(fn(&View<'_>) -> Option<Value>),
    /// One per domain, and the group whose sample it is from.
    OneOf(fn(&View<'_>) -> Option<(Value, Group)>),
    /// One per vCPU.
    Vcpu(fn(&Vcpu) -> Option<Value>),
    /// One per disk.
    Disk(fn(&Disk<'_>) -> Option<Value>),
    /// One per disk, as it was asked for on its own, else as it came with the counters.
    DiskSize(fn(&BlockInfo) -> Option<u64>, fn(&Block) -> Option<u64>),
    /// One per NIC.
    Nic(fn(&Interface) -> Option<Value>),
    /// Value 1 for each of the labels.
    Info(Of),
}

const fn row(
    kind: Kind,
    (name, unit): (&'static str, &'static str),
    help: &'static str,
    (source, labels): (&'static str, &'static str),
    read: Read,
) -> Family {
    Family { name, help, kind, unit, source, labels, group: None, read }
}

const fn sampled(group: Group, family: Family) -> Family {
    Family { group: Some(group), ..family }
}

const fn disk(
    kind: Kind,
    name: &'static str,
    unit: &'static str,
    source: &'static str,
    help: &'static str,
    read: fn(&Disk<'_>) -> Option<Value>,
) -> Family {
    sampled(Group::Block, row(kind, (name, unit), help, (source, "target_device"), Read::Disk(read)))
}

/// A size; its group is that of the counters, and it bears the time of whichever sample told it.
const fn disk_size(
    name: &'static str,
    source: &'static str,
    help: &'static str,
    own: fn(&BlockInfo) -> Option<u64>,
    bulk: fn(&Block) -> Option<u64>,
) -> Family {
    let read = Read::DiskSize(own, bulk);
    sampled(Group::Block, row(Kind::Gauge, (name, "bytes"), help, (source, "target_device"), read))
}

const fn nic(
    name: &'static str,
    unit: &'static str,
    source: &'static str,
    help: &'static str,
    read: fn(&Interface) -> Option<Value>,
) -> Family {
    sampled(Group::Interface, row(Kind::Counter, (name, unit), help, (source, "target_device"), Read::Nic(read)))
}

const fn vcpu(
    kind: Kind,
    name: &'static str,
    unit: &'static str,
    source: &'static str,
    help: &'static str,
    read: fn(&Vcpu) -> Option<Value>,
) -> Family {
    sampled(Group::Vcpu, row(kind, (name, unit), help, (source, "vcpu"), Read::Vcpu(read)))
}

const fn domain(
    group: Group,
    kind: Kind,
    name: &'static str,
    unit: &'static str,
    source: &'static str,
    help: &'static str,
    read: fn(&View<'_>) -> Option<Value>,
) -> Family {
    sampled(group, row(kind, (name, unit), help, (source, ""), Read::Domain(read)))
}

/// Every family but the ages and our own metrics, which are rendered per scrape; in the order of /metrics.
pub(super) fn families() -> impl Iterator<Item = &'static Family> {
    let all = [host::FAMILIES, domain::FAMILIES, devices::FAMILIES, memory::FAMILIES, process::FAMILIES];
    all.into_iter().flatten()
}

/// A family of running domains that moves between snapshots, and so is rendered per scrape; all are gauges in seconds.
pub(super) struct Moving {
    pub(super) name: &'static str,
    pub(super) help: &'static str,
    /// Where the figure comes from, for the reference.
    pub(super) source: &'static str,
    /// Labels beyond `domain` and `uuid`, for the reference.
    pub(super) labels: &'static str,
}

/// For how long a domain has not answered.
pub(super) const UNRESPONSIVE: Moving = Moving {
    name: "libvirt_domain_unresponsive_seconds",
    help: "For how long a running domain's QEMU has not answered; 0 while it does.",
    source: "answers to all calls",
    labels: "-",
};

/// The ages of samples.
pub(super) const AGE: Moving = Moving {
    name: "libvirt_domain_sample_age_seconds",
    help: "Time since the newest sample of the group was asked for; since the domain was found running where there is none yet. Every running domain and group sampled has it, block_info if the domain has a disk.",
    source: "time of the call",
    labels: "group",
};

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
