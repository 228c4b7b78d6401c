//! The HTTP server: listeners, routes, responses. It reads snapshots and renderings, and never waits for libvirt.

mod page;
mod response;
mod router;
mod server;
mod stream;

pub use router::App;
pub use server::{BindError, Listeners, Server};
