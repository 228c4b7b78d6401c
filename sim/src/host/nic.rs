//! NICs: what they are plugged into, what the host calls them, and what went over them by a moment.

use super::load::Moment;
use super::random::{self, Random, chance, pick};
use super::shape::Manager;

/// What a NIC is plugged into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Plug {
    Bridge {
        bridge: &'static str,
    },
    OpenVSwitch {
        bridge: &'static str,
        interface: String,
    },
    /// A network of libvirt's.
    Network {
        network: &'static str,
        bridge: &'static str,
        port: String,
    },
    /// A tap that somebody else plugs somewhere.
    Ethernet,
    /// macvtap.
    Direct {
        device: &'static str,
    },
    VhostUser {
        path: String,
    },
    /// A function of an SR-IOV card: no device on the host, so no figures.
    Hostdev {
        function: u32,
    },
    /// QEMU's own, without a device on the host.
    User,
}

/// Frames and bytes against the activity of its guest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Traffic {
    /// Packets a second.
    pub(super) receive: f64,
    pub(super) transmit: f64,
    /// Bytes a packet.
    pub(super) receive_size: f64,
    pub(super) transmit_size: f64,
    /// Of a million packets received.
    pub(super) drops: f64,
}

/// A NIC.
#[derive(Debug, Clone)]
pub(super) struct Nic {
    pub(super) plug: Plug,
    pub(super) mac: [u8; 6],
    /// What the host calls it; empty if it has no device there.
    pub(super) device: String,
    /// Does libvirt choose the device's name at each start?
    pub(super) chosen: bool,
    pub(super) model: &'static str,
    pub(super) mtu: Option<u32>,
    /// More than one if it is a busy guest's.
    pub(super) queues: u32,
    /// N of its alias netN.
    pub(super) place: u32,
    pub(super) slot: u32,
    /// When it was plugged in: its counters were 0.
    pub(super) plugged: Moment,
    pub(super) traffic: Traffic,
    pub(super) salt: u32,
}

/// Bytes, packets, errors, drops; received, then sent, as libvirt has them: from the guest's view.
pub(super) type Counters = [u64; 8];

#[rustfmt::skip]
const NOVA: &[(u32, u32)] = &[(55, 0), (25, 1), (6, 3), (8, 5), (4, 6), (2, 4)];
#[rustfmt::skip]
const OTHERS: &[(u32, u32)] = &[(56, 0), (22, 2), (6, 1), (6, 4), (4, 6), (4, 3), (2, 7)];

impl Nic {
    /// The NIC `place` of guest `owner`; `busy` is 1 for a usual one.
    pub(super) fn new(random: &mut Random, manager: Manager, owner: u32, place: u32, busy: f64, vcpus: u32) -> Self {
        let kind = match manager {
            Manager::Nova => pick(random, NOVA),
            Manager::KubeVirt => 3,
            Manager::Ovirt | Manager::Plain => pick(random, OTHERS),
        };
        let mac = mac(manager, owner, place);
        let named = |prefix: &str| format!("{prefix}{:02x}{:02x}{:02x}-{place:x}", mac[3], mac[4], mac[5]);
        let unique = owner * 16 + place;
        let (plug, device, chosen) = match kind {
            0 => {
                (Plug::Bridge { bridge: bridge(manager) }, own_name(manager, &named, unique), manager != Manager::Nova)
            }
            1 => {
                let interface = random::uuid_text(random);
                (Plug::OpenVSwitch { bridge: "br-int", interface }, named("tap"), false)
            }
            2 => {
                let port = random::uuid_text(random);
                let (network, bridge) = pick(random, &[(3, ("default", "virbr0")), (1, ("lab & test", "virbr1"))]);
                (Plug::Network { network, bridge, port }, format!("vnet{unique}"), true)
            }
            3 => (Plug::Ethernet, named("tap"), false),
            4 => (Plug::Direct { device: "bond0.120" }, format!("macvtap{unique}"), true),
            5 => {
                let device = named("vhu");
                (Plug::VhostUser { path: format!("/run/openvswitch/{device}") }, device, false)
            }
            6 => (Plug::Hostdev { function: random.u32(0..64) }, String::new(), false),
            _ => (Plug::User, String::new(), false),
        };
        let mut around = |mean: f64| mean * (0.3 + 1.4 * random.f64());
        let traffic = Traffic {
            receive: around(180.0) * busy,
            transmit: around(160.0) * busy,
            receive_size: around(420.0).max(64.0),
            transmit_size: around(640.0).max(64.0),
            drops: 0.0,
        };
        let drops = if chance(random, 12) { 1.0 + 40.0 * random.f64() } else { 0.0 };
        Self {
            plug,
            mac,
            device,
            chosen,
            model: pick(random, &[(46, "virtio"), (3, "e1000e"), (1, "rtl8139")]),
            mtu: pick(random, &[(50, None), (30, Some(1500)), (12, Some(1450)), (8, Some(9000))]),
            queues: if vcpus >= 4 { vcpus.min(8) } else { 1 },
            place,
            slot: 0,
            plugged: Moment::BEGIN,
            traffic: Traffic { drops, ..traffic },
            salt: random.u32(..),
        }
    }

    /// libvirt's name of the device.
    pub(super) fn alias(&self) -> String {
        let kind = if matches!(self.plug, Plug::Hostdev { .. }) { "hostdev" } else { "net" };
        format!("{kind}{}", self.place)
    }

    /// Is it the one of that device, or of that MAC address? Only those with a device have figures.
    pub(super) fn is(&self, device_or_mac: &str) -> bool {
        !self.device.is_empty() && (self.device == device_or_mac || self.mac_text() == device_or_mac)
    }

    /// Its MAC address as XML has it.
    pub(super) fn mac_text(&self) -> String {
        let [a, b, c, d, e, f] = self.mac;
        format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }

    /// What went over it.
    pub(super) fn counters(&self, moment: &Moment) -> Counters {
        let (traffic, moment) = (&self.traffic, moment.since(&self.plugged));
        let salt = |n: u32| self.salt.rotate_right(n * 3);
        let side = |rate: f64, size: f64, n: u32| {
            let packets = moment.count(rate, salt(n)) as u64;
            // Nothing was moved as long as no packet was counted.
            let bytes = if packets == 0 { 0 } else { moment.count(rate * size, salt(n + 1)) as u64 };
            (bytes.max(packets * 60), packets)
        };
        let (rx_bytes, rx_pkts) = side(traffic.receive, traffic.receive_size, 0);
        let (tx_bytes, tx_pkts) = side(traffic.transmit, traffic.transmit_size, 2);
        let rx_drop = (rx_pkts as f64 * traffic.drops / 1e6) as u64;
        [rx_bytes, rx_pkts, rx_drop / 50, rx_drop, tx_bytes, tx_pkts, 0, rx_drop / 7]
    }
}

fn bridge(manager: Manager) -> &'static str {
    match manager {
        Manager::Nova => "brq5c0ffee5-42",
        Manager::Ovirt => "ovirtmgmt",
        Manager::KubeVirt => "k6t-eth0",
        Manager::Plain => "br0",
    }
}

/// The device of a bridge's NIC: Nova names it after the port, elsewhere libvirt counts.
fn own_name(manager: Manager, named: &dyn Fn(&str) -> String, unique: u32) -> String {
    if manager == Manager::Nova { named("tap") } else { format!("vnet{unique}") }
}

/// An address of its own for each NIC, in no visible order.
fn mac(manager: Manager, owner: u32, place: u32) -> [u8; 6] {
    let [_, a, b, c] = ((owner * 16 + place).wrapping_mul(0x00c5_a94b) & 0x00ff_ffff).to_be_bytes();
    match manager {
        Manager::Nova => [0xfa, 0x16, 0x3e, a, b, c],
        Manager::Ovirt => [0x56, 0x6f, 0x1a, a, b, c],
        Manager::KubeVirt => [0x02, 0x00, 0x5e, a, b, c],
        Manager::Plain => [0x52, 0x54, 0x00, a, b, c],
    }
}
