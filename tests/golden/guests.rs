//! A host of our own making, with guests that have everything, little, or trouble.

use std::sync::Arc;
use std::time::Duration;

use virtstatd::clock::{Clock as _, ManualClock};
use virtstatd::model::{
    BalloonSample, Block, BlockInfo, BlockSample, BulkReply, BulkRequest, CpuSample, DiskDescription,
    DomainDescription, DomainEvent, DomainHealth, DomainId, DomainRecord, Figures, Group, Happened, HostVersions,
    Interface, InterfaceSample, InventoryReply, Io, IoError, IoErrorAction, IoThread, KernelDetails, KernelFigures,
    KernelIo, KernelSample, KernelState, Lack, ListedDomain, Metadata, Moment, NicDescription, OpenStack, PauseReason,
    Process, ProcessState, RunId, Scope, Stamp, Standing, StartReason, StateSample, StopReason, Traffic, Unseen, Vcpu,
    VcpuSample,
};
use virtstatd::store::{BlockInfoAnswer, KernelNews, KernelRecord, KernelTurn, LaneShards, Shards, StaleAfter, Store};

pub(super) fn id(number: u8) -> DomainId {
    DomainId::from_bytes([number; 16])
}

fn io(base: u64) -> Io {
    Io { requests: Some(base), bytes: Some(base * 512), time_ns: Some(base * 1_000_001) }
}

pub(super) fn traffic(base: u64) -> Traffic {
    Traffic { bytes: Some(base * 64), packets: Some(base), errors: Some(1), drops: Some(2) }
}

/// Every figure of a guest at a moment; they grow with `step`.
pub(super) fn full(step: u64) -> Figures {
    let vcpu = |index| Vcpu {
        index,
        state: Some(1),
        time_ns: Some(step * 400_000_000),
        wait_ns: Some(0),
        delay_ns: Some(step * 7),
    };
    let disk = |index, name: &str| Block {
        index,
        name: Some(name.into()),
        path: Some(format!("/images/{name}.qcow2").into()),
        read: io(step * 10),
        write: io(step * 20),
        flush: Io { bytes: None, ..io(step * 3) },
        allocation_bytes: Some(4096),
        capacity_bytes: Some(1 << 40),
        physical_bytes: Some(8192),
    };
    let nic = |index, name: Option<&str>| Interface {
        index,
        name: name.map(Into::into),
        receive: traffic(step * 5),
        transmit: traffic(step * 6),
    };
    Figures {
        state: Some(StateSample { state: Some(1), reason: Some(1) }),
        cpu: Some(CpuSample {
            // Beyond 2^53: f64 would lose the last digits.
            time_ns: Some(9_007_199_254_740_993 + step * 1_500_000_000),
            user_ns: Some(step * 1_000_000_000),
            system_ns: Some(step * 500_000_000),
        }),
        vcpu: Some(VcpuSample { current: Some(2), maximum: Some(4), vcpus: vec![vcpu(0), vcpu(2)] }),
        // The second has no device on the host, the third repeats a name.
        interface: Some(InterfaceSample {
            count: Some(3),
            interfaces: vec![nic(0, Some("vnet0")), nic(1, None), nic(2, Some("vnet0"))],
        }),
        block: Some(BlockSample { count: Some(2), disks: vec![disk(0, "vda"), disk(1, "vdb")] }),
        balloon: Some(BalloonSample {
            current_kib: Some(2_097_152),
            maximum_kib: Some(4_194_304),
            swap_in_kib: Some(step),
            swap_out_kib: Some(step * 2),
            major_faults: Some(step * 3),
            minor_faults: Some(step * 4),
            unused_kib: Some(1000),
            available_kib: Some(2_000_000),
            usable_kib: Some(1_500_000),
            last_update_s: Some(1_000_000_000),
            disk_caches_kib: Some(300),
            hugetlb_pgalloc: Some(0),
            hugetlb_pgfail: Some(0),
            rss_kib: Some(2_200_000),
        }),
    }
}

pub(super) fn description() -> DomainDescription {
    let disk = |target: &str| DiskDescription {
        target: target.into(),
        disk_type: "file".into(),
        target_bus: "virtio".into(),
        driver_name: "qemu".into(),
        driver_type: "qcow2".into(),
        driver_cache: "none".into(),
        driver_discard: "unmap".into(),
        source: format!("/images/{target}.qcow2").into(),
        device: "disk".into(),
        serial: "S-1".into(),
        backing: vec!["/images/base.qcow2".into()],
        ..DiskDescription::default()
    };
    let nic = |target: &str, mac: &str| NicDescription {
        target: target.into(),
        interface_type: "bridge".into(),
        source_bridge: "br0".into(),
        source_network: "default".into(),
        virtual_port: "openvswitch".into(),
        mac: mac.into(),
        model: "virtio".into(),
        mtu: "1500".into(),
    };
    DomainDescription {
        domain_type: "kvm".into(),
        os_type: "hvm".into(),
        os_arch: "x86_64".into(),
        os_machine: "pc-q35-7.2".into(),
        boot: vec!["hd".into(), "network".into()],
        vcpus: Some(2),
        vcpus_maximum: Some(4),
        memory_kib: Some(1_048_576),
        memory_maximum_kib: Some(2_097_152),
        title: Some("Web server".into()),
        description: Some("two\nlines \"quoted\"".into()),
        disks: vec![disk("vda"), disk("vdb")],
        nics: vec![nic("vnet0", "52:54:00:00:00:01"), nic("", "52:54:00:00:00:02"), nic("vnet0", "52:54:00:00:00:03")],
        openstack: Some(OpenStack {
            instance_name: "web-1".into(),
            instance_id: id(1).to_string().into(),
            flavor_name: "m1.small".into(),
            user_name: "alice".into(),
            user_id: "u1".into(),
            project_name: "shop".into(),
            project_id: "p1".into(),
        }),
        metadata: [("nova:instance/nova:name", "web-1"), ("app/tier", "gold")]
            .map(|(key, value)| Metadata { key: key.into(), value: value.into() })
            .into(),
        ..DomainDescription::default()
    }
}

/// Tells the store of an event, so many milliseconds after what its clock shows.
fn tell(store: &Store, after_ms: u64, number: u8, run: Option<u32>, what: Happened) {
    let (now, after) = (store.moment(), Duration::from_millis(after_ms));
    let stamp = Stamp { at: now.stamp.at + after, wall: now.stamp.wall + after };
    let at = Moment { stamp, since_boot: now.since_boot + after };
    store.apply_event(at, &DomainEvent { id: id(number), run: run.map(RunId), what });
}

/// Two guests have started before the list knows them.
fn start_some(store: &Store) {
    tell(store, 100, 2, Some(2), Happened::Started(StartReason::Booted));
    tell(store, 200, 4, Some(4), Happened::Started(StartReason::Migrated));
}

/// Of two guests the process can be seen; one was paused for an error of a disk, and panicked; one was saved.
fn let_something_happen(store: &Store) {
    let per_second = rustix::param::clock_ticks_per_second();
    // The clock began 100,000 s after boot.
    let process = |pid, start_ticks| Process { pid, start_ticks, state: ProcessState::Runs };
    store.apply_processes(&[
        (id(1), RunId(1), process(4_001, 90_000 * per_second)),
        (id(2), RunId(2), process(4_002, 99_999 * per_second)),
    ]);
    let error = IoError {
        device: Some("virtio-disk0".into()),
        path: Some("/images/vda.qcow2".into()),
        action: IoErrorAction::Pause,
        reason: Some("enospc".into()),
    };
    tell(store, 300, 1, Some(1), Happened::IoError(Box::new(error)));
    tell(store, 400, 1, Some(1), Happened::Paused(PauseReason::IoError));
    tell(store, 500, 1, Some(1), Happened::Resumed);
    tell(store, 600, 1, Some(1), Happened::Paused(PauseReason::Paused));
    tell(store, 700, 1, Some(1), Happened::Resumed);
    tell(store, 800, 1, Some(1), Happened::Panicked);
    tell(store, 900, 3, None, Happened::Stopped(StopReason::Saved));
}

/// Two looks of the kernel lane at one guest; a hung one is not seen by it.
fn look_at_kernel(clock: &ManualClock, store: &Store) {
    for step in [1, 2] {
        clock.advance(Duration::from_secs(1));
        let traffic = |base: u64| Traffic {
            bytes: Some(base * 1000 * step),
            packets: Some(base * step),
            errors: Some(0),
            drops: Some(base),
        };
        let nic = Interface { index: 0, name: Some("vnet5".into()), receive: traffic(500), transmit: traffic(300) };
        let vcpu = |index: u32| Vcpu {
            index,
            state: Some(1),
            time_ns: Some(700_000_000 * step + u64::from(index)),
            wait_ns: None,
            delay_ns: Some(9_000_000 * step),
        };
        let figures = KernelFigures {
            process: Process { pid: 4105, start_ticks: 99, state: ProcessState::Runs },
            cpu: Some(CpuSample {
                time_ns: Some(1_500_000_000 * step),
                user_ns: Some(1_000_000_000 * step),
                system_ns: Some(500_000_000 * step),
            }),
            vcpu: Some(VcpuSample { current: Some(2), maximum: None, vcpus: vec![vcpu(0), vcpu(1)] }),
            interface: Some(InterfaceSample { count: Some(1), interfaces: vec![nic] }),
            kernel: KernelSample {
                resident_kib: Some(36_868),
                major_faults: Some(7),
                minor_faults: Some(4900 + step * 100),
                threads: Some(6),
                details: Some(Arc::new(KernelDetails {
                    read: Stamp { at: clock.now(), wall: clock.wall() },
                    hugetlb_kib: Some(2048),
                    voluntary_switches: Some(1000 * step),
                    involuntary_switches: Some(10 * step),
                    emulator_time_ns: Some(100_000_000 * step),
                    emulator_delay_ns: Some(1_000_000 * step),
                    iothreads: vec![IoThread { id: 1, time_ns: Some(5_000_000 * step), delay_ns: Some(10_000 * step) }],
                    io_read: KernelIo { bytes: Some(4096 * step), operations: Some(step) },
                    io_write: KernelIo { bytes: Some(8192 * step), operations: Some(2 * step) },
                })),
            },
        };
        let started = Stamp { at: clock.now(), wall: clock.wall() };
        let lack = Lack { figures: "vCPU wait", reason: "this kernel has no scheduler statistics".to_owned() };
        let news = store.apply_kernel(KernelTurn {
            network: Some(started),
            records: vec![KernelRecord { id: id(5), run: RunId(5), started, figures }],
            unseen: vec![(id(4), Unseen::NoProcess)],
            state: KernelState { open_files: 7, open_files_limit: 1000, lacks: vec![lack] },
            took: Duration::from_micros(1500),
        });
        assert_eq!(news, KernelNews::default());
    }
}

/// A host with one guest that has everything, one with an odd name and little, one that is shut off, and one whose QEMU
/// hangs: of that one only the state, which needs no answer of QEMU, is still new. The last is one of which the kernel tells.
pub(super) fn host() -> (Arc<ManualClock>, Store) {
    let clock = Arc::new(ManualClock::new());
    let store = Store::new(clock.clone());
    let mut stale_after = StaleAfter::default();
    for group in Group::ALL {
        stale_after.set(group, Duration::from_millis(37_500));
    }
    stale_after.set_list(Duration::from_secs(150));
    let all = LaneShards { calls: 1, domains: None, bytes: Some(2_000), limit_bytes: 1_048_576, halved: 0 };
    store.set_shards(Shards {
        free: all,
        monitor: LaneShards { calls: 3, domains: Some(1), bytes: Some(7_000), halved: 2, ..all },
    });
    store.configure(stale_after);
    let stamp = || Stamp { at: clock.now(), wall: clock.wall() };
    let odd = r#"odd "name" back\slash ü"#;
    let listed = |number, name: &str, run: Option<u32>, described: bool| ListedDomain {
        id: id(number),
        name: name.into(),
        run: run.map(RunId),
        state: run.is_none().then_some(StateSample { state: Some(5), reason: Some(3) }),
        description: described.then(|| Arc::new(description())),
    };
    start_some(&store);
    let versions = HostVersions { hypervisor: "QEMU 7.2.22".into(), daemon: "9.0.0".into(), library: "9.0.0".into() };
    store.apply_inventory(
        stamp(),
        InventoryReply {
            domains: vec![
                listed(1, "web", Some(1), true),
                listed(2, odd, Some(2), false),
                listed(3, "asleep", None, true),
                listed(4, "hung", Some(4), false),
                listed(5, "seen", Some(5), false),
            ],
            versions,
            failed_descriptions: 0,
            peer: None,
        },
    );
    let_something_happen(&store);
    let request = BulkRequest { groups: Group::ALL.into_iter().collect(), scope: Scope::All };
    for step in [1, 2] {
        clock.advance(Duration::from_secs(15));
        let record = |number, name: &str, figures| DomainRecord {
            id: id(number),
            name: name.into(),
            run: Some(RunId(number.into())),
            figures,
        };
        let seen = Figures { state: Some(StateSample { state: Some(1), reason: Some(1) }), ..Figures::default() };
        let little = Figures { state: Some(StateSample { state: Some(3), reason: Some(1) }), ..Figures::default() };
        let state = StateSample { state: Some(1), reason: Some(1) };
        let cpu = (step == 1).then_some(CpuSample { time_ns: Some(77), ..CpuSample::default() });
        let hung = Figures { state: Some(state), cpu, ..Figures::default() };
        let records = vec![
            record(1, "web", full(step)),
            record(2, odd, little),
            record(4, "hung", hung),
            record(5, "seen", seen),
        ];
        store.apply_bulk(stamp(), &request, BulkReply { records, ..BulkReply::default() });
        let sizes = |number: u8, target: &str, base: u64| BlockInfoAnswer {
            started: stamp(),
            id: id(number),
            run: Some(RunId(number.into())),
            target: target.into(),
            info: Some(BlockInfo {
                capacity_bytes: Some(base << 40),
                allocation_bytes: Some(base << 20),
                physical_bytes: Some(base << 21),
            }),
        };
        if step == 1 {
            // Of the second disk only the bulk call tells the sizes; the hung guest's only disk is in no bulk answer.
            store.apply_block_infos(vec![sizes(1, "vda", 3), sizes(4, "vda", 5)]);
        }
    }
    let health = DomainHealth {
        standing: Standing::Quarantined,
        unresponsive_since: Some(stamp()),
        blocked_call: Some("virDomainListGetStats"),
        blocked_storage: Some("/srv/images".into()),
    };
    store.apply_health(vec![(id(4), health)]);
    look_at_kernel(&clock, &store);
    clock.advance(Duration::from_millis(1234));
    (clock, store)
}
