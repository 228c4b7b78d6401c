//! Which domains, and what of each.

use std::io::Read as _;

use super::{Guest, Host};

fn guests() -> Vec<Guest> {
    let mut guests = vec![
        Guest::new(1, "web-1", 1),
        Guest::new(2, "web-2", 3),
        Guest::new(3, "db", 1),
        Guest::new(4, "web-10", 5),
        Guest::new(5, "a b&c=d*", 1),
    ];
    guests[0].metadata = vec![("app/tier", "gold"), ("nova:instance/nova:name", "shop")];
    guests[2].metadata = vec![("app/tier", "silver")];
    guests
}

#[test]
fn filters_choose_domains_and_all_of_them_must_fit() {
    let host = Host::new(&guests());
    for (query, names) in [
        ("", &["a b&c=d*", "db", "web-1", "web-10", "web-2"][..]),
        ("state=running", &["a b&c=d*", "db", "web-1"]),
        ("state=running,paused", &["a b&c=d*", "db", "web-1", "web-2"]),
        ("state=shutoff&state=paused", &["web-10", "web-2"]),
        ("name=web-*", &["web-1", "web-10", "web-2"]),
        ("name=web-?", &["web-1", "web-2"]),
        ("name=web-?&name=d*", &["db", "web-1", "web-2"]),
        ("name=web-?&state=paused", &["web-2"]),
        ("name=a+b%26c%3Dd*", &["a b&c=d*"]),
        ("metadata=app/tier", &["db", "web-1"]),
        ("metadata=app/tier%3Dgold", &["web-1"]),
        ("metadata=app/tier=*l*", &["db", "web-1"]),
        ("metadata=app/tier&metadata=nova:instance/nova:name=shop", &["web-1"]),
        ("metadata=app", &[]),
        ("state=crashed", &[]),
    ] {
        assert_eq!(host.names(query), names, "{query}");
    }
}

#[test]
fn only_the_fields_that_are_chosen_come() {
    let host = Host::new(&guests());
    let domain = |query: &str| {
        let answer = host.get(&format!("/api/v1/domains/web-1?{query}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()
    };
    assert_eq!(domain("fields=name,state"), serde_json::json!({"name": "web-1", "state": "running"}));
    let cpu = domain("fields=samples.cpu");
    assert_eq!(cpu["samples"].as_object().unwrap().keys().collect::<Vec<_>>(), ["cpu"]);
    assert_eq!(cpu.as_object().unwrap().len(), 1);
    let samples = domain("fields=samples");
    assert!(samples["samples"]["state"].is_object() && samples["samples"]["cpu"].is_object());
    assert_eq!(domain("fields=description")["description"]["metadata"]["app/tier"], "gold");
    let ageless = domain("ages=false").to_string();
    assert!(!ageless.contains("age_seconds") && !ageless.contains("stale") && ageless.contains("sampled_at"));
    let list = host.get("/api/v1/domains?fields=uuid&limit=1").json();
    assert_eq!(list["domains"][0].as_object().unwrap().keys().collect::<Vec<_>>(), ["uuid"]);
}

#[test]
fn pages_show_each_domain_once_whatever_happens_between_them() {
    let mut guests: Vec<Guest> =
        (0..200).map(|n| Guest::new(n, &format!("g{n:03}"), if n % 3 == 0 { 5 } else { 1 })).collect();
    let host = Host::new(&guests);
    let (mut seen, mut cursor, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let answer = host.get(&format!("/api/v1/domains?state=running&limit=7&fields=name{cursor}")).json();
        let names = answer["domains"].as_array().unwrap().iter().map(|it| it["name"].as_str().unwrap().to_owned());
        seen.extend(names);
        pages += 1;
        let Some(next) = answer["next_cursor"].as_str() else { break };
        let mut query = form_urlencoded::Serializer::new(String::new());
        cursor = format!("&{}", query.append_pair("cursor", next).finish());
        if pages == 3 {
            // The one that the cursor stands on, and one before, go; one comes before, and one behind.
            let last = seen.last().unwrap().clone();
            guests.retain(|guest| guest.name != last && guest.name != "g001");
            guests.push(Guest::new(250, "g000a", 1));
            guests.push(Guest::new(251, "g150a", 1));
            host.list(&guests);
            host.sample(&guests, 2);
        }
    }
    let mut expected: Vec<String> = (0..200).filter(|n| n % 3 != 0).map(|n| format!("g{n:03}")).collect();
    expected.push("g150a".to_owned());
    expected.sort();
    assert_eq!(seen, expected);
    assert_eq!(pages, expected.len().div_ceil(7));
    // A page that just holds all has nothing behind it.
    assert!(host.get("/api/v1/domains?name=g00?&limit=10").json()["next_cursor"].is_null());
}

#[test]
fn long_lists_come_whole_in_either_form() {
    let guests: Vec<Guest> = (0..=255).map(|n| Guest::new(n, &format!("{n:03}-{}", "x".repeat(3000)), 1)).collect();
    let host = Host::new(&guests);
    let plain = host.get("/api/v1/domains?ages=false");
    assert_eq!(plain.header("transfer-encoding"), Some("chunked"), "it is made while it is sent");
    assert!(plain.body.len() > 256 * 3000, "{}", plain.body.len());
    assert_eq!(plain.json()["domains"].as_array().unwrap().len(), 256);
    let packed = host.get_with("/api/v1/domains?ages=false", &["Accept-Encoding: gzip"]);
    assert_eq!(packed.header("content-encoding"), Some("gzip"));
    assert!(packed.body.len() < plain.body.len() / 10);
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(&*packed.body).read_to_end(&mut text).unwrap();
    assert!(text == plain.body, "the same, but for the form");
}
