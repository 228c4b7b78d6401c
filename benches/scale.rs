//! What the daemon costs as the host grows, against the simulated libvirtd: `cargo bench --bench scale`.
//!
//! The simulator runs in this process, the daemon is the real binary with its defaults, and a scraper asks for compressed
//! metrics once a period, as Prometheus does. Everything is on the same CPUs.
//!
//! - `VIRTSTATD_BENCH_GUESTS=1000,10000`: other numbers of guests than 10, 100, 1,000 and 10,000
//! - `VIRTSTATD_BENCH_PERIOD=5`: another sampling period than 15 s
//! - `VIRTSTATD_BENCH_PLOT=docs/scale.svg`: where to draw the cost of a guest

#[path = "support/chosen.rs"]
mod chosen;
#[allow(dead_code)] // Every scrape here is on one connection.
#[path = "support/client.rs"]
mod client;
#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/footprint.rs"]
mod footprint;
#[path = "support/plot.rs"]
mod plot;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use virtstat_sim::{Settings, Simulator};
use virtstatd::config::defaults;

use chosen::is_wanted;
use client::Client;
use daemon::Daemon;
use footprint::{Watch, cpu_time};

/// The numbers of guests.
const GUESTS: [u32; 4] = [10, 100, 1_000, 10_000];
/// Periods over which CPU time is counted: one full minute of the default period, so that what is done once a minute counts
/// once.
const PERIODS: u32 = 4;
/// What takes longer to be ready has failed.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() -> ExitCode {
    if !is_wanted("scale") {
        return ExitCode::SUCCESS;
    }
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    let period = period();
    println!("{cpus} CPUs, a sample and a compressed scrape every {} s\n", period.as_secs());
    println!(
        "| guests | series | MB plain / gzip | first complete, s | daemon's CPU, % of a core | µs a guest and period | RssAnon, MB | scrape, ms | oldest sample, s | simulator's and scraper's CPU, % |"
    );
    println!(
        "|-------:|-------:|----------------:|------------------:|--------------------------:|----------------------:|------------:|-----------:|-----------------:|---------------------------------:|"
    );
    let mut points = Vec::new();
    for guests in guests() {
        let measured = measure(guests, period);
        measured.print(guests);
        points.push((f64::from(guests), measured.per_guest(guests)));
    }
    if let Ok(path) = std::env::var("VIRTSTATD_BENCH_PLOT") {
        plot::draw(&path, &points);
        println!("\n{path} shows it");
    }
    ExitCode::SUCCESS
}

fn period() -> Duration {
    let seconds = std::env::var("VIRTSTATD_BENCH_PERIOD").ok().and_then(|text| text.parse().ok());
    seconds.filter(|seconds| *seconds > 0).map_or(defaults::PERIOD, Duration::from_secs)
}

fn guests() -> Vec<u32> {
    let text = std::env::var("VIRTSTATD_BENCH_GUESTS").unwrap_or_default();
    let numbers: Vec<u32> = text.split(',').filter_map(|number| number.trim().parse().ok()).collect();
    if numbers.is_empty() { GUESTS.to_vec() } else { numbers }
}

struct Measured {
    period: Duration,
    series: usize,
    plain: usize,
    gzip: usize,
    complete: Duration,
    /// Shares of one core.
    own: f64,
    rest: f64,
    rss_anon: u64,
    scrape: Duration,
    oldest: f64,
}

impl Measured {
    fn per_guest(&self, guests: u32) -> f64 {
        self.own * self.period.as_secs_f64() * 1e6 / f64::from(guests)
    }

    fn print(&self, guests: u32) {
        let mb = |bytes: usize| bytes as f64 / 1e6;
        println!(
            "| {guests} | {} | {:.2} / {:.2} | {:.2} | {:.2} | {:.0} | {:.1} | {:.0} | {:.1} | {:.1} |",
            self.series,
            mb(self.plain),
            mb(self.gzip),
            self.complete.as_secs_f64(),
            self.own * 100.0,
            self.per_guest(guests),
            self.rss_anon as f64 / 1e6,
            self.scrape.as_secs_f64() * 1e3,
            self.oldest,
            self.rest * 100.0,
        );
    }
}

fn measure(guests: u32, period: Duration) -> Measured {
    let directory = tempfile::tempdir().expect("a directory for the socket");
    let settings = Settings { domains: guests, ..Settings::new(directory.path().join("libvirt")) };
    let simulator = Simulator::start(settings).expect("the simulator starts");
    let config = directory.path().join("virtstatd.toml");
    let text = format!("[sampling]\nperiod = \"{} s\"\n", period.as_secs());
    std::fs::write(&config, text).expect("a file in a directory of our own");
    let begin = Instant::now();
    let daemon = Daemon::start(&["--uri", &simulator.uri(), "--config", &config.to_string_lossy()]);
    let mut client = Client::connect(daemon.address).expect("it listens");
    while client.get("/-/ready", false).expect("it answers").status != 200 {
        assert!(begin.elapsed() < PATIENCE, "not ready after {PATIENCE:?}");
        thread::sleep(Duration::from_millis(20));
    }
    let complete = begin.elapsed();
    let watch = Watch::start(daemon.child.id());
    let mut scrape = Duration::ZERO;
    let mut gzip = 0;
    // The first one makes it compress from then on.
    client.get("/metrics", true).expect("it answers");
    thread::sleep(period);
    let (own, rest, from) = (cpu_time(daemon.child.id()), cpu_time(std::process::id()), Instant::now());
    for turn in 1..=PERIODS {
        let asked = Instant::now();
        gzip = client.get("/metrics", true).expect("it answers").body().expect("a whole answer").len();
        scrape = scrape.max(asked.elapsed());
        thread::sleep((from + period * turn).saturating_duration_since(Instant::now()));
    }
    let elapsed = from.elapsed().as_secs_f64();
    let share = |now: Duration, before: Duration| (now - before).as_secs_f64() / elapsed;
    let own = share(cpu_time(daemon.child.id()), own);
    let rest = share(cpu_time(std::process::id()), rest);
    // What the largest answer takes counts as well.
    let (mut series, mut plain, mut oldest) = (0, 0, 0.0_f64);
    let body = client.get("/metrics", false).expect("it answers").body().expect("a whole answer");
    for line in String::from_utf8_lossy(&body).lines() {
        plain += line.len() + 1;
        series += usize::from(!line.starts_with('#'));
        if line.starts_with("libvirt_domain_sample_age_seconds{") && !line.contains("block_info") {
            let age = line.rsplit_once(' ').and_then(|(_, age)| age.parse().ok());
            oldest = oldest.max(age.expect("an age"));
        }
    }
    Measured { period, series, plain, gzip, complete, own, rest, rss_anon: watch.most(), scrape, oldest }
}
