//! Limits of messages and lists, and clients that do not keep to the protocol.

use std::io::Write as _;

use virtstat_sim::command::{Command, Happening, OneChange, ReplyLimit};
use virtstat_sim::wire::{self, Header, KEEPALIVE, PONG, REMOTE, kind, status};

use crate::support::Lab;
use crate::support::client::{Client, Failure, about, bulk, records};

fn rpc(code: i32, message: &str) -> Failure {
    Failure { code, domain: 7, message: message.to_owned() }
}

#[test]
fn domains_in_a_list_and_in_a_bulk_reply_are_16384_at_most() {
    let lab = Lab::new(16_384);
    let mut client = Client::open(&lab);
    let list = |client: &mut Client| {
        client.call(273, |out| {
            out.i32(1);
            out.u32(0);
        })
    };
    assert_eq!(list(&mut client).ok().u32(), Ok(16_384));
    assert_eq!(records(&client.call(344, bulk(&[], 1, 0))).len(), 16_384);
    lab.tell(Command::Change(OneChange { kind: Happening::MigrateIn, domain: None, count: None, all: false }));
    assert_eq!(list(&mut client).failure().code, 1);
    assert_eq!(client.call(344, bulk(&[], 1, 0)).failure().code, 1);
    // And so many may be named, but no more.
    let named = vec![lab.uuid(&lab.name(0)); 16_385];
    assert_eq!(client.call(344, bulk(&named[1..], 1, 0)).ok().u32(), Ok(16_384));
    let refused = client.call(344, bulk(&named, 1, 0)).failure();
    assert_eq!(refused, rpc(39, "Unable to decode message payload"));
    // All groups of all of them are more than a message may hold.
    let named: Vec<[u8; 16]> =
        lab.simulator.with_host(|host| host.guests().map(|guest| *guest.uuid()).take(16_384).collect());
    let refused = client.call(344, bulk(&named, 0, 0)).failure();
    assert_eq!(refused, rpc(39, "Unable to encode message payload"));
    client.assert_alive();
}

#[test]
fn a_lower_limit_of_replies_is_kept_or_overrun() {
    let lab = Lab::new(20);
    let mut client = Client::open(&lab);
    lab.tell(Command::ReplyLimit(ReplyLimit { bytes: 3000, send: false }));
    assert_eq!(client.call(344, bulk(&[], 0, 0)).failure(), rpc(39, "Unable to encode message payload"));
    assert_eq!(records(&client.call(344, bulk(&[], 1, 0))).len(), 20);
    lab.tell(Command::ReplyLimit(ReplyLimit { bytes: 3000, send: true }));
    let reply = client.call(344, bulk(&[], 0, 0));
    assert!(reply.payload.len() + 28 > 33_554_432 + 4, "{}", reply.payload.len());
}

#[test]
fn what_is_not_served_is_refused_and_the_connection_goes_on() {
    let lab = Lab::new(1);
    let mut client = Client::open(&lab);
    assert_eq!(client.call(122, |_| {}).failure(), rpc(39, "unknown procedure: 122"));
    assert_eq!(client.call(9999, |_| {}).failure().code, 39);
    let strange =
        Header { program: 0x2000_8087, version: 1, procedure: 1, kind: kind::CALL, serial: 77, status: status::OK };
    client.stream.write_all(&wire::bare(strange)).unwrap();
    let reply = client.receive();
    assert_eq!((reply.header.program, reply.header.serial), (0x2000_8087, 77));
    assert_eq!(reply.failure().code, 39);
    client.assert_alive();
}

#[test]
fn a_connection_that_was_not_opened_may_do_little() {
    let lab = Lab::new(1);
    let mut client = Client::raw(&lab);
    assert_eq!(client.call(60, |out| out.i32(14)).ok().i32(), Ok(1));
    assert_eq!(client.call(157, |_| {}).failure().message, "internal error: connection not open");
}

#[test]
fn messages_that_there_cannot_be_close_the_connection() {
    let lab = Lab::new(1);
    for length in [0_u32, 3, 27, 33_554_437, u32::MAX] {
        let mut client = Client::open(&lab);
        let mut message = [0; 28];
        message[..4].copy_from_slice(&length.to_be_bytes());
        client.stream.write_all(&message).unwrap();
        client.assert_closed();
    }
    let reply = Header { program: REMOTE, version: 1, procedure: 3, kind: kind::REPLY, serial: 0, status: status::OK };
    let mut client = Client::open(&lab);
    client.stream.write_all(&wire::bare(reply)).unwrap();
    client.assert_closed();
    Client::open(&lab).assert_alive();
}

#[test]
fn no_payload_makes_it_fall() {
    let lab = Lab::new(3);
    let mut client = Client::open(&lab);
    let uuid = lab.uuid(&lab.name(0));
    let mut noise = 1_u64;
    for procedure in (1..450).filter(|procedure| ![1, 2].contains(procedure)) {
        for words in [0_usize, 1, 3, 9, 40] {
            let serial = client.send(procedure, |out| {
                for _ in 0..words {
                    noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    out.u32((noise >> 33) as u32);
                }
            });
            assert_eq!(client.receive().header.serial, serial, "{procedure}");
        }
        // Right as far as it goes, and noise behind.
        let serial = client.send(procedure, |out| {
            about(uuid)(out);
            out.fixed(&[0xff; 32]);
        });
        assert_eq!(client.receive().header.serial, serial, "{procedure}");
    }
    client.assert_alive();
}

#[test]
fn a_ping_is_answered() {
    let lab = Lab::new(1);
    let mut client = Client::open(&lab);
    client.ping();
    assert_eq!(client.receive().header, Header::message(KEEPALIVE, PONG));
}
