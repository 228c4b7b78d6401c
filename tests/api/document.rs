//! `/api/v1/openapi.json` against the service: paths, and what a machine makes of it.

use std::path::Path;
use std::process::Command;

use super::support::daemon::{Daemon, config_file};
use super::{Guest, Host};

#[test]
fn every_path_of_the_document_is_served_and_every_path_that_is_listed_is_in_it() {
    let host = Host::new(&[Guest::new(1, "web", 1)]);
    let document = host.get("/api/v1/openapi.json").json();
    let paths: Vec<&String> = document["paths"].as_object().unwrap().keys().collect();
    let index = host.get("/").text().to_owned();
    for path in &paths {
        assert!(index.lines().any(|line| line.starts_with(path.as_str())), "/ does not list {path}");
        let path = path.replace("{uuid-or-name}", "web").replace("{uuid}", "01010101-0101-0101-0101-010101010101");
        let answer = super::request(host.address, "HEAD", &path, &[]);
        assert_ne!(answer.status, 404, "{path}");
    }
    let listed: Vec<&str> = index.lines().skip(2).filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(listed.len(), paths.len(), "{listed:?} and {paths:?}");
}

/// Makes requests from the document, good ones and bad ones, and holds the answers against it.
#[test]
fn schemathesis_finds_no_fault() {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/bin/schemathesis");
    let (_directory, config) = config_file("[sampling]\nperiod = '1s'\n");
    let daemon = Daemon::start(&["--uri", "test:///default", "--config", &config]);
    daemon.wait_ready();
    let work = tempfile::tempdir().unwrap();
    let mut schemathesis = Command::new(if tools.exists() { tools.as_path() } else { Path::new("schemathesis") });
    schemathesis.current_dir(work.path()).arg("run").arg(format!("http://{}/api/v1/openapi.json", daemon.address()));
    // The stream has no end, and has tests of its own.
    schemathesis.args(["--exclude-path", "/api/v1/stream", "--no-color", "--max-examples", "60", "--seed", "7"]);
    let output = schemathesis.output().expect("schemathesis is installed (scripts/install-deps.sh test installs it)");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("Tested: "), "it has tested something: {text}");
    let count = text.lines().find(|line| line.contains(" generated, ")).unwrap_or_default();
    println!("{}", count.trim());
    assert_eq!(daemon.get("/-/healthy").status, 200);
    let metrics = daemon.scrape();
    assert!(
        !metrics.lines().any(|line| line.starts_with("virtstatd_http_requests_total") && line.contains("code=\"500\""))
    );
}
