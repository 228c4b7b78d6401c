//! Scrapers against timers, in time that is moved by hand.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::sampling::schedule::{Schedule, set_period, steer};

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);
/// How long a turn takes here.
const TOOK: Duration = Duration::from_millis(800);

fn client(number: u64) -> ScraperId {
    ScraperId { address: [10, 0, 0, 5].into(), agent: number }
}

/// A lane with timers, and the scrapes that come meanwhile.
struct Lab {
    start: Instant,
    now: Instant,
    schedule: Schedule<usize>,
    rhythm: Rhythm,
    lead: Lead,
    turns: Vec<Instant>,
    /// Keys of the timers that had a turn, by turn.
    shared: Vec<usize>,
}

impl Lab {
    fn new(periods: &[u64], auto: bool) -> Self {
        let start = Instant::now();
        let periods: Vec<Duration> = periods.iter().copied().map(Duration::from_secs).collect();
        Self {
            start,
            now: start,
            schedule: Schedule::new(periods.iter().copied().enumerate(), start),
            rhythm: Rhythm::new(periods[0], auto),
            lead: Lead::default(),
            turns: Vec::new(),
            shared: Vec::new(),
        }
    }

    /// What the engine does when it looks.
    fn tick(&mut self) {
        self.rhythm.settle(self.now);
        if let Some(period) = self.rhythm.period() {
            set_period(&mut [&mut self.schedule], |key| key == 0, period);
        }
        let due = self.schedule.due(self.now);
        if !due.is_empty() {
            self.turns.push(self.now);
            self.shared.push(due.len());
            self.lead.note(TOOK);
        }
        let (rhythm, now, lead) = (&self.rhythm, self.now, self.lead.time());
        steer(&mut [&mut self.schedule], |timers| rhythm.advise(now, timers, lead));
    }

    fn run_until(&mut self, at: Instant) {
        loop {
            let look = self.now + LOOK;
            let next = self.schedule.next().map_or(look, |due| due.clamp(self.now, look));
            if next > at {
                break;
            }
            self.now = next;
            self.tick();
        }
        self.now = at;
    }

    /// A scrape; tells the age of the sample that it finds.
    fn scrape(&mut self, client: ScraperId, at: Instant) -> Option<Duration> {
        self.run_until(at);
        let found = self.turns.iter().rev().find(|turn| **turn + TOOK <= at).map(|turn| at - *turn);
        self.rhythm.observe(client, at);
        self.rhythm.settle(at);
        found
    }

    /// Scrapes at these milliseconds; tells the ages.
    fn scrapes(&mut self, client: ScraperId, millis: impl IntoIterator<Item = u64>) -> Vec<Duration> {
        let start = self.start;
        millis.into_iter().filter_map(|at| self.scrape(client, start + Duration::from_millis(at))).collect()
    }

    /// Moments of the turns, in milliseconds.
    fn turns(&self) -> Vec<u128> {
        self.turns.iter().map(|turn| (*turn - self.start).as_millis()).collect()
    }

    fn shortest_pause(&self) -> Duration {
        self.turns.windows(2).map(|pair| pair[1] - pair[0]).min().unwrap()
    }
}

/// A sample as young as it can be, less what is left alone.
fn assert_fresh(ages: &[Duration], what: &str) {
    for age in ages {
        let range = TOOK..=TOOK + MARGIN + 300 * MILLI;
        assert!(range.contains(age), "{what}: {age:?} is not in {range:?}; all: {ages:?}");
    }
}

#[test]
fn nobody_scrapes_and_nothing_moves() {
    let mut lab = Lab::new(&[15], true);
    lab.run_until(lab.start + 100 * SECOND);
    assert_eq!(lab.turns(), [0, 15_000, 30_000, 45_000, 60_000, 75_000, 90_000]);
    assert_eq!((lab.rhythm.target(lab.now), lab.rhythm.hint()), (None, None));
}

#[test]
fn from_any_phase_one_scraper_soon_finds_fresh_samples_only() {
    for phase in (0..15_000).step_by(730) {
        let mut lab = Lab::new(&[15], false);
        let ages = lab.scrapes(client(1), (0..40).map(|n| phase + n * 15_000));
        // Five scrapes to learn it, four turns to get there, and one that the move was late for.
        assert_fresh(&ages[10..], &format!("phase {phase}"));
        assert!(lab.shortest_pause() >= 15 * SECOND * 19 / 20, "never more than a twentieth too often");
        let settled: Vec<_> = lab.turns.iter().rev().take(25).collect();
        assert!(settled.windows(2).all(|pair| *pair[0] - *pair[1] == 15 * SECOND), "then the period is that set");
    }
}

#[test]
fn intervals_that_fit_are_followed_too() {
    for (period, interval) in [(15, 30), (15, 60), (30, 15), (60, 15), (10, 5), (5, 5), (1, 1), (60, 60)] {
        let mut lab = Lab::new(&[period], false);
        let ages = lab.scrapes(client(1), (0..80).map(|n| 400 + n * interval * 1000));
        assert_eq!(lab.rhythm.hint(), None);
        // Where it scrapes more often than we sample, each sample is found several times.
        let again = Duration::from_secs(interval);
        let young = |age: Duration| {
            if period > interval { age - again * ((age - TOOK).as_secs() / interval).try_into().unwrap() } else { age }
        };
        assert_fresh(&ages[40..].iter().copied().map(young).collect::<Vec<_>>(), &format!("{period} s, {interval} s"));
    }
}

#[test]
fn groups_with_periods_of_their_own_stay_together() {
    let mut lab = Lab::new(&[15, 60, 30], false);
    let ages = lab.scrapes(client(1), (0..40).map(|n| 7_000 + n * 60_000));
    assert_fresh(&ages[12..], "the slowest is as fresh as the others");
    assert!(
        lab.shared.chunks_exact(4).all(|calls| calls == [3, 1, 2, 1]),
        "calls are shared as without a scraper: {:?}",
        lab.shared
    );
}

#[test]
fn jitter_and_drift_are_followed_early_rather_than_late() {
    let mut lab = Lab::new(&[15], false);
    let jitter = |n: u64| [0, 90, 20, 140, 60, 10, 120][usize::try_from(n % 7).unwrap()];
    let ages = lab.scrapes(client(1), (0..60).map(|n| 3_000 + n * 15_000 + jitter(n)));
    for age in &ages[10..] {
        assert!((TOOK..=TOOK + MARGIN + 600 * MILLI).contains(age), "{ages:?}");
    }
    let mut lab = Lab::new(&[15], false);
    let ages = lab.scrapes(client(1), (0..60).map(|n| 3_000 + n * 14_700));
    for age in &ages[12..] {
        assert!((TOOK..=TOOK + MARGIN + 900 * MILLI).contains(age), "a slow drift: {ages:?}");
    }
    assert!(lab.shortest_pause() >= 15 * SECOND * 19 / 20);
}

#[test]
fn of_two_scrapers_one_is_followed_and_stays_it() {
    let mut lab = Lab::new(&[15], false);
    let mut followed = Vec::new();
    for n in 0..60 {
        let first = lab.scrapes(client(1), [2_000 + n * 15_000]);
        lab.scrapes(client(2), [9_000 + n * 15_000]);
        followed.extend(lab.rhythm.followed());
        if n > 12 {
            assert_fresh(&first, "the first");
        }
    }
    assert!(followed.len() > 50 && followed.iter().all(|id| *id == client(1)), "the one known longest");
    // It goes away; the other one is followed.
    let mut ages = Vec::new();
    for n in 60..90 {
        ages = lab.scrapes(client(2), [9_000 + n * 15_000]);
    }
    assert_eq!(lab.rhythm.followed(), Some(client(2)));
    assert_fresh(&ages, "the second");
    // It comes back, and is too late.
    for n in 90..110 {
        lab.scrapes(client(1), [2_000 + n * 15_000]);
        lab.scrapes(client(2), [9_000 + n * 15_000]);
    }
    assert_eq!(lab.rhythm.followed(), Some(client(2)));
}

#[test]
fn the_scraper_whose_interval_is_the_period_is_preferred() {
    let mut lab = Lab::new(&[15], false);
    for n in 0..20 {
        lab.scrapes(client(1), [1_000 + n * 60_000]);
        for part in 0..4 {
            lab.scrapes(client(2), [2_000 + n * 60_000 + part * 15_000]);
        }
    }
    assert_eq!(lab.rhythm.followed(), Some(client(2)));
}

#[test]
fn a_scraper_that_changes_is_followed_again() {
    let mut lab = Lab::new(&[15], false);
    let ages = lab.scrapes(client(1), (0..30).map(|n| 4_000 + n * 15_000));
    assert_fresh(&ages[12..], "at first");
    let ages = lab.scrapes(client(1), (30..60).map(|n| 11_000 + n * 15_000));
    assert_fresh(&ages[12..], "another phase");
    let ages = lab.scrapes(client(1), (0..30).map(|n| 960_000 + n * 30_000));
    assert_fresh(&ages[12..], "another interval");
    assert!(lab.shortest_pause() >= 15 * SECOND * 19 / 20);
}

#[test]
fn a_flood_changes_nothing() {
    let mut lab = Lab::new(&[15], false);
    lab.scrapes(client(1), (0..20).map(|n| 4_000 + n * 15_000));
    let mut ages = Vec::new();
    for n in 20..40 {
        let at = n * 15_000;
        // Before it comes again: a hundred a second from one client, and five hundred clients once each.
        lab.scrapes(client(2), (at..at + 4_000).step_by(10));
        for other in 0..500 {
            lab.scrapes(client(1_000 * n + other), [at + 3_999]);
        }
        ages.extend(lab.scrapes(client(1), [at + 4_000]));
        assert_eq!(lab.rhythm.followed(), Some(client(1)));
        assert_eq!(lab.rhythm.clients.len(), CLIENTS);
    }
    assert_fresh(&ages, "through the flood");
    let pauses: Vec<_> = lab.turns.windows(2).rev().take(20).map(|pair| pair[1] - pair[0]).collect();
    assert!(pauses.iter().all(|pause| *pause == 15 * SECOND), "{pauses:?}");
    assert_eq!(lab.rhythm.hint(), None);
}

#[test]
fn an_interval_that_does_not_fit_moves_nothing_and_gives_a_hint() {
    let mut lab = Lab::new(&[15], false);
    let jitter = |n: u64| (n % 3) * 40;
    let mut hints = std::collections::BTreeSet::new();
    for n in 0..40 {
        lab.scrapes(client(1), [3_000 + n * 20_000 + jitter(n)]);
        hints.extend(lab.rhythm.hint().map(str::to_owned));
    }
    assert!(lab.turns().iter().enumerate().all(|(n, at)| *at == n as u128 * 15_000));
    let hint = "the scraper at 10.0.0.5 scrapes every 20 s, which does not fit the sampling period of 15 s: \
                set scrape_interval to 15s or sampling.period to 20s";
    assert_eq!(hints.into_iter().collect::<Vec<_>>(), [hint], "one, in the same words");
    // One that fits takes the lead at once; the hint about the other stays.
    for n in 0..8 {
        lab.scrapes(client(2), [803_500 + n * 15_000]);
        lab.scrapes(client(1), [803_600 + n * 15_000].into_iter().filter(|_| n % 4 == 0));
    }
    assert_eq!(lab.rhythm.followed(), Some(client(2)));
    lab.run_until(lab.now + 100 * SECOND);
    lab.tick();
    assert_eq!((lab.rhythm.followed(), lab.rhythm.hint()), (None, None), "both are gone, and so is the hint");
}

#[test]
fn auto_follows_the_interval_and_does_not_wobble() {
    let mut lab = Lab::new(&[15, 60], true);
    let jitter = |n: u64| [0, 350, 100, 500, 250][usize::try_from(n % 5).unwrap()];
    let mut periods = vec![lab.rhythm.period().unwrap()];
    let mut note = |lab: &Lab| {
        let period = lab.rhythm.period().unwrap();
        if periods.last() != Some(&period) {
            periods.push(period);
        }
    };
    for n in 0..40 {
        lab.scrapes(client(1), [3_000 + n * 20_000 + jitter(n)]);
        note(&lab);
    }
    let turns: Vec<_> = lab.turns.windows(2).rev().take(10).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
    assert!(turns.iter().all(|pause| (19.0..=21.0).contains(pause)), "{turns:?}");
    assert!(lab.shared.chunks(3).skip(5).any(|calls| calls.contains(&2)), "calls are shared: {:?}", lab.shared);
    for n in 0..40 {
        lab.scrapes(client(1), [900_000 + n * 2_000]);
        note(&lab);
    }
    for n in 0..10 {
        lab.scrapes(client(1), [1_000_000 + n * 200_000]);
        note(&lab);
    }
    assert_eq!(periods, [15, 20, 5, 60].map(Duration::from_secs), "what was set, within the bounds");
    assert!(lab.rhythm.hint().is_some(), "200 s is no multiple of 60 s");
}

#[test]
fn without_auto_no_client_changes_the_period() {
    let mut lab = Lab::new(&[15], false);
    lab.scrapes(client(1), (0..20).map(|n| n * 5_000));
    lab.scrapes(client(1), (0..20).map(|n| 200_000 + n * 20_000));
    assert_eq!(lab.rhythm.period(), None);
    assert!(lab.shortest_pause() >= 15 * SECOND * 19 / 20);
}

#[test]
fn one_turn_that_hung_does_not_count() {
    let mut lead = Lead::default();
    for took in [700, 800, 30_000, 750] {
        lead.note(took * MILLI);
    }
    assert_eq!(lead.time(), 800 * MILLI + MARGIN);
    (0..8).for_each(|_| lead.note(100 * MILLI));
    assert_eq!(lead.time(), 100 * MILLI + MARGIN);
}

proptest::proptest! {
    /// Whatever clients do: they move turns a little, and make no more of them.
    #[test]
    fn no_clients_make_the_host_work_more(
        runs in proptest::collection::vec((0_u64..3, 700_u64..40_000, 1_u64..12, 0_u64..300), 1..30),
    ) {
        let mut lab = Lab::new(&[15, 30], false);
        let mut at = 0;
        for (number, interval, count, jitter) in runs {
            for n in 0..count {
                at += interval + n * 37 % (jitter + 1);
                lab.scrapes(client(number), [at]);
            }
        }
        for pair in lab.turns.windows(2) {
            let pause = pair[1] - pair[0];
            proptest::prop_assert!((15 * SECOND * 19 / 20..=15 * SECOND * 5 / 4).contains(&pause), "{pause:?}");
        }
    }
}
