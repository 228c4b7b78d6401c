//! Which mounts with disks of domains answer. Pure; the engine makes the probes that this asks for.
//!
//! libvirtd itself looks at the files of disks when it is asked for block figures, and hangs with their file system, holding
//! the domain meanwhile. So before each call that asks for them a file of each mount is looked at, one look at a time a mount,
//! unless it answered a moment ago.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::work::CallId;

/// A healthy file system answers in microseconds, a network's in milliseconds; the turn waits for no longer than this.
pub(super) const PATIENCE: Duration = Duration::from_millis(250);

/// What is known of each mount.
#[derive(Debug, Default)]
pub(super) struct StorageWatch {
    mounts: HashMap<Arc<str>, Mount>,
    /// Looks that are wanted and not begun.
    queue: Vec<(Arc<str>, Arc<str>)>,
    /// When the looks of this turn were asked for.
    round: Option<Instant>,
}

#[derive(Debug, Default)]
struct Mount {
    probe: Option<CallId>,
    blocked: bool,
    answered: Option<Instant>,
}

/// What changed with a mount.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change {
    Blocked(Arc<str>),
    Answers(Arc<str>),
}

impl StorageWatch {
    /// Wants a look at one file of each of these mounts. A mount that is being looked at is not looked at twice at once.
    pub(super) fn begin(&mut self, files: impl Iterator<Item = (Arc<str>, Arc<str>)>, now: Instant) {
        let mut seen: HashSet<Arc<str>> = HashSet::new();
        for (mount, path) in files {
            let open = self.mounts.get(&mount).is_some_and(|mount| mount.probe.is_some());
            let queued = self.queue.iter().any(|(other, _)| *other == mount);
            if !open && !queued && seen.insert(Arc::clone(&mount)) {
                self.queue.push((mount, path));
                self.round = Some(now);
            }
        }
    }

    /// The next look to begin.
    pub(super) fn take(&mut self) -> Option<(Arc<str>, Arc<str>)> {
        self.queue.pop()
    }

    pub(super) fn put_back(&mut self, look: (Arc<str>, Arc<str>)) {
        self.queue.push(look);
    }

    pub(super) fn begun(&mut self, mount: Arc<str>, call: CallId) {
        self.mounts.entry(mount).or_default().probe = Some(call);
    }

    /// A look took longer than [`PATIENCE`].
    pub(super) fn overran(&mut self, call: CallId) -> Option<Change> {
        let (name, mount) = self.mounts.iter_mut().find(|(_, mount)| mount.probe == Some(call))?;
        mount.blocked = true;
        Some(Change::Blocked(Arc::clone(name)))
    }

    /// A look came back, with whatever.
    pub(super) fn answered(&mut self, call: CallId, now: Instant) -> Option<Change> {
        let (name, mount) = self.mounts.iter_mut().find(|(_, mount)| mount.probe == Some(call))?;
        (mount.probe, mount.answered) = (None, Some(now));
        std::mem::take(&mut mount.blocked).then(|| Change::Answers(Arc::clone(name)))
    }

    pub(super) fn is_blocked(&self, mount: &str) -> bool {
        self.mounts.get(mount).is_some_and(|mount| mount.blocked)
    }

    /// Is it known well enough how it is: did it answer since then, or a moment ago, or is it blocked? Or did no thread have
    /// time to look?
    pub(super) fn is_known(&self, mount: &str, since: Instant, now: Instant) -> bool {
        let known = self.mounts.get(mount);
        let answered = known.and_then(|mount| mount.answered);
        let waits_in_vain = self.is_settled(now) && self.queue.iter().any(|(queued, _)| **queued == *mount);
        known.is_some_and(|mount| mount.blocked)
            || answered.is_some_and(|at| at >= since || now < at + PATIENCE)
            || waits_in_vain
    }

    pub(super) fn blocked(&self) -> usize {
        self.mounts.values().filter(|mount| mount.blocked).count()
    }

    /// Is every look of this turn answered or given up? Without a free thread for them, the turn waits no longer than that.
    pub(super) fn is_settled(&self, now: Instant) -> bool {
        self.settles_at().is_none_or(|at| now >= at)
    }

    /// When waiting ends at the latest; `None` if there is nothing to wait for.
    pub(super) fn settles_at(&self) -> Option<Instant> {
        let open = !self.queue.is_empty() || self.mounts.values().any(|mount| mount.probe.is_some() && !mount.blocked);
        self.round.filter(|_| open).map(|round| round + PATIENCE)
    }

    /// Forgets mounts that no domain has disks on any more, unless a look is still open.
    pub(super) fn keep_only(&mut self, wanted: &HashSet<Arc<str>>) {
        self.mounts.retain(|name, mount| mount.probe.is_some() || wanted.contains(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(mount: &str) -> (Arc<str>, Arc<str>) {
        (mount.into(), format!("{mount}/disk.img").into())
    }

    #[test]
    fn one_look_at_a_time_a_mount_whatever_the_number_of_disks() {
        let now = Instant::now();
        let mut watch = StorageWatch::default();
        watch.begin([file("/a"), file("/b"), file("/a")].into_iter(), now);
        let looks: Vec<_> = std::iter::from_fn(|| watch.take()).collect();
        assert_eq!(looks.len(), 2);
        for (number, (mount, _)) in looks.into_iter().enumerate() {
            watch.begun(mount, number as CallId);
        }
        watch.begin([file("/a"), file("/b")].into_iter(), now);
        assert_eq!(watch.take(), None, "both are still open");
        assert_eq!(watch.answered(0, now), None);
        watch.begin([file("/a"), file("/b")].into_iter(), now);
        assert!(watch.take().is_some() && watch.take().is_none());
    }

    #[test]
    fn a_mount_is_blocked_from_the_end_of_patience_until_it_answers() {
        let now = Instant::now();
        let mut watch = StorageWatch::default();
        watch.begin([file("/a")].into_iter(), now);
        let (mount, _) = watch.take().expect("a look");
        watch.begun(mount, 7);
        assert!(!watch.is_settled(now) && !watch.is_blocked("/a"));
        assert_eq!(watch.settles_at(), Some(now + PATIENCE));
        assert_eq!(watch.overran(7), Some(Change::Blocked("/a".into())));
        assert!(watch.is_settled(now) && watch.is_blocked("/a"));
        assert_eq!(watch.answered(7, now), Some(Change::Answers("/a".into())));
        assert!(!watch.is_blocked("/a"));
    }

    #[test]
    fn what_a_look_found_is_good_for_a_moment() {
        let now = Instant::now();
        let mut watch = StorageWatch::default();
        assert!(!watch.is_known("/a", now, now));
        watch.begin([file("/a")].into_iter(), now);
        let (mount, _) = watch.take().expect("a look");
        watch.begun(mount, 7);
        assert!(!watch.is_known("/a", now, now));
        watch.answered(7, now);
        assert!(watch.is_known("/a", now, now) && !watch.is_known("/a", now + PATIENCE, now + PATIENCE));
        assert!(watch.is_known("/a", now, now + 4 * PATIENCE), "and for a turn that began before it");
        watch.begin([file("/b")].into_iter(), now);
        assert!(
            !watch.is_known("/b", now, now) && watch.is_known("/b", now + PATIENCE, now + PATIENCE),
            "nobody had time to look"
        );
    }

    #[test]
    fn a_turn_waits_for_looks_that_found_no_thread_no_longer_than_for_others() {
        let now = Instant::now();
        let mut watch = StorageWatch::default();
        assert!(watch.is_settled(now));
        watch.begin([file("/a")].into_iter(), now);
        assert!(!watch.is_settled(now));
        assert!(watch.is_settled(now + PATIENCE));
    }
}
