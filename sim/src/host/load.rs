//! How busy a guest is, and when: curves whose area is known in closed form.
//!
//! Counters are such areas. So nothing has to be advanced, reading changes nothing, and a counter can not go back: the
//! height of a curve is never below a twentieth of its mean.

use std::f64::consts::TAU;

/// Seconds of a day.
const DAY: f64 = 86_400.0;

/// The most that the device's own wave takes from, or adds to, its guest's activity.
const OWN: f64 = 0.2;

/// A vCPU never computes for more than this share of the time.
const BUSIEST: f64 = 0.97;

/// `(1 + cos x)^4` over its mean: one narrow peak. The factors of `cos kx`.
const NARROW: [f64; 4] = [1.6, 0.8, 8.0 / 35.0, 1.0 / 35.0];

/// Its height above the mean at the peak.
const NARROW_PEAK: f64 = 1.6 + 0.8 + 9.0 / 35.0;

/// What a guest is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Idle,
    Web,
    Batch,
    Database,
    Build,
    Desktop,
}

/// A kind in figures. Heights are fractions of the mean; `day` + `minutes` stays below 0.75.
struct Profile {
    kind: Kind,
    /// Of a hundred guests.
    share: u32,
    /// The mean share of a vCPU that is used, lowest and highest.
    cpu: (f64, f64),
    day: f64,
    minutes: f64,
    /// Is the peak of the day narrow?
    narrow: bool,
    /// The hour of the peak, UTC.
    peak: f64,
    /// Against the other kinds.
    disk: f64,
    net: f64,
}

#[rustfmt::skip]
const PROFILES: [Profile; 6] = [
    Profile { kind: Kind::Idle,     share: 34, cpu: (0.004, 0.03), day: 0.1,  minutes: 0.3,  narrow: false, peak: 12.0, disk: 0.05, net: 0.03 },
    Profile { kind: Kind::Web,      share: 26, cpu: (0.05, 0.40),  day: 0.5,  minutes: 0.2,  narrow: false, peak: 14.0, disk: 0.4,  net: 2.0 },
    Profile { kind: Kind::Batch,    share: 12, cpu: (0.05, 0.30),  day: 0.65, minutes: 0.08, narrow: true,  peak: 2.0,  disk: 2.0,  net: 0.7 },
    Profile { kind: Kind::Database, share: 12, cpu: (0.08, 0.42),  day: 0.35, minutes: 0.3,  narrow: false, peak: 13.0, disk: 3.0,  net: 0.8 },
    Profile { kind: Kind::Build,    share: 8,  cpu: (0.15, 0.50),  day: 0.25, minutes: 0.45, narrow: false, peak: 15.0, disk: 1.2,  net: 0.6 },
    Profile { kind: Kind::Desktop,  share: 8,  cpu: (0.03, 0.20),  day: 0.6,  minutes: 0.12, narrow: true,  peak: 10.0, disk: 0.4,  net: 0.4 },
];

/// A part of the curve that swings around 0: a cosine.
#[derive(Debug, Clone, Copy)]
struct Wave {
    height: f64,
    /// Radians a second.
    pace: f64,
    phase: f64,
}

impl Wave {
    /// Its area from 0 to t.
    fn area(&self, t: f64) -> f64 {
        self.height / self.pace * ((self.pace * t + self.phase).sin() - self.phase.sin())
    }
}

/// The activity of a guest over time, of mean 1, and what it does at that.
#[derive(Debug, Clone)]
pub(super) struct Load {
    day: f64,
    narrow: bool,
    /// Of the day, in radians.
    peak: f64,
    minutes: [Wave; 2],
    /// The mean share of a vCPU that is used.
    pub(super) cpu: f64,
    /// Disk and network against the other guests'.
    pub(super) disk: f64,
    pub(super) net: f64,
}

impl Load {
    pub(super) fn new(random: &mut fastrand::Rng) -> Self {
        let mut lot = random.u32(0..100);
        let profile = PROFILES.iter().find(|profile| match lot.checked_sub(profile.share) {
            Some(rest) => {
                lot = rest;
                false
            }
            None => true,
        });
        let profile = profile.unwrap_or(&PROFILES[0]);
        let mut wave = |height: f64, shortest: f64, longest: f64| Wave {
            height,
            pace: TAU / (shortest + random.f64() * (longest - shortest)),
            phase: random.f64() * TAU,
        };
        let minutes = [wave(profile.minutes * 0.6, 600.0, 2400.0), wave(profile.minutes * 0.4, 90.0, 420.0)];
        // Squared: few are as busy as their kind can be.
        let busy = random.f64().powi(2);
        // Two hours around the kind's; nightly jobs keep to the hour.
        let spread = if profile.kind == Kind::Batch { 1.0 } else { 4.0 };
        let mut load = Self {
            day: profile.day,
            narrow: profile.narrow,
            peak: (profile.peak + (random.f64() - 0.5) * spread) / 24.0 * TAU,
            minutes,
            cpu: profile.cpu.0 + busy * (profile.cpu.1 - profile.cpu.0),
            disk: profile.disk * (0.3 + 1.4 * random.f64()),
            net: profile.net * (0.3 + 1.4 * random.f64()),
        };
        load.cpu = load.cpu.min(BUSIEST / load.highest());
        load
    }

    /// The highest that the activity, with a device's own wave, can be.
    fn highest(&self) -> f64 {
        let day = if self.narrow { self.day * NARROW_PEAK } else { self.day };
        1.0 + day + self.minutes.iter().map(|wave| wave.height).sum::<f64>() + OWN
    }

    /// Where a run is after so many seconds, if it began at that second of a day.
    pub(super) fn at(&self, began: f64, seconds: f64) -> Moment {
        let pace = TAU / DAY;
        let phase = began / DAY * TAU - self.peak;
        let day: f64 = if self.narrow {
            let harmonic = |height: f64, k: f64| Wave { height: self.day * height, pace: pace * k, phase: phase * k };
            NARROW.iter().zip([1.0, 2.0, 3.0, 4.0]).map(|(height, k)| harmonic(*height, k).area(seconds)).sum()
        } else {
            Wave { height: self.day, pace, phase }.area(seconds)
        };
        let minutes: f64 = self.minutes.iter().map(|wave| wave.area(seconds)).sum();
        Moment { seconds, activity: seconds + day + minutes }
    }
}

/// A moment of a run: how long it has run, and how much it has done.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// Seconds that it ran, pauses left out.
    pub(super) seconds: f64,
    /// The area of the activity until now; in the mean, seconds.
    activity: f64,
}

impl Moment {
    /// That of a start.
    pub(super) const BEGIN: Self = Self { seconds: 0.0, activity: 0.0 };

    /// The same, counted from an earlier one.
    pub(super) fn since(&self, earlier: &Self) -> Self {
        Self { seconds: self.seconds - earlier.seconds, activity: self.activity - earlier.activity }
    }

    /// What something that happens so often a second has come to. Each salt has a wave of its own.
    pub(super) fn count(&self, rate: f64, salt: u32) -> f64 {
        let period = 120.0 + f64::from(salt & 0x3ff);
        let height = if salt & 0x400 == 0 { OWN } else { -OWN };
        let turns = self.seconds / period;
        let x = turns - turns.floor();
        // No sine, for there are dozens a guest: the area of 1 - 6x + 6x², which is 1 at the ends, -0.5 in the middle,
        // and 0 in the mean.
        let own = height * period * x * (1.0 - x) * (1.0 - 2.0 * x);
        // Before the first second, rounding could leave a little less than nothing.
        (rate * (self.activity + own)).max(0.0)
    }

    /// Something between 0 and 1 that goes up and down, with a period of so many seconds.
    pub(super) fn swing(&self, period: f64, salt: u32) -> f64 {
        0.5 + 0.5 * (self.seconds * TAU / period + f64::from(salt & 0xff)).sin()
    }
}
