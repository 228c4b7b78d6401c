//! The UNIX sockets: private, one owner, and gone when that owner ends.

use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use thiserror::Error;
use tokio::net::UnixListener;

/// Why there is no socket.
#[derive(Debug, Error)]
pub enum SocketError {
    /// Somebody answers there.
    #[error("{}: another process listens there; end it, or take another path", .0.display())]
    InUse(PathBuf),
    /// There is a file that is no socket.
    #[error("{}: there is a file that is not a socket; it is left alone", .0.display())]
    NotASocket(PathBuf),
    /// Anything else.
    #[error("{}: {what}: {error}", .path.display())]
    Io {
        /// Which socket.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// What the system said.
        error: io::Error,
    },
}

/// A socket that listens; its file goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Listening {
    pub(crate) listener: UnixListener,
    path: PathBuf,
    /// Device and inode: a file that somebody else put there meanwhile is not ours to remove.
    file: (u64, u64),
}

impl Listening {
    /// Listens, for nobody but our own user. A socket that nobody listens at any more is replaced.
    pub(crate) fn bind(path: &Path) -> Result<Self, SocketError> {
        let failed = |what| move |error| SocketError::Io { path: path.to_owned(), what, error };
        if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
            let mut builder = DirBuilder::new();
            builder.recursive(true).mode(0o700).create(directory).map_err(failed("cannot make its directory"))?;
        }
        clear(path)?;
        let listener = UnixListener::bind(path).map_err(failed("cannot listen"))?;
        fs::set_permissions(path, Permissions::from_mode(0o600)).map_err(failed("cannot make it private"))?;
        let file = identity(path).map_err(failed("cannot look at it"))?;
        Ok(Self { listener, path: path.to_owned(), file })
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|file| (file.dev(), file.ino()))
}

/// Removes a socket file that nobody listens at.
fn clear(path: &Path) -> Result<(), SocketError> {
    let failed = |what| move |error| SocketError::Io { path: path.to_owned(), what, error };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("cannot look at it")(error)),
        Ok(file) if !file.file_type().is_socket() => return Err(SocketError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed("cannot remove what an earlier process left"))
        }
        // Somebody is there, if only with a backlog that is full.
        _ => Err(SocketError::InUse(path.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn it_is_private_and_goes_with_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("made/for/it/sock");
        let listening = Listening::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o777, 0o700);
        assert!(matches!(Listening::bind(&path), Err(SocketError::InUse(_))));
        drop(listening);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn what_a_dead_process_left_is_replaced_and_what_is_no_socket_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        drop(Listening::bind(&path).unwrap());
        fs::write(&path, "precious").unwrap();
        assert!(matches!(Listening::bind(&path), Err(SocketError::NotASocket(_))));
        assert!(path.exists());
    }

    #[tokio::test]
    async fn a_successors_socket_is_not_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("sock");
        let first = Listening::bind(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let second = Listening::bind(&path).unwrap();
        drop(first);
        assert!(path.exists());
        drop(second);
    }
}
