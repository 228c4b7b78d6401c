//! The sampler's own metrics (`virtstatd_*`, `process_*`), and what is counted for the host as a whole when it happens
//! (`libvirt_*`), in one registry of the `prometheus` crate.

use std::time::Duration;

use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use super::process::ProcessCollector;
use crate::model::{DecodeCounts, Group, Happened, PauseReason, StopReason};

/// Upper bounds, in seconds, for calls to libvirt: from a quiet host to a hung guest.
const CALL_SECONDS: &[f64] = &[0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// Upper bounds, in seconds, for answers over HTTP.
const HTTP_SECONDS: &[f64] =
    &[0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];

/// Upper bounds, in seconds, for starts of QEMU: from a small guest to one whose memory is filled from a file.
const STARTUP_SECONDS: &[f64] = &[0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0];

/// The calls that a deadline is set to.
const CALLS: [&str; 9] = [
    "virConnectOpen",
    "virConnectGetAllDomainStats",
    "virDomainListGetStats",
    "virDomainGetBlockInfo",
    "virDomainBlockStatsFlags",
    "virDomainGetControlInfo",
    "virDomainGetCPUStats",
    "virConnectListAllDomains",
    "virNetworkGetDHCPLeases",
];

/// Why clients of STOMP are let go.
pub const STOMP_REFUSALS: [&str; 8] =
    ["bad_frame", "too_large", "bad_version", "no_connect", "bad_request", "idle", "too_slow", "tls"];

/// Counters and gauges about ourselves. Those with a closed set of labels start at 0, so that `rate()` sees the first
/// event.
#[allow(missing_docs)] // The help texts below say it.
pub struct SelfMetrics {
    registry: Registry,
    pub lane_runs: IntCounterVec,
    pub lane_duration: HistogramVec,
    pub lane_skipped: IntCounterVec,
    pub calls_open: IntGaugeVec,
    pub calls_timed_out: IntCounterVec,
    pub quarantined: IntGauge,
    pub storage_blocked: IntGauge,
    pub samples_dropped: IntCounterVec,
    pub lane_disagreements: IntCounterVec,
    pub workers: IntGaugeVec,
    pub reconnects: IntCounter,
    pub series_dropped: IntCounterVec,
    pub http_requests: IntCounterVec,
    pub http_duration: Histogram,
    pub rpc_calls: IntCounterVec,
    pub stomp_connections: IntGauge,
    pub stomp_refused: IntCounterVec,
    snapshot_age: Gauge,
    pub descriptions_failed: IntCounter,
    decode_problems: IntCounterVec,
    startup: Histogram,
    pauses: IntCounterVec,
    stops: IntCounterVec,
}

impl SelfMetrics {
    pub(super) fn new() -> Self {
        let registry = Registry::new();
        let metrics = Self {
            lane_runs: counters(
                &registry,
                "lane_runs_total",
                "Calls of a lane that ended, by result; timeout: written off at the deadline, whatever came of it later.",
                &["lane", "result"],
            ),
            lane_duration: {
                let options = HistogramOpts::new(
                    "virtstatd_lane_duration_seconds",
                    "How long a lane's call took; on hosts with over a thousand disks a row of up to 20 in block_info.",
                );
                let histogram = HistogramVec::new(options.buckets(CALL_SECONDS.to_vec()), &["lane"]);
                registered(&registry, histogram)
            },
            lane_skipped: counters(
                &registry,
                "lane_skipped_total",
                "Turns of a lane (free and monitor: of a stats group) that were skipped, by reason: disconnected, no_place (enough calls are open at libvirtd), refused (libvirt fails a call about this one domain), unresponsive (a domain that is left alone).",
                &["lane", "reason"],
            ),
            calls_open: gauges(
                &registry,
                "calls_open",
                "Calls that are open at libvirtd, by what they are for; orphaned: those whose connection died, and which libvirtd may still hold.",
                &["kind"],
            ),
            calls_timed_out: counters(
                &registry,
                "calls_timed_out_total",
                "Calls that were written off at their deadline, by libvirt's name of the function.",
                &["call"],
            ),
            quarantined: gauge(
                &registry,
                "quarantined_domains",
                "Domains whose monitor is not asked with the others, because a call hung on it or its QEMU cannot answer.",
            ),
            storage_blocked: gauge(&registry, "storage_blocked", "Mounts with images of domains that do not answer."),
            samples_dropped: counters(
                &registry,
                "samples_dropped_total",
                "Samples of one domain and group that were not taken: late (newer ones are known, or it was stale when it came), or went_back (CPU time of the same run was less than before).",
                &["reason"],
            ),
            lane_disagreements: counters(
                &registry,
                "lane_disagreements_total",
                "Times that libvirt and the kernel did not agree on the figures of one domain to a hundredth, by stats group; twice running, and libvirt is believed.",
                &["group"],
            ),
            workers: gauges(
                &registry,
                "workers",
                "Threads that make calls that can block, by state; stuck: the call was written off and has not returned.",
                &["pool", "state"],
            ),
            reconnects: registered(
                &registry,
                IntCounter::new("virtstatd_reconnects_total", "Times that the inventory found libvirt again."),
            ),
            series_dropped: counters(
                &registry,
                "series_dropped_total",
                "Series left out of renderings of /metrics, by reason: duplicate (a device whose name another one has).",
                &["reason"],
            ),
            http_requests: counters(
                &registry,
                "http_requests_total",
                "HTTP requests answered; unknown paths count as path \"other\".",
                &["path", "code"],
            ),
            http_duration: {
                let options = HistogramOpts::new(
                    "virtstatd_http_request_duration_seconds",
                    "Time from a request's head to the answer's head.",
                );
                registered(&registry, Histogram::with_opts(options.buckets(HTTP_SECONDS.to_vec())))
            },
            rpc_calls: counters(
                &registry,
                "rpc_calls_total",
                "Calls by JSON-RPC that were answered, by method (\"other\": unknown ones, and what is no request) and the code of the error, 0 for a result.",
                &["method", "code"],
            ),
            stomp_connections: gauge(
                &registry,
                "stomp_connections",
                "Connections that are open to the STOMP listener.",
            ),
            stomp_refused: counters(
                &registry,
                "stomp_refused_total",
                "STOMP clients that were let go, by reason: bad_frame (not STOMP), too_large, bad_version, no_connect (something else came first, or nothing in time), bad_request (STOMP, but not possible here), idle, too_slow (an answer left unread, or a frame not finished), tls (no accepted certificate).",
                &["reason"],
            ),
            snapshot_age: Gauge::new(
                "virtstatd_snapshot_age_seconds",
                "Time since the newest answer in the snapshot was asked for; absent before the first.",
            )
            .expect("a constant, and valid"),
            descriptions_failed: registered(
                &registry,
                IntCounter::new(
                    "virtstatd_descriptions_failed_total",
                    "Domains whose XML could not be read or understood, at each attempt.",
                ),
            ),
            decode_problems: counters(
                &registry,
                "decode_problems_total",
                "Parameters of libvirt that were not decoded: unknown (each kind once), wrong_type, bad_index.",
                &["kind"],
            ),
            startup: {
                let options = HistogramOpts::new(
                    "libvirt_domain_startup_seconds",
                    "Time from the start of a domain's QEMU process to libvirt's event that it has started, of all domains of the host; migrated and restored ones included. Of starts whose event and process were both seen.",
                );
                registered(&registry, Histogram::with_opts(options.buckets(STARTUP_SECONDS.to_vec())))
            },
            pauses: host_counters(
                &registry,
                "libvirt_pauses_total",
                "Times that a domain of the host was paused, by the reason that libvirt's event gives.",
            ),
            stops: host_counters(
                &registry,
                "libvirt_stops_total",
                "Runs of domains of the host that ended, by the reason that libvirt's event gives.",
            ),
            registry,
        };
        let build = IntGaugeVec::new(Opts::new("virtstatd_build_info", "The running version; always 1."), &["version"]);
        let build = registered(&metrics.registry, build);
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let collector = metrics.registry.register(Box::new(ProcessCollector::new()));
        collector.expect("the names of the process collector are its own");
        metrics.start_at_zero();
        metrics
    }

    fn start_at_zero(&self) {
        for lane in ["free", "monitor", "block_info", "inventory"] {
            for result in ["ok", "error", "timeout"] {
                self.lane_runs.with_label_values(&[lane, result]);
            }
            self.lane_duration.with_label_values(&[lane]);
            for reason in ["disconnected", "no_place", "refused", "unresponsive"] {
                self.lane_skipped.with_label_values(&[lane, reason]);
            }
        }
        // It can neither fail nor be skipped.
        self.lane_runs.with_label_values(&["kernel", "ok"]);
        self.lane_duration.with_label_values(&["kernel"]);
        for group in Group::SHARED {
            self.lane_disagreements.with_label_values(&[group.label()]);
        }
        for pool in ["free", "monitor", "block_info", "inventory", "storage"] {
            for state in ["idle", "busy", "stuck"] {
                self.workers.with_label_values(&[pool, state]);
            }
        }
        for kind in ["free", "monitor", "probation", "block_info", "inventory", "control", "orphaned"] {
            self.calls_open.with_label_values(&[kind]);
        }
        for call in CALLS {
            self.calls_timed_out.with_label_values(&[call]);
        }
        for reason in ["late", "went_back"] {
            self.samples_dropped.with_label_values(&[reason]);
        }
        self.series_dropped.with_label_values(&["duplicate"]);
        for reason in STOMP_REFUSALS {
            self.stomp_refused.with_label_values(&[reason]);
        }
        for reason in PauseReason::ALL {
            self.pauses.with_label_values(&[reason.label()]);
        }
        for reason in StopReason::ALL {
            self.stops.with_label_values(&[reason.label()]);
        }
        for kind in ["unknown", "wrong_type", "bad_index"] {
            self.decode_problems.with_label_values(&[kind]);
        }
    }

    /// Says how old the snapshot is. Before that, the age is absent.
    pub fn set_snapshot_age(&self, age: Duration) {
        self.snapshot_age.set(age.as_secs_f64());
        // It stays registered from the first time on; the registry refuses it after that, as it should.
        let _ = self.registry.register(Box::new(self.snapshot_age.clone()));
    }

    pub(super) fn count_decoding(&self, counts: DecodeCounts) {
        for (kind, count) in
            [("unknown", counts.unknown), ("wrong_type", counts.wrong_type), ("bad_index", counts.bad_index)]
        {
            self.decode_problems.with_label_values(&[kind]).inc_by(count);
        }
    }

    pub(super) fn count_event(&self, what: &Happened) {
        match what {
            Happened::Paused(reason) => self.pauses.with_label_values(&[reason.label()]).inc(),
            Happened::Stopped(reason) => self.stops.with_label_values(&[reason.label()]).inc(),
            _ => {}
        }
    }

    pub(super) fn count_startup(&self, took: Option<Duration>) {
        if let Some(took) = took {
            self.startup.observe(took.as_secs_f64());
        }
    }

    /// All of them as Prometheus text.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "cannot encode our own metrics");
        }
        text
    }

    /// Name, type and help of each, for the documentation; only those with a series so far.
    #[must_use]
    pub fn described(&self) -> Vec<(String, &'static str, String)> {
        let kind = |family: &prometheus::proto::MetricFamily| match family.get_field_type() {
            prometheus::proto::MetricType::COUNTER => "counter",
            prometheus::proto::MetricType::HISTOGRAM => "histogram",
            _ => "gauge",
        };
        let families = self.registry.gather();
        families.iter().map(|f| (f.name().to_owned(), kind(f), f.help().to_owned())).collect()
    }
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    registered(registry, IntGauge::new(format!("virtstatd_{name}"), help))
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    registered(registry, IntGaugeVec::new(Opts::new(format!("virtstatd_{name}"), help), labels))
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    registered(registry, IntCounterVec::new(Opts::new(format!("virtstatd_{name}"), help), labels))
}

fn host_counters(registry: &Registry, name: &str, help: &str) -> IntCounterVec {
    registered(registry, IntCounterVec::new(Opts::new(name, help), &["reason"]))
}

fn registered<C>(registry: &Registry, collector: prometheus::Result<C>) -> C
where
    C: prometheus::core::Collector + Clone + 'static,
{
    let collector = collector.expect("names and labels are constants of this file, and valid");
    let result = registry.register(Box::new(collector.clone()));
    result.expect("each name of this file is registered once");
    collector
}
