//! Network interfaces: /proc/net/dev, and what /sys/class/net says of them.
//!
//! A host with thousands of guests has thousands of taps, and their counters are the guests' own. Here are the interfaces of the
//! host: those with a device behind them, bonds, bridges, VLANs and the like, and the loopback; and apart from these what is
//! neither the host's nor a guest's, such as the ends of containers' links. What an interface is, is looked at once, when its name
//! comes up. Where nearly all of the kernel's table is taps, it is not read at each turn.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::files::Files;
use crate::model::Traffic;
use crate::model::host::HostInterface;

/// Kinds without a device that are the host's all the same, by the kernel's DEVTYPE.
const KINDS: [&str; 4] = ["bond", "bridge", "openvswitch", "vlan"];
const LOOPBACK: &str = "lo";
/// A tap above a device of the host.
const MACVTAP: &str = "macvtap";

/// The files of one interface cost as much as so many lines of the table.
const LINES: usize = 32;
/// What seldom changes is looked at anew after so many turns: the table where it is long, and what is set of an interface. To ask
/// for its speed takes the kernel's one lock for the network.
const SELDOM: u64 = 12;

/// Reads interfaces, and remembers which are the host's.
pub(super) struct Network {
    table: PathBuf,
    class: PathBuf,
    turn: u64,
    /// When the table was read last; 0 if it has to be.
    table_read: u64,
    /// Each name of the table: when it was last there, and the interface unless it is a guest's.
    known: HashMap<Box<str>, Known>,
    /// Those that are no guest's, in the order of the table.
    told: Vec<Arc<str>>,
    /// Those of them that are not the host's own either.
    others: HashSet<Arc<str>>,
    set: HashMap<Arc<str>, Set>,
}

/// Whose an interface is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Owner {
    Host,
    /// A tap, most likely a guest's; or gone already.
    Guest,
    Other,
}

struct Known {
    seen: u64,
    told: Option<Arc<str>>,
}

/// What is set of an interface, and when it was looked at.
#[derive(Debug, Clone, Default)]
struct Set {
    turn: u64,
    operational_state: Option<Box<str>>,
    speed_bits_per_second: Option<u64>,
    duplex: Option<Box<str>>,
    mtu_bytes: Option<u64>,
}

impl Network {
    pub(super) fn new(proc: &Path, sys: &Path) -> Self {
        Self {
            table: proc.join("net/dev"),
            class: sys.join("class/net"),
            turn: 0,
            table_read: 0,
            known: HashMap::new(),
            told: Vec::new(),
            others: HashSet::new(),
            set: HashMap::new(),
        }
    }

    /// The interfaces of the host, and those that are neither its own nor taps, each in the order of the table.
    pub(super) fn read(&mut self, files: &mut Files) -> (Vec<HostInterface>, Vec<HostInterface>) {
        self.turn += 1;
        let is_long = self.told.len() * LINES < self.known.len();
        let mut interfaces = if is_long && self.table_read > 0 && self.turn < self.table_read + SELDOM {
            self.read_files(files)
        } else {
            self.read_table(files)
        };
        for interface in &mut interfaces {
            self.describe(interface, files);
        }
        interfaces.into_iter().partition(|interface| !self.others.contains(&interface.name))
    }

    fn read_table(&mut self, files: &mut Files) -> Vec<HostInterface> {
        self.table_read = self.turn;
        let mut interfaces = Vec::new();
        let mut newcomers: Vec<(Box<str>, (Traffic, Traffic))> = Vec::new();
        let mut names = 0;
        for line in files.text(&self.table).unwrap_or_default().lines() {
            // Two lines of headings have no colon.
            let Some((name, columns)) = line.split_once(':') else { continue };
            let name = name.trim();
            names += 1;
            match self.known.get_mut(name) {
                Some(known) => {
                    known.seen = self.turn;
                    if let Some(name) = &known.told {
                        interfaces.push(interface(Arc::clone(name), counters(columns)));
                    }
                }
                None => newcomers.push((name.into(), counters(columns))),
            }
        }
        for (name, counters) in newcomers {
            let owner = self.owner(&name, files);
            let told = (owner != Owner::Guest).then(|| Arc::<str>::from(&*name));
            if let Some(name) = &told {
                interfaces.push(interface(Arc::clone(name), counters));
                if owner == Owner::Other {
                    self.others.insert(Arc::clone(name));
                }
            }
            self.known.insert(name, Known { seen: self.turn, told });
        }
        // A name that comes back may be that of another interface.
        if self.known.len() > names {
            let turn = self.turn;
            self.known.retain(|_, known| known.seen == turn);
            self.set.retain(|name, _| self.known.contains_key(&**name));
            self.others.retain(|name| self.known.contains_key(&**name));
        }
        self.told = interfaces.iter().map(|interface| Arc::clone(&interface.name)).collect();
        interfaces
    }

    /// The same figures from a file each, of those that are known.
    fn read_files(&mut self, files: &mut Files) -> Vec<HostInterface> {
        let mut interfaces = Vec::with_capacity(self.told.len());
        for name in &self.told {
            let path = self.class.join(&**name).join("statistics");
            let mut number = |file| files.number(&path.join(file));
            let receive = Traffic {
                bytes: number("rx_bytes"),
                packets: number("rx_packets"),
                errors: number("rx_errors"),
                // The table has both in one column.
                drops: number("rx_dropped").zip(number("rx_missed_errors")).map(|(dropped, missed)| dropped + missed),
            };
            let transmit = Traffic {
                bytes: number("tx_bytes"),
                packets: number("tx_packets"),
                errors: number("tx_errors"),
                drops: number("tx_dropped"),
            };
            if receive.bytes.is_none() {
                // It is gone, or has another name.
                self.table_read = 0;
                continue;
            }
            interfaces.push(interface(Arc::clone(name), (receive, transmit)));
        }
        interfaces
    }

    fn owner(&self, name: &str, files: &mut Files) -> Owner {
        let path = self.class.join(name);
        let event = files.text(&path.join("uevent"));
        let is_there = event.is_some();
        let event = event.unwrap_or_default();
        let kind = event.lines().find_map(|line| line.strip_prefix("DEVTYPE=")).unwrap_or_default();
        if name == LOOPBACK || KINDS.contains(&kind) || path.join("device").exists() {
            Owner::Host
        } else if is_there && kind != MACVTAP && !path.join("tun_flags").exists() {
            Owner::Other
        } else {
            Owner::Guest
        }
    }

    /// The state is read at each turn, and the rest if the state changed, or for a long time was not.
    fn describe(&mut self, interface: &mut HostInterface, files: &mut Files) {
        let path = self.class.join(&*interface.name);
        let state: Option<Box<str>> = files.text(&path.join("operstate")).map(|state| state.trim_end().into());
        let set = self.set.entry(Arc::clone(&interface.name)).or_default();
        if set.turn == 0 || self.turn >= set.turn + SELDOM || set.operational_state != state {
            // A link that is down is refused an answer, or says -1 or 2^32 - 1.
            let speed = files.number(&path.join("speed")).filter(|megabits| *megabits < u64::from(u32::MAX));
            *set = Set {
                turn: self.turn,
                operational_state: state,
                speed_bits_per_second: speed.map(|megabits| megabits * 1_000_000),
                duplex: duplex(files.text(&path.join("duplex")).unwrap_or_default()),
                mtu_bytes: files.number(&path.join("mtu")),
            };
        }
        let Set { turn: _, operational_state, speed_bits_per_second, duplex, mtu_bytes } = set.clone();
        *interface =
            HostInterface { operational_state, speed_bits_per_second, duplex, mtu_bytes, ..std::mem::take(interface) };
    }
}

/// A link that is down is refused an answer, or says `unknown`.
fn duplex(text: &str) -> Option<Box<str>> {
    let word = text.trim_end();
    matches!(word, "full" | "half").then(|| word.into())
}

fn interface(name: Arc<str>, (receive, transmit): (Traffic, Traffic)) -> HostInterface {
    HostInterface { name, receive, transmit, ..HostInterface::default() }
}

/// The columns that both directions have in common; a column that is no number is absent.
fn counters(columns: &str) -> (Traffic, Traffic) {
    let mut columns = columns.split_ascii_whitespace().map(|column| column.parse().ok());
    let mut direction = || {
        let mut next = || columns.next().flatten();
        let traffic = Traffic { bytes: next(), packets: next(), errors: next(), drops: next() };
        // Behind these four are fifo, frame, compressed and multicast, or the like.
        (0..4).for_each(|_| _ = next());
        traffic
    };
    (direction(), direction())
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
            ("net/dev", &table(&["lo", "eno1", "bond0", "br0", "eno1.5", "vnet0", "macvtap0", "br-int", "veth7"])),
            ("class/net/eno1/device/vendor", ""),
            ("class/net/eno1/uevent", "INTERFACE=eno1\nIFINDEX=2\n"),
            ("class/net/eno1/operstate", "up\n"),
            ("class/net/eno1/speed", "25000\n"),
            ("class/net/eno1/duplex", "full\n"),
            ("class/net/eno1/mtu", "9000\n"),
            ("class/net/bond0/uevent", "DEVTYPE=bond\n"),
            ("class/net/bond0/speed", "-1\n"),
            ("class/net/bond0/duplex", "unknown\n"),
            ("class/net/br0/uevent", "DEVTYPE=bridge\n"),
            ("class/net/br0/speed", "4294967295\n"),
            ("class/net/eno1.5/uevent", "DEVTYPE=vlan\n"),
            ("class/net/vnet0/uevent", "INTERFACE=vnet0\n"),
            ("class/net/vnet0/tun_flags", "0x1002\n"),
            ("class/net/veth7/uevent", "INTERFACE=veth7\n"),
            ("class/net/veth7/operstate", "up\n"),
            ("class/net/macvtap0/uevent", "DEVTYPE=macvtap\n"),
            ("class/net/br-int/uevent", "DEVTYPE=openvswitch\n"),
        ]);
        let (interfaces, others) = Network::new(tree.path(), tree.path()).read(&mut Files::default());
        assert_eq!((names(&others), others[0].operational_state.as_deref()), (vec!["veth7"], Some("up")));
        assert_eq!(names(&interfaces), ["lo", "eno1", "bond0", "br0", "eno1.5", "br-int"]);
        let expected = HostInterface {
            name: "eno1".into(),
            operational_state: Some("up".into()),
            speed_bits_per_second: Some(25_000_000_000),
            duplex: Some("full".into()),
            mtu_bytes: Some(9000),
            receive: Traffic { bytes: Some(1000), packets: Some(10), errors: Some(1), drops: Some(2) },
            transmit: Traffic { bytes: Some(2000), packets: Some(20), errors: Some(7), drops: Some(8) },
        };
        assert_eq!(interfaces[1], expected);
        let says = |interface: &HostInterface| interface.speed_bits_per_second.is_some() || interface.duplex.is_some();
        assert!(!interfaces[2..4].iter().any(says));
    }

    #[test]
    fn what_an_interface_is_is_looked_at_when_its_name_comes_up() {
        let tree = Tree::new(&[("net/dev", &table(&["lo", "eno1"])), ("class/net/eno1/device/vendor", "")]);
        let (mut network, mut files) = (Network::new(tree.path(), tree.path()), Files::default());
        assert_eq!(names(&network.read(&mut files).0), ["lo", "eno1"]);
        tree.remove("class/net/eno1");
        assert_eq!(names(&network.read(&mut files).0), ["lo", "eno1"], "known already");
        tree.write("net/dev", table(&["lo"]));
        assert_eq!(names(&network.read(&mut files).0), ["lo"]);
        tree.write("net/dev", table(&["eno1", "lo"]));
        assert_eq!(names(&network.read(&mut files).0), ["lo"], "another one of that name");
        assert_eq!(network.known.len(), 2);
    }

    #[test]
    fn a_table_of_taps_is_read_now_and_then_and_the_counters_meanwhile_are_the_same() {
        let taps: Vec<String> = (0..100).map(|number| format!("vnet{number}")).collect();
        let mut all: Vec<&str> = taps.iter().map(String::as_str).collect();
        all.insert(50, "eno1");
        let tree = Tree::new(&[("net/dev", &table(&all)), ("class/net/eno1/device/vendor", "")]);
        let files_of = |name: &str, bytes: u64| {
            for (file, number) in [
                ("rx_bytes", bytes),
                ("rx_packets", 10),
                ("rx_errors", 1),
                ("rx_dropped", 2),
                ("rx_missed_errors", 0),
                ("tx_bytes", 2000),
                ("tx_packets", 20),
                ("tx_errors", 7),
                ("tx_dropped", 8),
            ] {
                tree.write(&format!("class/net/{name}/statistics/{file}"), format!("{number}\n"));
            }
        };
        files_of("eno1", 1000);
        let (mut network, mut files) = (Network::new(tree.path(), tree.path()), Files::default());
        let whole = network.read(&mut files).0;
        assert_eq!(names(&whole), ["eno1"]);
        assert_eq!(network.read(&mut files).0, whole, "from the table, and from files");
        files_of("eno1", 1500);
        assert_eq!(network.read(&mut files).0[0].receive.bytes, Some(1500));
        tree.write("class/net/eno2/device/vendor", "");
        files_of("eno2", 5);
        all.push("eno2");
        tree.write("net/dev", table(&all));
        for _ in 4..=SELDOM {
            assert_eq!(names(&network.read(&mut files).0), ["eno1"]);
        }
        assert_eq!(names(&network.read(&mut files).0), ["eno1", "eno2"], "the table was read again");
        tree.remove("class/net/eno2");
        all.pop();
        tree.write("net/dev", table(&all));
        assert_eq!(names(&network.read(&mut files).0), ["eno1"], "it is gone");
        assert_eq!((names(&network.read(&mut files).0), network.known.len()), (vec!["eno1"], 101));
    }

    #[test]
    fn what_is_set_is_looked_at_when_the_state_changes_or_after_a_while() {
        let tree = Tree::new(&[
            ("net/dev", &table(&["eno1"])),
            ("class/net/eno1/device/vendor", ""),
            ("class/net/eno1/operstate", "up\n"),
            ("class/net/eno1/speed", "1000\n"),
        ]);
        let (mut network, mut files) = (Network::new(tree.path(), tree.path()), Files::default());
        let mut speed = || network.read(&mut files).0[0].speed_bits_per_second;
        assert_eq!(speed(), Some(1_000_000_000));
        tree.write("class/net/eno1/speed", "10000\n");
        assert_eq!(speed(), Some(1_000_000_000));
        tree.write("class/net/eno1/operstate", "down\n");
        assert_eq!(speed(), Some(10_000_000_000));
        tree.write("class/net/eno1/speed", "-1\n");
        for _ in 1..SELDOM {
            assert_eq!(speed(), Some(10_000_000_000));
        }
        assert_eq!(speed(), None);
    }

    #[test]
    fn a_damaged_table_costs_what_is_damaged() {
        let tree = Tree::new(&[("net/dev", "nonsense\n lo: 5 x 1\n:\n")]);
        let (interfaces, _) = Network::new(tree.path(), tree.path()).read(&mut Files::default());
        let receive = Traffic { bytes: Some(5), packets: None, errors: Some(1), drops: None };
        assert_eq!((names(&interfaces), interfaces[0].receive), (vec!["lo"], receive));
        assert_eq!(interfaces[0].transmit, Traffic::default());
        tree.remove("net");
        assert_eq!(Network::new(tree.path(), tree.path()).read(&mut Files::default()), (vec![], vec![]));
    }
}
