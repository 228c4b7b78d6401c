//! The laboratory of real guests. `make test` brings it up; a test that needs it fails without it.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use super::wait_for;

/// Guests that the gate starts.
pub(crate) const GUESTS: usize = 20;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Several times what the longest test takes. A process that waits for hung storage cannot be killed, so a test may
/// hang in ways of which no assertion gets to speak.
const LONGEST_TEST: Duration = Duration::from_secs(400);

/// The laboratory, for one test at a time.
pub(crate) struct Lab {
    ours: Vec<String>,
    _watchdog: Watchdog,
    _turn: MutexGuard<'static, ()>,
}

/// Ends the whole test program, and all that waits for it, if a test goes on for too long.
struct Watchdog {
    /// Dropped at the end of the test.
    _alive: mpsc::Sender<()>,
}

impl Watchdog {
    fn start() -> Self {
        let test = test_name();
        let (alive, ended) = mpsc::channel::<()>();
        thread::spawn(move || {
            if ended.recv_timeout(LONGEST_TEST) == Err(mpsc::RecvTimeoutError::Timeout) {
                // Past the harness, which would keep it to itself.
                let _ = writeln!(std::io::stderr(), "{test} still runs after {LONGEST_TEST:?}: ending all tests here");
                std::process::abort();
            }
        });
        Self { _alive: alive }
    }
}

fn test_name() -> String {
    thread::current().name().unwrap_or("a test").to_owned()
}

/// Takes the laboratory with its usual guests. `None` if the caller of the tests said that there is none.
pub(crate) fn enter() -> Option<Lab> {
    enter_with(GUESTS)
}

/// Takes the laboratory, with just so many guests: whoever had it before may have wanted more or fewer.
pub(crate) fn enter_with(guests: usize) -> Option<Lab> {
    let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    match std::env::var("VIRTSTATD_LAB").as_deref() {
        Ok("1") => {
            let lab = Lab { ours: Vec::new(), _watchdog: Watchdog::start(), _turn: turn };
            lab.resize(guests);
            Some(lab)
        }
        Ok("skip") => {
            let test = test_name();
            eprintln!("NOT TESTED: {test} needs real guests, and VIRTSTATD_LAB=skip");
            note_skipped(&test);
            None
        }
        _ => panic!(
            "this test needs real guests: run `make test`, or `make lab-up N={GUESTS}` and set VIRTSTATD_LAB=1; \
             VIRTSTATD_LAB=skip leaves it out"
        ),
    }
}

/// May a test do what only root may? Without the laboratory nobody is asked to be root.
pub(crate) fn may_mount() -> bool {
    let may = std::env::var("VIRTSTATD_LAB").as_deref() != Ok("skip");
    if !may {
        let test = test_name();
        eprintln!("NOT TESTED: {test} mounts a file system, which takes root, and VIRTSTATD_LAB=skip");
        note_skipped(&test);
    }
    may
}

/// Is that program installed? Without it the test that asks is left out, which is said.
pub(crate) fn may_run(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let is_there = std::env::split_paths(&paths).any(|directory| directory.join(program).is_file());
    if !is_there {
        let test = test_name();
        eprintln!("NOT TESTED: {test} needs {program}, which is not installed");
        note_skipped(&test);
    }
    is_there
}

/// Tells the gate, which counts: the test harness knows no skipping at run time.
fn note_skipped(test: &str) {
    if let Some(file) = std::env::var_os("VIRTSTATD_SKIPPED") {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
        writeln!(file, "{test}").unwrap();
    }
}

pub(crate) fn script() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/lab/lab.sh")
}

/// Runs a program to its end, and gives what it printed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output =
        Command::new(program).args(arguments).stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        Ok(text(&output.stdout))
    } else {
        Err(format!("{program} {arguments:?}: {}{}", text(&output.stdout), text(&output.stderr)))
    }
}

/// A virsh command that must succeed, and not hang.
pub(crate) fn virsh(arguments: &[&str]) -> String {
    virsh_within(60, arguments)
}

pub(crate) fn virsh_within(seconds: u32, arguments: &[&str]) -> String {
    let command = [&seconds.to_string(), "virsh", "-q", "-c", "qemu:///system"];
    run("timeout", &[&command[..], arguments].concat()).unwrap_or_else(|error| panic!("{error}"))
}

/// The n-th guest that `lab.sh up` starts.
pub(crate) fn guest(number: usize) -> String {
    format!("lab-{number:03}")
}

/// The numbers of those that run.
fn running() -> Vec<usize> {
    virsh(&["list", "--name"]).lines().filter_map(|name| name.strip_prefix("lab-")?.parse().ok()).collect()
}

/// The QEMU process of a guest whose name is the same in XML.
pub(crate) fn pid(name: &str) -> String {
    let path = pid_file(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}")).trim().to_owned()
}

/// There while a guest of that name runs.
pub(crate) fn pid_file(name: &str) -> String {
    format!("/run/libvirt/qemu/{name}.pid")
}

fn running_at_most(guests: usize) -> bool {
    running().iter().all(|&number| number <= guests)
}

impl Lab {
    /// Starts what is missing of that many guests, and ends those beyond.
    pub(crate) fn resize(&self, guests: usize) {
        let running = running();
        if (1..=guests).any(|number| !running.contains(&number)) {
            self.lab(&["up", &guests.to_string()]);
        }
        // `virsh destroy` takes two seconds a guest; libvirtd cleans up after a QEMU that was killed just as well.
        for &number in running.iter().filter(|&&number| number > guests) {
            run("kill", &["-KILL", &pid(&guest(number))]).unwrap();
        }
        wait_for("libvirtd to notice", || running_at_most(guests).then_some(()));
    }

    /// A command of lab.sh that must succeed.
    pub(crate) fn lab(&self, arguments: &[&str]) -> String {
        run(script().to_str().unwrap(), arguments).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts one more guest, with the XML that lab.sh makes for these arguments; it ends with the test.
    pub(crate) fn create(&mut self, name: &str, arguments: &[&str]) {
        self.with_xml("create", name, arguments);
    }

    /// Defines a guest without starting it; it goes with the test.
    pub(crate) fn define(&mut self, name: &str, arguments: &[&str]) {
        self.with_xml("define", name, arguments);
    }

    fn with_xml(&mut self, verb: &str, name: &str, arguments: &[&str]) {
        let xml = self.xml(name, arguments);
        self.with_this_xml(verb, name, &xml);
    }

    /// The XML that lab.sh makes for these arguments, and the disks that it names.
    pub(crate) fn xml(&self, name: &str, arguments: &[&str]) -> String {
        self.lab(&[&["xml", name], arguments].concat())
    }

    /// Starts one more guest from XML that is `xml`'s, or was.
    pub(crate) fn create_from(&mut self, name: &str, xml: &str) {
        self.with_this_xml("create", name, xml);
    }

    fn with_this_xml(&mut self, verb: &str, name: &str, xml: &str) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(xml.as_bytes()).unwrap();
        self.ours.push(name.to_owned());
        virsh(&[verb, file.path().to_str().unwrap()]);
    }

    /// Whatever becomes of a guest of that name, it ends with the test.
    pub(crate) fn owns(&mut self, name: &str) {
        self.ours.push(name.to_owned());
    }

    /// Stops a guest's QEMU as dead storage does. The laboratory thaws it at the end, whatever happens.
    pub(crate) fn freeze(&self, name: &str) {
        self.freeze_many(&[name.to_owned()]);
    }

    /// The same for several at one moment, as when the storage dies that they share.
    pub(crate) fn freeze_many(&self, names: &[String]) {
        let pids: Vec<String> = names.iter().map(|name| pid(name)).collect();
        let mut arguments = vec!["-STOP"];
        arguments.extend(pids.iter().map(String::as_str));
        run("kill", &arguments).unwrap();
        for pid in &pids {
            wait_for("the guest to freeze", || is_frozen(pid).then_some(()));
        }
    }

    pub(crate) fn thaw_one(&self, name: &str) {
        run("kill", &["-CONT", &pid(name)]).unwrap();
    }

    pub(crate) fn thaw(&self) {
        self.lab(&["thaw"]);
    }
}

fn is_frozen(pid: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| status.contains("State:\tT"))
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Whatever the test did: nothing frozen, and nothing left of its own guests.
        if let Err(error) = run(script().to_str().unwrap(), &["thaw"]) {
            eprintln!("cannot thaw: {error}");
        }
        for name in &self.ours {
            // As above, spares the two seconds. A name that is another in XML has no such file, and takes them.
            if let Ok(pid) = std::fs::read_to_string(pid_file(name)) {
                let _ = run("kill", &["-KILL", pid.trim()]);
            }
        }
        for name in &self.ours {
            for verb in ["destroy", "undefine"] {
                // Fails for a guest that is gone or not persistent, as it should be.
                let _ = run("virsh", &["-q", "-c", "qemu:///system", verb, name]);
            }
        }
    }
}
