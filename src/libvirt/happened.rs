//! What the numbers and texts of libvirt's events mean.

use std::os::raw::c_int;

use virt::sys;

use crate::model::{Happened, IoError, IoErrorAction, PauseReason, StartReason, StopReason};

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
    fn what_is_not_said_of_an_error_is_absent() {
        let Happened::IoError(error) = io_error("/images/a", "", 1, "enospc") else { panic!("an error") };
        assert_eq!((error.path.as_deref(), error.device.as_deref()), (Some("/images/a"), None));
        assert_eq!((error.action, error.reason.as_deref()), (IoErrorAction::Pause, Some("enospc")));
        assert!(!Happened::IoError(error).changes_inventory() && Happened::Resumed.changes_inventory());
    }
}
