//! What all connections share: the guests, their troubles, the pool of workers, and who is connected.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::control::Churning;
use crate::faults::{Rules, Troubles};
use crate::host::{Change, Event, EventKind, Host, Refused};
use crate::limits::Times;
use crate::procedures::Procedure;
use crate::server::{Clients, Orders, Pool, PoolStatus};

/// The simulated libvirtd.
pub(crate) struct Daemon {
    pub(crate) host: RwLock<Host>,
    pub(crate) troubles: Arc<Troubles>,
    pub(crate) rules: Rules,
    pub(crate) times: Times,
    pub(crate) clients: Clients,
    pub(crate) counts: Counts,
    /// While true the daemon stands still: nothing is accepted, read, served or written.
    pub(crate) silent: watch::Sender<bool>,
    /// To be away for a while.
    pub(crate) orders: Orders,
    /// Ends the silence.
    pub(crate) waking: Mutex<Option<AbortHandle>>,
    churning: Mutex<Option<Churning>>,
    life: Mutex<Life>,
    /// New guests that were ordered, so that no two are alike.
    ordered: AtomicU64,
}

/// From one start of the daemon to its end.
struct Life {
    pool: Arc<Pool>,
    ended: watch::Sender<bool>,
    /// Most workers that were busy in the lives before.
    most_busy: usize,
}

impl Life {
    fn begin(most_busy: usize) -> Self {
        let (ended, watcher) = watch::channel(false);
        Self { pool: Pool::new(watcher), ended, most_busy }
    }
}

impl Daemon {
    pub(crate) fn new(host: Host, times: Times, orders: Orders) -> Arc<Self> {
        Arc::new(Self {
            rules: Rules::new(host.plan().seed),
            host: RwLock::new(host),
            troubles: Arc::default(),
            times,
            clients: Clients::default(),
            counts: Counts::default(),
            silent: watch::Sender::new(false),
            orders,
            waking: Mutex::new(None),
            churning: Mutex::new(None),
            life: Mutex::new(Life::begin(0)),
            ordered: AtomicU64::new(0),
        })
    }

    /// The pool of this life.
    pub(crate) fn pool(&self) -> Arc<Pool> {
        Arc::clone(&self.life.lock().pool)
    }

    /// How the pool is; the most workers that were busy, of all lives.
    pub(crate) fn pool_status(&self) -> PoolStatus {
        let life = self.life.lock();
        let status = life.pool.status();
        PoolStatus { most_busy: status.most_busy.max(life.most_busy), ..status }
    }

    /// Does something happen to guests all the time?
    pub(crate) fn churns(&self) -> bool {
        self.churning.lock().as_ref().is_some_and(Churning::goes_on)
    }

    /// Lets it happen instead of what happened so far, or ends that.
    pub(crate) fn set_churn(&self, churning: Option<Churning>) {
        *self.churning.lock() = churning;
    }

    /// A number that was not given before.
    pub(crate) fn next_seed(&self) -> u64 {
        self.ordered.fetch_add(1, Ordering::Relaxed)
    }

    /// True when this life ends.
    pub(crate) fn ended(&self) -> watch::Receiver<bool> {
        self.life.lock().ended.subscribe()
    }

    /// The daemon dies: its connections and its calls with it, stuck ones too. The guests stay.
    pub(crate) fn die(&self) {
        let most_busy = self.pool_status().most_busy;
        let life = std::mem::replace(&mut *self.life.lock(), Life::begin(most_busy));
        life.pool.forget_queue();
        life.ended.send_replace(true);
    }

    /// Something happens to a guest, and those who asked for events are told.
    pub(crate) fn apply(&self, change: &Change) -> Result<Vec<Event>, Refused> {
        let events = self.host.write().apply(change, SystemTime::now())?;
        for event in &events {
            const STOPPED: i32 = 5;
            if matches!(event.what, EventKind::Lifecycle { event: STOPPED, .. }) {
                self.troubles.ended(event.guest.uuid);
            }
            if !self.rules.suppresses_event() {
                self.clients.tell(event);
            }
        }
        Ok(events)
    }
}

/// How often a procedure was called.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ProcedureCount {
    /// Calls that were answered, or ended with the daemon.
    pub served: u64,
    /// Those of them that were answered with an error.
    pub failed: u64,
    /// Calls that wait for a worker or are being served.
    pub open: u64,
}

/// What was called how often.
#[derive(Debug, Default)]
pub(crate) struct Counts(Mutex<BTreeMap<&'static str, ProcedureCount>>);

impl Counts {
    pub(crate) fn all(&self) -> BTreeMap<String, ProcedureCount> {
        self.0.lock().iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    fn change(&self, procedure: Option<&'static Procedure>, change: impl FnOnce(&mut ProcedureCount)) {
        change(self.0.lock().entry(procedure.map_or("unknown", |procedure| procedure.name)).or_default());
    }
}

/// A call that is open; counted as served when it is dropped.
pub(crate) struct OpenCall {
    daemon: Arc<Daemon>,
    procedure: Option<&'static Procedure>,
    pub(crate) failed: bool,
}

impl OpenCall {
    pub(crate) fn begin(daemon: &Arc<Daemon>, procedure: Option<&'static Procedure>) -> Self {
        daemon.counts.change(procedure, |count| count.open += 1);
        Self { daemon: Arc::clone(daemon), procedure, failed: false }
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.daemon.counts.change(self.procedure, |count| {
            count.open -= 1;
            count.served += 1;
            count.failed += u64::from(self.failed);
        });
    }
}
