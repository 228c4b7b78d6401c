//! A host in a temporary directory, for the tests of all readers: pid files, processes, threads and cgroups.

use std::fs;
use std::path::Path;

use crate::model::DomainId;

use super::suspect::Suspects;

/// Of each, a domain.
pub(super) fn id(number: u8) -> DomainId {
    DomainId::from_bytes([number; 16])
}

/// /run/libvirt/qemu and /proc in one.
pub(super) struct Host(tempfile::TempDir);

impl Host {
    pub(super) fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn suspects(&self) -> Suspects {
        Suspects::below(self.path().into())
    }

    /// Who has the file open reads the new text. Who has a removed one open reads the old one, unlike in /proc.
    pub(super) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().expect("below the root")).expect("created");
        fs::write(path, text).expect("written");
    }

    pub(super) fn remove(&self, path: &str) {
        let path = self.path().join(path);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.expect("removed");
    }

    pub(super) fn pid_file(&self, name: &str, pid: u32) {
        self.write(&format!("{name}.pid"), format!("{pid}\n"));
    }

    pub(super) fn process(&self, pid: u32, comm: &str, state: char, start: u64, id: DomainId) {
        let stat = format!("{pid} ({comm}) {state} 1 {pid} {pid} 0 -1 4 9 0 7 0 100 50 3 4 20 0 3 0 {start} 5 600\n");
        self.write(&format!("{pid}/stat"), stat);
        let status =
            "Name:\tx\nHugetlbPages:\t    2048 kB\nvoluntary_ctxt_switches:\t12\nnonvoluntary_ctxt_switches:\t3\n";
        self.write(&format!("{pid}/status"), status);
        self.write(&format!("{pid}/cmdline"), format!("/usr/bin/{comm}\0-uuid\0{id}\0-m\016\0"));
    }

    pub(super) fn thread(&self, pid: u32, tid: u32, comm: &str, state: char) {
        let stat = format!("{tid} ({comm}) {state} 1 1 1 0 -1 4 9 0 7 0 100 50 3 4 20 0 3 0 500 5 600\n");
        self.write(&format!("{pid}/task/{tid}/stat"), stat);
        self.write(&format!("{pid}/task/{tid}/comm"), format!("{comm}\n"));
        self.write(&format!("{pid}/task/{tid}/schedstat"), format!("{tid}000 {tid}00 7\n"));
    }
}
