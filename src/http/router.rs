//! Which path is answered how.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};

use super::response::{self, Parts};
use crate::export::api;
use crate::export::prometheus::Exposition;
use crate::store::{ScraperId, Snapshot, Store};

/// What answers are made from.
pub struct App {
    /// Snapshots, and the counters of requests.
    pub store: Arc<Store>,
    /// /metrics.
    pub exposition: Exposition,
}

/// The paths that are served, for people who look for them.
pub struct Routes;

impl Routes {
    /// Path and purpose of each.
    pub const ALL: [(&'static str, &'static str); 8] = [
        (METRICS, "Prometheus metrics"),
        (DOMAINS, "every domain, as JSON"),
        ("/api/v1/domains/{uuid-or-name}", "one domain"),
        (LOOKUP, "which domain has this MAC, NIC, disk or process: ?mac=, ?nic=, ?disk=, ?pid="),
        (HOST, "the host itself: CPUs, memory, network, free space"),
        (STATUS, "the service itself: connection, groups, ages"),
        (HEALTHY, "200 while the service runs, 503 if a part of it stands still"),
        (READY, "200 once every running domain was sampled, before that 503 and the reason"),
    ];
}

const METRICS: &str = "/metrics";
const DOMAINS: &str = "/api/v1/domains";
const DOMAIN: &str = "/api/v1/domains/";
const LOOKUP: &str = "/api/v1/lookup";
const HOST: &str = "/api/v1/host";
const STATUS: &str = "/api/v1/status";
const HEALTHY: &str = "/-/healthy";
const READY: &str = "/-/ready";

impl App {
    /// Answers a request, and counts it.
    pub async fn serve(&self, request: Request<Incoming>, peer: IpAddr) -> Response<Parts> {
        let begin = self.store.now();
        if request.method() == Method::GET && request.uri().path() == METRICS {
            self.store.note_scrape(scraper(peer, request.headers()), begin);
        }
        let (label, response) = self.route(request.method(), request.uri(), request.headers()).await;
        let metrics = &self.store.metrics;
        metrics.http_requests.with_label_values(&[label, response.status().as_str()]).inc();
        metrics.http_duration.observe(self.store.now().saturating_duration_since(begin).as_secs_f64());
        response
    }

    /// The answer, and the path's label: one of a closed list, so that no client can make series.
    async fn route(&self, method: &Method, uri: &Uri, headers: &header::HeaderMap) -> (&'static str, Response<Parts>) {
        let path = uri.path();
        let label = match path {
            METRICS => METRICS,
            DOMAINS => DOMAINS,
            LOOKUP => LOOKUP,
            HOST => HOST,
            STATUS => STATUS,
            HEALTHY => HEALTHY,
            READY => READY,
            "/" => "/",
            _ if path.len() > DOMAIN.len() && path.starts_with(DOMAIN) => "/api/v1/domains/{id}",
            _ => return ("other", not_found(path)),
        };
        if method != Method::GET && method != Method::HEAD {
            return (label, response::method_not_allowed(method));
        }
        let snapshot = self.store.snapshot();
        let now = self.store.now();
        let response = match label {
            METRICS => self.metrics(response::accepts_gzip(headers.get(header::ACCEPT_ENCODING))).await,
            DOMAINS => response::json(StatusCode::OK, &api::domains(&snapshot, now)),
            LOOKUP => lookup(&snapshot, uri.query()),
            HOST => match api::host(&self.store.host(), now) {
                Some(host) => response::json(StatusCode::OK, &host),
                None => {
                    let message = "the host was not looked at yet";
                    response::error(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message)
                }
            },
            STATUS => response::json(StatusCode::OK, &api::status(&snapshot, now)),
            HEALTHY => healthy(&self.store),
            // Whoever is told "ready" and scrapes next must find everything there.
            READY => match self.exposition.incomplete() {
                None => response::json(StatusCode::OK, &serde_json::json!({"status": "ready"})),
                Some(reason) => response::error(StatusCode::SERVICE_UNAVAILABLE, "not_ready", &reason),
            },
            "/" => response::answer(StatusCode::OK, HeaderValue::from_static("text/plain; charset=utf-8"), index()),
            _ => match decoded(&path[DOMAIN.len()..]) {
                None => {
                    response::error(StatusCode::BAD_REQUEST, "bad_path", "the path is not valid percent-encoded UTF-8")
                }
                Some(wanted) => match snapshot.find(&wanted) {
                    Some(domain) => response::json(StatusCode::OK, &api::domain(&snapshot, domain, now)),
                    None => {
                        let message = format!("no domain has the UUID or name {wanted:?}; {DOMAINS} lists them");
                        response::error(StatusCode::NOT_FOUND, "domain_not_found", &message)
                    }
                },
            },
        };
        (label, response)
    }

    async fn metrics(&self, gzip: bool) -> Response<Parts> {
        let Some(scrape) = self.exposition.scrape(gzip).await else {
            let message = "the metrics are not rendered yet; the host is too busy";
            return response::error(StatusCode::SERVICE_UNAVAILABLE, "not_rendered", message);
        };
        let body = Parts::new(scrape.parts).and(scrape.rest);
        let mut response = response::answer(StatusCode::OK, response::EXPOSITION, body);
        let headers = response.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        if scrape.gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

fn lookup(snapshot: &Snapshot, query: Option<&str>) -> Response<Parts> {
    let key = match api::question(query) {
        Ok(key) => key,
        Err(message) => return response::error(StatusCode::BAD_REQUEST, "bad_query", &message),
    };
    if snapshot.listed.is_none() {
        let message = "the list of domains was not read yet";
        return response::error(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message);
    }
    match api::lookup(snapshot, &key) {
        Some(found) => response::json(StatusCode::OK, &found),
        None => response::error(StatusCode::NOT_FOUND, "domain_not_found", "no domain of this host has it"),
    }
}

/// Who scrapes: the address, and the program, since two may share an address.
fn scraper(peer: IpAddr, headers: &header::HeaderMap) -> ScraperId {
    let mut agent = DefaultHasher::new();
    headers.get(header::USER_AGENT).map(HeaderValue::as_bytes).hash(&mut agent);
    ScraperId { address: peer.to_canonical(), agent: agent.finish() }
}

/// Do our own threads turn? Whether libvirt answers is another question: no restart of ours would mend that.
fn healthy(store: &Store) -> Response<Parts> {
    let still = store.standing_still();
    if still.is_empty() {
        return response::json(StatusCode::OK, &serde_json::json!({"status": "healthy"}));
    }
    let parts =
        still.iter().map(|(part, time)| format!("the {} has stood still for {} s", part.name(), time.as_secs()));
    let message = parts.collect::<Vec<_>>().join("; ");
    response::error(StatusCode::SERVICE_UNAVAILABLE, "standing_still", &message)
}

fn not_found(path: &str) -> Response<Parts> {
    let message = format!("nothing is at {path:?}; / lists what is served");
    response::error(StatusCode::NOT_FOUND, "not_found", &message)
}

fn index() -> Parts {
    let version = env!("CARGO_PKG_VERSION");
    let lines = Routes::ALL.map(|(path, purpose)| format!("{path:<32} {purpose}\n"));
    Parts::new([Bytes::from(format!("virtstatd {version}\n\n{}", lines.concat()))])
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let mut digit = || char::from(rest.next()?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
            bytes.push(digit()? * 16 + digit()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrapers_are_told_apart_by_address_and_program() {
        let of = |peer: &str, agent: &'static str| {
            let headers = [(header::USER_AGENT, HeaderValue::from_static(agent))].into_iter().collect();
            scraper(peer.parse().expect("valid"), &headers)
        };
        assert_eq!(of("10.0.0.5", "Prometheus/3"), of("::ffff:10.0.0.5", "Prometheus/3"), "the listener may be IPv6");
        assert_ne!(of("10.0.0.5", "Prometheus/3"), of("10.0.0.5", "curl/8"));
        assert_ne!(of("10.0.0.5", "Prometheus/3"), of("10.0.0.6", "Prometheus/3"));
    }

    #[test]
    fn paths_are_decoded() {
        assert_eq!(decoded("a%20b%C3%BC%2F").as_deref(), Some("a bü/"));
        for bad in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(decoded(bad), None, "{bad}");
        }
    }
}
