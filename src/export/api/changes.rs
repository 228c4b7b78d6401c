//! What differs between two snapshots, for who follows them.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use super::{DomainJson, Fields, Form, Query, domain, rfc3339};
use crate::model::Group;
use crate::store::{Domain, Snapshot};

/// One message of `/api/v1/stream` after the first.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Change")]
pub struct Changes<'a> {
    sequence: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sampled_at: Option<String>,
    /// Domains that are new, or of which something is.
    domains: Vec<Changed<'a>>,
    /// UUIDs of domains that are no more, or not asked for any more.
    removed: Vec<String>,
}

/// A domain of which something is new.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "ChangedDomain")]
struct Changed<'a> {
    /// Is this all of it? Else it is only the groups of samples that are new.
    whole: bool,
    #[serde(flatten)]
    domain: DomainJson<'a>,
}

/// What is new in `next`, of what a query asks for; `None` if that is nothing.
#[must_use]
pub fn changes<'a>(before: &Snapshot, next: &'a Snapshot, query: &Query) -> Option<Changes<'a>> {
    let mut domains = Vec::new();
    // Most are the same, and at the same place.
    let is_same = |place: usize, it: &Arc<Domain>| before.domains.get(place).is_some_and(|old| Arc::ptr_eq(old, it));
    for (place, it) in next.domains.iter().enumerate() {
        if is_same(place, it) || !query.wants(it) {
            continue;
        }
        let fields = match before.get(it.id).filter(|old| query.wants(old)) {
            Some(old) if Arc::ptr_eq(old, it) => continue,
            Some(old) => new_samples(old, it),
            None => None,
        };
        let chosen = fields.map_or(query.fields, |fields| fields.and(query.fields));
        if fields.is_some() && chosen.is_empty() {
            continue;
        }
        let form = Form { fields: chosen.or(Fields::NAMES), at: None };
        domains.push(Changed { whole: fields.is_none(), domain: domain(next, it, form) });
    }
    let is_shown = |place: usize, old: &Arc<Domain>| {
        let same = next.domains.get(place).is_some_and(|it| Arc::ptr_eq(old, it));
        same || next.get(old.id).is_some_and(|it| query.wants(it))
    };
    let gone = before.domains.iter().enumerate().filter(|(place, old)| query.wants(old) && !is_shown(*place, old));
    let removed: Vec<String> = gone.map(|(_, old)| old.id.to_string()).collect();
    (!domains.is_empty() || !removed.is_empty()).then(|| Changes {
        sequence: next.sequence,
        sampled_at: next.sampled.map(|stamp| rfc3339(stamp.wall)),
        domains,
        removed,
    })
}

/// The groups that have another sample, if nothing else changed.
fn new_samples(old: &Domain, new: &Domain) -> Option<Fields> {
    let same_description = old.description.as_ref().map(Arc::as_ptr) == new.description.as_ref().map(Arc::as_ptr);
    let state = |domain: &Domain| domain.state().map(|sampled| sampled.figures);
    let is_same = old.name == new.name
        && old.run == new.run
        && old.pid == new.pid
        && old.health == new.health
        && old.life == new.life
        && same_description
        && state(old) == state(new);
    if !is_same {
        return None;
    }
    let mut fields = Fields::NONE;
    for group in Group::ALL {
        let started = |domain: &Domain| domain.windows.started(group);
        // The oldest of several disks may stay the same while others are new.
        let other_sizes = group == Group::BlockInfo && old.windows.block_info != new.windows.block_info;
        if started(old) != started(new) || other_sizes {
            // One that is gone cannot be told by what is new.
            started(new)?;
            fields = fields.or(Fields::group(group));
        }
    }
    Some(fields)
}
