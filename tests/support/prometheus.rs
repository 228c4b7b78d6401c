//! A real Prometheus.

use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::daemon::request;
use super::wait_for;

/// Debian's Prometheus on loopback, ended when dropped.
pub(crate) struct Prometheus {
    child: Child,
    address: SocketAddr,
    _directory: tempfile::TempDir,
}

impl Prometheus {
    /// Scrapes every so many seconds.
    pub(crate) fn scraping(target: SocketAddr, seconds: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("prometheus.yml");
        let text = format!(
            "global:\n  scrape_interval: {seconds}s\n  scrape_timeout: {seconds}s\nscrape_configs:\n- job_name: virtstatd\n  static_configs:\n  - targets: ['{target}']\n"
        );
        std::fs::write(&config, text).unwrap();
        // Prometheus cannot be told to choose a port, so one that is free now is chosen for it.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--log.level=error")
            .stdin(Stdio::null())
            .spawn()
            .expect("prometheus is installed (Debian's package prometheus; `make test` installs it)");
        let prometheus = Self { child, address, _directory: directory };
        wait_for("Prometheus to be ready", || {
            let connected = std::net::TcpStream::connect(address).is_ok();
            (connected && request(address, "GET", "/-/ready", &[]).status == 200).then_some(())
        });
        prometheus
    }

    /// The answer to an API call, which must be a success.
    pub(crate) fn api(&self, path: &str) -> Value {
        let answer = request(self.address, "GET", path, &[]);
        let json = answer.json();
        assert_eq!(json["status"], "success", "{path}: {json}");
        json["data"].clone()
    }

    /// The series that an instant query gives.
    pub(crate) fn query(&self, expression: &str) -> Vec<Value> {
        self.api(&format!("/api/v1/query?query={}", encoded(expression)))["result"].as_array().unwrap().clone()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// The value of a series in an answer.
pub(crate) fn number(series: &Value) -> f64 {
    series["value"][1].as_str().unwrap().parse().unwrap()
}
