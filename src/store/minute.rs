//! Rates within the last minute: their average, and the least and the greatest of those over a second each.
//!
//! A scrape each 15 s sees averages over 15 s; a guest that takes all of its CPU for two of them does not show. Where figures come
//! more seldom than each second, the steps are as long as the time between two of them, and that is said beside.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::model::{CpuSample, InterfaceSample, Traffic};

/// How far back.
const SPAN: Duration = Duration::from_secs(60);
/// A step is closed when it is this long: a second, less what a timer may be early.
const STEP: Duration = Duration::from_millis(950);

/// Rates within the last minute.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Minute<const N: usize> {
    /// When the newest step ended.
    pub end: Instant,
    /// What is covered: a minute, or less after a start.
    pub span: Duration,
    /// How long a step is on the average.
    pub step: Duration,
    /// Of each counter.
    pub spreads: [Spread; N],
}

impl<const N: usize> Minute<N> {
    /// Is it about the minute before that moment at all?
    #[must_use]
    pub fn is_of_now(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.end) <= SPAN
    }
}

/// How fast a counter grew, per second.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Spread {
    /// Over all that is covered.
    pub average: f64,
    /// In the step in which it grew least.
    pub minimum: f64,
    /// In the step in which it grew most.
    pub maximum: f64,
}

/// The steps of the last minute, of counters that are sampled together.
pub(super) struct Meter<const N: usize> {
    /// Where the step that is under way began.
    open: Option<(Instant, [u64; N])>,
    steps: VecDeque<Step<N>>,
    /// Of all steps.
    span: Duration,
    grown: [u128; N],
}

struct Step<const N: usize> {
    end: Instant,
    length: Duration,
    growth: [u64; N],
    rates: [f64; N],
}

impl<const N: usize> Default for Meter<N> {
    fn default() -> Self {
        Self { open: None, steps: VecDeque::new(), span: Duration::ZERO, grown: [0; N] }
    }
}

impl<const N: usize> Meter<N> {
    /// Takes what was counted then, and says whether that closed a step. A counter that went back tells nothing of the step in
    /// which it did.
    pub(super) fn take(&mut self, at: Instant, counted: [u64; N]) -> bool {
        let Some((begin, before)) = self.open else {
            self.open = Some((at, counted));
            return false;
        };
        let length = at.saturating_duration_since(begin);
        let went_back = counted.iter().zip(&before).any(|(counted, before)| counted < before);
        if length < STEP && !went_back {
            return false;
        }
        self.open = Some((at, counted));
        while let Some(first) =
            self.steps.pop_front_if(|first| at.saturating_duration_since(first.end) + first.length > SPAN)
        {
            self.span -= first.length;
            self.grown.iter_mut().zip(first.growth).for_each(|(grown, growth)| *grown -= u128::from(growth));
        }
        if !went_back && length <= SPAN {
            let growth: [u64; N] = std::array::from_fn(|place| counted[place].saturating_sub(before[place]));
            let seconds = length.as_secs_f64();
            self.span += length;
            self.grown.iter_mut().zip(growth).for_each(|(grown, growth)| *grown += u128::from(growth));
            #[allow(clippy::cast_precision_loss)] // What is counted within a minute stays far below 2^53.
            let rates = growth.map(|growth| growth as f64 / seconds);
            self.steps.push_back(Step { end: at, length, growth, rates });
        }
        true
    }

    /// What the steps come to; `None` before the first.
    #[allow(clippy::cast_precision_loss)]
    pub(super) fn minute(&self) -> Option<Minute<N>> {
        let count = u32::try_from(self.steps.len()).ok().filter(|count| *count > 0)?;
        let seconds = self.span.as_secs_f64();
        let spreads = std::array::from_fn(|place| {
            let rates = || self.steps.iter().map(|step| step.rates[place]);
            Spread {
                average: self.grown[place] as f64 / seconds,
                minimum: rates().fold(f64::INFINITY, f64::min),
                maximum: rates().fold(0.0, f64::max),
            }
        });
        Some(Minute { end: self.steps.back()?.end, span: self.span, step: self.span / count, spreads })
    }
}

/// CPU time, nanoseconds.
pub(super) fn cpu_counter(cpu: &CpuSample) -> Option<[u64; 1]> {
    Some([cpu.time_ns?])
}

/// Bytes that all NICs received, and sent. One that is plugged in counts from zero; one that is unplugged takes its count away.
pub(super) fn network_counters(sample: &InterfaceSample) -> Option<[u64; 2]> {
    let sum = |of: fn(&(Traffic, Traffic)) -> Option<u64>| {
        sample.interfaces.iter().try_fold(0_u64, |sum, nic| sum.checked_add(of(&(nic.receive, nic.transmit))?))
    };
    if sample.interfaces.is_empty() {
        return None;
    }
    Some([sum(|it| it.0.bytes)?, sum(|it| it.1.bytes)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Bench {
        base: Instant,
        meter: Meter<1>,
    }

    impl Bench {
        fn new() -> Self {
            Self { base: Instant::now(), meter: Meter::default() }
        }

        fn take(&mut self, millis: u64, counted: u64) {
            self.meter.take(self.base + Duration::from_millis(millis), [counted]);
        }

        fn seen(&self) -> Option<(u128, u128, f64, f64, f64)> {
            let Minute { span, step, spreads: [Spread { average, minimum, maximum }], .. } = self.meter.minute()?;
            Some((span.as_millis(), step.as_millis(), average, minimum, maximum))
        }
    }

    #[test]
    fn a_peak_of_one_second_shows() {
        let mut bench = Bench::new();
        bench.take(0, 1000);
        assert_eq!(bench.seen(), None);
        for second in 1..=10 {
            bench.take(second * 1000, 1000 + second * 10 + if second >= 5 { 490 } else { 0 });
        }
        assert_eq!(bench.seen(), Some((10_000, 1000, 59.0, 10.0, 500.0)));
    }

    #[test]
    fn samples_of_a_tenth_of_a_second_are_put_together_to_seconds() {
        let mut bench = Bench::new();
        for tenth in 0..=25 {
            // All of it in every second tenth.
            bench.take(tenth * 100, tenth / 2 * 20);
        }
        assert_eq!(bench.seen(), Some((2000, 1000, 100.0, 100.0, 100.0)), "half a second is open");
    }

    #[test]
    fn only_the_last_minute_counts() {
        let mut bench = Bench::new();
        for sample in 0..=20 {
            bench.take(sample * 5000, if sample == 0 { 0 } else { 1_000_000 });
        }
        assert_eq!(bench.seen(), Some((60_000, 5000, 0.0, 0.0, 0.0)), "the peak was earlier");
        bench.take(100_000 + 61_000, 2_000_000);
        assert_eq!(bench.seen(), None, "of a gap nothing is known");
    }

    #[test]
    fn a_counter_that_went_back_tells_nothing_of_that_step() {
        let mut bench = Bench::new();
        bench.take(0, 500);
        bench.take(1000, 600);
        bench.take(1500, 5);
        bench.take(2500, 25);
        assert_eq!(bench.seen(), Some((2000, 1000, 60.0, 20.0, 100.0)));
    }

    #[test]
    fn bytes_of_all_nics_are_one_counter_and_one_that_lacks_them_makes_none() {
        use crate::model::Interface;
        let nic = |receive, transmit| Interface {
            receive: Traffic { bytes: receive, ..Traffic::default() },
            transmit: Traffic { bytes: transmit, ..Traffic::default() },
            ..Interface::default()
        };
        let sample = |interfaces: Vec<Interface>| InterfaceSample { count: None, interfaces };
        assert_eq!(network_counters(&sample(vec![nic(Some(1), Some(2)), nic(Some(10), Some(20))])), Some([11, 22]));
        assert_eq!(network_counters(&sample(vec![nic(Some(1), Some(2)), nic(None, Some(20))])), None);
        assert_eq!(network_counters(&sample(vec![])), None);
    }
}
