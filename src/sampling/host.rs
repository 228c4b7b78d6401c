//! The host lane: looks at the host itself, period by period, on a thread of its own.
//!
//! It has nothing to do with libvirt, and goes on while that is away, and through a change of the settings. It waits for
//! nothing that can hang: how full file systems are is asked by others ([`super::spaces`]).

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::spaces::SpaceWatch;
use crate::config::Host;
use crate::model::host::{HostSource, Spaces};
use crate::store::Store;

/// A running host lane. Dropping it ends its thread, and nobody waits for that: a network card that does not answer its driver
/// keeps who asks for its speed, and would keep us. Looks at paths that hang end on their own as well.
pub struct HostLane {
    settings: Sender<Host>,
}

impl HostLane {
    /// Starts looking at the host into a store.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub fn start(
        settings: &Host,
        source: Box<dyn HostSource>,
        spaces: Arc<dyn Spaces>,
        store: Arc<Store>,
    ) -> std::io::Result<Self> {
        let (sender, changes) = unbounded();
        let mut turns = Turns::new(settings, source, spaces, store);
        thread::Builder::new().name("host".to_owned()).spawn(move || run(&mut turns, &changes))?;
        Ok(Self { settings: sender })
    }

    /// Puts other settings in force.
    pub fn set(&self, settings: &Host) {
        // Only a thread that panicked does not listen.
        let _ = self.settings.send(settings.clone());
    }
}

fn run(turns: &mut Turns, changes: &Receiver<Host>) {
    let answers = turns.watch.answers();
    loop {
        turns.tick();
        crossbeam_channel::select! {
            recv(changes) -> change => match change {
                Ok(settings) => turns.set(&settings),
                Err(_) => return,
            },
            recv(answers) -> answer => if let Ok(answer) = answer {
                turns.watch.answered(answer);
                // Most answer in the same moment; one look can show them all.
                while let Ok(answer) = answers.try_recv() {
                    turns.watch.answered(answer);
                }
                turns.changed = true;
            },
            default(turns.wait()) => {}
        }
    }
}

/// The lane without its thread.
struct Turns {
    source: Box<dyn HostSource>,
    store: Arc<Store>,
    watch: SpaceWatch,
    period: Duration,
    stale_after: Duration,
    due: Instant,
    /// When a path is to be shown as blocked.
    overdue: Option<Instant>,
    /// Is something new known of a path?
    changed: bool,
}

impl Turns {
    fn new(settings: &Host, source: Box<dyn HostSource>, spaces: Arc<dyn Spaces>, store: Arc<Store>) -> Self {
        let mut watch = SpaceWatch::new(spaces);
        watch.want(&settings.paths, settings.missing_is_fine);
        let due = store.now();
        let (period, stale_after) = (settings.period, settings.stale_after());
        Self { source, store, watch, period, stale_after, due, overdue: None, changed: false }
    }

    fn set(&mut self, settings: &Host) {
        self.watch.want(&settings.paths, settings.missing_is_fine);
        (self.period, self.stale_after) = (settings.period, settings.stale_after());
        self.due = self.store.now();
        self.changed = true;
    }

    /// Does what is due.
    fn tick(&mut self) {
        let now = self.store.stamp();
        if now.at >= self.due {
            self.watch.ask(now);
            let sample = self.source.sample();
            self.store.apply_host(now, sample, self.stale_after);
            // Turns that were missed are skipped.
            self.due = Some(self.due + self.period).filter(|due| *due > now.at).unwrap_or(now.at + self.period);
        }
        if std::mem::take(&mut self.changed) || self.overdue.is_some_and(|at| now.at >= at) {
            self.watch.complain(now.at);
            self.store.set_path_spaces(self.watch.known(now.at));
        }
        self.overdue = self.watch.next_overdue(now.at);
    }

    /// For how long there is nothing to do.
    fn wait(&self) -> Duration {
        let next = self.overdue.map_or(self.due, |overdue| overdue.min(self.due));
        next.saturating_duration_since(self.store.now())
    }
}

#[cfg(test)]
mod tests {
    use super::super::spaces::tests::Mounts;
    use super::*;
    use crate::clock::{Clock, ManualClock};
    use crate::model::host::HostSample;

    const PERIOD: Duration = Duration::from_secs(5);

    /// A host that counts how often it is looked at.
    struct Counter(u64);

    impl HostSource for Counter {
        fn sample(&mut self) -> HostSample {
            self.0 += 1;
            HostSample { boot_unix_seconds: Some(self.0), ..HostSample::default() }
        }
    }

    fn settings(paths: &[&str]) -> Host {
        let paths = paths.iter().map(|path| (*path).to_owned()).collect();
        Host { period: PERIOD, paths, missing_is_fine: false }
    }

    struct Lab {
        clock: Arc<ManualClock>,
        store: Arc<Store>,
        mounts: Arc<Mounts>,
        turns: Turns,
    }

    impl Lab {
        fn new(paths: &[&str]) -> Self {
            let clock = Arc::new(ManualClock::new());
            let store = Arc::new(Store::new(Arc::<ManualClock>::clone(&clock)));
            let mounts = Arc::new(Mounts::default());
            let spaces = Arc::<Mounts>::clone(&mounts);
            let turns = Turns::new(&settings(paths), Box::new(Counter(0)), spaces, Arc::clone(&store));
            Self { clock, store, mounts, turns }
        }

        fn advance(&mut self, by: Duration) {
            self.clock.advance(by);
            self.turns.tick();
        }

        /// Takes one answer of a file system.
        fn take(&mut self) {
            let answer = self.turns.watch.answers().recv().expect("the watch itself holds a sender");
            self.turns.watch.answered(answer);
            self.turns.changed = true;
            self.turns.tick();
        }

        fn looks(&self) -> u64 {
            let host = self.store.host();
            host.samples.newest().and_then(|sample| sample.figures.boot_unix_seconds).unwrap_or_default()
        }
    }

    #[test]
    fn a_turn_a_period_and_missed_ones_are_skipped() {
        let mut lab = Lab::new(&[]);
        lab.turns.tick();
        assert_eq!((lab.looks(), lab.turns.wait()), (1, PERIOD));
        lab.advance(PERIOD - Duration::from_millis(1));
        assert_eq!(lab.looks(), 1);
        lab.advance(Duration::from_millis(2));
        assert_eq!((lab.looks(), lab.turns.wait()), (2, PERIOD - Duration::from_millis(1)), "the rhythm stays");
        lab.advance(7 * PERIOD);
        lab.turns.tick();
        assert_eq!((lab.looks(), lab.turns.wait()), (3, PERIOD));
    }

    #[test]
    fn a_dead_mount_stops_neither_the_lane_nor_other_paths_and_is_told_after_a_second() {
        let mut lab = Lab::new(&["/dead", "/"]);
        lab.mounts.hang(true);
        lab.turns.tick();
        let begin = lab.clock.now();
        lab.take();
        let names = |lab: &Lab| lab.store.host().paths.iter().map(|it| it.path.to_string()).collect::<Vec<_>>();
        assert_eq!(names(&lab), ["/"]);
        assert_eq!(lab.turns.wait(), Duration::from_secs(1));
        lab.advance(Duration::from_secs(1));
        assert_eq!(lab.store.host().paths[0].blocked_since.map(|since| since.at), Some(begin));
        lab.advance(PERIOD);
        lab.take();
        let paths = &lab.store.host().paths;
        assert_eq!(paths[1].space.expect("it answers").0.at, lab.clock.now());
        assert_eq!((lab.looks(), paths[0].space), (2, None));
        lab.mounts.hang(false);
        lab.take();
        let dead = &lab.store.host().paths[0];
        assert_eq!((dead.blocked_since, dead.space.map(|space| space.0.at)), (None, Some(begin)));
    }

    #[test]
    fn other_settings_come_into_force_at_once() {
        let mut lab = Lab::new(&["/"]);
        lab.turns.tick();
        lab.take();
        assert_eq!(lab.store.host().paths.len(), 1);
        lab.turns.set(&Host { period: 2 * PERIOD, ..settings(&[]) });
        lab.turns.tick();
        assert_eq!((lab.store.host().paths.len(), lab.turns.wait()), (0, 2 * PERIOD));
    }

    #[test]
    fn its_end_waits_for_no_mount() {
        let clock: Arc<dyn Clock> = Arc::new(crate::clock::SystemClock);
        let (store, mounts) = (Arc::new(Store::new(clock)), Arc::new(Mounts::default()));
        mounts.hang(true);
        let spaces = Arc::<Mounts>::clone(&mounts);
        let lane = HostLane::start(&settings(&["/dead"]), Box::new(Counter(0)), spaces, Arc::clone(&store));
        // It would stand here for ever.
        drop(lane.expect("a thread"));
        mounts.hang(false);
    }
}
