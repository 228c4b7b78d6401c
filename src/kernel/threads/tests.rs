//! Threads in a fake /proc/PID/task.

use proptest::prelude::*;
use rustix::fs::CWD;

use super::super::fake::Host;
use super::super::files::Budget;
use super::*;

const PID: u32 = 41;

/// One guest with two vCPUs, an I/O thread, the monitor's and a worker.
struct Guest {
    host: Host,
    reader: Reader,
    threads: Threads,
    now: Instant,
}

impl Guest {
    fn new() -> Self {
        let host = Host::new();
        for (tid, comm) in [
            (PID, "qemu-kvm"),
            (42, "IO mon_iothread"),
            (43, "CPU 1/KVM"),
            (44, "CPU 0/KVM"),
            (45, "IO iothread3"),
            (46, "worker"),
        ] {
            host.thread(PID, tid, comm, 'S');
        }
        let reader = Reader::new(Budget::new(100));
        Self { host, reader, threads: Threads::of(PID), now: Instant::now() }
    }

    fn look(&mut self, count: u64) -> Option<VcpuSample> {
        self.with_place(|threads, reader, place, now| threads.look(reader, place, Some(count), now))
    }

    fn others(&mut self) -> (Times, Vec<IoThread>) {
        self.with_place(|threads, reader, place, _| threads.others(reader, place))
    }

    fn with_place<T>(&mut self, look: impl FnOnce(&mut Threads, &mut Reader, Place<'_>, Instant) -> T) -> T {
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let directory = openat(CWD, self.host.path().join(PID.to_string()), flags, Mode::empty()).expect("there");
        let place = Place { directory: std::os::fd::AsFd::as_fd(&directory), may_hold: true };
        look(&mut self.threads, &mut self.reader, place, self.now)
    }

    /// Numbers and times of the vCPUs.
    fn vcpus(&mut self, count: u64) -> Vec<(u32, Option<u64>)> {
        let vcpu = self.look(count).map(|vcpu| vcpu.vcpus).unwrap_or_default();
        vcpu.into_iter().map(|vcpu| (vcpu.index, vcpu.time_ns)).collect()
    }
}

#[test]
fn each_kind_of_thread_has_its_figures() {
    let mut guest = Guest::new();
    let vcpus = guest.look(6);
    let vcpu = |index, tid: u64| Vcpu {
        index,
        state: Some(RUNNING),
        time_ns: Some(tid * 1000),
        wait_ns: None,
        delay_ns: Some(tid * 100),
    };
    let expected = VcpuSample { current: Some(2), maximum: None, vcpus: vec![vcpu(0, 44), vcpu(1, 43)] };
    assert_eq!(vcpus, Some(expected));
    let (main, iothreads) = guest.others();
    assert_eq!(iothreads, [IoThread { id: 3, time_ns: Some(45_000), delay_ns: Some(4500) }]);
    assert_eq!((main.run_ns, main.delay_ns), (Some(41_000), Some(4100)));
    assert_eq!(guest.threads.tell_waits(), Some(false));
    assert_eq!(guest.reader.budget.used(), 4, "the worker's is not open");
}

#[test]
fn vcpus_are_plugged_and_unplugged() {
    let mut guest = Guest::new();
    assert_eq!(guest.vcpus(6), [(0, Some(44_000)), (1, Some(43_000))]);
    guest.host.thread(PID, 50, "CPU 2/KVM", 'S');
    assert_eq!(guest.vcpus(7), [(0, Some(44_000)), (1, Some(43_000)), (2, Some(50_000))]);
    guest.host.remove("41/task/43");
    assert_eq!(guest.vcpus(6), [(0, Some(44_000)), (2, Some(50_000))]);
    assert_eq!(guest.reader.budget.used(), 2);
    // One for another: their number is what it was.
    guest.host.remove("41/task/50");
    guest.host.thread(PID, 51, "CPU 1/KVM", 'S');
    guest.now += RESCAN;
    assert_eq!(guest.vcpus(6), [(0, Some(44_000)), (1, Some(51_000))]);
}

#[test]
fn a_thread_that_is_gone_is_looked_for_at_once() {
    let mut guest = Guest::new();
    // Files that are not open say at once that they are gone.
    guest.reader = Reader::new(Budget::new(0));
    assert_eq!(guest.vcpus(6).len(), 2);
    guest.host.remove("41/task/43");
    guest.host.thread(PID, 51, "CPU 1/KVM", 'S');
    assert_eq!(guest.vcpus(6), [(0, Some(44_000)), (1, Some(51_000))]);
    // A kernel without schedstat is not asked twice at each look.
    guest.host.remove("41/task/51/schedstat");
    assert_eq!(guest.vcpus(6), [(0, Some(44_000)), (1, None)]);
    guest.host.write("41/task/51/schedstat", "7 8 9\n");
    assert_eq!(guest.vcpus(6), [(0, Some(44_000)), (1, None)]);
    guest.now += RESCAN;
    assert_eq!(guest.vcpus(6), [(0, Some(44_000)), (1, Some(7))]);
}

#[test]
fn a_thread_that_has_not_named_itself_yet_is_asked_again() {
    let mut guest = Guest::new();
    guest.host.thread(PID, 50, "qemu-kvm", 'S');
    guest.host.thread(PID, 51, "CPU 0/KVM", 'S');
    assert_eq!(guest.vcpus(8).iter().map(|vcpu| vcpu.0).collect::<Vec<_>>(), [0, 1]);
    guest.host.thread(PID, 50, "CPU 2/KVM", 'S');
    guest.now += RESCAN;
    assert_eq!(guest.vcpus(8).iter().map(|vcpu| vcpu.0).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn without_names_there_are_no_vcpus() {
    let mut guest = Guest::new();
    for tid in [43, 44] {
        guest.host.thread(PID, tid, "qemu-kvm", 'S');
    }
    assert_eq!(guest.look(6), None);
    assert_eq!(guest.others().0.run_ns, Some(41_000));
    assert!(!guest.threads.are_named());
}

#[test]
fn waits_are_told_where_the_kernel_counts_them() {
    let mut guest = Guest::new();
    for tid in [43, 44] {
        let text =
            format!("CPU (9, #threads: 6)\n---\nse.exec_start : 1.5\nwait_sum      :  {tid}.000001\nwait_count : 3\n");
        guest.host.write(&format!("41/task/{tid}/sched"), text);
    }
    let vcpus = guest.look(6).expect("named").vcpus;
    assert_eq!(vcpus.iter().map(|vcpu| vcpu.wait_ns).collect::<Vec<_>>(), [Some(44_000_001), Some(43_000_001)]);
    assert_eq!(wait_sum(b"se.statistics.wait_sum  : 0.5\n"), Some(500_000));
    assert_eq!(wait_sum(b"wait_sum : never\n"), None);
}

#[test]
fn garbage_is_none() {
    let mut guest = Guest::new();
    guest.host.write("41/task/44/schedstat", "x -1");
    guest.host.write("41/task/43/schedstat", b"\xff\xfe");
    guest.host.write("41/task/41/schedstat", "");
    guest.host.write("41/task/none/comm", "CPU 7/KVM");
    assert_eq!(guest.vcpus(6), [(0, None), (1, None)]);
    assert_eq!(guest.others().0.run_ns, None);
}

#[test]
fn names_are_told_apart() {
    for (name, expected) in [
        ("CPU 0/KVM", Some(Role::Vcpu(0))),
        ("CPU 1000/TCG", Some(Role::Vcpu(1000))),
        ("IO iothread12", Some(Role::IoThread(12))),
        ("IO mon_iothread", None),
        ("IO iothread", None),
        ("CPU /KVM", None),
        ("CPU 1", None),
        ("ALL CPUs/TCG", None),
        ("", None),
    ] {
        assert_eq!(role(name.as_bytes()), expected, "{name}");
    }
}

proptest! {
    #[test]
    fn nothing_panics(text in proptest::collection::vec(any::<u8>(), 0..60)) {
        role(&text);
        wait_sum(&text);
        wait_sum(&[b"wait_sum", &text[..]].concat());
    }
}
