//! What there is, and what it is made of, as the daemon tells it and as the host has it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use virtstat_sim::command::{Command, Happening, OneChange, SuppressEvents};
use virtstatd::libvirt::describe;
use virtstatd::model::{Mac, NicDescription};

use crate::Trial;
use crate::support::exposition::{assert_promtool_is_silent, find, parse};

/// What has not been told by then is not going to be.
const PATIENCE: Duration = Duration::from_secs(15);

/// Of each domain: does it run, its title, the addresses of its NICs, the sources of its disks.
type Picture = BTreeMap<String, (bool, Option<String>, Vec<String>, Vec<String>)>;

fn told(trial: &Trial) -> Picture {
    let list = trial.daemon.get("/api/v1/domains").json();
    let domain = |domain: &serde_json::Value| {
        let description = &domain["description"];
        let all = |devices: &str, field: &str| {
            let devices = description[devices].as_array().cloned().unwrap_or_default();
            devices.iter().filter_map(|device| device[field].as_str().map(str::to_owned)).collect()
        };
        let title = description["title"].as_str().map(str::to_owned);
        let name = domain["name"].as_str().unwrap().to_owned();
        (name, (domain["running"].as_bool().unwrap(), title, all("nics", "mac"), all("disks", "source")))
    };
    list["domains"].as_array().unwrap().iter().map(domain).collect()
}

fn real(trial: &Trial) -> Picture {
    trial.simulator.with_host(|host| {
        let guest = |guest: &virtstat_sim::host::Guest| {
            let it = describe(&guest.xml()).expect("its XML is good");
            let macs = it.nics.iter().map(|nic| nic.mac.to_string()).filter(|mac| !mac.is_empty()).collect();
            let sources = it.disks.iter().map(|disk| disk.source.to_string()).filter(|it| !it.is_empty()).collect();
            (guest.name().to_owned(), (guest.is_running(), it.title.map(String::from), macs, sources))
        };
        host.guests().map(guest).collect()
    })
}

fn wait_for_same(trial: &Trial, what: &str) {
    let begin = Instant::now();
    loop {
        let (told, real) = (told(trial), real(trial));
        if told == real {
            return;
        }
        let differs = |name: &&String| told.get(*name) != real.get(*name);
        let names: Vec<&String> = told.keys().chain(real.keys()).filter(differs).collect();
        assert!(
            begin.elapsed() < PATIENCE,
            "{what}: of {names:?} told {:?}, and it is {:?}",
            names.iter().map(|name| told.get(*name)).collect::<Vec<_>>(),
            names.iter().map(|name| real.get(*name)).collect::<Vec<_>>()
        );
        thread::sleep(Duration::from_millis(50));
    }
}

/// Lets everything happen that changes the list or a description, and waits for the daemon to tell it each time.
fn let_all_happen(trial: &Trial) {
    wait_for_same(trial, "the first list");
    for kind in [
        Happening::AttachNic,
        Happening::AttachDisk,
        Happening::DetachNic,
        Happening::DetachDisk,
        Happening::Metadata,
        Happening::Stop,
        Happening::Define,
        Happening::Start,
        Happening::Undefine,
        Happening::MigrateIn,
    ] {
        let before = real(trial);
        trial.tell(Command::Change(OneChange { kind, domain: None, count: Some(2), all: false }));
        assert_ne!(before, real(trial), "{kind:?} changes nothing");
        wait_for_same(trial, &format!("{kind:?}"));
    }
}

#[test]
fn events_alone_keep_the_picture_true() {
    let trial = Trial::start(40, "[sampling]\nperiod = '10m'\n[sampling.periods]\ninventory = '10m'\n");
    let_all_happen(&trial);
    trial.finish();
}

#[test]
fn without_events_the_list_does() {
    let trial = Trial::start(40, "[sampling]\nperiod = '10m'\n[sampling.periods]\ninventory = '1s'\n");
    trial.tell(Command::SuppressEvents(SuppressEvents::default()));
    let_all_happen(&trial);
    trial.finish();
}

/// Guests with an address that another one has too, without any NIC, with ten, and with a function of an SR-IOV card, which has
/// no name on the host.
#[test]
fn every_nic_is_told_whatever_it_is() {
    let trial = Trial::running(200);
    wait_for_same(&trial, "the list");
    let mut owners: BTreeMap<Mac, BTreeSet<String>> = BTreeMap::new();
    let mut nics: BTreeMap<String, Vec<NicDescription>> = BTreeMap::new();
    trial.simulator.with_host(|host| {
        for guest in host.guests().filter(|guest| guest.is_running()) {
            let described = describe(&guest.xml()).expect("its XML is good").nics;
            for mac in described.iter().filter_map(|nic| Mac::parse(&nic.mac)) {
                owners.entry(mac).or_default().insert(guest.name().to_owned());
            }
            nics.insert(guest.name().to_owned(), described);
        }
    });
    let unnamed = |nic: &&NicDescription| &*nic.interface_type == "hostdev" && nic.target.is_empty();
    assert!(nics.values().any(Vec::is_empty), "one without any");
    assert!(nics.values().any(|nics| nics.len() == 10), "one with ten");
    assert!(owners.values().any(|owners| owners.len() == 2), "two share an address");
    assert!(nics.values().flatten().any(|nic| unnamed(&nic)), "one without a name");

    let mut stream = TcpStream::connect(trial.daemon.address()).unwrap();
    for (mac, owners) in &owners {
        let answer = kept_alive(&mut stream, &format!("/api/v1/lookup?mac={mac}"));
        let found = answer["domains"].as_array().unwrap_or_else(|| panic!("{mac}: {answer}")).clone();
        let names: BTreeSet<String> = found.iter().map(|domain| domain["name"].as_str().unwrap().to_owned()).collect();
        assert_eq!(names, *owners, "{mac}");
        assert!(found.iter().all(|domain| domain["nics"][0]["mac"].as_str().and_then(Mac::parse) == Some(*mac)));
    }

    let list =
        trial.daemon.get("/api/v1/domains?state=running,paused&fields=name,description,samples.interface").json();
    let text = trial.daemon.scrape();
    assert_promtool_is_silent(&text);
    let series = parse(&text);
    for domain in list["domains"].as_array().unwrap() {
        let name = domain["name"].as_str().unwrap();
        let real = &nics[name];
        let told = domain["description"]["nics"].as_array().unwrap();
        let macs = |mac: &serde_json::Value| mac.as_str().unwrap_or_default().to_owned();
        assert_eq!(
            told.iter().map(|nic| macs(&nic["mac"])).collect::<Vec<_>>(),
            real.iter().map(|nic| nic.mac.to_string()).collect::<Vec<_>>(),
            "{name}"
        );
        let infos = find(&series, "libvirt_domain_interface_stats_info", &[("domain", name)]);
        let devices: BTreeSet<&String> = infos.iter().map(|info| &info.labels["target_device"]).collect();
        assert_eq!(
            (infos.len(), devices.len()),
            (real.len(), real.len()),
            "{name}: each NIC once, under a name of its own"
        );
        let received = find(&series, "libvirt_domain_interface_stats_receive_bytes_total", &[("domain", name)]);
        let sampled = domain["samples"]["interface"]["interfaces"].as_array().map_or(0, Vec::len);
        let with_device = real.iter().filter(|nic| !nic.target.is_empty()).count();
        assert_eq!(
            (received.len(), sampled),
            (with_device, with_device),
            "{name}: figures of those that have a device"
        );
        for nic in real.iter().filter(unnamed) {
            let mac = nic.mac.to_string();
            assert!(devices.contains(&mac), "{name}: {mac} goes by its address among {devices:?}");
        }
    }
    trial.finish();
}

/// Asks on a connection that stays.
fn kept_alive(stream: &mut TcpStream, path: &str) -> serde_json::Value {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut reader = BufReader::new(stream);
    let (mut line, mut length) = (String::new(), 0);
    while line != "\r\n" {
        line.clear();
        reader.read_line(&mut line).unwrap();
        if let Some(value) = line.to_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    serde_json::from_slice(&body).unwrap()
}
