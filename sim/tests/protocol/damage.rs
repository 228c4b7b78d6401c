//! Replies that are damaged, calls that fail, calls that are slow.

use std::io::Read as _;
use std::time::{Duration, Instant};

use virtstat_sim::command::{Command, Damage, Fail, Harm, Latency, Nothing};
use virtstat_sim::wire::status;

use crate::support::Lab;
use crate::support::client::{Client, Failure, NOWAIT, about, bulk};

fn damage(lab: &Lab, kind: Harm) {
    let procedure = Some("ConnectGetAllDomainStats".parse().unwrap());
    lab.tell(Command::Damage(Damage { kind, procedure, next: Some(1), share: None }));
}

#[test]
fn half_a_reply_and_then_nothing_or_the_end() {
    let lab = Lab::new(3);
    let whole = Client::open(&lab).call(344, bulk(&[], 1, 0)).payload.len() + 28;
    let mut half = vec![0; whole / 2];
    damage(&lab, Harm::HalfThenClose);
    let mut client = Client::open(&lab);
    client.send(344, bulk(&[], 1, 0));
    client.stream.read_exact(&mut half).unwrap();
    assert_eq!(client.stream.read(&mut [0]).unwrap(), 0);

    damage(&lab, Harm::HalfThenSilence);
    let mut client = Client::open(&lab);
    client.send(344, bulk(&[], 1, 0));
    client.stream.read_exact(&mut half).unwrap();
    client.send(157, |_| {});
    lab.until("the second call is served", |status| {
        status.calls.contains_key("ConnectGetLibVersion")
            && status.connections.iter().any(|connection| connection.open_calls == 2)
    });
    client.assert_nothing();
    assert_eq!(Client::open(&lab).call(344, bulk(&[], 1, 0)).payload.len() + 28, whole, "one reply alone");
}

#[test]
fn each_kind_of_damage_is_done_once() {
    let lab = Lab::new(3);
    let mut client = Client::open(&lab);
    let good = client.call(344, bulk(&[], 1, 0)).payload;
    let mut damaged = |kind| {
        damage(&lab, kind);
        client.call(344, bulk(&[], 1, 0)).payload
    };
    assert_eq!(damaged(Harm::WrongCount)[..4], 0x7fff_ffff_u32.to_be_bytes());
    assert_eq!(damaged(Harm::Truncated).len(), good.len() / 2 / 4 * 4);
    let noise = damaged(Harm::RandomBytes);
    assert!(noise.len() == good.len() && noise != good);
    let typed = damaged(Harm::WrongType);
    assert_eq!(typed.len(), good.len());
    assert_eq!(typed.iter().zip(&good).filter(|(a, b)| a != b).count(), 1, "one byte of one type");
    damage(&lab, Harm::WrongSerial);
    let serial = client.send(344, bulk(&[], 1, 0));
    assert_ne!(client.receive().header.serial, serial);
    assert_eq!(client.call(344, bulk(&[], 1, 0)).payload, good);
}

fn fail(code: i32) -> Fail {
    serde_json::from_value(serde_json::json!({ "code": code })).unwrap()
}

#[test]
fn calls_fail_by_procedure_and_by_guest() {
    let lab = Lab::new(3);
    let (bad, good) = (lab.name(0), lab.name(1));
    let mut client = Client::open(&lab);
    let procedure = Some("DomainGetInfo".parse().unwrap());
    lab.tell(Command::Fail(Fail { procedure, next: Some(1), message: "broken".to_owned(), ..fail(38) }));
    let info = |client: &mut Client, name: &str| client.call(16, about(lab.uuid(name)));
    let failure = Failure { code: 38, domain: 10, message: "broken".to_owned() };
    assert_eq!(info(&mut client, &good).failure(), failure);
    info(&mut client, &good).ok();
    lab.tell(Command::Fail(Fail { domain: Some(bad.clone()), ..fail(1) }));
    assert_eq!(info(&mut client, &bad).failure().code, 1);
    info(&mut client, &good).ok();
    assert_eq!(client.call(344, bulk(&[], 1, NOWAIT)).failure().code, 1, "all for one");
    assert_eq!(client.call(344, bulk(&[lab.uuid(&good)], 1, NOWAIT)).header.status, status::OK);
    assert_eq!(lab.simulator.status().rules.len(), 1);
    lab.tell(Command::Clear(Nothing {}));
    info(&mut client, &bad).ok();
    assert_eq!(lab.simulator.status().calls["DomainGetInfo"].failed, 2);
}

#[test]
fn calls_are_slow_by_procedure_and_by_guest() {
    const SLOW: Duration = Duration::from_millis(60);
    let lab = Lab::new(3);
    let slow = lab.name(0);
    let mut client = Client::open(&lab);
    let mut timed = |procedure: u32, arguments: Box<dyn FnOnce(&mut virtstat_sim::xdr::Encoder)>| {
        let begin = Instant::now();
        client.call(procedure, arguments).ok();
        begin.elapsed()
    };
    let distribution = "60ms".parse().unwrap();
    let procedure = Some("DomainGetState".parse().unwrap());
    lab.tell(Command::Latency(Latency { distribution, procedure, domain: None }));
    assert!(timed(212, Box::new(about(lab.uuid(&slow)))) >= SLOW);
    lab.tell(Command::Clear(Nothing {}));
    lab.tell(Command::Latency(Latency { distribution, procedure: None, domain: Some(slow.clone()) }));
    assert!(timed(344, Box::new(bulk(&[], 1, 0))) >= SLOW);
    // Meanwhile its job is held, if the call wants that.
    client.send(344, bulk(&[], 2, 0));
    lab.until("occupied", |status| status.guests.occupied == [slow.as_str()]);
    client.receive().ok();
}
