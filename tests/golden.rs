//! What others parse, held to the letter: /metrics, our JSON, and the generated reference.
//!
//! `VIRTSTATD_BLESS=1 cargo test --test golden` writes the files anew; look at the difference before you commit it.
#![allow(clippy::unwrap_used)]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use support::exposition::{assert_promtool_is_silent, parse};
use virtstatd::clock::{Clock as _, ManualClock};
use virtstatd::export::api::{self, ListBody, Query};
use virtstatd::export::prometheus::{Options, Renderer, markdown};
use virtstatd::model::host::{
    CpuTimes, HostCpu, HostInterface, HostSample, Hugepages, Ksm, Load, Memory, NumaNode, PathSpace, Scheduling, Space,
    Swap, TransparentHugepages,
};
use virtstatd::model::{
    BalloonSample, Block, BlockInfo, BlockSample, BulkReply, BulkRequest, CpuSample, DiskDescription,
    DomainDescription, DomainEvent, DomainHealth, DomainId, DomainRecord, Figures, Group, Happened, HostVersions,
    Interface, InterfaceSample, InventoryReply, Io, IoError, IoErrorAction, ListedDomain, Metadata, Moment,
    NicDescription, OpenStack, PauseReason, Process, ProcessState, RunId, Scope, Stamp, Standing, StartReason,
    StateSample, StopReason, Traffic, Vcpu, VcpuSample,
};
use virtstatd::store::{BlockInfoAnswer, LaneShards, Shards, StaleAfter, Store};

fn check(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
    if std::env::var_os("VIRTSTATD_BLESS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    let difference = expected.lines().zip(text.lines()).enumerate().find(|(_, (expected, found))| expected != found);
    assert!(
        expected == text,
        "{name} is not current; first difference: {difference:?}\nVIRTSTATD_BLESS=1 writes it anew, if this is meant"
    );
}

fn id(number: u8) -> DomainId {
    DomainId::from_bytes([number; 16])
}

fn io(base: u64) -> Io {
    Io { requests: Some(base), bytes: Some(base * 512), time_ns: Some(base * 1_000_001) }
}

fn traffic(base: u64) -> Traffic {
    Traffic { bytes: Some(base * 64), packets: Some(base), errors: Some(1), drops: Some(2) }
}

/// Every figure of a guest at a moment; they grow with `step`.
fn full(step: u64) -> Figures {
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

fn description() -> DomainDescription {
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

/// A host with one guest that has everything, one with an odd name and little, one that is shut off, and one whose QEMU
/// hangs: of that one only the state, which needs no answer of QEMU, is still new.
fn host() -> (Arc<ManualClock>, Store) {
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
        let little = Figures { state: Some(StateSample { state: Some(3), reason: Some(1) }), ..Figures::default() };
        let state = StateSample { state: Some(1), reason: Some(1) };
        let cpu = (step == 1).then_some(CpuSample { time_ns: Some(77), ..CpuSample::default() });
        let hung = Figures { state: Some(state), cpu, ..Figures::default() };
        let records = vec![record(1, "web", full(step)), record(2, odd, little), record(4, "hung", hung)];
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
    clock.advance(Duration::from_millis(1234));
    (clock, store)
}

#[test]
fn metrics_are_as_released() {
    let (_, store) = host();
    let rendering = Renderer::default().render(store.snapshot(), store.now(), &store);
    let per_scrape = String::from_utf8(rendering.per_scrape(&store)).unwrap();
    // Our own figures differ from run to run; the ages do not.
    let ages = per_scrape.split("# HELP process_").next().unwrap();
    let text = format!("{}{ages}", rendering.text());
    assert_promtool_is_silent(&text);
    parse(&text);
    check("tests/golden/metrics.txt", &text);
}

#[test]
fn times_are_beside_what_was_sampled_and_nothing_else() {
    let (clock, store) = host();
    // Each group's newest sample is of another moment.
    for group in Group::ALL {
        clock.advance(Duration::from_secs(1));
        let all = full(3);
        let figures = Figures {
            state: all.state.filter(|_| group == Group::State),
            cpu: all.cpu.filter(|_| group == Group::Cpu),
            vcpu: all.vcpu.filter(|_| group == Group::Vcpu),
            interface: all.interface.filter(|_| group == Group::Interface),
            block: all.block.filter(|_| group == Group::Block),
            balloon: all.balloon.filter(|_| group == Group::Balloon),
        };
        let record = DomainRecord { id: id(1), name: "web".into(), run: Some(RunId(1)), figures };
        let request = BulkRequest { groups: [group].into_iter().collect(), scope: Scope::Only(vec![id(1)]) };
        let started = Stamp { at: clock.now(), wall: clock.wall() };
        store.apply_bulk(started, &request, BulkReply { records: vec![record], ..BulkReply::default() });
    }
    let render = |timestamps| {
        Renderer::new(Options { timestamps, ..Options::default() }).render(store.snapshot(), store.now(), &store).text()
    };
    let (plain, timed) = (render(false), render(true));
    assert_promtool_is_silent(&timed);
    assert_eq!(plain.lines().count(), timed.lines().count());
    let mut told = std::collections::BTreeSet::new();
    let mut times = String::new();
    for (plain, timed) in plain.lines().zip(timed.lines()) {
        let rest = timed.strip_prefix(plain).expect("the same but for the time");
        let series = plain.split([' ', ',']).next().unwrap();
        if !plain.starts_with('#') && told.insert(series) {
            times += &format!("{series}:{rest}\n");
        }
    }
    // Where the sizes of a disk were asked for on their own, they bear that time, else that of the counters.
    for (disk, time) in [("vda", "1000000015000"), ("vdb", "1000000036234")] {
        let start = "libvirt_domain_block_stats_capacity_bytes{domain=\"web\"";
        let mut sizes = timed.lines().filter(|line| line.starts_with(start));
        let line = sizes.find(|line| line.contains(&format!("target_device=\"{disk}\""))).unwrap();
        assert!(line.ends_with(&format!(" {time}")), "{line}");
    }
    // The first series of each family and domain, and its time.
    check("tests/golden/timestamps.txt", &times);
}

#[test]
fn kept_labels_and_buffers_change_nothing() {
    let (clock, store) = host();
    let mut renderer = Renderer::default();
    let mut render_twice = |what: &str| {
        let kept = renderer.render(store.snapshot(), store.now(), &store);
        let (text, fresh) = (kept.text(), Renderer::default().render(store.snapshot(), store.now(), &store).text());
        assert_eq!(text, fresh, "{what}");
        renderer.recycle(kept);
        text
    };
    let bulk = |name: &str, figures: Figures| {
        clock.advance(Duration::from_secs(1));
        let started = Stamp { at: clock.now(), wall: clock.wall() };
        let record = DomainRecord { id: id(1), name: name.into(), run: Some(RunId(1)), figures };
        let request = BulkRequest { groups: Group::ALL.into_iter().collect(), scope: Scope::Only(vec![id(1)]) };
        store.apply_bulk(started, &request, BulkReply { records: vec![record], ..BulkReply::default() });
    };
    let first = render_twice("at first");
    assert_eq!(first, render_twice("unchanged"));
    bulk("renamed", full(3));
    assert!(render_twice("renamed").contains("domain=\"renamed\""));
    let mut fewer = full(4);
    fewer.block.as_mut().unwrap().disks.remove(0);
    fewer.vcpu.as_mut().unwrap().vcpus.truncate(1);
    bulk("renamed", fewer);
    let text = render_twice("devices gone");
    assert!(!text.contains(
        "read_bytes_total{domain=\"renamed\",uuid=\"01010101-0101-0101-0101-010101010101\",target_device=\"vda\"}"
    ));
    store.apply_inventory(
        Stamp { at: store.now(), wall: std::time::SystemTime::UNIX_EPOCH },
        InventoryReply {
            domains: vec![ListedDomain {
                id: id(1),
                name: "renamed".into(),
                run: Some(RunId(1)),
                state: None,
                description: Some(Arc::new(DomainDescription { os_type: "exe".into(), ..description() })),
            }],
            ..InventoryReply::default()
        },
    );
    assert!(render_twice("another description").contains("os_type=\"exe\""));
}

#[test]
fn stale_groups_leave_the_metrics_and_their_ages_stay() {
    let (clock, store) = host();
    clock.advance(Duration::from_secs(60));
    let rendering = Renderer::default().render(store.snapshot(), store.now(), &store);
    let text = rendering.text();
    assert!(!text.contains("libvirt_domain_info_cpu_time_seconds_total"), "{text}");
    assert!(!text.contains("libvirt_domain_block_stats_capacity_bytes"), "sizes turn stale too");
    assert!(text.contains("libvirt_domain_info{"), "what the XML says is no sample");
    assert!(text.contains("libvirt_domains_by_state{state=\"unknown\"} 3"), "they were listed, and not sampled");
    assert!(text.contains("libvirt_domain_info_state{domain=\"asleep\""), "the list is fresh");
    let ages = String::from_utf8(rendering.per_scrape(&store)).unwrap();
    assert!(ages.contains(
        "libvirt_domain_unresponsive_seconds{domain=\"hung\",uuid=\"04040404-0404-0404-0404-040404040404\"} 61.234\n"
    ));
    assert!(ages.contains("libvirt_domain_sample_age_seconds{domain=\"web\",uuid=\"01010101-0101-0101-0101-010101010101\",group=\"cpu\"} 61.234\n"));
    clock.advance(Duration::from_secs(60));
    let text = Renderer::default().render(store.snapshot(), store.now(), &store).text();
    for gone in ["libvirt_domains{", "libvirt_domains ", "libvirt_domains_by_state", "libvirt_domain_info_state"] {
        assert!(!text.contains(gone), "{gone} is older than the list may be");
    }
}

#[test]
fn json_is_as_released() {
    let (_, store) = host();
    let snapshot = store.snapshot();
    let domains = serde_json::to_string_pretty(&api::domains(&snapshot, store.now())).unwrap();
    check("tests/golden/domains.json", &(domains + "\n"));
    let status = serde_json::to_string_pretty(&api::status(&snapshot, store.now())).unwrap();
    check("tests/golden/status.json", &(status.replace(env!("CARGO_PKG_VERSION"), "VERSION") + "\n"));
}

/// The host at a moment; counters grow with `step`. CPU 1 is offline the second time, and one interface is new then.
fn machine(step: u64) -> HostSample {
    let second = 1_000_000_000;
    let times = |user: u64, idle: u64| CpuTimes {
        user_ns: Some(user * step * second),
        nice_ns: Some(0),
        system_ns: Some(step * second),
        idle_ns: Some(idle * step * second),
        iowait_ns: Some(0),
        irq_ns: Some(0),
        softirq_ns: Some(0),
        steal_ns: None,
        guest_ns: Some(step * second),
        guest_nice_ns: Some(0),
    };
    let cpus = if step == 1 { 0..=2 } else { 0..=3 };
    let cpu = |cpu: u32| HostCpu { cpu, times: times(2, 1 + u64::from(cpu)) };
    let pool = |size_bytes| Hugepages { size_bytes, total: Some(8), free: Some(3), reserved: None, surplus: Some(0) };
    let nic = |name: &str| HostInterface {
        name: name.into(),
        operational_state: Some("up".into()),
        speed_bits_per_second: Some(25_000_000_000),
        mtu_bytes: Some(9000),
        receive: traffic(step * 50),
        transmit: traffic(step * 60),
    };
    HostSample {
        cpu: Some(times(6, 3)),
        cpus: cpus.filter(|number| (step, *number) != (2, 1)).map(cpu).collect(),
        numa_nodes: vec![
            NumaNode {
                node: 0,
                cpus: Some(vec![0, 1]),
                memory_total_bytes: Some(32 << 30),
                memory_free_bytes: Some(8 << 30),
                memory_used_bytes: Some(24 << 30),
                hugepages: vec![pool(2 << 20)],
            },
            NumaNode { node: 1, cpus: Some(vec![3]), ..NumaNode::default() },
        ],
        memory: Memory {
            total_bytes: Some(64 << 30),
            available_bytes: Some(16 << 30),
            page_faults: Some(step * 1000),
            oom_kills: Some(1),
            ..Memory::default()
        },
        swap: Swap { total_bytes: Some(0), in_bytes: Some(step * 4096), ..Swap::default() },
        hugepages: vec![pool(2 << 20), pool(1 << 30)],
        ksm: Some(Ksm { run: Some(1), pages_sharing: Some(200), ..Ksm::default() }),
        transparent_hugepages: TransparentHugepages { mode: Some("madvise".into()), anonymous_bytes: Some(2 << 20) },
        load: Some(Load { one_minute: 4.08, five_minutes: 1.98, fifteen_minutes: 1.8 }),
        interfaces: if step == 1 { vec![nic("eno1")] } else { vec![nic("eno1"), nic(r#"odd"name"#)] },
        processes: Scheduling { running: Some(2), blocked: Some(0), forks: None, context_switches: Some(step * 500) },
        boot_unix_seconds: Some(999_000_000),
    }
}

/// Two looks at a host with a path that answers, one that hangs, and one that is not there.
fn looked_at(clock: &ManualClock, store: &Store) {
    for step in [1, 2] {
        clock.advance(Duration::from_secs(5));
        store.apply_host(store.stamp(), machine(step), Duration::from_millis(12_500));
    }
    let space = Space {
        total_bytes: 1 << 40,
        free_bytes: 1 << 39,
        available_bytes: 1 << 38,
        inodes: Some(1000),
        inodes_free: Some(900),
    };
    let path = |path: &str| PathSpace { path: path.into(), space: None, blocked_since: None, problem: None };
    let now = store.stamp();
    store.set_path_spaces(vec![
        PathSpace { space: Some((now, space)), ..path("/") },
        PathSpace {
            space: Some((now, Space { inodes: None, inodes_free: None, ..space })),
            blocked_since: Some(now),
            ..path("/srv/nfs")
        },
        PathSpace { problem: Some("No such file or directory (os error 2)".into()), ..path("/missing") },
    ]);
    clock.advance(Duration::from_millis(1500));
}

#[test]
fn the_host_is_as_released_in_json() {
    let (clock, store) = host();
    assert!(api::host(&store.host(), store.now()).is_none(), "nothing is made up before the first look");
    looked_at(&clock, &store);
    let window = store.host();
    let host = api::host(&window, store.now()).unwrap();
    check("tests/golden/host.json", &(serde_json::to_string_pretty(&host).unwrap() + "\n"));

    let json = serde_json::to_value(&host).unwrap();
    // Of 10 s of all CPUs 6 were user, 1 system and 3 idle.
    assert_eq!((&json["cpu"]["utilization_ratio"], &json["cpu"]["guest_ratio"]), (&0.7.into(), &0.1.into()));
    // Of 4 s of CPU 0 two were user, one system, one idle; 3 was offline before, and 1 is now.
    let cpu = |place: usize| json["cpu"]["cpus"][place]["utilization_ratio"].as_f64();
    assert_eq!((cpu(0), cpu(1), cpu(2)), (Some(0.75), Some(0.5), None));
    // Of its two CPUs only 0 was online both times, and 3 was not.
    assert_eq!(json["numa_nodes"][0]["utilization_ratio"], 0.75);
    assert!(json["numa_nodes"][1].get("utilization_ratio").is_none());
    let rates = [&json["processes"]["context_switches_per_second"], &json["swap"]["in_bytes_per_second"]];
    assert_eq!(rates, [&100.0, &819.2]);
    assert_eq!(json["interfaces"][0]["receive_bytes_per_second"], 640.0);
    assert!(json["interfaces"][1].get("receive_bytes_per_second").is_none());
    assert_eq!((&json["paths"][1]["blocked"], &json["paths"][1]["blocked_seconds"]), (&true.into(), &1.5.into()));
}

#[test]
fn the_host_is_in_the_metrics_only_if_it_is_wanted_and_fresh() {
    let (clock, store) = host();
    looked_at(&clock, &store);
    let per_scrape = |host| {
        let options = Options { host, ..Options::default() };
        let rendering = Renderer::new(options).render(store.snapshot(), store.now(), &store);
        String::from_utf8(rendering.per_scrape(&store)).unwrap()
    };
    assert!(!per_scrape(false).contains("libvirt_host_"));
    let text = per_scrape(true);
    assert_promtool_is_silent(&text);
    parse(&text);
    let ours = |line: &&str| line.starts_with("libvirt_host_") || line.contains(" libvirt_host_");
    let lines: Vec<_> = text.lines().filter(ours).collect();
    check("tests/golden/host.txt", &(lines.join("\n") + "\n"));
    clock.advance(Duration::from_secs(11));
    assert!(per_scrape(true).contains("libvirt_host_load1 "), "12.5 s old");
    clock.advance(Duration::from_millis(1));
    assert!(!per_scrape(true).contains("libvirt_host_"), "nothing old is shown as current");
    assert_eq!(serde_json::to_value(api::host(&store.host(), store.now())).unwrap()["stale"], true);
}

#[test]
fn a_list_in_pieces_is_the_list() {
    let (_, store) = host();
    let snapshot = store.snapshot();
    let mut list = ListBody::new(Arc::clone(&snapshot), Query::default(), store.now(), false);
    let pieces: Vec<u8> = std::iter::from_fn(|| list.next_piece()).flatten().collect();
    let whole = serde_json::to_string(&api::domains(&snapshot, store.now())).unwrap() + "\n";
    assert_eq!(String::from_utf8(pieces).unwrap(), whole);
}

/// Does a value fit what the document says of it, with no field that the document does not know?
fn fits(document: &serde_json::Value, schema: &serde_json::Value, value: &serde_json::Value, at: &str) {
    let (properties, items) = shape(document, schema);
    match value {
        serde_json::Value::Object(fields) if schema["additionalProperties"].is_null() => {
            for (name, value) in fields {
                let known = properties.get(name).unwrap_or_else(|| panic!("{at}.{name} is not in openapi.json"));
                fits(document, known, value, &format!("{at}.{name}"));
            }
        }
        serde_json::Value::Array(values) => {
            let items = items.unwrap_or_else(|| panic!("{at} is no list in openapi.json"));
            values.iter().for_each(|value| fits(document, &items, value, &format!("{at}[]")));
        }
        _ => {}
    }
}

/// The properties, or the items, of a schema and all that it refers to.
fn shape(
    document: &serde_json::Value,
    schema: &serde_json::Value,
) -> (serde_json::Map<String, serde_json::Value>, Option<serde_json::Value>) {
    let mut properties = schema["properties"].as_object().cloned().unwrap_or_default();
    let mut items = schema.get("items").cloned();
    let parts = ["allOf", "anyOf", "oneOf"].iter().filter_map(|key| schema[key].as_array()).flatten();
    let referred = schema["$ref"].as_str().and_then(|path| document.pointer(path.trim_start_matches('#')));
    for part in parts.chain(referred) {
        let (more, its_items) = shape(document, part);
        properties.extend(more);
        items = items.or(its_items);
    }
    (properties, items)
}

#[test]
fn every_field_that_is_written_is_in_the_openapi_document() {
    let (_, store) = host();
    let (snapshot, document) = (store.snapshot(), api::openapi());
    let of = |path: &str| {
        document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"].clone()
    };
    let list = serde_json::to_value(api::domains(&snapshot, store.now())).unwrap();
    fits(&document, &of("/api/v1/domains"), &list, "list");
    fits(&document, &of("/api/v1/domains/{uuid-or-name}"), &list["domains"][0], "domain");
    fits(
        &document,
        &of("/api/v1/status"),
        &serde_json::to_value(api::status(&snapshot, store.now())).unwrap(),
        "status",
    );
}

#[test]
fn a_hint_is_in_the_status_until_it_is_taken_back() {
    let (_, store) = host();
    let shown = || serde_json::to_value(api::status(&store.snapshot(), store.now())).unwrap()["hint"].clone();
    assert!(shown().is_null());
    assert!(store.set_hint(Some("set it so")) && !store.set_hint(Some("set it so")), "news once");
    assert_eq!(shown(), "set it so");
    assert!(store.set_hint(None));
    assert!(shown().is_null());
}

#[test]
fn metrics_reference_is_current() {
    let (_, store) = host();
    // Makes the series that only requests and samples make.
    store.metrics.set_snapshot_age(Duration::ZERO);
    store.metrics.http_requests.with_label_values(&["/metrics", "200"]).inc();
    check("docs/metrics.md", &markdown(&store.metrics));
}
