//! The vocabulary: ids, stats groups, samples, the inventory, rates, and the traits of what can be asked.
//!
//! Uses nothing else of ours; everybody may use it. Units are in the names: `_ns`, `_bytes`, `_kib`.

mod group;
mod health;
pub mod host;
mod ids;
mod inventory;
mod kernel;
mod lease;
mod life;
mod mac;
mod monotony;
mod process;
mod rates;
mod sample;
mod source;
mod storage;

pub use group::{Group, GroupSet};
pub use health::{DomainHealth, Standing};
pub use ids::{DomainId, RunId, Stamp};
pub use inventory::{
    DiskDescription, DomainDescription, GraphicsDescription, HostVersions, InventoryReply, InventoryRequest,
    ListedDomain, Metadata, NicDescription, OVirt, OVirtDisk, OpenStack,
};
pub use kernel::{
    IoThread, Kernel, KernelDetails, KernelFigures, KernelIo, KernelSample, KernelState, KernelTarget, Lack, Unseen,
};
pub use lease::Lease;
pub use life::{
    DomainEvent, Happened, IoError, IoErrorAction, Moment, PauseReason, StartReason, StopReason, WatchdogAction,
};
pub use mac::Mac;
pub use monotony::TWO_TICKS_NS;
pub use process::{Process, ProcessState, Processes};
pub use rates::per_second;
pub use sample::{
    BalloonSample, Block, BlockInfo, BlockSample, CpuSample, DomainRecord, Figures, Interface, InterfaceSample, Io,
    StateSample, Traffic, Vcpu, VcpuSample, state_name,
};
pub use source::{
    BulkReply, BulkRequest, Control, ControlState, DecodeCounts, EventSink, Peer, Scope, Source, SourceError,
    SourceFactory,
};
pub use storage::Storage;
