//! HTTP as clients expect it, from the real binary on libvirt's own test driver.
#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use support::daemon::{Daemon, config_file, request};
use support::exposition::{assert_promtool_is_silent, find, parse, value};
use virtstatd::clock::ManualClock;
use virtstatd::export::prometheus;
use virtstatd::http::{App, Listeners, Server};
use virtstatd::store::{Part, STILL_AFTER, StaleAfter, Store};

fn daemon() -> Daemon {
    let daemon = Daemon::start(&["--uri", "test:///default"]);
    daemon.wait_ready();
    daemon
}

#[test]
fn get_and_head_agree_on_every_path() {
    let daemon = daemon();
    for path in ["/", "/metrics", "/api/v1/domains", "/api/v1/domains/test", "/api/v1/status", "/-/healthy", "/-/ready"]
    {
        let get = daemon.get(path);
        assert_eq!(get.status, 200, "{path}");
        assert_eq!(get.header("content-length"), Some(get.body.len().to_string().as_str()), "{path}");
        let head = daemon.request("HEAD", path, &[]);
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
        assert!(head.header("content-length").is_some_and(|length| length != "0"), "{path}");
    }
}

#[test]
fn other_methods_are_refused_with_allow_and_other_paths_with_404() {
    let daemon = daemon();
    for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
        let answer = daemon.request(method, "/metrics", &[]);
        assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")), "{method}");
        assert_eq!(answer.json()["error"]["code"], "method_not_allowed");
    }
    for (path, code) in [
        ("/nothing", "not_found"),
        ("/metrics/", "not_found"),
        ("/api/v1/domains/", "not_found"),
        ("/api/v1/domains/nobody", "domain_not_found"),
    ] {
        let answer = daemon.get(path);
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.json()["error"]["code"], code);
    }
    assert_eq!(daemon.get("/api/v1/domains/%ff").status, 400);
}

#[test]
fn metrics_are_valid_and_plain_unless_gzip_is_asked_for() {
    let daemon = daemon();
    let plain = daemon.get("/metrics");
    assert_eq!(plain.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert_eq!(plain.header("content-encoding"), None);
    assert_promtool_is_silent(plain.text());
    let gzip = daemon.request("GET", "/metrics", &["Accept-Encoding: gzip"]);
    assert_eq!(gzip.header("content-encoding"), Some("gzip"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(&gzip.body[..]).read_to_string(&mut text).expect("valid gzip");
    assert_promtool_is_silent(&text);
    let names =
        |text: &str| parse(text).into_iter().map(|series| series.name).collect::<std::collections::BTreeSet<_>>();
    assert_eq!(names(&text), names(plain.text()));
    let refused = daemon.request("GET", "/metrics", &["Accept-Encoding: gzip;q=0"]);
    assert_eq!(refused.header("content-encoding"), None);
}

#[test]
fn curl_understands_the_compressed_answer() {
    let daemon = daemon();
    let url = format!("http://{}/metrics", daemon.address());
    let output = Command::new("curl").args(["-sS", "--compressed", &url]).output().expect("curl is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_promtool_is_silent(std::str::from_utf8(&output.stdout).unwrap());
}

#[test]
fn scrapes_are_counted_by_path_and_code_and_unknown_paths_make_no_series() {
    let daemon = daemon();
    for path in ["/a", "/b", "/metrics", "/api/v1/domains/x", "/api/v1/domains/y"] {
        daemon.get(path);
    }
    let series = parse(&daemon.scrape());
    let count = |path, code| value(&series, "virtstatd_http_requests_total", &[("path", path), ("code", code)]);
    assert_eq!(count("other", "404"), Some(2.0));
    assert_eq!(count("/api/v1/domains/{id}", "404"), Some(2.0));
    assert_eq!(count("/metrics", "200"), Some(1.0));
    assert!(value(&series, "process_cpu_seconds_total", &[]).is_some_and(|seconds| seconds > 0.0));
}

#[test]
fn json_tells_domains_by_name_and_uuid() {
    let daemon = daemon();
    let by_name = daemon.get("/api/v1/domains/test").json();
    let uuid = by_name["uuid"].as_str().unwrap().to_owned();
    let by_uuid = daemon.get(&format!("/api/v1/domains/{}", uuid.to_uppercase())).json();
    assert_eq!((&by_uuid["name"], &by_uuid["state"]), (&"test".into(), &"running".into()));
    assert!(by_name["samples"]["state"]["age_seconds"].is_f64());
    assert!(by_name["samples"].get("cpu").is_none(), "the test driver has no CPU figures, so none are made up");
    let list = daemon.get("/api/v1/domains").json();
    assert_eq!(list["domains"].as_array().unwrap().len(), 1);
    let status = daemon.get("/api/v1/status").json();
    assert_eq!((&status["ready"], &status["libvirt"]["up"]), (&true.into(), &true.into()));
    assert_eq!(status["domains_running"], 1);
}

#[test]
fn the_host_itself_is_told_with_or_without_libvirt_and_in_the_metrics_only_if_that_is_wanted() {
    let (_directory, path) = config_file(
        "[sampling.periods]\nhost = '1s'\n[host]\npaths = ['/', '/nonexistent']\n[export]\nhost-metrics = true\n",
    );
    let uri = "qemu+unix:///system?socket=/nonexistent/socket";
    let daemon = Daemon::start(&["--config", &path, "--uri", uri]);
    let host = support::wait_for("two looks at the host, and both paths", || {
        let answer = daemon.get("/api/v1/host");
        if answer.status == 503 {
            assert_eq!(answer.json()["error"]["code"], "not_ready");
            return None;
        }
        let host = answer.json();
        let paths = host["paths"].as_array().map(Vec::len);
        // A counter of the kernel may step back now and then, and there are no shares of the time then.
        (host["cpu"].get("utilization_ratio").is_some() && paths == Some(2)).then_some(host)
    });
    let of_file = |file: &str, key: &str| -> u64 {
        let text = std::fs::read_to_string(file).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    let (total, boot) = (of_file("/proc/meminfo", "MemTotal:") * 1024, of_file("/proc/stat", "btime"));
    assert_eq!((&host["memory"]["total_bytes"], &host["boot_time_unix_seconds"]), (&total.into(), &boot.into()));
    let busy = host["cpu"]["utilization_ratio"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&busy), "{busy}");
    assert_eq!(
        host["cpu"]["online"].as_u64().map(|online| online as usize),
        host["cpu"]["cpus"].as_array().map(Vec::len)
    );
    assert!(host["interfaces"].as_array().unwrap().iter().any(|interface| interface["name"] == "lo"));
    assert!(host["paths"][0]["total_bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{host}");
    assert!(host["paths"][1]["error"].as_str().is_some_and(|error| error.contains("No such file")), "{host}");
    let head = daemon.request("HEAD", "/api/v1/host", &[]);
    assert_eq!((head.status, head.body.len()), (200, 0));

    let text = support::wait_for("the metrics to have it", || {
        let text = daemon.scrape();
        text.contains("libvirt_host_filesystem_size_bytes{path=\"/\"}").then_some(text)
    });
    assert_promtool_is_silent(&text);
    let series = parse(&text);
    assert_eq!(value(&series, "libvirt_host_memory_total_bytes", &[]), Some(total as f64));
    assert_eq!(value(&series, "libvirt_host_boot_time_seconds", &[]), Some(boot as f64));

    // The configuration can take it back, and other paths come at once.
    std::fs::write(&path, "[host]\npaths = ['/proc']\n").unwrap();
    daemon.signal("HUP");
    support::wait_for("the metrics to be without it", || (!daemon.scrape().contains("libvirt_host_")).then_some(()));
    support::wait_for("the new path", || {
        (daemon.get("/api/v1/host").json()["paths"][0]["path"] == "/proc").then_some(())
    });
}

#[test]
fn without_libvirt_it_runs_and_says_why_it_is_not_ready() {
    let daemon = Daemon::start(&["--uri", "qemu+unix:///system?socket=/nonexistent/socket"]);
    let reason = support::wait_for("the failure", || {
        let ready = daemon.get("/-/ready");
        assert_eq!(ready.status, 503);
        let message = ready.json()["error"]["message"].as_str().unwrap().to_owned();
        message.contains("/nonexistent/socket").then_some(message)
    });
    assert!(reason.contains("cannot connect"), "{reason}");
    assert_eq!(daemon.get("/-/healthy").status, 200, "the service itself is well");
    let series = parse(&daemon.scrape());
    assert_eq!(value(&series, "libvirt_up", &[]), Some(0.0));
    assert_eq!(daemon.get("/api/v1/domains").json()["domains"].as_array().unwrap().len(), 0);
}

#[test]
fn where_the_kernel_knows_nothing_of_the_guests_libvirt_tells_all_and_status_says_why() {
    let daemon = daemon();
    let kernel = &daemon.get("/api/v1/status").json()["kernel"];
    assert_eq!((&kernel["active"], &kernel["domains"]), (&false.into(), &serde_json::Value::Null));
    assert!(kernel["reason"].as_str().is_some_and(|reason| reason.contains("the test driver")), "{kernel}");
    let samples = &daemon.get("/api/v1/domains/test").json()["samples"];
    assert!(samples.get("state").is_some() && samples.get("kernel").is_none(), "{samples}");
    let others = ["cpu", "vcpu", "interface"].into_iter().filter_map(|group| samples.get(group)?.get("lane"));
    assert!(others.into_iter().all(|lane| lane == "libvirt"), "{samples}");

    let (_directory, file) = config_file("[sampling]\ngroups = ['state', 'cpu']");
    let daemon = Daemon::start(&["--uri", "test:///default", "--config", &file]);
    daemon.wait_ready();
    let reason = daemon.get("/api/v1/status").json()["kernel"]["reason"].clone();
    assert_eq!(reason, "\"kernel\" is not among sampling.groups");
}

#[test]
fn domains_are_looked_up_by_mac_nic_and_disk_running_or_not() {
    let domain = |name: &str, state: u8, devices: &str| {
        // Each connection of this driver would make up UUIDs of its own.
        let uuid = format!("00000000-0000-4000-8000-{:0>12x}", name.len() + usize::from(state));
        format!(
            "<domain type='test'><name>{name}</name><uuid>{uuid}</uuid><memory>1024</memory><os><type>hvm</type></os>\
             <devices>{devices}</devices><test:runstate>{state}</test:runstate></domain>"
        )
    };
    let nic = |mac: &str| format!("<interface type='bridge'><source bridge='br0'/><mac address='{mac}'/></interface>");
    let disk = "<disk type='file' device='disk'><source file='/images/a b.img'/><target dev='vda'/><serial>S-1</serial></disk>";
    let shared = nic("52:54:00:00:00:03");
    let daemon = with_domains(
        &[
            domain("one", 1, &format!("{}{shared}{disk}", nic("52:54:00:00:00:01"))),
            domain("two", 5, &format!("{}{shared}", nic("52:54:00:00:00:02"))),
            domain("three", 5, ""),
        ]
        .concat(),
    );
    let names = |query: &str| {
        let answer = daemon.get(&format!("/api/v1/lookup?{query}"));
        assert_eq!(answer.status, 200, "{query}: {}", answer.text());
        let domains = answer.json()["domains"].as_array().unwrap().clone();
        domains.iter().map(|domain| domain["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names("mac=52:54:00:00:00:01"), ["one"]);
    assert_eq!(names("mac=5254.0000.0002"), ["two"]);
    assert_eq!(names("mac=52-54-00-00-00-03"), ["one", "two"]);
    assert_eq!(names("disk=/images/a+b.img"), ["one"]);
    assert_eq!(names("disk=S-1"), ["one"]);
    let one = &daemon.get("/api/v1/lookup?mac=525400000002").json()["domains"][0];
    assert_eq!((&one["running"], &one["state"]), (&false.into(), &"shutoff".into()));
    assert_eq!(one["nics"].as_array().map(Vec::len), Some(1), "the NIC that was meant");
    assert_eq!(one["nics"][0]["source_bridge"], "br0");
    for (query, status, code) in [
        ("mac=52:54:00:00:00:09", 404, "domain_not_found"),
        ("mac=nonsense", 400, "bad_query"),
        ("pid=1", 404, "domain_not_found"),
        ("nic=vnet99", 404, "domain_not_found"),
        ("", 400, "bad_query"),
        ("mac=%ff%fe", 400, "bad_query"),
        ("disk=%ff", 404, "domain_not_found"),
        ("name=one", 400, "bad_query"),
    ] {
        let answer = daemon.get(&format!("/api/v1/lookup?{query}"));
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (status, Some(code)), "{query}");
    }
    assert_eq!(daemon.get("/api/v1/lookup").status, 400);

    // The same from a shell.
    let find = |arguments: &[&str]| {
        let listen = ["--listen", &daemon.address().to_string()].map(str::to_owned);
        let output =
            Command::new(env!("CARGO_BIN_EXE_virtstatd")).arg("find").args(arguments).args(listen).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let (code, out, _) = find(&["52:54:00:00:00:03"]);
    assert_eq!((code, out.lines().count()), (Some(0), 2));
    assert!(out.starts_with("one\t") && out.contains("\trunning\n"), "{out}");
    assert!(find(&["S-1"]).1.starts_with("one\t"), "neither a NIC nor a MAC: a serial");
    assert!(find(&["--by", "disk", "/images/a b.img"]).1.starts_with("one\t"));
    let (code, _, error) = find(&["52:54:00:00:00:09"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("no domain of this host has \"52:54:00:00:00:09\" as mac"), "{error}");
}

/// libvirt's test driver with a host of our own making.
fn with_domains(domains: &str) -> Daemon {
    let (directory, _) = config_file("");
    let node = directory.path().join("node.xml");
    std::fs::write(&node, format!("<node xmlns:test='http://libvirt.org/schemas/domain/test/1.0'>{domains}</node>"))
        .unwrap();
    let daemon = Daemon::start(&["--uri", &format!("test://{}", node.display())]);
    daemon.wait_ready();
    daemon
}

#[test]
fn an_empty_host_works() {
    let daemon = with_domains("");
    let text = daemon.scrape();
    assert_promtool_is_silent(&text);
    let series = parse(&text);
    assert_eq!(value(&series, "libvirt_domains", &[]), Some(0.0));
    assert!(!series.iter().any(|series| series.labels.contains_key("uuid")));
}

#[test]
fn a_host_with_shut_off_guests_only_works() {
    let domain = |name: &str| {
        format!(
            "<domain type='test'><name>{name}</name><memory>1024</memory><os><type>hvm</type></os>\
             <test:runstate>5</test:runstate></domain>"
        )
    };
    let daemon = with_domains(&["one", "two", "three"].map(domain).concat());
    let text = daemon.scrape();
    assert_promtool_is_silent(&text);
    let series = parse(&text);
    assert_eq!(value(&series, "libvirt_domains_by_state", &[("state", "shutoff")]), Some(3.0));
    assert_eq!(find(&series, "libvirt_domain_info_state", &[]).len(), 3);
    assert!(find(&series, "libvirt_domain_sample_age_seconds", &[]).is_empty(), "only running ones are sampled");
    let one = daemon.get("/api/v1/domains/one").json();
    assert_eq!((&one["running"], &one["state"]), (&false.into(), &"shutoff".into()));
}

#[test]
fn a_client_that_never_finishes_its_request_harms_nobody() {
    let daemon = daemon();
    let mut idle: Vec<_> = (0..50).map(|_| TcpStream::connect(daemon.address()).unwrap()).collect();
    for stream in &mut idle {
        stream.write_all(b"GET /metrics HT").unwrap();
    }
    assert_eq!(daemon.get("/metrics").status, 200);
}

#[test]
fn sigterm_ends_a_server_that_is_full_of_clients_which_read_nothing() {
    let mut daemon = daemon();
    // More than it serves at once; each asks for more than fits into the socket's buffers, and takes none of it.
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(400);
    let mut clients: Vec<_> = (0..520).map(|_| TcpStream::connect(daemon.address()).unwrap()).collect();
    for client in &mut clients {
        client.set_write_timeout(Some(Duration::from_millis(100))).unwrap();
        // The last ones find the server full, and their requests stay in the kernel.
        let _ = client.write(&request);
    }
    daemon.signal("TERM");
    let (status, took) = daemon.wait();
    assert_eq!(status.code(), Some(0));
    assert!(took < Duration::from_secs(2), "ended after {took:?}; two seconds are promised");
}

#[test]
fn who_stands_still_is_named_and_libvirt_has_no_part_in_it() {
    let clock = Arc::new(ManualClock::new());
    let store = Arc::new(Store::new(clock.clone()));
    let exposition = prometheus::start(&store, prometheus::Options::default()).unwrap();
    let listeners = Listeners::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
    let address = listeners.addresses()[0];
    let _server = Server::start(listeners, &Arc::new(App::new(Arc::clone(&store), exposition))).unwrap();
    let healthy = || request(address, "GET", "/-/healthy", &[]);
    let publisher_beats = || {
        // Any news wakes it.
        store.configure(StaleAfter::default());
        support::wait_for("the publisher's heartbeat", || {
            store.standing_still().iter().all(|(part, _)| *part != Part::Publisher).then_some(())
        });
    };
    store.link_lost("libvirt is away");
    clock.advance(Duration::from_secs(600));
    publisher_beats();
    assert_eq!(healthy().status, 200, "no scheduler has begun, so none stands still");
    store.beat(Part::Scheduler);
    clock.advance(STILL_AFTER + Duration::from_secs(1));
    publisher_beats();
    let answer = healthy();
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (503, &"standing_still".into()));
    assert_eq!(answer.json()["error"]["message"], "the scheduler has stood still for 31 s");
    store.beat(Part::Scheduler);
    let answer = healthy();
    assert_eq!((answer.status, answer.text()), (200, "{\"status\":\"healthy\"}\n"));
}

#[test]
fn several_requests_share_a_connection() {
    let daemon = daemon();
    let mut stream = TcpStream::connect(daemon.address()).unwrap();
    stream.set_read_timeout(Some(support::PATIENCE)).unwrap();
    for _ in 0..3 {
        stream.write_all(b"GET /-/healthy HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        let mut buffer = [0; 1024];
        while !answer.ends_with(b"}\n") {
            let count = stream.read(&mut buffer).unwrap();
            assert!(count > 0);
            answer.extend_from_slice(&buffer[..count]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
    }
}
