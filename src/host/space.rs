//! How full file systems are.

use std::io;

use crate::model::host::{Space, Spaces};

/// The file systems that this process sees.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileSystems;

impl Spaces for FileSystems {
    fn space(&self, path: &str) -> io::Result<Space> {
        let it = rustix::fs::statvfs(path)?;
        // Blocks are counted in fragments.
        let bytes = |blocks: u64| blocks.saturating_mul(it.f_frsize);
        // File systems that make inodes as they need them say 0 of 0.
        let limited = it.f_files > 0;
        Ok(Space {
            total_bytes: bytes(it.f_blocks),
            free_bytes: bytes(it.f_bfree),
            available_bytes: bytes(it.f_bavail),
            inodes: limited.then_some(it.f_files),
            inodes_free: limited.then_some(it.f_ffree),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_space_and_what_is_not_there_an_error() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().to_str().expect("UTF-8").to_owned();
        let space = FileSystems.space(&path).expect("there");
        assert!(space.total_bytes >= space.free_bytes && space.free_bytes >= space.available_bytes, "{space:?}");
        drop(directory);
        assert_eq!(FileSystems.space(&path).expect_err("gone").kind(), io::ErrorKind::NotFound);
    }
}
