//! Links: those of the host, and the guests' own on the host.

use std::time::SystemTime;

use super::super::table::{Field, Json, Record, Row};
use super::super::view::View;
use super::{Host, Machine};
use crate::model::host::{HostInterface, HostSample};
use crate::model::{DomainDescription, Group, Interface, Traffic};
use crate::store::{Domain, Key};

pub(super) static FIELDS: &[Field<Host>] = &[
    Field::new(
        "rxDropped",
        Json::String,
        "since boot",
        "Received packets that were dropped, of all links together. VDSM has the two sums exchanged.",
        |host, slot| slot.quoted(host.drops.receive?),
    ),
    Field::new("txDropped", Json::String, "since boot", "Sent ones, likewise.", |host, slot| {
        slot.quoted(host.drops.transmit?)
    }),
];

/// It is written a piece at a time, behind all others.
pub(super) const NETWORK: Row = Row {
    name: "network",
    json: Json::Map,
    unit: "",
    what: "A record for each link: those of the host, and the taps of guests. A tap that is no guest's is left out.",
};

pub(super) enum LinkRecord {}

impl Record for LinkRecord {
    type Of<'a> = Link<'a>;
}

/// A link as the host sees it.
pub(super) struct Link<'a> {
    pub(super) name: &'a str,
    receive: Traffic,
    transmit: Traffic,
    sampled: SystemTime,
    /// `None` of a guest's tap.
    host: Option<&'a HostInterface>,
}

/// The links that are not guests', each name once.
pub(super) fn of_host<'a>(host: &Machine<'a>) -> impl Iterator<Item = Link<'a>> + use<'a> {
    let sampled = host.looked;
    names(host.newest).map(move |interface| Link {
        name: &interface.name,
        receive: interface.receive,
        transmit: interface.transmit,
        sampled,
        host: Some(interface),
    })
}

fn names(host: &HostSample) -> impl Iterator<Item = &HostInterface> {
    host.interfaces.iter().chain(&host.other_interfaces)
}

/// The taps of a guest, from its own sample, which is from the guest's point of view.
pub(super) fn of_guest<'a>(view: &'a View, host: &'a HostSample, domain: &'a Domain) -> impl Iterator<Item = Link<'a>> {
    let window = &domain.windows.interface;
    let fresh = view.snapshot.fresh(window, Group::Interface, view.now.stamp.at).zip(window.newest());
    let xml = domain.current_description().filter(|_| domain.run.is_some());
    fresh.into_iter().flat_map(move |(sample, newest)| {
        let taps = sample.interfaces.iter().filter_map(move |it| tap(it, xml?, newest.started.wall));
        taps.filter(move |link| is_its_own(view, host, domain, link.name))
    })
}

/// A veth that a guest was given is among the host's links already; and a tap that goes from one guest to another may for a moment
/// be in the samples of both.
fn is_its_own(view: &View, host: &HostSample, domain: &Domain, name: &str) -> bool {
    let owners = view.snapshot.lookup(&Key::Nic(name.into()));
    let first = owners.iter().find(|owner| owner.run.is_some());
    first.is_none_or(|first| first.id == domain.id) && names(host).all(|interface| *interface.name != *name)
}

fn tap<'a>(interface: &'a Interface, xml: &DomainDescription, sampled: SystemTime) -> Option<Link<'a>> {
    let name = interface.name.as_deref()?;
    let described = xml.nics.iter().find(|nic| &*nic.target == name)?;
    // A macvtap is on the guest's side of its link, and so has the guest's point of view.
    let (receive, transmit) = match &*described.interface_type {
        "direct" => (interface.receive, interface.transmit),
        _ => (interface.transmit, interface.receive),
    };
    Some(Link { name, receive, transmit, sampled, host: None })
}

/// What was dropped, all links together; `None` if no link tells.
#[derive(Debug, Default)]
pub(super) struct Drops {
    receive: Option<u64>,
    transmit: Option<u64>,
}

impl Drops {
    pub(super) fn add(&mut self, link: &Link<'_>) {
        let sum = |all: Option<u64>, more: Option<u64>| match (all, more) {
            (Some(all), Some(more)) => Some(all.saturating_add(more)),
            (all, more) => all.or(more),
        };
        self.receive = sum(self.receive, link.receive.drops);
        self.transmit = sum(self.transmit, link.transmit.drops);
    }
}

pub(super) static LINK: &[Field<LinkRecord>] = &[
    Field::string("name", "", "The device.", |link, slot| slot.text(link.name)),
    Field::string("rx", "bytes since boot", "Received.", |link, slot| slot.quoted(link.receive.bytes?)),
    Field::string("tx", "bytes since boot", "Sent.", |link, slot| slot.quoted(link.transmit.bytes?)),
    Field::string("rxErrors", "since boot", "", |link, slot| slot.quoted(link.receive.errors?)),
    Field::string("txErrors", "since boot", "", |link, slot| slot.quoted(link.transmit.errors?)),
    Field::string(
        "rxDropped",
        "since boot",
        "As /proc/net/dev counts them, with what the device missed.",
        |link, slot| slot.quoted(link.receive.drops?),
    ),
    Field::string("txDropped", "since boot", "", |link, slot| slot.quoted(link.transmit.drops?)),
    Field::string(
        "state",
        "",
        "\"up\" if the link is up and carries, else \"down\". Left out of a guest's tap, which is not asked.",
        |link, slot| {
            // What has no state of its own, as the loopback, is up as long as it is not down.
            let is_up = ["up", "unknown"].contains(&link.host?.operational_state.as_deref()?);
            slot.text(if is_up { "up" } else { "down" })
        },
    ),
    Field::string(
        "speed",
        "Mbit/s",
        "As the kernel says it of a link that is up; \"1000\" where it says none, which is a convention of VDSM's. Left out of a \
         guest's tap.",
        |link, slot| match link.host?.speed_bits_per_second.map(|speed| speed / 1_000_000).filter(|speed| *speed > 0) {
            Some(speed) => slot.quoted(speed),
            None => slot.text("1000"),
        },
    ),
    Field::string(
        "duplex",
        "",
        "\"full\" or \"half\", \"unknown\" where the kernel says neither. Left out of a guest's tap.",
        |link, slot| slot.text(link.host?.duplex.as_deref().unwrap_or("unknown")),
    ),
    Field {
        name: "sampleTime",
        json: Json::Number,
        unit: "s since 1970",
        what: "When the counters were read.",
        write: |link, slot| slot.seconds(link.sampled.duration_since(SystemTime::UNIX_EPOCH).ok()?),
    },
];
