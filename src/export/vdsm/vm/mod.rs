//! `VmStats`: what VDSM says of one VM.

mod balloon;
mod cpu;
mod disks;
mod machine;
mod network;
mod status;

use std::time::{Duration, Instant};

pub(super) use self::status::Status;
use super::table::{self, Field, Record, Row};
use super::view::View;
use crate::model::{DomainDescription, Group};
use crate::store::{Domain, Sampled, Window};

/// A VM as a record.
pub(super) enum Vm {}

impl Record for Vm {
    type Of<'a> = Guest<'a>;
}

/// What is known of one domain at one moment.
pub(super) struct Guest<'a> {
    view: &'a View,
    domain: &'a Domain,
    xml: Option<&'a DomainDescription>,
    status: Status,
}

/// The newest sample of a group, which is fresh, and the one before it with the time between both.
struct Pair<'a, T> {
    newest: &'a Sampled<T>,
    previous: Option<(&'a T, Duration)>,
}

impl<'a> Guest<'a> {
    pub(super) fn new(view: &'a View, domain: &'a Domain) -> Self {
        let xml = domain.current_description().map(AsRef::as_ref);
        Self { view, domain, xml, status: Status::of(domain) }
    }

    pub(super) fn status(&self) -> Status {
        self.status
    }

    fn at(&self) -> Instant {
        self.view.now.stamp.at
    }

    fn pair<T>(&self, window: &'a Window<T>, group: Group) -> Option<Pair<'a, T>> {
        let newest = window.newest()?;
        let fresh = self.view.snapshot.is_fresh(newest.started, group, self.at());
        fresh.then(|| Pair { newest, previous: window.previous() })
    }
}

impl<T> Pair<'_, T> {
    /// How fast a counter grows, per second.
    fn rate(&self, of: impl Fn(&T) -> Option<u64>) -> Option<f64> {
        let (previous, elapsed) = self.previous?;
        crate::model::per_second(of(previous), of(&self.newest.figures), elapsed)
    }
}

/// What is said of every VM, and first of all: who it is, and how it is.
static HEAD: &[Field<Vm>] = &[
    Field::string("vmId", "UUID", "The domain's UUID, in lower case.", |vm, slot| slot.quoted(vm.domain.id)),
    Field::string("status", "", status::WHAT, |vm, slot| slot.text(vm.status.name())),
    Field::string(
        "statusTime",
        "ms",
        "2147483647 and the time since the host's boot at the moment of the answer. It orders answers.",
        |vm, slot| slot.quoted(2_147_483_647 + vm.view.now.since_boot.as_millis()),
    ),
];

/// Writes the `VmStats` of a domain: those of a VM that runs, or those of one that does not.
pub(super) fn write(view: &View, domain: &Domain, out: &mut Vec<u8>) {
    let guest = Guest::new(view, domain);
    if guest.status == Status::Down {
        table::write_all(&[HEAD, machine::EXITED], &guest, out);
    } else {
        table::write_all(
            &[HEAD, machine::FIELDS, cpu::FIELDS, balloon::FIELDS, network::FIELDS, disks::FIELDS],
            &guest,
            out,
        );
    }
}

/// Writes who a domain is and how it is, and no more.
pub(super) fn write_entry(view: &View, domain: &Domain, out: &mut Vec<u8>) {
    table::write(HEAD, &Guest::new(view, domain), out);
}

/// Each record, by the path of its fields, as docs/ovirt.md describes it.
pub(super) fn records() -> Vec<(&'static str, &'static str, Vec<Row>)> {
    let running: Vec<Row> = [HEAD, machine::FIELDS, cpu::FIELDS, balloon::FIELDS, network::FIELDS, disks::FIELDS]
        .into_iter()
        .flat_map(table::rows)
        .collect();
    let exited = [HEAD, machine::EXITED].into_iter().flat_map(table::rows).collect();
    let mut records = vec![
        ("RunningVmStats", "a VM that runs, or is paused, or starts", running),
        ("RunningVmStats.displayInfo", "each `<graphics>` of the XML", table::rows(machine::DISPLAY)),
        ("RunningVmStats.watchdogEvent", "the last time that the watchdog fired", table::rows(machine::WATCHDOG)),
    ];
    records.extend(balloon::records());
    records.extend([
        (
            "RunningVmStats.network",
            "each NIC that has a device on the host, by its name there",
            table::rows(network::NIC),
        ),
        (
            "RunningVmStats.disks",
            "each disk, CD-ROM and floppy drive, by its target in the guest",
            table::rows(disks::DISK),
        ),
        ("RunningVmStats.ioTune", "each disk with a limit", table::rows(disks::LIMITS)),
        ("ExitedVmStats", "a VM that does not run: `status` is \"Down\"", exited),
    ]);
    records
}
