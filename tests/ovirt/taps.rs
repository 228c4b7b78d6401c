//! A host with very many guests: their taps are links of the host, told a piece at a time.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value;
use virtstatd::export::vdsm::{HostBody, View};
use virtstatd::model::host::{HostInterface, HostSample};
use virtstatd::model::{
    BulkReply, BulkRequest, DomainDescription, DomainId, DomainRecord, Figures, Group, Interface, InterfaceSample,
    InventoryReply, ListedDomain, NicDescription, RunId, Scope, Traffic,
};

use crate::made::{Made, SECOND};

const GUESTS: u32 = 3_000;

fn id(number: u32) -> DomainId {
    DomainId::from_bytes((u128::from(number) + 1).to_be_bytes())
}

fn traffic(bytes: u64, drops: u64) -> Traffic {
    Traffic { bytes: Some(bytes), packets: Some(1), errors: Some(0), drops: Some(drops) }
}

/// Each guest has a tap, a macvtap, and a NIC that the host does not know. The first two have a name twice between them, and one has
/// a veth, which is a link of the host.
fn taps(number: u32) -> [(String, &'static str); 3] {
    let first = match number {
        1 => "tap-0".to_owned(),
        2 => "veth7".to_owned(),
        _ => format!("tap-{number}"),
    };
    [(first, "ethernet"), (format!("macvtap-{number}"), "direct"), (String::new(), "hostdev")]
}

fn host() -> Made {
    let made = Made::nothing();
    let listed = |number| {
        let nic = |(target, kind): &(String, &str)| NicDescription {
            target: target.as_str().into(),
            interface_type: (*kind).into(),
            ..NicDescription::default()
        };
        let description =
            DomainDescription { nics: taps(number).iter().map(nic).collect(), ..DomainDescription::default() };
        ListedDomain {
            id: id(number),
            name: format!("guest-{number:05}").into(),
            run: Some(RunId(number)),
            state: None,
            description: Some(Arc::new(description)),
        }
    };
    let domains = (0..GUESTS).map(listed).collect();
    made.store.apply_inventory(made.store.stamp(), InventoryReply { domains, ..InventoryReply::default() });
    made.advance(SECOND);
    let record = |number: u32| {
        let nic = |(index, (target, _)): (usize, &(String, &str))| Interface {
            index: u32::try_from(index).unwrap(),
            name: (!target.is_empty()).then(|| target.as_str().into()),
            receive: traffic(1000, 1),
            transmit: traffic(2000, 10),
        };
        let interfaces = taps(number).iter().enumerate().map(nic).collect();
        let figures = Figures { interface: Some(InterfaceSample { count: Some(3), interfaces }), ..Figures::default() };
        DomainRecord { id: id(number), name: format!("guest-{number:05}").into(), run: Some(RunId(number)), figures }
    };
    let records = (0..GUESTS).map(record).collect();
    let request = BulkRequest { groups: Group::ALL.into_iter().collect(), scope: Scope::All };
    made.store.apply_bulk(made.store.stamp(), &request, BulkReply { records, ..BulkReply::default() });
    let link = |name: &str| HostInterface {
        name: name.into(),
        receive: traffic(5, 100),
        transmit: traffic(6, 1000),
        ..HostInterface::default()
    };
    let sample = HostSample {
        interfaces: vec![link("eno1"), HostInterface { name: "silent".into(), ..HostInterface::default() }],
        other_interfaces: vec![link("veth7")],
        ..HostSample::default()
    };
    made.store.apply_host(made.store.stamp(), sample, 12 * SECOND);
    made
}

#[test]
fn taps_are_told_in_pieces_each_name_once_and_from_the_hosts_side() {
    let made = host();
    let mut body = HostBody::new(View::new(&made.store)).unwrap();
    let pieces: Vec<_> = std::iter::from_fn(|| body.next_piece()).collect();
    assert!(pieces.len() > 10 && pieces.iter().all(|piece| piece.len() < 80 << 10), "{}", pieces.len());
    assert!(body.is_finished());
    let text = pieces.concat();
    let record: Value = serde_json::from_slice(&text).unwrap();
    let network = record["network"].as_object().unwrap();

    let told = String::from_utf8(text).unwrap();
    for name in ["tap-0", "veth7", "macvtap-1", "tap-2999"] {
        assert_eq!(told.matches(&format!("\"{name}\":{{")).count(), 1, "{name}");
    }
    let expected: HashSet<String> =
        (0..GUESTS).flat_map(taps).map(|(name, _)| name).filter(|name| !name.is_empty()).collect();
    assert_eq!(network.len(), expected.len() + 2, "and eno1, and one that says nothing");
    assert!(expected.iter().all(|name| network.contains_key(name)));

    // What a guest sends its tap receives; a macvtap is on the guest's side.
    assert_eq!((&network["tap-5"]["rx"], &network["tap-5"]["tx"]), (&"2000".into(), &"1000".into()));
    assert_eq!((&network["macvtap-5"]["rx"], &network["macvtap-5"]["tx"]), (&"1000".into(), &"2000".into()));
    assert_eq!(network["veth7"]["rx"], "5", "the host's own look");
    assert_eq!(network["silent"].get("rx"), None);

    let network = made.call("Host.getNetworkStatistics");
    let names = |of: &Value| of["network"].as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!((names(&network), &network["rxDropped"]), (names(&record), &record["rxDropped"]));
    assert_eq!(network.as_object().unwrap().len(), 3, "and txDropped");

    // 2998 taps (10 received), 3000 macvtaps (1), and two links of the host.
    assert_eq!(record["rxDropped"], (2_998 * 10 + 3_000 + 2 * 100).to_string());
    assert_eq!(record["txDropped"], (2_998 + 3_000 * 10 + 2 * 1000).to_string());
}

#[test]
fn a_host_that_tells_no_drops_has_no_sum() {
    let made = Made::nothing();
    made.store.apply_inventory(made.store.stamp(), InventoryReply::default());
    made.store.apply_host(made.store.stamp(), HostSample::default(), 12 * SECOND);
    assert_eq!(made.call("Host.getNetworkStatistics"), serde_json::json!({"network": {}}));
}
