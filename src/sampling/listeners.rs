//! Who listens for events. While a call hangs on the connection that listens, another one listens too, and libvirt tells both:
//! of several only the newest is heard, so that nothing is counted twice.

use std::collections::BTreeSet;
use std::sync::Arc;

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
    fn is_heard(&self) -> bool {
        self.living.lock().last() == Some(&self.number)
    }
}

impl Listeners {
    pub(super) fn new(store: Arc<Store>, events: Sender<Heard>) -> Self {
        Self { store, events, living: Arc::default(), peer: Arc::default() }
    }

    /// A sink for one more connection, served by that process.
    pub(super) fn sink(&self, peer: Option<Peer>) -> EventSink {
        // Before its first event. Of whom we cannot tell who it is, it may be another one.
        let before = std::mem::replace(&mut *self.peer.lock(), peer);
        if peer.is_none() || peer != before {
            self.store.forget_run_numbers();
        }
        let number = {
            let mut living = self.living.lock();
            let number = living.last().map_or(0, |newest| newest + 1);
            living.insert(number);
            number
        };
        let listener = Listener { number, living: Arc::clone(&self.living) };
        let (store, events) = (Arc::clone(&self.store), self.events.clone());
        Arc::new(move |event| {
            if listener.is_heard() {
                // The engine that listened may be gone; the connection goes with its worker.
                let _ = events.send((store.moment(), event));
            }
        })
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
        let first = listeners.sink(None);
        first(event());
        assert_eq!(heard.try_iter().count(), 1);
        let second = listeners.sink(None);
        first(event());
        second(event());
        assert_eq!(heard.try_iter().count(), 1, "told twice, heard once");
        drop(second);
        first(event());
        assert_eq!(heard.try_iter().count(), 1, "the older one again");
    }
}
