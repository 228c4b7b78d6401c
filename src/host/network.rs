//! Network interfaces: /proc/net/dev, and what /sys/class/net says of them.
//!
//! A host with thousands of guests has thousands of taps, and their counters are the guests' own. Here are the interfaces of the
//! host: those with a device behind them, bonds, bridges, VLANs and the like, and the loopback. What an interface is, is looked
//! at once, when its name comes up.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::Files;
use crate::model::Traffic;
use crate::model::host::HostInterface;

/// Kinds without a device that are the host's all the same, by the kernel's DEVTYPE.
const KINDS: [&str; 4] = ["bond", "bridge", "openvswitch", "vlan"];
const LOOPBACK: &str = "lo";

/// Reads interfaces, and remembers which are the host's.
pub(super) struct Network {
    table: PathBuf,
    class: PathBuf,
    /// Each name of the table: when it was last there, and the interface if it is the host's.
    known: HashMap<Box<str>, Known>,
    turn: u64,
}

struct Known {
    seen: u64,
    ours: Option<Arc<str>>,
}

impl Network {
    pub(super) fn new(proc: &Path, sys: &Path) -> Self {
        Self { table: proc.join("net/dev"), class: sys.join("class/net"), known: HashMap::new(), turn: 0 }
    }

    /// The interfaces of the host, in the order of the table.
    pub(super) fn read(&mut self, files: &mut Files) -> Vec<HostInterface> {
        self.turn += 1;
        let mut interfaces = Vec::new();
        let mut newcomers: Vec<(Box<str>, Traffic, Traffic)> = Vec::new();
        let mut names = 0;
        for line in files.text(&self.table).unwrap_or_default().lines() {
            // Two lines of headings have no colon.
            let Some((name, columns)) = line.split_once(':') else { continue };
            let name = name.trim();
            names += 1;
            match self.known.get_mut(name) {
                Some(known) => {
                    known.seen = self.turn;
                    if let Some(name) = &known.ours {
                        interfaces.push(interface(Arc::clone(name), counters(columns)));
                    }
                }
                None => {
                    let (receive, transmit) = counters(columns);
                    newcomers.push((name.into(), receive, transmit));
                }
            }
        }
        for (name, receive, transmit) in newcomers {
            let ours = self.is_ours(&name, files).then(|| Arc::<str>::from(&*name));
            if let Some(name) = &ours {
                interfaces.push(interface(Arc::clone(name), (receive, transmit)));
            }
            self.known.insert(name, Known { seen: self.turn, ours });
        }
        // A name that comes back may be that of another interface.
        if self.known.len() > names {
            let turn = self.turn;
            self.known.retain(|_, known| known.seen == turn);
        }
        for interface in &mut interfaces {
            self.describe(interface, files);
        }
        interfaces
    }

    fn is_ours(&self, name: &str, files: &mut Files) -> bool {
        let path = self.class.join(name);
        let kind = |line: &str| line.strip_prefix("DEVTYPE=").map(|kind| KINDS.contains(&kind));
        let event = files.text(&path.join("uevent")).unwrap_or_default();
        let by_kind = event.lines().find_map(kind).unwrap_or_default();
        name == LOOPBACK || by_kind || path.join("device").exists()
    }

    fn describe(&self, interface: &mut HostInterface, files: &mut Files) {
        let path = self.class.join(&*interface.name);
        interface.operational_state = files.text(&path.join("operstate")).map(|state| state.trim_end().into());
        interface.mtu_bytes = files.number(&path.join("mtu"));
        // A link that is down is refused an answer, or says -1 or 2^32 - 1.
        let speed = files.number(&path.join("speed")).filter(|megabits| *megabits < u64::from(u32::MAX));
        interface.speed_bits_per_second = speed.map(|megabits| megabits * 1_000_000);
    }
}

fn interface(name: Arc<str>, (receive, transmit): (Traffic, Traffic)) -> HostInterface {
    HostInterface { name, receive, transmit, ..HostInterface::default() }
}

/// The columns that both directions have in common; a column that is no number is absent.
fn counters(columns: &str) -> (Traffic, Traffic) {
    let mut columns = columns.split_ascii_whitespace().map(|column| column.parse().ok());
    let mut direction = |skip: usize| {
        let mut next = || columns.next().flatten();
        let traffic = Traffic { bytes: next(), packets: next(), errors: next(), drops: next() };
        for _ in 0..skip {
            let _ = next();
        }
        traffic
    };
    // Behind these four are fifo, frame, compressed and multicast.
    (direction(4), direction(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::files::Tree;

    const HEADINGS: &str = "Inter-|   Receive                         |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n";

    fn table(names: &[&str]) -> String {
        let line = |name| format!("{name:>6}:  1000      10    1    2    3    4   5   6  2000  20  7  8  0 0 0 0\n");
        HEADINGS.to_owned() + &names.iter().map(line).collect::<String>()
    }

    fn names(interfaces: &[HostInterface]) -> Vec<&str> {
        interfaces.iter().map(|interface| &*interface.name).collect()
    }

    #[test]
    fn the_hosts_own_are_told_and_taps_of_guests_are_not() {
        let tree = Tree::new(&[
            ("net/dev", &table(&["lo", "eno1", "bond0", "br0", "eno1.5", "vnet0", "macvtap0", "br-int"])),
            ("class/net/eno1/device/vendor", ""),
            ("class/net/eno1/uevent", "INTERFACE=eno1\nIFINDEX=2\n"),
            ("class/net/eno1/operstate", "up\n"),
            ("class/net/eno1/speed", "25000\n"),
            ("class/net/eno1/mtu", "9000\n"),
            ("class/net/bond0/uevent", "DEVTYPE=bond\n"),
            ("class/net/bond0/speed", "-1\n"),
            ("class/net/br0/uevent", "DEVTYPE=bridge\n"),
            ("class/net/br0/speed", "4294967295\n"),
            ("class/net/eno1.5/uevent", "DEVTYPE=vlan\n"),
            ("class/net/vnet0/uevent", "INTERFACE=vnet0\n"),
            ("class/net/macvtap0/uevent", "DEVTYPE=macvtap\n"),
            ("class/net/br-int/uevent", "DEVTYPE=openvswitch\n"),
        ]);
        let interfaces = Network::new(tree.path(), tree.path()).read(&mut Files::default());
        assert_eq!(names(&interfaces), ["lo", "eno1", "bond0", "br0", "eno1.5", "br-int"]);
        let expected = HostInterface {
            name: "eno1".into(),
            operational_state: Some("up".into()),
            speed_bits_per_second: Some(25_000_000_000),
            mtu_bytes: Some(9000),
            receive: Traffic { bytes: Some(1000), packets: Some(10), errors: Some(1), drops: Some(2) },
            transmit: Traffic { bytes: Some(2000), packets: Some(20), errors: Some(7), drops: Some(8) },
        };
        assert_eq!(interfaces[1], expected);
        assert!(interfaces[2..4].iter().all(|interface| interface.speed_bits_per_second.is_none()));
    }

    #[test]
    fn what_an_interface_is_is_looked_at_when_its_name_comes_up() {
        let tree = Tree::new(&[("net/dev", &table(&["lo", "eno1"])), ("class/net/eno1/device/vendor", "")]);
        let (mut network, mut files) = (Network::new(tree.path(), tree.path()), Files::default());
        assert_eq!(names(&network.read(&mut files)), ["lo", "eno1"]);
        tree.remove("class/net/eno1");
        assert_eq!(names(&network.read(&mut files)), ["lo", "eno1"], "known already");
        tree.write("net/dev", table(&["lo"]));
        assert_eq!(names(&network.read(&mut files)), ["lo"]);
        tree.write("net/dev", table(&["eno1", "lo"]));
        assert_eq!(names(&network.read(&mut files)), ["lo"], "another one of that name");
        assert_eq!(network.known.len(), 2);
    }

    #[test]
    fn a_damaged_table_costs_what_is_damaged() {
        let tree = Tree::new(&[("net/dev", "nonsense\n lo: 5 x 1\n:\n")]);
        let interfaces = Network::new(tree.path(), tree.path()).read(&mut Files::default());
        let receive = Traffic { bytes: Some(5), packets: None, errors: Some(1), drops: None };
        assert_eq!((names(&interfaces), interfaces[0].receive), (vec!["lo"], receive));
        assert_eq!(interfaces[0].transmit, Traffic::default());
        tree.remove("net");
        assert_eq!(Network::new(tree.path(), tree.path()).read(&mut Files::default()), []);
    }
}
