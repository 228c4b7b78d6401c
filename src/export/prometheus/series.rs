//! The series of a family: from what is known of domains to lines.

use std::sync::Arc;

use super::labels::{DomainLabels, Of, push};
use super::lines::{Line, Lines, header};
use super::table::{Disk, Family, HostView, Read, View};
use super::value::Value;

/// Some of the domains, in their order.
#[derive(Default)]
pub(super) struct Tile<'a> {
    pub(super) views: Vec<View<'a>>,
    pub(super) labels: Vec<Arc<DomainLabels>>,
}

impl Tile<'_> {
    fn domains(&self) -> impl Iterator<Item = (&View<'_>, &DomainLabels)> {
        self.views.iter().zip(self.labels.iter().map(|labels| &**labels))
    }
}

/// A family on its way into the text, tile by tile.
pub(super) struct Series {
    family: &'static Family,
    /// A family without series is not.
    announced: bool,
    /// Series that were left out because their device has no name of its own.
    pub(super) dropped: u64,
}

impl Series {
    pub(super) fn new(family: &'static Family) -> Self {
        Self { family, announced: false, dropped: 0 }
    }

    fn announce(&mut self, lines: &mut impl Lines) {
        if !std::mem::replace(&mut self.announced, true) {
            header(self.family.name, self.family.help, self.family.kind.name(), lines.text());
        }
    }

    /// Writes the series of the host as a whole.
    pub(super) fn write_host(&mut self, host: &HostView<'_>, lines: &mut impl Lines) {
        let Read::Host(emit) = self.family.read else { return };
        emit(host, &mut |labels, value| {
            self.announce(lines);
            let mut block = String::new();
            for (name, value) in labels {
                push(&mut block, name, value);
            }
            let out = lines.text();
            out.extend_from_slice(self.family.name.as_bytes());
            if !block.is_empty() {
                out.extend([b"{", block.as_bytes(), b"}"].concat());
            }
            out.push(b' ');
            value.write(out);
            out.push(b'\n');
        });
    }

    /// Writes the series of these domains.
    pub(super) fn write(&mut self, tile: &Tile<'_>, lines: &mut impl Lines) {
        let family = self.family;
        let stamp = |view: &View<'_>| view.stamps[family.group? as usize];
        match family.read {
            Read::Host(_) => {}
            Read::Domain(read) => {
                for (view, labels) in tile.domains() {
                    let stamp = stamp(view);
                    self.line(labels, (0, Some(&[])), (read(view), stamp), lines);
                }
            }
            Read::OneOf(read) => {
                for (view, labels) in tile.domains() {
                    let read = read(view);
                    let stamp = read.and_then(|(_, group)| view.stamps[group as usize]);
                    self.line(labels, (0, Some(&[])), (read.map(|(value, _)| value), stamp), lines);
                }
            }
            Read::Vcpu(read) => {
                for (view, labels) in tile.domains() {
                    let vcpus = view.vcpu.map_or(&[][..], |sample| &sample.vcpus);
                    self.devices(labels, Of::Vcpu, vcpus.iter().map(|vcpu| (read(vcpu), stamp(view))), lines);
                }
            }
            Read::Disk(read) => {
                for (view, labels) in tile.domains() {
                    self.devices(labels, Of::Disk, view.disks.iter().map(|disk| (read(disk), stamp(view))), lines);
                }
            }
            Read::DiskSize(own, bulk) => {
                let size = |disk: &Disk<'_>, view: &View<'_>| {
                    // Two samples may tell it, of different times.
                    let own = disk.sizes.as_ref().and_then(|(sizes, _)| own(sizes));
                    let stamp = if own.is_some() { disk.sizes_stamp } else { stamp(view) };
                    (own.or_else(|| bulk(disk.counters?)).map(Value::Int), stamp)
                };
                for (view, labels) in tile.domains() {
                    self.devices(labels, Of::Disk, view.disks.iter().map(|disk| size(disk, view)), lines);
                }
            }
            Read::Nic(read) => {
                for (view, labels) in tile.domains() {
                    let nics = view.interface.map_or(&[][..], |sample| &sample.interfaces);
                    self.devices(labels, Of::Nic, nics.iter().map(|nic| (read(nic), stamp(view))), lines);
                }
            }
            Read::Info(kind) => {
                let one = (Some(Value::Int(1)), None);
                for (_, labels) in tile.domains() {
                    self.devices(labels, kind, std::iter::repeat(one), lines);
                }
            }
        }
    }

    /// A line for each of the labels of a kind.
    fn devices(
        &mut self,
        domain: &DomainLabels,
        kind: Of,
        values: impl Iterator<Item = (Option<Value>, Option<u64>)>,
        lines: &mut impl Lines,
    ) {
        for (series, value) in domain.of(kind).enumerate().zip(values) {
            self.line(domain, series, value, lines);
        }
    }

    /// A line for what has both labels and a value.
    fn line(
        &mut self,
        domain: &DomainLabels,
        (place, labels): (usize, Option<&[u8]>),
        (value, stamp): (Option<Value>, Option<u64>),
        lines: &mut impl Lines,
    ) {
        match (labels, value) {
            (Some(labels), Some(value)) => {
                self.announce(lines);
                lines.line(&Line { name: self.family.name, domain, labels, place, value, stamp });
            }
            (None, Some(_)) => self.dropped += 1,
            (_, None) => {}
        }
    }
}
