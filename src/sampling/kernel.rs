//! The kernel lane: what the host's kernel says of guests, period by period, on a thread of its own.
//!
//! It asks neither libvirt nor QEMU, so it takes no place in the budget, has no deadline, and goes on whatever hangs. Who runs, and
//! under which name, it knows from the list.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, TryRecvError, bounded};

use crate::model::{DomainId, Kernel, KernelTarget, ProcessState};
use crate::store::{KernelRecord, KernelTurn, Snapshot, Store};

/// Until somebody runs, whatever becomes known is looked at, at most this often: the first figures should not wait for a period.
const SOON: Duration = Duration::from_millis(100);

/// What the lane tells the scheduler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Noticed {
    /// The process of this domain does not run, and did at the look before.
    Stopped(DomainId),
    /// A domain has another process than was known: the list is to be read again.
    Restarted,
}

/// A running lane. Dropping it ends its thread, for which nobody waits: to find a process it may read what the kernel locks.
pub(super) struct KernelLane {
    _stop: Sender<()>,
}

impl KernelLane {
    /// Starts looking.
    ///
    /// # Errors
    /// If the thread cannot be started.
    pub(super) fn start(
        period: Duration,
        source: Box<dyn Kernel>,
        store: Arc<Store>,
        noticed: Sender<Noticed>,
    ) -> std::io::Result<Self> {
        let (stop, stopped) = bounded(0);
        let news = store.subscribe();
        let mut turns = Turns::new(period, source, store, (noticed, stopped));
        thread::Builder::new().name("kernel".to_owned()).spawn(move || run(&mut turns, &news))?;
        Ok(Self { _stop: stop })
    }
}

fn run(turns: &mut Turns, news: &Receiver<()>) {
    let never = crossbeam_channel::never();
    loop {
        turns.tick();
        let news = if turns.idle { news } else { &never };
        crossbeam_channel::select! {
            recv(turns.ended) -> _ => return,
            // What was published while nobody ran.
            recv(news) -> _ => turns.hurry(),
            default(turns.wait()) => {}
        }
    }
}

/// The lane without its thread.
struct Turns {
    period: Duration,
    source: Box<dyn Kernel>,
    store: Arc<Store>,
    noticed: Sender<Noticed>,
    /// Disconnected when nobody wants this lane any more.
    ended: Receiver<()>,
    due: Instant,
    looked: Option<Instant>,
    /// Did nobody run at the newest look?
    idle: bool,
    /// Whose process did not run at the newest look.
    stopped: Vec<DomainId>,
}

impl Turns {
    fn new(
        period: Duration,
        source: Box<dyn Kernel>,
        store: Arc<Store>,
        (noticed, ended): (Sender<Noticed>, Receiver<()>),
    ) -> Self {
        let due = store.now();
        Self { period, source, store, noticed, ended, due, looked: None, idle: true, stopped: Vec::new() }
    }

    /// Brings the next turn forward.
    fn hurry(&mut self) {
        let soon = self.looked.map_or_else(|| self.store.now(), |looked| looked + SOON);
        self.due = self.due.min(soon);
    }

    /// For how long there is nothing to do.
    fn wait(&self) -> Duration {
        self.due.saturating_duration_since(self.store.now())
    }

    /// Looks, if that is due.
    fn tick(&mut self) {
        let now = self.store.now();
        if now < self.due {
            return;
        }
        let snapshot = self.store.snapshot();
        let was_idle = std::mem::replace(&mut self.idle, !snapshot.domains.iter().any(|domain| domain.run.is_some()));
        // When the last one has ended, its files are to be closed, and its figures are no more.
        if !self.idle || !was_idle {
            self.turn(&snapshot);
        }
        self.looked = Some(now);
        // Turns that were missed are skipped.
        self.due = Some(self.due + self.period).filter(|due| !was_idle && *due > now).unwrap_or(now + self.period);
    }

    fn turn(&mut self, snapshot: &Snapshot) {
        let network = self.store.stamp();
        self.source.keep_only(&|id| snapshot.get(id).is_some_and(|domain| domain.run.is_some()));
        self.source.begin();
        let mut turn = KernelTurn { network: Some(network), ..KernelTurn::default() };
        let mut stopped = Vec::new();
        for domain in &snapshot.domains {
            let Some(run) = domain.run else { continue };
            let nics = domain.current_description().map(|it| &*it.nics);
            let started = self.store.stamp();
            match self.source.look(&KernelTarget { id: domain.id, name: &domain.name, run, nics }) {
                Ok(figures) => {
                    if matches!(figures.process.state, ProcessState::Stopped | ProcessState::Uninterruptible) {
                        stopped.push(domain.id);
                    }
                    turn.records.push(KernelRecord { id: domain.id, run, started, figures });
                }
                Err(reason) => turn.unseen.push((domain.id, reason)),
            }
        }
        turn.state = self.source.state();
        turn.took = self.store.now().saturating_duration_since(network.at);
        let metrics = &self.store.metrics;
        metrics.lane_runs.with_label_values(&["kernel", "ok"]).inc();
        metrics.lane_duration.with_label_values(&["kernel"]).observe(turn.took.as_secs_f64());
        if self.ended.try_recv() == Err(TryRecvError::Disconnected) {
            return;
        }
        let news = self.store.apply_kernel(turn);
        for (id, domain, group) in news.distrusted {
            tracing::warn!(
                %domain, uuid = %id, group = group.label(),
                "libvirt and the kernel do not agree on its figures; those of libvirt are taken"
            );
        }
        // In the order of the snapshot, which seldom changes; one that is told twice does no harm.
        let newly = stopped.iter().filter(|id| !self.stopped.contains(id)).map(|id| Noticed::Stopped(*id));
        let restarted = news.restarted.then_some(Noticed::Restarted);
        // Only an engine that is ending does not listen.
        newly.chain(restarted).for_each(|noticed| drop(self.noticed.send(noticed)));
        self.stopped = stopped;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use crossbeam_channel::unbounded;
    use parking_lot::Mutex;

    use super::*;
    use crate::clock::ManualClock;
    use crate::model::{
        CpuSample, Group, InventoryReply, KernelFigures, KernelSample, KernelState, ListedDomain, Process, RunId,
        Unseen,
    };
    use crate::store::{KernelStatus, StaleAfter};

    const PERIOD: Duration = Duration::from_secs(5);

    fn id(number: u8) -> DomainId {
        DomainId::from_bytes([number; 16])
    }

    /// Processes by domain; what is not here has none.
    #[derive(Default)]
    struct Host {
        states: HashMap<DomainId, ProcessState>,
        known: HashSet<DomainId>,
        turns: u64,
    }

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Host>>);

    impl Kernel for Shared {
        fn begin(&mut self) {
            self.0.lock().turns += 1;
        }

        fn look(&mut self, target: &KernelTarget<'_>) -> Result<KernelFigures, Unseen> {
            let mut host = self.0.lock();
            let state = *host.states.get(&target.id).ok_or(Unseen::NoProcess)?;
            host.known.insert(target.id);
            Ok(KernelFigures {
                process: Process { pid: 41, start_ticks: 500, state },
                cpu: Some(CpuSample { time_ns: Some(host.turns), ..CpuSample::default() }),
                vcpu: None,
                interface: None,
                kernel: KernelSample::default(),
            })
        }

        fn keep_only(&mut self, wanted: &dyn Fn(DomainId) -> bool) {
            self.0.lock().known.retain(|id| wanted(*id));
        }

        fn state(&self) -> KernelState {
            KernelState { open_files: self.0.lock().known.len(), ..KernelState::default() }
        }
    }

    struct Lab {
        clock: Arc<ManualClock>,
        store: Arc<Store>,
        host: Shared,
        turns: Turns,
        noticed: Receiver<Noticed>,
        stop: Option<Sender<()>>,
    }

    impl Lab {
        fn new() -> Self {
            let clock = Arc::new(ManualClock::new());
            let store = Arc::new(Store::new(Arc::<ManualClock>::clone(&clock)));
            let mut stale_after = StaleAfter::default();
            stale_after.set(Group::Kernel, 2 * PERIOD);
            stale_after.set(Group::Cpu, 2 * PERIOD);
            store.configure(stale_after);
            let (sender, noticed) = unbounded();
            let host = Shared::default();
            let (stop, ended) = bounded(0);
            let turns = Turns::new(PERIOD, Box::new(host.clone()), Arc::clone(&store), (sender, ended));
            Self { clock, store, host, turns, noticed, stop: Some(stop) }
        }

        fn list(&self, running: &[u8]) {
            let listed = |number: &u8| ListedDomain {
                id: id(*number),
                name: format!("guest-{number}").into(),
                run: Some(RunId(u32::from(*number))),
                state: None,
                description: None,
            };
            let domains = running.iter().map(listed).collect();
            self.store.apply_inventory(self.store.stamp(), InventoryReply { domains, ..InventoryReply::default() });
        }

        fn set(&self, number: u8, state: ProcessState) {
            self.host.0.lock().states.insert(id(number), state);
        }

        fn advance(&mut self, by: Duration) {
            self.clock.advance(by);
            self.turns.tick();
        }

        fn looks(&self) -> u64 {
            self.host.0.lock().turns
        }

        fn status(&self) -> (usize, Vec<(Unseen, usize)>, usize) {
            match &*self.store.snapshot().kernel {
                KernelStatus::On { seen, unseen, state, .. } => (*seen, unseen.clone(), state.open_files),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn the_first_look_comes_with_the_list_and_then_one_a_period_whatever_was_missed() {
        let mut lab = Lab::new();
        lab.turns.tick();
        assert_eq!((lab.looks(), lab.turns.idle), (0, true), "nobody is known to run");
        lab.set(1, ProcessState::Runs);
        lab.clock.advance(Duration::from_millis(30));
        lab.list(&[1]);
        lab.turns.hurry();
        assert_eq!(lab.turns.wait(), Duration::from_millis(70), "not at each list of a storm of them");
        lab.advance(Duration::from_millis(70));
        assert_eq!((lab.looks(), lab.turns.wait(), lab.turns.idle), (1, PERIOD, false));
        lab.advance(PERIOD + Duration::from_millis(3));
        assert_eq!((lab.looks(), lab.turns.wait()), (2, PERIOD - Duration::from_millis(3)), "the rhythm stays");
        lab.advance(7 * PERIOD);
        lab.turns.tick();
        assert_eq!((lab.looks(), lab.turns.wait()), (3, PERIOD));
    }

    #[test]
    fn who_is_not_seen_is_counted_and_who_ended_is_forgotten() {
        let mut lab = Lab::new();
        lab.list(&[1, 2, 3]);
        lab.set(1, ProcessState::Runs);
        lab.set(2, ProcessState::Runs);
        lab.turns.tick();
        assert_eq!(lab.status(), (2, vec![(Unseen::NoProcess, 1)], 2));
        let snapshot = lab.store.snapshot();
        let feeds = |number| {
            let domain = snapshot.get(id(number)).expect("listed");
            snapshot.kernel_feeds(domain, Group::Cpu, lab.store.now())
        };
        assert!(feeds(1) && feeds(2) && !feeds(3));
        lab.clock.advance(PERIOD);
        lab.list(&[1]);
        lab.turns.tick();
        assert_eq!(lab.status(), (1, vec![], 1));
        lab.clock.advance(PERIOD);
        lab.list(&[]);
        lab.turns.tick();
        assert_eq!(lab.status(), (0, vec![], 0), "the last one's files are closed");
        let looks = lab.looks();
        lab.advance(PERIOD);
        assert_eq!(lab.looks(), looks, "and then there is nothing to do");
    }

    #[test]
    fn a_process_that_stops_is_noticed_once() {
        let mut lab = Lab::new();
        lab.list(&[1, 2]);
        lab.set(1, ProcessState::Runs);
        lab.set(2, ProcessState::Uninterruptible);
        lab.turns.tick();
        let noticed = |lab: &Lab| lab.noticed.try_iter().collect::<Vec<_>>();
        assert_eq!(noticed(&lab), [Noticed::Stopped(id(2))]);
        lab.set(1, ProcessState::Stopped);
        lab.advance(PERIOD);
        assert_eq!(noticed(&lab), [Noticed::Stopped(id(1))]);
        lab.set(1, ProcessState::Runs);
        lab.advance(PERIOD);
        lab.set(1, ProcessState::Stopped);
        lab.advance(PERIOD);
        assert_eq!(noticed(&lab), [Noticed::Stopped(id(1))]);
    }

    #[test]
    fn what_it_brings_after_its_end_is_dropped() {
        let mut lab = Lab::new();
        lab.list(&[1]);
        lab.set(1, ProcessState::Runs);
        lab.turns.tick();
        let sequence = lab.store.snapshot().sequence;
        lab.stop = None;
        lab.advance(PERIOD);
        assert_eq!((lab.looks(), lab.store.snapshot().sequence), (2, sequence));
    }
}
