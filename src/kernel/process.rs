//! Whether and how the QEMU process of a domain runs.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use crate::clock::SystemClock;
use crate::model::{DomainId, Process, ProcessState, Processes, RunId};

use super::find::{Finder, PROC, RUN};

/// Looks at QEMU's processes.
pub struct QemuProcesses {
    finder: Finder,
    known: HashMap<DomainId, Known>,
}

/// Whose process it was when it was found. A look at a process that is known opens one file.
struct Known {
    run: RunId,
    pid: u32,
    start_ticks: u64,
}

impl QemuProcesses {
    /// On this host.
    #[must_use]
    pub fn new() -> Self {
        Self::below(RUN.into(), PROC.into())
    }

    /// With pid files and processes in other places.
    #[must_use]
    pub fn below(run: PathBuf, proc: PathBuf) -> Self {
        Self { finder: Finder::new(run, proc, Arc::new(SystemClock)), known: HashMap::new() }
    }
}

impl Default for QemuProcesses {
    fn default() -> Self {
        Self::new()
    }
}

impl Processes for QemuProcesses {
    fn look(&mut self, id: DomainId, name: &str, run: RunId) -> Option<Process> {
        let known = self.known.get(&id).filter(|known| known.run == run);
        if let Some(process) = known.and_then(|known| self.finder.again(known.pid, known.start_ticks)) {
            return Some(process);
        }
        let ended =
            known.map(|known| Process { pid: known.pid, start_ticks: known.start_ticks, state: ProcessState::Ended });
        // Not known yet, or gone. The second happens when a domain starts anew before its next run is known.
        let Ok(found) = self.finder.find(id, name, run) else { return ended };
        self.known.insert(id, Known { run, pid: found.pid, start_ticks: found.start_ticks });
        Some(found)
    }

    fn keep_only(&mut self, wanted: &dyn Fn(DomainId) -> bool) {
        self.known.retain(|id, _| wanted(*id));
        self.finder.keep_only(wanted);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const RUN: RunId = RunId(7);

    fn id() -> DomainId {
        DomainId::from_bytes([1; 16])
    }

    /// A fake /run/libvirt/qemu and /proc.
    struct Host(tempfile::TempDir);

    impl Host {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("a directory"))
        }

        fn processes(&self) -> QemuProcesses {
            QemuProcesses::below(self.0.path().into(), self.0.path().into())
        }

        fn pid_file(&self, name: &str, pid: u32) {
            fs::write(self.0.path().join(format!("{name}.pid")), format!("{pid}\n")).expect("written");
        }

        fn process(&self, pid: u32, comm: &str, state: char, start: u64) {
            let directory = self.0.path().join(pid.to_string());
            fs::create_dir_all(&directory).expect("created");
            let stat = format!("{pid} ({comm}) {state} 1 {pid} {pid} 0 -1 4 9 0 0 0 1 2 3 4 20 0 1 0 {start} 5 6\n");
            fs::write(directory.join("stat"), stat).expect("written");
            let line = format!("/usr/bin/{comm}\0-uuid\0{}\0-m\016\0", id());
            fs::write(directory.join("cmdline"), line).expect("written");
        }

        fn end(&self, pid: u32) {
            fs::remove_dir_all(self.0.path().join(pid.to_string())).expect("removed");
        }
    }

    fn process(pid: u32, start_ticks: u64, state: ProcessState) -> Option<Process> {
        Some(Process { pid, start_ticks, state })
    }

    #[test]
    fn each_letter_of_a_state_has_its_meaning() {
        let host = Host::new();
        host.pid_file("a", 41);
        let mut processes = host.processes();
        for (letters, state) in [
            ("RSIWKP", ProcessState::Runs),
            ("Tt", ProcessState::Stopped),
            ("D", ProcessState::Uninterruptible),
            ("ZXx", ProcessState::Ended),
        ] {
            for letter in letters.chars() {
                host.process(41, "qemu) S (x86", letter, 500);
                assert_eq!(processes.look(id(), "a", RUN), process(41, 500, state), "{letter}");
            }
        }
    }

    #[test]
    fn a_known_process_needs_no_pid_file_and_ends_when_it_is_gone() {
        let host = Host::new();
        host.pid_file("a", 41);
        host.process(41, "qemu-system-x86", 'S', 500);
        let mut processes = host.processes();
        processes.look(id(), "a", RUN).expect("found");
        fs::remove_file(host.0.path().join("a.pid")).expect("removed");
        assert_eq!(processes.look(id(), "a", RUN), process(41, 500, ProcessState::Runs));
        // What it is called matters only when it is found.
        host.process(41, "renamed", 'D', 500);
        assert_eq!(processes.look(id(), "a", RUN), process(41, 500, ProcessState::Uninterruptible));
        host.end(41);
        assert_eq!(processes.look(id(), "a", RUN), process(41, 500, ProcessState::Ended));
        assert_eq!(processes.look(id(), "a", RUN), process(41, 500, ProcessState::Ended), "it stays ended");
        assert_eq!(processes.look(id(), "a", RunId(8)), None, "nothing is known of the next run");
    }

    #[test]
    fn a_pid_that_came_again_is_not_the_process() {
        let host = Host::new();
        host.pid_file("a", 41);
        host.process(41, "qemu-kvm", 'S', 500);
        let mut processes = host.processes();
        processes.look(id(), "a", RUN).expect("found");
        host.process(41, "sh", 'S', 900);
        assert_eq!(processes.look(id(), "a", RUN), process(41, 500, ProcessState::Ended));
        // The domain started anew, and its new run is not known yet.
        host.pid_file("a", 42);
        host.process(42, "qemu-kvm", 'S', 950);
        assert_eq!(processes.look(id(), "a", RUN), process(42, 950, ProcessState::Runs));
        host.process(42, "qemu-kvm", 'T', 950);
        assert_eq!(processes.look(id(), "a", RUN), process(42, 950, ProcessState::Stopped));
    }

    #[test]
    fn what_is_no_qemu_is_not_known() {
        let host = Host::new();
        let mut processes = host.processes();
        assert_eq!(processes.look(id(), "a", RUN), None, "no pid file");
        host.pid_file("a", 41);
        assert_eq!(processes.look(id(), "a", RUN), None, "no process");
        host.process(41, "sh", 'S', 500);
        assert_eq!(processes.look(id(), "a", RUN), None, "another program");
        // As when libvirt's child has written the file and not become QEMU yet.
        host.process(41, "kvm", 'S', 500);
        assert_eq!(processes.look(id(), "a", RUN), process(41, 500, ProcessState::Runs));
    }

    #[test]
    fn a_guest_of_the_same_name_is_not_taken_for_the_domain() {
        let host = Host::new();
        host.pid_file("a", 41);
        host.process(41, "qemu-kvm", 'S', 500);
        assert_eq!(host.processes().look(DomainId::from_bytes([2; 16]), "a", RUN), None);
        fs::write(host.0.path().join("41/cmdline"), "qemu-kvm\0-uuid").expect("written");
        assert_eq!(host.processes().look(id(), "a", RUN), None, "cut short");
    }

    #[test]
    fn each_run_is_found_anew_and_the_unwanted_are_forgotten() {
        let host = Host::new();
        host.pid_file("a", 41);
        host.process(41, "qemu-kvm", 'S', 500);
        host.process(42, "qemu-kvm", 'S', 600);
        let mut processes = host.processes();
        processes.look(id(), "a", RUN).expect("found");
        host.pid_file("a", 42);
        assert_eq!(processes.look(id(), "a", RUN), process(41, 500, ProcessState::Runs), "the run has its process");
        assert_eq!(processes.look(id(), "a", RunId(8)), process(42, 600, ProcessState::Runs));
        processes.keep_only(&|one| one == id());
        assert_eq!(processes.known.len(), 1);
        processes.keep_only(&|one| one != id());
        assert!(processes.known.is_empty());
    }
}
