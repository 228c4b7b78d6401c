//! Takes answers, keeps what is newest, and publishes snapshots.

use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, bounded};
use parking_lot::{Mutex, RwLock};

use super::metrics::SelfMetrics;
use super::snapshot::{Link, Snapshot, StaleAfter};
use super::state::{Changes, State};
use crate::clock::Clock;
use crate::model::{BulkReply, BulkRequest, DomainId, InventoryReply, InventoryRequest, Scope, Stamp};

/// The one place where samples live.
pub struct Store {
    clock: Arc<dyn Clock>,
    /// The sampler's own metrics.
    pub metrics: SelfMetrics,
    state: Mutex<State>,
    published: RwLock<Arc<Snapshot>>,
}

impl Store {
    /// An empty store: link down, nothing known.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let mut state = State::default();
        let first = Arc::new(state.build());
        Self { clock, metrics: SelfMetrics::new(), state: Mutex::new(state), published: RwLock::new(first) }
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

    /// A channel that holds a message whenever there is a snapshot that its owner may not have seen.
    #[must_use]
    pub fn subscribe(&self) -> Receiver<()> {
        let (sender, receiver) = bounded(1);
        self.state.lock().listeners.push(sender);
        receiver
    }

    /// Says which groups are sampled, and when each is stale.
    pub fn configure(&self, stale_after: StaleAfter) {
        let mut state = self.state.lock();
        state.configure(stale_after);
        self.publish(&mut state);
    }

    /// Forgets every domain: what comes next is about another host.
    pub fn forget(&self) {
        let mut state = self.state.lock();
        let listeners = std::mem::take(&mut state.listeners);
        let (sequence, stale_after) = (state.sequence, state.stale_after);
        *state = State { sequence, stale_after, listeners, ..State::default() };
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

    /// Takes a bulk reply. Domains that should be in it and are not are removed at once.
    pub fn apply_bulk(&self, started: Stamp, request: &BulkRequest, reply: BulkReply) -> Changes {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let mut changes = Changes::default();
        let mut late = 0;
        let mut present: Vec<DomainId> = Vec::with_capacity(reply.records.len());
        for record in reply.records {
            // A domain that stopped while it was asked has nothing to say.
            let Some(run) = record.run else { continue };
            present.push(record.id);
            late += state.take(started, now, run, record, &mut changes);
        }
        present.sort_unstable();
        let absent: Vec<DomainId> = match &request.scope {
            Scope::All => state.running_before(started).filter(|id| present.binary_search(id).is_err()).collect(),
            Scope::Only(ids) => state
                .running_before(started)
                .filter(|id| ids.contains(id) && present.binary_search(id).is_err())
                .collect(),
        };
        for id in absent {
            state.remove(id, started.at);
            changes.domains = true;
        }
        if request.scope == Scope::All {
            state.answered = state.answered.union(request.groups);
        }
        self.metrics.samples_dropped.with_label_values(&["late"]).inc_by(late);
        self.metrics.count_decoding(reply.decode);
        state.sampled = newest(state.sampled, started);
        self.publish(&mut state);
        changes
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
        state.listed = newest(state.listed, started);
        state.link = Link { up: true, problem: None, versions: Some(reply.versions) };
        self.metrics.descriptions_failed.inc_by(reply.failed_descriptions);
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
    fn publish(&self, state: &mut State) {
        let snapshot = Arc::new(state.build());
        let old = {
            let mut published = self.published.write();
            std::mem::replace(&mut *published, snapshot)
        };
        // Freeing the old one can take a while, so not under the lock.
        drop(old);
        // A full channel already holds the news; a closed one has lost its listener.
        state.listeners.retain(|listener| !matches!(listener.try_send(()), Err(error) if error.is_disconnected()));
    }
}

/// Calls may end in another order than they began in.
fn newest(known: Option<Stamp>, started: Stamp) -> Option<Stamp> {
    known.filter(|known| known.at > started.at).or(Some(started))
}
