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

/// The interval of Prometheus' example configuration, and of oVirt's VDSM.
pub const PERIOD: Duration = Duration::from_secs(15);

/// The whole list and every XML, in case a change was not noticed; what is noticed is read at once.
pub const INVENTORY_PERIOD: Duration = Duration::from_secs(60);

/// Below, most of the host's libvirtd time would go into answering us.
pub const SHORTEST_PERIOD: Duration = Duration::from_secs(1);

/// Above, samples say nothing about the present.
pub const LONGEST_PERIOD: Duration = Duration::from_secs(3600);

/// Threads for bulk calls. Groups with one period share a call and need one thread; others may overlap.
pub const WORKERS: usize = 2;

/// libvirtd has five ordinary workers at rest. With the inventory's thread, three make at most four calls at a time, which
/// leaves other clients of the host one.
pub const MOST_WORKERS: usize = 3;

/// All that Grafana dashboards in use look at, in one bulk call.
pub const GROUPS: [Group; 6] = Group::ALL;

/// A call may take this part of its period before its sample counts as overdue.
pub const DEADLINE_PART_OF_PERIOD: u32 = 2;

/// A group leaves /metrics after this many periods and a deadline without a new sample: one may be lost, two in a row not.
pub const STALE_AFTER_PERIODS: u32 = 2;
