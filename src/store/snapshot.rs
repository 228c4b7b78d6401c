//! The immutable picture that exporters read.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use imbl::Vector;

use super::directory::{Directory, Key};
use super::kernel::KernelStatus;
use super::leases::Leases;
use super::life::Life;
use super::minute::Minute;
use super::window::{Sampled, Window, Windows};
use crate::model::{
    Block, BlockInfo, DomainDescription, DomainHealth, DomainId, Group, HostVersions, Mac, RunId, Stamp, StateSample,
};

/// One domain: who it is, what its XML says, and its samples.
#[derive(Debug, Clone)]
pub struct Domain {
    /// UUID.
    pub id: DomainId,
    /// Name.
    pub name: Arc<str>,
    /// Which run; `None` if it is not running.
    pub run: Option<RunId>,
    /// Its QEMU process; `None` where that is not known.
    pub pid: Option<u32>,
    /// Since when we know of this run.
    pub known_since: Stamp,
    /// How it answers, in this run.
    pub health: DomainHealth,
    /// State of a domain that is not running; running ones are sampled.
    pub resting: Option<Sampled<StateSample>>,
    /// When its run began, and what happened to it since the service did.
    pub life: Life,
    /// Its XML, once read.
    pub description: Option<Arc<DomainDescription>>,
    /// The run that the XML is of; `None` if it was read while the domain did not run, or in a run before.
    pub described_run: Option<RunId>,
    /// Its samples, all of this run.
    pub windows: Windows,
    /// CPU time within the last minute, nanoseconds.
    pub cpu_minute: Option<Minute<1>>,
    /// Bytes received and sent within the last minute.
    pub network_minute: Option<Minute<2>>,
}

impl Domain {
    /// The newest known state, sampled or listed.
    #[must_use]
    pub fn state(&self) -> Option<&Sampled<StateSample>> {
        self.windows.state.newest().or(self.resting.as_ref())
    }

    /// Its XML, if it is that of the present run, or of the domain as it rests: that of the run before may have other devices and limits.
    #[must_use]
    pub fn current_description(&self) -> Option<&Arc<DomainDescription>> {
        self.description.as_ref().filter(|_| self.described_run == self.run)
    }

    /// Is there anything of that group to ask this domain for?
    #[must_use]
    pub fn has(&self, group: Group) -> bool {
        match group {
            Group::BlockInfo => self.disks().next().is_some() || self.windows.block_info.oldest().is_some(),
            Group::Kernel => self.pid.is_some() || self.windows.kernel.newest().is_some(),
            _ => true,
        }
    }

    /// For how long it has not answered; zero while it does.
    #[must_use]
    pub fn unresponsive_for(&self, now: Instant) -> Duration {
        self.health.unresponsive_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since.at))
    }

    /// The targets of its disks: those of the newest block sample, else those of its XML.
    pub fn disks(&self) -> impl Iterator<Item = &str> {
        let sampled = self.windows.block.newest().map(|block| &block.figures.disks);
        let described = self.description.as_ref().filter(|_| sampled.is_none()).map(|it| &it.disks);
        let sampled = sampled.into_iter().flatten().filter_map(|disk| self.target(disk));
        sampled.chain(described.into_iter().flatten().map(|disk| &*disk.target))
    }

    /// The target of a disk of its block sample.
    #[must_use]
    pub fn target<'a>(&'a self, disk: &'a Block) -> Option<&'a str> {
        let described = || Some(&*self.description.as_ref()?.disks.get(disk.index as usize)?.target);
        disk.name.as_deref().or_else(described).filter(|target| !target.is_empty())
    }

    /// How old the newest sample of a group is: since the start of its call, or since we know of this run if there is
    /// none yet.
    #[must_use]
    pub fn age(&self, group: Group, now: Instant) -> Duration {
        now.saturating_duration_since(self.windows.started(group).unwrap_or(self.known_since).at)
    }
}

/// The connection to libvirt, as the inventory sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Link {
    /// Does it live?
    pub up: bool,
    /// Why not, in words.
    pub problem: Option<Arc<str>>,
    /// Versions, kept while the connection is down.
    pub versions: Option<HostVersions>,
}

/// How old a group's sample may be and still be exported as current; `None` for groups that are not sampled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StaleAfter {
    groups: [Option<Duration>; Group::ALL.len()],
    list: Option<Duration>,
}

impl StaleAfter {
    /// Sets the limit of a group.
    pub fn set(&mut self, group: Group, limit: Duration) {
        self.groups[group as usize] = Some(limit);
    }

    /// The limit of a group.
    #[must_use]
    pub fn get(&self, group: Group) -> Option<Duration> {
        self.groups[group as usize]
    }

    /// May the kernel feed that group? Not if its looks come more seldom than libvirt's answers would.
    #[must_use]
    pub(super) fn kernel_may_feed(&self, group: Group) -> bool {
        self.get(Group::Kernel).zip(self.get(group)).is_some_and(|(kernel, group)| kernel <= group)
    }

    /// Sets the limit of the list of domains.
    pub fn set_list(&mut self, limit: Duration) {
        self.list = Some(limit);
    }

    /// The groups that are sampled.
    pub fn groups(&self) -> impl Iterator<Item = Group> {
        Group::ALL.into_iter().filter(|group| self.get(*group).is_some())
    }
}

/// The domains' places in a snapshot, shared by all snapshots until a domain comes, goes or is renamed.
#[derive(Debug, Default)]
pub(super) struct Order {
    places: HashMap<DomainId, usize>,
}

impl Order {
    pub(super) fn new(ids: impl Iterator<Item = DomainId>) -> Self {
        Self { places: ids.enumerate().map(|(place, id)| (id, place)).collect() }
    }

    pub(super) fn place(&self, id: DomainId) -> Option<usize> {
        self.places.get(&id).copied()
    }
}

/// How the bulk calls of one lane are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LaneShards {
    /// Calls of the newest turn.
    pub calls: usize,
    /// Domains in the largest of them; `None` if it asked for all.
    pub domains: Option<usize>,
    /// What the largest reply is expected to take in libvirt's message, in bytes; `None` before anything was learnt.
    pub bytes: Option<u64>,
    /// What a reply may take at most, in bytes.
    pub limit_bytes: u64,
    /// How often a call was refused and its domains asked again in smaller calls, since the start.
    pub halved: u64,
}

/// How bulk calls are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shards {
    /// Groups that enter no monitor.
    pub free: LaneShards,
    /// Groups that do.
    pub monitor: LaneShards,
}

/// Everything that was known at one moment. It never changes.
#[derive(Debug)]
pub struct Snapshot {
    /// Grows by one with each snapshot.
    pub sequence: u64,
    /// When the newest answer in it was asked for; `None` before the first.
    pub sampled: Option<Stamp>,
    /// When the newest list of all domains was asked for.
    pub listed: Option<Stamp>,
    /// The connection.
    pub link: Link,
    /// What is wrong at present, in words: the connection, else the bulk calls.
    pub problem: Option<Arc<str>>,
    /// What could be set better, in words.
    pub hint: Option<Arc<str>>,
    /// Who has which IP address.
    pub leases: Leases,
    /// How bulk calls are cut.
    pub shards: Shards,
    /// How the kernel lane does.
    pub kernel: Arc<KernelStatus>,
    /// Why this is not yet a complete picture; `None` once every running domain was asked for every group.
    pub incomplete: Option<Arc<str>>,
    /// When a group is stale.
    pub stale_after: StaleAfter,
    /// Every domain, by name.
    pub domains: Vector<Arc<Domain>>,
    pub(super) order: Arc<Order>,
    pub(super) directory: Directory,
}

impl Snapshot {
    /// The domain with that UUID, else with that name.
    #[must_use]
    pub fn find(&self, uuid_or_name: &str) -> Option<&Arc<Domain>> {
        let by_id = DomainId::parse(uuid_or_name).and_then(|id| self.order.place(id));
        let place = by_id.or_else(|| self.domains.binary_search_by(|d| (*d.name).cmp(uuid_or_name)).ok());
        place.and_then(|place| self.domains.get(place))
    }

    /// The domain with that id.
    #[must_use]
    pub fn get(&self, id: DomainId) -> Option<&Arc<Domain>> {
        self.domains.get(self.order.place(id)?)
    }

    /// Every domain with that key, by name.
    #[must_use]
    pub fn lookup(&self, key: &Key) -> Vec<&Arc<Domain>> {
        let mut places: Vec<usize> = self.directory.find(key).iter().filter_map(|id| self.order.place(*id)).collect();
        places.sort_unstable();
        places.into_iter().filter_map(|place| self.domains.get(place)).collect()
    }

    /// The NIC that has this address, as far as libvirt's networks lent it.
    ///
    /// # Errors
    /// Why leases are not known, in words.
    pub fn leased(&self, address: IpAddr, now: Stamp) -> Result<Option<Mac>, &str> {
        if let Some(problem) = self.leases.problem() {
            return Err(problem);
        }
        // They are read with the list, and turn old with it.
        let age = |read: Instant| now.at.saturating_duration_since(read);
        let is_old = self.leases.read().zip(self.stale_after.list).is_some_and(|(read, limit)| age(read) > limit);
        if is_old { Err("they could not be read for a while") } else { Ok(self.leases.mac(address, now.wall)) }
    }

    /// The figures of a window, if they are fresh enough to be exported as current.
    pub fn fresh<'w, T>(&self, window: &'w Window<T>, group: Group, now: Instant) -> Option<&'w T> {
        let newest = window.newest()?;
        self.is_fresh(newest.started, group, now).then_some(&newest.figures)
    }

    /// Is what was asked for then fresh enough to be exported as current?
    #[must_use]
    pub fn is_fresh(&self, started: Stamp, group: Group, now: Instant) -> bool {
        let age = now.saturating_duration_since(started.at);
        self.stale_after.get(group).is_some_and(|limit| age <= limit)
    }

    /// Does the kernel lane feed that group of a domain at present, so that libvirt need not be asked for it?
    #[must_use]
    pub fn kernel_feeds(&self, domain: &Domain, group: Group, now: Instant) -> bool {
        let newest = || domain.windows.started(group);
        domain.windows.lanes.feeds(group) && newest().is_some_and(|started| self.is_fresh(started, Group::Kernel, now))
    }

    /// The sizes of a disk and when they were asked for, if they are fresh enough to be exported as current.
    #[must_use]
    pub fn fresh_sizes(&self, domain: &Domain, target: &str, now: Instant) -> Option<(BlockInfo, Stamp)> {
        let (sizes, started) = domain.windows.block_info.get(target)?;
        self.is_fresh(started, Group::BlockInfo, now).then_some((sizes, started))
    }

    /// Is the list of domains, running or not, new enough to be exported as current?
    #[must_use]
    pub fn list_is_fresh(&self, now: Instant) -> bool {
        self.list_stale_at().is_some_and(|moment| now <= moment)
    }

    fn list_stale_at(&self) -> Option<Instant> {
        Some(self.listed?.at + self.stale_after.list?)
    }

    /// The next moment at which a sample that is fresh now turns stale.
    #[must_use]
    pub fn next_staleness(&self, now: Instant) -> Option<Instant> {
        let moments = self.domains.iter().flat_map(|domain| {
            let samples = self.stale_after.groups().filter(|group| *group != Group::BlockInfo);
            let samples = samples.filter_map(|group| Some((group, domain.windows.started(group)?)));
            let sizes = domain.windows.block_info.iter().map(|(_, _, started)| (Group::BlockInfo, started));
            samples.chain(sizes).filter_map(|(group, started)| Some(started.at + self.stale_after.get(group)?))
        });
        moments.chain(self.list_stale_at()).filter(|moment| *moment >= now).min()
    }
}
