//! A snapshot as Prometheus text: what the domains' figures say, for all scrapes until the next; the rest per scrape.

use std::sync::Arc;
use std::time::Instant;

use flate2::Decompress;

use super::ages::Ages;
use super::gzip::{Deflate, Head};
use super::host;
use super::labels::LabelCache;
use super::lines::Chunks;
use super::packed::{Lease, Packed, Packing, Readers};
use super::packer::Packer;
use super::series::{Series, Tile};
use super::table::{HostView, View, families};
use super::view::view;
use crate::model::Stamp;
use crate::store::{Snapshot, Store};

/// A text longer than this is kept packed alone. That of some 700 guests with two vCPUs, disks and NICs each; below, plain text
/// costs little memory, and a scrape that wants it finds it ready.
const LARGE: usize = 8 << 20;

/// What a domain's text is taken for until there is one: that of a guest with two vCPUs, disks and NICs.
const USUAL: usize = 12 << 10;

/// Domains are rendered in tiles of so many devices of the most frequent kind. What is known of those fits into a CPU's own
/// cache, so that each family finds it there; and a family's lines of a tile, some 30 KB, are packed into one piece.
const TILE: usize = 256;

/// What can be chosen about the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Does each sampled figure carry the time at which it was asked for?
    pub timestamps: bool,
    /// Are the host's own figures there too?
    pub host: bool,
    /// Are the least and the greatest rates of the last minute there too?
    pub minute: bool,
}

/// One rendered snapshot, shared by all scrapes until the next.
#[derive(Debug)]
pub struct Rendering {
    /// Of the snapshot.
    pub(super) sequence: u64,
    sampled: Option<Stamp>,
    pub(super) incomplete: Option<Arc<str>>,
    pub(super) text: Text,
    pub(super) ages: Arc<Ages>,
    /// Are the host's own figures wanted?
    host: bool,
    /// When the next sample in it turns stale, so that it must be rendered anew.
    pub(super) stale_at: Option<Instant>,
}

/// The domains' part.
#[derive(Debug)]
pub(super) enum Text {
    /// In chunks; and compressed, if somebody wants that.
    Plain(Vec<Arc<Vec<u8>>>, Option<Head>),
    /// Of a host with many guests.
    Packed(Arc<Lease>),
}

impl Rendering {
    /// The text, whole.
    #[must_use]
    pub fn text(&self) -> String {
        let mut bytes = Vec::new();
        match &self.text {
            Text::Plain(chunks, _) => chunks.iter().for_each(|chunk| bytes.extend_from_slice(chunk)),
            Text::Packed(lease) => {
                if let Some(packed) = lease.get() {
                    let mut inflate = Decompress::new(false);
                    bytes.reserve(packed.length);
                    let mut text = Vec::new();
                    for piece in 0..packed.len() {
                        // Not straight into the whole, of which each call would set to zero what is not written yet.
                        text.clear();
                        packed.unpack(piece, &mut inflate, &mut text);
                        bytes.extend_from_slice(&text);
                    }
                }
            }
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What differs from scrape to scrape: ages, the host's own figures if they are wanted, and our own metrics.
    #[must_use]
    pub fn per_scrape(&self, store: &Store) -> Vec<u8> {
        let now = store.now();
        let mut out = Vec::with_capacity(16 * 1024);
        (0..self.ages.parts()).for_each(|part| self.ages.write(part, now, &mut out));
        out.extend_from_slice(self.own(store, now).as_bytes());
        out
    }

    /// The host's own figures if they are wanted, and our own metrics.
    pub(super) fn own(&self, store: &Store, now: Instant) -> String {
        let mut text = if self.host { host::text(&store.host(), now) } else { String::new() };
        if let Some(sampled) = self.sampled {
            store.metrics.set_snapshot_age(now.saturating_duration_since(sampled.at));
        }
        text += &store.metrics.render();
        text
    }

    /// How many bytes the domains' part takes in memory, compressed form included.
    #[must_use]
    pub fn size(&self) -> usize {
        match &self.text {
            Text::Plain(chunks, head) => {
                let gzip = head.as_ref().map_or(0, |head| head.bytes.capacity());
                chunks.iter().map(|chunk| chunk.capacity()).sum::<usize>() + gzip
            }
            Text::Packed(lease) => lease.get().map_or(0, |packed| packed.size()),
        }
    }
}

/// Renders snapshots, keeping labels and buffers from one to the next.
pub struct Renderer {
    options: Options,
    cache: LabelCache,
    /// How long a domain's text was in the last rendering, on average.
    per_domain: usize,
    large: usize,
    spare: Vec<Vec<u8>>,
    spare_gzip: Vec<u8>,
    deflate: Option<Deflate>,
    spare_slabs: Vec<Vec<u8>>,
    packer: Option<Packer>,
    readers: Readers,
}

impl Default for Renderer {
    fn default() -> Self {
        Self::new(Options::default())
    }
}

impl Renderer {
    /// A renderer that writes so; the default one writes no times.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self {
            options,
            cache: LabelCache::default(),
            per_domain: USUAL,
            large: LARGE,
            spare: Vec::new(),
            spare_gzip: Vec::new(),
            deflate: None,
            spare_slabs: Vec::new(),
            packer: None,
            readers: Readers::default(),
        }
    }

    /// The same, with another length above which a text is kept packed alone.
    #[must_use]
    pub fn packed_above(self, bytes: usize) -> Self {
        Self { large: bytes, ..self }
    }

    /// How it writes.
    pub(super) fn options(&self) -> Options {
        self.options
    }

    /// Writes so from now on.
    pub(super) fn set_options(&mut self, options: Options) {
        self.options = options;
    }

    /// Would this snapshot make a text that is kept packed alone?
    pub(super) fn is_large(&self, snapshot: &Snapshot) -> bool {
        snapshot.domains.len() * self.per_domain > self.large
    }

    /// The domains' part of /metrics, as of `now`.
    pub fn render(&mut self, snapshot: Arc<Snapshot>, now: Instant, store: &Store) -> Rendering {
        let mut ages = Ages::new(&snapshot);
        let (text, length) = if self.is_large(&snapshot) {
            let packed = self.packed(&snapshot, now, store, &mut ages);
            let length = packed.length;
            (Text::Packed(Arc::new(Lease::new(packed))), length)
        } else {
            let chunks = self.plain(&snapshot, now, store, &mut ages);
            let length = chunks.iter().map(|chunk| chunk.len()).sum();
            (Text::Plain(chunks, None), length)
        };
        self.cache.keep_only(snapshot.domains.iter());
        self.per_domain = length.checked_div(snapshot.domains.len()).unwrap_or(USUAL);
        let rendering = Rendering {
            sequence: snapshot.sequence,
            sampled: snapshot.sampled,
            incomplete: snapshot.incomplete.clone(),
            text,
            ages: Arc::new(ages),
            host: self.options.host,
            stale_at: snapshot.next_staleness(now),
        };
        // A rendering may live for long; the figures that the store replaces meanwhile must not.
        drop(snapshot);
        rendering
    }

    fn plain(&mut self, snapshot: &Snapshot, now: Instant, store: &Store, ages: &mut Ages) -> Vec<Arc<Vec<u8>>> {
        let mut host = HostView::new(snapshot, snapshot.list_is_fresh(now));
        let mut tile = Tile::default();
        for domain in &snapshot.domains {
            let view = view(snapshot, domain, now, self.options);
            self.add(view, &mut tile, &mut host, ages);
        }
        // What this rendering does not need, the next one hardly will.
        let mut chunks = Chunks::new(std::mem::take(&mut self.spare));
        for mut series in families().map(Series::new) {
            series.write_host(&host, &mut chunks);
            series.write(&tile, &mut chunks);
            count_dropped(&series, store);
        }
        chunks.finish()
    }

    fn packed(&mut self, snapshot: &Snapshot, now: Instant, store: &Store, ages: &mut Ages) -> Packed {
        let mut host = HostView::new(snapshot, snapshot.list_is_fresh(now));
        let mut packer = self.packer.take().unwrap_or_else(Packer::new);
        let mut all: Vec<Series> = families().map(Series::new).collect();
        let mut packing = Packing::new(all.len(), std::mem::take(&mut self.spare_slabs));
        let mut tile = Tile::default();
        let mut domains = snapshot.domains.iter().peekable();
        while domains.peek().is_some() {
            tile.views.clear();
            tile.labels.clear();
            let mut devices = 0;
            while devices < TILE
                && let Some(domain) = domains.next()
            {
                let view = view(snapshot, domain, now, self.options);
                devices += most_devices(&view);
                self.add(view, &mut tile, &mut host, ages);
            }
            for (place, series) in all.iter_mut().enumerate() {
                series.write(&tile, &mut packer);
                packing.take(place, &mut packer);
            }
        }
        for (place, series) in all.iter_mut().enumerate() {
            series.write_host(&host, &mut packer);
            packing.take(place, &mut packer);
            count_dropped(series, store);
        }
        self.packer = Some(packer);
        packing.finish()
    }

    fn add<'a>(&mut self, view: View<'a>, tile: &mut Tile<'a>, host: &mut HostView<'_>, ages: &mut Ages) {
        let labels = self.cache.get(&view);
        ages.add(view.domain, &labels);
        host.count(&view);
        tile.views.push(view);
        tile.labels.push(labels);
    }

    /// Adds the compressed form, if there is none yet.
    pub fn compress(&mut self, rendering: &mut Rendering) {
        if let Text::Plain(chunks, head) = &mut rendering.text {
            let deflate = self.deflate.get_or_insert_with(Deflate::new);
            let chunks = chunks.iter().map(|chunk| chunk.as_slice());
            *head = Some(deflate.head(chunks, std::mem::take(&mut self.spare_gzip)));
        }
    }

    /// Takes back the buffers of a rendering that nobody reads any more.
    pub fn recycle(&mut self, rendering: Rendering) {
        match rendering.text {
            Text::Plain(chunks, head) => {
                self.spare.extend(chunks.into_iter().filter_map(Arc::into_inner).map(|mut chunk| {
                    chunk.clear();
                    chunk
                }));
                if let Some(bytes) = head.and_then(|head| Arc::into_inner(head.bytes)) {
                    self.spare_gzip = bytes;
                }
            }
            Text::Packed(lease) => {
                if let Some(packed) = self.readers.retire(lease) {
                    self.spare_slabs.extend(packed.into_slabs());
                }
            }
        }
    }

    /// Gives back what is kept from rendering to rendering.
    pub(super) fn forget(&mut self) {
        let Self { options, per_domain, large, readers, .. } = std::mem::take(self);
        *self = Self { options, per_domain, large, readers, ..Self::default() };
    }

    /// Gives back what is kept only for compressing plain text.
    pub(super) fn stop_compressing(&mut self) {
        self.deflate = None;
        self.spare_gzip = Vec::new();
    }
}

fn most_devices(view: &View<'_>) -> usize {
    let vcpus = view.vcpu.map_or(0, |sample| sample.vcpus.len());
    let nics = view.interface.map_or(0, |sample| sample.interfaces.len());
    vcpus.max(nics).max(view.disks.len()).max(1)
}

fn count_dropped(series: &Series, store: &Store) {
    store.metrics.series_dropped.with_label_values(&["duplicate"]).inc_by(series.dropped);
}
