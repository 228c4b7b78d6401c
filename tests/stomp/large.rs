//! Answers of many pieces: all guests of a large host, on a store of the test's own, to clients that read and clients that do not.

use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::Arc;

use virtstatd::clock::{Clock as _, SystemClock};
use virtstatd::export::vdsm::Rpc;
use virtstatd::model::{
    BulkReply, BulkRequest, DomainId, DomainRecord, Figures, Group, InventoryReply, ListedDomain, RunId, Scope, Stamp,
    StateSample,
};
use virtstatd::stomp::{Listeners, Server};
use virtstatd::store::Store;

use super::client::{CONNECT, Client, QUEUE, subscribe};

const GUESTS: usize = 3000;

/// A host on which so many guests run, and its server.
fn host() -> (SocketAddr, Server) {
    let clock = Arc::new(SystemClock);
    let store = Arc::new(Store::new(clock.clone()));
    let started = Stamp { at: clock.now(), wall: clock.wall() };
    let id = |number: usize| DomainId::from_bytes((number as u128 + 1).to_be_bytes());
    let state = StateSample { state: Some(1), reason: Some(1) };
    let listed = (0..GUESTS).map(|number| ListedDomain {
        id: id(number),
        name: format!("guest-{number}").into(),
        run: Some(RunId(1)),
        state: None,
        description: None,
    });
    store.apply_inventory(started, InventoryReply { domains: listed.collect(), ..InventoryReply::default() });
    let records = (0..GUESTS).map(|number| DomainRecord {
        id: id(number),
        name: format!("guest-{number}").into(),
        run: Some(RunId(1)),
        figures: Figures { state: Some(state), ..Figures::default() },
    });
    let request = BulkRequest { groups: Group::ALL.into_iter().collect(), scope: Scope::All };
    store.apply_bulk(started, &request, BulkReply { records: records.collect(), ..BulkReply::default() });
    assert_eq!(store.snapshot().incomplete.as_deref(), None);
    let listeners = Listeners::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
    let address = listeners.addresses()[0];
    (address, Server::start(listeners, &Arc::new(Rpc::new(Arc::clone(&store))), &store).unwrap())
}

fn all_stats(id: &str) -> String {
    let body = format!(r#"[{{"jsonrpc": "2.0", "method": "Host.getAllVmStats", "params": {{}}, "id": "{id}"}}]"#);
    format!("SEND\ndestination:jms.topic.vdsm_requests\nreply-to:{QUEUE}\n\n{body}\0")
}

#[test]
fn an_answer_of_many_pieces_is_whole() {
    let (address, _server) = host();
    let mut client = Client::subscribed(address);
    client.say(&all_stats("all").repeat(2));
    for _ in 0..2 {
        let message = client.next();
        assert_eq!(message.header("content-length"), None, "nobody knows it when the first piece is sent");
        let answer = message.answer();
        assert_eq!(answer["id"], "all");
        let guests = answer["result"].as_array().unwrap();
        assert_eq!(guests.len(), GUESTS);
        assert!(guests.iter().all(|guest| guest["vmId"].is_string()));
    }
}

#[test]
fn clients_that_do_not_read_theirs_keep_nobody_waiting_and_end_with_the_server() {
    let (address, server) = host();
    let mut slow: Vec<Client<_>> = (0..8).map(|_| Client::open(address)).collect();
    for client in &mut slow {
        client.say(&[CONNECT, &subscribe(), &all_stats("slow").repeat(20)].concat());
    }
    let mut client = Client::subscribed(address);
    for client in &mut slow {
        let mut byte = [0];
        client.stream.read_exact(&mut byte).unwrap();
    }
    for _ in 0..3 {
        client.say(&all_stats("other"));
        assert_eq!(client.next().answer()["result"].as_array().unwrap().len(), GUESTS);
    }
    // Nobody reads, so no answer under way can be finished.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(server.stop());
    let mut rest = Vec::new();
    let _ = client.stream.read_to_end(&mut rest);
    assert!(rest.is_empty(), "closed in order");
    drop(slow);
}
