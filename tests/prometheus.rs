//! A real Prometheus scrapes the daemon on real guests, and answers every query of the shipped dashboard.
#![allow(clippy::unwrap_used)]

mod support;

use serde_json::Value;
use support::daemon::{Daemon, config_file};
use support::lab::{self, GUESTS};
use support::prometheus::{Prometheus, number};
use support::wait_for;

/// Every query of a dashboard, with the title of its panel.
fn queries(panels: &Value, found: &mut Vec<(String, String)>) {
    for panel in panels.as_array().into_iter().flatten() {
        queries(&panel["panels"], found);
        for target in panel["targets"].as_array().into_iter().flatten() {
            found.push((panel["title"].to_string(), target["expr"].as_str().expect("an expression").to_owned()));
        }
    }
}

/// As Grafana would fill them in with everything selected.
fn filled_in(expression: &str) -> String {
    let variables = [
        ("${instance:regex}", ".+"),
        ("${domain:regex}", ".+"),
        ("$instance", ".+"),
        ("$domain", ".+"),
        ("$__rate_interval", "1m"),
        ("$__interval", "1m"),
        ("$__range", "1m"),
    ];
    let filled = variables.iter().fold(expression.to_owned(), |text, (name, value)| text.replace(name, value));
    assert!(!filled.contains('$'), "a variable that this test does not know in {expression}");
    filled
}

#[test]
fn prometheus_scrapes_every_guest_and_answers_the_dashboard() {
    let Some(mut lab) = lab::enter() else { return };
    // The balloon panels need one guest that has one.
    lab.create("ballooned", &["--balloon"]);
    let (_directory, path) = config_file("[sampling]\nperiod = '1s'\n");
    let daemon = Daemon::start(&["--config", &path]);
    daemon.wait_ready();
    let prometheus = Prometheus::scraping(daemon.address(), 1);
    wait_for("three scrapes", || {
        let scrapes = prometheus.query("count_over_time(up[5m])");
        scrapes.first().is_some_and(|count| number(count) >= 3.0).then_some(())
    });
    assert_eq!(prometheus.query("up == 1").len(), 1, "{}", prometheus.api("/api/v1/targets"));
    let by_domain = "count by (domain) (libvirt_domain_info_cpu_time_seconds_total{domain=~\"lab-.*\"})";
    assert_eq!(prometheus.query(by_domain).len(), GUESTS);
    assert_eq!(
        number(&prometheus.query("scrape_samples_scraped > 0")[0]),
        number(&prometheus.query("scrape_samples_post_metric_relabeling")[0])
    );

    let dashboard: Value = serde_json::from_str(include_str!("../dashboards/host.json")).expect("valid JSON");
    let mut all = Vec::new();
    queries(&dashboard["panels"], &mut all);
    assert!(all.len() > 20, "only {} queries found", all.len());
    let counts_waits = std::fs::read_to_string("/proc/self/sched").is_ok_and(|text| text.contains("wait_sum"));
    for (title, expression) in &all {
        if expression.contains("libvirt_domain_vcpu_wait_seconds_total") && !counts_waits {
            // Made up by libvirt, as 0, where it is told at all.
            eprintln!("not asked, since this host's kernel does not count for how long vCPUs wait: {title}");
            continue;
        }
        // A panel of what is wrong is empty on a healthy host; what it looks at must be there.
        let filled = filled_in(expression).replace(" > 0)", ")");
        wait_for(&format!("data for {title}: {filled}"), || (!prometheus.query(&filled).is_empty()).then_some(()));
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        let query = variable["query"]["query"].as_str().or(variable["query"].as_str()).unwrap_or_default();
        let Some(inner) = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')')) else { continue };
        let (selector, label) = inner.rsplit_once(',').expect("a series and a label");
        let values = prometheus.query(&format!("count by ({}) ({})", label.trim(), filled_in(selector)));
        assert!(!values.is_empty(), "no values for variable {query}");
    }
    eprintln!("{} queries of the dashboard answered", all.len());
}
