//! What our own side costs, step by step, on made-up guests: `cargo bench --bench pipeline`.
//!
//! A step's throughput says what one parameter, record, series or byte costs, so that hosts of other sizes can be reckoned
//! from it. The guests of `decode`, `publish` and `json` are small ones (1 vCPU, 1 disk, 1 NIC) unless the name says otherwise;
//! those of /metrics have two of each, and a balloon driver that reports.

#[allow(dead_code)] // Nobody here looks into an answer.
#[path = "support/client.rs"]
mod client;
#[path = "support/guests.rs"]
mod guests;

use std::cell::LazyCell;
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, SamplingMode, Throughput};
use prometheus::TextEncoder;
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use virtstatd::export::api;
use virtstatd::export::prometheus::{Options, Renderer, Rendering, start};
use virtstatd::http::{App, Listeners, Server};
use virtstatd::libvirt::Decoder;
use virtstatd::model::DecodeCounts;

use client::Client;
use guests::{Host, Parameters, Shape};

fn main() {
    let mut criterion = Criterion::default()
        .without_plots()
        .sample_size(30)
        .nresamples(20_000)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    decode(&mut criterion);
    publish(&mut criterion);
    render(&mut criterion);
    compress(&mut criterion);
    scrape(&mut criterion);
    json(&mut criterion);
    criterion.final_summary();
    // A filter that names something else leaves it out.
    if std::env::args().skip(1).all(|argument| argument.starts_with('-') || argument == "memory") {
        memory(10_000);
    }
}

/// One guest's parameters to figures. libvirt's part, reading them from the socket, is not in it.
fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    for (name, shape) in [("small", Shape::SMALL), ("64_vcpus_16_disks_10_nics", Shape::LARGE)] {
        let parameters = Parameters::new(shape, 7, 1);
        let decoder = Decoder::default();
        group.throughput(elements(parameters.len()));
        group.bench_function(BenchmarkId::new(name, parameters.len()), |bencher| {
            let mut counts = DecodeCounts::default();
            bencher.iter(|| decoder.figures(black_box(&parameters).iter(), &mut counts));
            assert_eq!(counts, DecodeCounts::default(), "the tables know every parameter");
        });
    }
    group.finish();
}

/// A whole reply into the store, up to the snapshot that readers get.
fn publish(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("publish");
    for guests in [60, 1_000, 10_000] {
        let host = LazyCell::new(|| Host::new(guests, Shape::SMALL));
        group.throughput(Throughput::Elements(guests.into()));
        group.bench_function(BenchmarkId::from_parameter(guests), |bencher| {
            bencher.iter_batched(
                || (host.next_period(), host.reply.clone()),
                |(started, reply)| host.store.apply_bulk(started, &host.request, reply),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

/// A snapshot to text, with labels known from the time before; from 1,000 guests on it is compressed on the way. Beside it,
/// what the `prometheus` crate's encoder takes for the same series. That encoder finds its families gathered, so the
/// comparison favours it; both write into used buffers.
fn render(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("render");
    // The usual mode makes each sample longer than the last, which takes too long where one run takes 0.1 s.
    group.sampling_mode(SamplingMode::Flat).measurement_time(Duration::from_secs(6));
    for guests in [60, 1_000, 10_000] {
        let host = LazyCell::new(|| Host::new(guests, Shape::USUAL));
        group.throughput(elements(series_of(guests)));
        let mut renderer = Renderer::default();
        group.bench_function(BenchmarkId::new("own", guests), |bencher| {
            bencher.iter(|| {
                let rendering = rendering(&host, &mut renderer);
                renderer.recycle(rendering);
            });
        });
        if guests > 60 {
            continue;
        }
        let families = LazyCell::new(|| families(&rendering(&host, &mut Renderer::default()).text()));
        let mut buffer = String::new();
        group.bench_function(BenchmarkId::new("prometheus_text_encoder", guests), |bencher| {
            let count: usize = families.iter().map(|family| family.get_metric().len()).sum();
            assert_eq!(count, series_of(guests), "both write the same series");
            bencher.iter(|| {
                buffer.clear();
                TextEncoder::new().encode_utf8(&families, &mut buffer).expect("the families are valid");
                buffer.len()
            });
        });
    }
    group.finish();
}

/// The text of a host with few guests to gzip; the bytes are those that go in. With many guests it is part of rendering.
fn compress(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compress");
    for guests in [60, 500] {
        let host = Host::new(guests, Shape::USUAL);
        let mut renderer = Renderer::default();
        let mut rendering = rendering(&host, &mut renderer);
        group.throughput(Throughput::Bytes(rendering.text().len() as u64));
        group.bench_function(BenchmarkId::from_parameter(guests), |bencher| {
            bencher.iter(|| renderer.compress(&mut rendering));
        });
    }
    group.finish();
}

/// What is left to do when a scraper asks: the part that differs from scrape to scrape, and a whole GET over loopback with
/// a client that shares the CPUs. `anew` has something new to show each time: on a large host it is rendered then.
fn scrape(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("scrape");
    group.sampling_mode(SamplingMode::Flat);
    for guests in [60, 1_000, 10_000] {
        let host = LazyCell::new(|| Host::new(guests, Shape::USUAL));
        let rendered = LazyCell::new(|| rendering(&host, &mut Renderer::default()));
        // So many ages, and so many times of not answering.
        group.throughput(Throughput::Elements(u64::from(guests) * 8));
        group.bench_function(BenchmarkId::new("own_part", guests), |bencher| {
            bencher.iter(|| rendered.per_scrape(&host.store));
        });
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for guests in [1_000, 10_000] {
        let host = LazyCell::new(|| Host::new(guests, Shape::USUAL));
        let exposition = LazyCell::new(|| start(&host.store, Options::default()).expect("a thread for the publisher"));
        for (name, gzip) in [("stream_plain", false), ("stream_gzip", true)] {
            group.bench_function(BenchmarkId::new(name, guests), |bencher| {
                bencher.iter(|| {
                    let scrape = runtime.block_on(exposition.scrape(gzip)).expect("it renders in time");
                    let mut rest = scrape.rest.expect("a large host's text is streamed");
                    std::iter::from_fn(|| rest.next_part()).map(|part| part.expect("it stays").len()).sum::<usize>()
                });
            });
        }
    }
    for guests in [60, 1_000, 10_000] {
        let host = LazyCell::new(|| Host::new(guests, Shape::USUAL));
        let mut client = LazyCell::new(|| Client::connect(serve(&host)).expect("the server listens"));
        for (name, gzip, reconnect, anew) in [
            ("get_plain", false, false, false),
            ("get_plain_new_connection", false, true, false),
            ("get_gzip", true, false, false),
            ("get_gzip_anew", true, false, true),
        ] {
            group.bench_function(BenchmarkId::new(name, guests), |bencher| {
                assert_eq!(client.get("/metrics", gzip).expect("the server answers").status, 200);
                bencher.iter(|| {
                    if reconnect {
                        client.reconnect().expect("the server listens");
                    }
                    if anew {
                        host.news();
                    }
                    client.get("/metrics", gzip).expect("the server answers").status
                });
            });
        }
    }
    group.finish();
}

/// What /metrics of many guests takes in memory: told once, for people.
#[allow(clippy::cast_precision_loss)]
fn memory(guests: u32) {
    let host = Host::new(guests, Shape::USUAL);
    let begin = anonymous_kib();
    let told = |what: &str| {
        println!("memory/{guests} {what}: {:+.1} MB", (anonymous_kib() - begin) as f64 / 1000.0);
    };
    let mut renderer = Renderer::default();
    let first = rendering(&host, &mut renderer);
    told("a rendering, with labels and buffers");
    println!("memory/{guests} of that the text itself: {:.1} MB", first.size() as f64 / 1e6);
    drop((first, renderer));
    told("dropped");
    let address = serve(&host);
    for gzip in [true, false] {
        let mut stream = TcpStream::connect(address).expect("the server listens");
        for _ in 0..3 {
            host.news();
            let length = read_away(&mut stream, gzip);
            told(&format!("after an answer of {:.1} MB", length as f64 / 1e6));
        }
    }
}

/// Anonymous resident memory of this process.
fn anonymous_kib() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process has a status");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux tells it");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Asks, reads and forgets: a client that keeps the answer would be measured along.
fn read_away(stream: &mut TcpStream, gzip: bool) -> usize {
    let encoding = if gzip { "accept-encoding: gzip\r\n" } else { "" };
    stream.write_all(format!("GET /metrics HTTP/1.1\r\nhost: x\r\n{encoding}\r\n").as_bytes()).expect("it listens");
    let (mut length, mut buffer, mut end) = (0, vec![0; 1 << 16], [0; 5]);
    // The last chunk is empty.
    while end != *b"0\r\n\r\n" {
        let count = stream.read(&mut buffer).expect("the server answers");
        assert!(count > 0, "the answer is whole");
        length += count;
        for byte in &buffer[count.saturating_sub(5)..count] {
            end.rotate_left(1);
            end[4] = *byte;
        }
    }
    length
}

/// /api/v1/domains, from a snapshot to bytes.
fn json(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("json");
    for guests in [60, 1_000] {
        let host = Host::new(guests, Shape::SMALL);
        let snapshot = host.store.snapshot();
        group.throughput(Throughput::Elements(guests.into()));
        group.bench_function(BenchmarkId::from_parameter(guests), |bencher| {
            bencher.iter(|| serde_json::to_vec(&api::domains(&snapshot, host.store.now())).expect("plain data"));
        });
    }
    group.finish();
}

fn elements(count: usize) -> Throughput {
    Throughput::Elements(count as u64)
}

fn rendering(host: &Host, renderer: &mut Renderer) -> Rendering {
    renderer.render(host.store.snapshot(), host.store.now(), &host.store)
}

/// How many series that many guests have, without rendering them: a filter must not pay for what it leaves out.
fn series_of(guests: u32) -> usize {
    let [one, two] = [1, 2].map(|guests| {
        let text = rendering(&Host::new(guests, Shape::USUAL), &mut Renderer::default()).text();
        text.lines().filter(|line| !line.starts_with('#')).count()
    });
    one + (two - one) * (guests as usize - 1)
}

/// What the encoder wants, with the series of a text of ours. No label of the made-up guests needs escaping.
fn families(text: &str) -> Vec<MetricFamily> {
    let mut families: Vec<MetricFamily> = Vec::new();
    let mut metrics = Vec::new();
    let close = |families: &mut Vec<MetricFamily>, metrics: &mut Vec<Metric>| {
        if let Some(family) = families.last_mut() {
            family.set_metric(std::mem::take(metrics));
        }
    };
    for line in text.lines() {
        if let Some((name, help)) = line.strip_prefix("# HELP ").and_then(|line| line.split_once(' ')) {
            close(&mut families, &mut metrics);
            let mut family = MetricFamily::default();
            family.set_name(name.to_owned());
            family.set_help(help.to_owned());
            families.push(family);
        } else if line.starts_with('#') {
            let kind = if line.ends_with(" counter") { MetricType::COUNTER } else { MetricType::GAUGE };
            families.last_mut().expect("TYPE comes after HELP").set_field_type(kind);
        } else {
            let family = families.last().expect("series come after TYPE");
            metrics.push(metric(line, family.get_field_type()));
        }
    }
    close(&mut families, &mut metrics);
    families
}

fn metric(line: &str, kind: MetricType) -> Metric {
    let (series, value) = line.rsplit_once(' ').expect("a series has a value");
    let value = value.parse().expect("values are numbers");
    let block = series.split_once('{').map_or("", |(_, block)| block.trim_end_matches('}'));
    let labels = block.split("\",").filter(|label| !label.is_empty()).map(|label| {
        let (name, value) = label.split_once("=\"").expect("labels are quoted");
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.trim_end_matches('"').to_owned());
        pair
    });
    let mut metric = Metric::from_label(labels.collect());
    if kind == MetricType::COUNTER {
        let mut counter = Counter::default();
        counter.set_value(value);
        metric.set_counter(counter);
    } else {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        metric.set_gauge(gauge);
    }
    metric
}

/// Serves a store as the daemon does, on a thread that lives as long as the process.
fn serve(host: &Host) -> SocketAddr {
    let store = Arc::clone(&host.store);
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let exposition = start(&store, Options::default()).expect("a thread for the publisher");
            let app = Arc::new(App::new(store, exposition));
            let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
            let listeners = Listeners::bind(&[any_port]).expect("a free port");
            let address = listeners.addresses()[0];
            let _server = Server::start(listeners, &app).expect("a thread");
            sender.send(address).expect("somebody waits for the address");
            std::future::pending::<()>().await;
        });
    });
    receiver.recv().expect("the server starts")
}
