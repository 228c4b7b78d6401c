//! Long answers: what is held of them while they are sent.

use std::sync::Arc;

use serde_json::{Value, json};
use virtstatd::export::vdsm::Rpc;

use super::calls::ids;
use super::{store_of, store_where, text_of, uuid};

#[test]
fn a_heavy_batch_is_never_held_in_memory() {
    let store = store_of(2000);
    let call = r#"{"jsonrpc":"2.0","method":"Host.getAllVmStats","id":1}"#;
    let batch = format!("[{}]", vec![call; 100].join(","));
    let mut answer = Rpc::new(store).answer(batch.as_bytes()).expect("an answer");
    let (mut total, mut pieces, mut vms) = (0, 0, 0);
    while let Some(piece) = answer.next_piece() {
        assert!(!piece.is_empty() && piece.len() < 96 << 10, "{} bytes", piece.len());
        total += piece.len();
        pieces += 1;
        vms += piece.windows(8).filter(|window| window == b"\"vmId\":\"").count();
    }
    // No piece ends within a domain.
    assert!(pieces >= total / (96 << 10) && pieces >= 200_000 / 512, "{pieces} pieces of {total} bytes");
    assert!(vms == 200_000, "{vms}: each domain once");
}

#[test]
fn an_unread_list_grows_with_nothing_of_the_host() {
    let store = store_of(2000);
    let snapshot = store.snapshot();
    // All who hold a domain by itself, and not by the snapshot.
    let held = || snapshot.domains.iter().map(Arc::strong_count).sum::<usize>();
    let before = held();
    for method in ["Host.getAllVmStats", "Host.getVMList"] {
        let request = json!({"jsonrpc": "2.0", "method": method, "id": 1}).to_string();
        let mut answer = Rpc::new(Arc::clone(&store)).answer(request.as_bytes()).expect("an answer");
        assert!(answer.next_piece().is_some() && !answer.is_finished());
        assert_eq!(held(), before, "{method}");
    }
}

#[test]
fn many_domains_that_lists_do_not_show_are_passed_over() {
    let store = store_where(2002, |number| number == 1 || number == 2002);
    for method in ["Host.getAllVmStats", "Host.getVMList"] {
        let request = json!({"jsonrpc": "2.0", "method": method, "id": 1}).to_string();
        let text = text_of(&store, format!("[{request},{request}]").as_bytes()).expect("an answer");
        let answers: Value = serde_json::from_str(&text).expect("JSON");
        for answer in [&answers[0], &answers[1]] {
            assert_eq!(ids(answer), [uuid(1), uuid(2002)], "those before and behind them");
        }
    }
}
