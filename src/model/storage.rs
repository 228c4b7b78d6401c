//! The storage behind the disks of domains, as the host sees it.

use std::io;
use std::sync::Arc;

/// Tells which mounts files are on, and tries them.
pub trait Storage: Send + Sync {
    /// The mount point that a path is below, found without touching the path; `None` if that cannot be told. Never blocks.
    fn mount_of(&self, path: &str) -> Option<Arc<str>>;

    /// Looks at a file, which blocks for as long as its file system does not answer.
    ///
    /// # Errors
    /// Whatever the file system answers: an answer it is.
    fn probe(&self, path: &str) -> io::Result<()>;
}
