//! Mounts, from the kernel's own table, so that no file system is touched to find out which one a file is on.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::model::Storage;

/// The table may be as old as this: one reading serves all disks that are looked at together, and a host seldom mounts.
const TABLE_AGE: Duration = Duration::from_secs(1);

/// The mounts that this process sees.
pub struct HostStorage {
    clock: Arc<dyn Clock>,
    table: PathBuf,
    mounts: Mutex<Mounts>,
}

#[derive(Default)]
struct Mounts {
    read: Option<Instant>,
    points: Vec<Arc<str>>,
}

impl HostStorage {
    /// On this host.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self::with_table(clock, "/proc/self/mountinfo".into())
    }

    /// With another file for the table of mounts.
    #[must_use]
    pub fn with_table(clock: Arc<dyn Clock>, table: PathBuf) -> Self {
        Self { clock, table, mounts: Mutex::default() }
    }
}

impl Storage for HostStorage {
    /// Takes the path as it is written: a symbolic link could be followed only by touching it.
    fn mount_of(&self, path: &str) -> Option<Arc<str>> {
        let path = Path::new(path);
        // What is above a symbolic link is elsewhere than it looks.
        if !path.is_absolute() || path.components().any(|part| part == Component::ParentDir) {
            return None;
        }
        let mut mounts = self.mounts.lock();
        let now = self.clock.now();
        if mounts.read.is_none_or(|read| now.duration_since(read) >= TABLE_AGE) {
            match fs::read(&self.table) {
                Ok(table) => mounts.points = mount_points(&table),
                // The old ones are the best guess.
                Err(error) => tracing::debug!(table = %self.table.display(), %error, "cannot read the mounts"),
            }
            mounts.read = Some(now);
        }
        let above = mounts.points.iter().filter(|point| path.starts_with(&***point));
        above.max_by_key(|point| point.len()).cloned()
    }

    fn probe(&self, path: &str) -> io::Result<()> {
        fs::metadata(path).map(|_| ())
    }
}

/// The fifth field of each line of a mountinfo file. A point that is no UTF-8 is above no path that is asked for.
fn mount_points(table: &[u8]) -> Vec<Arc<str>> {
    let lines = table.split(|byte| *byte == b'\n');
    let points = lines.filter_map(|line| unescape(line.split(|byte| *byte == b' ').nth(4)?));
    let mut points: Vec<Arc<str>> = points.map(Arc::from).collect();
    // Several may be mounted on one point.
    points.sort_unstable();
    points.dedup();
    points
}

/// Blanks, backslashes and the like are written as a backslash and three octal digits.
pub(super) fn unescape(field: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, after @ ..] = rest {
        let escaped = match (first, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..]) => {
                Some((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'))
            }
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &after[3..] } else { after };
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;

    const TABLE: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:5 / /proc rw shared:2 - proc proc rw
30 22 0:40 / /var/lib/nova/mnt rw - nfs4 filer:/a rw
31 30 0:41 / /var/lib/nova/mnt/deep rw - nfs4 filer:/b rw
32 22 0:42 / /mnt/two\\040words\\134\\011x rw shared:9 master:1 - nfs4 filer:/c rw
33 22 0:43 / /mnt/two\\040words\\134\\011x rw - nfs4 filer:/over rw
";

    struct Host {
        directory: tempfile::TempDir,
        clock: Arc<ManualClock>,
        storage: HostStorage,
    }

    impl Host {
        fn new(table: &[u8]) -> Self {
            let directory = tempfile::tempdir().expect("a directory");
            let clock = Arc::new(ManualClock::new());
            let path = directory.path().join("mountinfo");
            fs::write(&path, table).expect("written");
            let storage = HostStorage::with_table(Arc::<ManualClock>::clone(&clock), path);
            Self { directory, clock, storage }
        }

        fn set(&self, table: &str) {
            fs::write(self.directory.path().join("mountinfo"), table).expect("written");
        }

        fn mount_of(&self, path: &str) -> Option<String> {
            self.storage.mount_of(path).map(|mount| mount.to_string())
        }
    }

    #[test]
    fn the_longest_mount_above_a_path_counts() {
        let host = Host::new(TABLE.as_bytes());
        for (path, mount) in [
            ("/images/a.qcow2", "/"),
            ("/", "/"),
            ("/var/lib/nova/mnt/a", "/var/lib/nova/mnt"),
            ("/var/lib/nova/mnt", "/var/lib/nova/mnt"),
            ("/var/lib/nova/mnt/deeper/a", "/var/lib/nova/mnt"),
            ("/var/lib/nova/mnt/deep/a", "/var/lib/nova/mnt/deep"),
            ("//var/lib/./nova/mnt//deep/a", "/var/lib/nova/mnt/deep"),
            ("/mnt/two words\\\tx/a", "/mnt/two words\\\tx"),
            ("/mnt/two words", "/"),
        ] {
            assert_eq!(host.mount_of(path).as_deref(), Some(mount), "{path}");
        }
    }

    #[test]
    fn what_is_no_path_from_the_root_is_on_no_mount() {
        let host = Host::new(TABLE.as_bytes());
        for path in ["", "a", "pool/image", "/var/../mnt"] {
            assert_eq!(host.mount_of(path), None, "{path}");
        }
    }

    #[test]
    fn the_table_is_read_again_after_a_second_and_kept_if_it_cannot_be_read() {
        let host = Host::new(TABLE.as_bytes());
        assert_eq!(host.mount_of("/new/a").as_deref(), Some("/"));
        host.set(&format!("{TABLE}34 22 0:44 / /new rw - nfs4 filer:/d rw\n"));
        host.clock.advance(TABLE_AGE - Duration::from_millis(1));
        assert_eq!(host.mount_of("/new/a").as_deref(), Some("/"));
        host.clock.advance(Duration::from_millis(1));
        assert_eq!(host.mount_of("/new/a").as_deref(), Some("/new"));
        fs::remove_file(host.directory.path().join("mountinfo")).expect("removed");
        host.clock.advance(TABLE_AGE);
        assert_eq!(host.mount_of("/new/a").as_deref(), Some("/new"));
    }

    #[test]
    fn lines_that_make_no_sense_are_passed_over() {
        let host = Host::new(
            b"\n1 2\n22 1 8:1 / / rw\n9 22 0:1 / /bad\\377 rw\n8 22 0:1 / /\xff rw\n10 22 0:1 / /odd\\9 rw\n",
        );
        assert_eq!(host.mount_of("/bad/a").as_deref(), Some("/"));
        assert_eq!(host.mount_of("/odd\\9/a").as_deref(), Some("/odd\\9"));
    }

    #[test]
    fn a_probe_gives_what_the_file_system_says() {
        let host = Host::new(b"");
        let path = |name: &str| host.directory.path().join(name).display().to_string();
        assert!(host.storage.probe(&path("mountinfo")).is_ok());
        let error = host.storage.probe(&path("nothing")).expect_err("no such file");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
