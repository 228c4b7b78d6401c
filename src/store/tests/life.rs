//! Lives of domains: each run counts once, whoever tells of it first; and what events told is kept.

use super::*;
use crate::model::{
    DomainEvent, Happened, IoError, IoErrorAction, Moment, PauseReason, Process, ProcessState, StartReason, StopReason,
};

pub(super) const BOOTED: Happened = Happened::Started(StartReason::Booted);

impl Bench {
    /// Something happens to a domain, a second after what was before.
    pub(super) fn happens(&self, number: u8, run: Option<u32>, what: Happened) -> Moment {
        self.tick();
        let at = self.store.moment();
        self.store.apply_event(at, &DomainEvent { id: id(number), run: run.map(RunId), what });
        at
    }

    /// The life of a domain as the next answer shows it.
    pub(super) fn life(&self, number: u8) -> Life {
        self.store.set_bulk_problem(Some("publish"));
        self.store.set_bulk_problem(None);
        self.store.snapshot().get(id(number)).expect("it is known").life.clone()
    }

    pub(super) fn starts(&self, number: u8) -> u64 {
        self.life(number).starts
    }

    pub(super) fn listed(&self, number: u8, run: Option<u32>) {
        self.inventory(self.tick(), vec![described(number, run, &[], &[])]);
    }

    pub(super) fn sampled(&self, number: u8, run: u32) {
        self.bulk(self.tick(), vec![record(number, run, 10)]);
    }

    /// A look at the process of a run, which started so long ago.
    pub(super) fn looked(&self, number: u8, run: u32, ago: Duration) {
        let start_ticks = process_ticks(self.store.moment().since_boot - ago);
        let process = Process { pid: 41, start_ticks, state: ProcessState::Runs };
        self.store.apply_processes(&[(id(number), RunId(run), process)]);
    }

    /// How many startups were noted, and how long they took together.
    fn startups(&self) -> (f64, f64) {
        let text = self.store.metrics.render();
        let of = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).expect("it is there");
            line.split(' ').nth(1).and_then(|value| value.parse().ok()).expect("a number")
        };
        (of("libvirt_domain_startup_seconds_count"), of("libvirt_domain_startup_seconds_sum"))
    }

    fn counted(&self, series: &str) -> bool {
        self.store.metrics.render().lines().any(|line| line == series)
    }
}

fn process_ticks(since_boot: Duration) -> u64 {
    u64::try_from(since_boot.as_millis()).expect("small") * rustix::param::clock_ticks_per_second() / 1000
}

#[test]
fn who_ran_before_us_has_not_started_and_each_run_after_counts_once() {
    for told in ["event", "event and list", "list and event", "sample and event", "all"] {
        let bench = Bench::new();
        bench.listed(1, Some(1));
        bench.sampled(1, 1);
        assert_eq!(bench.life(1), Life { ran: true, ..Life::default() }, "it was there");
        bench.happens(1, None, Happened::Stopped(StopReason::Shutdown));
        bench.listed(1, None);
        match told {
            "event" => {
                bench.happens(1, Some(2), BOOTED);
                assert_eq!(bench.starts(1), 1, "before the list knows");
            }
            "event and list" => {
                bench.happens(1, Some(2), BOOTED);
                bench.listed(1, Some(2));
            }
            "list and event" => {
                bench.listed(1, Some(2));
                bench.happens(1, Some(2), BOOTED);
            }
            "sample and event" => {
                bench.sampled(1, 2);
                bench.happens(1, Some(2), BOOTED);
                bench.listed(1, Some(2));
            }
            _ => {
                bench.happens(1, Some(2), BOOTED);
                bench.sampled(1, 2);
                bench.looked(1, 2, Duration::from_secs(3));
                bench.listed(1, Some(2));
                bench.happens(1, Some(2), Happened::Started(StartReason::Wakeup));
            }
        }
        assert_eq!(bench.starts(1), 1, "{told}");
        bench.sampled(1, 3);
        assert_eq!(bench.starts(1), 2, "{told}, and a run that only a sample tells");
    }
}

#[test]
fn runs_that_end_at_once_are_counted_though_the_list_overtakes_their_events() {
    let bench = Bench::new();
    bench.listed(1, Some(1));
    bench.listed(1, Some(4));
    for run in [2, 3, 4] {
        bench.happens(1, None, Happened::Stopped(StopReason::Failed));
        bench.happens(1, Some(run), BOOTED);
    }
    assert_eq!(bench.starts(1), 3);
    assert!(bench.life(1).start.is_some(), "of the last");
}

#[test]
fn a_list_of_before_does_not_make_a_start_count_twice() {
    let bench = Bench::new();
    bench.listed(1, Some(1));
    bench.happens(1, Some(2), BOOTED);
    // Asked when the first run was over and the second had not begun.
    bench.listed(1, None);
    bench.listed(1, Some(2));
    assert_eq!(bench.starts(1), 1);
}

#[test]
fn another_process_under_the_same_number_is_a_start() {
    let bench = Bench::new();
    bench.listed(1, Some(1));
    bench.looked(1, 1, Duration::from_secs(500));
    let before = bench.life(1).start.expect("of the process");
    bench.tick();
    bench.looked(1, 1, Duration::from_secs(1));
    let life = bench.life(1);
    assert_eq!(life.starts, 1);
    assert!(life.start.is_some_and(|start| start.at > before.at));
}

#[test]
fn numbers_that_come_again_with_another_libvirtd_are_other_runs() {
    let bench = Bench::new();
    bench.listed(1, None);
    for run in [1, 2] {
        bench.happens(1, Some(run), BOOTED);
        bench.happens(1, None, Happened::Stopped(StopReason::Destroyed));
    }
    bench.listed(1, None);
    assert_eq!(bench.starts(1), 2);
    bench.store.forget_run_numbers();
    bench.listed(1, None);
    bench.happens(1, Some(1), BOOTED);
    bench.listed(1, Some(1));
    assert_eq!(bench.starts(1), 3);
    // What happened while nobody listened is not made up, but for the run itself.
    bench.store.link_lost("no socket");
    bench.listed(1, Some(7));
    let life = bench.life(1);
    assert_eq!((life.starts, life.start), (4, None));
    assert_eq!(life.history.expect("stops").stops().collect::<Vec<_>>(), [(StopReason::Destroyed, 2)]);
}

#[test]
fn a_start_that_was_told_before_another_libvirtd_lists_it_counts_once() {
    let bench = Bench::new();
    bench.listed(1, None);
    bench.happens(1, Some(7), BOOTED);
    // It is restarted before anybody lists the run, which keeps its number.
    bench.store.forget_run_numbers();
    bench.listed(1, Some(7));
    assert_eq!(bench.starts(1), 1);
}

#[test]
fn a_newcomer_counts_once_and_an_event_may_come_before_anybody_knows_it() {
    let bench = Bench::new();
    bench.listed(1, Some(1));
    // Two transient ones: of one the event comes first, of the other the sample.
    let at = bench.happens(2, Some(5), Happened::Started(StartReason::Migrated));
    bench.happens(2, Some(5), Happened::Paused(PauseReason::Paused));
    bench.bulk(bench.tick(), vec![record(1, 1, 20), record(2, 5, 1), record(3, 6, 1)]);
    bench.happens(3, Some(6), BOOTED);
    assert_eq!((bench.starts(1), bench.starts(2), bench.starts(3)), (0, 1, 1));
    let life = bench.life(2);
    assert_eq!(life.start, Some(Start { at: at.stamp.wall, since_boot: at.since_boot, source: StartSource::Event }));
    assert_eq!(life.history.expect("a pause").pauses().collect::<Vec<_>>(), [(PauseReason::Paused, 1)]);
    // A domain that is there in the first list was no newcomer, whatever happened to it before that.
    let bench = Bench::new();
    bench.happens(1, Some(1), Happened::Paused(PauseReason::Watchdog));
    bench.listed(1, Some(1));
    assert_eq!(bench.starts(1), 0);
    assert!(bench.life(1).history.is_some());
}

#[test]
fn a_life_goes_on_when_a_sample_says_first_that_the_run_is_over() {
    let bench = Bench::new();
    bench.listed(1, None);
    bench.happens(1, Some(1), BOOTED);
    bench.sampled(1, 1);
    assert!(bench.life(1).start.is_some());
    bench.bulk(bench.tick(), vec![]);
    assert!(bench.names().is_empty());
    bench.happens(1, None, Happened::Stopped(StopReason::Crashed));
    bench.listed(1, None);
    let life = bench.life(1);
    assert_eq!((life.starts, life.start), (1, None));
    assert_eq!(life.history.expect("a stop").last_stop.map(|(reason, _)| reason), Some(StopReason::Crashed));
    bench.listed(1, Some(2));
    assert_eq!(bench.starts(1), 2);
}

#[test]
fn what_nobody_ever_lists_is_forgotten() {
    let bench = Bench::new();
    bench.listed(1, None);
    bench.happens(2, None, Happened::Panicked);
    bench.clock.advance(Duration::from_secs(700));
    bench.listed(1, None);
    bench.inventory(bench.tick(), vec![described(1, None, &[], &[]), described(2, None, &[], &[])]);
    assert_eq!(bench.life(2), Life::default());
}

#[test]
fn reasons_panics_and_errors_are_counted_for_the_domain_and_the_host() {
    let bench = Bench::new();
    assert!(bench.counted(r#"libvirt_pauses_total{reason="postcopy_failed"} 0"#), "from the start");
    bench.listed(1, Some(1));
    let error = |reason: Option<&str>| {
        Happened::IoError(Box::new(IoError {
            device: Some("virtio-disk0".into()),
            path: None,
            action: IoErrorAction::Pause,
            reason: reason.map(Into::into),
        }))
    };
    bench.happens(1, Some(1), error(None));
    let failed = bench.happens(1, Some(1), error(Some("enospc")));
    bench.happens(1, Some(1), Happened::Paused(PauseReason::IoError));
    bench.happens(1, Some(1), Happened::Resumed);
    let paused = bench.happens(1, Some(1), Happened::Paused(PauseReason::from_number(77)));
    bench.happens(1, Some(1), Happened::Panicked);
    let stopped = bench.happens(1, None, Happened::Stopped(StopReason::Crashed));
    let life = bench.life(1);
    assert_eq!((life.starts, life.panics, life.io_errors), (0, 1, 2));
    let history = life.history.expect("much happened");
    let pauses: Vec<_> = history.pauses().collect();
    assert_eq!(pauses, [(PauseReason::IoError, 1), (PauseReason::Unknown, 1)]);
    let pause = history.last_pause.expect("a pause");
    assert_eq!((pause.what, pause.at), (PauseReason::Unknown, paused.stamp.wall));
    assert_eq!(history.last_stop, Some((StopReason::Crashed, stopped.stamp.wall)));
    let error = history.last_io_error.as_ref().expect("an error");
    assert_eq!((error.what.reason.as_deref(), error.at), (Some("enospc"), failed.stamp.wall));
    assert!(bench.counted(r#"libvirt_pauses_total{reason="ioerror"} 1"#));
    assert!(bench.counted(r#"libvirt_pauses_total{reason="unknown"} 1"#));
    assert!(bench.counted(r#"libvirt_stops_total{reason="crashed"} 1"#));
}

#[test]
fn a_run_began_when_its_process_did_and_until_that_is_seen_when_the_event_came() {
    let bench = Bench::new();
    bench.listed(1, None);
    let at = bench.happens(1, Some(1), BOOTED);
    bench.listed(1, Some(1));
    assert_eq!(
        bench.life(1).start,
        Some(Start { at: at.stamp.wall, since_boot: at.since_boot, source: StartSource::Event })
    );
    bench.looked(1, 1, Duration::from_millis(1_500));
    let now = bench.store.moment();
    let ago = Duration::from_millis(1_500);
    let (began, since_boot) = (now.stamp.wall - ago, now.since_boot - ago);
    let start = Some(Start { at: began, since_boot, source: StartSource::Process });
    assert_eq!(bench.life(1).start, start);
    bench.happens(1, Some(1), Happened::Started(StartReason::FromSnapshot));
    assert_eq!(bench.life(1).start, start, "the process knows better");
    bench.listed(1, None);
    assert_eq!(bench.life(1).start, None, "it does not run");
}

#[test]
fn a_startup_is_noted_once_whichever_end_of_it_is_known_first() {
    let bench = Bench::new();
    bench.listed(1, None);
    // The event is a second old when the process is looked at.
    bench.happens(1, Some(1), BOOTED);
    bench.listed(1, Some(1));
    assert_eq!(bench.startups(), (0.0, 0.0));
    bench.looked(1, 1, Duration::from_millis(1_400));
    bench.looked(1, 1, Duration::from_millis(1_400));
    let (count, sum) = bench.startups();
    assert!(count == 1.0 && (sum - 0.4).abs() < 1e-6, "{count} {sum}");
    bench.happens(1, Some(1), Happened::Started(StartReason::Wakeup));
    // The process is known by a sample before the event comes, which is then a second later.
    bench.sampled(1, 2);
    bench.looked(1, 2, Duration::from_millis(200));
    bench.happens(1, Some(2), BOOTED);
    let (count, sum) = bench.startups();
    assert!(count == 2.0 && (sum - 1.6).abs() < 1e-6, "{count} {sum}");
    // What cannot be is not noted: an event from before the process, and one much later.
    bench.happens(1, Some(3), BOOTED);
    bench.sampled(1, 3);
    bench.looked(1, 3, Duration::ZERO);
    bench.sampled(1, 4);
    bench.looked(1, 4, Duration::from_secs(700));
    bench.happens(1, Some(4), BOOTED);
    assert_eq!(bench.startups().0, 2.0);
}

#[test]
fn an_event_is_shown_with_the_next_answer() {
    let bench = Bench::new();
    bench.listed(1, Some(1));
    let sequence = bench.store.snapshot().sequence;
    bench.happens(1, Some(1), Happened::Panicked);
    assert_eq!(bench.store.snapshot().sequence, sequence, "a storm of them renders nothing");
    bench.sampled(1, 1);
    assert_eq!(bench.store.snapshot().domains[0].life.panics, 1);
}

#[test]
fn who_was_seen_running_ran_whoever_told_of_it_and_though_nobody_told_of_the_end() {
    for told in ["first list", "list", "sample", "event", "end"] {
        let bench = Bench::new();
        if told == "first list" {
            bench.listed(1, Some(1));
        } else {
            bench.listed(1, None);
            bench.happens(1, None, Happened::Other);
            assert!(!bench.life(1).ran, "it was off all the time");
        }
        match told {
            "list" => bench.listed(1, Some(1)),
            "sample" => bench.sampled(1, 1),
            "event" => _ = bench.happens(1, Some(1), BOOTED),
            "end" => _ = bench.happens(1, None, Happened::Stopped(StopReason::Failed)),
            _ => {}
        }
        assert!(bench.life(1).ran, "{told}");
        bench.store.link_lost("no socket");
        bench.listed(1, None);
        assert!(bench.life(1).ran, "{told}: it stopped unseen");
    }
    // A sample that lacks it takes it away, and the list brings it back.
    let bench = Bench::new();
    bench.listed(1, Some(1));
    bench.bulk(bench.tick(), vec![]);
    bench.listed(1, None);
    assert!(bench.life(1).ran);
}
