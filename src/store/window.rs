//! The two newest samples of one domain and stats group: the newest to show, both to make a rate from.

use std::sync::Arc;
use std::time::Duration;

use crate::model::{
    BalloonSample, BlockSample, CpuSample, Figures, Group, InterfaceSample, Stamp, StateSample, VcpuSample,
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

    /// Takes a newer sample; one that was asked for earlier than what is here is refused.
    fn push(&mut self, started: Stamp, figures: T) -> bool {
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
}

impl Windows {
    /// When the newest sample of a group was asked for.
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
        }
    }

    /// Forgets the samples of a group.
    pub(super) fn clear(&mut self, group: Group) {
        match group {
            Group::State => self.state = Window::default(),
            Group::Cpu => self.cpu = Window::default(),
            Group::Vcpu => self.vcpu = Window::default(),
            Group::Interface => self.interface = Window::default(),
            Group::Block => self.block = Window::default(),
            Group::Balloon => self.balloon = Window::default(),
        }
    }

    /// Takes what was obtained, and returns how many groups came too late to be taken.
    ///
    /// A balloon sample that NOWAIT cut short does not take the place of a whole one, until that is older than
    /// `balloon_limit`.
    pub(super) fn push(&mut self, started: Stamp, figures: Figures, balloon_limit: Option<Duration>) -> u64 {
        fn late<T>(window: &mut Window<T>, started: Stamp, figures: Option<T>) -> u64 {
            figures.map_or(0, |figures| u64::from(!window.push(started, figures)))
        }
        let fresh = |at: Stamp| balloon_limit.is_none_or(|limit| started.at.saturating_duration_since(at.at) <= limit);
        let whole = self.balloon.newest().is_some_and(|known| !known.figures.is_partial() && fresh(known.started));
        let balloon = figures.balloon.filter(|balloon| !(whole && balloon.is_partial()));
        late(&mut self.state, started, figures.state)
            + late(&mut self.cpu, started, figures.cpu)
            + late(&mut self.vcpu, started, figures.vcpu)
            + late(&mut self.interface, started, figures.interface)
            + late(&mut self.block, started, figures.block)
            + late(&mut self.balloon, started, balloon)
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Instant, SystemTime};

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
        let limit = Some(Duration::from_secs(30));
        windows.push(stamp(base, 1), balloon(None), limit);
        assert!(windows.balloon.newest().is_some(), "better than nothing");
        windows.push(stamp(base, 2), balloon(Some(7)), limit);
        assert_eq!(windows.push(stamp(base, 3), balloon(None), limit), 0, "cut short is not late");
        assert_eq!(windows.balloon.newest().and_then(|b| b.figures.rss_kib), Some(7));
        assert_eq!(windows.started(Group::Balloon), Some(stamp(base, 2)));
        windows.push(stamp(base, 33), balloon(None), limit);
        assert_eq!(windows.started(Group::Balloon), Some(stamp(base, 33)), "better than something stale");
    }
}
