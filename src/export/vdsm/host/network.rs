//! Links: those of the host, and the guests' own on the host.

use std::time::SystemTime;

use super::super::table::{Field, Json, Record};
use super::super::text::Slot;
use super::super::view::View;
use super::{Host, Machine, field};
use crate::model::host::HostInterface;
use crate::model::{DomainDescription, Group, Interface, Traffic};

pub(super) static FIELDS: &[Field<Host>] = &[
    field(
        "network",
        Json::Map,
        "",
        "A record for each link: those of the host, and the taps of guests. A tap that is no guest's is left out.",
        |host, slot| slot.map(LINK, links(host)),
    ),
    field(
        "rxDropped",
        Json::String,
        "since boot",
        "Received packets that were dropped, of all these links together. VDSM has the two sums exchanged.",
        |host, slot| slot.quoted(sum(host, |link| link.receive.drops)),
    ),
    field("txDropped", Json::String, "since boot", "Sent ones, likewise.", |host, slot| {
        slot.quoted(sum(host, |link| link.transmit.drops))
    }),
];

pub(super) enum LinkRecord {}

impl Record for LinkRecord {
    type Of<'a> = Link<'a>;
}

/// A link as the host sees it.
pub(super) struct Link<'a> {
    name: &'a str,
    receive: Traffic,
    transmit: Traffic,
    sampled: SystemTime,
    /// `None` of a guest's tap.
    host: Option<&'a HostInterface>,
}

fn links<'a>(host: &Machine<'a>) -> impl Iterator<Item = (&'a str, Link<'a>)> + use<'a> {
    let sampled = host.looked;
    let all = host.newest.interfaces.iter().chain(&host.newest.other_interfaces);
    let own = all.map(move |interface| Link {
        name: &interface.name,
        receive: interface.receive,
        transmit: interface.transmit,
        sampled,
        host: Some(interface),
    });
    own.chain(taps(host.view)).map(|link| (link.name, link))
}

/// The taps of all running guests, from their own samples, which are from the guests' point of view.
fn taps(view: &View) -> impl Iterator<Item = Link<'_>> {
    view.snapshot.domains.iter().filter(|domain| domain.run.is_some()).flat_map(move |domain| {
        let window = &domain.windows.interface;
        let fresh = view.snapshot.fresh(window, Group::Interface, view.now.stamp.at).zip(window.newest());
        let xml = domain.description.as_deref();
        fresh.into_iter().flat_map(move |(sample, newest)| {
            sample.interfaces.iter().filter_map(move |interface| tap(interface, xml?, newest.started.wall))
        })
    })
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

fn sum(host: &Machine<'_>, of: impl Fn(&Link<'_>) -> Option<u64>) -> u64 {
    links(host).filter_map(|(_, link)| of(&link)).fold(0, u64::saturating_add)
}

pub(super) static LINK: &[Field<LinkRecord>] = &[
    string("name", "", "The device.", |link, slot| slot.text(link.name)),
    string("rx", "bytes since boot", "Received.", |link, slot| slot.quoted(link.receive.bytes?)),
    string("tx", "bytes since boot", "Sent.", |link, slot| slot.quoted(link.transmit.bytes?)),
    string("rxErrors", "since boot", "", |link, slot| slot.quoted(link.receive.errors?)),
    string("txErrors", "since boot", "", |link, slot| slot.quoted(link.transmit.errors?)),
    string("rxDropped", "since boot", "As /proc/net/dev counts them, with what the device missed.", |link, slot| {
        slot.quoted(link.receive.drops?)
    }),
    string("txDropped", "since boot", "", |link, slot| slot.quoted(link.transmit.drops?)),
    string(
        "state",
        "",
        "\"up\" if the link is up and carries, else \"down\". Left out of a guest's tap, which is not asked.",
        |link, slot| {
            // What has no state of its own, as the loopback, is up as long as it is not down.
            let is_up = ["up", "unknown"].contains(&link.host?.operational_state.as_deref()?);
            slot.text(if is_up { "up" } else { "down" })
        },
    ),
    string(
        "speed",
        "Mbit/s",
        "As the kernel says it of a link that is up; \"1000\" where it says none, which is a convention of VDSM's.",
        |link, slot| match link.host?.speed_bits_per_second.map(|speed| speed / 1_000_000).filter(|speed| *speed > 0) {
            Some(speed) => slot.quoted(speed),
            None => slot.text("1000"),
        },
    ),
    string(
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

const fn string(
    name: &'static str,
    unit: &'static str,
    what: &'static str,
    write: for<'a, 's> fn(&Link<'a>, Slot<'s>) -> Option<()>,
) -> Field<LinkRecord> {
    Field { name, json: Json::String, unit, what, write }
}
