//! The command line, and what it exits with: 0 done, 1 cannot run, 2 bad configuration or usage.

use std::io::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::slice;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{LogLevel, Overrides, Settings};
use crate::export::api;
use crate::export::prometheus::Renderer;
use crate::model::Mac;
use crate::{client, daemon, logging};

const CANNOT_RUN: u8 = 1;
const BAD_CONFIGURATION: u8 = 2;

#[derive(Parser)]
#[command(
    name = "virtstatd",
    version,
    about = "Samples every VM of this host in bulk and serves Prometheus metrics and JSON",
    after_help = "\
Without a command it runs the daemon. Try:
  virtstatd                                   the host's VMs, on http://127.0.0.1:9177
  virtstatd --uri test:///default             libvirt's built-in test driver, no hypervisor needed
  virtstatd check --config FILE               is this configuration good?
  virtstatd snapshot | jq                     one sample, as JSON
  virtstatd find 52:54:00:12:34:56            whose NIC is this? Also an IP address, a disk, a process

It reads /etc/virtstatd/virtstatd.toml if that exists. SIGHUP reads it again, SIGTERM ends the daemon.
It serves /metrics, JSON below /api/v1, which /api/v1/openapi.json describes, oVirt's JSON-RPC at /jsonrpc, /-/healthy and
/-/ready; / lists all.

Exit status: 0 done, 1 cannot run or not found, 2 bad configuration or usage."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    options: Options,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon (the default)
    Run,
    /// Check the configuration without opening a port or a connection
    Check,
    /// Take one sample, print it, and exit
    Snapshot {
        /// What to print
        #[arg(long, value_enum, default_value_t = Format::Json)]
        format: Format,
    },
    /// Ask the running daemon which domain has this MAC or IP address, NIC, disk or process
    Find {
        /// MAC in any notation, IP address, process id, path or serial of a disk, or name of a NIC on the host (vnet3)
        what: String,
        /// What it is, if that cannot be told by its looks
        #[arg(long, value_enum)]
        by: Option<By>,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum By {
    /// The MAC address of a NIC
    Mac,
    /// An IP address that one of libvirt's networks has leased
    Ip,
    /// The name of a NIC on the host
    Nic,
    /// The path or serial number of a disk
    Disk,
    /// The id of a QEMU process
    Pid,
}

impl By {
    const fn parameter(self) -> &'static str {
        match self {
            Self::Mac => "mac",
            Self::Ip => "ip",
            Self::Nic => "nic",
            Self::Disk => "disk",
            Self::Pid => "pid",
        }
    }

    /// What that may be, the likeliest first.
    fn guess(what: &str) -> &'static [Self] {
        if Mac::parse(what).is_some() {
            // Twelve digits may be a serial number as well.
            &[Self::Mac, Self::Disk]
        } else if what.parse::<IpAddr>().is_ok() {
            &[Self::Ip]
        } else if what.starts_with('/') {
            &[Self::Disk]
        } else if what.parse::<u32>().is_ok() {
            &[Self::Pid, Self::Disk]
        } else {
            &[Self::Nic, Self::Disk]
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// What /api/v1/domains serves
    Json,
    /// What /metrics serves about the domains
    Prometheus,
}

/// Given before or behind the command; they win over the file.
#[derive(Args)]
struct Options {
    /// Configuration file [default: /etc/virtstatd/virtstatd.toml if it exists]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// libvirt URI to connect to, read-only [default: qemu:///system]
    #[arg(long, global = true, value_name = "URI", value_parser = Overrides::parse_uri)]
    uri: Option<String>,
    /// Address to listen on, IP:PORT; may be given several times [default: 127.0.0.1:9177]
    #[arg(long, global = true, value_name = "ADDR", value_parser = Overrides::parse_listen)]
    listen: Vec<SocketAddr>,
    /// Log this level and what is graver: error, warn, info, debug, trace [default: info]
    #[arg(long, global = true, value_name = "LEVEL", value_parser = str::parse::<LogLevel>)]
    log_level: Option<LogLevel>,
}

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let Cli { command, options } = Cli::parse();
    let Options { config, uri, listen, log_level } = options;
    let overrides = Overrides { config, uri, listen, log_level };
    let settings = match Settings::load(&overrides) {
        Ok(settings) => settings,
        Err(error) => return fail(BAD_CONFIGURATION, &error),
    };
    match command.unwrap_or(Command::Run) {
        Command::Run => {
            let logging = logging::start(settings.log_level.0);
            match daemon::run(settings, &overrides, &logging) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(CANNOT_RUN, &error),
            }
        }
        Command::Check => {
            if let Err(error) = daemon::check(&settings) {
                return fail(BAD_CONFIGURATION, &error);
            }
            for warning in &settings.warnings {
                eprintln!("virtstatd: warning: {warning}");
            }
            print(&describe(&settings))
        }
        Command::Find { what, by } => find(&settings, &what, by),
        Command::Snapshot { format } => {
            // Its errors are its exit status; more only for those who ask.
            let level = overrides.log_level.map_or(tracing::Level::ERROR, |level| level.0);
            let _logging = logging::start(level);
            match daemon::sample_once(&settings) {
                Err(error) => fail(CANNOT_RUN, &error),
                Ok((store, snapshot)) => print(&match format {
                    Format::Prometheus => {
                        Renderer::new(daemon::text_of(settings.export)).render(snapshot, store.now(), &store).text()
                    }
                    Format::Json => serde_json::to_string_pretty(&api::domains(&snapshot, store.now()))
                        .map(|text| text + "\n")
                        .unwrap_or_default(),
                }),
            }
        }
    }
}

/// Prints name, UUID and state of each domain that was found, a line each.
fn find(settings: &Settings, what: &str, by: Option<By>) -> ExitCode {
    let Some(address) = settings.listen.first() else { return fail(CANNOT_RUN, &"there is no address to ask") };
    let ways = by.as_ref().map_or_else(|| By::guess(what), slice::from_ref);
    for way in ways {
        match client::lookup(*address, way.parameter(), what) {
            Ok(found) => {
                let line = |it: &client::Found| {
                    format!("{}\t{}\t{}\n", it.name, it.uuid, it.state.as_deref().unwrap_or("unknown"))
                };
                return print(&found.iter().map(line).collect::<String>());
            }
            // Why an address is not known is worth to be said.
            Err(client::ClientError::NotFound(message)) if matches!(way, By::Ip) => return fail(CANNOT_RUN, &message),
            Err(client::ClientError::NotFound(_)) => {}
            Err(error) => return fail(CANNOT_RUN, &error),
        }
    }
    let tried = ways.iter().map(|way| way.parameter()).collect::<Vec<_>>().join(" or ");
    fail(CANNOT_RUN, &format!("no domain of this host has {what:?} as {tried}"))
}

/// What `check` says of good settings.
fn describe(settings: &Settings) -> String {
    let addresses: Vec<String> = settings.listen.iter().map(ToString::to_string).collect();
    let groups: Vec<String> = settings
        .sampling
        .groups
        .iter()
        .map(|(group, period)| match settings.sampling.follows(*group) {
            true => format!("{} auto", group.label()),
            false => format!("{} {}", group.label(), humantime::format_duration(*period)),
        })
        .collect();
    format!(
        "The configuration is good.\n  uri        {}\n  listen     {}\n  groups     {}\n  inventory  {}\n  workers    {}\n  budget     {}\n  host       {}\n  timestamps {}\n  stomp      {}\n  log level  {}\n",
        settings.uri,
        addresses.join(", "),
        groups.join(", "),
        humantime::format_duration(settings.sampling.inventory),
        settings.sampling.workers,
        settings.sampling.budget,
        host(settings),
        if settings.export.timestamps { "on" } else { "off" },
        stomp(settings),
        settings.log_level,
    )
}

fn stomp(settings: &Settings) -> String {
    let addresses: Vec<String> = settings.vdsm.stomp_listen.iter().map(ToString::to_string).collect();
    if addresses.is_empty() { "off".to_owned() } else { addresses.join(", ") }
}

fn host(settings: &Settings) -> String {
    let period = humantime::format_duration(settings.host.period);
    let metrics = if settings.export.host_metrics { "on" } else { "off" };
    format!("{period}, metrics {metrics}, paths {}", settings.host.paths.join(", "))
}

fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        // `virtstatd snapshot | head` is no fault of ours.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(CANNOT_RUN, &error),
    }
}

fn fail(code: u8, error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("virtstatd: {error}");
    ExitCode::from(code)
}
