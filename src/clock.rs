//! Time, handed in. Logic never asks the operating system for the time itself, so a test can move it by hand.
//!
//! The daemon uses [`SystemClock`]; tests use [`ManualClock`]. May use nothing else of ours.

use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

/// Where the current time comes from.
pub trait Clock: Send + Sync {
    /// Monotonic time, for ages, periods and the order of samples.
    fn now(&self) -> Instant;
    /// Wall-clock time, only to tell people and programs when something was.
    fn wall(&self) -> SystemTime;
}

/// The operating system's clocks.
#[derive(Debug, Default, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// A clock that stands still until it is told to advance; both of its times move together.
#[derive(Debug)]
pub struct ManualClock {
    time: Mutex<(Instant, SystemTime)>,
}

impl ManualClock {
    /// A clock that starts at an arbitrary instant and at 2001-09-09T01:46:40Z (Unix time 1,000,000,000).
    #[must_use]
    pub fn new() -> Self {
        Self { time: Mutex::new((Instant::now(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000))) }
    }

    /// Moves both times forward.
    pub fn advance(&self, by: Duration) {
        let mut time = self.time.lock();
        time.0 += by;
        time.1 += by;
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        self.time.lock().0
    }

    fn wall(&self) -> SystemTime {
        self.time.lock().1
    }
}
