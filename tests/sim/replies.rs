//! Replies that are too large, damaged, or errors.

use virtstat_sim::command::{Command, Damage, Fail, Harm, Nothing, ReplyLimit};

use crate::{BULK, Trial, USUAL, WRITTEN_OFF};

fn bulk() -> Option<virtstat_sim::values::ProcedureName> {
    Some("ConnectGetAllDomainStats".parse().expect("a procedure"))
}

#[test]
fn bulk_calls_are_halved_until_their_replies_fit() {
    let trial = Trial::running(60);
    let at = trial.watcher.now();
    trial.tell(Command::ReplyLimit(ReplyLimit { bytes: 200_000, send: false }));
    trial.observe(5);
    let end = trial.watcher.now();
    trial.watcher.assert_gaps(&trial.names, BULK, (at, end), USUAL, WRITTEN_OFF);
    let shards = || trial.daemon.get("/api/v1/status").json()["shards"]["monitor"].clone();
    let learnt = shards();
    assert!(learnt["halved"].as_u64().unwrap() > 0, "{learnt}");
    assert!(learnt["reply_bytes_limit"].as_u64().unwrap() < 200_000, "{learnt}");
    trial.observe(3);
    assert_eq!(shards()["halved"], learnt["halved"], "what was learnt is kept");
    trial.finish();
}

/// libvirt.so closes a connection on which something longer comes than it admits.
#[test]
fn a_reply_that_costs_the_connection_costs_a_turn_and_no_more() {
    let trial = Trial::running(60);
    let at = trial.watcher.now();
    trial.tell(Command::ReplyLimit(ReplyLimit { bytes: 200_000, send: true }));
    trial.observe(3);
    trial.tell(Command::Clear(Nothing {}));
    let cleared = trial.watcher.now();
    trial.assert_all_back(&trial.names, cleared, 4.0);
    assert!(trial.watcher.longest(&trial.names, &["state"], (at, cleared)) < 4.0);
    trial.finish();
}

#[test]
fn damaged_replies_cost_little_and_never_a_wrong_figure() {
    let trial = Trial::running(30);
    for kind in
        [Harm::WrongCount, Harm::WrongType, Harm::Truncated, Harm::RandomBytes, Harm::WrongSerial, Harm::HalfThenClose]
    {
        let at = trial.watcher.now();
        trial.tell(Command::Damage(Damage { kind, procedure: bulk(), next: Some(3), share: None }));
        trial.observe(3);
        println!("{kind:?}");
        trial.assert_all_back(&trial.names, at, 5.0);
    }
    // Silence is noticed by the deadline, and the connection by keepalive.
    let at = trial.watcher.now();
    trial.tell(Command::Damage(Damage { kind: Harm::HalfThenSilence, procedure: bulk(), next: Some(1), share: None }));
    trial.observe(2);
    trial.assert_all_back(&trial.names, at, 13.0);
    trial.finish();
}

#[test]
fn a_share_of_failing_calls_is_made_up_for() {
    let trial = Trial::running(40);
    let at = trial.watcher.now();
    trial.tell(Command::Fail(Fail {
        code: 1,
        procedure: bulk(),
        domain: None,
        error_domain: 10,
        message: "now and then".to_owned(),
        next: None,
        share: Some(0.2.try_into().expect("a share")),
    }));
    trial.observe(6);
    let end = trial.watcher.now();
    trial.watcher.assert_gaps(&trial.names, BULK, (at, end), USUAL + 1.0, 3.5);
    trial.finish();
}
