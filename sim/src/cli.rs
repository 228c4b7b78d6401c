//! The command line, and what it exits with: 0 done, 1 cannot run or was refused, 2 bad usage or a bad scenario.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::command::Command;
use crate::control::{Reply, socket};
use crate::scenario::Scenario;
use crate::simulator::{Settings, Simulator, StartError};

const CANNOT_RUN: u8 = 1;
const BAD_USAGE: u8 = 2;

#[derive(Parser)]
#[command(
    name = "virtstat-sim",
    version,
    about = "A simulated libvirtd: many guests, and every fault on command",
    after_help = "\
Try:
  virtstat-sim --domains 1000                    a thousand guests; says what to connect to
  virsh -c 'qemu+unix:///system?socket=PATH' list
  virtstat-sim ctl freeze --count 3              three of them hang
  virtstat-sim ctl thaw --all
  virtstat-sim --scenario sim/scenarios/demo.toml
  virtstat-sim ctl --help                        all that can be done to it

SIGTERM and SIGINT end it, and remove its sockets.
Exit status: 0 done, 1 cannot run or was refused, 2 bad usage or a bad scenario."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<What>,
    #[command(flatten)]
    run: Run,
    /// Where it listens; for nobody but you [default: virtstat-sim/libvirt-sock in $XDG_RUNTIME_DIR or /run]
    #[arg(long, global = true, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Where it takes commands [default: the socket's path and .control]
    #[arg(long, global = true, value_name = "PATH")]
    control: Option<PathBuf>,
}

#[derive(Subcommand)]
enum What {
    /// Tell a simulator that runs what to do
    #[command(after_help = "\
Try:
  status                                         how it is, as JSON
  freeze --count 3; thaw --all                   three monitors that do not answer, and the end of that
  hang-storage 'web-*' --paths                   block info of these hangs, with the domain's lock held
  latency 'pareto 5ms 1.5 cap 2s' --domain 'db*' their monitors are slow, now and then very slow
  latency 200ms --procedure DomainGetXMLDesc     so is this call
  fail 68 --procedure DomainGetBlockInfo --share 0.1
  damage half-then-close --next 1                the next reply of all breaks off
  reply-limit 1000000                            bulk replies over a megabyte are refused
  change stop NAME; change define --count 10     something happens once
  churn 20 --mix start=1,stop=1 --for 1m         and all the time
  restart 5s; silence 10s                        the daemon is gone; the daemon stands still

The same commands, one JSON object a line, go to the control socket: {\"command\":\"freeze\",\"count\":3}.
In a scenario file they are entries: [[at]], after = \"10s\", command = \"freeze\", count = 3.")]
    Ctl {
        #[command(subcommand)]
        command: Command,
    },
}

#[derive(Args)]
struct Run {
    /// How many guests there are, shut-off ones included [default: the scenario's, or 50]
    #[arg(long, value_name = "N")]
    domains: Option<u32>,
    /// The same seed makes the same guests [default: the scenario's, or 1]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// How many of a thousand guests are shut off [default: the scenario's, or 0]
    #[arg(long, value_name = "PER_MILLE", value_parser = clap::value_parser!(u32).range(..=1000))]
    shut_off: Option<u32>,
    /// What happens by itself: a TOML file
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Log this level and what is graver, on stderr: error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: tracing::Level,
}

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let Cli { command, run, socket, control } = Cli::parse();
    let socket = socket.unwrap_or_else(default_socket);
    let control = control.unwrap_or_else(|| {
        let mut path = socket.clone().into_os_string();
        path.push(".control");
        path.into()
    });
    match command {
        Some(What::Ctl { command }) => tell(&control, &command),
        None => serve(run, socket, control),
    }
}

fn default_socket() -> PathBuf {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(|| PathBuf::from("/run"), PathBuf::from);
    runtime.join("virtstat-sim/libvirt-sock")
}

fn fail(code: u8, error: impl std::fmt::Display) -> ExitCode {
    eprintln!("virtstat-sim: {error}");
    ExitCode::from(code)
}

fn serve(run: Run, socket: PathBuf, control: PathBuf) -> ExitCode {
    tracing_subscriber::fmt()
        .with_max_level(run.log_level)
        .with_writer(io::stderr)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .init();
    let scenario = match run.scenario.as_deref().map(read).transpose() {
        Ok(scenario) => scenario.unwrap_or_default(),
        Err(error) => return fail(BAD_USAGE, error),
    };
    let settings = Settings {
        control: Some(control),
        seed: run.seed.or(scenario.seed).unwrap_or(1),
        domains: run.domains.or(scenario.domains).unwrap_or(50),
        shut_off_per_mille: run.shut_off.or(scenario.shut_off).unwrap_or(0),
        scenario,
        ..Settings::new(socket)
    };
    match until_signal(settings) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(StartError::Scenario(error))) => {
            let path = run.scenario.unwrap_or_default();
            fail(BAD_USAGE, format_args!("{}: {error}", path.display()))
        }
        Ok(Err(error)) => fail(CANNOT_RUN, error),
        Err(error) => fail(CANNOT_RUN, error),
    }
}

fn read(path: &Path) -> Result<Scenario, String> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| named(&error))?;
    Scenario::parse(&text).map_err(|error| named(&error))
}

fn until_signal(settings: Settings) -> io::Result<Result<(), StartError>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before the socket is there, so that no signal can leave it behind.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let domains = settings.domains;
        let simulator = match Simulator::start(settings) {
            Ok(simulator) => simulator,
            Err(error) => return Ok(Err(error)),
        };
        // Nobody may be reading; that is no reason to end.
        let _ = writeln!(io::stdout(), "{domains} guests; listening. Connect to\n  {}", simulator.uri());
        let _ = io::stdout().flush();
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(Ok(()))
    })
}

fn tell(control: &Path, command: &Command) -> ExitCode {
    match socket::ask(control, command) {
        Err(error) => fail(CANNOT_RUN, format_args!("{}: {error}; is a simulator running there?", control.display())),
        Ok(Reply::Refused { error }) => fail(CANNOT_RUN, error),
        Ok(reply) => {
            // A reader that went is no error of ours.
            let _ = writeln!(io::stdout(), "{}", describe(&reply));
            ExitCode::SUCCESS
        }
    }
}

/// A reply for people; a status is JSON, for programs too.
fn describe(reply: &Reply) -> String {
    const NAMES: usize = 20;
    match reply {
        Reply::Status(status) => serde_json::to_string_pretty(status).unwrap_or_default(),
        Reply::Refused { error } => error.clone(),
        Reply::Done { guests } if guests.is_empty() => "done".to_owned(),
        Reply::Done { guests } => {
            let some = guests.iter().take(NAMES).map(String::as_str).collect::<Vec<_>>();
            let plural = if guests.len() == 1 { "" } else { "s" };
            let mut text = format!("{} guest{plural}: {}", guests.len(), some.join(", "));
            if guests.len() > NAMES {
                let _ = write!(text, ", and {} more", guests.len() - NAMES);
            }
            text
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_command_means_the_same_on_the_command_line_and_in_json() {
        for (words, json) in [
            ("status", r#"{"command":"status"}"#),
            ("freeze vm-1", r#"{"command":"freeze","domain":"vm-1"}"#),
            ("thaw --all", r#"{"command":"thaw","all":true}"#),
            ("hang-storage --count 2 --paths", r#"{"command":"hang-storage","count":2,"paths":true}"#),
            (
                "latency 20ms --procedure DomainGetInfo",
                r#"{"command":"latency","distribution":"20ms","procedure":"DomainGetInfo"}"#,
            ),
            ("fail 68 --share 0.5", r#"{"command":"fail","code":68,"share":0.5}"#),
            ("damage half-then-close --next 1", r#"{"command":"damage","kind":"half-then-close","next":1}"#),
            ("reply-limit 5000 --send", r#"{"command":"reply-limit","bytes":5000,"send":true}"#),
            ("suppress-events", r#"{"command":"suppress-events"}"#),
            ("drop-connections 3", r#"{"command":"drop-connections","connection":3}"#),
            ("restart", r#"{"command":"restart"}"#),
            ("silence 5s", r#"{"command":"silence","for":"5s"}"#),
            ("change start --count 2", r#"{"command":"change","kind":"start","count":2}"#),
            (
                "churn 10 --mix start=1,stop=1 --for 1m",
                r#"{"command":"churn","rate":10,"mix":"start=1,stop=1","for":"1m"}"#,
            ),
        ] {
            let words = ["virtstat-sim", "ctl"].into_iter().chain(words.split(' '));
            let Ok(Cli { command: Some(What::Ctl { command }), .. }) = Cli::try_parse_from(words.clone()) else {
                panic!("{json}: {:?}", Cli::try_parse_from(words).err());
            };
            assert_eq!(command, serde_json::from_str(json).unwrap());
            // And what is said of the rules in force can be said again.
            let again = serde_json::to_string(&command).unwrap();
            assert_eq!(command, serde_json::from_str(&again).unwrap(), "{again}");
        }
    }
}
