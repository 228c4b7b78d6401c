//! Opens connections, one at a time, so that it can be told which socket of this process belongs to which.

use std::sync::Once;
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use virt::connect::Connect;

use super::connection::LibvirtSource;
use super::decode::Decoder;
use super::ffi::{self, Connection, event_loop};
use super::peer;
use super::sockets::{self, Sockets};
use crate::model::{Source, SourceError, SourceFactory};

/// Seconds between two questions whether libvirtd is still there.
const KEEPALIVE_INTERVAL_S: i32 = 2;
/// Questions without an answer before the connection is given up. A libvirtd that stands still is so noticed after 8 s:
/// late enough for one that is merely slow, and libvirt.so itself would wait for ever.
const KEEPALIVE_COUNT: u32 = 3;
/// After the event loop failed.
const EVENT_LOOP_PAUSE: Duration = Duration::from_secs(1);

static ARENA: Once = Once::new();
static PREPARE: Once = Once::new();
/// Held while a connection is opened. The sockets are the whole process's, so its factories must not open at once.
static TURN: Mutex<()> = Mutex::new(());
static ATTEMPT: Mutex<Option<Attempt>> = Mutex::new(None);

/// The opening that is under way.
struct Attempt {
    /// Sockets that were there when it began, and are none of its.
    before: Sockets,
    abandoned: bool,
}

/// Opens read-only connections to one URI.
pub struct LibvirtFactory {
    uri: String,
    decoder: Decoder,
}

impl LibvirtFactory {
    /// For a libvirt URI, such as `qemu:///system`.
    #[must_use]
    pub fn new(uri: String) -> Self {
        // Here, since threads that have an arena keep it.
        ARENA.call_once(ffi::set_allocator);
        Self { uri, decoder: Decoder::default() }
    }

    fn refused(&self, message: &str) -> SourceError {
        SourceError::Connect { uri: self.uri.clone(), message: message.to_owned() }
    }
}

impl SourceFactory for LibvirtFactory {
    fn open(&self) -> Result<Box<dyn Source>, SourceError> {
        PREPARE.call_once(prepare);
        let _turn = TURN.lock();
        *ATTEMPT.lock() = Some(Attempt { before: Sockets::now(), abandoned: false });
        let opened = Connect::open_read_only(Some(&self.uri)).map(Connection::new);
        // From here on nothing of this attempt is shut down any more.
        let attempt = ATTEMPT.lock().take();
        let connection = opened.map_err(|error| self.refused(error.message()))?;
        if attempt.as_ref().is_some_and(|attempt| attempt.abandoned) {
            return Err(self.refused("it took too long, and was given up"));
        }
        if let Err(error) = connection.get().set_keep_alive(KEEPALIVE_INTERVAL_S, KEEPALIVE_COUNT) {
            // Drivers that live in our own process have none, and need none.
            tracing::debug!(uri = self.uri, %error, "no keepalive");
        }
        let socket = attempt.and_then(|attempt| attempt.before.connected_since().into_iter().next());
        let peer = socket.as_ref().and_then(peer::of);
        Ok(Box::new(LibvirtSource::new(connection, self.decoder.clone(), peer)))
    }

    fn abandon_opening(&self) {
        // Held meanwhile, so that the attempt cannot end and its socket become a connection in use.
        let mut attempt = ATTEMPT.lock();
        if let Some(attempt) = &mut *attempt {
            attempt.abandoned = true;
            for socket in attempt.before.connected_since() {
                sockets::shut_down(&socket);
            }
        }
    }
}

/// What must be done before the first connection of a process is opened.
fn prepare() {
    // Otherwise libvirt prints every error to stderr beside our own log.
    virt::error::clear_error_callback();
    let started = event_loop::register().and_then(|()| {
        let thread = thread::Builder::new().name("events".to_owned());
        thread.spawn(run_events)
    });
    if let Err(error) = started {
        tracing::error!(%error, "no event loop: a libvirtd that hangs will not be noticed");
    }
}

/// The thread that keepalive and events live on. It never calls libvirtd.
fn run_events() {
    let mut complained = false;
    loop {
        let error = event_loop::run();
        if !std::mem::replace(&mut complained, true) {
            tracing::error!(%error, "the event loop failed; it is tried again");
        }
        thread::sleep(EVENT_LOOP_PAUSE);
    }
}
