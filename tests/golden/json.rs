//! Our own JSON: as released, and as the OpenAPI document says.

use std::sync::Arc;

use serde_json::{Map, Value};
use virtstatd::export::api::{self, ListBody, Query};

use crate::guests::host;
use crate::machine::looked_at;
use crate::support::golden::check;

#[test]
fn json_is_as_released() {
    let (_, store) = host();
    let snapshot = store.snapshot();
    let domains = serde_json::to_string_pretty(&api::domains(&snapshot, store.now())).unwrap();
    check("tests/golden/domains.json", &(domains + "\n"));
    let status = serde_json::to_string_pretty(&api::status(&snapshot, store.now())).unwrap();
    check("tests/golden/status.json", &(status.replace(env!("CARGO_PKG_VERSION"), "VERSION") + "\n"));
}

#[test]
fn a_list_in_pieces_is_the_list() {
    let (_, store) = host();
    let snapshot = store.snapshot();
    let mut list = ListBody::new(Arc::clone(&snapshot), Query::default(), store.now());
    let pieces: Vec<u8> = std::iter::from_fn(|| list.next_piece()).flatten().collect();
    let whole = serde_json::to_string(&api::domains(&snapshot, store.now())).unwrap() + "\n";
    assert_eq!(String::from_utf8(pieces).unwrap(), whole);
}

/// Does a value fit what the document says of it, with no field that the document does not know?
fn fits(document: &Value, schema: &Value, value: &Value, at: &str) {
    let (properties, items) = shape(document, schema);
    match value {
        Value::Object(fields) if schema["additionalProperties"].is_null() => {
            for (name, value) in fields {
                let known = properties.get(name).unwrap_or_else(|| panic!("{at}.{name} is not in openapi.json"));
                fits(document, known, value, &format!("{at}.{name}"));
            }
        }
        Value::Array(values) => {
            let items = items.unwrap_or_else(|| panic!("{at} is no list in openapi.json"));
            values.iter().for_each(|value| fits(document, &items, value, &format!("{at}[]")));
        }
        _ => {}
    }
}

/// The properties, or the items, of a schema and all that it refers to.
fn shape(document: &Value, schema: &Value) -> (Map<String, Value>, Option<Value>) {
    let mut properties = schema["properties"].as_object().cloned().unwrap_or_default();
    let mut items = schema.get("items").cloned();
    let parts = ["allOf", "anyOf", "oneOf"].iter().filter_map(|key| schema[key].as_array()).flatten();
    let referred = schema["$ref"].as_str().and_then(|path| document.pointer(path.trim_start_matches('#')));
    for part in parts.chain(referred) {
        let (more, its_items) = shape(document, part);
        properties.extend(more);
        items = items.or(its_items);
    }
    (properties, items)
}

#[test]
fn every_field_that_is_written_is_in_the_openapi_document() {
    let (clock, store) = host();
    let (snapshot, document) = (store.snapshot(), api::openapi());
    let of = |path: &str| {
        document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"].clone()
    };
    let list = serde_json::to_value(api::domains(&snapshot, store.now())).unwrap();
    fits(&document, &of("/api/v1/domains"), &list, "list");
    fits(&document, &of("/api/v1/domains/{uuid-or-name}"), &list["domains"][0], "domain");
    let status = serde_json::to_value(api::status(&snapshot, store.now())).unwrap();
    fits(&document, &of("/api/v1/status"), &status, "status");
    looked_at(&clock, &store);
    let machine = serde_json::to_value(api::host(&store.host(), store.now()).unwrap()).unwrap();
    fits(&document, &of("/api/v1/host"), &machine, "host");
}

#[test]
fn a_hint_is_in_the_status_until_it_is_taken_back() {
    let (_, store) = host();
    let shown = || serde_json::to_value(api::status(&store.snapshot(), store.now())).unwrap()["hint"].clone();
    assert!(shown().is_null());
    assert!(store.set_hint(Some("set it so")) && !store.set_hint(Some("set it so")), "news once");
    assert_eq!(shown(), "set it so");
    assert!(store.set_hint(None));
    assert!(shown().is_null());
}
