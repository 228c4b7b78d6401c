//! Whether the service's own threads still turn: what a watchdog goes by. libvirt has no part in it, since a restart while
//! libvirt hangs would only orphan the calls that hang there.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A part that has not beaten for this long stands still: six times the longest that each pauses by design, so that a host
/// under load alone does not look like it.
pub const STILL_AFTER: Duration = Duration::from_secs(30);

/// A thread that everything else depends on, and that never waits for libvirt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Starts what is due and takes what comes.
    Scheduler,
    /// Renders snapshots.
    Publisher,
}

impl Part {
    const ALL: [Self; 2] = [Self::Scheduler, Self::Publisher];

    /// Its name, which is that of its thread too.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Scheduler => "scheduler",
            Self::Publisher => "publisher",
        }
    }
}

/// When each part last showed that it lives. Nobody waits for anybody here.
#[derive(Debug)]
pub(super) struct Heartbeats {
    origin: Instant,
    /// Nanoseconds since `origin`, plus one; 0 is "never".
    beats: [AtomicU64; Part::ALL.len()],
}

impl Heartbeats {
    pub(super) fn new(origin: Instant) -> Self {
        Self { origin, beats: Default::default() }
    }

    pub(super) fn beat(&self, part: Part, now: Instant) {
        let nanos = u64::try_from(now.saturating_duration_since(self.origin).as_nanos()).unwrap_or(u64::MAX);
        // Nothing else is read on the strength of it.
        self.beats[part as usize].store(nanos.saturating_add(1), Ordering::Relaxed);
    }

    /// Who stands still, and for how long. Who has not begun yet does not.
    pub(super) fn standing_still(&self, now: Instant) -> Vec<(Part, Duration)> {
        let still = |part: Part| {
            let nanos = self.beats[part as usize].load(Ordering::Relaxed).checked_sub(1)?;
            let still = now.saturating_duration_since(self.origin + Duration::from_nanos(nanos));
            (still >= STILL_AFTER).then_some((part, still))
        };
        Part::ALL.into_iter().filter_map(still).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_beaten_once_must_go_on() {
        let origin = Instant::now();
        let hearts = Heartbeats::new(origin);
        let at = |seconds| origin + Duration::from_secs(seconds);
        assert_eq!(hearts.standing_still(at(1000)), [], "nobody has begun");
        hearts.beat(Part::Scheduler, origin);
        hearts.beat(Part::Publisher, at(10));
        assert_eq!(hearts.standing_still(at(29)), []);
        assert_eq!(hearts.standing_still(at(31)), [(Part::Scheduler, Duration::from_secs(31))]);
        let both = [(Part::Scheduler, Duration::from_secs(40)), (Part::Publisher, Duration::from_secs(30))];
        assert_eq!(hearts.standing_still(at(40)), both);
        hearts.beat(Part::Scheduler, at(40));
        assert_eq!(hearts.standing_still(at(41)), [(Part::Publisher, Duration::from_secs(31))]);
    }
}
