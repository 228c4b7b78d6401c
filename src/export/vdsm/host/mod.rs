//! `HostStats`: what VDSM says of the host.

mod counts;
mod cpu;
mod memory;
mod network;

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use self::counts::Counts;
use self::network::Drops;
use super::list::{LOOKED_AT, PIECE};
use super::table::{self, Field, Json, Record, Row};
use super::text::json_text;
use super::view::View;
use crate::model::host::HostSample;

/// The host as a record.
pub(super) enum Host {}

impl Record for Host {
    type Of<'a> = Machine<'a>;
}

/// What is known of the host at one moment.
pub(super) struct Machine<'a> {
    view: &'a View,
    newest: &'a HostSample,
    previous: Option<(&'a HostSample, Duration)>,
    /// When the newest look was.
    looked: SystemTime,
    counts: Counts,
    drops: Drops,
}

impl<'a> Machine<'a> {
    /// `None` if the host was not looked at lately.
    fn new(view: &'a View) -> Option<Self> {
        let newest = view.host.fresh(view.now.stamp.at)?;
        let mut host = Self {
            view,
            newest: &newest.figures,
            previous: view.host.samples.previous(),
            looked: newest.started.wall,
            counts: Counts::new(view),
            drops: Drops::default(),
        };
        network::of_host(&host).for_each(|link| host.drops.add(&link));
        for domain in &view.snapshot.domains {
            network::of_guest(view, host.newest, domain).for_each(|link| host.drops.add(&link));
        }
        Some(host)
    }

    /// How fast a counter grows, per second.
    fn rate(&self, of: impl Fn(&HostSample) -> Option<u64>) -> Option<f64> {
        let (previous, elapsed) = self.previous?;
        crate::model::per_second(of(previous), of(self.newest), elapsed)
    }
}

static GENERAL: &[Field<Host>] = &[
    Field::new("bootTime", Json::String, "s since 1970", "`btime` of /proc/stat.", |host, slot| {
        slot.quoted(host.newest.boot_unix_seconds?)
    }),
    Field::new("dateTime", Json::String, "UTC", "Now: \"2026-06-03T12:41:06 GMT\".", |host, slot| {
        let seconds = host.view.now.stamp.wall.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
        let text = humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).to_string();
        slot.quoted(format_args!("{} GMT", text.trim_end_matches('Z')))
    }),
    Field::new("elapsedTime", Json::String, "s, two decimals", "Since the service began.", |host, slot| {
        slot.fixed(host.view.now.stamp.at.saturating_duration_since(host.view.began.stamp.at).as_secs_f64())
    }),
    Field::new(
        "diskStats",
        Json::Map,
        "",
        "A record for each path whose free space is watched (`paths` under `[host]`).",
        |host, slot| {
            slot.map(
                SPACE,
                host.view.host.paths.iter().filter_map(|path| {
                    let (asked, space) = path.space?;
                    let fresh = host.view.host.is_fresh(asked, host.view.now.stamp.at);
                    fresh.then_some((&*path.path, space.available_bytes))
                }),
            )
        },
    ),
];

pub(super) enum Space {}

impl Record for Space {
    type Of<'a> = u64;
}

static SPACE: &[Field<Space>] = &[Field {
    name: "free",
    json: Json::String,
    unit: "MiB",
    what: "What users without privileges can still use, rounded down.",
    write: |bytes, slot| slot.quoted(bytes >> 20),
}];

/// A record of the host that is being written: very many guests have very many taps.
pub(super) struct Writing {
    /// The place of the domain whose taps come next.
    next: usize,
    /// Was no link written yet?
    is_first: bool,
}

impl Writing {
    /// Begins the `HostStats`; `None`, and nothing is written, if the host was not looked at lately.
    pub(super) fn of_stats(view: &View, out: &mut Vec<u8>) -> Option<Self> {
        Self::begin(view, &[GENERAL, cpu::FIELDS, memory::FIELDS, counts::FIELDS, network::FIELDS], out)
    }

    /// Begins what `Host.getNetworkStatistics` says, likewise.
    pub(super) fn of_network(view: &View, out: &mut Vec<u8>) -> Option<Self> {
        Self::begin(view, &[network::FIELDS], out)
    }

    fn begin(view: &View, tables: &[&[Field<Host>]], out: &mut Vec<u8>) -> Option<Self> {
        let host = Machine::new(view)?;
        table::write_all(tables, &host, out);
        // The record stays open, and so does the map in it.
        out.pop();
        out.extend_from_slice(if out.last() == Some(&b'{') { b"" } else { b"," });
        out.extend_from_slice(format!("\"{}\":{{", network::NETWORK.name).as_bytes());
        let mut writing = Self { next: 0, is_first: true };
        for link in network::of_host(&host) {
            writing.link(&link, out);
        }
        Some(writing)
    }

    /// Writes until there is a piece in `out`, so many domains were looked at, or to the end; returns whether there is more to come.
    pub(super) fn write_some(&mut self, view: &View, out: &mut Vec<u8>, most: &mut usize) -> bool {
        // The view is that of the beginning, when the host was looked at lately.
        let newest = view.host.samples.newest().map(|newest| &newest.figures);
        while *most > 0 && out.len() < PIECE {
            let Some((domain, host)) = view.snapshot.domains.get(self.next).zip(newest) else {
                out.extend_from_slice(b"}}");
                return false;
            };
            for link in network::of_guest(view, host, domain) {
                self.link(&link, out);
            }
            self.next += 1;
            *most -= 1;
        }
        true
    }

    fn link(&mut self, link: &network::Link<'_>, out: &mut Vec<u8>) {
        if !std::mem::take(&mut self.is_first) {
            out.push(b',');
        }
        json_text(out, link.name);
        out.push(b':');
        table::write(network::LINK, link, out);
    }
}

/// The `HostStats`, made while they are sent.
pub struct HostBody {
    view: View,
    begin: Vec<u8>,
    writing: Option<Writing>,
}

impl HostBody {
    /// As of the view's moment; `None` if the host was not looked at lately.
    #[must_use]
    pub fn new(view: View) -> Option<Self> {
        let mut begin = Vec::new();
        let writing = Writing::of_stats(&view, &mut begin)?;
        Some(Self { view, begin, writing: Some(writing) })
    }

    /// Makes the next piece, which may be empty; `None` at the end.
    pub fn next_piece(&mut self) -> Option<Bytes> {
        let (mut out, mut most) = (std::mem::take(&mut self.begin), LOOKED_AT);
        if !self.writing.as_mut()?.write_some(&self.view, &mut out, &mut most) {
            out.push(b'\n');
            self.writing = None;
        }
        Some(out.into())
    }

    /// Is there nothing more to come?
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.writing.is_none()
    }
}

/// Each record, as docs/ovirt.md describes it.
pub(super) fn records() -> Vec<(&'static str, &'static str, Vec<Row>)> {
    let all = [GENERAL, cpu::FIELDS, memory::FIELDS, counts::FIELDS, network::FIELDS];
    let mut rows: Vec<Row> = all.into_iter().flat_map(table::rows).collect();
    rows.push(network::NETWORK);
    let mut records = vec![
        ("HostStats", "the host", rows),
        ("HostStats.diskStats", "each path that is watched", table::rows(SPACE)),
        ("HostStats.cpuStatistics", "each CPU that is online, by its number", table::rows(cpu::CPU)),
    ];
    records.extend(memory::records());
    records.push(("HostStats.network", "each link, by its name", table::rows(network::LINK)));
    records
}
