//! Devices as a scripted kernel tells of them, and those of the real one.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::super::netlink::Route;
use super::*;

/// What is answered: of each device index and name, or a failure.
type Answer = Result<Vec<(u32, &'static str)>, Failure>;

/// A kernel that answers what it was told to, and notes what it was asked.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    asked: Arc<Mutex<Vec<u16>>>,
}

impl Script {
    fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.answers.lock().expect("whole").extend(answers);
    }

    /// What was asked since the last time.
    fn asked(&self) -> Vec<u16> {
        std::mem::take(&mut self.asked.lock().expect("whole"))
    }
}

impl Dump for Script {
    fn dump(&mut self, kind: u16, _: &[u8], each: &mut dyn FnMut(u16, &[u8])) -> Result<(), Failure> {
        self.asked.lock().expect("whole").push(kind);
        for (index, name) in self.answers.lock().expect("whole").pop_front().expect("an answer")? {
            match kind {
                GETSTATS => {
                    let counters = attribute(STATS_LINK_64, &counters());
                    each(NEWSTATS, &[header(STATS_HEADER, index), counters].concat());
                }
                _ => each(NEWLINK, &link_message(index, name)),
            }
        }
        Ok(())
    }
}

/// 100, 101, 102 ... in the order of `struct rtnl_link_stats64`.
fn counters() -> Vec<u8> {
    (100_u64..125).flat_map(u64::to_ne_bytes).collect()
}

fn header(length: usize, index: u32) -> Vec<u8> {
    let mut header = vec![0; length];
    header[4..8].copy_from_slice(&index.to_ne_bytes());
    header
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).expect("short");
    let mut attribute = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

fn link_message(index: u32, name: &str) -> Vec<u8> {
    let name = attribute(IFNAME, format!("{name}\0").as_bytes());
    [header(LINK_HEADER, index), name, attribute(STATS64, &counters())].concat()
}

fn nic(target: &str, interface_type: &str) -> NicDescription {
    NicDescription { target: target.into(), interface_type: interface_type.into(), ..NicDescription::default() }
}

fn traffic(bytes: u64, packets: u64, errors: u64, drops: u64) -> Traffic {
    Traffic { bytes: Some(bytes), packets: Some(packets), errors: Some(errors), drops: Some(drops) }
}

fn links() -> (Links, Script) {
    let script = Script::default();
    (Links::new(Box::new(script.clone())), script)
}

fn has(links: &Links, name: &str) -> bool {
    links.sample(&[nic(name, "bridge")]).is_some()
}

#[test]
fn a_tap_is_swapped_and_a_macvtap_is_not() {
    let (mut links, script) = links();
    let both = vec![(7, "vnet0"), (9, "macvtap0")];
    script.answer([Ok(both.clone()), Ok(both)]);
    links.refresh(Instant::now());
    let nics = [nic("vnet0", "network"), nic("", "hostdev"), nic("macvtap0", "direct")];
    let sample = links.sample(&nics).expect("all are there");
    assert_eq!(sample.count, Some(3));
    // Bytes, packets, errors, and what was dropped with what was missed.
    let (received, sent) = (traffic(102, 100, 104, 106 + 115), traffic(103, 101, 105, 107));
    let expected = [
        Interface { index: 0, name: Some("vnet0".into()), receive: sent, transmit: received },
        Interface { index: 2, name: Some("macvtap0".into()), receive: received, transmit: sent },
    ];
    assert_eq!(sample.interfaces, expected);
}

#[test]
fn one_that_the_kernel_does_not_know_leaves_all_to_libvirt() {
    let (mut links, script) = links();
    script.answer([Ok(vec![(7, "vnet0")]), Ok(vec![(7, "vnet0")])]);
    links.refresh(Instant::now());
    assert_eq!(links.sample(&[nic("vnet0", "bridge"), nic("vnet1", "bridge")]), None);
    assert_eq!(links.sample(&[nic("vnet0", "vhostuser")]), None);
    let none = InterfaceSample { count: Some(0), interfaces: Vec::new() };
    assert_eq!(links.sample(&[]), Some(none));
    assert_eq!(links.sample(&[nic("", "user")]).map(|sample| sample.count), Some(Some(1)));
}

#[test]
fn names_are_asked_for_when_devices_come_or_go_and_once_in_a_while() {
    let (mut links, script) = links();
    let mut now = Instant::now();
    let mut turn = |after: u64, answers: &[&[(u32, &'static str)]]| {
        now += Duration::from_secs(after);
        script.answer(answers.iter().map(|answer| Ok(answer.to_vec())));
        links.refresh(now);
        (script.asked(), ["a", "b", "c"].map(|name| has(&links, name)))
    };
    let (one, two): (&[_], &[_]) = (&[(1, "a")], &[(1, "a"), (2, "b")]);
    assert_eq!(turn(0, &[one, one]), (vec![GETSTATS, GETLINK], [true, false, false]));
    assert_eq!(turn(1, &[one]), (vec![GETSTATS], [true, false, false]));
    assert_eq!(turn(1, &[two, two]), (vec![GETSTATS, GETLINK], [true, true, false]));
    assert_eq!(turn(59, &[two]), (vec![GETSTATS], [true, true, false]));
    assert_eq!(turn(1, &[two, &[(1, "a"), (2, "c")]]), (vec![GETSTATS, GETLINK], [true, false, true]));
    assert_eq!(turn(1, &[&[(2, "c")], &[(2, "c")]]), (vec![GETSTATS, GETLINK], [false, false, true]));
}

#[test]
fn what_changed_meanwhile_is_asked_for_once_more() {
    let (mut links, script) = links();
    let now = Instant::now();
    script.answer([Err(Failure::Changed), Ok(vec![(1, "a")]), Ok(vec![(1, "a")])]);
    links.refresh(now);
    assert!(has(&links, "a"));
    script.answer([Err(Failure::Changed), Err(Failure::Changed)]);
    links.refresh(now);
    assert!(!has(&links, "a"), "no figures rather than some");
    assert_eq!(links.refusal(), None);
    script.answer([Ok(vec![(1, "a")]), Ok(vec![(1, "a")])]);
    links.refresh(now);
    assert!(has(&links, "a"));
    // The names too.
    let two = || Ok(vec![(1, "a"), (2, "b")]);
    script.answer([two(), Err(Failure::Changed), two(), two()]);
    links.refresh(now);
    assert!(has(&links, "b"));
}

#[test]
fn an_old_kernel_is_asked_for_links() {
    let (mut links, script) = links();
    script.answer([Err(Failure::Refused(Errno::OPNOTSUPP)), Ok(vec![(1, "a")]), Ok(vec![(2, "b")])]);
    links.refresh(Instant::now());
    assert!(has(&links, "a"));
    links.refresh(Instant::now());
    assert_eq!([has(&links, "a"), has(&links, "b")], [false, true]);
    assert_eq!(script.asked(), [GETSTATS, GETLINK, GETLINK]);
}

#[test]
fn a_refusal_is_told_and_ends() {
    let (mut links, script) = links();
    script.answer([Err(Failure::Refused(Errno::AFNOSUPPORT)), Ok(vec![(1, "a")]), Ok(vec![(1, "a")])]);
    links.refresh(Instant::now());
    assert_eq!((links.refusal(), has(&links, "a")), (Some(Errno::AFNOSUPPORT), false));
    links.refresh(Instant::now());
    assert_eq!((links.refusal(), has(&links, "a")), (None, true));
}

#[test]
fn counters_that_are_cut_short_are_none() {
    let whole = counters();
    assert_eq!(Counters::parse(&whole[..63]), None);
    let short = Counters::parse(&whole[..64]).expect("older kernels have fewer");
    assert_eq!(short.receive.drops, Some(106));
    let message = link_message(3, "vnet3");
    for cut in 0..message.len() {
        link(&message[..cut]);
        stats(&message[..cut]);
    }
}

#[test]
fn this_host_s_own_devices_are_found() {
    let mut links = Links::new(Box::new(Route::default()));
    links.refresh(Instant::now());
    if links.refusal().is_some() {
        return;
    }
    let before = links.sample(&[nic("lo", "ethernet")]).expect("every host has it");
    links.refresh(Instant::now());
    let after = links.sample(&[nic("lo", "ethernet")]).expect("it stays");
    assert!(after.interfaces[0].receive.bytes >= before.interfaces[0].receive.bytes);
    // The same counters come with names.
    links.is_old = true;
    links.refresh(Instant::now());
    let old = links.sample(&[nic("lo", "ethernet")]).expect("it stays");
    assert!(old.interfaces[0].receive.bytes >= after.interfaces[0].receive.bytes);
}
