//! The host as a whole.

use super::Kind::Gauge;
use super::Read::Host;
use super::{Emit, Family, row};
use crate::export::prometheus::value::Value;
use crate::model::state_name;
use crate::store::Snapshot;

pub(super) static FAMILIES: &[Family] = &[
    row(
        Gauge,
        ("libvirt_up", "1"),
        "Whether the connection to libvirt lives.",
        ("inventory", ""),
        Host(|snapshot, emit| emit(&[], Value::Int(u64::from(snapshot.link.up)))),
    ),
    row(
        Gauge,
        ("libvirt_domains", "domains"),
        "Domains known, running or not.",
        ("inventory", ""),
        Host(|snapshot, emit| emit(&[], Value::Int(snapshot.domains.len() as u64))),
    ),
    row(
        Gauge,
        ("libvirt_domains_by_state", "domains"),
        "Domains by state.",
        ("state.state", "state"),
        Host(domains_by_state),
    ),
    row(
        Gauge,
        ("libvirt_version_info", "1"),
        "Versions of libvirtd, hypervisor and libvirt library; always 1.",
        ("inventory", "daemon, hypervisor, library"),
        Host(|snapshot, emit| {
            if let Some(v) = &snapshot.link.versions {
                emit(&[("daemon", &v.daemon), ("hypervisor", &v.hypervisor), ("library", &v.library)], Value::Int(1));
            }
        }),
    ),
];

fn domains_by_state(snapshot: &Snapshot, emit: Emit<'_>) {
    // Every state has its series, so that a sum over time has no holes.
    let mut counts = [0_u64; 9];
    for domain in &snapshot.domains {
        let state = domain.state().and_then(|sampled| sampled.figures.state);
        let place = state.and_then(|state| usize::try_from(state).ok()).filter(|state| *state < 8).unwrap_or(8);
        counts[place] += 1;
    }
    for (state, count) in (0_i64..).zip(counts) {
        emit(&[("state", state_name(state))], Value::Int(count));
    }
}
