//! Rates, from two real samples.

use std::time::Duration;

/// How fast a counter grows, per second: `None` if a value is missing, if no time passed, or across a reset (a counter
/// that went down says nothing about how much was counted in between).
#[must_use]
pub fn per_second(previous: Option<u64>, newest: Option<u64>, elapsed: Duration) -> Option<f64> {
    let grown = newest?.checked_sub(previous?)?;
    if elapsed.is_zero() {
        return None;
    }
    // A difference between two samples stays far below 2^53, where f64 is exact.
    #[allow(clippy::cast_precision_loss)]
    let grown = grown as f64;
    Some(grown / elapsed.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_needs_two_values_time_and_no_reset() {
        let second = Duration::from_secs(1);
        for (previous, newest, elapsed, expected) in [
            (Some(10), Some(40), 2 * second, Some(15.0)),
            (Some(10), Some(10), second, Some(0.0)),
            (None, Some(10), second, None),
            (Some(10), None, second, None),
            (Some(10), Some(9), second, None),
            (Some(10), Some(11), Duration::ZERO, None),
            (Some(u64::MAX - 5), Some(u64::MAX), second, Some(5.0)),
        ] {
            assert_eq!(per_second(previous, newest, elapsed), expected, "{previous:?} {newest:?}");
        }
    }
}
