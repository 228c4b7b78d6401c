//! `/api/v1/lookup`: which domain has this MAC address, this disk, this NIC of the host's, this process?

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::Serialize;

use super::description::{DiskJson, NicJson, disk_description, nic_description};
use crate::model::{DiskDescription, Mac, NicDescription, Stamp, state_name};
use crate::store::{Domain, Key, Snapshot};

/// What a domain can be looked up by, and an example of each.
const BY: [(&str, &str); 5] = [
    ("mac", "52:54:00:12:34:56"),
    ("ip", "192.168.122.45"),
    ("nic", "vnet3"),
    ("disk", "/images/web.qcow2"),
    ("pid", "4711"),
];

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// What domains have themselves.
    Key(Key),
    /// What networks lend to them.
    Address(IpAddr),
}

/// Domains that were found.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Found<'a> {
    sequence: u64,
    domains: Vec<Hit<'a>>,
}

/// One of them, with what it was found by.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "FoundDomain")]
struct Hit<'a> {
    uuid: String,
    name: &'a str,
    running: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    nics: Vec<NicJson<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    disks: Vec<DiskJson<'a>>,
}

/// Reads the question of a query string: one parameter, `mac`, `ip`, `nic`, `disk` or `pid`.
///
/// # Errors
/// What is wrong with it, in words.
pub fn question(query: Option<&str>) -> Result<Question, String> {
    let mut parameters = form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let examples = || BY.map(|(name, example)| format!("{name}={example}")).join(", ");
    let (Some((name, value)), None) = (parameters.next(), parameters.next()) else {
        return Err(format!("one parameter is wanted, such as {}", examples()));
    };
    let key = match &*name {
        _ if value.is_empty() => Err(format!("{name} is empty; a question is such as {}", examples())),
        "mac" => Mac::parse(&value).map(Key::Mac).ok_or_else(|| {
            format!("{value:?} is no MAC address; such are 52:54:00:12:34:56, 52-54-00-12-34-56 and 5254.0012.3456")
        }),
        "ip" => {
            let address = value.parse().map(Question::Address);
            return address.map_err(|_| format!("{value:?} is no IP address; such are 192.168.122.45 and 2001:db8::1"));
        }
        "nic" => Ok(Key::Nic(value.into())),
        "disk" => Ok(Key::Disk(value.into())),
        "pid" => value.parse().map(Key::Pid).map_err(|_| format!("{value:?} is no process id, which is a number")),
        _ => Err(format!("{name:?} is nothing to look up by; a question is such as {}", examples())),
    };
    key.map(Question::Key)
}

/// Every domain that a question is about, by name; `now` says which leases have ended.
///
/// # Errors
/// Why there is none, in words.
pub fn lookup<'a>(snapshot: &'a Snapshot, question: &Question, now: Stamp) -> Result<Found<'a>, String> {
    let key = match question {
        Question::Key(key) => Some(key.clone()),
        Question::Address(address) => snapshot.leased(*address, now).map_err(unknown)?.map(Key::Mac),
    };
    let hits = |key: &Key| snapshot.lookup(key).into_iter().map(|domain| hit(domain, key)).collect();
    let domains: Vec<Hit<'a>> = key.as_ref().map(hits).unwrap_or_default();
    if !domains.is_empty() {
        return Ok(Found { sequence: snapshot.sequence, domains });
    }
    Err(match question {
        Question::Key(_) => "no domain of this host has it".to_owned(),
        Question::Address(address) => {
            format!("no libvirt network of this host has leased {address} to a domain of it, and {NOT_ASKED}")
        }
    })
}

fn unknown(problem: &str) -> String {
    format!("the addresses that libvirt's networks have leased are not known ({problem}), and {NOT_ASKED}")
}

/// Why an address may not be known though a guest has it.
const NOT_ASKED: &str =
    "an address that a guest has from elsewhere is known to its agent alone, which a read-only connection may not ask";

fn hit<'a>(domain: &'a Domain, key: &Key) -> Hit<'a> {
    let (nics, disks) = domain.description.as_deref().map(|it| (&it.nics[..], &it.disks[..])).unwrap_or_default();
    let is_nic = |nic: &&'a NicDescription| match key {
        Key::Mac(mac) => Mac::parse(&nic.mac) == Some(*mac),
        Key::Nic(name) => nic.target == *name,
        Key::Disk(_) | Key::Pid(_) => false,
    };
    let is_disk = |disk: &&'a DiskDescription| match key {
        Key::Disk(text) => disk.source == *text || disk.serial == *text,
        _ => false,
    };
    Hit {
        uuid: domain.id.to_string(),
        name: &domain.name,
        running: domain.run.is_some(),
        state: domain.state().and_then(|sampled| sampled.figures.state).map(state_name),
        pid: domain.pid,
        nics: nics.iter().filter(is_nic).map(nic_description).collect(),
        disks: disks.iter().filter(is_disk).map(disk_description).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_one_parameter_of_those_that_are_known() {
        let key = |query: &str| match question(Some(query)) {
            Ok(Question::Key(key)) => Some(key),
            _ => None,
        };
        assert_eq!(key("mac=52%3a54:00:AB:cd:ef"), Mac::parse("525400ABCDEF").map(Key::Mac));
        assert_eq!(key("disk=%2fimages/a+b%C3%BC"), Some(Key::Disk("/images/a bü".into())));
        assert_eq!(key("nic=vnet3"), Some(Key::Nic("vnet3".into())));
        assert_eq!(key("pid=4711"), Some(Key::Pid(4711)));
        let address = "2001:db8::1".parse().map(Question::Address).map_err(|_| String::new());
        assert_eq!(question(Some("ip=2001:db8:0::1")), address);
        for (bad, word) in [
            (None, "one parameter"),
            (Some(""), "one parameter"),
            (Some("mac=525400abcdef&pid=3"), "one parameter"),
            (Some("mac="), "empty"),
            (Some("mac=52:54"), "no MAC address"),
            (Some("pid=-3"), "no process id"),
            (Some("ip=1.2.3"), "no IP address"),
            (Some("pid=99999999999"), "no process id"),
            (Some("mak=525400abcdef"), "nothing to look up by"),
        ] {
            let error = question(bad).expect_err("refused");
            assert!(error.contains(word), "{bad:?}: {error}");
        }
    }
}
