//! The engine with a libvirtd of our own making and a clock that is moved by hand: no threads, no waiting.

#[cfg(not(feature = "model-check"))]
mod faults;
#[cfg(not(feature = "model-check"))]
mod kernel;
mod libvirtd;
mod link;
#[cfg(not(feature = "model-check"))]
mod locks;
#[cfg(not(feature = "model-check"))]
mod reload;
#[cfg(not(feature = "model-check"))]
mod rhythm;
#[cfg(not(feature = "model-check"))]
mod storage;
#[cfg(not(feature = "model-check"))]
mod storms;
#[cfg(not(feature = "model-check"))]
mod turns;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded, unbounded};

pub(in crate::sampling) use self::libvirtd::{Domain, World, id};
use super::budget::Budget;
use super::core::{Core, Pools};
use super::engine::Parts;
use super::lanes::Lane;
use super::pool::{Pool, Size};
use super::work::{Answer, Finished, Job, Order};
use crate::clock::ManualClock;
use crate::config::Sampling;
use crate::model::{
    BulkRequest, DomainEvent, DomainHealth, DomainId, Group, GroupSet, Happened, Peer, ProcessState, Scope, Source,
    SourceError, SourceFactory, Stamp,
};
use crate::store::Store;

pub(in crate::sampling) const MS: Duration = Duration::from_millis(1);
pub(in crate::sampling) const SECOND: Duration = Duration::from_secs(1);
/// The period of most tests.
pub(in crate::sampling) const PERIOD: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(in crate::sampling) struct Factory {
    pub(in crate::sampling) abandoned: AtomicUsize,
}

impl SourceFactory for Factory {
    fn open(&self) -> Result<Box<dyn Source>, SourceError> {
        unreachable!("the test answers orders itself")
    }

    fn abandon_opening(&self) {
        self.abandoned.fetch_add(1, Ordering::Relaxed);
    }
}

/// A call that was ordered and has not returned.
pub(in crate::sampling) struct Pending {
    pub(in crate::sampling) lane: Lane,
    pub(in crate::sampling) order: Order,
    pub(in crate::sampling) started: Stamp,
}

pub(in crate::sampling) struct Lab {
    pub(in crate::sampling) clock: Arc<ManualClock>,
    pub(in crate::sampling) store: Arc<Store>,
    pub(in crate::sampling) core: Core,
    pub(in crate::sampling) world: World,
    pub(in crate::sampling) factory: Arc<Factory>,
    pub(in crate::sampling) budget: Budget,
    hired: HashMap<Lane, Receiver<Receiver<Order>>>,
    desks: Vec<(Lane, Receiver<Order>)>,
    pub(in crate::sampling) pending: Vec<Pending>,
    /// What was asked, in order.
    pub(in crate::sampling) asked: Vec<(Duration, Lane, Job)>,
    /// How often the engine gave up opening a connection.
    pub(in crate::sampling) abandoned: usize,
    begin: Instant,
}

const LANES: [Lane; 5] = [Lane::Free, Lane::Monitor, Lane::BlockInfo, Lane::Inventory, Lane::Storage];

pub(in crate::sampling) fn all_groups() -> Vec<(Group, Duration)> {
    Group::ALL.map(|group| (group, PERIOD)).to_vec()
}

/// Settings with these groups and nothing out of the ordinary.
fn settings(groups: &[(Group, Duration)]) -> Sampling {
    Sampling {
        groups: groups.to_vec(),
        period: PERIOD,
        auto: false,
        own_period: GroupSet::EMPTY,
        cross_check: 60 * SECOND,
        inventory: 60 * SECOND,
        workers: 2,
        budget: 4,
    }
}

impl Lab {
    /// An engine over that many domains, all groups each period.
    pub(in crate::sampling) fn new(domains: u8) -> Self {
        Self::with(domains, &all_groups(), Budget::new(4))
    }

    pub(in crate::sampling) fn with(domains: u8, groups: &[(Group, Duration)], budget: Budget) -> Self {
        let world = World::default();
        world.edit(|host| host.domains = (1..=domains).map(|number| (id(number), Domain::default())).collect());
        Self::on(world, groups, budget)
    }

    /// An engine over a host that is there already.
    pub(in crate::sampling) fn on(world: World, groups: &[(Group, Duration)], budget: Budget) -> Self {
        Self::set(world, &settings(groups), budget)
    }

    /// An engine with these settings.
    pub(in crate::sampling) fn set(world: World, settings: &Sampling, budget: Budget) -> Self {
        let clock = Arc::new(ManualClock::new());
        let store = Arc::new(Store::new(clock.clone()));
        Self::after(world, settings, budget, clock, store)
    }

    /// An engine that comes after another one, whose clock, store and budget it goes on with.
    pub(in crate::sampling) fn after(
        world: World,
        settings: &Sampling,
        budget: Budget,
        clock: Arc<ManualClock>,
        store: Arc<Store>,
    ) -> Self {
        let mut hired = HashMap::new();
        let mut pool = |lane: Lane, working, cap| {
            let (sender, receiver) = unbounded();
            hired.insert(lane, receiver);
            let hire = Box::new(move |_| {
                let (orders, taken) = bounded(1);
                sender.send(taken).expect("the test listens");
                Ok(orders)
            });
            Pool::new(lane.label(), Size { working, cap }, Arc::clone(&store), hire)
        };
        let pools = Pools {
            free: pool(Lane::Free, 2, 5),
            monitor: pool(Lane::Monitor, 2, 5),
            block_info: pool(Lane::BlockInfo, 1, 4),
            inventory: pool(Lane::Inventory, 1, 4),
            storage: pool(Lane::Storage, 4, 8),
        };
        let factory = Arc::new(Factory::default());
        let parts = Parts {
            factory: factory.clone(),
            processes: Box::new(world.clone()),
            storage: Arc::new(world.clone()),
            budget: budget.clone(),
        };
        let core = Core::new(settings, Arc::clone(&store), pools, parts, Arc::new(AtomicU64::new(0)));
        let begin = store.now();
        let (desks, pending, asked) = (Vec::new(), Vec::new(), Vec::new());
        Self { clock, store, core, world, factory, budget, hired, desks, pending, asked, abandoned: 0, begin }
    }

    /// With the first sample taken.
    pub(in crate::sampling) fn started(domains: u8) -> Self {
        let mut lab = Self::new(domains);
        lab.run(10 * MS);
        assert_eq!(lab.store.snapshot().incomplete, None);
        lab
    }

    fn stamp(&self) -> Stamp {
        self.store.stamp()
    }

    pub(in crate::sampling) fn now(&self) -> Duration {
        self.store.now() - self.begin
    }

    /// Lets so much time pass, in steps of 10 ms; libvirtd answers at once where it can.
    pub(in crate::sampling) fn run(&mut self, time: Duration) {
        let mut left = time;
        loop {
            self.settle();
            if left.is_zero() {
                return;
            }
            let step = left.min(10 * MS);
            self.clock.advance(step);
            left -= step;
        }
    }

    /// libvirt says that something happened to a domain.
    pub(in crate::sampling) fn announce(&mut self, id: DomainId) {
        self.happens(id, Happened::Other);
    }

    /// libvirt says that this happened to a domain.
    pub(in crate::sampling) fn happens(&mut self, id: DomainId, what: Happened) {
        let event = DomainEvent { id, run: None, what };
        self.core.event(self.store.moment(), &event);
    }

    /// Ticks, and answers what can be answered, until nothing moves any more.
    pub(in crate::sampling) fn settle(&mut self) {
        for _ in 0..10_000 {
            self.core.tick();
            self.order();
            let open = self.pending.iter().filter(|it| it.lane != Lane::Storage).count();
            self.world.edit(|host| host.most_open = host.most_open.max(open));
            let mut moved = false;
            if self.factory.abandoned.swap(0, Ordering::Relaxed) > 0 {
                self.abandoned += 1;
                let opening = |it: &Pending| it.order.opening().load(Ordering::Relaxed);
                let number = self.pending.iter().position(opening).expect("something is being opened");
                let message = "End of file while reading data".to_owned();
                self.finish(number, Err(SourceError::Connect { uri: "qemu:///system".to_owned(), message }));
                moved = true;
            }
            for number in 0..self.pending.len() {
                if let Some(answer) = self.answer_of(number) {
                    self.finish(number, answer);
                    moved = true;
                    break;
                }
            }
            if !moved {
                return;
            }
        }
        panic!("it never comes to rest");
    }

    /// Takes what was ordered, and leaves it open.
    pub(in crate::sampling) fn order(&mut self) {
        for lane in LANES {
            for desk in self.hired[&lane].try_iter() {
                self.desks.push((lane, desk));
            }
        }
        let (stamp, now) = (self.stamp(), self.now());
        let mute = self.world.edit(|host| host.mute);
        for (lane, desk) in &self.desks {
            if let Ok(order) = desk.try_recv() {
                self.asked.push((now, *lane, order.job.clone()));
                order.opening().store(mute && *lane != Lane::Storage, Ordering::Relaxed);
                self.pending.push(Pending { lane: *lane, order, started: stamp });
            }
        }
    }

    /// Ends a pending call.
    pub(in crate::sampling) fn finish(&mut self, number: usize, answer: Result<Answer, SourceError>) {
        let Pending { order, started, .. } = self.pending.remove(number);
        let call = order.call;
        self.world.edit(|host| host.jobs.retain(|_, (holder, _)| *holder != call));
        let lost = matches!(answer, Err(SourceError::Disconnected { .. }));
        let peer = Some(Peer { pid: self.world.edit(|host| host.peer), start_ticks: 1 });
        order.settle(lost, peer);
        self.core.finished(Finished { call, started, ended: self.store.now(), answer });
    }

    /// Ends the first pending call of a lane with an error.
    pub(in crate::sampling) fn fail(&mut self, lane: Lane, error: SourceError) {
        let number = self.pending.iter().position(|it| it.lane == lane).expect("a call of that lane is open");
        self.finish(number, Err(error));
    }

    /// libvirtd goes away: every open call loses its connection.
    pub(in crate::sampling) fn lose_all(&mut self) {
        while let Some(number) = self.pending.iter().position(|it| it.lane != Lane::Storage) {
            let message = "End of file while reading data".to_owned();
            self.finish(number, Err(SourceError::Disconnected { call: "a call", message }));
        }
    }

    /// What libvirtd answers to a pending call now; `None` while it hangs.
    pub(in crate::sampling) fn answer_of(&mut self, number: usize) -> Option<Result<Answer, SourceError>> {
        let Pending { order, started, .. } = &self.pending[number];
        let (call, job, progress, started) = (order.call, order.job.clone(), order.progress(), *started);
        let now = self.store.now();
        self.world.edit(|host| {
            if let Job::Probe(path) = &job {
                if now.saturating_duration_since(started.at) < host.probe_takes {
                    return None;
                }
                return (!host.hung.iter().any(|mount| path.starts_with(mount))).then_some(Ok(Answer::Probed));
            }
            if host.refuses {
                let message = "Failed to connect socket".to_owned();
                return Some(Err(SourceError::Connect { uri: "qemu:///system".to_owned(), message }));
            }
            if host.stopped || host.mute {
                return None;
            }
            if let Some(refusal) = host.refusal(&job) {
                return Some(Err(refusal));
            }
            host.answer((call, &job, &progress), started, now).map(Ok)
        })
    }

    // ---- what came of it

    /// When the newest sample of a group was asked for.
    pub(in crate::sampling) fn sampled(&self, number: u8, group: Group) -> Option<Duration> {
        let snapshot = self.store.snapshot();
        snapshot.get(id(number))?.windows.started(group).map(|stamp| stamp.at - self.begin)
    }

    pub(in crate::sampling) fn age(&self, number: u8, group: Group) -> Duration {
        self.sampled(number, group).map_or(Duration::MAX, |at| self.now() - at)
    }

    pub(in crate::sampling) fn health(&self, number: u8) -> DomainHealth {
        self.store.snapshot().get(id(number)).map(|domain| domain.health.clone()).unwrap_or_default()
    }

    /// Which of these domains and groups have no sample of this period.
    pub(in crate::sampling) fn late(
        &self,
        domains: impl IntoIterator<Item = u8>,
        groups: &[Group],
    ) -> Vec<(u8, Group)> {
        let late = |number: u8| groups.iter().map(move |group| (number, *group));
        domains.into_iter().flat_map(late).filter(|(number, group)| self.age(*number, *group) > PERIOD).collect()
    }

    pub(in crate::sampling) fn open(&self) -> usize {
        self.budget.open().iter().map(|(_, open)| open).sum()
    }

    pub(in crate::sampling) fn skipped(&self, lane: Lane, reason: &str) -> u64 {
        self.store.metrics.lane_skipped.with_label_values(&[lane.label(), reason]).get()
    }

    pub(in crate::sampling) fn timed_out(&self, call: &str) -> u64 {
        self.store.metrics.calls_timed_out.with_label_values(&[call]).get()
    }

    /// The bulk calls of a lane since the last look.
    pub(in crate::sampling) fn bulk_calls(&mut self, lane: Lane) -> Vec<BulkRequest> {
        let asked = std::mem::take(&mut self.asked);
        asked
            .into_iter()
            .filter(|(_, it, _)| *it == lane)
            .filter_map(|(_, _, job)| match job {
                Job::Bulk(request) => Some(request),
                _ => None,
            })
            .collect()
    }
}

pub(in crate::sampling) const FREE: [Group; 2] = [Group::State, Group::Interface];
pub(in crate::sampling) const MONITOR: [Group; 5] =
    [Group::Cpu, Group::Vcpu, Group::Block, Group::Balloon, Group::BlockInfo];
