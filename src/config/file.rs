//! The shape of the file. Each value checks itself, so that the error carries its line.

use std::fmt;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::de::{Deserializer, Error, Visitor};
use serde::{Deserialize, de};

use super::defaults;
use super::settings::LogLevel;
use crate::model::Group;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct File {
    pub(super) libvirt: Libvirt,
    pub(super) http: Http,
    pub(super) sampling: Sampling,
    pub(super) host: Host,
    pub(super) export: Export,
    pub(super) vdsm: Vdsm,
    pub(super) log: Log,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Libvirt {
    pub(super) uri: Option<Checked<Uri>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Http {
    pub(super) listen: Option<Checked<Listen>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Sampling {
    pub(super) groups: Option<Checked<Groups>>,
    pub(super) period: Option<Checked<GeneralPeriod>>,
    pub(super) periods: Periods,
    pub(super) workers: Option<Checked<Workers>>,
    pub(super) budget: Option<Checked<Budget>>,
}

/// One key a group, and one each for the cross-check, the inventory and the host.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Periods {
    state: Option<Checked<Period>>,
    cpu: Option<Checked<Period>>,
    vcpu: Option<Checked<Period>>,
    interface: Option<Checked<Period>>,
    block: Option<Checked<Period>>,
    balloon: Option<Checked<Period>>,
    block_info: Option<Checked<Period>>,
    kernel: Option<Checked<KernelPeriod>>,
    pub(super) cross_check: Option<Checked<Period>>,
    pub(super) inventory: Option<Checked<Period>>,
    pub(super) host: Option<Checked<Period>>,
}

impl Periods {
    pub(super) fn of(&self, group: Group) -> Option<Duration> {
        let period = match group {
            Group::Kernel => return self.kernel.as_ref().map(|period| period.0),
            Group::State => &self.state,
            Group::Cpu => &self.cpu,
            Group::Vcpu => &self.vcpu,
            Group::Interface => &self.interface,
            Group::Block => &self.block,
            Group::Balloon => &self.balloon,
            Group::BlockInfo => &self.block_info,
        };
        period.as_ref().map(|period| period.0)
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Host {
    pub(super) paths: Option<Checked<Paths>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Export {
    pub(super) timestamps: bool,
    pub(super) host_metrics: bool,
    pub(super) minute_metrics: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Vdsm {
    pub(super) stomp_listen: Option<Checked<StompListen>>,
    pub(super) tls_certificate: Option<Checked<PemFile>>,
    pub(super) tls_key: Option<Checked<PemFile>>,
    pub(super) tls_ca: Option<Checked<PemFile>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Log {
    pub(super) level: Option<Checked<LogLevel>>,
}

/// A value that is read and checked in one step.
pub(super) trait Check {
    type Value;
    const EXPECTED: &'static str;

    fn text(_: &str) -> Option<Result<Self::Value, String>> {
        None
    }
    fn number(_: i64) -> Option<Result<Self::Value, String>> {
        None
    }
    fn list(_: Vec<String>) -> Option<Result<Self::Value, String>> {
        None
    }
}

pub(super) struct Checked<C: Check>(pub(super) C::Value);

impl<C: Check> fmt::Debug for Checked<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(C::EXPECTED)
    }
}

impl<'de, C: Check> Deserialize<'de> for Checked<C> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CheckVisitor(PhantomData::<C>)).map(Self)
    }
}

struct CheckVisitor<C>(PhantomData<C>);

impl<'de, C: Check> Visitor<'de> for CheckVisitor<C> {
    type Value = C::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(C::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<C::Value, E> {
        let checked = C::text(text).ok_or_else(|| E::invalid_type(de::Unexpected::Str(text), &self))?;
        checked.map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<C::Value, E> {
        let checked = C::number(number).ok_or_else(|| E::invalid_type(de::Unexpected::Signed(number), &self))?;
        checked.map_err(E::custom)
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut items: A) -> Result<C::Value, A::Error> {
        let mut texts = Vec::new();
        while let Some(text) = items.next_element::<String>()? {
            texts.push(text);
        }
        let checked = C::list(texts).ok_or_else(|| A::Error::invalid_type(de::Unexpected::Seq, &self))?;
        checked.map_err(A::Error::custom)
    }
}

/// `15s`, `1m 30s`.
pub(super) struct Period;

impl Check for Period {
    type Value = Duration;
    const EXPECTED: &'static str = r#"a duration with its unit, such as "15s" or "1m""#;

    fn text(text: &str) -> Option<Result<Duration, String>> {
        Some(own_period(text, defaults::SHORTEST_PERIOD, Self::EXPECTED))
    }
}

/// The same, but what asks nobody may be asked more often: `100ms`.
pub(super) struct KernelPeriod;

impl Check for KernelPeriod {
    type Value = Duration;
    const EXPECTED: &'static str = r#"a duration with its unit, such as "5s" or "200ms""#;

    fn text(text: &str) -> Option<Result<Duration, String>> {
        Some(own_period(text, defaults::SHORTEST_KERNEL_PERIOD, Self::EXPECTED))
    }
}

fn own_period(text: &str, shortest: Duration, expected: &str) -> Result<Duration, String> {
    if text == AUTO { Err(NOT_AUTO.to_owned()) } else { duration(text, shortest, expected) }
}

/// The period that follows the scraper's.
const AUTO: &str = "auto";
const NOT_AUTO: &str =
    r#"only sampling.period can be "auto"; expected a duration with its unit, such as "15s" or "1m""#;

/// The period of all that has none of its own; `None` is "auto".
pub(super) struct GeneralPeriod;

impl Check for GeneralPeriod {
    type Value = Option<Duration>;
    const EXPECTED: &'static str = r#"a duration with its unit, such as "15s" or "1m", or "auto""#;

    fn text(text: &str) -> Option<Result<Option<Duration>, String>> {
        let shortest = defaults::SHORTEST_PERIOD;
        Some(if text == AUTO { Ok(None) } else { duration(text, shortest, Self::EXPECTED).map(Some) })
    }
}

fn duration(text: &str, shortest: Duration, expected: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Err(error) => Err(format!("{text:?} is no duration ({error}); expected {expected}")),
        Ok(period) if (shortest..=defaults::LONGEST_PERIOD).contains(&period) => Ok(period),
        Ok(_) => Err(format!(
            "a period of {text:?} is out of range; expected {} to {}",
            humantime::format_duration(shortest),
            humantime::format_duration(defaults::LONGEST_PERIOD),
        )),
    }
}

pub(super) struct Workers;

impl Check for Workers {
    type Value = usize;
    const EXPECTED: &'static str = "a whole number of threads, from 1 to 3";

    fn number(number: i64) -> Option<Result<usize, String>> {
        let workers = usize::try_from(number).ok().filter(|count| (1..=defaults::MOST_WORKERS).contains(count));
        Some(workers.ok_or_else(|| format!("{number} workers are not possible; expected {}", Self::EXPECTED)))
    }
}

pub(super) struct Budget;

impl Check for Budget {
    type Value = usize;
    const EXPECTED: &'static str = "a whole number of calls, from 1 to 20; 4 is the default, and the most that is safe";

    fn number(number: i64) -> Option<Result<usize, String>> {
        let budget = usize::try_from(number).ok().filter(|count| (1..=defaults::MOST_BUDGET).contains(count));
        Some(budget.ok_or_else(|| format!("a budget of {number} calls is not possible; expected {}", Self::EXPECTED)))
    }
}

pub(super) struct Groups;

impl Check for Groups {
    type Value = Vec<Group>;
    const EXPECTED: &'static str = r#"a list of stats groups, such as ["state", "cpu"]"#;

    fn list(names: Vec<String>) -> Option<Result<Vec<Group>, String>> {
        let mut groups = Vec::new();
        for name in names {
            let Some(group) = Group::from_label(&name) else {
                let known = Group::ALL.map(|group| format!("{:?}", group.label())).join(", ");
                return Some(Err(format!("unknown stats group {name:?}; expected one of {known}")));
            };
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
        let none = || format!("no stats group at all; expected {}, or leave the key out for all", Self::EXPECTED);
        Some(if groups.is_empty() { Err(none()) } else { Ok(groups) })
    }
}

pub(super) struct Listen;

impl Check for Listen {
    type Value = Vec<SocketAddr>;
    const EXPECTED: &'static str = r#"a list of addresses with port, such as ["127.0.0.1:9177", "[::1]:9177"]"#;

    fn list(texts: Vec<String>) -> Option<Result<Vec<SocketAddr>, String>> {
        Some(addresses(&texts).and_then(|addresses| {
            if addresses.is_empty() {
                Err(format!("no address at all; expected {}", Self::EXPECTED))
            } else {
                Ok(addresses)
            }
        }))
    }
}

fn addresses(texts: &[String]) -> Result<Vec<SocketAddr>, String> {
    let addresses: Vec<_> = texts.iter().map(|text| parse_listen(text)).collect::<Result<_, _>>()?;
    match addresses.iter().enumerate().find(|(at, it)| addresses[..*at].contains(it)) {
        Some((_, twice)) => Err(format!("{twice} is listed twice; expected each address once")),
        None => Ok(addresses),
    }
}

/// The same, but none at all is a choice.
pub(super) struct StompListen;

impl Check for StompListen {
    type Value = Vec<SocketAddr>;
    const EXPECTED: &'static str = r#"a list of addresses with port, such as ["127.0.0.1:54321"], or [] for none"#;

    fn list(texts: Vec<String>) -> Option<Result<Vec<SocketAddr>, String>> {
        Some(addresses(&texts))
    }
}

/// A PEM file; whether it is there and what is in it is looked at when it is needed.
pub(super) struct PemFile;

impl Check for PemFile {
    type Value = PathBuf;
    const EXPECTED: &'static str = r#"the path of a PEM file, such as "/etc/pki/vdsm/certs/vdsmcert.pem""#;

    fn text(text: &str) -> Option<Result<PathBuf, String>> {
        Some(if text.starts_with('/') && !text.contains('\0') {
            Ok(text.into())
        } else {
            Err(format!("{text:?} is no absolute path; expected {}", Self::EXPECTED))
        })
    }
}

/// An address to listen on.
pub(super) fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!(
            "{text:?} is no address to listen on; expected IP:PORT, such as 127.0.0.1:9177, 0.0.0.0:9177 or [::]:9177"
        )
    })
}

/// Directories or files, on whose file systems free space is looked at.
pub(super) struct Paths;

impl Check for Paths {
    type Value = Vec<String>;
    const EXPECTED: &'static str = r#"a list of paths, such as ["/", "/var/lib/libvirt/images"]"#;

    fn list(paths: Vec<String>) -> Option<Result<Vec<String>, String>> {
        let bad = |(at, path): (usize, &String)| {
            if !path.starts_with('/') || path.contains('\0') {
                Some(format!("{path:?} is no absolute path; expected one that begins with a slash, such as \"/srv\""))
            } else if paths[..at].contains(path) {
                Some(format!("{path:?} is listed twice; expected each path once"))
            } else {
                None
            }
        };
        let most = defaults::MOST_HOST_PATHS;
        Some(match paths.iter().enumerate().find_map(bad) {
            Some(error) => Err(error),
            None if paths.len() > most => {
                Err(format!("{} paths are too many; expected {most} at most, since each has a thread", paths.len()))
            }
            None => Ok(paths),
        })
    }
}

pub(super) struct Uri;

impl Check for Uri {
    type Value = String;
    const EXPECTED: &'static str = r#"a libvirt URI, such as "qemu:///system""#;

    fn text(text: &str) -> Option<Result<String, String>> {
        Some(parse_uri(text))
    }
}

/// A libvirt URI; libvirt itself says later whether it knows the driver.
pub(super) fn parse_uri(text: &str) -> Result<String, String> {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    let valid = |scheme: &str| {
        !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
    };
    if scheme.is_some_and(valid) && !text.contains('\0') {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no libvirt URI; expected DRIVER:///PATH, such as qemu:///system or test:///default"))
    }
}

impl Check for LogLevel {
    type Value = Self;
    const EXPECTED: &'static str = r#"one of "error", "warn", "info", "debug", "trace""#;

    fn text(text: &str) -> Option<Result<Self, String>> {
        Some(text.parse())
    }
}
