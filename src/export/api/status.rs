//! The state of the service itself, as JSON.

use std::time::Instant;

use serde::Serialize;

use super::{age, rfc3339, round};
use crate::model::{Group, HostVersions};
use crate::store::Snapshot;

/// `/api/v1/status`.
#[derive(Debug, Serialize)]
pub struct Status<'a> {
    version: &'static str,
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_ready_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
    libvirt: LibvirtStatus<'a>,
    sequence: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sampled_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_seconds: Option<f64>,
    domains: usize,
    domains_running: usize,
    groups: Vec<GroupStatus>,
}

#[derive(Debug, Serialize)]
struct LibvirtStatus<'a> {
    up: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hypervisor_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    daemon_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    library_version: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct GroupStatus {
    group: &'static str,
    stale_after_seconds: f64,
    /// The oldest sample of any running domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_age_seconds: Option<f64>,
    stale_domains: usize,
}

/// The service.
#[must_use]
pub fn status(snapshot: &Snapshot, now: Instant) -> Status<'_> {
    let versions = snapshot.link.versions.as_ref();
    let version = |of: fn(&HostVersions) -> &str| versions.map(of).filter(|version| !version.is_empty());
    let running = || snapshot.domains.iter().filter(|domain| domain.run.is_some());
    let group = |group: Group| {
        let limit = snapshot.stale_after.get(group)?;
        let ages = || running().map(|domain| domain.age(group, now));
        Some(GroupStatus {
            group: group.label(),
            stale_after_seconds: limit.as_secs_f64(),
            oldest_age_seconds: ages().max().map(round),
            stale_domains: ages().filter(|age| *age > limit).count(),
        })
    };
    Status {
        version: env!("CARGO_PKG_VERSION"),
        ready: snapshot.incomplete.is_none(),
        not_ready_reason: snapshot.incomplete.as_deref(),
        problem: snapshot.problem.as_deref(),
        libvirt: LibvirtStatus {
            up: snapshot.link.up,
            problem: snapshot.link.problem.as_deref(),
            hypervisor_version: version(|versions| &versions.hypervisor),
            daemon_version: version(|versions| &versions.daemon),
            library_version: version(|versions| &versions.library),
        },
        sequence: snapshot.sequence,
        sampled_at: snapshot.sampled.map(|stamp| rfc3339(stamp.wall)),
        age_seconds: snapshot.sampled.map(|stamp| age(stamp, now)),
        domains: snapshot.domains.len(),
        domains_running: running().count(),
        groups: Group::ALL.into_iter().filter_map(group).collect(),
    }
}
