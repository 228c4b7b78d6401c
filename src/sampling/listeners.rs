//! Who listens for events. While a call hangs on the connection that listens, another one listens too, and libvirt tells both:
//! of several only the newest is heard, so that nothing is counted twice.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use crossbeam_channel::Sender;
use parking_lot::Mutex;

use crate::model::{DomainEvent, EventSink, Moment, Peer};
use crate::store::Store;

/// An event, and when it came.
pub(super) type Heard = (Moment, DomainEvent);

/// Hands out sinks, and passes on what the newest of them is told.
#[derive(Clone)]
pub(super) struct Listeners {
    store: Arc<Store>,
    events: Sender<Heard>,
    next: Arc<AtomicU64>,
    living: Arc<Mutex<BTreeSet<u64>>>,
    /// Who served the newest connection.
    peer: Arc<Mutex<Option<Peer>>>,
}

/// A sink's place among the others, for as long as it lives.
struct Listener {
    number: u64,
    living: Arc<Mutex<BTreeSet<u64>>>,
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.living.lock().remove(&self.number);
    }
}

impl Listener {
    /// Is it the newest that listens, or is there none yet?
    fn is_heard(&self) -> bool {
        self.living.lock().last().is_none_or(|newest| *newest == self.number)
    }
}

/// To be told when a connection listens.
pub(super) struct Listening(Weak<Listener>);

impl Listening {
    /// It listens, unless its driver has no events and its sink is gone already.
    pub(super) fn begins(self) {
        if let Some(listener) = self.0.upgrade() {
            listener.living.lock().insert(listener.number);
        }
    }
}

impl Listeners {
    pub(super) fn new(store: Arc<Store>, events: Sender<Heard>) -> Self {
        Self { store, events, next: Arc::default(), living: Arc::default(), peer: Arc::default() }
    }

    /// A sink for one more connection, served by that process. It is heard from when the connection listens, which may take its
    /// time; until then the one before is.
    pub(super) fn sink(&self, peer: Option<Peer>) -> (EventSink, Listening) {
        // Before its first event. Of whom we cannot tell who it is, it may be another one.
        let before = std::mem::replace(&mut *self.peer.lock(), peer);
        if peer.is_none() || peer != before {
            self.store.forget_run_numbers();
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let listener = Arc::new(Listener { number, living: Arc::clone(&self.living) });
        let listening = Listening(Arc::downgrade(&listener));
        let (store, events) = (Arc::clone(&self.store), self.events.clone());
        let sink: EventSink = Arc::new(move |event| {
            if listener.is_heard() {
                // The engine that listened may be gone; the connection goes with its worker.
                let _ = events.send((store.moment(), event));
            }
        });
        (sink, listening)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ManualClock;
    use crate::model::{DomainId, Happened};

    #[test]
    fn the_newest_that_lives_is_heard() {
        let store = Arc::new(Store::new(Arc::new(ManualClock::new())));
        let (sender, heard) = crossbeam_channel::unbounded();
        let listeners = Listeners::new(store, sender);
        let event = || DomainEvent { id: DomainId::from_bytes([1; 16]), run: None, what: Happened::Resumed };
        let (first, listening) = listeners.sink(None);
        first(event());
        assert_eq!(heard.try_iter().count(), 1, "nobody else could be");
        listening.begins();
        first(event());
        assert_eq!(heard.try_iter().count(), 1);
        let (second, listening) = listeners.sink(None);
        first(event());
        second(event());
        assert_eq!(heard.try_iter().count(), 1, "the first, until the second listens to all");
        listening.begins();
        first(event());
        second(event());
        assert_eq!(heard.try_iter().count(), 1, "told twice, heard once");
        drop(second);
        first(event());
        assert_eq!(heard.try_iter().count(), 1, "the older one again");
    }
}
