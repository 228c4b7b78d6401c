//! The command line.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use crate::simulator::{Settings, Simulator};

#[derive(Parser)]
#[command(name = "virtstat-sim", version, about = "A simulated libvirtd: many guests, and every fault on command")]
struct Cli {
    /// Where to listen
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    /// How many guests there are, shut-off ones included
    #[arg(long, value_name = "N", default_value_t = 50)]
    domains: u32,
    /// The same seed makes the same guests
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// How many of a thousand guests are shut off
    #[arg(long, value_name = "PER_MILLE", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1000))]
    shut_off: u32,
    /// Log this level and what is graver: error, warn, info, debug, trace
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: tracing::Level,
}

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let Cli { socket, domains, seed, shut_off, log_level } = Cli::parse();
    tracing_subscriber::fmt()
        .with_max_level(log_level)
        .with_writer(io::stderr)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal())
        .init();
    let settings = Settings { seed, domains, shut_off_per_mille: shut_off, ..Settings::new(socket) };
    match run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("virtstat-sim: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(settings: Settings) -> Result<(), Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before the socket is there, so that no signal can leave it behind.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let domains = settings.domains;
        let simulator = Simulator::start(settings)?;
        let mut out = io::stdout();
        writeln!(out, "{domains} guests; listening, connect to\n  {}", simulator.uri())?;
        out.flush()?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        Ok(())
    })
}
