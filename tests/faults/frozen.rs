//! Guests whose QEMU stops, as when their storage dies under them.

use std::time::{Duration, Instant};

use crate::support::exposition::{parse, value};
use crate::support::lab::{guest, virsh_within};
use crate::support::libvirtd::{Busy, BusyWorkers};
use crate::support::wait_for;
use crate::{ALL, CONFIG, FREE, GUESTS, Trial, USUAL, WRITTEN_OFF, enter, everybody, guests, periods};

/// What a frozen guest keeps: nothing of it needs its monitor.
const KEPT: &[&str] = &["state", "cpu", "interface"];

/// No more than these calls may be open at libvirtd, which serves everybody else with what is left of its workers.
fn assert_modest(busy: Busy) {
    assert!(busy.looks > 10, "{busy:?}");
    assert!(busy.most <= 4, "{} workers of libvirtd were busy", busy.most);
}

#[test]
fn one_frozen_guest_costs_nobody_else_a_sample() {
    let Some(lab) = enter() else { return };
    let trial = Trial::running(CONFIG, ALL);
    let watcher = &trial.watcher;
    let (victim, healthy) = (guest(GUESTS), guests(1..=GUESTS - 1));
    let before = watcher.now();
    trial.observe(5);

    let at = watcher.now();
    lab.freeze(&victim);
    trial.observe(20);
    let end = watcher.now();
    let victims = std::slice::from_ref(&victim);
    eprintln!("longest between two samples: the others {:.2} s", watcher.longest(&healthy, ALL, (at, end)));
    eprintln!("longest between two samples: the frozen one {:.2} s", watcher.longest(victims, KEPT, (at, end)));
    watcher.assert_gaps(&healthy, ALL, (at, end), USUAL, WRITTEN_OFF);
    watcher.assert_gaps(victims, KEPT, (at, end), USUAL, WRITTEN_OFF);
    {
        let seen = watcher.seen();
        let noticed = seen.first_responsive(&victim, false, at).expect("the frozen guest is said to be unresponsive");
        eprintln!("noticed after {:.2} s", noticed - at);
        assert!(noticed - at < periods(2), "noticed after {:.3} s", noticed - at);
        let wrong = healthy.iter().find(|name| seen.was_unresponsive(name));
        assert_eq!(wrong, None, "is well, and was said not to be");
        let latency = |between| format!("{:.1} ms", seen.latency(between, 99) * 1e3);
        eprintln!("99 of 100 scrapes: {} before, {} with a frozen guest", latency((before, at)), latency((at, end)));
    }
    watcher.wait_until("how long it is so", |series, _| {
        let of_victim = [("domain", victim.as_str())];
        value(series, "libvirt_domain_unresponsive_seconds", &of_victim).is_some_and(|seconds| seconds > end - at - 5.0)
    });
    let json = trial.daemon.get(&format!("/api/v1/domains/{victim}")).json();
    assert_eq!(json["responsive"], false, "{json}");
    assert!(json["unresponsive_since"].is_string(), "{json}");
    assert_eq!(json["standing"], "quarantined", "{json}");
    // A guest that was found stopped before it was asked holds no call.
    let timed_out = value(&parse(&trial.daemon.scrape()), "libvirt_domain_timed_out", &[("domain", &victim)]);
    assert_eq!(timed_out, Some(f64::from(u8::from(json["blocked_call"].is_string()))), "{json}");

    let thawed = watcher.now();
    lab.thaw_one(&victim);
    let late = watcher.wait_for_samples(&everybody(), ALL, thawed);
    eprintln!("all groups were back {late:.2} s after the thaw");
    assert!(late < periods(2), "all groups were back after {late:.3} s only");
    watcher.wait_until("the guest to be responsive", |series, _| {
        value(series, "libvirt_domain_responsive", &[("domain", &victim)]) == Some(1.0)
    });
    trial.watcher.finish();
}

#[test]
fn twenty_frozen_at_once_cost_the_healthy_three_periods_at_most() {
    let Some(mut lab) = enter() else { return };
    let trial = Trial::running(CONFIG, ALL);
    let watcher = &trial.watcher;
    let (healthy, victims) = (guests(1..=20), guests(21..=GUESTS));
    let counting = BusyWorkers::start();
    let at = watcher.now();
    lab.freeze_many(&victims);
    trial.observe(8);
    let end = watcher.now();
    let busy = counting.finish();
    let longest = |names: &[String], groups: &[&str]| watcher.longest(names, groups, (at, end));
    eprintln!("{} workers of libvirtd were busy at most", busy.most);
    eprintln!("longest between two samples: healthy, free groups {:.2} s", longest(&healthy, FREE));
    eprintln!("longest between two samples: healthy, all groups {:.2} s", longest(&healthy, ALL));
    eprintln!("longest between two samples: frozen, what is kept {:.2} s", longest(&victims, KEPT));
    assert_modest(busy);
    watcher.assert_gaps(&healthy, FREE, (at, end), USUAL, WRITTEN_OFF);
    watcher.assert_gaps(&victims, KEPT, (at, end), USUAL, periods(3));
    watcher.assert_gaps(&healthy, ALL, (at, end), periods(3), periods(3));
    watcher.assert_gaps(&healthy, ALL, (at + periods(3), end), USUAL, periods(3));

    // Whoever manages this host can go on to.
    let others = watcher.now();
    for command in [&["domstats", "--nowait", "lab-001"][..], &["dominfo", "lab-002"], &["dumpxml", "lab-003"]] {
        assert!(virsh_within(20, command).contains("lab-00"), "{command:?}");
    }
    let begin = Instant::now();
    lab.create("one-more", &[]);
    assert!(begin.elapsed() < Duration::from_secs(20), "a guest took {:?} to start", begin.elapsed());
    trial.wait_for_figures(&["one-more".to_owned()]);
    watcher.assert_gaps(&healthy, ALL, (others, watcher.now()), USUAL, WRITTEN_OFF);

    let thawed = watcher.now();
    lab.thaw();
    let late = watcher.wait_for_samples(&everybody(), ALL, thawed);
    assert!(late < periods(3), "all groups were back after {late:.3} s only");
    trial.watcher.finish();
}

#[test]
fn all_frozen_and_thawed_one_by_one() {
    let Some(lab) = enter() else { return };
    let trial = Trial::running(CONFIG, ALL);
    let watcher = &trial.watcher;
    let (threads, _) = trial.daemon.threads_and_descriptors();
    let at = watcher.now();
    lab.freeze_many(&everybody());
    trial.observe(5);
    for name in guests(1..=4) {
        let thawed = watcher.now();
        lab.thaw_one(&name);
        let late = watcher.wait_for_samples(std::slice::from_ref(&name), ALL, thawed);
        eprintln!("all groups of {name} were back {late:.2} s after its thaw");
        assert!(late < periods(3), "all groups of {name} were back after {late:.3} s only");
    }
    let thawed = watcher.now();
    lab.thaw();
    let late = watcher.wait_for_samples(&everybody(), ALL, thawed);
    assert!(late < periods(3), "all groups were back after {late:.3} s only");
    watcher.assert_gaps(&everybody(), FREE, (at, watcher.now()), USUAL, WRITTEN_OFF);
    wait_for("the threads that replaced stuck ones to end", || {
        (trial.daemon.threads_and_descriptors().0 <= threads).then_some(())
    });
    trial.watcher.finish();
}

#[test]
fn a_daemon_that_starts_anew_does_not_add_to_the_calls_of_the_one_before() {
    let Some(lab) = enter() else { return };
    let (healthy, victims) = (guests(1..=20), guests(21..=GUESTS));
    let counting = BusyWorkers::start();
    let first = Trial::running(CONFIG, ALL);
    lab.freeze_many(&victims);
    first.watcher.wait_until("calls to hang", |_, scrape| scrape.quarantined > 0.0);
    first.observe(3);
    let Trial { watcher, daemon, .. } = first;
    watcher.finish();
    drop(daemon); // by SIGKILL: what it had open at libvirtd stays open there

    let second = Trial::start(CONFIG);
    let late = second.wait_for_figures(&healthy);
    eprintln!("the healthy ones were sampled {late:.2} s after the start");
    assert!(late < periods(3), "the healthy ones were sampled after {late:.3} s only");
    second.observe(5);
    let busy = counting.finish();
    eprintln!("{} workers of libvirtd were busy at most, over both lives", busy.most);
    assert_modest(busy);
    let thawed = second.watcher.now();
    lab.thaw();
    let late = second.watcher.wait_for_samples(&everybody(), ALL, thawed);
    assert!(late < periods(3), "all groups were back after {late:.3} s only");
    second.watcher.finish();
}

#[test]
fn a_guest_that_freezes_in_a_block_info_call_costs_the_others_none() {
    let Some(lab) = enter() else { return };
    // There is hardly a moment without such a call.
    let config = "[sampling]\nperiod = '1s'\ngroups = ['state', 'block_info']\n[sampling.periods]\nblock-info = '1s'\n";
    let groups = ["state", "block_info"];
    let trial = Trial::running(config, &groups);
    let watcher = &trial.watcher;
    for victim in guests(38..=GUESTS) {
        let healthy: Vec<_> = everybody().into_iter().filter(|name| *name != victim).collect();
        let at = watcher.now();
        lab.freeze(&victim);
        watcher.wait_until("the frozen guest to be noticed", |series, _| {
            value(series, "libvirt_domain_responsive", &[("domain", &victim)]) == Some(0.0)
        });
        watcher.observe(Duration::from_secs(4));
        let end = watcher.now();
        watcher.assert_gaps(&healthy, &groups, (at, end), 1.5, 2.3);
        watcher.assert_gaps(std::slice::from_ref(&victim), &["state"], (at, end), 1.5, 2.3);
        lab.thaw_one(&victim);
        let late = watcher.wait_for_samples(&everybody(), &groups, end);
        assert!(late < 3.5, "block information was back after {late:.3} s only");
    }
    trial.watcher.finish();
}
