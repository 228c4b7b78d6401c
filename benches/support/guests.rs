//! A made-up host: what libvirt would say of any number of guests, and a store that has heard it.

use std::sync::Arc;
use std::time::Duration;

use virtstatd::clock::{Clock as _, ManualClock};
use virtstatd::libvirt::{Decoder, Value, describe};
use virtstatd::model::{
    BulkReply, BulkRequest, DecodeCounts, DomainId, DomainRecord, Group, HostVersions, InventoryReply, ListedDomain,
    RunId, Scope, Stamp,
};
use virtstatd::store::{StaleAfter, Store};

/// Time from one sample to the next.
const PERIOD: Duration = Duration::from_secs(15);

/// What QEMU 7.2 counts of a vCPU under KVM. They are half of a real record, and all ignored.
const QEMU_VCPU: [&str; 42] = [
    "hypercalls.sum",
    "request_irq_exits.sum",
    "directed_yield_attempted.sum",
    "pf_fixed.sum",
    "halt_attempted_poll.sum",
    "pf_park_timeouts.sum",
    "pf_taken.sum",
    "halt_successful_poll.sum",
    "invlpg.sum",
    "preemption_other.sum",
    "insn_emulation.sum",
    "signal_exits.sum",
    "pf_fast.sum",
    "host_state_reload.sum",
    "pf_spurious.sum",
    "halt_wait_ns.sum",
    "halt_poll_invalid.sum",
    "irq_exits.sum",
    "notify_window_exits.sum",
    "nested_run.sum",
    "insn_emulation_fail.sum",
    "guest_mode.cur",
    "pf_mmio_spte_created.sum",
    "pf_parked.sum",
    "halt_poll_fail_ns.sum",
    "exits.sum",
    "pf_emulate.sum",
    "io_exits.sum",
    "halt_poll_success_ns.sum",
    "preemption_reported.sum",
    "nmi_injections.sum",
    "irq_window_exits.sum",
    "req_event.sum",
    "fpu_reload.sum",
    "halt_exits.sum",
    "mmio_exits.sum",
    "l1d_flush.sum",
    "pf_guest.sum",
    "irq_injections.sum",
    "blocking.cur",
    "halt_wakeup.sum",
    "tlb_flush.sum",
];

const BALLOON: [&str; 11] = [
    "swap_in",
    "swap_out",
    "major_fault",
    "minor_fault",
    "unused",
    "available",
    "usable",
    "last-update",
    "disk_caches",
    "hugetlb_pgalloc",
    "hugetlb_pgfail",
];

/// How many devices a guest has.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) vcpus: u32,
    pub(crate) disks: u32,
    pub(crate) nics: u32,
    /// Does its balloon driver report?
    pub(crate) balloon: bool,
}

impl Shape {
    /// The smallest that is of use.
    pub(crate) const SMALL: Self = Self { vcpus: 1, disks: 1, nics: 1, balloon: false };
    /// The average one of a large host.
    pub(crate) const USUAL: Self = Self { vcpus: 2, disks: 2, nics: 2, balloon: true };
    /// A database server.
    pub(crate) const LARGE: Self = Self { vcpus: 64, disks: 16, nics: 10, balloon: true };
}

enum Figure {
    Signed(i64),
    Unsigned(u64),
    Text(String),
    Boolean,
}

/// The typed parameters of one record, in the order in which libvirt 9 sends them.
pub(crate) struct Parameters(Vec<(String, Figure)>);

impl Parameters {
    pub(crate) fn new(shape: Shape, guest: u32, sample: u64) -> Self {
        // Counters of the usual lengths, each another.
        let mut number = u64::from(guest) * 7_919 + sample * 104_729;
        let mut count = || {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            Figure::Unsigned(number >> 30)
        };
        let mut all: Vec<(String, Figure)> = Vec::new();
        let mut add = |key: String, figure: Figure| all.push((key, figure));
        add("state.state".to_owned(), Figure::Signed(1));
        add("state.reason".to_owned(), Figure::Signed(1));
        for key in ["time", "user", "system", "cache.monitor.count", "haltpoll.success.time", "haltpoll.fail.time"] {
            add(format!("cpu.{key}"), count());
        }
        for key in ["current", "maximum"].iter().chain(BALLOON.iter().filter(|_| shape.balloon)).chain(&["rss"]) {
            add(format!("balloon.{key}"), Figure::Unsigned(4_194_304));
        }
        add("vcpu.current".to_owned(), Figure::Unsigned(shape.vcpus.into()));
        add("vcpu.maximum".to_owned(), Figure::Unsigned(shape.vcpus.into()));
        for vcpu in 0..shape.vcpus {
            add(format!("vcpu.{vcpu}.state"), Figure::Signed(1));
            for key in ["time", "wait", "delay"].into_iter().chain(QEMU_VCPU) {
                let figure = if key.ends_with(".cur") { Figure::Boolean } else { count() };
                add(format!("vcpu.{vcpu}.{key}"), figure);
            }
        }
        add("net.count".to_owned(), Figure::Unsigned(shape.nics.into()));
        for nic in 0..shape.nics {
            add(format!("net.{nic}.name"), Figure::Text(tap(guest, nic)));
            for key in ["rx.bytes", "rx.pkts", "rx.errs", "rx.drop", "tx.bytes", "tx.pkts", "tx.errs", "tx.drop"] {
                add(format!("net.{nic}.{key}"), count());
            }
        }
        add("block.count".to_owned(), Figure::Unsigned(shape.disks.into()));
        for disk in 0..shape.disks {
            add(format!("block.{disk}.name"), Figure::Text(target(disk)));
            add(format!("block.{disk}.path"), Figure::Text(image(guest, disk)));
            add(format!("block.{disk}.backingIndex"), Figure::Unsigned(1));
            for key in ["rd.reqs", "rd.bytes", "rd.times", "wr.reqs", "wr.bytes", "wr.times", "fl.reqs", "fl.times"] {
                add(format!("block.{disk}.{key}"), count());
            }
            for key in ["allocation", "capacity", "physical"] {
                add(format!("block.{disk}.{key}"), Figure::Unsigned(21_474_836_480));
            }
        }
        Self(all)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], Value<'_>)> {
        self.0.iter().map(|(key, figure)| {
            let value = match figure {
                Figure::Signed(number) => Value::Signed(*number),
                Figure::Unsigned(number) => Value::Unsigned(*number),
                Figure::Text(text) => Value::Text(text.as_bytes()),
                Figure::Boolean => Value::Other,
            };
            (key.as_bytes(), value)
        })
    }
}

fn name(guest: u32) -> String {
    format!("instance-{guest:08x}")
}

fn id(guest: u32) -> DomainId {
    // Spread like random ones: maps and trees care.
    DomainId::from_bytes((u128::from(guest) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835).to_be_bytes())
}

fn tap(guest: u32, nic: u32) -> String {
    format!("tap{guest:06x}-{nic}")
}

fn target(disk: u32) -> String {
    format!("vd{}", char::from_u32(u32::from('a') + disk).unwrap_or('z'))
}

fn image(guest: u32, disk: u32) -> String {
    format!("/var/lib/nova/instances/{}/disk-{disk}.qcow2", id(guest))
}

fn xml(shape: Shape, guest: u32) -> String {
    let disk = |disk| {
        format!(
            "<disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/><source file='{}'/>\
             <target dev='{}' bus='virtio'/></disk>",
            image(guest, disk),
            target(disk),
        )
    };
    let nic = |nic| {
        format!(
            "<interface type='bridge'><mac address='52:54:{nic:02x}:{:02x}:{:02x}:{:02x}'/><source bridge='br0'/>\
             <target dev='{}'/><model type='virtio'/><mtu size='1500'/></interface>",
            guest >> 16 & 0xff,
            guest >> 8 & 0xff,
            guest & 0xff,
            tap(guest, nic),
        )
    };
    format!(
        "<domain type='kvm' id='{guest}'><name>{name}</name><uuid>{id}</uuid><memory unit='KiB'>4194304</memory>\
         <vcpu placement='static'>{vcpus}</vcpu><os><type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type></os><devices>\
         {disks}{nics}</devices></domain>",
        name = name(guest),
        id = id(guest),
        vcpus = shape.vcpus,
        disks = (0..shape.disks).map(disk).collect::<String>(),
        nics = (0..shape.nics).map(nic).collect::<String>(),
    )
}

/// A store that knows a number of running guests, each with two samples of every group.
pub(crate) struct Host {
    pub(crate) store: Arc<Store>,
    clock: Arc<ManualClock>,
    /// What is asked for.
    pub(crate) request: BulkRequest,
    /// An answer to it.
    pub(crate) reply: BulkReply,
}

impl Host {
    pub(crate) fn new(guests: u32, shape: Shape) -> Self {
        let clock = Arc::new(ManualClock::new());
        let shared: Arc<ManualClock> = Arc::clone(&clock);
        let store = Arc::new(Store::new(shared));
        let mut stale_after = StaleAfter::default();
        for group in Group::ALL {
            // Some benches let much time pass, and what is stale would cost nothing.
            stale_after.set(group, PERIOD * 1_000_000);
        }
        store.configure(stale_after);
        store.apply_inventory(store.stamp(), inventory(guests, shape));
        let request = BulkRequest { groups: Group::ALL.into_iter().collect(), scope: Scope::All };
        let host = Self { store, clock, request, reply: reply(guests, shape, 2) };
        host.store.apply_bulk(host.next_period(), &host.request, reply(guests, shape, 1));
        host.store.apply_bulk(host.next_period(), &host.request, host.reply.clone());
        host
    }

    /// Makes a snapshot that differs from the last in what costs nothing, some seconds later.
    pub(crate) fn news(&self) {
        self.clock.advance(Duration::from_millis(1500));
        let hint = self.store.snapshot().hint.is_none().then_some("news");
        self.store.set_hint(hint);
    }

    /// Lets a period pass.
    pub(crate) fn next_period(&self) -> Stamp {
        self.clock.advance(PERIOD);
        Stamp { at: self.clock.now(), wall: self.clock.wall() }
    }
}

fn inventory(guests: u32, shape: Shape) -> InventoryReply {
    let domains = (0..guests).map(|guest| ListedDomain {
        id: id(guest),
        name: name(guest).into(),
        run: Some(RunId(guest + 1)),
        state: None,
        description: Some(Arc::new(describe(&xml(shape, guest)).expect("the XML above is complete"))),
    });
    let versions = HostVersions { hypervisor: "QEMU 7.2.22".into(), daemon: "9.0.0".into(), library: "9.0.0".into() };
    InventoryReply { domains: domains.collect(), versions, failed_descriptions: 0, peer: None }
}

fn reply(guests: u32, shape: Shape, sample: u64) -> BulkReply {
    let decoder = Decoder::default();
    let mut decode = DecodeCounts::default();
    let mut record = |guest| {
        let parameters = Parameters::new(shape, guest, sample);
        let figures = decoder.figures(parameters.iter(), &mut decode);
        DomainRecord { id: id(guest), name: name(guest).into(), run: Some(RunId(guest + 1)), figures }
    };
    let records = (0..guests).map(&mut record).collect();
    assert_eq!(decode, DecodeCounts::default(), "the made-up parameters are those that libvirt sends");
    BulkReply { records, decode, ..BulkReply::default() }
}
