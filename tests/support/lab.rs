//! The laboratory of real guests. `make test` brings it up; a test that needs it fails without it.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::wait_for;

/// Guests that the gate starts.
pub(crate) const GUESTS: usize = 20;

static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The laboratory, for one test at a time.
pub(crate) struct Lab {
    _turn: MutexGuard<'static, ()>,
    ours: Vec<String>,
}

/// Takes the laboratory. `None` if the caller of the tests said that there is none.
pub(crate) fn enter() -> Option<Lab> {
    let turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    match std::env::var("VIRTSTATD_LAB").as_deref() {
        Ok("1") => Some(Lab { _turn: turn, ours: Vec::new() }),
        Ok("skip") => {
            let test = std::thread::current().name().unwrap_or("a test").to_owned();
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

/// Tells the gate, which counts: the test harness knows no skipping at run time.
fn note_skipped(test: &str) {
    if let Some(file) = std::env::var_os("VIRTSTATD_SKIPPED") {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(file).unwrap();
        writeln!(file, "{test}").unwrap();
    }
}

fn script() -> PathBuf {
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

/// A virsh command that must succeed.
pub(crate) fn virsh(arguments: &[&str]) -> String {
    run("virsh", &[&["-q", "-c", "qemu:///system"], arguments].concat()).unwrap_or_else(|error| panic!("{error}"))
}

impl Lab {
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
        let xml = self.lab(&[&["xml", name], arguments].concat());
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(xml.as_bytes()).unwrap();
        virsh(&[verb, file.path().to_str().unwrap()]);
        self.ours.push(name.to_owned());
    }

    /// Stops a guest's QEMU as dead storage does. The laboratory thaws it at the end, whatever happens.
    pub(crate) fn freeze(&self, name: &str) {
        let pid = std::fs::read_to_string(format!("/run/libvirt/qemu/{name}.pid")).unwrap();
        run("kill", &["-STOP", pid.trim()]).unwrap();
        wait_for("the guest to freeze", || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim())).ok()?;
            status.contains("State:\tT").then_some(())
        });
    }

    pub(crate) fn thaw(&self) {
        self.lab(&["thaw"]);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // Whatever the test did: nothing frozen, and nothing left of its own guests.
        if let Err(error) = run(script().to_str().unwrap(), &["thaw"]) {
            eprintln!("cannot thaw: {error}");
        }
        for name in &self.ours {
            for verb in ["destroy", "undefine"] {
                // Fails for a guest that is gone or not persistent, as it should be.
                let _ = run("virsh", &["-q", "-c", "qemu:///system", verb, name]);
            }
        }
    }
}
