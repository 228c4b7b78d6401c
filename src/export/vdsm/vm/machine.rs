//! What a VM is, whether it answers, and how it ended.

use std::time::{Duration, SystemTime};

use super::super::table::{Field, Json, Record};
use super::status::is_paused_by_io_error;
use super::{Guest, Vm};
use crate::model::{GraphicsDescription, Group, Stamp, StopReason, WatchdogAction};
use crate::store::{History, Noted};

/// VDSM takes a VM for unresponsive whose newest sample is this old (`vm_command_timeout`).
const SILENT: Duration = Duration::from_secs(60);

pub(super) static FIELDS: &[Field<Vm>] = &[
    Field::string("vmName", "", "The domain's name.", |vm, slot| slot.text(&vm.domain.name)),
    Field::string(
        "vmType",
        "",
        "`type` of `<domain>`: \"kvm\", or \"qemu\" where QEMU emulates the CPU.",
        |vm, slot| slot.text(&vm.xml?.domain_type),
    ),
    Field::string(
        "kvmEnable",
        "\"true\" or \"false\"",
        "\"true\" for domains of type kvm. VDSM, which knows no others, always says so.",
        |vm, slot| slot.quoted(&*vm.xml?.domain_type == "kvm"),
    ),
    Field::string("acpiEnable", "\"true\" or \"false\"", "Is there `<features><acpi/>`?", |vm, slot| {
        slot.quoted(vm.xml?.acpi)
    }),
    Field::string(
        "elapsedTime",
        "s",
        "Since the QEMU process started. VDSM counts from its own start of the VM, and anew at each reboot of the guest.",
        |vm, slot| {
            let since = vm.view.now.since_boot.checked_sub(vm.domain.life.start?.since_boot)?;
            slot.quoted(since.as_secs())
        },
    ),
    Field::string(
        "timeOffset",
        "s",
        "What the guest set its clock to last, by libvirt's event, else `<clock adjustment>`; \"0\" if there is neither.",
        |vm, slot| {
            let is_known = vm.xml.is_some() || vm.domain.life.clock_offset_s.is_some();
            is_known.then(|| slot.quoted(clock_offset(vm).unwrap_or_default()))?
        },
    ),
    Field::string(
        "monitorResponse",
        "\"0\" or \"-1\"",
        "\"-1\" while QEMU does not answer: a call was written off, or what has to be asked of QEMU is 60 s old (and older than two \
         and a half periods). Never of a VM that migrates. A paused VM is asked like any other, so pausing does not make it \
         unresponsive, as it does in VDSM.",
        |vm, slot| slot.quoted(if is_silent(vm) { -1 } else { 0 }),
    ),
    Field::string("hash", "", "A number made from the text of `<devices>`: it changes when devices do.", |vm, slot| {
        slot.quoted(vm.xml?.devices_hash?.cast_signed())
    }),
    Field::new(
        "displayInfo",
        Json::List,
        "",
        "One record for each `<graphics>`; an empty list without any.",
        |vm, slot| slot.list(DISPLAY, vm.xml?.graphics.iter()),
    ),
    Field::string(
        "clientIp",
        "",
        "Who connected to the graphics last, by libvirt's event; \"\" after somebody left. Left out until there was such an event in \
         this run.",
        |vm, slot| slot.text(history(vm)?.graphics_client.as_deref()?),
    ),
    Field::string(
        "pauseCode",
        "",
        "Of a VM that was paused because a disk failed: libvirt's word for the last such error in upper case (\"ENOSPC\"), \
         \"EOTHER\" if it has none. Left out else.",
        |vm, slot| {
            let error = history(vm)?.last_io_error.as_ref().filter(|_| is_paused_by_io_error(vm.domain))?;
            let reason = error.of_run(vm.domain.run)?.what.reason.as_deref();
            slot.text(&reason.map_or("EOTHER".to_owned(), str::to_ascii_uppercase))
        },
    ),
    Field::new(
        "watchdogEvent",
        Json::Object,
        "",
        "When the guest's watchdog fired last in this run. Left out if it never did.",
        |vm, slot| {
            let event = history(vm)?.last_watchdog.as_ref()?.of_run(vm.domain.run)?;
            watchdog_action(event.what)?;
            slot.object(WATCHDOG, event)
        },
    ),
];

pub(super) enum Display {}

impl Record for Display {
    type Of<'a> = &'a GraphicsDescription;
}

pub(super) static DISPLAY: &[Field<Display>] = &[
    Field {
        name: "type",
        json: Json::String,
        unit: "",
        what: "`type`: \"vnc\", \"spice\".",
        write: |it, slot| slot.text(&it.graphics_type),
    },
    Field {
        name: "port",
        json: Json::String,
        unit: "",
        what: "`port`; \"\" if there is none.",
        write: |it, slot| slot.text(&it.port),
    },
    Field {
        name: "tlsPort",
        json: Json::String,
        unit: "",
        what: "`tlsPort`; \"\" if there is none.",
        write: |it, slot| slot.text(&it.tls_port),
    },
    Field {
        name: "ipAddress",
        json: Json::String,
        unit: "",
        what: "`address` of the first `<listen>`; \"0\" if there is none.",
        write: |it, slot| slot.text(if it.address.is_empty() { "0" } else { &it.address }),
    },
];

pub(super) enum Watchdog {}

impl Record for Watchdog {
    type Of<'a> = Noted<WatchdogAction>;
}

pub(super) static WATCHDOG: &[Field<Watchdog>] = &[
    Field {
        name: "time",
        json: Json::Number,
        unit: "s since 1970",
        what: "When libvirt's event came.",
        write: |event, slot| slot.seconds(event.at.duration_since(SystemTime::UNIX_EPOCH).ok()?),
    },
    Field {
        name: "action",
        json: Json::String,
        unit: "",
        what: "What was done: ignore, pause, reset, destroy, shutdown, log.",
        write: |event, slot| slot.text(watchdog_action(event.what)?),
    },
];

/// VDSM's word; it has none for an interrupt to the guest.
fn watchdog_action(action: WatchdogAction) -> Option<&'static str> {
    match action {
        WatchdogAction::None => Some("ignore"),
        WatchdogAction::Pause => Some("pause"),
        WatchdogAction::Reset => Some("reset"),
        WatchdogAction::PowerOff => Some("destroy"),
        WatchdogAction::Shutdown => Some("shutdown"),
        WatchdogAction::Debug => Some("log"),
        WatchdogAction::InjectNmi | WatchdogAction::Unknown => None,
    }
}

/// What is said on top of a VM that does not run.
pub(super) static EXITED: &[Field<Vm>] = &[
    Field::new("exitCode", Json::Number, "", "0 if it ended as it should, else 1.", |vm, slot| {
        slot.number(exit(vm)?.code)
    }),
    Field::string("exitMessage", "", "The reason in words.", |vm, slot| slot.text(exit(vm)?.message)),
    Field::new(
        "exitReason",
        Json::Number,
        "",
        "VDSM's number: 7 the guest shut down, 6 somebody ended it, 4 it migrated, 5 it was saved, 3 it failed to start, 1 anything \
         else. From libvirt's reason; VDSM itself gives 7 for a migrated VM and 1 for a shutdown from inside, by mistake.",
        |vm, slot| slot.number(exit(vm)?.reason),
    ),
    Field::string("timeOffset", "s", "As above; left out if there is neither.", |vm, slot| {
        slot.quoted(clock_offset(vm)?)
    }),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Exit {
    code: u64,
    reason: u64,
    message: &'static str,
}

/// How the last run ended: by libvirt's reason of the state, else by its event; `None` if libvirt says that it does not know.
fn exit(vm: &Guest<'_>) -> Option<Exit> {
    // virDomainShutoffReason; 0 is "not known", as after a restart of libvirt.
    let reason = match vm.domain.state().map(|sampled| (sampled.figures.state, sampled.figures.reason)) {
        Some((Some(5), Some(1))) => StopReason::Shutdown,
        Some((Some(5), Some(2))) => StopReason::Destroyed,
        Some((Some(5), Some(4))) => StopReason::Migrated,
        Some((Some(5), Some(5))) => StopReason::Saved,
        Some((Some(5), Some(6))) => StopReason::Failed,
        None | Some((_, None | Some(0))) => match history(vm)?.last_stop?.0 {
            // The event does not tell one that failed to start from one that failed later.
            StopReason::Failed => StopReason::Unknown,
            reason => reason,
        },
        _ => StopReason::Unknown,
    };
    let (code, reason, message) = match reason {
        StopReason::Shutdown => (0, 7, "the guest shut down"),
        StopReason::Destroyed => (0, 6, "it was shut down from outside"),
        StopReason::Migrated => (0, 4, "it migrated to another host"),
        StopReason::Saved => (0, 5, "its state was saved"),
        StopReason::Failed => (1, 3, "it failed to start"),
        StopReason::Crashed | StopReason::FromSnapshot | StopReason::Recreated | StopReason::Unknown => {
            (1, 1, "it ended with an error")
        }
    };
    Some(Exit { code, reason, message })
}

/// By the event, which comes each time that the guest sets its clock; the XML is not read again for it.
fn clock_offset(vm: &Guest<'_>) -> Option<i64> {
    vm.domain.life.clock_offset_s.or(vm.xml.and_then(|xml| xml.clock_adjustment_s))
}

fn history<'a>(vm: &Guest<'a>) -> Option<&'a History> {
    vm.domain.life.history.as_deref()
}

fn is_silent(vm: &Guest<'_>) -> bool {
    if vm.status.is_migrating() {
        return false;
    }
    let (windows, limits) = (&vm.domain.windows, &vm.view.snapshot.stale_after);
    // What the kernel tells comes without QEMU, and so does a part of a balloon sample: neither says that QEMU answers.
    let balloon = windows.balloon.newest().filter(|newest| !newest.figures.is_partial()).map(|newest| newest.started);
    let answers = [(Group::Block, windows.started(Group::Block)), (Group::Balloon, balloon)];
    let answers = answers.into_iter().filter_map(|(group, started)| Some((started?, limits.get(group)?)));
    let is_old =
        |(started, limit): (Stamp, Duration)| vm.at().saturating_duration_since(started.at) >= limit.max(SILENT);
    let mut answers = answers.map(is_old).peekable();
    vm.domain.health.unresponsive_since.is_some() || (answers.peek().is_some() && answers.all(|is_old| is_old))
}
