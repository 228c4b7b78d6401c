//! libvirtd's pool of workers: who serves a call, and who waits for a worker.
//!
//! As `virThreadPool` does it. Ordinary workers take whatever call came first; priority workers take none but those of
//! high priority. A call that finds no ordinary worker free brings one more, up to the maximum; the pool never shrinks.
//! A call keeps its worker until it returns, whatever becomes of its connection.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::limits::{PRIORITY_WORKERS, WORKERS_MAX, WORKERS_MIN};

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What `virt-admin srv-threadpool-info` would say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct PoolStatus {
    /// Ordinary workers that serve a call.
    pub busy: usize,
    /// Ordinary workers that there are.
    pub workers: usize,
    /// Most ordinary workers that were ever busy.
    pub most_busy: usize,
    /// Priority workers that serve a call.
    pub priority_busy: usize,
    /// Priority workers that there are.
    pub priority_workers: usize,
    /// Calls that wait for a worker.
    pub queued: usize,
}

/// The pool of one life of the daemon.
pub(crate) struct Pool {
    state: Mutex<State>,
    /// True when this life ended; calls end with it.
    ended: watch::Receiver<bool>,
}

struct State {
    status: PoolStatus,
    queue: VecDeque<(bool, Work)>,
}

impl Pool {
    pub(crate) fn new(ended: watch::Receiver<bool>) -> Arc<Self> {
        let status = PoolStatus { workers: WORKERS_MIN, priority_workers: PRIORITY_WORKERS, ..PoolStatus::default() };
        Arc::new(Self { state: Mutex::new(State { status, queue: VecDeque::new() }), ended })
    }

    pub(crate) fn status(&self) -> PoolStatus {
        let state = self.state.lock();
        PoolStatus { queued: state.queue.len(), ..state.status }
    }

    /// Forgets the calls that no worker took.
    pub(crate) fn forget_queue(&self) {
        let queue = std::mem::take(&mut self.state.lock().queue);
        // What a call holds is freed without the lock.
        drop(queue);
    }

    /// Has a call served, at once or when a worker is free.
    pub(crate) fn submit(self: &Arc<Self>, priority: bool, work: impl Future<Output = ()> + Send + 'static) {
        let mut state = self.state.lock();
        let status = &mut state.status;
        if status.busy == status.workers && status.workers < WORKERS_MAX {
            status.workers += 1;
        }
        state.queue.push_back((priority, Box::pin(work)));
        self.hand_out(state);
    }

    /// Gives queued calls to free workers.
    fn hand_out(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        let mut begun = Vec::new();
        while state.status.busy < state.status.workers {
            let Some((_, work)) = state.queue.pop_front() else { break };
            state.status.busy += 1;
            state.status.most_busy = state.status.most_busy.max(state.status.busy);
            begun.push((Worker { pool: Arc::clone(self), priority: false }, work));
        }
        while state.status.priority_busy < state.status.priority_workers {
            let Some(first) = state.queue.iter().position(|(priority, _)| *priority) else { break };
            let Some((_, work)) = state.queue.remove(first) else { break };
            state.status.priority_busy += 1;
            begun.push((Worker { pool: Arc::clone(self), priority: true }, work));
        }
        // A runtime that ends drops what it is given at once, and the worker takes the lock then.
        drop(state);
        for (worker, work) in begun {
            let mut ended = self.ended.clone();
            tokio::spawn(async move {
                let _worker = worker;
                tokio::select! {
                    () = work => {}
                    _ = ended.wait_for(|ended| *ended) => {}
                }
            });
        }
    }
}

/// A worker that serves a call; free when it is dropped.
struct Worker {
    pool: Arc<Pool>,
    priority: bool,
}

impl Drop for Worker {
    fn drop(&mut self) {
        let mut state = self.pool.state.lock();
        let busy = if self.priority { &mut state.status.priority_busy } else { &mut state.status.busy };
        *busy -= 1;
        // A runtime that ends drops its tasks, and takes no new ones.
        if tokio::runtime::Handle::try_current().is_ok() {
            self.pool.hand_out(state);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::Semaphore;

    use super::*;

    /// A pool, and calls that hang until they are let go.
    struct Stuck {
        pool: Arc<Pool>,
        _life: watch::Sender<bool>,
        go: Arc<Semaphore>,
    }

    impl Stuck {
        fn new() -> Self {
            let (life, ended) = watch::channel(false);
            Self { pool: Pool::new(ended), _life: life, go: Arc::new(Semaphore::new(0)) }
        }

        fn call(&self, priority: bool) {
            let go = Arc::clone(&self.go);
            self.pool.submit(priority, async move {
                if let Ok(permit) = go.acquire().await {
                    permit.forget();
                }
            });
        }
    }

    #[tokio::test]
    async fn it_grows_to_twenty_and_then_calls_wait() {
        let stuck = Stuck::new();
        for _ in 0..23 {
            stuck.call(false);
        }
        let status = stuck.pool.status();
        assert_eq!((status.busy, status.workers, status.queued, status.priority_busy), (20, 20, 3, 0));
        stuck.go.add_permits(23);
        while stuck.pool.status().busy > 0 {
            tokio::task::yield_now().await;
        }
        let status = stuck.pool.status();
        assert_eq!((status.workers, status.queued, status.most_busy), (20, 0, 20));
    }

    #[tokio::test]
    async fn priority_workers_take_no_ordinary_calls() {
        let stuck = Stuck::new();
        for _ in 0..21 {
            stuck.call(false);
        }
        for _ in 0..6 {
            stuck.call(true);
        }
        let status = stuck.pool.status();
        assert_eq!((status.busy, status.priority_busy, status.queued), (20, 5, 2));
    }

    #[tokio::test]
    async fn the_end_of_a_life_ends_its_calls() {
        let (life, ended) = watch::channel(false);
        let pool = Pool::new(ended);
        for _ in 0..25 {
            pool.submit(false, std::future::pending());
        }
        pool.forget_queue();
        life.send_replace(true);
        while pool.status().busy > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(pool.status().queued, 0);
    }
}
