//! Every default and limit: the value, the unit, and why.

use std::time::Duration;

use crate::model::Group;

/// Where the configuration is looked for when none is named. It need not exist.
pub const CONFIG_FILE: &str = "/etc/virtstatd/virtstatd.toml";

/// The system's QEMU/KVM guests. It is always opened read-only.
pub const URI: &str = "qemu:///system";

/// Loopback only: the figures tell names, disks and owners of guests, so who may see them is for the host's owner to say.
/// 9177 is the port on which all libvirt exporters in use listen.
pub const LISTEN: &str = "127.0.0.1:9177";

/// VDSM's own certificate, for addresses of `vdsm.stomp-listen` that others reach: its clients know the authority that it is of.
pub const TLS_CERTIFICATE: &str = "/etc/pki/vdsm/certs/vdsmcert.pem";

/// The key of that certificate. VDSM's is readable for its own user and the group kvm.
pub const TLS_KEY: &str = "/etc/pki/vdsm/keys/vdsmkey.pem";

/// The authority that the certificates of VDSM's clients are of: the engine's.
pub const TLS_CA: &str = "/etc/pki/vdsm/certs/cacert.pem";

/// The interval of Prometheus' example configuration, and of oVirt's VDSM.
pub const PERIOD: Duration = Duration::from_secs(15);

/// Sizes of disks change slowly, and each costs a call of its own.
pub const BLOCK_INFO_PERIOD: Duration = Duration::from_secs(60);

/// The whole list and every XML, in case a change was not noticed; what is noticed is read at once.
pub const INVENTORY_PERIOD: Duration = Duration::from_secs(60);

/// What the kernel says of guests costs a hundredth of what libvirt says, so it may come more often: a peak shows.
pub const KERNEL_PERIOD: Duration = Duration::from_secs(5);

/// Below, reading costs more than it shows: a clock tick is a hundredth of a second.
pub const SHORTEST_KERNEL_PERIOD: Duration = Duration::from_millis(100);

/// What the kernel tells is asked of libvirt this often all the same, to compare. Four times as seldom as the rest is.
pub const CROSS_CHECK_PERIOD: Duration = Duration::from_secs(60);

/// The host's own figures cost little, and are the first that people look at when something is slow.
pub const HOST_PERIOD: Duration = Duration::from_secs(5);

/// The host's own file system, and the one on which libvirt puts images if it is not told otherwise.
pub const HOST_PATHS: [&str; 2] = ["/", "/var/lib/libvirt/images"];

/// Each path has a thread of its own, since asking may hang.
pub const MOST_HOST_PATHS: usize = 32;

/// Below, most of the host's libvirtd time would go into answering us.
pub const SHORTEST_PERIOD: Duration = Duration::from_secs(1);

/// Above, samples say nothing about the present.
pub const LONGEST_PERIOD: Duration = Duration::from_secs(3600);

/// Threads for the stats groups that enter QEMU's monitor. Two make them in two thirds of the time of one, and no number
/// makes them much faster: nearly all of it is libvirtd asking one QEMU after the other.
pub const WORKERS: usize = 2;

/// More than the budget has places for would only wait for each other.
pub const MOST_WORKERS: usize = 3;

/// Calls open at libvirtd at most, stuck ones included. A libvirtd at rest has five ordinary workers, and stops reading a
/// connection with five open calls: a fifth call of ours could be the one that stops other programs of the host.
pub const BUDGET: usize = 4;

/// A budget above the workers that libvirtd has at most is a slip of the pen.
pub const MOST_BUDGET: usize = 20;

/// All that Grafana dashboards in use look at.
pub const GROUPS: [Group; 8] = Group::ALL;

/// A call may take this part of its period before its sample counts as overdue.
pub const DEADLINE_PART_OF_PERIOD: u32 = 2;

/// A group leaves /metrics after this many periods and a deadline without a new sample: one may be lost, two in a row not.
pub const STALE_AFTER_PERIODS: u32 = 2;
