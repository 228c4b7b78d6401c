//! VDSM's JSON-RPC over STOMP, from the real binary on libvirt's own test driver: as oVirt's client speaks it, and as nobody should.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod client;
mod large;
mod reload;
mod tls;
mod unfriendly;

use std::io::Write as _;
use std::net::{Shutdown, SocketAddr};

use client::{CONNECT, Client, QUEUE, SUBSCRIPTION, ping, subscribe};
use support::daemon::{Daemon, config_file};
use support::exposition::{parse, value};

/// A daemon that listens for STOMP on loopback.
struct Host {
    daemon: Daemon,
    stomp: SocketAddr,
    _directory: tempfile::TempDir,
    file: String,
}

impl Host {
    fn new() -> Self {
        Self::with("stomp-listen = ['127.0.0.1:0']\n")
    }

    fn with(vdsm: &str) -> Self {
        let (directory, file) = config_file(&configuration(vdsm));
        let daemon = Daemon::start(&["--config", &file]);
        daemon.wait_ready();
        Self { stomp: daemon.stomp_address(), daemon, _directory: directory, file }
    }

    /// Another client of each kind gets what it asks for.
    fn serves_others(&self) {
        Client::open(self.stomp).asks("other");
        self.daemon.scrape();
    }

    fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        value(&parse(&self.daemon.scrape()), name, labels).expect("it is there from the start")
    }

    /// Waits until clients were let go for that reason so often.
    fn refused(&self, reason: &str, count: u32) {
        support::wait_for(&format!("{count} refusals for {reason}"), || {
            let now = self.metric("virtstatd_stomp_refused_total", &[("reason", reason)]);
            assert!(now <= f64::from(count), "{now} for {reason}");
            (now == f64::from(count)).then_some(())
        });
    }

    fn connections(&self, count: u32) {
        support::wait_for(&format!("{count} connections"), || {
            (self.metric("virtstatd_stomp_connections", &[]) == f64::from(count)).then_some(())
        });
    }
}

fn configuration(vdsm: &str) -> String {
    format!("[libvirt]\nuri = 'test:///default'\n[vdsm]\n{vdsm}")
}

#[test]
fn vdsm_client_is_answered_in_one_burst_and_byte_by_byte() {
    let host = Host::new();
    assert!(host.daemon.log().contains("carrying VDSM's JSON-RPC on stomp://127.0.0.1:"), "{}", host.daemon.log());
    assert!(host.daemon.log().contains(" (plain)"), "{}", host.daemon.log());
    Client::open(host.stomp).asks("burst");

    let mut client = Client::open(host.stomp);
    client.stream.set_nodelay(true).unwrap();
    for byte in [CONNECT, &subscribe(), &ping("bytes")].concat().bytes() {
        client.stream.write_all(&[byte]).unwrap();
    }
    assert_eq!(client.next().command, "CONNECTED");
    client.next().assert_answers("bytes");
    host.connections(1);
    drop(client);
    host.connections(0);
}

/// oVirt's client itself is in no distribution that this project is tested on.
#[test]
fn vdsm_client_prints_the_guests() {
    if !support::lab::may_run("vdsm-client") {
        return;
    }
    let host = Host::new();
    let (address, port) = (host.stomp.ip().to_string(), host.stomp.port().to_string());
    let arguments = ["--insecure", "-a", &address, "-p", &port, "Host", "getAllVmStats"];
    let printed = support::lab::run("vdsm-client", &arguments).unwrap();
    let vms: serde_json::Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((vms[0]["vmName"].as_str(), vms[0]["status"].as_str()), (Some("test"), Some("Up")), "{printed}");
}

#[test]
fn many_requests_on_one_connection_are_answered_in_order() {
    let host = Host::new();
    let mut client = Client::subscribed(host.stomp);
    let ids: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    client.say(&ids.iter().map(|id| ping(id)).collect::<String>());
    for id in &ids {
        client.next().assert_answers(id);
    }
    let below = ping("x").replace("vdsm_requests", "vdsm_irs_requests.below");
    client.say(&below);
    client.next().assert_answers("x");
    // With CR LF, and a header that is escaped and repeated.
    let body = ping("y").split_once("\n\n").unwrap().1.to_owned();
    client.say(&format!(
        "\r\n\nSEND\r\ndestination:jms.topic.vdsm_requests\r\nreply-to:{QUEUE}\r\nreply-to:nowhere\r\nx\\c:\\n\r\nreceipt:a\\cb\r\n\r\n{body}"
    ));
    client.next().assert_answers("y");
    let receipt = client.next();
    assert_eq!((receipt.command.as_str(), receipt.header("receipt-id")), ("RECEIPT", Some("a\\cb")));
    client.say(&format!("UNSUBSCRIBE\nid:{SUBSCRIPTION}\nreceipt:1\n\n\0DISCONNECT\nreceipt:2\n\n\0"));
    assert_eq!(client.next().header("receipt-id"), Some("1"));
    assert_eq!(client.next().header("receipt-id"), Some("2"));
    assert!(client.try_next().unwrap().is_none(), "closed");
}

#[test]
fn a_client_that_closed_its_side_gets_its_answer() {
    let host = Host::new();
    let mut client = Client::open(host.stomp);
    client.say(&[CONNECT, &subscribe(), &ping("half"), &ping("closed")].concat());
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.next().command, "CONNECTED");
    client.next().assert_answers("half");
    client.next().assert_answers("closed");
    assert!(client.try_next().unwrap().is_none());
    host.connections(0);
}

#[test]
fn errors_are_vdsms() {
    let host = Host::new();
    let mut client = Client::open(host.stomp);
    client.say("CONNECT\naccept-version:1.1\n\n\0");
    assert_eq!(client.error(), "Version unsupported");
    host.refused("bad_version", 1);
    let mut client = Client::subscribed(host.stomp);
    client.say("SEND\ndestination:jms.queue.events\n\n{}\0");
    assert_eq!(client.error(), "Subscription not available");
    host.refused("bad_request", 1);
    let mut client = Client::open(host.stomp);
    client.say(&ping("early"));
    assert_eq!(client.error(), "Not connected: the first frame must be CONNECT");
    host.refused("no_connect", 1);
    host.serves_others();
}

#[test]
fn it_is_off_by_default() {
    let daemon = Daemon::start(&["--uri", "test:///default"]);
    daemon.wait_ready();
    assert!(!daemon.log().contains("stomp"), "{}", daemon.log());
    assert_eq!(value(&parse(&daemon.scrape()), "virtstatd_stomp_connections", &[]), Some(0.0));
}
