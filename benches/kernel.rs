//! What a sample of CPU, vCPUs, network and memory costs the host, read from the kernel and asked of libvirt, on the same
//! real guests: `VIRTSTATD_LAB=1 cargo bench --bench kernel`, as root.
//!
//! Counted is the CPU time of all who work for a sample: the daemon, libvirtd, and each guest's QEMU but for its vCPUs. What
//! libvirtd and QEMU use with no daemon at all is measured in each round, and taken off.

#[path = "support/chosen.rs"]
mod chosen;
#[path = "../tests/support/mod.rs"]
mod support;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use chosen::is_wanted;
use support::daemon::{Daemon, config_file};
use support::exposition::{parse, value};
use support::lab::{self, guest};
use support::wait_for;

/// A small host, and a full one.
const SIZES: [usize; 2] = [60, 200];

/// Both ways in turn, so that what else happens on the machine falls on both.
const ROUNDS: usize = 3;

const PERIOD: Duration = Duration::from_secs(1);
const QUIET: Duration = Duration::from_secs(15);
const WATCHED: Duration = Duration::from_secs(20);

/// Samples before a daemon is watched: by then it has seen all that it sees but once.
const SETTLED: u64 = 3;

/// Between two looks at whether there is a new sample, where no counter tells: two a second miss none, and cost the
/// daemon less than a hundredth of what such a sample costs.
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// How many times less than libvirt's the kernel's figures are to cost, and how much of a core the daemon may take.
const RATIO: f64 = 30.0;
const SHARE: f64 = 0.01;

/// A way to the same figures.
struct Way {
    name: &'static str,
    config: &'static str,
    watch: fn(&Daemon, Duration, &mut dyn FnMut()) -> u64,
}

/// Nothing but that lane does anything while it is watched. The first look at libvirt is over by then.
const KERNEL: Way = Way {
    name: "kernel",
    config: "[sampling]\nperiod = '1h'\ngroups = ['kernel', 'cpu', 'vcpu', 'interface']\n\
             [sampling.periods]\nkernel = '1s'\ncross-check = '1h'\ninventory = '1h'\nhost = '1h'\n",
    watch: by_counter,
};

/// A second, or as often as libvirtd manages.
const LIBVIRT: Way = Way {
    name: "libvirt",
    config: "[sampling]\nperiod = '1s'\ngroups = ['cpu', 'vcpu', 'interface', 'balloon']\n\
             [sampling.periods]\ninventory = '1h'\nhost = '1h'\n",
    watch: by_looks,
};

fn main() -> ExitCode {
    if !is_wanted("kernel") {
        return ExitCode::SUCCESS;
    }
    if std::env::var("VIRTSTATD_LAB").as_deref() != Ok("1") {
        // No failure: a plain `cargo bench` runs this file too.
        eprintln!("kernel: it would start and end guests; VIRTSTATD_LAB=1 says that this host is for that");
        return ExitCode::SUCCESS;
    }
    let cpus = thread::available_parallelism().map_or(1, usize::from);
    println!(
        "{cpus} CPUs, {ROUNDS} rounds of {} s each way; µs of CPU time for a guest and sample\n",
        WATCHED.as_secs()
    );
    println!("| guests | figures from | samples | daemon | libvirtd | QEMU | all |");
    println!("|---:|---|---:|---:|---:|---:|---:|");
    let mut verdicts = Vec::new();
    for guests in SIZES {
        let Some(measured) = measure(guests) else { return ExitCode::FAILURE };
        verdicts.push(measured.verdict(guests));
    }
    println!();
    verdicts.iter().for_each(|verdict| println!("{verdict}"));
    ExitCode::SUCCESS
}

/// CPU time, by who used it.
#[derive(Debug, Clone, Copy, Default)]
struct Spent {
    daemon: f64,
    libvirtd: f64,
    qemu: f64,
}

impl Spent {
    fn all(self) -> f64 {
        self.daemon + self.libvirtd + self.qemu
    }

    /// Seconds of each, times something.
    fn times(self, factor: f64) -> Self {
        Self { daemon: self.daemon * factor, libvirtd: self.libvirtd * factor, qemu: self.qemu * factor }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            daemon: self.daemon + other.daemon,
            libvirtd: self.libvirtd + other.libvirtd,
            qemu: self.qemu + other.qemu,
        }
    }
}

/// What came of one way, over all rounds.
#[derive(Debug, Clone, Copy, Default)]
struct Sum {
    samples: u64,
    seconds: f64,
    spent: Spent,
}

impl Sum {
    /// Prints a row, and gives the microseconds for a guest and sample.
    fn print(&self, guests: usize, name: &str) -> Spent {
        let each = self.spent.times(1e6 / (self.samples as f64 * guests as f64));
        println!(
            "| {guests} | {name} | {} | {:.1} | {:.1} | {:.1} | {:.1} |",
            self.samples,
            each.daemon,
            each.libvirtd,
            each.qemu,
            each.all()
        );
        each
    }
}

struct Measured {
    kernel: Sum,
    ratio: f64,
}

impl Measured {
    fn verdict(&self, guests: usize) -> String {
        let share = self.kernel.spent.daemon / self.kernel.seconds;
        let pace = self.kernel.samples as f64 / self.kernel.seconds;
        format!(
            "{guests} guests: the kernel's figures cost {:.1} times less (wanted: {RATIO}); at {pace:.2} samples a second \
             the daemon takes {:.2} % of a core (wanted: less than {} %)",
            self.ratio,
            share * 100.0,
            SHARE * 100.0
        )
    }
}

fn measure(guests: usize) -> Option<Measured> {
    // Starting them takes its own while, and a lab that is entered must not be held for ever.
    drop(lab::enter_with(guests)?);
    let mut sums = [Sum::default(); 2];
    for _ in 0..ROUNDS {
        let _lab = lab::enter_with(guests)?;
        let meter = Meter::of(guests);
        let (before, begin) = (meter.read(None), Instant::now());
        thread::sleep(QUIET);
        let quiet = meter.read(None).since(&before).times(1.0 / begin.elapsed().as_secs_f64());
        for (sum, way) in sums.iter_mut().zip([&KERNEL, &LIBVIRT]) {
            let watched = watch(way, &meter, quiet);
            sum.samples += watched.samples;
            sum.seconds += watched.seconds;
            sum.spent = sum.spent.plus(watched.spent);
        }
    }
    let [kernel, libvirt] = [(0, &KERNEL), (1, &LIBVIRT)].map(|(at, way)| sums[at].print(guests, way.name).all());
    Some(Measured { kernel: sums[0], ratio: libvirt / kernel })
}

/// One daemon from its start to its end.
fn watch(way: &Way, meter: &Meter, quiet: Spent) -> Sum {
    let (_directory, path) = config_file(way.config);
    let daemon = Daemon::start(&["--config", &path]);
    daemon.wait_ready();
    let mut settled = 0;
    while settled < SETTLED {
        settled += (way.watch)(&daemon, PERIOD, &mut || {}).max(1);
    }
    let mut readings = Vec::new();
    let samples =
        (way.watch)(&daemon, WATCHED, &mut || readings.push((meter.read(Some(daemon.pid())), Instant::now())));
    let [(before, begin), (after, end)] = &readings[..] else { unreachable!("it is read at both ends") };
    let seconds = (*end - *begin).as_secs_f64();
    let spent = after.since(before).plus(quiet.times(-seconds));
    assert!(samples > 0, "no sample was taken in {seconds:.1} s:\n{}", daemon.log());
    Sum { samples, seconds, spent }
}

/// Turns of the kernel's lane in that time, from the middle between two. What it costs to ask lies outside of the ends.
fn by_counter(daemon: &Daemon, length: Duration, at_ends: &mut dyn FnMut()) -> u64 {
    let count = || {
        let series = parse(&daemon.scrape());
        value(&series, "virtstatd_lane_runs_total", &[("lane", "kernel"), ("result", "ok")])
    };
    let first = wait_for("the kernel's lane", count);
    let before = wait_for("its next turn", || count().filter(|count| *count > first));
    thread::sleep(PERIOD / 2);
    at_ends();
    thread::sleep(length);
    at_ends();
    wait_for("its counter", count) as u64 - before as u64
}

/// Samples of one guest in that time. Calls are no measure, as a lane may need several for one sample of all.
fn by_looks(daemon: &Daemon, length: Duration, at_ends: &mut dyn FnMut()) -> u64 {
    let path = format!("/api/v1/domains/{}?fields=samples.vcpu&ages=false", guest(lab::GUESTS));
    at_ends();
    let (mut seen, begin) = (HashSet::new(), Instant::now());
    while begin.elapsed() < length {
        let domain = daemon.get(&path).json();
        seen.extend(domain["samples"]["vcpu"]["sampled_at"].as_str().map(str::to_owned));
        thread::sleep(BETWEEN_LOOKS);
    }
    at_ends();
    // The first was there when the looks began.
    (seen.len() as u64).saturating_sub(1)
}

/// Reads CPU times of processes that live as long as the measurement.
struct Meter {
    libvirtd: u32,
    guests: Vec<u32>,
}

/// CPU time so far of each thread, in nanoseconds.
struct Reading {
    daemon: HashMap<String, u64>,
    libvirtd: HashMap<String, u64>,
    qemu: HashMap<String, u64>,
}

impl Meter {
    fn of(guests: usize) -> Self {
        let number = |text: &str| text.trim().parse().expect("a process id");
        let libvirtd =
            number(&lab::run(lab::script().to_str().expect("UTF-8"), &["libvirtd", "pid"]).expect("it runs"));
        Self { libvirtd, guests: (1..=guests).map(|guest_number| number(&lab::pid(&guest(guest_number)))).collect() }
    }

    fn read(&self, daemon: Option<u32>) -> Reading {
        let mut reading = Reading { daemon: HashMap::new(), libvirtd: threads(self.libvirtd), qemu: HashMap::new() };
        for guest in &self.guests {
            reading.qemu.extend(threads(*guest));
        }
        // Last at the begin, and what it does while the others are read is little at the end.
        reading.daemon.extend(daemon.map(threads).into_iter().flatten());
        reading
    }
}

impl Reading {
    /// Threads that ended meanwhile take their time with them.
    fn since(&self, before: &Self) -> Spent {
        let sum = |now: &HashMap<String, u64>, before: &HashMap<String, u64>| {
            let spent = now.iter().map(|(thread, time)| time - before.get(thread).unwrap_or(&0)).sum::<u64>();
            spent as f64 * 1e-9
        };
        Spent {
            daemon: sum(&self.daemon, &before.daemon),
            libvirtd: sum(&self.libvirtd, &before.libvirtd),
            qemu: sum(&self.qemu, &before.qemu),
        }
    }
}

/// CPU time of each thread of a process but vCPUs, by its path; to the nanosecond, where /proc/PID/stat counts ticks of 10 ms.
fn threads(pid: u32) -> HashMap<String, u64> {
    let directory = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&directory).unwrap_or_else(|error| panic!("{directory}: {error}"));
    let mut times = HashMap::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        // A thread may end while this is read.
        let (Ok(name), Ok(schedstat)) =
            (fs::read_to_string(path.join("comm")), fs::read_to_string(path.join("schedstat")))
        else {
            continue;
        };
        let time = schedstat.split(' ').next().and_then(|time| time.parse().ok());
        if let Some(time) = time.filter(|_| !name.starts_with("CPU ")) {
            times.insert(path.to_string_lossy().into_owned(), time);
        }
    }
    times
}
