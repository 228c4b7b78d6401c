//! Guests that start and are killed without pause: no figure is that of another guest or of a run before, and nothing of
//! those that are gone is kept.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process::{self, Process};
use crate::support::daemon::Daemon;
use crate::support::exposition::parse;
use crate::support::lab::{self, GUESTS, Lab, pid_file, run};
use crate::support::wait_for;
use crate::{daemon, shown};

const CONFIG: &str = "[sampling.periods]\nkernel = '100ms'\n";

/// At a time, and starts of each.
const LANES: usize = 4;
const STARTS: usize = 50;

/// Names that a lane takes in turn: in some the same guest comes again and again, in others each is new for a while.
const NAMES: [usize; LANES] = [1, 1, 10, 10];

/// How long a guest lives, in turn: some are gone before anybody has looked.
const LIVES: [Duration; 3] = [Duration::ZERO, Duration::from_millis(300), Duration::from_millis(700)];

const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// Runs that must have been seen for the test to have tested something.
const SEEN: usize = LANES * STARTS / 4;

/// User and system time are cut to ticks each, and the clock that processes start by has ticks too.
const TICKS: Duration = Duration::from_millis(30);

/// A sample may count from the begin of a turn in which its process started. A run before ended longer ago than that.
const TURN: Duration = Duration::from_millis(150);

/// Descriptors that come and go with connections and requests.
const FEW: usize = 4;

/// What came of the looks.
#[derive(Default)]
struct Looks {
    count: usize,
    /// Process ids of guests, with the id of each guest.
    runs: HashSet<(u64, String)>,
    /// Looks at a guest of which there were figures of the kernel, and whose process was there to be asked.
    figures: usize,
    problems: Vec<String>,
}

impl Looks {
    fn look(&mut self, daemon: &Daemon) {
        let all = shown(daemon);
        for (name, domain) in &all {
            let (Some(pid), Some(uuid)) = (domain["pid"].as_u64(), domain["uuid"].as_str()) else { continue };
            // Dead, or not a guest: nobody can know that before a look.
            let Some(found) = process::uuid_of(pid) else { continue };
            if found != uuid {
                self.problems.push(format!("{name} has the uuid {uuid}, and its process {pid} that of {found}"));
                continue;
            }
            let Some(process) = process::read(pid) else { continue };
            self.judge(name, &domain["samples"], &process);
            self.runs.insert((pid, uuid.to_owned()));
        }
        self.count += 1;
        // Panics on what is no valid text, and on any answer but 200.
        parse(&daemon.scrape());
    }

    /// The process was read after the samples, so they cannot say more than it does.
    fn judge(&mut self, name: &str, samples: &Value, process: &Process) {
        let pid = process.pid;
        for group in crate::GROUPS {
            let Some(age) = samples[group]["age_seconds"].as_f64() else { continue };
            if age > (process.age + TURN).as_secs_f64() {
                self.problems
                    .push(format!("{group} of {name} is {age} s old, and its process {pid} {:?}", process.age));
            }
        }
        let most = process.time + process.time / 100 + TICKS;
        let vcpus = samples["vcpu"]["vcpus"].as_array();
        let vcpus: u64 = vcpus.into_iter().flatten().filter_map(|vcpu| vcpu["time_ns"].as_u64()).sum();
        for (what, time) in [
            ("CPU", samples["cpu"]["time_ns"].as_u64()),
            ("vCPU", Some(vcpus)),
            ("emulator", samples["kernel"]["emulator_time_ns"].as_u64()),
        ] {
            if time.is_some_and(|time| Duration::from_nanos(time) > most) {
                self.problems.push(format!(
                    "{what} time of {name} is {time:?} ns, and its process {pid} had {:?}",
                    process.time
                ));
            }
        }
        for nic in samples["interface"]["interfaces"].as_array().into_iter().flatten() {
            if nic["name"] != format!("{name}-n0") {
                self.problems.push(format!("{name} has the NIC {}", nic["name"]));
            }
        }
        self.figures += usize::from(samples["kernel"].is_object());
    }
}

/// Starts and kills the guests of one lane.
fn lane(files: &[(String, PathBuf)], started: &AtomicUsize) {
    for start in 0..STARTS {
        let (name, file) = &files[start % files.len()];
        // libvirtd may still be at the end of the one before.
        wait_for("a guest to start", || {
            run("virsh", &["-q", "-c", "qemu:///system", "create", file.to_str().unwrap()]).ok()
        });
        thread::sleep(LIVES[start % LIVES.len()]);
        run("kill", &["-KILL", &lab::pid(name)]).unwrap();
        // libvirtd removes it when it has noticed.
        wait_for("libvirtd to notice", || (!Path::new(&pid_file(name)).exists()).then_some(()));
        started.fetch_add(1, Ordering::Relaxed);
    }
}

/// One file of XML for each name of each lane.
fn prepare(lab: &mut Lab, directory: &Path) -> Vec<Vec<(String, PathBuf)>> {
    let mut file = |name: String| {
        let path = directory.join(&name);
        std::fs::write(&path, lab.xml(&name, &["--disks", "0"])).unwrap();
        lab.owns(&name);
        (name, path)
    };
    NAMES
        .iter()
        .enumerate()
        .map(|(lane, &count)| (0..count).map(|n| file(format!("brief-{lane}{n}"))).collect())
        .collect()
}

#[test]
fn guests_that_come_and_go_are_never_taken_for_one_another() {
    let Some(mut lab) = lab::enter_with(GUESTS) else { return };
    let directory = tempfile::tempdir().unwrap();
    let lanes = prepare(&mut lab, directory.path());
    let (_directory, daemon) = daemon(CONFIG);
    wait_for("figures of all", || {
        let all = shown(&daemon);
        (all.len() == GUESTS && all.values().all(|domain| domain["samples"]["kernel"].is_object())).then_some(())
    });
    let (_, before) = daemon.threads_and_descriptors();

    let (started, begin) = (AtomicUsize::new(0), Instant::now());
    let mut looks = Looks::default();
    thread::scope(|scope| {
        let lanes: Vec<_> = lanes.iter().map(|files| scope.spawn(|| lane(files, &started))).collect();
        while !lanes.iter().all(thread::ScopedJoinHandle::is_finished) {
            looks.look(&daemon);
            thread::sleep(BETWEEN_LOOKS);
        }
    });
    eprintln!(
        "{} starts in {:?}; {} looks, {} runs seen, figures of them {} times",
        started.load(Ordering::Relaxed),
        begin.elapsed(),
        looks.count,
        looks.runs.len(),
        looks.figures
    );
    assert_eq!(started.load(Ordering::Relaxed), LANES * STARTS);
    let problems = &looks.problems;
    assert!(
        problems.is_empty(),
        "{} problems, such as\n{}",
        problems.len(),
        problems[..problems.len().min(20)].join("\n")
    );
    let residents = GUESTS;
    assert!(looks.runs.len() >= SEEN + residents, "only {} runs were seen", looks.runs.len());
    assert!(looks.figures >= looks.count * residents, "the residents were there at each look");

    wait_for("the brief ones to go", || (shown(&daemon).len() == residents).then_some(()));
    let now = || daemon.threads_and_descriptors().1;
    wait_for("their files to be closed", || (now() <= before + FEW).then_some(()));
    eprintln!("open files: {before} before, {} after", now());
}
