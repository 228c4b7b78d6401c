//! Our own JSON: domains with counters, rates and ages, the host itself, and the service's status.
//!
//! Units are in the field names. A field whose value was not obtained is absent. Field names are only added to.

mod description;
mod host;
mod lookup;
mod samples;
mod status;

use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;

use self::description::Description;
pub use self::host::{HostJson, host};
pub use self::lookup::{Found, lookup, question};
use self::samples::{Samples, State};
pub use self::status::{Status, status};
use crate::model::Stamp;
use crate::store::{Domain, Snapshot};

/// A struct of optional figures, absent in JSON where they are `None`.
macro_rules! figures {
    ($name:ident $(<$life:lifetime>)? { $($field:ident: $type:ty),* $(,)? }) => {
        #[derive(Debug, Default, Serialize)]
        pub(super) struct $name$(<$life>)? { $(#[serde(skip_serializing_if = "Option::is_none")] $field: Option<$type>),* }
    };
}

use figures;

/// `/api/v1/domains`.
#[derive(Debug, Serialize)]
pub struct DomainList<'a> {
    sequence: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sampled_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_seconds: Option<f64>,
    domains: Vec<DomainJson<'a>>,
}

/// `/api/v1/domains/{uuid-or-name}`.
#[derive(Debug, Serialize)]
pub struct DomainJson<'a> {
    uuid: String,
    name: &'a str,
    running: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(flatten)]
    state: State,
    #[serde(flatten)]
    health: Option<Health<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<Description<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    samples: Option<Samples<'a>>,
}

/// How a running domain answers.
#[derive(Debug, Serialize)]
struct Health<'a> {
    responsive: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    unresponsive_since: Option<String>,
    unresponsive_seconds: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked_call: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked_storage: Option<&'a str>,
    standing: &'static str,
}

/// Every domain.
#[must_use]
pub fn domains(snapshot: &Snapshot, now: Instant) -> DomainList<'_> {
    DomainList {
        sequence: snapshot.sequence,
        sampled_at: snapshot.sampled.map(|stamp| rfc3339(stamp.wall)),
        age_seconds: snapshot.sampled.map(|stamp| age(stamp, now)),
        domains: snapshot.domains.iter().map(|it| domain(snapshot, it, now)).collect(),
    }
}

/// One domain.
#[must_use]
pub fn domain<'a>(snapshot: &Snapshot, domain: &'a Domain, now: Instant) -> DomainJson<'a> {
    DomainJson {
        uuid: domain.id.to_string(),
        name: &domain.name,
        running: domain.run.is_some(),
        pid: domain.pid,
        state: domain.state().map(|sampled| samples::state(sampled.figures)).unwrap_or_default(),
        health: domain.run.map(|_| health(domain, now)),
        description: domain.description.as_deref().map(description::of),
        samples: domain.run.map(|_| samples::of(snapshot, domain, now)),
    }
}

fn health(domain: &Domain, now: Instant) -> Health<'_> {
    let it = &domain.health;
    Health {
        responsive: it.unresponsive_since.is_none(),
        unresponsive_since: it.unresponsive_since.map(|since| rfc3339(since.wall)),
        unresponsive_seconds: round(domain.unresponsive_for(now)),
        blocked_call: it.blocked_call,
        blocked_storage: it.blocked_storage.as_deref(),
        standing: it.standing.label(),
    }
}

fn age(stamp: Stamp, now: Instant) -> f64 {
    round(now.saturating_duration_since(stamp.at))
}

/// Seconds, to the millisecond.
fn round(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1000.0).round() / 1000.0
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}
