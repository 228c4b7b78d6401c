//! Hosts with very many guests, whose text is kept packed and streamed: the same to the letter as that of others.
//! (Here "many" is made to be few.)
#![allow(clippy::unwrap_used)]

mod support;

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use support::daemon::request;
use virtstatd::clock::{Clock as _, ManualClock};
use virtstatd::export::TooSlow;
use virtstatd::export::prometheus::{Exposition, Options, Renderer, Stream, start_with};
use virtstatd::http::{App, Listeners, Server};
use virtstatd::model::{
    BalloonSample, Block, BlockInfo, BlockSample, BulkReply, BulkRequest, CpuSample, DiskDescription,
    DomainDescription, DomainHealth, DomainId, DomainRecord, Figures, Group, Interface, InterfaceSample,
    InventoryReply, Io, ListedDomain, NicDescription, RunId, Scope, Stamp, StateSample, Traffic, Vcpu, VcpuSample,
};
use virtstatd::store::{BlockInfoAnswer, StaleAfter, Store};

/// A guest in a few numbers.
#[derive(Debug, Clone)]
struct Guest {
    name: String,
    running: bool,
    devices: [u32; 3],
    /// How long counters are; the same number makes the same values.
    number: u64,
    /// Do devices bear names of their own?
    named: bool,
}

fn host(guests: &[Guest]) -> (Arc<ManualClock>, Arc<Store>) {
    let (clock, store) = unknown_host();
    sample(&clock, &store, guests);
    (clock, store)
}

fn unknown_host() -> (Arc<ManualClock>, Arc<Store>) {
    let clock = Arc::new(ManualClock::new());
    let store = Arc::new(Store::new(clock.clone()));
    let mut stale_after = StaleAfter::default();
    Group::ALL.iter().for_each(|group| stale_after.set(*group, Duration::from_secs(30)));
    stale_after.set_list(Duration::from_secs(150));
    store.configure(stale_after);
    (clock, store)
}

fn sample(clock: &ManualClock, store: &Store, guests: &[Guest]) {
    let id = |place: usize| DomainId::from_bytes((place as u128 * 0x9e37_79b9_7f4a_7c15_f39c).to_be_bytes());
    let run = |guest: &Guest| guest.running.then_some(RunId(1));
    let started = Stamp { at: clock.now(), wall: clock.wall() };
    let listed = guests.iter().enumerate().map(|(place, guest)| ListedDomain {
        id: id(place),
        name: guest.name.as_str().into(),
        run: run(guest),
        state: run(guest).is_none().then_some(StateSample { state: Some(5), reason: Some(1) }),
        description: Some(Arc::new(described(guest))),
    });
    store.apply_inventory(started, InventoryReply { domains: listed.collect(), ..InventoryReply::default() });
    let running = || guests.iter().enumerate().filter(|(_, guest)| guest.running);
    let records = running().map(|(place, guest)| DomainRecord {
        id: id(place),
        name: guest.name.as_str().into(),
        run: run(guest),
        figures: figures(guest),
    });
    let request = BulkRequest { groups: Group::ALL.into_iter().collect(), scope: Scope::All };
    store.apply_bulk(started, &request, BulkReply { records: records.collect(), ..BulkReply::default() });
    let sizes = running().filter(|(_, guest)| guest.number.is_multiple_of(2)).map(|(place, guest)| BlockInfoAnswer {
        started,
        id: id(place),
        run: run(guest),
        target: "vd0".into(),
        info: Some(BlockInfo { capacity_bytes: Some(guest.number), ..BlockInfo::default() }),
    });
    store.apply_block_infos(sizes.collect());
    let hung = DomainHealth { unresponsive_since: Some(started), ..DomainHealth::default() };
    store.apply_health(running().take(1).map(|(place, _)| (id(place), hung.clone())).collect());
    clock.advance(Duration::from_millis(1234));
}

fn described(guest: &Guest) -> DomainDescription {
    let [_, disks, nics] = guest.devices;
    let path = |disk| format!("/srv/\"{}\"/{disk}", guest.name).into();
    let mac = |nic| format!("52:54:00:00:00:{nic:02x}").into();
    DomainDescription {
        os_type: "hvm".into(),
        disks: (0..disks)
            .map(|disk| DiskDescription {
                target: format!("vd{disk}").into(),
                source: path(disk),
                ..Default::default()
            })
            .collect(),
        nics: (0..nics).map(|nic| NicDescription { mac: mac(nic), ..NicDescription::default() }).collect(),
        ..DomainDescription::default()
    }
}

fn figures(guest: &Guest) -> Figures {
    let [vcpus, disks, nics] = guest.devices;
    let some = |salt: u64| Some(guest.number.wrapping_mul(salt));
    let vcpu = |index| Vcpu { index, state: Some(1), time_ns: some(7), wait_ns: Some(0), delay_ns: None };
    let name = |kind: &str, index| guest.named.then(|| format!("{kind}{index}").into());
    let io = || Io { requests: some(3), bytes: some(512), time_ns: some(11) };
    let block = |index| Block { index, name: name("vd", index), read: io(), write: io(), ..Block::default() };
    let traffic = || Traffic { bytes: some(100), packets: some(5), errors: Some(0), drops: Some(0) };
    // Every second one has the name of the one before.
    let nic = |index| Interface { index, name: name("tap", index / 2), receive: traffic(), transmit: traffic() };
    Figures {
        state: Some(StateSample { state: Some(1), reason: Some(1) }),
        cpu: (!guest.number.is_multiple_of(3)).then(|| CpuSample { time_ns: some(13), ..CpuSample::default() }),
        vcpu: Some(VcpuSample { vcpus: (0..vcpus).map(vcpu).collect(), ..VcpuSample::default() }),
        interface: Some(InterfaceSample { interfaces: (0..nics).map(nic).collect(), count: None }),
        block: Some(BlockSample { disks: (0..disks).map(block).collect(), count: None }),
        balloon: Some(BalloonSample { current_kib: some(1), rss_kib: Some(1 << 20), ..BalloonSample::default() }),
    }
}

fn guest() -> impl Strategy<Value = Guest> {
    let name = prop_oneof![
        4 => "instance-0000[0-9a-f]{4}",
        1 => "\\PC{0,20}",
        1 => "[a\"\\\\\n]{0,9}",
        1 => "x{200,300}",
    ];
    let number = prop_oneof![0..5_u64, any::<u64>(), Just(u64::MAX)];
    let devices = prop_oneof![8 => 0..4_u32, 1 => 15..40_u32];
    (name, prop::bool::weighted(0.9), [devices.clone(), devices.clone(), devices], number, any::<bool>())
        .prop_map(|(name, running, devices, number, named)| Guest { name, running, devices, number, named })
}

fn renderer(timestamps: bool, large: bool) -> Renderer {
    Renderer::new(Options { timestamps, ..Options::default() }).packed_above(if large { 0 } else { usize::MAX })
}

fn exposition(store: &Arc<Store>, timestamps: bool) -> Exposition {
    start_with(store, renderer(timestamps, true)).unwrap()
}

fn scrape(exposition: &Exposition, gzip: bool) -> Stream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let scrape = runtime.block_on(exposition.scrape(gzip)).expect("rendered in time");
    assert_eq!((scrape.gzip, scrape.parts.len()), (gzip, 0));
    scrape.rest.expect("it is streamed")
}

fn text_of(mut stream: Stream) -> Vec<u8> {
    let parts = std::iter::from_fn(|| stream.next_part());
    parts.map(|part| part.expect("nobody takes it away")).collect::<Vec<_>>().concat()
}

fn gunzip(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    // The decoder for exactly one member.
    let mut decoder = flate2::read::GzDecoder::new(bytes);
    decoder.read_to_end(&mut text).expect("valid gzip with a right checksum");
    assert!(decoder.into_inner().is_empty(), "nothing behind the one member");
    text
}

/// Without what differs each time: what the process takes.
fn steady(text: &[u8]) -> String {
    let text = String::from_utf8(text.to_vec()).unwrap();
    let (steady, own) = text.split_once("# HELP process_").expect("our own metrics are there too");
    assert!(own.contains("virtstatd_snapshot_age_seconds"), "to their end");
    steady.to_owned()
}

fn check(guests: &[Guest], timestamps: bool) {
    let (clock, store) = host(guests);
    let (mut plain, mut packed) = (renderer(timestamps, false), renderer(timestamps, true));
    let exposition = exposition(&store, timestamps);
    for turn in 0..3 {
        let small = plain.render(store.snapshot(), store.now(), &store);
        let large = packed.render(store.snapshot(), store.now(), &store);
        assert_eq!(small.text(), large.text(), "turn {turn}");
        let expected = steady(&[small.text().as_bytes(), &small.per_scrape(&store)].concat());
        if !guests.is_empty() {
            assert_eq!(steady(&text_of(scrape(&exposition, false))), expected);
            assert_eq!(steady(&gunzip(&text_of(scrape(&exposition, true)))), expected);
        }
        plain.recycle(small);
        packed.recycle(large);
        if turn == 0 {
            // Some go, the others are asked again; and in the end all are stale.
            sample(&clock, &store, &guests[..guests.len().div_ceil(2)]);
        } else {
            clock.advance(Duration::from_secs(60));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn both_forms_are_the_same_text(guests in prop::collection::vec(guest(), 0..40), timestamps: bool) {
        check(&guests, timestamps);
    }
}

fn many(count: u64) -> Vec<Guest> {
    let guest = |number| Guest {
        name: format!("instance-{number:08x}"),
        running: true,
        devices: [2, 2, 2],
        number: number * 7919,
        named: true,
    };
    (0..count).map(guest).collect()
}

#[test]
fn both_forms_are_the_same_text_over_many_tiles() {
    check(&many(700), false);
}

#[test]
fn a_slow_reader_holds_one_part_and_loses_what_is_far_out_of_date() {
    let guests = many(300);
    let (clock, store) = host(&guests);
    let exposition = exposition(&store, false);
    let text = text_of(scrape(&exposition, false));
    let mut readers: Vec<Stream> = Vec::new();
    for _ in 0..4 {
        // Something new, and the rendering before is not young any more.
        sample(&clock, &store, &guests);
        let mut reader = scrape(&exposition, false);
        let part = reader.next_part().unwrap().unwrap();
        assert!(part.len() < 128 * 1024 && part.len() * 10 < text.len(), "{} of {}", part.len(), text.len());
        readers.push(reader);
    }
    let next: Vec<_> = readers.iter_mut().map(|reader| reader.next_part().map(|part| part.is_ok())).collect();
    assert_eq!(next, [Some(false), Some(true), Some(true), Some(true)]);
    assert!(readers[0].next_part().is_none(), "nothing comes after an error");
    assert_eq!(TooSlow.to_string(), "the client is too slow: what it was to get is out of date by far");
}

#[test]
fn a_scrape_shows_what_is_known_but_a_rendering_serves_those_of_a_second() {
    let (clock, store) = host(&many(3));
    let exposition = exposition(&store, false);
    let up = || String::from_utf8(text_of(scrape(&exposition, false))).unwrap().contains("\nlibvirt_up 1\n");
    assert!(up());
    store.link_lost("libvirtd ended");
    assert!(up(), "the rendering is of just now");
    clock.advance(Duration::from_millis(999));
    assert!(up());
    clock.advance(Duration::from_millis(2));
    assert!(!up());
}

#[test]
fn without_guests_a_host_is_small_again() {
    let (_, store) = host(&many(3));
    let exposition = exposition(&store, false);
    assert!(!text_of(scrape(&exposition, true)).is_empty());
    store.forget();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    support::wait_for("text that is kept plain", || {
        let scrape = runtime.block_on(exposition.scrape(true)).expect("rendered in time");
        (scrape.rest.is_none() && scrape.parts.len() == 2).then_some(())
    });
}

#[test]
fn figures_turn_stale_without_news() {
    let (clock, store) = host(&many(3));
    let exposition = exposition(&store, false);
    let text = |gone: &str| !String::from_utf8(text_of(scrape(&exposition, false))).unwrap().contains(gone);
    assert!(!text("libvirt_domain_info_cpu_time_seconds_total"));
    clock.advance(Duration::from_secs(31));
    assert!(text("libvirt_domain_info_cpu_time_seconds_total"));
}

#[test]
fn over_http_it_comes_in_chunks_and_ready_is_said_of_what_a_scrape_would_get() {
    let guests = many(20);
    let (clock, store) = unknown_host();
    let exposition = exposition(&store, false);
    let listeners = Listeners::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
    let address = listeners.addresses()[0];
    let _server = Server::start(listeners, &Arc::new(App::new(Arc::clone(&store), exposition))).unwrap();
    let get = |path: &str, headers: &[&str]| request(address, "GET", path, headers);
    assert_eq!(get("/-/ready", &[]).status, 503, "libvirt was never heard of");
    sample(&clock, &store, &guests);
    support::wait_for("a list without samples is not complete", || {
        let ready = get("/-/ready", &[]).status == 200;
        let text = get("/metrics", &[]);
        let shown = text.text().matches("\nlibvirt_domain_info_state{").count();
        assert!(!ready || shown == guests.len(), "{shown} of them");
        ready.then_some(())
    });
    let (plain, gzip) = (get("/metrics", &[]), get("/metrics", &["Accept-Encoding: gzip"]));
    for answer in [&plain, &gzip] {
        assert_eq!((answer.status, answer.header("content-length")), (200, None));
        assert_eq!(answer.header("transfer-encoding"), Some("chunked"));
        assert_eq!(answer.header("vary"), Some("accept-encoding"));
    }
    assert_eq!((plain.header("content-encoding"), gzip.header("content-encoding")), (None, Some("gzip")));
    assert!(plain.text().contains("\nlibvirt_domains 20\n"));
    assert_eq!(gunzip(&gzip.body).len() / 100, plain.body.len() / 100);
    support::exposition::assert_promtool_is_silent(plain.text());
    support::exposition::parse(plain.text());
    let head = request(address, "HEAD", "/metrics", &["Accept-Encoding: gzip"]);
    assert_eq!((head.status, head.body.len(), head.header("content-encoding")), (200, 0, Some("gzip")));
}
