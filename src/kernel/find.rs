//! From a domain to its process: by the pid file that libvirt writes, else by a search; believed only when the process
//! itself bears the domain's uuid.

use std::collections::HashMap;
use std::fs;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::clock::Clock;
use crate::model::{DomainId, Process, RunId, Unseen};

use super::search::Search;
use super::suspect::{Suspects, Verdict, pid_of};

/// Where libvirt's QEMU driver keeps NAME.pid. Any user may read these files.
pub(super) const RUN: &str = "/run/libvirt/qemu";
pub(super) const PROC: &str = "/proc";

/// Who is missing there is looked for again only when the directory has changed, which is looked at this often.
const DIRECTORY: Duration = Duration::from_millis(100);
/// A change younger than this may hide one that follows it: file systems tell time in ticks.
const TICK: Duration = Duration::from_secs(1);

/// When the directory of pid files changed last; `None` if there is none.
type Changed = Option<SystemTime>;

/// Finds processes. Who was found is for the caller to remember, with its start.
pub(super) struct Finder {
    run: PathBuf,
    clock: Arc<dyn Clock>,
    suspects: Suspects,
    /// Domains without a pid file, and when the directory had changed last. Of a libvirtd elsewhere that is all of them.
    missing: HashMap<DomainId, Changed>,
    directory: Option<(Instant, Changed)>,
    search: Search,
}

impl Finder {
    pub(super) fn new(run: PathBuf, proc: PathBuf, clock: Arc<dyn Clock>) -> Self {
        let suspects = Suspects::below(proc);
        Self { run, clock, suspects, missing: HashMap::new(), directory: None, search: Search::new() }
    }

    /// The process of a run of a domain.
    pub(super) fn find(&mut self, id: DomainId, name: &str, run: RunId) -> Result<Process, Unseen> {
        let now = self.clock.now();
        match self.by_pid_file(id, name, run, now) {
            Err(Unseen::NoProcess) => {
                let found = self.search.find(&self.suspects, id, run, now);
                found.map(|sight| sight.process).ok_or(Unseen::NoProcess)
            }
            result => result,
        }
    }

    /// A process that was found before, as it is now.
    pub(super) fn again(&self, pid: u32, start_ticks: u64) -> Option<Process> {
        Some(self.suspects.sight(pid)?.process).filter(|process| process.start_ticks == start_ticks)
    }

    /// Forgets what is remembered of all domains but these.
    pub(super) fn keep_only(&mut self, wanted: &dyn Fn(DomainId) -> bool) {
        self.missing.retain(|id, _| wanted(*id));
        self.search.keep_only(wanted);
    }

    /// The process that the pid file names. The file may be left over from a host that went down, and its number
    /// another program's by now; or libvirt may be that of another host, whose domains bear the same names. Both count as none.
    fn by_pid_file(&mut self, id: DomainId, name: &str, run: RunId, now: Instant) -> Result<Process, Unseen> {
        let changed = self.changed(now);
        if self.missing.get(&id) == Some(&changed) {
            return Err(Unseen::NoProcess);
        }
        let is_settled = || {
            let since = |changed| self.clock.wall().duration_since(changed).is_ok_and(|since| since > TICK);
            changed.is_none_or(since)
        };
        let text = match fs::read(self.run.join(file_name(name))) {
            Ok(text) => text,
            Err(error) => {
                if error.kind() == ErrorKind::NotFound && is_settled() {
                    self.missing.insert(id, changed);
                }
                return Err(Unseen::NoProcess);
            }
        };
        let pid = pid_of(&text).ok_or(Unseen::NoProcess)?;
        let Some(sight) = self.suspects.sight(pid) else {
            return Err(if self.suspects.are_hidden() { Unseen::Hidden } else { Unseen::NoProcess });
        };
        match self.suspects.verdict(sight, id, name, run) {
            Verdict::Is => {
                self.missing.remove(&id);
                Ok(sight.process)
            }
            // A QEMU process does not become another's, and another one would write the file anew.
            Verdict::IsNot if sight.is_qemu && is_settled() => {
                self.missing.insert(id, changed);
                Err(Unseen::NoProcess)
            }
            Verdict::IsNot | Verdict::NotYet => Err(Unseen::NoProcess),
        }
    }

    fn changed(&mut self, now: Instant) -> Changed {
        match self.directory {
            Some((looked, changed)) if now.saturating_duration_since(looked) < DIRECTORY => changed,
            _ => {
                let changed = fs::metadata(&self.run).and_then(|directory| directory.modified()).ok();
                self.directory = Some((now, changed));
                changed
            }
        }
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

#[cfg(test)]
mod tests {
    use super::super::fake::{Host, id};
    use super::*;
    use crate::clock::SystemClock;

    const SEVEN: RunId = RunId(7);

    fn finder(host: &Host) -> Finder {
        Finder::new(host.path().into(), host.path().into(), Arc::new(SystemClock))
    }

    fn pid(found: Result<Process, Unseen>) -> Result<u32, Unseen> {
        found.map(|process| process.pid)
    }

    #[test]
    fn who_has_no_pid_file_is_found_when_it_gets_one() {
        let host = Host::new();
        let mut finder = finder(&host);
        finder.run = host.path().join("later");
        assert_eq!(pid(finder.find(id(1), "a", SEVEN)), Err(Unseen::NoProcess), "no directory");
        let later = || std::thread::sleep(DIRECTORY);
        host.write("later/b.pid", "40\n");
        let old = SystemTime::now() - 2 * TICK;
        fs::File::open(&finder.run).and_then(|directory| directory.set_modified(old)).expect("set");
        later();
        assert_eq!(pid(finder.find(id(1), "a", SEVEN)), Err(Unseen::NoProcess), "no file");
        assert_eq!(finder.missing.len(), 1);
        host.write("later/a.pid", "41\n");
        host.process(41, "qemu-kvm", 'S', 500, id(1));
        later();
        assert_eq!(pid(finder.find(id(1), "a", SEVEN)), Ok(41));
        assert_eq!(finder.missing.len(), 0);
    }

    #[test]
    fn the_file_is_named_as_libvirt_names_it() {
        let host = Host::new();
        host.write("a&amp;b &lt;&quot;&apos;&gt; \u{fc}.pid", "41\n");
        host.process(41, "qemu-kvm", 'S', 500, id(1));
        host.remove("41/cmdline");
        host.thread(41, 42, "worker", 'D');
        host.write("41/cgroup", "0::/machine/qemu-7-ab.libvirt-qemu/emulator\n");
        assert_eq!(pid(finder(&host).find(id(1), "a&b <\"'> \u{fc}", SEVEN)), Ok(41));
    }

    #[test]
    fn who_may_hang_is_told_by_its_cgroup_and_by_nothing_else() {
        let host = Host::new();
        host.write("lab-001.pid", "41\n");
        host.process(41, "qemu-kvm", 'S', 500, id(1));
        host.thread(41, 41, "qemu-kvm", 'S');
        host.thread(41, 42, "CPU 0/KVM", 'D');
        let look = || pid(finder(&host).find(id(1), "lab-001", SEVEN));
        assert_eq!(look(), Err(Unseen::NoProcess), "its command line is not read");
        host.write("41/cgroup", "0::/machine.slice/machine-qemu\\x2d8\\x2dlab\\x2d001.scope/libvirt/emulator\n");
        assert_eq!(look(), Err(Unseen::NoProcess), "another run");
        host.write("41/cgroup", "0::/machine.slice/machine-qemu\\x2d7\\x2dlab\\x2d001.scope/libvirt/emulator\n");
        assert_eq!(look(), Ok(41));
        host.write("41/cgroup", "0::/\n");
        host.thread(41, 42, "CPU 0/KVM", 'S');
        assert_eq!(look(), Ok(41), "it may be read again");
    }

    #[test]
    fn hidden_is_told_from_absent() {
        let host = Host::new();
        host.write("a.pid", "41\n");
        assert_eq!(pid(finder(&host).find(id(1), "a", SEVEN)), Err(Unseen::Hidden));
        assert_eq!(pid(finder(&host).find(id(1), "b", SEVEN)), Err(Unseen::NoProcess), "libvirt says nothing of it");
        host.process(1, "systemd", 'S', 1, id(9));
        assert_eq!(pid(finder(&host).find(id(1), "a", SEVEN)), Err(Unseen::NoProcess));
    }

    #[test]
    fn a_user_s_own_guest_is_not_the_system_s_of_the_same_name() {
        let host = Host::new();
        host.write("a.pid", "41\n");
        host.process(41, "qemu-kvm", 'S', 500, id(1));
        host.process(42, "qemu-kvm", 'S', 600, id(2));
        let mut finder = finder(&host);
        assert_eq!(pid(finder.find(id(2), "a", SEVEN)), Ok(42));
        assert_eq!(pid(finder.find(id(1), "a", SEVEN)), Ok(41));
    }

    #[test]
    fn the_unwanted_are_forgotten() {
        let host = Host::new();
        let mut finder = finder(&host);
        finder.run = host.path().join("none");
        finder.find(id(1), "a", SEVEN).expect_err("absent");
        finder.keep_only(&|one| one == id(1));
        assert_eq!(finder.missing.len(), 1);
        finder.keep_only(&|_| false);
        assert_eq!(finder.missing.len(), 0);
    }
}
