//! From snapshots to what others read: Prometheus text, our own JSON, and that of oVirt's VDSM.
//!
//! Uses `model` and `store`; never the sampler, so nothing here can wait for libvirt.

pub mod api;
mod pieces;
pub mod prometheus;
pub mod vdsm;

pub(crate) use pieces::Pieces;
use thiserror::Error;

/// What a client was to get was taken away, because it takes so long to fetch it that others would pay for it in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the client is too slow: what it was to get is out of date by far")]
pub struct TooSlow;
