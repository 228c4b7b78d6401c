//! The checked configuration: what the rest of the program sees.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::defaults;
use super::error::ConfigError;
use super::file::{self, File};
use crate::model::{Group, GroupSet};

/// Everything that can be set, with defaults filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// What to connect to.
    pub uri: String,
    /// Where to serve.
    pub listen: Vec<SocketAddr>,
    /// What to sample, and how often.
    pub sampling: Sampling,
    /// How to look at the host itself.
    pub host: Host,
    /// How to write /metrics.
    pub export: Export,
    /// How to carry what is VDSM's.
    pub vdsm: Vdsm,
    /// How much to log.
    pub log_level: LogLevel,
    /// What works, and is probably not meant.
    pub warnings: Vec<String>,
}

/// What to sample, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampling {
    /// Stats groups, each with its period.
    pub groups: Vec<(Group, Duration)>,
    /// The general period, that of groups without one of their own; if `auto`, the one to start with.
    pub period: Duration,
    /// Does the general period follow the scraper's interval?
    pub auto: bool,
    /// Groups with a period of their own, which stays.
    pub own_period: GroupSet,
    /// How often libvirt is asked, to compare, for what the kernel tells.
    pub cross_check: Duration,
    /// Period of the list of domains and their XML.
    pub inventory: Duration,
    /// Threads for groups that enter the monitor.
    pub workers: usize,
    /// Calls open at libvirtd at most.
    pub budget: usize,
}

impl Sampling {
    /// Does that group's period follow the scraper's interval? Never that of block info, which has a default of its own.
    #[must_use]
    pub fn follows(&self, group: Group) -> bool {
        self.auto && group.is_bulk() && !self.own_period.contains(group)
    }

    /// How often the kernel is looked at; `None` if it is not.
    #[must_use]
    pub fn kernel(&self) -> Option<Duration> {
        self.groups.iter().find(|(group, _)| *group == Group::Kernel).map(|(_, period)| *period)
    }

    /// The age at which a sample of a group with that period is no longer shown as current.
    #[must_use]
    pub fn stale_after(&self, period: Duration) -> Duration {
        stale_after(period)
    }
}

fn stale_after(period: Duration) -> Duration {
    period * defaults::STALE_AFTER_PERIODS + period / defaults::DEADLINE_PART_OF_PERIOD
}

/// How to look at the host itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// How often.
    pub period: Duration,
    /// On which file systems to look at the free space: those that these paths are on.
    pub paths: Vec<String>,
    /// Is a path that does not exist no error? The default ones are on most hosts, not on all.
    pub missing_is_fine: bool,
}

impl Host {
    /// The age at which a look is no longer shown as current.
    #[must_use]
    pub fn stale_after(&self) -> Duration {
        stale_after(self.period)
    }
}

/// How to write /metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Export {
    /// Does each sampled figure carry the time of its sample?
    pub timestamps: bool,
    /// Are the host's own figures there too?
    pub host_metrics: bool,
    /// Are the least and the greatest rates of the last minute there too?
    pub minute_metrics: bool,
}

/// How to carry what is VDSM's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vdsm {
    /// Where to serve STOMP; nowhere by default.
    pub stomp_listen: Vec<SocketAddr>,
    /// PEM file with our certificate, for addresses other than loopback, as the next two are.
    pub tls_certificate: PathBuf,
    /// PEM file with its key.
    pub tls_key: PathBuf,
    /// PEM file with the authorities of client certificates.
    pub tls_ca: PathBuf,
}

/// How much to log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLevel(pub tracing::Level);

impl Default for LogLevel {
    fn default() -> Self {
        Self(tracing::Level::INFO)
    }
}

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = ["error", "warn", "info", "debug", "trace"];
        match text.parse() {
            // tracing would take "INFO" and "3" too; one spelling is enough.
            Ok(level) if names.contains(&text) => Ok(Self(level)),
            _ => Err(format!("unknown log level {text:?}; expected one of {}", names.join(", "))),
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.as_str().to_ascii_lowercase())
    }
}

/// What the command line says over the file.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    /// `--config`.
    pub config: Option<PathBuf>,
    /// `--uri`.
    pub uri: Option<String>,
    /// `--listen`.
    pub listen: Vec<SocketAddr>,
    /// `--log-level`.
    pub log_level: Option<LogLevel>,
}

impl Overrides {
    /// Checks a value of `--listen`.
    ///
    /// # Errors
    /// A sentence that names the cure.
    pub fn parse_listen(text: &str) -> Result<SocketAddr, String> {
        file::parse_listen(text)
    }

    /// Checks a value of `--uri`.
    ///
    /// # Errors
    /// A sentence that names the cure.
    pub fn parse_uri(text: &str) -> Result<String, String> {
        file::parse_uri(text)
    }
}

impl Settings {
    /// Reads the file that the command line names, or the default one if it exists, and puts the command line's values over
    /// it.
    ///
    /// # Errors
    /// [`ConfigError`], with the place.
    pub fn load(overrides: &Overrides) -> Result<Self, ConfigError> {
        let path = overrides.config.as_deref().unwrap_or(Path::new(defaults::CONFIG_FILE));
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if overrides.config.is_none() && error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(ConfigError::unreadable(path, &error)),
        };
        Ok(Self::parse(path, &text)?.with(overrides))
    }

    /// Reads the text of a configuration file; `path` is for the errors.
    ///
    /// # Errors
    /// [`ConfigError`], with the place.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let file: File = toml::from_str(text).map_err(|error| ConfigError::invalid(path, text, &error))?;
        let sampling = file.sampling;
        let auto = sampling.period.as_ref().is_some_and(|period| period.0.is_none());
        let period = sampling.period.and_then(|period| period.0).unwrap_or(defaults::PERIOD);
        let groups = sampling.groups.map_or_else(|| defaults::GROUPS.to_vec(), |groups| groups.0);
        let unused = Group::ALL.into_iter().filter(|group| !groups.contains(group));
        let mut warnings: Vec<String> = unused
            .filter(|group| sampling.periods.of(*group).is_some())
            .map(|group| {
                let name = group.label();
                let key = name.replace('_', "-");
                format!("sampling.periods.{key} has no effect: {name:?} is not among sampling.groups")
            })
            .collect();
        let budget = sampling.budget.map_or(defaults::BUDGET, |budget| budget.0);
        if budget > defaults::BUDGET {
            warnings.push(format!(
                "sampling.budget = {budget} lets {budget} calls be open at libvirtd; with more than {} of them stuck, other programs may not be answered any more",
                defaults::BUDGET
            ));
        }
        // Whoever asks for everything more seldom than that does not want the sizes of disks more often than the rest.
        let default_of = |group| match group {
            Group::BlockInfo => period.max(defaults::BLOCK_INFO_PERIOD),
            // What the kernel feeds it feeds no more seldom than libvirt would.
            Group::Kernel => {
                let shared = Group::SHARED.into_iter().filter_map(|group| sampling.periods.of(group));
                shared.fold(period.min(defaults::KERNEL_PERIOD), Duration::min)
            }
            _ => period,
        };
        let kernel = sampling.periods.of(Group::Kernel);
        let slower: Vec<&str> = Group::SHARED
            .into_iter()
            .filter(|group| groups.contains(group) && groups.contains(&Group::Kernel))
            .filter(|group| kernel.is_some_and(|kernel| kernel > sampling.periods.of(*group).unwrap_or(period)))
            .map(Group::label)
            .collect();
        if !slower.is_empty() {
            warnings.push(format!(
                "sampling.periods.kernel is longer than the period of {}: libvirt is asked for that, and the kernel tells the rest",
                slower.join(", ")
            ));
        }
        let host_paths: Vec<String> = file
            .host
            .paths
            .map_or_else(|| defaults::HOST_PATHS.iter().map(|path| (*path).to_owned()).collect(), |paths| paths.0);
        Ok(Self {
            uri: file.libvirt.uri.map_or_else(|| defaults::URI.to_owned(), |uri| uri.0),
            listen: file.http.listen.map_or_else(
                || vec![defaults::LISTEN.parse().expect("the default address is a constant, and valid")],
                |listen| listen.0,
            ),
            sampling: Sampling {
                period,
                auto,
                own_period: groups.iter().copied().filter(|group| sampling.periods.of(*group).is_some()).collect(),
                groups: groups
                    .into_iter()
                    .map(|group| (group, sampling.periods.of(group).unwrap_or_else(|| default_of(group))))
                    .collect(),
                cross_check: sampling.periods.cross_check.map_or(defaults::CROSS_CHECK_PERIOD, |period| period.0),
                inventory: sampling.periods.inventory.map_or(defaults::INVENTORY_PERIOD, |period| period.0),
                workers: sampling.workers.map_or(defaults::WORKERS, |workers| workers.0),
                budget,
            },
            host: Host {
                period: sampling.periods.host.map_or(defaults::HOST_PERIOD, |period| period.0),
                missing_is_fine: host_paths == defaults::HOST_PATHS,
                paths: host_paths,
            },
            export: Export {
                timestamps: file.export.timestamps,
                host_metrics: file.export.host_metrics,
                minute_metrics: file.export.minute_metrics,
            },
            vdsm: Vdsm {
                stomp_listen: file.vdsm.stomp_listen.map_or_else(Vec::new, |listen| listen.0),
                tls_certificate: file.vdsm.tls_certificate.map_or_else(|| defaults::TLS_CERTIFICATE.into(), |it| it.0),
                tls_key: file.vdsm.tls_key.map_or_else(|| defaults::TLS_KEY.into(), |it| it.0),
                tls_ca: file.vdsm.tls_ca.map_or_else(|| defaults::TLS_CA.into(), |it| it.0),
            },
            log_level: file.log.level.map_or_else(LogLevel::default, |level| level.0),
            warnings,
        })
    }

    fn with(mut self, overrides: &Overrides) -> Self {
        if let Some(uri) = &overrides.uri {
            self.uri.clone_from(uri);
        }
        if !overrides.listen.is_empty() {
            self.listen.clone_from(&overrides.listen);
        }
        if let Some(level) = overrides.log_level {
            self.log_level = level;
        }
        self
    }
}

#[cfg(test)]
mod tests;
