//! What happens to guests, and what the daemon counts of it.

use serde_json::Value;
use virtstat_sim::command::{Command, Happening, OneChange, SuppressEvents};

use crate::Trial;
use crate::support::exposition::{Series, parse, value};
use crate::support::wait_for;

/// Samples and lists of the timer would come after the test.
const EVENTS_ALONE: &str = "[sampling]\nperiod = '10m'\n[sampling.periods]\ninventory = '10m'\n";
/// The list tells what events do not.
const LIST_ALONE: &str = "[sampling]\nperiod = '10m'\n[sampling.periods]\ninventory = '1s'\n";

fn happens(trial: &Trial, kind: Happening, name: &str) {
    trial.tell(Command::Change(OneChange { kind, domain: Some(name.to_owned()), count: None, all: false }));
}

fn life(trial: &Trial, name: &str) -> Value {
    // A few of the simulator's names need it.
    let encoded: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
    trial.daemon.get(&format!("/api/v1/domains/{encoded}")).json()["life"].take()
}

/// Waits for a life that is so.
fn wait_for_life(trial: &Trial, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    wait_for(what, || Some(life(trial, name)).filter(&is_so))
}

/// A guest that is well, and is still there when it does not run.
fn somebody(trial: &Trial) -> String {
    trial.simulator.with_host(|host| {
        let mut guests = host.guests();
        guests.find(|guest| guest.state().0 == 1 && guest.is_persistent()).expect("one runs").name().to_owned()
    })
}

fn count(series: &[Series], metric: &str, reason: &str) -> f64 {
    value(series, metric, &[("reason", reason)]).unwrap_or_else(|| panic!("no {metric} for {reason}"))
}

#[test]
fn whatever_happens_is_counted_once() {
    let trial = Trial::start(40, EVENTS_ALONE);
    let name = somebody(&trial);
    let at_first = life(&trial, &name);
    assert_eq!((&at_first["starts"], &at_first["panics"], &at_first["io_errors"]), (&0.into(), &0.into(), &0.into()));
    assert!(at_first["started_at"].is_null() && at_first["last_pause"].is_null(), "{at_first}");
    let all_zero = parse(&trial.daemon.scrape());
    assert!(
        ["paused", "ioerror", "unknown"].iter().all(|reason| count(&all_zero, "libvirt_pauses_total", reason) == 0.0)
    );

    for kind in [
        Happening::Pause,
        Happening::Resume,
        Happening::IoError,
        Happening::Resume,
        Happening::Stop,
        Happening::Start,
        Happening::Shutdown,
        Happening::Start,
        Happening::Panic,
        Happening::Start,
        Happening::Crash,
        Happening::Start,
        Happening::Pause,
    ] {
        happens(&trial, kind, &name);
    }
    let whole = wait_for_life(&trial, &name, "the last of it", |life| life["pauses"]["paused"] == 2);
    assert_eq!(whole["starts"], 4);
    assert_eq!(whole["pauses"], serde_json::json!({ "ioerror": 1, "paused": 2 }));
    assert_eq!(whole["stops"], serde_json::json!({ "crashed": 1, "destroyed": 1, "failed": 1, "shutdown": 1 }));
    assert_eq!((&whole["panics"], &whole["io_errors"]), (&1.into(), &1.into()));
    assert_eq!(whole["last_pause"]["reason"], "paused");
    assert_eq!(whole["last_stop"]["reason"], "failed");
    let error = &whole["last_io_error"];
    assert_eq!((&error["action"], &error["reason"]), (&"pause".into(), &"enospc".into()), "{error}");
    assert!(["device", "path"].iter().all(|field| error[field].is_string()), "{error}");
    // No process of a simulated guest can be seen.
    wait_for_life(&trial, &name, "the start", |life| life["start_source"] == "event");

    let own = |series: &[Series], metric| value(series, metric, &[("domain", name.as_str())]);
    // A rendering may be of the moment before the last start.
    let series = wait_for("the figures", || {
        let series = parse(&trial.daemon.scrape());
        let started = own(&series, "libvirt_domain_start_time_seconds").is_some_and(|at| at > 1e9);
        (started && own(&series, "libvirt_domain_starts_total") == Some(4.0)).then_some(series)
    });
    assert_eq!(own(&series, "libvirt_domain_panics_total"), Some(1.0));
    assert_eq!(own(&series, "libvirt_domain_io_errors_total"), Some(1.0));
    for (metric, reason, times) in [
        ("libvirt_pauses_total", "paused", 2.0),
        ("libvirt_pauses_total", "ioerror", 1.0),
        ("libvirt_stops_total", "destroyed", 1.0),
        ("libvirt_stops_total", "shutdown", 1.0),
        ("libvirt_stops_total", "crashed", 1.0),
        ("libvirt_stops_total", "failed", 1.0),
        ("libvirt_stops_total", "unknown", 0.0),
    ] {
        assert!((count(&series, metric, reason) - times).abs() < 0.1, "{metric} {reason}");
    }
    assert_eq!(value(&series, "libvirt_domain_startup_seconds_count", &[]), Some(0.0));
}

#[test]
fn who_comes_from_another_host_or_is_defined_and_started_has_begun_once() {
    let trial = Trial::start(20, EVENTS_ALONE);
    let names = |trial: &Trial| {
        trial.simulator.with_host(|host| host.guests().map(|guest| guest.name().to_owned()).collect::<Vec<_>>())
    };
    let before = names(&trial);
    for kind in [Happening::MigrateIn, Happening::Define] {
        trial.tell(Command::Change(OneChange { kind, domain: None, count: Some(1), all: false }));
    }
    let new: Vec<String> = names(&trial).into_iter().filter(|name| !before.contains(name)).collect();
    assert_eq!(new.len(), 2);
    let migrated = wait_for_life(&trial, &new[0], "the migrated one", |life| life["start_source"] == "event");
    assert_eq!(migrated["starts"], 1);
    let defined = wait_for_life(&trial, &new[1], "the defined one", |life| !life.is_null());
    assert_eq!((&defined["starts"], &defined["started_at"]), (&0.into(), &Value::Null));
    happens(&trial, Happening::Start, &new[1]);
    wait_for_life(&trial, &new[1], "its start", |life| life["start_source"] == "event" && life["starts"] == 1);
}

/// Samples, lists and events tell of the same runs, in no fixed order.
#[test]
fn however_fast_they_come_and_go_each_start_counts_once() {
    const ROUNDS: u32 = 60;
    let trial = Trial::start(40, "[sampling]\nperiod = '1s'\n[sampling.periods]\ninventory = '1s'\n");
    let names: Vec<String> = trial.simulator.with_host(|host| {
        let persistent = host.guests().filter(|guest| guest.is_running() && guest.is_persistent());
        persistent.take(8).map(|guest| guest.name().to_owned()).collect()
    });
    for _ in 0..ROUNDS {
        for kind in [Happening::Stop, Happening::Start] {
            names.iter().for_each(|name| happens(&trial, kind, name));
        }
        // A pace at which a list or a sample comes in between now and then.
        trial.daemon.scrape();
    }
    for name in &names {
        let life = wait_for_life(&trial, name, "the last start", |life| {
            life["stops"]["destroyed"] == ROUNDS && life["start_source"] == "event"
        });
        assert_eq!(life["starts"], ROUNDS, "{name}");
    }
    let series = parse(&trial.daemon.scrape());
    let all = f64::from(ROUNDS) * 8.0;
    assert!((count(&series, "libvirt_stops_total", "destroyed") - all).abs() < 0.1);
}

#[test]
fn without_events_the_list_tells_of_starts_and_of_nothing_else() {
    let trial = Trial::start(20, LIST_ALONE);
    trial.tell(Command::SuppressEvents(SuppressEvents::default()));
    let name = somebody(&trial);
    happens(&trial, Happening::Stop, &name);
    let running = |trial: &Trial| {
        let series = parse(&trial.daemon.scrape());
        value(&series, "libvirt_domain_responsive", &[("domain", name.as_str())]).is_some()
    };
    wait_for("its end", || (!running(&trial)).then_some(()));
    happens(&trial, Happening::Start, &name);
    let seen = wait_for_life(&trial, &name, "its start", |life| life["starts"] == 1);
    assert!(seen["started_at"].is_null() && seen["last_stop"].is_null(), "{seen}");
    assert_eq!(seen["stops"], serde_json::json!({}));
}
