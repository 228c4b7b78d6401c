//! Real clients, as installed: they must not be able to tell, and what they print must be what the guests are.
#![allow(clippy::unwrap_used)] // A test.

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use support::{Lab, PATIENCE};
use virtstat_sim::command::{Command as Order, Guests, Happening, OneChange};
use virtstat_sim::host::{Depth, Guest, Params, Value, groups};

/// A program that must be there, and the Debian package that brings it.
fn installed(program: &str, package: &str) -> Command {
    let found = std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|directory| directory.join(program).is_file()));
    assert!(found, "{program} is not installed: apt-get install {package}");
    Command::new(program)
}

/// Ends what it began, also when a test fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a program to its end, and gives what it printed.
fn output(command: &mut Command) -> String {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id();
    let watch = std::thread::spawn(move || child.wait_with_output().unwrap());
    let begin = Instant::now();
    while !watch.is_finished() {
        if begin.elapsed() > PATIENCE {
            let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
            panic!("{command:?} hangs");
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    let output = watch.join().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

fn virsh(lab: &Lab, words: &str) -> String {
    let mut command = installed("virsh", "libvirt-clients");
    output(command.env("LC_ALL", "C").args(["-c", &lab.simulator.uri()]).args(words.split(' ')))
}

/// What stands behind a label, as `virsh dominfo` writes it.
fn field<'a>(text: &'a str, label: &str) -> &'a str {
    let line = text.lines().find(|line| line.split(':').next() == Some(label));
    line.unwrap_or_else(|| panic!("no {label} in {text}")).split_once(':').unwrap().1.trim()
}

/// The rows of a table of virsh, without its head.
fn rows<'a>(text: &'a str) -> Vec<Vec<&'a str>> {
    // Names may have a space.
    let cells = |line: &'a str| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    text.lines().skip(2).filter(|line| !line.is_empty()).map(cells).collect()
}

/// A guest's record, as text.
#[derive(Default)]
struct Record(BTreeMap<String, String>);

impl Params for Record {
    fn put(&mut self, name: &str, value: Value<'_>) {
        let text = match value {
            Value::Int(value) => value.to_string(),
            Value::UInt(value) => value.to_string(),
            Value::LLong(value) => value.to_string(),
            Value::ULLong(value) => value.to_string(),
            Value::Double(value) => format!("{value:.6}"),
            Value::Boolean(value) => if value { "yes" } else { "no" }.to_owned(),
            Value::Text(value) => value.to_owned(),
        };
        self.0.insert(name.to_owned(), text);
    }
}

fn record(guest: &Guest) -> BTreeMap<String, String> {
    let mut record = Record::default();
    guest.stats(groups::ALL, Depth::Whole, SystemTime::now(), &mut record);
    record.0
}

/// All guests' records.
fn all_records(lab: &Lab) -> BTreeMap<String, BTreeMap<String, String>> {
    lab.simulator.with_host(|host| host.guests().map(|guest| (guest.name().to_owned(), record(guest))).collect())
}

/// What a client was told is what the guests were between two looks: the same, or a number in between.
fn assert_between(
    before: &BTreeMap<String, String>,
    told: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) {
    assert_eq!(before.keys().collect::<Vec<_>>(), told.keys().collect::<Vec<_>>());
    for (key, told) in told {
        let (before, after) = (&before[key], &after[key]);
        let number = |text: &str| text.parse::<f64>().ok();
        let between = number(told).is_some() && number(before) <= number(told) && number(told) <= number(after);
        // Gauges go up and down; two looks at them bound nothing.
        let gauge = ["balloon.", "dirtyrate."].iter().any(|group| key.starts_with(group))
            || key.contains(".halted")
            || key.ends_with(".cur");
        assert!(told == before || between || gauge, "{key}: {before} {told} {after}");
    }
}

#[test]
fn virsh_lists_all_guests_and_their_states() {
    let lab = Lab::with(|settings| (settings.domains, settings.shut_off_per_mille) = (40, 300));
    let text = virsh(&lab, "list --all");
    let told: BTreeMap<&str, String> = rows(&text).into_iter().map(|row| (row[1], row[2..].join(" "))).collect();
    lab.simulator.with_host(|host| {
        assert_eq!(told.len(), host.len());
        for guest in host.guests() {
            let state = match guest.state().0 {
                1 => "running",
                3 => "paused",
                _ => "shut off",
            };
            assert_eq!(told[guest.name()], state, "{}", guest.name());
        }
    });
    let off = told.values().filter(|state| *state == "shut off").count();
    assert!(off > 0);
    assert_eq!(rows(&virsh(&lab, "list")).len(), 40 - off);
    assert_eq!(rows(&virsh(&lab, "list --inactive")).len(), off);
}

#[test]
fn virsh_domstats_prints_every_figure_of_every_guest() {
    let lab = Lab::with(|settings| (settings.domains, settings.shut_off_per_mille) = (30, 200));
    let before = all_records(&lab);
    let text = virsh(&lab, "domstats --nowait");
    let after = all_records(&lab);
    let mut told = 0;
    for part in text.split("Domain: ").filter(|part| !part.is_empty()) {
        let (name, lines) = part.split_once('\n').unwrap();
        let name = name.trim_matches('\'');
        let figures = lines.lines().filter_map(|line| line.trim().split_once('='));
        let figures = figures.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        assert_between(&before[name], &figures, &after[name]);
        told += 1;
    }
    assert_eq!(told, 30);
}

#[test]
fn virsh_shows_one_guest_from_all_sides() {
    let lab = Lab::new(10);
    let (name, guest) = lab.simulator.with_host(|host| {
        let guest = host.guests().find(|guest| guest.state().0 == 1 && guest.has_balloon()).unwrap();
        (guest.name().to_owned(), guest.clone())
    });
    let about = |words: &str| virsh(&lab, &words.replace("NAME", &name));
    let now = SystemTime::now();

    let info = about("dominfo NAME");
    let figures = guest.info(now);
    assert_eq!(field(&info, "Name"), name);
    assert_eq!(field(&info, "UUID"), uuid::Uuid::from_bytes(*guest.uuid()).to_string());
    assert_eq!(field(&info, "Id"), guest.reference().id.to_string());
    assert_eq!(field(&info, "CPU(s)"), figures.vcpus.to_string());
    assert_eq!(field(&info, "Max memory"), format!("{} KiB", figures.max_mem_kib));
    assert_eq!((field(&info, "State"), field(&info, "OS Type")), ("running", guest.os_type()));
    assert_eq!(field(&info, "Persistent"), if guest.is_persistent() { "yes" } else { "no" });

    assert_eq!(about("dumpxml NAME").trim(), guest.xml().trim());
    assert_eq!(about("domstate NAME").trim(), "running");
    assert_eq!(about("domcontrol NAME").trim(), "ok");
    assert_eq!(field(&about("domjobinfo NAME"), "Job type"), "None");
    assert_eq!(virsh(&lab, &format!("domname {}", field(&info, "UUID"))).trim(), name);
    assert!(about("cpu-stats NAME --total").contains("cpu_time"));

    let target = guest.disk_targets().next().unwrap().to_owned();
    let sizes = guest.block_info(&target, now).unwrap();
    let block = about(&format!("domblkinfo NAME {target}"));
    assert_eq!(field(&block, "Capacity"), sizes.capacity.to_string());
    assert!(about(&format!("domblkstat NAME {target}")).contains(&format!("{target} rd_bytes ")));
    assert!(about("domblkstat NAME").contains(" rd_bytes "), "the sums over all disks");
    let disks = about("domblklist NAME");
    assert_eq!(rows(&disks).iter().map(|row| row[0]).collect::<Vec<_>>(), guest.disk_targets().collect::<Vec<_>>());

    let interfaces = about("domiflist NAME");
    let device = rows(&interfaces)[0][0].to_owned();
    let counters = guest.interface_counters(&device, now).unwrap();
    let told = about(&format!("domifstat NAME {device}"));
    let value = |key: &str| -> i64 {
        let line = told.lines().find(|line| line.starts_with(&format!("{device} {key} "))).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(value("rx_bytes") >= counters[0] && value("tx_bytes") >= counters[4]);

    let memory = about("dommemstat NAME");
    assert_eq!(memory.trim().lines().count(), guest.memory_stats(now).len());
    let vcpus = about("vcpuinfo NAME");
    assert_eq!(vcpus.matches("VCPU:").count(), usize::from(figures.vcpus));
}

#[test]
fn virsh_knows_the_host_and_what_it_may_not_do() {
    let lab = Lab::new(1);
    assert!(virsh(&lab, "version").contains("Running hypervisor: QEMU 7.2.22"));
    assert_eq!(virsh(&lab, "hostname").trim(), "virtstat-sim");
    assert_eq!(field(&virsh(&lab, "nodeinfo"), "CPU model"), "x86_64");
    let mut command = installed("virsh", "libvirt-clients");
    let refused = command.args(["-c", &lab.simulator.uri(), "net-list"]).output().unwrap();
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("unknown procedure: 52"));
}

#[test]
fn virsh_hears_events() {
    let lab = Lab::new(20);
    let name = lab.simulator.with_host(|host| {
        host.guests().find(|guest| guest.state().0 == 1 && guest.is_persistent()).unwrap().name().to_owned()
    });
    let mut command = installed("virsh", "libvirt-clients");
    command.env("LC_ALL", "C").args(["-c", &lab.simulator.uri()]).args("event --all --loop --timeout 30".split(' '));
    let mut child = Running(command.stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let registered = |status: &virtstat_sim::Status| {
        status.calls.get("ConnectDomainEventCallbackRegisterAny").is_some_and(|calls| calls.served >= 25)
    };
    lab.until("it registers for all events", registered);
    for (kind, expected) in [
        (Happening::Pause, vec!["event 'lifecycle' for domain 'NAME': Suspended Paused"]),
        (Happening::Resume, vec!["event 'lifecycle' for domain 'NAME': Resumed Unpaused"]),
        (
            Happening::IoError,
            vec![
                "event 'io-error-reason' for domain 'NAME': ",
                "event 'lifecycle' for domain 'NAME': Suspended I/O Error",
            ],
        ),
        (Happening::Resume, vec!["event 'lifecycle' for domain 'NAME': Resumed Unpaused"]),
        (Happening::Metadata, vec!["event 'metadata-change' for domain 'NAME': type title, uri "]),
        (Happening::Watchdog, vec!["event 'watchdog' for domain 'NAME': reset"]),
        (Happening::SetClock, vec!["event 'rtc-change' for domain 'NAME': 3600"]),
        (
            Happening::Connect,
            vec![
                "event 'graphics' for domain 'NAME': connect local[IPv4 127.0.0.1 5900] remote[IPv4 192.0.2.7 40564] none",
            ],
        ),
        (Happening::Disconnect, vec!["event 'graphics' for domain 'NAME': disconnect "]),
        (Happening::AttachDisk, vec!["event 'device-added' for domain 'NAME': "]),
        (Happening::DetachDisk, vec!["event 'device-removed' for domain 'NAME': "]),
        (
            Happening::Stop,
            vec![
                "event 'lifecycle' for domain 'NAME': Shutdown Finished after host request",
                "event 'lifecycle' for domain 'NAME': Stopped Destroyed",
            ],
        ),
        (Happening::Start, vec!["event 'lifecycle' for domain 'NAME': "]),
        (
            Happening::Panic,
            vec![
                "event 'lifecycle' for domain 'NAME': Crashed Panicked",
                "event 'lifecycle' for domain 'NAME': Stopped Crashed",
            ],
        ),
    ] {
        let domain = Some(name.clone());
        lab.tell(Order::Change(OneChange { kind, domain, count: None, all: false }));
        for expected in expected {
            // Some changes have more events than one of each.
            let expected = expected.replace("NAME", &name);
            assert!(lines.by_ref().any(|line| line.unwrap().starts_with(&expected)), "{expected}");
        }
    }
}

#[test]
fn virsh_waits_for_events_as_it_is_told() {
    let lab = Lab::new(1);
    let mut command = installed("virsh", "libvirt-clients");
    command
        .env("LC_ALL", "C")
        .args(["-c", &lab.simulator.uri()])
        .args("event --event lifecycle --timeout 1".split(' '));
    let told = command.output().unwrap();
    assert!(String::from_utf8_lossy(&told.stdout).contains("event loop timed out"), "{told:?}");
}

#[test]
fn virsh_follows_a_migration() {
    let lab = Lab::new(20);
    let name =
        lab.simulator.with_host(|host| host.guests().find(|guest| guest.state().0 == 1).unwrap().name().to_owned());
    let domain = Some(name.clone());
    lab.tell(Order::Change(OneChange { kind: Happening::MigrateOut, domain, count: None, all: false }));
    let job = virsh(&lab, &format!("domjobinfo {name}"));
    assert_eq!(field(&job, "Job type"), "Unbounded");
    assert!(field(&job, "Memory total").ends_with("iB"), "{job}");
    let gone = |status: &virtstat_sim::Status| status.guests.running + status.guests.paused == 19;
    lab.until("the guest is elsewhere", gone);
}

#[test]
fn virsh_sees_who_is_in_trouble() {
    let lab = Lab::new(5);
    let name = lab.name(0);
    lab.tell(Order::Freeze(Guests::named(&name)));
    let mut command = installed("virsh", "libvirt-clients");
    command.args(["-c", &lab.simulator.uri(), "domstats"]);
    let _hangs = Running(command.stdout(Stdio::null()).spawn().unwrap());
    lab.until("it hangs", |status| status.guests.occupied == [name.as_str()]);
    assert!(virsh(&lab, &format!("domcontrol {name}")).starts_with("occupied"));
    let nowait = virsh(&lab, "domstats --nowait");
    assert_eq!(nowait.matches("Domain:").count(), 5);
    let mut command = installed("virsh", "libvirt-clients");
    let refused = command.args(["-c", &lab.simulator.uri(), "dommemstat", &name]).output().unwrap();
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("cannot acquire state change lock (held by monitor=remoteDispatchConnectGetAllDomainStats)"),
        "{said}"
    );
}

#[test]
fn python_gets_all_stats() {
    const PROGRAM: &str = "
import json, libvirt, sys
def text(value):
    return ('yes' if value else 'no') if isinstance(value, bool) else '%.6f' % value if isinstance(value, float) else str(value)
connection = libvirt.openReadOnly(sys.argv[1])
nowait = libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
records = connection.getAllDomainStats(0, nowait)
named = connection.domainListGetStats(connection.listAllDomains(), 0, nowait)
assert [d.UUIDString() for d, _ in records] == [d.UUIDString() for d, _ in named]
print(json.dumps({domain.name(): {key: text(value) for key, value in figures.items()} for domain, figures in records}))
";
    let lab = Lab::with(|settings| (settings.domains, settings.shut_off_per_mille) = (30, 200));
    // Debian's own interpreter: its packages are not seen by another.
    let mut command = Command::new("/usr/bin/python3");
    let has = command.args(["-c", "import libvirt"]).output().is_ok_and(|output| output.status.success());
    assert!(has, "python's libvirt is not installed: apt-get install python3-libvirt");
    let before = all_records(&lab);
    let text = output(Command::new("/usr/bin/python3").args(["-c", PROGRAM, &lab.simulator.uri()]));
    let after = all_records(&lab);
    let told: BTreeMap<String, BTreeMap<String, String>> = serde_json::from_str(&text).unwrap();
    assert_eq!(told.len(), 30);
    for (name, figures) in &told {
        assert_between(&before[name], figures, &after[name]);
    }
}

#[test]
fn debians_exporter_exports_every_running_guest() {
    let lab = Lab::with(|settings| (settings.domains, settings.shut_off_per_mille) = (30, 200));
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut command = installed("prometheus-libvirt-exporter", "prometheus-libvirt-exporter");
    command.args(["--libvirt.uri", &lab.simulator.uri(), "--web.listen-address", &free.to_string()]);
    let _exporter = Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let begin = Instant::now();
    let mut stream = loop {
        match TcpStream::connect(free) {
            Ok(stream) => break stream,
            Err(error) => assert!(begin.elapsed() < PATIENCE, "{error}"),
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let value = |family: &str, name: &str| -> f64 {
        let begin = format!("{family}{{domain=\"{name}\"");
        let line = text.lines().find(|line| line.starts_with(&begin)).unwrap_or_else(|| panic!("no {begin}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert!(text.contains("\nlibvirt_up 1"), "{text}");
    lab.simulator.with_host(|host| {
        for guest in host.guests().filter(|guest| guest.is_running()) {
            let info = guest.info(SystemTime::now());
            assert_eq!(value("libvirt_domain_info_virtual_cpus", guest.name()), f64::from(info.vcpus));
            assert_eq!(
                value("libvirt_domain_info_maximum_memory_bytes", guest.name()),
                info.max_mem_kib as f64 * 1024.0
            );
            assert!(value("libvirt_domain_info_cpu_time_seconds_total", guest.name()) <= info.cpu_time_ns as f64 / 1e9);
        }
    });
}
