//! docs/metrics.md, generated from the table, so that it cannot say anything else.

use std::fmt::Write as _;

use super::host;
use super::table::{AGE, Moving, UNRESPONSIVE, families};
use crate::store::SelfMetrics;

const INTRODUCTION: &str = "\
# Metrics

What `/metrics` serves, in its order. This page is generated from the table in `src/export/prometheus/table`; the test
`metrics_reference_is_current` fails where they differ, and writes it anew with `VIRTSTATD_BLESS=1`.

- Every `libvirt_domain_*` series bears `domain` (the name) and `uuid`; the column *labels* gives what comes on top.
- A figure that was not obtained is left out: never 0, never the last value for ever. A group of figures leaves /metrics when
  its sample is older than two and a half periods; `libvirt_domain_sample_age_seconds` tells the age all the time.
- Counters are libvirt's own, as they were read; nanoseconds and KiB become seconds and bytes without rounding.
- `target_device` is the device's name in the guest (disks) or on the host (NICs); a NIC without one goes by its MAC address,
  else by its index (`nic2`).
- *Source* is libvirt's name of the parameter in `virConnectGetAllDomainStats` or of another call, or the domain's XML.
- What is counted from libvirt's events counts from the start of the service, and knows nothing of the time in which there was
  no connection. Counters of a domain are kept while libvirt lists it, and ten minutes longer.

";

const HOST_INTRODUCTION: &str = "
## The host itself: off by default

These are there only with `host-metrics = true` under `[export]`, since on most hosts node_exporter tells the same. They are of the
host that virtstatd runs on, from its newest look (every 5 s by default), and leave /metrics when that is older than two and a half
periods. JSON has them in any case ([`/api/v1/host`](api.md#get-apiv1host)).

| name | type | unit | labels | source | what it is |
|---|---|---|---|---|---|
";

/// The page.
#[must_use]
pub fn markdown(own: &SelfMetrics) -> String {
    let mut page = INTRODUCTION.to_owned();
    page.push_str(
        "## Domains and host\n\n| name | type | unit | labels | source | what it is |\n|---|---|---|---|---|---|\n",
    );
    for family in families() {
        let labels = if family.labels.is_empty() { "-" } else { family.labels };
        let (name, kind, unit) = (family.name, family.kind.name(), family.unit);
        let _ = writeln!(page, "| `{name}` | {kind} | {unit} | {labels} | {} | {} |", family.source, family.help);
    }
    for Moving { name, help, source, labels } in [UNRESPONSIVE, AGE] {
        let _ = writeln!(page, "| `{name}` | gauge | seconds | {labels} | {source} | {help} |");
    }
    let (of_domains, own): (Vec<_>, Vec<_>) =
        own.described().into_iter().partition(|(name, ..)| name.starts_with("libvirt_"));
    for (name, kind, help) in of_domains {
        let (unit, labels, source) = if kind == "histogram" {
            ("seconds", "le", "lifecycle events, /proc")
        } else {
            ("events", "reason", "lifecycle events")
        };
        let _ = writeln!(page, "| `{name}` | {kind} | {unit} | {labels} | {source} | {help} |");
    }
    page.push_str(HOST_INTRODUCTION);
    for family in host::FAMILIES {
        let (name, kind, unit, labels) = (family.name, family.kind.name(), family.unit, family.labels);
        let _ = writeln!(page, "| `{name}` | {kind} | {unit} | {labels} | {} | {} |", family.source, family.help);
    }
    page.push_str("\n## The service itself\n\n| name | type | what it is |\n|---|---|---|\n");
    for (name, kind, help) in own {
        let _ = writeln!(page, "| `{name}` | {kind} | {help} |");
    }
    page
}
