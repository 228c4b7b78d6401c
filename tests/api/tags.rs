//! Entity tags: the same tag for the same bytes, and 304 for who has them.

use std::collections::HashMap;
use std::time::Duration;

use super::support::daemon::request;
use super::{Guest, Host};

const PATHS: [&str; 6] = [
    "/api/v1/domains",
    "/api/v1/domains/web",
    "/api/v1/domains/web?fields=samples",
    "/api/v1/lookup?mac=52:54:00:00:00:01",
    "/api/v1/status",
    "/api/v1/openapi.json",
];

fn guests() -> Vec<Guest> {
    vec![Guest::new(1, "web", 1), Guest::new(2, "off", 5)]
}

#[test]
fn who_has_it_already_is_told_so_until_it_changes() {
    let host = Host::new(&guests());
    for path in PATHS {
        let answer = host.get(path);
        let tag = answer.header("etag").unwrap_or_else(|| panic!("{path} has no tag")).to_owned();
        assert!(tag.starts_with('"') && tag.ends_with('"'), "a strong one: {tag}");
        assert_eq!(answer.header("cache-control"), Some("no-cache"), "{path}: asked for again before each use");
        let again = host.get_with(path, &[&format!("If-None-Match: {tag}")]);
        assert_eq!((again.status, again.body.len(), again.header("etag")), (304, 0, Some(&*tag)), "{path}");
        let head = request(host.address, "HEAD", path, &[]);
        assert_eq!((head.status, head.header("etag")), (200, Some(&*tag)), "{path}");
        let other = host.get_with(path, &["If-None-Match: \"other\""]);
        assert_eq!((other.status, other.body), (200, answer.body), "{path}");
    }
    let tag = host.get("/api/v1/domains/web").header("etag").unwrap().to_owned();
    host.sample(&guests(), 2);
    let changed = host.get_with("/api/v1/domains/web", &[&format!("If-None-Match: {tag}")]);
    assert_eq!(changed.status, 200);
    assert_eq!(changed.json()["samples"]["cpu"]["time_ns"], 2);
}

#[test]
fn ages_grow_by_the_second_and_without_them_an_answer_stays() {
    let host = Host::new(&guests());
    for path in ["/api/v1/domains", "/api/v1/domains/web"] {
        let tags = |query: &str| host.get(&format!("{path}{query}")).header("etag").unwrap().to_owned();
        let (with, without) = (tags(""), tags("?ages=false"));
        host.clock.advance(Duration::from_secs(1));
        assert_ne!(tags(""), with, "{path}: the ages are others");
        assert_eq!(tags("?ages=false"), without, "{path}: nothing is new");
    }
    let age = || host.get("/api/v1/domains/web").json()["samples"]["cpu"]["age_seconds"].as_f64().unwrap();
    let before = age();
    host.clock.advance(Duration::from_secs(40));
    assert!((age() - before - 40.0).abs() < 0.01, "{before} and {}", age());
    assert_eq!(host.get("/api/v1/domains/web").json()["samples"]["cpu"]["stale"], true);
}

#[test]
fn no_two_answers_share_a_tag() {
    let host = Host::new(&guests());
    let mut seen: HashMap<String, Vec<u8>> = HashMap::new();
    for step in 0..20 {
        for path in PATHS {
            for headers in [&[][..], &["Accept-Encoding: gzip"]] {
                let answer = host.get_with(path, headers);
                let tag = answer.header("etag").unwrap().to_owned();
                let first = seen.entry(tag).or_insert_with(|| answer.body.clone());
                assert!(*first == answer.body, "{path}: another body under the same tag");
            }
        }
        host.clock.advance(Duration::from_millis(300));
        if step % 3 == 0 {
            host.sample(&guests(), step + 10);
        }
    }
}

#[test]
fn small_answers_are_packed_where_that_pays() {
    let mut guest = Guest::new(1, "web", 1);
    guest.metadata = vec![("app/text", Box::leak("very much the same ".repeat(200).into_boxed_str()))];
    let host = Host::new(&[guest]);
    let packed = host.get_with("/api/v1/domains/web", &["Accept-Encoding: gzip"]);
    assert_eq!((packed.header("content-encoding"), packed.header("vary")), (Some("gzip"), Some("accept-encoding")));
    let plain = host.get("/api/v1/domains/web");
    assert!(packed.body.len() * 4 < plain.body.len());
    assert_ne!(packed.header("etag"), plain.header("etag"), "they are not the same bytes");
    let little = host.get_with("/api/v1/domains/web?fields=name", &["Accept-Encoding: gzip"]);
    assert_eq!(little.header("content-encoding"), None);
}
