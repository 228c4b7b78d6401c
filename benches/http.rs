//! How many answers a second: one domain's JSON at 500 connections, with 10 guests and with 10,000: `cargo bench --bench http`.
//!
//! `wrk` asks, on the same machine, for the same ten domains in turn; rounds of both daemons alternate, so that what else the
//! machine does falls on both. Beside them nginx sends a file of the same length, where it is installed: what this machine
//! and `wrk` leave possible.

#[path = "support/chosen.rs"]
mod chosen;
#[path = "support/daemon.rs"]
mod daemon;
#[allow(dead_code)] // Only CPU time is looked at.
#[path = "support/footprint.rs"]
mod footprint;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use virtstat_sim::{Settings, Simulator};

use chosen::is_wanted;
use daemon::Daemon;

const CONNECTIONS: &str = "-c500";
const GUESTS: [u32; 2] = [10, 10_000];
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(120);

/// A host, and who samples it.
struct Host {
    guests: u32,
    daemon: Daemon,
    _simulator: Simulator,
    _directory: tempfile::TempDir,
}

impl Host {
    fn start(guests: u32) -> Self {
        let directory = tempfile::tempdir().expect("a directory for the socket");
        let settings = Settings { domains: guests, ..Settings::new(directory.path().join("libvirt")) };
        let simulator = Simulator::start(settings).expect("the simulator starts");
        let daemon = Daemon::start(&["--uri", &simulator.uri()]);
        let begin = Instant::now();
        while !get(daemon.address, "/-/ready").starts_with("HTTP/1.0 200") {
            assert!(begin.elapsed() < PATIENCE, "not ready");
            thread::sleep(Duration::from_millis(100));
        }
        Self { guests, daemon, _simulator: simulator, _directory: directory }
    }

    /// The UUIDs of the first guests, which are the same on both hosts.
    fn uuids(&self) -> Vec<String> {
        let body = get(self.daemon.address, "/api/v1/domains?fields=uuid,name");
        let json: serde_json::Value =
            serde_json::from_str(body.split("\r\n\r\n").nth(1).expect("a body")).expect("JSON");
        let domains = json["domains"].as_array().expect("a list");
        domains.iter().map(|domain| domain["uuid"].as_str().expect("text").to_owned()).collect()
    }
}

/// One request on a connection of its own.
fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    // HTTP/1.0, so that a long answer does not come in chunks.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: x\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

/// Requests a second, as `wrk` counts them.
fn wrk(address: SocketAddr, script: &Path) -> f64 {
    let mut command = Command::new("wrk");
    command.args(["-t2", CONNECTIONS, &format!("-d{}s", ROUND.as_secs()), "-s"]).arg(script);
    let output = command.arg(format!("http://{address}/")).output().expect("wrk is installed (Debian's package wrk)");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!text.contains("Non-2xx") && !text.contains("Socket errors"), "{text}");
    let line = text.lines().find_map(|line| line.strip_prefix("Requests/sec:")).unwrap_or_else(|| panic!("{text}"));
    line.trim().parse().expect("a number")
}

/// nginx with as many workers as we have threads.
struct Nginx {
    child: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Nginx {
    fn start(length: usize) -> Option<Self> {
        let directory = tempfile::tempdir().expect("a directory");
        let root = directory.path();
        fs::write(root.join("body"), vec![b'x'; length]).expect("written");
        let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
        let text = format!(
            "daemon off; worker_processes 2; pid {0}/pid; error_log /dev/null; events {{ worker_connections 2048; }}\n\
             http {{ access_log off; keepalive_requests 1000000000; open_file_cache max=10;\n\
             server {{ listen {address} reuseport; location / {{ root {0}; }} }} }}",
            root.display()
        );
        fs::write(root.join("conf"), text).expect("written");
        // Its workers are other users, who may read nothing in here otherwise.
        let _ = Command::new("chmod").args(["-R", "a+rX"]).arg(root).status();
        let mut command = Command::new("nginx");
        let child = command.arg("-c").arg(root.join("conf")).stderr(Stdio::null()).spawn().ok()?;
        let nginx = Self { child, address, _directory: directory };
        let begin = Instant::now();
        while TcpStream::connect(address).is_err() {
            if begin.elapsed() > Duration::from_secs(5) {
                return None;
            }
            thread::sleep(Duration::from_millis(50));
        }
        Some(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It ends its workers.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() -> ExitCode {
    if !is_wanted("http") {
        return ExitCode::SUCCESS;
    }
    let hosts = GUESTS.map(Host::start);
    let (few, many) = (hosts[0].uuids(), hosts[1].uuids());
    let uuids: Vec<&String> = few.iter().filter(|uuid| many.contains(uuid)).collect();
    assert_eq!(uuids.len(), GUESTS[0] as usize, "the same guests are on both hosts");
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, paths: &[String]| {
        let path = directory.path().join(name);
        let list = paths.iter().map(|path| format!("{path:?}")).collect::<Vec<_>>().join(",");
        let script = format!(
            "local paths = {{{list}}}\nlocal made = {{}}\nlocal at = 0\n\
             init = function() for i, path in ipairs(paths) do made[i] = wrk.format('GET', path) end end\n\
             request = function() at = at % #made + 1 return made[at] end\n"
        );
        fs::write(&path, script).expect("written");
        path
    };
    let paths: Vec<String> = uuids.iter().map(|uuid| format!("/api/v1/domains/{uuid}")).collect();
    let ours = write("domains.lua", &paths);
    let file = write("file.lua", &["/body".to_owned()]);
    let lengths: Vec<usize> = paths.iter().map(|path| get(hosts[0].daemon.address, path).len()).collect();
    let length = lengths.iter().sum::<usize>() / lengths.len();
    let nginx = Nginx::start(length);
    println!("{} domains in turn, {length} bytes an answer with its head, on average", paths.len());

    let mut rates: [Vec<f64>; 3] = Default::default();
    let mut costs: [Vec<f64>; 2] = Default::default();
    for _ in 0..ROUNDS {
        for (place, host) in hosts.iter().enumerate() {
            let before = footprint::cpu_time(host.daemon.child.id());
            let rate = wrk(host.daemon.address, &ours);
            let took = footprint::cpu_time(host.daemon.child.id()) - before;
            rates[place].push(rate);
            costs[place].push(took.as_secs_f64() * 1e6 / (rate * ROUND.as_secs_f64()));
        }
        if let Some(nginx) = &nginx {
            rates[2].push(wrk(nginx.address, &file));
        }
    }
    println!(
        "| who | requests a second: median | least | most | daemon's CPU, µs a request |\n|---|---:|---:|---:|---:|"
    );
    let row = |who: &str, rates: &[f64], cost: Option<f64>| {
        let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
        let most = rates.iter().copied().fold(0.0, f64::max);
        let cost = cost.map_or("-".to_owned(), |cost| format!("{cost:.1}"));
        println!("| {who} | {:.0} | {least:.0} | {most:.0} | {cost} |", median(rates.to_vec()));
    };
    for (place, host) in hosts.iter().enumerate() {
        row(&format!("virtstatd, {} guests", host.guests), &rates[place], Some(median(costs[place].clone())));
    }
    match nginx {
        Some(_) => row("nginx, a file", &rates[2], None),
        None => eprintln!("nginx, a file: not tried, nginx does not start (Debian's package nginx-light)"),
    }
    let share = median(rates[1].clone()) / median(rates[0].clone());
    println!("with {} guests {:.1} % of what it is with {}", GUESTS[1], share * 100.0, GUESTS[0]);
    ExitCode::SUCCESS
}
