//! The lane over fake hosts, and over one real process.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::super::fake::{Host, id};
use super::super::netlink::Failure;
use super::*;
use crate::clock::ManualClock;
use crate::model::NicDescription;

const RUN: RunId = RunId(7);

/// A kernel that has no devices, or refuses to tell.
struct NoDevices(Result<(), Failure>);

impl Dump for NoDevices {
    fn dump(&mut self, _: u16, _: &[u8], _: &mut dyn FnMut(u16, &[u8])) -> Result<(), Failure> {
        self.0
    }
}

fn lane(host: &Host, limit: usize) -> QemuKernel {
    let clock = Arc::new(ManualClock::new());
    QemuKernel::with(host.path().into(), host.path().into(), clock, Budget::new(limit), Box::new(NoDevices(Ok(()))))
}

fn target(number: u8, name: &str) -> KernelTarget<'_> {
    KernelTarget { id: id(number), name, run: RUN, nics: None }
}

fn pid(figures: Result<KernelFigures, Unseen>) -> Result<u32, Unseen> {
    figures.map(|figures| figures.process.pid)
}

fn guest(host: &Host, number: u8, name: &str, pid: u32, start: u64) {
    host.pid_file(name, pid);
    host.process(pid, "qemu-kvm", 'S', start, id(number));
    host.thread(pid, pid, "qemu-kvm", 'S');
    host.thread(pid, pid + 1, "CPU 0/KVM", 'S');
}

#[test]
fn a_guest_is_found_ends_and_starts_anew() {
    let host = Host::new();
    let mut lane = lane(&host, 100);
    lane.begin();
    assert_eq!(pid(lane.look(&target(1, "a"))), Err(Unseen::NoProcess));
    guest(&host, 1, "a", 41, 500);
    assert_eq!(pid(lane.look(&target(1, "a"))), Ok(41));
    host.process(41, "qemu-kvm", 'Z', 500, id(1));
    assert_eq!(pid(lane.look(&target(1, "a"))), Err(Unseen::Ended));
    assert_eq!(lane.state().open_files, 0, "what has ended is closed");
    host.remove("41");
    assert_eq!(pid(lane.look(&target(1, "a"))), Err(Unseen::Ended), "it stays ended");
    // The next run, before it is known to be one.
    guest(&host, 1, "a", 61, 900);
    assert_eq!(pid(lane.look(&target(1, "a"))), Ok(61));
    assert_eq!(pid(lane.look(&KernelTarget { run: RunId(8), ..target(1, "a") })), Ok(61));
}

#[test]
fn a_pid_that_is_reused_at_once_is_another_s() {
    let host = Host::new();
    let mut lane = lane(&host, 100);
    guest(&host, 1, "a", 41, 500);
    assert_eq!(pid(lane.look(&target(1, "a"))), Ok(41));
    host.remove("a.pid");
    guest(&host, 2, "b", 41, 900);
    assert_eq!(pid(lane.look(&target(1, "a"))), Err(Unseen::Ended));
    assert_eq!(pid(lane.look(&target(2, "b"))), Ok(41));
    // Whose name the pid file bears does not tell either.
    guest(&host, 3, "c", 41, 900);
    assert_eq!(pid(lane.look(&target(1, "c"))), Err(Unseen::Ended));
}

#[test]
fn a_hidden_process_is_told_from_an_absent_one() {
    let host = Host::new();
    host.pid_file("a", 41);
    let mut lane = lane(&host, 100);
    assert_eq!(pid(lane.look(&target(1, "a"))), Err(Unseen::Hidden));
    host.process(1, "init", 'S', 1, id(9));
    assert_eq!(pid(lane.look(&target(1, "a"))), Err(Unseen::NoProcess));
}

#[test]
fn guests_that_are_not_wanted_leave_their_room_to_others() {
    let host = Host::new();
    guest(&host, 1, "a", 41, 500);
    guest(&host, 2, "b", 51, 500);
    // Of each: directory, stat, status and two threads.
    let mut lane = lane(&host, 7);
    let look = |lane: &mut QemuKernel, number, name| lane.look(&target(number, name)).expect("there");
    let (first, second) = (look(&mut lane, 1, "a"), look(&mut lane, 2, "b"));
    assert_eq!((lane.state().open_files, lane.state().open_files_limit), (7, 7));
    assert_eq!((look(&mut lane, 1, "a"), look(&mut lane, 2, "b")), (first, second.clone()));
    lane.keep_only(&|one| one == id(2));
    assert_eq!(lane.state().open_files, 2);
    assert_eq!(look(&mut lane, 2, "b"), second);
    assert_eq!(lane.state().open_files, 3, "what is read seldom is opened when it is read");
    lane.keep_only(&|_| false);
    assert_eq!(lane.state().open_files, 0);
}

#[test]
fn what_is_lacking_is_told_once_for_all_guests() {
    let host = Host::new();
    guest(&host, 1, "a", 41, 500);
    guest(&host, 2, "b", 51, 500);
    host.thread(51, 52, "qemu-kvm", 'S');
    let mut lane = lane(&host, 100);
    lane.links = Links::new(Box::new(NoDevices(Err(Failure::Refused(rustix::io::Errno::AFNOSUPPORT)))));
    assert_eq!(lane.state().lacks, []);
    lane.begin();
    let nics = [NicDescription { target: "vnet0".into(), ..NicDescription::default() }];
    let figures = lane.look(&KernelTarget { nics: Some(&nics), ..target(1, "a") }).expect("there");
    assert_eq!(figures.interface, None);
    lane.look(&target(2, "b")).expect("there");
    let lacks = lane.state().lacks;
    let figures: Vec<_> = lacks.iter().map(|lack| lack.figures).collect();
    assert_eq!(figures, ["network", "I/O on the host's block devices", "vCPUs", "vCPU wait"]);
}

/// A shell that bears the name of QEMU, and a domain's uuid on its command line.
struct Impostor(Child);

impl Impostor {
    fn start(host: &Host, number: u8) -> Self {
        let program = host.path().join("qemu-kvm");
        if !program.exists() {
            std::fs::copy("/bin/sh", &program).expect("copied");
        }
        let uuid = id(number).to_string();
        let mut command = Command::new(program);
        command.args(["-c", "read line", "-uuid", &uuid]).stdin(Stdio::piped());
        Self(command.spawn().expect("started"))
    }
}

impl Drop for Impostor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_real_process_is_found_without_a_pid_file_and_its_death_is_seen() {
    for limit in [0, 2, 100] {
        let host = Host::new();
        let clock = Arc::new(ManualClock::new());
        let links = Box::new(NoDevices(Ok(())));
        let (run, proc) = (host.path().into(), "/proc".into());
        let mut lane = QemuKernel::with(run, proc, Arc::clone(&clock) as Arc<dyn Clock>, Budget::new(limit), links);
        let number = 100 + u8::try_from(limit).expect("small");
        let mut process = Impostor::start(&host, number);
        lane.begin();
        // It is the shell's until it has become another program.
        let mut found = lane.look(&target(number, "a"));
        while found.is_err() {
            clock.advance(Duration::from_secs(60));
            lane.begin();
            found = lane.look(&target(number, "a"));
        }
        let figures = found.expect("found");
        assert_eq!(figures.process.pid, process.0.id());
        assert_eq!(figures.kernel.threads, Some(1));
        assert!(figures.kernel.resident_kib > Some(0) && figures.cpu.is_some());
        assert!(lane.look(&target(number, "a")).is_ok(), "and read again");
        process.0.kill().expect("killed");
        process.0.wait().expect("reaped");
        assert_eq!(pid(lane.look(&target(number, "a"))), Err(Unseen::Ended));
        assert_eq!(lane.state().open_files, 0);
    }
}
