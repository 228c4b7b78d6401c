//! A libvirtd that dies, hangs or is away. The guests live on, and so must what is known of them.

use std::time::Duration;

use crate::support::exposition::{find, value};
use crate::support::lab::guest;
use crate::support::libvirtd::Libvirtd;
use crate::support::proxy::Proxy;
use crate::support::wait_for;
use crate::{ALL, CONFIG, GUESTS, Trial, enter, everybody, periods};

/// How long libvirtd stays away, where the length matters.
fn absence() -> Duration {
    let seconds = std::env::var("VIRTSTATD_TEST_ABSENCE").ok().map_or(60, |text| text.parse().expect("seconds"));
    Duration::from_secs(seconds)
}

impl Trial {
    /// /metrics says that libvirt is away, and still how old everything is.
    fn wait_for_loss(&self) {
        self.watcher.wait_until("libvirt_up 0", |series, scrape| {
            let ages = find(series, "libvirt_domain_sample_age_seconds", &[]).len();
            assert!(ages >= GUESTS * ALL.len(), "only {ages} ages are left");
            !scrape.up
        });
    }

    /// It is back: so are all samples within two periods, and nothing was lost on the way.
    fn finish_after_return(self) {
        let returned = self.watcher.now();
        let late = self.watcher.wait_for_samples(&everybody(), ALL, returned);
        eprintln!("sampled again {late:.2} s after the return");
        assert!(late < periods(2), "sampled again after {late:.3} s only");
        self.watcher.wait_until("libvirt_up 1, and no call left from before", |series, scrape| {
            let reconnects = value(series, "virtstatd_reconnects_total", &[]);
            scrape.up && scrape.calls_open == 0.0 && reconnects.is_some_and(|count| count >= 1.0)
        });
        self.watcher.finish();
    }
}

#[test]
fn libvirtd_is_killed_and_started_again() {
    let Some(lab) = enter() else { return };
    let libvirtd = Libvirtd::of(&lab);
    let trial = Trial::running(CONFIG, ALL);
    libvirtd.kill();
    trial.wait_for_loss();
    libvirtd.start();
    trial.finish_after_return();
}

#[test]
fn libvirtd_is_killed_in_the_middle_of_a_call() {
    let Some(lab) = enter() else { return };
    let libvirtd = Libvirtd::of(&lab);
    let trial = Trial::running(CONFIG, ALL);
    let victim = guest(GUESTS);
    lab.freeze(&victim);
    trial.watcher.wait_until("the frozen guest to be noticed", |series, _| {
        value(series, "libvirt_domain_responsive", &[("domain", &victim)]) == Some(0.0)
    });
    // Stopped first, so that calls are surely open when it dies.
    libvirtd.freeze();
    trial.watcher.wait_until("calls to hang", |_, scrape| scrape.calls_open >= 1.0);
    trial.observe(1);
    libvirtd.kill();
    trial.wait_for_loss();
    lab.thaw_one(&victim);
    libvirtd.start();
    trial.finish_after_return();
}

#[test]
fn libvirtd_is_away_for_a_while() {
    let Some(lab) = enter() else { return };
    let libvirtd = Libvirtd::of(&lab);
    let trial = Trial::running(CONFIG, ALL);
    libvirtd.stop();
    trial.wait_for_loss();
    trial.watcher.observe(absence());
    libvirtd.start();
    trial.finish_after_return();
}

#[test]
fn libvirtd_says_nothing_for_twenty_seconds() {
    let Some(lab) = enter() else { return };
    let libvirtd = Libvirtd::of(&lab);
    let trial = Trial::running(CONFIG, ALL);
    let at = trial.watcher.now();
    libvirtd.freeze();
    trial.wait_for_loss();
    let noticed = trial.watcher.now() - at;
    eprintln!("its silence was noticed after {noticed:.1} s");
    assert!(noticed < 10.0, "its silence was noticed after {noticed:.1} s only");
    trial.watcher.observe(Duration::from_secs_f64(20.0 - noticed));
    libvirtd.thaw();
    trial.finish_after_return();
}

#[test]
fn sigterm_ends_the_daemon_while_its_calls_hang() {
    let Some(lab) = enter() else { return };
    let libvirtd = Libvirtd::of(&lab);
    let mut trial = Trial::running(CONFIG, ALL);
    libvirtd.freeze();
    trial.watcher.wait_until("calls to be written off", |series, scrape| {
        let late = |call| value(series, "virtstatd_calls_timed_out_total", &[("call", call)]).unwrap_or(0.0);
        scrape.calls_open >= 1.0 && late("virConnectGetAllDomainStats") + late("virDomainListGetStats") > 0.0
    });
    trial.daemon.signal("TERM");
    // libvirtd stays silent until the test ends: only an end that waits for no call gets here.
    let (status, took) = trial.daemon.wait();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(2), "ended after {took:?}; two seconds are promised");
}

#[test]
fn a_socket_that_took_connections_and_never_answered_begins_to() {
    let Some(_lab) = enter() else { return };
    let proxy = Proxy::start_mute();
    let trial = Trial::start_at(&proxy.uri(), CONFIG);
    wait_for("a connection", || (proxy.held() > 0).then_some(()));
    trial.observe(6);
    assert!(!trial.watcher.seen().scrapes.iter().any(|scrape| scrape.up), "nobody ever answered");
    let (threads, _) = trial.daemon.threads_and_descriptors();
    trial.observe(6);
    let later = trial.daemon.threads_and_descriptors().0;
    assert!(later <= threads, "{later} threads after 12 periods of silence, {threads} after 6");
    proxy.speak();
    let late = trial.wait_for_figures(&everybody());
    eprintln!("sampled {late:.2} s after its first word");
    // An attempt that had begun is given up first.
    assert!(late < periods(3), "sampled after {late:.3} s only");
    trial.watcher.wait_until("libvirt_up 1", |_, scrape| scrape.up);
    trial.watcher.finish();
}

const ROUNDS: usize = 50;

#[test]
fn fifty_deaths_of_libvirtd_leave_nothing_behind() {
    let Some(lab) = enter() else { return };
    let libvirtd = Libvirtd::of(&lab);
    let config = "[sampling]\nperiod = '1s'\n[sampling.periods]\nblock-info = '1s'\n";
    let trial = Trial::running(config, ALL);
    let count = || trial.daemon.threads_and_descriptors();
    // The least of some looks: the watcher's own connections come and go.
    let looks = (0..50).map(|_| {
        trial.watcher.observe(Duration::from_millis(20));
        count()
    });
    let (threads, descriptors) = looks.reduce(|a, b| (a.0.min(b.0), a.1.min(b.1))).unwrap();
    let mut memory = 0;
    for round in 1..=ROUNDS {
        libvirtd.kill();
        libvirtd.start();
        trial.watcher.wait_for_samples(&everybody(), &["state", "block"], trial.watcher.now());
        if round == 5 {
            // What the first losses ever need is had by now.
            memory = trial.daemon.rss_anon();
        }
    }
    let grown = trial.daemon.rss_anon() - memory;
    eprintln!("{ROUNDS} rounds: {grown} KiB grown, {threads} threads, {descriptors} descriptors");
    assert!(grown < 1024, "{grown} KiB more after {ROUNDS} rounds than after 5");
    wait_for(&format!("{threads} threads and {descriptors} descriptors again"), || {
        let (now, open) = count();
        (now <= threads && open <= descriptors).then_some(())
    });
    trial.watcher.finish();
}
