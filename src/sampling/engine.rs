//! Turns what is due into jobs, and answers into samples.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::complaint::Complaint;
use super::lanes::{BulkLane, InventoryLane};
use super::pool::{Answer, Dispatch, Finished, Job, Pool, Workshop};
use crate::config::Sampling;
use crate::model::{BulkReply, BulkRequest, InventoryReply, Scope, SourceError, SourceFactory, Stamp};
use crate::store::{StaleAfter, Store};

/// A running engine. Dropping it stops the sampling; calls under way end on their own, and nobody waits for them.
pub struct Engine {
    stop: Option<Sender<()>>,
    scheduler: Option<JoinHandle<()>>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        drop(self.stop.take());
        // The scheduler itself never waits for libvirt, so this ends at once; after it, no answer reaches the store.
        if self.scheduler.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the scheduler panicked; this is a bug of virtstatd");
        }
    }
}

/// Starts sampling into a store.
///
/// # Errors
/// If a thread cannot be started.
pub fn start(settings: &Sampling, factory: &Arc<dyn SourceFactory>, store: Arc<Store>) -> std::io::Result<Engine> {
    let (sender, finished) = unbounded();
    let epoch = Arc::new(AtomicU64::new(0));
    let workshop = |name| Workshop {
        name,
        factory: Arc::clone(factory),
        store: Arc::clone(&store),
        finished: sender.clone(),
        epoch: Arc::clone(&epoch),
    };
    let bulk = Pool::start(settings.workers, &workshop(BulkLane::LABEL))?;
    let inventory = Pool::start(1, &workshop(InventoryLane::LABEL))?;
    let mut core = Core::new(settings, store, (Box::new(bulk), Box::new(inventory)), epoch);
    let (stop, stopped) = bounded(0);
    let scheduler = thread::Builder::new().name("scheduler".to_owned());
    let scheduler = scheduler.spawn(move || core.run(&finished, &stopped))?;
    Ok(Engine { stop: Some(stop), scheduler: Some(scheduler) })
}

/// The engine without its threads: time and answers are handed in.
pub(super) struct Core {
    /// Also brings the clock.
    store: Arc<Store>,
    bulk: BulkLane,
    bulk_pool: Box<dyn Dispatch>,
    inventory: InventoryLane,
    inventory_pool: Box<dyn Dispatch>,
    epoch: Arc<AtomicU64>,
    /// Has a connection been tried? Before that, nothing is skipped for want of one.
    tried: bool,
    up: bool,
    was_up: bool,
    bulk_lost: bool,
    bulk_complaint: Complaint,
    inventory_complaint: Complaint,
}

impl Core {
    pub(super) fn new(
        settings: &Sampling,
        store: Arc<Store>,
        (bulk_pool, inventory_pool): (Box<dyn Dispatch>, Box<dyn Dispatch>),
        epoch: Arc<AtomicU64>,
    ) -> Self {
        let mut stale_after = StaleAfter::default();
        for (group, period) in &settings.groups {
            stale_after.set(*group, settings.stale_after(*period));
        }
        stale_after.set_list(settings.stale_after(settings.inventory));
        store.configure(stale_after);
        let now = store.now();
        Self {
            bulk: BulkLane::new(settings.groups.iter().copied(), now),
            inventory: InventoryLane::new(settings.inventory, now),
            store,
            bulk_pool,
            inventory_pool,
            epoch,
            tried: false,
            up: false,
            was_up: false,
            bulk_lost: false,
            bulk_complaint: Complaint::default(),
            inventory_complaint: Complaint::default(),
        }
    }

    fn run(&mut self, finished: &Receiver<Finished>, stopped: &Receiver<()>) {
        loop {
            self.tick();
            let now = self.store.now();
            let wait = self.next().map_or(Duration::from_secs(3600), |at| at.saturating_duration_since(now));
            crossbeam_channel::select! {
                recv(finished) -> message => match message {
                    Ok(message) => self.finished(message),
                    Err(_) => return,
                },
                recv(stopped) -> _ => return,
                default(wait) => {}
            }
        }
    }

    pub(super) fn next(&self) -> Option<Instant> {
        let inventory = self.inventory.next(self.store.now());
        inventory.into_iter().chain(self.bulk.next()).min()
    }

    /// Starts what is due.
    pub(super) fn tick(&mut self) {
        let now = self.store.now();
        if let Some(request) = self.inventory.turn(now, || self.store.known_descriptions())
            && self.inventory_pool.dispatch(Job::Inventory(request)).is_err()
        {
            // One thread, one call at a time: it can only be gone.
            self.skip(InventoryLane::LABEL, "busy", 1);
            self.inventory.failed(false, now);
        }
        let turn = self.bulk.turn(now);
        if !self.up {
            if self.tried {
                self.skip(BulkLane::LABEL, "disconnected", turn.ask.union(turn.busy).iter().count());
            }
            return;
        }
        self.skip(BulkLane::LABEL, "busy", turn.busy.iter().count());
        if !turn.ask.is_empty() {
            let job = Job::Bulk(BulkRequest { groups: turn.ask, scope: Scope::All });
            match self.bulk_pool.dispatch(job) {
                Ok(()) => self.bulk.started(turn.ask),
                Err(_) => self.skip(BulkLane::LABEL, "busy", turn.ask.iter().count()),
            }
        }
    }

    fn skip(&self, lane: &str, reason: &str, turns: usize) {
        let turns = u64::try_from(turns).unwrap_or(u64::MAX);
        self.store.metrics.lane_skipped.with_label_values(&[lane, reason]).inc_by(turns);
    }

    /// Takes the end of a job.
    pub(super) fn finished(&mut self, finished: Finished) {
        let Finished { started, ended, answer } = finished;
        let lane = match &answer {
            Answer::Bulk(..) => BulkLane::LABEL,
            Answer::Inventory(_) => InventoryLane::LABEL,
        };
        let metrics = &self.store.metrics;
        let result = if answer.error().is_none() { "ok" } else { "error" };
        metrics.lane_runs.with_label_values(&[lane, result]).inc();
        let took = ended.saturating_duration_since(started.at);
        metrics.lane_duration.with_label_values(&[lane]).observe(took.as_secs_f64());
        if answer.error().is_some_and(|error| matches!(error, SourceError::Disconnected { .. })) {
            // libvirtd went away, most likely, and every other connection with it.
            self.epoch.fetch_add(1, Ordering::Release);
        }
        match answer {
            Answer::Bulk(request, reply) => self.bulk_ended(started, &request, reply),
            Answer::Inventory(reply) => self.inventory_ended(started, reply),
        }
    }

    fn bulk_ended(&mut self, started: Stamp, request: &BulkRequest, reply: Result<BulkReply, SourceError>) {
        self.bulk.ended(request.groups);
        match reply {
            Ok(reply) => {
                if self.bulk_complaint.settle() {
                    tracing::info!("bulk stats come again");
                    self.store.set_bulk_problem(None);
                }
                self.bulk.succeeded();
                let changes = self.store.apply_bulk(started, request, reply);
                if changes.domains || !changes.devices.is_empty() {
                    self.inventory.request(changes.devices);
                }
            }
            Err(error) => {
                let text = error.to_string();
                if self.bulk_complaint.is_news(&text, self.store.now()) {
                    tracing::warn!(%error, "no bulk stats");
                }
                self.store.set_bulk_problem(Some(&text));
                if error.is_disconnect() {
                    self.bulk_lost |= self.bulk.lost();
                    self.inventory.request([]);
                }
            }
        }
    }

    fn inventory_ended(&mut self, started: Stamp, reply: Result<InventoryReply, SourceError>) {
        let now = self.store.now();
        self.tried = true;
        match reply {
            Ok(reply) => {
                let domains = reply.domains.len();
                self.inventory.succeeded();
                self.store.apply_inventory(started, reply);
                if !self.up {
                    tracing::info!(domains, "connected to libvirt");
                    if self.was_up {
                        self.store.metrics.reconnects.inc();
                    }
                    (self.up, self.was_up) = (true, true);
                    self.bulk.restart(now);
                } else if std::mem::take(&mut self.bulk_lost) {
                    self.bulk.restart(now);
                }
                self.inventory_complaint.settle();
            }
            Err(error) => {
                let was_connected = !matches!(error, SourceError::Connect { .. });
                self.inventory.failed(was_connected, now);
                let text = error.to_string();
                if self.inventory_complaint.is_news(&text, now) {
                    tracing::warn!(%error, "libvirt does not answer; trying again");
                }
                self.up = false;
                self.store.link_lost(&text);
            }
        }
    }
}
