//! A snapshot as Prometheus text: the domains' part in chunks, once per snapshot; the rest per scrape.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::gzip::{Deflate, Head};
use super::labels::{DomainLabels, LabelCache, push};
use super::table::{AGE_HELP, AGE_NAME, Family, HostView, Read, View, families};
use super::value::Value;
use crate::model::Group;
use crate::store::{Snapshot, Store};

/// Text is cut into chunks of about this many bytes: large enough to be few, small enough to be streamed and reused.
const CHUNK: usize = 64 * 1024;

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
        self.ages(now, &mut out);
        out.extend_from_slice(store.metrics.render().as_bytes());
        out
    }

    fn ages(&self, now: Instant, out: &mut Vec<u8>) {
        header(AGE_NAME, AGE_HELP, "gauge", out);
        let mut groups: Vec<(Group, String)> = Vec::new();
        for group in self.snapshot.stale_after.groups() {
            let mut label = String::new();
            push(&mut label, "group", group.label());
            groups.push((group, label));
        }
        for (domain, labels) in self.snapshot.domains.iter().zip(&self.labels) {
            if domain.run.is_none() {
                continue;
            }
            for (group, label) in &groups {
                out.extend_from_slice(AGE_NAME.as_bytes());
                out.push(b'{');
                out.extend_from_slice(labels.domain.as_bytes());
                out.push(b',');
                out.extend_from_slice(label.as_bytes());
                out.extend_from_slice(b"} ");
                millis(domain.age(*group, now)).write(out);
                out.push(b'\n');
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
    cache: LabelCache,
    spare: Vec<Vec<u8>>,
    spare_gzip: Vec<u8>,
    deflate: Option<Deflate>,
}

impl Renderer {
    /// The domains' part of /metrics, as of `now`.
    pub fn render(&mut self, snapshot: Arc<Snapshot>, now: Instant, store: &Store) -> Rendering {
        let views: Vec<View<'_>> = snapshot.domains.iter().map(|domain| view(&snapshot, domain, now)).collect();
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
        block: snapshot.fresh(&windows.block, Group::Block, now),
        balloon: snapshot.fresh(&windows.balloon, Group::Balloon, now),
        state: state.map(|state| (state.state, state.reason)),
    }
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
        match self.read {
            Read::Host(emit) => emit(host, &mut |labels, value| {
                let mut block = String::new();
                for (name, value) in labels {
                    push(&mut block, name, value);
                }
                self.line(&block, value, text.out());
            }),
            Read::Domain(read) => {
                for (view, labels) in domains() {
                    self.lines([(Some(labels.domain.as_str()), read(view))], text);
                }
            }
            Read::Vcpu(read) => {
                for (view, labels) in domains() {
                    let vcpus = view.vcpu.map_or(&[][..], |sample| &sample.vcpus);
                    self.lines(labels.vcpus.iter().zip(vcpus).map(|(l, v)| (Some(l.as_str()), read(v))), text);
                }
            }
            Read::Disk(read) => {
                for (view, labels) in domains() {
                    let disks = view.block.map_or(&[][..], |sample| &sample.disks);
                    self.lines(labels.disks.iter().zip(disks).map(|(l, d)| (l.as_deref(), read(d))), text);
                }
            }
            Read::Nic(read) => {
                for (view, labels) in domains() {
                    let nics = view.interface.map_or(&[][..], |sample| &sample.interfaces);
                    self.lines(labels.nics.iter().zip(nics).map(|(l, n)| (l.as_deref(), read(n))), text);
                }
            }
            Read::Info(blocks) => {
                for labels in labels {
                    let blocks = blocks(labels).iter();
                    self.lines(blocks.map(|block| (Some(block.as_str()), Some(Value::Int(1)))), text);
                }
            }
        }
    }

    /// Lines for what has both a name and a value.
    fn lines<'l>(&self, series: impl IntoIterator<Item = (Option<&'l str>, Option<Value>)>, text: &mut Chunks<'_>) {
        for (block, value) in series {
            match (block, value) {
                (Some(block), Some(value)) => self.line(block, value, text.out()),
                (None, Some(_)) => text.dropped += 1,
                (_, None) => {}
            }
        }
    }

    fn line(&self, block: &str, value: Value, out: &mut Vec<u8>) {
        out.extend_from_slice(self.name.as_bytes());
        if !block.is_empty() {
            out.push(b'{');
            out.extend_from_slice(block.as_bytes());
            out.push(b'}');
        }
        out.push(b' ');
        value.write(out);
        out.push(b'\n');
    }
}
