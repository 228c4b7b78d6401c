//! The sockets of this process: libvirt does not say which is whose.

use std::collections::HashSet;
use std::fs::{self, File};
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt as _;

use rustix::net::{Shutdown, SocketAddrUnix, getpeername};

use super::ffi;

/// The sockets at one moment, by their inodes: numbers of descriptors are given out again at once.
pub(super) struct Sockets(HashSet<u64>);

impl Sockets {
    pub(super) fn now() -> Self {
        Self(list().map(|(_, inode)| inode).collect())
    }

    /// Duplicates of those that came since, as far as they are connected to a UNIX socket with a name. A duplicate is
    /// of that socket and of no other, whatever happens to the descriptor.
    pub(super) fn connected_since(&self) -> Vec<OwnedFd> {
        let new = list().filter(|(_, inode)| !self.0.contains(inode));
        new.filter_map(|(fd, inode)| duplicate(fd, inode)).filter(is_client).collect()
    }
}

/// Ends a connection in both directions, for all who have it open.
pub(super) fn shut_down(socket: &OwnedFd) {
    if let Err(error) = rustix::net::shutdown(socket, Shutdown::Both) {
        tracing::debug!(%error, "cannot shut a socket down");
    }
}

/// Descriptor and inode of each socket.
fn list() -> impl Iterator<Item = (RawFd, u64)> {
    fs::read_dir("/proc/self/fd").into_iter().flatten().filter_map(|entry| {
        let entry = entry.ok()?;
        let target = fs::read_link(entry.path()).ok()?;
        let inode = target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()?;
        Some((entry.file_name().to_str()?.parse().ok()?, inode))
    })
}

fn duplicate(fd: RawFd, inode: u64) -> Option<OwnedFd> {
    let file = File::from(ffi::duplicate(fd)?);
    let same = file.metadata().is_ok_and(|metadata| metadata.ino() == inode);
    same.then(|| file.into())
}

/// The peer of a socket that was accepted, or of one of a pair, has no name.
fn is_client(socket: &OwnedFd) -> bool {
    let peer = getpeername(socket).ok().flatten().and_then(|address| SocketAddrUnix::try_from(address).ok());
    peer.is_some_and(|address| address.path_bytes().is_some())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    fn inode(socket: impl Into<OwnedFd>) -> u64 {
        File::from(socket.into()).metadata().expect("a socket").ino()
    }

    #[test]
    fn a_client_that_came_is_found_and_nothing_else() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).expect("bound");
        let old = UnixStream::connect(&path).expect("connected");
        let before = Sockets::now();
        let new = UnixStream::connect(&path).expect("connected");
        let accepted = listener.accept().expect("accepted").0;
        let (one, other) = UnixStream::pair().expect("a pair");
        // Other tests of this process come and go with sockets of their own.
        let found: Vec<u64> = before.connected_since().into_iter().map(inode).collect();
        assert!(found.contains(&inode(new)));
        for stranger in [inode(old), inode(accepted), inode(one), inode(other), inode(listener)] {
            assert!(!found.contains(&stranger));
        }
    }

    #[test]
    fn a_socket_that_is_shut_down_ends_for_both() {
        use std::io::Read as _;
        let (one, mut other) = UnixStream::pair().expect("a pair");
        shut_down(&one.try_clone().expect("duplicated").into());
        assert_eq!(other.read(&mut [0]).expect("an end"), 0);
    }
}
