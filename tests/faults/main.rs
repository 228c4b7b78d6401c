//! Faults on a real host: guests that hang, storage that hangs, a libvirtd that dies or hangs, storms of starts and
//! ends. What is tested each time is who loses samples, and who must not.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod frozen;
mod libvirtd;
mod storage;
mod storm;
mod tools;

use std::ops::RangeInclusive;
use std::time::Duration;

use support::daemon::{Daemon, config_file};
use support::exposition::find;
use support::lab::{self, Lab, guest};
use support::watch::Watcher;

/// Half of them can hang, and twenty are left that must not notice.
const GUESTS: usize = 40;

const CONFIG: &str = "[sampling]\nperiod = '2s'\n[sampling.periods]\nblock-info = '2s'\n";
const PERIOD: f64 = 2.0;

/// The longest that a call may take before it is written off: half the period.
const DEADLINE: f64 = PERIOD / 2.0;

/// Between the starts of two samples in ordinary times. The excess is for a machine that has two cores and forty
/// guests: a call may wait for a worker, and the one before it may not have had to.
const USUAL: f64 = PERIOD + 0.5;

/// Between two starts when a call in between hung and had to be written off: it is asked again one deadline later.
const WRITTEN_OFF: f64 = PERIOD + DEADLINE + 0.3;

/// Waits for a moment are measured from when the test did something, and not from a tick.
fn periods(count: u32) -> f64 {
    f64::from(count) * PERIOD + 0.5
}

const ALL: &[&str] = &["state", "cpu", "vcpu", "interface", "block", "balloon", "block_info"];

/// What libvirt tells without asking QEMU, in one call for all.
const FREE: &[&str] = &["state", "interface"];

/// A figure of each group that comes in bulk. The age of a group that never came counts from when its guest was first
/// seen, so of a guest that is new to a daemon only figures tell that it was sampled.
const FIGURES: &[&str] = &[
    "libvirt_domain_info_state",
    "libvirt_domain_info_cpu_time_seconds_total",
    "libvirt_domain_vcpu_time_seconds_total",
    "libvirt_domain_interface_stats_receive_bytes_total",
    "libvirt_domain_block_stats_read_bytes_total",
    "libvirt_domain_memory_stats_rss_bytes",
];

fn enter() -> Option<Lab> {
    lab::enter_with(GUESTS)
}

/// The names of the guests with these numbers.
fn guests(numbers: RangeInclusive<usize>) -> Vec<String> {
    numbers.map(guest).collect()
}

fn everybody() -> Vec<String> {
    guests(1..=GUESTS)
}

/// A daemon, and who watches it.
struct Trial {
    watcher: Watcher,
    daemon: Daemon,
    _directory: tempfile::TempDir,
}

impl Trial {
    fn start(config: &str) -> Self {
        Self::start_at("qemu:///system", config)
    }

    fn start_at(uri: &str, config: &str) -> Self {
        let (directory, path) = config_file(config);
        let daemon = Daemon::start(&["--config", &path, "--uri", uri]);
        Self { watcher: Watcher::start(&daemon), daemon, _directory: directory }
    }

    /// The same, once every guest was sampled.
    fn running(config: &str, groups: &[&str]) -> Self {
        let trial = Self::start(config);
        trial.daemon.wait_ready();
        trial.watcher.wait_for_samples(&everybody(), groups, trial.watcher.now());
        trial
    }

    /// Waits until there are figures of all these guests, which may be new, and says how long that took.
    fn wait_for_figures(&self, names: &[String]) -> f64 {
        let begin = self.watcher.now();
        self.watcher.wait_until("figures", |series, _| {
            let has = |name: &String, metric: &&str| !find(series, metric, &[("domain", name)]).is_empty();
            names.iter().all(|name| FIGURES.iter().all(|metric| has(name, metric)))
        });
        self.watcher.now() - begin
    }

    fn observe(&self, periods: u32) {
        self.watcher.observe(Duration::from_secs_f64(f64::from(periods) * PERIOD));
    }
}
