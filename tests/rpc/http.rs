//! JSON-RPC over HTTP, from the real binary on libvirt's own test driver; and what VDSM reports without it.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::support::daemon::Daemon;
use super::support::exposition::{parse, value};
use super::support::{PATIENCE, wait_for};

/// Long requests and long answers that are under way at most.
const PLACES: usize = 16;

fn daemon() -> Daemon {
    let daemon = Daemon::start(&["--uri", "test:///default"]);
    daemon.wait_ready();
    daemon
}

fn connect(daemon: &Daemon) -> TcpStream {
    let stream = TcpStream::connect(daemon.address()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// A status, the head, and the body as it came.
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {self}"))
    }
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}\n{}", self.head, String::from_utf8_lossy(&self.body))
    }
}

/// Reads to the end; the body of chunks is joined.
fn read(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let mut rest = &bytes[end + 4..];
    let mut body = rest.to_vec();
    if head.contains("transfer-encoding: chunked") && !rest.is_empty() {
        body.clear();
        loop {
            let line = rest.windows(2).position(|window| window == b"\r\n").expect("a chunk's size");
            let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
            if size == 0 {
                break;
            }
            body.extend_from_slice(&rest[line + 2..line + 2 + size]);
            rest = &rest[line + 2 + size + 2..];
        }
    }
    Answer { status, head, body }
}

fn post_with(daemon: &Daemon, headers: &str, body: impl AsRef<[u8]>) -> Answer {
    let (mut stream, body) = (connect(daemon), body.as_ref());
    let length = body.len();
    let head =
        format!("POST /jsonrpc HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(body).unwrap();
    read(stream)
}

fn post(daemon: &Daemon, body: impl AsRef<[u8]>) -> Answer {
    post_with(daemon, "", body)
}

fn call(method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "method": method, "params": params, "id": method})
}

/// A value with its texts and numbers left out, which change from one look to the next.
fn shape(value: &Value) -> Value {
    match value {
        Value::Object(members) => members.iter().map(|(key, value)| (key.clone(), shape(value))).collect(),
        Value::Array(values) => values.iter().map(shape).collect(),
        Value::String(_) => json!(""),
        Value::Number(_) => json!(0),
        other => other.clone(),
    }
}

#[test]
fn each_method_is_answered_over_http_and_by_path_alike() {
    let daemon = daemon();
    let uuid = daemon.get("/api/v1/domains/test").json()["uuid"].as_str().unwrap().to_owned();
    let result = |method: &str, params: Value| {
        let answer = post(&daemon, call(method, &params).to_string());
        assert_eq!(answer.status, 200, "{answer}");
        assert!(answer.head.contains("content-type: application/json") && answer.head.contains("no-store"), "{answer}");
        let answer = answer.json();
        assert_eq!((&answer["id"], &answer["jsonrpc"]), (&json!(method), &json!("2.0")));
        answer["result"].clone()
    };
    assert_eq!(result("Host.ping", json!([])), true);
    for list in [
        result("Host.getAllVmStats", json!([])),
        result("Host.getVMList", json!({})),
        result("VM.getStats", json!({"vmID": uuid})),
        daemon.get("/api/v1/vdsm/vms").json(),
    ] {
        assert_eq!((list.as_array().map(Vec::len), &list[0]["vmId"]), (Some(1), &json!(uuid)), "{list}");
    }
    let vm = daemon.get(&format!("/api/v1/vdsm/vms/{}", uuid.replace('-', "%2D").to_uppercase()));
    assert_eq!((vm.status, &vm.json()["vmId"]), (200, &json!(uuid)));
    assert_eq!((vm.header("etag"), vm.header("cache-control")), (None, Some("no-store")));
    // The first look at the host may come after the first samples.
    let host = wait_for("a look at the host", || {
        let answer = daemon.get("/api/v1/vdsm/host");
        (answer.status == 200).then(|| answer.json())
    });
    let stats = result("Host.getStats", json!({}));
    assert!(host.is_object() && stats.is_object());
    let network = result("Host.getNetworkStatistics", json!({}));
    let part: Map<String, Value> =
        ["network", "rxDropped", "txDropped"].map(|key| (key.to_owned(), stats[key].clone())).into_iter().collect();
    assert!(part["network"].is_object() && part["rxDropped"].is_string() && part["txDropped"].is_string(), "{part:?}");
    assert_eq!(shape(&network), shape(&Value::Object(part)), "{network}");
    for path in ["/api/v1/vdsm/host", "/api/v1/vdsm/vms", &format!("/api/v1/vdsm/vms/{uuid}")] {
        let head = daemon.request("HEAD", path, &[]);
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
    }
    assert_eq!(daemon.get("/api/v1/vdsm/vms/test").json()["error"]["code"], "domain_not_found", "names are no UUIDs");

    let series = parse(&daemon.scrape());
    let count = |name: &str, labels: &[(&str, &str)]| value(&series, name, labels).unwrap_or_default();
    assert_eq!(count("virtstatd_rpc_calls_total", &[("method", "Host.getAllVmStats"), ("code", "0")]), 1.0);
    assert!(count("virtstatd_http_requests_total", &[("path", "/jsonrpc"), ("code", "200")]) >= 5.0);
    assert_eq!(count("virtstatd_http_requests_total", &[("path", "/api/v1/vdsm/vms/{uuid}"), ("code", "404")]), 1.0);
}

#[test]
fn errors_are_answers_and_notifications_have_none() {
    let daemon = daemon();
    for (body, code) in [
        (&b"\xff\xfe"[..], -32700),
        (b"", -32700),
        (b"{}", -32600),
        (b"[]", -32600),
        (b"{\"jsonrpc\":\"2.0\",\"method\":\"x\",\"id\":1}", -32601),
    ] {
        let answer = post(&daemon, body);
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (200, &json!(code)), "{answer}");
    }
    for body in [r#"{"jsonrpc":"2.0","method":"Host.ping"}"#, r#"[{"jsonrpc":"2.0","method":"Host.getStats"}]"#] {
        let answer = post(&daemon, body);
        assert_eq!((answer.status, answer.body.len()), (204, 0), "{answer}");
        assert!(!answer.head.contains("content-type"), "{answer}");
    }
}

#[test]
fn a_batch_of_a_thousand_is_answered_in_order_plain_and_compressed() {
    let daemon = daemon();
    let batch: Vec<Value> = (0..1000)
        .map(|number| {
            let method = if number % 3 == 0 { "Host.getAllVmStats" } else { "no.such" };
            json!({"jsonrpc": "2.0", "method": method, "id": number})
        })
        .collect();
    let check = |answers: Value| {
        let answers = answers.as_array().unwrap();
        assert_eq!(answers.len(), 1000);
        for (number, answer) in answers.iter().enumerate() {
            assert_eq!((&answer["id"], answer.get("result").is_some()), (&json!(number), number % 3 == 0), "{answer}");
        }
    };
    let batch = Value::from(batch).to_string();
    check(post(&daemon, &batch).json());
    let packed = post_with(&daemon, "Accept-Encoding: gzip\r\n", &batch);
    assert!(packed.head.contains("content-encoding: gzip"), "{}", packed.head);
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(&packed.body[..]).read_to_end(&mut text).expect("one whole member");
    check(serde_json::from_slice(&text).unwrap());
    let ping = call("Host.ping", &json!([])).to_string();
    let short = post_with(&daemon, "Accept-Encoding: gzip\r\n", ping);
    assert!(!short.head.contains("content-encoding"), "not worth it: {short}");
}

#[test]
fn every_way_to_send_a_body_is_understood() {
    let daemon = daemon();
    let ping = call("Host.ping", &json!([])).to_string();
    let length = ping.len();
    let (begin, end) = ping.split_at(7);
    let requests = [
        format!("POST /jsonrpc HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{ping}"),
        format!(
            "POST /jsonrpc HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n{ping}"
        ),
        format!(
            "POST /jsonrpc?x HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{begin}\r\n{:x}\r\n{end}\r\n0\r\n\r\n",
            begin.len(),
            end.len()
        ),
    ];
    for request in requests {
        let mut stream = connect(&daemon);
        stream.write_all(request.as_bytes()).unwrap();
        assert_eq!(read(stream).json()["result"], true, "{request}");
    }
    let mut stream = connect(&daemon);
    write!(stream, "POST /jsonrpc HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: {length}\r\n\r\n").unwrap();
    let mut word = [0; 25];
    stream.read_exact(&mut word).unwrap();
    assert_eq!(&word, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(ping.as_bytes()).unwrap();
    assert_eq!(read(stream).json()["result"], true);
}

#[test]
fn a_body_that_is_too_long_is_refused_however_it_comes() {
    let daemon = daemon();
    let refused = |stream: TcpStream| {
        let answer = read(stream);
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (413, &json!("body_too_long")), "{answer}");
    };
    let head = "POST /jsonrpc HTTP/1.1\r\nHost: x\r\nConnection: close\r\n";
    for waits in ["Expect: 100-continue\r\n", ""] {
        let mut stream = connect(&daemon);
        write!(stream, "{head}{waits}Content-Length: 1048577\r\n\r\n").unwrap();
        if waits.is_empty() {
            // A client that sends all of it before it reads has its answer too.
            stream.write_all(&vec![b' '; 1_048_577]).unwrap();
        }
        refused(stream);
    }
    let mut stream = connect(&daemon);
    write!(stream, "{head}Transfer-Encoding: chunked\r\n\r\n").unwrap();
    for _ in 0..33 {
        write!(stream, "8000\r\n{}\r\n", " ".repeat(32 << 10)).unwrap();
    }
    write!(stream, "0\r\n\r\n").unwrap();
    refused(stream);
    let longest = format!("{}{}", " ".repeat((1 << 20) - 2), "[]");
    assert_eq!(post(&daemon, longest).json()["error"]["code"], -32600, "it is just not too long");
}

#[test]
fn clients_that_send_slowly_harm_nobody() {
    let daemon = daemon();
    let mut slow: Vec<_> = (0..50).map(|_| connect(&daemon)).collect();
    for stream in &mut slow {
        write!(stream, "POST /jsonrpc HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n[").unwrap();
    }
    let ping = call("Host.ping", &json!([])).to_string();
    assert_eq!(post(&daemon, &ping).json()["result"], true);
    let long = post(&daemon, " ".repeat(100_000) + &ping);
    assert_eq!(long.json()["result"], true, "those who have sent next to nothing have no place");
    assert_eq!(daemon.get("/metrics").status, 200);
}

#[test]
fn of_long_answers_that_are_not_read_there_are_only_so_many() {
    let daemon = daemon();
    wait_for("a look at the host", || (daemon.get("/api/v1/vdsm/host").status == 200).then_some(()));
    let ask = r#"{"jsonrpc":"2.0","method":"Host.getStats","id":1}"#;
    let all = |count: usize| format!("[{}]", vec![ask; count].join(","));
    // Short enough to need no place for itself, but its answer is longer than what hyper takes at once.
    let (batch, calls) = (all(1000), 1000);
    assert!(batch.len() < 64 << 10);
    let length = batch.len();
    let request = format!("POST /jsonrpc HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n{batch}");
    // Of twice as many: where sockets happen to hold all of an answer but its end, it is done with, and has no place.
    let mut unread: Vec<_> = (0..2 * PLACES).map(|_| (connect(&daemon), Vec::new())).collect();
    for (stream, _) in &unread {
        rustix::net::sockopt::set_socket_recv_buffer_size(stream, 4096).unwrap();
        stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    }
    // One request behind the other on each, until its sockets are full and nothing more is taken; which on a slow machine is seen
    // at the second look or the third.
    let refused = (0..20).find_map(|_| {
        for (stream, rest) in &mut unread {
            loop {
                if rest.is_empty() {
                    rest.extend_from_slice(request.as_bytes());
                }
                match stream.write(rest) {
                    Ok(count) => drop(rest.drain(..count)),
                    Err(_) => break,
                }
            }
        }
        let answer = post(&daemon, &batch);
        (answer.status != 200).then_some(answer)
    });
    let refused = refused.expect("there are more than so many at once");
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (503, &json!("too_many_requests")));
    // What needs no more than one piece is as free as ever.
    let ping = call("Host.ping", &json!([])).to_string();
    assert_eq!(post(&daemon, &ping).json()["result"], true);
    assert_eq!(post(&daemon, all(1)).json().as_array().map(Vec::len), Some(1));
    assert_eq!(daemon.get("/metrics").status, 200);
    // The places of those that are gone are free for the next.
    drop(unread);
    assert_eq!(post(&daemon, &batch).json().as_array().map(Vec::len), Some(calls));
}

#[test]
fn other_methods_are_refused_and_say_which_is_not() {
    let daemon = daemon();
    for method in ["GET", "HEAD", "PUT"] {
        let answer = daemon.request(method, "/jsonrpc", &[]);
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{method}");
    }
    let answer = daemon.request("POST", "/api/v1/vdsm/vms", &[]);
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")));
}

#[test]
fn without_libvirt_calls_are_told_to_wait_and_pings_are_answered() {
    let daemon = Daemon::start(&["--uri", "qemu+unix:///system?socket=/nonexistent/socket"]);
    let methods = ["Host.ping2", "Host.getAllVmStats", "Host.getStats"];
    let batch: Vec<Value> = methods.iter().map(|method| call(method, &json!([]))).collect();
    let answers = post(&daemon, Value::from(batch).to_string()).json();
    assert_eq!(answers[0]["result"], true);
    for answer in [&answers[1], &answers[2]] {
        assert_eq!(answer["error"], json!({"code": 99, "message": "Recovering from crash or Initializing"}));
    }
    for path in ["host", "vms", "vms/00000000-0000-4000-8000-000000000001"] {
        let answer = daemon.get(&format!("/api/v1/vdsm/{path}"));
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (503, &json!("not_ready")), "{path}");
    }
}
