//! Renders each snapshot once, on a thread of its own, for all scrapes.
//!
//! Text is always ready. The compressed form is made for as long as somebody asks for it; whoever asks first waits for the
//! thread, not for the network's.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded, select};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::gzip::Deflate;
use super::render::{Options, Renderer, Rendering};
use crate::store::{Part, Snapshot, Store};

/// Compressing goes on for this long after the last scrape that wanted it: longer than any usual interval.
const COMPRESS_FOR: Duration = Duration::from_secs(300);

/// After a rendering the thread rests for this many times as long as it took, so that it takes a tenth of a CPU at most.
const REST_TIMES: u32 = 9;
/// At least so long,
const SHORTEST_REST: Duration = Duration::from_millis(50);
/// and so long at most: what a scrape shows may be this much older than what is known.
const LONGEST_REST: Duration = Duration::from_millis(500);

/// How long the first compressed scrape waits before it gets plain text instead, as HTTP allows.
const FIRST_WAIT: Duration = Duration::from_secs(2);

/// The publisher shows at least this often that it lives.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// The newest rendering, for the HTTP server.
pub struct Exposition {
    store: Arc<Store>,
    current: watch::Receiver<Arc<Rendering>>,
    wanted: Arc<Wanted>,
    tails: Mutex<Option<Deflate>>,
}

struct Wanted {
    gzip_at: Mutex<Option<Instant>>,
    options: Mutex<Options>,
    wake: Sender<()>,
}

/// The answer to one scrape: what to send, in order.
#[derive(Debug)]
pub struct Scrape {
    /// Is it compressed?
    pub gzip: bool,
    /// The parts; shared ones are not copied.
    pub parts: Vec<Bytes>,
}

/// Starts the publisher. Its thread ends when the exposition is dropped.
///
/// # Errors
/// If the thread cannot be started.
pub fn start(store: &Arc<Store>, options: Options) -> std::io::Result<Exposition> {
    let news = store.subscribe();
    let (wake, woken) = bounded(1);
    let wanted = Arc::new(Wanted { gzip_at: Mutex::new(None), options: Mutex::new(options), wake });
    let mut renderer = Renderer::new(options);
    let first = Arc::new(renderer.render(store.snapshot(), store.now(), store));
    let (sender, current) = watch::channel(first);
    // The thread must not keep itself awake: it holds the other end of the wake channel weakly.
    let publisher = Publisher { store: Arc::clone(store), renderer, sender, wanted: Arc::downgrade(&wanted) };
    thread::Builder::new().name("publisher".to_owned()).spawn(move || publisher.run(&news, &woken))?;
    Ok(Exposition { store: Arc::clone(store), current, wanted, tails: Mutex::new(None) })
}

impl Exposition {
    /// The snapshot that /metrics shows; it can be a moment older than the store's.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.borrow().snapshot)
    }

    /// Renders so from now on.
    pub fn set_options(&self, options: Options) {
        if std::mem::replace(&mut *self.wanted.options.lock(), options) != options {
            // A full channel holds a wake-up already.
            let _ = self.wanted.wake.try_send(());
        }
    }

    /// The text of /metrics, compressed if `gzip` is wanted and can be had.
    pub async fn scrape(&self, gzip: bool) -> Scrape {
        let compressed = if gzip { self.compressed().await } else { None };
        let rendering = compressed.unwrap_or_else(|| Arc::clone(&self.current.borrow()));
        let tail = rendering.per_scrape(&self.store);
        match &rendering.gzip {
            Some(head) if gzip => {
                let end = self.tails.lock().get_or_insert_with(Deflate::new).tail(head, &tail);
                Scrape { gzip: true, parts: vec![Bytes::from_owner(Shared(Arc::clone(head))), end.into()] }
            }
            _ => {
                let chunks = rendering.plain.iter().map(|chunk| Bytes::from_owner(Shared(Arc::clone(chunk))));
                Scrape { gzip: false, parts: chunks.chain([tail.into()]).collect() }
            }
        }
    }

    async fn compressed(&self) -> Option<Arc<Rendering>> {
        *self.wanted.gzip_at.lock() = Some(self.store.now());
        let mut current = self.current.clone();
        if current.borrow().gzip.is_none() {
            // A full channel holds a wake-up already.
            let _ = self.wanted.wake.try_send(());
        }
        let ready = current.wait_for(|rendering| rendering.gzip.is_some());
        tokio::time::timeout(FIRST_WAIT, ready).await.ok()?.ok().map(|rendering| Arc::clone(&rendering))
    }
}

/// Lets `Bytes` share what is behind an `Arc`.
struct Shared<T>(Arc<T>);

impl AsRef<[u8]> for Shared<Vec<u8>> {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Shared<super::gzip::Head> {
    fn as_ref(&self) -> &[u8] {
        &self.0.bytes
    }
}

struct Publisher {
    store: Arc<Store>,
    renderer: Renderer,
    sender: watch::Sender<Arc<Rendering>>,
    wanted: std::sync::Weak<Wanted>,
}

impl Publisher {
    fn run(mut self, news: &Receiver<()>, woken: &Receiver<()>) {
        loop {
            let stale_at = self.sender.borrow().stale_at;
            let now = self.store.now();
            // A moment later, so that "older than the limit" is true then.
            let until_stale = stale_at.map(|at| at.saturating_duration_since(now) + Duration::from_millis(1));
            self.store.beat(Part::Publisher);
            select! {
                recv(news) -> message => if message.is_err() { return },
                recv(woken) -> message => if message.is_err() { return },
                default(until_stale.map_or(HEARTBEAT, |until| until.min(HEARTBEAT))) => {
                    if stale_at.is_none_or(|at| self.store.now() <= at) {
                        continue;
                    }
                }
            }
            let Some(wanted) = self.wanted.upgrade() else { return };
            let gzip_at = *wanted.gzip_at.lock();
            self.renderer.set_options(*wanted.options.lock());
            drop(wanted);
            let begin = self.store.now();
            self.publish(gzip_at);
            // A turn brings several answers in a row; one rendering can show them all.
            let took = self.store.now().saturating_duration_since(begin);
            thread::sleep((took * REST_TIMES).clamp(SHORTEST_REST, LONGEST_REST));
        }
    }

    fn publish(&mut self, gzip_at: Option<Instant>) {
        let now = self.store.now();
        let mut rendering = self.renderer.render(self.store.snapshot(), now, &self.store);
        if gzip_at.is_some_and(|at| now.saturating_duration_since(at) < COMPRESS_FOR) {
            self.renderer.compress(&mut rendering);
        } else {
            self.renderer.stop_compressing();
        }
        let old = self.sender.send_replace(Arc::new(rendering));
        if let Some(old) = Arc::into_inner(old) {
            self.renderer.recycle(old);
        }
    }
}
