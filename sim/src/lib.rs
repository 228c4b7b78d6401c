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
//! | `faults` | guests in trouble: who waits for whom |
//! | `daemon` | what all connections share |
//! | `simulator` | all of it in one value that runs |
//! | `cli` | the command line |

#![forbid(unsafe_code)]

pub mod cli;
mod daemon;
mod faults;
pub mod host;
pub mod limits;
mod procedures;
mod server;
mod simulator;
pub mod wire;
pub mod xdr;

pub use server::{PoolStatus, SocketError};
pub use simulator::{Settings, Simulator, StartError};
