//! What the kernel lane tells, libvirt is asked for now and then only; and whom a call hangs on is found out all the same.

use super::*;
use crate::model::{
    CpuSample, InterfaceSample, KernelFigures, KernelSample, Process, ProcessState, RunId, Standing, VcpuSample,
};
use crate::sampling::kernel::Noticed;
use crate::store::{KernelRecord, KernelTurn};

impl Lab {
    /// A look of the kernel lane at these, which agrees with whatever libvirt says.
    fn look(&self, numbers: &[u8]) {
        let started = self.store.stamp();
        let record = |number: &u8| KernelRecord {
            id: id(*number),
            run: RunId(1),
            started,
            figures: KernelFigures {
                process: Process { pid: 1, start_ticks: 1, state: ProcessState::Runs },
                cpu: Some(CpuSample::default()),
                vcpu: Some(VcpuSample::default()),
                interface: Some(InterfaceSample::default()),
                kernel: KernelSample::default(),
            },
        };
        let records = numbers.iter().map(record).collect();
        self.store.apply_kernel(KernelTurn { network: Some(started), records, ..KernelTurn::default() });
    }

    /// Lets time pass, with such a look each second.
    fn run_seen(&mut self, time: Duration, numbers: &[u8]) {
        let end = self.now() + time;
        while self.now() < end {
            self.look(numbers);
            self.run(SECOND.min(end - self.now()));
        }
    }

    /// In how many bulk calls of a lane that group was asked for, of that domain.
    fn asked_for(calls: &[BulkRequest], group: Group, number: u8) -> usize {
        let of = |scope: &Scope| match scope {
            Scope::All => true,
            Scope::Only(ids) => ids.contains(&id(number)),
        };
        calls.iter().filter(|call| call.groups.contains(group) && of(&call.scope)).count()
    }
}

#[test]
fn what_the_kernel_tells_libvirt_is_asked_for_once_a_minute() {
    let mut lab = Lab::started(3);
    // Thirty periods to a minute; the third domain is not seen.
    lab.run_seen(PERIOD / 2, &[1, 2]);
    lab.bulk_calls(Lane::Free);
    lab.asked.clear();
    lab.run_seen(60 * PERIOD, &[1, 2]);
    let asked = lab.asked.clone();
    let free = lab.bulk_calls(Lane::Free);
    lab.asked = asked;
    let monitor = lab.bulk_calls(Lane::Monitor);
    let counts = |calls: &[BulkRequest], group| [1, 3].map(|number| Lab::asked_for(calls, group, number));
    assert_eq!(counts(&free, Group::State), [60, 60]);
    assert_eq!(counts(&free, Group::Interface), [2, 60], "whom the kernel does not tell is asked about as ever");
    assert_eq!(counts(&monitor, Group::Block), [60, 60]);
    assert_eq!((counts(&monitor, Group::Cpu), counts(&monitor, Group::Vcpu)), ([2, 60], [2, 60]));
    assert_eq!(lab.late(1..=3, &FREE), []);
    assert_eq!(lab.late(1..=3, &MONITOR), []);
}

#[test]
fn a_turn_in_which_nothing_is_left_to_ask_makes_no_call() {
    let groups = [(Group::Cpu, PERIOD), (Group::Interface, PERIOD), (Group::Kernel, SECOND)];
    let mut lab = Lab::with(2, &groups, Budget::new(4));
    lab.run(10 * MS);
    lab.run_seen(SECOND, &[1, 2]);
    lab.asked.clear();
    lab.run_seen(2 * PERIOD, &[1, 2]);
    assert!(lab.asked.iter().all(|(_, _, job)| !matches!(job, Job::Bulk(_))), "{:?}", lab.asked);
    lab.run(2 * PERIOD);
    assert_eq!(
        lab.late([1, 2], &[Group::Cpu, Group::Interface]),
        [],
        "the kernel is silent, and libvirt is asked again"
    );
}

#[test]
fn on_whom_a_call_hangs_is_found_out_by_what_libvirt_answers() {
    let all: Vec<u8> = (1..=12).collect();
    let mut lab = Lab::started(12);
    lab.run_seen(PERIOD / 2, &all);
    lab.world.freeze_unseen(7);
    lab.run_seen(5 * PERIOD, &all);
    assert_ne!(lab.health(7).standing, Standing::Healthy);
    assert!(lab.health(7).blocked_call.is_some());
    for number in all.iter().copied().filter(|number| *number != 7) {
        assert_eq!(lab.health(number), DomainHealth::default(), "{number}");
        assert_eq!(lab.late([number], &MONITOR), []);
    }
    assert_eq!(lab.late([7], &[Group::State, Group::Interface, Group::Cpu, Group::Vcpu, Group::Kernel]), []);
    assert!(lab.asked.iter().all(|(_, _, job)| !matches!(job, Job::CpuStats(_))), "the kernel tells it");
}

#[test]
fn a_process_that_the_lane_saw_stop_is_looked_at_at_once() {
    let mut lab = Lab::started(3);
    lab.world.freeze(2);
    lab.core.noticed(&Noticed::Stopped(id(2)));
    lab.run(300 * MS);
    assert_eq!(lab.health(2).standing, Standing::Quarantined, "long before its next turn");
    assert_eq!(lab.timed_out("virDomainListGetStats"), 0);
    lab.core.noticed(&Noticed::Stopped(id(9)));
}
