//! What differs between two snapshots, for who follows them; written in pieces, as lists are.

use std::sync::Arc;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;

use super::list::PIECE;
use super::{DomainJson, Fields, Form, Query, domain, rfc3339};
use crate::model::Group;
use crate::store::{Domain, Snapshot};

/// One message of `/api/v1/stream` after the first.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Change")]
pub(super) struct Change<'a> {
    sequence: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sampled_at: Option<String>,
    /// UUIDs of domains that are no more, or not asked for any more.
    removed: Vec<String>,
    /// Domains that are new, or of which something is.
    domains: Vec<Changed<'a>>,
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

/// What is new, about to be written.
pub struct Changes {
    snapshot: Arc<Snapshot>,
    /// Each domain's place in the snapshot, and the fields that are new; `None` if all of it is to be written.
    domains: Vec<(usize, Option<Fields>)>,
    removed: Vec<String>,
    /// What is written of a domain of which all is.
    fields: Fields,
    written: usize,
    begun: bool,
}

impl Changes {
    /// What of `next` is new to who knows `before`, of what a query asks for; `None` if that is nothing.
    #[must_use]
    pub fn between(before: &Snapshot, next: &Arc<Snapshot>, query: &Query) -> Option<Self> {
        let mut changes = Self {
            snapshot: Arc::clone(next),
            domains: Vec::new(),
            removed: Vec::new(),
            fields: query.fields,
            written: 0,
            begun: false,
        };
        let mut old = before.domains.iter();
        let mut new = next.domains.iter().enumerate();
        // Most are the same, and at the same place: two pointers.
        loop {
            match (old.next(), new.next()) {
                (Some(old), Some((_, new))) if Arc::ptr_eq(old, new) => {}
                (None, None) => break,
                (old, new) => {
                    if let Some((place, it)) = new {
                        changes.look_at(place, it, before, query);
                    }
                    if let Some(old) = old.filter(|old| query.wants(old))
                        && next.get(old.id).is_none_or(|it| !query.wants(it))
                    {
                        changes.removed.push(old.id.to_string());
                    }
                }
            }
        }
        (!changes.domains.is_empty() || !changes.removed.is_empty()).then_some(changes)
    }

    fn look_at(&mut self, place: usize, it: &Arc<Domain>, before: &Snapshot, query: &Query) {
        if !query.wants(it) {
            return;
        }
        match before.get(it.id).filter(|old| query.wants(old)) {
            Some(old) if Arc::ptr_eq(old, it) => {}
            Some(old) => match new_samples(old, it).map(|fields| fields.and(query.fields)) {
                Some(fields) if fields.is_empty() => {}
                fields => self.domains.push((place, fields)),
            },
            None => self.domains.push((place, None)),
        }
    }

    /// Writes the next piece; `None` at the end.
    pub fn next_piece(&mut self) -> Option<Bytes> {
        if self.written > self.domains.len() {
            return None;
        }
        let mut text = Vec::new();
        if !std::mem::replace(&mut self.begun, true) {
            let change = Change {
                sequence: self.snapshot.sequence,
                sampled_at: self.snapshot.sampled.map(|stamp| rfc3339(stamp.wall)),
                removed: std::mem::take(&mut self.removed),
                domains: Vec::new(),
            };
            let head = serde_json::to_vec(&change).unwrap_or_default();
            // The list stays open.
            text.extend_from_slice(head.strip_suffix(b"]}").unwrap_or(&head));
        }
        while let Some((place, fields)) = self.domains.get(self.written) {
            if text.len() >= PIECE {
                return Some(text.into());
            }
            if self.written > 0 {
                text.push(b',');
            }
            self.written += 1;
            let Some(it) = self.snapshot.domains.get(*place) else { continue };
            let form = Form { fields: fields.unwrap_or(self.fields).or(Fields::NAMES), at: None };
            let changed = Changed { whole: fields.is_none(), domain: domain(&self.snapshot, it, form) };
            if let Err(error) = serde_json::to_writer(&mut text, &changed) {
                tracing::error!(%error, "a domain could not be written as JSON; this is a bug");
            }
        }
        text.extend_from_slice(b"]}");
        // Beyond the last.
        self.written += 1;
        Some(text.into())
    }
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
            if matches!(group, Group::Cpu | Group::Interface) {
                fields = fields.or(Fields::minute());
            }
        }
    }
    Some(fields)
}
