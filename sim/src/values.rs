//! Values of commands that are written as a text, the same in TOML, in JSON and on a command line.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use clap::ValueEnum as _;
use serde::{Deserialize, Serialize};

use crate::command::Happening;
use crate::procedures::{self, Procedure, TABLE};

/// A time, "10s" or "1m 30s".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Time(pub Duration);

impl Time {
    /// So many seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// So many milliseconds.
    #[must_use]
    pub const fn millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }
}

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text).map(Self).map_err(|error| format!("'{text}' is no time: {error}"))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// A share, above 0 and up to 1.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Share(f64);

impl Share {
    /// Does it apply this time?
    pub(crate) fn applies(self, random: &mut fastrand::Rng) -> bool {
        random.f64() < self.0
    }
}

impl Default for Share {
    fn default() -> Self {
        Self(1.0)
    }
}

impl TryFrom<f64> for Share {
    type Error = String;

    fn try_from(share: f64) -> Result<Self, String> {
        if share > 0.0 && share <= 1.0 { Ok(Self(share)) } else { Err(format!("{share} is no share: 0 < share <= 1")) }
    }
}

impl From<Share> for f64 {
    fn from(share: Share) -> Self {
        share.0
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<f64>().map_err(|error| format!("'{text}' is no share: {error}"))?.try_into()
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The name of a procedure that is served; read in any case, and with any dashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ProcedureName(u32);

impl ProcedureName {
    pub(crate) fn is(self, procedure: &Procedure) -> bool {
        self.0 == procedure.number
    }
}

impl FromStr for ProcedureName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let plain = |name: &str| name.replace(['-', '_'], "").to_ascii_lowercase();
        let found = TABLE.iter().find(|procedure| plain(procedure.name) == plain(text));
        found.map(|procedure| Self(procedure.number)).ok_or_else(|| {
            let known: Vec<&str> = TABLE.iter().map(|procedure| procedure.name).collect();
            format!("no procedure '{text}'; there are {}", known.join(", "))
        })
    }
}

impl fmt::Display for ProcedureName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(procedures::find(self.0).map_or("unknown", |procedure| procedure.name))
    }
}

/// How long something takes.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Distribution {
    /// Always the same.
    Fixed(Time),
    /// Anything between two times.
    Uniform(Time, Time),
    /// Mostly short: the mean.
    Exponential(Time, Cap),
    /// Mostly short, and sometimes very long: the least, and the exponent.
    Pareto(Time, f64, Cap),
}

/// No longer than that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cap(pub Time);

impl Default for Cap {
    fn default() -> Self {
        Self(Time::seconds(30))
    }
}

impl Distribution {
    pub(crate) fn sample(self, random: &mut fastrand::Rng) -> Duration {
        // Above 0 and up to 1.
        let u = 1.0 - random.f64();
        let scaled = |time: Time, factor: f64, cap: Cap| {
            let seconds = (time.0.as_secs_f64() * factor).min(cap.0.0.as_secs_f64());
            Duration::try_from_secs_f64(seconds).unwrap_or(cap.0.0)
        };
        match self {
            Self::Fixed(time) => time.0,
            Self::Uniform(from, to) => from.0 + to.0.saturating_sub(from.0).mul_f64(u),
            Self::Exponential(mean, cap) => scaled(mean, -u.ln(), cap),
            Self::Pareto(least, exponent, cap) => scaled(least, u.powf(-1.0 / exponent), cap),
        }
    }
}

impl FromStr for Distribution {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let cap = |rest: &[&str]| match rest {
            [] => Ok(Cap::default()),
            ["cap", time] => time.parse().map(Cap),
            _ => Err(format!("'{}' is no cap, as \"cap 2s\" is", rest.join(" "))),
        };
        match words.as_slice() {
            [time] | ["fixed", time] => time.parse().map(Self::Fixed),
            ["uniform", from, to] => {
                let (from, to): (Time, Time) = (from.parse()?, to.parse()?);
                if from.0 > to.0 { Err(format!("{from} is above {to}")) } else { Ok(Self::Uniform(from, to)) }
            }
            ["exponential", mean, rest @ ..] => Ok(Self::Exponential(mean.parse()?, cap(rest)?)),
            ["pareto", least, exponent, rest @ ..] => {
                let number = exponent.parse::<f64>().ok().filter(|number| number.is_finite() && *number > 0.0);
                let number = number.ok_or_else(|| format!("'{exponent}' is no exponent above 0"))?;
                Ok(Self::Pareto(least.parse()?, number, cap(rest)?))
            }
            _ => Err(format!(
                "'{text}' is no distribution, as \"20ms\", \"uniform 10ms 50ms\", \"exponential 20ms\" and \
                 \"pareto 5ms 1.5 cap 2s\" are"
            )),
        }
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // One word a time: parsing goes by words.
        let short = |time: &Time| time.to_string().replace(' ', "");
        match self {
            Self::Fixed(time) => write!(f, "fixed {}", short(time)),
            Self::Uniform(from, to) => write!(f, "uniform {} {}", short(from), short(to)),
            Self::Exponential(mean, cap) => write!(f, "exponential {} cap {}", short(mean), short(&cap.0)),
            Self::Pareto(least, exponent, cap) => write!(f, "pareto {} {exponent} cap {}", short(least), short(&cap.0)),
        }
    }
}

/// What happens how often, next to the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Mix(BTreeMap<Happening, u32>);

impl Mix {
    /// Draws one.
    pub(crate) fn draw(&self, random: &mut fastrand::Rng) -> Option<Happening> {
        let sum: u32 = self.0.values().sum();
        let mut left = if sum == 0 { return None } else { random.u32(0..sum) };
        for (kind, weight) in &self.0 {
            match left.checked_sub(*weight) {
                None => return Some(*kind),
                Some(rest) => left = rest,
            }
        }
        None
    }
}

impl Default for Mix {
    /// Keeps about as many guests, and about as many of them running.
    fn default() -> Self {
        use Happening::{
            AttachDisk, AttachNic, Define, DetachDisk, DetachNic, Metadata, MigrateIn, MigrateOut, Pause, Resume,
            Start, Stop, Undefine,
        };
        let often = [(Start, 4), (Stop, 4), (Pause, 2), (Resume, 2)];
        let rare = [Define, Undefine, AttachDisk, DetachDisk, AttachNic, DetachNic, MigrateOut, MigrateIn, Metadata];
        Self(often.into_iter().chain(rare.map(|kind| (kind, 1))).collect())
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        /// Enough for any ratio, and no sum of them overflows.
        const MOST: u32 = 1_000_000;
        let mut mix = BTreeMap::new();
        for part in text.split(',').map(str::trim) {
            let (kind, weight) = part.split_once('=').unwrap_or((part, "1"));
            let kind = Happening::from_str(kind.trim(), false)
                .map_err(|_| format!("'{kind}' is nothing that happens; there are {}", happenings()))?;
            let weight = weight.trim().parse().ok().filter(|weight| *weight <= MOST);
            mix.insert(kind, weight.ok_or_else(|| format!("'{part}' has no whole number up to {MOST}"))?);
        }
        if mix.values().all(|weight| *weight == 0) {
            Err(format!("nothing happens in '{text}'"))
        } else {
            Ok(Self(mix))
        }
    }
}

fn happenings() -> String {
    let names = Happening::value_variants().iter().filter_map(clap::ValueEnum::to_possible_value);
    names.map(|name| name.get_name().to_owned()).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.0.iter().filter_map(|(kind, weight)| {
            let name = kind.to_possible_value()?;
            Some(format!("{}={weight}", name.get_name()))
        });
        f.write_str(&parts.collect::<Vec<_>>().join(","))
    }
}

/// Types that serde knows as a string and we as what is in it.
macro_rules! as_text {
    ($($type:ty),*) => {$(
        impl TryFrom<String> for $type {
            type Error = String;
            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }
        impl From<$type> for String {
            fn from(value: $type) -> Self {
                value.to_string()
            }
        }
    )*};
}
as_text!(Time, ProcedureName, Distribution, Mix);

/// Does a name match a pattern with `*` and `?`?
pub(crate) fn glob(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where the last star was, and how much of the name it took.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(letter) if *letter == '?' || *letter == name[n] => (p, n) = (p + 1, n + 1),
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                (p, n) = (at + 1, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(|letter| *letter == '*')
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn globs() {
        for (pattern, name) in
            [("*", ""), ("*", "x"), ("vm-?", "vm-1"), ("a*b*c", "aXbbYc"), ("*-0*", "vm-00"), ("é?", "éa")]
        {
            assert!(glob(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("", "x"), ("vm-?", "vm-"), ("a*b", "abc"), ("?", ""), ("vm", "vm1")] {
            assert!(!glob(pattern, name), "{pattern} {name}");
        }
    }

    #[test]
    fn distributions_are_read_as_they_are_written() {
        for text in ["20ms", "fixed 1s", "uniform 10ms 50ms", "exponential 20ms", "pareto 5ms 1.5 cap 2s"] {
            let read: Distribution = text.parse().unwrap();
            assert_eq!(read.to_string().parse(), Ok(read), "{text}");
        }
        for text in [
            "",
            "soon",
            "uniform 2s 1s",
            "pareto 5ms",
            "pareto 5ms -1",
            "pareto 1ms NaN",
            "exponential 1s cap",
            "fixed",
        ] {
            assert!(text.parse::<Distribution>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn samples_are_in_bounds(seed in any::<u64>()) {
            let mut random = fastrand::Rng::with_seed(seed);
            let sample = |text: &str, random: &mut fastrand::Rng| text.parse::<Distribution>().unwrap().sample(random);
            let uniform = sample("uniform 10ms 50ms", &mut random);
            prop_assert!((10..=50).contains(&uniform.as_millis()), "{:?}", uniform);
            let pareto = sample("pareto 5ms 0.01 cap 2s", &mut random);
            prop_assert!((5..=2000).contains(&pareto.as_millis()), "{:?}", pareto);
            prop_assert!(sample("exponential 20ms cap 1s", &mut random).as_millis() <= 1000);
        }
    }

    #[test]
    fn mixes_are_drawn_by_weight() {
        let mix: Mix = "start=1, stop=0,define=3".parse().unwrap();
        let mut random = fastrand::Rng::with_seed(7);
        let drawn: Vec<Happening> = (0..400).filter_map(|_| mix.draw(&mut random)).collect();
        let count = |kind| drawn.iter().filter(|drawn| **drawn == kind).count();
        assert!(count(Happening::Stop) == 0 && count(Happening::Define) > 250 && count(Happening::Start) > 50);
        assert_eq!(mix.to_string().parse(), Ok(mix));
        for text in ["", "fly=1", "start=-1", "start=0", "start=9999999"] {
            assert!(text.parse::<Mix>().is_err(), "{text}");
        }
    }

    #[test]
    fn procedures_are_found_in_any_spelling() {
        assert_eq!("connect-get-all-domain-stats".parse(), Ok(ProcedureName(344)));
        assert!("fly".parse::<ProcedureName>().unwrap_err().contains("there are ConnectOpen"));
    }
}
