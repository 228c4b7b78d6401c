//! The connection to libvirt, as the engine sees it.

use std::collections::HashSet;
use std::time::Instant;

use crate::model::{DomainId, Peer};

/// Whether libvirt is there.
#[derive(Default)]
pub(super) struct LinkState {
    /// Has a connection been tried? Before that, nothing is skipped for want of one.
    pub(super) tried: bool,
    pub(super) up: bool,
    pub(super) was_up: bool,
    /// When it came up the last time.
    pub(super) since: Option<Instant>,
    pub(super) peer: Option<Peer>,
    /// A bulk call lost its connection, and is worth repeating when the list has been read.
    pub(super) bulk_lost: bool,
    /// Is the look at every domain's monitor, with which we begin, still to be made?
    pub(super) admitting: bool,
    /// Who has been looked at already.
    pub(super) admitted: HashSet<DomainId>,
    /// Calls that were known to be stuck when that look began, and whose domains have not been met in it.
    pub(super) known_stuck: usize,
}
