//! What a guest is made of, drawn from a seed.

use super::disk::{Bus, Disk, Source, Work};
use super::load::{Load, Moment};
use super::nic::Nic;
use super::random::{self, Random, chance, pick};
use super::storage;

/// The program that manages the guest, by which names, paths and metadata go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manager {
    Nova,
    Ovirt,
    KubeVirt,
    /// Nobody in particular: virsh, virt-manager.
    Plain,
}

/// The balloon device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Balloon {
    /// There is none.
    None,
    /// No driver in the guest, or it is not asked.
    Silent,
    Reporting,
}

/// How many of what.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    vcpus: u32,
    disks: u32,
    nics: u32,
}

#[rustfmt::skip]
const VCPUS: &[(u32, u32)] = &[(580, 1), (270, 2), (110, 4), (30, 8), (7, 16), (2, 32), (1, 64)];
#[rustfmt::skip]
const DISKS: &[(u32, u32)] = &[(450, 1), (330, 2), (120, 3), (65, 4), (25, 6), (8, 8), (2, 16)];
#[rustfmt::skip]
const NICS: &[(u32, u32)] = &[(450, 1), (330, 2), (120, 3), (65, 4), (25, 6), (8, 8), (2, 10)];

/// Guests of a plan that are there on every host that is large enough, by number.
#[rustfmt::skip]
const SPECIAL: &[(u32, Sizes)] = &[
    (5, Sizes { vcpus: 1, disks: 1, nics: 0 }),
    (6, Sizes { vcpus: 4, disks: 2, nics: 10 }),
    (7, Sizes { vcpus: 8, disks: 16, nics: 2 }),
    (8, Sizes { vcpus: 64, disks: 4, nics: 2 }),
];

/// Of everything a guest may have at most.
pub(super) const MOST_DISKS: usize = 16;
pub(super) const MOST_NICS: usize = 10;

/// GiB for each vCPU, in quarters.
const MEMORY: &[(u32, u64)] = &[(10, 2), (25, 4), (40, 8), (20, 16), (5, 32)];

const QUARTER_GIB: u64 = 256 * 1024;

/// The hardware of a guest, and how busy it is.
#[derive(Debug, Clone)]
pub(super) struct Shape {
    /// For what is made up only when it is asked for.
    pub(super) seed: u64,
    pub(super) manager: Manager,
    pub(super) vcpus: u32,
    /// Those that are plugged.
    pub(super) vcpus_current: u32,
    pub(super) memory_kib: u64,
    pub(super) current_kib: u64,
    pub(super) balloon: Balloon,
    pub(super) hugepages: bool,
    /// Does it swap at times?
    pub(super) swaps: bool,
    pub(super) q35: bool,
    pub(super) iothreads: u32,
    pub(super) disks: Vec<Disk>,
    pub(super) nics: Vec<Nic>,
    pub(super) load: Load,
    pub(super) title: Option<String>,
}

impl Shape {
    /// Guest `number`; `planned` if it is of the host's plan, where some numbers are special.
    pub(super) fn new(seed: u64, number: u32, planned: bool, name: &str, manager: Manager, uuid: &[u8; 16]) -> Self {
        let random = &mut random::of(seed, 1);
        let special = SPECIAL.iter().find(|(special, _)| planned && *special == number);
        let sizes = special.map_or_else(
            || Sizes { vcpus: pick(random, VCPUS), disks: pick(random, DISKS), nics: pick(random, NICS) },
            |(_, sizes)| *sizes,
        );
        let vcpus = sizes.vcpus;
        let memory_kib = u64::from(vcpus) * pick(random, MEMORY) * QUARTER_GIB;
        let balloon = pick(random, &[(15, Balloon::None), (20, Balloon::Silent), (65, Balloon::Reporting)]);
        let ballooned = balloon == Balloon::Reporting && chance(random, 15);
        let load = Load::new(&mut random::of(seed, 2));
        let mut shape = Self {
            seed,
            manager,
            vcpus,
            vcpus_current: if vcpus > 1 && chance(random, 12) { vcpus / 2 } else { vcpus },
            memory_kib,
            current_kib: if ballooned { memory_kib / 8 * 7 } else { memory_kib },
            balloon,
            hugepages: vcpus >= 8 && chance(random, 50),
            swaps: chance(random, 12),
            q35: chance(random, 60) || sizes.disks + sizes.nics > 16,
            iothreads: if chance(random, 25) { 1 + vcpus / 8 } else { 0 },
            disks: Vec::with_capacity(sizes.disks as usize),
            nics: Vec::with_capacity(sizes.nics as usize),
            load,
            title: chance(random, 30).then(|| format!("{name} of {}", pick(random, storage::TEAMS))),
        };
        let nics = &mut random::of(seed, 3);
        for _ in 0..sizes.nics {
            shape.add_nic(nics, number);
        }
        let disks = &mut random::of(seed, 4);
        let bus = pick(disks, &[(70, Bus::Virtio), (25, Bus::Scsi), (5, Bus::Sata)]);
        for place in 0..sizes.disks {
            // A drive for CDs is the last one, or sometimes the only one.
            let cdrom = place + 1 == sizes.disks && chance(disks, if place == 0 { 3 } else { 35 });
            shape.add_disk(disks, bus, cdrom, name, uuid);
        }
        shape.number_sources();
        shape
    }

    /// Plugs a disk in, where libvirt puts it: behind the last of its bus. Returns its alias.
    pub(super) fn add_disk(
        &mut self,
        random: &mut Random,
        bus: Bus,
        cdrom: bool,
        name: &str,
        uuid: &[u8; 16],
    ) -> String {
        let bus = if cdrom { Bus::Sata } else { bus };
        let letters = if bus == Bus::Virtio { "vd" } else { "sd" };
        let place = (0..).find(|place| !self.has_target(letters, *place)).unwrap_or(0);
        let number = number_of(&self.disks);
        let (source, format) = if cdrom {
            (storage::medium(random), "raw")
        } else {
            storage::source(random, self.manager, number, name, uuid)
        };
        let local = !matches!(source, Source::Rbd { .. } | Source::Iscsi { .. } | Source::Nbd { .. });
        // The first disk is the busiest.
        let busy = self.load.disk * if number == 0 { 1.0 } else { 0.6 * random.f64() };
        let capacity = if cdrom { 700 << 20 } else { pick(random, storage::CAPACITIES) << 30 };
        let disk = Disk {
            target: target(letters, place),
            bus,
            place,
            cdrom,
            work: if cdrom { Work::NONE } else { Work::new(random, busy, local) },
            capacity: if source == Source::None { 0 } else { capacity },
            filled: if cdrom { capacity } else { (capacity as f64 * (0.05 + 0.7 * random.f64().powi(2))) as u64 },
            source,
            format,
            cache: pick(random, &[(50, Some("none")), (25, None), (15, Some("writeback")), (10, Some("directsync"))]),
            discard: chance(random, 40),
            serial: (!cdrom && (self.manager == Manager::Ovirt || chance(random, 30)))
                .then(|| random::uuid_text(random)),
            node: 0,
            plugged: Moment::BEGIN,
            slot: if bus == Bus::Virtio { self.slot() } else { 0 },
            salt: random.u32(..),
        };
        let alias = disk.alias();
        let behind = self.disks.iter().rposition(|other| other.bus == bus).map_or(self.disks.len(), |last| last + 1);
        self.disks.insert(behind, disk);
        alias
    }

    /// Plugs a NIC in. Returns its alias.
    pub(super) fn add_nic(&mut self, random: &mut Random, owner: u32) -> String {
        let place = (0..).find(|place| self.nics.iter().all(|nic| nic.place != *place)).unwrap_or(0);
        // The first NIC is the busiest.
        let busy = self.load.net * f64::from(self.vcpus).sqrt() * if self.nics.is_empty() { 1.0 } else { random.f64() };
        let mut nic = Nic::new(random, self.manager, owner, place, busy, self.vcpus);
        nic.slot = self.slot();
        let alias = nic.alias();
        self.nics.push(nic);
        alias
    }

    /// Counters of all devices are 0 when the run begins.
    pub(super) fn count_from_start(&mut self) {
        self.disks.iter_mut().for_each(|disk| disk.plugged = Moment::BEGIN);
        self.nics.iter_mut().for_each(|nic| nic.plugged = Moment::BEGIN);
    }

    /// Gives the sources libvirt's numbers, as a start does: from the last disk to the first.
    pub(super) fn number_sources(&mut self) {
        let mut next = 1;
        for disk in self.disks.iter_mut().rev() {
            disk.node = next;
            next += disk.nodes();
        }
    }

    /// The number for the source of a disk that is plugged into a run.
    pub(super) fn next_node(&self) -> u32 {
        self.disks.iter().map(|disk| disk.node + disk.nodes()).max().unwrap_or(1)
    }

    /// Has the PCI bus a place for one more device?
    pub(super) fn has_slot(&self) -> bool {
        self.slot() < if self.q35 { slots::END_Q35 } else { slots::END }
    }

    /// The first PCI slot behind all that are used.
    pub(super) fn end_of_slots(&self) -> u32 {
        self.used_slots().map(|slot| slot + 1).max().unwrap_or(slots::FIRST)
    }

    fn used_slots(&self) -> impl Iterator<Item = u32> {
        self.disks.iter().map(|disk| disk.slot).chain(self.nics.iter().map(|nic| nic.slot)).filter(|slot| *slot > 0)
    }

    /// The first free slot.
    fn slot(&self) -> u32 {
        (slots::FIRST..).find(|slot| self.used_slots().all(|used| used != *slot)).unwrap_or(slots::END_Q35)
    }

    fn has_target(&self, letters: &str, place: u32) -> bool {
        self.disks.iter().any(|disk| disk.place == place && disk.target.starts_with(letters))
    }
}

/// PCI slots: the devices that every guest has, then NICs and virtio disks.
pub(super) mod slots {
    pub(in super::super) const RNG: u32 = 3;
    pub(in super::super) const BALLOON: u32 = 4;
    pub(in super::super) const SCSI: u32 = 5;
    pub(in super::super) const USB: u32 = 6;
    pub(super) const FIRST: u32 = 7;
    /// A bus has 32.
    pub(super) const END: u32 = 32;
    /// Ports of q35, eight to a slot.
    pub(super) const END_Q35: u32 = 200;
}

/// "vda" and so on.
fn target(letters: &str, place: u32) -> String {
    format!("{letters}{}", char::from_u32(u32::from('a') + place).unwrap_or('z'))
}

/// How many there are.
pub(super) fn number_of<T>(items: &[T]) -> u32 {
    u32::try_from(items.len()).unwrap_or(u32::MAX)
}
