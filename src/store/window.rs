//! The two newest samples of one domain and stats group: the newest to show, both to make a rate from.

use std::ops::AddAssign;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::block_info::DiskSizes;
use super::lanes::Lanes;
use super::snapshot::StaleAfter;
use crate::model::{
    BalloonSample, BlockSample, CpuSample, Figures, Group, InterfaceSample, KernelSample, Stamp, StateSample,
    VcpuSample,
};

/// Figures, and when they were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampled<T> {
    /// Just before the call.
    pub started: Stamp,
    /// What it brought.
    pub figures: T,
}

/// The two newest samples.
#[derive(Debug)]
pub struct Window<T> {
    newest: Option<Arc<Sampled<T>>>,
    previous: Option<Arc<Sampled<T>>>,
}

impl<T> Default for Window<T> {
    fn default() -> Self {
        Self { newest: None, previous: None }
    }
}

impl<T> Clone for Window<T> {
    fn clone(&self) -> Self {
        Self { newest: self.newest.clone(), previous: self.previous.clone() }
    }
}

impl<T> Window<T> {
    /// The newest sample.
    #[must_use]
    pub fn newest(&self) -> Option<&Sampled<T>> {
        self.newest.as_deref()
    }

    /// The one before it, and the time between both.
    #[must_use]
    pub fn previous(&self) -> Option<(&T, Duration)> {
        let (newest, previous) = (self.newest.as_ref()?, self.previous.as_ref()?);
        Some((&previous.figures, newest.started.at.saturating_duration_since(previous.started.at)))
    }

    /// The newest sample, if it was asked for before that moment.
    fn before(&self, started: Stamp) -> Option<&Sampled<T>> {
        self.newest().filter(|newest| newest.started.at < started.at)
    }

    /// The newest sample, to be kept.
    pub(super) fn newest_shared(&self) -> Option<Arc<Sampled<T>>> {
        self.newest.clone()
    }

    /// The newest sample that was asked for no later than that.
    pub(super) fn at_or_before(&self, moment: Instant) -> Option<Arc<Sampled<T>>> {
        let both = [&self.newest, &self.previous].into_iter().flatten();
        both.into_iter().find(|sampled| sampled.started.at <= moment).map(Arc::clone)
    }

    /// Takes a newer sample; one that was asked for earlier than what is here is refused.
    pub(super) fn push(&mut self, started: Stamp, figures: T) -> bool {
        if self.newest.as_ref().is_some_and(|newest| newest.started.at >= started.at) {
            return false;
        }
        self.previous = self.newest.replace(Arc::new(Sampled { started, figures }));
        true
    }
}

/// A domain's windows, one a group.
#[derive(Debug, Clone, Default)]
pub struct Windows {
    /// Run state.
    pub state: Window<StateSample>,
    /// CPU time.
    pub cpu: Window<CpuSample>,
    /// vCPUs.
    pub vcpu: Window<VcpuSample>,
    /// NICs.
    pub interface: Window<InterfaceSample>,
    /// Disks.
    pub block: Window<BlockSample>,
    /// Memory.
    pub balloon: Window<BalloonSample>,
    /// Sizes of disks.
    pub block_info: DiskSizes,
    /// The process on the host.
    pub kernel: Window<KernelSample>,
    /// Which lane the samples of a group are from, where there are two.
    pub lanes: Lanes,
}

impl Windows {
    /// When the newest sample of a group was asked for; of the disk that is oldest, where disks are asked one by one.
    #[must_use]
    pub fn started(&self, group: Group) -> Option<Stamp> {
        fn stamp<T>(window: &Window<T>) -> Option<Stamp> {
            window.newest().map(|sampled| sampled.started)
        }
        match group {
            Group::State => stamp(&self.state),
            Group::Cpu => stamp(&self.cpu),
            Group::Vcpu => stamp(&self.vcpu),
            Group::Interface => stamp(&self.interface),
            Group::Block => stamp(&self.block),
            Group::Balloon => stamp(&self.balloon),
            Group::BlockInfo => self.block_info.oldest(),
            Group::Kernel => stamp(&self.kernel),
        }
    }

    /// When libvirt was asked for its newest answer about a group, though the kernel may tell something newer.
    #[must_use]
    pub fn answered(&self, group: Group) -> Option<Stamp> {
        self.lanes.answered(group).or_else(|| self.started(group).filter(|_| !self.lanes.kernel().contains(group)))
    }

    /// Forgets the samples of a group.
    pub(super) fn clear(&mut self, group: Group) {
        self.lanes.clear(group);
        match group {
            Group::State => self.state = Window::default(),
            Group::Cpu => self.cpu = Window::default(),
            Group::Vcpu => self.vcpu = Window::default(),
            Group::Interface => self.interface = Window::default(),
            Group::Block => self.block = Window::default(),
            Group::Balloon => self.balloon = Window::default(),
            Group::BlockInfo => self.block_info = DiskSizes::default(),
            Group::Kernel => self.kernel = Window::default(),
        }
    }

    /// Takes what was obtained by `now`, and returns how many groups were not taken. Too late is what comes after something
    /// newer, or stale already: a call that was written off and returns when its guest thaws brings figures of now under the
    /// time of then, and a rate from them would be wrong.
    ///
    /// Two kinds of samples do not take the place of another until that is stale: of CPU or vCPUs, in which a counter went
    /// back; and a balloon sample that NOWAIT cut short, where the other is whole.
    pub(super) fn push(&mut self, started: Stamp, now: Instant, figures: Figures, limits: &StaleAfter) -> NotTaken {
        let within = |group, (from, to): (Instant, Instant)| {
            limits.get(group).is_none_or(|limit| to.saturating_duration_since(from) <= limit)
        };
        let take = Take { started, in_time: |group| within(group, (started.at, now)) };
        let fresh = |group, at: Stamp| within(group, (at.at, started.at));
        let whole =
            self.balloon.newest().is_some_and(|it| !it.figures.is_partial() && fresh(Group::Balloon, it.started));
        let balloon = figures.balloon.filter(|balloon| !(whole && balloon.is_partial()));
        let (cpu, cpu_back) = match self.cpu.before(started).filter(|it| fresh(Group::Cpu, it.started)) {
            Some(earlier) => not_back(figures.cpu, |cpu| cpu.after(&earlier.figures)),
            None => (figures.cpu, 0),
        };
        let (vcpu, vcpu_back) = match self.vcpu.before(started).filter(|it| fresh(Group::Vcpu, it.started)) {
            Some(earlier) => not_back(figures.vcpu, |vcpu| vcpu.after(&earlier.figures)),
            None => (figures.vcpu, 0),
        };
        let late = take.late(&mut self.state, Group::State, figures.state)
            + take.late(&mut self.cpu, Group::Cpu, cpu)
            + take.late(&mut self.vcpu, Group::Vcpu, vcpu)
            + take.late(&mut self.interface, Group::Interface, figures.interface)
            + take.late(&mut self.block, Group::Block, figures.block)
            + take.late(&mut self.balloon, Group::Balloon, balloon);
        NotTaken { late, went_back: cpu_back + vcpu_back }
    }
}

/// What remains of figures that must not go back, and 1 if nothing does.
fn not_back<T>(figures: Option<T>, after: impl FnOnce(T) -> Option<T>) -> (Option<T>, u64) {
    let had = figures.is_some();
    let taken = figures.and_then(after);
    let refused = u64::from(had && taken.is_none());
    (taken, refused)
}

/// How many groups of answers were not taken, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct NotTaken {
    /// Something newer is known, or it was stale when it came.
    pub(super) late: u64,
    /// A counter was less than before.
    pub(super) went_back: u64,
}

impl AddAssign for NotTaken {
    fn add_assign(&mut self, other: Self) {
        self.late += other.late;
        self.went_back += other.went_back;
    }
}

/// Puts the groups of one answer into their windows.
struct Take<F> {
    started: Stamp,
    in_time: F,
}

impl<F: Fn(Group) -> bool> Take<F> {
    /// 1 if there are figures that came too late.
    fn late<T>(&self, window: &mut Window<T>, group: Group, figures: Option<T>) -> u64 {
        figures.map_or(0, |figures| u64::from(!((self.in_time)(group) && window.push(self.started, figures))))
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn stamp(base: Instant, seconds: u64) -> Stamp {
        Stamp { at: base + Duration::from_secs(seconds), wall: SystemTime::UNIX_EPOCH }
    }

    #[test]
    fn a_window_keeps_two_and_refuses_what_is_late() {
        let base = Instant::now();
        let mut window = Window::default();
        assert!(window.push(stamp(base, 10), 'a'));
        assert!(window.previous().is_none());
        assert!(window.push(stamp(base, 25), 'b'));
        assert!(!window.push(stamp(base, 20), 'x'), "asked for before what is here");
        assert!(!window.push(stamp(base, 25), 'x'));
        assert_eq!(window.newest().map(|sampled| sampled.figures), Some('b'));
        assert_eq!(window.previous(), Some((&'a', Duration::from_secs(15))));
    }

    #[test]
    fn a_partial_balloon_replaces_no_whole_one_that_is_fresh() {
        let base = Instant::now();
        let balloon = |rss_kib| Figures {
            balloon: Some(BalloonSample { current_kib: Some(1), rss_kib, ..BalloonSample::default() }),
            ..Figures::default()
        };
        let mut windows = Windows::default();
        let mut limits = StaleAfter::default();
        limits.set(Group::Balloon, Duration::from_secs(30));
        let push = |windows: &mut Windows, seconds, rss_kib| {
            let started = stamp(base, seconds);
            windows.push(started, started.at, balloon(rss_kib), &limits)
        };
        push(&mut windows, 1, None);
        assert!(windows.balloon.newest().is_some(), "better than nothing");
        push(&mut windows, 2, Some(7));
        assert_eq!(push(&mut windows, 3, None), NotTaken::default(), "cut short is not late");
        assert_eq!(windows.balloon.newest().and_then(|b| b.figures.rss_kib), Some(7));
        assert_eq!(windows.started(Group::Balloon), Some(stamp(base, 2)));
        push(&mut windows, 33, None);
        assert_eq!(windows.started(Group::Balloon), Some(stamp(base, 33)), "better than something stale");
    }

    #[test]
    fn what_is_stale_when_it_comes_is_late_by_group() {
        let base = Instant::now();
        let mut limits = StaleAfter::default();
        limits.set(Group::Cpu, Duration::from_secs(30));
        limits.set(Group::State, Duration::from_secs(60));
        let figures =
            || Figures { state: Some(StateSample::default()), cpu: Some(CpuSample::default()), ..Figures::default() };
        let mut windows = Windows::default();
        let started = stamp(base, 1);
        let moment = Duration::from_millis(1);
        let not_taken = windows.push(started, started.at + Duration::from_secs(30) + moment, figures(), &limits);
        assert_eq!(not_taken, NotTaken { late: 1, went_back: 0 });
        assert!(windows.cpu.newest().is_none() && windows.state.newest().is_some());
        let started = stamp(base, 2);
        let not_taken = windows.push(started, started.at + Duration::from_secs(30), figures(), &limits);
        assert_eq!(not_taken, NotTaken::default());
    }

    #[test]
    fn cpu_time_that_went_back_is_not_taken_until_what_is_known_is_stale() {
        let base = Instant::now();
        let mut limits = StaleAfter::default();
        limits.set(Group::Cpu, Duration::from_secs(30));
        let second = 1_000_000_000;
        let mut windows = Windows::default();
        let mut push = |at, cpu_seconds: u64| {
            let cpu = CpuSample { time_ns: Some(cpu_seconds * second), ..CpuSample::default() };
            let started = stamp(base, at);
            let figures = Figures { cpu: Some(cpu), ..Figures::default() };
            let not_taken = windows.push(started, started.at, figures, &limits);
            let newest = windows.cpu.newest().and_then(|newest| newest.figures.time_ns).unwrap_or(0) / second;
            (newest, not_taken.late, not_taken.went_back)
        };
        assert_eq!(push(10, 100), (100, 0, 0));
        assert_eq!(push(20, 90), (100, 0, 1));
        assert_eq!(push(5, 80), (100, 1, 0), "late, and therefore less");
        assert_eq!(push(30, 101), (101, 0, 0));
        assert_eq!(push(60, 20), (101, 0, 1));
        assert_eq!(push(61, 20), (20, 0, 0), "it really began anew");
    }
}
