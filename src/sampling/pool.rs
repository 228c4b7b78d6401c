//! A fixed number of threads that make the blocking calls, each with a source of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::model::{
    BulkReply, BulkRequest, InventoryReply, InventoryRequest, Source, SourceError, SourceFactory, Stamp,
};
use crate::store::Store;

/// What a worker is to ask.
#[derive(Debug)]
pub(super) enum Job {
    Bulk(BulkRequest),
    Inventory(InventoryRequest),
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Answer {
    Bulk(BulkRequest, Result<BulkReply, SourceError>),
    Inventory(Result<InventoryReply, SourceError>),
}

/// A job that ended, and when it was: `started` is taken just before the call.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) started: Stamp,
    pub(super) ended: Instant,
    pub(super) answer: Answer,
}

/// Takes jobs. The engine knows this much of a pool; a test hands in a script.
pub(super) trait Dispatch: Send {
    /// Hands a job over without waiting; gives it back if nobody can take it.
    fn dispatch(&self, job: Job) -> Result<(), Job>;
}

/// The pool. Its threads end, each after its call, when it is dropped; nobody waits for them, since a call may hang.
pub(super) struct Pool {
    jobs: Sender<Job>,
}

/// What every worker of a pool shares.
#[derive(Clone)]
pub(super) struct Workshop {
    pub(super) name: &'static str,
    pub(super) factory: Arc<dyn SourceFactory>,
    pub(super) store: Arc<Store>,
    pub(super) finished: Sender<Finished>,
    /// Raised when a connection was lost: a source that was opened before is not trusted any more.
    pub(super) epoch: Arc<AtomicU64>,
}

/// A source, and the epoch that it was opened in.
type Held = Option<(u64, Box<dyn Source>)>;

impl Pool {
    pub(super) fn start(threads: usize, workshop: &Workshop) -> std::io::Result<Self> {
        let (sender, jobs) = bounded(threads);
        for number in 0..threads {
            let (workshop, jobs) = (workshop.clone(), jobs.clone());
            let name = format!("{}-{number}", workshop.name);
            thread::Builder::new().name(name).spawn(move || workshop.work(&jobs))?;
        }
        Ok(Self { jobs: sender })
    }
}

impl Dispatch for Pool {
    fn dispatch(&self, job: Job) -> Result<(), Job> {
        self.jobs.try_send(job).map_err(TrySendError::into_inner)
    }
}

impl Workshop {
    fn work(&self, jobs: &Receiver<Job>) {
        let gauge = |state| self.store.metrics.workers.with_label_values(&[self.name, state]);
        let (idle, busy) = (gauge("idle"), gauge("busy"));
        let mut source: Held = None;
        idle.inc();
        for job in jobs {
            idle.dec();
            busy.inc();
            let finished = self.perform(&mut source, job);
            busy.dec();
            idle.inc();
            if self.finished.send(finished).is_err() {
                break;
            }
        }
        idle.dec();
    }

    fn perform(&self, source: &mut Held, job: Job) -> Finished {
        let open = |source: &mut Held| -> Result<(), SourceError> {
            let epoch = self.epoch.load(Ordering::Acquire);
            if source.as_ref().is_none_or(|(opened, _)| *opened < epoch) {
                *source = None;
                *source = Some((epoch, self.factory.open()?));
            }
            Ok(())
        };
        // Opening can take long too; the sample's time is that of the call itself.
        let opened = guarded(|| open(source));
        let started = self.store.stamp();
        let answer = match job {
            Job::Bulk(request) => {
                let reply = opened.and_then(|()| guarded(|| with(source, |source| source.bulk(&request))));
                Answer::Bulk(request, reply)
            }
            Job::Inventory(request) => {
                Answer::Inventory(opened.and_then(|()| guarded(|| with(source, |source| source.inventory(&request)))))
            }
        };
        if answer.error().is_some_and(SourceError::is_disconnect) {
            *source = None;
        }
        Finished { started, ended: self.store.now(), answer }
    }
}

impl Answer {
    pub(super) fn error(&self) -> Option<&SourceError> {
        match self {
            Self::Bulk(_, reply) => reply.as_ref().err(),
            Self::Inventory(reply) => reply.as_ref().err(),
        }
    }
}

fn with<T>(source: &mut Held, call: impl FnOnce(&mut dyn Source) -> Result<T, SourceError>) -> Result<T, SourceError> {
    match source {
        Some((_, source)) => call(source.as_mut()),
        None => Err(SourceError::Call { call: "open", message: "no connection".to_owned() }),
    }
}

/// A panic is a bug, and must not cost the lane its worker for ever: it becomes an error of this one call, on a connection
/// that is not used again.
fn guarded<T>(call: impl FnOnce() -> Result<T, SourceError>) -> Result<T, SourceError> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|_| {
        Err(SourceError::Disconnected { call: "worker", message: "it panicked; this is a bug of virtstatd".to_owned() })
    })
}
