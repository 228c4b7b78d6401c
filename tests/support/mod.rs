//! What the integration tests share: the daemon as a process, an HTTP client, the laboratory of real guests, faults.
#![allow(dead_code, clippy::unwrap_used)] // Each test binary uses a part.

pub(crate) mod daemon;
pub(crate) mod exposition;
pub(crate) mod golden;
pub(crate) mod lab;
pub(crate) mod libvirtd;
pub(crate) mod prometheus;
pub(crate) mod proxy;
pub(crate) mod storage;
pub(crate) mod traffic;
pub(crate) mod watch;

use std::time::{Duration, Instant};

/// Longer than anything takes that does not hang; a test that gets here has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Asks again until there is an answer. The condition is what is tested; the pause only spares the CPU.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
