//! NICs.

use std::time::Duration;

use super::super::table::{Field, Json, Record};
use super::{Guest, Vm};
use crate::model::{Group, Interface, NicDescription};

pub(super) static FIELDS: &[Field<Vm>] =
    &[Field::new("network", Json::Map, "", "A record for each NIC of the newest sample.", |vm, slot| {
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
    Field::string("name", "", "The device on the host.", |nic, slot| slot.text(nic.name)),
    Field::string("macAddr", "", "`<mac address>`.", |nic, slot| slot.text(&nic.xml?.mac)),
    Field::string(
        "speed",
        "Mbit/s",
        "\"1000\" for the models virtio, e1000 and e1000e, else \"100\": a convention of VDSM's, not measured.",
        |nic, slot| slot.text(if is_fast(&nic.xml?.model) { "1000" } else { "100" }),
    ),
    Field::string("state", "", "\"unknown\": VDSM says so of each.", |_, slot| slot.text("unknown")),
    Field::string("rx", "bytes since the start", "`net.N.rx.bytes`: what the guest received.", |nic, slot| {
        slot.quoted(nic.interface.receive.bytes?)
    }),
    Field::string("tx", "bytes since the start", "`net.N.tx.bytes`: what the guest sent.", |nic, slot| {
        slot.quoted(nic.interface.transmit.bytes?)
    }),
    Field::string("rxErrors", "since the start", "`net.N.rx.errs`.", |nic, slot| {
        slot.quoted(nic.interface.receive.errors?)
    }),
    Field::string("txErrors", "since the start", "`net.N.tx.errs`.", |nic, slot| {
        slot.quoted(nic.interface.transmit.errors?)
    }),
    Field::string("rxDropped", "since the start", "`net.N.rx.drop`.", |nic, slot| {
        slot.quoted(nic.interface.receive.drops?)
    }),
    Field::string("txDropped", "since the start", "`net.N.tx.drop`.", |nic, slot| {
        slot.quoted(nic.interface.transmit.drops?)
    }),
    Field {
        name: "sampleTime",
        json: Json::Number,
        unit: "s since the host's boot",
        what: "When the figures were asked for; VDSM tells when it answered.",
        write: |nic, slot| slot.seconds(nic.sampled?),
    },
];

fn is_fast(model: &str) -> bool {
    ["virtio", "e1000", "e1000e"].contains(&model)
}
