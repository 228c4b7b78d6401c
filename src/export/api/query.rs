//! What the query string of `/api/v1/domains` asks for.

use std::borrow::Cow;

use wildmatch::WildMatch;

use super::Fields;
use crate::model::{DomainId, state_name};
use crate::store::Domain;

/// Names of states that can be chosen.
pub(super) const STATES: [&str; 9] =
    ["no_state", "running", "blocked", "paused", "shutdown", "shutoff", "crashed", "pmsuspended", "unknown"];
/// Domains that one answer may be limited to at most.
pub(super) const MOST: usize = 100_000;
/// A pattern has so many characters at most; it is matched with each domain, and no name is longer.
pub(super) const PATTERN: usize = 255;
/// Patterns of each kind at most.
pub(super) const PATTERNS: usize = 8;

/// Which domains, and what of each.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// A bit for each of [`STATES`]; none for all.
    states: u16,
    names: Vec<WildMatch>,
    metadata: Vec<(String, Option<WildMatch>)>,
    /// What of each domain.
    pub fields: Fields,
    /// With what depends on the moment of asking?
    pub ages: bool,
    /// So many domains at most.
    pub limit: Option<usize>,
    /// Domains behind this one.
    pub after: Option<Cursor>,
}

impl Default for Query {
    fn default() -> Self {
        Self {
            states: 0,
            names: Vec::new(),
            metadata: Vec::new(),
            fields: Fields::ALL,
            ages: true,
            limit: None,
            after: None,
        }
    }
}

/// The place of a domain in the list. It holds whether that domain is still there or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    name: String,
    id: DomainId,
}

impl Cursor {
    /// Behind that domain.
    #[must_use]
    pub fn behind(domain: &Domain) -> Self {
        Self { name: domain.name.to_string(), id: domain.id }
    }

    /// Reads what [`Display`](std::fmt::Display) wrote.
    fn parse(text: &str) -> Option<Self> {
        let (id, name) = text.split_once('.')?;
        Some(Self { name: name.to_owned(), id: DomainId::parse(id)? })
    }

    /// Is that domain behind this place?
    #[must_use]
    pub fn is_before(&self, domain: &Domain) -> bool {
        (self.name.as_str(), self.id) < (&*domain.name, domain.id)
    }
}

/// `UUID.NAME`.
impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.id, self.name)
    }
}

impl Query {
    /// Reads a query string about the list of domains.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn of_list(query: Option<&str>) -> Result<Self, String> {
        Self::parse(query, &["state", "name", "metadata", "fields", "ages", "limit", "cursor"])
    }

    /// Reads a query string about one domain.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn of_domain(query: Option<&str>) -> Result<Self, String> {
        Self::parse(query, &["fields", "ages"])
    }

    /// Reads a query string about the stream of changes.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn of_stream(query: Option<&str>) -> Result<Self, String> {
        let asked = Self::parse(query, &["state", "name", "metadata", "fields"])?;
        // Without its UUID nobody could tell which domain a message is about.
        Ok(Self { ages: false, fields: asked.fields.or(Fields::NAMES), ..asked })
    }

    fn parse(query: Option<&str>, known: &[&str]) -> Result<Self, String> {
        let mut asked = Self::default();
        let mut seen: Vec<Cow<'_, str>> = Vec::new();
        for (name, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            if !known.contains(&&*name) {
                return Err(format!("{name:?} is no parameter here; there are {}", known.join(", ")));
            }
            let may_repeat = matches!(&*name, "state" | "name" | "metadata");
            if !may_repeat && seen.contains(&name) {
                return Err(format!("{name} is given twice"));
            }
            asked.take(&name, &value)?;
            seen.push(name);
        }
        Ok(asked)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), String> {
        match name {
            "state" => {
                for state in value.split(',') {
                    let bit = state_bit(state);
                    let bit = bit.ok_or_else(|| format!("{state:?} is no state; there are {}", STATES.join(", ")));
                    self.states |= bit?;
                }
            }
            "name" => {
                check(name, value, self.names.len())?;
                self.names.push(WildMatch::new(value));
            }
            "metadata" => {
                check(name, value, self.metadata.len())?;
                let (key, wanted) = value.split_once('=').map_or((value, None), |(key, wanted)| (key, Some(wanted)));
                if key.is_empty() {
                    return Err("metadata wants a key, as in metadata=nova:instance/nova:name or, with a value or pattern, metadata=app/tier=gold*".to_owned());
                }
                self.metadata.push((key.to_owned(), wanted.map(WildMatch::new)));
            }
            "fields" => self.fields = Fields::parse(value)?,
            "ages" => {
                self.ages = match value {
                    "true" => true,
                    "false" => false,
                    _ => return Err(format!("ages is {value:?}; it must be true or false")),
                }
            }
            "limit" => {
                let limit = value.parse().ok().filter(|limit| (1..=MOST).contains(limit));
                let limit = limit.ok_or_else(|| {
                    format!("a limit of {value:?} is not possible; it is a whole number from 1 to {MOST}")
                });
                self.limit = Some(limit?);
            }
            "cursor" => {
                let cursor = Cursor::parse(value);
                let cursor = cursor.ok_or_else(|| {
                    format!("{value:?} is no cursor; take the next_cursor of an answer before, percent-encoded")
                });
                self.after = Some(cursor?);
            }
            _ => return Err(format!("{name:?} is no parameter here")),
        }
        Ok(())
    }

    /// Is that domain asked for?
    #[must_use]
    pub fn wants(&self, domain: &Domain) -> bool {
        let state = || domain.state().and_then(|sampled| sampled.figures.state).map(state_name);
        let has = |(key, wanted): &(String, Option<WildMatch>)| {
            let metadata = domain.description.as_ref().map_or(&[][..], |it| &it.metadata);
            let mut values = metadata.iter().filter(|entry| *entry.key == **key);
            values.any(|entry| wanted.as_ref().is_none_or(|wanted| wanted.matches(&entry.value)))
        };
        (self.states == 0 || state().and_then(state_bit).is_some_and(|bit| self.states & bit != 0))
            && (self.names.is_empty() || self.names.iter().any(|name| name.matches(&domain.name)))
            && self.metadata.iter().all(has)
    }
}

fn state_bit(state: &str) -> Option<u16> {
    STATES.iter().position(|known| *known == state).map(|place| 1 << place)
}

/// May there be one more pattern, and of that length?
fn check(parameter: &str, text: &str, before: usize) -> Result<(), String> {
    let length = text.chars().count();
    if length > PATTERN {
        return Err(format!("{parameter} is a pattern of {length} characters; {PATTERN} are possible"));
    }
    if before >= PATTERNS {
        return Err(format!("{parameter} is given more than {PATTERNS} times"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_which_domains_and_what_of_each() {
        let query =
            Query::of_list(Some("state=running,paused&state=crashed&name=web-*&limit=10&ages=false&fields=name"));
        let query = query.expect("good");
        let states = ["running", "paused", "crashed"].into_iter().filter_map(state_bit).sum::<u16>();
        assert_eq!(query.states, states);
        assert_eq!((query.limit, query.ages, query.fields), (Some(10), false, Fields::parse("name").expect("good")));
        let id = DomainId::from_bytes([7; 16]);
        let cursor = Cursor { name: "a.b c".to_owned(), id };
        let text: String =
            form_urlencoded::Serializer::new(String::new()).append_pair("cursor", &cursor.to_string()).finish();
        assert_eq!(Query::of_list(Some(&text)).expect("good").after, Some(cursor));
        assert_eq!(Query::of_list(None), Ok(Query::default()));
        assert_eq!(Query::of_list(Some("")), Ok(Query::default()));
    }

    #[test]
    fn every_mistake_is_named() {
        for (bad, word) in [
            ("stat=running", "\"stat\" is no parameter here; there are state, name"),
            ("state=Running", "\"Running\" is no state; there are no_state"),
            ("state=", "is no state"),
            ("limit=0", "a limit of \"0\" is not possible"),
            ("limit=-1", "whole number"),
            ("limit=99999999999999999999", "whole number"),
            ("limit=1&limit=2", "limit is given twice"),
            ("cursor=x", "\"x\" is no cursor"),
            ("cursor=", "is no cursor"),
            ("fields=nam", "is no field"),
            ("ages=0", "must be true or false"),
            ("metadata==x", "metadata wants a key"),
            ("name=%FF%FE&x", "\"x\" is no parameter"),
        ] {
            let error = Query::of_list(Some(bad)).expect_err(bad);
            assert!(error.contains(word), "{bad}: {error}");
        }
        let long = format!("name={}", "a".repeat(PATTERN + 1));
        assert!(Query::of_list(Some(&long)).expect_err("long").contains("pattern of 256 characters"));
        let many = "name=a&".repeat(PATTERNS + 1);
        assert!(Query::of_list(Some(&many)).expect_err("many").contains("more than 8 times"));
        assert!(Query::of_domain(Some("limit=1")).expect_err("not here").contains("there are fields, ages"));
    }

    #[test]
    fn each_state_that_is_told_can_be_asked_for() {
        assert!((-1..10).all(|state| STATES.contains(&state_name(state))));
    }
}
