//! Figures by the kernel and by libvirt, taken at one moment: what libvirt says lies between what was read before and after.

use std::collections::{BTreeMap, HashMap};
use std::io::Write as _;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use virtstatd::libvirt::LibvirtFactory;
use virtstatd::model::{BulkRequest, Figures, Group, Scope, Source, SourceFactory as _, Vcpu};

use crate::figures::{self, Named, is_detail, is_gauge, slack};
use crate::support::daemon::Daemon;
use crate::support::exposition::{find, parse, value};
use crate::support::lab::{self, Lab, guest, run, virsh};
use crate::support::traffic::Traffic;
use crate::support::wait_for;
use crate::{assert_lane, daemon, process, shown, shown_after};

/// Guests that do nothing; with those of [`CROWD`] there are 60.
const IDLE: usize = 40;

/// Who lives beside them, how many, and with which options.
const CROWD: &[(&str, usize, &[&str])] = &[
    ("io", 2, &["--iothreads", "1", "--disks", "2", "--nics", "2"]),
    ("wide", 2, &["--vcpus", "2"]),
    ("chat", 8, &["--chatter"]),
    ("chat-w", 4, &["--chatter", "--vcpus", "2", "--vcpus-maximum", "3"]),
    ("busy", 2, &["--busy"]),
    ("busy-w", 2, &["--busy", "--vcpus", "2"]),
];

/// libvirt is asked often, so that its answers would show if they got among the kernel's.
const CONFIG: &str = "[sampling.periods]\nkernel = '1s'\ncross-check = '10s'\n";
const PERIOD: Duration = Duration::from_secs(1);

/// What comes, goes or changes must show so soon.
const SOON: Duration = Duration::from_secs(5);

/// A metric, the labels it has besides its domain, and what its value is in ours.
type Family = (&'static str, &'static [(&'static str, &'static str)], &'static str, f64);

const FAMILIES: &[Family] = &[
    ("libvirt_domain_info_cpu_time_seconds_total", &[], "cpu.time", 1e-9),
    ("libvirt_domain_vcpu_time_seconds_total", &[("vcpu", "0")], "vcpu.0.time", 1e-9),
    ("libvirt_domain_vcpu_delay_seconds_total", &[("vcpu", "0")], "vcpu.0.delay", 1e-9),
    ("libvirt_domain_memory_stats_rss_bytes", &[], "memory.resident", 1024.0),
    ("libvirt_domain_interface_stats_receive_bytes_total", &[], "receive.bytes", 1.0),
    ("libvirt_domain_interface_stats_receive_drops_total", &[], "receive.drops", 1.0),
    ("libvirt_domain_interface_stats_transmit_bytes_total", &[], "transmit.bytes", 1.0),
    ("libvirt_domain_interface_stats_transmit_packets_total", &[], "transmit.packets", 1.0),
    ("libvirt_domain_interface_stats_transmit_drops_total", &[], "transmit.drops", 1.0),
];

/// When its details were read.
fn details_at(domain: &Value) -> SystemTime {
    let at = domain["samples"]["kernel"]["details"]["sampled_at"].as_str().unwrap_or_default();
    humantime::parse_rfc3339(at).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The guests of a test, and libvirt beside the daemon.
struct Trial {
    names: Vec<String>,
    libvirt: Box<dyn Source>,
    daemon: Daemon,
    _directory: tempfile::TempDir,
    /// By kind of figure, how far one ever lay outside of what it was compared with, and of how many.
    outside: BTreeMap<String, (u64, usize)>,
}

impl Trial {
    fn start(names: Vec<String>) -> Self {
        let (directory, daemon) = daemon(CONFIG);
        let libvirt = LibvirtFactory::new("qemu:///system".to_owned()).open().unwrap();
        Self { names, libvirt, daemon, _directory: directory, outside: BTreeMap::new() }
    }

    fn domain(&self, name: &str) -> Value {
        self.daemon.get(&format!("/api/v1/domains/{name}")).json()
    }

    /// What libvirt and /proc say, by name of the guest.
    fn read(&mut self) -> HashMap<String, Named> {
        let groups = [Group::Cpu, Group::Vcpu, Group::Interface, Group::Balloon].into_iter().collect();
        let request = BulkRequest { groups, scope: Scope::All };
        // A guest of which another call asks at that moment, such as the daemon's own, is told about in part only.
        let records = wait_for("libvirt to tell all of each guest", || {
            let records = self.libvirt.bulk(&request).unwrap().records;
            let whole = |it: &Figures| {
                let timed = |vcpu: &Vcpu| vcpu.time_ns.is_some();
                it.vcpu.as_ref().is_some_and(|it| it.vcpus.iter().all(timed))
                    && it.balloon.is_some_and(|it| it.rss_kib.is_some())
            };
            records.iter().all(|record| whole(&record.figures)).then_some(records)
        });
        let mut all = HashMap::new();
        for record in records {
            let mut named = figures::of_libvirt(&record.figures);
            let pid = lab::pid(&record.name).parse().unwrap();
            assert_eq!(process::uuid_of(pid), Some(record.id.to_string()));
            named.extend(figures::of_process(&process::read(pid).unwrap()));
            all.insert(record.name.into(), named);
        }
        all
    }

    /// One comparison of every figure of every guest; gives what the daemon showed before and after.
    fn compare(&mut self, stage: &str) -> [HashMap<String, Named>; 2] {
        let before = shown_after(&self.daemon, &self.names, SystemTime::now());
        let scrape = self.daemon.scrape();
        let read = self.read();
        let moment = SystemTime::now();
        let mut after = shown_after(&self.daemon, &self.names, moment);
        // Once, what is read less often is waited for too; later it is compared if it came.
        if self.outside.is_empty() {
            after = wait_for("details of all", || {
                let after = shown_after(&self.daemon, &self.names, moment);
                after.values().all(|domain| details_at(domain) >= moment).then_some(after)
            });
        }
        let detailed: HashMap<String, bool> =
            after.iter().map(|(name, domain)| (name.clone(), details_at(domain) >= moment)).collect();
        assert_lane(&before);
        assert_lane(&after);
        let [before, after] = [before, after].map(|all| {
            all.into_iter().map(|(name, domain)| (name, figures::shown(&domain))).collect::<HashMap<_, _>>()
        });
        let mut wrong = Vec::new();
        for name in &self.names {
            let read = read.get(name).unwrap_or_else(|| panic!("{stage}: libvirt does not know {name}"));
            let (before, after) = (&before[name], &after[name]);
            for (figure, &value) in read {
                // libvirt says 0 where the kernel does not count.
                let is_not_counted = figure.ends_with(".wait") && value == 0 && !after.contains_key(figure);
                if is_not_counted || (is_detail(figure) && !detailed[name]) {
                    continue;
                }
                let (Some(&first), Some(&last)) = (before.get(figure), after.get(figure)) else {
                    wrong.push(format!("{name}: {figure} is {value}, and the daemon does not show it"));
                    continue;
                };
                let (low, high) = if is_gauge(figure) { (first.min(last), first.max(last)) } else { (first, last) };
                let outside = low.saturating_sub(value).max(value.saturating_sub(high));
                let (most, count) = self.outside.entry(kind(figure)).or_default();
                (*most, *count) = ((*most).max(outside), *count + 1);
                if outside > slack(figure, value) || low > high {
                    wrong.push(format!("{name}: {figure} is {value}, and the daemon shows {first} and then {last}"));
                }
            }
            // Devices that went must not linger. What libvirt has no word for is no device.
            let lingers = |figure: &&String| ["vcpu.", "net.", "iothread."].iter().any(|of| figure.starts_with(of));
            wrong.extend(
                after
                    .keys()
                    .filter(lingers)
                    .filter(|figure| !read.contains_key(*figure))
                    .map(|figure| format!("{name}: {figure} is shown, and is nobody's")),
            );
        }
        assert!(wrong.is_empty(), "{stage}: {} disagree:\n{}", wrong.len(), wrong.join("\n"));
        self.compare_scrape(stage, &scrape, &before, &after);
        [before, after]
    }

    /// The scrape was made between both.
    fn compare_scrape(
        &self,
        stage: &str,
        scrape: &str,
        before: &HashMap<String, Named>,
        after: &HashMap<String, Named>,
    ) {
        let series = parse(scrape);
        for name in &self.names {
            let domain = [("domain", name.as_str())];
            for (metric, labels, figure, unit) in FAMILIES {
                let found = find(&series, metric, &[&domain[..], labels].concat());
                assert!(!found.is_empty(), "{stage}: {name} has no {metric}");
                for series in found {
                    let device = series.labels.get("target_device").map(|device| format!("net.{device}."));
                    let figure = format!("{}{figure}", device.unwrap_or_default());
                    let [first, last] = [before, after].map(|all| all[name][&figure] as f64 * unit);
                    let slack = if is_gauge(&figure) { slack(&figure, 0) as f64 * unit } else { 1e-9 * last.max(1.0) };
                    let (low, high) = (first.min(last) - slack, first.max(last) + slack);
                    let found = series.value;
                    assert!(low <= found && found <= high, "{stage}: {name}: {metric} {found}, not {low} to {high}");
                }
            }
            let age = value(&series, "libvirt_domain_sample_age_seconds", &[domain[0], ("group", "kernel")]);
            let limit = (2 * PERIOD).as_secs_f64();
            assert!(age.is_some_and(|age| age < limit), "{stage}: the kernel's sample of {name} is {age:?} old");
        }
    }

    /// Waits for a change to show, which must be soon.
    fn await_change(&self, what: &str, name: &str, is_so: impl Fn(&Value) -> bool) {
        let begin = Instant::now();
        wait_for(what, || is_so(&self.domain(name)).then_some(()));
        let took = begin.elapsed();
        eprintln!("{what}: shown after {:.2} s", took.as_secs_f64());
        assert!(took < SOON, "{what} showed after {took:?} only");
    }

    fn print_outside(&self) {
        for (kind, (most, count)) in &self.outside {
            eprintln!("{count:6} x {kind}: at most {most} outside of what was read before and after");
        }
    }
}

/// A figure's name without the number or name of its device.
fn kind(figure: &str) -> String {
    match figure.split('.').collect::<Vec<_>>()[..] {
        [of, _device, ref rest @ ..] if !rest.is_empty() => format!("{of}.{}", rest.join(".")),
        _ => figure.to_owned(),
    }
}

fn crowd(lab: &mut Lab) -> Vec<String> {
    let mut names: Vec<String> = (1..=IDLE).map(guest).collect();
    for (kind, count, options) in CROWD {
        for number in 1..=*count {
            let name = format!("{kind}-{number}");
            lab.create(&name, options);
            names.push(name);
        }
    }
    names
}

fn device(verb: &str, name: &str, xml: &str) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(xml.as_bytes()).unwrap();
    virsh(&[verb, name, file.path().to_str().unwrap(), "--live"]);
}

fn vcpus(domain: &Value) -> usize {
    domain["samples"]["vcpu"]["vcpus"].as_array().map_or(0, Vec::len)
}

fn has_nic(domain: &Value, device: &str) -> bool {
    let nics = domain["samples"]["interface"]["interfaces"].as_array();
    nics.is_some_and(|nics| nics.iter().any(|nic| nic["name"] == device))
}

fn has_all_samples(domain: &Value) -> bool {
    crate::GROUPS.iter().all(|group| domain["samples"][group].is_object())
}

#[test]
fn the_kernel_says_of_sixty_guests_what_libvirt_says() {
    let Some(mut lab) = lab::enter_with(IDLE) else { return };
    let names = crowd(&mut lab);
    assert_eq!(names.len(), 60);
    let _traffic = Traffic::to(&["chat-1-n0", "chat-2-n0", "chat-w-1-n0", "lab-001-n0"].map(str::to_owned));
    let mut trial = Trial::start(names);
    let [first, _] = trial.compare("at first");
    trial.compare("a while later");
    let [_, last] = trial.compare("again");
    let grown = |name: &str, figure: &str| last[name][figure].saturating_sub(first[name][figure]);
    for (name, figure, least) in [
        ("busy-1", "cpu.time", 100_000_000),
        ("busy-w-2", "vcpu.0.time", 100_000_000),
        ("busy-w-2", "vcpu.0.delay", 1),
        ("chat-3", "net.chat-3-n0.transmit.packets", 100),
        ("chat-3", "net.chat-3-n0.transmit.drops", 100),
        ("chat-1", "net.chat-1-n0.receive.bytes", 10_000),
        ("lab-001", "net.lab-001-n0.receive.drops", 100),
        ("chat-w-1", "emulator.time", 1),
    ] {
        let by = grown(name, figure);
        assert!(by >= least, "{figure} of {name} grew by {by}: there is nothing to compare");
    }

    lab.create("late", &["--chatter"]);
    trial.await_change("a new guest", "late", has_all_samples);
    trial.names.push("late".to_owned());
    trial.compare("with one more");

    let changed = "chat-w-2";
    virsh(&["setvcpus", changed, "3", "--live"]);
    trial.await_change("a third vCPU", changed, |domain| vcpus(domain) == 3);
    trial.compare("with a third vCPU");
    // Without KVM, QEMU 7.2 crashes when a vCPU is unplugged.
    if virsh(&["dumpxml", changed]).contains("<domain type='kvm'") {
        virsh(&["setvcpus", changed, "2", "--live"]);
        trial.await_change("no third vCPU", changed, |domain| vcpus(domain) == 2);
        trial.compare("without it");
    }

    let nic = "<interface type='ethernet'><mac address='52:54:00:12:34:58'/><target dev='kernel-plug'/><model type='virtio'/></interface>";
    device("attach-device", changed, nic);
    trial.await_change("a second NIC", changed, |domain| has_nic(domain, "kernel-plug"));
    trial.compare("with a second NIC");
    device("detach-device", changed, nic);
    trial.await_change("no second NIC", changed, |domain| !has_nic(domain, "kernel-plug"));
    trial.compare("without it");

    virsh(&["suspend", changed]);
    trial.await_change("the pause", changed, |domain| domain["state"] == "paused");
    let [paused, later] = trial.compare("paused");
    let sent = |all: &HashMap<String, Named>| all[changed]["net.chat-w-2-n0.transmit.packets"];
    assert_eq!(sent(&paused), sent(&later), "a guest that is paused sends nothing");
    virsh(&["resume", changed]);
    trial.await_change("its end", changed, |domain| domain["state"] == "running");
    let [_, resumed] = trial.compare("resumed");
    assert!(sent(&resumed) > sent(&later));

    run("kill", &["-KILL", &lab::pid("late")]).unwrap();
    trial.await_change("the end of a guest", "late", |domain| domain["running"] != true);
    trial.names.retain(|name| name != "late");
    assert!(!shown(&trial.daemon).contains_key("late"));
    trial.compare("with one less");
    trial.print_outside();

    let Trial { names, daemon, libvirt, .. } = trial;
    drop((daemon, libvirt));
    let mut trial = Trial::start(names);
    let [restarted, _] = trial.compare("with a daemon that is new");
    assert!(sent(&restarted) >= sent(&resumed));
    trial.print_outside();
}
