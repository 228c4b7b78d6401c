//! What happens to real guests, as the daemon counts it.

use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::fast;
use crate::support::daemon::Daemon;
use crate::support::exposition::{parse, value};
use crate::support::lab::{self, virsh};
use crate::support::wait_for;

fn life(daemon: &Daemon, name: &str) -> Value {
    daemon.get(&format!("/api/v1/domains/{name}")).json()["life"].take()
}

fn wait_for_life(daemon: &Daemon, name: &str, what: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    wait_for(what, || Some(life(daemon, name)).filter(&is_so))
}

fn figure(daemon: &Daemon, metric: &str, labels: &[(&str, &str)]) -> Option<f64> {
    value(&parse(&daemon.scrape()), metric, labels)
}

/// The start of a process by the kernel, in Unix seconds.
fn process_start(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let ticks: f64 = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(19).unwrap().parse().unwrap();
    let system = std::fs::read_to_string("/proc/stat").unwrap();
    let boot: f64 = system.lines().find_map(|line| line.strip_prefix("btime ")).unwrap().trim().parse().unwrap();
    let per_second = u32::try_from(rustix::param::clock_ticks_per_second()).unwrap();
    boot + ticks / f64::from(per_second)
}

/// The disk that the XML of a guest names.
fn image(xml: &str) -> String {
    let from = xml.find("<source file='").unwrap() + "<source file='".len();
    xml[from..from + xml[from..].find('\'').unwrap()].to_owned()
}

#[test]
fn a_guest_that_is_started_paused_and_destroyed_has_its_life_told() {
    let Some(mut lab) = lab::enter() else { return };
    let name = "lively";
    lab.define(name, &[]);
    let (_directory, daemon) = fast();
    let host = |metric, reason| figure(&daemon, metric, &[("reason", reason)]);
    let startups = || figure(&daemon, "libvirt_domain_startup_seconds_count", &[]);
    assert_eq!(startups(), Some(0.0));
    assert_eq!(figure(&daemon, "libvirt_domain_starts_total", &[("domain", name)]), Some(0.0));
    assert_eq!(life(&daemon, "lab-001")["starts"], 0, "it ran before the daemon");
    wait_for_life(&daemon, "lab-001", "its process", |life| life["start_source"] == "process");

    virsh(&["start", name]);
    let begun = wait_for_life(&daemon, name, "its process", |life| life["start_source"] == "process");
    let by_kernel = process_start(&lab::pid(name));
    let told = wait_for("its start", || figure(&daemon, "libvirt_domain_start_time_seconds", &[("domain", name)]));
    assert!((told - by_kernel).abs() < 2.0, "{told}, and by the kernel {by_kernel}");
    let written = humantime::parse_rfc3339(begun["started_at"].as_str().unwrap()).unwrap();
    let by_kernel = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(by_kernel);
    let apart = written.duration_since(by_kernel).unwrap_or_else(|error| error.duration());
    assert!(apart < Duration::from_secs(2), "{written:?} and {by_kernel:?}");
    wait_for("its startup", || (startups() == Some(1.0)).then_some(()));
    println!("it took {:?} s to start", figure(&daemon, "libvirt_domain_startup_seconds_sum", &[]));

    virsh(&["suspend", name]);
    virsh(&["resume", name]);
    virsh(&["destroy", name]);
    let whole =
        wait_for_life(&daemon, name, "its end", |life| life["stops"]["destroyed"] == 1 && life["started_at"].is_null());
    assert_eq!((&whole["starts"], &whole["pauses"]), (&1.into(), &serde_json::json!({ "paused": 1 })));
    assert_eq!(whole["stops"], serde_json::json!({ "destroyed": 1 }));
    assert_eq!(
        (&whole["last_pause"]["reason"], &whole["last_stop"]["reason"]),
        (&"paused".into(), &"destroyed".into())
    );
    assert_eq!(
        (host("libvirt_pauses_total", "paused"), host("libvirt_stops_total", "destroyed")),
        (Some(1.0), Some(1.0))
    );
    wait_for("the list", || {
        (figure(&daemon, "libvirt_domain_start_time_seconds", &[("domain", name)]).is_none()).then_some(())
    });
    assert_eq!(figure(&daemon, "libvirt_domain_starts_total", &[("domain", name)]), Some(1.0));
    assert_eq!(startups(), Some(1.0), "once");
}

#[test]
fn a_guest_that_panics_is_counted() {
    // mov $0x505, %dx; mov $1, %al; out %al, %dx; hlt; jmp -3: tells the panic device, and sleeps.
    const PANIC: &[u8] = &[0xba, 0x05, 0x05, 0xb0, 0x01, 0xee, 0xf4, 0xeb, 0xfd];
    let Some(mut lab) = lab::enter() else { return };
    let (_directory, daemon) = fast();
    let name = "panicky";
    let xml = lab.xml(name, &[]);
    let mut disk = std::fs::read(image(&xml)).unwrap();
    disk[..PANIC.len()].copy_from_slice(PANIC);
    std::fs::write(image(&xml), disk).unwrap();
    let xml = xml.replace("</os>", "</os><on_crash>preserve</on_crash>");
    lab.create_from(name, &xml.replace("<memballoon", "<panic model='isa'/><memballoon"));
    let life = wait_for_life(&daemon, name, "the panic", |life| life["panics"] == 1);
    assert_eq!((&life["starts"], &life["io_errors"]), (&1.into(), &0.into()));
    wait_for("the figure", || {
        (figure(&daemon, "libvirt_domain_panics_total", &[("domain", name)]) == Some(1.0)).then_some(())
    });
}

#[test]
fn a_disk_that_fails_pauses_its_guest_and_is_counted() {
    let Some(mut lab) = lab::enter() else { return };
    let (_directory, daemon) = fast();
    let name = "failing";
    let xml = lab.xml(name, &[]);
    std::fs::write(image(&xml), unreadable_image()).unwrap();
    lab.create_from(name, &xml.replace("type='raw'/>", "type='qcow2' error_policy='stop' rerror_policy='stop'/>"));
    let life = wait_for_life(&daemon, name, "the pause", |life| life["pauses"]["ioerror"] == 1);
    assert_eq!((&life["io_errors"], &life["last_pause"]["reason"]), (&1.into(), &"ioerror".into()));
    let error = &life["last_io_error"];
    assert_eq!((&error["action"], &error["device"]), (&"pause".into(), &"virtio-disk0".into()));
    assert_eq!(error["path"], image(&xml));
    assert!(error["reason"].is_null(), "libvirt has a word for full disks alone: {error}");
    // It goes on, reads the same again, and fails again.
    virsh(&["resume", name]);
    let life = wait_for_life(&daemon, name, "the second pause", |life| life["pauses"]["ioerror"] == 2);
    assert_eq!(life["io_errors"], 2);
    wait_for("the figure", || {
        (figure(&daemon, "libvirt_domain_io_errors_total", &[("domain", name)]) == Some(2.0)).then_some(())
    });
}

/// A qcow2 image of 1 MiB whose first cluster says that it is compressed, and is not: it cannot be read.
fn unreadable_image() -> Vec<u8> {
    const CLUSTER: u64 = 1 << 16;
    const ALLOCATED: u64 = 1 << 63;
    const COMPRESSED: u64 = 1 << 62;
    let mut image = vec![0; 6 * usize::try_from(CLUSTER).unwrap()];
    let mut put = |at: u64, bytes: &[u8]| {
        let at = usize::try_from(at).unwrap();
        image[at..at + bytes.len()].copy_from_slice(bytes);
    };
    put(0, b"QFI\xfb\0\0\0\x02");
    // Bits of a cluster's size, size of the disk, entries of the first table, where it is, where that of references is.
    put(20, &16_u32.to_be_bytes());
    put(24, &(1_u64 << 20).to_be_bytes());
    put(36, &1_u32.to_be_bytes());
    put(40, &(3 * CLUSTER).to_be_bytes());
    put(48, &CLUSTER.to_be_bytes());
    put(56, &1_u32.to_be_bytes());
    put(CLUSTER, &(2 * CLUSTER).to_be_bytes());
    (0..6).for_each(|cluster| put(2 * CLUSTER + 2 * cluster, &1_u16.to_be_bytes()));
    put(3 * CLUSTER, &(ALLOCATED | (4 * CLUSTER)).to_be_bytes());
    put(4 * CLUSTER, &(COMPRESSED | (5 * CLUSTER)).to_be_bytes());
    image
}
