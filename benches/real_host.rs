//! Footprint and latency on the libvirtd of this host, side by side with Debian's prometheus-libvirt-exporter:
//! `cargo bench --bench real_host`, best after `make lab-up N=60`.
//!
//! Both run in one go, one after the other, against the same guests. A figure that could not be had is a dash, with the
//! reason below the table.

#[path = "support/chosen.rs"]
mod chosen;
#[allow(dead_code)] // Nothing is sent but requests without bodies.
#[path = "support/client.rs"]
mod client;

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use virtstatd::config::defaults;
use virtstatd::libvirt::LibvirtFactory;
use virtstatd::model::{BulkRequest, Group, Scope, SourceFactory as _};

use chosen::is_wanted;
use client::Client;

const URI: &str = "qemu:///system";

/// The sampling period: the default one, or as many seconds as this variable says. The shorter, the more scrapes fall into
/// the moments in which libvirtd and all guests are busy with a sample.
fn period() -> Duration {
    let seconds = std::env::var("VIRTSTATD_BENCH_PERIOD").ok().and_then(|text| text.parse().ok());
    seconds.filter(|seconds| *seconds > 0).map_or(defaults::PERIOD, Duration::from_secs)
}

/// Between scrapes, so that they are spread over several periods and meet a server at rest, as real ones do.
const PAUSE: Duration = Duration::from_millis(25);

/// How long CPU time is watched, while nobody scrapes more than needed: several samples, and what else a minute brings.
fn quiet() -> Duration {
    (period() * 4).max(Duration::from_secs(20))
}

/// What takes longer to answer is not fit to be measured.
const PATIENCE: Duration = Duration::from_secs(60);

const EXPORTER: &str = "prometheus-libvirt-exporter";

/// How many scrapes of each kind.
struct Counts {
    kept: usize,
    fresh: usize,
    gzip: usize,
}

/// A scrape takes a fraction of a millisecond.
const OURS: Counts = Counts { kept: 2_000, fresh: 500, gzip: 500 };
/// Each scrape waits for libvirt.
const THEIRS: Counts = Counts { kept: 100, fresh: 25, gzip: 25 };

fn main() -> ExitCode {
    if !is_wanted("real_host") {
        return ExitCode::SUCCESS;
    }
    let guests = match running_guests() {
        Ok(0) => return refuse("no guest is running"),
        Ok(guests) => guests,
        Err(reason) => return refuse(&reason),
    };
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    println!("{guests} running guests on {URI}, {cpus} CPUs, a sample every {} s\n", period().as_secs());
    let libvirtd = Process::named(&["libvirtd", "virtqemud"]);
    let idle = Watch::start(libvirtd);
    thread::sleep(quiet() / 2);
    let idle = idle.spent().map(|spent| spent.as_secs_f64() * 1e3 / (quiet() / 2).as_secs_f64());
    print_table(&[("virtstatd", ours(libvirtd)), (EXPORTER, theirs(libvirtd))]);
    if let Ok(idle) = idle {
        println!(
            "\nlibvirtd alone, before both: {idle:.1} ms of CPU time a second; it is in libvirtd's figures above."
        );
    }
    ExitCode::SUCCESS
}

/// No failure: a plain `cargo bench` runs this file too, on machines that have no guests.
fn refuse(reason: &str) -> ExitCode {
    eprintln!("real_host: {reason}; nothing was measured. `make lab-up N=60` brings up guests to measure on.");
    ExitCode::SUCCESS
}

fn running_guests() -> Result<usize, String> {
    let (sender, receiver) = mpsc::channel();
    // Opening a libvirtd that hangs never ends, so a thread of its own is left behind with it.
    thread::spawn(move || {
        let request = BulkRequest { groups: [Group::State].into_iter().collect(), scope: Scope::All };
        let factory = LibvirtFactory::new(URI.to_owned());
        sender.send(factory.open().and_then(|mut source| source.bulk(&request)))
    });
    match receiver.recv_timeout(PATIENCE) {
        Ok(Ok(reply)) => Ok(reply.records.len()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("{URI} did not answer within {} s", PATIENCE.as_secs())),
    }
}

// ---- the table ------------------------------------------------------------------------------------------------------

/// What was measured of one program.
struct Measured {
    kept: Latencies,
    fresh: Latencies,
    gzip: Latencies,
    text: String,
    gzip_bytes: usize,
    /// /proc/PID/status before the first scrape and after the last.
    before: Status,
    after: Status,
    /// CPU time of one sample of all guests: the program's own, and libvirtd's.
    own_cpu: Figure,
    libvirtd_cpu: Figure,
}

/// A figure, or why there is none.
type Figure<T = Duration> = Result<T, String>;

struct Row {
    label: &'static str,
    read: fn(&Measured) -> Figure<String>,
}

const fn row(label: &'static str, read: fn(&Measured) -> Figure<String>) -> Row {
    Row { label, read }
}

static ROWS: &[Row] = &[
    row("series", |m| Ok(m.text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count().to_string())),
    row("bytes, plain / gzip", |m| Ok(format!("{} / {}", m.text.len(), m.gzip_bytes))),
    row("scrapes, kept connection / new ones / gzip", |m| {
        Ok([&m.kept, &m.fresh, &m.gzip].map(|latencies| latencies.0.len().to_string()).join(" / "))
    }),
    row("µs, kept connection: min / median / p90 / p99 / max", |m| Ok(m.kept.summary())),
    row("µs, new connections: min / median / p90 / p99 / max", |m| Ok(m.fresh.summary())),
    row("µs, kept, gzip: min / median / p90 / p99 / max", |m| Ok(m.gzip.summary())),
    row("own CPU per sample, ms", |m| millis(&m.own_cpu)),
    row("libvirtd CPU per sample, ms", |m| millis(&m.libvirtd_cpu)),
    row("RssAnon before scrapes / at the end, MB", |m| {
        Ok(format!("{} / {}", m.before.megabytes("RssAnon")?, m.after.megabytes("RssAnon")?))
    }),
    row("VmRSS at the end, MB", |m| m.after.megabytes("VmRSS")),
    row("threads at the end", |m| m.after.field("Threads").map(str::to_owned)),
];

fn millis(figure: &Figure) -> Figure<String> {
    figure.as_ref().map(|time| format!("{:.2}", time.as_secs_f64() * 1e3)).map_err(Clone::clone)
}

fn print_table(columns: &[(&str, Figure<Measured>)]) {
    let mut reasons: Vec<String> = Vec::new();
    let mut lines = vec![vec![String::new()]];
    lines[0].extend(columns.iter().map(|(name, _)| (*name).to_owned()));
    for row in ROWS {
        let mut line = vec![row.label.to_owned()];
        for (name, column) in columns {
            let figure = column
                .as_ref()
                .map_err(|reason| format!("{name}: {reason}"))
                .and_then(|measured| (row.read)(measured).map_err(|reason| format!("{name}, {}: {reason}", row.label)));
            line.push(figure.unwrap_or_else(|reason| {
                if !reasons.contains(&reason) {
                    reasons.push(reason);
                }
                "-".to_owned()
            }));
        }
        lines.push(line);
    }
    let width = |place: usize| lines.iter().map(|line| line[place].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..=columns.len()).map(width).collect();
    for (number, line) in lines.iter().enumerate() {
        let cells = line.iter().zip(&widths).enumerate().map(|(place, (cell, &width))| match place {
            0 => format!("| {cell:<width$} "),
            _ => format!("| {cell:>width$} "),
        });
        println!("{}|", cells.collect::<String>());
        if number == 0 {
            let rules = widths.iter().enumerate().map(|(place, width)| match place {
                0 => format!("|{:-<1$}", "", width + 2),
                _ => format!("|{:->1$}:", "", width + 1),
            });
            println!("{}|", rules.collect::<String>());
        }
    }
    for reason in reasons {
        println!("\n- {reason}");
    }
}

// ---- measuring ------------------------------------------------------------------------------------------------------

/// Sorted times.
struct Latencies(Vec<Duration>);

impl Latencies {
    fn of(count: usize, mut action: impl FnMut() -> Result<Duration, String>) -> Result<Self, String> {
        let mut time = || {
            thread::sleep(PAUSE);
            action()
        };
        let mut times = (0..count).map(|_| time()).collect::<Result<Vec<_>, _>>()?;
        times.sort_unstable();
        Ok(Self(times))
    }

    /// By nearest rank: a time that was measured, never one in between.
    fn percentile(&self, percent: usize) -> Duration {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0[rank - 1]
    }

    fn summary(&self) -> String {
        [0, 50, 90, 99, 100].map(|percent| self.percentile(percent).as_micros().to_string()).join(" / ")
    }
}

fn ours(libvirtd: Option<Process>) -> Figure<Measured> {
    let directory = tempfile::tempdir().map_err(text)?;
    let config = directory.path().join("virtstatd.toml");
    fs::write(&config, format!("[sampling]\nperiod = \"{}s\"\n", period().as_secs())).map_err(text)?;
    let mut command = Command::new(env!("CARGO_BIN_EXE_virtstatd"));
    command.arg("--config").arg(&config).args(["--uri", URI, "--listen", "127.0.0.1:0"]);
    let mut program = Program::start(&mut command)?;
    let address = program.address_in_log()?;
    wait_for(address, "/-/ready")?;

    let before = program.process.status()?;
    // So that no sample is cut in two by either end.
    thread::sleep(period() / 2);
    let samples = samples_taken(address)?;
    let (own, libvirtd) = (Watch::start(Some(program.process)), Watch::start(libvirtd));
    thread::sleep(quiet());
    let (own, libvirtd) = (own.spent(), libvirtd.spent());
    let samples = samples_taken(address)? - samples;
    if samples == 0 {
        return Err("it took no sample while it was watched".to_owned());
    }
    let cpu = (own.map(|spent| spent / samples), libvirtd.map(|spent| spent / samples));
    finish(&program, address, &OURS, before, cpu)
}

fn theirs(libvirtd: Option<Process>) -> Figure<Measured> {
    // It cannot say which port it got, so it is told one that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).map_err(text)?;
    let mut command = Command::new(EXPORTER);
    command.arg(format!("--web.listen-address={address}")).arg(format!("--libvirt.uri={URI}"));
    let program = Program::start(&mut command)?;
    wait_for(address, "/")?;

    let before = program.process.status()?;
    // It samples when it is scraped, and only then; at the same pace as ours, since a sample costs less right after another.
    let (own, libvirtd) = (Watch::start(Some(program.process)), Watch::start(libvirtd));
    let begin = Instant::now();
    let mut scrapes = 0;
    while begin.elapsed() < quiet() {
        get(&mut Client::connect(address).map_err(text)?, false)?;
        scrapes += 1;
        thread::sleep((period() * scrapes).saturating_sub(begin.elapsed()));
    }
    let cpu = (own.spent().map(|spent| spent / scrapes), libvirtd.spent().map(|spent| spent / scrapes));
    finish(&program, address, &THEIRS, before, cpu)
}

/// What is measured of both in the same way.
fn finish(
    program: &Program,
    address: SocketAddr,
    counts: &Counts,
    before: Status,
    (own_cpu, libvirtd_cpu): (Figure, Figure),
) -> Figure<Measured> {
    let kept = on_one_connection(address, counts.kept, false)?;
    let mut client = Client::connect(address).map_err(text)?;
    let fresh = Latencies::of(counts.fresh, || {
        let begin = Instant::now();
        client.reconnect().map_err(text)?;
        scrape(&mut client, false, begin)
    })?;
    let gzip = on_one_connection(address, counts.gzip, true)?;
    let body = |gzip| get(&mut Client::connect(address).map_err(text)?, gzip);
    let (plain, compressed) = (body(false)?, body(true)?);
    let after = program.process.status()?;
    let text = String::from_utf8(plain).map_err(text)?;
    Ok(Measured { kept, fresh, gzip, text, gzip_bytes: compressed.len(), before, after, own_cpu, libvirtd_cpu })
}

fn on_one_connection(address: SocketAddr, count: usize, gzip: bool) -> Result<Latencies, String> {
    let mut client = Client::connect(address).map_err(text)?;
    Latencies::of(count, || scrape(&mut client, gzip, Instant::now()))
}

fn scrape(client: &mut Client, gzip: bool, begin: Instant) -> Figure {
    let answer = client.get("/metrics", gzip).map_err(text)?;
    let took = begin.elapsed();
    expect_ok(answer.status)?;
    Ok(took)
}

fn get(client: &mut Client, gzip: bool) -> Result<Vec<u8>, String> {
    let answer = client.get("/metrics", gzip).map_err(text)?;
    expect_ok(answer.status)?;
    answer.body().map_err(text)
}

fn expect_ok(status: u16) -> Result<(), String> {
    if status == 200 { Ok(()) } else { Err(format!("/metrics answered {status}")) }
}

fn samples_taken(address: SocketAddr) -> Result<u32, String> {
    let body = get(&mut Client::connect(address).map_err(text)?, false)?;
    let series = "virtstatd_lane_runs_total{lane=\"monitor\",result=\"ok\"} ";
    let count = String::from_utf8_lossy(&body).lines().find_map(|line| line.strip_prefix(series)?.parse().ok());
    count.ok_or_else(|| format!("/metrics has no {series}"))
}

fn wait_for(address: SocketAddr, path: &str) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = Client::connect(address).and_then(|mut client| Ok(client.get(path, false)?.status));
        match status {
            Ok(200) => return Ok(()),
            _ if Instant::now() < deadline => thread::sleep(Duration::from_millis(50)),
            Ok(status) => return Err(format!("{path} still answers {status} after {} s", PATIENCE.as_secs())),
            Err(error) => return Err(format!("{path} does not answer: {error}")),
        }
    }
}

fn text(error: impl Into<Box<dyn std::error::Error>>) -> String {
    error.into().to_string()
}

// ---- processes ------------------------------------------------------------------------------------------------------

/// A program that ends with its owner, also in a panic.
struct Program {
    child: Child,
    process: Process,
    log: mpsc::Receiver<String>,
}

impl Program {
    fn start(command: &mut Command) -> Result<Self, String> {
        let name = command.get_program().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start {name}: {error}"))?;
        let process = Process(child.id());
        let (sender, log) = mpsc::channel();
        if let Some(stderr) = child.stderr.take() {
            // Read to the end, wanted or not: a full pipe would stop the program.
            thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Ok(Self { child, process, log })
    }

    fn address_in_log(&mut self) -> Result<SocketAddr, String> {
        let mut last = "nothing".to_owned();
        while let Ok(line) = self.log.recv_timeout(PATIENCE) {
            let address = line.split_once("listening on http://").map(|(_, rest)| rest);
            if let Some(address) = address.and_then(|rest| rest.split_whitespace().next()?.parse().ok()) {
                return Ok(address);
            }
            last = line;
        }
        Err(format!("it did not say where it listens; its last words: {last}"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Fails only if it is gone already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Clone, Copy)]
struct Process(u32);

impl Process {
    fn named(names: &[&str]) -> Option<Self> {
        fs::read_dir("/proc").ok()?.flatten().find_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            let name = fs::read_to_string(entry.path().join("comm")).ok()?;
            names.contains(&name.trim_end()).then_some(Self(pid))
        })
    }

    fn status(self) -> Result<Status, String> {
        fs::read_to_string(format!("/proc/{}/status", self.0)).map(Status).map_err(text)
    }

    /// CPU time of each thread so far, to the nanosecond; /proc/PID/stat counts in steps of 10 ms.
    fn cpu(self) -> Figure<HashMap<String, Duration>> {
        let threads = format!("/proc/{}/task", self.0);
        let entries = fs::read_dir(&threads).map_err(|error| format!("{threads}: {error}"))?;
        let mut times = HashMap::new();
        for entry in entries.flatten() {
            // A thread may end while this is read.
            let Ok(schedstat) = fs::read_to_string(entry.path().join("schedstat")) else { continue };
            let nanos = schedstat.split(' ').next().and_then(|nanos| nanos.parse().ok());
            if let Some(nanos) = nanos {
                times.insert(entry.file_name().to_string_lossy().into_owned(), Duration::from_nanos(nanos));
            }
        }
        if times.is_empty() { Err(format!("{threads} has no schedstat")) } else { Ok(times) }
    }
}

/// /proc/PID/status.
struct Status(String);

impl Status {
    fn field(&self, name: &str) -> Figure<&str> {
        let value = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.map(str::trim).ok_or_else(|| format!("/proc/PID/status has no {name}"))
    }

    fn megabytes(&self, name: &str) -> Figure<String> {
        let value = self.field(name)?;
        let kib: Option<f64> = value.strip_suffix(" kB").and_then(|number| number.parse().ok());
        kib.map(|kib| format!("{:.1}", kib * 1024.0 / 1e6)).ok_or_else(|| format!("{name} is {value:?}"))
    }
}

/// The CPU time of a process from one moment to another.
struct Watch(Figure<(Process, HashMap<String, Duration>)>);

impl Watch {
    fn start(process: Option<Process>) -> Self {
        let process = process.ok_or_else(|| "no such process was found".to_owned());
        Self(process.and_then(|process| Ok((process, process.cpu()?))))
    }

    /// Threads that ended meanwhile take their time with them.
    fn spent(&self) -> Figure {
        let (process, before) = self.0.as_ref().map_err(Clone::clone)?;
        let now = process.cpu()?;
        Ok(now.iter().map(|(thread, time)| time.saturating_sub(before.get(thread).copied().unwrap_or_default())).sum())
    }
}
