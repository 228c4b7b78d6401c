//! What the sampler can ask, as traits: the sampler never sees libvirt itself, and a test hands in a script instead.

use std::time::Duration;

use thiserror::Error;

use super::{BlockInfo, DomainEvent, DomainId, DomainRecord, GroupSet, InventoryReply, InventoryRequest, Lease};

/// Which domains a bulk call is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Every active domain of the host: who is not in the reply is not running.
    All,
    /// These only.
    Only(Vec<DomainId>),
}

/// One bulk call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BulkRequest {
    /// What to ask for.
    pub groups: GroupSet,
    /// About whom.
    pub scope: Scope,
}

/// What did not fit the decoder's tables; the sample itself is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DecodeCounts {
    /// Kinds of parameters never seen before and not in any table.
    pub unknown: u64,
    /// Values of a type that the table does not expect.
    pub wrong_type: u64,
    /// Indexed parameters whose index is missing or no number.
    pub bad_index: u64,
}

/// The answer of a bulk call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BulkReply {
    /// One a domain.
    pub records: Vec<DomainRecord>,
    /// About what each record took in libvirt's message, in bytes; empty where that is not known.
    pub sizes: Vec<(DomainId, u32)>,
    /// What could not be decoded.
    pub decode: DecodeCounts,
}

/// Why a call brought nothing.
#[derive(Debug, Clone, Error, PartialEq, Eq)]
pub enum SourceError {
    /// No connection could be opened.
    #[error("cannot connect to {uri}: {message}")]
    Connect {
        /// What was to be opened.
        uri: String,
        /// libvirt's words.
        message: String,
    },
    /// The connection broke during a call; another must be opened.
    #[error("{call} lost its connection: {message}")]
    Disconnected {
        /// libvirt's name of the call.
        call: &'static str,
        /// libvirt's words.
        message: String,
    },
    /// The reply, or the request, would be larger than libvirt's protocol admits; the connection is good.
    #[error("{call} failed for its size: {message}")]
    TooLarge {
        /// libvirt's name of the call.
        call: &'static str,
        /// libvirt's words.
        message: String,
    },
    /// The call was refused; the connection is good.
    #[error("{call} failed: {message}")]
    Call {
        /// libvirt's name of the call.
        call: &'static str,
        /// libvirt's words.
        message: String,
    },
}

impl SourceError {
    /// Is the connection gone, so that a new one is needed?
    #[must_use]
    pub fn is_disconnect(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Disconnected { .. })
    }
}

/// What libvirt says of the job and the monitor of a domain (`virDomainGetControlInfo`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Control {
    /// What they are doing.
    pub state: ControlState,
    /// For how long, to the millisecond; zero where libvirt does not say.
    pub since: Duration,
}

/// The state in a [`Control`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlState {
    /// Free for a command.
    Ok,
    /// A background job, such as a migration, is under way.
    Job,
    /// The monitor is occupied by a command.
    Occupied,
    /// Unusable, or held without being in the monitor.
    Error,
}

/// The process that serves the other end of a connection: another one means that no call of before is open any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Process id.
    pub pid: u32,
    /// When it started, in clock ticks since the host's boot, should the id come again.
    pub start_ticks: u64,
}

/// Where events go; called on a thread of the source's own, and must not wait.
pub type EventSink = std::sync::Arc<dyn Fn(DomainEvent) + Send + Sync>;

/// One connection to what is sampled. Each worker owns one; every method may block.
pub trait Source: Send {
    /// Asks for stats groups of many domains at once.
    ///
    /// # Errors
    /// [`SourceError`]; nothing of the reply is usable then.
    fn bulk(&mut self, request: &BulkRequest) -> Result<BulkReply, SourceError>;

    /// Lists all domains, running and shut off, with the XML of those that the request wants.
    ///
    /// # Errors
    /// [`SourceError`]; a single domain whose XML cannot be read is no error.
    fn inventory(&mut self, request: &InventoryRequest) -> Result<InventoryReply, SourceError>;

    /// Asks what the monitor of each of these is doing. Domains that are gone are left out. Enters no monitor.
    ///
    /// # Errors
    /// [`SourceError`].
    fn control(&mut self, ids: &[DomainId]) -> Result<Vec<(DomainId, Control)>, SourceError>;

    /// CPU time of these from the host's accounting, as records of the CPU group alone. Enters no monitor.
    ///
    /// # Errors
    /// [`SourceError`]; a single domain that cannot be read is left out.
    fn cpu_stats(&mut self, ids: &[DomainId]) -> Result<BulkReply, SourceError>;

    /// Sizes of one disk, by its target. `None` if the domain or the disk is gone. Can hang on QEMU and on storage.
    ///
    /// # Errors
    /// [`SourceError`].
    fn block_info(&mut self, id: DomainId, target: &str) -> Result<Option<BlockInfo>, SourceError>;

    /// Counters of these disks, by their targets, as a record of the block group alone, without sizes. Can hang on QEMU,
    /// but not on storage. No record if the domain is gone.
    ///
    /// # Errors
    /// [`SourceError`]; a single disk that is gone is left out.
    fn block_counters(&mut self, id: DomainId, targets: &[Box<str>]) -> Result<BulkReply, SourceError>;

    /// The addresses that the networks of this host have lent. Enters no monitor and waits for no domain, but for the service
    /// that runs the networks, which may be another one.
    ///
    /// # Errors
    /// [`SourceError`]; nothing is known of addresses then.
    fn leases(&mut self) -> Result<Vec<Lease>, SourceError>;

    /// Sends what happens to domains from now on, for as long as this connection lives. Without events the sampler sees
    /// changes with its next sample, so a driver that has none is no error.
    ///
    /// # Errors
    /// [`SourceError`] if the connection is gone.
    fn watch(&mut self, sink: EventSink) -> Result<(), SourceError>;

    /// Who serves this connection; `None` if that cannot be told.
    fn peer(&self) -> Option<Peer>;
}

/// Opens sources, on the thread that is to use them.
pub trait SourceFactory: Send + Sync {
    /// Opens one more connection; may block. One attempt at a time: others wait for it.
    ///
    /// # Errors
    /// [`SourceError::Connect`].
    fn open(&self) -> Result<Box<dyn Source>, SourceError>;

    /// Makes the attempt that is under way fail, where that is possible: a socket that accepts and says nothing would hold
    /// it, and its thread, for ever.
    fn abandon_opening(&self);
}
