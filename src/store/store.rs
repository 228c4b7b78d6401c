//! Takes answers, keeps what is newest, and publishes snapshots.

use std::collections::HashMap;
use std::collections::hash_map::{DefaultHasher, Entry};
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::{Mutex, RwLock};

use super::metrics::SelfMetrics;
use super::snapshot::{Domain, Link, Order, Snapshot, StaleAfter};
use super::window::{Sampled, Windows};
use crate::clock::Clock;
use crate::model::{
    BulkReply, BulkRequest, DomainDescription, DomainId, DomainRecord, GroupSet, HostVersions, InventoryReply,
    InventoryRequest, ListedDomain, RunId, Scope, Stamp,
};

/// For how long it is remembered that a domain went away, so that an answer asked for earlier cannot bring it back. No
/// call that took longer than this is believed about domains that are unknown.
const REMEMBER_GONE: Duration = Duration::from_secs(600);

/// What an answer gave reason to ask next.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Domains came or went: the list is to be read again.
    pub domains: bool,
    /// These have other devices than their XML said.
    pub devices: Vec<DomainId>,
}

/// The one place where samples live.
pub struct Store {
    clock: Arc<dyn Clock>,
    /// The sampler's own metrics.
    pub metrics: SelfMetrics,
    state: Mutex<State>,
    published: RwLock<Arc<Snapshot>>,
}

#[derive(Default)]
struct State {
    domains: HashMap<DomainId, Known>,
    gone: HashMap<DomainId, Instant>,
    order: Option<Arc<Order>>,
    link: Link,
    stale_after: StaleAfter,
    listed: bool,
    answered: GroupSet,
    sampled: Option<Stamp>,
    sequence: u64,
    listeners: Vec<Sender<()>>,
}

struct Known {
    domain: Arc<Domain>,
    /// The start of the newest call that said whether, and in which run, the domain is running.
    seen: Instant,
    /// The run whose XML is in `domain`.
    described: Option<Option<RunId>>,
    disks: Option<u64>,
    nics: Option<u64>,
}

impl Store {
    /// An empty store: link down, nothing known.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let state = State::default();
        let first = Arc::new(Snapshot {
            sequence: 0,
            sampled: None,
            link: state.link.clone(),
            incomplete: state.incomplete(),
            stale_after: StaleAfter::default(),
            domains: Vec::new(),
            order: Arc::default(),
        });
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
        state.stale_after = stale_after;
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

    /// Says how the connection is.
    pub fn set_link(&self, up: bool, problem: Option<&str>, versions: Option<HostVersions>) {
        let mut state = self.state.lock();
        let versions = versions.or_else(|| state.link.versions.clone());
        let link = Link { up, problem: problem.map(Into::into), versions };
        if state.link != link {
            state.link = link;
            self.publish(&mut state);
        }
    }

    /// Takes a bulk reply. Domains that should be in it and are not are removed at once.
    pub fn apply_bulk(&self, started: Stamp, request: &BulkRequest, reply: BulkReply) -> Changes {
        let mut state = self.state.lock();
        let mut changes = Changes::default();
        let mut late = 0;
        let mut present: Vec<DomainId> = Vec::with_capacity(reply.records.len());
        for record in reply.records {
            // A domain that stopped while it was asked has nothing to say.
            let Some(run) = record.run else { continue };
            present.push(record.id);
            late += state.take(started, run, record, &mut changes);
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
        state.sampled = Some(started);
        self.publish(&mut state);
        changes
    }

    /// Takes a list of all domains. Those that are not in it are removed.
    pub fn apply_inventory(&self, started: Stamp, reply: InventoryReply) {
        let mut state = self.state.lock();
        let mut present: Vec<DomainId> = reply.domains.iter().map(|listed| listed.id).collect();
        present.sort_unstable();
        for listed in reply.domains {
            state.list(started, listed);
        }
        let older = |known: &Known| known.seen < started.at;
        let absent: Vec<DomainId> = state
            .domains
            .iter()
            .filter(|(id, known)| older(known) && present.binary_search(id).is_err())
            .map(|(id, _)| *id)
            .collect();
        for id in absent {
            state.remove(id, started.at);
        }
        state.gone.retain(|_, at| started.at.saturating_duration_since(*at) < REMEMBER_GONE);
        state.listed = true;
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

impl State {
    fn build(&mut self) -> Snapshot {
        let order = match &self.order {
            Some(order) => Arc::clone(order),
            None => {
                let mut ids: Vec<DomainId> = self.domains.keys().copied().collect();
                let name = |id: &DomainId| self.domains.get(id).map(|known| Arc::clone(&known.domain.name));
                ids.sort_by_cached_key(|id| (name(id), *id));
                Arc::clone(self.order.insert(Arc::new(Order::new(ids))))
            }
        };
        self.sequence += 1;
        Snapshot {
            sequence: self.sequence,
            sampled: self.sampled,
            link: self.link.clone(),
            incomplete: self.incomplete(),
            stale_after: self.stale_after,
            domains: order.ids.iter().filter_map(|id| Some(Arc::clone(&self.domains.get(id)?.domain))).collect(),
            order,
        }
    }

    fn incomplete(&self) -> Option<Arc<str>> {
        if !self.listed {
            let problem = self.link.problem.as_deref().unwrap_or("connecting to libvirt");
            return Some(problem.into());
        }
        let wanted: GroupSet = self.stale_after.groups().collect();
        let missing = wanted.without(self.answered);
        if missing.is_empty() {
            return None;
        }
        let names: Vec<&str> = missing.iter().map(crate::model::Group::label).collect();
        let problem = self.link.problem.as_deref().map(|problem| format!("; {problem}")).unwrap_or_default();
        Some(format!("no complete sample yet of: {}{problem}", names.join(", ")).into())
    }

    /// Takes one record, and returns how many of its groups came too late.
    fn take(&mut self, started: Stamp, run: RunId, record: DomainRecord, changes: &mut Changes) -> u64 {
        let groups = record.figures.count();
        let known = match self.domains.entry(record.id) {
            Entry::Occupied(entry) => {
                let known = entry.into_mut();
                if known.domain.run != Some(run) {
                    if known.seen >= started.at {
                        return groups;
                    }
                    changes.domains = true;
                    known.begin_run(Some(run), started);
                }
                known
            }
            Entry::Vacant(entry) => {
                if self.gone.get(&record.id).is_some_and(|at| *at >= started.at) {
                    return groups;
                }
                changes.domains = true;
                self.order = None;
                entry.insert(Known::new(record.id, record.name.clone(), Some(run), started))
            }
        };
        known.seen = known.seen.max(started.at);
        if known.rename(&record.name) {
            self.order = None;
        }
        if known.devices_changed(&record) {
            changes.devices.push(record.id);
        }
        Arc::make_mut(&mut known.domain).windows.push(started, record.figures)
    }

    /// Takes one domain of the list.
    fn list(&mut self, started: Stamp, listed: ListedDomain) {
        let known = match self.domains.entry(listed.id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                if self.gone.get(&listed.id).is_some_and(|at| *at >= started.at) {
                    return;
                }
                self.order = None;
                entry.insert(Known::new(listed.id, listed.name.clone(), listed.run, started))
            }
        };
        if known.domain.run != listed.run {
            if known.seen > started.at {
                return;
            }
            known.begin_run(listed.run, started);
        }
        known.seen = known.seen.max(started.at);
        if known.rename(&listed.name) {
            self.order = None;
        }
        let domain = Arc::make_mut(&mut known.domain);
        if let Some(state) = listed.state {
            domain.resting = Some(Sampled { started, figures: state });
        }
        if let Some(description) = listed.description {
            known.described = Some(listed.run);
            if domain.description.as_ref() != Some(&description) {
                domain.description = Some(description);
            }
        }
    }

    fn running_before(&self, started: Stamp) -> impl Iterator<Item = DomainId> {
        self.domains
            .iter()
            .filter(move |(_, known)| known.domain.run.is_some() && known.seen < started.at)
            .map(|(id, _)| *id)
    }

    fn remove(&mut self, id: DomainId, at: Instant) {
        self.domains.remove(&id);
        self.gone.insert(id, at);
        self.order = None;
    }
}

impl Known {
    fn new(id: DomainId, name: Box<str>, run: Option<RunId>, started: Stamp) -> Self {
        let domain = Arc::new(Domain {
            id,
            name: name.into(),
            run,
            known_since: started,
            resting: None,
            description: None,
            windows: Windows::default(),
        });
        Self { domain, seen: started.at, described: None, disks: None, nics: None }
    }

    /// Another run: its counters began anew, so nothing of the old samples may be compared with them.
    fn begin_run(&mut self, run: Option<RunId>, started: Stamp) {
        let domain = Arc::make_mut(&mut self.domain);
        domain.run = run;
        domain.known_since = started;
        domain.resting = None;
        domain.windows = Windows::default();
        (self.disks, self.nics) = (None, None);
    }

    fn rename(&mut self, name: &str) -> bool {
        let other = *self.domain.name != *name;
        if other {
            Arc::make_mut(&mut self.domain).name = name.into();
        }
        other
    }

    /// Do the record's devices differ from what the XML, or the record before, said? Each difference is told once.
    fn devices_changed(&mut self, record: &DomainRecord) -> bool {
        let description = self.domain.description.as_deref();
        let disks = record.figures.block.as_ref().map(|block| {
            let print = print_of(block.disks.iter().map(|disk| (disk.index, &disk.name, &disk.path)));
            let names = block.disks.iter().map(|disk| disk.name.as_deref().unwrap_or_default());
            let expected = |it: &DomainDescription| it.disks.iter().map(|d| &*d.target).eq(names);
            (print, description.is_some_and(expected))
        });
        let nics = record.figures.interface.as_ref().map(|net| {
            let print = print_of(net.interfaces.iter().map(|nic| (nic.index, &nic.name)));
            let names = net.interfaces.iter().filter_map(|nic| nic.name.as_deref());
            let targets =
                |it: &DomainDescription| it.nics.iter().map(|n| &*n.target).filter(|n| !n.is_empty()).eq(names);
            (print, description.is_some_and(targets))
        });
        // Both must be looked at: `||` would stop at the first.
        let (disks, nics) = (differs(&mut self.disks, disks), differs(&mut self.nics, nics));
        disks || nics
    }
}

/// Notes the newest fingerprint. The first one of a run is a change unless it is what the XML says.
fn differs(noted: &mut Option<u64>, newest: Option<(u64, bool)>) -> bool {
    let Some((print, as_described)) = newest else { return false };
    noted.replace(print).map_or(!as_described, |before| before != print)
}

fn print_of<T: Hash>(devices: impl Iterator<Item = T>) -> u64 {
    let mut hasher = DefaultHasher::new();
    devices.for_each(|device| device.hash(&mut hasher));
    hasher.finish()
}
