//! Guests in trouble: frozen, on storage that hangs, locked. Who hangs, who is turned away, who does not notice.

use virtstat_sim::command::{Command, Guests, HangStorage};
use virtstat_sim::host::groups;

use crate::support::Lab;
use crate::support::client::{Client, Failure, NOWAIT, about, bulk, disk, domain, records};

/// Calls for all groups of all guests, and hangs at one of them.
fn stuck(lab: &Lab, name: &str, asked: u32) -> Client {
    let mut client = Client::open(lab);
    client.send(344, bulk(&[], asked, NOWAIT));
    lab.until("somebody hangs", |status| status.guests.occupied == [name]);
    client
}

fn control_info(client: &mut Client, uuid: [u8; 16]) -> (u32, u64) {
    let reply = client.call(229, about(uuid));
    let mut input = reply.ok();
    let state = input.u32().unwrap();
    input.u32().unwrap();
    (state, input.u64().unwrap())
}

fn keys(client: &mut Client, uuid: [u8; 16], asked: u32, flags: u32) -> Vec<String> {
    records(&client.call(344, bulk(&[uuid], asked, flags))).pop().unwrap().1
}

#[test]
fn the_first_caller_hangs_until_the_thaw_and_the_others_get_a_short_record() {
    let lab = Lab::new(5);
    let name = lab.name(1);
    let uuid = lab.uuid(&name);
    let mut client = Client::open(&lab);
    let whole = keys(&mut client, uuid, 0, NOWAIT);
    assert_eq!(lab.tell(Command::Freeze(Guests::named(&name))), [name.as_str()]);
    assert_eq!(control_info(&mut client, uuid), (0, 0), "nobody asked it yet");
    let mut hangs = stuck(&lab, &name, 0);

    let all = records(&client.call(344, bulk(&[], 0, NOWAIT)));
    assert_eq!(all.len(), 5);
    let short = &all.iter().find(|(of, _)| *of == name).unwrap().1;
    assert!(short.len() < whole.len() && short.iter().any(|key| key == "cpu.time"), "{short:?}");
    assert!(!short.iter().any(|key| key.ends_with(".rd.reqs")), "{short:?}");
    let (state, age) = control_info(&mut client, uuid);
    assert_eq!(state, 2, "occupied, for {age} ms");

    // Without NOWAIT one waits, and then has as little.
    assert_eq!(keys(&mut client, uuid, 0, 0).len(), short.len());
    let refused = client.call(159, |out| {
        domain(out, &uuid);
        out.u32(13);
        out.u32(0);
    });
    let message = "Timed out during operation: cannot acquire state change lock \
                   (held by monitor=remoteDispatchConnectGetAllDomainStats)";
    assert_eq!(refused.failure(), Failure { code: 68, domain: 10, message: message.to_owned() });
    assert_eq!(client.call(194, disk(uuid, "vda")).failure().code, 68);
    assert!(control_info(&mut client, uuid).1 >= age + 300, "two calls waited for 300 ms each");

    hangs.assert_nothing();
    assert_eq!(lab.tell(Command::Thaw(Guests::all())), [name.as_str()]);
    assert_eq!(records(&hangs.receive()).len(), 5);
    assert_eq!(keys(&mut client, uuid, 0, NOWAIT), whole);
    assert_eq!(control_info(&mut client, uuid), (0, 0));
}

#[test]
fn what_needs_no_monitor_never_notices() {
    let lab = Lab::new(5);
    let name = lab.name(1);
    let uuid = lab.uuid(&name);
    lab.tell(Command::Freeze(Guests::all()));
    let mut client = Client::open(&lab);
    let free = groups::STATE | groups::INTERFACE | groups::PERF | groups::MEMORY;
    assert_eq!(records(&client.call(344, bulk(&[], free, 0))).len(), 5);
    for procedure in [212, 229, 16, 14] {
        client.call(procedure, about(uuid)).ok();
    }
    client.call(262, |out| {
        domain(out, &uuid);
        out.u32(10);
        out.i32(-1);
        out.u32(1);
        out.u32(0);
    });
    let device = lab.simulator.with_host(|host| {
        let xml = host.by_name(&name).unwrap().xml();
        let at = xml.find("<target dev='tap").or_else(|| xml.find("<target dev='vnet")).unwrap() + 13;
        xml[at..].split('\'').next().unwrap().to_owned()
    });
    let counters = client.call(65, |out| {
        domain(out, &uuid);
        out.text(&device);
    });
    assert!(counters.ok().i64().unwrap() >= 0);
    assert!(lab.simulator.status().guests.occupied.is_empty());
}

#[test]
fn each_group_that_enters_the_monitor_hangs_alone() {
    let lab = Lab::new(200);
    let balloon = |has: bool| {
        lab.simulator.with_host(|host| {
            host.guests().find(|guest| guest.has_balloon() == has).map(|guest| guest.name().to_owned()).unwrap()
        })
    };
    let (with, without) = (balloon(true), balloon(false));
    lab.tell(Command::Freeze(Guests::all()));
    let mut client = Client::open(&lab);
    assert!(!keys(&mut client, lab.uuid(&without), groups::BALLOON, NOWAIT).is_empty());
    for asked in [
        groups::CPU_TOTAL,
        groups::VCPU,
        groups::BLOCK,
        groups::IOTHREAD,
        groups::DIRTYRATE,
        groups::VM,
        groups::BALLOON,
    ] {
        let mut hangs = Client::open(&lab);
        hangs.send(344, bulk(&[lab.uuid(&with)], asked, NOWAIT));
        lab.until("it hangs", |status| status.guests.occupied == [with.as_str()]);
        lab.tell(Command::Thaw(Guests::named(&with)));
        assert_eq!(records(&hangs.receive()).len(), 1);
        lab.tell(Command::Freeze(Guests::named(&with)));
    }
}

#[test]
fn storage_that_hangs_takes_the_calls_about_disks() {
    let lab = Lab::new(3);
    let name = lab.name(0);
    let uuid = lab.uuid(&name);
    lab.tell(Command::HangStorage(HangStorage { domain: Some(name.clone()), ..HangStorage::default() }));
    let mut client = Client::open(&lab);
    let rest = groups::ALL & !groups::BLOCK;
    assert_eq!(records(&client.call(344, bulk(&[], rest, NOWAIT))).len(), 3);
    let mut hangs = Client::open(&lab);
    hangs.send(194, disk(uuid, "vda"));
    lab.until("block info hangs", |status| status.guests.occupied == [name.as_str()]);
    assert_eq!(control_info(&mut client, uuid).0, 2);
    let block = keys(&mut client, uuid, groups::BLOCK, NOWAIT);
    assert!(block.iter().any(|key| key == "block.count") && !block.iter().any(|key| key.ends_with("rd.reqs")));
    hangs.assert_nothing();
    lab.tell(Command::ReleaseStorage(Guests::all()));
    assert!(hangs.receive().ok().u64().is_ok());
}

#[test]
fn a_path_that_hangs_takes_the_domains_lock() {
    let lab = Lab::new(3);
    let name = lab.name(0);
    let uuid = lab.uuid(&name);
    lab.tell(Command::HangStorage(HangStorage { domain: Some(name.clone()), paths: true, ..HangStorage::default() }));
    let mut client = Client::open(&lab);
    assert!(keys(&mut client, uuid, groups::BLOCK, NOWAIT).iter().any(|key| key.ends_with("rd.reqs")));
    let mut hangs = Client::open(&lab);
    hangs.send(194, disk(uuid, "vda"));
    lab.until("the lock is held", |status| status.guests.locked == [name.as_str()]);
    let mut list = Client::open(&lab);
    list.send(212, about(uuid));
    client.assert_alive();
    list.assert_nothing();
    lab.tell(Command::ReleaseStorage(Guests::all()));
    assert!(list.receive().ok().i32().is_ok() && hangs.receive().ok().u64().is_ok());
}

#[test]
fn a_lock_holds_up_who_names_or_lists_the_domain() {
    let lab = Lab::new(5);
    let (locked, other) = (lab.name(1), lab.name(2));
    let uuid = lab.uuid(&locked);
    lab.tell(Command::Lock(Guests::named(&locked)));
    let waiting = [(273, vec![1_u32, 0]), (51, vec![]), (344, vec![0, 1, NOWAIT])];
    let mut clients: Vec<Client> = waiting
        .into_iter()
        .map(|(procedure, words)| {
            let mut client = Client::open(&lab);
            client.send(procedure, |out| words.into_iter().for_each(|word| out.u32(word)));
            client
        })
        .collect();
    for procedure in [212, 229, 16, 14] {
        let mut client = Client::open(&lab);
        client.send(procedure, about(uuid));
        clients.push(client);
    }
    let mut client = Client::open(&lab);
    client.send(24, |out| out.fixed(&uuid));
    clients.push(client);
    // Who names others does not notice.
    let mut client = Client::open(&lab);
    assert!(!keys(&mut client, lab.uuid(&other), 0, NOWAIT).is_empty());
    clients.iter_mut().for_each(Client::assert_nothing);
    lab.tell(Command::Unlock(Guests::all()));
    clients.iter_mut().for_each(|client| assert!(!client.receive().is_error()));
}

#[test]
fn nobody_is_found_who_is_not_there() {
    let lab = Lab::with(|settings| (settings.domains, settings.shut_off_per_mille) = (10, 1000));
    let mut client = Client::open(&lab);
    assert_eq!(client.call(23, |out| out.text("nobody")).failure().code, 42);
    assert_eq!(client.call(22, |out| out.i32(4711)).failure().code, 42);
    assert_eq!(client.call(16, about([7; 16])).failure().code, 42);
    let off = lab.simulator.with_host(|host| *host.guests().next().unwrap().uuid());
    assert_eq!(client.call(229, about(off)).failure().code, 55);
    assert_eq!(client.call(194, disk(off, "no-such-disk")).failure().code, 8);
    assert_eq!(records(&client.call(344, bulk(&[[7; 16], off], 0, 0))).len(), 1, "the unknown one is left out");
}
