//! Our own JSON: domains with counters, rates and ages, the host itself, and the service's status.
//!
//! Units are in the field names. A field whose value was not obtained is absent. Field names are only added to.

mod changes;
mod description;
mod error;
mod fields;
mod host;
mod kernel;
mod life;
mod list;
mod lookup;
mod minute;
mod openapi;
mod query;
mod rpc_schema;
mod samples;
mod status;

use std::time::{Duration, Instant, SystemTime};

use schemars::JsonSchema;
use serde::Serialize;

pub use self::changes::Changes;
use self::description::Description;
pub use self::error::{ErrorBody, ErrorText};
pub use self::fields::Fields;
pub use self::host::{HostJson, host};
use self::life::LifeJson;
pub use self::list::{DomainList, ListBody, domains};
pub use self::lookup::{Found, Question, lookup, question};
use self::minute::MinuteJson;
pub use self::openapi::{ENDPOINTS, Endpoint, HealthyBody, openapi};
pub use self::query::{Cursor, Query};
use self::samples::{Samples, State};
pub use self::status::{Status, status};
use crate::model::Stamp;
use crate::store::{Domain, Snapshot};

/// A struct of optional figures, absent in JSON where they are `None`.
macro_rules! figures {
    ($(#[$meta:meta])* $name:ident $(<$life:lifetime>)? { $($field:ident: $type:ty),* $(,)? }) => {
        #[derive(Debug, Default, serde::Serialize, schemars::JsonSchema)]
        $(#[$meta])*
        pub(super) struct $name$(<$life>)? { $(#[serde(skip_serializing_if = "Option::is_none")] $field: Option<$type>),* }
    };
}

use figures;

/// How a domain is written.
#[derive(Debug, Clone, Copy)]
pub struct Form {
    /// What of it.
    pub fields: Fields,
    /// The moment to which ages count. Without one, all is left out that depends on it: what is left is the same until there is
    /// something new.
    pub at: Option<Instant>,
}

impl Form {
    /// All of it, as of that moment.
    #[must_use]
    pub fn whole(at: Instant) -> Self {
        Self { fields: Fields::ALL, at: Some(at) }
    }
}

/// `/api/v1/domains/{uuid-or-name}`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Domain")]
pub struct DomainJson<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    uuid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    running: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(flatten)]
    state: State,
    #[serde(flatten)]
    health: Health<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    life: Option<LifeJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<Description<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    samples: Option<Samples<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    minute: Option<MinuteJson>,
}

figures!(Health<'a> {
    responsive: bool, unresponsive_since: String, unresponsive_seconds: f64, blocked_call: &'static str,
    blocked_storage: &'a str, standing: &'static str,
});

/// One domain.
#[must_use]
pub fn domain<'a>(snapshot: &Snapshot, domain: &'a Domain, form: Form) -> DomainJson<'a> {
    let fields = form.fields;
    DomainJson {
        uuid: fields.has("uuid").then(|| domain.id.to_string()),
        name: fields.then("name", &domain.name),
        running: fields.then("running", domain.run.is_some()),
        pid: domain.pid.filter(|_| fields.has("pid")),
        state: domain.state().map(|sampled| samples::state(sampled.figures)).unwrap_or_default().only(fields),
        health: domain.run.map(|_| health(domain, form)).unwrap_or_default(),
        life: fields.has("life").then(|| life::of(domain)),
        description: domain.description.as_deref().filter(|_| fields.has("description")).map(description::of),
        samples: domain.run.filter(|_| fields.any_samples()).map(|_| samples::of(snapshot, domain, form)),
        minute: domain.run.filter(|_| fields.has("minute")).and_then(|_| minute::of(domain, form.at)),
    }
}

/// How a running domain answers.
fn health(domain: &Domain, form: Form) -> Health<'_> {
    let (it, fields) = (&domain.health, form.fields);
    let since = it.unresponsive_since.filter(|_| fields.has("unresponsive_since"));
    Health {
        responsive: fields.then("responsive", it.unresponsive_since.is_none()),
        unresponsive_since: since.map(|since| rfc3339(since.wall)),
        unresponsive_seconds: form
            .at
            .filter(|_| fields.has("unresponsive_seconds"))
            .map(|now| round(domain.unresponsive_for(now))),
        blocked_call: it.blocked_call.filter(|_| fields.has("blocked_call")),
        blocked_storage: it.blocked_storage.as_deref().filter(|_| fields.has("blocked_storage")),
        standing: fields.then("standing", it.standing.label()),
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
