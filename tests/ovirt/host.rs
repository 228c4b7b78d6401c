//! The real host: HostStats lie between what /proc and /sys said before and after, by VDSM's own formulas, written here anew.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::support::daemon::{Daemon, config_file};
use crate::support::lab::{self, guest, virsh};
use crate::support::wait_for;

const GUESTS: usize = 4;

/// Numbers of the host at a moment, by name.
type Numbers = BTreeMap<String, f64>;

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn number(path: &str) -> Option<f64> {
    read(path).parse().ok()
}

fn links() -> Vec<String> {
    let entries = fs::read_dir("/sys/class/net").unwrap().map(|entry| entry.unwrap());
    // A file there is no link.
    entries.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name().into_string().unwrap()).collect()
}

fn look() -> Numbers {
    let mut numbers = Numbers::new();
    for line in read("/proc/stat").lines().filter(|line| line.starts_with("cpu")) {
        let mut columns = line.split_whitespace();
        let cpu = columns.next().unwrap();
        for (name, value) in ["user", "nice", "system"].iter().zip(columns) {
            numbers.insert(format!("{cpu}.{name}"), value.parse().unwrap());
        }
    }
    for line in read("/proc/meminfo").lines() {
        let (name, value) = line.split_once(':').unwrap();
        numbers.insert(name.to_owned(), value.trim().trim_end_matches(" kB").parse().unwrap());
    }
    for link in links() {
        for counter in
            ["rx_bytes", "tx_bytes", "rx_errors", "tx_errors", "rx_dropped", "rx_missed_errors", "tx_dropped"]
        {
            let value = number(&format!("/sys/class/net/{link}/statistics/{counter}")).unwrap_or_default();
            numbers.insert(format!("{link}.{counter}"), value);
        }
    }
    numbers
}

/// Looks at many moments.
struct Course(Vec<(SystemTime, Numbers, SystemTime)>);

impl Course {
    fn look(&mut self) {
        let begin = SystemTime::now();
        let numbers = look();
        self.0.push((begin, numbers, SystemTime::now()));
    }

    /// The least and the most that a sum of figures can have been within so long of that moment.
    fn at(&self, moment: SystemTime, names: &[&str]) -> (f64, f64) {
        let before = self.0.iter().rev().find(|(.., end)| *end <= moment);
        let after = self.0.iter().find(|(begin, ..)| *begin >= moment + Duration::from_millis(1));
        let sum = |looked: Option<&(SystemTime, Numbers, SystemTime)>| -> f64 {
            let (_, numbers, _) = looked.unwrap_or_else(|| panic!("no look beside {names:?}"));
            names.iter().map(|name| numbers.get(*name).copied().unwrap_or_default()).sum()
        };
        let (before, after) = (sum(before), sum(after));
        (before.min(after), before.max(after))
    }

    /// Percent of one CPU, from ticks of a hundredth of a second.
    fn rate(&self, (first, second): (SystemTime, SystemTime), names: &[&str]) -> (f64, f64) {
        let seconds = second.duration_since(first).unwrap().as_secs_f64();
        let (first, second) = (self.at(first, names), self.at(second, names));
        ((second.0 - first.1).max(0.0) / seconds, (second.1 - first.0) / seconds)
    }
}

fn text(value: &Value) -> f64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{value} is no number in a string"))
}

fn assert_between(what: &str, found: f64, (low, high): (f64, f64), slack: f64) {
    assert!(low - slack <= found && found <= high + slack, "{what} is {found}, not {low} to {high}");
}

fn sampled_at(daemon: &Daemon) -> Option<SystemTime> {
    let host = daemon.get("/api/v1/host").json();
    humantime::parse_rfc3339(host["sampled_at"].as_str()?).ok()
}

fn taps_at(daemon: &Daemon) -> Vec<(String, SystemTime)> {
    let list = daemon.get("/api/v1/domains?state=running,paused").json();
    let at = |domain: &Value| {
        let at = domain["samples"]["interface"]["sampled_at"].as_str()?;
        Some((domain["name"].as_str()?.to_owned(), humantime::parse_rfc3339(at).ok()?))
    };
    list["domains"].as_array().unwrap().iter().filter_map(at).collect()
}

/// The host's record, the looks that it is from (that before the newest, and the newest), and the guests' own looks.
fn told(daemon: &Daemon, course: &mut Course) -> (Value, (SystemTime, SystemTime), Vec<(String, SystemTime)>) {
    let (begin, mut looks) = (SystemTime::now(), Vec::new());
    loop {
        course.look();
        let before = (sampled_at(daemon), taps_at(daemon));
        let record = daemon.get("/api/v1/vdsm/host").json();
        let after = (sampled_at(daemon), taps_at(daemon));
        if let Some(at) = before.0.filter(|at| looks.last() != Some(at) && *at > begin) {
            looks.push(at);
        }
        let fresh = after.1.len() == GUESTS && after.1.iter().all(|(_, at)| *at > begin);
        if let ([.., first, second], true) = (&looks[..], before == after && fresh) {
            course.look();
            return (record, (*first, *second), after.1);
        }
        assert!(begin.elapsed().unwrap() < Duration::from_secs(60), "the host was not looked at twice");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A guest that goes on when the test ends, however it does.
struct Paused(String);

impl Paused {
    fn new(guest: String) -> Self {
        virsh(&["suspend", &guest]);
        Self(guest)
    }
}

impl Drop for Paused {
    fn drop(&mut self) {
        if let Err(error) = lab::run("virsh", &["-q", "-c", "qemu:///system", "resume", &self.0]) {
            eprintln!("{error}");
        }
    }
}

#[test]
fn the_host_is_told_of_as_vdsm_would() {
    let Some(_lab) = lab::enter_with(GUESTS) else { return };
    let _paused = Paused::new(guest(2));
    let config = "[sampling.periods]\nhost = '2s'\nkernel = '1s'\n[host]\npaths = ['/', '/tmp']\n";
    let (_directory, path) = config_file(config);
    let daemon = Daemon::start(&["--config", &path]);
    daemon.wait_ready();
    wait_for("free space", || daemon.get("/api/v1/vdsm/host").json()["diskStats"].get("/tmp").map(|_| ()));
    let mut course = Course(Vec::new());
    let (host, window, taps) = told(&daemon, &mut course);
    cpus(&host, &course, window);
    memory(&host, &course, window.1);
    network(&host, &course, window.1, &taps);

    for (field, expected) in
        [("vmCount", 4), ("vmActive", 3), ("vmMigrating", 0), ("incomingVmMigrations", 0), ("outgoingVmMigrations", 0)]
    {
        assert_eq!(host[field], expected, "{field}");
    }
    let boot = read("/proc/stat").lines().find_map(|line| line.strip_prefix("btime ").map(str::to_owned));
    assert_eq!(host["bootTime"].as_str(), boot.as_deref());
    let date = host["dateTime"].as_str().unwrap().replace(" GMT", "Z");
    let date = humantime::parse_rfc3339(&date).unwrap();
    assert!(date.elapsed().unwrap() < Duration::from_secs(60), "{date:?}");
    assert!(text(&host["elapsedTime"]) > 2.0);
    for path in ["/", "/tmp"] {
        let space = rustix::fs::statvfs(path).unwrap();
        let free = ((space.f_bavail * space.f_frsize) >> 20) as f64;
        assert_between(path, text(&host["diskStats"][path]["free"]), (free, free), 512.0);
    }
    let status = daemon.get("/api/v1/vdsm/host");
    assert_eq!(status.header("cache-control"), Some("no-store"));
}

fn cpus(host: &Value, course: &Course, window: (SystemTime, SystemTime)) {
    let per_cpu = host["cpuStatistics"].as_object().unwrap();
    let online = per_cpu.len() as f64;
    let of_all = |names: &[&str]| {
        let (low, high) = course.rate(window, names);
        (low / online, high / online)
    };
    // Two decimals.
    let (user, system) = (of_all(&["cpu.user", "cpu.nice"]), of_all(&["cpu.system"]));
    assert_between("cpuUser", text(&host["cpuUser"]), user, 0.01);
    assert_between("cpuSys", text(&host["cpuSys"]), system, 0.01);
    let idle = 100.0 - text(&host["cpuUser"]) - text(&host["cpuSys"]);
    assert_between("cpuIdle", text(&host["cpuIdle"]), (idle.max(0.0), idle.max(0.0)), 0.011);
    for (cpu, told) in per_cpu {
        let name = |kind: &str| format!("cpu{cpu}.{kind}");
        assert_between(&name("user"), text(&told["cpuUser"]), course.rate(window, &[&name("user")]), 0.01);
        assert_between(&name("system"), text(&told["cpuSys"]), course.rate(window, &[&name("system")]), 0.01);
        assert!(told["nodeIndex"].is_u64() && told["cpuIdle"].is_string(), "{told}");
    }
    for own in ["cpuUserVdsmd", "cpuSysVdsmd"] {
        assert!((0.0..100.0).contains(&text(&host[own])), "{own}: {}", host[own]);
    }
    let load = read("/proc/loadavg").split(' ').nth(1).unwrap().parse::<f64>().unwrap();
    assert_between("cpuLoad", text(&host["cpuLoad"]), (load, load), 0.3);
}

fn memory(host: &Value, course: &Course, at: SystemTime) {
    let kib = |names: &[&str]| course.at(at, names);
    let free = kib(&["MemFree", "Cached", "Buffers", "SReclaimable"]);
    let total = kib(&["MemTotal"]).0;
    // Memory comes and goes between two looks.
    let mib = |(low, high): (f64, f64)| ((low / 1024.0).floor(), (high / 1024.0).floor());
    assert_between("memFree", host["memFree"].as_f64().unwrap(), mib(free), 16.0);
    let used = (100.0 - (100.0 * free.1 / total).floor(), 100.0 - (100.0 * free.0 / total).floor());
    assert_between("memUsed", text(&host["memUsed"]), used, 1.0);
    assert_between("swapTotal", host["swapTotal"].as_f64().unwrap(), mib(kib(&["SwapTotal"])), 0.0);
    assert_between("swapFree", host["swapFree"].as_f64().unwrap(), mib(kib(&["SwapFree"])), 16.0);
    assert_between("anonHugePages", text(&host["anonHugePages"]), mib(kib(&["AnonHugePages"])), 16.0);
    let thp = read("/sys/kernel/mm/transparent_hugepage/enabled");
    assert_eq!(host["thpState"], *thp.split(['[', ']']).nth(1).unwrap());
    for (size, pool) in host["hugepages"].as_object().unwrap() {
        for name in [
            "nr_hugepages",
            "free_hugepages",
            "resv_hugepages",
            "surplus_hugepages",
            "nr_hugepages_mempolicy",
            "nr_overcommit_hugepages",
        ] {
            let there = number(&format!("/sys/kernel/mm/hugepages/hugepages-{size}kB/{name}"));
            assert_eq!(pool[name].as_f64(), there, "{name} of {size} KiB");
        }
        assert_eq!(pool["vm.free_hugepages"], pool["free_hugepages"]);
    }
    for (node, told) in host["numaNodeMemFree"].as_object().unwrap() {
        let info = read(&format!("/sys/devices/system/node/node{node}/meminfo"));
        let kib = |name: &str| {
            let line = info.lines().find_map(|line| line.split_once(name).map(|(_, value)| value));
            line.unwrap().trim().trim_end_matches(" kB").parse::<f64>().unwrap()
        };
        let free = (kib(" MemFree:") / 1024.0).floor();
        assert_between("memFree of a node", text(&told["memFree"]), (free, free), 64.0);
        let percent = 100.0 - (100.0 * free / (kib(" MemTotal:") / 1024.0)).floor();
        assert_between("memPercent", told["memPercent"].as_f64().unwrap(), (percent, percent), 2.0);
    }
    let ksm = |file: &str| number(&format!("/sys/kernel/mm/ksm/{file}"));
    assert_eq!(host["ksmState"].as_bool(), ksm("run").map(|run| run != 0.0));
    assert_eq!(host["ksmPages"].as_f64(), ksm("pages_to_scan"));
    assert_eq!(host["ksmMergeAcrossNodes"].as_bool(), ksm("merge_across_nodes").map(|merge| merge != 0.0));
    let page = rustix::param::page_size() as f64;
    assert_eq!(host["memShared"].as_f64(), ksm("pages_sharing").map(|pages| pages * page));
    assert!(host["ksmCpu"].is_u64(), "{}", host["ksmCpu"]);
}

fn network(host: &Value, course: &Course, at: SystemTime, taps: &[(String, SystemTime)]) {
    let told = host["network"].as_object().unwrap();
    let mut there = links();
    there.sort();
    assert_eq!(told.keys().cloned().collect::<Vec<_>>(), there);
    let mut drops = [(0.0, 0.0); 2];
    for (link, told) in told {
        let tap = taps.iter().find(|(guest, _)| *link == format!("{guest}-n0"));
        let at = tap.map_or(at, |(_, at)| *at);
        for (field, names) in [
            ("rx", &["rx_bytes"][..]),
            ("tx", &["tx_bytes"]),
            ("rxErrors", &["rx_errors"]),
            ("txErrors", &["tx_errors"]),
            ("rxDropped", &["rx_dropped", "rx_missed_errors"]),
            ("txDropped", &["tx_dropped"]),
        ] {
            let names: Vec<String> = names.iter().map(|name| format!("{link}.{name}")).collect();
            let limits = course.at(at, &names.iter().map(String::as_str).collect::<Vec<_>>());
            assert_between(&format!("{field} of {link}"), text(&told[field]), limits, 0.0);
            let sum = match field {
                "rxDropped" => &mut drops[0],
                "txDropped" => &mut drops[1],
                _ => continue,
            };
            *sum = (sum.0 + limits.0, sum.1 + limits.1);
        }
        assert_eq!(told["name"], **link);
        if tap.is_none() {
            let state = read(&format!("/sys/class/net/{link}/operstate"));
            assert_eq!(told["state"], if ["up", "unknown"].contains(&state.as_str()) { "up" } else { "down" });
            let speed = number(&format!("/sys/class/net/{link}/speed")).filter(|speed| (1.0..4e9).contains(speed));
            assert_between("speed", text(&told["speed"]), (speed.unwrap_or(1000.0), speed.unwrap_or(1000.0)), 0.0);
            assert!(["full", "half", "unknown"].contains(&told["duplex"].as_str().unwrap()), "{told}");
        }
    }
    assert_between("rxDropped", text(&host["rxDropped"]), drops[0], 0.0);
    assert_between("txDropped", text(&host["txDropped"]), drops[1], 0.0);
}
