//! When what is asked, by whom, and where the answer goes.
//!
//! Timers start *lanes* ([`lanes`]: pure state, no threads); a lane's turn becomes a job for a [`pool`] of threads, each
//! with its own source; the [`engine`] puts answers into the store. Sources come as traits: libvirt is not known here.

mod complaint;
mod engine;
mod lanes;
mod pool;
mod schedule;

#[cfg(test)]
mod tests;

pub use engine::{Engine, start};
