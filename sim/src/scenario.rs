//! Scenario files: which guests there are, and what happens when.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use thiserror::Error;
use toml::{Spanned, Table, Value};

use crate::command::Command;
use crate::control;
use crate::daemon::Daemon;
use crate::host::Host;
use crate::values::Time;

/// What a scenario file says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scenario {
    /// Where what looks random comes from.
    pub seed: Option<u64>,
    /// How many guests there are, shut-off ones included.
    pub domains: Option<u32>,
    /// How many of a thousand are shut off.
    pub shut_off: Option<u32>,
    /// What happens.
    pub entries: Vec<Entry>,
}

/// Something that happens.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// How long after the start.
    pub after: Duration,
    /// And then again each time so much later.
    pub every: Option<Duration>,
    /// What.
    pub command: Command,
    /// Where it was written.
    pub line: usize,
}

/// What is wrong with a scenario.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ScenarioError {
    /// No TOML, or not of this shape.
    #[error("{0}")]
    Shape(String),
    /// An entry that cannot be understood.
    #[error("line {line}: {what}")]
    Entry {
        /// Where the entry begins.
        line: usize,
        /// Why.
        what: String,
    },
    /// A domain that there is not when the scenario begins.
    #[error("line {line}: no domain '{domain}' among the guests of seed {seed}; 'virsh list --all' shows them")]
    NoDomain {
        /// Where the entry begins.
        line: usize,
        /// Who.
        domain: String,
        /// The seed in force.
        seed: u64,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    seed: Option<u64>,
    domains: Option<u32>,
    shut_off: Option<u32>,
    #[serde(default)]
    at: Vec<Spanned<Table>>,
}

impl Scenario {
    /// Reads a scenario file's text.
    ///
    /// # Errors
    /// [`ScenarioError`], with the place.
    pub fn parse(text: &str) -> Result<Self, ScenarioError> {
        let File { seed, domains, shut_off, at } =
            toml::from_str(text).map_err(|error| ScenarioError::Shape(error.to_string()))?;
        if let Some(share) = shut_off.filter(|share| *share > 1000) {
            return Err(ScenarioError::Shape(format!("shut-off = {share} is above 1000, which is all of them")));
        }
        let entries = at.into_iter().map(|table| {
            let line = 1 + text.get(..table.span().start).unwrap_or_default().matches('\n').count();
            entry(table.into_inner(), line).map_err(|what| ScenarioError::Entry { line, what })
        });
        Ok(Self { seed, domains, shut_off, entries: entries.collect::<Result<_, _>>()? })
    }

    /// Are the domains there that it names?
    pub(crate) fn check(&self, host: &Host) -> Result<(), ScenarioError> {
        for Entry { command, line, .. } in &self.entries {
            // Of the many shapes only one field is of interest.
            let domain =
                serde_json::to_value(command).ok().and_then(|fields| Some(fields.get("domain")?.as_str()?.to_owned()));
            if let Some(domain) = domain.filter(|domain| !control::exists(host, domain)) {
                return Err(ScenarioError::NoDomain { line: *line, domain, seed: host.plan().seed });
            }
        }
        Ok(())
    }
}

fn entry(mut table: Table, line: usize) -> Result<Entry, String> {
    let mut time = |key: &str| {
        let value = table.remove(key);
        let text = value.map(|value| match value {
            Value::String(text) => Ok(text),
            _ => Err(format!("'{key}' is no time, as \"10s\" is")),
        });
        text.transpose()?.map(|text| text.parse::<Time>().map(|time| time.0)).transpose()
    };
    let after = time("after")?.ok_or("there is no 'after': when does it happen?")?;
    let every = time("every")?;
    if every.is_some_and(|every| every.is_zero()) {
        return Err("every = \"0s\" would never end".to_owned());
    }
    if !table.contains_key("command") {
        return Err("there is no 'command': what happens?".to_owned());
    }
    let command = Command::deserialize(table).map_err(|error| error.message().to_owned())?;
    Ok(Entry { after, every, command, line })
}

/// Lets it happen.
pub(crate) fn run(daemon: &Arc<Daemon>, scenario: Scenario) {
    for entry in scenario.entries {
        let daemon = Arc::clone(daemon);
        tokio::spawn(async move {
            let Entry { after, every, command, line } = entry;
            tokio::time::sleep(after).await;
            loop {
                match daemon.execute(command.clone()).await {
                    Ok(_) => tracing::info!(line, ?command, "scenario"),
                    Err(error) => tracing::error!(line, ?command, %error, "scenario"),
                }
                let Some(every) = every else { return };
                tokio::time::sleep(every).await;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::SystemTime;

    use super::*;
    use crate::command::Guests;
    use crate::host::Plan;

    const DEMO: &str = include_str!("../scenarios/demo.toml");

    #[test]
    fn the_shipped_scenario_is_good() {
        let scenario = Scenario::parse(DEMO).unwrap();
        let domains = scenario.domains.unwrap();
        let plan = Plan { seed: scenario.seed.unwrap(), domains, shut_off_per_mille: 0, begun: SystemTime::UNIX_EPOCH };
        assert_eq!((domains, scenario.check(&Host::new(plan))), (50, Ok(())));
    }

    #[test]
    fn entries_are_read() {
        let text = "seed = 3\n[[at]]\nafter = \"10s\"\nevery = \"1m\"\ncommand = \"freeze\"\ncount = 2\n";
        let scenario = Scenario::parse(text).unwrap();
        let entry = Entry {
            after: Duration::from_secs(10),
            every: Some(Duration::from_secs(60)),
            command: Command::Freeze(Guests::some(2)),
            line: 2,
        };
        assert_eq!(scenario, Scenario { seed: Some(3), entries: vec![entry], ..Scenario::default() });
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        let at = "# one\n[[at]]\nafter = \"1s\"\n";
        for (text, expected) in [
            ("sede = 1".to_owned(), "sede"),
            ("shut-off = 1001".to_owned(), "1001"),
            ("[[at]]\ncommand = \"status\"".to_owned(), "line 1: there is no 'after'"),
            (at.to_owned(), "line 2: there is no 'command'"),
            (at.replace("1s", "soon"), "line 2: 'soon' is no time"),
            (at.replace("\"1s\"", "1"), "line 2: 'after' is no time"),
            (format!("{at}command = \"fly\""), "line 2: unknown variant `fly`"),
            (format!("{at}command = \"freeze\"\ndomian = \"x\""), "line 2: unknown field `domian`"),
            (format!("{at}command = \"clear\"\nall = true"), "line 2: unknown field `all`"),
            (format!("{at}command = \"latency\"\ndistribution = \"slow\""), "line 2: 'slow' is no time"),
            (format!("{at}command = \"fail\"\ncode = 1\nshare = 1.5"), "line 2: 1.5 is no share"),
            (
                format!("{at}command = \"damage\"\nkind = \"half-then-close\"\nprocedure = \"Fly\""),
                "line 2: no procedure 'Fly'",
            ),
        ] {
            let error = Scenario::parse(&text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}\n{error}");
        }
    }

    #[test]
    fn a_domain_that_there_is_not_is_named() {
        let text = "[[at]]\nafter = \"1s\"\ncommand = \"lock\"\ndomain = \"nobody\"";
        let host = Host::new(Plan { seed: 5, domains: 3, shut_off_per_mille: 0, begun: SystemTime::UNIX_EPOCH });
        let error = Scenario::parse(text).unwrap().check(&host).unwrap_err().to_string();
        assert!(error.starts_with("line 1: no domain 'nobody' among the guests of seed 5"), "{error}");
    }
}
