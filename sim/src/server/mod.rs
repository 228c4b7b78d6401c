//! The daemon's outside: its socket, its connections, its workers.

mod clients;
mod connection;
mod listener;
mod socket;
mod workers;

pub(crate) use clients::{Client, Clients, Then};
pub(crate) use listener::{Orders, serve};
pub(crate) use socket::Listening;
pub use socket::SocketError;
pub(crate) use workers::Pool;
pub use workers::PoolStatus;
