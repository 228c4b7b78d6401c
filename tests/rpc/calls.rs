//! Each method, each mistake, and what comes back for it.

use serde_json::{Value, json};
use virtstatd::export::vdsm::METHODS;

use super::{RUNNING, look_at_host, store_of, text_of, unlisted, uuid};

/// Elements of a batch that are possible.
const MOST: usize = 10_000;

fn ask(request: impl AsRef<[u8]>) -> Value {
    let text = text_of(&store_of(RUNNING), request.as_ref()).expect("an answer");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// An answer to a call of this method.
fn call(method: &str, params: &Value) -> Value {
    ask(json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1}).to_string())
}

fn code(answer: &Value) -> i64 {
    assert_eq!(answer.get("result"), None, "{answer}");
    answer["error"]["code"].as_i64().unwrap_or_else(|| panic!("no error in {answer}"))
}

fn message(answer: &Value) -> &str {
    answer["error"]["message"].as_str().expect("a message")
}

pub(crate) fn ids(answer: &Value) -> Vec<&str> {
    let list = answer["result"].as_array().unwrap_or_else(|| panic!("no list in {answer}"));
    list.iter().map(|vm| vm["vmId"].as_str().expect("vmId")).collect()
}

#[test]
fn each_method_has_its_result() {
    let all = [1, 2, 3].map(uuid);
    assert_eq!(ids(&call("Host.getAllVmStats", &json!([]))), all);
    assert_eq!(ids(&call("Host.getVMList", &json!({}))), all);
    assert_eq!(ids(&call("VM.getStats", &json!({"vmID": uuid(2)}))), [uuid(2)]);
    assert_eq!(ids(&call("VM.getStats", &json!([uuid(4)]))), [uuid(4)], "it is shut off, and told");
    for method in ["Host.ping", "Host.ping2"] {
        assert_eq!(call(method, &json!({})), json!({"jsonrpc": "2.0", "id": 1, "result": true}));
    }
    assert_eq!(ask(r#"{"jsonrpc":"2.0","method":"Host.ping","id":1}"#)["result"], true, "params may be absent");
    let none = store_of(0);
    for method in ["Host.getAllVmStats", "Host.getVMList"] {
        let request = format!(r#"{{"jsonrpc":"2.0","method":"{method}","id":1}}"#);
        let text = text_of(&none, request.as_bytes()).expect("an answer");
        assert_eq!(text, r#"{"jsonrpc":"2.0","id":1,"result":[]}"#);
    }
}

#[test]
fn the_host_is_told_once_it_was_looked_at() {
    let store = store_of(RUNNING);
    let ask = |method: &str| -> Value {
        let request = json!({"jsonrpc": "2.0", "method": method, "params": {}, "id": 1}).to_string();
        serde_json::from_str(&text_of(&store, request.as_bytes()).expect("an answer")).expect("JSON")
    };
    let methods = ["Host.getStats", "Host.getNetworkStatistics"];
    for method in methods {
        assert_eq!(code(&ask(method)), 99, "{method}");
    }
    look_at_host(&store);
    for method in methods {
        assert!(ask(method)["result"].is_object(), "{method}");
    }
}

#[test]
fn a_list_of_vms_has_those_that_are_there_each_once_and_in_order() {
    let list = |params: Value| ids(&call("Host.getVMList", &params)).join(" ");
    let (one, three) = (uuid(1), uuid(3));
    let wanted = json!([three, uuid(9), one, three.to_uppercase(), uuid(4)]);
    let found = format!("{one} {three}");
    assert_eq!(list(json!({"vmList": wanted})), found);
    assert_eq!(list(json!([wanted])), found, "by position");
    assert_eq!(list(json!([wanted, true, false])), found);
    assert_eq!(list(json!({"onlyUUID": "True", "vmList": wanted, "fullStatus": null})), found, "which have no effect");
    assert_eq!(list(json!({"vmList": [uuid(9)]})), "");
    for all in [json!([]), json!({"vmList": []}), json!({"vmList": null}), json!({"fullStatus": true})] {
        assert_eq!(list(all), [1, 2, 3].map(uuid).join(" "));
    }
}

#[test]
fn each_mistake_has_its_code_and_words() {
    let unknown = uuid(9);
    for (method, params, code_of, words) in [
        ("VM.getStats", json!([unknown]), 1, format!("Virtual machine does not exist: {{'vmId': '{unknown}'}}")),
        ("VM.getStats", json!([""]), 11, "Missing required parameter: {'parameter': 'vmID'}".into()),
        ("VM.getStats", json!({"vmID": null}), 11, "Missing required parameter: {'parameter': 'vmID'}".into()),
        ("VM.getStats", json!([5]), 91, "Invalid parameter: {'parameter': 'vmID', 'reason': 'it is no string'}".into()),
        (
            "VM.getStats",
            json!(["web"]),
            91,
            "Invalid parameter: {'parameter': 'vmID', 'reason': 'it is no UUID'}".into(),
        ),
        ("VM.getStats", json!([[unknown]]), 91, String::new()),
        ("Host.getVMList", json!({"vmList": unknown}), 91, String::new()),
        ("Host.getVMList", json!([[unknown, 5]]), 91, String::new()),
        ("Host.getVMList", json!([["web"]]), 91, String::new()),
        ("Host.getVMList", json!([vec![""; 100]]), 91, String::new()),
        ("Host.getVMList", json!([{}]), 91, String::new()),
        (
            "VM.getStats",
            json!({}),
            -32603,
            "Internal JSON-RPC error: {'reason': 'the required parameter vmID is missing'}".into(),
        ),
        ("VM.getStats", json!([]), -32603, String::new()),
        (
            "VM.getStats",
            json!({"vmId": unknown}),
            -32602,
            "Invalid method parameter(s): {'reason': 'VM.getStats: vmId is none of its parameters'}".into(),
        ),
        (
            "VM.getStats",
            json!([unknown, 1]),
            -32602,
            "Invalid method parameter(s): {'reason': 'VM.getStats takes 1 parameters at most, and 2 are given'}".into(),
        ),
        ("Host.ping", json!([1]), -32602, String::new()),
        ("Host.getStats", json!({"": 1}), -32602, String::new()),
        (
            "Host.getCapabilities",
            json!([]),
            -32601,
            "The method does not exist or is not available: {'method': 'Host.getCapabilities'}".into(),
        ),
        ("host.ping", json!([]), -32601, String::new()),
    ] {
        let answer = call(method, &params);
        assert_eq!((code(&answer), &answer["id"]), (code_of, &json!(1)), "{method} {params}: {answer}");
        assert!(message(&answer) == words || words.is_empty(), "{answer}");
        let members: Vec<&String> = answer["error"].as_object().expect("an object").keys().collect();
        assert_eq!(members, ["code", "message"], "no data");
    }
    let twice = format!(
        r#"{{"jsonrpc":"2.0","method":"VM.getStats","params":{{"vmID":"{}","vmID":"{}"}},"id":1}}"#,
        uuid(1),
        uuid(2)
    );
    assert_eq!(code(&ask(twice)), -32602);
    let odd_name = r#"{"jsonrpc":"2.0","method":"VM.getStats","params":{"\ud800":1},"id":1}"#;
    assert_eq!(code(&ask(odd_name)), -32602);
}

#[test]
fn what_is_no_request_is_refused_with_id_null() {
    for request in [
        "5",
        "\"text\"",
        "null",
        "true",
        "{}",
        "[]",
        " [ ] ",
        r#"{"method":"Host.ping","id":1}"#,
        r#"{"jsonrpc":"1.0","method":"Host.ping","id":1}"#,
        r#"{"jsonrpc":2.0,"method":"Host.ping","id":1}"#,
        r#"{"jsonrpc":"2.0","id":1}"#,
        r#"{"jsonrpc":"2.0","method":5,"id":1}"#,
        r#"{"jsonrpc":"2.0","method":null,"id":1}"#,
        r#"{"jsonrpc":"2.0","method":"\ud800","id":1}"#,
        r#"{"jsonrpc":"2.0","method":"Host.ping","params":null,"id":1}"#,
        r#"{"jsonrpc":"2.0","method":"Host.ping","params":5,"id":1}"#,
        r#"{"jsonrpc":"2.0","method":"Host.ping","params":"x","id":1}"#,
        r#"{"jsonrpc":"2.0","method":"Host.ping","id":[]}"#,
        r#"{"jsonrpc":"2.0","method":"Host.ping","id":{}}"#,
        r#"{"jsonrpc":"2.0","method":"Host.ping","id":true}"#,
        r#"{"jsonrpc":"2.0","method":"Host.ping","id":false}"#,
        r#"{"jsonrpc":"2.0","method":"Host.ping","id":1,"id":1}"#,
        r#"{"jsonrpc":"2.0","method":"Host.ping","\u0069d":1,"id":1}"#,
        r#"{"jsonrpc":"2.0","method":"Host.ping","method":"Host.getStats","id":1}"#,
        r#"{"method":"Host.ping"}"#,
        &format!(r#"{{"jsonrpc":"2.0","method":"Host.ping","id":"{}"}}"#, "x".repeat(1023)),
    ] {
        let answer = ask(request);
        assert_eq!((code(&answer), &answer["id"]), (-32600, &Value::Null), "{request}");
        assert!(message(&answer).starts_with("Invalid request: {'reason': "), "{answer}");
    }
}

#[test]
fn what_is_no_json_is_a_parse_error_with_id_null() {
    let nested_open = "[".repeat(10_000);
    for request in [
        &b""[..],
        b" ",
        b"{",
        b"[",
        b"[1,",
        b"[1,]",
        b"{\"jsonrpc\":\"2.0\",\"method\":\"Host.ping\",\"id\":1",
        b"{\"jsonrpc\":\"2.0\",\"method\":\"Host.ping\",\"id\":1}}",
        b"{\"jsonrpc\":\"2.0\",\"method\":\"Host.ping\",\"id\":1} {}",
        b"[{\"jsonrpc\":\"2.0\",\"method\":\"Host.ping\",\"id\":1}]x",
        b"\xef\xbb\xbf{\"jsonrpc\":\"2.0\",\"method\":\"Host.ping\",\"id\":1}",
        b"{\"jsonrpc\":\"2.0\",\"method\":\"Host.ping\",\"id\":\"\xff\"}",
        b"{\"jsonrpc\":\"2.0\",\"method\":\"Host.ping\",\"id\":01}",
        b"{'jsonrpc':'2.0'}",
        b"NaN",
        b"\0",
        nested_open.as_bytes(),
    ] {
        let answer = ask(request);
        assert_eq!((code(&answer), &answer["id"]), (-32700, &Value::Null), "{}", String::from_utf8_lossy(request));
    }
}

#[test]
fn an_id_comes_back_byte_for_byte() {
    let store = store_of(0);
    let longest = format!("\"{}\"", "x".repeat(1022));
    for id in [
        "0",
        "-0",
        "-7",
        "1.50",
        "1e400",
        "-1E+400",
        "123456789012345678901234567890123456789012345678901234567890",
        "18446744073709551616",
        "0.1000000000000000055511151231257827",
        "null",
        "\"\"",
        "\"1\"",
        "\"ü\u{1f600}\"",
        "\"\\u00fc\\/\\n\\\"\"",
        "\"\\ud800\"",
        &longest,
    ] {
        for (method, answer) in [
            ("Host.ping", "\"result\":true".to_owned()),
            ("x", "\"error\":{\"code\":-32601,\"message\":\"The method does not exist or is not available: {'method': 'x'}\"}".to_owned()),
        ] {
            let request = format!(r#"{{"id" : {id} ,"jsonrpc":"2.0","method":"{method}"}}"#);
            let text = text_of(&store, request.as_bytes()).expect("an answer");
            assert_eq!(text, format!(r#"{{"jsonrpc":"2.0","id":{id},{answer}}}"#));
        }
    }
}

#[test]
fn notifications_leave_no_trace() {
    let store = store_of(RUNNING);
    for request in [
        r#"{"jsonrpc":"2.0","method":"Host.ping"}"#,
        r#"{"jsonrpc":"2.0","method":"no.such"}"#,
        r#"{"jsonrpc":"2.0","method":"VM.getStats","params":[5]}"#,
        r#"[{"jsonrpc":"2.0","method":"Host.ping"},{"jsonrpc":"2.0","method":"Host.getAllVmStats"}]"#,
    ] {
        assert_eq!(text_of(&store, request.as_bytes()), None, "{request}");
    }
    let mixed = r#"[{"jsonrpc":"2.0","method":"Host.ping"},{"jsonrpc":"2.0","method":"Host.ping","id":"a"},
        {"jsonrpc":"2.0","method":"Host.ping"}]"#;
    assert_eq!(ask(mixed), json!([{"jsonrpc": "2.0", "id": "a", "result": true}]));
    assert_eq!(ask(r#"{"jsonrpc":"2.0","method":"Host.ping","id":null}"#)["result"], true, "null is an id");
}

#[test]
fn a_batch_is_answered_in_its_order() {
    let (mut batch, mut expected) = (Vec::new(), Vec::new());
    for number in 0..1000 {
        let request = |method: &str, params: Value| json!({"jsonrpc": "2.0", "method": method, "params": params, "id": number, "more": {"than": "needed"}});
        let (element, code) = match number % 8 {
            0 => (request("Host.getAllVmStats", json!([])), 0),
            1 => (json!(number), -32600),
            2 => (request("no.such", json!([])), -32601),
            3 => (request("VM.getStats", json!([uuid(1)])), 0),
            4 => (request("VM.getStats", json!([uuid(9)])), 1),
            5 => (json!({"jsonrpc": "2.0", "method": "Host.ping"}), i64::MAX),
            6 => (request("Host.getVMList", json!([[uuid(2), uuid(9)]])), 0),
            _ => (request("VM.getStats", json!([])), -32603),
        };
        batch.push(element);
        if code != i64::MAX {
            expected.push((if code == -32600 { Value::Null } else { json!(number) }, code));
        }
    }
    let answers = ask(Value::from(batch).to_string());
    let found: Vec<(Value, i64)> = answers
        .as_array()
        .expect("an array")
        .iter()
        .map(|answer| {
            assert!(answer.get("result").is_some() != answer.get("error").is_some(), "{answer}");
            (answer["id"].clone(), answer["error"]["code"].as_i64().unwrap_or(0))
        })
        .collect();
    assert_eq!(found, expected);
}

#[test]
fn a_batch_has_a_limit() {
    let batch = |count: usize| format!("[{}]", vec!["1"; count].join(","));
    assert_eq!(ask(batch(MOST)).as_array().map(Vec::len), Some(MOST));
    let answer = ask(batch(MOST + 1));
    assert_eq!((code(&answer), &answer["id"]), (1100, &Value::Null));
    assert_eq!(
        message(&answer),
        "Not enough resources: {'reason': 'a batch may have 10000 elements; send it in parts'}"
    );
    let broken = batch(MOST + 1).replace("1]", "1");
    assert_eq!(code(&ask(broken)), -32700, "the rest is looked at, though it is not kept");
}

#[test]
fn nesting_harms_nobody() {
    let deep = |open: &str, close: &str| open.repeat(10_000) + &close.repeat(10_000);
    for nested in [deep("[", "]"), deep("{\"a\":", "").replace("\"a\":[", "") + "1" + &"}".repeat(10_000)] {
        let ping = r#"{"jsonrpc":"2.0","method":"Host.ping","id":7}"#;
        let of = |member: &str| format!(r#"{{"jsonrpc":"2.0","method":"VM.getStats","{member}":{nested},"id":1}}"#);
        let (in_params, in_method) = (of("params"), of("method").replacen("\"method\":\"VM.getStats\",", "", 1));
        let in_id = format!(r#"{{"jsonrpc":"2.0","method":"Host.ping","id":{nested}}}"#);
        let in_vm_id = format!(r#"{{"jsonrpc":"2.0","method":"VM.getStats","params":[{nested}],"id":1}}"#);
        let elsewhere = format!(r#"{{"jsonrpc":"2.0","method":"Host.ping","x":{nested},"id":1}}"#);
        let all = [in_params, in_method, in_id, in_vm_id, elsewhere, nested, ping.to_owned()];
        let answers = ask(format!("[{}]", all.join(",")));
        let codes = answers.as_array().expect("an array").iter().map(|answer| answer["error"]["code"].as_i64());
        let in_params = if all[5].starts_with('[') { 91 } else { -32602 };
        let expected = [Some(in_params), Some(-32600), Some(-32600), Some(91), None, Some(-32600), None];
        assert_eq!(codes.collect::<Vec<_>>(), expected);
    }
    let answers = ask(deep("[", "]"));
    assert_eq!(code(&answers[0]), -32600, "a batch with an element that is no object");
}

#[test]
fn before_the_picture_is_complete_only_pings_are_answered() {
    let store = unlisted();
    for method in METHODS {
        let params = if method.parameters.iter().any(|it| it.required) { json!([uuid(1)]) } else { json!([]) };
        let request = json!({"jsonrpc": "2.0", "method": method.name, "params": params, "id": 1}).to_string();
        let answer: Value =
            serde_json::from_str(&text_of(&store, request.as_bytes()).expect("an answer")).expect("JSON");
        if method.name.starts_with("Host.ping") {
            assert_eq!(answer["result"], true);
        } else {
            assert_eq!((code(&answer), message(&answer)), (99, "Recovering from crash or Initializing"));
        }
    }
}

#[test]
fn what_is_echoed_is_cut_and_quoted() {
    let answer = call(&"ü\"'\n".repeat(1000), &json!([]));
    let message = message(&answer);
    assert!(message.len() < 400 && message.contains("...") && message.contains("ü\"\\'\\n"), "{message}");
}

#[test]
fn calls_are_counted_by_method_and_code() {
    let store = store_of(RUNNING);
    let requests = format!(
        r#"[{{"jsonrpc":"2.0","method":"Host.ping","id":1}},{{"jsonrpc":"2.0","method":"VM.getStats","params":["{}"],"id":1}},
            {{"jsonrpc":"2.0","method":"mine","id":1}},5,{{"jsonrpc":"2.0","method":"Host.ping"}}]"#,
        uuid(9)
    );
    text_of(&store, requests.as_bytes());
    text_of(&store, b"{");
    let count = |method: &str, code: &str| store.metrics.rpc_calls.with_label_values(&[method, code]).get();
    for (method, code, expected) in [
        ("Host.ping", "0", 1),
        ("VM.getStats", "1", 1),
        ("VM.getStats", "0", 0),
        ("other", "-32601", 1),
        ("other", "-32600", 1),
        ("other", "-32700", 1),
    ] {
        assert_eq!(count(method, code), expected, "{method} {code}");
    }
}
