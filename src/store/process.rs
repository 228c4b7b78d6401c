//! `process_*`: what this process itself costs, read anew at each scrape.

use std::fs;

use parking_lot::Mutex;
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Counter, Gauge};
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// One figure: how to read it, and where to put it.
struct Figure<M> {
    metric: M,
    read: fn(&Proc) -> Option<f64>,
}

/// Reads /proc/self and the process's CPU clock. The `prometheus` crate's own collector counts whole seconds of CPU time,
/// which at our cost is one step in minutes.
pub(super) struct ProcessCollector {
    counters: Vec<Figure<Counter>>,
    gauges: Vec<Figure<Gauge>>,
    /// Two scrapes at once must not both add the CPU time since the last one.
    collecting: Mutex<()>,
    /// Read once: it stays, and /proc/stat is long.
    start_seconds: Option<f64>,
}

/// What the figures are read from.
struct Proc {
    status: String,
    start_seconds: Option<f64>,
}

impl Proc {
    fn status_kib(&self, key: &str) -> Option<f64> {
        self.status_number(key).map(|kib| kib * 1024.0)
    }

    fn status_number(&self, key: &str) -> Option<f64> {
        let line = self.status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse().ok()
    }
}

impl ProcessCollector {
    pub(super) fn new() -> Self {
        let counter = |name: &str, help: &str, read| Figure {
            metric: Counter::new(name, help).expect("the names of this file are valid"),
            read,
        };
        let gauge = |name: &str, help: &str, read| Figure {
            metric: Gauge::new(name, help).expect("the names of this file are valid"),
            read,
        };
        Self {
            counters: vec![counter(
                "process_cpu_seconds_total",
                "CPU time of this process, user and system, from its CPU clock.",
                |_| cpu_seconds(),
            )],
            gauges: vec![
                gauge("process_resident_memory_bytes", "Resident memory (VmRSS).", |proc| proc.status_kib("VmRSS")),
                gauge(
                    "process_anonymous_memory_bytes",
                    "Anonymous resident memory (RssAnon): without the pages of mapped files such as libvirt.so.",
                    |proc| proc.status_kib("RssAnon"),
                ),
                gauge("process_virtual_memory_bytes", "Virtual memory (VmSize).", |proc| proc.status_kib("VmSize")),
                gauge("process_threads", "Threads.", |proc| proc.status_number("Threads")),
                gauge("process_open_fds", "Open file descriptors.", |_| open_fds()),
                gauge("process_max_fds", "Limit of open file descriptors.", |_| max_fds()),
                gauge("process_start_time_seconds", "Start of the process, Unix time.", |proc| proc.start_seconds),
            ],
            collecting: Mutex::new(()),
            start_seconds: start_seconds(),
        }
    }
}

impl Collector for ProcessCollector {
    fn desc(&self) -> Vec<&Desc> {
        let counters = self.counters.iter().flat_map(|figure| figure.metric.desc());
        counters.chain(self.gauges.iter().flat_map(|figure| figure.metric.desc())).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let proc = Proc { status, start_seconds: self.start_seconds };
        let mut families = Vec::new();
        let _guard = self.collecting.lock();
        for Figure { metric, read } in &self.counters {
            if let Some(value) = read(&proc) {
                metric.inc_by((value - metric.get()).max(0.0));
                families.extend(metric.collect());
            }
        }
        for Figure { metric, read } in &self.gauges {
            if let Some(value) = read(&proc) {
                metric.set(value);
                families.extend(metric.collect());
            }
        }
        families
    }
}

#[allow(clippy::cast_precision_loss)] // Far below 2^53.
fn cpu_seconds() -> Option<f64> {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Some(time.tv_sec as f64 + time.tv_nsec as f64 / 1e9)
}

#[allow(clippy::cast_precision_loss)]
fn open_fds() -> Option<f64> {
    // One of them is this listing's own.
    Some(fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1) as f64)
}

#[allow(clippy::cast_precision_loss)]
fn max_fds() -> Option<f64> {
    getrlimit(Resource::Nofile).current.map(|limit| limit as f64)
}

/// Boot time plus the start in ticks after boot (field 22 of /proc/self/stat, counted behind the command's name, which may
/// hold anything).
#[allow(clippy::cast_precision_loss)]
fn start_seconds() -> Option<f64> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let ticks: f64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
    let system = fs::read_to_string("/proc/stat").ok()?;
    let boot: f64 = system.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot + ticks / rustix::param::clock_ticks_per_second() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_can_be_read_here() {
        let families = ProcessCollector::new().collect();
        let names: Vec<_> = families.iter().map(MetricFamily::name).collect();
        assert_eq!(
            names,
            [
                "process_cpu_seconds_total",
                "process_resident_memory_bytes",
                "process_anonymous_memory_bytes",
                "process_virtual_memory_bytes",
                "process_threads",
                "process_open_fds",
                "process_max_fds",
                "process_start_time_seconds",
            ]
        );
        for family in &families {
            let metric = &family.get_metric()[0];
            let value = metric.get_counter().get_value() + metric.get_gauge().get_value();
            assert!(value > 0.0, "{} is {value}", family.name());
        }
    }
}
