//! A reload: other addresses, none, and some that cannot be.

use std::net::{TcpListener, TcpStream};

use super::client::Client;
use super::support::daemon::{command, config_file};
use super::{Host, configuration, support};

/// An address that nobody has at the moment.
fn free() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

impl Host {
    pub(crate) fn reload(&self, vdsm: &str, expected: &str) {
        let times = |log: &str| log.matches(expected).count();
        let before = times(&self.daemon.log());
        std::fs::write(&self.file, configuration(vdsm)).unwrap();
        self.daemon.signal("HUP");
        support::wait_for(expected, || (times(&self.daemon.log()) > before).then_some(()));
    }
}

#[test]
fn addresses_come_and_go_and_bad_ones_leave_the_old_in_force() {
    let mut host = Host::new();
    let (first, second) = (host.stomp, free());
    host.reload(&format!("stomp-listen = ['{second}']\n"), &format!("stomp://{second}"));
    host.stomp = host.daemon.stomp_address();
    assert_eq!(host.stomp.to_string(), second);
    host.serves_others();
    assert!(TcpStream::connect(first).is_err(), "the old address is free again");

    // The same again disturbs nobody who is connected.
    let mut client = Client::subscribed(host.stomp);
    host.reload(&format!("stomp-listen = ['{second}']\n"), "the new configuration is in force");
    client.say(&super::ping("still here"));
    client.next().assert_answers("still here");

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().map(|address| (taken, address)).unwrap();
    let complaint = format!("cannot listen on {} (vdsm.stomp-listen): another program", taken.1);
    host.reload(&format!("stomp-listen = ['{second}', '{}']\n", taken.1), &complaint);
    support::wait_for("the old address", || TcpStream::connect(host.stomp).is_ok().then_some(()));
    assert!(host.daemon.log().contains("the old STOMP addresses stay in force"), "{}", host.daemon.log());
    host.serves_others();

    host.reload("stomp-listen = ['0.0.0.0:0']\ntls-certificate = '/nonexistent'\n", "/nonexistent: cannot be read");
    host.serves_others();

    host.reload("", "the new configuration is in force");
    support::wait_for("the end of STOMP", || TcpStream::connect(host.stomp).is_err().then_some(()));
    host.daemon.scrape();
    host.reload(&format!("stomp-listen = ['{second}']\n"), &format!("stomp://{second}"));
    host.serves_others();
    host.connections(0);
}

#[test]
fn a_port_that_is_taken_fails_the_start_with_the_cure() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let (_directory, file) = config_file(&configuration(&format!("stomp-listen = ['{address}']\n")));
    let output = command(&["run", "--config", &file, "--listen", "127.0.0.1:0"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let expected = format!("virtstatd: cannot listen on {address} (vdsm.stomp-listen): another program");
    assert!(said.contains(&expected) && said.contains("choose another"), "{said}");
    let checked = command(&["check", "--config", &file]).output().unwrap();
    assert_eq!(checked.status.code(), Some(0), "check opens no port");
    assert!(String::from_utf8(checked.stdout).unwrap().contains(&format!("stomp      {address}\n")));
}
