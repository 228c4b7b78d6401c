//! The traffic of all network devices of the host, in one dump, and a guest's share of it as the guest sees it.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::model::{Interface, InterfaceSample, NicDescription, Traffic};

use super::netlink::{Dump, Failure, attributes, u32_at, u64_at};

/// A device may get another name and keep its index.
const RENAMED: Duration = Duration::from_secs(60);

const NEWLINK: u16 = 16;
const GETLINK: u16 = 18;
const NEWSTATS: u16 = 92;
const GETSTATS: u16 = 94;

/// `struct if_stats_msg` with the filter for `IFLA_STATS_LINK_64`, and the length of that header in answers.
const STATS_BODY: [u32; 3] = [0, 0, 1];
const STATS_HEADER: usize = 12;
const STATS_LINK_64: u16 = 1;

/// `struct ifinfomsg`.
const LINK_HEADER: usize = 16;
/// Behind it, where only names are wanted: `IFLA_EXT_MASK` (29) of `RTEXT_FILTER_SKIP_STATS`.
const SKIP_STATS: (u16, u16, u32) = (8, 29, 1 << 3);
const IFNAME: u16 = 3;
const STATS64: u16 = 23;

/// Both directions of a device, as the host sees them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counters {
    receive: Traffic,
    transmit: Traffic,
}

impl Counters {
    /// `struct rtnl_link_stats64`. libvirt reads /proc/net/dev, which counts what was missed among what was dropped.
    fn parse(text: &[u8]) -> Option<Self> {
        let counter = |place: usize| u64_at(text, place * 8);
        let missed = counter(15).unwrap_or_default();
        let (bytes, packets, errors) = (counter(2), counter(0), counter(4));
        let drops = counter(6)?.checked_add(missed);
        let receive = Traffic { bytes, packets, errors, drops };
        let (bytes, packets, errors, drops) = (counter(3), counter(1), counter(5), Some(counter(7)?));
        Some(Self { receive, transmit: Traffic { bytes, packets, errors, drops } })
    }
}

/// The devices of the host.
pub(super) struct Links {
    route: Box<dyn Dump>,
    /// This kernel has no RTM_GETSTATS: names and counters come together.
    is_old: bool,
    /// Of each device its index and its counters, in the kernel's order.
    devices: Vec<(u32, Counters)>,
    /// The indexes of the turn before.
    indexes: Vec<u32>,
    /// Where in `devices` a name is.
    names: HashMap<Box<str>, usize>,
    named: Option<Instant>,
    refusal: Option<Errno>,
}

impl Links {
    pub(super) fn new(route: Box<dyn Dump>) -> Self {
        let (devices, indexes, names) = (Vec::new(), Vec::new(), HashMap::new());
        Self { route, is_old: false, devices, indexes, names, named: None, refusal: None }
    }

    /// Why there are no figures, if that is how it stays.
    pub(super) fn refusal(&self) -> Option<Errno> {
        self.refusal
    }

    /// Takes the figures of this turn.
    pub(super) fn refresh(&mut self, now: Instant) {
        // What changes at every moment is not asked for a third time.
        let result = match self.dump(now) {
            Err(Failure::Changed) => self.dump(now),
            result => result,
        };
        self.refusal = None;
        if let Err(failure) = result {
            tracing::debug!(?failure, "no figures of network devices");
            self.devices.clear();
            self.names.clear();
            self.named = None;
            if let Failure::Refused(error) = failure {
                self.refusal = Some(error);
            }
        }
    }

    /// The NICs of a guest; `None` unless each that has a device on the host was found.
    pub(super) fn sample(&self, nics: &[NicDescription]) -> Option<InterfaceSample> {
        let mut interfaces = Vec::with_capacity(nics.len());
        for (index, nic) in nics.iter().enumerate().filter(|(_, nic)| !nic.target.is_empty()) {
            // Its traffic does not pass through the kernel; Open vSwitch knows it, which libvirt asks.
            if *nic.interface_type == *"vhostuser" {
                return None;
            }
            let (_, counters) = self.devices.get(*self.names.get(&nic.target)?)?;
            // What a tap device receives was sent by the guest. A macvtap device (`direct`) is as a NIC of the host itself;
            // virDomainNetTypeSharesHostView of libvirt names the same one type.
            let (receive, transmit) = match &*nic.interface_type {
                "direct" => (counters.receive, counters.transmit),
                _ => (counters.transmit, counters.receive),
            };
            interfaces.push(Interface {
                index: index.try_into().ok()?,
                name: Some(nic.target.clone()),
                receive,
                transmit,
            });
        }
        Some(InterfaceSample { count: nics.len().try_into().ok(), interfaces })
    }

    fn dump(&mut self, now: Instant) -> Result<(), Failure> {
        if self.is_old {
            return self.dump_links(true);
        }
        self.devices.clear();
        let devices = &mut self.devices;
        let body = STATS_BODY.map(u32::to_ne_bytes).concat();
        let result = self.route.dump(GETSTATS, &body, &mut |kind, body| {
            if kind == NEWSTATS
                && let Some(device) = stats(body)
            {
                devices.push(device);
            }
        });
        match result {
            Err(Failure::Refused(Errno::OPNOTSUPP | Errno::INVAL)) => {
                self.is_old = true;
                return self.dump_links(true);
            }
            other => other?,
        }
        let indexes = self.devices.iter().map(|(index, _)| *index);
        let is_same = self.indexes.iter().copied().eq(indexes.clone());
        if is_same && self.named.is_some_and(|named| now.saturating_duration_since(named) < RENAMED) {
            return Ok(());
        }
        self.indexes.clear();
        self.indexes.extend(indexes);
        self.named = None;
        self.dump_links(false)?;
        self.named = Some(now);
        Ok(())
    }

    /// Names, and counters too if they are wanted.
    fn dump_links(&mut self, with_counters: bool) -> Result<(), Failure> {
        let mut body = vec![0; LINK_HEADER];
        if with_counters {
            self.devices.clear();
        } else {
            let (length, kind, mask) = SKIP_STATS;
            body.extend([length.to_ne_bytes(), kind.to_ne_bytes()].concat());
            body.extend(mask.to_ne_bytes());
        }
        self.names.clear();
        let (devices, names) = (&mut self.devices, &mut self.names);
        let mut places: HashMap<u32, usize> = devices.iter().enumerate().map(|(at, (index, _))| (*index, at)).collect();
        self.route.dump(GETLINK, &body, &mut |kind, body| {
            let Some((index, name, counters)) = link(body).filter(|_| kind == NEWLINK) else { return };
            if let Some(counters) = counters.filter(|_| with_counters) {
                places.insert(index, devices.len());
                devices.push((index, counters));
            }
            if let Some(place) = places.get(&index) {
                names.insert(name.into(), *place);
            }
        })
    }
}

/// Index and counters.
fn stats(body: &[u8]) -> Option<(u32, Counters)> {
    let (_, text) = attributes(body.get(STATS_HEADER..)?).find(|(kind, _)| *kind == STATS_LINK_64)?;
    Some((u32_at(body, 4)?, Counters::parse(text)?))
}

/// Index, name and counters.
fn link(body: &[u8]) -> Option<(u32, &str, Option<Counters>)> {
    let (mut name, mut counters) = (None, None);
    for (kind, value) in attributes(body.get(LINK_HEADER..)?) {
        match kind {
            IFNAME => name = std::str::from_utf8(value.strip_suffix(b"\0").unwrap_or(value)).ok(),
            STATS64 => counters = Counters::parse(value),
            _ => {}
        }
    }
    Some((u32_at(body, 4)?, name?, counters))
}

#[cfg(test)]
mod tests;
