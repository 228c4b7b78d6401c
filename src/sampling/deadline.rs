//! When a call is overdue.

use std::time::Duration;

/// No call is overdue sooner, but where half a period is less: a busy host is slow at times.
pub(super) const LEAST: Duration = Duration::from_secs(1);
/// A call may take this many times its usual time.
const TIMES_USUAL: u32 = 4;

/// How long a call about one domain may take, or one that enters no monitor: it is soon done, or it hangs.
pub(super) fn of_one(shortest: Duration) -> Duration {
    LEAST.min(shortest * 9 / 20)
}

/// Learns how long calls take, per domain asked.
#[derive(Debug, Default)]
pub(super) struct Usual {
    per_domain: Option<Duration>,
}

impl Usual {
    /// A call about so many domains took so long.
    pub(super) fn learn(&mut self, took: Duration, domains: usize) {
        let each = took / u32::try_from(domains.max(1)).unwrap_or(u32::MAX);
        // An eighth of the news: one slow call on a busy host is not yet usual.
        self.per_domain = Some(self.per_domain.map_or(each, |usual| usual * 7 / 8 + each / 8));
    }

    /// How long a call about so many takes, if any was made yet.
    pub(super) fn of(&self, domains: usize) -> Option<Duration> {
        Some(self.per_domain? * u32::try_from(domains).unwrap_or(u32::MAX))
    }

    /// How long a call about so many domains may take, in a lane of that period.
    ///
    /// At most nine twentieths of the period: what is asked again at once then still begins within half of it.
    pub(super) fn deadline(&self, domains: usize, period: Duration) -> Duration {
        let most = period * 9 / 20;
        self.of(domains).map_or(most, |usual| (usual * TIMES_USUAL).max(LEAST).min(most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_deadline_is_four_times_the_usual_between_a_second_and_nearly_half_the_period() {
        let mut usual = Usual::default();
        assert_eq!(usual.deadline(10, ms(15_000)), ms(6_750), "nothing is known yet");
        usual.learn(ms(100), 20);
        assert_eq!(usual.deadline(20, ms(15_000)), ms(1_000));
        assert_eq!(usual.deadline(20, ms(2_000)), ms(900));
        assert_eq!(usual.deadline(100, ms(15_000)), ms(2_000));
        assert_eq!(usual.deadline(1000, ms(15_000)), ms(6_750));
    }

    #[test]
    fn the_usual_time_follows_slowly() {
        let mut usual = Usual::default();
        usual.learn(ms(8), 1);
        usual.learn(ms(80), 1);
        assert_eq!(usual.of(1), Some(ms(17)));
    }
}
