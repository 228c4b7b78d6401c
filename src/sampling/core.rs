//! The engine without its threads: time, answers and looks are handed in.
//!
//! A tick writes off what is overdue, looks at patients, begins the turns that are due, and makes the calls that have a place
//! and a worker. Answers go into the store as they come. Its other parts: `pumps`, `dispatch` and `questions` make calls, `answers`
//! takes their ends, `overdue` writes them off, `judge` finds out on whom a call hangs.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant, SystemTime};

use super::budget::Budget;
use super::complaint::Complaint;
use super::cut_short::CutShort;
use super::disks::Disks;
use super::engine::Parts;
use super::lanes::{Ask, BlockInfoLane, BulkLane, InventoryLane, Lane, Plan};
use super::link::LinkState;
use super::pool::{Pool, WorkerId};
use super::steering::{self, Steering};
use super::storage::StorageWatch;
use super::ward::Ward;
use super::work::{CallId, Job, Progress};
use crate::config::Sampling;
use crate::model::{
    DomainEvent, DomainId, Group, GroupSet, Happened, Moment, Processes, SourceFactory, Stamp, Standing,
};
use crate::store::{BlockInfoAnswer, Domain, Part, Shards, Snapshot, Store};

/// A domain that started while we looked on is a newcomer for this long: libvirt may still hold its lock, and a call that
/// waits for that says nothing of its health.
const NEWCOMER: Duration = Duration::from_secs(10);
/// Patients are looked at this often, or four times in the shortest period.
const LOOK: Duration = Duration::from_secs(1);
/// The second look at a process that does not run comes after this.
pub(super) const SECOND_LOOK: Duration = Duration::from_millis(200);
/// The scheduler gives a sign of life at least this often.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// The threads, by lane.
pub(super) struct Pools {
    pub(super) free: Pool,
    pub(super) monitor: Pool,
    pub(super) block_info: Pool,
    pub(super) inventory: Pool,
    pub(super) storage: Pool,
}

impl Pools {
    pub(super) fn of(&mut self, lane: Lane) -> &mut Pool {
        match lane {
            Lane::Free => &mut self.free,
            Lane::Monitor => &mut self.monitor,
            Lane::BlockInfo => &mut self.block_info,
            Lane::Inventory => &mut self.inventory,
            Lane::Storage => &mut self.storage,
        }
    }
}

/// A call that has not returned.
pub(super) struct Open {
    pub(super) lane: Lane,
    pub(super) worker: WorkerId,
    pub(super) job: Job,
    /// What it is part of, for bulk calls.
    pub(super) ask: Option<Ask>,
    pub(super) probation: bool,
    pub(super) begun: Stamp,
    pub(super) deadline: Instant,
    /// How long it may take, from when.
    pub(super) allowed: Duration,
    pub(super) counted_from: Instant,
    /// Was a connection being opened for it when its deadline was looked at?
    pub(super) connects: bool,
    pub(super) overdue: bool,
    pub(super) place: Option<u64>,
    pub(super) opening: Arc<AtomicBool>,
    pub(super) progress: Arc<Progress>,
}

/// The engine.
pub(super) struct Core {
    /// Also brings the clock.
    pub(super) store: Arc<Store>,
    pub(super) pools: Pools,
    pub(super) budget: Budget,
    pub(super) factory: Arc<dyn SourceFactory>,
    pub(super) processes: Box<dyn Processes>,
    pub(super) disks: Disks,
    pub(super) epoch: Arc<AtomicU64>,
    pub(super) free: BulkLane,
    pub(super) monitor: BulkLane,
    pub(super) block: BlockInfoLane,
    pub(super) inventory: InventoryLane,
    pub(super) storage: StorageWatch,
    pub(super) ward: Ward,
    pub(super) calls: HashMap<CallId, Open>,
    pub(super) next_call: CallId,
    pub(super) link: LinkState,
    /// Domains whose CPU time is to be asked for without their monitor.
    pub(super) cpu_wanted: HashSet<DomainId>,
    /// Domains that were paused, or go on: their state is to be asked for.
    pub(super) state_wanted: Vec<DomainId>,
    /// Domains that were left out of a call, and with which groups: their process did not run, or another call was open.
    pub(super) aside: HashMap<DomainId, GroupSet>,
    /// Domains that somebody else was at when the monitor lane asked for them.
    pub(super) cut_short: CutShort,
    /// Domains that the monitor's present turn leaves out because they may hold an overdue call, and the turn's groups.
    pub(super) held_back: (GroupSet, HashSet<DomainId>),
    /// Domains whose storage hangs, and whose counters are to be asked for disk by disk.
    pub(super) counters: HashSet<DomainId>,
    pub(super) control_wanted: bool,
    /// Are the addresses that networks lent to be read?
    pub(super) leases_wanted: bool,
    /// How often libvirt is asked for what the kernel tells too.
    pub(super) cross_check: Duration,
    /// When the newest turn with groups or disks that need a look at storage began.
    pub(super) turn_begun: Option<Instant>,
    /// The groups of the present turn of the free lane and of the monitor's, until all its calls are made.
    pub(super) free_turn: GroupSet,
    /// When the free lane's newest turn began.
    pub(super) free_begun: Option<Instant>,
    pub(super) monitor_turn: GroupSet,
    pub(super) block_answers: Vec<BlockInfoAnswer>,
    pub(super) next_look: Option<Instant>,
    pub(super) shortest: Duration,
    pub(super) steering: Steering,
    pub(super) bulk_complaint: Complaint,
    pub(super) inventory_complaint: Complaint,
    pub(super) place_complaint: Complaint,
    /// About domains that libvirt refuses calls about.
    pub(super) refused_complaints: HashMap<DomainId, Complaint>,
}

impl Core {
    pub(super) fn new(
        settings: &Sampling,
        store: Arc<Store>,
        pools: Pools,
        parts: Parts,
        epoch: Arc<AtomicU64>,
    ) -> Self {
        store.configure(steering::limits(settings));
        // What an engine before this one left is not ours to wait for.
        store.set_bulk_problem(None);
        parts.budget.write_off_all();
        let now = store.stamp();
        let bulk = |monitor: bool| {
            let groups = settings.groups.iter().copied();
            groups.filter(move |(group, _)| group.is_bulk() && group.enters_monitor() == monitor)
        };
        let shortest = steering::shortest(settings);
        let block_info =
            settings.groups.iter().find(|(group, _)| *group == Group::BlockInfo).map(|(_, period)| *period);
        let seed = now.wall.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
        Self {
            free: BulkLane::new(bulk(false), Plan::Whole, now.at),
            monitor: BulkLane::new(bulk(true), Plan::Shards(settings.workers), now.at),
            block: BlockInfoLane::new(block_info, now.at),
            inventory: InventoryLane::new(settings.inventory, shortest, now.at),
            storage: StorageWatch::default(),
            ward: Ward::new(u64::try_from(seed & u128::from(u64::MAX)).unwrap_or(0), &store.snapshot()),
            store,
            pools,
            budget: parts.budget,
            factory: parts.factory,
            processes: parts.processes,
            disks: Disks::new(parts.storage),
            epoch,
            calls: HashMap::new(),
            next_call: 0,
            link: LinkState::default(),
            cpu_wanted: HashSet::new(),
            state_wanted: Vec::new(),
            aside: HashMap::new(),
            cut_short: CutShort::default(),
            held_back: (GroupSet::EMPTY, HashSet::new()),
            counters: HashSet::new(),
            control_wanted: false,
            leases_wanted: false,
            cross_check: settings.cross_check,
            turn_begun: None,
            free_turn: GroupSet::EMPTY,
            free_begun: None,
            monitor_turn: GroupSet::EMPTY,
            block_answers: Vec::new(),
            next_look: None,
            shortest,
            steering: Steering::new(settings),
            bulk_complaint: Complaint::default(),
            inventory_complaint: Complaint::default(),
            place_complaint: Complaint::default(),
            refused_complaints: HashMap::new(),
        }
    }

    /// Does what is due.
    pub(super) fn tick(&mut self) {
        let now = self.store.stamp();
        self.store.beat(Part::Scheduler);
        self.expire(now);
        self.look(now);
        self.listen(now);
        self.begin_turns(now);
        self.steer(now);
        self.pump(now);
        self.end_turns();
        self.show();
    }

    /// How long nothing needs to be done, unless something comes.
    pub(super) fn wait(&self) -> Duration {
        let now = self.store.now();
        let at = self.next().map_or(HEARTBEAT, |at| at.saturating_duration_since(now));
        at.min(HEARTBEAT)
    }

    pub(super) fn next(&self) -> Option<Instant> {
        let now = self.store.now();
        // What can put the inventory off ends with a call, and that wakes us.
        let inventory = self.inventory.next(now).filter(|_| self.pools.inventory.has_room() && !self.is_locked_out());
        let lanes = [inventory, self.free.next(), self.monitor.next(), self.block.next()];
        let looks = [self.next_look, self.steering.next()];
        let deadlines = self.calls.values().filter(|open| !open.overdue).map(|open| open.deadline);
        let storage = self.storage.settles_at().filter(|at| *at > now);
        lanes.into_iter().chain(looks).flatten().chain(deadlines).chain(storage).min()
    }

    /// Something happened to a domain.
    pub(super) fn event(&mut self, at: Moment, event: &DomainEvent) {
        self.store.apply_event(at, event);
        if event.what == Happened::Tuned {
            self.inventory.request_for_limits(event.id);
        } else if event.what.changes_inventory() {
            self.inventory.request([event.id]);
        }
        if matches!(event.what, Happened::Paused(_) | Happened::Resumed) && !self.state_wanted.contains(&event.id) {
            self.state_wanted.push(event.id);
        }
    }

    fn begin_turns(&mut self, now: Stamp) {
        self.inventory_turn(now);
        let (free, monitor) = (self.free.due(now.at), self.monitor.due(now.at));
        let block_info = self.block.is_due(now.at);
        if free.is_empty() && monitor.is_empty() && !block_info {
            return;
        }
        if !self.link.up {
            if self.link.tried {
                for (lane, groups) in [(Lane::Free, free), (Lane::Monitor, monitor)] {
                    self.skip(lane, "disconnected", groups.iter().count());
                }
                self.skip(Lane::BlockInfo, "disconnected", usize::from(block_info));
            }
            return;
        }
        if !free.is_empty() || !monitor.is_empty() {
            self.steering.begin(now.at);
        }
        if !monitor.is_empty() || block_info {
            self.turn_begun = Some(now.at);
        }
        let snapshot = self.store.snapshot();
        let all: Vec<&Arc<Domain>> = snapshot.domains.iter().filter(|domain| domain.run.is_some()).collect();
        self.remember(&snapshot);
        let alive = self.look_at_all(&all, now);
        let new: HashSet<DomainId> =
            alive.iter().filter(|domain| self.is_newcomer(domain, now.at)).map(|domain| domain.id).collect();
        let sorted = |wanted: &dyn Fn(DomainId) -> bool| {
            let ids = alive.iter().map(|domain| domain.id).filter(|id| wanted(*id));
            ids.partition::<Vec<DomainId>, _>(|id| !new.contains(id))
        };
        let locked = self.locked(&snapshot);
        if alive.len() < all.len() {
            self.monitor.with_care();
        }
        if !free.is_empty() {
            let (residents, newcomers) = sorted(&|id| !locked.contains(&id));
            // A domain that is ending is locked, and a call for all would wait for it.
            if alive.len() < all.len() || !locked.is_empty() || self.is_locked_out() {
                self.free.by_name();
            }
            let spared = self.spared(Lane::Free, free, &snapshot, now.at);
            let skipped = self.free.begin(free, &spared, &residents, &newcomers);
            self.no_place(Lane::Free, skipped, now.at);
            (self.free_turn, self.free_begun) = (self.free_turn.union(free), Some(now.at));
        }
        if !monitor.is_empty() {
            let held = self.held(&snapshot);
            let may = |id: DomainId| self.ward.is_healthy(id) && !held.contains(&id) && !locked.contains(&id);
            let (residents, newcomers) = sorted(&may);
            let waits = |id: &DomainId| held.contains(id) && self.ward.is_healthy(*id) && !locked.contains(id);
            let waiting: HashSet<DomainId> = alive.iter().map(|domain| domain.id).filter(waits).collect();
            let others = alive.len() - residents.len() - newcomers.len() - waiting.len();
            let before = std::mem::replace(&mut self.held_back, (monitor, waiting)).1.len();
            self.skip(Lane::Monitor, "unresponsive", others + before);
            if monitor.contains(Group::Cpu) {
                self.cpu_wanted.extend(alive.iter().map(|domain| domain.id).filter(|id| !may(*id)));
            }
            self.aside.clear();
            self.cut_short.begin();
            let spared = self.spared(Lane::Monitor, monitor, &snapshot, now.at);
            let skipped = self.monitor.begin(monitor, &spared, &residents, &newcomers);
            self.no_place(Lane::Monitor, skipped, now.at);
            self.monitor_turn = self.monitor_turn.union(monitor);
        }
        if block_info {
            let (residents, newcomers) = sorted(&|id| self.ward.is_healthy(id));
            self.skip(Lane::BlockInfo, "unresponsive", alive.len() - residents.len() - newcomers.len());
            let disks = |id: &DomainId| Some((*id, self.disks.targets(*id)?));
            let domains: Vec<_> = residents.iter().chain(&newcomers).filter_map(disks).collect();
            let skipped = self.block.begin(&domains);
            let (free, others): (Vec<_>, Vec<_>) =
                skipped.into_iter().partition(|id| self.ward.is_healthy(*id) && !self.is_on_blocked_storage(*id));
            self.skip(Lane::BlockInfo, "unresponsive", others.len());
            self.no_place(Lane::BlockInfo, free.len(), now.at);
            self.block.set_behind(!free.is_empty());
        }
        self.show_shards();
    }

    /// Says how bulk calls are cut.
    pub(super) fn show_shards(&self) {
        self.store.set_shards(Shards { free: self.free.shards(), monitor: self.monitor.shards() });
    }

    /// Forgets what is no more.
    fn remember(&mut self, snapshot: &Snapshot) {
        let running: HashSet<DomainId> =
            snapshot.domains.iter().filter(|domain| domain.run.is_some()).map(|domain| domain.id).collect();
        self.ward.keep_only(&running);
        self.processes.keep_only(&|id| running.contains(&id));
        self.refused_complaints.retain(|id, _| running.contains(id));
        self.free.keep_only(&running);
        self.monitor.keep_only(&running);
        self.disks.refresh(snapshot);
        self.storage.keep_only(&self.disks.mounts());
    }

    /// Did it start while we looked on, and not long ago?
    pub(super) fn is_newcomer(&self, domain: &Domain, now: Instant) -> bool {
        let since = domain.known_since.at;
        self.link.since.is_some_and(|up| since > up) && now.saturating_duration_since(since) < NEWCOMER
    }

    /// What patients there are is looked at again after this.
    pub(super) fn look_interval(&self) -> Duration {
        LOOK.min(self.shortest / 4)
    }

    pub(super) fn look_soon(&mut self, at: Instant) {
        self.next_look = Some(self.next_look.map_or(at, |next| next.min(at)));
    }

    fn no_place(&mut self, lane: Lane, domains: usize, now: Instant) {
        if domains == 0 {
            return;
        }
        self.skip(lane, "no_place", domains);
        let stuck = self.calls.values().filter(|open| open.overdue && open.place.is_some()).count();
        if self.place_complaint.is_news("no place", now) {
            tracing::warn!(lane = lane.label(), domains, stuck, "not asked in this period: no place left at libvirtd");
        }
    }

    pub(super) fn skip(&self, lane: Lane, reason: &str, turns: usize) {
        let turns = u64::try_from(turns).unwrap_or(u64::MAX);
        self.store.metrics.lane_skipped.with_label_values(&[lane.label(), reason]).inc_by(turns);
    }

    /// Tells the store of turns that are over: whoever waits for a complete picture waits for the first of each group.
    fn end_turns(&mut self) {
        let under_way =
            |lane: Lane| self.calls.values().any(|open| open.lane == lane && open.ask.is_some() && !open.overdue);
        if !self.link.admitting && !self.monitor.has_work() && self.aside.is_empty() && !under_way(Lane::Monitor) {
            self.store.asked_all(std::mem::take(&mut self.monitor_turn));
        }
        if !self.free.has_work() && !under_way(Lane::Free) {
            self.store.asked_all(std::mem::take(&mut self.free_turn));
        }
        self.time_turn();
        if !self.calls.values().any(|open| open.lane == Lane::BlockInfo && !open.overdue) {
            self.keep_block_answers();
        }
    }

    /// Puts into the store and the metrics what others show.
    fn show(&mut self) {
        let metrics = &self.store.metrics;
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        for (kind, open) in self.budget.open() {
            metrics.calls_open.with_label_values(&[kind.label()]).set(number(open));
        }
        metrics.quarantined.set(number(self.ward.quarantined()));
        metrics.storage_blocked.set(number(self.storage.blocked()));
        if !self.ward.is_empty() {
            let changes = self.ward.changes(&self.store.snapshot());
            if !changes.is_empty() {
                self.store.apply_health(changes);
            }
        }
    }

    /// May this domain's monitor be asked alone, to find out how it is?
    pub(super) fn on_probation(&self) -> Vec<DomainId> {
        self.ward.filter(|patient| patient.standing() == Standing::Probation)
    }
}
