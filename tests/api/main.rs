//! Our own JSON over HTTP: choice of domains and fields, pages, entity tags, the stream of changes, and nonsense.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod document;
mod list;
mod nonsense;
mod stream;
mod tags;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use support::daemon::{Answer, request};
use virtstatd::clock::{Clock as _, ManualClock};
use virtstatd::export::prometheus;
use virtstatd::http::{App, Listeners, Server};
use virtstatd::model::{
    BlockInfo, BulkReply, BulkRequest, CpuSample, DomainDescription, DomainEvent, DomainHealth, DomainId, DomainRecord,
    Figures, Group, Happened, InventoryReply, ListedDomain, Metadata, NicDescription, PauseReason, RunId, Scope, Stamp,
    StateSample,
};
use virtstatd::store::{BlockInfoAnswer, StaleAfter, Store};

/// A guest of a host of our own making.
#[derive(Debug, Clone, PartialEq)]
struct Guest {
    number: u8,
    name: String,
    /// libvirt's number of it; 5 is shut off.
    state: i64,
    run: u32,
    metadata: Vec<(&'static str, &'static str)>,
}

impl Guest {
    fn new(number: u8, name: &str, state: i64) -> Self {
        Self { number, name: name.to_owned(), state, run: 1, metadata: Vec::new() }
    }

    fn id(&self) -> DomainId {
        DomainId::from_bytes([self.number; 16])
    }

    fn run(&self) -> Option<RunId> {
        (self.state != 5).then_some(RunId(self.run))
    }
}

/// A store that is served, on a clock that a test moves.
struct Host {
    clock: Arc<ManualClock>,
    store: Arc<Store>,
    address: SocketAddr,
    _server: Server,
}

impl Host {
    fn new(guests: &[Guest]) -> Self {
        let clock = Arc::new(ManualClock::new());
        let store = Arc::new(Store::new(clock.clone()));
        let mut stale_after = StaleAfter::default();
        Group::ALL.iter().for_each(|group| stale_after.set(*group, Duration::from_secs(30)));
        store.configure(stale_after);
        let exposition = prometheus::start(&store, prometheus::Options::default()).unwrap();
        let listeners = Listeners::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let address = listeners.addresses()[0];
        let server = Server::start(listeners, &Arc::new(App::new(Arc::clone(&store), exposition))).unwrap();
        let host = Self { clock, store, address, _server: server };
        host.list(guests);
        host.sample(guests, 1);
        host
    }

    fn stamp(&self) -> Stamp {
        // No two answers were asked for at the same moment.
        self.clock.advance(Duration::from_millis(1));
        Stamp { at: self.clock.now(), wall: self.clock.wall() }
    }

    fn list(&self, guests: &[Guest]) {
        let nic = NicDescription { mac: "52:54:00:00:00:01".into(), ..NicDescription::default() };
        let listed = guests.iter().map(|guest| ListedDomain {
            id: guest.id(),
            name: guest.name.as_str().into(),
            run: guest.run(),
            state: guest.run().is_none().then_some(StateSample { state: Some(5), reason: Some(1) }),
            description: Some(Arc::new(DomainDescription {
                nics: vec![nic.clone()],
                metadata: guest
                    .metadata
                    .iter()
                    .map(|(key, value)| Metadata { key: (*key).into(), value: (*value).into() })
                    .collect(),
                ..DomainDescription::default()
            })),
        });
        let reply = InventoryReply { domains: listed.collect(), ..InventoryReply::default() };
        self.store.apply_inventory(self.stamp(), reply);
    }

    fn sample(&self, guests: &[Guest], cpu_ns: u64) {
        let record = |guest: &Guest| DomainRecord {
            id: guest.id(),
            name: guest.name.as_str().into(),
            run: guest.run(),
            figures: Figures {
                state: Some(StateSample { state: Some(guest.state), reason: Some(1) }),
                cpu: Some(CpuSample { time_ns: Some(cpu_ns), ..CpuSample::default() }),
                ..Figures::default()
            },
        };
        let running = guests.iter().filter(|guest| guest.run().is_some());
        let reply = BulkReply { records: running.clone().map(record).collect(), ..BulkReply::default() };
        let scope = Scope::Only(running.map(Guest::id).collect());
        let groups = [Group::State, Group::Cpu].into_iter().collect();
        self.store.apply_bulk(self.stamp(), &BulkRequest { groups, scope }, reply);
    }

    fn set_ill(&self, number: u8, ill: bool) {
        let health = DomainHealth { unresponsive_since: ill.then(|| self.stamp()), ..DomainHealth::default() };
        self.store.apply_health(vec![(DomainId::from_bytes([number; 16]), health)]);
    }

    /// libvirt announces it.
    fn pause(&self, number: u8) {
        let what = Happened::Paused(PauseReason::Paused);
        let event = DomainEvent { id: DomainId::from_bytes([number; 16]), run: None, what };
        self.store.apply_event(self.store.moment(), &event);
    }

    fn set_size(&self, number: u8, bytes: u64) {
        let id = DomainId::from_bytes([number; 16]);
        let run = self.store.snapshot().get(id).and_then(|domain| domain.run);
        let info = Some(BlockInfo { capacity_bytes: Some(bytes), ..BlockInfo::default() });
        self.store.apply_block_infos(vec![BlockInfoAnswer {
            started: self.stamp(),
            id,
            run,
            target: "vda".into(),
            info,
        }]);
    }

    fn get(&self, path: &str) -> Answer {
        request(self.address, "GET", path, &[])
    }

    fn get_with(&self, path: &str, headers: &[&str]) -> Answer {
        request(self.address, "GET", path, headers)
    }

    fn names(&self, query: &str) -> Vec<String> {
        let answer = self.get(&format!("/api/v1/domains?{query}"));
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        let domains = answer.json()["domains"].as_array().unwrap().clone();
        domains.iter().map(|domain| domain["name"].as_str().unwrap().to_owned()).collect()
    }
}
