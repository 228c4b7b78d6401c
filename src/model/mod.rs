//! The vocabulary: ids, stats groups, samples, the inventory, rates, and the traits of what can be asked.
//!
//! Uses nothing else of ours; everybody may use it. Units are in the names: `_ns`, `_bytes`, `_kib`.

mod group;
mod ids;
mod inventory;
mod rates;
mod sample;
mod source;

pub use group::{Group, GroupSet};
pub use ids::{DomainId, RunId, Stamp};
pub use inventory::{
    DiskDescription, DomainDescription, HostVersions, InventoryReply, InventoryRequest, ListedDomain, NicDescription,
    OpenStack,
};
pub use rates::per_second;
pub use sample::{
    BalloonSample, Block, BlockSample, CpuSample, DomainRecord, Figures, Interface, InterfaceSample, Io, StateSample,
    Traffic, Vcpu, VcpuSample, state_name,
};
pub use source::{BulkReply, BulkRequest, DecodeCounts, Scope, Source, SourceError, SourceFactory};
