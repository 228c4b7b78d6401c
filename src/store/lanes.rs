//! Which lane feeds a group that two lanes know, and whether they agree.
//!
//! The kernel's figures win while they are fresh. libvirt is then asked for the same only now and then, and what it says is held
//! between the two looks at the kernel around it: the counters only grow, so it must lie between them, as far as both are exact.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::known::Known;
use super::snapshot::StaleAfter;
use super::window::{Sampled, Window, Windows};
use crate::model::{
    CpuSample, DomainId, Figures, Group, GroupSet, Interface, InterfaceSample, KernelFigures, RunId, Stamp,
    TWO_TICKS_NS, Vcpu, VcpuSample,
};

/// Times that the lanes must disagree one after the other before libvirt's figures are taken: after its own start libvirt
/// does not know a guest's cgroup for some moments, and tells less.
const LASTING: u8 = 2;
/// A look is kept this often for calls that take long; two of them are, so that one is older than any deadline.
const ANCHOR: Duration = Duration::from_secs(10);
/// Part of a counter by which the lanes may differ.
const TOLERATED: f64 = 0.01;

/// Which lane feeds which of the groups that both know.
#[derive(Debug, Clone, Copy, Default)]
pub struct Lanes {
    /// The groups whose newest sample is the kernel's.
    kernel: GroupSet,
    /// Those of them that it does not tell at present.
    lost: GroupSet,
    distrusted: GroupSet,
    /// When libvirt was asked for its newest answer about each, taken or not.
    answered: [Option<Stamp>; Group::SHARED.len()],
}

impl Lanes {
    /// The groups whose newest sample is the kernel's.
    #[must_use]
    pub fn kernel(&self) -> GroupSet {
        self.kernel
    }

    /// Does the kernel tell that group at present, as far as its newest look says?
    pub(super) fn feeds(&self, group: Group) -> bool {
        self.kernel.contains(group) && !self.lost.contains(group)
    }

    /// The groups in which the lanes disagreed for long enough that libvirt is believed.
    #[must_use]
    pub fn distrusted(&self) -> GroupSet {
        self.distrusted
    }

    /// When libvirt was asked for its newest answer about a group that the kernel tells too.
    pub(super) fn answered(&self, group: Group) -> Option<Stamp> {
        self.answered[place(group)?]
    }

    /// libvirt answered about a group.
    fn note_answer(&mut self, group: Group, started: Stamp) {
        if let Some(place) = place(group) {
            let newest = &mut self.answered[place];
            *newest = Some(started.or_later(*newest));
        }
    }

    /// The newest sample of a group is libvirt's, or there is none.
    pub(super) fn clear(&mut self, group: Group) {
        self.kernel.remove(group);
        self.lost.remove(group);
    }

    /// Nothing is known from the kernel at present.
    pub(super) fn lose_kernel(&mut self) {
        self.lost = self.kernel;
    }
}

fn place(group: Group) -> Option<usize> {
    Group::SHARED.iter().position(|shared| *shared == group)
}

/// One look of the kernel lane at a running domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KernelRecord {
    /// UUID.
    pub id: DomainId,
    /// Which run.
    pub run: RunId,
    /// Just before the look.
    pub started: Stamp,
    /// What it brought.
    pub figures: KernelFigures,
}

/// What is behind the store's lock about the lanes of one run.
#[derive(Default)]
pub(super) struct Crossings {
    cpu: Crossing<CpuSample>,
    vcpu: Crossing<VcpuSample>,
    interface: Crossing<InterfaceSample>,
    /// Only libvirt tells it, and it stays while the domain runs.
    vcpus_maximum: Option<u64>,
}

/// What libvirt said about a group, waiting for the kernel's next look.
struct Crossing<T> {
    /// Looks of some time ago: what a slow call brings is compared with them. Counters only grow, so that is less exact, not wrong.
    anchors: [Option<Arc<Sampled<T>>>; 2],
    check: Option<Check<T>>,
    disagreed: u8,
}

impl<T> Default for Crossing<T> {
    fn default() -> Self {
        Self { anchors: [None, None], check: None, disagreed: 0 }
    }
}

impl<T> Crossing<T> {
    /// The newest look of before that moment, among those that were kept for long calls.
    fn anchor(&self, moment: Instant) -> Option<Arc<Sampled<T>>> {
        self.anchors.iter().flatten().find(|look| look.started.at <= moment).map(Arc::clone)
    }

    /// Keeps a look now and then.
    fn keep_anchor(&mut self, window: &Window<T>) {
        let [newest, older] = &mut self.anchors;
        let Some(look) = window.newest_shared() else { return };
        let is_due = |known: &Arc<Sampled<T>>| look.started.at.saturating_duration_since(known.started.at) >= ANCHOR;
        if newest.as_ref().is_none_or(is_due) {
            *older = newest.replace(look);
        }
    }
}

struct Check<T> {
    before: Arc<Sampled<T>>,
    libvirt: Sampled<T>,
    arrived: Instant,
}

/// What came of checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Verdict {
    /// Groups in which the lanes disagreed.
    pub(super) disagreed: GroupSet,
    /// Those of them in which libvirt is believed from now on.
    pub(super) lasting: GroupSet,
    /// Counters of the whole domain that went back, so that the sample was not taken.
    pub(super) went_back: u64,
}

impl Known {
    /// Takes out of libvirt's answer what the kernel tells better, and keeps it to be compared.
    pub(super) fn keep_for_comparison(
        &mut self,
        started: Stamp,
        now: Instant,
        mut figures: Figures,
        limits: &StaleAfter,
    ) -> Figures {
        let Some(limit) = limits.get(Group::Kernel) else { return figures };
        let Self { domain, crossings, .. } = self;
        let windows = &mut Arc::make_mut(domain).windows;
        if let Some(maximum) = figures.vcpu.as_ref().and_then(|vcpu| vcpu.maximum) {
            crossings.vcpus_maximum = Some(maximum);
        }
        let Windows { lanes, cpu, vcpu, interface, .. } = windows;
        let keep = Keep { started, now, limit };
        keep.keep(lanes, Group::Cpu, cpu, &mut crossings.cpu, &mut figures.cpu);
        keep.keep(lanes, Group::Vcpu, vcpu, &mut crossings.vcpu, &mut figures.vcpu);
        keep.keep(lanes, Group::Interface, interface, &mut crossings.interface, &mut figures.interface);
        figures
    }

    /// Takes a look at the kernel; that at the network was taken for all domains at once.
    pub(super) fn take_kernel(
        &mut self,
        started: Stamp,
        network: Stamp,
        figures: KernelFigures,
        limits: &StaleAfter,
    ) -> Verdict {
        let Self { domain, crossings, .. } = self;
        let domain = Arc::make_mut(domain);
        let described = domain.description.as_ref().and_then(|it| it.vcpus_maximum).map(u64::from);
        let Windows { lanes, cpu, vcpu, interface, kernel, .. } = &mut domain.windows;
        let mut verdict = Verdict::default();
        let mut taken = figures.cpu;
        if let (Some(sample), Some(earlier)) = (taken, cpu.newest()) {
            taken = sample.after(&earlier.figures);
            verdict.went_back += u64::from(taken.is_none());
        }
        let mut vcpus = figures.vcpu;
        if let Some(sample) = &mut vcpus {
            sample.maximum = crossings.vcpus_maximum.or(described);
        }
        // A thread's counters never go back. Where one is less than before, it is that of a vCPU plugged in again; but libvirt
        // reads in ticks what may round up.
        if let (Some(sample), Some(earlier), false) = (&vcpus, vcpu.newest(), lanes.kernel().contains(Group::Vcpu)) {
            vcpus = sample.clone().after(&earlier.figures).or(vcpus);
        }
        let mut feed = Feed { limits, lanes, verdict: &mut verdict };
        feed.feed(Group::Cpu, started, taken, cpu, &mut crossings.cpu);
        feed.feed(Group::Vcpu, started, vcpus, vcpu, &mut crossings.vcpu);
        feed.feed(Group::Interface, network, figures.interface, interface, &mut crossings.interface);
        if limits.get(Group::Kernel).is_some() {
            kernel.push(started, figures.kernel);
        }
        verdict
    }
}

struct Keep {
    started: Stamp,
    now: Instant,
    limit: Duration,
}

impl Keep {
    fn keep<T>(
        &self,
        lanes: &mut Lanes,
        group: Group,
        window: &Window<T>,
        crossing: &mut Crossing<T>,
        figures: &mut Option<T>,
    ) {
        if figures.is_none() {
            return;
        }
        lanes.note_answer(group, self.started);
        let is_fresh = |newest: &Sampled<T>| self.now.saturating_duration_since(newest.started.at) <= self.limit;
        if !lanes.feeds(group) || !window.newest().is_some_and(is_fresh) {
            return lanes.clear(group);
        }
        // Without a look at the kernel before it, nothing can be said of it.
        let before = window.at_or_before(self.started.at).or_else(|| crossing.anchor(self.started.at));
        if let (Some(figures), Some(before)) = (figures.take(), before) {
            let libvirt = Sampled { started: self.started, figures };
            crossing.check = Some(Check { before, libvirt, arrived: self.now });
        }
    }
}

struct Feed<'a> {
    limits: &'a StaleAfter,
    lanes: &'a mut Lanes,
    verdict: &'a mut Verdict,
}

impl Feed<'_> {
    fn feed<T: Agrees>(
        &mut self,
        group: Group,
        started: Stamp,
        figures: Option<T>,
        window: &mut Window<T>,
        crossing: &mut Crossing<T>,
    ) {
        if !self.limits.kernel_may_feed(group) || self.lanes.distrusted.contains(group) {
            return;
        }
        let Some(figures) = figures else { return self.lanes.lost.insert(group) };
        if let Some(Check { before, libvirt, .. }) = crossing.check.take_if(|check| check.arrived <= started.at) {
            if figures.agrees(&before.figures, &libvirt.figures) {
                crossing.disagreed = 0;
            } else {
                crossing.disagreed += 1;
                self.verdict.disagreed.insert(group);
            }
            if crossing.disagreed >= LASTING {
                self.verdict.lasting.insert(group);
                self.lanes.distrusted.insert(group);
                self.lanes.clear(group);
                // Between the figures of one lane and the other's there is no rate.
                *window = Window::default();
                window.push(libvirt.started, libvirt.figures);
                return;
            }
        }
        if window.push(started, figures) {
            self.lanes.kernel.insert(group);
            self.lanes.lost.remove(group);
            crossing.keep_anchor(window);
        }
    }
}

/// Figures that two lanes can tell.
trait Agrees {
    /// Does what libvirt said in between lie between these figures and those before?
    fn agrees(&self, before: &Self, libvirt: &Self) -> bool;
}

/// Does a counter of libvirt's lie between two looks at the kernel's? What one of them does not tell, agrees.
#[allow(clippy::cast_precision_loss)] // A hundredth is tolerated.
fn between(before: Option<u64>, libvirt: Option<u64>, after: Option<u64>, slack: u64) -> bool {
    let (Some(before), Some(libvirt), Some(after)) = (before, libvirt, after) else { return true };
    let (before, libvirt, after, slack) = (before as f64, libvirt as f64, after as f64, slack as f64);
    before * (1.0 - TOLERATED) - slack <= libvirt && libvirt <= after * (1.0 + TOLERATED) + slack
}

impl Agrees for CpuSample {
    fn agrees(&self, before: &Self, libvirt: &Self) -> bool {
        let agrees = |of: fn(&Self) -> Option<u64>| between(of(before), of(libvirt), of(self), TWO_TICKS_NS);
        agrees(|cpu| cpu.time_ns) && agrees(|cpu| cpu.user_ns) && agrees(|cpu| cpu.system_ns)
    }
}

impl Agrees for VcpuSample {
    fn agrees(&self, before: &Self, libvirt: &Self) -> bool {
        let find = |sample: &Self, index: u32| sample.vcpus.iter().find(|vcpu| vcpu.index == index).copied();
        let ids = |sample: &Self| sample.vcpus.iter().map(|vcpu| vcpu.index).collect::<Vec<_>>();
        // One that came or went in between may be in what libvirt says, or not.
        let known = [before, self];
        if known.iter().all(|it| ids(it) != ids(libvirt)) {
            return false;
        }
        libvirt.vcpus.iter().all(|vcpu| {
            let (before, after) = (find(before, vcpu.index), find(self, vcpu.index));
            let agrees = |of: fn(&Vcpu) -> Option<u64>| {
                between(before.as_ref().and_then(of), of(vcpu), after.as_ref().and_then(of), TWO_TICKS_NS)
            };
            agrees(|vcpu| vcpu.time_ns) && agrees(|vcpu| vcpu.delay_ns)
        })
    }
}

impl Agrees for InterfaceSample {
    fn agrees(&self, before: &Self, libvirt: &Self) -> bool {
        let find = |sample: &'_ Self, nic: &Interface| {
            sample.interfaces.iter().find(|it| it.name == nic.name && it.index == nic.index).cloned()
        };
        libvirt.interfaces.iter().all(|nic| {
            let (before, after) = (find(before, nic), find(self, nic));
            if before.is_none() && after.is_none() {
                return false;
            }
            let (before, after) = (before.as_ref(), after.as_ref());
            COUNTERS.iter().all(|of| between(before.and_then(of), of(nic), after.and_then(of), 0))
        })
    }
}

/// A counter of a NIC.
type Counter = fn(&Interface) -> Option<u64>;

const COUNTERS: [Counter; 8] = [
    |nic| nic.receive.bytes,
    |nic| nic.receive.packets,
    |nic| nic.receive.errors,
    |nic| nic.receive.drops,
    |nic| nic.transmit.bytes,
    |nic| nic.transmit.packets,
    |nic| nic.transmit.errors,
    |nic| nic.transmit.drops,
];
