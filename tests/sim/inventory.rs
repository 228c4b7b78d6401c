//! What there is, and what it is made of, as the daemon tells it and as the host has it.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use virtstat_sim::command::{Command, Happening, OneChange, SuppressEvents};
use virtstatd::libvirt::describe;

use crate::Trial;

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
