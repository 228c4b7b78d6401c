//! What happens to domains, as libvirt's events tell it, and why.

use std::time::Duration;

use super::{DomainId, RunId, Stamp};

/// Something happened to a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DomainEvent {
    /// Which domain.
    pub id: DomainId,
    /// The run that it was in by then; `None` if it did not run any more, or not yet.
    pub run: Option<RunId>,
    /// What.
    pub what: Happened,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happened {
    /// It started.
    Started(StartReason),
    /// Its vCPUs were stopped.
    Paused(PauseReason),
    /// They go on.
    Resumed,
    /// It stopped.
    Stopped(StopReason),
    /// The guest's kernel panicked, and said so through a device such as `pvpanic`.
    Panicked,
    /// A disk of it failed to read or write.
    IoError(Box<IoError>),
    /// The guest's watchdog fired.
    Watchdog(WatchdogAction),
    /// Somebody connected to its graphics from that address; an empty one: somebody left.
    Graphics(Box<str>),
    /// The guest set its clock, to so many seconds from what its `<clock>` goes by. Guests that keep theirs by the network do
    /// it all the time, so it must cost nothing.
    ClockSet(i64),
    /// A limit of its CPUs or of a disk is another now; which, and what, is in its XML. Managers that steer by limits set them
    /// on all guests every few seconds.
    Tuned,
    /// It was defined or undefined, got or lost a device, its title or metadata changed, or what libvirt may yet invent.
    Other,
}

impl Happened {
    /// May the list of domains, or the XML of this one, say something new after it?
    #[must_use]
    pub fn changes_inventory(&self) -> bool {
        !matches!(self, Self::IoError(_) | Self::Watchdog(_) | Self::Graphics(_) | Self::ClockSet(_))
    }
}

/// An error of a disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IoError {
    /// libvirt's alias of the device, `virtio-disk0`; `None` if it does not say.
    pub device: Option<Box<str>>,
    /// The image; `None` if libvirt does not say.
    pub path: Option<Box<str>>,
    /// What was done about it.
    pub action: IoErrorAction,
    /// libvirt's word for what failed, `enospc`; `None` for all errors that it has no word for.
    pub reason: Option<Box<str>>,
}

/// Reasons by libvirt's numbers, spelt as in the names of libvirt's constants.
macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $number:literal $label:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
            /// A number that is not known yet.
            Unknown,
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)* Self::Unknown];

            /// By libvirt's number.
            #[must_use]
            pub fn from_number(number: i32) -> Self {
                match number {
                    $($number => Self::$variant,)*
                    _ => Self::Unknown,
                }
            }

            /// As it is written in labels and JSON.
            #[must_use]
            pub fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)*
                    Self::Unknown => "unknown",
                }
            }
        }
    };
}

reasons! {
    /// How a run began (`VIR_DOMAIN_EVENT_STARTED_*`).
    StartReason {
        /// Booted.
        Booted = 0 "booted",
        /// Came from another host.
        Migrated = 1 "migrated",
        /// Restored from a file.
        Restored = 2 "restored",
        /// Put back to a snapshot.
        FromSnapshot = 3 "from_snapshot",
        /// Woke up: no new run.
        Wakeup = 4 "wakeup",
        /// Its QEMU was replaced by another one.
        Recreated = 5 "recreated",
    }
}

reasons! {
    /// Why vCPUs were stopped (`VIR_DOMAIN_EVENT_SUSPENDED_*`).
    PauseReason {
        /// Somebody asked for it.
        Paused = 0 "paused",
        /// For a migration.
        Migrated = 1 "migrated",
        /// A disk failed, or is full.
        IoError = 2 "ioerror",
        /// The guest's watchdog fired.
        Watchdog = 3 "watchdog",
        /// Restored from a file in which it was paused.
        Restored = 4 "restored",
        /// Put back to a snapshot in which it was paused.
        FromSnapshot = 5 "from_snapshot",
        /// A call to libvirt failed half-way.
        ApiError = 6 "api_error",
        /// The rest of its memory is fetched by the other host.
        Postcopy = 7 "postcopy",
        /// That failed.
        PostcopyFailed = 8 "postcopy_failed",
        /// The guest shut down, and its QEMU stays.
        GuestShutdown = 9 "guest_shutdown",
    }
}

reasons! {
    /// How a run ended (`VIR_DOMAIN_EVENT_STOPPED_*`).
    StopReason {
        /// The guest shut down.
        Shutdown = 0 "shutdown",
        /// Somebody ended it.
        Destroyed = 1 "destroyed",
        /// The guest crashed.
        Crashed = 2 "crashed",
        /// Went to another host.
        Migrated = 3 "migrated",
        /// Saved to a file.
        Saved = 4 "saved",
        /// Its QEMU failed.
        Failed = 5 "failed",
        /// Put back to a snapshot in which it was off.
        FromSnapshot = 6 "from_snapshot",
        /// Its QEMU is replaced by another one.
        Recreated = 7 "recreated",
    }
}

reasons! {
    /// What was done about an error of a disk (`VIR_DOMAIN_EVENT_IO_ERROR_*`).
    IoErrorAction {
        /// Nothing: it was ignored.
        None = 0 "none",
        /// The domain was paused.
        Pause = 1 "pause",
        /// The guest was told.
        Report = 2 "report",
    }
}

reasons! {
    /// What was done because the guest's watchdog fired (`VIR_DOMAIN_EVENT_WATCHDOG_*`).
    WatchdogAction {
        /// Nothing.
        None = 0 "none",
        /// The domain was paused.
        Pause = 1 "pause",
        /// It was reset.
        Reset = 2 "reset",
        /// It was ended.
        PowerOff = 3 "poweroff",
        /// The guest was asked to shut down.
        Shutdown = 4 "shutdown",
        /// It was logged.
        Debug = 5 "debug",
        /// The guest got an interrupt that it cannot mask.
        InjectNmi = 6 "inject_nmi",
    }
}

/// A moment on all clocks: those of a [`Stamp`], and the one that starts of processes are told in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Monotonic and wall-clock time.
    pub stamp: Stamp,
    /// Since the host booted, times in which it slept included (`CLOCK_BOOTTIME`).
    pub since_boot: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_of_their_own_and_numbers_unheard_of_are_unknown() {
        let labels = |all: &[&'static str]| {
            assert!(all.iter().all(|label| label.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')));
            let distinct: std::collections::HashSet<_> = all.iter().collect();
            assert_eq!(distinct.len(), all.len(), "{all:?}");
        };
        labels(&PauseReason::ALL.iter().map(|reason| reason.label()).collect::<Vec<_>>());
        labels(&StopReason::ALL.iter().map(|reason| reason.label()).collect::<Vec<_>>());
        labels(&StartReason::ALL.iter().map(|reason| reason.label()).collect::<Vec<_>>());
        assert_eq!(PauseReason::from_number(2), PauseReason::IoError);
        assert_eq!(StopReason::from_number(8).label(), "unknown");
        assert_eq!(IoErrorAction::from_number(-1), IoErrorAction::Unknown);
    }
}
