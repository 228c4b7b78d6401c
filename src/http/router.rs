//! Which path is answered how.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Uri};
use tokio::sync::Semaphore;

use super::page::{Page, Pages};
use super::response::{self, Parts, Rest};
use super::rpc::{self, Posts};
use super::{stream, vdsm};
use crate::export::api::{self, Form, HealthyBody, ListBody, Query};
use crate::export::prometheus::Exposition;
use crate::export::vdsm::View;
use crate::store::{Domain, ScraperId, Snapshot, Store};

/// A query string is at most so long, in bytes: all that can be asked at once fits, percent-encoded.
const LONGEST_QUERY: usize = 60_000;

const METRICS: &str = "/metrics";
const DOMAINS: &str = "/api/v1/domains";
const DOMAIN: &str = "/api/v1/domains/";
const LOOKUP: &str = "/api/v1/lookup";
const STREAM: &str = "/api/v1/stream";
const HOST: &str = "/api/v1/host";
const STATUS: &str = "/api/v1/status";
const OPENAPI: &str = "/api/v1/openapi.json";
const HEALTHY: &str = "/-/healthy";
const READY: &str = "/-/ready";
const VDSM_VM: &str = "/api/v1/vdsm/vms/{uuid}";

/// What answers are made from.
pub struct App {
    /// Snapshots, and the counters of requests.
    store: Arc<Store>,
    /// /metrics.
    exposition: Exposition,
    pages: Pages,
    openapi: Page,
    streams: Arc<Semaphore>,
    posts: Posts,
    began: Instant,
    /// Tells the answers of this process from those of others.
    run: u128,
}

/// A request without its body, which none of these has.
#[derive(Clone, Copy)]
struct Asked<'r> {
    query: Option<&'r str>,
    headers: &'r HeaderMap,
    /// To which ages in JSON count: the begin of this second. An answer is so the same for a second.
    second: Instant,
}

impl App {
    /// Serves a store, and what is rendered of it.
    #[must_use]
    pub fn new(store: Arc<Store>, exposition: Exposition) -> Self {
        let began = store.stamp();
        Self {
            posts: Posts::new(Arc::clone(&store)),
            store,
            exposition,
            pages: Pages::default(),
            openapi: Page::new(&api::openapi()),
            streams: Arc::new(Semaphore::new(stream::STREAMS)),
            began: began.at,
            run: began.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos(),
        }
    }

    /// /metrics.
    #[must_use]
    pub fn exposition(&self) -> &Exposition {
        &self.exposition
    }

    /// Answers a request, and counts it.
    pub async fn serve(&self, request: Request<Incoming>, peer: IpAddr) -> Response<Parts> {
        let begin = self.store.now();
        if request.method() == Method::GET && request.uri().path() == METRICS {
            self.store.note_scrape(scraper(peer, request.headers()), begin);
        }
        let (label, response) = if request.uri().path() == rpc::PATH {
            (rpc::PATH, self.posts.answer(request).await)
        } else {
            self.route(request.method(), request.uri(), request.headers()).await
        };
        let metrics = &self.store.metrics;
        metrics.http_requests.with_label_values(&[label, response.status().as_str()]).inc();
        metrics.http_duration.observe(self.store.now().saturating_duration_since(begin).as_secs_f64());
        response
    }

    /// The answer, and the path's label: one of a closed list, so that no client can make series.
    async fn route(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> (&'static str, Response<Parts>) {
        let path = uri.path();
        let fixed =
            [METRICS, DOMAINS, LOOKUP, STREAM, HOST, STATUS, OPENAPI, HEALTHY, READY, vdsm::HOST, vdsm::VMS, "/"];
        let behind = |start| path.strip_prefix(start).filter(|rest| !rest.is_empty());
        // With what is behind it, of a path that varies.
        let (label, varying) = if let Some(known) = fixed.into_iter().find(|known| *known == path) {
            (known, None)
        } else if let Some(domain) = behind(DOMAIN) {
            ("/api/v1/domains/{id}", Some(domain))
        } else if let Some(uuid) = behind(vdsm::VM) {
            (VDSM_VM, Some(uuid))
        } else {
            return ("other", not_found(path));
        };
        if method != Method::GET && method != Method::HEAD {
            return (label, response::method_not_allowed(method, "GET, HEAD"));
        }
        let query = uri.query();
        if let Some(length) = query.map(str::len).filter(|length| *length > LONGEST_QUERY) {
            let message = format!("the query string has {length} bytes; {LONGEST_QUERY} are possible");
            return (label, response::error(StatusCode::URI_TOO_LONG, "query_too_long", &message));
        }
        let asked = Asked { query, headers, second: self.second() };
        let snapshot = self.store.snapshot();
        let response = match label {
            METRICS => self.metrics(headers).await,
            DOMAINS => self.list(snapshot, asked),
            LOOKUP => lookup(&self.store, &snapshot, asked),
            STREAM => self.stream(asked),
            HOST => match api::host(&self.store.host(), asked.second) {
                Some(host) => Page::new(&host).answer(headers),
                None => {
                    let message = "the host was not looked at yet";
                    response::error(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message)
                }
            },
            STATUS => Page::new(&api::status(&snapshot, asked.second)).answer(headers),
            OPENAPI => self.openapi.answer(headers),
            HEALTHY => healthy(&self.store),
            // Whoever is told "ready" and scrapes next must find everything there.
            READY => match self.exposition.incomplete() {
                None => response::json(StatusCode::OK, &HealthyBody { status: "ready" }),
                Some(reason) => response::error(StatusCode::SERVICE_UNAVAILABLE, "not_ready", &reason),
            },
            "/" => response::answer(StatusCode::OK, HeaderValue::from_static("text/plain; charset=utf-8"), index()),
            vdsm::HOST => vdsm::host(View::new(&self.store), headers),
            vdsm::VMS => vdsm::vms(View::new(&self.store), headers),
            _ => match varying.and_then(decoded) {
                None => {
                    response::error(StatusCode::BAD_REQUEST, "bad_path", "the path is not valid percent-encoded UTF-8")
                }
                Some(uuid) if label == VDSM_VM => vdsm::vm(&View::new(&self.store), &uuid, headers),
                Some(wanted) => match snapshot.find(&wanted) {
                    Some(domain) => self.domain(&snapshot, domain, asked),
                    None => {
                        let message = format!("no domain has the UUID or name {wanted:?}; {DOMAINS} lists them");
                        response::error(StatusCode::NOT_FOUND, "domain_not_found", &message)
                    }
                },
            },
        };
        (label, response)
    }

    fn second(&self) -> Instant {
        let since = self.store.now().saturating_duration_since(self.began);
        self.began + Duration::from_secs(since.as_secs())
    }

    async fn metrics(&self, headers: &HeaderMap) -> Response<Parts> {
        let Some(scrape) = self.exposition.scrape(response::accepts_gzip(headers)).await else {
            let message = "the metrics are not rendered yet; the host is too busy";
            return response::error(StatusCode::SERVICE_UNAVAILABLE, "not_rendered", message);
        };
        let rest = scrape.rest.map(|rest| Rest::Metrics(Box::new(rest)));
        let body = Parts::new(scrape.parts).and(rest);
        let mut response = response::answer(StatusCode::OK, response::EXPOSITION, body);
        let headers = response.headers_mut();
        headers.insert(header::VARY, HeaderValue::from_static("accept-encoding"));
        if scrape.gzip {
            headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }

    /// The list is the same as long as the snapshot, the second and the question are, so these make its tag.
    fn list(&self, snapshot: Arc<Snapshot>, asked: Asked<'_>) -> Response<Parts> {
        let query = match Query::of_list(asked.query) {
            Ok(query) => query,
            Err(message) => return bad_query(&message),
        };
        let gzip = response::accepts_gzip(asked.headers);
        let second = query.ages.then(|| asked.second.saturating_duration_since(self.began));
        let content = format!("{} {} {second:?} {gzip} {query:?}", self.run, snapshot.sequence);
        let tag = response::tag(content.as_bytes());
        if response::is_known(asked.headers, &tag) {
            return response::not_modified(tag);
        }
        let mut answer = response::made(asked.headers, ListBody::new(snapshot, query, asked.second), 0);
        response::tagged(answer.headers_mut(), tag);
        answer
    }

    fn domain(&self, snapshot: &Snapshot, domain: &Arc<Domain>, asked: Asked<'_>) -> Response<Parts> {
        let page = |form| Page::new(&api::domain(snapshot, domain, form));
        match asked.query.map(|query| Query::of_domain(Some(query))) {
            None => self.pages.get(domain, asked.second, || page(Form::whole(asked.second))).answer(asked.headers),
            Some(Err(message)) => bad_query(&message),
            Some(Ok(query)) => {
                let at = query.ages.then_some(asked.second);
                page(Form { fields: query.fields, at }).answer(asked.headers)
            }
        }
    }

    fn stream(&self, asked: Asked<'_>) -> Response<Parts> {
        let query = match Query::of_stream(asked.query) {
            Ok(query) => query,
            Err(message) => return bad_query(&message),
        };
        let Ok(place) = Arc::clone(&self.streams).try_acquire_owned() else {
            let message = format!("{} streams are open, and no more are possible", stream::STREAMS);
            return response::error(StatusCode::SERVICE_UNAVAILABLE, "too_many_streams", &message);
        };
        let events = stream::open(Arc::clone(&self.store), query, place);
        let kind = HeaderValue::from_static("text/event-stream");
        response::answer(StatusCode::OK, kind, Parts::new([]).and(Some(Rest::Events(events))))
    }
}

fn bad_query(message: &str) -> Response<Parts> {
    response::error(StatusCode::BAD_REQUEST, "bad_query", message)
}

fn lookup(store: &Store, snapshot: &Snapshot, asked: Asked<'_>) -> Response<Parts> {
    let question = match api::question(asked.query) {
        Ok(question) => question,
        Err(message) => return bad_query(&message),
    };
    if snapshot.listed.is_none() {
        let message = "the list of domains was not read yet";
        return response::error(StatusCode::SERVICE_UNAVAILABLE, "not_ready", message);
    }
    match api::lookup(snapshot, &question, store.stamp()) {
        Ok(found) => Page::new(&found).answer(asked.headers),
        Err(message) => response::error(StatusCode::NOT_FOUND, "domain_not_found", &message),
    }
}

/// Who scrapes: the address, and the program, since two may share an address.
fn scraper(peer: IpAddr, headers: &HeaderMap) -> ScraperId {
    let mut agent = DefaultHasher::new();
    headers.get(header::USER_AGENT).map(HeaderValue::as_bytes).hash(&mut agent);
    ScraperId { address: peer.to_canonical(), agent: agent.finish() }
}

/// Do our own threads turn? Whether libvirt answers is another question: no restart of ours would mend that.
fn healthy(store: &Store) -> Response<Parts> {
    let still = store.standing_still();
    if still.is_empty() {
        return response::json(StatusCode::OK, &HealthyBody { status: "healthy" });
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
    let lines: String = api::ENDPOINTS.iter().map(|it| format!("{:<32} {}\n", it.path, it.purpose)).collect();
    Parts::new([Bytes::from(format!("virtstatd {version}\n\n{lines}"))])
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
