//! Guests whose QEMU stands still cost the kernel's figures nothing: not theirs, and not those of others.

use std::collections::{HashMap, HashSet};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::daemon::Daemon;
use crate::support::lab::{self, guest};
use crate::{GROUPS, assert_lane, daemon, shown, shown_after};

const GUESTS: usize = 60;

const CONFIG: &str = "[sampling.periods]\nkernel = '1s'\n";
const PERIOD: Duration = Duration::from_secs(1);

/// So old may the newest sample be at any look. The excess is for a machine with more guests than processors can serve.
const OLDEST: f64 = 2.0 + 0.5;

/// What is tested is this time.
const LENGTH: Duration = Duration::from_secs(20);
const BETWEEN_LOOKS: Duration = Duration::from_millis(500);

/// Of as many samples as there were periods, so many may lie beyond either end.
const ENDS: usize = 2;

/// Looks at all guests for a while: each has a sample of every group at each look, and none is old.
fn watch(daemon: &Daemon, what: &str) {
    let (begin, mut oldest, mut slowest) = (Instant::now(), 0.0_f64, Duration::ZERO);
    let mut samples: HashMap<(String, &str), HashSet<String>> = HashMap::new();
    while begin.elapsed() < LENGTH {
        let asked = Instant::now();
        let all = shown(daemon);
        slowest = slowest.max(asked.elapsed());
        assert_eq!(all.len(), GUESTS, "{what}");
        assert_lane(&all);
        for (name, domain) in &all {
            for group in GROUPS {
                let sample = &domain["samples"][group];
                let age = sample["age_seconds"].as_f64().unwrap_or_else(|| panic!("{what}: {name} has no {group}"));
                assert!(age <= OLDEST, "{what}: {group} of {name} is {age} s old after {:?}", begin.elapsed());
                assert_eq!(sample["stale"], false, "{what}: {group} of {name}");
                oldest = oldest.max(age);
                let at = sample["sampled_at"].as_str().unwrap().to_owned();
                samples.entry((name.clone(), group)).or_default().insert(at);
            }
        }
        thread::sleep(BETWEEN_LOOKS.saturating_sub(asked.elapsed()));
    }
    let due = usize::try_from(LENGTH.as_secs() / PERIOD.as_secs()).unwrap();
    let ((name, group), fewest) = samples.iter().min_by_key(|(_, at)| at.len()).unwrap();
    eprintln!(
        "{what}: the oldest sample was {oldest:.2} s old, the fewest were {} of {due} ({group} of {name}), \
         the slowest answer took {slowest:?}",
        fewest.len()
    );
    assert!(fewest.len() + ENDS >= due, "{what}: {group} of {name} has {} samples of {due}", fewest.len());
    assert!(slowest < PERIOD, "{what}: an answer took {slowest:?}: it waited for something");
}

/// CPU time by name.
fn cpu_times(all: &HashMap<String, Value>) -> HashMap<&str, u64> {
    all.iter().map(|(name, domain)| (name.as_str(), domain["samples"]["cpu"]["time_ns"].as_u64().unwrap())).collect()
}

#[test]
fn frozen_guests_cost_nobody_a_sample_not_even_themselves() {
    let Some(lab) = lab::enter_with(GUESTS) else { return };
    let everybody: Vec<String> = (1..=GUESTS).map(guest).collect();
    let (_directory, daemon) = daemon(CONFIG);
    let now = std::time::SystemTime::now;
    let before = shown_after(&daemon, &everybody, now());

    lab.freeze(&guest(GUESTS));
    watch(&daemon, "one frozen");
    lab.freeze_many(&everybody);
    let frozen = shown_after(&daemon, &everybody, now());
    watch(&daemon, "all frozen");
    let still = shown_after(&daemon, &everybody, now());
    // The samples are new ones, and say that nothing happened; and none went back.
    assert_eq!(cpu_times(&frozen), cpu_times(&still));
    for (name, time) in cpu_times(&before) {
        assert!(cpu_times(&frozen)[name] >= time, "{name}");
    }
    lab.thaw();
    shown_after(&daemon, &everybody, now());
}
