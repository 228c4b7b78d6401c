//! What a fault costs whom, side by side with Debian's prometheus-libvirt-exporter, for docs/faults.md:
//! `VIRTSTATD_LAB=1 cargo bench --bench faults`, as root.
//!
//! It freezes guests and libvirtd itself, so it does nothing unless it is told that this host is a laboratory.

#[path = "../tests/support/mod.rs"]
mod support;

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::daemon::{Daemon, config_file, try_request};
use support::exposition::{find, parse};
use support::lab::{self, Lab, guest};
use support::libvirtd::{BusyWorkers, Libvirtd, busy_workers};
use support::wait_for;
use support::watch::Watcher;

const GUESTS: usize = 40;

/// These are well all the time; what they lose is what the fault costs others.
const HEALTHY: usize = 20;

const PERIOD: Duration = Duration::from_secs(2);
const CONFIG: &str = "[sampling]\nperiod = '2s'\n";
const PHASE: Duration = Duration::from_secs(30);

/// Prometheus' own.
const SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);

const EXPORTER: &str = "prometheus-libvirt-exporter";

/// What no fault of a single guest should stop, and what needs each guest's QEMU.
const GROUPS: &[&str] = &["state", "cpu", "vcpu", "interface", "block", "balloon"];

type Fault = fn(&Lab, &Libvirtd<'_>);

const FAULTS: &[(&str, Fault)] = &[
    ("none", |_, _| {}),
    ("one guest frozen", |lab, _| lab.freeze(&guest(GUESTS))),
    ("twenty guests frozen", |lab, _| lab.freeze_many(&(HEALTHY + 1..=GUESTS).map(guest).collect::<Vec<_>>())),
    ("libvirtd stopped", |_, libvirtd| libvirtd.freeze()),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let given = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let chosen = arguments.iter().filter(|argument| !argument.starts_with('-')).all(|name| "faults".contains(&**name));
    if !given("--bench") || given("--test") || given("--list") || !chosen {
        return ExitCode::SUCCESS;
    }
    if std::env::var("VIRTSTATD_LAB").as_deref() != Ok("1") {
        // No failure: a plain `cargo bench` runs this file too.
        eprintln!("faults: it would freeze guests and libvirtd; VIRTSTATD_LAB=1 says that this host is for that");
        return ExitCode::SUCCESS;
    }
    let Some(lab) = lab::enter_with(GUESTS) else { return ExitCode::FAILURE };
    let libvirtd = Libvirtd::of(&lab);
    let seconds = |time: Duration| time.as_secs();
    println!("{GUESTS} guests, a sample or scrape every {} s, {} s a fault\n", seconds(PERIOD), seconds(PHASE));
    println!(
        "| fault | program | scrapes answered | ms, median / 99 of 100 | samples lost by the healthy | calls open |"
    );
    println!("|---|---|---:|---:|---:|---:|");
    for (fault, begin) in FAULTS {
        for (program, measure) in [("virtstatd", ours as fn(&dyn Fn()) -> Measured), (EXPORTER, theirs)] {
            let measured = measure(&|| begin(&lab, &libvirtd));
            println!("| {fault} | {program} | {} |", measured.cells());
            // The end of the fault, and of all that it left at libvirtd.
            libvirtd.thaw();
            lab.thaw();
            wait_for("libvirtd to be at rest", || (busy_workers()? <= 1).then_some(()));
        }
    }
    ExitCode::SUCCESS
}

/// What one program did during one fault.
struct Measured {
    answered: usize,
    asked: usize,
    /// Milliseconds, of those that were answered.
    latencies: Vec<f64>,
    /// Of those that were due, in percent.
    lost: f64,
    busy: u32,
}

impl Measured {
    fn cells(mut self) -> String {
        self.latencies.sort_by(f64::total_cmp);
        let percentile = |percent: usize| match self.latencies.len() {
            0 => "-".to_owned(),
            count => format!("{:.1}", self.latencies[(count * percent).div_ceil(100).max(1) - 1]),
        };
        let (middle, most) = (percentile(50), percentile(99));
        format!("{} of {} | {middle} / {most} | {:.0} % | {}", self.answered, self.asked, self.lost, self.busy)
    }
}

fn ours(fault: &dyn Fn()) -> Measured {
    let (_directory, path) = config_file(CONFIG);
    let daemon = Daemon::start(&["--config", &path]);
    let watcher = Watcher::start(&daemon);
    daemon.wait_ready();
    let healthy: Vec<String> = (1..=HEALTHY).map(guest).collect();
    watcher.wait_for_samples(&healthy, GROUPS, watcher.now());
    fault();
    let (from, counting) = (watcher.now(), BusyWorkers::start());
    watcher.observe(PHASE);
    let (to, busy) = (watcher.now(), counting.finish().most);
    let seen = watcher.seen();
    let latencies: Vec<f64> = seen
        .scrapes
        .iter()
        .filter(|scrape| scrape.at >= from && scrape.at < to)
        .map(|scrape| scrape.took * 1e3)
        .collect();
    // A sample shows when its call has returned, so the last one that was due may yet come.
    let due = ((to - from) / PERIOD.as_secs_f64()).floor() as usize - 1;
    let pairs = healthy.iter().flat_map(|name| GROUPS.iter().map(move |group| (name, group)));
    let had: Vec<usize> = pairs.map(|(name, group)| seen.count(name, group, from, to).min(due)).collect();
    let lost = 100.0 * (1.0 - had.iter().sum::<usize>() as f64 / (had.len() * due) as f64);
    let answered = latencies.len();
    // Whoever watches starts with the daemon, and the daemon was ready long before the fault.
    Measured { answered, asked: answered + seen.failures.len(), latencies, lost, busy }
}

/// It samples when it is scraped: once a period, as Prometheus does it, and no second scrape before the first has ended.
fn theirs(fault: &dyn Fn()) -> Measured {
    let program = Exporter::start();
    wait_for("the exporter", || try_request(program.address, "GET", "/metrics", &[], SCRAPE_TIMEOUT).ok());
    fault();
    let counting = BusyWorkers::start();
    let begin = Instant::now();
    let (mut asked, mut latencies, mut had) = (0, Vec::new(), 0);
    while begin.elapsed() < PHASE {
        let sent = Instant::now();
        asked += 1;
        if let Ok(answer) = try_request(program.address, "GET", "/metrics", &[], SCRAPE_TIMEOUT)
            && answer.status == 200
        {
            latencies.push(sent.elapsed().as_secs_f64() * 1e3);
            let series = parse(answer.text());
            let time = "libvirt_domain_info_cpu_time_seconds_total";
            had +=
                (1..=HEALTHY).filter(|number| !find(&series, time, &[("domain", &guest(*number))]).is_empty()).count();
        }
        thread::sleep(PERIOD.saturating_sub(sent.elapsed()));
    }
    let due = HEALTHY * (begin.elapsed().as_secs() / PERIOD.as_secs()) as usize;
    let lost = 100.0 * (1.0 - had.min(due) as f64 / due as f64);
    Measured { answered: latencies.len(), asked, latencies, lost, busy: counting.finish().most }
}

/// The exporter on a port of its own; killed when dropped.
struct Exporter {
    child: Child,
    address: SocketAddr,
}

impl Exporter {
    fn start() -> Self {
        // It cannot say which port it got, so it is told one that was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
        let mut command = Command::new(EXPORTER);
        let command = command.arg(format!("--web.listen-address={address}")).arg("--libvirt.uri=qemu:///system");
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self { child: child.expect("the exporter is installed (apt-get install prometheus-libvirt-exporter)"), address }
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
