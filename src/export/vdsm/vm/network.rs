//! NICs.

use std::time::Duration;

use super::super::table::{Field, Json, Record};
use super::super::text::Slot;
use super::{Guest, Vm, typed};
use crate::model::{Group, Interface, NicDescription};

pub(super) static FIELDS: &[Field<Vm>] =
    &[typed("network", Json::Map, "", "A record for each NIC of the newest sample.", |vm, slot| {
        slot.map(NIC, nics(vm)?)
    })];

pub(super) enum NicRecord {}

impl Record for NicRecord {
    type Of<'a> = Nic<'a>;
}

pub(super) struct Nic<'a> {
    name: &'a str,
    interface: &'a Interface,
    xml: Option<&'a NicDescription>,
    /// Of the sample, since the host's boot.
    sampled: Option<Duration>,
}

/// The NICs of the newest sample that have a name on the host, each name once.
fn nics<'a>(vm: &Guest<'a>) -> Option<impl Iterator<Item = (&'a str, Nic<'a>)>> {
    let sample = vm.pair(&vm.domain.windows.interface, Group::Interface)?.newest;
    let age = vm.at().saturating_duration_since(sample.started.at);
    let sampled = vm.view.now.since_boot.checked_sub(age);
    let interfaces = &sample.figures.interfaces;
    let described = vm.xml.map_or(&[][..], |xml| &xml.nics);
    Some(interfaces.iter().enumerate().filter_map(move |(place, interface)| {
        let name = interface.name.as_deref().filter(|name| !name.is_empty())?;
        let earlier = interfaces.iter().take(place).any(|other| other.name.as_deref() == Some(name));
        // Numbers change when a NIC comes or goes, and the XML may be a moment older.
        let xml = described.iter().find(|nic| &*nic.target == name);
        (!earlier).then_some((name, Nic { name, interface, xml, sampled }))
    }))
}

pub(super) static NIC: &[Field<NicRecord>] = &[
    string("name", "", "The device on the host.", |nic, slot| slot.text(nic.name)),
    string("macAddr", "", "`<mac address>`.", |nic, slot| slot.text(&nic.xml?.mac)),
    string(
        "speed",
        "Mbit/s",
        "\"1000\" for the models virtio, e1000 and e1000e, else \"100\": a convention of VDSM's, not measured.",
        |nic, slot| slot.text(if is_fast(&nic.xml?.model) { "1000" } else { "100" }),
    ),
    string("state", "", "\"unknown\": VDSM says so of each.", |_, slot| slot.text("unknown")),
    string("rx", "bytes since the start", "`net.N.rx.bytes`: what the guest received.", |nic, slot| {
        slot.quoted(nic.interface.receive.bytes?)
    }),
    string("tx", "bytes since the start", "`net.N.tx.bytes`: what the guest sent.", |nic, slot| {
        slot.quoted(nic.interface.transmit.bytes?)
    }),
    string("rxErrors", "since the start", "`net.N.rx.errs`.", |nic, slot| slot.quoted(nic.interface.receive.errors?)),
    string("txErrors", "since the start", "`net.N.tx.errs`.", |nic, slot| slot.quoted(nic.interface.transmit.errors?)),
    string("rxDropped", "since the start", "`net.N.rx.drop`.", |nic, slot| slot.quoted(nic.interface.receive.drops?)),
    string("txDropped", "since the start", "`net.N.tx.drop`.", |nic, slot| slot.quoted(nic.interface.transmit.drops?)),
    Field {
        name: "sampleTime",
        json: Json::Number,
        unit: "s since the host's boot",
        what: "When the figures were asked for; VDSM tells when it answered.",
        write: |nic, slot| slot.seconds(nic.sampled?),
    },
];

const fn string(
    name: &'static str,
    unit: &'static str,
    what: &'static str,
    write: for<'a, 's> fn(&Nic<'a>, Slot<'s>) -> Option<()>,
) -> Field<NicRecord> {
    Field { name, json: Json::String, unit, what, write }
}

fn is_fast(model: &str) -> bool {
    ["virtio", "e1000", "e1000e"].contains(&model)
}
