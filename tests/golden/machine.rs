//! The host's own figures, of a machine of our own making.

use std::time::Duration;

use virtstatd::clock::ManualClock;
use virtstatd::export::api;
use virtstatd::export::prometheus::{Options, Renderer};
use virtstatd::model::host::{
    CpuTimes, HostCpu, HostInterface, HostSample, Hugepages, Ksm, Load, Memory, NumaNode, PathSpace, Scheduling, Space,
    Swap, TransparentHugepages,
};
use virtstatd::store::Store;

use crate::guests::{host, traffic};
use crate::support::exposition::{assert_promtool_is_silent, parse};
use crate::support::golden::check;

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
    let pool = |size_bytes| Hugepages {
        size_bytes,
        total: Some(8),
        free: Some(3),
        reserved: None,
        surplus: Some(0),
        overcommit: Some(2),
        ..Hugepages::default()
    };
    let nic = |name: &str| HostInterface {
        name: name.into(),
        operational_state: Some("up".into()),
        speed_bits_per_second: Some(25_000_000_000),
        duplex: Some("full".into()),
        mtu_bytes: Some(9000),
        receive: traffic(step * 50),
        transmit: traffic(step * 60),
    };
    HostSample {
        own_cpu: None,
        other_interfaces: vec![nic("veth7")],
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
        ksm: Some(Ksm { run: Some(1), pages_sharing: Some(200), pages_to_scan: Some(100), ..Ksm::default() }),
        transparent_hugepages: TransparentHugepages { mode: Some("madvise".into()), anonymous_bytes: Some(2 << 20) },
        load: Some(Load { one_minute: 4.08, five_minutes: 1.98, fifteen_minutes: 1.8 }),
        interfaces: if step == 1 { vec![nic("eno1")] } else { vec![nic("eno1"), nic(r#"odd"name"#)] },
        processes: Scheduling { running: Some(2), blocked: Some(0), forks: None, context_switches: Some(step * 500) },
        boot_unix_seconds: Some(999_000_000),
    }
}

/// Two looks at a host with a path that answers, one that hangs, and one that is not there.
pub(super) fn looked_at(clock: &ManualClock, store: &Store) {
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
