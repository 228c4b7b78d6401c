//! From domains to their processes, by the pid files that libvirt writes.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use crate::model::{DomainId, Process, ProcessState, Processes, RunId};

/// Where libvirt's QEMU driver keeps NAME.pid. Any user may read these files.
const RUN: &str = "/run/libvirt/qemu";
const PROC: &str = "/proc";

/// Who is missing there is looked for again only when the directory has changed, which is looked at this often.
const DIRECTORY: Duration = Duration::from_millis(100);
/// A change younger than this may hide one that follows it: file systems tell time in ticks.
const TICK: Duration = Duration::from_secs(1);

/// Looks at QEMU's processes.
pub struct QemuProcesses {
    run: PathBuf,
    proc: PathBuf,
    known: HashMap<DomainId, Known>,
    /// Domains without a pid file, and when the directory had changed last. Of a libvirtd elsewhere that is all of them.
    missing: HashMap<DomainId, Changed>,
    directory: Option<(Instant, Changed)>,
}

/// When the directory of pid files changed last; `None` if there is none.
type Changed = Option<SystemTime>;

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
        Self { run, proc, known: HashMap::new(), missing: HashMap::new(), directory: None }
    }

    /// The process that the pid file names. The file may be left over from a host that went down, and its number
    /// another program's by now; or libvirt may be that of another host, whose domains bear the same names. Both count as none.
    fn find(&mut self, id: DomainId, name: &str) -> Option<Process> {
        let changed = self.changed();
        if self.missing.get(&id) == Some(&changed) {
            return None;
        }
        let text = match fs::read_to_string(self.run.join(file_name(name))) {
            Ok(text) => text,
            Err(error) => {
                let is_settled = changed.is_none_or(|changed| changed.elapsed().is_ok_and(|since| since > TICK));
                if error.kind() == ErrorKind::NotFound && is_settled {
                    self.missing.insert(id, changed);
                }
                return None;
            }
        };
        self.missing.remove(&id);
        let pid = text.trim().parse().ok()?;
        let stat = self.stat(pid)?;
        // What has ended has no command line any more.
        (stat.is_qemu() && (stat.state == ProcessState::Ended || self.runs(pid, id))).then(|| stat.process(pid))
    }

    fn changed(&mut self) -> Changed {
        let now = Instant::now();
        match self.directory {
            Some((looked, changed)) if now.saturating_duration_since(looked) < DIRECTORY => changed,
            _ => {
                let changed = fs::metadata(&self.run).and_then(|directory| directory.modified()).ok();
                self.directory = Some((now, changed));
                changed
            }
        }
    }

    /// Does the command line say that it runs this domain (`-uuid UUID`)?
    fn runs(&self, pid: u32, id: DomainId) -> bool {
        let line = fs::read(self.proc.join(pid.to_string()).join("cmdline")).unwrap_or_default();
        let mut arguments = line.split(|byte| *byte == 0);
        let uuid = arguments.find(|argument| *argument == b"-uuid").and_then(|_| arguments.next());
        uuid.is_some_and(|uuid| *uuid == *id.to_string().as_bytes())
    }

    fn stat(&self, pid: u32) -> Option<Stat> {
        // The name in it may be of any encoding.
        let text = fs::read(self.proc.join(pid.to_string()).join("stat")).ok()?;
        Stat::parse(&String::from_utf8_lossy(&text))
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
        if let Some(Known { pid, start_ticks, .. }) = known {
            let stat = self.stat(*pid).filter(|stat| stat.start_ticks == *start_ticks);
            if let Some(stat) = stat {
                return Some(stat.process(*pid));
            }
        }
        let ended =
            known.map(|known| Process { pid: known.pid, start_ticks: known.start_ticks, state: ProcessState::Ended });
        // Not known yet, or gone. The second happens when a domain starts anew before its next run is known.
        let Some(found) = self.find(id, name) else { return ended };
        self.known.insert(id, Known { run, pid: found.pid, start_ticks: found.start_ticks });
        Some(found)
    }

    fn keep_only(&mut self, wanted: &dyn Fn(DomainId) -> bool) {
        self.known.retain(|id, _| wanted(*id));
        self.missing.retain(|id, _| wanted(*id));
    }
}

/// The name of a domain's pid file. libvirt escapes the name as in XML; it admits no slash in it.
fn file_name(name: &str) -> String {
    let mut file = String::with_capacity(name.len() + 4);
    for character in name.chars() {
        match character {
            '&' => file.push_str("&amp;"),
            '<' => file.push_str("&lt;"),
            '>' => file.push_str("&gt;"),
            '"' => file.push_str("&quot;"),
            '\'' => file.push_str("&apos;"),
            other => file.push(other),
        }
    }
    file + ".pid"
}

/// What we want of /proc/PID/stat.
struct Stat {
    comm: String,
    state: ProcessState,
    start_ticks: u64,
}

impl Stat {
    /// The name in field 2 may hold anything, blanks and parentheses too; nothing behind it has a parenthesis.
    fn parse(text: &str) -> Option<Self> {
        let (before, after) = text.rsplit_once(')')?;
        let mut fields = after.split_ascii_whitespace();
        let state = match fields.next()? {
            "T" | "t" => ProcessState::Stopped,
            "D" => ProcessState::Uninterruptible,
            "Z" | "X" | "x" => ProcessState::Ended,
            _ => ProcessState::Runs,
        };
        // Field 22; the state was field 3.
        let start_ticks = fields.nth(18)?.parse().ok()?;
        Some(Self { comm: before.split_once('(')?.1.to_owned(), state, start_ticks })
    }

    /// `qemu-system-x86`, `qemu-kvm`, `qemu:NAME`, `kvm`.
    fn is_qemu(&self) -> bool {
        self.comm.starts_with("qemu") || self.comm.starts_with("kvm")
    }

    fn process(&self, pid: u32) -> Process {
        Process { pid, start_ticks: self.start_ticks, state: self.state }
    }
}

#[cfg(test)]
mod tests {
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
    fn who_has_no_pid_file_is_found_when_it_gets_one() {
        let host = Host::new();
        let mut processes = host.processes();
        processes.run = host.0.path().join("later");
        assert_eq!(processes.look(id(), "a", RUN), None, "no directory");
        let later = || std::thread::sleep(DIRECTORY);
        fs::create_dir(&processes.run).expect("created");
        fs::write(processes.run.join("b.pid"), "40\n").expect("written");
        let old = SystemTime::now() - 2 * TICK;
        fs::File::open(&processes.run).and_then(|directory| directory.set_modified(old)).expect("set");
        later();
        assert_eq!(processes.look(id(), "a", RUN), None, "no file");
        assert_eq!(processes.missing.len(), 1);
        fs::write(processes.run.join("a.pid"), "41\n").expect("written");
        host.process(41, "qemu-kvm", 'S', 500);
        later();
        assert_eq!(processes.look(id(), "a", RUN), process(41, 500, ProcessState::Runs));
        assert_eq!(processes.missing.len(), 0);
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

    #[test]
    fn the_file_is_named_as_libvirt_names_it() {
        let host = Host::new();
        host.pid_file("a&amp;b &lt;&quot;&apos;&gt; \u{fc}", 41);
        host.process(41, "qemu-kvm", 'S', 500);
        assert!(host.processes().look(id(), "a&b <\"'> \u{fc}", RUN).is_some());
    }

    #[test]
    fn a_stat_that_is_cut_short_is_none() {
        assert!(Stat::parse("41 (qemu) S 1 41").is_none());
        assert!(Stat::parse("").is_none());
    }
}
