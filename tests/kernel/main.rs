//! What the host's kernel says of real guests: that it is what libvirt says, that it comes on time whoever hangs, and that
//! it is never that of another guest or of a run before.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod agreement;
mod churn;
mod figures;
mod frozen;
mod process;

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use support::PATIENCE;
use support::daemon::{Daemon, config_file};

/// What the kernel is read for at each turn.
const GROUPS: &[&str] = &["cpu", "vcpu", "interface", "kernel"];

/// Of these libvirt tells too, so it must be said who did.
const SHARED: &[&str] = &["cpu", "vcpu", "interface"];

/// A daemon with this configuration, and the directory in which that is.
fn daemon(config: &str) -> (tempfile::TempDir, Daemon) {
    let (directory, path) = config_file(config);
    let daemon = Daemon::start(&["--config", &path]);
    daemon.wait_ready();
    (directory, daemon)
}

/// The running domains that the daemon knows now, by name.
fn shown(daemon: &Daemon) -> HashMap<String, Value> {
    let mut list = daemon.get("/api/v1/domains").json();
    let domains = list["domains"].as_array_mut().unwrap().drain(..);
    domains
        .filter(|domain| domain["running"] == true)
        .map(|domain| (domain["name"].as_str().unwrap().to_owned(), domain))
        .collect()
}

fn sampled_at(domain: &Value, group: &str) -> Option<SystemTime> {
    humantime::parse_rfc3339(domain["samples"][group]["sampled_at"].as_str()?).ok()
}

/// What the daemon knows once it knows of just these domains, all of it from looks that began after that moment.
fn shown_after(daemon: &Daemon, names: &[String], moment: SystemTime) -> HashMap<String, Value> {
    // Times are cut to milliseconds.
    let (moment, begin) = (moment + Duration::from_millis(1), Instant::now());
    loop {
        let shown = shown(daemon);
        let late = |name: &str, group: &str| {
            shown.get(name).and_then(|domain| sampled_at(domain, group)).is_none_or(|at| at < moment)
        };
        let pairs = names.iter().flat_map(|name| GROUPS.iter().map(move |group| (name, *group)));
        let late: Vec<_> = pairs.filter(|(name, group)| late(name, group)).collect();
        let others: Vec<_> = shown.keys().filter(|name| !names.contains(name)).collect();
        if late.is_empty() && others.is_empty() {
            return shown;
        }
        assert!(begin.elapsed() < PATIENCE, "no newer sample of {late:?}; running, and should not: {others:?}");
        thread::sleep(Duration::from_millis(100));
    }
}

/// Each figure that both sources have must be the kernel's.
fn assert_lane(shown: &HashMap<String, Value>) {
    for (name, domain) in shown {
        for group in SHARED {
            assert_eq!(domain["samples"][group]["lane"], "kernel", "{group} of {name}: {}", domain["samples"][group]);
        }
    }
}
