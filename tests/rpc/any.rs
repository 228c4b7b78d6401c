//! Whatever is asked, there is no answer, or one of the right shape.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::value::RawValue;
use virtstatd::export::vdsm::METHODS;

use super::{RUNNING, store_of, text_of, uuid};

/// A request, or something like one.
fn requests() -> impl Strategy<Value = String> {
    let id = prop_oneof![
        Just(String::new()),
        "\"[a-z\\\\u0-9ü]{0,6}\"".prop_map(|id| format!(",\"id\":{id}")),
        "-?[0-9]{1,30}(\\.[0-9]{1,3})?(e[0-9]{1,3})?".prop_map(|id| format!(",\"id\":{id}")),
        Just(",\"id\":null".to_owned()),
        Just(",\"id\":[]".to_owned()),
    ];
    let method = prop_oneof![
        (0..METHODS.len()).prop_map(|place| format!("\"{}\"", METHODS[place].name)),
        "\"\\PC{0,9}\"",
        Just("5".to_owned()),
    ];
    let params = prop_oneof![
        Just(String::new()),
        Just(",\"params\":{}".to_owned()),
        Just(format!(",\"params\":[\"{}\"]", uuid(1))),
        Just(format!(",\"params\":{{\"vmID\":\"{}\"}}", uuid(2))),
        Just(format!(",\"params\":[[\"{}\"],1]", uuid(3))),
        ",\"params\":[\\[{][\"a1,:\\[\\]{}]{0,8}[\\]}]",
    ];
    let version = prop_oneof![9 => Just("\"2.0\""), 1 => Just("2.0")];
    (version, method, params, id)
        .prop_map(|(version, method, params, id)| format!("{{\"jsonrpc\":{version},\"method\":{method}{params}{id}}}"))
}

/// The shape of each answer.
fn check(answer: &str) {
    let members: BTreeMap<&str, &RawValue> = serde_json::from_str(answer).expect("an object");
    assert_eq!(members.len(), 3, "{answer}");
    assert_eq!(members["jsonrpc"].get(), "\"2.0\"");
    assert!(members["id"].get().len() <= 1024, "{answer}");
    assert!(members.contains_key("result") != members.contains_key("error"), "{answer}");
}

fn check_all(request: &[u8]) {
    let Some(text) = text_of(&store_of(RUNNING), request) else { return };
    if text.starts_with('[') {
        let answers: Vec<&RawValue> = serde_json::from_str(&text).expect("a list");
        assert!(!answers.is_empty());
        answers.iter().for_each(|answer| check(answer.get()));
    } else {
        check(&text);
    }
}

proptest! {
    #[test]
    fn any_bytes_have_no_answer_or_a_proper_one(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check_all(&bytes);
    }

    #[test]
    fn any_request_has_no_answer_or_a_proper_one(
        requests in prop::collection::vec(requests(), 0..5),
        batch in any::<bool>(),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let text = if batch { format!("[{}]", requests.join(",")) } else { requests.concat() };
        let end = if is_cut { cut.index(text.len() + 1) } else { text.len() };
        check_all(&text.as_bytes()[..end]);
    }
}
