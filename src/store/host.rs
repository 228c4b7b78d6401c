//! What is known of the host itself: apart from the snapshot, which a look at the host does not make anew.

use std::time::{Duration, Instant};

use super::window::{Sampled, Window};
use crate::model::Stamp;
use crate::model::host::{HostSample, PathSpace};

/// The two newest looks at the host, and what file systems answered.
#[derive(Debug, Clone, Default)]
pub struct HostWindow {
    /// The looks.
    pub samples: Window<HostSample>,
    /// Each path that is watched and of which something is known, in the order of the configuration. Each has its own times.
    pub paths: Vec<PathSpace>,
    /// The age at which a look is no longer shown as current.
    stale_after: Duration,
}

impl HostWindow {
    /// The same with a newer look.
    pub(super) fn with(&self, started: Stamp, sample: HostSample, stale_after: Duration) -> Self {
        let mut samples = self.samples.clone();
        samples.push(started, sample);
        Self { samples, paths: self.paths.clone(), stale_after }
    }

    /// The same with this known of paths.
    pub(super) fn with_paths(&self, paths: Vec<PathSpace>) -> Self {
        Self { samples: self.samples.clone(), paths, stale_after: self.stale_after }
    }

    /// The newest look, if it is not too old.
    #[must_use]
    pub fn fresh(&self, now: Instant) -> Option<&Sampled<HostSample>> {
        self.samples.newest().filter(|newest| self.is_fresh(newest.started, now))
    }

    /// Is what was asked for then still current?
    #[must_use]
    pub fn is_fresh(&self, asked: Stamp, now: Instant) -> bool {
        now.saturating_duration_since(asked.at) <= self.stale_after
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::clock::{Clock as _, ManualClock};
    use crate::model::host::{HostSample, PathSpace};
    use crate::store::Store;

    #[test]
    fn looks_at_the_host_make_no_snapshot_and_outlive_another_libvirt() {
        let clock = Arc::new(ManualClock::new());
        let store = Store::new(Arc::<ManualClock>::clone(&clock));
        let sequence = store.snapshot().sequence;
        assert!(store.host().samples.newest().is_none());
        let second = std::time::Duration::from_secs(1);
        for boot in [1, 2, 3] {
            clock.advance(5 * second);
            let sample = HostSample { boot_unix_seconds: Some(boot), ..HostSample::default() };
            store.apply_host(store.stamp(), sample, 12 * second);
        }
        let path = PathSpace { path: "/".into(), space: None, blocked_since: None, problem: None };
        store.set_path_spaces(vec![path]);
        assert_eq!(store.snapshot().sequence, sequence);
        store.forget();
        let host = store.host();
        let (previous, elapsed) = host.samples.previous().expect("two looks");
        assert_eq!((previous.boot_unix_seconds, elapsed, host.paths.len()), (Some(2), 5 * second, 1));
        let at = |seconds| clock.now() + seconds * second;
        assert!(host.fresh(at(12)).is_some() && host.fresh(at(13)).is_none());
    }
}
