//! STOMP 1.2, as far as oVirt's `vdsm-client` and its like speak it: it carries VDSM's JSON-RPC, and nothing else.
//!
//! `frame` and `session` know neither sockets nor time; `connection` is one client, `server` all of them on a thread of their own.
//! Used by `daemon`; reads what the store knows through `export`'s dispatcher, and never waits for libvirt.

mod connection;
mod frame;
mod refusal;
mod server;
mod session;
mod tls;

pub use server::{Listeners, Server};
pub use tls::{TlsError, TlsFiles};
