//! Released names hold: what a program or a dashboard relies on is only added to.
//!
//! `tests/released/` lists what was released: paths, parameters and fields of `/api/v1/openapi.json`, metrics, and configuration
//! keys, a line each. A line that is no longer true fails the test; what is new is not in the lists until
//! `VIRTSTATD_RELEASE=1 cargo test --test released` adds it, which is a step of making a release.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use virtstatd::config::Settings;
use virtstatd::export::api;

/// Compares a list with what is true now; lines that are new may be added.
fn hold(name: &str, now: &BTreeSet<String>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/released").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_default();
    let released: BTreeSet<String> = text.lines().map(str::to_owned).collect();
    let lost: Vec<&String> = released.difference(now).collect();
    assert!(lost.is_empty(), "{name}: released, and not so any more:\n{lost:#?}");
    if std::env::var_os("VIRTSTATD_RELEASE").is_some() {
        let all: Vec<&str> = now.iter().map(String::as_str).collect();
        std::fs::write(&path, all.join("\n") + "\n").unwrap();
    }
    assert!(!released.is_empty() || std::env::var_os("VIRTSTATD_RELEASE").is_some(), "{name} is missing");
}

/// Lines about a value of this schema: its type, and those of what is in it.
fn describe(document: &Value, schema: &Value, at: &str, lines: &mut BTreeSet<String>) {
    if let Some(path) = schema["$ref"].as_str() {
        let referred = document.pointer(path.trim_start_matches('#')).expect("defined");
        describe(document, referred, at, lines);
    }
    if let Some(kind) = schema["type"].as_str() {
        lines.insert(format!("{at}: {kind}"));
    }
    for key in ["allOf", "anyOf", "oneOf"] {
        let parts = schema[key].as_array().into_iter().flatten();
        parts.for_each(|part| describe(document, part, at, lines));
    }
    if schema["items"].is_object() {
        describe(document, &schema["items"], &format!("{at}[]"), lines);
    }
    for value in schema["enum"].as_array().into_iter().flatten() {
        lines.insert(format!("{at} = {value}"));
    }
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let at = format!("{at}.{name}");
        if required.contains(&name.as_str()) {
            lines.insert(format!("{at}: always there"));
        }
        describe(document, property, &at, lines);
    }
}

/// Everything that a client of the API can rely on.
fn lines_of(document: &Value) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let operation_name = format!("{} {path}", method.to_uppercase());
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let at = format!(
                    "{operation_name} {} {}",
                    parameter["in"].as_str().unwrap(),
                    parameter["name"].as_str().unwrap()
                );
                describe(document, &parameter["schema"], &at, &mut lines);
            }
            for (status, answer) in operation["responses"].as_object().expect("responses") {
                lines.insert(format!("{operation_name} {status}"));
                for (kind, content) in answer["content"].as_object().into_iter().flatten() {
                    describe(document, &content["schema"], &format!("{operation_name} {status} {kind}"), &mut lines);
                }
            }
        }
    }
    describe(document, &document["components"]["schemas"]["Change"], "event change", &mut lines);
    lines
}

#[test]
fn the_api_is_only_added_to() {
    hold("openapi.txt", &lines_of(&api::openapi()));
}

#[test]
fn a_lost_field_and_another_type_are_noticed() {
    let document = api::openapi();
    let lines = lines_of(&document);
    for (from, to) in [
        ("\"age_seconds\":{\"format\":\"double\",\"type\":\"number\"}", "\"age_seconds\":{\"type\":\"string\"}"),
        ("\"next_cursor\":", "\"following\":"),
        ("\"pmsuspended\"", "\"asleep\""),
        ("/api/v1/lookup", "/api/v1/find"),
        ("\"required\":[\"sequence\",\"domains\"]", "\"required\":[\"domains\"]"),
    ] {
        let text = document.to_string();
        assert!(text.contains(from), "{from} is in the document");
        let other: Value = serde_json::from_str(&text.replace(from, to)).unwrap();
        assert!(!lines.is_subset(&lines_of(&other)), "{from} became {to}, and nobody noticed");
    }
}

/// Name, type and labels of each metric, from the reference, which is generated from the code (`tests/golden/`).
fn metrics() -> BTreeSet<String> {
    let reference = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md")).unwrap();
    let mut lines = BTreeSet::new();
    for row in reference.lines().filter_map(|line| line.strip_prefix("| `")) {
        let cells: Vec<&str> = row.split(" | ").collect();
        let name = cells[0].trim_end_matches('`');
        lines.insert(format!("{name} {}", cells[1]));
        // Name, type, unit, labels, source, what it is.
        if let (6, Some(labels)) = (cells.len(), cells.get(3)) {
            lines.extend(labels.split(", ").filter(|label| *label != "-").map(|label| format!("{name} {{{label}}}")));
        }
    }
    lines
}

#[test]
fn metrics_are_only_added_to() {
    let lines = metrics();
    assert!(lines.len() > 80 && lines.contains("libvirt_up gauge"), "{lines:?}");
    assert!(lines.contains("libvirt_domain_vcpu_time_seconds_total {vcpu}"), "{lines:?}");
    hold("metrics.txt", &lines);
}

/// The list itself says a good value of each key and type.
#[test]
fn configuration_keys_are_only_added_to() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/released/keys.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let lines = || text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    assert!(lines().count() > 15);
    for line in lines() {
        if let Err(error) = Settings::parse(&path, line) {
            panic!("{line}: released, and refused now: {error}");
        }
    }
    let shipped = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("config/virtstatd.toml")).unwrap();
    let shipped: toml::Table = shipped.parse().unwrap();
    let mut keys = BTreeSet::new();
    let mut open: Vec<(String, &toml::Value)> = shipped.iter().map(|(key, value)| (key.clone(), value)).collect();
    while let Some((key, value)) = open.pop() {
        match value {
            toml::Value::Table(table) => {
                open.extend(table.iter().map(|(inner, value)| (format!("{key}.{inner}"), value)));
            }
            _ => drop(keys.insert(key)),
        }
    }
    for key in keys {
        assert!(
            lines().any(|line| line.starts_with(&format!("{key} = "))),
            "{key} is in the shipped configuration, and not in {}",
            path.display()
        );
    }
}
