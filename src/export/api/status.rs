//! The state of the service itself, as JSON.

use std::time::Instant;

use schemars::JsonSchema;
use serde::Serialize;

use super::{age, rfc3339, round};
use crate::model::{DomainHealth, Group, HostVersions, Standing};
use crate::store::{KernelStatus, LaneShards, Snapshot};

/// Names listed at most: who has more of them looks at the list of domains.
const NAMES: usize = 100;

/// `/api/v1/status`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Status<'a> {
    version: &'static str,
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_ready_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<&'a str>,
    libvirt: LibvirtStatus<'a>,
    sequence: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    sampled_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_seconds: Option<f64>,
    domains: usize,
    domains_running: usize,
    domains_unresponsive: usize,
    domains_quarantined: usize,
    /// Their names.
    unresponsive: Vec<&'a str>,
    quarantined: Vec<&'a str>,
    groups: Vec<GroupStatus>,
    kernel: KernelJson<'a>,
    shards: ShardsStatus,
}

/// How bulk calls are cut.
#[derive(Debug, Serialize, JsonSchema)]
struct ShardsStatus {
    #[serde(skip_serializing_if = "Option::is_none")]
    free: Option<LaneShardsStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    monitor: Option<LaneShardsStatus>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct LaneShardsStatus {
    /// Of the newest turn.
    calls: usize,
    /// In the largest of them; absent where one call is about all domains.
    #[serde(skip_serializing_if = "Option::is_none")]
    domains_per_call: Option<usize>,
    /// What the largest reply is expected to take.
    #[serde(skip_serializing_if = "Option::is_none")]
    reply_bytes: Option<u64>,
    reply_bytes_limit: u64,
    /// Calls that were refused and asked again in halves.
    halved: u64,
}

impl LaneShardsStatus {
    /// `None` before the lane's first turn.
    fn of(shards: LaneShards) -> Option<Self> {
        let LaneShards { calls, domains, bytes, limit_bytes, halved } = shards;
        let status =
            Self { calls, domains_per_call: domains, reply_bytes: bytes, reply_bytes_limit: limit_bytes, halved };
        (calls > 0).then_some(status)
    }
}

#[derive(Debug, Serialize, JsonSchema)]
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

#[derive(Debug, Serialize, JsonSchema)]
struct GroupStatus {
    group: &'static str,
    stale_after_seconds: f64,
    /// The oldest sample of any running domain.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_age_seconds: Option<f64>,
    stale_domains: usize,
    /// Running domains whose newest sample the kernel told, of groups that libvirt can tell too.
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel_domains: Option<usize>,
}

/// The lane that reads what the host's kernel says of guests.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "KernelStatus")]
struct KernelJson<'a> {
    active: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    /// Seen in the newest turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    domains: Option<usize>,
    /// Since the begin of that turn.
    #[serde(skip_serializing_if = "Option::is_none")]
    turn_age_seconds: Option<f64>,
    /// How long that turn took.
    #[serde(skip_serializing_if = "Option::is_none")]
    turn_seconds: Option<f64>,
    /// Not seen, by reason: libvirt tells all about them.
    unseen: Vec<UnseenJson>,
    /// About whom libvirt is believed, since the two did not agree.
    disagreeing: Vec<DisagreeingJson<'a>>,
    /// Figures that are not to be had here, each with the reason.
    lacking: Vec<LackingJson<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    open_files: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    open_files_limit: Option<usize>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Unseen")]
struct UnseenJson {
    domains: usize,
    reason: &'static str,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Disagreeing")]
struct DisagreeingJson<'a> {
    name: &'a str,
    groups: Vec<&'static str>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Lacking")]
struct LackingJson<'a> {
    figures: &'a str,
    reason: &'a str,
}

impl<'a> KernelJson<'a> {
    fn of(snapshot: &'a Snapshot, now: Instant) -> Self {
        let running = snapshot.domains.iter().filter(|domain| domain.run.is_some());
        let disagreeing = running.filter(|domain| !domain.windows.lanes.distrusted().is_empty());
        let disagreeing = disagreeing.take(NAMES).map(|domain| DisagreeingJson {
            name: &domain.name,
            groups: domain.windows.lanes.distrusted().iter().map(Group::label).collect(),
        });
        let off = |reason| Self {
            active: false,
            reason: Some(reason),
            domains: None,
            turn_age_seconds: None,
            turn_seconds: None,
            unseen: Vec::new(),
            disagreeing: Vec::new(),
            lacking: Vec::new(),
            open_files: None,
            open_files_limit: None,
        };
        match &*snapshot.kernel {
            KernelStatus::Off(reason) => off(reason),
            KernelStatus::Waiting => off("no running domain was known yet"),
            KernelStatus::On { seen, unseen, began, took, state } => Self {
                active: true,
                reason: None,
                domains: Some(*seen),
                turn_age_seconds: began.map(|began| age(began, now)),
                turn_seconds: Some(took.as_secs_f64()),
                unseen: unseen
                    .iter()
                    .map(|(why, domains)| UnseenJson { domains: *domains, reason: why.reason() })
                    .collect(),
                disagreeing: disagreeing.collect(),
                lacking: state.lacks.iter().map(|it| LackingJson { figures: it.figures, reason: &it.reason }).collect(),
                open_files: Some(state.open_files),
                open_files_limit: Some(state.open_files_limit),
            },
        }
    }
}

/// The service.
#[must_use]
pub fn status(snapshot: &Snapshot, now: Instant) -> Status<'_> {
    let versions = snapshot.link.versions.as_ref();
    let version = |of: fn(&HostVersions) -> &str| versions.map(of).filter(|version| !version.is_empty());
    let running = || snapshot.domains.iter().filter(|domain| domain.run.is_some());
    let group = |group: Group| {
        let limit = snapshot.stale_after.get(group)?;
        let ages = || running().filter(|domain| domain.has(group)).map(|domain| domain.age(group, now));
        Some(GroupStatus {
            group: group.label(),
            stale_after_seconds: limit.as_secs_f64(),
            oldest_age_seconds: ages().max().map(round),
            stale_domains: ages().filter(|age| *age > limit).count(),
            kernel_domains: Group::SHARED
                .contains(&group)
                .then(|| running().filter(|it| snapshot.kernel_feeds(it, group, now)).count()),
        })
    };
    let those = |are: fn(&DomainHealth) -> bool| {
        running().filter(move |domain| are(&domain.health)).map(|domain| &*domain.name)
    };
    let unresponsive = || those(|health| health.unresponsive_since.is_some());
    // Probation is a moment of it: the domain is not asked with the others yet.
    let quarantined = || those(|health| health.standing != Standing::Healthy);
    Status {
        version: env!("CARGO_PKG_VERSION"),
        ready: snapshot.incomplete.is_none(),
        not_ready_reason: snapshot.incomplete.as_deref(),
        problem: snapshot.problem.as_deref(),
        hint: snapshot.hint.as_deref(),
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
        domains_unresponsive: unresponsive().count(),
        domains_quarantined: quarantined().count(),
        unresponsive: unresponsive().take(NAMES).collect(),
        quarantined: quarantined().take(NAMES).collect(),
        groups: Group::ALL.into_iter().filter_map(group).collect(),
        kernel: KernelJson::of(snapshot, now),
        shards: ShardsStatus {
            free: LaneShardsStatus::of(snapshot.shards.free),
            monitor: LaneShardsStatus::of(snapshot.shards.monitor),
        },
    }
}
