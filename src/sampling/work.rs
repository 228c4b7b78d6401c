//! What a worker does: takes orders, connects where it must, makes the call, and reports.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::budget::Place;
use super::listeners::Listeners;
use super::pool::{Hire, WorkerId};
use crate::model::{
    BlockInfo, BulkReply, BulkRequest, Control, DomainId, Group, InventoryReply, InventoryRequest, Lease, Peer, Scope,
    Source, SourceError, SourceFactory, Stamp, Storage,
};
use crate::store::Store;

/// Names a call; never used twice by an engine.
pub(super) type CallId = u64;

/// A disk: its domain, and its target in the guest.
pub(super) type Target = (DomainId, Box<str>);

/// What a worker is to do.
#[derive(Debug, Clone)]
pub(super) enum Job {
    Bulk(BulkRequest),
    Inventory(InventoryRequest),
    Control(Vec<DomainId>),
    CpuStats(Vec<DomainId>),
    Leases,
    /// One after the other; of each domain one at most.
    BlockInfo(Vec<Target>),
    BlockCounters(DomainId, Vec<Box<str>>),
    /// Look at a file; needs no source.
    Probe(Arc<str>),
}

impl Job {
    /// libvirt's name of the call.
    pub(super) fn call(&self) -> &'static str {
        match self {
            Self::Bulk(BulkRequest { scope: Scope::All, .. }) => "virConnectGetAllDomainStats",
            Self::Bulk(_) => "virDomainListGetStats",
            Self::Inventory(_) => "virConnectListAllDomains",
            Self::Control(_) => "virDomainGetControlInfo",
            Self::CpuStats(_) => "virDomainGetCPUStats",
            Self::Leases => "virNetworkGetDHCPLeases",
            Self::BlockInfo(..) => "virDomainGetBlockInfo",
            Self::BlockCounters(..) => "virDomainBlockStatsFlags",
            Self::Probe(_) => "stat",
        }
    }

    /// The domains on which libvirtd may go on to hang when the connection is gone.
    fn may_hang_on(&self) -> Vec<DomainId> {
        match self {
            Self::Bulk(BulkRequest { groups, scope: Scope::Only(ids) }) if groups.iter().any(Group::enters_monitor) => {
                ids.clone()
            }
            job => job.block_domains(),
        }
    }

    /// Whose disks it asks about by themselves.
    pub(super) fn block_domains(&self) -> Vec<DomainId> {
        match self {
            Self::BlockInfo(disks) => disks.iter().map(|(id, _)| *id).collect(),
            Self::BlockCounters(id, _) => vec![*id],
            _ => Vec::new(),
        }
    }
}

/// How far a worker is with an order about several disks. It goes from one to the next only as long as nobody cut it.
#[derive(Debug, Default)]
pub(super) struct Progress(AtomicUsize);

impl Progress {
    /// Beside the number of the disk, whose numbers are small.
    const CUT: usize = 1 << 31;

    /// The worker comes to the disk of that number; `false` if it is to go no further.
    pub(super) fn come_to(&self, number: usize) -> bool {
        let before = number.saturating_sub(1);
        match self.0.compare_exchange(before, number, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => true,
            Err(now) => number == 0 || now == number,
        }
    }

    /// Ends the order with the disk that the worker is at, and says which.
    pub(super) fn cut(&self) -> usize {
        self.0.fetch_or(Self::CUT, Ordering::AcqRel) & !Self::CUT
    }
}

/// A job, with the place that it has at libvirtd.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) call: CallId,
    pub(super) job: Job,
    place: Option<Place>,
    opening: Arc<AtomicBool>,
    progress: Arc<Progress>,
}

impl Order {
    pub(super) fn new(call: CallId, job: Job, place: Option<Place>) -> Self {
        Self { call, job, place, opening: Arc::default(), progress: Arc::default() }
    }

    /// Is true while the worker opens a connection for it.
    pub(super) fn opening(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.opening)
    }

    pub(super) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Gives the place back, or leaves it with a libvirtd that may still be at it.
    pub(super) fn settle(mut self, lost: bool, peer: Option<Peer>) {
        let ids = self.job.may_hang_on();
        if let Some(place) = self.place.take()
            && lost
            && !ids.is_empty()
        {
            place.orphan(ids, peer);
        }
    }
}

/// What came of an order.
#[derive(Debug)]
pub(super) enum Answer {
    Bulk(BulkReply),
    Inventory(InventoryReply),
    Control(Vec<(DomainId, Control)>),
    Leases(Vec<Lease>),
    /// Of the disks that were answered for, each with when it was asked for.
    BlockInfo(Vec<(Stamp, Target, Option<BlockInfo>)>),
    Probed,
}

/// An order that ended, and when it was: `started` is taken just before the call.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) call: CallId,
    pub(super) started: Stamp,
    pub(super) ended: Instant,
    pub(super) answer: Result<Answer, SourceError>,
}

/// What every worker of a pool shares.
#[derive(Clone)]
pub(super) struct Workshop {
    pub(super) name: &'static str,
    pub(super) factory: Arc<dyn SourceFactory>,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) store: Arc<Store>,
    pub(super) finished: Sender<Finished>,
    /// Raised when a connection was lost: a source that was opened before is not trusted any more.
    pub(super) epoch: Arc<AtomicU64>,
    /// Where events go, of the connection that listens for them.
    pub(super) events: Option<Listeners>,
}

/// A source, and the epoch that it was opened in.
type Held = Option<(u64, Box<dyn Source>)>;

impl Workshop {
    /// How a pool gets its threads.
    pub(super) fn hire(self) -> Hire {
        Box::new(move |worker: WorkerId| {
            let (orders, taken) = bounded(1);
            let workshop = self.clone();
            thread::Builder::new().name(format!("{}-{worker}", self.name)).spawn(move || workshop.work(&taken))?;
            Ok(orders)
        })
    }

    fn work(&self, orders: &Receiver<Order>) {
        let mut held: Held = None;
        for order in orders {
            let finished = self.perform(&mut held, order);
            if self.finished.send(finished).is_err() {
                break;
            }
        }
    }

    fn perform(&self, held: &mut Held, order: Order) -> Finished {
        let (call, opening) = (order.call, order.opening());
        let (started, answer) = match &order.job {
            Job::Probe(path) => {
                let started = self.store.stamp();
                // Whatever it says: that it answers is what was asked.
                let _ = self.storage.probe(path);
                (started, Ok(Answer::Probed))
            }
            job => self.call(held, job, &opening, &order.progress),
        };
        let lost = matches!(answer, Err(SourceError::Disconnected { .. }));
        let peer = held.as_ref().and_then(|(_, source)| source.peer());
        order.settle(lost, peer);
        if answer.as_ref().is_err_and(SourceError::is_disconnect) {
            *held = None;
        }
        Finished { call, started, ended: self.store.now(), answer }
    }

    /// Makes a call, on a new connection where one is due. Opening can take long too, so the sample's time is taken after it.
    ///
    /// A panic is a bug, and must not cost the lane its worker for ever: it becomes an error of this one call, on a
    /// connection that is not used again.
    fn call(
        &self,
        held: &mut Held,
        job: &Job,
        opening: &AtomicBool,
        progress: &Progress,
    ) -> (Stamp, Result<Answer, SourceError>) {
        let mut started = None;
        let result = catch_unwind(AssertUnwindSafe(|| {
            let source = self.connected(held, opening)?;
            started = Some(self.store.stamp());
            make(source, job, progress, &|| self.store.stamp())
        }));
        opening.store(false, Ordering::Release);
        let panicked = || SourceError::Disconnected {
            call: "worker",
            message: "it panicked; this is a bug of virtstatd".to_owned(),
        };
        (started.unwrap_or_else(|| self.store.stamp()), result.unwrap_or_else(|_| Err(panicked())))
    }

    /// The source that is held, if it was opened in this epoch, else a new one.
    fn connected<'h>(&self, held: &'h mut Held, opening: &AtomicBool) -> Result<&'h mut dyn Source, SourceError> {
        let epoch = self.epoch.load(Ordering::Acquire);
        let current = match held.take() {
            Some(current) if current.0 >= epoch => current,
            outdated => {
                opening.store(true, Ordering::Release);
                // The old connection goes before the new one comes.
                drop(outdated);
                let mut source = self.factory.open()?;
                if let Some(events) = &self.events {
                    let (sink, listening) = events.sink(source.peer());
                    source.watch(sink)?;
                    listening.begins();
                }
                opening.store(false, Ordering::Release);
                (epoch, source)
            }
        };
        Ok(held.insert(current).1.as_mut())
    }
}

fn make(
    source: &mut dyn Source,
    job: &Job,
    progress: &Progress,
    stamp: &dyn Fn() -> Stamp,
) -> Result<Answer, SourceError> {
    Ok(match job {
        Job::Bulk(request) => Answer::Bulk(source.bulk(request)?),
        Job::Inventory(request) => Answer::Inventory({
            let mut reply = source.inventory(request)?;
            reply.peer = source.peer();
            reply
        }),
        Job::Control(ids) => Answer::Control(source.control(ids)?),
        Job::CpuStats(ids) => Answer::Bulk(source.cpu_stats(ids)?),
        Job::Leases => Answer::Leases(source.leases()?),
        Job::BlockInfo(disks) => Answer::BlockInfo(block_infos(source, disks, progress, stamp)?),
        Job::BlockCounters(id, targets) => Answer::Bulk(source.block_counters(*id, targets)?),
        Job::Probe(_) => Answer::Probed,
    })
}

/// A disk that libvirt refuses costs the others nothing; a connection that is gone costs all.
fn block_infos(
    source: &mut dyn Source,
    disks: &[Target],
    progress: &Progress,
    stamp: &dyn Fn() -> Stamp,
) -> Result<Vec<(Stamp, Target, Option<BlockInfo>)>, SourceError> {
    let mut answers = Vec::with_capacity(disks.len());
    for (number, (id, target)) in disks.iter().enumerate() {
        if !progress.come_to(number) {
            break;
        }
        let started = stamp();
        match source.block_info(*id, target) {
            Ok(info) => answers.push((started, (*id, target.clone()), info)),
            Err(error) if error.is_disconnect() || disks.len() == 1 => return Err(error),
            Err(error) => tracing::debug!(%error, "not answered"),
        }
    }
    Ok(answers)
}
