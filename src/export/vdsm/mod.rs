//! What oVirt's VDSM reports, in its shape: `VmStats`, `HostStats`, and the JSON-RPC that carries them.
//!
//! Each record is a table of fields, from which it is written and docs/ovirt.md is generated.

mod host;
mod list;
mod reference;
mod rpc;
mod table;
mod text;
mod view;
mod vm;

pub use host::HostBody;
pub use list::VmList;
pub use reference::markdown;
pub use rpc::{Answer, METHODS, Method, Parameter, Rpc};
pub use view::View;

/// Nanoseconds of CPU time a second, in percent of one CPU.
const PERCENT: f64 = 100.0 / 1e9;
