//! Many guests that start and end at once, as when a host is filled or emptied.

use std::fs;
use std::path::Path;

use crate::support::lab::{Lab, run};
use crate::{ALL, CONFIG, DEADLINE, PERIOD, Trial, enter, everybody};

const STORM: usize = 30;

/// libvirtd does so many at once that each of them still gets a share of a processor.
const AT_ONCE: &str = "4";

/// Starts or ends many guests, as fast as libvirtd does it.
fn each(verb: &str, arguments: &Path) {
    let (file, virsh) = (arguments.to_str().unwrap(), ["virsh", "-q", "-c", "qemu:///system"]);
    let xargs = [&["300", "xargs", "--arg-file", file, "-P", AT_ONCE, "-n", "1"], &virsh[..], &[verb]].concat();
    run("timeout", &xargs).unwrap();
}

/// Writes one file of XML for each, and gives the list of files and that of names.
fn prepare(lab: &mut Lab, names: &[String], directory: &Path) -> (std::path::PathBuf, std::path::PathBuf) {
    let mut files = Vec::new();
    for name in names {
        let file = directory.join(name);
        fs::write(&file, lab.xml(name, &[])).unwrap();
        files.push(file.to_str().unwrap().to_owned());
        lab.owns(name);
    }
    let lists = (directory.join("files"), directory.join("names"));
    fs::write(&lists.0, files.join("\n")).unwrap();
    fs::write(&lists.1, names.join("\n")).unwrap();
    lists
}

/// One storm over a daemon that has the host to itself, as on a host: a second one would be more to do for libvirtd and for
/// the processors, which the storm has busy enough.
fn weather(trial: &Trial, groups: &[&str], late: f64, (names, files, list): (&[String], &Path, &Path)) {
    let begin = trial.watcher.now();
    each("create", files);
    trial.wait_for_figures(names);
    each("destroy", list);
    let end = trial.watcher.now();
    trial.watcher.wait_for_samples(&everybody(), groups, end);
    let longest = trial.watcher.longest(&everybody(), groups, (begin, end));
    eprintln!("longest between two samples of residents: {longest:.2} s; {late} s is the end");
    trial.watcher.assert_gaps(&everybody(), groups, (begin, end), late, late);
    let seen = trial.watcher.seen();
    let blamed: Vec<_> = names.iter().chain(&everybody()).filter(|name| seen.was_unresponsive(name)).cloned().collect();
    assert!(blamed.is_empty(), "were said to be unresponsive: {blamed:?}");
}

#[test]
fn a_storm_of_starts_and_ends_costs_the_residents_no_two_samples_in_a_row() {
    let Some(mut lab) = enter() else { return };
    let names: Vec<String> = (1..=STORM).map(|number| format!("storm-{number:02}")).collect();
    let directory = tempfile::tempdir().unwrap();
    let (files, list) = prepare(&mut lab, &names, directory.path());
    let storm = (&names[..], &*files, &*list);

    let trial = Trial::running(CONFIG, ALL);
    weather(&trial, ALL, 2.0 * PERIOD + DEADLINE, storm);
    trial.watcher.finish();
    drop(trial.daemon);

    // Block information comes once a minute there.
    let usual: Vec<&str> = ALL.iter().copied().filter(|group| *group != "block_info").collect();
    let trial = Trial::running("", &usual);
    weather(&trial, &usual, 1.5 * 15.0, storm);
    trial.watcher.finish();
}
