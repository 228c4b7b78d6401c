//! Time, handed in. Logic never asks the operating system for the time itself, so a test can move it by hand.
//!
//! The daemon uses [`SystemClock`]; tests use [`ManualClock`]. May use nothing else of ours.

use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};

/// Where the current time comes from.
pub trait Clock: Send + Sync {
    /// Monotonic time, for ages, periods and the order of samples.
    fn now(&self) -> Instant;
    /// Wall-clock time, only to tell people and programs when something was.
    fn wall(&self) -> SystemTime;
    /// Time since the host booted, sleep included: what the kernel tells the starts of processes in.
    fn since_boot(&self) -> Duration;
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

    fn since_boot(&self) -> Duration {
        let time = clock_gettime(ClockId::Boottime);
        let (seconds, nanos) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
        Duration::new(seconds.unwrap_or_default(), nanos.unwrap_or_default())
    }
}

/// A clock that stands still until it is told to advance; all of its times move together.
#[derive(Debug)]
pub struct ManualClock {
    time: Mutex<(Instant, SystemTime, Duration)>,
}

impl ManualClock {
    /// A clock that starts at an arbitrary instant and at 2001-09-09T01:46:40Z (Unix time 1,000,000,000), 100,000 s after boot.
    #[must_use]
    pub fn new() -> Self {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        Self { time: Mutex::new((Instant::now(), wall, Duration::from_secs(100_000))) }
    }

    /// Moves all times forward.
    pub fn advance(&self, by: Duration) {
        let mut time = self.time.lock();
        time.0 += by;
        time.1 += by;
        time.2 += by;
    }

    /// Sets the wall clock, as an administrator does; the other times go on.
    pub fn set_wall(&self, wall: SystemTime) {
        self.time.lock().1 = wall;
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

    fn since_boot(&self) -> Duration {
        self.time.lock().2
    }
}
