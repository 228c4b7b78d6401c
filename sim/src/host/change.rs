//! What can happen to the guests, and what libvirt says then.

use thiserror::Error;

use super::{GuestRef, Value};

/// Something that happens to the host. The 16 bytes are a guest's UUID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A new guest, shut off; the seed says what it is like.
    Define {
        /// Where its shape comes from.
        seed: u64,
    },
    /// Forgets a guest's definition; one that runs becomes transient.
    Undefine([u8; 16]),
    /// Starts one that is shut off.
    Start([u8; 16]),
    /// Destroys a run.
    Stop([u8; 16]),
    /// The guest shuts itself down.
    Shutdown([u8; 16]),
    /// Its QEMU ends badly.
    Crash([u8; 16]),
    /// The guest's kernel panics, and its run ends by that.
    Panic([u8; 16]),
    /// Its first disk is full, and its vCPUs are suspended for that.
    IoError([u8; 16]),
    /// Suspends the vCPUs.
    Pause([u8; 16]),
    /// Lets them go on.
    Resume([u8; 16]),
    /// A new name, of one that is shut off.
    Rename([u8; 16], String),
    /// A new disk, plugged in.
    AttachDisk([u8; 16]),
    /// The last disk, unplugged.
    DetachDisk([u8; 16]),
    /// A new NIC, plugged in.
    AttachNic([u8; 16]),
    /// The last NIC, unplugged.
    DetachNic([u8; 16]),
    /// A migration to another host begins: there is a job from now on.
    MigrateOutBegin([u8; 16]),
    /// It ends: the guest is elsewhere.
    MigrateOutEnd([u8; 16]),
    /// A guest comes from another host; the seed says what it is like.
    MigrateIn {
        /// Where its shape comes from.
        seed: u64,
    },
    /// All counters of the run begin at 0 again.
    ResetCounters([u8; 16]),
    /// Another title.
    SetMetadata([u8; 16]),
    /// Nothing changes that libvirt shows, but it tells of it.
    Tell([u8; 16], Told),
}

/// What libvirt only tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// The guest's watchdog fired, and the guest is reset for that.
    Watchdog,
    /// Somebody connects to its graphics.
    Connects,
    /// Who was connected leaves.
    Leaves,
    /// The guest sets its clock.
    Clock,
}

/// What libvirt tells those who asked for events.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Of whom.
    pub guest: GuestRef,
    /// What.
    pub what: EventKind,
}

/// The kinds of events.
#[derive(Debug, Clone, PartialEq)]
pub enum EventKind {
    /// `VIR_DOMAIN_EVENT_ID_LIFECYCLE`, with libvirt's numbers.
    Lifecycle {
        /// `virDomainEventType`.
        event: i32,
        /// The detail type of that event.
        detail: i32,
    },
    /// `VIR_DOMAIN_EVENT_ID_RTC_CHANGE`.
    Clock {
        /// Seconds from UTC.
        offset: i64,
    },
    /// `VIR_DOMAIN_EVENT_ID_WATCHDOG`.
    Watchdog {
        /// `virDomainEventWatchdogAction`.
        action: i32,
    },
    /// `VIR_DOMAIN_EVENT_ID_GRAPHICS`, of VNC.
    Graphics {
        /// `virConnectDomainEventGraphicsPhase`.
        phase: i32,
        /// The address that somebody comes from.
        remote: &'static str,
    },
    /// `VIR_DOMAIN_EVENT_ID_IO_ERROR_REASON`.
    IoError {
        /// The image.
        path: String,
        /// The device.
        alias: String,
        /// `virDomainEventIOErrorAction`.
        action: i32,
        /// `enospc`, or nothing.
        reason: &'static str,
    },
    /// `VIR_DOMAIN_EVENT_ID_DEVICE_ADDED`.
    DeviceAdded {
        /// The device.
        alias: String,
    },
    /// `VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED`.
    DeviceRemoved {
        /// The device.
        alias: String,
    },
    /// `VIR_DOMAIN_EVENT_ID_METADATA_CHANGE`.
    MetadataChanged {
        /// `virDomainMetadataType`: 0 description, 1 title, 2 element.
        kind: i32,
        /// The namespace, of an element.
        namespace: Option<String>,
    },
    /// `VIR_DOMAIN_EVENT_ID_JOB_COMPLETED`.
    JobCompleted {
        /// What `virDomainGetJobStats` would have said.
        params: Vec<(&'static str, Value<'static>)>,
    },
}

/// Why a change was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refused {
    /// There is no such guest.
    #[error("no domain with matching uuid")]
    NoGuest,
    /// It must run for that.
    #[error("domain is not running")]
    NotRunning,
    /// It must not run for that.
    #[error("domain is already running")]
    Running,
    /// It must not be paused for that.
    #[error("domain is paused")]
    Paused,
    /// It must be defined for that.
    #[error("domain is transient")]
    Transient,
    /// There is a guest of that name.
    #[error("a domain with that name exists already")]
    NameTaken,
    /// libvirt allows no such name.
    #[error("not a legal name of a domain")]
    BadName,
    /// There is none to unplug, or no place for one more.
    #[error("no such device, or no place for it")]
    NoDevice,
    /// A migration is under way.
    #[error("a migration is under way")]
    Migrating,
    /// No migration is under way.
    #[error("no migration is under way")]
    NotMigrating,
}
