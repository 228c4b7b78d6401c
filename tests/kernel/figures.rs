//! The same figures from three sides under the same names: our JSON, libvirt's bulk call, and /proc.

use std::collections::BTreeMap;

use serde_json::Value;
use virtstatd::model::{Figures, Traffic};

use crate::process::{Process, Thread};

/// By name, such as `vcpu.0.time`.
pub(crate) type Named = BTreeMap<String, u64>;

/// A clock tick, nanoseconds.
const TICK: u64 = 10_000_000;

/// KiB by which two looks at a process' resident memory may differ, where nothing happens: the kernel counts pages for
/// each processor apart, and adds them up now and then.
const PAGES: u64 = 512;

/// By how much a figure may lie outside of what was read before and after it.
pub(crate) fn slack(name: &str, value: u64) -> u64 {
    match name.split('.').collect::<Vec<_>>()[..] {
        ["memory", _] => PAGES.max(value / 100),
        ["cpu", "time"] => TICK.max(value / 100),
        // User and system time are parts, cut to ticks each; a vCPU's time is libvirt's sum of both.
        ["cpu", _] | ["vcpu", _, "time"] => (2 * TICK).max(value / 100),
        ["vcpu", _, _] | ["emulator" | "iothread", ..] => TICK.max(value / 100),
        _ => 0,
    }
}

/// May it also fall?
pub(crate) fn is_gauge(name: &str) -> bool {
    matches!(name, "memory.resident" | "process.threads")
}

/// Is it read every five seconds only, where samples come more often?
pub(crate) fn is_detail(name: &str) -> bool {
    name.starts_with("emulator.") || name.starts_with("iothread.") || name.ends_with("voluntary_switches")
}

/// What the daemon shows of a domain.
pub(crate) fn shown(domain: &Value) -> Named {
    let samples = &domain["samples"];
    let mut named = Named::new();
    let mut put = |name: String, value: &Value| value.as_u64().and_then(|value| named.insert(name, value));
    for part in ["time", "user", "system"] {
        put(format!("cpu.{part}"), &samples["cpu"][format!("{part}_ns")]);
    }
    for vcpu in samples["vcpu"]["vcpus"].as_array().into_iter().flatten() {
        for part in ["time", "wait", "delay"] {
            put(format!("vcpu.{}.{part}", vcpu["vcpu"]), &vcpu[format!("{part}_ns")]);
        }
    }
    put("vcpus".to_owned(), &samples["vcpu"]["current"]);
    for nic in samples["interface"]["interfaces"].as_array().into_iter().flatten() {
        let device = nic["name"].as_str().unwrap_or("?");
        put(format!("net.{device}.index"), &nic["index"]);
        for direction in ["receive", "transmit"] {
            for part in ["bytes", "packets", "errors", "drops"] {
                put(format!("net.{device}.{direction}.{part}"), &nic[format!("{direction}_{part}")]);
            }
        }
    }
    let kernel = &samples["kernel"];
    put("memory.resident".to_owned(), &kernel["resident_kib"]);
    put("process.pid".to_owned(), &domain["pid"]);
    for part in ["major_faults", "minor_faults", "threads"] {
        put(format!("process.{part}"), &kernel[part]);
    }
    let details = &kernel["details"];
    for part in ["voluntary_switches", "involuntary_switches"] {
        put(format!("process.{part}"), &details[part]);
    }
    for part in ["time", "delay"] {
        put(format!("emulator.{part}"), &details[format!("emulator_{part}_ns")]);
        for iothread in details["iothreads"].as_array().into_iter().flatten() {
            put(format!("iothread.{}.{part}", iothread["iothread"]), &iothread[format!("{part}_ns")]);
        }
    }
    named
}

/// What libvirt says of it, in the same names.
pub(crate) fn of_libvirt(figures: &Figures) -> Named {
    let mut named = Named::new();
    let mut put = |name: String, value: Option<u64>| value.and_then(|value| named.insert(name, value));
    let cpu = figures.cpu.unwrap_or_default();
    put("cpu.time".to_owned(), cpu.time_ns);
    put("cpu.user".to_owned(), cpu.user_ns);
    put("cpu.system".to_owned(), cpu.system_ns);
    let vcpu = figures.vcpu.as_ref();
    put("vcpus".to_owned(), vcpu.and_then(|it| it.current));
    for it in vcpu.into_iter().flat_map(|it| &it.vcpus) {
        put(format!("vcpu.{}.time", it.index), it.time_ns);
        put(format!("vcpu.{}.wait", it.index), it.wait_ns);
        put(format!("vcpu.{}.delay", it.index), it.delay_ns);
    }
    for nic in figures.interface.iter().flat_map(|it| &it.interfaces) {
        let device = nic.name.as_deref().unwrap_or("?");
        put(format!("net.{device}.index"), Some(nic.index.into()));
        for (direction, Traffic { bytes, packets, errors, drops }) in
            [("receive", nic.receive), ("transmit", nic.transmit)]
        {
            for (part, value) in [("bytes", bytes), ("packets", packets), ("errors", errors), ("drops", drops)] {
                put(format!("net.{device}.{direction}.{part}"), value);
            }
        }
    }
    put("memory.resident".to_owned(), figures.balloon.and_then(|it| it.rss_kib));
    named
}

/// What /proc says of its process beyond that.
pub(crate) fn of_process(process: &Process) -> Named {
    let mut named = Named::from([
        ("process.pid".to_owned(), process.pid),
        ("process.minor_faults".to_owned(), process.minor_faults),
        ("process.major_faults".to_owned(), process.major_faults),
        ("process.threads".to_owned(), process.threads),
        ("process.voluntary_switches".to_owned(), process.voluntary_switches),
        ("process.involuntary_switches".to_owned(), process.involuntary_switches),
    ]);
    let mut put = |name: &str, Thread { time_ns, delay_ns }: Thread| {
        named.insert(format!("{name}.time"), time_ns);
        named.insert(format!("{name}.delay"), delay_ns);
    };
    put("emulator", process.emulator);
    for (id, thread) in &process.iothreads {
        put(&format!("iothread.{id}"), *thread);
    }
    named
}
