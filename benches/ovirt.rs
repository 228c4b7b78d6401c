//! What a poll of all VMs takes that asks in VDSM's words, over both carriers, beside our own list: `cargo bench --bench ovirt`.
//!
//! On 10,000 simulated guests (`VIRTSTATD_BENCH_GUESTS`), which are sampled meanwhile. The ways take turns, on connections that are
//! new each time, as oVirt's client does it. Memory is anonymous: the most that was seen while a way was at it, beside that before
//! the first poll.

#[path = "support/chosen.rs"]
mod chosen;
#[path = "support/client.rs"]
#[allow(dead_code)] // Of answers only the end is waited for.
mod client;
#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/footprint.rs"]
#[allow(dead_code)] // Memory alone.
mod footprint;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use virtstat_sim::{Settings, Simulator};

use chosen::is_wanted;
use client::Client;
use daemon::Daemon;
use footprint::{Watch, rss_anon};

const GUESTS: u32 = 10_000;
const ROUNDS: usize = 12;
const PATIENCE: Duration = Duration::from_secs(120);
const REQUEST: &str = r#"[{"jsonrpc":"2.0","method":"Host.getAllVmStats","params":{},"id":"1"}]"#;

type Way = fn(SocketAddr, SocketAddr) -> std::io::Result<Vec<u8>>;

const WAYS: [(&str, Way); 4] = [
    ("/api/v1/domains", |http, _| get(http, "/api/v1/domains")),
    ("/api/v1/vdsm/vms", |http, _| get(http, "/api/v1/vdsm/vms")),
    ("Host.getAllVmStats, POST /jsonrpc", |http, _| Client::connect(http)?.post("/jsonrpc", REQUEST)?.body()),
    ("Host.getAllVmStats, STOMP", |_, stomp| poll(stomp)),
];

fn main() -> ExitCode {
    if !is_wanted("ovirt") {
        return ExitCode::SUCCESS;
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> std::io::Result<()> {
    let guests = std::env::var("VIRTSTATD_BENCH_GUESTS").ok().and_then(|text| text.parse().ok()).unwrap_or(GUESTS);
    let directory = tempfile::tempdir()?;
    let simulator = Simulator::start(Settings { domains: guests, ..Settings::new(directory.path().join("libvirt")) })
        .map_err(std::io::Error::other)?;
    let stomp = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let config = directory.path().join("virtstatd.toml");
    std::fs::write(&config, format!("[vdsm]\nstomp-listen = [\"{stomp}\"]\n"))?;
    let daemon = Daemon::start(&["--uri", &simulator.uri(), "--config", &config.to_string_lossy()]);
    let begin = Instant::now();
    while Client::connect(daemon.address)?.get("/-/ready", false)?.status != 200 {
        if begin.elapsed() > PATIENCE {
            return Err(std::io::Error::other("the daemon is not ready"));
        }
        thread::sleep(Duration::from_millis(50));
    }
    // Two turns, so that there are rates, and memory is what it will be.
    thread::sleep(Duration::from_secs(35));
    let pid = daemon.child.id();
    let before = rss_anon(pid).unwrap_or_default();
    let mut rows = WAYS.map(|(name, _)| (name, Vec::new(), 0, 0));
    for _ in 0..ROUNDS {
        for ((_, way), (_, times, bytes, most)) in WAYS.iter().zip(&mut rows) {
            let watch = Watch::start(pid);
            let begin = Instant::now();
            let answer = way(daemon.address, stomp)?;
            times.push(begin.elapsed().as_secs_f64() * 1e3);
            check(&answer, guests)?;
            *bytes = answer.len();
            *most = watch.most().max(*most);
            drop(watch);
            thread::sleep(Duration::from_millis(300));
        }
    }
    println!("{guests} guests; before: {} MB\n", before / 1_000_000);
    println!("| way | median, ms | max, ms | MB | memory meanwhile, MB |\n|---|---:|---:|---:|---:|");
    for (name, mut times, bytes, most) in rows {
        times.sort_by(f64::total_cmp);
        let (median, max) = (times[times.len() / 2], times[times.len() - 1]);
        #[allow(clippy::cast_precision_loss)] // Some tens of millions.
        let megabytes = bytes as f64 / 1e6;
        println!("| {name} | {median:.0} | {max:.0} | {megabytes:.1} | {} |", most / 1_000_000);
    }
    Ok(())
}

/// What is measured has to be the answer.
fn check(answer: &[u8], guests: u32) -> std::io::Result<()> {
    let text = String::from_utf8_lossy(answer);
    let found = text.matches("\"vmId\":").count().max(text.matches("\"uuid\":").count());
    if found == guests as usize {
        Ok(())
    } else {
        Err(std::io::Error::other(format!("{found} guests are in the answer")))
    }
}

fn get(http: SocketAddr, path: &str) -> std::io::Result<Vec<u8>> {
    Client::connect(http)?.get(path, false)?.body()
}

/// What vdsm-client does: three frames, and then the end of the answer is waited for.
fn poll(stomp: SocketAddr) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(stomp)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let length = REQUEST.len();
    stream.write_all(
        format!(
            "CONNECT\naccept-version:1.2\nheart-beat:0,24000\n\n\0SUBSCRIBE\ndestination:answers\nack:auto\nid:1\n\n\0\
             SEND\ndestination:jms.topic.vdsm_requests\ncontent-type:application/json\nreply-to:answers\ncontent-length:{length}\n\n{REQUEST}\0"
        )
        .as_bytes(),
    )?;
    // CONNECTED ends with the first NUL, the answer with the second.
    let (mut all, mut filled, mut ends) = (vec![0; 1 << 20], 0, 0);
    while ends < 2 {
        if filled == all.len() {
            all.resize(2 * filled, 0);
        }
        match stream.read(&mut all[filled..])? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => {
                ends += all[filled..filled + count].iter().filter(|byte| **byte == 0).count();
                filled += count;
            }
        }
    }
    all.truncate(filled);
    Ok(all)
}
