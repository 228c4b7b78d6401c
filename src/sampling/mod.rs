//! When what is asked, by whom, and where the answer goes.
//!
//! Timers start *lanes* ([`lanes`]: pure state, no threads). A lane's turn becomes calls, each with a place in the
//! [`budget`] of calls open at libvirtd, made by a worker of a [`pool`] under a [`deadline`]. The [`core`] writes off what
//! overruns, asks again for what it did not bring, and keeps a [`ward`] of domains that do not answer ([`health`] is the
//! state of one). Sources come as traits: libvirt is not known here.
//! The [`kernel`] lane asks neither libvirt nor QEMU; what it tells, libvirt is asked for only now and then, to compare.
//! The [`mod@host`] lane is apart from all this: it looks at the host itself, and how full its file systems are ([`spaces`]).
//! The [`rhythm`] learns when scrapers come; [`steering`] moves the timers of the lanes so that samples are taken just
//! before.

mod answers;
mod budget;
mod complaint;
mod core;
mod cut_short;
mod deadline;
mod disks;
mod dispatch;
mod engine;
mod health;
mod host;
mod judge;
mod kernel;
mod lanes;
mod link;
mod listeners;
mod overdue;
mod pool;
mod pumps;
mod questions;
mod rhythm;
mod schedule;
mod spaces;
mod sparing;
mod steering;
mod storage;
mod ward;
mod work;

#[cfg(all(test, feature = "model-check"))]
mod model;
#[cfg(test)]
#[cfg_attr(feature = "model-check", allow(dead_code, unused_imports))]
mod tests;

pub use budget::Budget;
pub use engine::{Engine, Parts, start};
pub use host::HostLane;
