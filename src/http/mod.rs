//! The HTTP server: listeners, routes, responses. It reads snapshots and renderings, and never waits for libvirt.

mod response;
mod router;
mod server;

pub use router::{App, Routes};
pub use server::{BindError, Listeners, Server};
