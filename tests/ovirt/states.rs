//! VDSM's words for what a guest does, whether it answers, and how it ended.

use serde_json::json;
use virtstatd::model::{BalloonSample, DomainDescription, Figures, RunId, StateSample, VcpuSample};

use crate::made::{Made, RUN, SECOND};
use crate::rates::{GUEST, after, balloon, disks, running};

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
            made.happened(Happened::Watchdog(WatchdogAction::Reset));
            made.advance(SECOND);
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

#[test]
fn what_comes_without_qemu_is_no_answer_of_it() {
    let made = Made::new(GUEST());
    let state = || running(Figures::default());
    made.sample(Figures { block: disks(vec![]).block, ..state() });
    // Cut short by NOWAIT, period after period, since another call is at the guest.
    let part = || Figures {
        balloon: Some(BalloonSample { current_kib: Some(1), maximum_kib: Some(1), ..BalloonSample::default() }),
        ..state()
    };
    for _ in 0..4 {
        made.advance(15 * SECOND);
        made.sample(part());
    }
    assert_eq!(made.vm()["monitorResponse"], "-1", "{}", made.text());
    // Of a guest that never answered nothing is known but what its health says.
    let made = Made::new(GUEST());
    made.sample(part());
    made.advance(90 * SECOND);
    made.sample(part());
    assert_eq!(made.vm()["monitorResponse"], "0");
}

#[test]
fn the_xml_of_the_run_before_is_not_that_of_this_run() {
    let made = Made::new(DomainDescription { vcpu_quota_us: Some(1000), domain_type: "kvm".into(), ..GUEST() });
    assert_eq!((&made.vm()["vcpuQuota"], &made.vm()["vmType"]), (&json!("1000"), &json!("kvm")));
    made.list(Some(RunId(RUN.0 + 1)), None, None);
    assert_eq!((made.vm().get("vcpuQuota"), made.vm().get("vmType"), made.vm().get("hash")), (None, None, None));
}

#[test]
fn how_a_run_ended_is_told_by_the_state_else_by_the_event() {
    use virtstatd::model::{Happened, StopReason};
    let cases = [
        // As libvirt numbers the reasons of "shut off".
        (5, Some(1), None, Some((0, 7))),
        (5, Some(2), None, Some((0, 6))),
        (5, Some(3), None, Some((1, 1))),
        (5, Some(4), None, Some((0, 4))),
        (5, Some(5), None, Some((0, 5))),
        (5, Some(6), None, Some((1, 3))),
        (5, Some(7), None, Some((1, 1))),
        (5, Some(8), Some(StopReason::Shutdown), Some((1, 1))),
        (6, Some(1), None, Some((1, 1))),
        (5, Some(0), Some(StopReason::Shutdown), Some((0, 7))),
        (5, Some(0), Some(StopReason::Failed), Some((1, 1))),
        (5, Some(0), None, None),
    ];
    for (state, reason, event, expected) in cases {
        let made = Made::new(GUEST());
        if let Some(event) = event {
            made.happened(Happened::Stopped(event));
        }
        made.list(None, Some(StateSample { state: Some(state), reason }), Some(GUEST()));
        let vm = made.vm();
        let found = vm["exitCode"].as_u64().zip(vm["exitReason"].as_u64());
        assert_eq!((&vm["status"], found), (&json!("Down"), expected), "{state} {reason:?} {event:?}");
        assert_eq!(vm.get("exitMessage").is_some(), expected.is_some());
    }
}
