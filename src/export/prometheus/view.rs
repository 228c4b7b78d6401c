//! What of a snapshot is fresh enough to be exported as current.

use std::time::{Instant, UNIX_EPOCH};

use super::render::Options;
use super::table::{Disk, View};
use crate::model::{Group, Stamp};
use crate::store::{Domain, Snapshot};

/// What of a domain is fresh enough; with the times of the samples, and the rates of the last minute, if they are to be written.
pub(super) fn view<'a>(snapshot: &'a Snapshot, domain: &'a Domain, now: Instant, options: Options) -> View<'a> {
    let windows = &domain.windows;
    let state = snapshot.fresh(&windows.state, Group::State, now);
    let resting = || domain.resting.as_ref().filter(|_| snapshot.list_is_fresh(now)).map(|sampled| &sampled.figures);
    let state = if domain.run.is_some() { state } else { resting() };
    let mut view = View {
        domain,
        cpu: snapshot.fresh(&windows.cpu, Group::Cpu, now),
        vcpu: snapshot.fresh(&windows.vcpu, Group::Vcpu, now),
        interface: snapshot.fresh(&windows.interface, Group::Interface, now),
        disks: disks(snapshot, domain, now),
        balloon: snapshot.fresh(&windows.balloon, Group::Balloon, now),
        kernel: snapshot.fresh(&windows.kernel, Group::Kernel, now),
        cpu_minute: None,
        network_minute: None,
        state: state.map(|state| (state.state, state.reason)),
        stamps: [None; Group::ALL.len()],
    };
    if options.timestamps {
        view.stamp();
    }
    if options.minute {
        view.cpu_minute = domain.cpu_minute.filter(|it| view.cpu.is_some() && it.is_of_now(now));
        view.network_minute = domain.network_minute.filter(|it| view.interface.is_some() && it.is_of_now(now));
    }
    view
}

impl View<'_> {
    /// Notes the times of the samples that are shown, to be written beside their figures.
    fn stamp(&mut self) {
        let listed = self.domain.resting.as_ref().filter(|_| self.domain.run.is_none()).map(|sampled| sampled.started);
        for group in Group::ALL {
            let listed = listed.filter(|_| group == Group::State);
            self.stamps[group as usize] = listed.or_else(|| self.domain.windows.started(group)).and_then(unix_millis);
        }
        for disk in &mut self.disks {
            disk.sizes_stamp = disk.sizes.as_ref().and_then(|(_, started)| unix_millis(*started));
        }
    }
}

fn unix_millis(stamp: Stamp) -> Option<u64> {
    stamp.wall.duration_since(UNIX_EPOCH).ok().and_then(|since| u64::try_from(since.as_millis()).ok())
}

fn disks<'a>(snapshot: &Snapshot, domain: &'a Domain, now: Instant) -> Vec<Disk<'a>> {
    let sampled = snapshot.fresh(&domain.windows.block, Group::Block, now).map_or(&[][..], |block| &block.disks);
    let sizes = &domain.windows.block_info;
    let mut disks: Vec<Disk<'_>> = sampled
        .iter()
        .map(|disk| Disk {
            name: disk.name.as_deref(),
            index: Some(disk.index),
            counters: Some(disk),
            sizes: domain.target(disk).and_then(|target| snapshot.fresh_sizes(domain, target, now)),
            sizes_stamp: None,
        })
        .collect();
    let fresh = sizes.iter().filter(|(_, _, started)| snapshot.is_fresh(*started, Group::BlockInfo, now));
    let others = fresh.filter(|(target, ..)| !sampled.iter().any(|disk| domain.target(disk) == Some(target)));
    disks.extend(others.map(|(target, sizes, started)| Disk {
        name: Some(target),
        index: None,
        counters: None,
        sizes: Some((sizes, started)),
        sizes_stamp: None,
    }));
    disks
}
