//! How full file systems are.

use std::fs;
use std::io;
use std::path::Path;

use super::storage::unescape;
use crate::model::host::{Space, Spaces};

/// The mounts that this process sees.
const TABLE: &str = "/proc/self/mountinfo";
/// What systemd mounts, from its own directory in /run, over what a unit is not to see.
const INACCESSIBLE: &str = "/systemd/inaccessible/";

/// The file systems that this process sees.
#[derive(Debug, Clone, Copy, Default)]
pub struct FileSystems;

impl Spaces for FileSystems {
    fn space(&self, path: &str) -> io::Result<Space> {
        // That the directory that is mounted instead can be asked makes it no answer.
        if is_hidden(&fs::read(TABLE).unwrap_or_default(), path) {
            let message = "hidden from this service by its unit (ProtectHome=, InaccessiblePaths=)";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, message));
        }
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

/// Is the path below a mount that only hides what is there?
fn is_hidden(table: &[u8], path: &str) -> bool {
    let mounts = table.split(|byte| *byte == b'\n').filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ').skip(3);
        Some((fields.next()?, unescape(fields.next()?)?))
    });
    // Of several on one point the last is on top.
    let above = mounts.filter(|(_, point)| Path::new(path).starts_with(point)).max_by_key(|(_, point)| point.len());
    above.is_some_and(|(root, _)| root.starts_with(INACCESSIBLE.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_unit_hides_has_no_space() {
        let table =
            b"22 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 22 0:40 /systemd/inaccessible/dir /home ro - tmpfs tmpfs rw\n\
            31 22 0:41 / /srv rw - xfs /dev/sdb rw\n32 22 0:40 /systemd/inaccessible/dir /root ro - tmpfs tmpfs rw\n\
            33 32 0:42 / /root ro - tmpfs tmpfs rw\n";
        for (path, hidden) in [
            ("/home", true),
            ("/home/images", true),
            ("/homes", false),
            ("/", false),
            ("/srv/a", false),
            ("/root", false),
        ] {
            assert_eq!(is_hidden(table, path), hidden, "{path}");
        }
        assert!(!is_hidden(b"", "/home") && !is_hidden(b"garbage\n1 2", "/home"));
    }

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
