//! What the sampler can ask, as traits: the sampler never sees libvirt itself, and a test hands in a script instead.

use thiserror::Error;

use super::{DomainId, DomainRecord, GroupSet, InventoryReply, InventoryRequest};

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
}

/// Opens sources, on the thread that is to use them.
pub trait SourceFactory: Send + Sync {
    /// Opens one more connection; may block.
    ///
    /// # Errors
    /// [`SourceError::Connect`].
    fn open(&self) -> Result<Box<dyn Source>, SourceError>;
}
