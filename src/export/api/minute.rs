//! Rates within the last minute, as JSON: peaks that a scrape each 15 s does not show.

use std::time::Instant;

use schemars::JsonSchema;
use serde::Serialize;

use super::round;
use crate::store::{Domain, Minute, Spread};

/// Of the CPU and of all NICs together; what was not sampled twice is absent.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Minute")]
pub(super) struct MinuteJson {
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu: Option<CpuMinute>,
    #[serde(skip_serializing_if = "Option::is_none")]
    network: Option<NetworkMinute>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct CpuMinute {
    /// What is covered: a minute, or less after a start.
    span_seconds: f64,
    /// Over what minimum and maximum are: a second, or the time between two samples where that is longer.
    step_seconds: f64,
    time_seconds_per_second: Rates,
}

#[derive(Debug, Serialize, JsonSchema)]
struct NetworkMinute {
    /// What is covered: a minute, or less after a start.
    span_seconds: f64,
    /// Over what minimum and maximum are: a second, or the time between two samples where that is longer.
    step_seconds: f64,
    receive_bytes_per_second: Rates,
    transmit_bytes_per_second: Rates,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Rates {
    average: f64,
    minimum: f64,
    maximum: f64,
}

impl Rates {
    fn of(spread: Spread, unit: f64) -> Self {
        Self { average: spread.average / unit, minimum: spread.minimum / unit, maximum: spread.maximum / unit }
    }
}

/// The rates of a running domain; `None` if there are none yet, or none of the minute before `now`.
pub(super) fn of(domain: &Domain, now: Option<Instant>) -> Option<MinuteJson> {
    let cpu = |Minute { span, step, spreads: [time], .. }| CpuMinute {
        span_seconds: round(span),
        step_seconds: round(step),
        time_seconds_per_second: Rates::of(time, 1e9),
    };
    let network = |Minute { span, step, spreads: [receive, transmit], .. }| NetworkMinute {
        span_seconds: round(span),
        step_seconds: round(step),
        receive_bytes_per_second: Rates::of(receive, 1.0),
        transmit_bytes_per_second: Rates::of(transmit, 1.0),
    };
    let minute = MinuteJson {
        cpu: domain.cpu_minute.filter(|it| now.is_none_or(|now| it.is_of_now(now))).map(cpu),
        network: domain.network_minute.filter(|it| now.is_none_or(|now| it.is_of_now(now))).map(network),
    };
    (minute.cpu.is_some() || minute.network.is_some()).then_some(minute)
}
