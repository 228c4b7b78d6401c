//! What is behind the store's lock, and the rules by which answers change it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;

use super::block_info::BlockInfoAnswer;
use super::known::Known;
use super::snapshot::{Link, Order, Snapshot, StaleAfter};
use super::window::{NotTaken, Sampled};
use crate::model::{DomainHealth, DomainId, DomainRecord, Group, GroupSet, ListedDomain, RunId, Stamp};

/// For how long it is remembered that a domain went away, so that an answer asked for earlier cannot bring it back. What a
/// call that took longer says about unknown domains is not believed.
const REMEMBER_GONE: Duration = Duration::from_secs(600);

/// What an answer gave reason to ask next.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Domains came or went: the list is to be read again.
    pub domains: bool,
    /// These have other devices than their XML said.
    pub devices: Vec<DomainId>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) domains: HashMap<DomainId, Known>,
    pub(super) gone: HashMap<DomainId, Instant>,
    pub(super) order: Option<Arc<Order>>,
    pub(super) link: Link,
    pub(super) stale_after: StaleAfter,
    /// When the newest list was asked for.
    pub(super) listed: Option<Stamp>,
    pub(super) bulk_problem: Option<Arc<str>>,
    pub(super) hint: Option<Arc<str>>,
    pub(super) answered: GroupSet,
    pub(super) sampled: Option<Stamp>,
    pub(super) sequence: u64,
    pub(super) listeners: Vec<Sender<()>>,
}

impl State {
    pub(super) fn build(&mut self) -> Snapshot {
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
            listed: self.listed,
            link: self.link.clone(),
            problem: self.problem().cloned(),
            hint: self.hint.clone(),
            incomplete: self.incomplete(),
            stale_after: self.stale_after,
            domains: order.ids.iter().filter_map(|id| Some(Arc::clone(&self.domains.get(id)?.domain))).collect(),
            order,
        }
    }

    /// What is wrong at present: the connection, else the bulk calls.
    fn problem(&self) -> Option<&Arc<str>> {
        self.link.problem.as_ref().or(self.bulk_problem.as_ref())
    }

    fn incomplete(&self) -> Option<Arc<str>> {
        if self.listed.is_none() {
            let problem = self.link.problem.as_deref().unwrap_or("connecting to libvirt");
            return Some(problem.into());
        }
        let wanted: GroupSet = self.stale_after.groups().filter(|group| group.is_bulk()).collect();
        let missing = wanted.without(self.answered);
        if missing.is_empty() {
            return None;
        }
        let names: Vec<&str> = missing.iter().map(Group::label).collect();
        let problem = self.problem().map(|problem| format!("; {problem}")).unwrap_or_default();
        Some(format!("no complete sample yet of: {}{problem}", names.join(", ")).into())
    }

    /// Takes one record, and returns how many of its groups were not taken.
    pub(super) fn take(
        &mut self,
        started: Stamp,
        now: Instant,
        run: RunId,
        record: DomainRecord,
        changes: &mut Changes,
    ) -> NotTaken {
        let late = NotTaken { late: record.figures.count(), ..NotTaken::default() };
        let known = match self.domains.entry(record.id) {
            Entry::Occupied(entry) => {
                let known = entry.into_mut();
                let other_run = known.domain.run != Some(run);
                if other_run && known.seen >= started.at {
                    return late;
                }
                if other_run || known.restarted(started, &record) {
                    changes.domains = true;
                    known.begin_run(Some(run), started);
                } else if known.predates_run(started) {
                    return late;
                }
                known
            }
            Entry::Vacant(entry) => {
                if outdated(&self.gone, record.id, started, now) {
                    return late;
                }
                changes.domains = true;
                self.order = None;
                entry.insert(Known::new(record.id, record.name.clone(), Some(run), started))
            }
        };
        // What is late says nothing of how the domain is called, and which devices it has, now.
        if started.at >= known.seen {
            known.seen = started.at;
            if known.rename(&record.name) {
                self.order = None;
            }
            if known.devices_changed(&record) {
                changes.devices.push(record.id);
            }
        }
        Arc::make_mut(&mut known.domain).windows.push(started, now, record.figures, &self.stale_after)
    }

    /// Takes the sizes of a disk, and returns whether they came in time; `None` if they are about another run.
    pub(super) fn take_block_info(&mut self, now: Instant, answer: &BlockInfoAnswer) -> Option<bool> {
        let limit = self.stale_after.get(Group::BlockInfo)?;
        let known = self.domains.get_mut(&answer.id)?;
        if answer.run.is_none() || known.domain.run != answer.run {
            return None;
        }
        let started = answer.started;
        if known.predates_run(started) || now.saturating_duration_since(started.at) > limit {
            return Some(false);
        }
        let sizes = &mut Arc::make_mut(&mut known.domain).windows.block_info;
        Some(sizes.push(started, &answer.target, answer.info))
    }

    /// Notes how a domain answers, and returns whether that is news. Who is not running has nothing to answer with.
    pub(super) fn take_health(&mut self, id: DomainId, health: DomainHealth) -> bool {
        let known = self.domains.get_mut(&id).filter(|known| known.domain.run.is_some());
        known.is_some_and(|known| {
            let news = known.domain.health != health;
            if news {
                Arc::make_mut(&mut known.domain).health = health;
            }
            news
        })
    }

    /// Notes the start of the process of a run, and returns whether it is another run by that.
    pub(super) fn take_process(&mut self, now: Stamp, (id, run, start_ticks): (DomainId, RunId, u64)) -> bool {
        let known = self.domains.get_mut(&id).filter(|known| known.domain.run == Some(run));
        known.is_some_and(|known| {
            let another = known.is_another_process(start_ticks);
            if another {
                known.begin_run(Some(run), now);
                // So that the old start cannot come back as a third one.
                known.is_another_process(start_ticks);
            }
            another
        })
    }

    /// Takes one domain of the list.
    pub(super) fn list(&mut self, started: Stamp, now: Instant, listed: ListedDomain) {
        let known = match self.domains.entry(listed.id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                if outdated(&self.gone, listed.id, started, now) {
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
        // What is late says nothing of how the domain is called now.
        if started.at >= known.seen {
            known.seen = started.at;
            if known.rename(&listed.name) {
                self.order = None;
            }
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

    /// Domains about whose presence nothing newer is known.
    pub(super) fn known_before(&self, started: Stamp) -> impl Iterator<Item = DomainId> {
        self.domains.iter().filter(move |(_, known)| known.seen < started.at).map(|(id, _)| *id)
    }

    /// Those of them that run.
    pub(super) fn running_before(&self, started: Stamp) -> impl Iterator<Item = DomainId> {
        self.known_before(started).filter(|id| self.domains.get(id).is_some_and(|known| known.domain.run.is_some()))
    }

    /// Which groups are sampled from now on; samples of others would stay for ever.
    pub(super) fn configure(&mut self, stale_after: StaleAfter) {
        self.stale_after = stale_after;
        for known in self.domains.values_mut() {
            let domain = Arc::make_mut(&mut known.domain);
            for group in Group::ALL.into_iter().filter(|group| stale_after.get(*group).is_none()) {
                domain.windows.clear(group);
            }
        }
    }

    pub(super) fn forget_gone(&mut self, now: Instant) {
        self.gone.retain(|_, at| now.saturating_duration_since(*at) < REMEMBER_GONE);
    }

    pub(super) fn remove(&mut self, id: DomainId, at: Instant) {
        self.domains.remove(&id);
        self.gone.insert(id, at);
        self.order = None;
    }
}

/// Is what this call says of an unknown domain too old to be believed?
fn outdated(gone: &HashMap<DomainId, Instant>, id: DomainId, started: Stamp, now: Instant) -> bool {
    let took = now.saturating_duration_since(started.at);
    took >= REMEMBER_GONE || gone.get(&id).is_some_and(|at| *at >= started.at)
}
