//! Clients that break the rules, or that only take: each for itself, and nobody else notices.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use super::Host;
use super::client::{CONNECT, Client, ping, subscribe};
use super::support;

/// As many as are served at once.
const PLACES: u32 = 64;
/// So many requests, whose answers are not read, the sockets hold at least.
const LEAST: u32 = 1000;

#[test]
fn who_speaks_something_else_is_told_so_and_let_go() {
    let host = Host::new();
    let hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &[0x5a; 500]].concat();
    let noise: Vec<u8> = (0..5000_u32).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8 | 0x80).collect();
    let others: [&[u8]; 5] = [
        b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /jsonrpc HTTP/1.1\r\n",
        &hello,
        &noise,
        b"{\"jsonrpc\": \"2.0\"}",
    ];
    for (count, other) in (1..).zip(others) {
        let mut client = Client::open(host.stomp);
        client.stream.write_all(other).unwrap();
        assert_eq!(client.error(), "This is no STOMP: a frame begins with its command");
        host.refused("bad_frame", count);
        host.serves_others();
    }
    host.connections(0);
}

#[test]
fn a_hundred_megabytes_are_refused_announced_or_not() {
    let host = Host::new();
    let head = "SEND\ndestination:jms.topic.vdsm_requests\n";
    for (count, (begin, told)) in (1..).zip([
        (format!("{head}content-length:100000000\n\n"), "The body is too long: 1048576 bytes are possible"),
        (format!("{head}\n"), "The body is too long: 1048576 bytes are possible"),
        ("SEND\ndestination:".to_owned(), "Command and headers are too long: 16384 bytes are possible"),
        ("SEND\n".to_owned() + &"a:b\n".repeat(100), "Too many headers: 64 are possible"),
    ]) {
        let mut client = Client::subscribed(host.stomp);
        let mut stream = client.stream.try_clone().unwrap();
        let flood = thread::spawn(move || {
            let piece = vec![b'x'; 100_000];
            stream.write_all(begin.as_bytes()).unwrap();
            // It may end early, with an error: nobody wants them.
            let _ = (0..1000).try_for_each(|_| stream.write_all(&piece));
        });
        let error = client.next();
        assert_eq!((error.command.as_str(), error.text()), ("ERROR", told));
        host.serves_others();
        flood.join().unwrap();
        host.refused("too_large", count);
        drop(client);
    }
    host.connections(0);
    assert!(host.daemon.rss_anon() < 100_000, "{} KiB", host.daemon.rss_anon());
}

#[test]
fn a_flood_of_requests_without_reading_waits_for_itself() {
    let host = Host::new();
    let mut client = Client::subscribed(host.stomp);
    // Until the answers that it does not read have filled the sockets, and nothing more is taken from it.
    client.stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let (mut asked, mut rest, mut waited) = (0_u32, Vec::new(), 0);
    loop {
        if rest.is_empty() {
            rest = ping(&asked.to_string()).into_bytes();
        }
        match client.stream.write(&rest) {
            Ok(count) => {
                rest.drain(..count);
                asked += u32::from(rest.is_empty());
            }
            Err(_) if asked >= LEAST => break,
            // A slow machine, not a full socket.
            Err(_) => waited += 1,
        }
        assert!(asked < 1_000_000, "it is read without end");
        assert!(waited < 100, "no more than {asked} are taken");
    }
    host.serves_others();
    assert!(host.daemon.rss_anon() < 100_000, "{} KiB", host.daemon.rss_anon());
    // And when it reads at last it gets them all.
    for id in 0..asked {
        if id == asked / 2 {
            host.serves_others();
        }
        client.next().assert_answers(&id.to_string());
    }
    client.stream.set_write_timeout(None).unwrap();
    client.say(std::str::from_utf8(&rest).unwrap());
    client.next().assert_answers(&asked.to_string());
}

#[test]
fn who_reads_byte_by_byte_keeps_nobody_waiting() {
    let host = Host::new();
    let mut client = Client::open(host.stomp);
    client.say(&[CONNECT, &subscribe(), &(0..200).map(|id| ping(&id.to_string())).collect::<String>()].concat());
    let mut bytes = [0; 1000];
    for byte in bytes.chunks_mut(1) {
        client.stream.read_exact(byte).unwrap();
    }
    host.serves_others();
    assert!(bytes.starts_with(b"CONNECTED\n"));
}

#[test]
fn when_all_places_are_taken_the_next_client_gets_the_first_that_is_free() {
    let host = Host::new();
    let mut idle: Vec<_> = (1..PLACES).map(|_| Client::subscribed(host.stomp)).collect();
    host.connections(PLACES - 1);
    host.serves_others();
    idle.push(Client::subscribed(host.stomp));
    host.connections(PLACES);
    // This one waits in the listen queue, with all that it has to say.
    let mut next = Client::open(host.stomp);
    next.say(&[CONNECT, &subscribe(), &ping("next")].concat());
    next.stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(next.try_next().is_err(), "it is not served yet");
    next.stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
    host.daemon.scrape();
    drop(idle.pop());
    assert_eq!(next.next().command, "CONNECTED");
    next.next().assert_answers("next");
}

#[test]
fn who_never_connects_gives_its_place_back() {
    let host = Host::new();
    let _silent: Vec<TcpStream> = (0..PLACES).map(|_| TcpStream::connect(host.stomp).unwrap()).collect();
    host.serves_others();
    host.refused("no_connect", PLACES);
    host.connections(0);
}

#[test]
fn heart_beats_go_both_ways_and_are_no_requests() {
    let host = Host::new();
    let mut client = Client::open(host.stomp);
    client.say("CONNECT\naccept-version:1.2\nheart-beat:1000,1000\n\n\0");
    assert_eq!(client.next().header("heart-beat"), Some("1000,1000"));
    for _ in 0..4 {
        let mut beat = [0];
        client.stream.read_exact(&mut beat).unwrap();
        assert_eq!(beat, *b"\n");
        client.say("\n");
        host.serves_others();
    }
    client.say(&[&subscribe(), &ping("at last")[..]].concat());
    client.next().assert_answers("at last");
}

#[test]
fn who_leaves_in_the_middle_of_anything_is_forgotten() {
    let host = Host::new();
    let all = [CONNECT, &subscribe(), &ping("gone")].concat();
    for cut in (0..all.len()).step_by(7) {
        Client::open(host.stomp).say(&all[..cut]);
    }
    host.serves_others();
    host.connections(0);
    host.refused("bad_frame", 0);
}

#[test]
fn sigterm_ends_a_server_that_is_full_of_clients_which_read_nothing() {
    let mut host = Host::new();
    let requests = [CONNECT.to_owned(), subscribe(), ping("x").repeat(20_000)].concat();
    let clients: Vec<TcpStream> = (0..PLACES + 4)
        .map(|_| {
            let mut client = TcpStream::connect(host.stomp).unwrap();
            client.set_write_timeout(Some(Duration::from_millis(50))).unwrap();
            let _ = client.write(requests.as_bytes());
            client
        })
        .collect();
    host.daemon.signal("TERM");
    let (status, took) = host.daemon.wait();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(2), "ended after {took:?}; two seconds are promised");
    drop(clients);
}

#[test]
fn sigterm_ends_it_with_idle_clients_of_every_kind() {
    let mut host = Host::new();
    let silent = TcpStream::connect(host.stomp).unwrap();
    let mut connected = Client::subscribed(host.stomp);
    host.connections(2);
    host.daemon.signal("TERM");
    assert!(connected.try_next().unwrap().is_none(), "closed in order");
    let (status, took) = host.daemon.wait();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(2), "ended after {took:?}; two seconds are promised");
    drop(silent);
    support::wait_for("the port to be free", || TcpStream::connect(host.stomp).is_err().then_some(()));
}
