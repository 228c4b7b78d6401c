//! Which VM has this MAC address? Ours, side by side with `virsh` and python3-libvirt: `cargo bench --bench lookup`.
//!
//! First on the libvirtd of this host, best after `make lab-up N=2`: nine shut-off guests are defined for it, and undefined at
//! the end. Then on 10,000 simulated guests. Each way is asked for the first and for the last domain of the list. A way that
//! could not be tried is a dash, with the reason.

#[path = "support/chosen.rs"]
mod chosen;
#[allow(dead_code)] // All requests are on one connection.
#[path = "support/client.rs"]
mod client;
#[path = "support/daemon.rs"]
mod daemon;

use std::io::Write as _;
use std::process::{Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use virtstat_sim::{Settings, Simulator};

use chosen::is_wanted;
use client::Client;
use daemon::Daemon;

const URI: &str = "qemu:///system";
/// As many as on the host that OpenStack's Ironic was measured on.
const SHUT_OFF: usize = 9;
const SIMULATED: u32 = 10_000;
/// Requests of ours.
const REQUESTS: usize = 20_000;
/// Tries of the others, which take far longer.
const TRIES: usize = 5;
const PATIENCE: Duration = Duration::from_secs(60);

/// What Ironic did: every domain, its XML, and the addresses in it, until one fits.
const PYTHON: &str = r#"
import sys, time
import xml.etree.ElementTree as ElementTree
import libvirt
uri, mac, tries = sys.argv[1], sys.argv[2], int(sys.argv[3])
def lookup():
    connection = libvirt.openReadOnly(uri)
    try:
        for domain in connection.listAllDomains():
            for node in ElementTree.fromstring(domain.XMLDesc()).iter("mac"):
                if node.get("address") == mac:
                    return domain.name()
    finally:
        connection.close()
for _ in range(tries):
    begin = time.monotonic()
    assert lookup() is not None
    print((time.monotonic() - begin) * 1e6)
"#;

fn main() -> ExitCode {
    if !is_wanted("lookup") {
        return ExitCode::SUCCESS;
    }
    println!("| host | asked | way | tries | median, µs | p99, µs | max, µs |\n|---|---|---|---:|---:|---:|---:|");
    let real = Defined::new().and_then(|_defined| measure("this host", URI, TRIES));
    let directory = tempfile::tempdir().expect("a directory for the socket");
    let settings = Settings { domains: SIMULATED, ..Settings::new(directory.path().join("libvirt")) };
    let simulator = Simulator::start(settings).expect("the simulator starts");
    let simulated = measure(&format!("{SIMULATED} simulated"), &simulator.uri(), 1);
    let mut code = ExitCode::SUCCESS;
    for (host, result) in [("this host", real), ("simulated", simulated)] {
        if let Err(reason) = result {
            eprintln!("{host}: {reason}");
            code = ExitCode::FAILURE;
        }
    }
    code
}

/// All ways, for the first and the last domain of the list.
fn measure(host: &str, uri: &str, tries: usize) -> Result<(), String> {
    let daemon = Daemon::start(&["--uri", uri]);
    let mut client = Client::connect(daemon.address).map_err(|error| error.to_string())?;
    let begin = Instant::now();
    while client.get("/-/ready", false).map_err(|error| error.to_string())?.status != 200 {
        if begin.elapsed() > PATIENCE {
            return Err("the daemon is not ready; is libvirtd running? `make lab-up N=2` starts it".to_owned());
        }
        thread::sleep(Duration::from_millis(20));
    }
    let names = run("virsh", &["-q", "-r", "-c", uri, "list", "--all", "--name"])?;
    let names: Vec<&str> = names.lines().filter(|name| !name.is_empty()).collect();
    let (first, last) = names.first().zip(names.last()).ok_or("there is no domain")?;
    for (asked, name) in [("first", first), ("last", last)] {
        let mac = mac_of(uri, name)?.ok_or_else(|| format!("{name} has no NIC"))?;
        row(host, asked, "virtstatd, HTTP", ours(&mut client, name, &mac));
        row(host, asked, "virsh per domain", each_with_virsh(uri, &names, &mac, tries));
        row(host, asked, "python3-libvirt", python(uri, &mac, tries));
    }
    Ok(())
}

/// Microseconds.
type Times = Result<Vec<f64>, String>;

fn row(host: &str, asked: &str, way: &str, times: Times) {
    match times {
        Ok(mut times) => {
            times.sort_by(f64::total_cmp);
            let at = |share: usize| times[(times.len() - 1) * share / 100];
            let (median, p99, max) = (at(50), at(99), at(100));
            println!("| {host} | {asked} | {way} | {} | {median:.0} | {p99:.0} | {max:.0} |", times.len());
        }
        Err(reason) => println!("| {host} | {asked} | {way} | - | - | - | {reason} |"),
    }
}

fn timed<T>(call: impl FnOnce() -> Result<T, String>) -> Result<(f64, T), String> {
    let begin = Instant::now();
    let result = call()?;
    Ok((begin.elapsed().as_secs_f64() * 1e6, result))
}

/// Over one connection that is kept.
fn ours(client: &mut Client, name: &str, mac: &str) -> Times {
    let path = format!("/api/v1/lookup?mac={mac}");
    let mut ask = || {
        let answer = client.get(&path, false).map_err(|error| error.to_string())?;
        if answer.status == 200 { Ok(()) } else { Err(format!("HTTP status {}", answer.status)) }
    };
    let times = (0..REQUESTS).map(|_| timed(&mut ask).map(|(time, ())| time)).collect();
    let body = client.get(&path, false).and_then(|answer| answer.body()).map_err(|error| error.to_string())?;
    // What is measured has to be the answer.
    if String::from_utf8_lossy(&body).contains(&format!("\"name\":\"{name}\"")) {
        times
    } else {
        Err("not found".to_owned())
    }
}

/// A virsh for the list and one for each domain, until one has it.
fn each_with_virsh(uri: &str, names: &[&str], mac: &str, tries: usize) -> Times {
    // With very many that takes minutes: of those a hundredth is asked, and a hundred times the time is said.
    let share = if names.len() > 1_000 { 100 } else { 1 };
    let lookup = || {
        run("virsh", &["-q", "-r", "-c", uri, "list", "--all", "--name"])?;
        for name in names.iter().take(names.len() / share) {
            if mac_of(uri, name)?.as_deref() == Some(mac) {
                return Ok(1.0);
            }
        }
        #[allow(clippy::cast_precision_loss)] // A hundred.
        Ok(share as f64)
    };
    (0..tries).map(|_| timed(lookup).map(|(time, share)| time * share)).collect()
}

fn python(uri: &str, mac: &str, tries: usize) -> Times {
    let text = run("/usr/bin/python3", &["-c", PYTHON, uri, mac, &tries.to_string()])?;
    text.lines().map(|line| line.parse().map_err(|error| format!("{line:?}: {error}"))).collect()
}

fn mac_of(uri: &str, name: &str) -> Result<Option<String>, String> {
    let xml = run("virsh", &["-q", "-r", "-c", uri, "dumpxml", name])?;
    let (_, after) = xml.split_once("<mac address='").map_or(("", ""), |parts| parts);
    Ok(after.split_once('\'').map(|(mac, _)| mac.to_owned()))
}

fn run(program: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).output().map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()))
}

/// Shut-off guests, undefined when this is dropped.
struct Defined(Vec<String>);

impl Defined {
    fn new() -> Result<Self, String> {
        let mut defined = Self(Vec::new());
        for number in 1..=SHUT_OFF {
            let name = format!("zz-bench-{number}");
            let xml = format!(
                "<domain type='qemu'><name>{name}</name><memory>16384</memory><os><type arch='x86_64'>hvm</type></os>\
                 <devices><interface type='ethernet'><mac address='52:54:00:be:0c:{number:02x}'/></interface></devices></domain>"
            );
            let virsh = ["-q", "-c", URI, "define", "/dev/stdin"];
            let child = Command::new("virsh").args(virsh).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
            let mut child = child.map_err(|error| format!("virsh: {error}"))?;
            let mut stdin = child.stdin.take().ok_or("no pipe")?;
            stdin.write_all(xml.as_bytes()).map_err(|error| error.to_string())?;
            drop(stdin);
            if !child.wait().map_err(|error| error.to_string())?.success() {
                return Err("guests cannot be defined; is libvirtd running? `make lab-up N=2` starts it".to_owned());
            }
            defined.0.push(name);
        }
        Ok(defined)
    }
}

impl Drop for Defined {
    fn drop(&mut self) {
        for name in &self.0 {
            let _ = run("virsh", &["-q", "-c", URI, "undefine", name]);
        }
    }
}
