//! Disks: where their data is, how they are attached, and what they have done by a moment.

use super::load::Moment;
use super::random::Random;
use super::shape::number_of;

/// How a guest reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bus {
    Virtio,
    Scsi,
    Sata,
}

impl Bus {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Virtio => "virtio",
            Self::Scsi => "scsi",
            Self::Sata => "sata",
        }
    }
}

/// Where the data is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    /// A drive without a medium.
    None,
    File {
        path: String,
        /// The files below it, nearest first.
        backing: Vec<String>,
    },
    /// A device of the host.
    Block {
        path: String,
    },
    /// A volume of a libvirt pool, and the file that it is.
    Volume {
        pool: &'static str,
        volume: String,
        path: String,
    },
    Rbd {
        image: String,
    },
    Iscsi {
        name: String,
    },
    Nbd {
        export: String,
    },
}

/// Places of a SATA controller.
const SATA_UNITS: u32 = 6;

/// What it does against the activity of its guest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Work {
    /// A second.
    pub(super) reads: f64,
    /// A second.
    pub(super) writes: f64,
    /// Bytes a request.
    pub(super) read_size: f64,
    pub(super) write_size: f64,
    /// Nanoseconds a request.
    pub(super) read_time: f64,
    pub(super) write_time: f64,
    /// Of a hundred writes.
    pub(super) flushes: f64,
}

impl Work {
    pub(super) const NONE: Self = Self {
        reads: 0.0,
        writes: 0.0,
        read_size: 0.0,
        write_size: 0.0,
        read_time: 0.0,
        write_time: 0.0,
        flushes: 0.0,
    };

    /// That of a disk of a guest which is `busy` (1 is usual), on storage that is local or not.
    pub(super) fn new(random: &mut Random, busy: f64, local: bool) -> Self {
        let mut around = |mean: f64| mean * (0.4 + 1.2 * random.f64());
        let latency = if local { 1.0 } else { 4.0 };
        Self {
            reads: around(9.0) * busy,
            writes: around(14.0) * busy,
            read_size: around(28_672.0),
            write_size: around(14_336.0),
            read_time: around(350_000.0) * latency,
            write_time: around(600_000.0) * latency,
            flushes: around(12.0),
        }
    }
}

/// A disk, or a drive.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    pub(super) target: String,
    pub(super) bus: Bus,
    /// The place of the target among those of its letters: 0 for vda.
    pub(super) place: u32,
    pub(super) cdrom: bool,
    pub(super) source: Source,
    /// "raw" or "qcow2".
    pub(super) format: &'static str,
    pub(super) cache: Option<&'static str>,
    pub(super) discard: bool,
    pub(super) serial: Option<String>,
    pub(super) capacity: u64,
    /// What it held when the run began, in bytes.
    pub(super) filled: u64,
    /// libvirt's number of its source, the `index` of the XML.
    pub(super) node: u32,
    /// Its PCI slot, if it has one.
    pub(super) slot: u32,
    /// When it was plugged in: its counters were 0.
    pub(super) plugged: Moment,
    pub(super) work: Work,
    pub(super) salt: u32,
}

/// Counters of a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // libvirt's names.
pub(super) struct Counters {
    pub(super) rd_reqs: u64,
    pub(super) rd_bytes: u64,
    pub(super) rd_times: u64,
    pub(super) wr_reqs: u64,
    pub(super) wr_bytes: u64,
    pub(super) wr_times: u64,
    pub(super) fl_reqs: u64,
    pub(super) fl_times: u64,
}

/// Sizes of a disk as QEMU and the file system know them, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    /// The highest byte written in this run; QEMU forgets it with the run.
    pub(super) highest: u64,
    pub(super) capacity: u64,
    /// What it takes on the host; None where nobody can tell.
    pub(super) taken: Option<u64>,
    /// The length of the file or device.
    pub(super) length: Option<u64>,
}

impl Disk {
    /// libvirt's name of the device.
    pub(super) fn alias(&self) -> String {
        match self.bus {
            Bus::Virtio => format!("virtio-disk{}", self.place),
            Bus::Scsi => format!("scsi0-0-0-{}", self.place),
            Bus::Sata => format!("sata{}-0-{}", self.controller(), self.unit()),
        }
    }

    /// The controller that a drive is at: SATA has six places each.
    pub(super) fn controller(&self) -> u32 {
        if self.bus == Bus::Sata { self.place / SATA_UNITS } else { 0 }
    }

    /// Its place there.
    pub(super) fn unit(&self) -> u32 {
        self.place - self.controller() * SATA_UNITS
    }

    /// The file or device, if it is the host's own.
    pub(super) fn path(&self) -> Option<&str> {
        match &self.source {
            Source::File { path, .. } | Source::Block { path } | Source::Volume { path, .. } => Some(path),
            Source::None | Source::Rbd { .. } | Source::Iscsi { .. } | Source::Nbd { .. } => None,
        }
    }

    /// Is there a medium?
    pub(super) fn is_loaded(&self) -> bool {
        self.source != Source::None
    }

    /// How many sources libvirt numbers: the image, and what is below it.
    pub(super) fn nodes(&self) -> u32 {
        match &self.source {
            Source::File { backing, .. } => 1 + number_of(backing),
            _ => 1,
        }
    }

    /// What it has done. Sizes and times a request vary a little over time, so they have waves of their own.
    pub(super) fn counters(&self, moment: &Moment) -> Counters {
        let (work, moment) = (&self.work, moment.since(&self.plugged));
        let salt = |n: u32| self.salt.rotate_right(n * 3);
        let requests = |rate: f64, n: u32| moment.count(rate, salt(n)) as u64;
        // Nothing was moved as long as no request was counted.
        let amount =
            |requests: u64, rate: f64, n: u32| if requests == 0 { 0 } else { moment.count(rate, salt(n)) as u64 };
        let rd_reqs = requests(work.reads, 0);
        let wr_reqs = requests(work.writes, 1);
        let flushes = work.writes * work.flushes / 100.0;
        let fl_reqs = requests(flushes, 1);
        Counters {
            rd_reqs,
            rd_bytes: amount(rd_reqs, work.reads * work.read_size / 512.0, 2) * 512,
            rd_times: amount(rd_reqs, work.reads * work.read_time, 3),
            wr_reqs,
            wr_bytes: amount(wr_reqs, work.writes * work.write_size / 512.0, 4) * 512,
            wr_times: amount(wr_reqs, work.writes * work.write_time, 5),
            fl_reqs,
            fl_times: amount(fl_reqs, flushes * work.write_time * 2.5, 6),
        }
    }

    /// What it holds after so much was written: images grow ever slower the fuller they are.
    pub(super) fn held(&self, written: u64) -> u64 {
        let free = self.capacity.saturating_sub(self.filled) as f64;
        // A hundredth of what is written is new.
        let new = written as f64 / 100.0;
        let grown = if free > 0.0 { free * new / (new + free) } else { 0.0 };
        (self.filled + grown as u64) & !0xfff
    }

    /// Its sizes after so much was written in this run.
    pub(super) fn sizes(&self, written: u64) -> Sizes {
        let capacity = self.capacity;
        let taken = self.held(written);
        let highest = if written == 0 { 0 } else { (taken / 4 * 5).min(capacity) };
        let (taken, length) = match &self.source {
            Source::File { .. } | Source::Volume { .. } if self.format == "raw" => (Some(taken), Some(capacity)),
            Source::File { .. } | Source::Volume { .. } => (Some(taken), Some(taken)),
            Source::Block { .. } => (Some(capacity), Some(capacity)),
            _ => (None, None),
        };
        Sizes { highest, capacity, taken, length }
    }
}
