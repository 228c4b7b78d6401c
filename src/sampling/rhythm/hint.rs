//! What is said of a scraper whose interval does not fit.

use std::time::Duration;

use crate::store::ScraperId;

/// Advice about one client.
#[derive(Debug)]
pub(super) struct Hint {
    pub(super) client: ScraperId,
    interval: Duration,
    period: Duration,
    pub(super) text: String,
}

impl Hint {
    pub(super) fn new(client: ScraperId, interval: Duration, period: Duration) -> Self {
        let observed = super::as_set(interval);
        let text = format!(
            "the scraper at {} scrapes every {}, which does not fit the sampling period of {}: set scrape_interval to {} or \
             sampling.period to {}",
            client.address,
            spoken(observed),
            spoken(period),
            setting(period),
            setting(observed),
        );
        Self { client, interval, period, text }
    }

    /// Would it be said in other words now? Small changes are none, or jitter would make news.
    pub(super) fn holds(&self, interval: Duration, period: Duration) -> bool {
        self.period == period && self.interval.abs_diff(interval) <= self.interval / 20
    }
}

fn spoken(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

/// As both Prometheus' configuration and ours take it.
fn setting(time: Duration) -> String {
    if time.subsec_millis() == 0 { format!("{}s", time.as_secs()) } else { format!("{}ms", time.as_millis()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_names_the_client_both_times_and_both_cures() {
        let client = ScraperId { address: [10, 0, 0, 5].into(), agent: 0 };
        let hint = Hint::new(client, Duration::from_millis(20_013), Duration::from_secs(15));
        assert_eq!(
            hint.text,
            "the scraper at 10.0.0.5 scrapes every 20 s, which does not fit the sampling period of 15 s: \
             set scrape_interval to 15s or sampling.period to 20s"
        );
        let hint = Hint::new(client, Duration::from_millis(2512), Duration::from_secs(60));
        assert!(hint.text.contains("every 2.5 s") && hint.text.ends_with("sampling.period to 2500ms"), "{}", hint.text);
    }
}
