//! How many VMs there are, and how many do what.

use super::super::table::{Field, Json};
use super::super::view::View;
use super::super::vm::{Guest, Status};
use super::Host;

#[derive(Debug, Default)]
pub(super) struct Counts {
    all: u64,
    up: u64,
    incoming: u64,
    outgoing: u64,
}

impl Counts {
    pub(super) fn new(view: &View) -> Self {
        let mut counts = Self::default();
        for domain in view.listed() {
            counts.all += 1;
            match Guest::new(view, domain).status() {
                Status::Up => counts.up += 1,
                Status::MigrationDestination => counts.incoming += 1,
                Status::MigrationSource => counts.outgoing += 1,
                _ => {}
            }
        }
        counts
    }
}

pub(super) static FIELDS: &[Field<Host>] = &[
    Field::new("vmCount", Json::Number, "", "VMs that Host.getVMList lists.", |host, slot| {
        slot.number(host.counts.all)
    }),
    Field::new("vmActive", Json::Number, "", "Those whose status is \"Up\".", |host, slot| slot.number(host.counts.up)),
    Field::new("vmMigrating", Json::Number, "", "The next two together.", |host, slot| {
        slot.number(host.counts.incoming + host.counts.outgoing)
    }),
    Field::new(
        "incomingVmMigrations",
        Json::Number,
        "",
        "Those whose status is \"Migration Destination\".",
        |host, slot| slot.number(host.counts.incoming),
    ),
    Field::new(
        "outgoingVmMigrations",
        Json::Number,
        "",
        "Those whose status is \"Migration Source\".",
        |host, slot| slot.number(host.counts.outgoing),
    ),
];
