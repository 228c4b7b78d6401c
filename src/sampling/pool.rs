//! Threads that make the blocking calls, each with a source of its own.
//!
//! A worker in a call that was written off does not count any more: another is hired in its place, within a cap. When the
//! call comes back after all, the worker goes on if it is needed, and ends if it is not. Nobody ever waits for a worker.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use crossbeam_channel::Sender;

use super::work::Order;
use crate::store::Store;

/// Names a worker of a pool.
pub(super) type WorkerId = u32;

/// Starts a worker's thread, and says where it takes its orders.
pub(super) type Hire = Box<dyn FnMut(WorkerId) -> io::Result<Sender<Order>> + Send>;

/// How many threads of a pool may be busy, and how many there may be at all, stuck ones included.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) working: usize,
    pub(super) cap: usize,
}

/// The threads of one lane or purpose. Each ends, after its call, when the pool is dropped.
pub(super) struct Pool {
    name: &'static str,
    size: Size,
    hire: Hire,
    store: Arc<Store>,
    workers: BTreeMap<WorkerId, Worker>,
    next: WorkerId,
}

struct Worker {
    orders: Sender<Order>,
    status: Status,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Idle,
    Busy,
    Stuck,
}

impl Pool {
    /// Threads are started when they are first needed.
    pub(super) fn new(name: &'static str, size: Size, store: Arc<Store>, hire: Hire) -> Self {
        let pool = Self { name, size, hire, store, workers: BTreeMap::new(), next: 0 };
        pool.show();
        pool
    }

    /// Could an order be given now?
    pub(super) fn has_room(&self) -> bool {
        self.count(Status::Idle) > 0 || self.may_hire()
    }

    /// Gives an order to a worker without waiting. An order that nobody can take is dropped, and its place with it.
    pub(super) fn assign(&mut self, mut order: Order) -> Option<WorkerId> {
        loop {
            // Always the first that is idle, so that a quiet pool uses few connections.
            let idle = self.workers.iter().find(|(_, worker)| worker.status == Status::Idle).map(|(id, _)| *id);
            let id = idle.or_else(|| self.hire())?;
            let worker = self.workers.get_mut(&id)?;
            match worker.orders.try_send(order) {
                Ok(()) => {
                    worker.status = Status::Busy;
                    self.show();
                    return Some(id);
                }
                Err(refused) => {
                    // Only a thread that is gone refuses while it is idle.
                    self.workers.remove(&id);
                    order = refused.into_inner();
                }
            }
        }
    }

    /// The worker's call overran: it does not count until it returns.
    pub(super) fn write_off(&mut self, id: WorkerId) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.status = Status::Stuck;
        }
        self.show();
    }

    /// The worker's call returned. Who was stuck meanwhile, and was replaced, ends.
    pub(super) fn returned(&mut self, id: WorkerId) {
        let replaced = self.working() >= self.size.working;
        if let Some(worker) = self.workers.get_mut(&id) {
            if worker.status == Status::Stuck && replaced {
                self.workers.remove(&id);
            } else {
                worker.status = Status::Idle;
            }
        }
        self.show();
    }

    fn working(&self) -> usize {
        self.workers.len() - self.count(Status::Stuck)
    }

    fn count(&self, status: Status) -> usize {
        self.workers.values().filter(|worker| worker.status == status).count()
    }

    fn may_hire(&self) -> bool {
        self.working() < self.size.working && self.workers.len() < self.size.cap
    }

    fn hire(&mut self) -> Option<WorkerId> {
        if !self.may_hire() {
            return None;
        }
        let id = self.next;
        match (self.hire)(id) {
            Ok(orders) => {
                self.next += 1;
                self.workers.insert(id, Worker { orders, status: Status::Idle });
                Some(id)
            }
            Err(error) => {
                tracing::error!(pool = self.name, %error, "cannot start a thread");
                None
            }
        }
    }

    fn show(&self) {
        for (label, status) in [("idle", Status::Idle), ("busy", Status::Busy), ("stuck", Status::Stuck)] {
            let count = i64::try_from(self.count(status)).unwrap_or(i64::MAX);
            self.store.metrics.workers.with_label_values(&[self.name, label]).set(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use crossbeam_channel::{Receiver, bounded};

    use super::*;
    use crate::clock::ManualClock;
    use crate::sampling::work::Job;

    fn pool(working: usize, cap: usize) -> (Pool, Receiver<Receiver<Order>>) {
        let (sender, hired) = crossbeam_channel::unbounded();
        let hire: Hire = Box::new(move |_| {
            let (orders, taken) = bounded(1);
            sender.send(taken).expect("the test listens");
            Ok(orders)
        });
        let store = Arc::new(Store::new(Arc::new(ManualClock::new())));
        (Pool::new("monitor", Size { working, cap }, store, hire), hired)
    }

    fn order() -> Order {
        Order::new(1, Job::Control(Vec::new()), None)
    }

    #[test]
    fn a_thread_is_started_when_it_is_needed_and_used_again() {
        let (mut pool, hired) = pool(2, 4);
        let first = pool.assign(order()).expect("room");
        let desk = hired.try_recv().expect("one thread");
        desk.recv().expect("the order");
        pool.returned(first);
        assert_eq!(pool.assign(order()).expect("room"), first);
        assert!(hired.is_empty());
        assert_ne!(pool.assign(order()).expect("room for two"), first);
        assert!(pool.assign(order()).is_none() && !pool.has_room());
    }

    #[test]
    fn a_stuck_worker_is_replaced_up_to_the_cap_and_the_surplus_ends() {
        let (mut pool, hired) = pool(1, 3);
        let mut desks = Vec::new();
        let mut stuck = Vec::new();
        for _ in 0..3 {
            stuck.push(pool.assign(order()).expect("a replacement"));
            let desk = hired.try_recv().expect("another thread");
            desk.recv().expect("the order");
            desks.push(desk);
            pool.write_off(stuck[stuck.len() - 1]);
        }
        assert!(pool.assign(order()).is_none(), "three are the cap");
        stuck.iter().for_each(|worker| pool.returned(*worker));
        assert!(desks[0].try_recv().is_err_and(|error| error.is_empty()), "one goes on");
        assert!(desks[1..].iter().all(|desk| desk.try_recv().is_err_and(|error| error.is_disconnected())));
    }

    #[test]
    fn a_thread_that_is_gone_is_replaced() {
        let (mut pool, hired) = pool(1, 1);
        let worker = pool.assign(order()).expect("room");
        drop(hired.try_recv().expect("one thread"));
        pool.returned(worker);
        assert_ne!(pool.assign(order()).expect("another"), worker);
    }
}
