//! The HTTP server: listeners, routes, responses. It reads snapshots and renderings, and never waits for libvirt.

mod page;
mod pieces;
mod response;
mod router;
mod rpc;
mod server;
mod stream;
mod vdsm;

pub use router::App;
pub use server::{Listeners, Server};
