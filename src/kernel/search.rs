//! Domains that have no pid file where libvirt of the system keeps them, as those of a user's own libvirt: looked for among
//! all processes.
//!
//! One search is for all of them, and each that finds nothing new makes the pause to the next one longer: a libvirt of
//! another host has thousands of domains, and none of them has a process here.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::model::{DomainId, ProcessState, RunId};

use super::suspect::{Sight, Suspects};

/// Between searches, while they find something, or someone new is looked for.
const SHORTEST: Duration = Duration::from_secs(2);
/// Between searches that find nothing. A search opens one file of each process of the host, 5 µs each.
const LONGEST: Duration = Duration::from_secs(60);

/// What is known of all QEMU processes of the host.
#[derive(Debug)]
pub(super) struct Search {
    /// By pid and start, whose it is; `None` if its command line names no domain. A command line is read once.
    looked: HashMap<(u32, u64), Option<DomainId>>,
    /// The youngest process of each domain.
    found: HashMap<DomainId, Sight>,
    /// Who is looked for.
    asked: HashMap<DomainId, RunId>,
    last: Option<Instant>,
    pause: Duration,
}

impl Search {
    pub(super) fn new() -> Self {
        Self { looked: HashMap::new(), found: HashMap::new(), asked: HashMap::new(), last: None, pause: SHORTEST }
    }

    /// The process of a domain, if the last search has found it and it is still there.
    pub(super) fn find(&mut self, suspects: &Suspects, id: DomainId, run: RunId, now: Instant) -> Option<Sight> {
        if self.asked.insert(id, run) != Some(run) {
            self.pause = SHORTEST;
        }
        self.check(suspects, id).or_else(|| {
            if self.last.is_some_and(|last| now.saturating_duration_since(last) < self.pause) {
                return None;
            }
            self.search(suspects, now);
            self.check(suspects, id)
        })
    }

    pub(super) fn keep_only(&mut self, wanted: &dyn Fn(DomainId) -> bool) {
        self.asked.retain(|id, _| wanted(*id));
    }

    /// As it is now. Who has gone is forgotten.
    fn check(&mut self, suspects: &Suspects, id: DomainId) -> Option<Sight> {
        let found = self.found.get(&id)?;
        let sight =
            suspects.sight(found.process.pid).filter(|now| now.process.start_ticks == found.process.start_ticks);
        if sight.is_none() {
            self.found.remove(&id);
        }
        sight
    }

    fn search(&mut self, suspects: &Suspects, now: Instant) {
        let mut is_new = false;
        let before = std::mem::take(&mut self.looked);
        self.found.clear();
        for sight in suspects.pids().into_iter().filter_map(|pid| suspects.sight(pid)) {
            if !sight.is_qemu || sight.process.state == ProcessState::Ended {
                continue;
            }
            let key = (sight.process.pid, sight.process.start_ticks);
            let id = match before.get(&key) {
                Some(id) => *id,
                // It may be who is looked for, so the next search comes soon.
                None if suspects.may_hang(sight) => {
                    is_new = true;
                    continue;
                }
                None => {
                    is_new = true;
                    suspects.uuid(sight)
                }
            };
            self.looked.insert(key, id);
            if let Some(id) = id {
                let youngest = self.found.entry(id).or_insert(sight);
                if youngest.process.start_ticks < sight.process.start_ticks {
                    *youngest = sight;
                }
            }
        }
        self.last = Some(now);
        self.pause = if is_new { SHORTEST } else { (self.pause * 2).min(LONGEST) };
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::{Host, id};
    use super::*;

    const RUN: RunId = RunId(7);

    fn pid(sight: Option<Sight>) -> Option<u32> {
        sight.map(|sight| sight.process.pid)
    }

    #[test]
    fn a_domain_is_found_by_the_uuid_on_a_command_line() {
        let host = Host::new();
        host.process(40, "bash", 'S', 500, id(1));
        host.process(41, "qemu-kvm", 'S', 500, id(2));
        host.process(42, "qemu-kvm", 'S', 500, id(1));
        let (mut search, suspects, now) = (Search::new(), host.suspects(), Instant::now());
        assert_eq!(pid(search.find(&suspects, id(1), RUN, now)), Some(42));
        // One search serves all.
        host.remove("41/cmdline");
        assert_eq!(pid(search.find(&suspects, id(2), RUN, now)), Some(41));
        assert_eq!(search.find(&suspects, id(3), RUN, now), None);
    }

    #[test]
    fn a_reused_pid_is_not_who_was_found() {
        let host = Host::new();
        host.process(42, "qemu-kvm", 'S', 500, id(1));
        let (mut search, suspects, now) = (Search::new(), host.suspects(), Instant::now());
        assert_eq!(pid(search.find(&suspects, id(1), RUN, now)), Some(42));
        host.process(42, "qemu-kvm", 'S', 900, id(2));
        assert_eq!(search.find(&suspects, id(1), RUN, now), None);
        assert_eq!(pid(search.find(&suspects, id(2), RUN, now + SHORTEST)), Some(42));
        assert_eq!(search.find(&suspects, id(1), RUN, now + SHORTEST), None);
    }

    #[test]
    fn pauses_grow_while_nothing_is_new_and_shrink_for_who_is() {
        let host = Host::new();
        let (mut search, suspects, mut now) = (Search::new(), host.suspects(), Instant::now());
        for _ in 0..10 {
            assert_eq!(search.find(&suspects, id(1), RUN, now), None);
            now += search.pause;
        }
        assert_eq!(search.pause, LONGEST);
        assert_eq!(search.find(&suspects, id(1), RUN, now), None);
        host.process(42, "kvm", 'S', 500, id(1));
        now += SHORTEST;
        assert_eq!(search.find(&suspects, id(1), RUN, now), None, "not its turn");
        assert_eq!(pid(search.find(&suspects, id(1), RunId(8), now)), Some(42), "another run");
    }

    #[test]
    fn who_may_hang_is_looked_at_later_and_not_remembered() {
        let host = Host::new();
        host.process(42, "kvm", 'S', 500, id(1));
        host.thread(42, 43, "CPU 0/KVM", 'D');
        let (mut search, suspects, now) = (Search::new(), host.suspects(), Instant::now());
        assert_eq!(search.find(&suspects, id(1), RUN, now), None);
        host.thread(42, 43, "CPU 0/KVM", 'S');
        assert_eq!(pid(search.find(&suspects, id(1), RUN, now + SHORTEST)), Some(42));
    }

    #[test]
    fn what_is_not_qemu_yet_is_not_remembered_as_another() {
        let host = Host::new();
        host.process(42, "rpc-worker", 'S', 500, id(1));
        let (mut search, suspects, now) = (Search::new(), host.suspects(), Instant::now());
        assert_eq!(search.find(&suspects, id(1), RUN, now), None);
        host.process(42, "qemu-kvm", 'S', 500, id(1));
        assert_eq!(pid(search.find(&suspects, id(1), RUN, now + 2 * SHORTEST)), Some(42));
    }
}
