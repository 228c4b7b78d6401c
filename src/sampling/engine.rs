//! The engine's threads: the scheduler, and the pools that it gives orders to.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};

use super::budget::Budget;
use super::core::{Core, Pools};
use super::kernel::{KernelLane, Noticed};
use super::lanes::Lane;
use super::listeners::{Heard, Listeners};
use super::pool::{Pool, Size};
use super::work::{Finished, Workshop};
use crate::config::Sampling;
use crate::model::{Kernel, Processes, SourceFactory, Storage};
use crate::store::{KernelStatus, Store};

/// Threads of a lane that may be stuck beside those that work. With the default budget more calls are never stuck in one.
const SPARE: usize = 3;
/// Free calls are soon done, but one that looks at a monitor may wait for a lock, and must keep no sample waiting.
const FREE_THREADS: usize = 2;
/// Threads that look at storage at most: so many mounts may hang before others are looked at no more. Half of them look at
/// once, since a network's answer takes its time.
const STORAGE_THREADS: usize = 8;

/// What an engine samples with.
pub struct Parts {
    /// Opens connections.
    pub factory: Arc<dyn SourceFactory>,
    /// Looks at QEMU processes.
    pub processes: Box<dyn Processes>,
    /// Looks at storage.
    pub storage: Arc<dyn Storage>,
    /// The places at libvirtd; outlives the engine, since calls do.
    pub budget: Budget,
}

/// A running engine. Dropping it stops the sampling; calls under way end on their own, and nobody waits for them.
pub struct Engine {
    stop: Option<Sender<()>>,
    scheduler: Option<JoinHandle<()>>,
    factory: Arc<dyn SourceFactory>,
    _kernel: Option<KernelLane>,
}

impl Drop for Engine {
    fn drop(&mut self) {
        drop(self.stop.take());
        // The scheduler itself never waits for libvirt, so this ends at once; after it, no answer reaches the store.
        if self.scheduler.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the scheduler panicked; this is a bug of virtstatd");
        }
        // An attempt to connect that hangs would keep those of the next engine waiting.
        self.factory.abandon_opening();
    }
}

/// Starts sampling into a store. `kernel` looks at what this host's kernel says of guests; or the reason why it knows nothing of them.
///
/// # Errors
/// If a thread cannot be started.
pub fn start(
    settings: &Sampling,
    parts: Parts,
    kernel: Result<Box<dyn Kernel>, String>,
    store: &Arc<Store>,
) -> std::io::Result<Engine> {
    let (sender, finished) = unbounded();
    let (event_sender, events) = unbounded();
    let epoch = Arc::new(AtomicU64::new(0));
    let listeners = Listeners::new(Arc::clone(store), event_sender);
    let pool = |lane: Lane, working: usize, cap: usize| {
        let workshop = Workshop {
            name: lane.label(),
            factory: Arc::clone(&parts.factory),
            storage: Arc::clone(&parts.storage),
            store: Arc::clone(store),
            finished: sender.clone(),
            epoch: Arc::clone(&epoch),
            events: (lane == Lane::Inventory).then(|| listeners.clone()),
        };
        Pool::new(lane.label(), Size { working, cap }, Arc::clone(store), workshop.hire())
    };
    let pools = Pools {
        free: pool(Lane::Free, FREE_THREADS, FREE_THREADS + SPARE),
        monitor: pool(Lane::Monitor, settings.workers, settings.workers + SPARE),
        block_info: pool(Lane::BlockInfo, 1, 1 + SPARE),
        inventory: pool(Lane::Inventory, 1, 1 + SPARE),
        storage: pool(Lane::Storage, STORAGE_THREADS / 2, STORAGE_THREADS),
    };
    let factory = Arc::clone(&parts.factory);
    let (noticing, noticed) = unbounded();
    let mut core = Core::new(settings, Arc::clone(store), pools, parts, epoch);
    let (stop, stopped) = bounded(0);
    let kernel = start_kernel(settings, kernel, store, noticing)?;
    let scheduler = thread::Builder::new().name("scheduler".to_owned());
    let scheduler = scheduler.spawn(move || run(&mut core, &finished, &events, &noticed, &stopped))?;
    Ok(Engine { stop: Some(stop), scheduler: Some(scheduler), factory, _kernel: kernel })
}

/// Starts the kernel lane, or says why not.
fn start_kernel(
    settings: &Sampling,
    source: Result<Box<dyn Kernel>, String>,
    store: &Arc<Store>,
    noticed: Sender<Noticed>,
) -> std::io::Result<Option<KernelLane>> {
    let off = |reason: &str| {
        store.set_kernel(KernelStatus::Off(reason.into()));
        Ok(None)
    };
    match (settings.kernel(), source) {
        (None, _) => off("\"kernel\" is not among sampling.groups"),
        (Some(_), Err(reason)) => off(&reason),
        (Some(period), Ok(source)) => {
            store.set_kernel(KernelStatus::Waiting);
            KernelLane::start(period, source, Arc::clone(store), noticed).map(Some)
        }
    }
}

fn run(
    core: &mut Core,
    finished: &Receiver<Finished>,
    events: &Receiver<Heard>,
    noticed: &Receiver<Noticed>,
    stopped: &Receiver<()>,
) {
    let never = crossbeam_channel::never();
    let mut noticed = noticed;
    loop {
        core.tick();
        let wait = core.wait();
        let mut first = None;
        crossbeam_channel::select! {
            recv(finished) -> message => match message {
                Ok(message) => first = Some(message),
                Err(_) => return,
            },
            recv(events) -> event => match event {
                Ok((at, event)) => core.event(at, &event),
                Err(_) => return,
            },
            // Where there is no kernel lane, nobody holds the other end.
            recv(noticed) -> it => match it {
                Ok(it) => core.noticed(&it),
                Err(_) => noticed = &never,
            },
            recv(stopped) -> _ => return,
            default(wait) => {}
        }
        // What came meanwhile is taken in one go: a tick looks at every domain. An answer is about what events told before it.
        while let Ok((at, event)) = events.try_recv() {
            core.event(at, &event);
        }
        if let Some(message) = first {
            core.finished(message);
        }
        while let Ok(message) = finished.try_recv() {
            core.finished(message);
        }
    }
}
