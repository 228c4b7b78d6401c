//! JSON-RPC as VDSM speaks it: the dispatcher on a store of a test's own, and over HTTP from the real binary.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod any;
mod calls;
mod http;
mod long;

use std::sync::Arc;
use std::time::Duration;

use virtstatd::clock::{Clock as _, ManualClock};
use virtstatd::export::vdsm::Rpc;
use virtstatd::model::host::HostSample;
use virtstatd::model::{DomainId, InventoryReply, ListedDomain, RunId, Stamp};
use virtstatd::store::Store;

/// The last one that is listed; the one behind it is shut off, and nobody has seen it run.
const RUNNING: u32 = 3;

fn uuid(number: u32) -> String {
    format!("00000000-0000-4000-8000-{number:012x}")
}

fn unlisted() -> Arc<Store> {
    Arc::new(Store::new(Arc::new(ManualClock::new())))
}

fn store_of(running: u32) -> Arc<Store> {
    store_where(running + 1, |number| number <= running)
}

/// So many domains, of which these run.
fn store_where(domains: u32, runs: impl Fn(u32) -> bool) -> Arc<Store> {
    let clock = Arc::new(ManualClock::new());
    let store = Arc::new(Store::new(clock.clone()));
    let domains = (1..=domains).map(|number| ListedDomain {
        id: DomainId::parse(&uuid(number)).expect("a UUID"),
        name: format!("vm{number:06}").into(),
        run: runs(number).then_some(RunId(number)),
        state: None,
        description: None,
    });
    let reply = InventoryReply { domains: domains.collect(), ..InventoryReply::default() };
    store.apply_inventory(Stamp { at: clock.now(), wall: clock.wall() }, reply);
    store
}

/// As the host lane does.
fn look_at_host(store: &Store) {
    store.apply_host(store.stamp(), HostSample::default(), Duration::from_secs(12));
}

/// The whole text of an answer; none if there is nothing to say.
fn text_of(store: &Arc<Store>, request: &[u8]) -> Option<String> {
    let mut answer = Rpc::new(Arc::clone(store)).answer(request)?;
    let mut text = Vec::new();
    while let Some(piece) = answer.next_piece() {
        assert!(!piece.is_empty());
        text.extend_from_slice(&piece);
    }
    assert!(answer.is_finished() && answer.next_piece().is_none());
    Some(String::from_utf8(text).expect("UTF-8"))
}
