//! Who is connected, what was promised to each, and the events that they asked for.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::Instant;

use crate::host::{Event, EventKind};
use crate::limits::CLIENT_REQUESTS;
use crate::wire::{Header, REMOTE, TypedParams, finish, put_domain};

/// What becomes of a connection behind a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Then {
    /// It goes on.
    Continue,
    /// Nothing is written any more.
    Silence,
    /// It is closed.
    Close,
}

/// A message on its way out.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) bytes: Vec<u8>,
    /// The place of the call that it answers; free when the message is out.
    pub(crate) _request: Option<Request>,
    pub(crate) then: Then,
}

/// One of the five places for calls, taken; free when it is dropped.
#[derive(Debug)]
pub(crate) struct Request {
    _place: OwnedSemaphorePermit,
    calls: Arc<AtomicUsize>,
}

impl Drop for Request {
    fn drop(&mut self) {
        self.calls.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One connection, as the rest of the daemon sees it.
#[derive(Debug)]
pub(crate) struct Client {
    /// Connections are counted from 1, in the order in which they came.
    pub(crate) number: u64,
    /// Places for calls. One is taken before a message is read.
    pub(super) places: Arc<Semaphore>,
    calls: Arc<AtomicUsize>,
    pub(super) hung: watch::Sender<bool>,
    pub(super) closing: watch::Sender<bool>,
    /// Somebody asked whether we do keepalive, and so can answer pings.
    pub(super) keepalive: Notify,
    pub(super) heard: Mutex<Instant>,
    out: mpsc::UnboundedSender<Outgoing>,
    opened: AtomicBool,
    subscriptions: Mutex<Subscriptions>,
}

#[derive(Debug, Default)]
struct Subscriptions {
    next: i32,
    /// By callback: which event, and of whom if not of all.
    callbacks: BTreeMap<i32, (i32, Option<[u8; 16]>)>,
}

impl Client {
    /// Sends a message, if the connection is still there.
    pub(crate) fn send(&self, message: Outgoing) {
        let _ = self.out.send(message);
    }

    /// Sends a message that answers nothing.
    pub(crate) fn send_bytes(&self, bytes: Vec<u8>) {
        self.send(Outgoing { bytes, _request: None, then: Then::Continue });
    }

    /// Was the hypervisor's connection opened?
    pub(crate) fn is_open(&self) -> bool {
        self.opened.load(Ordering::Relaxed)
    }

    pub(crate) fn set_open(&self, open: bool) {
        self.opened.store(open, Ordering::Relaxed);
    }

    /// The client can answer pings from now on.
    pub(crate) fn wants_keepalive(&self) {
        self.keepalive.notify_one();
    }

    /// Calls that are open on it.
    pub(crate) fn open_calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }

    /// A call has come, and takes the place.
    pub(super) fn begin(&self, place: OwnedSemaphorePermit) -> Request {
        self.calls.fetch_add(1, Ordering::Relaxed);
        Request { _place: place, calls: Arc::clone(&self.calls) }
    }

    /// Stops reading and writing, or goes on.
    pub(crate) fn set_hung(&self, hung: bool) {
        self.hung.send_replace(hung);
    }

    pub(crate) fn is_hung(&self) -> bool {
        *self.hung.borrow()
    }

    pub(crate) fn close(&self) {
        self.closing.send_replace(true);
    }

    /// Adds a callback, and gives its number.
    pub(crate) fn subscribe(&self, event: i32, guest: Option<[u8; 16]>) -> i32 {
        let mut subscriptions = self.subscriptions.lock();
        let callback = subscriptions.next;
        subscriptions.next += 1;
        subscriptions.callbacks.insert(callback, (event, guest));
        callback
    }

    /// Removes one; false if there is none of that number.
    pub(crate) fn unsubscribe(&self, callback: i32) -> bool {
        self.subscriptions.lock().callbacks.remove(&callback).is_some()
    }

    fn tell(&self, event: &Event) {
        let number = number(&event.what);
        let subscriptions = self.subscriptions.lock();
        for (callback, (wanted, guest)) in &subscriptions.callbacks {
            if *wanted == number && guest.is_none_or(|guest| guest == event.guest.uuid) {
                self.send_bytes(encode(event, *callback));
            }
        }
    }
}

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Clients {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    accepted: u64,
    clients: BTreeMap<u64, Arc<Client>>,
}

impl Clients {
    /// Takes a new one in, and gives the end where its messages come out.
    pub(super) fn add(&self) -> (Arc<Client>, mpsc::UnboundedReceiver<Outgoing>) {
        let (out, messages) = mpsc::unbounded_channel();
        let mut state = self.state.lock();
        state.accepted += 1;
        let client = Arc::new(Client {
            number: state.accepted,
            places: Arc::new(Semaphore::new(CLIENT_REQUESTS)),
            calls: Arc::default(),
            hung: watch::Sender::new(false),
            closing: watch::Sender::new(false),
            keepalive: Notify::new(),
            heard: Mutex::new(Instant::now()),
            out,
            opened: AtomicBool::new(false),
            subscriptions: Mutex::default(),
        });
        state.clients.insert(client.number, Arc::clone(&client));
        (client, messages)
    }

    pub(super) fn remove(&self, number: u64) {
        self.state.lock().clients.remove(&number);
    }

    /// How many there ever were.
    pub(crate) fn accepted(&self) -> u64 {
        self.state.lock().accepted
    }

    pub(crate) fn all(&self) -> Vec<Arc<Client>> {
        self.state.lock().clients.values().cloned().collect()
    }

    /// Sends an event to all who asked for it.
    pub(crate) fn tell(&self, event: &Event) {
        for client in self.all() {
            client.tell(event);
        }
    }
}

/// `virDomainEventID`.
fn number(event: &EventKind) -> i32 {
    match event {
        EventKind::Lifecycle { .. } => 0,
        EventKind::Clock { .. } => 2,
        EventKind::Watchdog { .. } => 3,
        EventKind::Graphics { .. } => 5,
        EventKind::IoError { .. } => 6,
        EventKind::DeviceRemoved { .. } => 15,
        EventKind::DeviceAdded { .. } => 19,
        EventKind::JobCompleted { .. } => 21,
        EventKind::MetadataChanged { .. } => 23,
    }
}

fn encode(event: &Event, callback: i32) -> Vec<u8> {
    let procedure = match event.what {
        EventKind::Lifecycle { .. } => 318,
        EventKind::Clock { .. } => 320,
        EventKind::Watchdog { .. } => 321,
        EventKind::Graphics { .. } => 323,
        EventKind::IoError { .. } => 324,
        EventKind::DeviceRemoved { .. } => 333,
        EventKind::DeviceAdded { .. } => 354,
        EventKind::JobCompleted { .. } => 363,
        EventKind::MetadataChanged { .. } => 379,
    };
    let mut out = Header::message(REMOTE, procedure).begin();
    out.i32(callback);
    put_domain(&mut out, &event.guest.name, &event.guest.uuid, event.guest.id);
    match &event.what {
        EventKind::Lifecycle { event, detail } => {
            out.i32(*event);
            out.i32(*detail);
        }
        EventKind::Clock { offset } => out.i64(*offset),
        EventKind::Watchdog { action } => out.i32(*action),
        EventKind::Graphics { phase, remote } => {
            const IPV4: i32 = 0;
            out.i32(*phase);
            for (node, port) in [("127.0.0.1", "5900"), (remote, "40564")] {
                out.i32(IPV4);
                out.text(node);
                out.text(port);
            }
            out.text("none");
            out.count(0);
        }
        EventKind::IoError { path, alias, action, reason } => {
            out.text(path);
            out.text(alias);
            out.i32(*action);
            out.text(reason);
        }
        EventKind::DeviceAdded { alias } | EventKind::DeviceRemoved { alias } => out.text(alias),
        EventKind::MetadataChanged { kind, namespace } => {
            out.i32(*kind);
            out.optional_text(namespace.as_deref());
        }
        EventKind::JobCompleted { params } => {
            TypedParams::array(&mut out, |sink| params.iter().for_each(|(name, value)| sink.put(name, *value)));
        }
    }
    finish(out)
}
