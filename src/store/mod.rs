//! What is known: the two newest samples per domain and stats group, published as immutable snapshots.
//!
//! The sampler writes, exporters read snapshots, and neither waits for the other. Also home of the sampler's own
//! metrics. Uses `model` and `clock` only.

mod block_info;
mod directory;
mod heartbeats;
mod host;
mod kernel;
mod known;
mod lanes;
mod leases;
mod life;
mod metrics;
mod minute;
mod process;
mod scrapes;
mod snapshot;
mod state;
#[allow(clippy::module_inception)]
mod store;
mod window;

#[cfg(test)]
mod tests;

pub use block_info::{BlockInfoAnswer, DiskSizes};
pub use directory::{Directory, Key};
pub use heartbeats::{Part, STILL_AFTER};
pub use host::HostWindow;
pub use kernel::{KernelNews, KernelStatus, KernelTurn};
pub use lanes::{KernelRecord, Lanes};
pub use leases::Leases;
pub use life::{History, Life, Noted, Start, StartSource};
pub use metrics::{STOMP_REFUSALS, SelfMetrics};
pub use minute::{Minute, Spread};
pub use scrapes::ScraperId;
pub use snapshot::{Domain, LaneShards, Link, Shards, Snapshot, StaleAfter};
pub use state::Changes;
pub use store::Store;
pub use window::{Sampled, Window, Windows};
