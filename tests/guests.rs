//! The daemon on a real libvirtd with real QEMU guests.
#![allow(clippy::unwrap_used)]

#[path = "guests/life.rs"]
mod life;
mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::daemon::{Daemon, config_file, request};
use support::exposition::{Series, assert_promtool_is_silent, find, parse, value};
use support::lab::{self, GUESTS, virsh};
use support::proxy::Proxy;
use support::wait_for;

/// A daemon that samples every second.
fn fast() -> (tempfile::TempDir, Daemon) {
    let (directory, path) = config_file("[sampling]\nperiod = '1s'\n");
    let daemon = Daemon::start(&["--config", &path]);
    daemon.wait_ready();
    (directory, daemon)
}

/// The first scrape whose samples of that group, of every running domain, were all asked for after `since`.
fn sample_after(daemon: &Daemon, since: Instant, group: &str) -> Vec<Series> {
    wait_for("a newer sample", || {
        let series = parse(&daemon.scrape());
        let elapsed = since.elapsed().as_secs_f64();
        let ages = find(&series, "libvirt_domain_sample_age_seconds", &[("group", group)]);
        // The age is cut to milliseconds, and the scrape is a little older than this moment.
        (!ages.is_empty() && ages.iter().all(|age| age.value + 0.002 < elapsed)).then_some(series)
    })
}

/// `virsh domstats`, by domain and parameter; it waits where a call of the daemon's is at a guest's monitor.
fn domstats() -> HashMap<String, HashMap<String, String>> {
    let text = virsh(&["domstats"]);
    let mut domains: HashMap<String, HashMap<String, String>> = HashMap::new();
    let mut name = String::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(domain) = line.strip_prefix("Domain: '") {
            name = domain.trim_end_matches('\'').to_owned();
        } else if let Some((key, value)) = line.split_once('=') {
            domains.entry(name.clone()).or_default().insert(key.to_owned(), value.to_owned());
        }
    }
    domains
}

/// Metric, and what `virsh domblkinfo` calls it.
const SIZES: &[(&str, &str)] = &[
    ("libvirt_domain_block_stats_capacity_bytes", "Capacity"),
    ("libvirt_domain_block_stats_allocation_bytes", "Allocation"),
    ("libvirt_domain_block_stats_physicalsize_bytes", "Physical"),
];

/// Metric, what virsh calls it, and virsh's unit in ours.
const COUNTERS: &[(&str, &str, f64)] = &[
    ("libvirt_domain_info_cpu_time_seconds_total", "cpu.time", 1e-9),
    ("libvirt_domain_cpu_user_seconds_total", "cpu.user", 1e-9),
    ("libvirt_domain_cpu_system_seconds_total", "cpu.system", 1e-9),
    ("libvirt_domain_vcpu_time_seconds_total", "vcpu.0.time", 1e-9),
    ("libvirt_domain_vcpu_wait_seconds_total", "vcpu.0.wait", 1e-9),
    ("libvirt_domain_vcpu_delay_seconds_total", "vcpu.0.delay", 1e-9),
    ("libvirt_domain_block_stats_read_bytes_total", "block.0.rd.bytes", 1.0),
    ("libvirt_domain_block_stats_read_requests_total", "block.0.rd.reqs", 1.0),
    ("libvirt_domain_block_stats_read_time_seconds_total", "block.0.rd.times", 1e-9),
    ("libvirt_domain_block_stats_write_bytes_total", "block.0.wr.bytes", 1.0),
    ("libvirt_domain_block_stats_write_requests_total", "block.0.wr.reqs", 1.0),
    ("libvirt_domain_block_stats_write_time_seconds_total", "block.0.wr.times", 1e-9),
    ("libvirt_domain_block_stats_flush_requests_total", "block.0.fl.reqs", 1.0),
    ("libvirt_domain_block_stats_flush_time_seconds_total", "block.0.fl.times", 1e-9),
    ("libvirt_domain_interface_stats_receive_bytes_total", "net.0.rx.bytes", 1.0),
    ("libvirt_domain_interface_stats_receive_packets_total", "net.0.rx.pkts", 1.0),
    ("libvirt_domain_interface_stats_receive_errors_total", "net.0.rx.errs", 1.0),
    ("libvirt_domain_interface_stats_receive_drops_total", "net.0.rx.drop", 1.0),
    ("libvirt_domain_interface_stats_transmit_bytes_total", "net.0.tx.bytes", 1.0),
    ("libvirt_domain_interface_stats_transmit_packets_total", "net.0.tx.pkts", 1.0),
    ("libvirt_domain_interface_stats_transmit_errors_total", "net.0.tx.errs", 1.0),
    ("libvirt_domain_interface_stats_transmit_drops_total", "net.0.tx.drop", 1.0),
];

#[test]
fn every_guest_has_its_series_and_each_counter_lies_between_two_readings_of_virsh() {
    let Some(mut lab) = lab::enter() else { return };
    // The others halt after one read; this one keeps its first vCPU busy.
    lab.create("lab-busy", &["--busy", "--vcpus", "2"]);
    let (_directory, daemon) = fast();
    let before = domstats();
    let read = Instant::now();
    let mut series = Vec::new();
    for group in ["cpu", "vcpu", "interface", "block"] {
        // The groups share a call, so the last scrape is new enough for all.
        series = sample_after(&daemon, read, group);
    }
    let after = domstats();
    let guests: Vec<&String> = before.keys().filter(|name| name.starts_with("lab-")).collect();
    assert_eq!(guests.len(), GUESTS + 1);
    let mut compared = 0;
    for guest in guests {
        for (metric, key, unit) in COUNTERS {
            let (Some(low), Some(high)) = (before[guest].get(*key), after[guest].get(*key)) else {
                panic!("virsh does not know {key} of {guest}");
            };
            let first = [("domain", guest.as_str()), ("vcpu", "0")];
            let labels = if metric.contains("_vcpu_") { &first[..] } else { &first[..1] };
            let found = value(&series, metric, labels);
            if *key == "vcpu.0.wait" && high == "0" && found.is_none() {
                // libvirt says 0 where the host's kernel does not count.
                compared += 1;
                continue;
            }
            let found = found.unwrap_or_else(|| panic!("{guest} has no {metric}"));
            let [low, high] = [low, high].map(|text| text.parse::<f64>().unwrap() * unit);
            // libvirt adds up a vCPU's user and system time, each cut to ticks; the host's kernel tells it to the nanosecond.
            let slack = if *key == "vcpu.0.time" { 0.02 } else { 1e-9 * high.max(1.0) };
            assert!(
                low - slack <= found && found <= high + slack,
                "{guest}: {metric} is {found}, {key} {low} to {high}"
            );
            compared += 1;
        }
        let info = virsh(&["domblkinfo", guest, "vda"]);
        for (metric, key) in SIZES {
            let line = info.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).unwrap();
            assert_eq!(value(&series, metric, &[("domain", guest)]), Some(line.trim().parse().unwrap()), "{guest}");
            compared += 1;
        }
    }
    assert_eq!(compared, (GUESTS + 1) * (COUNTERS.len() + SIZES.len()));
    let busy = value(&series, "libvirt_domain_vcpu_time_seconds_total", &[("domain", "lab-busy"), ("vcpu", "0")]);
    assert!(busy.is_some_and(|seconds| seconds > 0.0), "{busy:?}");
    assert_promtool_is_silent(&daemon.scrape());
}

/// Scrapes without pause until it is dropped; any answer but 200, any invalid line and any duplicate fails.
struct Scraper {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<usize>>,
}

impl Scraper {
    fn start(daemon: &Daemon) -> Self {
        let (stop, address) = (Arc::new(AtomicBool::new(false)), daemon.address());
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut scrapes = 0;
            while !stopped.load(Ordering::Relaxed) {
                let answer = request(address, "GET", "/metrics", &[]);
                assert_eq!(answer.status, 200);
                parse(answer.text());
                scrapes += 1;
                thread::sleep(Duration::from_millis(10));
            }
            scrapes
        });
        Self { stop, thread: Some(thread) }
    }

    fn finish(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let scrapes = self.thread.take().unwrap().join().expect("every scrape was good");
        assert!(scrapes > 10, "only {scrapes} scrapes");
    }
}

fn state(series: &[Series], name: &str) -> Option<f64> {
    value(series, "libvirt_domain_info_state", &[("domain", name)])
}

fn names(series: &[Series], metric: &str, domain: &str) -> Vec<String> {
    let mut names: Vec<_> =
        find(series, metric, &[("domain", domain)]).iter().map(|s| s.labels["target_device"].clone()).collect();
    names.sort();
    names
}

const LIFE: [&str; 3] =
    ["libvirt_domain_starts_total", "libvirt_domain_panics_total", "libvirt_domain_io_errors_total"];

#[test]
fn start_pause_and_end_of_a_guest_show_in_the_next_sample() {
    let Some(mut lab) = lab::enter() else { return };
    let (_directory, daemon) = fast();
    let scraper = Scraper::start(&daemon);
    let name = "change-1";
    assert_eq!(state(&parse(&daemon.scrape()), name), None);
    lab.define(name, &[]);
    // Nothing of a shut-off guest shows in a sample; the list finds it.
    virsh(&["start", name]);
    // The age of a group that never came counts from when its guest was first seen, so only figures tell of a sample. CPU time comes
    // from the kernel, before libvirt is asked for the rest.
    let series = wait_for("its disk", || {
        let series = parse(&daemon.scrape());
        value(&series, "libvirt_domain_block_stats_read_bytes_total", &[("domain", name)])?;
        Some(series)
    });
    assert_eq!(state(&series, name), Some(1.0));
    assert!(value(&series, "libvirt_domain_info_cpu_time_seconds_total", &[("domain", name)]).is_some());
    assert_eq!(names(&series, "libvirt_domain_block_stats_read_bytes_total", name), ["vda"]);

    virsh(&["suspend", name]);
    assert_eq!(state(&sample_after(&daemon, Instant::now(), "state"), name), Some(3.0));
    virsh(&["resume", name]);
    assert_eq!(state(&sample_after(&daemon, Instant::now(), "state"), name), Some(1.0));

    virsh(&["destroy", name]);
    // What libvirt was asked for after it, since the kernel's looks at the others come sooner than the news.
    let series = sample_after(&daemon, Instant::now(), "block");
    let lingering: Vec<_> = series
        .iter()
        .filter(|series| series.labels.get("domain").is_some_and(|domain| domain == name))
        .filter(|series| series.labels.contains_key("target_device") || series.name.ends_with("_total"))
        // Every domain that is known has a life, running or not.
        .filter(|series| !LIFE.contains(&series.name.as_str()))
        .collect();
    assert!(lingering.is_empty(), "{lingering:?}");
    wait_for("the list to show it shut off", || (state(&parse(&daemon.scrape()), name) == Some(5.0)).then_some(()));
    scraper.finish();
}

/// Hot-plugs a device by its XML.
fn device(verb: &str, guest: &str, xml: &str) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    std::io::Write::write_all(&mut file, xml.as_bytes()).unwrap();
    virsh(&[verb, guest, file.path().to_str().unwrap(), "--live"]);
}

const READ: &str = "libvirt_domain_block_stats_read_bytes_total";
const RECEIVED: &str = "libvirt_domain_interface_stats_receive_bytes_total";
const DISK_INFO: &str = "libvirt_domain_block_stats_info";
const NIC_INFO: &str = "libvirt_domain_interface_stats_info";

/// The first line of a table of virsh's with that word, by columns.
fn row(table: &str, word: &str) -> Vec<String> {
    let line = table.lines().find(|line| line.contains(word)).unwrap_or_else(|| panic!("no {word} in\n{table}"));
    line.split_whitespace().map(str::to_owned).collect()
}

#[test]
fn guests_are_looked_up_by_what_virsh_says_they_have() {
    let Some(mut lab) = lab::enter() else { return };
    let (_directory, daemon) = fast();
    let names = |query: &str| {
        let answer = daemon.get(&format!("/api/v1/lookup?{query}"));
        let domains = answer.json()["domains"].as_array().cloned().unwrap_or_default();
        domains.iter().map(|domain| domain["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for name in [lab::guest(1), lab::guest(GUESTS)] {
        let nic = row(&virsh(&["domiflist", &name]), "virtio");
        let pid = std::fs::read_to_string(format!("/run/libvirt/qemu/{name}.pid")).unwrap();
        let disk = row(&virsh(&["domblklist", &name]), "vda");
        for query in [
            format!("nic={}", nic[0]),
            format!("mac={}", nic[4]),
            format!("mac={}", nic[4].to_uppercase().replace(':', "-")),
            format!("disk={}", disk[1]),
            format!("pid={}", pid.trim()),
        ] {
            assert_eq!(names(&query), std::slice::from_ref(&name), "{query}");
        }
    }
    // One that is defined only, and then no more.
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("asleep.xml");
    lab.owns("asleep");
    std::fs::write(&file, lab.xml("asleep", &[])).unwrap();
    virsh(&["define", file.to_str().unwrap()]);
    let mac = row(&virsh(&["domiflist", "asleep"]), "virtio")[4].clone();
    wait_for("the defined one", || (names(&format!("mac={mac}")) == ["asleep"]).then_some(()));
    virsh(&["domrename", "asleep", "dozing"]);
    lab.owns("dozing");
    wait_for("its new name", || (names(&format!("mac={mac}")) == ["dozing"]).then_some(()));
    virsh(&["undefine", "dozing"]);
    wait_for("it is gone", || names(&format!("mac={mac}")).is_empty().then_some(()));
}

#[test]
fn devices_and_titles_are_told_when_libvirt_announces_them() {
    let Some(mut lab) = lab::enter() else { return };
    // Neither a sample nor the list would show it within this test.
    let (_directory, path) = config_file("[sampling]\nperiod = '10m'\n[sampling.periods]\ninventory = '10m'\n");
    let daemon = Daemon::start(&["--config", &path]);
    daemon.wait_ready();
    let name = "announced";
    lab.create(name, &[]);
    let nic = "<interface type='ethernet'><mac address='52:54:00:12:34:57'/><target dev='vsd-event'/><model type='virtio'/></interface>";
    let found = || daemon.get("/api/v1/lookup?mac=52:54:00:12:34:57").status == 200;
    wait_for("the new domain", || (daemon.get(&format!("/api/v1/domains/{name}")).status == 200).then_some(()));
    assert!(!found());
    device("attach-device", name, nic);
    wait_for("the new NIC", || found().then_some(()));
    virsh(&["desc", name, "--live", "--title", "Announced"]);
    let title = || daemon.get(&format!("/api/v1/domains/{name}")).json()["description"]["title"] == "Announced";
    wait_for("its title", || title().then_some(()));
    device("detach-device", name, nic);
    virsh(&["reset", name]);
    wait_for("the NIC to go", || (!found()).then_some(()));
}

#[test]
fn disks_and_nics_come_and_go_with_hot_plug() {
    let Some(mut lab) = lab::enter() else { return };
    let (_directory, daemon) = fast();
    let scraper = Scraper::start(&daemon);
    let name = "change-2";
    lab.create(name, &[]);
    let image = lab.lab(&["disk", "change-2-extra"]);
    let disk = format!(
        "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{}'/>\
         <target dev='vdb' bus='virtio'/><serial>EXTRA</serial></disk>",
        image.trim()
    );
    let nic = "<interface type='ethernet'><mac address='52:54:00:12:34:56'/><target dev='vsd-extra'/><model type='virtio'/></interface>";
    let series = sample_after(&daemon, Instant::now(), "block");
    let own = names(&series, RECEIVED, name);
    assert_eq!((names(&series, READ, name), own.len()), (vec!["vda".to_owned()], 1));

    device("attach-device", name, &disk);
    device("attach-device", name, nic);
    let series = sample_after(&daemon, Instant::now(), "block");
    assert_eq!(names(&series, READ, name), ["vda", "vdb"]);
    let both = names(&sample_after(&daemon, Instant::now(), "interface"), RECEIVED, name);
    assert!(both.len() == 2 && both.contains(&"vsd-extra".to_owned()), "{both:?}");
    wait_for("the new disk's description", || {
        let series = parse(&daemon.scrape());
        let serial = find(&series, DISK_INFO, &[("domain", name), ("serial", "EXTRA")]);
        let mac = find(&series, NIC_INFO, &[("domain", name), ("mac_address", "52:54:00:12:34:56")]);
        (serial.len() == 1 && mac.len() == 1 && mac[0].labels["target_device"] == "vsd-extra").then_some(())
    });

    device("detach-device", name, &disk);
    device("detach-device", name, nic);
    // Nothing runs in the guest that could answer the request to unplug; a reset completes it.
    virsh(&["reset", name]);
    wait_for("libvirt to have unplugged both", || {
        let xml = virsh(&["dumpxml", name]);
        (!xml.contains("EXTRA") && !xml.contains("vsd-extra")).then_some(())
    });
    let series = sample_after(&daemon, Instant::now(), "block");
    assert_eq!(names(&series, READ, name), ["vda"]);
    assert_eq!(names(&sample_after(&daemon, Instant::now(), "interface"), RECEIVED, name), own);
    wait_for("their descriptions to go", || {
        let series = parse(&daemon.scrape());
        (names(&series, DISK_INFO, name) == ["vda"] && names(&series, NIC_INFO, name) == own).then_some(())
    });
    scraper.finish();
    assert_promtool_is_silent(&daemon.scrape());
}

#[test]
fn odd_names_and_texts_stay_valid() {
    let Some(mut lab) = lab::enter() else { return };
    let name = r#"odd "quoted" back\slash {braces} ünï 猫 'x'"#;
    let text = "first line\nsecond \"line\" \\ end";
    let metadata = "<x:note xmlns:x='urn:example:x'>one\ntwo \"three\"</x:note>\
        <nova:instance xmlns:nova='http://openstack.org/xmlns/libvirt/nova/1.1'><nova:name>line\nbreak \"q\" \\</nova:name>\
        <nova:owner><nova:user uuid='u'>a\"b</nova:user><nova:project uuid='p'>c\\d</nova:project></nova:owner></nova:instance>";
    lab.create(name, &["--description", text, "--metadata", metadata, "--disks", "2", "--nics", "2"]);
    let (_directory, daemon) = fast();
    let scrape = daemon.scrape();
    assert_promtool_is_silent(&scrape);
    let series = parse(&scrape);
    assert_eq!(state(&series, name), Some(1.0));
    assert_eq!(names(&series, "libvirt_domain_block_stats_read_bytes_total", name).len(), 2);
    let nova = find(&series, "libvirt_domain_openstack_info", &[("domain", name)]);
    assert_eq!(nova.len(), 1);
    assert_eq!(nova[0].labels["instance_name"], "line\nbreak \"q\" \\");
    assert_eq!((&*nova[0].labels["user_name"], &*nova[0].labels["project_name"]), ("a\"b", "c\\d"));
    let encoded: String = name.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let json = daemon.get(&format!("/api/v1/domains/{encoded}")).json();
    assert_eq!(json["name"], name);
    assert_eq!(json["description"]["description"], text);
    let list = daemon.get("/api/v1/domains").json();
    assert!(list["domains"].as_array().unwrap().iter().any(|domain| domain["name"] == name));
}

#[test]
fn a_guest_with_many_devices_and_a_balloon_shows_them_all() {
    let Some(mut lab) = lab::enter() else { return };
    let name = "many";
    lab.create(name, &["--vcpus", "4", "--disks", "4", "--nics", "3", "--balloon"]);
    let (_directory, daemon) = fast();
    let series = parse(&daemon.scrape());
    let count = |metric| find(&series, metric, &[("domain", name)]).len();
    assert_eq!(count("libvirt_domain_vcpu_time_seconds_total"), 4);
    assert_eq!(count("libvirt_domain_block_stats_write_bytes_total"), 4);
    assert_eq!(count("libvirt_domain_block_stats_info"), 4);
    assert_eq!(count("libvirt_domain_interface_stats_transmit_bytes_total"), 3);
    assert_eq!(count("libvirt_domain_interface_stats_info"), 3);
    assert!(value(&series, "libvirt_domain_memory_stats_rss_bytes", &[("domain", name)]).is_some_and(|rss| rss > 1e6));
    // No driver in the guest reports: what it did not say is absent.
    assert_eq!(count("libvirt_domain_memory_stats_used_percent"), 0);
    assert_eq!(count("libvirt_domain_memory_stats_last_update_timestamp_seconds"), 0);
}

#[test]
fn libvirtd_may_appear_later() {
    let Some(_lab) = lab::enter() else { return };
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("libvirt-sock-ro");
    let uri = format!("qemu+unix:///system?socket={}", socket.display());
    let daemon = Daemon::start(&["--uri", &uri]);
    let message = wait_for("the reason", || {
        let ready = daemon.get("/-/ready");
        assert_eq!(ready.status, 503);
        let message = ready.json()["error"]["message"].as_str().unwrap().to_owned();
        message.contains("cannot connect").then_some(message)
    });
    assert!(message.contains(socket.to_str().unwrap()), "{message}");
    assert_eq!(value(&parse(&daemon.scrape()), "libvirt_up", &[]), Some(0.0));
    std::os::unix::fs::symlink("/run/libvirt/libvirt-sock-ro", &socket).unwrap();
    daemon.wait_ready();
    let series = parse(&daemon.scrape());
    assert_eq!(value(&series, "libvirt_up", &[]), Some(1.0));
    assert!(find(&series, "libvirt_domain_info_cpu_time_seconds_total", &[]).len() >= GUESTS);
}

const MANY: usize = 200;

#[test]
fn two_hundred_guests_work() {
    let Some(_lab) = lab::enter_with(MANY) else { return };
    let (_directory, path) = config_file("");
    let daemon = Daemon::start(&["--config", &path]);
    daemon.wait_ready();
    let scrape = daemon.scrape();
    assert_promtool_is_silent(&scrape);
    let series = parse(&scrape);
    for metric in [
        "libvirt_domain_info_cpu_time_seconds_total",
        "libvirt_domain_vcpu_time_seconds_total",
        "libvirt_domain_block_stats_read_bytes_total",
        "libvirt_domain_interface_stats_receive_bytes_total",
        "libvirt_domain_memory_stats_rss_bytes",
    ] {
        assert!(find(&series, metric, &[]).len() >= MANY, "{metric}");
    }
}

#[test]
fn a_lost_connection_is_found_again_and_costs_no_second_sample() {
    let Some(_lab) = lab::enter() else { return };
    let proxy = Proxy::start();
    // Two periods and three workers, so that several connections are open when they are cut.
    let (_directory, path) =
        config_file("[sampling]\nperiod = '1s'\nworkers = 3\nperiods = { state = '2s', block = '3s' }\n");
    let daemon = Daemon::start(&["--config", &path, "--uri", &proxy.uri()]);
    daemon.wait_ready();
    for round in 1..=3_u32 {
        proxy.cut();
        let scrape = wait_for("the loss to show", || {
            let series = parse(&daemon.scrape());
            (value(&series, "libvirt_up", &[]) == Some(0.0)).then_some(series)
        });
        assert!(find(&scrape, "libvirt_domain_sample_age_seconds", &[]).len() >= GUESTS, "ages are always there");
        proxy.resume();
        let up = wait_for("libvirt again", || {
            let series = parse(&daemon.scrape());
            (value(&series, "libvirt_up", &[]) == Some(1.0)).then_some(series)
        });
        let since = Instant::now();
        for group in ["cpu", "state", "block"] {
            let series = sample_after(&daemon, since, group);
            assert_eq!(value(&series, "virtstatd_reconnects_total", &[]), Some(round.into()));
            let failed =
                |series| value(series, "virtstatd_lane_runs_total", &[("lane", "monitor"), ("result", "error")]);
            assert_eq!(failed(&series), failed(&up), "dead connections of other workers were used");
        }
    }
}
