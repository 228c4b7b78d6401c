//! Opening the ports of both servers, and what is said if that fails.

use std::io;
use std::net::{SocketAddr, TcpListener};

use thiserror::Error;

/// An address that cannot be listened on.
#[derive(Debug, Error)]
#[error("cannot listen on {address}{}: {}", .of.key, explain(.error, .of))]
pub struct BindError {
    address: SocketAddr,
    of: &'static Of,
    error: io::Error,
}

/// Whose addresses they are.
#[derive(Debug)]
pub(crate) struct Of {
    /// The key that names them, in brackets, if the address alone does not tell.
    pub(crate) key: &'static str,
    /// What else is worth knowing of a port that is taken.
    pub(crate) hint: &'static str,
    /// How to choose another.
    pub(crate) cure: &'static str,
}

fn explain(error: &io::Error, of: &Of) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "another program, or another of our addresses, has this port (ss -ltnp shows which{}); choose another{}",
            of.hint, of.cure
        ),
        io::ErrorKind::AddrNotAvailable => "this host does not have that address".to_owned(),
        io::ErrorKind::PermissionDenied => "not permitted; ports below 1024 need CAP_NET_BIND_SERVICE".to_owned(),
        _ => error.to_string(),
    }
}

/// Opens all of them, or none.
pub(crate) fn open(addresses: &[SocketAddr], of: &'static Of) -> Result<Vec<TcpListener>, BindError> {
    let bind = |address: &SocketAddr| {
        let socket = TcpListener::bind(address)?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    };
    addresses.iter().map(|address| bind(address).map_err(|error| BindError { address: *address, of, error })).collect()
}
