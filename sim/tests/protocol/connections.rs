//! Connections: keepalive, silence, events.

use std::time::{Duration, Instant};

use virtstat_sim::command::{Command, Connections, Guests, Happening, Nothing, OneChange, Silence, SuppressEvents};
use virtstat_sim::limits::Times;
use virtstat_sim::values::Time;
use virtstat_sim::wire::{self, Header, KEEPALIVE, PING, PONG};
use virtstat_sim::{Settings, Simulator, SocketError, StartError};

use crate::support::Lab;
use crate::support::client::{Client, about, domain};

fn quick_keepalive() -> Lab {
    Lab::with(|settings| {
        settings.domains = 1;
        settings.times =
            Times { keepalive_interval: Duration::from_millis(20), keepalive_count: 2, ..Times::default() };
    })
}

#[test]
fn a_client_that_can_answer_is_pinged_and_given_up_when_it_does_not() {
    let lab = quick_keepalive();
    let mut client = Client::open(&lab);
    assert_eq!(client.call(60, |out| out.i32(10)).ok().i32(), Ok(1));
    let ping = Header::message(KEEPALIVE, PING);
    for _ in 0..5 {
        use std::io::Write as _;
        assert_eq!(client.receive().header, ping);
        client.stream.write_all(&wire::bare(Header::message(KEEPALIVE, PONG))).unwrap();
    }
    assert_eq!((client.receive().header, client.receive().header), (ping, ping));
    client.assert_closed();
}

#[test]
fn a_client_that_did_not_ask_is_not_pinged() {
    let lab = quick_keepalive();
    let mut quiet = Client::open(&lab);
    let mut pinged = Client::open(&lab);
    pinged.call(60, |out| out.i32(10)).ok();
    pinged.assert_closed();
    quiet.assert_nothing();
    quiet.assert_alive();
}

#[test]
fn one_connection_hangs_and_the_others_do_not() {
    let lab = Lab::new(1);
    let (mut first, mut second) = (Client::open(&lab), Client::open(&lab));
    lab.tell(Command::HangConnections(Connections { connection: Some(1) }));
    first.send(157, |_| {});
    first.ping();
    second.assert_alive();
    first.assert_nothing();
    lab.tell(Command::ReleaseConnections(Connections::default()));
    // In either order: a pong needs no worker.
    let mut procedures = [first.receive().header.procedure, first.receive().header.procedure];
    procedures.sort_unstable();
    assert_eq!(procedures, [PONG, 157]);
    assert!(lab.simulator.control(Command::HangConnections(Connections { connection: Some(9) })).is_err());
}

#[test]
fn a_silent_daemon_accepts_and_says_nothing() {
    let lab = Lab::new(1);
    let mut before = Client::open(&lab);
    let begin = Instant::now();
    let lasting = Duration::from_millis(400);
    lab.tell(Command::Silence(Silence { lasting: Time(lasting) }));
    let mut during = Client::raw(&lab);
    during.send(66, |_| {});
    before.send(157, |_| {});
    assert_eq!(during.receive().ok().u32(), Ok(1));
    assert_eq!(before.receive().ok().u64(), Ok(9_000_000));
    assert!(begin.elapsed() >= lasting);
}

fn events(lab: &Lab, kind: Happening, name: &str) {
    let domain = Some(name.to_owned());
    lab.tell(Command::Change(OneChange { kind, domain, count: None, all: false }));
}

/// A persistent guest that runs.
fn persistent(lab: &Lab) -> String {
    lab.simulator.with_host(|host| {
        host.guests().find(|guest| guest.is_running() && guest.is_persistent()).unwrap().name().to_owned()
    })
}

#[test]
fn events_come_to_those_who_asked() {
    let lab = Lab::new(20);
    let name = persistent(&lab);
    let (mut all, mut other, mut none) = (Client::open(&lab), Client::open(&lab), Client::open(&lab));
    let callback = |client: &mut Client, event: i32, of: Option<[u8; 16]>| {
        let reply = client.call(316, |out| {
            out.i32(event);
            out.bool(of.is_some());
            if let Some(uuid) = of {
                domain(out, &uuid);
            }
        });
        reply.ok().i32().unwrap()
    };
    let lifecycle = callback(&mut all, 0, None);
    let metadata = callback(&mut all, 23, None);
    callback(&mut other, 0, Some([9; 16]));
    events(&lab, Happening::Pause, &name);
    events(&lab, Happening::Metadata, &name);
    let event = all.receive();
    assert_eq!(event.header.procedure, 318);
    let mut input = event.ok();
    assert_eq!(input.i32(), Ok(lifecycle));
    assert_eq!(wire::get_domain(&mut input, 99).unwrap().name, name);
    assert_eq!((input.i32(), input.i32()), (Ok(3), Ok(0)), "suspended, paused");
    let event = all.receive();
    assert_eq!((event.header.procedure, event.ok().i32()), (379, Ok(metadata)));
    // None came to the others before this.
    other.assert_alive();
    none.assert_alive();
    all.call(317, |out| out.i32(lifecycle)).ok();
    assert_eq!(all.call(317, |out| out.i32(lifecycle)).failure().code, 1);
    events(&lab, Happening::Resume, &name);
    all.assert_alive();
}

#[test]
fn events_are_kept_back_on_command() {
    let lab = Lab::new(20);
    let name = persistent(&lab);
    let mut client = Client::open(&lab);
    client.call(316, |out| {
        out.i32(0);
        out.bool(false);
    });
    lab.tell(Command::SuppressEvents(SuppressEvents::default()));
    events(&lab, Happening::Pause, &name);
    client.assert_alive();
    lab.tell(Command::Clear(Nothing {}));
    events(&lab, Happening::Resume, &name);
    assert_eq!(client.receive().header.procedure, 318);
}

#[test]
fn a_guest_that_ends_lets_go_whoever_hangs_at_it() {
    let lab = Lab::new(20);
    let name = persistent(&lab);
    let uuid = lab.uuid(&name);
    lab.tell(Command::Freeze(Guests::named(&name)));
    let mut client = Client::open(&lab);
    client.send(159, |out| {
        domain(out, &uuid);
        out.u32(13);
        out.u32(0);
    });
    lab.until("it hangs", |status| status.guests.occupied == [name.as_str()]);
    events(&lab, Happening::Crash, &name);
    assert_eq!(client.receive().failure().code, 55, "no longer running");
    assert_eq!(client.call(212, about(uuid)).ok().i32(), Ok(5));
    assert!(lab.simulator.status().guests.frozen.is_empty());
}

#[test]
fn a_second_one_at_the_same_socket_is_refused() {
    let lab = Lab::new(1);
    let error = Simulator::start(Settings::new(lab.simulator.socket())).err().unwrap();
    assert!(matches!(error, StartError::Socket(SocketError::InUse(_))), "{error}");
    Client::open(&lab).assert_alive();
    let path = lab.simulator.socket().to_owned();
    drop(lab);
    assert!(!path.exists());
}
