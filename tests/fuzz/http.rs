//! Requests, over real connections, to the real server.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::Target;
use super::support::daemon::Daemon;

const TARGET: Target = Target {
    name: "http",
    per_mille: 130,
    words: &[
        "GET ",
        "HEAD ",
        "POST ",
        "/metrics",
        "/api/v1/domains/",
        "/api/v1/domains",
        "/api/v1/status",
        "/-/ready",
        "/api/v1/vdsm/vms/",
        "/jsonrpc",
        "\"jsonrpc\":\"2.0\"",
        "\"method\":",
        "Host.getVMList",
        "\"params\":[",
        "\"id\":",
        "{}",
        "[]",
        "null",
        "%00",
        "%ff",
        "%2",
        "%zz",
        "?",
        "&",
        "=",
        "#",
        "..",
        "//",
        " HTTP/1.1\r\n",
        "HTTP/1.0",
        "accept-encoding: gzip;q=0, *",
        "content-length: 5",
        "transfer-encoding: chunked",
        "\r\n",
        "\r\n\r\n",
        "\n",
        "\0",
        "expect: 100-continue",
        "connection: close",
    ],
};

/// Whatever the server makes of the bytes: an answer of no more than 499, or a connection that it closes.
fn ask(address: std::net::SocketAddr, case: &[u8], buffer: &mut Vec<u8>) {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    // It may refuse in the middle, and close.
    let _ = stream.write_all(case);
    let _ = stream.shutdown(Shutdown::Write);
    buffer.clear();
    match stream.read_to_end(buffer) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{error} after {} bytes", buffer.len()),
    }
    if buffer.is_empty() {
        return;
    }
    let status = buffer.strip_prefix(b"HTTP/1.").and_then(|rest| rest.get(2..5)).map(String::from_utf8_lossy);
    let status: u16 =
        status.and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status in the answer"));
    // 503 is what /-/ready says before the first sample; it does not come here.
    assert!((200..500).contains(&status), "{status} to {:?}", String::from_utf8_lossy(case));
}

#[test]
fn no_request_gives_an_error_of_the_server() {
    let daemon = Daemon::start(&["--uri", "test:///default"]);
    daemon.wait_ready();
    let (address, mut buffer) = (daemon.address(), Vec::new());
    TARGET.run(|case| ask(address, case, &mut buffer));
    assert_eq!(daemon.get("/-/healthy").status, 200);
    assert!(!daemon.log().contains("panicked"), "{}", daemon.log());
}
