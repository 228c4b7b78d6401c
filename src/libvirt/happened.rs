//! What the numbers and texts of libvirt's events mean.

use std::os::raw::c_int;

use virt::sys;

use crate::model::{Happened, IoError, IoErrorAction, PauseReason, StartReason, StopReason, WatchdogAction};

/// A lifecycle event, by its number and that of its detail.
pub(super) fn lifecycle(event: c_int, detail: c_int) -> Happened {
    match event.cast_unsigned() {
        sys::VIR_DOMAIN_EVENT_STARTED => Happened::Started(StartReason::from_number(detail)),
        sys::VIR_DOMAIN_EVENT_SUSPENDED => Happened::Paused(PauseReason::from_number(detail)),
        sys::VIR_DOMAIN_EVENT_RESUMED => Happened::Resumed,
        sys::VIR_DOMAIN_EVENT_STOPPED => Happened::Stopped(StopReason::from_number(detail)),
        // Panicked, or panicked and then loaded the kernel that saves its memory: both are panics.
        sys::VIR_DOMAIN_EVENT_CRASHED => Happened::Panicked,
        _ => Happened::Other,
    }
}

/// An error of a disk; libvirt says an empty text for what it does not know.
pub(super) fn io_error(path: &str, device: &str, action: c_int, reason: &str) -> Happened {
    let said = |text: &str| (!text.is_empty()).then(|| text.into());
    Happened::IoError(Box::new(IoError {
        device: said(device),
        path: said(path),
        action: IoErrorAction::from_number(action),
        reason: said(reason),
    }))
}

/// The guest's watchdog fired.
pub(super) fn watchdog(action: c_int) -> Happened {
    Happened::Watchdog(WatchdogAction::from_number(action))
}

/// Somebody at that address came to the graphics, was let in, or left. A phase that is not known yet says nothing of who is
/// there.
pub(super) fn graphics(phase: c_int, remote: &str) -> Happened {
    match phase.cast_unsigned() {
        sys::VIR_DOMAIN_EVENT_GRAPHICS_CONNECT | sys::VIR_DOMAIN_EVENT_GRAPHICS_INITIALIZE => {
            Happened::Graphics(remote.into())
        }
        sys::VIR_DOMAIN_EVENT_GRAPHICS_DISCONNECT => Happened::Graphics(Box::default()),
        _ => Happened::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_spelt_as_the_constants_are() {
        for (number, label) in [
            (sys::VIR_DOMAIN_EVENT_SUSPENDED_PAUSED, "paused"),
            (sys::VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED, "migrated"),
            (sys::VIR_DOMAIN_EVENT_SUSPENDED_IOERROR, "ioerror"),
            (sys::VIR_DOMAIN_EVENT_SUSPENDED_WATCHDOG, "watchdog"),
            (sys::VIR_DOMAIN_EVENT_SUSPENDED_RESTORED, "restored"),
            (sys::VIR_DOMAIN_EVENT_SUSPENDED_FROM_SNAPSHOT, "from_snapshot"),
            (sys::VIR_DOMAIN_EVENT_SUSPENDED_API_ERROR, "api_error"),
            (sys::VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY, "postcopy"),
            (sys::VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY_FAILED, "postcopy_failed"),
            (9, "guest_shutdown"),
            (99, "unknown"),
        ] {
            assert_eq!(PauseReason::from_number(number.cast_signed()).label(), label);
        }
        for (number, label) in [
            (sys::VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN, "shutdown"),
            (sys::VIR_DOMAIN_EVENT_STOPPED_DESTROYED, "destroyed"),
            (sys::VIR_DOMAIN_EVENT_STOPPED_CRASHED, "crashed"),
            (sys::VIR_DOMAIN_EVENT_STOPPED_MIGRATED, "migrated"),
            (sys::VIR_DOMAIN_EVENT_STOPPED_SAVED, "saved"),
            (sys::VIR_DOMAIN_EVENT_STOPPED_FAILED, "failed"),
            (sys::VIR_DOMAIN_EVENT_STOPPED_FROM_SNAPSHOT, "from_snapshot"),
            (7, "recreated"),
            (99, "unknown"),
        ] {
            assert_eq!(StopReason::from_number(number.cast_signed()).label(), label);
        }
        for (number, label) in [
            (sys::VIR_DOMAIN_EVENT_STARTED_BOOTED, "booted"),
            (sys::VIR_DOMAIN_EVENT_STARTED_MIGRATED, "migrated"),
            (sys::VIR_DOMAIN_EVENT_STARTED_RESTORED, "restored"),
            (sys::VIR_DOMAIN_EVENT_STARTED_FROM_SNAPSHOT, "from_snapshot"),
            (sys::VIR_DOMAIN_EVENT_STARTED_WAKEUP, "wakeup"),
            (5, "recreated"),
        ] {
            assert_eq!(StartReason::from_number(number.cast_signed()).label(), label);
        }
        for (number, label) in [
            (sys::VIR_DOMAIN_EVENT_IO_ERROR_NONE, "none"),
            (sys::VIR_DOMAIN_EVENT_IO_ERROR_PAUSE, "pause"),
            (sys::VIR_DOMAIN_EVENT_IO_ERROR_REPORT, "report"),
        ] {
            assert_eq!(IoErrorAction::from_number(number.cast_signed()).label(), label);
        }
        for (number, label) in [
            (sys::VIR_DOMAIN_EVENT_WATCHDOG_NONE, "none"),
            (sys::VIR_DOMAIN_EVENT_WATCHDOG_PAUSE, "pause"),
            (sys::VIR_DOMAIN_EVENT_WATCHDOG_RESET, "reset"),
            (sys::VIR_DOMAIN_EVENT_WATCHDOG_POWEROFF, "poweroff"),
            (sys::VIR_DOMAIN_EVENT_WATCHDOG_SHUTDOWN, "shutdown"),
            (sys::VIR_DOMAIN_EVENT_WATCHDOG_DEBUG, "debug"),
            (sys::VIR_DOMAIN_EVENT_WATCHDOG_INJECTNMI, "inject_nmi"),
            (7, "unknown"),
        ] {
            assert_eq!(
                watchdog(number.cast_signed()),
                Happened::Watchdog(WatchdogAction::from_number(number.cast_signed()))
            );
            assert_eq!(WatchdogAction::from_number(number.cast_signed()).label(), label);
        }
    }

    #[test]
    fn each_number_of_a_lifecycle_event_has_its_meaning() {
        let of = |event: u32, detail| lifecycle(event.cast_signed(), detail);
        assert_eq!(of(sys::VIR_DOMAIN_EVENT_STARTED, 1), Happened::Started(StartReason::Migrated));
        assert_eq!(of(sys::VIR_DOMAIN_EVENT_SUSPENDED, 2), Happened::Paused(PauseReason::IoError));
        assert_eq!(of(sys::VIR_DOMAIN_EVENT_RESUMED, 0), Happened::Resumed);
        assert_eq!(of(sys::VIR_DOMAIN_EVENT_STOPPED, 5), Happened::Stopped(StopReason::Failed));
        assert_eq!(of(sys::VIR_DOMAIN_EVENT_CRASHED, 0), Happened::Panicked);
        assert_eq!(of(sys::VIR_DOMAIN_EVENT_CRASHED, 1), Happened::Panicked);
        for event in [sys::VIR_DOMAIN_EVENT_DEFINED, sys::VIR_DOMAIN_EVENT_SHUTDOWN, 99, u32::MAX] {
            assert_eq!(of(event, 0), Happened::Other);
        }
    }

    #[test]
    fn who_is_at_the_graphics_is_known_until_somebody_leaves() {
        let of = |phase: u32| graphics(phase.cast_signed(), "192.0.2.1");
        for phase in [sys::VIR_DOMAIN_EVENT_GRAPHICS_CONNECT, sys::VIR_DOMAIN_EVENT_GRAPHICS_INITIALIZE] {
            assert_eq!(of(phase), Happened::Graphics("192.0.2.1".into()));
        }
        assert_eq!(of(sys::VIR_DOMAIN_EVENT_GRAPHICS_DISCONNECT), Happened::Graphics("".into()));
        assert_eq!(of(3), Happened::Other);
    }

    #[test]
    fn what_guests_do_often_leaves_the_inventory_alone() {
        for what in [Happened::ClockSet(1), watchdog(1), graphics(0, "192.0.2.1")] {
            assert!(!what.changes_inventory(), "{what:?}");
        }
    }

    #[test]
    fn what_is_not_said_of_an_error_is_absent() {
        let Happened::IoError(error) = io_error("/images/a", "", 1, "enospc") else { panic!("an error") };
        assert_eq!((error.path.as_deref(), error.device.as_deref()), (Some("/images/a"), None));
        assert_eq!((error.action, error.reason.as_deref()), (IoErrorAction::Pause, Some("enospc")));
        assert!(!Happened::IoError(error).changes_inventory() && Happened::Resumed.changes_inventory());
        assert!(Happened::Tuned.changes_inventory(), "its XML says which limit");
    }
}
