//! The host as a whole.

use super::Kind::Gauge;
use super::Read::Host;
use super::{Emit, Family, HostView, row};
use crate::export::prometheus::value::Value;
use crate::model::state_name;

pub(super) static FAMILIES: &[Family] = &[
    row(
        Gauge,
        ("libvirt_up", "1"),
        "Whether the connection to libvirt lives.",
        ("inventory", ""),
        Host(|host, emit| emit(&[], Value::Int(u64::from(host.snapshot.link.up)))),
    ),
    row(
        Gauge,
        ("libvirt_domains", "domains"),
        "Domains known, running or not.",
        ("inventory", ""),
        Host(|host, emit| {
            if host.list_is_fresh {
                emit(&[], Value::Int(host.snapshot.domains.len() as u64));
            }
        }),
    ),
    row(
        Gauge,
        ("libvirt_domains_by_state", "domains"),
        "Domains by state; unknown where no fresh sample tells it.",
        ("state.state", "state"),
        Host(domains_by_state),
    ),
    row(
        Gauge,
        ("libvirt_version_info", "1"),
        "Versions of libvirtd, hypervisor and libvirt library; always 1.",
        ("inventory", "daemon, hypervisor, library"),
        Host(|host, emit| {
            if let Some(v) = &host.snapshot.link.versions {
                emit(&[("daemon", &v.daemon), ("hypervisor", &v.hypervisor), ("library", &v.library)], Value::Int(1));
            }
        }),
    ),
];

fn domains_by_state(host: &HostView<'_>, emit: Emit<'_>) {
    if !host.list_is_fresh {
        return;
    }
    // Every state has its series, so that a sum over time has no holes.
    for (state, count) in (0_i64..).zip(host.by_state) {
        emit(&[("state", state_name(state))], Value::Int(count));
    }
}
