//! Who has which IP address, of a network that the real libvirt runs.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::{Duration, SystemTime};

use support::daemon::{Daemon, config_file};
use support::lab::{self, run, virsh};
use support::wait_for;

const NAME: &str = "vsd-leases";
const BRIDGE: &str = "vsd-br0";
/// Where libvirt's helper writes what dnsmasq has lent, and libvirt reads it.
const STATUS: &str = "/var/lib/libvirt/dnsmasq/vsd-br0.status";

/// A network with DHCP, on addresses for documentation.
struct Network;

impl Network {
    fn create() -> Self {
        let network = Self;
        network.end();
        let xml = format!(
            "<network><name>{NAME}</name><forward mode='open'/><bridge name='{BRIDGE}' stp='off'/>\
             <ip address='198.51.100.1' netmask='255.255.255.0'><dhcp><range start='198.51.100.10' end='198.51.100.99'/></dhcp></ip></network>"
        );
        let mut file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file, xml.as_bytes()).unwrap();
        virsh(&["net-create", file.path().to_str().unwrap()]);
        network
    }

    /// Writes leases as libvirt's helper does: no guest of the laboratory speaks DHCP.
    fn lend(&self, leases: &[(&str, &str, Duration)]) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let entry = |(address, mac, time): &(&str, &str, Duration)| serde_json::json!({"ip-address": address, "mac-address": mac, "expiry-time": (now + *time).as_secs()});
        let text = serde_json::to_string(&leases.iter().map(entry).collect::<Vec<_>>()).unwrap();
        std::fs::write(STATUS, text).unwrap();
    }

    fn end(&self) {
        // It is no fault if it is not there.
        let _ = run("virsh", &["--quiet", "--connect", "qemu:///system", "net-destroy", NAME]);
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.end();
        let _ = std::fs::remove_file(STATUS);
    }
}

#[test]
fn guests_are_looked_up_by_the_addresses_that_libvirt_has_leased() {
    let Some(_lab) = lab::enter() else { return };
    let network = Network::create();
    let mac = |name: &str| {
        let table = virsh(&["domiflist", name]);
        let line = table.lines().find(|line| line.contains("virtio")).unwrap().to_owned();
        line.split_whitespace().nth(4).unwrap().to_owned()
    };
    let (first, second) = (lab::guest(1), lab::guest(2));
    let hour = Duration::from_secs(3600);
    network.lend(&[("198.51.100.50", &mac(&first), hour), ("198.51.100.51", "52:54:00:99:99:99", hour)]);

    let (_directory, path) = config_file("[sampling]\nperiod = '1s'\n[sampling.periods]\ninventory = '1s'\n");
    let daemon = Daemon::start(&["--config", &path]);
    daemon.wait_ready();
    let found = |address: &str| {
        let answer = daemon.get(&format!("/api/v1/lookup?ip={address}")).json();
        answer["domains"][0]["name"].as_str().map(str::to_owned)
    };
    wait_for("the lease to be known", || (found("198.51.100.50") == Some(first.clone())).then_some(()));
    assert_eq!(found("::ffff:198.51.100.50"), Some(first.clone()), "the same address in its other form");
    for nobody in ["198.51.100.51", "198.51.100.52"] {
        let answer = daemon.get(&format!("/api/v1/lookup?ip={nobody}"));
        assert_eq!(answer.status, 404);
        let message = answer.json()["error"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains("has leased") && message.contains("agent"), "it says why not: {message}");
    }
    network.lend(&[("198.51.100.50", &mac(&second), hour)]);
    wait_for("its next owner", || (found("198.51.100.50") == Some(second.clone())).then_some(()));
    // Until the end of a lease, and no longer.
    network.lend(&[("198.51.100.50", &mac(&second), Duration::from_secs(2))]);
    wait_for("the lease to end", || found("198.51.100.50").is_none().then_some(()));
}
