//! The daemon on the simulated libvirtd: every fault on command, in seconds; and hosts of a size that no test machine has.
//!
//! What real guests can show is in `tests/faults`; what is here beside it is what they cannot, and what CI should not wait for.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod churn;
mod connections;
mod guests;
mod inventory;
mod life;
mod replies;
mod scale;
mod sequences;

use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use virtstat_sim::command::{Command, Guests};
use virtstat_sim::{Settings, Simulator};

use support::daemon::{Daemon, config_file};
use support::watch::Watcher;

const PERIOD: f64 = 1.0;
const CONFIG: &str = "[sampling]\nperiod = '1s'\n[sampling.periods]\nblock-info = '1s'\n";

/// Between the starts of two samples in ordinary times; the excess is for a machine with two cores.
const USUAL: f64 = PERIOD + 0.6;

/// The same once, when calls in between hung: one with many domains, and after it one with few.
const WRITTEN_OFF: f64 = 2.0 * PERIOD + 0.9;

/// Stats groups that come in bulk.
const BULK: &[&str] = &["state", "cpu", "vcpu", "interface", "block", "balloon"];
/// What a guest keeps whose monitor does not answer.
const KEPT: &[&str] = &["state", "cpu", "interface"];

/// The daemon's threads at most: its own (main, two of HTTP, scheduler, publisher, events, the host and two paths of it), and those
/// of its pools with all that may be stuck.
const MOST_THREADS: usize = 9 + 5 + 5 + 4 + 4 + 8;

/// Tests of time share two processors, so one at a time.
static TURN: Mutex<()> = Mutex::new(());

/// A simulated host, a daemon, and who watches it.
struct Trial {
    watcher: Watcher,
    daemon: Daemon,
    simulator: Simulator,
    /// Who runs from the start on.
    names: Vec<String>,
    _directories: [tempfile::TempDir; 2],
    _turn: MutexGuard<'static, ()>,
}

impl Trial {
    /// With every running guest sampled.
    fn running(domains: u32) -> Self {
        let trial = Self::start(domains, CONFIG);
        trial.watcher.wait_for_samples(&trial.names, BULK, trial.watcher.now());
        trial
    }

    /// With a daemon that is ready.
    fn start(domains: u32, config: &str) -> Self {
        let turn = TURN.lock();
        let directory = tempfile::tempdir().unwrap();
        let settings = Settings { domains, ..Settings::new(directory.path().join("socket")) };
        let simulator = Simulator::start(settings).expect("the simulator starts");
        let names = simulator.with_host(|host| {
            let running = host.guests().filter(|guest| guest.is_running());
            running.map(|guest| guest.name().to_owned()).collect()
        });
        let (config, path) = config_file(config);
        let daemon = Daemon::start(&["--config", &path, "--uri", &simulator.uri()]);
        let watcher = Watcher::start(&daemon);
        daemon.wait_ready();
        Self { watcher, daemon, simulator, names, _directories: [directory, config], _turn: turn }
    }

    #[allow(clippy::needless_pass_by_value)] // Commands are made where they are told.
    fn tell(&self, command: Command) {
        if let Err(error) = self.simulator.control(command.clone()) {
            panic!("{command:?}: {error}");
        }
    }

    /// The last of the guests, to be harmed, and the others.
    fn victims(&self, count: usize) -> (Vec<String>, Vec<String>) {
        let (healthy, victims) = self.names.split_at(self.names.len() - count);
        (healthy.to_vec(), victims.to_vec())
    }

    fn each(&self, victims: &[String], command: impl Fn(Guests) -> Command) {
        victims.iter().for_each(|name| self.tell(command(Guests::named(name.as_str()))));
    }

    fn observe(&self, periods: u32) {
        self.watcher.observe(Duration::from_secs_f64(f64::from(periods) * PERIOD));
    }

    /// Everybody has a new sample of each group soon after that moment.
    fn assert_all_back(&self, names: &[String], after: f64, within: f64) {
        let took = self.watcher.wait_for_samples(names, BULK, after);
        println!("all groups of all were back after {took:.2} s");
        assert!(took < within, "back after {took:.2} s only");
    }

    /// Nobody lost more than could be helped, whatever it was: places, threads, counters, scrapes.
    fn finish(self) {
        let most = self.simulator.status().pool.most_busy;
        assert!(most <= 4, "{most} workers of libvirtd were busy with us");
        let (threads, _) = self.daemon.threads_and_descriptors();
        assert!(threads <= MOST_THREADS, "{threads} threads");
        assert_eq!(self.daemon.get("/-/healthy").status, 200);
        assert!(!self.daemon.log().contains("bug of virtstatd"), "{}", self.daemon.log());
        self.watcher.finish();
    }
}
