//! Storage that hangs under a disk. Who waits for it depends on who asks: libvirtd itself, with the domain's lock, or
//! QEMU.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::exposition::{Series, find};
use crate::support::lab::Lab;
use crate::support::libvirtd::BusyWorkers;
use crate::support::storage::{Hang, Hanging, Storage};
use crate::{ALL, CONFIG, Trial, USUAL, WRITTEN_OFF, enter, everybody, periods};

/// What does not look at a disk.
const NOT_BLOCK: &[&str] = &["state", "cpu", "vcpu", "interface", "balloon"];

const READ: &str = "libvirt_domain_block_stats_read_bytes_total";
const SIZE: &str = "libvirt_domain_block_stats_physicalsize_bytes";

fn names() -> [String; 2] {
    ["stored-1".to_owned(), "stored-2".to_owned()]
}

/// Starts guests with two disks each, the second of them on storage that can hang.
fn with_disks_there(lab: &mut Lab, names: &[String]) -> Storage {
    let guests: Vec<_> = names
        .iter()
        .map(|name| {
            let xml = lab.xml(name, &["--disks", "2"]);
            let path = xml.split('\'').find(|text| text.ends_with("/disk-1.img")).unwrap().to_owned();
            (name, xml, path)
        })
        .collect();
    let images: Vec<_> = guests.iter().map(|(name, _, path)| (name.as_str(), Path::new(path))).collect();
    let storage = Storage::mount("nfs", &images);
    for (name, xml, path) in guests {
        lab.create_from(name, &xml.replace(&path, &storage.path_of(name)));
    }
    storage
}

fn has(series: &[Series], metric: &str, domain: &str, disk: &str) -> bool {
    !find(series, metric, &[("domain", domain), ("target_device", disk)]).is_empty()
}

/// Hangs at a moment when no call of the daemon is on its way, so that it is not one of its own that is caught.
fn hang_between_calls(trial: &Trial, storage: &Storage, what: Hang) -> (Hanging, f64) {
    let mut hanging = None;
    trial.watcher.wait_until("no call to be open", |_, scrape| {
        if scrape.calls_open == 0.0 {
            hanging = Some(storage.hang(what));
        }
        hanging.is_some()
    });
    (hanging.expect("it was waited for"), trial.watcher.now())
}

fn blocked_storages(series: &[Series]) -> f64 {
    find(series, "virtstatd_storage_blocked", &[]).iter().map(|series| series.value).sum()
}

/// All disks have figures again, and the end of the watch is good.
fn finish_after_answer(trial: Trial, hanging: Hanging, theirs: &[String]) {
    let answered = trial.watcher.now();
    drop(hanging);
    let late = trial.watcher.wait_for_samples(theirs, ALL, answered);
    assert!(late < periods(3), "all groups were back after {late:.3} s only");
    trial.watcher.wait_until("all disks to have figures, and no storage to be blocked", |series, _| {
        let disks = ["vda", "vdb"];
        theirs
            .iter()
            .all(|name| disks.iter().all(|disk| has(series, READ, name, disk) && has(series, SIZE, name, disk)))
            && blocked_storages(series) == 0.0
    });
    trial.watcher.finish();
}

#[test]
fn storage_that_hangs_costs_nothing_but_the_figures_of_the_disks_on_it() {
    let Some(mut lab) = enter() else { return };
    let theirs = names();
    let storage = with_disks_there(&mut lab, &theirs);
    let trial = Trial::running(CONFIG, ALL);
    let watcher = &trial.watcher;
    trial.wait_for_figures(&theirs);

    let (hanging, at) = hang_between_calls(&trial, &storage, Hang::Paths);
    watcher.wait_until("the storage to be known as blocked", |series, _| blocked_storages(series) == 1.0);
    // What is old has left after this.
    trial.observe(4);
    let mut lacking = Vec::new();
    for _ in 0..10 {
        watcher.wait_until("another scrape", |series, _| {
            for name in &theirs {
                assert!(!has(series, SIZE, name, "vdb"), "the size of {name}'s disk there is still told");
                if !has(series, READ, name, "vda") || !has(series, SIZE, name, "vda") {
                    lacking.push(name.clone());
                }
            }
            true
        });
        trial.observe(1);
    }
    assert!(lacking.is_empty(), "the disk that is elsewhere had no figures, {} times of 20", lacking.len());
    let end = watcher.now();
    eprintln!("longest between two samples: the others {:.2} s", watcher.longest(&everybody(), ALL, (at, end)));
    eprintln!("longest between two samples: theirs but disks {:.2} s", watcher.longest(&theirs, NOT_BLOCK, (at, end)));
    watcher.assert_gaps(&everybody(), ALL, (at, end), USUAL, WRITTEN_OFF);
    watcher.assert_gaps(&theirs, NOT_BLOCK, (at, end), USUAL, WRITTEN_OFF);
    assert_eq!(storage.most_waiting_of(trial.daemon.pid()), 1, "threads that waited for the mount at once");
    for name in &theirs {
        let json = trial.daemon.get(&format!("/api/v1/domains/{name}")).json();
        assert!(!json["blocked_storage"].is_null(), "{json}");
    }
    finish_after_answer(trial, hanging, &theirs);
}

/// QEMU asks for the size of all its files when it is asked about one, and then hangs as a whole: a guest like a frozen
/// one, but that its process sleeps and is not stopped.
#[test]
fn storage_that_takes_qemu_along_costs_what_needs_the_monitor_of_its_guests() {
    let Some(mut lab) = enter() else { return };
    let theirs = names();
    let storage = with_disks_there(&mut lab, &theirs);
    let trial = Trial::running(CONFIG, ALL);
    let watcher = &trial.watcher;
    trial.wait_for_figures(&theirs);
    let at = watcher.now();
    let hanging = storage.hang(Hang::Everything);
    for (number, name) in theirs.iter().enumerate() {
        let mut virsh = Command::new("timeout");
        let virsh = virsh.args(["-s", "KILL", "1", "virsh", "-q", "-c", "qemu:///system", "domstats", "--block", name]);
        let status = virsh.stdout(Stdio::null()).status().unwrap();
        assert!(!status.success(), "QEMU number {number} does not hang");
    }
    trial.observe(10);
    let end = watcher.now();
    watcher.assert_gaps(&everybody(), ALL, (at, end), periods(3), periods(3));
    watcher.assert_gaps(&everybody(), ALL, (at + periods(3), end), USUAL, periods(3));
    watcher.assert_gaps(&theirs, &["state", "cpu", "interface"], (at, end), USUAL, periods(3));
    finish_after_answer(trial, hanging, &theirs);
}

/// virDomainGetBlockInfo looks at the file while it holds the domain's lock. Until the storage answers, every call
/// hangs that lists this domain, also one that asks for its state only, and also the list of all domains.
#[test]
fn a_domain_that_somebody_elses_call_has_locked_costs_the_others_three_periods_at_most() {
    let Some(mut lab) = enter() else { return };
    let theirs = names();
    let storage = with_disks_there(&mut lab, &theirs);
    let trial = Trial::running(CONFIG, ALL);
    let watcher = &trial.watcher;
    trial.wait_for_figures(&theirs);
    let counting = BusyWorkers::start();
    let (hanging, at) = hang_between_calls(&trial, &storage, Hang::Paths);
    let mut virsh = Command::new("virsh");
    let virsh = virsh.args(["-q", "-c", "qemu:///system", "domblkinfo", &theirs[0], "vdb"]).stdout(Stdio::null());
    let mut somebody = virsh.spawn().unwrap();
    trial.observe(15);
    assert!(somebody.try_wait().unwrap().is_none(), "it does not hang");
    let end = watcher.now();
    let busy = counting.finish();
    eprintln!("{} workers of libvirtd were busy at most, one of them not for us", busy.most);
    eprintln!("longest between two samples: the others {:.2} s", watcher.longest(&everybody(), ALL, (at, end)));
    assert!(busy.most <= 4 + 1, "{} workers of libvirtd were busy, one of them not for us", busy.most);
    watcher.assert_gaps(&everybody(), ALL, (at, end), periods(3), periods(3));
    watcher.assert_gaps(&everybody(), ALL, (at + periods(3), end), USUAL, periods(3));
    finish_after_answer(trial, hanging, &theirs);
    assert!(somebody.wait().unwrap().success());
}
