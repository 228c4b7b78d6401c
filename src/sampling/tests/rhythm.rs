//! Scrapers, and the turns of both lanes.

#![allow(clippy::unwrap_used)]

use super::*;
use crate::store::ScraperId;

/// The general period of these tests, the shortest that "auto" takes on.
const PERIOD: Duration = Duration::from_secs(5);
/// How long a bulk call takes here.
const TOOK: Duration = Duration::from_millis(400);
/// How long a turn takes: the free call comes first, and then those that enter monitors.
const TURN: Duration = Duration::from_millis(800);
/// A turn begins so long before a scrape at most: the time it takes, that of rendering, what is left alone, and our steps.
const YOUNG: Duration = Duration::from_millis(800 + 250 + 100 + 50);

const GROUPS: [Group; 6] = [Group::State, Group::Interface, Group::Cpu, Group::Vcpu, Group::Block, Group::Balloon];

fn client(number: u64) -> ScraperId {
    ScraperId { address: [10, 0, 0, 5].into(), agent: number }
}

/// Two domains, all groups each period; but those in `own` have periods of their own.
fn lab(auto: bool, own: &[(Group, Duration)]) -> Lab {
    let world = World::default();
    world.edit(|host| {
        host.domains = (1..=2).map(|number| (id(number), Domain::default())).collect();
        host.takes = TOOK;
    });
    let period = |group| own.iter().find(|(known, _)| *known == group).map_or(PERIOD, |(_, period)| *period);
    let settings = Sampling {
        groups: Group::ALL.map(|group| (group, period(group))).to_vec(),
        period: PERIOD,
        auto,
        own_period: own.iter().map(|(group, _)| *group).collect(),
        cross_check: 60 * SECOND,
        inventory: 60 * SECOND,
        workers: 2,
        budget: 4,
    };
    Lab::set(world, &settings, Budget::new(4))
}

impl Lab {
    fn run_until(&mut self, at: Duration) {
        self.run(at.saturating_sub(self.now()));
    }

    fn scrape(&mut self, number: u64) {
        self.store.note_scrape(client(number), self.store.now());
    }

    /// The age of the oldest sample of a domain.
    fn oldest(&self, number: u8) -> Duration {
        GROUPS.into_iter().map(|group| self.age(number, group)).max().expect("six groups")
    }

    /// When the turns of a lane began.
    fn turns(&self, lane: Lane) -> Vec<Duration> {
        let bulk = self.asked.iter().filter(|(_, it, job)| *it == lane && matches!(job, Job::Bulk(_)));
        let mut turns: Vec<Duration> = bulk.map(|(at, ..)| *at).collect();
        turns.dedup();
        turns
    }

    /// The pauses between turns, which both lanes begin together.
    fn pauses(&self) -> Vec<Duration> {
        let turns = self.turns(Lane::Free);
        let follows = |(free, monitor): (&Duration, Duration)| monitor.abs_diff(*free + TOOK) <= 20 * MS;
        assert!(turns.iter().zip(self.turns(Lane::Monitor)).all(follows), "out of step");
        turns.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }
}

fn assert_young(ages: &[Duration]) {
    assert!(ages.iter().all(|age| (TURN..=YOUNG).contains(age)), "{ages:?}");
}

#[test]
fn a_steady_scraper_soon_finds_samples_of_both_lanes_that_were_just_taken() {
    for phase in [300, 1_700, 4_200] {
        let mut lab = lab(false, &[(Group::Balloon, 2 * PERIOD), (Group::BlockInfo, 12 * PERIOD)]);
        let mut ages = Vec::new();
        for n in 0..40 {
            lab.run_until(phase * MS + n * PERIOD);
            ages.push(GROUPS.into_iter().filter(|it| *it != Group::Balloon).map(|it| lab.age(1, it)).max().unwrap());
            lab.scrape(1);
        }
        assert_young(&ages[12..]);
        let pauses = lab.pauses();
        assert!(pauses.iter().all(|pause| *pause >= PERIOD * 19 / 20), "{pauses:?}");
        assert!(pauses[20..].iter().all(|pause| *pause == PERIOD), "then the period is that set: {pauses:?}");
        let calls = lab.asked.iter().filter_map(|(at, lane, job)| match job {
            Job::Bulk(request) if *lane == Lane::Monitor => Some((*at, request.groups.contains(Group::Balloon))),
            _ => None,
        });
        let mut calls: Vec<(Duration, bool)> = calls.collect();
        calls.dedup();
        assert!(calls.chunks(2).all(|pair| pair[0].1 && !pair.get(1).is_some_and(|it| it.1)), "calls are shared");
    }
}

#[test]
fn sizes_of_disks_move_along() {
    let mut lab = lab(false, &[(Group::BlockInfo, 2 * PERIOD)]);
    for n in 0..30 {
        lab.run_until(1_700 * MS + n * PERIOD);
        lab.scrape(1);
    }
    let asked = lab.asked.iter().filter(|(_, lane, _)| *lane == Lane::BlockInfo).map(|(at, ..)| *at);
    let (asked, turns) = (asked.collect::<Vec<_>>(), lab.turns(Lane::Monitor));
    let apart = |at: &Duration| turns.iter().map(|turn| at.abs_diff(*turn)).min().unwrap();
    assert!(asked.len() > 20 && asked.iter().all(|at| apart(at) <= TURN + 40 * MS), "{asked:?} {turns:?}");
}

#[test]
fn nobody_scrapes_and_nothing_moves() {
    let mut lab = lab(true, &[]);
    lab.run(20 * PERIOD + SECOND);
    assert_eq!(lab.turns(Lane::Free), (0..=20).map(|n| n * PERIOD).collect::<Vec<_>>());
    assert_eq!(lab.pauses(), [PERIOD; 20]);
    assert_eq!(lab.store.snapshot().hint, None);
}

#[test]
fn a_flood_makes_no_more_turns() {
    // The free lane is faster than the monitor's, so that it is the one to be kept from coming too often.
    let slow = 3 * PERIOD;
    let own = [Group::Cpu, Group::Vcpu, Group::Block, Group::Balloon].map(|group| (group, slow));
    for own in [&own[..], &[]] {
        let mut lab = lab(false, own);
        for step in 0..3_000 {
            lab.run(70 * MS);
            lab.scrape(1);
            if step % 70 == 0 {
                // Steady, and always a little earlier than the period: whoever follows it hurries.
                lab.scrape(2);
            }
            // Strangers, once somebody is followed: before, so many are not told apart.
            let strangers = if step < 700 { 0 } else { 20 };
            (0..strangers).for_each(|other| lab.scrape(100 + 20 * step + other));
        }
        for (lane, period) in [(Lane::Free, PERIOD), (Lane::Monitor, if own.is_empty() { PERIOD } else { slow })] {
            let turns = lab.turns(lane);
            let pauses: Vec<Duration> = turns.windows(2).map(|pair| pair[1] - pair[0]).collect();
            assert!(pauses.iter().all(|pause| *pause >= period * 19 / 20), "{lane:?}: {pauses:?}");
            assert!(pauses.iter().any(|pause| *pause < period), "{lane:?}: it is followed: {pauses:?}");
        }
    }
}

#[test]
fn auto_takes_on_the_interval_in_both_lanes_and_samples_are_stale_later() {
    let mut lab = lab(true, &[(Group::Balloon, 4 * PERIOD)]);
    let stale = |lab: &Lab| {
        let limits = lab.store.snapshot().stale_after;
        [Group::State, Group::Cpu, Group::Balloon, Group::BlockInfo].map(|group| limits.get(group).unwrap().as_millis())
    };
    assert_eq!(stale(&lab), [12_500, 12_500, 50_000, 12_500]);
    let mut ages = Vec::new();
    for n in 0..30 {
        lab.run_until(2_300 * MS + n * 10 * SECOND);
        ages.push(FREE.into_iter().chain([Group::Cpu, Group::Block]).map(|it| lab.age(2, it)).max().unwrap());
        lab.scrape(1);
    }
    assert_young(&ages[15..]);
    let pauses = lab.pauses();
    assert!(pauses[..5].iter().all(|pause| *pause == PERIOD), "{pauses:?}");
    assert!(pauses.iter().rev().take(10).all(|pause| *pause == 10 * SECOND), "{pauses:?}");
    assert_eq!(stale(&lab), [25_000, 25_000, 50_000, 12_500], "whose period is its own has its own limit");
    assert_eq!(lab.core.free.period(FREE.into_iter().collect()), 10 * SECOND);
    assert_eq!(lab.core.monitor.period(GroupSet::of(Group::Cpu)), 10 * SECOND);
    assert_eq!(lab.core.monitor.period(GroupSet::of(Group::Balloon)), 4 * PERIOD);
    // Back again.
    let now = lab.now();
    for n in 1..30 {
        lab.run_until(now + n * PERIOD);
        lab.scrape(1);
    }
    assert_eq!((stale(&lab)[0], lab.core.shortest), (12_500, PERIOD));
    assert_eq!(lab.pauses().last(), Some(&PERIOD));
}

#[test]
fn an_interval_that_does_not_fit_is_told() {
    let mut lab = lab(false, &[]);
    for n in 0..8 {
        lab.run_until(n * 7 * SECOND);
        lab.scrape(1);
    }
    lab.run(SECOND);
    let hint = lab.store.snapshot().hint.clone().unwrap_or_default();
    assert!(hint.contains("scrapes every 7 s, which does not fit the sampling period of 5 s"), "{hint}");
    lab.run(60 * SECOND);
    assert_eq!(lab.store.snapshot().hint, None, "it is gone");
    assert!(lab.pauses().iter().all(|pause| *pause == PERIOD));
}

#[test]
fn a_hung_domain_makes_no_turn_begin_earlier() {
    let mut lab = lab(false, &[(Group::BlockInfo, 12 * PERIOD)]);
    let mut ages = Vec::new();
    for n in 0..70 {
        lab.run_until(1_700 * MS + n * PERIOD);
        ages.push(lab.oldest(2));
        lab.scrape(1);
        // Each time nothing tells that it hangs before a call does; three turns of eight are overdue.
        match n {
            20.. if n % 6 == 0 => lab.world.freeze_unseen(1),
            20.. if n % 6 == 2 => lab.world.thaw(1),
            _ => {}
        }
        assert!(
            n < 5 || lab.core.steering.lead.time() <= TURN + 250 * MS + 40 * MS,
            "{:?}",
            lab.core.steering.lead.time()
        );
    }
    assert!(lab.timed_out("virConnectGetAllDomainStats") + lab.timed_out("virDomainListGetStats") >= 5);
    assert_young(&ages[12..]);
}
