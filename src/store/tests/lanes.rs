//! Two lanes, one figure: the kernel's wins while it is fresh, and libvirt's is held against it.

use super::*;
use crate::model::{
    BalloonSample, KernelFigures, KernelSample, KernelState, Process, ProcessState, Traffic, Unseen, Vcpu, VcpuSample,
};

const MS: u64 = 1_000_000;

fn process(start_ticks: u64) -> Process {
    Process { pid: 41, start_ticks, state: ProcessState::Runs }
}

fn cpu(time_ns: u64) -> CpuSample {
    CpuSample { time_ns: Some(time_ns), user_ns: Some(time_ns / 2), system_ns: Some(time_ns / 2) }
}

fn vcpus(time_ns: &[u64]) -> VcpuSample {
    let vcpu = |(index, time_ns): (u32, &u64)| Vcpu { index, time_ns: Some(*time_ns), ..Vcpu::default() };
    VcpuSample { vcpus: (0..).zip(time_ns).map(vcpu).collect(), ..VcpuSample::default() }
}

fn nic(bytes: u64) -> InterfaceSample {
    let receive = Traffic { bytes: Some(bytes), ..Traffic::default() };
    let nic = Interface { name: Some("vnet0".into()), receive, transmit: receive, ..Interface::default() };
    InterfaceSample { count: Some(1), interfaces: vec![nic] }
}

fn figures(cpu_ns: u64) -> KernelFigures {
    let kernel = KernelSample { resident_kib: Some(7), ..KernelSample::default() };
    KernelFigures { process: process(500), cpu: Some(cpu(cpu_ns)), vcpu: None, interface: None, kernel }
}

impl Bench {
    fn saw(&self, started: Stamp, figures: KernelFigures) -> KernelNews {
        self.saw_run(1, started, figures)
    }

    fn saw_run(&self, run: u32, started: Stamp, figures: KernelFigures) -> KernelNews {
        let record = KernelRecord { id: id(1), run: RunId(run), started, figures };
        self.store.apply_kernel(KernelTurn { network: Some(started), records: vec![record], ..KernelTurn::default() })
    }

    /// libvirt's answer about these figures.
    fn answered(&self, started: Stamp, figures: Figures) {
        let record = DomainRecord { id: id(1), name: "guest-1".into(), run: Some(RunId(1)), figures };
        self.bulk(started, vec![record]);
    }

    fn domain(&self) -> Arc<Domain> {
        Arc::clone(&self.store.snapshot().domains[0])
    }

    fn feeds(&self, group: Group) -> bool {
        self.store.snapshot().kernel_feeds(&self.domain(), group, self.store.now())
    }

    fn disagreements(&self, group: Group) -> u64 {
        self.store.metrics.lane_disagreements.with_label_values(&[group.label()]).get()
    }
}

fn only_cpu(time_ns: u64) -> Figures {
    Figures { cpu: Some(cpu(time_ns)), ..Figures::default() }
}

#[test]
fn the_kernel_wins_while_it_is_fresh_and_libvirt_goes_on_where_it_ends() {
    let bench = Bench::new();
    bench.answered(bench.tick(), only_cpu(100 * MS));
    assert!(!bench.feeds(Group::Cpu));
    bench.saw(bench.tick(), figures(150 * MS));
    assert!(bench.feeds(Group::Cpu) && !bench.feeds(Group::Interface));
    let asked = bench.tick();
    bench.answered(asked, only_cpu(160 * MS));
    assert_eq!(bench.cpu(1), Some(150 * MS), "kept to be compared");
    assert_eq!(bench.domain().windows.answered(Group::Cpu), Some(asked), "libvirt answered all the same");
    bench.clock.advance(Duration::from_secs(31));
    assert!(!bench.feeds(Group::Cpu));
    bench.answered(bench.tick(), only_cpu(400 * MS));
    assert_eq!((bench.cpu(1), bench.late()), (Some(400 * MS), 0));
    bench.saw(bench.tick(), figures(500 * MS));
    assert_eq!(bench.cpu(1), Some(500 * MS));
    let missed = vec![(id(1), Unseen::Ended)];
    bench.store.apply_kernel(KernelTurn { unseen: missed, ..KernelTurn::default() });
    assert!(!bench.feeds(Group::Cpu), "at once, not when it is stale");
    bench.answered(bench.tick(), only_cpu(495 * MS));
    assert_eq!(bench.cpu(1), Some(500 * MS), "read in ticks, it is no less");
}

#[test]
fn what_the_kernel_knows_better_stays_beside_what_it_does_not_know() {
    let bench = Bench::new();
    bench.saw(bench.tick(), figures(MS));
    assert!(bench.store.snapshot().domains.is_empty(), "the list tells who runs");
    let balloon = BalloonSample { rss_kib: Some(5), ..BalloonSample::default() };
    let vcpu = VcpuSample { current: Some(1), maximum: Some(4), vcpus: Vec::new() };
    let figures_of_libvirt = Figures { balloon: Some(balloon), vcpu: Some(vcpu), ..only_cpu(MS) };
    bench.answered(bench.tick(), figures_of_libvirt);
    let look = KernelFigures { vcpu: Some(VcpuSample { current: Some(2), ..vcpus(&[1, 2]) }), ..figures(2 * MS) };
    bench.saw(bench.tick(), look);
    let windows = bench.domain().windows.clone();
    let sample = |it: Option<&Sampled<VcpuSample>>| it.map(|it| (it.figures.current, it.figures.maximum));
    assert_eq!(sample(windows.vcpu.newest()), Some((Some(2), Some(4))), "only libvirt knows how many there can be");
    assert_eq!(windows.kernel.newest().and_then(|it| it.figures.resident_kib), Some(7));
    assert_eq!(windows.balloon.newest().and_then(|it| it.figures.rss_kib), Some(5));
}

#[test]
fn libvirt_is_believed_when_the_two_disagree_twice_running() {
    let bench = Bench::new();
    bench.answered(bench.tick(), only_cpu(100 * MS));
    bench.saw(bench.tick(), figures(10_000 * MS));
    let compare = |libvirt: u64, next: u64| {
        bench.answered(bench.tick(), only_cpu(libvirt * MS));
        bench.saw(bench.tick(), figures(next * MS)).distrusted
    };
    assert_eq!(compare(10_090, 10_095), [], "between, as far as both are exact");
    assert_eq!(compare(9_990, 11_000), []);
    assert_eq!(bench.disagreements(Group::Cpu), 0);
    assert_eq!(compare(10_800, 11_100), [], "less by more than a hundredth and two ticks, once");
    assert_eq!(compare(11_150, 11_200), [], "an agreement in between counts");
    assert_eq!(compare(11_400, 11_210), []);
    assert_eq!(compare(11_800, 11_500), [(id(1), "guest-1".into(), Group::Cpu)]);
    assert_eq!(bench.disagreements(Group::Cpu), 3);
    let windows = bench.domain().windows.clone();
    assert_eq!((bench.cpu(1), windows.cpu.previous()), (Some(11_800 * MS), None), "no rate from one to the other");
    assert!(windows.lanes.distrusted().contains(Group::Cpu) && !bench.feeds(Group::Cpu));
    bench.saw(bench.tick(), figures(12_000 * MS));
    bench.answered(bench.tick(), only_cpu(12_500 * MS));
    assert_eq!(bench.cpu(1), Some(12_500 * MS));
    bench.bulk(bench.tick(), vec![record(1, 2, 1)]);
    bench.saw_run(2, bench.tick(), figures(7 * MS));
    assert!(bench.feeds(Group::Cpu), "another run begins with trust");
}

#[test]
fn vcpus_and_nics_are_compared_one_by_one() {
    let bench = Bench::new();
    let look = |times: &[u64], bytes| {
        let look = KernelFigures { vcpu: Some(vcpus(times)), interface: Some(nic(bytes)), ..figures(0) };
        bench.saw(bench.tick(), KernelFigures { cpu: None, ..look });
    };
    let answer = |times: &[u64], interface| {
        bench.answered(
            bench.tick(),
            Figures { vcpu: Some(vcpus(times)), interface: Some(interface), ..Figures::default() },
        );
    };
    let counted = || (bench.disagreements(Group::Vcpu), bench.disagreements(Group::Interface));
    answer(&[0, 0], nic(0));
    look(&[1000 * MS, 5000 * MS], 100_000);
    answer(&[1010 * MS, 5000 * MS], nic(100_500));
    look(&[1020 * MS, 5000 * MS], 101_000);
    assert_eq!(counted(), (0, 0));
    answer(&[1020 * MS, 5100 * MS], nic(110_000));
    look(&[1030 * MS, 5000 * MS], 101_000);
    assert_eq!(counted(), (1, 1), "the second vCPU alone is wrong");
    answer(&[1030 * MS], nic(101_000));
    look(&[1030 * MS], 101_000);
    assert_eq!(counted(), (1, 1), "one was unplugged in between");
    answer(&[1030 * MS, 0, 0], InterfaceSample { interfaces: Vec::new(), ..nic(0) });
    look(&[1030 * MS], 101_000);
    assert_eq!(counted(), (2, 1), "libvirt knows vCPUs that the kernel does not");
}

#[test]
fn a_vcpu_that_is_plugged_in_again_counts_from_zero() {
    let bench = Bench::new();
    bench.answered(bench.tick(), only_cpu(MS));
    let look = |time_ns: u64| {
        bench.saw(bench.tick(), KernelFigures { vcpu: Some(vcpus(&[time_ns])), ..figures(MS) });
        bench.domain().windows.vcpu.newest().and_then(|it| it.figures.vcpus[0].time_ns)
    };
    assert_eq!(look(900 * MS), Some(900 * MS));
    assert_eq!(look(3 * MS), Some(3 * MS));
}

#[test]
fn a_look_at_another_run_or_another_process_is_not_taken_for_this_one() {
    let bench = Bench::new();
    bench.answered(bench.tick(), only_cpu(MS));
    bench.saw_run(7, bench.tick(), figures(99 * MS));
    assert_eq!((bench.cpu(1), bench.domain().pid), (Some(MS), None));
    let before = bench.tick();
    bench.saw(bench.tick(), figures(2 * MS));
    assert_eq!((bench.cpu(1), bench.domain().pid), (Some(2 * MS), Some(41)));
    // The domain was started anew, and bears the number of before: libvirtd was restarted meanwhile.
    let other = KernelFigures { process: process(900), ..figures(90 * MS) };
    let started = bench.tick();
    bench.clock.advance(Duration::from_millis(1));
    assert!(bench.saw(started, other.clone()).restarted);
    assert_eq!(bench.cpu(1), None, "asked for before the new run was known");
    bench.saw(before, figures(3 * MS));
    assert_eq!(bench.cpu(1), None);
    bench.saw(bench.tick(), other);
    assert_eq!(bench.cpu(1), Some(90 * MS));
    assert!(bench.domain().windows.cpu.previous().is_none(), "and no rate from one to the other");
}

#[test]
fn groups_that_are_not_sampled_are_not_fed() {
    let bench = Bench::new();
    let mut stale_after = StaleAfter::default();
    stale_after.set(Group::Kernel, Duration::from_secs(30));
    stale_after.set(Group::State, Duration::from_secs(30));
    bench.store.configure(stale_after);
    bench.bulk(bench.tick(), vec![record(1, 1, 10)]);
    bench.saw(bench.tick(), figures(20));
    let windows = bench.domain().windows.clone();
    assert!(windows.kernel.newest().is_some() && !windows.lanes.kernel().contains(Group::Cpu));
}

#[test]
fn how_the_lane_does_is_known() {
    let bench = Bench::new();
    assert_eq!(*bench.store.snapshot().kernel, KernelStatus::Waiting);
    bench.store.set_kernel(KernelStatus::Off("for a reason".into()));
    assert_eq!(*bench.store.snapshot().kernel, KernelStatus::Off("for a reason".into()));
    let state = KernelState { open_files: 3, ..KernelState::default() };
    let unseen = vec![(id(1), Unseen::NoProcess), (id(2), Unseen::Hidden), (id(3), Unseen::NoProcess)];
    let took = Duration::from_millis(2);
    bench.store.apply_kernel(KernelTurn { unseen, state: state.clone(), took, ..KernelTurn::default() });
    let unseen = vec![(Unseen::NoProcess, 2), (Unseen::Hidden, 1)];
    assert_eq!(*bench.store.snapshot().kernel, KernelStatus::On { seen: 0, unseen, began: None, took, state });
    bench.store.forget();
    assert!(matches!(*bench.store.snapshot().kernel, KernelStatus::On { .. }));
}

#[test]
fn a_call_that_took_long_is_compared_with_a_look_of_before_it() {
    let bench = Bench::new();
    bench.answered(bench.tick(), only_cpu(100 * MS));
    for second in 0..30 {
        bench.saw(bench.tick(), figures((10_000 + second) * MS));
    }
    let asked = bench.tick();
    for second in 30..33 {
        bench.saw(bench.tick(), figures((10_000 + second) * MS));
    }
    bench.answered(asked, only_cpu(10_031 * MS));
    bench.saw(bench.tick(), figures(10_034 * MS));
    assert_eq!(bench.disagreements(Group::Cpu), 0);
    let asked = bench.tick();
    for second in 35..38 {
        bench.saw(bench.tick(), figures((10_000 + second) * MS));
    }
    bench.answered(asked, only_cpu(12_000 * MS));
    bench.saw(bench.tick(), figures(10_038 * MS));
    assert_eq!(bench.disagreements(Group::Cpu), 1);
}

#[test]
fn looks_that_come_more_seldom_than_answers_feed_nothing() {
    let bench = Bench::new();
    let mut stale_after = StaleAfter::default();
    stale_after.set(Group::Kernel, Duration::from_secs(30));
    stale_after.set(Group::Cpu, Duration::from_secs(3));
    bench.store.configure(stale_after);
    bench.answered(bench.tick(), only_cpu(MS));
    bench.saw(bench.tick(), figures(2 * MS));
    assert!(!bench.feeds(Group::Cpu) && bench.cpu(1) == Some(MS));
    assert!(bench.domain().windows.kernel.newest().is_some(), "what it alone knows is there");
}

#[test]
fn without_the_lane_libvirt_tells_again_and_what_it_answers_counts() {
    let bench = Bench::new();
    bench.answered(bench.tick(), only_cpu(MS));
    bench.saw(bench.tick(), figures(2 * MS));
    let mut stale_after = StaleAfter::default();
    stale_after.set(Group::Cpu, Duration::from_secs(30));
    bench.store.configure(stale_after);
    let lanes = bench.domain().windows.lanes;
    assert!(lanes.kernel().is_empty() && lanes.distrusted().is_empty());
    let asked = bench.tick();
    bench.answered(asked, only_cpu(3 * MS));
    assert_eq!((bench.cpu(1), bench.domain().windows.answered(Group::Cpu)), (Some(3 * MS), Some(asked)));
}

#[test]
fn who_told_the_newest_sample_stays_known_when_it_tells_no_more() {
    let bench = Bench::new();
    bench.answered(bench.tick(), Figures::default());
    bench.saw(bench.tick(), figures(2 * MS));
    bench.saw(bench.tick(), KernelFigures { cpu: None, ..figures(0) });
    let windows = bench.domain().windows.clone();
    assert!(windows.lanes.kernel().contains(Group::Cpu) && !bench.feeds(Group::Cpu));
    assert_eq!(windows.answered(Group::Cpu), None, "libvirt never said anything of it");
    bench.answered(bench.tick(), only_cpu(3 * MS));
    assert!(!bench.domain().windows.lanes.kernel().contains(Group::Cpu));
}

#[test]
fn rates_of_the_last_minute_end_with_what_they_are_of() {
    let bench = Bench::new();
    bench.answered(bench.tick(), only_cpu(MS));
    let look = |cpu_ns: u64, interface| {
        bench.saw(bench.tick(), KernelFigures { interface: Some(interface), ..figures(cpu_ns) });
    };
    look(10_000 * MS, nic(100));
    look(10_010 * MS, nic(300));
    let domain = bench.domain();
    assert_eq!(domain.network_minute.map(|minute| minute.spreads[0].maximum), Some(200.0));
    assert!(domain.cpu_minute.is_some_and(|minute| minute.is_of_now(bench.store.now())));
    look(10_020 * MS, InterfaceSample { count: Some(0), interfaces: Vec::new() });
    assert_eq!(bench.domain().network_minute, None, "it has no NIC any more");
    // The lanes disagree, and what libvirt says is far more.
    for _ in 0..2 {
        bench.answered(bench.tick(), only_cpu(99_000 * MS));
        bench.saw(bench.tick(), figures(10_030 * MS));
    }
    assert_eq!(bench.domain().cpu_minute, None);
    bench.answered(bench.tick(), only_cpu(99_010 * MS));
    let minute = bench.domain().cpu_minute;
    assert!(minute.is_none_or(|minute| minute.spreads[0].maximum < 1e9), "no rate across: {minute:?}");
    bench.clock.advance(Duration::from_secs(61));
    assert!(!domain.cpu_minute.is_some_and(|minute| minute.is_of_now(bench.store.now())));
}

#[test]
fn the_xml_of_another_run_is_known_to_be_that() {
    let bench = Bench::new();
    bench.inventory(bench.tick(), vec![described(1, None, &[], &["vnet0"])]);
    bench.bulk(bench.tick(), vec![record(1, 1, 1)]);
    assert_ne!(bench.domain().described_run, Some(RunId(1)));
    bench.inventory(bench.tick(), vec![described(1, Some(1), &[], &["vnet7"])]);
    assert_eq!(bench.domain().described_run, Some(RunId(1)));
    bench.bulk(bench.tick(), vec![record(1, 2, 1)]);
    assert_eq!(bench.domain().described_run, None);
}
