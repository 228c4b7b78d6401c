//! A snapshot as Prometheus text: the domains' part in chunks, once per snapshot; the rest per scrape.

use std::sync::Arc;
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::gzip::{Deflate, Head};
use super::labels::{DomainLabels, LabelCache, push};
use super::table::{AGE, Disk, Family, HostView, Read, UNRESPONSIVE, View, families};
use super::value::Value;
use crate::model::{Group, Stamp};
use crate::store::{Snapshot, Store};

/// Text is cut into chunks of about this many bytes: large enough to be few, small enough to be streamed and reused.
const CHUNK: usize = 64 * 1024;

/// What can be chosen about the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Does each sampled figure carry the time at which it was asked for?
    pub timestamps: bool,
}

/// One rendered snapshot, shared by all scrapes until the next.
#[derive(Debug)]
pub struct Rendering {
    pub(super) snapshot: Arc<Snapshot>,
    labels: Vec<Arc<DomainLabels>>,
    pub(super) plain: Vec<Arc<Vec<u8>>>,
    pub(super) gzip: Option<Arc<Head>>,
    /// When the next sample in it turns stale, so that it must be rendered anew.
    pub(super) stale_at: Option<Instant>,
}

impl Rendering {
    /// The text, whole.
    #[must_use]
    pub fn text(&self) -> String {
        let bytes: Vec<u8> = self.plain.iter().flat_map(|chunk| chunk.iter().copied()).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// What differs from scrape to scrape: ages, and our own metrics.
    #[must_use]
    pub fn per_scrape(&self, store: &Store) -> Vec<u8> {
        let now = store.now();
        let age = |sampled: Instant| now.saturating_duration_since(sampled);
        if let Some(sampled) = self.snapshot.sampled {
            store.metrics.set_snapshot_age(age(sampled.at));
        }
        let mut out = Vec::with_capacity(16 * 1024 + self.labels.len() * 1024);
        self.moving(now, &mut out);
        out.extend_from_slice(store.metrics.render().as_bytes());
        out
    }

    fn moving(&self, now: Instant, out: &mut Vec<u8>) {
        let domains = || self.snapshot.domains.iter().zip(&self.labels).filter(|(domain, _)| domain.run.is_some());
        header(UNRESPONSIVE.name, UNRESPONSIVE.help, "gauge", out);
        for (domain, labels) in domains() {
            line(UNRESPONSIVE.name, &[&labels.domain], millis(domain.unresponsive_for(now)), None, out);
        }
        header(AGE.name, AGE.help, "gauge", out);
        let mut groups: Vec<(Group, String)> = Vec::new();
        for group in self.snapshot.stale_after.groups() {
            let mut label = String::new();
            push(&mut label, "group", group.label());
            groups.push((group, label));
        }
        for (domain, labels) in domains() {
            for (group, label) in groups.iter().filter(|(group, _)| domain.has(*group)) {
                line(AGE.name, &[&labels.domain, label], millis(domain.age(*group, now)), None, out);
            }
        }
    }
}

/// Ages are of interest to the millisecond; more digits only compress badly.
fn millis(age: Duration) -> Value {
    Value::Nanos(u64::try_from(age.as_millis()).unwrap_or(u64::MAX / 1_000_000).saturating_mul(1_000_000))
}

/// Renders snapshots, keeping labels and buffers from one to the next.
#[derive(Default)]
pub struct Renderer {
    options: Options,
    cache: LabelCache,
    spare: Vec<Vec<u8>>,
    spare_gzip: Vec<u8>,
    deflate: Option<Deflate>,
}

impl Renderer {
    /// A renderer that writes so; the default one writes no times.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self { options, ..Self::default() }
    }

    /// Writes so from now on.
    pub(super) fn set_options(&mut self, options: Options) {
        self.options = options;
    }

    /// The domains' part of /metrics, as of `now`.
    pub fn render(&mut self, snapshot: Arc<Snapshot>, now: Instant, store: &Store) -> Rendering {
        let mut views: Vec<View<'_>> = snapshot.domains.iter().map(|domain| view(&snapshot, domain, now)).collect();
        if self.options.timestamps {
            views.iter_mut().for_each(View::stamp);
        }
        let labels: Vec<Arc<DomainLabels>> = views.iter().map(|view| self.cache.get(view)).collect();
        self.cache.keep_only(&snapshot.domains);
        let mut text = Chunks { full: Vec::new(), open: cleared(self.spare.pop()), spare: &mut self.spare, dropped: 0 };
        let host = HostView { snapshot: &snapshot, views: &views, list_is_fresh: snapshot.list_is_fresh(now) };
        for family in families() {
            family.write(&host, &labels, &mut text);
        }
        store.metrics.series_dropped.with_label_values(&["duplicate"]).inc_by(text.dropped);
        let plain = text.finish();
        drop(views);
        let stale_at = snapshot.next_staleness(now);
        Rendering { snapshot, labels, plain, gzip: None, stale_at }
    }

    /// Adds the compressed form.
    pub fn compress(&mut self, rendering: &mut Rendering) {
        let deflate = self.deflate.get_or_insert_with(Deflate::new);
        let chunks = rendering.plain.iter().map(|chunk| chunk.as_slice());
        rendering.gzip = Some(Arc::new(deflate.head(chunks, std::mem::take(&mut self.spare_gzip))));
    }

    /// Takes back the buffers of a rendering that nobody reads any more.
    pub fn recycle(&mut self, rendering: Rendering) {
        self.spare.extend(rendering.plain.into_iter().filter_map(Arc::into_inner));
        if let Some(head) = rendering.gzip.and_then(Arc::into_inner) {
            self.spare_gzip = head.bytes;
        }
    }

    /// Gives back what is kept only for compressing.
    pub(super) fn stop_compressing(&mut self) {
        self.deflate = None;
        self.spare_gzip = Vec::new();
    }
}

fn cleared(buffer: Option<Vec<u8>>) -> Vec<u8> {
    buffer.map_or_else(Vec::new, |mut buffer| {
        buffer.clear();
        buffer
    })
}

fn view<'a>(snapshot: &'a Snapshot, domain: &'a crate::store::Domain, now: Instant) -> View<'a> {
    let windows = &domain.windows;
    let state = snapshot.fresh(&windows.state, Group::State, now);
    let resting = || domain.resting.as_ref().filter(|_| snapshot.list_is_fresh(now)).map(|sampled| &sampled.figures);
    let state = if domain.run.is_some() { state } else { resting() };
    View {
        domain,
        cpu: snapshot.fresh(&windows.cpu, Group::Cpu, now),
        vcpu: snapshot.fresh(&windows.vcpu, Group::Vcpu, now),
        interface: snapshot.fresh(&windows.interface, Group::Interface, now),
        disks: disks(snapshot, domain, now),
        balloon: snapshot.fresh(&windows.balloon, Group::Balloon, now),
        state: state.map(|state| (state.state, state.reason)),
        stamps: [None; Group::ALL.len()],
    }
}

impl View<'_> {
    /// Notes the times of the samples that are shown, to be written beside their figures.
    fn stamp(&mut self) {
        let listed = self.domain.resting.as_ref().filter(|_| self.domain.run.is_none()).map(|sampled| sampled.started);
        for group in Group::ALL {
            let listed = listed.filter(|_| group == Group::State);
            self.stamps[group as usize] = listed.or_else(|| self.domain.windows.started(group)).and_then(unix_millis);
        }
        for disk in &mut self.disks {
            disk.sizes_stamp = disk.sizes.as_ref().and_then(|(_, started)| unix_millis(*started));
        }
    }
}

fn unix_millis(stamp: Stamp) -> Option<u64> {
    stamp.wall.duration_since(UNIX_EPOCH).ok().and_then(|since| u64::try_from(since.as_millis()).ok())
}

fn disks<'a>(snapshot: &Snapshot, domain: &'a crate::store::Domain, now: Instant) -> Vec<Disk<'a>> {
    let sampled = snapshot.fresh(&domain.windows.block, Group::Block, now).map_or(&[][..], |block| &block.disks);
    let sizes = &domain.windows.block_info;
    let mut disks: Vec<Disk<'_>> = sampled
        .iter()
        .map(|disk| Disk {
            name: disk.name.as_deref(),
            index: Some(disk.index),
            counters: Some(disk),
            sizes: domain.target(disk).and_then(|target| snapshot.fresh_sizes(domain, target, now)),
            sizes_stamp: None,
        })
        .collect();
    let fresh = sizes.iter().filter(|(_, _, started)| snapshot.is_fresh(*started, Group::BlockInfo, now));
    let others = fresh.filter(|(target, ..)| !sampled.iter().any(|disk| domain.target(disk) == Some(target)));
    disks.extend(others.map(|(target, sizes, started)| Disk {
        name: Some(target),
        index: None,
        counters: None,
        sizes: Some((sizes, started)),
        sizes_stamp: None,
    }));
    disks
}

/// The text under construction.
struct Chunks<'s> {
    full: Vec<Arc<Vec<u8>>>,
    open: Vec<u8>,
    spare: &'s mut Vec<Vec<u8>>,
    /// Series that were left out because their device has no name of its own.
    dropped: u64,
}

impl Chunks<'_> {
    /// Where to write the next lines.
    fn out(&mut self) -> &mut Vec<u8> {
        if self.open.len() >= CHUNK {
            let next = cleared(self.spare.pop());
            self.full.push(Arc::new(std::mem::replace(&mut self.open, next)));
        }
        &mut self.open
    }

    fn finish(mut self) -> Vec<Arc<Vec<u8>>> {
        self.full.push(Arc::new(self.open));
        // What this rendering did not need, the next one hardly will.
        self.spare.clear();
        self.full
    }
}

fn header(name: &str, help: &str, kind: &str, out: &mut Vec<u8>) {
    for part in ["# HELP ", name, " ", help, "\n# TYPE ", name, " ", kind, "\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

impl Family {
    fn write(&self, host: &HostView<'_>, labels: &[Arc<DomainLabels>], text: &mut Chunks<'_>) {
        let begin = text.out().len();
        header(self.name, self.help, self.kind.name(), &mut text.open);
        let (chunks, bytes) = (text.full.len(), text.open.len());
        self.write_series(host, labels, text);
        // A family without series is not announced.
        if (text.full.len(), text.open.len()) == (chunks, bytes) {
            text.open.truncate(begin);
        }
    }

    fn write_series(&self, host: &HostView<'_>, labels: &[Arc<DomainLabels>], text: &mut Chunks<'_>) {
        let domains = || host.views.iter().zip(labels);
        let stamp = |view: &View<'_>| view.stamps[self.group? as usize];
        match self.read {
            Read::Host(emit) => emit(host, &mut |labels, value| {
                let mut block = String::new();
                for (name, value) in labels {
                    push(&mut block, name, value);
                }
                line(self.name, &[&block], value, None, text.out());
            }),
            Read::Domain(read) => {
                for (view, labels) in domains() {
                    self.lines([(Some(labels.domain.as_str()), read(view))], stamp(view), text);
                }
            }
            Read::Vcpu(read) => {
                for (view, labels) in domains() {
                    let vcpus = view.vcpu.map_or(&[][..], |sample| &sample.vcpus);
                    self.lines(
                        labels.vcpus.iter().zip(vcpus).map(|(l, v)| (Some(l.as_str()), read(v))),
                        stamp(view),
                        text,
                    );
                }
            }
            Read::Disk(read) => {
                for (view, labels) in domains() {
                    let disks = labels.disks.iter().zip(&view.disks);
                    self.lines(disks.map(|(l, d)| (l.as_deref(), read(d))), stamp(view), text);
                }
            }
            Read::DiskSize(own, bulk) => {
                for (view, labels) in domains() {
                    for (label, disk) in labels.disks.iter().zip(&view.disks) {
                        // Two samples may tell it, of different times.
                        let own = disk.sizes.as_ref().and_then(|(sizes, _)| own(sizes));
                        let stamp = if own.is_some() { disk.sizes_stamp } else { stamp(view) };
                        let value = own.or_else(|| bulk(disk.counters?)).map(Value::Int);
                        self.lines([(label.as_deref(), value)], stamp, text);
                    }
                }
            }
            Read::Nic(read) => {
                for (view, labels) in domains() {
                    let nics = view.interface.map_or(&[][..], |sample| &sample.interfaces);
                    self.lines(labels.nics.iter().zip(nics).map(|(l, n)| (l.as_deref(), read(n))), stamp(view), text);
                }
            }
            Read::Info(blocks) => {
                for labels in labels {
                    let blocks = blocks(labels).iter();
                    self.lines(blocks.map(|block| (Some(block.as_str()), Some(Value::Int(1)))), None, text);
                }
            }
        }
    }

    /// Lines for what has both a name and a value.
    fn lines<'l>(
        &self,
        series: impl IntoIterator<Item = (Option<&'l str>, Option<Value>)>,
        stamp: Option<u64>,
        text: &mut Chunks<'_>,
    ) {
        for (block, value) in series {
            match (block, value) {
                (Some(block), Some(value)) => line(self.name, &[block], value, stamp, text.out()),
                (None, Some(_)) => text.dropped += 1,
                (_, None) => {}
            }
        }
    }
}

/// One series: its name, parts of its label block, its value, and the time of that in Unix milliseconds.
fn line(name: &str, labels: &[&str], value: Value, stamp: Option<u64>, out: &mut Vec<u8>) {
    out.extend_from_slice(name.as_bytes());
    let mut before = b'{';
    for part in labels.iter().filter(|part| !part.is_empty()) {
        out.push(before);
        out.extend_from_slice(part.as_bytes());
        before = b',';
    }
    if before == b',' {
        out.push(b'}');
    }
    out.push(b' ');
    value.write(out);
    if let Some(millis) = stamp {
        out.push(b' ');
        Value::Int(millis).write(out);
    }
    out.push(b'\n');
}
