//! Disks, and their limits.

use std::time::Duration;

use super::super::table::{Field, Json, Record};
use super::super::text::Slot;
use super::{Guest, Vm};
use crate::model::{Block, BlockInfo, BlockSample, DiskDescription, Group, Io, OVirtDisk, per_second};

pub(super) static FIELDS: &[Field<Vm>] = &[
    Field::new("disks", Json::Map, "", "A record for each disk, with what is known of it.", |vm, slot| {
        slot.map(DISK, disks(vm))
    }),
    Field::new("ioTune", Json::List, "", "A record for each disk with a limit. Left out if none has.", |vm, slot| {
        let mut limited = vm.xml?.disks.iter().filter(|disk| !disk.io_limits.is_empty()).peekable();
        limited.peek()?;
        slot.list(LIMITS, limited)
    }),
];

pub(super) enum DiskRecord {}

impl Record for DiskRecord {
    type Of<'a> = Disk<'a>;
}

/// A disk, and what is known of it.
pub(super) struct Disk<'a> {
    newest: Option<&'a Block>,
    previous: Option<(&'a Block, Duration)>,
    sizes: Option<BlockInfo>,
    xml: Option<&'a DiskDescription>,
    ovirt: Option<&'a OVirtDisk>,
}

/// The disks of the newest sample, else those of the XML, each target once.
fn disks<'a>(vm: &Guest<'a>) -> impl Iterator<Item = (&'a str, Disk<'a>)> {
    let domain = vm.domain;
    let pair = vm.pair(&domain.windows.block, Group::Block);
    let sampled: &[Block] = pair.as_ref().map_or(&[], |pair| &pair.newest.figures.disks);
    let previous: Option<(&BlockSample, Duration)> = pair.and_then(|pair| pair.previous);
    let ovirt = vm.xml.and_then(|xml| xml.ovirt.as_ref()).map_or(&[][..], |ovirt| &ovirt.disks);
    let described = vm.xml.map_or(&[][..], |xml| &xml.disks);
    let (snapshot, at) = (&vm.view.snapshot, vm.at());
    let mut seen: Vec<&str> = Vec::new();
    domain.disks().filter_map(move |target| {
        if seen.contains(&target) {
            return None;
        }
        seen.push(target);
        let of = |disks: &'a [Block]| disks.iter().find(|disk| domain.target(disk) == Some(target));
        let disk = Disk {
            newest: of(sampled),
            previous: previous.and_then(|(sample, elapsed)| Some((of(&sample.disks)?, elapsed))),
            sizes: snapshot.fresh_sizes(domain, target, at).map(|(sizes, _)| sizes),
            xml: described.iter().find(|disk| &*disk.target == target),
            ovirt: ovirt.iter().find(|disk| &*disk.target == target),
        };
        Some((target, disk))
    })
}

impl Disk<'_> {
    fn rate(&self, of: impl Fn(&Block) -> Option<u64>) -> Option<f64> {
        let (previous, elapsed) = self.previous?;
        per_second(of(previous), of(self.newest?), elapsed)
    }

    /// The length of the file or device, in bytes.
    fn length(&self) -> Option<u64> {
        let seen_by_guest = || self.newest?.capacity_bytes.or_else(|| self.sizes?.capacity_bytes);
        let on_host = || self.sizes?.physical_bytes;
        let is_raw = self.xml.is_some_and(|xml| &*xml.driver_type == "raw");
        if is_raw { seen_by_guest() } else { on_host().or_else(seen_by_guest) }
    }

    /// Writes how long a request took on average, between the two samples.
    fn latency(&self, slot: Slot<'_>, of: impl Fn(&Block) -> Io) -> Option<()> {
        let (newest, (previous, elapsed)) = (of(self.newest?), self.previous?);
        let previous = of(previous);
        let requests = newest.requests?.checked_sub(previous.requests?)?;
        let time = newest.time_ns?.checked_sub(previous.time_ns?)?;
        if elapsed.is_zero() {
            return None;
        }
        if requests == 0 {
            return slot.text("0");
        }
        // Differences between two samples stay far below 2^53, where f64 is exact.
        #[allow(clippy::cast_precision_loss)]
        slot.float(time as f64 / requests as f64)
    }
}

pub(super) static DISK: &[Field<DiskRecord>] = &[
    Field::string(
        "readRate",
        "bytes/s",
        "`block.N.rd.bytes`, between the two newest samples. Left out if it went back.",
        |disk, slot| slot.float(disk.rate(|disk| disk.read.bytes)?),
    ),
    Field::string("writeRate", "bytes/s", "`block.N.wr.bytes`, likewise.", |disk, slot| {
        slot.float(disk.rate(|disk| disk.write.bytes)?)
    }),
    Field::string("readOps", "since the start", "`block.N.rd.reqs`.", |disk, slot| {
        slot.quoted(disk.newest?.read.requests?)
    }),
    Field::string("writeOps", "since the start", "`block.N.wr.reqs`.", |disk, slot| {
        slot.quoted(disk.newest?.write.requests?)
    }),
    Field::string("readBytes", "bytes since the start", "`block.N.rd.bytes`.", |disk, slot| {
        slot.quoted(disk.newest?.read.bytes?)
    }),
    Field::string("writtenBytes", "bytes since the start", "`block.N.wr.bytes`.", |disk, slot| {
        slot.quoted(disk.newest?.write.bytes?)
    }),
    Field::string(
        "readLatency",
        "ns a request",
        "`block.N.rd.times` by `block.N.rd.reqs`, between the two newest samples; \"0\" if no request was completed.",
        |disk, slot| disk.latency(slot, |disk| disk.read),
    ),
    Field::string(
        "writeLatency",
        "ns a request",
        "`block.N.wr.times` by `block.N.wr.reqs`, likewise.",
        |disk, slot| disk.latency(slot, |disk| disk.write),
    ),
    Field::string(
        "flushLatency",
        "ns a request",
        "`block.N.fl.times` by `block.N.fl.reqs`, likewise.",
        |disk, slot| disk.latency(slot, |disk| disk.flush),
    ),
    Field::string(
        "apparentsize",
        "bytes",
        "Length of the file or device. Of a raw image it is what the guest sees: `block.N.capacity`. Of others `physical` of \
         virDomainGetBlockInfo, which libvirt takes from the file until QEMU has written to it, and then from QEMU, who says \
         what the image takes; else `block.N.capacity`.",
        |disk, slot| slot.quoted(disk.length()?),
    ),
    Field::string(
        "truesize",
        "bytes",
        "`block.N.physical`: what the image takes on the host; else `allocation` of virDomainGetBlockInfo.",
        |disk, slot| {
            let taken = disk.newest.and_then(|disk| disk.physical_bytes);
            slot.quoted(taken.or_else(|| disk.sizes?.allocation_bytes)?)
        },
    ),
    Field::string(
        "imageID",
        "UUID",
        "Of oVirt's metadata, if that names pool, domain, image and volume; else a LUN's GUID. Left out without.",
        |disk, slot| slot.text(disk.ovirt?.image_id.as_deref()?),
    ),
    Field::string("lunGUID", "", "Of oVirt's metadata. Left out without.", |disk, slot| {
        slot.text(disk.ovirt?.lun_guid.as_deref()?)
    }),
];

pub(super) enum LimitsRecord {}

impl Record for LimitsRecord {
    type Of<'a> = &'a DiskDescription;
}

pub(super) static LIMITS: &[Field<LimitsRecord>] = &[
    Field {
        name: "name",
        json: Json::String,
        unit: "",
        what: "The target in the guest.",
        write: |disk, slot| slot.text(&disk.target),
    },
    Field {
        name: "path",
        json: Json::String,
        unit: "",
        what: "The source.",
        write: |disk, slot| slot.text(&disk.source),
    },
    Field {
        name: "ioTune",
        json: Json::Map,
        unit: "bytes/s or requests/s, as strings",
        what: "Each limit of `<iotune>` by its name: total_bytes_sec, read_iops_sec, write_bytes_sec_max and so on.",
        write: |disk, slot| slot.strings(disk.io_limits.iter().map(|(name, limit)| (&**name, *limit))),
    },
];
