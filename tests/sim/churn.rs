//! Guests that come and go, fifty a second.

use std::collections::BTreeMap;
use std::time::Duration;

use virtstat_sim::command::{Churn, Command, Nothing};
use virtstat_sim::values::Mix;
use virtstat_sim::{Settings, Simulator};

use crate::TURN;
use crate::support::daemon::{Daemon, config_file};
use crate::support::exposition::parse;
use crate::support::wait_for;

const GUESTS: u32 = 2_000;

/// RssAnon in KiB, threads, descriptors, series.
type Size = (i64, usize, usize, usize);

/// How long it goes on; five minutes take `VIRTSTATD_TEST_CHURN=300`.
fn length() -> u64 {
    std::env::var("VIRTSTATD_TEST_CHURN").map_or(60, |text| text.parse().expect("a number of seconds"))
}

#[test]
fn fifty_starts_and_stops_a_second_leave_nothing_behind() {
    let _turn = TURN.lock();
    let directory = tempfile::tempdir().unwrap();
    let settings =
        Settings { domains: GUESTS, shut_off_per_mille: 200, ..Settings::new(directory.path().join("socket")) };
    let simulator = Simulator::start(settings).expect("the simulator starts");
    let (_config, path) = config_file("[sampling]\nperiod = '5s'\n");
    let daemon = Daemon::start(&["--config", &path, "--uri", &simulator.uri()]);
    daemon.wait_ready();
    let mix: Mix = "start=20,stop=20,define=2,undefine=2,migrate-in=1,migrate-out=1,attach-nic=2,detach-nic=2,attach-disk=1,detach-disk=1,pause=1,resume=1"
        .parse()
        .expect("a mix");
    let churn = Churn { rate: 50.0, mix, lasting: None, seed: Some(7) };
    simulator.control(Command::Churn(churn)).expect("it begins");
    // Of so many guests nothing is rendered before somebody asks.
    wait_for("the metrics", || (daemon.get("/metrics").status == 200).then_some(()));
    let mut sizes: Vec<Size> = Vec::new();
    for second in 1..=length() / 2 {
        std::thread::sleep(Duration::from_secs(2));
        // A busy machine may be told to come again. Parsing fails on a series that is there twice.
        let scrape = wait_for("the metrics", || Some(daemon.get("/metrics")).filter(|answer| answer.status == 200));
        let series = parse(scrape.text()).len();
        if second % 5 == 0 {
            let (threads, descriptors) = daemon.threads_and_descriptors();
            sizes.push((daemon.rss_anon(), threads, descriptors, series));
        }
    }
    for (rss, threads, descriptors, series) in &sizes {
        println!("RssAnon {rss} KiB, {threads} threads, {descriptors} descriptors, {series} series");
    }
    // Warm from the first fifth on, be that a minute or a few seconds. Guests come and go, so there are a few more at times.
    let warm = &sizes[sizes.len() / 5..];
    let (early, late) = warm.split_at(warm.len().div_ceil(2));
    let memory = |part: &[Size]| part.iter().map(|size| size.0).max().unwrap();
    let descriptors = |part: &[Size]| part.iter().map(|size| size.2).max().unwrap();
    let (before, after) = (memory(early), memory(late));
    assert!(after <= before + before / 10, "RssAnon grew from {before} to {after} KiB");
    assert!(descriptors(late) <= descriptors(early) + 4, "descriptors: {sizes:?}");

    simulator.control(Command::StopChurn(Nothing {})).expect("it ends");
    let there = || -> BTreeMap<String, bool> {
        simulator.with_host(|host| host.guests().map(|guest| (guest.name().to_owned(), guest.is_running())).collect())
    };
    let known = || -> BTreeMap<String, bool> {
        let json = daemon.get("/api/v1/domains").json();
        let domain = |domain: &serde_json::Value| {
            (domain["name"].as_str().unwrap().to_owned(), domain["running"].as_bool().unwrap())
        };
        json["domains"].as_array().unwrap().iter().map(domain).collect()
    };
    // Migrations end a few seconds later.
    let same = wait_for("the inventory to be right", || {
        let (there, known) = (there(), known());
        (there == known).then_some(there.len())
    });
    println!("{same} guests, and all of them right");
    assert_eq!(daemon.get("/-/healthy").status, 200);
}
