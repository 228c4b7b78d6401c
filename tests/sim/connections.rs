//! A libvirtd that goes away, stands still, or loses connections.

use virtstat_sim::command::{Command, Connections, Restart, Silence};
use virtstat_sim::values::Time;

use crate::Trial;

/// Two questions of keepalive are 2 s apart, three may stay unanswered, and then a connection is opened anew.
const SILENCE_NOTICED: f64 = 9.0;

#[test]
fn a_restart_is_over_when_libvirtd_is_back() {
    let trial = Trial::running(30);
    for seconds in [0, 3] {
        trial.tell(Command::Restart(Restart { away: Time::seconds(seconds) }));
        trial.observe(u32::try_from(seconds).unwrap());
        let back = trial.watcher.now();
        trial.assert_all_back(&trial.names, back, 4.0);
    }
    trial.finish();
}

#[test]
fn connections_that_are_dropped_are_opened_again() {
    let trial = Trial::running(30);
    for _ in 0..5 {
        let at = trial.watcher.now();
        trial.tell(Command::DropConnections(Connections::default()));
        trial.assert_all_back(&trial.names, at, 4.0);
    }
    let (_, before) = trial.daemon.threads_and_descriptors();
    for _ in 0..20 {
        let at = trial.watcher.now();
        trial.tell(Command::DropConnections(Connections::default()));
        trial.watcher.wait_for_samples(&trial.names[..1], &["cpu"], at);
    }
    let (_, after) = trial.daemon.threads_and_descriptors();
    assert!(after <= before + 4, "{before} descriptors before, {after} after");
    trial.finish();
}

#[test]
fn connections_that_hang_are_given_up() {
    let trial = Trial::running(20);
    let at = trial.watcher.now();
    trial.tell(Command::HangConnections(Connections::default()));
    trial.assert_all_back(&trial.names, at, SILENCE_NOTICED + 4.0);
    trial.finish();
}

#[test]
fn a_libvirtd_that_stands_still_is_noticed_and_taken_back() {
    let trial = Trial::running(20);
    trial.tell(Command::Silence(Silence { lasting: Time::seconds(12) }));
    trial.watcher.wait_until("the silence to be noticed", |_, scrape| !scrape.up);
    trial.watcher.wait_until("libvirtd to be taken back", |_, scrape| scrape.up);
    trial.assert_all_back(&trial.names, trial.watcher.now(), 5.0);
    trial.finish();
}
