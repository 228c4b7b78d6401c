//! The life of a domain, as JSON: when its run began, how often one did, why it was paused and stopped.

use std::collections::BTreeMap;
use std::time::SystemTime;

use schemars::JsonSchema;
use serde::Serialize;

use super::rfc3339;
use crate::store::{Domain, History};

/// What happened to a domain since the service began.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Life")]
pub(super) struct LifeJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_source: Option<&'static str>,
    starts: u64,
    pauses: BTreeMap<&'static str, u64>,
    stops: BTreeMap<&'static str, u64>,
    panics: u64,
    io_errors: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_pause: Option<Last>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_stop: Option<Last>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_io_error: Option<LastIoError<'a>>,
}

/// Why, and when.
#[derive(Debug, Serialize, JsonSchema)]
struct Last {
    reason: &'static str,
    at: String,
}

/// The last error of a disk.
#[derive(Debug, Serialize, JsonSchema)]
struct LastIoError<'a> {
    at: String,
    action: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<&'a str>,
}

/// The life of a domain.
pub(super) fn of(domain: &Domain) -> LifeJson<'_> {
    let life = &domain.life;
    let history = life.history.as_deref();
    let last = |reason: &'static str, at: SystemTime| Last { reason, at: rfc3339(at) };
    LifeJson {
        started_at: life.start.map(|start| rfc3339(start.at)),
        start_source: life.start.map(|start| start.source.label()),
        starts: life.starts,
        pauses: history.into_iter().flat_map(History::pauses).map(|(reason, count)| (reason.label(), count)).collect(),
        stops: history.into_iter().flat_map(History::stops).map(|(reason, count)| (reason.label(), count)).collect(),
        panics: life.panics,
        io_errors: life.io_errors,
        last_pause: history.and_then(|it| it.last_pause).map(|pause| last(pause.what.label(), pause.at)),
        last_stop: history.and_then(|it| it.last_stop).map(|(reason, at)| last(reason.label(), at)),
        last_io_error: history.and_then(|it| it.last_io_error.as_ref()).map(|error| LastIoError {
            at: rfc3339(error.at),
            action: error.what.action.label(),
            reason: error.what.reason.as_deref(),
            device: error.what.device.as_deref(),
            path: error.what.path.as_deref(),
        }),
    }
}
