//! Real guests: what the service says in VDSM's words lies between what VDSM's own formulas give for what `virsh domstats` said
//! before and after. The formulas are written here anew.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::support::daemon::{Daemon, config_file};
use crate::support::lab::{self, GUESTS, Lab, guest, virsh};
use crate::support::traffic::Traffic;
use crate::support::wait_for;
use crate::virsh::{Course, Seen, Verdict, domstats, rate};

/// Guests that do something, beside idle ones; with these there are 20.
const CROWD: &[(&str, &[&str])] = &[
    ("write-1", &["--scribbler"]),
    ("write-2", &["--scribbler", "--disks", "2", "--iothreads", "1"]),
    ("busy-1", &["--busy", "--vcpus", "2"]),
    ("chat-1", &["--chatter", "--nics", "2"]),
    ("balloon", &["--balloon"]),
    ("paused", &[]),
    ("limited", &["--scribbler"]),
];

/// What libvirt shows is read in ticks there.
const TICK_NS: f64 = 20_000_000.0;

/// A record in VDSM's words, and when what it is made from was asked for: by group, the newest sample and the one before it.
struct Told {
    record: Value,
    /// Seconds since boot, before and after it came.
    uptime: (f64, f64),
    newest: HashMap<&'static str, SystemTime>,
    previous: HashMap<&'static str, SystemTime>,
}

const SAMPLED: [&str; 4] = ["cpu", "interface", "block", "balloon"];

fn times(daemon: &Daemon) -> HashMap<String, HashMap<&'static str, SystemTime>> {
    let list = daemon.get("/api/v1/domains?state=running,paused").json();
    let domains = list["domains"].as_array().unwrap().iter();
    domains
        .map(|domain| {
            let at = |group: &str| {
                domain["samples"][group]["sampled_at"].as_str().map(|at| humantime::parse_rfc3339(at).unwrap())
            };
            let times = SAMPLED.iter().filter_map(|group| Some((*group, at(group)?))).collect();
            (domain["name"].as_str().unwrap().to_owned(), times)
        })
        .collect()
}

fn uptime() -> f64 {
    std::fs::read_to_string("/proc/uptime").unwrap().split(' ').next().unwrap().parse().unwrap()
}

fn vms(daemon: &Daemon) -> HashMap<String, Value> {
    let answer = daemon.get("/api/v1/vdsm/vms").json();
    let list = answer.as_array().unwrap().iter();
    list.map(|vm| (vm["vmName"].as_str().unwrap().to_owned(), vm.clone())).collect()
}

/// Watches libvirt and the service side by side until each group of each guest was sampled twice more, and gives both.
fn watch(daemon: &Daemon, guests: usize) -> (Course, HashMap<String, Told>) {
    let mut course = Course(vec![domstats()]);
    let begin = SystemTime::now();
    let mut previous: HashMap<(String, &str), SystemTime> = HashMap::new();
    let mut newest: HashMap<(String, &str), SystemTime> = HashMap::new();
    loop {
        let before = times(daemon);
        let asked = uptime();
        let vms = vms(daemon);
        let uptime = (asked, uptime());
        let after = times(daemon);
        course.0.push(domstats());
        for (name, groups) in &before {
            for (group, at) in groups {
                let last = newest.insert((name.clone(), group), *at);
                if let Some(last) = last.filter(|last| last != at) {
                    previous.insert((name.clone(), group), last);
                }
            }
        }
        // The answer is of the samples before it, if no others came meanwhile.
        let whole = |key: &(String, &str)| previous.get(key).is_some_and(|at| *at > begin);
        let keys = before.iter().flat_map(|(name, groups)| groups.keys().map(|group| (name.clone(), *group)));
        if before == after && before.len() == guests && keys.into_iter().all(|key| whole(&key)) {
            course.0.push(domstats());
            let of = |map: &HashMap<(String, &'static str), SystemTime>, name: &str| {
                SAMPLED.iter().filter_map(|group| Some((*group, *map.get(&(name.to_owned(), group))?))).collect()
            };
            let told = vms.into_iter().map(|(name, record)| {
                let (newest, previous) = (of(&newest, &name), of(&previous, &name));
                (name, Told { record, uptime, newest, previous })
            });
            return (course, told.collect());
        }
        assert!(begin.elapsed().unwrap() < Duration::from_secs(90), "no two samples of all: {before:?}");
        thread::sleep(Duration::from_millis(20));
    }
}

struct Comparison<'a> {
    name: &'a str,
    course: &'a Course,
    told: &'a Told,
}

impl Comparison<'_> {
    /// What a counter can have been at the newest sample of a group.
    fn newest(&self, group: &str, of: impl Fn(&Seen) -> Option<f64>) -> Option<(f64, f64)> {
        self.course.at(self.told.newest[group], of)
    }

    /// How fast a counter can have grown between both samples.
    fn rate(&self, group: &str, of: impl Fn(&Seen) -> Option<f64> + Copy) -> Option<(f64, f64)> {
        let (first, second) = (self.told.previous[group], self.told.newest[group]);
        let elapsed = second.duration_since(first).unwrap().as_secs_f64();
        Some(rate(self.course.at(first, of)?, self.course.at(second, of)?, elapsed))
    }

    fn cpu(&self, verdict: &mut Verdict) {
        let (name, record) = (self.name, &self.told.record);
        let guest = |key: &'static str| move |seen: &Seen| seen.number(name, key);
        let work = |seen: &Seen| Some(seen.number(name, "cpu.user")? + seen.number(name, "cpu.system")?);
        verdict.between(name, "cpuUsage", &record["cpuUsage"], self.newest("cpu", work), TICK_NS);
        let percent = |rate: (f64, f64)| (rate.0 * 100.0 / 1e9, rate.1 * 100.0 / 1e9);
        let elapsed = self.told.newest["cpu"].duration_since(self.told.previous["cpu"]).unwrap().as_secs_f64();
        // Two ticks at each end, and two decimals.
        let slack = 0.005 + 2.0 * TICK_NS / elapsed * 100.0 / 1e9;
        verdict.between(name, "cpuSys", &record["cpuSys"], self.rate("cpu", work).map(percent), slack);
        let (time, work) = (self.rate("cpu", guest("cpu.time")).unwrap(), self.rate("cpu", work).unwrap());
        let user = percent(((time.0 - work.1).max(0.0), (time.1 - work.0).max(0.0)));
        verdict.between(name, "cpuUser", &record["cpuUser"], Some(user), 2.0 * slack);
        verdict.same(name, "cpuActual", &record["cpuActual"], &true.into());
        let vcpus = self.course.0[0].guests[name]["vcpu.current"].clone();
        verdict.same(name, "vcpuCount", &record["vcpuCount"], &vcpus.into());
        let scheduler = virsh(&["schedinfo", name]);
        let parameter = |key: &str| {
            let line = scheduler.lines().find(|line| line.split(':').next().is_some_and(|found| found.trim() == key));
            line.unwrap().split(':').nth(1).unwrap().trim().to_owned()
        };
        verdict.same(name, "vcpuQuota", &record["vcpuQuota"], &parameter("vcpu_quota").into());
        let period: u64 = parameter("vcpu_period").parse().unwrap();
        verdict.same(name, "vcpuPeriod", &record["vcpuPeriod"], &period.into());
    }

    fn network(&self, verdict: &mut Verdict, xml: &roxmltree::Document<'_>) {
        let name = self.name;
        let told = self.told.record["network"].as_object().unwrap();
        let described: Vec<_> = xml.descendants().filter(|node| node.has_tag_name("interface")).collect();
        verdict.note(name, "network", told.len() == described.len(), || format!("{} NICs", told.len()));
        for nic in described {
            let child = |tag: &str, attribute: &str| {
                nic.children().find(|node| node.has_tag_name(tag)).and_then(|node| node.attribute(attribute)).unwrap()
            };
            let device = child("target", "dev");
            let Some(told) = told.get(device) else {
                verdict.wrong.push(format!("{name}: {device} is not there"));
                continue;
            };
            let field = |field: &str| format!("network[{device}].{field}");
            for (ours, key) in [
                ("rx", "rx.bytes"),
                ("tx", "tx.bytes"),
                ("rxErrors", "rx.errs"),
                ("txErrors", "tx.errs"),
                ("rxDropped", "rx.drop"),
                ("txDropped", "tx.drop"),
            ] {
                let limits = self.newest("interface", |seen| seen.device(name, "net", device, key));
                verdict.between(name, &field(ours), &told[ours], limits, 0.0);
            }
            verdict.same(name, &field("name"), &told["name"], &device.into());
            verdict.same(name, &field("macAddr"), &told["macAddr"], &child("mac", "address").into());
            verdict.same(name, &field("speed"), &told["speed"], &"1000".into());
            verdict.same(name, &field("state"), &told["state"], &"unknown".into());
            // Seconds since boot are of another clock; its distance to this one is the same for all.
            let now = uptime();
            let age = self.told.newest["interface"].elapsed().unwrap().as_secs_f64();
            let sampled = told["sampleTime"].as_f64().unwrap();
            verdict.note(name, &field("sampleTime"), (now - age - sampled).abs() < 0.1, || {
                format!("{sampled}, not {}", now - age)
            });
        }
    }

    fn disks(&self, verdict: &mut Verdict) {
        let name = self.name;
        let told = self.told.record["disks"].as_object().unwrap();
        let count = self.course.0[0].guests[name]["block.count"].parse::<usize>().unwrap();
        verdict.note(name, "disks", told.len() == count, || format!("{} disks, not {count}", told.len()));
        for (target, told) in told {
            let key = |key: &'static str| move |seen: &Seen| seen.device(name, "block", target, key);
            let field = |field: &str| format!("disks[{target}].{field}");
            for (ours, theirs) in [
                ("readOps", "rd.reqs"),
                ("writeOps", "wr.reqs"),
                ("readBytes", "rd.bytes"),
                ("writtenBytes", "wr.bytes"),
            ] {
                verdict.between(name, &field(ours), &told[ours], self.newest("block", key(theirs)), 0.0);
            }
            for (ours, theirs) in [("readRate", "rd.bytes"), ("writeRate", "wr.bytes")] {
                verdict.between(name, &field(ours), &told[ours], self.rate("block", key(theirs)), 1e-6);
            }
            for (ours, requests, times) in [
                ("readLatency", "rd.reqs", "rd.times"),
                ("writeLatency", "wr.reqs", "wr.times"),
                ("flushLatency", "fl.reqs", "fl.times"),
            ] {
                let grown = |of| self.rate("block", key(of)).unwrap();
                let (requests, time) = (grown(requests), grown(times));
                if requests.1 == 0.0 {
                    verdict.same(name, &field(ours), &told[ours], &"0".into());
                } else {
                    let most = if requests.0 > 0.0 { time.1 / requests.0 } else { f64::INFINITY };
                    verdict.between(name, &field(ours), &told[ours], Some((time.0 / requests.1, most)), 1e-6);
                }
            }
            // Sizes that do not change.
            let image = self.course.0[0].index(name, "block", target).unwrap();
            let path = &self.course.0[0].guests[name][&format!("block.{image}.path")];
            let length = std::fs::metadata(path).unwrap().len().to_string();
            verdict.same(name, &field("apparentsize"), &told["apparentsize"], &length.into());
            verdict.between(name, &field("truesize"), &told["truesize"], self.newest("block", key("physical")), 0.0);
        }
    }

    fn memory(&self, verdict: &mut Verdict, xml: &roxmltree::Document<'_>) {
        let (name, record) = (self.name, &self.told.record);
        let text = |tag: &str| xml.descendants().find(|node| node.has_tag_name(tag)).unwrap().text().unwrap();
        let told = &record["balloonInfo"];
        let balloon = |field: &str| told[field].clone();
        verdict.same(name, "balloonInfo.balloon_max", &balloon("balloon_max"), &text("memory").into());
        verdict.same(name, "balloonInfo.balloon_min", &balloon("balloon_min"), &"0".into());
        verdict.same(name, "balloonInfo.balloon_target", &balloon("balloon_target"), &text("currentMemory").into());
        verdict.same(name, "balloonInfo.ballooning_enabled", &balloon("ballooning_enabled"), &true.into());
        let current = self.newest("balloon", |seen| seen.number(name, "balloon.current"));
        verdict.between(name, "balloonInfo.balloon_cur", &balloon("balloon_cur"), current, 0.0);
        // No system runs in these guests that would tell of its memory.
        verdict.same(name, "memoryStats", &record["memoryStats"], &Value::Null);
    }

    fn machine(&self, verdict: &mut Verdict, xml: &roxmltree::Document<'_>) {
        let (name, record) = (self.name, &self.told.record);
        let root = xml.root_element();
        let uuid = root.children().find(|node| node.has_tag_name("uuid")).unwrap().text().unwrap();
        let state = &self.course.0[0].guests[name]["state.state"];
        let status = if state == "3" { "Paused" } else { "Up" };
        let domain_type = root.attribute("type").unwrap();
        for (field, expected) in [
            ("vmId", uuid),
            ("status", status),
            ("vmType", domain_type),
            ("kvmEnable", if domain_type == "kvm" { "true" } else { "false" }),
            ("acpiEnable", "true"),
            ("timeOffset", "0"),
            ("monitorResponse", "0"),
        ] {
            verdict.same(name, field, &record[field], &expected.into());
        }
        verdict.same(name, "displayInfo", &record["displayInfo"], &Value::Array(Vec::new()));
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", lab::pid(name))).unwrap();
        let ticks: f64 = stat.rsplit(')').next().unwrap().split_whitespace().nth(19).unwrap().parse().unwrap();
        let start = ticks / rustix::param::clock_ticks_per_second() as f64;
        // Whole seconds; the times of boot and of the wall are read one after the other.
        let age = (self.told.uptime.0 - start - 1.1, self.told.uptime.1 - start + 0.1);
        verdict.between(name, "elapsedTime", &record["elapsedTime"], Some(age), 0.0);
        let limits: Vec<_> = xml.descendants().filter(|node| node.has_tag_name("iotune")).collect();
        let told = record["ioTune"].as_array().map_or(0, Vec::len);
        verdict.note(name, "ioTune", told == limits.len(), || format!("{told}, not {}", limits.len()));
    }
}

fn crowd(lab: &mut Lab) -> Vec<String> {
    let mut names: Vec<String> = (1..=GUESTS - CROWD.len()).map(guest).collect();
    for (name, options) in CROWD {
        lab.create(name, options);
        names.push((*name).to_owned());
    }
    virsh(&["suspend", "paused"]);
    virsh(&["schedinfo", "limited", "--live", "--set", "vcpu_quota=50000"]);
    virsh(&["blkdeviotune", "limited", "vda", "--live", "--total-iops-sec", "500"]);
    names
}

#[test]
fn twenty_guests_are_told_of_as_vdsm_would() {
    let Some(mut lab) = lab::enter_with(GUESTS - CROWD.len()) else { return };
    let names = crowd(&mut lab);
    assert_eq!(names.len(), 20);
    let _traffic = Traffic::to(&["chat-1-n0", "lab-001-n0"].map(str::to_owned));
    let (_directory, path) =
        config_file("[sampling]\nperiod = '3s'\n[sampling.periods]\nblock-info = '3s'\nkernel = '3s'\n");
    let daemon = Daemon::start(&["--config", &path]);
    daemon.wait_ready();
    // Limits that are set while a guest runs show once its XML was read again.
    wait_for("the limits", || vms(&daemon)["limited"].get("ioTune").map(|_| ()));
    let (course, told) = watch(&daemon, names.len());
    let mut verdict = Verdict::default();
    for name in &names {
        let xml = virsh(&["dumpxml", name]);
        let xml = roxmltree::Document::parse(&xml).unwrap();
        let it = Comparison { name, course: &course, told: &told[name] };
        it.machine(&mut verdict, &xml);
        it.cpu(&mut verdict);
        it.memory(&mut verdict, &xml);
        it.network(&mut verdict, &xml);
        it.disks(&mut verdict);
    }
    for (field, count) in &verdict.compared {
        eprintln!("{count:4} x {field}");
    }
    assert!(verdict.wrong.is_empty(), "{} do not agree:\n{}", verdict.wrong.len(), verdict.wrong.join("\n"));
    // There was something to compare.
    let number = |name: &str, of: &[&str]| {
        let value = of.iter().fold(&told[name].record, |value, key| &value[*key]);
        value.as_str().and_then(|text| text.parse::<f64>().ok()).unwrap_or_else(|| panic!("{name}: {of:?} is {value}"))
    };
    assert!(number("write-1", &["disks", "vda", "readRate"]) > 100.0);
    assert!(number("write-2", &["disks", "vda", "writeLatency"]) > 1000.0);
    assert!(number("busy-1", &["cpuSys"]) > 1.0);
    assert!(number("chat-1", &["network", "chat-1-n0", "tx"]) > 1000.0);
    assert_eq!(told["limited"].record["ioTune"][0]["ioTune"]["total_iops_sec"], "500");
    assert_eq!(told["limited"].record["vcpuQuota"], "50000");
}
