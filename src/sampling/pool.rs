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
        let mut held: Held = None;
        idle.inc();
        for job in jobs {
            idle.dec();
            busy.inc();
            let finished = self.perform(&mut held, job);
            busy.dec();
            idle.inc();
            if self.finished.send(finished).is_err() {
                break;
            }
        }
        idle.dec();
    }

    fn perform(&self, held: &mut Held, job: Job) -> Finished {
        let (started, answer) = match job {
            Job::Bulk(request) => {
                let (started, reply) = self.call(held, |source| source.bulk(&request));
                (started, Answer::Bulk(request, reply))
            }
            Job::Inventory(request) => {
                let (started, reply) = self.call(held, |source| source.inventory(&request));
                (started, Answer::Inventory(reply))
            }
        };
        if answer.error().is_some_and(SourceError::is_disconnect) {
            *held = None;
        }
        Finished { started, ended: self.store.now(), answer }
    }

    /// Makes a call, on a new connection where one is due. Opening can take long too, so the sample's time is taken after it.
    ///
    /// A panic is a bug, and must not cost the lane its worker for ever: it becomes an error of this one call, on a
    /// connection that is not used again.
    fn call<T>(
        &self,
        held: &mut Held,
        call: impl FnOnce(&mut dyn Source) -> Result<T, SourceError>,
    ) -> (Stamp, Result<T, SourceError>) {
        let mut started = None;
        let result = catch_unwind(AssertUnwindSafe(|| {
            let source = self.connected(held)?;
            started = Some(self.store.stamp());
            call(source)
        }));
        let panicked = || SourceError::Disconnected {
            call: "worker",
            message: "it panicked; this is a bug of virtstatd".to_owned(),
        };
        (started.unwrap_or_else(|| self.store.stamp()), result.unwrap_or_else(|_| Err(panicked())))
    }

    /// The source that is held, if it was opened in this epoch, else a new one.
    fn connected<'h>(&self, held: &'h mut Held) -> Result<&'h mut dyn Source, SourceError> {
        let epoch = self.epoch.load(Ordering::Acquire);
        let current = match held.take() {
            Some(current) if current.0 >= epoch => current,
            outdated => {
                // The old connection goes before the new one comes.
                drop(outdated);
                (epoch, self.factory.open()?)
            }
        };
        Ok(held.insert(current).1.as_mut())
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
