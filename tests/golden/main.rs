//! What others parse, held to the letter: /metrics, our JSON, and the generated reference.
//!
//! `VIRTSTATD_BLESS=1 cargo test --test golden` writes the files anew; look at the difference before you commit it.
#![allow(clippy::unwrap_used)]

#[path = "../support/mod.rs"]
mod support;

mod guests;
mod json;
mod machine;

use std::sync::Arc;
use std::time::Duration;

use guests::{description, full, host, id};
use support::exposition::{assert_promtool_is_silent, parse};
use support::golden::check;
use virtstatd::clock::Clock as _;
use virtstatd::export::prometheus::{Options, Renderer, markdown};
use virtstatd::model::{
    BulkReply, BulkRequest, DomainDescription, DomainRecord, Figures, Group, InventoryReply, ListedDomain, RunId,
    Scope, Stamp,
};

#[test]
fn metrics_are_as_released() {
    let (_, store) = host();
    let rendering = Renderer::default().render(store.snapshot(), store.now(), &store);
    let per_scrape = String::from_utf8(rendering.per_scrape(&store)).unwrap();
    // Our own figures differ from run to run; the ages do not.
    let ages = per_scrape.split("# HELP process_").next().unwrap();
    let text = format!("{}{ages}", rendering.text());
    assert_promtool_is_silent(&text);
    parse(&text);
    check("tests/golden/metrics.txt", &text);
}

#[test]
fn times_are_beside_what_was_sampled_and_nothing_else() {
    let (clock, store) = host();
    // Each group's newest sample is of another moment.
    for group in Group::ALL {
        clock.advance(Duration::from_secs(1));
        let all = full(3);
        let figures = Figures {
            state: all.state.filter(|_| group == Group::State),
            cpu: all.cpu.filter(|_| group == Group::Cpu),
            vcpu: all.vcpu.filter(|_| group == Group::Vcpu),
            interface: all.interface.filter(|_| group == Group::Interface),
            block: all.block.filter(|_| group == Group::Block),
            balloon: all.balloon.filter(|_| group == Group::Balloon),
        };
        let record = DomainRecord { id: id(1), name: "web".into(), run: Some(RunId(1)), figures };
        let request = BulkRequest { groups: [group].into_iter().collect(), scope: Scope::Only(vec![id(1)]) };
        let started = Stamp { at: clock.now(), wall: clock.wall() };
        store.apply_bulk(started, &request, BulkReply { records: vec![record], ..BulkReply::default() });
    }
    let render = |timestamps| {
        Renderer::new(Options { timestamps, ..Options::default() }).render(store.snapshot(), store.now(), &store).text()
    };
    let (plain, timed) = (render(false), render(true));
    assert_promtool_is_silent(&timed);
    assert_eq!(plain.lines().count(), timed.lines().count());
    let mut told = std::collections::BTreeSet::new();
    let mut times = String::new();
    for (plain, timed) in plain.lines().zip(timed.lines()) {
        let rest = timed.strip_prefix(plain).expect("the same but for the time");
        let series = plain.split([' ', ',']).next().unwrap();
        if !plain.starts_with('#') && told.insert(series) {
            times += &format!("{series}:{rest}\n");
        }
    }
    // Where the sizes of a disk were asked for on their own, they bear that time, else that of the counters.
    for (disk, time) in [("vda", "1000000015000"), ("vdb", "1000000038234")] {
        let start = "libvirt_domain_block_stats_capacity_bytes{domain=\"web\"";
        let mut sizes = timed.lines().filter(|line| line.starts_with(start));
        let line = sizes.find(|line| line.contains(&format!("target_device=\"{disk}\""))).unwrap();
        assert!(line.ends_with(&format!(" {time}")), "{line}");
    }
    // The first series of each family and domain, and its time.
    check("tests/golden/timestamps.txt", &times);
}

#[test]
fn kept_labels_and_buffers_change_nothing() {
    let (clock, store) = host();
    let mut renderer = Renderer::default();
    let mut render_twice = |what: &str| {
        let kept = renderer.render(store.snapshot(), store.now(), &store);
        let (text, fresh) = (kept.text(), Renderer::default().render(store.snapshot(), store.now(), &store).text());
        assert_eq!(text, fresh, "{what}");
        renderer.recycle(kept);
        text
    };
    let bulk = |name: &str, figures: Figures| {
        clock.advance(Duration::from_secs(1));
        let started = Stamp { at: clock.now(), wall: clock.wall() };
        let record = DomainRecord { id: id(1), name: name.into(), run: Some(RunId(1)), figures };
        let request = BulkRequest { groups: Group::ALL.into_iter().collect(), scope: Scope::Only(vec![id(1)]) };
        store.apply_bulk(started, &request, BulkReply { records: vec![record], ..BulkReply::default() });
    };
    let first = render_twice("at first");
    assert_eq!(first, render_twice("unchanged"));
    bulk("renamed", full(3));
    assert!(render_twice("renamed").contains("domain=\"renamed\""));
    let mut fewer = full(4);
    fewer.block.as_mut().unwrap().disks.remove(0);
    fewer.vcpu.as_mut().unwrap().vcpus.truncate(1);
    bulk("renamed", fewer);
    let text = render_twice("devices gone");
    assert!(!text.contains(
        "read_bytes_total{domain=\"renamed\",uuid=\"01010101-0101-0101-0101-010101010101\",target_device=\"vda\"}"
    ));
    store.apply_inventory(
        Stamp { at: store.now(), wall: std::time::SystemTime::UNIX_EPOCH },
        InventoryReply {
            domains: vec![ListedDomain {
                id: id(1),
                name: "renamed".into(),
                run: Some(RunId(1)),
                state: None,
                description: Some(Arc::new(DomainDescription { os_type: "exe".into(), ..description() })),
            }],
            ..InventoryReply::default()
        },
    );
    assert!(render_twice("another description").contains("os_type=\"exe\""));
}

#[test]
fn stale_groups_leave_the_metrics_and_their_ages_stay() {
    let (clock, store) = host();
    clock.advance(Duration::from_secs(60));
    let rendering = Renderer::default().render(store.snapshot(), store.now(), &store);
    let text = rendering.text();
    assert!(!text.contains("libvirt_domain_info_cpu_time_seconds_total"), "{text}");
    assert!(!text.contains("libvirt_domain_block_stats_capacity_bytes"), "sizes turn stale too");
    assert!(text.contains("libvirt_domain_info{"), "what the XML says is no sample");
    assert!(text.contains("libvirt_domains_by_state{state=\"unknown\"} 4"), "they were listed, and not sampled");
    assert!(text.contains("libvirt_domain_info_state{domain=\"asleep\""), "the list is fresh");
    let ages = String::from_utf8(rendering.per_scrape(&store)).unwrap();
    assert!(ages.contains(
        "libvirt_domain_unresponsive_seconds{domain=\"hung\",uuid=\"04040404-0404-0404-0404-040404040404\"} 63.234\n"
    ));
    assert!(ages.contains("libvirt_domain_sample_age_seconds{domain=\"web\",uuid=\"01010101-0101-0101-0101-010101010101\",group=\"cpu\"} 63.234\n"));
    clock.advance(Duration::from_secs(60));
    let text = Renderer::default().render(store.snapshot(), store.now(), &store).text();
    for gone in ["libvirt_domains{", "libvirt_domains ", "libvirt_domains_by_state", "libvirt_domain_info_state"] {
        assert!(!text.contains(gone), "{gone} is older than the list may be");
    }
}

#[test]
fn metrics_reference_is_current() {
    let (_, store) = host();
    // Makes the series that only requests and samples make.
    store.metrics.set_snapshot_age(Duration::ZERO);
    store.metrics.http_requests.with_label_values(&["/metrics", "200"]).inc();
    store.metrics.rpc_calls.with_label_values(&["Host.ping", "0"]).inc();
    check("docs/metrics.md", &markdown(&store.metrics));
}

#[test]
fn rates_of_the_last_minute_are_there_only_if_they_are_wanted() {
    let (_, store) = host();
    let render = |minute| {
        Renderer::new(Options { minute, ..Options::default() }).render(store.snapshot(), store.now(), &store).text()
    };
    let (without, text) = (render(false), render(true));
    assert_promtool_is_silent(&text);
    let series = |of: &str| {
        let line = text.lines().find(|line| line.starts_with(of) && line.contains("domain=\"seen\""));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
    };
    for (name, value) in [
        // 1.5 s of CPU time in a second, on two vCPUs.
        ("libvirt_domain_cpu_utilization_min_ratio", 0.75),
        ("libvirt_domain_cpu_utilization_max_ratio", 0.75),
        ("libvirt_domain_receive_rate_min_bytes_per_second", 500_000.0),
        ("libvirt_domain_receive_rate_max_bytes_per_second", 500_000.0),
        ("libvirt_domain_transmit_rate_min_bytes_per_second", 300_000.0),
        ("libvirt_domain_transmit_rate_max_bytes_per_second", 300_000.0),
    ] {
        assert!(!without.contains(name), "{name}");
        assert_eq!(series(name), Some(value), "{name}");
    }
}
