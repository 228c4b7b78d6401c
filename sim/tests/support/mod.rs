//! What the tests of the simulator share.
#![allow(dead_code, clippy::unwrap_used)] // Each test binary uses a part.

pub(crate) mod client;

use std::time::{Duration, Instant};

use tempfile::TempDir;
use virtstat_sim::command::Command;
use virtstat_sim::limits::Times;
use virtstat_sim::{Reply, Settings, Simulator, Status};

/// Longer than anything takes here, on a busy machine too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A simulator in a directory of its own.
pub(crate) struct Lab {
    pub(crate) simulator: Simulator,
    pub(crate) directory: TempDir,
}

impl Lab {
    /// So many guests, all running.
    pub(crate) fn new(domains: u32) -> Self {
        Self::with(|settings| settings.domains = domains)
    }

    pub(crate) fn with(adjust: impl FnOnce(&mut Settings)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut settings = Settings::new(directory.path().join("sock"));
        settings.times = Times { job_wait: Duration::from_millis(300), ..Times::default() };
        adjust(&mut settings);
        Self { simulator: Simulator::start(settings).unwrap(), directory }
    }

    /// The name of a running guest.
    pub(crate) fn name(&self, number: usize) -> String {
        self.simulator
            .with_host(|host| host.guests().filter(|guest| guest.is_running()).nth(number).unwrap().name().to_owned())
    }

    pub(crate) fn uuid(&self, name: &str) -> [u8; 16] {
        self.simulator.with_host(|host| *host.by_name(name).unwrap().uuid())
    }

    /// Carries out a command, and gives the names of the guests that it changed.
    pub(crate) fn tell(&self, command: Command) -> Vec<String> {
        let told = format!("{command:?}");
        match self.simulator.control(command) {
            Ok(Reply::Done { guests }) => guests,
            other => panic!("{told}: {other:?}"),
        }
    }

    /// Waits until the simulator's status is so.
    pub(crate) fn until(&self, what: &str, is_so: impl Fn(&Status) -> bool) -> Status {
        let begin = Instant::now();
        loop {
            let status = self.simulator.status();
            if is_so(&status) {
                return status;
            }
            assert!(begin.elapsed() < PATIENCE, "{what}: {status:#?}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}
