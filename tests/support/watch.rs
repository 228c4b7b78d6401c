//! Looks at a running daemon from outside, about ten times a second, and remembers what a fault cost whom.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::daemon::{Daemon, try_request};
use super::exposition::{Series, find, parse, value};
use super::wait_for;

/// Often enough to see each sample; more would take the processors from those who are watched.
const BETWEEN_SCRAPES: Duration = Duration::from_millis(200);

/// A scrape that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(5);

/// A sample shows when its call has returned and its reply is rendered. A gap that goes on at the last look is too long
/// only if it was so this long before.
const UNTIL_IT_SHOWS: f64 = 1.2;

/// Ages are cut to milliseconds, and two clocks are read one after the other.
const SLACK: f64 = 0.01;

/// All times are seconds since the watcher's start.
pub(crate) struct Watcher {
    begin: Instant,
    seen: Arc<Mutex<Seen>>,
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<()>>,
}

/// One answer of /metrics.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scrape {
    pub(crate) at: f64,
    pub(crate) took: f64,
    pub(crate) up: bool,
    pub(crate) calls_open: f64,
    pub(crate) quarantined: f64,
}

/// When a sample's call began: between two moments, which further scrapes bring closer together.
#[derive(Debug, Clone, Copy)]
struct Start {
    earliest: f64,
    latest: f64,
}

/// Time between the starts of two samples.
#[derive(Debug, Clone)]
pub(crate) struct Gap {
    pub(crate) domain: String,
    pub(crate) group: String,
    pub(crate) begin: f64,
    pub(crate) length: f64,
}

/// What was seen so far.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) scrapes: Vec<Scrape>,
    /// Answers that were none, or not 200, or not valid.
    pub(crate) failures: Vec<String>,
    /// Counters that went down.
    pub(crate) resets: Vec<String>,
    samples: HashMap<(String, String), Vec<Start>>,
    counters: HashMap<String, f64>,
    responsive: HashMap<String, Vec<(f64, bool)>>,
    newest: Vec<Series>,
}

impl Watcher {
    pub(crate) fn start(daemon: &Daemon) -> Self {
        let (begin, seen) = (Instant::now(), Arc::<Mutex<Seen>>::default());
        let stop = Arc::new(AtomicBool::new(false));
        let (address, shared, stopped) = (daemon.address(), Arc::clone(&seen), Arc::clone(&stop));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                look(address, begin, &shared);
                thread::sleep(BETWEEN_SCRAPES);
            }
        });
        Self { begin, seen, stop, thread: Some(thread) }
    }

    pub(crate) fn now(&self) -> f64 {
        self.begin.elapsed().as_secs_f64()
    }

    /// What was seen so far. The watch stands still while it is looked at, so one look at a time, and none in `wait_until`.
    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets the daemon run while the test looks on; the length is what is tested, and stands for no event.
    pub(crate) fn observe(&self, length: Duration) {
        let until = self.now() + length.as_secs_f64();
        while self.now() < until {
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits for a sample of each of these domains and groups that was begun after that moment, and says how long after
    /// it the last of them began.
    pub(crate) fn wait_for_samples(&self, domains: &[String], groups: &[&str], after: f64) -> f64 {
        let pairs: Vec<_> =
            domains.iter().flat_map(|domain| groups.iter().map(move |group| (domain, *group))).collect();
        for (domain, group) in &pairs {
            wait_for(&format!("{group} of {domain}"), || self.seen().first_after(domain, group, after));
        }
        let seen = self.seen();
        let starts = pairs.iter().map(|(domain, group)| seen.first_after(domain, group, after).unwrap());
        starts.fold(0.0, f64::max) - after
    }

    /// No gap over `usual` seconds; but for one per domain and group, up to `once`.
    pub(crate) fn assert_gaps(&self, domains: &[String], groups: &[&str], between: (f64, f64), usual: f64, once: f64) {
        wait_for("a scrape after the time", || (self.seen().scrapes.last()?.at > between.1).then_some(()));
        let long = self.seen().gaps(domains, groups, between, usual);
        let mut excused = HashSet::new();
        for gap in &long {
            let first = excused.insert((&gap.domain, &gap.group));
            assert!(
                first && gap.length <= once,
                "{} of {} had no sample for {:.3} s from {:.3} s on ({} gaps over {usual} s since {:.3} s)",
                gap.group,
                gap.domain,
                gap.length,
                gap.begin,
                long.len(),
                between.0
            );
        }
    }

    /// The longest time between the starts of two samples of these, for whoever reads the output.
    pub(crate) fn longest(&self, domains: &[String], groups: &[&str], between: (f64, f64)) -> f64 {
        self.seen().longest(domains, groups, between).map_or(0.0, |gap| gap.length)
    }

    /// Waits for a scrape that is so.
    pub(crate) fn wait_until(&self, what: &str, mut is_so: impl FnMut(&[Series], Scrape) -> bool) {
        let after = self.now();
        wait_for(what, || {
            let seen = self.seen();
            let scrape = *seen.scrapes.last()?;
            (scrape.at > after && is_so(&seen.newest, scrape)).then_some(())
        });
    }

    /// Ends the watch, which must have seen nothing but good scrapes, no counter go down, and never more than four calls
    /// open at libvirtd.
    pub(crate) fn finish(mut self) {
        wait_for("enough scrapes to judge by", || {
            let seen = self.seen();
            (seen.scrapes.len() > 10 || !seen.failures.is_empty()).then_some(())
        });
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        let seen = self.seen();
        assert!(seen.failures.is_empty(), "{} bad scrapes: {:?}", seen.failures.len(), seen.failures.first());
        assert!(seen.resets.is_empty(), "{} counters went down: {:?}", seen.resets.len(), seen.resets.first());
        let slowest = seen.scrapes.iter().map(|scrape| scrape.took).fold(0.0, f64::max);
        assert!(slowest < 1.0, "a scrape took {slowest:.3} s: it waited for something");
        let open = seen.scrapes.iter().map(|scrape| scrape.calls_open).fold(0.0, f64::max);
        assert!(open <= 4.0, "{open} calls were open at libvirtd");
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Seen {
    fn starts(&self, domain: &str, group: &str) -> &[Start] {
        self.samples.get(&(domain.to_owned(), group.to_owned())).map_or(&[], Vec::as_slice)
    }

    fn first_after(&self, domain: &str, group: &str, after: f64) -> Option<f64> {
        self.starts(domain, group).iter().map(|start| start.earliest).find(|&start| start > after)
    }

    /// How many samples were begun in that time.
    pub(crate) fn count(&self, domain: &str, group: &str, from: f64, to: f64) -> usize {
        self.starts(domain, group).iter().filter(|start| start.earliest >= from && start.earliest < to).count()
    }

    /// Each gap over that many seconds that lies at least partly between two moments. A gap that has not ended counts.
    pub(crate) fn gaps(&self, domains: &[String], groups: &[&str], (from, to): (f64, f64), over: f64) -> Vec<Gap> {
        let now = self.scrapes.last().map_or(to, |scrape| scrape.at);
        let mut gaps = Vec::new();
        for domain in domains {
            for &group in groups {
                let starts = self.starts(domain, group);
                let before = starts.iter().rev().find(|start| start.earliest <= from).map_or(from, |s| s.latest);
                let mut begin = before;
                let mut note = |begin: f64, end: f64| {
                    let length = end - begin;
                    if length > over && begin < to {
                        gaps.push(Gap { domain: domain.clone(), group: group.to_owned(), begin, length });
                    }
                };
                for start in starts.iter().filter(|start| start.earliest > from) {
                    note(begin, start.earliest);
                    begin = start.latest;
                }
                note(begin, now - UNTIL_IT_SHOWS);
            }
        }
        gaps
    }

    /// The longest gap of these.
    pub(crate) fn longest(&self, domains: &[String], groups: &[&str], between: (f64, f64)) -> Option<Gap> {
        self.gaps(domains, groups, between, 0.0).into_iter().max_by(|a, b| a.length.total_cmp(&b.length))
    }

    /// The longest of the latencies, at most so many of a hundred left out.
    pub(crate) fn latency(&self, (from, to): (f64, f64), percent: usize) -> f64 {
        let within = self.scrapes.iter().filter(|scrape| scrape.at >= from && scrape.at < to);
        let mut times: Vec<f64> = within.map(|scrape| scrape.took).collect();
        times.sort_by(f64::total_cmp);
        times[(times.len() * percent).div_ceil(100).max(1) - 1]
    }

    /// The first moment at or after this one at which the domain was said to be responsive, or not to be.
    pub(crate) fn first_responsive(&self, domain: &str, is: bool, after: f64) -> Option<f64> {
        let changes = self.responsive.get(domain)?;
        let place = changes.iter().rposition(|&(at, _)| at <= after).unwrap_or(0);
        changes[place..].iter().find(|&&(_, now)| now == is).map(|&(at, _)| at.max(after))
    }

    /// Whether the domain was ever said to be unresponsive.
    pub(crate) fn was_unresponsive(&self, domain: &str) -> bool {
        self.responsive.get(domain).is_some_and(|changes| changes.iter().any(|&(_, responsive)| !responsive))
    }

    fn add(&mut self, sent: f64, got: f64, text: &str, all: Vec<Series>) {
        let sum = |name: &str, labels: &[(&str, &str)]| find(&all, name, labels).iter().map(|s| s.value).sum::<f64>();
        self.scrapes.push(Scrape {
            at: got,
            took: got - sent,
            up: value(&all, "libvirt_up", &[]) == Some(1.0),
            calls_open: sum("virtstatd_calls_open", &[]),
            quarantined: sum("virtstatd_quarantined_domains", &[]),
        });
        for series in &all {
            let Some(domain) = series.labels.get("domain") else { continue };
            if series.name == "libvirt_domain_sample_age_seconds" {
                let key = (domain.clone(), series.labels["group"].clone());
                add_start(self.samples.entry(key).or_default(), sent - series.value, got - series.value);
            } else if series.name == "libvirt_domain_responsive" {
                let changes = self.responsive.entry(domain.clone()).or_default();
                let responsive = series.value == 1.0;
                if changes.last().is_none_or(|&(_, last)| last != responsive) {
                    changes.push((got, responsive));
                }
            }
        }
        for line in text.lines().filter(|line| line.starts_with("libvirt_domain_")) {
            let Some((series, value)) = line.rsplit_once(' ') else { continue };
            if !series.split_once('{').is_some_and(|(name, _)| name.ends_with("_total")) {
                continue;
            }
            let value: f64 = value.parse().unwrap_or(f64::NAN);
            match self.counters.get_mut(series) {
                Some(last) => {
                    if value < *last {
                        self.resets.push(format!("{series} from {last} to {value} at {got:.3} s"));
                    }
                    *last = value;
                }
                None => {
                    self.counters.insert(series.to_owned(), value);
                }
            }
        }
        self.newest = all;
    }
}

/// The start of a sample, as one scrape tells it; the same sample as the last, or the next one.
fn add_start(starts: &mut Vec<Start>, earliest: f64, latest: f64) {
    match starts.last_mut() {
        Some(last) if earliest <= last.latest + SLACK => {
            last.earliest = last.earliest.max(earliest);
            last.latest = last.latest.min(latest);
        }
        _ => starts.push(Start { earliest, latest }),
    }
}

fn look(address: SocketAddr, begin: Instant, shared: &Mutex<Seen>) {
    let now = || begin.elapsed().as_secs_f64();
    let sent = now();
    let answer = try_request(address, "GET", "/metrics", &[], PATIENCE);
    let got = now();
    let problem = match answer {
        Err(error) => error.to_string(),
        Ok(answer) if answer.status != 200 => answer.status.to_string(),
        Ok(answer) => match catch_unwind(AssertUnwindSafe(|| parse(answer.text()))) {
            Ok(all) => {
                shared.lock().unwrap().add(sent, got, answer.text(), all);
                return;
            }
            Err(_) => "invalid, see above".to_owned(),
        },
    };
    shared.lock().unwrap().failures.push(format!("at {sent:.3} s: {problem}"));
}
