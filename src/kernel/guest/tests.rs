//! A guest in a fake /proc and cgroup tree.

use super::super::fake::{Host, id};
use super::super::files::Budget;
use super::*;
use crate::model::KernelIo;

const PID: u32 = 41;
const GROUP: &str = "/machine/qemu-7-a.libvirt-qemu";

struct Fixture {
    host: Host,
    hierarchies: Hierarchies,
    reader: Reader,
    guest: Guest,
    now: Stamp,
}

impl Fixture {
    fn new(limit: usize) -> Self {
        let host = Host::new();
        host.process(PID, "qemu-kvm", 'S', 500, id(1));
        host.thread(PID, PID, "qemu-kvm", 'S');
        host.thread(PID, 42, "CPU 0/KVM", 'S');
        host.thread(PID, 43, "IO iothread1", 'S');
        let mounts = format!("31 23 0:28 / {}/cgroup rw - cgroup2 cgroup2 rw\n", host.path().display());
        host.write("41/cgroup", format!("0::{GROUP}/emulator\n"));
        host.write(&format!("cgroup{GROUP}/cpu.stat"), "usage_usec 3\nuser_usec 1\nsystem_usec 2\n");
        host.write(&format!("cgroup{GROUP}/io.stat"), "8:0 rbytes=1 wbytes=2 rios=3 wios=4\n");
        let guest = Guest::new(Process { pid: PID, start_ticks: 500, state: ProcessState::Runs });
        let (hierarchies, reader) = (Hierarchies::parse(mounts.as_bytes()), Reader::new(Budget::new(limit)));
        Self {
            host,
            hierarchies,
            reader,
            guest,
            now: Stamp { at: Instant::now(), wall: std::time::SystemTime::UNIX_EPOCH },
        }
    }

    fn look(&mut self) -> Result<KernelFigures, Gone> {
        let Self { host, hierarchies, reader, guest, now } = self;
        guest.look(&mut Surroundings { proc: host.path(), hierarchies, reader, now: *now })
    }

    fn cpu_time(&mut self) -> Option<u64> {
        self.look().expect("there").cpu?.time_ns
    }

    /// Directory, stat, status, two of the cgroup, and three threads.
    const FILES: usize = 8;
}

#[test]
fn each_figure_has_its_source() {
    let mut guest = Fixture::new(100);
    let figures = guest.look().expect("there");
    assert_eq!(figures.process, Process { pid: PID, start_ticks: 500, state: ProcessState::Runs });
    let cpu = CpuSample { time_ns: Some(3000), user_ns: Some(1000), system_ns: Some(2000) };
    assert_eq!(figures.cpu, Some(cpu));
    assert_eq!(figures.vcpu.map(|vcpu| vcpu.vcpus.len()), Some(1));
    assert_eq!(figures.interface, None);
    let kernel = figures.kernel;
    assert_eq!(kernel.resident_kib, Some(600 * page_size() as u64 / 1024));
    assert_eq!((kernel.minor_faults, kernel.major_faults, kernel.threads), (Some(9), Some(7), Some(3)));
    let details = kernel.details.expect("the first look has all");
    assert_eq!((details.read, details.hugetlb_kib), (guest.now, Some(2048)));
    assert_eq!((details.voluntary_switches, details.involuntary_switches), (Some(12), Some(3)));
    assert_eq!((details.emulator_time_ns, details.emulator_delay_ns), (Some(41_000), Some(4100)));
    assert_eq!(details.iothreads.len(), 1);
    assert_eq!(details.io_read, KernelIo { bytes: Some(1), operations: Some(3) });
    assert_eq!(details.io_write, KernelIo { bytes: Some(2), operations: Some(4) });
    assert_eq!(guest.reader.budget.used(), Fixture::FILES);
}

#[test]
fn details_are_read_every_five_seconds_and_bear_their_time() {
    let mut guest = Fixture::new(100);
    let mut read = |seconds| {
        guest.now.at += Duration::from_secs(seconds);
        guest.look().expect("there").kernel.details.map(|details| details.read)
    };
    let first = read(0);
    assert_eq!((read(1), read(3)), (first, first));
    let second = read(1);
    assert_ne!(second, first);
}

#[test]
fn vcpus_without_times_are_left_to_libvirt() {
    let mut guest = Fixture::new(100);
    guest.host.write("41/task/42/schedstat", "nothing");
    assert_eq!(guest.look().expect("there").vcpu, None);
}

#[test]
fn whatever_the_limit_of_files_the_figures_are_right() {
    let mut expected = Fixture::new(100).look().expect("there");
    expected.kernel.details = None;
    for limit in 0..=Fixture::FILES {
        let mut guest = Fixture::new(limit);
        for _ in 0..3 {
            let mut figures = guest.look().expect("there");
            // When it was read differs.
            assert!(figures.kernel.details.take().is_some());
            assert_eq!(figures, expected, "{limit}");
            assert_eq!(guest.reader.budget.used(), limit);
        }
        let Fixture { guest, reader, .. } = guest;
        drop(guest);
        assert_eq!(reader.budget.used(), 0, "{limit}");
    }
}

#[test]
fn a_reused_pid_is_not_believed() {
    for limit in [0, 1, 100] {
        let mut guest = Fixture::new(limit);
        guest.look().expect("there");
        guest.host.process(PID, "qemu-kvm", 'S', 900, id(2));
        assert_eq!(guest.look(), Err(Gone), "{limit}");
    }
}

#[test]
fn what_has_ended_is_gone() {
    let mut guest = Fixture::new(0);
    guest.look().expect("there");
    guest.host.process(PID, "qemu-kvm", 'Z', 500, id(1));
    assert_eq!(guest.look(), Err(Gone));
    guest.host.remove("41");
    assert_eq!(guest.look(), Err(Gone));
}

#[test]
fn without_a_group_it_is_the_process_s_time_until_there_is_one() {
    let mut guest = Fixture::new(100);
    guest.host.write("41/cgroup", "0::/\n");
    assert_eq!(guest.cpu_time(), nanos_of_ticks(150));
    assert!(!guest.guest.accounts().has_io());
    guest.host.write("41/cgroup", format!("0::{GROUP}/emulator\n"));
    assert_eq!(guest.cpu_time(), nanos_of_ticks(150), "not asked each time");
    guest.now.at += REGROUP;
    assert_eq!(guest.cpu_time(), Some(3000));
}

#[test]
fn a_group_that_tells_nothing_is_no_reason_to_tell_another_figure() {
    let mut guest = Fixture::new(100);
    guest.host.write(&format!("cgroup{GROUP}/cpu.stat"), "nonsense\n");
    assert_eq!(guest.look().map(|figures| figures.cpu), Ok(None));
}

#[test]
fn garbage_in_any_file_is_none_and_nothing_else() {
    for path in ["41/status", "41/cgroup", "41/task/41/schedstat", "41/task/42/schedstat", "41/task/42/comm"] {
        for garbage in [&b""[..], b"\xff\xfe\0", b"-1 -1 -1\n", b"HugetlbPages:\nvoluntary_ctxt_switches: x\n"] {
            let mut guest = Fixture::new(100);
            guest.host.write(path, garbage);
            let figures = guest.look().expect("it is there all the same");
            assert_eq!(figures.kernel.threads, Some(3), "{path}");
        }
    }
    let mut guest = Fixture::new(100);
    guest.host.write("41/stat", "garbage");
    assert_eq!(guest.look(), Err(Gone), "whose it is cannot be told");
}

#[test]
fn what_a_kernel_adds_to_status_does_not_matter() {
    let mut guest = Fixture::new(100);
    let mut details = (*guest.look().expect("there").kernel.details.expect("all")).clone();
    details.hugetlb_kib = None;
    let text = b"voluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t6\nx86_Thread_features:\t\n";
    read_status(text, &mut details);
    assert_eq!((details.voluntary_switches, details.involuntary_switches), (Some(5), Some(6)));
    assert_eq!(details.hugetlb_kib, None);
}
