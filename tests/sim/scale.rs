//! Ten thousand guests, with the default period, and a real Prometheus.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use virtstat_sim::{Settings, Simulator};

use crate::TURN;
use crate::support::daemon::{Daemon, config_file};
use crate::support::prometheus::{Prometheus, number};

const GUESTS: u32 = 10_000;

/// This build is not optimised; what an optimised one takes is for `cargo bench --bench scale` to say.
const PATIENCE: Duration = Duration::from_secs(180);

fn wait_long<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// What clients get who ask at once, while samples go on; memory stays what it was but for the pieces of their answers.
fn at_once<T: Send>(daemon: &Daemon, clients: impl IntoIterator<Item = Box<dyn FnOnce() -> T + Send>>) -> Vec<T> {
    let before = daemon.rss_anon();
    let done = AtomicBool::new(false);
    let (answers, peak) = std::thread::scope(|scope| {
        let clients: Vec<_> = clients.into_iter().map(|client| scope.spawn(client)).collect();
        let watch = scope.spawn(|| {
            let mut peak = 0;
            while !done.load(Ordering::Relaxed) {
                peak = peak.max(daemon.rss_anon());
                std::thread::sleep(Duration::from_millis(20));
            }
            peak
        });
        let answers: Vec<T> = clients.into_iter().map(|client| client.join().unwrap()).collect();
        done.store(true, Ordering::Relaxed);
        (answers, watch.join().unwrap())
    });
    println!("RssAnon {before} KiB before, {peak} at most");
    assert!(peak < before + before / 2, "{before} KiB before, {peak} at most");
    answers
}

/// All there is to be read until the end of the connection, or until the mark has come so often.
fn read_all(stream: &mut TcpStream, mark: u8, marks: usize, mut take: impl FnMut(&[u8])) {
    let (mut piece, mut seen) = (vec![0; 1 << 16], 0);
    loop {
        let count = stream.read(&mut piece).unwrap();
        take(&piece[..count]);
        seen += piece[..count].iter().filter(|byte| **byte == mark).count();
        if count == 0 || (marks > 0 && seen >= marks) {
            return;
        }
    }
}

const ALL_VM_STATS: &str = r#"[{"jsonrpc":"2.0","method":"Host.getAllVmStats","id":"all"}]"#;

/// Both carriers bring every VM, to clients that ask at once.
fn poll_vms(daemon: &Daemon, running: usize) {
    let (http, stomp) = (daemon.address(), daemon.stomp_address());
    let open = move |address| {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let length = ALL_VM_STATS.len();
    let post = move || {
        let mut stream = open(http);
        write!(stream, "POST /jsonrpc HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{ALL_VM_STATS}").unwrap();
        let mut all = Vec::new();
        read_all(&mut stream, 0, 0, |piece| all.extend_from_slice(piece));
        let begin = all.windows(4).position(|window| window == b"\r\n\r\n").expect("a head") + 4;
        all.split_off(begin)
    };
    let send = move || {
        let mut stream = open(stomp);
        write!(stream, "CONNECT\naccept-version:1.2\n\n\0SUBSCRIBE\ndestination:q\nid:1\n\n\0").unwrap();
        write!(
            stream,
            "SEND\ndestination:jms.topic.vdsm_requests\nreply-to:q\ncontent-length:{length}\n\n{ALL_VM_STATS}\0"
        )
        .unwrap();
        let mut all = Vec::new();
        // CONNECTED is the first frame, and the answer the second.
        read_all(&mut stream, 0, 2, |piece| all.extend_from_slice(piece));
        let begin = all.windows(2).rposition(|window| window == b"\n\n").expect("a head") + 2;
        assert_eq!(all.pop(), Some(0));
        all.split_off(begin)
    };
    for body in at_once(daemon, [Box::new(post) as Box<dyn FnOnce() -> Vec<u8> + Send>, Box::new(send)]) {
        let answer: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        let vms = answer[0]["result"].as_array().unwrap_or_else(|| panic!("{:.200}", answer.to_string()));
        let ids: std::collections::HashSet<_> = vms.iter().map(|vm| vm["vmId"].as_str().unwrap()).collect();
        assert_eq!((vms.len(), ids.len()), (running, running));
        println!("{} bytes", body.len());
    }
}

/// The whole list goes to several clients at once.
fn stream_lists(daemon: &Daemon) {
    let address = daemon.address();
    let client = move |gzip: bool| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let coding = if gzip { "Accept-Encoding: gzip\r\n" } else { "" };
        write!(stream, "GET /api/v1/domains HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{coding}\r\n").unwrap();
        let (mut length, mut end) = (0, Vec::new());
        read_all(&mut stream, 0, 0, |piece| {
            length += piece.len();
            if !piece.is_empty() {
                end = piece[piece.len().saturating_sub(8)..].to_vec();
            }
        });
        assert!(end.ends_with(b"0\r\n\r\n"), "cut off after {length} bytes");
        length
    };
    let boxed = |gzip| Box::new(move || client(gzip)) as Box<dyn FnOnce() -> usize + Send>;
    let lengths = at_once(daemon, [false, false, true].map(boxed));
    println!("lists of {lengths:?} bytes");
    assert!(lengths[0] > 20_000_000 && lengths[2] * 3 < lengths[0], "{lengths:?}");
}

#[test]
fn ten_thousand_guests_are_sampled_whole_and_a_real_prometheus_takes_them() {
    let _turn = TURN.lock();
    let directory = tempfile::tempdir().unwrap();
    let settings =
        Settings { domains: GUESTS, shut_off_per_mille: 50, ..Settings::new(directory.path().join("socket")) };
    let simulator = Simulator::start(settings).expect("the simulator starts");
    let (running, vcpus, disks) = simulator.with_host(|host| {
        let running: Vec<_> = host.guests().filter(|guest| guest.is_running()).collect();
        let now = std::time::SystemTime::now();
        let vcpus: usize = running.iter().map(|guest| usize::from(guest.info(now).vcpus)).sum();
        (running.len(), vcpus, running.iter().map(|guest| guest.disk_targets().count()).sum::<usize>())
    });
    println!("{running} running, {vcpus} vCPUs, {disks} disks");
    let begin = Instant::now();
    let (_directory, config) = config_file("[vdsm]\nstomp-listen = ['127.0.0.1:0']\n");
    let daemon = Daemon::start(&["--uri", &simulator.uri(), "--config", &config]);
    wait_long("the daemon to be ready", || (daemon.get("/-/ready").status == 200).then_some(()));
    println!("ready after {:.1?}", begin.elapsed());

    // Of so many guests nothing is rendered before somebody asks; this build takes its time for it.
    let answer = wait_long("the metrics", || {
        let answer = daemon.request("GET", "/metrics", &["Accept-Encoding: gzip"]);
        (answer.status == 200).then_some(answer)
    });
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    let mut text = String::new();
    flate2::read::GzDecoder::new(&answer.body[..]).read_to_string(&mut text).expect("one member, and valid UTF-8");
    let count = |name: &str| {
        let start = format!("{name}{{");
        text.lines().filter(|line| line.starts_with(&start)).count()
    };
    assert_eq!(count("libvirt_domain_info_state"), GUESTS as usize);
    assert_eq!(count("libvirt_domain_info_cpu_time_seconds_total"), running);
    assert_eq!(count("libvirt_domain_vcpu_time_seconds_total"), vcpus);
    assert!(count("libvirt_domain_block_stats_info") >= disks, "every disk is described");
    let plain = daemon.get("/metrics");
    assert_eq!(plain.status, 200);
    let series = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
    let (packed, streamed) = (series(&text), series(plain.text()));
    assert!(packed.abs_diff(streamed) < 100, "{packed} series in gzip, {streamed} in plain text");
    println!("{packed} series, {} bytes, {} compressed", text.len(), answer.body.len());
    drop((text, plain, answer));

    stream_lists(&daemon);
    poll_vms(&daemon, running);

    let status = daemon.get("/api/v1/status").json();
    assert_eq!(status["domains"], GUESTS, "{status}");
    assert!(status["shards"]["monitor"]["calls"].as_u64() > Some(10), "{status}");
    assert!(status["shards"]["free"]["domains_per_call"].as_u64().is_some_and(|most| most <= 500), "{status}");

    let prometheus = Prometheus::scraping(daemon.address(), 15);
    let scraped = || prometheus.query("up == 1 and on() count(libvirt_domain_info_state) > 0");
    wait_long("a scrape", || (!scraped().is_empty()).then_some(()));
    let of = |expression: &str| number(&prometheus.query(expression)[0]);
    assert_eq!(of("count(libvirt_domain_info_state)"), f64::from(GUESTS));
    assert_eq!(of("count(libvirt_domain_info_cpu_time_seconds_total)"), running as f64);
    assert_eq!(of("scrape_samples_scraped"), of("scrape_samples_post_metric_relabeling"));
    println!("Prometheus took {} samples in {:.2} s", of("scrape_samples_scraped"), of("scrape_duration_seconds"));
    assert!(simulator.status().pool.most_busy <= 4, "{:?}", simulator.status().pool);
}
