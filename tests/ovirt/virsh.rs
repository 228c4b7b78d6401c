//! What virsh said at many moments, and what lies between.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::support::lab::virsh;
use crate::support::wait_for;

/// One `virsh domstats`, by guest and key, and when it began and ended.
pub(crate) struct Seen {
    pub(crate) begin: SystemTime,
    pub(crate) end: SystemTime,
    pub(crate) guests: HashMap<String, HashMap<String, String>>,
}

/// A guest of which another call asks at that moment, such as the service's own, is told about in part only: then once more.
pub(crate) fn domstats() -> Seen {
    wait_for("virsh to tell all of each guest", || {
        let begin = SystemTime::now();
        let text = virsh(&["domstats", "--nowait", "--raw"]);
        let end = SystemTime::now();
        let guests = parsed(&text);
        let whole = |it: &HashMap<String, String>| it.contains_key("block.0.rd.reqs") && it.contains_key("balloon.rss");
        guests.values().all(whole).then_some(Seen { begin, end, guests })
    })
}

fn parsed(text: &str) -> HashMap<String, HashMap<String, String>> {
    let mut guests: HashMap<String, HashMap<String, String>> = HashMap::new();
    let mut name = String::new();
    for line in text.lines() {
        if let Some(domain) = line.strip_prefix("Domain: ") {
            domain.trim_matches('\'').clone_into(&mut name);
        } else if let Some((key, value)) = line.trim().split_once('=') {
            guests.entry(name.clone()).or_default().insert(key.to_owned(), value.to_owned());
        }
    }
    guests
}

impl Seen {
    pub(crate) fn number(&self, guest: &str, key: &str) -> Option<f64> {
        self.guests.get(guest)?.get(key)?.parse().ok()
    }

    /// The number of a device in this reply.
    pub(crate) fn index(&self, guest: &str, of: &str, name: &str) -> Option<usize> {
        let it = self.guests.get(guest)?;
        (0..64).find(|n| it.get(&format!("{of}.{n}.name")).is_some_and(|found| found == name))
    }

    /// A counter of a device.
    pub(crate) fn device(&self, guest: &str, of: &str, name: &str, key: &str) -> Option<f64> {
        self.number(guest, &format!("{of}.{}.{key}", self.index(guest, of, name)?))
    }
}

/// What was seen at many moments.
pub(crate) struct Course(pub(crate) Vec<Seen>);

impl Course {
    /// The least and the most that a counter can have been at that moment: what was last seen before it, and first after it.
    pub(crate) fn at(&self, moment: SystemTime, of: impl Fn(&Seen) -> Option<f64>) -> Option<(f64, f64)> {
        let before = self.0.iter().filter(|seen| seen.end <= moment).filter_map(&of).next_back()?;
        // A sample is told to the millisecond.
        let after = self.0.iter().filter(|seen| seen.begin >= moment + Duration::from_millis(1)).find_map(&of)?;
        Some((before, after))
    }
}

/// Collects what does not agree, and counts what was compared.
#[derive(Default)]
pub(crate) struct Verdict {
    pub(crate) wrong: Vec<String>,
    pub(crate) compared: BTreeMap<String, usize>,
}

impl Verdict {
    pub(crate) fn note(&mut self, guest: &str, field: &str, is_so: bool, what: impl FnOnce() -> String) {
        // Devices differ in their names alone.
        let kind = field.split('[').next().unwrap().to_owned()
            + field.rsplit(']').next().filter(|_| field.contains(']')).unwrap_or("");
        *self.compared.entry(kind).or_default() += 1;
        if !is_so {
            self.wrong.push(format!("{guest}: {field}: {}", what()));
        }
    }

    pub(crate) fn same(&mut self, guest: &str, field: &str, told: &Value, expected: &Value) {
        self.note(guest, field, told == expected, || format!("{told}, not {expected}"));
    }

    /// A number in a string, between two others.
    pub(crate) fn between(&mut self, guest: &str, field: &str, told: &Value, limits: Option<(f64, f64)>, slack: f64) {
        let number = told.as_str().and_then(|text| text.parse::<f64>().ok());
        let is_so = match (number, limits) {
            (Some(number), Some((low, high))) => low - slack <= number && number <= high + slack,
            // What libvirt does not say, we do not either.
            (None, None) => told.is_null(),
            _ => false,
        };
        self.note(guest, field, is_so, || format!("{told}, not in {limits:?}"));
    }
}

/// From what a counter can have been at both moments, how fast it can have grown.
pub(crate) fn rate(first: (f64, f64), second: (f64, f64), seconds: f64) -> (f64, f64) {
    ((second.0 - first.1).max(0.0) / seconds, (second.1 - first.0).max(0.0) / seconds)
}
