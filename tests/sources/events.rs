//! What libvirt tells as it happens.

use std::net::TcpStream;
use std::sync::{Arc, mpsc};
use std::time::Instant;

use virtstat_sim::command::{Command, Happening, OneChange};
use virtstat_sim::{Settings, Simulator};
use virtstatd::libvirt::describe;
use virtstatd::model::{DomainEvent, DomainId, Happened, Source, WatchdogAction};

use crate::support::lab::{self, virsh};
use crate::support::{PATIENCE, wait_for};
use crate::{SYSTEM, id, open, turn};

/// Sets the clock to five o'clock, lets the watchdog fire at once, and halts.
const BOOT_SECTOR: [u8; 19] = [
    0xb0, 0x04, 0xe6, 0x70, // hours of the CMOS clock
    0xb0, 0x05, 0xe6, 0x71, // are 5
    0xba, 0x43, 0x04, 0xb0, 0x0f, 0xee, // the ib700's port: no time left
    0xfa, 0xf4, 0xeb, 0xfd, 0x90, // for ever
];

/// Listens to all that happens on a connection.
fn listen(source: &mut dyn Source) -> mpsc::Receiver<DomainEvent> {
    let (sender, events) = mpsc::channel();
    // Nobody may listen any more.
    source.watch(Arc::new(move |event| drop(sender.send(event)))).unwrap();
    events
}

/// The next that happens to a guest and that somebody waits for; others may use the laboratory too.
fn next<T>(events: &mpsc::Receiver<DomainEvent>, guest: DomainId, mut meant: impl FnMut(Happened) -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let event = events.recv_timeout(deadline.saturating_duration_since(Instant::now())).unwrap();
        if event.id == guest
            && let Some(found) = meant(event.what)
        {
            return found;
        }
    }
}

#[test]
fn events_come_when_a_guest_is_paused_even_after_a_sink_panicked() {
    let (_turn, Some(_lab)) = (turn(), lab::enter()) else { return };
    let guest = id("lab-013");
    let mut source = open(SYSTEM);
    let (unused, replaced) = mpsc::channel();
    source.watch(Arc::new(move |event| unused.send(event).unwrap())).unwrap();
    let (sender, events) = mpsc::channel();
    let sink = move |event| {
        sender.send(event).unwrap();
        panic!("a sink that panics; this is part of the test");
    };
    source.watch(Arc::new(sink)).unwrap();
    for verb in ["suspend", "resume"] {
        virsh(&[verb, "lab-013"]);
        let deadline = Instant::now() + PATIENCE;
        // Others may use the laboratory too.
        while events.recv_timeout(deadline - Instant::now()).unwrap().id != guest {}
    }
    assert!(matches!(replaced.try_recv(), Err(mpsc::TryRecvError::Disconnected)), "the first sink is gone");
    drop(source);
    // The sink goes with the connection.
    wait_for("the sink to be freed", || {
        matches!(events.try_recv(), Err(mpsc::TryRecvError::Disconnected)).then_some(())
    });
}

#[test]
fn a_guest_tells_of_its_watchdog_its_clock_its_limits_and_who_looks_at_it() {
    let (_turn, Some(mut lab)) = (turn(), lab::enter()) else { return };
    let name = "talkative";
    let devices = "<graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1'/><video><model type='none'/></video>\
        <watchdog model='ib700' action='none'/></devices>";
    let xml = lab.xml(name, &[]).replace("</devices>", devices);
    let image = xml.split_once("<source file='").and_then(|(_, rest)| rest.split_once('\'')).unwrap().0;
    let mut sector = std::fs::read(image).unwrap();
    sector[..BOOT_SECTOR.len()].copy_from_slice(&BOOT_SECTOR);
    std::fs::write(image, sector).unwrap();
    let mut source = open(SYSTEM);
    let events = listen(&mut *source);
    lab.create_from(name, &xml);
    let guest = id(name);

    // Guests differ in which of the two is told first.
    let (mut clock, mut watchdog) = (None, None);
    next(&events, guest, |what| {
        match what {
            Happened::ClockSet(offset) => clock = Some(offset),
            Happened::Watchdog(action) => watchdog = Some(action),
            _ => {}
        }
        clock.zip(watchdog)
    });
    assert!(clock.unwrap().abs() <= 86_400, "{clock:?}");
    assert_eq!(watchdog, Some(WatchdogAction::None));

    let tuned = |what| matches!(what, Happened::Tuned).then_some(());
    let described = || describe(&virsh(&["dumpxml", name])).unwrap();
    let before = described();
    assert_eq!((before.vcpu_quota_us, before.disks[0].io_limits.len()), (None, 0));
    for limit in [
        &["schedinfo", name, "--live", "--set", "vcpu_quota=50000"][..],
        &["blkdeviotune", name, "vda", "--live", "--total-iops-sec", "100"],
    ] {
        virsh(limit);
        next(&events, guest, tuned);
    }
    let limited = described();
    assert_eq!(limited.vcpu_quota_us, Some(50_000));
    assert_eq!(*limited.disks[0].io_limits, [("total_iops_sec".into(), 100)]);
    assert!(limited.devices_hash.is_some() && limited.devices_hash != before.devices_hash);

    let graphics = &limited.graphics[0];
    assert_eq!((&*graphics.graphics_type, &*graphics.address), ("vnc", "127.0.0.1"));
    let client = |what| if let Happened::Graphics(client) = what { Some(client) } else { None };
    let stream = TcpStream::connect(("127.0.0.1", graphics.port.parse().unwrap())).unwrap();
    assert_eq!(&*next(&events, guest, client), "127.0.0.1");
    drop(stream);
    assert_eq!(&*next(&events, guest, client), "");
}

#[test]
fn every_kind_that_only_tells_is_understood() {
    let _turn = turn();
    let directory = tempfile::tempdir().unwrap();
    let settings = Settings { domains: 3, shut_off_per_mille: 0, ..Settings::new(directory.path().join("libvirtd")) };
    let simulator = Simulator::start(settings).unwrap();
    let mut source = open(&simulator.uri());
    let events = listen(&mut *source);
    for (kind, expected) in [
        (Happening::Watchdog, Happened::Watchdog(WatchdogAction::Reset)),
        (Happening::SetClock, Happened::ClockSet(3600)),
        (Happening::Connect, Happened::Graphics("192.0.2.7".into())),
        (Happening::Disconnect, Happened::Graphics("".into())),
    ] {
        simulator.control(Command::Change(OneChange { kind, domain: None, count: Some(1), all: false })).unwrap();
        let event = events.recv_timeout(PATIENCE).unwrap();
        assert_eq!(event.what, expected);
        assert!(event.run.is_some());
    }
}
