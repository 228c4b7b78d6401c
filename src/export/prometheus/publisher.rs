//! Renders snapshots for all scrapes, on a thread of its own.
//!
//! On most hosts snapshots are rendered as they come, so that text is ready; the compressed form is made for as long as somebody
//! asks for it. Where they come faster than is worth the work, one is rendered now and then, and when a scrape comes that would
//! see an older one. On a host with very many guests any of this would be work and memory for nobody: there a rendering is made
//! when a scrape asks for one, and serves those that come soon after. Whoever asks first waits for the thread, not for the
//! network's.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, bounded, select};
use flate2::Crc;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::gzip::Deflate;
use super::packed::Shared;
use super::render::{Options, Renderer, Rendering, Text};
use super::stream::Stream;
use crate::store::{Part, Store};

/// What only scrapes need is kept for this long after the last of them: longer than any usual interval. It is the compressed
/// form for those that want it; on a large host, everything.
const KEEP_FOR: Duration = Duration::from_secs(300);

/// After a rendering the thread rests for this many times as long as it took, so that it takes a tenth of a CPU at most.
const REST_TIMES: u32 = 9;
/// At least so long,
const SHORTEST_REST: Duration = Duration::from_millis(50);
/// and so long at most: what a scrape shows may be this much older than what is known.
const LONGEST_REST: Duration = Duration::from_millis(500);

/// Renderings that nobody asked for take this part of a CPU at most.
const UNASKED_TIMES: u32 = 5000;

/// A rendering of a large host serves the scrapes of this long, whatever is known meanwhile; or of the time that
/// [`REST_TIMES`] gives, if that is longer.
const LARGE_REST: Duration = Duration::from_secs(1);

/// How long the first compressed scrape waits before it gets plain text instead, as HTTP allows.
const FIRST_WAIT: Duration = Duration::from_secs(2);
/// How long a scrape of a large host waits for its rendering, which takes a tenth of this.
const LARGE_WAIT: Duration = Duration::from_secs(3);

/// The publisher shows at least this often that it lives.
const HEARTBEAT: Duration = Duration::from_secs(5);

/// The newest rendering, for the HTTP server.
pub struct Exposition {
    store: Arc<Store>,
    current: watch::Receiver<Arc<Current>>,
    wanted: Arc<Wanted>,
    tails: Mutex<Option<Deflate>>,
}

/// What can be shown.
enum Current {
    /// A rendering that is good for scrapes until that moment, and then as long as nothing is new; it is replaced by and by.
    Small(Rendering, Instant),
    /// A rendering that is good for scrapes until that moment, and then as long as nothing is new.
    Large(Rendering, Instant),
    /// A large host, and nobody asked.
    Nothing,
}

struct Wanted {
    scraped_at: Mutex<Option<Instant>>,
    gzip_at: Mutex<Option<Instant>>,
    /// The sequence number of the snapshot that a scrape of a large host waits for, and one; 0 if none waits.
    demand: AtomicU64,
    options: Mutex<Options>,
    wake: Sender<()>,
}

/// The answer to one scrape: what to send, in order.
pub struct Scrape {
    /// Is it compressed?
    pub gzip: bool,
    /// The parts; shared ones are not copied.
    pub parts: Vec<Bytes>,
    /// What is made while it is sent, behind the parts; its length is not known.
    pub rest: Option<Stream>,
}

/// Starts the publisher. Its thread ends when the exposition is dropped.
///
/// # Errors
/// If the thread cannot be started.
pub fn start(store: &Arc<Store>, options: Options) -> std::io::Result<Exposition> {
    start_with(store, Renderer::new(options))
}

/// The same, with a renderer of one's own.
///
/// # Errors
/// If the thread cannot be started.
pub fn start_with(store: &Arc<Store>, renderer: Renderer) -> std::io::Result<Exposition> {
    let options = renderer.options();
    let news = store.subscribe();
    let (wake, woken) = bounded(1);
    let wanted = Arc::new(Wanted {
        scraped_at: Mutex::new(None),
        gzip_at: Mutex::new(None),
        demand: AtomicU64::new(0),
        options: Mutex::new(options),
        wake,
    });
    let (sender, current) = watch::channel(Arc::new(Current::Nothing));
    // The thread must not keep itself awake: it holds the other end of the wake channel weakly.
    let mut publisher =
        Publisher { store: Arc::clone(store), options, renderer, sender, wanted: Arc::downgrade(&wanted) };
    publisher.publish(&wanted);
    thread::Builder::new().name("publisher".to_owned()).spawn(move || publisher.run(&news, &woken))?;
    Ok(Exposition { store: Arc::clone(store), current, wanted, tails: Mutex::new(None) })
}

impl Current {
    /// Will it do for a scrape of that moment, when the newest snapshot is that one?
    fn is_good(&self, now: Instant, newest: u64) -> bool {
        matches!(self, Self::Small(_, until) | Self::Large(_, until) if now < *until) || self.is_up_to_date(now, newest)
    }

    /// Does it show that snapshot, or a later one, and nothing that was stale then?
    fn is_up_to_date(&self, now: Instant, newest: u64) -> bool {
        match self {
            Self::Small(it, _) | Self::Large(it, _) => it.sequence >= newest && it.stale_at.is_none_or(|at| now <= at),
            Self::Nothing => false,
        }
    }

    fn rendering(&self) -> Option<&Rendering> {
        match self {
            Self::Small(rendering, _) | Self::Large(rendering, _) => Some(rendering),
            Self::Nothing => None,
        }
    }
}

impl Wanted {
    fn wake(&self) {
        // A full channel holds a wake-up already.
        let _ = self.wake.try_send(());
    }
}

impl Exposition {
    /// Why what a scrape would get now is not yet a complete picture; `None` if it is.
    #[must_use]
    pub fn incomplete(&self) -> Option<Arc<str>> {
        let newest = self.store.snapshot();
        let current = self.current.borrow();
        let shown = current.rendering().filter(|_| current.is_good(self.store.now(), newest.sequence));
        // Without a good one, a scrape would get a rendering of the newest.
        shown.map_or_else(|| newest.incomplete.clone(), |rendering| rendering.incomplete.clone())
    }

    /// Renders so from now on.
    pub fn set_options(&self, options: Options) {
        if std::mem::replace(&mut *self.wanted.options.lock(), options) != options {
            self.wanted.wake();
        }
    }

    /// The text of /metrics, compressed if `gzip` is wanted and can be had; `None` if there is none within 3 s.
    pub async fn scrape(&self, gzip: bool) -> Option<Scrape> {
        let now = self.store.now();
        *self.wanted.scraped_at.lock() = Some(now);
        let mut current = self.current().await?;
        if gzip {
            *self.wanted.gzip_at.lock() = Some(now);
            current = self.compressed(current).await;
        }
        let rendering = current.rendering()?;
        Some(match &rendering.text {
            Text::Packed(lease) => {
                let now = self.store.now();
                let own = rendering.own(&self.store, now);
                let rest = Stream::new(Arc::clone(lease), Arc::clone(&rendering.ages), now, own, gzip);
                Scrape { gzip, parts: Vec::new(), rest: Some(rest) }
            }
            Text::Plain(_, Some(head)) if gzip => {
                let end = self.tail(&head.crc, &rendering.per_scrape(&self.store));
                Scrape { gzip, parts: vec![shared(&head.bytes), end.into()], rest: None }
            }
            Text::Plain(chunks, _) => {
                let tail = rendering.per_scrape(&self.store);
                let parts = chunks.iter().map(shared).chain([tail.into()]).collect();
                Scrape { gzip: false, parts, rest: None }
            }
        })
    }

    fn tail(&self, head: &Crc, text: &[u8]) -> Vec<u8> {
        self.tails.lock().get_or_insert_with(Deflate::new).tail(head, text)
    }

    /// What to show to a scrape of now.
    async fn current(&self) -> Option<Arc<Current>> {
        let (now, newest) = (self.store.now(), self.store.snapshot().sequence);
        let mut current = self.current.clone();
        {
            let current = current.borrow();
            if current.is_good(now, newest) {
                return Some(Arc::clone(&current));
            }
        }
        // Before the wake-up, which must find it.
        self.wanted.demand.fetch_max(newest + 1, Ordering::SeqCst);
        self.wanted.wake();
        // One that is under way may be of a snapshot before this one.
        let made = current.wait_for(|current| match current.as_ref() {
            // One of a moment ago is as good as it would be for a scrape that comes now.
            Current::Small(_, until) if self.store.now() < *until => true,
            current => current.is_up_to_date(now, newest),
        });
        tokio::time::timeout(LARGE_WAIT, made).await.ok()?.ok().map(|current| Arc::clone(&current))
    }

    /// What to show to a scrape that wants it compressed: the same, if it does not come so in time.
    async fn compressed(&self, shown: Arc<Current>) -> Arc<Current> {
        let plain = |current: &Current| {
            matches!(current, Current::Small(Rendering { text: Text::Plain(_, None), .. }, _) | Current::Nothing)
        };
        if !plain(&shown) {
            return shown;
        }
        self.wanted.wake();
        let mut current = self.current.clone();
        let ready = current.wait_for(|current| !plain(current));
        match tokio::time::timeout(FIRST_WAIT, ready).await {
            Ok(Ok(current)) => Arc::clone(&current),
            _ => shown,
        }
    }
}

fn shared(bytes: &Arc<Vec<u8>>) -> Bytes {
    Bytes::from_owner(Shared(Arc::clone(bytes)))
}

struct Publisher {
    store: Arc<Store>,
    options: Options,
    renderer: Renderer,
    sender: watch::Sender<Arc<Current>>,
    wanted: std::sync::Weak<Wanted>,
}

impl Publisher {
    fn run(mut self, news: &Receiver<()>, woken: &Receiver<()>) {
        let never = crossbeam_channel::never();
        let mut unasked_at = self.store.now();
        loop {
            let stale_at = match &**self.sender.borrow() {
                Current::Small(rendering, _) => rendering.stale_at,
                // Whoever scrapes next sees to that.
                Current::Large(..) | Current::Nothing => None,
            };
            let now = self.store.now();
            // A moment later, so that "older than the limit" is true then.
            let until_stale = stale_at.map(|at| at.saturating_duration_since(now) + Duration::from_millis(1));
            self.store.beat(Part::Publisher);
            let pause = unasked_at.saturating_duration_since(now);
            // A scrape that finds something stale asks for another rendering, so that can wait as well.
            let (news, wait) = if pause.is_zero() {
                (news, until_stale.map_or(HEARTBEAT, |until| until.min(HEARTBEAT)))
            } else {
                (&never, pause.min(HEARTBEAT))
            };
            select! {
                recv(news) -> message => if message.is_err() { return },
                recv(woken) -> message => if message.is_err() { return },
                default(wait) => {
                    let now = self.store.now();
                    let stale = now >= unasked_at && stale_at.is_some_and(|at| now > at);
                    let large = matches!(&**self.sender.borrow(), Current::Large(..));
                    if !stale && !large {
                        continue;
                    }
                }
            }
            let Some(wanted) = self.wanted.upgrade() else { return };
            let begin = self.store.now();
            let rest = self.publish(&wanted);
            drop(wanted);
            let now = self.store.now();
            unasked_at = now + now.saturating_duration_since(begin) * UNASKED_TIMES;
            thread::sleep(rest);
        }
    }

    /// Does what is to be done, and returns for how long it need not be looked at again.
    fn publish(&mut self, wanted: &Wanted) -> Duration {
        let options = *wanted.options.lock();
        let changed = std::mem::replace(&mut self.options, options) != options;
        self.renderer.set_options(options);
        let demand = wanted.demand.swap(0, Ordering::SeqCst);
        let (snapshot, begin) = (self.store.snapshot(), self.store.now());
        let recently =
            |at: &Mutex<Option<Instant>>| at.lock().is_some_and(|at| begin.saturating_duration_since(at) < KEEP_FOR);
        if !self.renderer.is_large(&snapshot) {
            let mut rendering = self.renderer.render(snapshot, begin, &self.store);
            if recently(&wanted.gzip_at) {
                self.renderer.compress(&mut rendering);
            } else {
                self.renderer.stop_compressing();
            }
            // A turn brings several answers in a row; one rendering can show them all.
            let now = self.store.now();
            let rest = (now.saturating_duration_since(begin) * REST_TIMES).clamp(SHORTEST_REST, LONGEST_REST);
            // Who is told "ready" finds everything, so what is not complete serves nobody who comes later.
            let until = if rendering.incomplete.is_some() { now } else { now + rest };
            self.show(Current::Small(rendering, until));
            return rest;
        }
        let (kept, made) = match &**self.sender.borrow() {
            current @ Current::Large(..) => (!changed, current.is_up_to_date(begin, demand.saturating_sub(1))),
            Current::Small(..) => (false, false),
            Current::Nothing => (true, false),
        };
        if demand > 0 && !(kept && made) {
            // It will be shown to nobody any more, so the next one can have its memory.
            self.show(Current::Nothing);
            let rendering = self.renderer.render(snapshot, begin, &self.store);
            let took = self.store.now().saturating_duration_since(begin);
            // Who is told "ready" finds everything, so what is not complete serves nobody who comes later.
            let serves =
                if rendering.incomplete.is_some() { Duration::ZERO } else { LARGE_REST.max(took * REST_TIMES) };
            self.show(Current::Large(rendering, begin + serves));
        } else if !(kept && recently(&wanted.scraped_at)) {
            self.show(Current::Nothing);
            self.renderer.forget();
        }
        Duration::ZERO
    }

    fn show(&mut self, next: Current) {
        let old = self.sender.send_replace(Arc::new(next));
        if let Some(Current::Small(rendering, _) | Current::Large(rendering, _)) = Arc::into_inner(old) {
            self.renderer.recycle(rendering);
        }
    }
}
