//! One guest in each state that is told apart, and a host.

use std::collections::BTreeMap;

use serde_json::Value;
use virtstatd::export::vdsm::markdown;
use virtstatd::model::Traffic;
use virtstatd::model::host::{
    CpuTimes, HostCpu, HostInterface, HostSample, Hugepages, Ksm, Load, Memory, NumaNode, OwnCpu, PathSpace, Space,
    Swap, TransparentHugepages,
};

use crate::guests::{busy, off, paused, starting, unresponsive};
use crate::made::SECOND;
use crate::support::golden::check;

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap() + "\n"
}

#[test]
fn a_guest_in_each_state_is_as_released() {
    for (name, made) in [
        ("busy", busy()),
        ("paused", paused()),
        ("starting", starting()),
        ("unresponsive", unresponsive()),
        ("off", off()),
    ] {
        check(&format!("tests/golden/ovirt/{name}.json"), &pretty(&made.vm()));
    }
}

fn machine(step: u64) -> HostSample {
    let ticks = |base: u64| Some(step * base * 10_000_000);
    let times = |user, system| CpuTimes {
        user_ns: ticks(user),
        nice_ns: ticks(10),
        system_ns: ticks(system),
        idle_ns: ticks(100),
        ..CpuTimes::default()
    };
    let pool = Hugepages {
        size_bytes: 2 << 20,
        total: Some(8),
        free: Some(3),
        reserved: Some(1),
        surplus: Some(0),
        mempolicy: Some(8),
        overcommit: Some(4),
    };
    let link = |name: &str, state: &str, speed: Option<u64>, duplex: Option<&str>| HostInterface {
        name: name.into(),
        operational_state: Some(state.into()),
        speed_bits_per_second: speed,
        duplex: duplex.map(Into::into),
        mtu_bytes: Some(1500),
        receive: Traffic { bytes: Some(step * 1000), packets: Some(step), errors: Some(3), drops: Some(4) },
        transmit: Traffic { bytes: Some(step * 2000), packets: Some(step), errors: Some(5), drops: Some(60) },
    };
    HostSample {
        cpu: Some(times(500, 250)),
        cpus: vec![HostCpu { cpu: 0, times: times(300, 150) }, HostCpu { cpu: 2, times: times(200, 100) }],
        numa_nodes: vec![
            NumaNode {
                node: 0,
                cpus: Some(vec![0, 1, 2]),
                memory_total_bytes: Some(32 << 30),
                memory_free_bytes: Some((8 << 30) + 1),
                memory_used_bytes: Some(24 << 30),
                hugepages: vec![Hugepages { size_bytes: 2 << 20, free: Some(3), ..Hugepages::default() }],
            },
            NumaNode {
                node: 1,
                cpus: Some(vec![]),
                memory_total_bytes: Some(0),
                memory_free_bytes: Some(0),
                ..NumaNode::default()
            },
        ],
        memory: Memory {
            total_bytes: Some(64 << 30),
            free_bytes: Some(20 << 30),
            cached_bytes: Some(10 << 30),
            buffers_bytes: Some(1 << 30),
            slab_reclaimable_bytes: Some(512 << 20),
            ..Memory::default()
        },
        swap: Swap { total_bytes: Some(4 << 30), free_bytes: Some(3 << 30), ..Swap::default() },
        hugepages: vec![pool],
        ksm: Some(Ksm {
            run: Some(1),
            pages_sharing: Some(200),
            pages_to_scan: Some(100),
            merge_across_nodes: Some(0),
            page_bytes: 4096,
            ksmd_time_ns: Some(step * 1_020_000_000),
            ..Ksm::default()
        }),
        transparent_hugepages: TransparentHugepages { mode: Some("madvise".into()), anonymous_bytes: Some(200 << 20) },
        load: Some(Load { one_minute: 4.08, five_minutes: 1.9, fifteen_minutes: 1.8 }),
        interfaces: vec![
            link("lo", "unknown", None, None),
            link("eno1", "up", Some(25_000_000_000), Some("full")),
            link("eno2", "down", None, None),
        ],
        other_interfaces: vec![link("veth7", "up", Some(10_000_000_000), Some("full"))],
        boot_unix_seconds: Some(999_900_000),
        own_cpu: Some(OwnCpu { user_ns: step * 30_000_000, system_ns: step * 20_000_000 }),
        ..HostSample::default()
    }
}

#[test]
fn a_host_is_as_released() {
    let made = busy();
    let host = || made.host();
    assert_eq!(host(), None, "not looked at yet");
    let look = |step| made.store.apply_host(made.store.stamp(), machine(step), 12 * SECOND);
    look(1);
    let paths = |asked| {
        let space = Space {
            total_bytes: 100 << 30,
            free_bytes: 50 << 30,
            available_bytes: (40 << 30) + 5,
            inodes: None,
            inodes_free: None,
        };
        let path = |path: &str, space| PathSpace { path: path.into(), space, blocked_since: None, problem: None };
        made.store.set_path_spaces(vec![path("/", Some((asked, space))), path("/dead", None)]);
    };
    let first = host().unwrap();
    assert_eq!(first.get("cpuUser").or(first.get("cpuStatistics")).or(first.get("ksmCpu")), None, "{first}");
    assert_eq!(first["memUsed"], "51");
    made.advance(5 * SECOND);
    look(2);
    paths(made.store.stamp());
    made.advance(SECOND);
    check("tests/golden/ovirt/host.json", &pretty(&host().unwrap()));
    let network = made.call("Host.getNetworkStatistics");
    let mut whole = host().unwrap();
    whole.as_object_mut().unwrap().retain(|name, _| ["network", "rxDropped", "txDropped"].contains(&name.as_str()));
    assert_eq!(network, whole);
    made.advance(12 * SECOND);
    assert_eq!(host(), None, "too old a look tells nothing of now");
}

#[test]
fn ovirt_reference_is_current() {
    check("docs/ovirt.md", &markdown());
}

/// The fields of each record that docs/ovirt.md describes, with their JSON types.
fn documented() -> BTreeMap<String, BTreeMap<String, String>> {
    let (mut records, mut record) = (BTreeMap::<_, BTreeMap<_, _>>::new(), String::new());
    for line in markdown().lines() {
        if let Some(heading) = line.strip_prefix("### ") {
            heading.split(':').next().unwrap().clone_into(&mut record);
        }
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        if let ["", name, json @ ("string" | "number" | "boolean" | "object" | "map" | "list"), ..] = cells[..] {
            records.entry(record.clone()).or_default().insert(name.to_owned(), json.to_owned());
        }
    }
    records
}

/// Does every field of a record have the type that the reference gives it? Gives those that are there.
fn fits(records: &BTreeMap<String, BTreeMap<String, String>>, record: &str, value: &Value, seen: &mut Vec<String>) {
    for (name, value) in value.as_object().unwrap_or_else(|| panic!("{record} is no object: {value}")) {
        let json = records[record].get(name).unwrap_or_else(|| panic!("{record}.{name} is not in docs/ovirt.md"));
        let is = match value {
            Value::String(_) => "string",
            Value::Number(_) => "number",
            Value::Bool(_) => "boolean",
            Value::Array(_) => "list",
            Value::Object(_) => "map",
            Value::Null => "null",
        };
        assert!(is == json || (is, json.as_str()) == ("map", "object"), "{record}.{name} is {value}, not a {json}");
        seen.push(format!("{record}.{name}"));
        let inner = format!("{record}.{name}");
        match json.as_str() {
            "object" => fits(records, &inner, value, seen),
            "list" => value.as_array().unwrap().iter().for_each(|it| fits(records, &inner, it, seen)),
            // Limits are strings by name.
            "map" if inner == "RunningVmStats.ioTune.ioTune" => {
                assert!(value.as_object().unwrap().values().all(Value::is_string), "{value}");
            }
            "map" => value.as_object().unwrap().values().for_each(|it| fits(records, &inner, it, seen)),
            _ => {}
        }
    }
}

#[test]
fn every_field_has_the_type_that_the_reference_gives_it_and_each_comes_at_some_time() {
    let records = documented();
    let mut seen = Vec::new();
    for made in [busy(), paused(), starting(), unresponsive()] {
        fits(&records, "RunningVmStats", &made.vm(), &mut seen);
    }
    fits(&records, "ExitedVmStats", &off().vm(), &mut seen);
    let made = busy();
    for step in [1, 2] {
        made.store.apply_host(made.store.stamp(), machine(step), 12 * SECOND);
        made.advance(SECOND);
    }
    let stamp = made.store.stamp();
    let space = Space { total_bytes: 1, free_bytes: 1, available_bytes: 1, inodes: None, inodes_free: None };
    made.store.set_path_spaces(vec![PathSpace {
        path: "/".into(),
        space: Some((stamp, space)),
        blocked_since: None,
        problem: None,
    }]);
    fits(&records, "HostStats", &made.host().unwrap(), &mut seen);
    for (record, fields) in &records {
        for name in fields.keys() {
            assert!(seen.contains(&format!("{record}.{name}")), "{record}.{name} never came");
        }
    }
}
