//! Block info: one call a disk, and the counters of domains whose storage hangs, one call a domain.
//!
//! Round robin over the domains, so that one with many or slow disks keeps none of the others waiting.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::model::DomainId;
use crate::sampling::deadline::Usual;
use crate::sampling::schedule::Schedule;
use crate::sampling::work::{Job, Target};

/// A disk as the XML has it, and the mount that its file is on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::sampling) struct Disk {
    pub(in crate::sampling) target: Box<str>,
    pub(in crate::sampling) path: Arc<str>,
    pub(in crate::sampling) mount: Option<Arc<str>>,
}

/// On a host with so many disks and as many again, two are asked by one order, and so on: handing over an order costs as much
/// as a call.
const TOGETHER: usize = 500;
/// The most disks that are asked by one order. One that hangs costs the others of its order a deadline.
const MOST_TOGETHER: usize = 20;

/// The disks that are still to be asked in this turn.
pub(in crate::sampling) struct BlockInfoLane {
    schedule: Schedule<()>,
    counters: VecDeque<(DomainId, Vec<Box<str>>)>,
    queue: VecDeque<Target>,
    /// How many are asked by one order.
    together: usize,
    /// The turn before did not get to all of them.
    behind: bool,
    pub(in crate::sampling) usual: Usual,
}

impl BlockInfoLane {
    /// Without a period it is never due, and only asks for counters.
    pub(in crate::sampling) fn new(period: Option<Duration>, now: Instant) -> Self {
        Self {
            schedule: Schedule::new(period.map(|period| ((), period)), now),
            counters: VecDeque::new(),
            queue: VecDeque::new(),
            together: 1,
            behind: false,
            usual: Usual::default(),
        }
    }

    pub(in crate::sampling) fn is_due(&mut self, now: Instant) -> bool {
        !self.schedule.due(now).is_empty()
    }

    /// Begins a turn over these domains' disks, and returns the domains of those of the turn before that were never asked.
    /// They come first now, or a turn that always takes too long would never get to the same ones.
    pub(in crate::sampling) fn begin(&mut self, domains: &[(DomainId, Vec<Box<str>>)]) -> Vec<DomainId> {
        let left: HashSet<Target> = self.queue.drain(..).collect();
        let most = domains.iter().map(|(_, disks)| disks.len()).max().unwrap_or(0);
        let disks = (0..most)
            .flat_map(|round| domains.iter().filter_map(move |(id, disks)| Some((*id, disks.get(round)?.clone()))));
        let (first, others): (Vec<_>, Vec<_>) = disks.partition(|disk| left.contains(disk));
        self.queue.extend(first.into_iter().chain(others));
        self.together = (self.queue.len() / TOGETHER).clamp(1, MOST_TOGETHER);
        left.into_iter().map(|(id, _)| id).collect()
    }

    /// Were there disks in the turn before that could have been asked, and were not?
    pub(in crate::sampling) fn set_behind(&mut self, behind: bool) {
        self.behind = behind;
    }

    /// Counters of these domains' disks, before anything else; once each.
    pub(in crate::sampling) fn counters(&mut self, domains: HashMap<DomainId, Vec<Box<str>>>) {
        self.counters.retain(|(id, _)| !domains.contains_key(id));
        domains.into_iter().for_each(|it| self.counters.push_front(it));
    }

    /// The first job about domains that may be asked now, and about that disk of it; others keep their places.
    pub(in crate::sampling) fn take(&mut self, may: impl Fn(DomainId, Option<&str>) -> bool) -> Option<Job> {
        if let Some(place) = self.counters.iter().position(|(id, _)| may(*id, None)) {
            return self.counters.remove(place).map(|(id, targets)| Job::BlockCounters(id, targets));
        }
        let (mut disks, mut place) = (Vec::<Target>::new(), 0);
        while disks.len() < self.together
            && let Some((id, target)) = self.queue.get(place)
        {
            if disks.iter().all(|(other, _)| other != id) && may(*id, Some(target)) {
                disks.extend(self.queue.remove(place));
            } else {
                place += 1;
            }
        }
        (!disks.is_empty()).then_some(Job::BlockInfo(disks))
    }

    pub(in crate::sampling) fn put_back(&mut self, job: Job) {
        match job {
            Job::BlockInfo(disks) => disks.into_iter().rev().for_each(|disk| self.queue.push_front(disk)),
            Job::BlockCounters(id, targets) => self.counters.push_front((id, targets)),
            _ => {}
        }
    }

    /// These were asked together with one that hangs: for the rest of the turn each is asked by itself.
    pub(in crate::sampling) fn overran(&mut self, others: Vec<Target>) {
        self.together = 1;
        self.put_back(Job::BlockInfo(others));
    }

    pub(in crate::sampling) fn has_work(&self) -> bool {
        !self.queue.is_empty() || !self.counters.is_empty()
    }

    /// Does it risk to end this turn without some disks, or has it so ended the turn before?
    pub(in crate::sampling) fn is_behind(&self, now: Instant) -> bool {
        let is_half_over = || {
            let half = self.schedule.fastest().map(|period| period / 2);
            self.next().zip(half).is_some_and(|(next, half)| next.saturating_duration_since(now) < half)
        };
        self.has_work() && (self.behind || is_half_over())
    }

    pub(in crate::sampling) fn clear(&mut self) -> usize {
        std::mem::take(&mut self.queue).len() + std::mem::take(&mut self.counters).len()
    }

    pub(in crate::sampling) fn restart(&mut self, now: Instant) {
        self.schedule.restart(now);
    }

    pub(in crate::sampling) fn schedule(&mut self) -> &mut Schedule<()> {
        &mut self.schedule
    }

    pub(in crate::sampling) fn next(&self) -> Option<Instant> {
        self.schedule.next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u8) -> DomainId {
        DomainId::from_bytes([number; 16])
    }

    fn targets(names: &[&str]) -> Vec<Box<str>> {
        names.iter().map(|name| (*name).into()).collect()
    }

    fn taken(lane: &mut BlockInfoLane, may: impl Fn(DomainId, Option<&str>) -> bool + Copy) -> Vec<String> {
        std::iter::from_fn(|| lane.take(may))
            .map(|job| match job {
                Job::BlockInfo(disks) => {
                    let names = disks.iter().map(|(id, target)| format!("{}{target}", id.uuid().as_bytes()[0]));
                    names.collect::<Vec<_>>().join("+")
                }
                Job::BlockCounters(id, targets) => format!("{}*{}", id.uuid().as_bytes()[0], targets.len()),
                _ => unreachable!(),
            })
            .collect()
    }

    #[test]
    fn every_domain_has_its_first_disk_asked_before_any_has_its_second() {
        let mut lane = BlockInfoLane::new(None, Instant::now());
        lane.begin(&[
            (id(1), targets(&["vda", "vdb", "vdc"])),
            (id(2), targets(&["vda"])),
            (id(3), targets(&["vda", "vdb"])),
        ]);
        assert_eq!(taken(&mut lane, |_, _| true), ["1vda", "2vda", "3vda", "1vdb", "3vdb", "1vdc"]);
    }

    #[test]
    fn a_domain_that_may_not_be_asked_keeps_nobody_waiting() {
        let mut lane = BlockInfoLane::new(None, Instant::now());
        let domains = [(id(1), targets(&["vda", "vdb"])), (id(2), targets(&["vda", "vdb"]))];
        lane.begin(&domains);
        assert_eq!(taken(&mut lane, |it, _| it == id(2)), ["2vda", "2vdb"]);
        assert_eq!(lane.begin(&domains).len(), 2, "what waited until the next turn is skipped");
    }

    #[test]
    fn disks_that_a_turn_did_not_get_to_come_first_in_the_next() {
        let now = Instant::now();
        let mut lane = BlockInfoLane::new(None, now);
        let domains = [(id(1), targets(&["vda", "vdb"])), (id(2), targets(&["vda"])), (id(3), targets(&["vda"]))];
        lane.begin(&domains);
        lane.take(|_, _| true);
        lane.take(|_, _| true);
        lane.begin(&domains);
        lane.set_behind(true);
        assert!(lane.is_behind(now));
        assert_eq!(taken(&mut lane, |_, _| true), ["3vda", "1vdb", "1vda", "2vda"]);
        assert!(!lane.is_behind(now));
        lane.begin(&domains);
        lane.set_behind(false);
        assert!(!lane.is_behind(now));
        assert_eq!(taken(&mut lane, |_, _| true), ["1vda", "2vda", "3vda", "1vdb"]);
    }

    #[test]
    fn on_a_large_host_disks_of_several_domains_are_asked_by_one_order() {
        let mut lane = BlockInfoLane::new(None, Instant::now());
        let names: Vec<String> = (0..251).map(|number| format!("vd{number}")).collect();
        let disks = targets(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let domains: Vec<_> = (1..=6).map(|number| (id(number), disks.clone())).collect();
        lane.begin(&domains);
        let all = taken(&mut lane, |it, _| it != id(2));
        assert_eq!(all[..2], ["1vd0+3vd0+4vd0", "5vd0+6vd0+1vd1"], "1506 disks, three at a time");
        assert!(!all.concat().contains("1vd1+1"), "of each domain one");
        assert_eq!(all.iter().flat_map(|order| order.split('+')).count(), 5 * 251);

        lane.begin(&domains);
        let Some(Job::BlockInfo(first)) = lane.take(|_, _| true) else { panic!("disks") };
        assert_eq!(first.len(), 3);
        lane.overran(first);
        assert!(taken(&mut lane, |_, _| true).iter().all(|order| !order.contains('+')), "one of them hangs");
        lane.begin(&domains);
        assert_eq!(taken(&mut lane, |_, _| true)[0], "1vd0+2vd0+3vd0");
    }

    #[test]
    fn a_turn_that_is_half_over_is_behind_while_disks_are_left() {
        let now = Instant::now();
        let mut lane = BlockInfoLane::new(Some(Duration::from_secs(2)), now);
        assert!(lane.is_due(now));
        lane.begin(&[(id(1), targets(&["vda"]))]);
        assert!(!lane.is_behind(now + Duration::from_millis(900)));
        assert!(lane.is_behind(now + Duration::from_millis(1100)));
        lane.take(|_, _| true);
        assert!(!lane.is_behind(now + Duration::from_millis(1100)));
    }

    #[test]
    fn counters_come_first() {
        let mut lane = BlockInfoLane::new(None, Instant::now());
        lane.begin(&[(id(1), targets(&["vda"]))]);
        lane.counters([(id(2), targets(&["vda", "vdb"]))].into());
        lane.counters([(id(2), targets(&["vda", "vdb"]))].into());
        assert_eq!(taken(&mut lane, |_, _| true), ["2*2", "1vda"]);
    }
}
