//! What goes with one run of a domain, and is not said of the next: who looks at it, its clock, and what happened in it.

use super::life::BOOTED;
use super::*;
use crate::model::{Happened, IoError, IoErrorAction, PauseReason, StopReason, WatchdogAction};

#[test]
fn who_is_at_the_graphics_and_what_the_clock_was_set_to_go_with_the_run() {
    let bench = Bench::new();
    let client = |bench: &Bench| {
        let history = bench.life(1).history;
        history.and_then(|history| history.graphics_client.as_deref().map(str::to_owned))
    };
    let connects = |run, from: &str| bench.happens(1, Some(run), Happened::Graphics(from.into()));
    bench.listed(1, Some(4));
    assert_eq!((client(&bench), bench.life(1).clock_offset_s), (None, None));
    connects(4, "192.0.2.1");
    bench.happens(1, Some(4), Happened::ClockSet(3600));
    assert_eq!((client(&bench).as_deref(), bench.life(1).clock_offset_s), (Some("192.0.2.1"), Some(3600)));
    connects(4, "");
    assert_eq!(client(&bench).as_deref(), Some(""), "somebody left");
    connects(4, "192.0.2.2");
    bench.happens(1, None, Happened::Stopped(StopReason::Shutdown));
    bench.listed(1, None);
    assert_eq!((client(&bench), bench.life(1).clock_offset_s), (None, Some(3600)), "how it left the clock");
    bench.listed(1, Some(5));
    assert_eq!((client(&bench), bench.life(1).clock_offset_s), (None, None));
    connects(4, "192.0.2.3");
    bench.happens(1, None, Happened::Graphics("192.0.2.3".into()));
    assert_eq!(client(&bench), None, "of a run that is over");
}

#[test]
fn who_connects_before_the_run_is_listed_stays() {
    for first in [BOOTED, Happened::ClockSet(-5)] {
        let bench = Bench::new();
        bench.listed(1, Some(1));
        bench.happens(1, Some(1), Happened::Graphics("192.0.2.1".into()));
        bench.happens(1, Some(2), first.clone());
        bench.happens(1, Some(2), Happened::Graphics("192.0.2.2".into()));
        bench.happens(1, Some(2), Happened::ClockSet(7));
        bench.listed(1, Some(2));
        let life = bench.life(1);
        assert_eq!(life.clock_offset_s, Some(7), "{first:?}");
        assert_eq!(life.history.and_then(|it| it.graphics_client.clone()).as_deref(), Some("192.0.2.2"), "{first:?}");
    }
}

#[test]
fn a_clock_that_was_set_does_not_go_to_another_run_that_bears_the_number() {
    for ends in ["before the restart", "with it", "with it, and the domain too"] {
        let bench = Bench::new();
        bench.listed(1, None);
        bench.happens(1, Some(1), BOOTED);
        bench.listed(1, Some(1));
        bench.happens(1, Some(1), Happened::ClockSet(3600));
        if ends == "before the restart" {
            bench.happens(1, None, Happened::Stopped(StopReason::Shutdown));
            bench.listed(1, None);
        }
        bench.store.forget_run_numbers();
        if ends == "with it, and the domain too" {
            bench.inventory(bench.tick(), vec![]);
        }
        bench.listed(1, None);
        assert_eq!(bench.life(1).clock_offset_s, Some(3600), "{ends}: how it left the clock");
        bench.listed(1, Some(1));
        assert_eq!(bench.life(1).clock_offset_s, None, "{ends}");
    }
    // A run that goes on keeps its number, and so does one that is not listed yet.
    for is_listed in [true, false] {
        let bench = Bench::new();
        bench.listed(1, None);
        bench.happens(1, Some(7), BOOTED);
        bench.happens(1, Some(7), Happened::ClockSet(-60));
        if is_listed {
            bench.listed(1, Some(7));
        }
        bench.store.forget_run_numbers();
        bench.listed(1, Some(7));
        assert_eq!(bench.life(1).clock_offset_s, Some(-60), "listed: {is_listed}");
    }
}

#[test]
fn the_last_time_a_watchdog_fired_is_kept_and_counts_as_nothing_else() {
    let bench = Bench::new();
    bench.listed(1, Some(1));
    bench.happens(1, Some(1), Happened::Watchdog(WatchdogAction::Reset));
    let at = bench.happens(1, Some(1), Happened::Watchdog(WatchdogAction::Pause));
    bench.listed(1, Some(2));
    let life = bench.life(1);
    let history = life.history.expect("of the watchdog");
    let fired = history.last_watchdog.expect("it fired");
    assert_eq!((fired.what, fired.at), (WatchdogAction::Pause, at.stamp.wall));
    assert_eq!((history.pauses().count(), history.stops().count(), life.panics, life.io_errors), (0, 0, 0, 0));
}

impl Bench {
    /// A guest is stopped to migrate, a disk of it fails, and its watchdog fires.
    fn suffers(&self, number: u8, run: Option<u32>) {
        let error = IoError { device: None, path: None, action: IoErrorAction::Pause, reason: None };
        self.happens(number, run, Happened::IoError(Box::new(error)));
        self.happens(number, run, Happened::Paused(PauseReason::Migrated));
        self.happens(number, run, Happened::Watchdog(WatchdogAction::Reset));
    }

    /// Is what happened last shown for the run that is there, if any is?
    fn shows_what_happened(&self, number: u8) -> bool {
        let history = self.life(number).history.expect("something happened");
        let run = self.store.snapshot().get(id(number)).expect("it is known").run;
        let (pause, error) = (history.last_pause.expect("a pause"), history.last_io_error.as_ref().expect("an error"));
        let watchdog = history.last_watchdog.expect("it fired");
        let of_run = [pause.of_run(run).is_some(), error.of_run(run).is_some(), watchdog.of_run(run).is_some()];
        assert!(of_run.iter().all(|it| *it == of_run[0]), "{of_run:?}");
        of_run[0]
    }
}

#[test]
fn what_happened_is_of_the_run_that_the_event_names_or_of_the_present_one() {
    let bench = Bench::new();
    bench.listed(1, Some(1));
    bench.suffers(1, None);
    assert!(bench.shows_what_happened(1));
    bench.listed(1, Some(2));
    assert!(!bench.shows_what_happened(1), "of the run before, though nobody saw this one start");
    bench.suffers(1, Some(1));
    assert!(!bench.shows_what_happened(1), "told late");
    bench.suffers(1, Some(3));
    assert!(!bench.shows_what_happened(1), "not listed yet");
    // Asked when the second was over and the third had not begun.
    bench.listed(1, None);
    assert!(!bench.shows_what_happened(1));
    bench.listed(1, Some(3));
    assert!(bench.shows_what_happened(1));
    // Of a domain that nobody knows yet.
    bench.suffers(2, Some(4));
    bench.inventory(bench.tick(), vec![described(1, Some(3), &[], &[]), described(2, Some(4), &[], &[])]);
    assert!(bench.shows_what_happened(2));
}

#[test]
fn a_number_that_comes_again_does_not_make_an_old_event_one_of_the_new_run() {
    for ends in ["before libvirtd is restarted", "with it", "with it, and the domain too", "unseen"] {
        let bench = Bench::new();
        bench.listed(1, Some(1));
        bench.sampled(1, 1);
        bench.looked(1, 1, Duration::from_secs(500));
        bench.suffers(1, Some(1));
        if ends == "before libvirtd is restarted" {
            bench.listed(1, None);
        }
        bench.store.forget_run_numbers();
        match ends {
            "with it" => bench.listed(1, None),
            "with it, and the domain too" => {
                bench.bulk(bench.tick(), vec![]);
            }
            _ => {}
        }
        bench.listed(1, Some(1));
        bench.looked(1, 1, Duration::from_millis(500));
        assert!(!bench.shows_what_happened(1), "{ends}");
    }
    // A run that goes on keeps its number.
    let bench = Bench::new();
    bench.listed(1, Some(1));
    bench.suffers(1, Some(1));
    bench.store.forget_run_numbers();
    bench.listed(1, Some(1));
    assert!(bench.shows_what_happened(1));
}
