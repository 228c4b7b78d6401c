//! Rates and percentages from two samples, with numbers worked by hand, and what is left out where a part of them is missing.

use serde_json::{Value, json};
use virtstatd::model::{
    BalloonSample, Block, BlockSample, CpuSample, DomainDescription, Figures, Interface, InterfaceSample, Io,
    NicDescription, StateSample, Traffic, VcpuSample,
};

use crate::made::{Made, RUN, SECOND};

const GUEST: fn() -> DomainDescription = || DomainDescription {
    balloons: 1,
    memory_kib: Some(1_048_576),
    memory_maximum_kib: Some(2_097_152),
    ..DomainDescription::default()
};

fn running(figures: Figures) -> Figures {
    Figures { state: Some(StateSample { state: Some(1), reason: Some(1) }), ..figures }
}

/// The record after two samples, so many seconds apart.
fn after(seconds: u32, first: Figures, second: Figures) -> Value {
    let made = Made::new(GUEST());
    made.sample(running(first));
    made.advance(seconds * SECOND);
    made.sample(running(second));
    made.vm()
}

fn cpu(time: Option<u64>, user: Option<u64>, system: Option<u64>) -> Figures {
    Figures { cpu: Some(CpuSample { time_ns: time, user_ns: user, system_ns: system }), ..Figures::default() }
}

fn only(record: &Value, names: &[&str]) -> Value {
    names.iter().filter_map(|name| Some(((*name).to_owned(), record.get(*name)?.clone()))).collect()
}

const CPU: [&str; 4] = ["cpuUser", "cpuSys", "cpuUsage", "cpuActual"];
const S: u64 = 1_000_000_000;

#[test]
fn cpu_percentages() {
    let some = |time, user, system| cpu(Some(time), Some(user), Some(system));
    for (what, seconds, first, second, expected) in [
        // In 10 s: 15 s of CPU time, of which 4 s are user and 8.5 s are system time.
        (
            "all is there",
            10,
            some(S, S, S),
            some(16 * S, 5 * S, 9 * S + S / 2),
            json!({"cpuUser": "25.00", "cpuSys": "125.00", "cpuUsage": "14500000000", "cpuActual": true}),
        ),
        (
            "both are more than the whole, by the rounding of ticks",
            10,
            some(0, 0, 0),
            some(S, S, S / 100),
            json!({"cpuUser": "0.00", "cpuSys": "10.10", "cpuUsage": "1010000000", "cpuActual": true}),
        ),
        (
            "an idle guest",
            10,
            some(S, S, S),
            some(S, S, S),
            json!({"cpuUser": "0.00", "cpuSys": "0.00", "cpuUsage": "2000000000", "cpuActual": true}),
        ),
        (
            "no cpu.time",
            10,
            cpu(None, Some(S), Some(S)),
            cpu(None, Some(2 * S), Some(2 * S)),
            json!({"cpuSys": "20.00", "cpuUsage": "4000000000", "cpuActual": false}),
        ),
        (
            "no cpu.system in the first",
            10,
            cpu(Some(S), Some(S), None),
            some(2 * S, S, S),
            json!({"cpuUsage": "2000000000", "cpuActual": false}),
        ),
        (
            "no cpu.system in the second",
            10,
            some(S, S, S),
            cpu(Some(2 * S), Some(S), None),
            json!({"cpuActual": false}),
        ),
        // A sample of CPU in which a counter went back is not taken: the one before it stands alone.
        (
            "a counter went back",
            10,
            some(9 * S, 4 * S, 4 * S),
            some(10 * S, 5 * S, S),
            json!({"cpuUsage": "8000000000", "cpuActual": false}),
        ),
        (
            "not in the second",
            10,
            some(S, S, S),
            Figures::default(),
            json!({"cpuUsage": "2000000000", "cpuActual": false}),
        ),
        (
            "not in the first",
            10,
            Figures::default(),
            some(S, S, S),
            json!({"cpuUsage": "2000000000", "cpuActual": false}),
        ),
        // Of the same moment the second is not taken.
        (
            "no time between",
            0,
            some(S, S, S),
            some(3 * S, 2 * S, 2 * S),
            json!({"cpuUsage": "2000000000", "cpuActual": false}),
        ),
        ("in neither", 10, Figures::default(), Figures::default(), json!({"cpuActual": false})),
    ] {
        assert_eq!(only(&after(seconds, first, second), &CPU), expected, "{what}");
    }
}

#[test]
fn what_is_older_than_it_may_be_is_not_told_as_if_it_were_new() {
    let made = Made::new(GUEST());
    for step in [1, 2] {
        made.sample(running(cpu(Some(step * S), Some(step * S), Some(0))));
        made.advance(15 * SECOND);
    }
    // The newest sample is 15 s old by now, and may be 37.5 s old.
    made.advance(22 * SECOND);
    assert_eq!(made.vm()["cpuSys"], "6.67");
    made.advance(SECOND);
    assert_eq!(only(&made.vm(), &CPU), json!({"cpuActual": false}));
}

fn io(requests: u64, bytes: u64, time_ns: u64) -> Io {
    Io { requests: Some(requests), bytes: Some(bytes), time_ns: Some(time_ns) }
}

fn disk(index: u32, name: &str, read: Io, write: Io) -> Block {
    Block { index, name: Some(name.into()), read, write, ..Block::default() }
}

fn disks(disks: Vec<Block>) -> Figures {
    Figures { block: Some(BlockSample { count: Some(disks.len() as u64), disks }), ..Figures::default() }
}

#[test]
fn disks_are_found_by_their_names() {
    let none = Io::default();
    // vda is gone, and vdb has its number; vdc is new.
    let first =
        disks(vec![disk(0, "vda", io(500, 500, 500), none), disk(1, "vdb", io(10, 1000, 7_000), io(4, 40, 400))]);
    let second = disks(vec![disk(0, "vdb", io(16, 1750, 17_000), io(4, 40, 400)), disk(1, "vdc", io(1, 2, 3), none)]);
    let record = after(10, first, second);
    let expected = json!({
        "vdb": {
            // 750 bytes and 6 requests in 10 s; these took 10,000 ns. Nothing was written.
            "readRate": "75.0", "writeRate": "0.0", "readOps": "16", "writeOps": "4", "readBytes": "1750", "writtenBytes": "40",
            "readLatency": "1666.6666666666667", "writeLatency": "0",
        },
        "vdc": {"readOps": "1", "readBytes": "2"},
    });
    assert_eq!(record["disks"], expected);
}

#[test]
fn a_disk_that_went_back_or_lacks_something_tells_the_rest() {
    let lacking = Io { requests: None, ..io(0, 2000, 9_000) };
    let first = disks(vec![disk(0, "vda", io(10, 1000, 7_000), io(4, 400, 4_000))]);
    let second = disks(vec![disk(0, "vda", lacking, io(6, 100, 8_000))]);
    let expected = json!({"vda": {
        "readRate": "100.0", "readBytes": "2000",
        "writeOps": "6", "writtenBytes": "100", "writeLatency": "2000.0",
    }});
    assert_eq!(after(10, first, second)["disks"], expected);
    // NOWAIT left the counters out: the disk is there, and that is all that is known.
    let cut = Figures {
        block: Some(BlockSample {
            count: Some(1),
            disks: vec![Block { name: Some("vda".into()), ..Block::default() }],
        }),
        ..Figures::default()
    };
    let record = after(10, disks(vec![disk(0, "vda", io(1, 1, 1), io(1, 1, 1))]), cut);
    assert_eq!(record["disks"], json!({"vda": {}}));
    assert_eq!(after(10, Figures::default(), Figures::default()).get("disks"), None);
}

fn nic(index: u32, name: Option<&str>, bytes: u64) -> Interface {
    let traffic = |bytes| Traffic { bytes: Some(bytes), packets: Some(1), errors: Some(2), drops: Some(3) };
    Interface { index, name: name.map(Into::into), receive: traffic(bytes), transmit: traffic(2 * bytes) }
}

#[test]
fn nics_are_found_by_their_names_and_those_without_are_left_out() {
    let described = |target: &str, mac: &str, model: &str| NicDescription {
        target: target.into(),
        mac: mac.into(),
        model: model.into(),
        ..NicDescription::default()
    };
    let made = Made::new(DomainDescription {
        nics: vec![
            described("", "52:54:00:00:00:09", ""),
            described("vnet5", "52:54:00:00:00:05", "e1000e"),
            described("vnet4", "52:54:00:00:00:04", "ne2k_pci"),
        ],
        ..DomainDescription::default()
    });
    // The count is above the NICs that have a name; the numbers are not those of the XML; one name comes twice.
    let interfaces = vec![
        nic(0, Some("vnet4"), 10),
        nic(1, None, 20),
        nic(3, Some("vnet5"), 30),
        nic(4, Some("vnet5"), 40),
        nic(5, Some("vnet6"), 50),
    ];
    made.sample(running(Figures {
        interface: Some(InterfaceSample { count: Some(6), interfaces }),
        ..Figures::default()
    }));
    made.advance(SECOND / 4);
    let figures = |name: &str, rx: &str, tx: &str| {
        json!({
            "name": name, "state": "unknown", "rx": rx, "tx": tx, "rxErrors": "2", "txErrors": "2", "rxDropped": "3",
            "txDropped": "3", "sampleTime": 100_000.0,
        })
    };
    let with = |mut record: Value, mac: &str, speed: &str| {
        record["macAddr"] = mac.into();
        record["speed"] = speed.into();
        record
    };
    let expected = json!({
        "vnet4": with(figures("vnet4", "10", "20"), "52:54:00:00:00:04", "100"),
        "vnet5": with(figures("vnet5", "30", "60"), "52:54:00:00:00:05", "1000"),
        "vnet6": figures("vnet6", "50", "100"),
    });
    assert_eq!(made.vm()["network"], expected);
    let text = made.text();
    assert_eq!(text.matches("\"vnet5\":").count(), 1, "a key comes once: {text}");
}

fn balloon(balloon: BalloonSample) -> Figures {
    Figures {
        balloon: Some(BalloonSample { current_kib: Some(1_048_576), rss_kib: Some(1), ..balloon }),
        ..Figures::default()
    }
}

#[test]
fn memory() {
    let stats = |unused, caches, swap: u64, major, minor| {
        balloon(BalloonSample {
            available_kib: Some(2_000_000),
            unused_kib: unused,
            disk_caches_kib: caches,
            swap_in_kib: Some(swap),
            swap_out_kib: Some(2 * swap),
            major_faults: major,
            minor_faults: minor,
            ..BalloonSample::default()
        })
    };
    // 25 and 50 KiB in 10 s are 2.5 and 5 a second; a half goes to the even number.
    let record = after(
        10,
        stats(Some(1), None, 0, Some(0), Some(0)),
        stats(Some(400_000), Some(124_288), 25, Some(35), Some(45)),
    );
    let expected = json!({
        "mem_total": "2000000", "mem_unused": "400000", "mem_free": "524288", "swap_in": 2, "swap_out": 5, "majflt": 4, "minflt": 4,
        "pageflt": 8,
    });
    assert_eq!(record["memoryStats"], expected);
    // 524288 KiB of 2 GiB are free.
    assert_eq!(record["memUsage"], "75");

    let record = after(10, stats(Some(1), None, 9, Some(9), None), stats(None, Some(5), 3, Some(19), Some(45)));
    let expected = json!({"mem_total": "2000000", "majflt": 1});
    assert_eq!((&record["memoryStats"], record.get("memUsage")), (&expected, None), "swap went back, minflt is new");

    let record = after(10, stats(Some(1), None, 9, Some(9), None), balloon(BalloonSample::default()));
    assert_eq!((record.get("memoryStats"), record.get("memUsage")), (None, None), "no balloon.available");
    let expected = json!({
        "balloon_max": "2097152", "balloon_min": "0", "balloon_cur": "1048576", "balloon_target": "1048576", "ballooning_enabled": true,
    });
    assert_eq!(record["balloonInfo"], expected);

    let made = Made::new(DomainDescription { balloons: 2, ..GUEST() });
    made.sample(running(balloon(BalloonSample::default())));
    assert_eq!(made.vm().get("balloonInfo"), None, "which of the two?");
}

#[test]
fn a_guest_that_says_it_has_more_free_than_it_can_have_says_nothing() {
    let sample =
        || balloon(BalloonSample { available_kib: Some(1), unused_kib: Some(4_000_000), ..BalloonSample::default() });
    assert_eq!(after(10, sample(), sample()).get("memUsage"), None);
}

#[test]
fn each_state_has_vdsms_word() {
    for (state, reason, expected) in [
        (1, 1, "Up"),
        (2, 0, "Up"),
        (1, 10, "Migration Destination"),
        (3, 1, "Paused"),
        (3, 2, "Migration Destination"),
        (3, 3, "Saving State"),
        (3, 11, "WaitForLaunch"),
        (3, 12, "Paused"),
        (4, 1, "Powering down"),
        (5, 1, "Down"),
        (6, 1, "Down"),
        (7, 0, "Paused"),
    ] {
        let made = Made::new(GUEST());
        made.sample(Figures {
            state: Some(StateSample { state: Some(state), reason: Some(reason) }),
            ..Figures::default()
        });
        assert_eq!(made.vm()["status"], expected, "{state} {reason}");
    }
    let vcpu = Figures { vcpu: Some(VcpuSample { current: Some(2), ..VcpuSample::default() }), ..Figures::default() };
    assert_eq!(after(1, Figures::default(), vcpu)["vcpuCount"], "2");
}

#[test]
fn a_wall_clock_that_is_set_changes_no_age_and_no_cause() {
    use virtstatd::clock::Clock as _;
    use virtstatd::model::{Happened, StartReason, WatchdogAction};
    for by_process in [true, false] {
        let made = Made::nothing();
        made.happened(Happened::Started(StartReason::Booted));
        made.list(Some(RUN), None, Some(GUEST()));
        if by_process {
            made.started(100_000);
        }
        made.advance(100 * SECOND);
        let right = made.clock.wall();
        for (elapsed, wall) in [("101", right + 7_200 * SECOND), ("102", right - 7_200 * SECOND), ("103", right)] {
            made.clock.set_wall(wall);
            made.advance(SECOND);
            made.happened(Happened::Watchdog(WatchdogAction::Reset));
            made.sample(running(Figures::default()));
            let vm = made.vm();
            assert_eq!((&vm["elapsedTime"], &vm["watchdogEvent"]["action"]), (&json!(elapsed), &json!("reset")));
        }
    }
}

#[test]
fn whoever_was_stopped_to_migrate_is_the_source() {
    use virtstatd::model::{Happened, PauseReason};
    let made = Made::new(GUEST());
    made.happened(Happened::Paused(PauseReason::Migrated));
    made.sample(Figures { state: Some(StateSample { state: Some(3), reason: Some(2) }), ..Figures::default() });
    assert_eq!(made.vm()["status"], "Migration Source");
    // Another run under the same number, of which nobody saw the start.
    made.list(None, None, None);
    made.store.forget_run_numbers();
    made.advance(SECOND);
    made.sample(Figures { state: Some(StateSample { state: Some(3), reason: Some(2) }), ..Figures::default() });
    assert_eq!(made.vm()["status"], "Migration Destination");
}

#[test]
fn a_domain_is_unresponsive_by_a_call_or_by_the_age_of_what_qemu_is_asked_for_and_never_for_being_paused() {
    let paused = || Figures { state: Some(StateSample { state: Some(3), reason: Some(1) }), ..Figures::default() };
    let asked =
        || Figures { block: disks(vec![]).block, balloon: balloon(BalloonSample::default()).balloon, ..paused() };
    let made = Made::new(GUEST());
    made.sample(asked());
    for _ in 0..10 {
        made.advance(15 * SECOND);
        made.sample(asked());
    }
    assert_eq!((&made.vm()["status"], &made.vm()["monitorResponse"]), (&json!("Paused"), &json!("0")));
    made.advance(59 * SECOND);
    made.sample(paused());
    assert_eq!(made.vm()["monitorResponse"], "0", "59 s are not a minute");
    made.advance(SECOND);
    assert_eq!(made.vm()["monitorResponse"], "-1");
    made.sample(Figures { state: Some(StateSample { state: Some(3), reason: Some(2) }), ..Figures::default() });
    made.advance(SECOND);
    assert_eq!(made.vm()["monitorResponse"], "0", "not while it migrates");
}
