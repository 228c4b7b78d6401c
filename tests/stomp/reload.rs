//! A reload: other addresses, none, and some that cannot be.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::OwnedFd;

use super::client::Client;
use super::support::daemon::{Daemon, command, config_file};
use super::{Host, configuration, support};

/// An address for the daemon alone: as long as the socket is there, which does not listen, nobody gets the port by chance.
fn free() -> (OwnedFd, String) {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket, sockopt};
    let held = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    // Whoever asks for this port gets it then, as the daemon does.
    sockopt::set_socket_reuseaddr(&held, true).unwrap();
    bind(&held, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = SocketAddrV4::try_from(getsockname(&held).unwrap()).unwrap();
    (held, address.to_string())
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
    let first = host.stomp;
    let (_held, second) = free();
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
fn an_address_may_go_from_one_server_to_the_other() {
    let with = |http: &str, stomp: &str| {
        format!("{}[http]\nlisten = ['{http}']\n", configuration(&format!("stomp-listen = ['{stomp}']\n")))
    };
    let (_directory, file) = config_file(&with("127.0.0.1:0", "127.0.0.1:0"));
    let daemon = Daemon::start_anyhow(&["--config", &file]);
    let (http, stomp) = (daemon.address(), daemon.stomp_address());
    for (new_http, new_stomp) in [(stomp, http), (http, stomp)] {
        std::fs::write(&file, with(&new_http.to_string(), &new_stomp.to_string())).unwrap();
        daemon.signal("HUP");
        support::wait_for("both to move", || {
            (daemon.address() == new_http && daemon.stomp_address() == new_stomp).then_some(())
        });
        assert_eq!(daemon.get("/-/healthy").status, 200);
        Client::open(new_stomp).asks("moved");
    }
    assert!(!daemon.log().contains("cannot listen"), "{}", daemon.log());
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
