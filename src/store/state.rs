//! What is behind the store's lock, and the rules by which answers change it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use imbl::Vector;

use super::block_info::BlockInfoAnswer;
use super::directory::Registrar;
use super::kernel::KernelStatus;
use super::known::{Apart, Known};
use super::lanes::Verdict;
use super::leases::Leases;
use super::life;
use super::snapshot::{Domain, Link, Order, Shards, Snapshot, StaleAfter};
use super::window::{NotTaken, Sampled};
use crate::model::{
    DomainEvent, DomainHealth, DomainId, DomainRecord, Group, GroupSet, KernelFigures, ListedDomain, Moment, Process,
    RunId, Stamp,
};

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

/// What the process of a run tells.
#[derive(Default)]
pub(super) struct ProcessNews {
    /// It is another run than the one that was known.
    pub(super) another: bool,
    /// How long its start took, if that is known by now.
    pub(super) startup: Option<Duration>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) domains: HashMap<DomainId, Known>,
    pub(super) gone: HashMap<DomainId, Instant>,
    /// Lives of domains that are not there at present, and since when; forgotten with the gone.
    pub(super) apart: HashMap<DomainId, (Instant, Apart)>,
    pub(super) order: Option<Arc<Order>>,
    pub(super) registrar: Registrar,
    /// The domains of the newest snapshot, in that order. Snapshots share all of it but what changed between them.
    pub(super) shown: Vector<Arc<Domain>>,
    /// Whose domain may differ from what is shown.
    pub(super) touched: Vec<DomainId>,
    pub(super) link: Link,
    pub(super) stale_after: StaleAfter,
    /// When the newest list was asked for.
    pub(super) listed: Option<Stamp>,
    pub(super) bulk_problem: Option<Arc<str>>,
    pub(super) hint: Option<Arc<str>>,
    pub(super) leases: Leases,
    pub(super) shards: Shards,
    pub(super) kernel: Arc<KernelStatus>,
    pub(super) answered: GroupSet,
    pub(super) sampled: Option<Stamp>,
    pub(super) sequence: u64,
    pub(super) listeners: Vec<Sender<()>>,
}

impl State {
    pub(super) fn build(&mut self) -> Snapshot {
        let order = self.show();
        self.sequence += 1;
        Snapshot {
            sequence: self.sequence,
            sampled: self.sampled,
            listed: self.listed,
            link: self.link.clone(),
            problem: self.problem().cloned(),
            hint: self.hint.clone(),
            leases: self.leases.clone(),
            shards: self.shards,
            kernel: Arc::clone(&self.kernel),
            incomplete: self.incomplete(),
            stale_after: self.stale_after,
            domains: self.shown.clone(),
            order,
            directory: self.registrar.directory.clone(),
        }
    }

    /// Brings `shown` up to date. An answer is about a few of many domains, and so costs no more than those.
    fn show(&mut self) -> Arc<Order> {
        let touched = std::mem::take(&mut self.touched);
        for id in &touched {
            self.registrar.enter(*id, self.domains.get(id).map(|known| &*known.domain));
        }
        if let Some(order) = &self.order {
            for id in touched {
                if let (Some(known), Some(place)) = (self.domains.get(&id), order.place(id)) {
                    self.shown.set(place, Arc::clone(&known.domain));
                }
            }
            return Arc::clone(order);
        }
        let mut domains: Vec<&Arc<Domain>> = self.domains.values().map(|known| &known.domain).collect();
        domains.sort_unstable_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        let order = Arc::new(Order::new(domains.iter().map(|domain| domain.id)));
        self.shown = domains.into_iter().map(Arc::clone).collect();
        Arc::clone(self.order.insert(order))
    }

    /// The domain, to be changed; what it is changed to will be shown.
    pub(super) fn touch(&mut self, id: DomainId) -> Option<&mut Known> {
        let known = self.domains.get_mut(&id)?;
        self.touched.push(id);
        Some(known)
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
        self.touched.push(record.id);
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
                let (apart, is_new) = (take_apart(&mut self.apart, record.id), is_new(self.listed, started));
                entry.insert(Known::new((record.id, record.name.clone(), Some(run)), started, apart, is_new))
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
        let figures = known.keep_for_comparison(started, now, record.figures, &self.stale_after);
        let not_taken = Arc::make_mut(&mut known.domain).windows.push(started, now, figures, &self.stale_after);
        known.measure();
        not_taken
    }

    /// Something was asked for then.
    pub(super) fn note_sampled(&mut self, started: Stamp) {
        self.sampled = Some(started.or_later(self.sampled));
    }

    /// Takes a look of the kernel lane at one domain; `None` if it is about another run.
    pub(super) fn take_kernel(
        &mut self,
        started: Stamp,
        network: Stamp,
        (id, run): (DomainId, RunId),
        figures: KernelFigures,
    ) -> Option<Verdict> {
        let known = self.domains.get_mut(&id).filter(|known| known.domain.run == Some(run))?;
        if known.predates_run(started) || started.at < known.domain.known_since.at {
            return None;
        }
        self.touched.push(id);
        let verdict = known.take_kernel(started, network, figures, &self.stale_after);
        known.forget_rates(verdict.lasting);
        known.measure();
        Some(verdict)
    }

    /// The kernel tells nothing of a domain any more.
    pub(super) fn lose_kernel(&mut self, id: DomainId) {
        let Some(known) = self.domains.get_mut(&id) else { return };
        if !known.domain.windows.lanes.kernel().is_empty() {
            Arc::make_mut(&mut known.domain).windows.lanes.lose_kernel();
            self.touched.push(id);
        }
    }

    /// Takes the sizes of a disk, and returns whether they came in time; `None` if they are about another run.
    pub(super) fn take_block_info(&mut self, now: Instant, answer: &BlockInfoAnswer) -> Option<bool> {
        let limit = self.stale_after.get(Group::BlockInfo)?;
        let known = self.touch(answer.id)?;
        if answer.run.is_none() || known.domain.run != answer.run {
            return None;
        }
        let started = answer.started;
        let is_of_run_before = started.at < known.domain.known_since.at || known.predates_run(started);
        if is_of_run_before || now.saturating_duration_since(started.at) > limit {
            return Some(false);
        }
        let sizes = &mut Arc::make_mut(&mut known.domain).windows.block_info;
        Some(sizes.push(started, &answer.target, answer.info))
    }

    /// Notes how a domain answers, and returns whether that is news. Who is not running has nothing to answer with.
    pub(super) fn take_health(&mut self, id: DomainId, health: DomainHealth) -> bool {
        let known = self.touch(id).filter(|known| known.domain.run.is_some());
        known.is_some_and(|known| {
            let news = known.domain.health != health;
            if news {
                Arc::make_mut(&mut known.domain).health = health;
            }
            news
        })
    }

    /// Notes the start of the process of a run, and returns what that tells.
    pub(super) fn take_process(&mut self, now: Moment, (id, run, process): (DomainId, RunId, Process)) -> ProcessNews {
        let Some(known) = self.domains.get_mut(&id).filter(|known| known.domain.run == Some(run)) else {
            return ProcessNews::default();
        };
        let another = known.is_another_process(process.start_ticks);
        if another {
            known.begin_run(Some(run), now.stamp);
            // So that the old start cannot come back as a third one.
            known.is_another_process(process.start_ticks);
        }
        if !another && known.domain.pid == Some(process.pid) {
            return ProcessNews::default();
        }
        let another = another || known.forget_before_process(life::ticks(process.start_ticks), now);
        self.touched.push(id);
        let domain = Arc::make_mut(&mut known.domain);
        domain.pid = Some(process.pid);
        known.runs.has_process(life::ticks(process.start_ticks), now, &mut domain.life);
        ProcessNews { another, startup: known.runs.take_startup() }
    }

    /// Takes in what happened to a domain, whether it is known yet or not, and returns how long its start took if that is
    /// known by it.
    pub(super) fn take_event(&mut self, at: Moment, event: &DomainEvent) -> Option<Duration> {
        if let Some(known) = self.touch(event.id) {
            let domain = Arc::make_mut(&mut known.domain);
            known.runs.happened(event, at, domain.run, &mut domain.life);
            return known.runs.take_startup();
        }
        let (since, apart) = self.apart.entry(event.id).or_insert_with(|| (at.stamp.at, Apart::default()));
        *since = at.stamp.at;
        apart.runs.happened(event, at, None, &mut apart.life);
        None
    }

    /// Takes one domain of the list.
    pub(super) fn list(&mut self, started: Stamp, now: Instant, listed: ListedDomain) {
        self.touched.push(listed.id);
        let known = match self.domains.entry(listed.id) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                if outdated(&self.gone, listed.id, started, now) {
                    return;
                }
                self.order = None;
                let (apart, is_new) = (take_apart(&mut self.apart, listed.id), is_new(self.listed, started));
                entry.insert(Known::new((listed.id, listed.name.clone(), listed.run), started, apart, is_new))
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
        if let Some(state) = listed.state {
            Arc::make_mut(&mut known.domain).resting = Some(Sampled { started, figures: state });
        }
        if let Some(description) = listed.description {
            known.described = Some(listed.run);
            if known.domain.described_run != listed.run {
                Arc::make_mut(&mut known.domain).described_run = listed.run;
            }
            if known.domain.description.as_ref() != Some(&description) {
                Arc::make_mut(&mut known.domain).description = Some(description);
            }
        }
    }

    /// Domains about whose presence nothing newer is known.
    pub(super) fn known_before(&self, started: Stamp) -> impl Iterator<Item = DomainId> {
        self.domains.iter().filter(move |(_, known)| known.seen < started.at).map(|(id, _)| *id)
    }

    /// Does this one run, with nothing newer known about its presence?
    pub(super) fn ran_before(&self, id: DomainId, started: Stamp) -> bool {
        self.domains.get(&id).is_some_and(|known| known.seen < started.at && known.domain.run.is_some())
    }

    /// Which groups are sampled from now on; samples of others would stay for ever.
    pub(super) fn configure(&mut self, stale_after: StaleAfter) {
        self.stale_after = stale_after;
        for (id, known) in &mut self.domains {
            self.touched.push(*id);
            known.keep_groups(&stale_after);
        }
    }

    /// Runs are numbered anew.
    pub(super) fn forget_numbers(&mut self) {
        for (id, known) in &mut self.domains {
            let domain = Arc::make_mut(&mut known.domain);
            known.runs.forget_numbers(domain.run, &mut domain.life);
            self.touched.push(*id);
        }
        for (_, apart) in self.apart.values_mut() {
            apart.runs.forget_numbers(None, &mut apart.life);
        }
    }

    pub(super) fn forget_gone(&mut self, now: Instant) {
        self.gone.retain(|_, at| now.saturating_duration_since(*at) < REMEMBER_GONE);
        self.apart.retain(|_, (at, _)| now.saturating_duration_since(*at) < REMEMBER_GONE);
    }

    pub(super) fn remove(&mut self, id: DomainId, at: Instant) {
        if let Some(Known { domain, mut runs, .. }) = self.domains.remove(&id) {
            let mut life = domain.life.clone();
            runs.went_away(domain.run, &mut life);
            self.apart.insert(id, (at, Apart { life, runs }));
        }
        self.touched.push(id);
        self.gone.insert(id, at);
        self.order = None;
    }
}

/// Is what this call says of an unknown domain too old to be believed?
fn outdated(gone: &HashMap<DomainId, Instant>, id: DomainId, started: Stamp, now: Instant) -> bool {
    let took = now.saturating_duration_since(started.at);
    took >= REMEMBER_GONE || gone.get(&id).is_some_and(|at| *at >= started.at)
}

/// Was a domain that nobody knew when this call began in no list before? Then it came while we looked on.
fn is_new(listed: Option<Stamp>, started: Stamp) -> bool {
    listed.is_some_and(|listed| listed.at < started.at)
}

fn take_apart(apart: &mut HashMap<DomainId, (Instant, Apart)>, id: DomainId) -> Apart {
    apart.remove(&id).map(|(_, apart)| apart).unwrap_or_default()
}
