//! Whatever is asked, the answer says what is wrong, and the service goes on.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use super::support::{PATIENCE, daemon::request};
use super::{Guest, Host};

/// Sends bytes, and returns the status of what comes back; `None` if the connection just ends.
fn status_of(host: &Host, bytes: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(host.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The server may answer and close before it has read all.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let line = answer.strip_prefix(b"HTTP/1.")?.get(2..5)?;
    std::str::from_utf8(line).ok()?.parse().ok()
}

#[test]
fn each_mistake_has_its_status_and_code() {
    let host = Host::new(&[Guest::new(1, "web", 1)]);
    let long = format!("/api/v1/domains?name={}", "x".repeat(60_000));
    for (path, status, code) in [
        ("/api/v1/domains?fields=nam", 400, "bad_query"),
        ("/api/v1/domains?cursor=%00", 400, "bad_query"),
        ("/api/v1/domains?limit=1e3", 400, "bad_query"),
        ("/api/v1/domains?nothing", 400, "bad_query"),
        ("/api/v1/domains?state=%ff", 400, "bad_query"),
        ("/api/v1/domains/web?limit=3", 400, "bad_query"),
        ("/api/v1/stream?limit=3", 400, "bad_query"),
        ("/api/v1/stream?fields=", 400, "bad_query"),
        ("/api/v1/lookup?ip=300.1.1.1", 400, "bad_query"),
        ("/api/v1/domains/%ff", 400, "bad_path"),
        ("/api/v1/domains/", 404, "not_found"),
        ("/api/v1/domains/web/", 404, "domain_not_found"),
        ("/api/v1/domains/%00", 404, "domain_not_found"),
        ("/api/v1/vdsm", 404, "not_found"),
        ("/api/v1/vdsm/vms/", 404, "not_found"),
        ("/api/v1/vdsm/vms/web", 503, "not_ready"),
        ("/api/v1/vdsm/vms/%ff", 400, "bad_path"),
        ("/jsonrpc/", 404, "not_found"),
        ("/api/v2/domains", 404, "not_found"),
        ("/api/v1/lookup?ip=192.0.2.1", 404, "domain_not_found"),
        (&long, 414, "query_too_long"),
    ] {
        let answer = host.get(path);
        let shown = &path[..path.len().min(60)];
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (status, Some(code)), "{shown}");
        assert!(answer.json()["error"]["message"].as_str().is_some_and(|message| message.len() > 10), "{shown}");
    }
    for path in [
        "/api/v1/domains",
        "/api/v1/stream",
        "/api/v1/openapi.json",
        "/api/v1/domains/web",
        "/api/v1/vdsm/vms",
        "/metrics",
    ] {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "FOO"] {
            let answer = request(host.address, method, path, &[]);
            assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method} {path}");
        }
    }
    for method in ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "FOO"] {
        let answer = request(host.address, method, "/jsonrpc", &[]);
        assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{method}");
    }
}

#[test]
fn no_bytes_make_an_internal_error() {
    let host = Host::new(&[Guest::new(1, "web", 1)]);
    let long_query =
        format!("GET /api/v1/domains?name={} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(1 << 20)).into_bytes();
    let long_header =
        format!("GET /api/v1/domains HTTP/1.1\r\nHost: x\r\nA: {}\r\n\r\n", "a".repeat(1 << 20)).into_bytes();
    let many_headers = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(10_000)).into_bytes();
    let odd_tag =
        b"GET /api/v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\nIf-None-Match: \xff\xfe, \"\r\n\r\n".to_vec();
    let odd_encoding =
        b"GET /api/v1/status HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAccept-Encoding: \xff;q=\r\n\r\n".to_vec();
    let raw_path = b"GET /api/v1/domains/\xff\xfe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec();
    let connect = b"CONNECT example.org:80 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec();
    let star = b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec();
    let whole =
        b"GET http://example.org/api/v1/domains?limit=x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_vec();
    let body =
        b"GET /api/v1/domains HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello".to_vec();
    let rpc = |headers: &str, body: &str| {
        format!("POST /jsonrpc HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n\r\n{body}").into_bytes()
    };
    let chunked = "Transfer-Encoding: chunked";
    let nonsense = b"\x00\x01\x02\r\n\r\n".to_vec();
    for (name, bytes, statuses) in [
        ("a query of a megabyte", long_query, &[414, 431][..]),
        ("a header of a megabyte", long_header, &[431]),
        ("ten thousand headers", many_headers, &[400, 431]),
        ("a tag that is no text", odd_tag, &[200]),
        ("an encoding that is no text", odd_encoding, &[200]),
        ("a path that is no text", raw_path, &[400]),
        ("CONNECT", connect, &[404, 405]),
        ("OPTIONS *", star, &[404, 405]),
        ("a whole address", whole, &[400]),
        ("a body", body, &[200]),
        ("nonsense", nonsense, &[400]),
        ("a call without a body", rpc("A: b", ""), &[200]),
        ("a call that is no JSON", rpc("Content-Length: 5", "hello"), &[200]),
        ("a call that says it is too long", rpc("Content-Length: 1048577", ""), &[413]),
        ("a call of all that there is", rpc("Content-Length: 18446744073709551615", ""), &[400, 413, 431]),
        ("a call of less than nothing", rpc("Content-Length: -1", ""), &[400]),
        ("a call that is badly chunked", rpc(chunked, "zz\r\n"), &[400]),
        ("a call in a chunk of more than there is", rpc(chunked, "fffffffffffffffff\r\n"), &[400]),
        ("a call that never ends", rpc(chunked, &format!("200000\r\n{}", " ".repeat(2 << 20))), &[413]),
    ] {
        let status = status_of(&host, &bytes);
        // A server that closes on what it has not read may lose its own words on the way.
        let may_be_lost = bytes.len() > 10_000;
        assert!(status.map_or(may_be_lost, |status| statuses.contains(&status)), "{name}: {status:?}");
    }
    assert_eq!(host.get("/api/v1/domains/web").status, 200, "and it goes on");
}
