//! The binary: what it says, its sockets, its scenarios, and `ctl`.
#![allow(clippy::unwrap_used)] // A test.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(20);

/// The simulator as a process of its own.
struct Process {
    child: Child,
    directory: TempDir,
}

fn simulator(directory: &TempDir) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_virtstat-sim"));
    command.env("XDG_RUNTIME_DIR", directory.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

impl Process {
    /// Starts one, and waits until it says that it listens.
    fn start(words: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut child = simulator(&directory).args(words).stderr(Stdio::inherit()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let (first, second) = (lines.next().unwrap().unwrap(), lines.next().unwrap().unwrap());
        let process = Self { child, directory };
        assert!(first.ends_with(" guests; listening. Connect to"), "{first}");
        assert_eq!(second.trim(), format!("qemu+unix:///system?socket={}", process.socket().display()));
        process
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("virtstat-sim/libvirt-sock")
    }

    fn ctl(&self, words: &str) -> (ExitStatus, String) {
        let output = simulator(&self.directory).arg("ctl").args(words.split(' ')).output().unwrap();
        (output.status, String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    }

    /// What `ctl` says, which must succeed.
    fn told(&self, words: &str) -> String {
        let (status, text) = self.ctl(words);
        assert!(status.success(), "{words}: {text}");
        text
    }

    fn status(&self) -> serde_json::Value {
        serde_json::from_str(&self.told("status")).unwrap()
    }

    fn until(&self, what: &str, is_so: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        let begin = Instant::now();
        loop {
            let status = self.status();
            if is_so(&status) {
                return status;
            }
            assert!(begin.elapsed() < PATIENCE, "{what}: {status:#}");
        }
    }

    /// Ends it by a signal, and gives how.
    fn end(&mut self, signal: &str) -> ExitStatus {
        Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
        self.child.wait().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs it with a scenario that it refuses, and gives what it says.
fn refused(text: &str) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bad.toml");
    std::fs::write(&path, text).unwrap();
    let output = simulator(&directory).arg("--scenario").arg(&path).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap().replace(&path.display().to_string(), "bad.toml"))
}

#[test]
fn its_sockets_are_private_and_go_with_it() {
    for signal in ["-TERM", "-INT"] {
        let mut process = Process::start(&["--domains", "3"]);
        let (socket, directory) = (process.socket(), process.socket().parent().unwrap().to_owned());
        let mode = |path: &PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&socket), mode(&directory)), (0o600, 0o700));
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 2);
        assert!(process.end(signal).success());
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0, "both are gone");
    }
}

#[test]
fn a_second_one_is_refused_and_a_stale_socket_replaced() {
    let mut process = Process::start(&[]);
    let output = simulator(&process.directory).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("another process listens there"));
    process.end("-KILL");
    assert!(process.socket().exists());
    let mut again = simulator(&process.directory).stderr(Stdio::inherit()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(again.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert_eq!(first, "50 guests; listening. Connect to\n");
    process.child = again;
    assert_eq!(process.status()["guests"]["total"], 50);
}

#[test]
fn ctl_does_what_it_says() {
    let process = Process::start(&["--domains", "10"]);
    let some = process.told("freeze --count 2");
    let some = some.trim().strip_prefix("2 guests: ").unwrap().to_owned();
    let names: Vec<&str> = some.split(", ").collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    assert_eq!(process.status()["guests"]["frozen"], serde_json::json!(sorted));
    assert_eq!(process.told(&format!("thaw {}", names[0])).trim(), format!("1 guest: {}", names[0]));
    assert_eq!(process.told("thaw --all").trim(), format!("1 guest: {}", names[1]));
    assert_eq!(process.told("thaw --all").trim(), "done");
    process.told("lock *");
    assert_eq!(process.status()["guests"]["locked"].as_array().unwrap().len(), 10);
    process.told("unlock --all");
    process.told("latency exponential\u{a0}1ms --procedure DomainGetInfo");
    process.told("fail 38 --next 5");
    process.told("damage wrong-count --share 0.5");
    assert_eq!(process.status()["rules"].as_array().unwrap().len(), 3);
    process.told("clear");
    assert!(process.status()["rules"].as_array().unwrap().is_empty());
    process.told("reset-counters --all");
    process.told("change define --count 5");
    assert_eq!(process.status()["guests"]["shut-off"], 5);
}

#[test]
fn ctl_says_what_is_wrong() {
    let process = Process::start(&["--domains", "3"]);
    for (words, code, expected) in [
        ("freeze nobody-*", 1, "no domain 'nobody-*'"),
        ("freeze", 1, "Say a domain, a count, or all"),
        ("fail 1 --domain nobody", 1, "no domain 'nobody'"),
        ("hang-connections 77", 1, "no connection 77"),
        ("churn 0", 1, "0 is no rate"),
        ("change define x", 1, "a new guest has no name yet"),
        ("fly", 2, "unrecognized subcommand 'fly'"),
        ("fail", 2, "required"),
        ("latency soon", 2, "'soon' is no time"),
        ("damage smash", 2, "[possible values: half-then-silence"),
        ("damage truncated --procedure Fly", 2, "there are ConnectOpen"),
        ("fail 1 --share 2", 2, "2 is no share"),
        ("churn 5 --mix fly=1", 2, "'fly' is nothing that happens"),
    ] {
        let (status, text) = process.ctl(words);
        assert_eq!(status.code(), Some(code), "{words}: {text}");
        assert!(text.contains(expected), "{words}: {text}");
    }
    let nobody = tempfile::tempdir().unwrap();
    let output = simulator(&nobody).args(["ctl", "status"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("is a simulator running there?"));
    let help = process.told("--help");
    assert!(["freeze", "hang-storage", "churn", "restart", "silence"].iter().all(|word| help.contains(word)), "{help}");
}

#[test]
fn the_control_socket_speaks_json_by_the_line() {
    let process = Process::start(&["--domains", "3"]);
    let mut path = process.socket().into_os_string();
    path.push(".control");
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut replies = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut ask = |line: &str| -> serde_json::Value {
        writeln!(stream, "{line}").unwrap();
        serde_json::from_str(&replies.next().unwrap().unwrap()).unwrap()
    };
    assert_eq!(ask(r#"{"command":"freeze","all":true}"#)["guests"].as_array().unwrap().len(), 3);
    let error = ask(r#"{"command":"freeze","al":true}"#);
    assert_eq!(error["result"], "refused");
    assert!(error["error"].as_str().unwrap().contains("unknown field `al`"), "{error}");
    assert!(ask("no JSON")["error"].as_str().unwrap().starts_with("not a command"));
    assert_eq!(ask(r#"{"command":"status"}"#)["guests"]["total"], 3);
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(replies.count(), 0);
    // A line without an end is not waited for for ever, nor kept.
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = stream.write_all(&vec![b'x'; 1 << 17]);
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
    assert!(String::from_utf8_lossy(&rest).contains("not a command") || rest.is_empty());
}

#[test]
fn a_scenario_happens() {
    let text = r#"
domains = 20
shut-off = 100
[[at]]
after = "0s"
command = "freeze"
count = 2
[[at]]
after = "50ms"
command = "hang-storage"
count = 1
[[at]]
after = "20ms"
every = "20ms"
command = "change"
kind = "define"
[[at]]
after = "10ms"
command = "churn"
rate = 200.0
mix = "start=1,stop=1,pause=1,resume=1,attach-disk=1,attach-nic=1"
for = "300ms"
"#;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("test.toml");
    std::fs::write(&path, text).unwrap();
    let process = Process::start(&["--scenario", path.to_str().unwrap(), "--log-level", "error"]);
    let length = |status: &serde_json::Value, list: &str| status["guests"][list].as_array().unwrap().len();
    let status = process.until("all of it happened", |status| {
        length(status, "frozen") == 2
            && length(status, "storage-hangs") == 1
            && status["guests"]["total"].as_u64().unwrap() >= 24
            && status["churn"] == false
    });
    assert!(
        status["guests"]["frozen"].as_array().unwrap().iter().all(|name| *name != status["guests"]["storage-hangs"][0])
    );
}

#[test]
fn the_command_line_wins_over_the_scenario() {
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/demo.toml");
    let process = Process::start(&["--scenario", demo, "--domains", "7", "--shut-off", "1000"]);
    let status = process.status();
    assert_eq!((&status["guests"]["total"], &status["guests"]["shut-off"]), (&7.into(), &7.into()));
}

#[test]
fn a_bad_scenario_is_refused_with_its_place() {
    for (text, expected) in [
        ("domains = 3\ncolour = 1\n", "unknown field `colour`"),
        ("domains = \n", "line 1"),
        ("[[at]]\nafter = \"1s\"\ncommand = \"freeze\"\ndomain = \"nobody\"\n", "bad.toml: line 1: no domain 'nobody'"),
        ("seed = 2\n\n[[at]]\nafter = \"1s\"\ncommand = \"freez\"\n", "bad.toml: line 3: unknown variant `freez`"),
    ] {
        let (code, said) = refused(text);
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains(expected), "{said}");
    }
}
