//! What moves between snapshots, and so is written per scrape: how old each sample is, and how long a domain has not answered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::labels::DomainLabels;
use super::lines::{Line, Lines, header};
use super::table::{AGE, Moving, UNRESPONSIVE};
use super::value::Value;
use crate::model::Group;
use crate::store::{Domain, Snapshot};

/// Lines are written in parts of about so many, so that nobody holds all of them: some 70 KB.
const PART: usize = 512;

/// The moments that ages count from: all that a scrape needs of a snapshot. To keep the snapshot itself would keep figures that
/// the store has replaced.
#[derive(Debug)]
pub(super) struct Ages {
    domains: Vec<Aged>,
    /// Those that are sampled, each with its label.
    groups: Vec<(Group, Vec<u8>)>,
}

/// A running domain.
#[derive(Debug)]
struct Aged {
    labels: Arc<DomainLabels>,
    unresponsive_since: Option<Instant>,
    /// When the newest sample was asked for, or else the run found; `None` if there is nothing to ask this domain for.
    newest: [Option<Instant>; Group::ALL.len()],
}

impl Ages {
    /// Of no domain yet.
    pub(super) fn new(snapshot: &Snapshot) -> Self {
        let label = |group: Group| format!(",group=\"{}\"", group.label()).into_bytes();
        let groups = snapshot.stale_after.groups().map(|group| (group, label(group))).collect();
        Self { domains: Vec::with_capacity(snapshot.domains.len()), groups }
    }

    /// Adds a domain, if it is running.
    pub(super) fn add(&mut self, domain: &Domain, labels: &Arc<DomainLabels>) {
        if domain.run.is_none() {
            return;
        }
        let begin = |group| domain.windows.started(group).unwrap_or(domain.known_since).at;
        let mut newest = [None; Group::ALL.len()];
        for (group, _) in &self.groups {
            newest[*group as usize] = domain.has(*group).then(|| begin(*group));
        }
        let unresponsive_since = domain.health.unresponsive_since.map(|since| since.at);
        self.domains.push(Aged { labels: Arc::clone(labels), unresponsive_since, newest });
    }

    /// Domains in a part of each family.
    fn steps(&self) -> [usize; 2] {
        [PART, (PART / self.groups.len().max(1)).max(1)]
    }

    /// How many parts there are.
    pub(super) fn parts(&self) -> usize {
        // Both families are announced even if nothing runs.
        self.steps().map(|step| self.domains.len().div_ceil(step).max(1)).iter().sum()
    }

    /// Writes one of the parts.
    pub(super) fn write(&self, part: usize, now: Instant, lines: &mut impl Lines) {
        let [unresponsive, ages] = self.steps();
        let first = self.domains.len().div_ceil(unresponsive).max(1);
        if part < first {
            let line = |domain: &Aged, lines: &mut _| {
                let age = domain.unresponsive_since.map_or(Duration::ZERO, |since| since_then(since, now));
                push_line(&UNRESPONSIVE, domain, (0, &[]), age, lines);
            };
            self.write_part(&UNRESPONSIVE, part, unresponsive, line, lines);
        } else {
            let line = |domain: &Aged, lines: &mut _| {
                for (place, (group, label)) in self.groups.iter().enumerate() {
                    if let Some(newest) = domain.newest[*group as usize] {
                        push_line(&AGE, domain, (place, label), since_then(newest, now), lines);
                    }
                }
            };
            self.write_part(&AGE, part - first, ages, line, lines);
        }
    }

    fn write_part<L: Lines>(
        &self,
        family: &Moving,
        part: usize,
        step: usize,
        line: impl Fn(&Aged, &mut L),
        lines: &mut L,
    ) {
        if part == 0 {
            header(family.name, family.help, "gauge", lines.text());
        }
        let begin = part * step;
        let domains = &self.domains[begin..(begin + step).min(self.domains.len())];
        domains.iter().for_each(|domain| line(domain, lines));
    }
}

fn since_then(then: Instant, now: Instant) -> Duration {
    now.saturating_duration_since(then)
}

fn push_line(family: &Moving, domain: &Aged, (place, labels): (usize, &[u8]), age: Duration, lines: &mut impl Lines) {
    // Ages are of interest to the millisecond; more digits only compress badly.
    let millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX / 1_000_000);
    let value = Value::Nanos(millis.saturating_mul(1_000_000));
    lines.line(&Line { name: family.name, domain: &domain.labels, labels, place, value, stamp: None });
}
