//! libvirt as a source, call by call, on a real libvirtd with real QEMU guests.
#![allow(clippy::unwrap_used)]

#[path = "sources/events.rs"]
mod events;
mod support;

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use support::lab::{self, Lab, run, virsh};
use support::proxy::Proxy;
use support::{PATIENCE, wait_for};
use virtstatd::kernel::QemuProcesses;
use virtstatd::libvirt::LibvirtFactory;
use virtstatd::model::{
    BulkRequest, ControlState, DomainId, Group, InventoryRequest, ProcessState, Processes as _, Scope, Source,
    SourceError, SourceFactory as _,
};

const SYSTEM: &str = "qemu:///system";

/// Connections are opened one at a time in a process, and some tests count what all of it has open.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn turn() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner)
}

fn open(uri: &str) -> Box<dyn Source> {
    LibvirtFactory::new(uri.to_owned()).open().unwrap()
}

fn id(name: &str) -> DomainId {
    DomainId::parse(virsh(&["domuuid", name]).trim()).unwrap()
}

fn nobody() -> DomainId {
    DomainId::from_bytes([0xee; 16])
}

fn strings(targets: &[&str]) -> Vec<Box<str>> {
    targets.iter().map(|target| (*target).into()).collect()
}

/// `virsh domblkinfo` and the like: the last two words of each line.
fn figures(arguments: &[&str]) -> HashMap<String, u64> {
    let text = virsh(arguments);
    let pair = |line: &str| {
        let mut words = line.split_whitespace().rev();
        let value = words.next()?.parse().ok()?;
        Some((words.next()?.trim_end_matches(':').to_owned(), value))
    };
    text.lines().filter_map(pair).collect()
}

fn thaw(name: &str) {
    let pid = std::fs::read_to_string(format!("/run/libvirt/qemu/{name}.pid")).unwrap();
    run("kill", &["-CONT", pid.trim()]).unwrap();
}

/// A guest that stands still, and a call that hangs on it, until this is dropped.
struct Stuck<'a> {
    name: &'a str,
    call: Option<thread::JoinHandle<()>>,
}

impl<'a> Stuck<'a> {
    fn new(lab: &Lab, name: &'a str) -> Self {
        let (mut source, id) = (open(SYSTEM), id(name));
        lab.freeze(name);
        let request = BulkRequest { groups: [Group::Cpu].into_iter().collect(), scope: Scope::Only(vec![id]) };
        let call = thread::spawn(move || {
            source.bulk(&request).unwrap();
        });
        Self { name, call: Some(call) }
    }
}

impl Drop for Stuck<'_> {
    fn drop(&mut self) {
        thaw(self.name);
        self.call.take().unwrap().join().unwrap();
    }
}

#[test]
fn a_frozen_guest_is_occupied_and_still_says_how_much_cpu_it_used() {
    let (_turn, Some(lab)) = (turn(), lab::enter()) else { return };
    let (healthy, frozen) = (id("lab-012"), id("lab-011"));
    let mut source = open(SYSTEM);
    let mut processes = QemuProcesses::new();
    let all = source.inventory(&InventoryRequest::default()).unwrap().domains;
    let run = all.iter().find(|domain| domain.id == frozen).unwrap().run.unwrap();
    assert_eq!(processes.look(frozen, "lab-011", run).unwrap().state, ProcessState::Runs);
    let before = source.cpu_stats(&[frozen]).unwrap().records.remove(0).figures.cpu.unwrap();
    let stuck = Stuck::new(&lab, "lab-011");
    assert_eq!(processes.look(frozen, "lab-011", run).unwrap().state, ProcessState::Stopped);
    let occupied = wait_for("the call to occupy the guest", || {
        let answers = source.control(&[healthy, nobody(), frozen]).unwrap();
        assert_eq!(answers.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [healthy, frozen]);
        assert_eq!(answers[0].1.state, ControlState::Ok);
        Some(answers[1].1).filter(|control| control.state == ControlState::Occupied)
    });
    assert!(occupied.since < PATIENCE, "{occupied:?}");
    let reply = source.cpu_stats(&[frozen, nobody()]).unwrap();
    assert_eq!(reply.records.len(), 1);
    let record = &reply.records[0];
    assert_eq!((record.id, &*record.name, record.run), (frozen, "lab-011", Some(run)));
    assert_eq!(record.figures.count(), 1);
    let cpu = record.figures.cpu.unwrap();
    assert!(cpu.time_ns >= before.time_ns && cpu.time_ns.is_some_and(|time| time > 0), "{cpu:?} after {before:?}");
    assert!(cpu.user_ns.is_some() && cpu.system_ns.is_some());
    assert_eq!(reply.decode, Default::default());
    drop(stuck);
    wait_for("the guest to be free", || {
        let control = source.control(&[frozen]).unwrap()[0].1;
        (control.state == ControlState::Ok).then_some(())
    });
}

#[test]
fn disks_are_as_virsh_says() {
    let (_turn, Some(_lab)) = (turn(), lab::enter()) else { return };
    let (mut source, guest) = (open(SYSTEM), id("lab-001"));
    let info = source.block_info(guest, "vda").unwrap().unwrap();
    let virsh_info = figures(&["domblkinfo", "lab-001", "vda"]);
    for (name, value) in
        [("Capacity", info.capacity_bytes), ("Allocation", info.allocation_bytes), ("Physical", info.physical_bytes)]
    {
        assert_eq!(Some(virsh_info[name]), value, "{name}");
    }
    // The guest halts after it has read its boot sector, so nothing changes between two calls.
    let reply = source.block_counters(guest, &strings(&["none", "vda"])).unwrap();
    assert_eq!((reply.records.len(), reply.decode), (1, Default::default()));
    let record = &reply.records[0];
    assert_eq!((record.id, &*record.name, record.figures.count()), (guest, "lab-001", 1));
    let disks = &record.figures.block.as_ref().unwrap().disks;
    let [disk] = &disks[..] else { panic!("{disks:?}") };
    assert_eq!((disk.index, disk.name.as_deref(), disk.capacity_bytes), (1, Some("vda"), None));
    let stat = figures(&["domblkstat", "lab-001", "vda"]);
    assert!(stat["rd_req"] > 0);
    for (name, value) in [
        ("rd_req", disk.read.requests),
        ("rd_bytes", disk.read.bytes),
        ("rd_total_times", disk.read.time_ns),
        ("wr_req", disk.write.requests),
        ("wr_bytes", disk.write.bytes),
        ("wr_total_times", disk.write.time_ns),
        ("flush_operations", disk.flush.requests),
        ("flush_total_times", disk.flush.time_ns),
    ] {
        assert_eq!(stat.get(name).copied(), value, "{name} of {stat:?}");
    }
    assert_eq!(source.block_info(guest, "none").unwrap(), None);
    assert_eq!(source.block_info(guest, "v\0da").unwrap(), None);
    assert_eq!(source.block_info(nobody(), "vda").unwrap(), None);
    assert!(source.block_counters(nobody(), &strings(&["vda"])).unwrap().records.is_empty());
    assert_eq!(source.block_counters(guest, &strings(&["none"])).unwrap().records[0].figures.count(), 0);
}

#[test]
fn a_domain_that_starts_anew_is_asked_by_its_old_handle_and_answers_as_its_new_run() {
    let (_turn, Some(mut lab)) = (turn(), lab::enter()) else { return };
    lab.define("lab-anew", &[]);
    let guest = id("lab-anew");
    let mut source = open(SYSTEM);
    let mut runs = Vec::new();
    for _ in 0..2 {
        virsh(&["start", "lab-anew"]);
        let cpu = source.cpu_stats(&[guest]).unwrap().records.remove(0);
        let disk = source.block_counters(guest, &strings(&["vda"])).unwrap().records.remove(0);
        assert_eq!(cpu.run, disk.run);
        assert_eq!(cpu.run.unwrap().0.to_string(), virsh(&["domid", "lab-anew"]).trim());
        // The handle is kept when the domain goes behind our back.
        runs.push(cpu.run.unwrap());
        virsh(&["destroy", "lab-anew"]);
    }
    assert_ne!(runs[0], runs[1]);
    assert!(source.control(&[guest]).unwrap().is_empty());
    assert!(source.cpu_stats(&[guest]).unwrap().records.is_empty());
    assert!(source.block_counters(guest, &strings(&["vda"])).unwrap().records.is_empty());
}

#[test]
fn the_peer_is_libvirtd() {
    let (_turn, Some(_lab)) = (turn(), lab::enter()) else { return };
    let pid: u32 = std::fs::read_to_string("/run/libvirtd.pid").unwrap().trim().parse().unwrap();
    let mut source = open(SYSTEM);
    let peer = source.peer().unwrap();
    assert_eq!(peer.pid, pid);
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    assert_eq!(peer.start_ticks.to_string(), stat.split_whitespace().nth(21).unwrap());
    assert_eq!(source.inventory(&InventoryRequest::default()).unwrap().peer, Some(peer));
    assert_eq!(open(SYSTEM).peer(), Some(peer));
}

#[test]
fn a_driver_in_our_own_process_has_no_peer_and_the_rest_does_no_harm() {
    let _turn = turn();
    let mut source = open("test:///default");
    assert_eq!(source.peer(), None);
    let guest = source.inventory(&InventoryRequest::default()).unwrap().domains[0].id;
    assert_eq!(source.control(&[guest]).unwrap().len(), 1);
    source.cpu_stats(&[guest, nobody()]).unwrap();
    source.watch(Arc::new(|_| {})).unwrap();
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
fn a_mute_socket_holds_an_opening_until_it_is_abandoned() {
    let _turn = turn();
    // libvirt keeps some files of its own from the first connection on.
    drop(open("test:///default"));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mute");
    let listener = UnixListener::bind(&path).unwrap();
    let factory = Arc::new(LibvirtFactory::new(format!("qemu+unix:///system?socket={}", path.display())));
    // Nothing is being opened.
    factory.abandon_opening();
    let before = open_files();
    for _ in 0..3 {
        let opener = Arc::clone(&factory);
        let opening = thread::spawn(move || opener.open().map(drop));
        let (mut accepted, _) = listener.accept().unwrap();
        // It has connected and asked its first question, which gets no answer.
        accepted.read_exact(&mut [0; 4]).unwrap();
        thread::sleep(Duration::from_millis(100));
        assert!(!opening.is_finished());
        let begin = Instant::now();
        factory.abandon_opening();
        let error = opening.join().unwrap().unwrap_err();
        assert!(matches!(error, SourceError::Connect { .. }), "{error}");
        assert!(begin.elapsed() < Duration::from_secs(5), "{:?}", begin.elapsed());
    }
    wait_for("the files to be closed", || (open_files() == before).then_some(()));
}

#[test]
fn abandoning_harms_no_connection_that_is_open() {
    let (_turn, Some(_lab)) = (turn(), lab::enter()) else { return };
    let mut source = open(SYSTEM);
    let factory = LibvirtFactory::new(SYSTEM.to_owned());
    factory.abandon_opening();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("mute");
    let listener = UnixListener::bind(&path).unwrap();
    let mute = LibvirtFactory::new(format!("qemu+unix:///system?socket={}", path.display()));
    let opening = thread::spawn(move || mute.open().map(drop));
    let (mut accepted, _) = listener.accept().unwrap();
    accepted.read_exact(&mut [0; 4]).unwrap();
    factory.abandon_opening();
    opening.join().unwrap().unwrap_err();
    assert!(!source.inventory(&InventoryRequest::default()).unwrap().domains.is_empty());
}

#[test]
fn fifty_connections_leave_nothing_behind() {
    let (_turn, Some(_lab)) = (turn(), lab::enter()) else { return };
    let guest = id("lab-001");
    let connection = || {
        let mut source = open(SYSTEM);
        source.watch(Arc::new(|_| {})).unwrap();
        assert_eq!(source.control(&[guest]).unwrap().len(), 1);
    };
    connection();
    let settled = || {
        let counts = (open_files(), threads());
        thread::sleep(Duration::from_millis(200));
        (counts == (open_files(), threads())).then_some(counts)
    };
    let before = wait_for("quiet", settled);
    for _ in 0..50 {
        connection();
    }
    wait_for("all to be closed", || ((open_files(), threads()) == before).then_some(()));
}

type Call = (&'static str, fn(&mut dyn Source, DomainId) -> Result<(), SourceError>);

const CALLS: &[Call] = &[
    ("control", |source, id| source.control(&[id]).map(drop)),
    ("cpu_stats", |source, id| source.cpu_stats(&[id]).map(drop)),
    ("block_info", |source, id| source.block_info(id, "vda").map(drop)),
    ("block_counters", |source, id| source.block_counters(id, &strings(&["vda"])).map(drop)),
    ("watch", |source, _| source.watch(Arc::new(|_| {}))),
    ("inventory", |source, _| source.inventory(&InventoryRequest::default()).map(drop)),
];

#[test]
fn every_call_notices_that_its_connection_is_gone() {
    let (_turn, Some(_lab)) = (turn(), lab::enter()) else { return };
    let guest = id("lab-001");
    for (name, call) in CALLS {
        let proxy = Proxy::start();
        let mut source = open(&proxy.uri());
        call(&mut *source, guest).unwrap_or_else(|error| panic!("{name}: {error}"));
        proxy.cut();
        // The first may be under way when the end comes, the second finds a connection that is closed.
        for _ in 0..2 {
            let error = call(&mut *source, guest).expect_err(name);
            assert!(error.is_disconnect(), "{name}: {error}");
        }
    }
}

/// A socket before libvirtd that can swallow what goes through it.
fn stalling_proxy(path: &Path) -> Arc<AtomicBool> {
    let listener = UnixListener::bind(path).unwrap();
    let stalled = Arc::new(AtomicBool::new(false));
    let result = Arc::clone(&stalled);
    thread::spawn(move || {
        let (client, _) = listener.accept().unwrap();
        let server = UnixStream::connect("/run/libvirt/libvirt-sock-ro").unwrap();
        let both = |stream: &UnixStream| stream.try_clone().unwrap();
        for (mut from, mut to) in [(both(&client), both(&server)), (server, client)] {
            let stalled = Arc::clone(&stalled);
            thread::spawn(move || {
                let mut buffer = [0; 65536];
                while let Ok(count @ 1..) = from.read(&mut buffer) {
                    if !stalled.load(Ordering::SeqCst) && to.write_all(&buffer[..count]).is_err() {
                        break;
                    }
                }
                let _ = to.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    result
}

#[test]
fn a_libvirtd_that_stands_still_is_noticed() {
    let (_turn, Some(_lab)) = (turn(), lab::enter()) else { return };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("libvirt-sock-ro");
    let stalled = stalling_proxy(&path);
    let mut source = open(&format!("qemu+unix:///system?socket={}", path.display()));
    source.watch(Arc::new(|_| {})).unwrap();
    stalled.store(true, Ordering::SeqCst);
    let begin = Instant::now();
    let error = source.control(&[id("lab-001")]).unwrap_err();
    let took = begin.elapsed();
    assert!(matches!(error, SourceError::Disconnected { .. }), "{error}");
    assert!((5..15).contains(&took.as_secs()), "{took:?}");
    eprintln!("after {took:?}: {error}");
}
