//! A simulated libvirtd: it speaks libvirt's remote protocol on a UNIX socket, has as many guests as wanted, and does on
//! command what a real one does on its worst days. For scale, for faults, and for a demo without a hypervisor.
//!
//! | module | what lives there |
//! |---|---|
//! | `host` | the guests: what they are made of, how their figures grow, what their XML says |
//! | `xdr`, `wire` | the protocol's bytes: encoding, messages, errors |
//! | `limits` | what libvirtd allows |
//! | `server` | the socket, its connections, and the pool of workers |
//! | `procedures` | the table of procedures, and how each is answered |
//! | `faults` | guests in trouble, who waits for whom; rules about calls: slow, failing, damaged |
//! | `daemon` | what all connections share |
//! | `command`, `values` | what it can be told to do, in one type for all who tell it |
//! | `control` | commands carried out; the control socket |
//! | `scenario` | commands in a file, with their times |
//! | `simulator` | all of it in one value that runs |
//! | `cli` | the command line |

#![forbid(unsafe_code)]

pub mod cli;
pub mod command;
mod control;
mod daemon;
mod faults;
pub mod host;
pub mod limits;
mod procedures;
mod scenario;
mod server;
mod simulator;
pub mod values;
pub mod wire;
pub mod xdr;

pub use control::{CommandError, ConnectionStatus, GuestStatus, Reply, Status};
pub use daemon::ProcedureCount;
pub use scenario::{Entry, Scenario, ScenarioError};
pub use server::{PoolStatus, SocketError};
pub use simulator::{Settings, Simulator, StartError};
