//! A libvirtd of our own making, its domains, their processes, and the storage.
//!
//! It does what the real one was seen to do: a call that enters the monitor of a frozen domain hangs and holds the domain;
//! NOWAIT cuts the records of held domains short; storage that hangs holds calls for disks.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::model::{
    BalloonSample, Block, BlockInfo, BlockSample, BulkReply, BulkRequest, Control, ControlState, CpuSample,
    DiskDescription, DomainDescription, DomainId, DomainRecord, Figures, Group, GroupSet, InterfaceSample,
    InventoryReply, Io, ListedDomain, Peer, Process, ProcessState, Processes, RunId, Scope, SourceError, Stamp,
    StateSample, Storage, Vcpu, VcpuSample,
};
use crate::sampling::work::{Answer, Job, Progress, Target};

/// The domain of that number.
pub(in crate::sampling) fn id(number: u8) -> DomainId {
    DomainId::from_bytes([number; 16])
}

/// A domain of the made-up libvirtd.
#[derive(Clone)]
pub(in crate::sampling) struct Domain {
    pub(in crate::sampling) run: u32,
    /// Its QEMU does not answer.
    pub(in crate::sampling) frozen: bool,
    /// What its process looks like; `None` without a pid file.
    pub(in crate::sampling) process: Option<ProcessState>,
    /// libvirt holds its lock: it is being started or destroyed.
    pub(in crate::sampling) locked: bool,
    /// The mount of each disk.
    pub(in crate::sampling) disks: Vec<&'static str>,
}

impl Default for Domain {
    fn default() -> Self {
        let process = Some(ProcessState::Runs);
        Self { run: 1, frozen: false, process, locked: false, disks: vec!["/images"] }
    }
}

/// A libvirtd, its host, and the storage.
#[derive(Default)]
pub(in crate::sampling) struct Host {
    pub(in crate::sampling) domains: BTreeMap<DomainId, Domain>,
    /// Mounts that do not answer.
    pub(in crate::sampling) hung: HashSet<&'static str>,
    /// Who holds a domain's job, since when.
    pub(in crate::sampling) jobs: HashMap<DomainId, (u64, Instant)>,
    /// Does libvirtd answer at all, and can it be connected to?
    pub(in crate::sampling) stopped: bool,
    pub(in crate::sampling) refuses: bool,
    pub(in crate::sampling) peer: u32,
    /// Connections are accepted, and nothing is said on them.
    pub(in crate::sampling) mute: bool,
    /// Bulk calls by name about more domains than that are too large.
    pub(in crate::sampling) largest: Option<usize>,
    /// Each bulk call with this domain fails.
    pub(in crate::sampling) poisoned: Option<DomainId>,
    /// What a record takes in a message.
    pub(in crate::sampling) record_bytes: u32,
    /// How long a bulk call takes.
    pub(in crate::sampling) takes: Duration,
    pub(in crate::sampling) probe_takes: Duration,
    pub(in crate::sampling) list_waits: bool,
    pub(in crate::sampling) counters_take: Duration,
    /// Calls that are open and were begun at libvirtd, by what they hang on.
    pub(in crate::sampling) most_open: usize,
}

#[derive(Clone, Default)]
pub(in crate::sampling) struct World(Arc<Mutex<Host>>);

impl World {
    pub(in crate::sampling) fn edit<T>(&self, edit: impl FnOnce(&mut Host) -> T) -> T {
        edit(&mut self.0.lock())
    }

    pub(in crate::sampling) fn change(&self, number: u8, edit: impl FnOnce(&mut Domain)) {
        self.edit(|host| edit(host.domains.get_mut(&id(number)).expect("a domain of the host")));
    }

    pub(in crate::sampling) fn freeze(&self, number: u8) {
        self.change(number, |domain| (domain.frozen, domain.process) = (true, Some(ProcessState::Stopped)));
    }

    /// Hangs, and the kernel shows nothing of it.
    pub(in crate::sampling) fn freeze_unseen(&self, number: u8) {
        self.change(number, |domain| domain.frozen = true);
    }

    pub(in crate::sampling) fn thaw(&self, number: u8) {
        self.change(number, |domain| (domain.frozen, domain.process) = (false, Some(ProcessState::Runs)));
    }
}

impl Processes for World {
    fn look(&mut self, id: DomainId, _: &str, _: RunId) -> Option<Process> {
        let state = self.0.lock().domains.get(&id)?.process?;
        Some(Process { pid: 1, start_ticks: 1, state })
    }

    fn keep_only(&mut self, _: &dyn Fn(DomainId) -> bool) {}
}

impl Storage for World {
    fn mount_of(&self, path: &str) -> Option<Arc<str>> {
        path.rsplit_once('/').map(|(mount, _)| mount.into())
    }

    fn probe(&self, _: &str) -> std::io::Result<()> {
        unreachable!("the test answers probes itself")
    }
}

impl Host {
    /// Why it refuses a call, if it does.
    pub(in crate::sampling) fn refusal(&self, job: &Job) -> Option<SourceError> {
        let Job::Bulk(BulkRequest { scope: Scope::Only(ids), .. }) = job else { return None };
        let call = "virDomainListGetStats";
        if self.largest.is_some_and(|largest| ids.len() > largest) {
            return Some(SourceError::TooLarge { call, message: "Unable to encode message payload".to_owned() });
        }
        let poisoned = self.poisoned.is_some_and(|id| ids.contains(&id));
        poisoned.then(|| SourceError::Call { call, message: "internal error".to_owned() })
    }

    /// What it answers to a call now; `None` while that hangs.
    pub(in crate::sampling) fn answer(
        &mut self,
        (call, job, progress): (u64, &Job, &Progress),
        started: Stamp,
        now: Instant,
    ) -> Option<Answer> {
        Some(match job {
            Job::Bulk(request) => Answer::Bulk(self.bulk(call, request, started, now)?),
            Job::Inventory(_) => {
                if self.list_waits && self.domains.values().any(|it| it.locked) {
                    return None;
                }
                Answer::Inventory(self.list())
            }
            Job::Control(ids) => {
                if ids.iter().any(|id| self.domains.get(id).is_some_and(|domain| domain.locked)) {
                    return None;
                }
                let control = |id: &DomainId| {
                    let held = self.jobs.get(id);
                    let state = if held.is_some() { ControlState::Occupied } else { ControlState::Ok };
                    let since = held.map_or(Duration::ZERO, |(_, since)| now - *since);
                    self.domains.contains_key(id).then_some((*id, Control { state, since }))
                };
                Answer::Control(ids.iter().filter_map(control).collect())
            }
            Job::Leases => Answer::Leases(Vec::new()),
            Job::CpuStats(ids) => {
                if ids.iter().any(|id| self.domains.get(id).is_some_and(|domain| domain.locked)) {
                    return None;
                }
                let known = ids.iter().filter(|id| self.domains.contains_key(id));
                let records = known.map(|id| self.record(*id, GroupSet::of(Group::Cpu), false, started)).collect();
                Answer::Bulk(BulkReply { records, ..BulkReply::default() })
            }
            Job::BlockInfo(disks) => {
                let info = Some(BlockInfo { capacity_bytes: Some(1), ..BlockInfo::default() });
                let hangs = |(id, target): &Target| {
                    let place = usize::from(target.as_bytes()[2] - b'a');
                    let on_hanging = |it: &Domain| it.frozen || self.hung.contains(it.disks[place]);
                    self.domains.get(id).is_some_and(on_hanging)
                        || self.jobs.get(id).is_some_and(|(holder, _)| *holder != call)
                };
                let hung = disks.iter().position(hangs);
                (1..=hung.unwrap_or(0)).for_each(|number| {
                    progress.come_to(number);
                });
                if let Some(hung) = hung {
                    self.jobs.entry(disks[hung].0).or_insert((call, now));
                    return None;
                }
                let infos = disks.iter().map(|disk| (started, disk.clone(), info)).collect();
                Answer::BlockInfo(infos)
            }
            Job::BlockCounters(id, _) => {
                if now.saturating_duration_since(started.at) < self.counters_take {
                    return None;
                }
                let held = self.jobs.get(id).is_some_and(|(holder, _)| *holder != call);
                if held || self.domains.get(id).is_some_and(|domain| domain.frozen) {
                    self.jobs.entry(*id).or_insert((call, now));
                    return None;
                }
                let record = self.record(*id, GroupSet::of(Group::Block), false, started);
                Answer::Bulk(BulkReply { records: vec![record], ..BulkReply::default() })
            }
            Job::Probe(_) => unreachable!("answered elsewhere"),
        })
    }

    fn bulk(&mut self, call: u64, request: &BulkRequest, started: Stamp, now: Instant) -> Option<BulkReply> {
        let ids: Vec<DomainId> = match &request.scope {
            Scope::All => self.domains.keys().copied().collect(),
            Scope::Only(ids) => ids.clone(),
        };
        if now.saturating_duration_since(started.at) < self.takes {
            return None;
        }
        let enters = request.groups.iter().any(Group::enters_monitor);
        let mut records = Vec::new();
        for id in ids {
            let Some(domain) = self.domains.get(&id).cloned() else { continue };
            if domain.locked {
                return None;
            }
            let held = self.jobs.get(&id).is_some_and(|(holder, _)| *holder != call);
            let storage = request.groups.contains(Group::Block) && domain.disks.iter().any(|it| self.hung.contains(it));
            if enters && !held && (domain.frozen || storage) {
                self.jobs.entry(id).or_insert((call, now));
                return None;
            }
            self.jobs.retain(|held, (holder, _)| *held != id || *holder != call);
            records.push(self.record(id, request.groups, held, started));
        }
        let size = if self.record_bytes > 0 { self.record_bytes } else { 1000 };
        let sizes = records.iter().map(|record: &DomainRecord| (record.id, size)).collect();
        Some(BulkReply { records, sizes, ..BulkReply::default() })
    }

    fn record(&self, id: DomainId, groups: GroupSet, cut_short: bool, started: Stamp) -> DomainRecord {
        let domain = &self.domains[&id];
        let time = started.wall.duration_since(std::time::SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let wants = |group| groups.contains(group);
        let disk = |place: usize| Block {
            index: u32::try_from(place).expect("few"),
            name: Some(format!("vd{}", char::from(b'a' + u8::try_from(place).expect("few"))).into()),
            read: Io { requests: Some(1), ..Io::default() },
            ..Block::default()
        };
        let disks = (0..domain.disks.len()).map(disk).collect();
        let vcpu = Vcpu { state: Some(1), ..Vcpu::default() };
        let rss_kib = (!cut_short).then_some(1);
        let figures = Figures {
            state: wants(Group::State).then_some(StateSample { state: Some(1), reason: None }),
            cpu: wants(Group::Cpu).then_some(CpuSample { time_ns: Some(time), ..CpuSample::default() }),
            vcpu: wants(Group::Vcpu).then(|| VcpuSample { vcpus: vec![vcpu], ..VcpuSample::default() }),
            interface: wants(Group::Interface).then(InterfaceSample::default),
            block: (wants(Group::Block) && !cut_short).then_some(BlockSample { count: None, disks }),
            balloon: wants(Group::Balloon).then_some(BalloonSample {
                current_kib: Some(1),
                rss_kib,
                ..BalloonSample::default()
            }),
        };
        DomainRecord { id, name: id.to_string().into(), run: Some(RunId(domain.run)), figures }
    }

    fn list(&self) -> InventoryReply {
        let disk = |(place, mount): (usize, &&str)| DiskDescription {
            target: format!("vd{}", char::from(b'a' + u8::try_from(place).expect("few"))).into(),
            disk_type: "file".into(),
            source: format!("{mount}/disk.img").into(),
            ..DiskDescription::default()
        };
        let listed = |(id, domain): (&DomainId, &Domain)| ListedDomain {
            id: *id,
            name: id.to_string().into(),
            run: Some(RunId(domain.run)),
            state: None,
            description: Some(Arc::new(DomainDescription {
                disks: domain.disks.iter().enumerate().map(disk).collect(),
                ..DomainDescription::default()
            })),
        };
        let peer = Some(Peer { pid: self.peer, start_ticks: 1 });
        InventoryReply { domains: self.domains.iter().map(listed).collect(), peer, ..InventoryReply::default() }
    }
}
