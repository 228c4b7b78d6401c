//! Guests in trouble: frozen, on storage that hangs, locked, slow, or refused.

use virtstat_sim::command::{Command, Fail, Guests, HangStorage, Latency};

use crate::support::exposition::{parse, value};
use crate::support::wait_for;
use crate::{BULK, KEPT, Trial, USUAL, WRITTEN_OFF};

#[test]
fn one_frozen_guest_costs_nobody_else_a_sample() {
    let trial = Trial::running(40);
    let (healthy, victims) = trial.victims(1);
    let at = trial.watcher.now();
    trial.each(&victims, Command::Freeze);
    trial.observe(8);
    let end = trial.watcher.now();
    trial.watcher.assert_gaps(&healthy, BULK, (at, end), USUAL, WRITTEN_OFF);
    trial.watcher.assert_gaps(&victims, KEPT, (at, end), USUAL, WRITTEN_OFF);
    {
        let seen = trial.watcher.seen();
        let noticed = seen.first_responsive(&victims[0], false, at).expect("it is said to be unresponsive");
        assert!(noticed - at < 4.0, "noticed after {:.2} s", noticed - at);
        assert_eq!(healthy.iter().find(|name| seen.was_unresponsive(name)), None, "is well");
    }
    let thawed = trial.watcher.now();
    trial.each(&victims, Command::Thaw);
    trial.assert_all_back(&trial.names, thawed, 4.0);
    trial.finish();
}

/// No process of theirs can be looked at, so each has to be found by a call that hangs on it.
#[test]
fn a_third_frozen_at_once_cost_the_others_what_needs_a_monitor_and_no_more() {
    let trial = Trial::running(60);
    let (healthy, victims) = trial.victims(20);
    let at = trial.watcher.now();
    trial.each(&victims, Command::Freeze);
    trial.observe(12);
    let end = trial.watcher.now();
    trial.watcher.assert_gaps(&healthy, &["state", "interface"], (at, end), USUAL, WRITTEN_OFF);
    // With two calls stuck the third place is for the healthy; whoever is not known to be ill yet may take it.
    assert!(trial.simulator.status().guests.occupied.len() <= 3, "{:?}", trial.simulator.status().guests.occupied);
    let thawed = trial.watcher.now();
    trial.each(&victims, Command::Thaw);
    trial.assert_all_back(&trial.names, thawed, 8.0);
    trial.finish();
}

#[test]
fn storage_that_hangs_costs_only_the_disks_on_it() {
    let trial = Trial::running(40);
    let (healthy, victims) = trial.victims(1);
    let at = trial.watcher.now();
    let hang = HangStorage { domain: Some(victims[0].clone()), ..HangStorage::default() };
    trial.tell(Command::HangStorage(hang));
    trial.observe(8);
    let end = trial.watcher.now();
    trial.watcher.assert_gaps(&healthy, BULK, (at, end), USUAL, WRITTEN_OFF);
    trial.watcher.assert_gaps(&victims, KEPT, (at, end), USUAL, WRITTEN_OFF);
    let released = trial.watcher.now();
    trial.each(&victims, Command::ReleaseStorage);
    trial.assert_all_back(&trial.names, released, 5.0);
    trial.finish();
}

/// As when a domain is being destroyed: whoever lists it waits.
#[test]
fn a_lock_that_is_held_costs_the_others_a_period_or_two() {
    let trial = Trial::running(30);
    let (healthy, victims) = trial.victims(1);
    let at = trial.watcher.now();
    trial.each(&victims, Command::Lock);
    trial.observe(6);
    let end = trial.watcher.now();
    let longest = trial.watcher.longest(&healthy, BULK, (at, end));
    println!("the others: {longest:.2} s");
    assert!(longest < 4.0, "{longest:.2} s without a sample");
    let unlocked = trial.watcher.now();
    trial.each(&victims, Command::Unlock);
    trial.assert_all_back(&trial.names, unlocked, 4.0);
    assert!(!trial.watcher.seen().was_unresponsive(&victims[0]), "a lock is not its fault");
    trial.finish();
}

#[test]
fn slow_calls_cost_nobody_a_sample() {
    let trial = Trial::running(30);
    for distribution in ["exponential 5ms", "uniform 1ms 30ms", "pareto 2ms 1.5 cap 100ms"] {
        let at = trial.watcher.now();
        let distribution = distribution.parse().expect("a distribution");
        trial.tell(Command::Latency(Latency { distribution, procedure: None, domain: None }));
        trial.observe(4);
        let end = trial.watcher.now();
        trial.watcher.assert_gaps(&trial.names, BULK, (at, end), USUAL, WRITTEN_OFF);
        trial.tell(Command::Clear(virtstat_sim::command::Nothing {}));
    }
    trial.finish();
}

#[test]
fn one_guest_that_makes_every_call_fail_costs_nobody_else_a_sample() {
    let trial = Trial::running(40);
    let (healthy, victims) = trial.victims(1);
    let at = trial.watcher.now();
    trial.tell(Command::Fail(Fail {
        code: 1,
        procedure: Some("ConnectGetAllDomainStats".parse().expect("a procedure")),
        domain: Some(victims[0].clone()),
        error_domain: 10,
        message: "internal error: it is always this one".to_owned(),
        next: None,
        share: None,
    }));
    trial.observe(6);
    let end = trial.watcher.now();
    trial.watcher.assert_gaps(&healthy, BULK, (at, end), USUAL, WRITTEN_OFF);
    assert!(trial.daemon.log().contains("it is always this one"), "{}", trial.daemon.log());
    let status = trial.daemon.get("/api/v1/status").json();
    assert!(status["shards"]["monitor"]["halved"].as_u64().is_some_and(|halved| halved > 0), "{status}");
    let cleared = trial.watcher.now();
    trial.tell(Command::Clear(virtstat_sim::command::Nothing {}));
    trial.assert_all_back(&trial.names, cleared, 3.0);
    trial.finish();
}

/// As when libvirtd was restarted with no guest running, and numbers its runs from 1 again: another run under the same number.
#[test]
fn a_run_whose_counters_begin_anew_is_another_run() {
    let trial = Trial::running(5);
    let name = trial.names[0].as_str();
    let cpu = |trial: &Trial| {
        value(&parse(&trial.daemon.scrape()), "libvirt_domain_info_cpu_time_seconds_total", &[("domain", name)])
    };
    let before = cpu(&trial).expect("CPU time");
    trial.tell(Command::ResetCounters(Guests::all()));
    let small = wait_for("the counter to be small", || cpu(&trial).filter(|now| *now < before / 2.0));
    wait_for("the counter to grow", || cpu(&trial).filter(|now| *now > small));
}
