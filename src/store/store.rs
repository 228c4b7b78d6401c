//! Takes answers, keeps what is newest, and publishes snapshots.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, bounded};
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;

use super::block_info::BlockInfoAnswer;
use super::heartbeats::{Heartbeats, Part};
use super::host::HostWindow;
use super::known::Known;
use super::leases::Leases;
use super::metrics::SelfMetrics;
use super::scrapes::{ScraperId, Scrapes};
use super::snapshot::{Link, Shards, Snapshot, StaleAfter};
use super::state::{Changes, State};
use super::window::NotTaken;
use crate::clock::Clock;
use crate::model::host::{HostSample, PathSpace};
use crate::model::{
    BulkReply, BulkRequest, DomainEvent, DomainHealth, DomainId, GroupSet, InventoryReply, InventoryRequest, Lease,
    Moment, Process, RunId, Scope, Stamp,
};

/// The one place where samples live.
pub struct Store {
    clock: Arc<dyn Clock>,
    /// The sampler's own metrics.
    pub metrics: SelfMetrics,
    heartbeats: Heartbeats,
    pub(super) state: Mutex<State>,
    published: RwLock<Arc<Snapshot>>,
    newest: watch::Sender<u64>,
    scrapes: Scrapes,
    host: RwLock<Arc<HostWindow>>,
    began: Moment,
}

impl Store {
    /// An empty store: link down, nothing known.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let mut state = State::default();
        let began = Moment { stamp: Stamp { at: clock.now(), wall: clock.wall() }, since_boot: clock.since_boot() };
        let first = Arc::new(state.build());
        Self {
            metrics: SelfMetrics::new(),
            heartbeats: Heartbeats::new(clock.now()),
            state: Mutex::new(state),
            newest: watch::Sender::new(first.sequence),
            published: RwLock::new(first),
            scrapes: Scrapes::new(),
            host: RwLock::default(),
            began,
            clock,
        }
    }

    /// The newest snapshot.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.published.read())
    }

    /// Monotonic time, of the clock that stamps the samples.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.clock.now()
    }

    /// Both times, as of now.
    #[must_use]
    pub fn stamp(&self) -> Stamp {
        Stamp { at: self.clock.now(), wall: self.clock.wall() }
    }

    /// All times, as of now.
    #[must_use]
    pub fn moment(&self) -> Moment {
        Moment { stamp: self.stamp(), since_boot: self.clock.since_boot() }
    }

    /// When the service began.
    #[must_use]
    pub fn began(&self) -> Moment {
        self.began
    }

    /// Says that a part of the service lives. Whoever began must go on, or the service counts as standing still.
    pub fn beat(&self, part: Part) {
        self.heartbeats.beat(part, self.clock.now());
    }

    /// The parts that stand still, and for how long.
    #[must_use]
    pub fn standing_still(&self) -> Vec<(Part, Duration)> {
        self.heartbeats.standing_still(self.clock.now())
    }

    /// A channel that holds a message whenever there is a snapshot that its owner may not have seen.
    #[must_use]
    pub fn subscribe(&self) -> Receiver<()> {
        let (sender, receiver) = bounded(1);
        self.state.lock().listeners.push(sender);
        receiver
    }

    /// The sequence number of the newest snapshot, to be waited for.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.newest.subscribe()
    }

    /// The newest looks at the host.
    #[must_use]
    pub fn host(&self) -> Arc<HostWindow> {
        Arc::clone(&self.host.read())
    }

    /// Takes a look at the host; it is shown for so long.
    pub fn apply_host(&self, started: Stamp, sample: HostSample, stale_after: Duration) {
        // Only one thread writes, so nothing comes in between.
        let next = self.host().with(started, sample, stale_after);
        *self.host.write() = Arc::new(next);
    }

    /// Takes what is known of the paths whose space is watched.
    pub fn set_path_spaces(&self, paths: Vec<PathSpace>) {
        let next = self.host().with_paths(paths);
        *self.host.write() = Arc::new(next);
    }

    /// Says which groups are sampled, and when each is stale.
    pub fn configure(&self, stale_after: StaleAfter) {
        let mut state = self.state.lock();
        state.configure(stale_after);
        self.publish(&mut state);
    }

    /// Forgets every domain: what comes next is about another libvirt. The host that this runs on stays.
    pub fn forget(&self) {
        let mut state = self.state.lock();
        let listeners = std::mem::take(&mut state.listeners);
        let (sequence, stale_after, kernel) = (state.sequence, state.stale_after, Arc::clone(&state.kernel));
        *state = State { sequence, stale_after, kernel, listeners, ..State::default() };
        self.publish(&mut state);
    }

    /// Says that there is no connection, and why. A list of domains says that there is one.
    pub fn link_lost(&self, problem: &str) {
        let mut state = self.state.lock();
        let link = Link { up: false, problem: Some(problem.into()), versions: state.link.versions.clone() };
        if state.link != link {
            state.link = link;
            self.publish(&mut state);
        }
    }

    /// Says why bulk calls fail, or that they do not.
    pub fn set_bulk_problem(&self, problem: Option<&str>) {
        let mut state = self.state.lock();
        if state.bulk_problem.as_deref() != problem {
            state.bulk_problem = problem.map(Into::into);
            self.publish(&mut state);
        }
    }

    /// Gives advice to whoever looks at the status, or takes it back; says whether that is news.
    pub fn set_hint(&self, hint: Option<&str>) -> bool {
        let mut state = self.state.lock();
        let news = state.hint.as_deref() != hint;
        if news {
            state.hint = hint.map(Into::into);
            self.publish(&mut state);
        }
        news
    }

    /// Says how the bulk calls of the present turns are cut. It is shown with the next answer.
    pub fn set_shards(&self, shards: Shards) {
        self.state.lock().shards = shards;
    }

    /// Notes that a client asked for /metrics. Cheap; in a flood some are lost.
    pub fn note_scrape(&self, client: ScraperId, at: Instant) {
        self.scrapes.note(client, at);
    }

    /// The scrapes since the last time, oldest first. Only a few are kept, those of `followed` before others: take them every
    /// few seconds.
    #[must_use]
    pub fn take_scrapes(&self, followed: Option<ScraperId>) -> Vec<(ScraperId, Instant)> {
        self.scrapes.take(followed)
    }

    /// Takes a bulk reply. Domains that should be in it and are not are removed at once.
    pub fn apply_bulk(&self, started: Stamp, request: &BulkRequest, reply: BulkReply) -> Changes {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let mut changes = Changes::default();
        let mut not_taken = NotTaken::default();
        let mut present: Vec<DomainId> = Vec::with_capacity(reply.records.len());
        for record in reply.records {
            // A domain that stopped while it was asked has nothing to say.
            let Some(run) = record.run else { continue };
            present.push(record.id);
            not_taken += state.take(started, now, run, record, &mut changes);
        }
        present.sort_unstable();
        let is_absent = |id: &DomainId| present.binary_search(id).is_err() && state.ran_before(*id, started);
        let absent: Vec<DomainId> = match &request.scope {
            Scope::All => state.domains.keys().copied().filter(is_absent).collect(),
            Scope::Only(ids) => ids.iter().copied().filter(is_absent).collect(),
        };
        for id in absent {
            state.remove(id, started.at);
            changes.domains = true;
        }
        if request.scope == Scope::All {
            state.answered = state.answered.union(request.groups);
        }
        self.metrics.samples_dropped.with_label_values(&["late"]).inc_by(not_taken.late);
        self.metrics.samples_dropped.with_label_values(&["went_back"]).inc_by(not_taken.went_back);
        self.metrics.count_decoding(reply.decode);
        state.note_sampled(started);
        self.publish(&mut state);
        changes
    }

    /// Says that every running domain was asked for these groups, and answered or was written off.
    pub fn asked_all(&self, groups: GroupSet) {
        let mut state = self.state.lock();
        let answered = state.answered.union(groups);
        if answered != state.answered {
            state.answered = answered;
            self.publish(&mut state);
        }
    }

    /// Takes the sizes of many disks at once, whatever their domains: a snapshot for each would cost more than the calls.
    pub fn apply_block_infos(&self, answers: Vec<BlockInfoAnswer>) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let (mut taken, mut late) = (false, 0);
        for answer in answers {
            match state.take_block_info(now, &answer) {
                Some(true) => taken = true,
                Some(false) => late += 1,
                None => {}
            }
        }
        self.metrics.samples_dropped.with_label_values(&["late"]).inc_by(late);
        if taken {
            self.publish(&mut state);
        }
    }

    /// Forgets the sizes of disks that a domain does not have any more; it has these.
    pub fn keep_block_info(&self, id: DomainId, targets: &[Box<str>]) {
        let mut state = self.state.lock();
        let has_others = |known: &Known| known.domain.windows.block_info.has_others(targets);
        if state.domains.get(&id).is_some_and(has_others)
            && let Some(known) = state.touch(id)
        {
            Arc::make_mut(&mut known.domain).windows.block_info.keep_only(targets);
            self.publish(&mut state);
        }
    }

    /// Notes how domains answer. It holds until it is said otherwise, or until the run ends.
    pub fn apply_health(&self, changes: Vec<(DomainId, DomainHealth)>) {
        let mut state = self.state.lock();
        let mut news = false;
        for (id, health) in changes {
            news |= state.take_health(id, health);
        }
        if news {
            self.publish(&mut state);
        }
    }

    /// Notes the QEMU process of each run, and when it started. libvirt may give a run the id of one before; another
    /// start tells them apart, so that no figures are compared across it.
    pub fn apply_processes(&self, starts: &[(DomainId, RunId, Process)]) -> Changes {
        let now = self.moment();
        let mut state = self.state.lock();
        let mut restarted = 0;
        for start in starts {
            let news = state.take_process(now, *start);
            restarted += usize::from(news.another);
            self.metrics.count_startup(news.startup);
        }
        if restarted > 0 {
            self.publish(&mut state);
        }
        Changes { domains: restarted > 0, devices: Vec::new() }
    }

    /// Takes in what happened to a domain. It is shown with the next answer: what happens comes in storms, and is followed by
    /// a list or a sample soon.
    pub fn apply_event(&self, at: Moment, event: &DomainEvent) {
        self.metrics.count_event(&event.what);
        let startup = self.state.lock().take_event(at, event);
        self.metrics.count_startup(startup);
    }

    /// Says that another libvirtd answers from now on, which numbers runs anew.
    pub fn forget_run_numbers(&self) {
        self.state.lock().forget_numbers();
    }

    /// Takes a list of all domains. Those that are not in it are removed.
    pub fn apply_inventory(&self, started: Stamp, reply: InventoryReply) {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let mut present: Vec<DomainId> = reply.domains.iter().map(|listed| listed.id).collect();
        present.sort_unstable();
        for listed in reply.domains {
            state.list(started, now, listed);
        }
        let absent: Vec<DomainId> =
            state.known_before(started).filter(|id| present.binary_search(id).is_err()).collect();
        for id in absent {
            state.remove(id, started.at);
        }
        state.forget_gone(now);
        state.listed = Some(started.or_later(state.listed));
        state.link = Link { up: true, problem: None, versions: Some(reply.versions) };
        self.metrics.descriptions_failed.inc_by(reply.failed_descriptions);
        self.publish(&mut state);
    }

    /// Takes the addresses that networks lent, or why they are not known.
    pub fn apply_leases(&self, leases: Result<&[Lease], &str>) {
        let now = self.clock.now();
        let leases = leases.map_or_else(Leases::unknown, |leases| Leases::new(leases, now));
        let mut state = self.state.lock();
        state.leases = leases;
        self.publish(&mut state);
    }

    /// What the next inventory call need not read, with `full` and `refresh` as the caller wants.
    #[must_use]
    pub fn known_descriptions(&self) -> InventoryRequest {
        let state = self.state.lock();
        let known = state.domains.iter().filter_map(|(id, known)| Some((*id, known.described?))).collect();
        InventoryRequest { known, ..InventoryRequest::default() }
    }

    /// Builds a snapshot and swaps it in; the lock that readers share is held for the swap alone.
    pub(super) fn publish(&self, state: &mut State) {
        let snapshot = Arc::new(state.build());
        let old = {
            let mut published = self.published.write();
            std::mem::replace(&mut *published, snapshot)
        };
        // Freeing the old one can take a while, so not under the lock.
        drop(old);
        self.newest.send_replace(state.sequence);
        // A full channel already holds the news; a closed one has lost its listener.
        state.listeners.retain(|listener| !matches!(listener.try_send(()), Err(error) if error.is_disconnected()));
    }
}
