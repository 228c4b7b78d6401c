//! The list of domains, made while it is sent: a client holds a piece of it, not the whole.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Cursor, DomainJson, Form, Query, age, domain, rfc3339};
use crate::store::Snapshot;

/// A piece is about so long.
pub(super) const PIECE: usize = 64 << 10;
/// So many domains are looked at for one piece at most: a filter may leave most of them out.
const LOOKED_AT: usize = 512;

/// `/api/v1/domains`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DomainList<'a> {
    sequence: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sampled_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_seconds: Option<f64>,
    domains: Vec<DomainJson<'a>>,
    /// Where the next answer is to begin; absent if this one had the last domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

impl DomainList<'_> {
    /// Without its domains.
    fn head(snapshot: &Snapshot, at: Option<Instant>) -> Self {
        let sampled = snapshot.sampled;
        Self {
            sequence: snapshot.sequence,
            sampled_at: sampled.map(|stamp| rfc3339(stamp.wall)),
            age_seconds: sampled.zip(at).map(|(stamp, at)| age(stamp, at)),
            domains: Vec::new(),
            next_cursor: None,
        }
    }
}

/// Every domain, at once.
#[must_use]
pub fn domains(snapshot: &Snapshot, at: Instant) -> DomainList<'_> {
    let domains = snapshot.domains.iter().map(|it| domain(snapshot, it, Form::whole(at))).collect();
    DomainList { domains, ..DomainList::head(snapshot, Some(at)) }
}

/// A list that is being written.
pub struct ListBody {
    snapshot: Arc<Snapshot>,
    query: Query,
    at: Instant,
    place: usize,
    written: usize,
    behind: Option<Cursor>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Head,
    Domains,
    End,
}

impl ListBody {
    /// The domains of a snapshot that a query asks for; ages count to `at`.
    #[must_use]
    pub fn new(snapshot: Arc<Snapshot>, query: Query, at: Instant) -> Self {
        let place = query.after.as_ref().map_or(0, |after| first_behind(&snapshot, after));
        Self { snapshot, query, at, place, written: 0, behind: None, stage: Stage::Head }
    }

    /// Makes the next piece, which may be empty; `None` at the end.
    pub fn next_piece(&mut self) -> Option<Bytes> {
        let mut out = Vec::new();
        match self.stage {
            Stage::End => return None,
            Stage::Head => {
                self.head(&mut out);
                self.stage = Stage::Domains;
            }
            Stage::Domains => {}
        }
        if !self.domains(&mut out) {
            self.tail(&mut out);
            self.stage = Stage::End;
        }
        Some(out.into())
    }

    /// Is there nothing more to come?
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.stage == Stage::End
    }

    fn head(&self, out: &mut Vec<u8>) {
        let head = DomainList::head(&self.snapshot, self.query.ages.then_some(self.at));
        let text = serde_json::to_vec(&head).unwrap_or_default();
        // The list stays open.
        out.extend_from_slice(text.strip_suffix(b"]}").unwrap_or(&text));
    }

    /// Writes domains, and returns whether there are more to look at.
    fn domains(&mut self, out: &mut Vec<u8>) -> bool {
        let form = Form { fields: self.query.fields, at: self.query.ages.then_some(self.at) };
        let snapshot = Arc::clone(&self.snapshot);
        for _ in 0..LOOKED_AT {
            let Some(it) = snapshot.domains.get(self.place) else { return false };
            if self.query.wants(it) {
                if self.query.limit.is_some_and(|limit| self.written >= limit) {
                    return false;
                }
                out.extend_from_slice(if self.written > 0 { b"," } else { b"" });
                if let Err(error) = serde_json::to_writer(&mut *out, &domain(&snapshot, it, form)) {
                    tracing::error!(%error, "a domain could not be written as JSON; this is a bug");
                }
                self.written += 1;
                self.behind = Some(Cursor::behind(it));
            }
            self.place += 1;
            if out.len() >= PIECE {
                break;
            }
        }
        true
    }

    fn tail(&mut self, out: &mut Vec<u8>) {
        out.push(b']');
        // A domain that is wanted is left.
        if self.place < self.snapshot.domains.len()
            && let Some(cursor) = self.behind.take()
        {
            let cursor = serde_json::to_string(&cursor.to_string()).unwrap_or_default();
            out.extend_from_slice(format!(",\"next_cursor\":{cursor}").as_bytes());
        }
        out.extend_from_slice(b"}\n");
    }
}

fn first_behind(snapshot: &Snapshot, after: &Cursor) -> usize {
    let (mut low, mut high) = (0, snapshot.domains.len());
    while low < high {
        let middle = low.midpoint(high);
        let is_behind = snapshot.domains.get(middle).is_none_or(|domain| after.is_before(domain));
        if is_behind { high = middle } else { low = middle + 1 }
    }
    low
}
