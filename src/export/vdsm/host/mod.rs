//! `HostStats`: what VDSM says of the host.

mod counts;
mod cpu;
mod memory;
mod network;

use std::time::{Duration, SystemTime};

use self::counts::Counts;
use super::table::{self, Field, Json, Record, Row};
use super::text::Slot;
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
}

impl<'a> Machine<'a> {
    /// `None` if the host was not looked at lately.
    fn new(view: &'a View, counts: Counts) -> Option<Self> {
        let newest = view.host.fresh(view.now.stamp.at)?;
        Some(Self {
            view,
            newest: &newest.figures,
            previous: view.host.samples.previous(),
            looked: newest.started.wall,
            counts,
        })
    }

    /// How fast a counter grows, per second.
    fn rate(&self, of: impl Fn(&HostSample) -> Option<u64>) -> Option<f64> {
        let (previous, elapsed) = self.previous?;
        crate::model::per_second(of(previous), of(self.newest), elapsed)
    }
}

const fn field(
    name: &'static str,
    json: Json,
    unit: &'static str,
    what: &'static str,
    write: for<'a, 's> fn(&Machine<'a>, Slot<'s>) -> Option<()>,
) -> Field<Host> {
    Field { name, json, unit, what, write }
}

static GENERAL: &[Field<Host>] = &[
    field("bootTime", Json::String, "s since 1970", "`btime` of /proc/stat.", |host, slot| {
        slot.quoted(host.newest.boot_unix_seconds?)
    }),
    field("dateTime", Json::String, "UTC", "Now: \"2026-06-03T12:41:06 GMT\".", |host, slot| {
        let seconds = host.view.now.stamp.wall.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
        let text = humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).to_string();
        slot.quoted(format_args!("{} GMT", text.trim_end_matches('Z')))
    }),
    field("elapsedTime", Json::String, "s, two decimals", "Since the service began.", |host, slot| {
        slot.fixed(host.view.now.stamp.at.saturating_duration_since(host.view.began.stamp.at).as_secs_f64())
    }),
    field(
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

/// Writes the `HostStats`; `false`, and nothing is written, if the host was not looked at lately.
pub(super) fn write(view: &View, out: &mut Vec<u8>) -> bool {
    let host = Machine::new(view, Counts::new(view));
    let tables = [GENERAL, cpu::FIELDS, memory::FIELDS, counts::FIELDS, network::FIELDS];
    host.as_ref().map(|host| table::write_all(&tables, host, out)).is_some()
}

/// Writes what `Host.getNetworkStatistics` says, likewise.
pub(super) fn write_network(view: &View, out: &mut Vec<u8>) -> bool {
    let host = Machine::new(view, Counts::default());
    host.as_ref().map(|host| table::write(network::FIELDS, host, out)).is_some()
}

/// Each record, as docs/ovirt.md describes it.
pub(super) fn records() -> Vec<(&'static str, &'static str, Vec<Row>)> {
    let all = [GENERAL, cpu::FIELDS, memory::FIELDS, counts::FIELDS, network::FIELDS];
    let mut records = vec![
        ("HostStats", "the host", all.into_iter().flat_map(table::rows).collect()),
        ("HostStats.diskStats", "each path that is watched", table::rows(SPACE)),
        ("HostStats.cpuStatistics", "each CPU that is online, by its number", table::rows(cpu::CPU)),
    ];
    records.extend(memory::records());
    records.push(("HostStats.network", "each link, by its name", table::rows(network::LINK)));
    records
}
