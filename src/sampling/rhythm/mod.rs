//! The scraper's rhythm: a sample that is ready just before each scrape, so that rate() does not zigzag.
//!
//! Pure: scrapes and the time are handed in, advice comes out. Clients cannot make the host work more: they move the phase
//! of the timers, and the period only if it is set to "auto", within bounds.

mod beats;
mod hint;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use self::beats::Beats;
use self::hint::Hint;
use super::schedule::{Shift, Timer, remainder};
use crate::store::ScraperId;

/// How often to look for scrapes at least. The queue between holds as many of one client as come in three such times.
pub(super) const LOOK: Duration = Duration::from_secs(5);

/// Clients that are remembered: a pair of Prometheus, some tools, some people.
const CLIENTS: usize = 16;

/// Bounds of a period that follows a scraper: more often costs the host too much to let a client decide it; less often
/// leaves engines and people with figures of the past.
const AUTO: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));

/// Times within this part of each other are the same.
const SAME: u32 = 20;

/// From the end of a turn to the scrape: the time that storing, rendering and compressing take on a large host, and some.
const MARGIN: Duration = Duration::from_millis(250);

/// A turn is left alone if it ends earlier than it could by at most a fiftieth of the interval, within these bounds: the wake
/// of a thread and the jitter of a scraper need the lower one; nobody sees the upper one in a rate.
const SLACK: (Duration, Duration) = (Duration::from_millis(100), Duration::from_millis(300));

/// What is known of the scraper that is followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Phase {
    /// When it comes next, at the earliest.
    pub(super) next: Instant,
    /// How often it comes.
    pub(super) interval: Duration,
}

/// Learns who scrapes when, and follows one.
#[derive(Debug)]
pub(super) struct Rhythm {
    clients: Vec<Client>,
    followed: Option<ScraperId>,
    /// The general period in force.
    period: Duration,
    auto: bool,
    hint: Option<Hint>,
}

#[derive(Debug)]
struct Client {
    id: ScraperId,
    beats: Beats,
}

impl Rhythm {
    /// For a general period, which follows the scraper if `auto`.
    pub(super) fn new(period: Duration, auto: bool) -> Self {
        Self { clients: Vec::with_capacity(CLIENTS), followed: None, period, auto, hint: None }
    }

    /// Takes a scrape. Of too many clients the one that was seen longest ago is forgotten, never the one that is followed.
    pub(super) fn observe(&mut self, client: ScraperId, at: Instant) {
        if let Some(known) = self.clients.iter_mut().find(|known| known.id == client) {
            return known.beats.push(at);
        }
        let new = Client { id: client, beats: Beats::new(at) };
        if self.clients.len() < CLIENTS {
            return self.clients.push(new);
        }
        let others = self.clients.iter_mut().filter(|known| Some(known.id) != self.followed);
        if let Some(oldest) = others.min_by_key(|known| known.beats.last()) {
            *oldest = new;
        }
    }

    /// Draws the conclusions, once the newest scrapes were taken: whom to follow, the period, the hint.
    pub(super) fn settle(&mut self, now: Instant) {
        self.followed = self.choose(now);
        if self.auto
            && let Some(interval) = self.followed.and_then(|id| self.interval(id, now))
        {
            let wanted = as_set(interval).clamp(AUTO.0, AUTO.1);
            if wanted.abs_diff(self.period) > self.period / SAME {
                self.period = wanted;
            }
        }
        self.advertise(now);
    }

    /// Who is followed.
    pub(super) fn followed(&self) -> Option<ScraperId> {
        self.followed
    }

    /// The next scrape that is worth to be ready for.
    pub(super) fn target(&self, now: Instant) -> Option<Phase> {
        let beats = &self.clients.iter().find(|client| Some(client.id) == self.followed)?.beats;
        Some(Phase { next: beats.next(now)?, interval: beats.interval(now)? })
    }

    /// The general period, if it is for the scraper to say. It outlives the scraper.
    pub(super) fn period(&self) -> Option<Duration> {
        self.auto.then_some(self.period)
    }

    /// What could be set better.
    pub(super) fn hint(&self) -> Option<&str> {
        self.hint.as_ref().map(|hint| hint.text.as_str())
    }

    /// How to move the timers of a lane so that a turn, which takes `lead` until everybody can see it, ends just before a
    /// scrape. To be asked once a turn.
    ///
    /// Per turn it is at most a quarter of the fastest period later, or a twentieth earlier, whichever leads there in
    /// fewer turns: four at most. So nobody can make turns come more than a twentieth too often.
    pub(super) fn advise<K>(&self, now: Instant, timers: &[Timer<K>], lead: Duration) -> Option<Shift> {
        let Phase { next, interval } = self.target(now)?;
        let fastest = timers.iter().map(|timer| timer.period).min()?;
        // The timer with the coarsest grid: all count from the same moment, so that those with finer ones fall in.
        let fitting = timers.iter().filter_map(|timer| Some((Fit::of(timer.period, interval)?.grid, timer.due)));
        let (grid, due) = fitting.max_by_key(|(grid, due)| (*grid, std::cmp::Reverse(*due)))?;
        // It may fall due this much earlier than at the latest moment, and not at all later.
        let slack = (grid / 50).clamp(SLACK.0, SLACK.1);
        let aim = next.checked_sub(lead + slack / 2)?;
        let late = match due.checked_duration_since(aim) {
            Some(late) => remainder(late, grid),
            None => remainder(grid - remainder(aim - due, grid), grid),
        };
        let early = grid - late;
        if late.min(early) <= slack / 2 {
            None
        } else if late * 5 <= early {
            Some(Shift::Earlier(late.min(fastest / 20)))
        } else {
            Some(Shift::Later(early.min(fastest / 4)))
        }
    }

    fn interval(&self, id: ScraperId, now: Instant) -> Option<Duration> {
        self.clients.iter().find(|client| client.id == id)?.beats.interval(now)
    }

    /// Clients that are steady, with their intervals.
    fn steady(&self, now: Instant) -> impl Iterator<Item = (&Client, Duration)> {
        self.clients.iter().filter_map(move |client| Some((client, client.beats.interval(now)?)))
    }

    /// The one that is followed, while it is steady; unless it does not fit and another does.
    fn choose(&self, now: Instant) -> Option<ScraperId> {
        let rank = |interval| Fit::of(self.period, interval).map_or(u32::MAX, |fit| fit.factor);
        let best = self.steady(now).min_by_key(|(client, interval)| (rank(*interval), client.beats.since));
        let (best, best_interval) = best.map(|(client, interval)| (client.id, interval))?;
        let kept = self.followed.and_then(|id| Some((id, self.interval(id, now)?)));
        match kept {
            Some((kept, interval)) if rank(interval) < u32::MAX || rank(best_interval) == u32::MAX => Some(kept),
            _ => Some(best),
        }
    }

    /// Keeps the hint while it holds, else finds one: about who is followed, else about the client known longest.
    fn advertise(&mut self, now: Instant) {
        let odd = |interval| Fit::of(self.period, interval).is_none();
        if let Some(hint) = &self.hint
            && let Some(interval) = self.interval(hint.client, now)
            && odd(interval)
            && hint.holds(interval, self.period)
        {
            return;
        }
        let odd = self.steady(now).filter(|(_, interval)| odd(*interval));
        let first = odd.min_by_key(|(client, _)| (Some(client.id) != self.followed, client.beats.since));
        self.hint = first.map(|(client, interval)| Hint::new(client.id, interval, self.period));
    }
}

/// Of a period and an interval one is about a multiple of the other.
struct Fit {
    /// How many times.
    factor: u32,
    /// How far apart the moments are at which a turn can stand for its phase to be the same at each scrape.
    grid: Duration,
}

impl Fit {
    fn of(period: Duration, interval: Duration) -> Option<Self> {
        let (long, short) = (period.max(interval), period.min(interval));
        let exact = rounded(long, short);
        if long.abs_diff(exact) > exact / SAME {
            return None;
        }
        let factor = u32::try_from(exact.as_nanos() / short.as_nanos().max(1)).ok()?;
        Some(Self { factor, grid: if interval > period { interval / factor } else { interval } })
    }
}

/// The interval that was probably set where this one is observed: whole seconds if it is close to that, else tenths.
fn as_set(interval: Duration) -> Duration {
    let whole = rounded(interval, Duration::from_secs(1));
    if interval.abs_diff(whole) <= interval / 50 { whole } else { rounded(interval, Duration::from_millis(100)) }
}

/// The nearest multiple of a unit.
fn rounded(time: Duration, unit: Duration) -> Duration {
    let over = remainder(time, unit);
    if over * 2 < unit { time - over } else { time - over + unit }
}

/// How long turns usually take: of the last eight the second longest, since one that hung says nothing of the next.
#[derive(Debug, Default)]
pub(super) struct Lead {
    last: [Duration; 8],
    next: usize,
}

impl Lead {
    /// Takes the duration of a turn.
    pub(super) fn note(&mut self, took: Duration) {
        self.last[self.next] = took;
        self.next = (self.next + 1) % self.last.len();
    }

    /// How long before a scrape a turn is to begin.
    pub(super) fn time(&self) -> Duration {
        let mut last = self.last;
        last.sort_unstable();
        last[last.len() - 2] + MARGIN
    }
}
