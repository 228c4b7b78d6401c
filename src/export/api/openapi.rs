//! `/api/v1/openapi.json`: what is served, with the shapes of the very types that are written.

use schemars::generate::{SchemaGenerator, SchemaSettings};
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use super::changes::Change;
use super::list::DomainList;
use super::query::{MOST, PATTERN, PATTERNS, STATES};
use super::{DomainJson, ErrorBody, Fields, Found, HostJson, Status, rpc_schema};

/// One path that is served.
pub struct Endpoint {
    /// With the name of what varies in braces.
    pub path: &'static str,
    /// What for, in a few words.
    pub purpose: &'static str,
    parameters: fn() -> Vec<Value>,
    answer: Answer,
    /// Statuses beside 200, and when.
    errors: &'static [(u16, &'static str)],
}

enum Answer {
    Text(&'static str),
    Json(fn(&mut SchemaGenerator) -> Schema),
    /// JSON of the moment, which has no tag.
    Fresh(fn(&mut SchemaGenerator) -> Schema),
    /// The answer to what is posted, whose shape this is, and there may be none.
    Posted(fn(&mut SchemaGenerator) -> Schema, fn(&mut SchemaGenerator) -> Schema),
    /// A JSON object that is described elsewhere.
    Document,
}

/// `{"status":…}` of `/-/healthy` and `/-/ready`.
#[derive(Debug, serde::Serialize, JsonSchema)]
pub struct HealthyBody {
    /// `healthy` or `ready`.
    pub status: &'static str,
}

const BAD_QUERY: (u16, &str) = (400, "the query string is not understood; the message says what is possible");
const NOT_COMPLETE: (u16, &str) = (503, "not everything was sampled yet; the message says what is missing");
const TOO_LONG: (u16, &str) = (414, "the query string is too long");

/// Every path, in the order in which people are told.
pub const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        path: "/metrics",
        purpose: "Prometheus metrics",
        parameters: Vec::new,
        answer: Answer::Text("text/plain"),
        errors: &[(503, "not rendered yet: the host is too busy")],
    },
    Endpoint {
        path: "/api/v1/domains",
        purpose: "every domain; ?state=, ?name=, ?metadata=, ?fields=, ?limit=",
        parameters: list_parameters,
        answer: Answer::Json(SchemaGenerator::subschema_for::<DomainList<'_>>),
        errors: &[BAD_QUERY, TOO_LONG],
    },
    Endpoint {
        path: "/api/v1/domains/{uuid-or-name}",
        purpose: "one domain; ?fields=",
        parameters: domain_parameters,
        answer: Answer::Json(SchemaGenerator::subschema_for::<DomainJson<'_>>),
        errors: &[(400, "the path or the query string is not understood"), (404, "no such domain"), TOO_LONG],
    },
    Endpoint {
        path: "/api/v1/lookup",
        purpose: "which domain has this? ?mac=, ?ip=, ?nic=, ?disk=, ?pid=",
        parameters: lookup_parameters,
        answer: Answer::Json(SchemaGenerator::subschema_for::<Found<'_>>),
        errors: &[BAD_QUERY, TOO_LONG, (404, "no domain has it"), (503, "the list of domains was not read yet")],
    },
    Endpoint {
        path: "/api/v1/stream",
        purpose: "what changes, as server-sent events; ?state=, ?name=, ?metadata=, ?fields=",
        parameters: stream_parameters,
        answer: Answer::Text("text/event-stream"),
        errors: &[BAD_QUERY, TOO_LONG, (503, "too many streams are open")],
    },
    Endpoint {
        path: "/api/v1/host",
        purpose: "the host itself: CPUs, memory, network, free space",
        parameters: Vec::new,
        answer: Answer::Json(SchemaGenerator::subschema_for::<HostJson<'_>>),
        errors: &[(503, "the host was not looked at yet")],
    },
    Endpoint {
        path: "/api/v1/status",
        purpose: "the service itself: connection, groups, ages",
        parameters: Vec::new,
        answer: Answer::Json(SchemaGenerator::subschema_for::<Status<'_>>),
        errors: &[],
    },
    Endpoint {
        path: "/api/v1/vdsm/host",
        purpose: "the host as oVirt's VDSM tells it",
        parameters: Vec::new,
        answer: Answer::Fresh(rpc_schema::host_stats),
        errors: &[NOT_COMPLETE],
    },
    Endpoint {
        path: "/api/v1/vdsm/vms",
        purpose: "each domain that was seen running since the service began, as oVirt's VDSM tells it",
        parameters: Vec::new,
        answer: Answer::Fresh(rpc_schema::vm_list),
        errors: &[NOT_COMPLETE],
    },
    Endpoint {
        path: "/api/v1/vdsm/vms/{uuid}",
        purpose: "one domain as oVirt's VDSM tells it",
        parameters: vm_parameters,
        answer: Answer::Fresh(rpc_schema::vm_stats),
        errors: &[(400, "the path is not understood"), (404, "no such domain"), NOT_COMPLETE],
    },
    Endpoint {
        path: "/jsonrpc",
        purpose: "JSON-RPC 2.0 by POST, as VDSM speaks it",
        parameters: Vec::new,
        answer: Answer::Posted(rpc_schema::request, rpc_schema::answer),
        errors: &[
            (400, "the body ended early, or is badly chunked"),
            (408, "the body takes too long"),
            (413, "the body is too long"),
            (503, "too many long requests are under way"),
        ],
    },
    Endpoint {
        path: "/api/v1/openapi.json",
        purpose: "all of this, for programs",
        parameters: Vec::new,
        answer: Answer::Document,
        errors: &[],
    },
    Endpoint {
        path: "/-/healthy",
        purpose: "200 while the service runs, 503 if a part of it stands still",
        parameters: Vec::new,
        answer: Answer::Json(SchemaGenerator::subschema_for::<HealthyBody>),
        errors: &[(503, "a part of the service stands still")],
    },
    Endpoint {
        path: "/-/ready",
        purpose: "200 once every running domain was sampled, before that 503 and the reason",
        parameters: Vec::new,
        answer: Answer::Json(SchemaGenerator::subschema_for::<HealthyBody>),
        errors: &[(503, "not yet; the message says what is missing")],
    },
    Endpoint { path: "/", purpose: "this list", parameters: Vec::new, answer: Answer::Text("text/plain"), errors: &[] },
];

/// The document.
#[must_use]
pub fn openapi() -> Value {
    let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let settings = settings.with_transform(RecursiveTransform(without_null));
    let mut generator = settings.into_generator();
    let error = generator.subschema_for::<ErrorBody<'_>>();
    // In the stream, which has no shape of its own here.
    generator.subschema_for::<Change<'_>>();
    let paths: Map<String, Value> =
        ENDPOINTS.iter().map(|it| (it.path.to_owned(), path(it, &mut generator, &error))).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "virtstatd",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The VMs of this host, from the newest snapshot: no request waits for libvirt. A field whose value was not obtained is absent. Names are only added to.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": generator.take_definitions(true)},
    })
}

fn path(endpoint: &Endpoint, generator: &mut SchemaGenerator, error: &Schema) -> Value {
    let content = |kind: &str, schema: Value| json!({kind: {"schema": schema}});
    let good = match endpoint.answer {
        Answer::Text(kind) => content(kind, json!({"type": "string"})),
        Answer::Json(schema) | Answer::Fresh(schema) | Answer::Posted(_, schema) => {
            content("application/json", json!(schema(generator)))
        }
        Answer::Document => content("application/json", json!({"type": "object"})),
    };
    let mut answers = Map::new();
    answers.insert("200".to_owned(), json!({"description": endpoint.purpose, "content": good}));
    // The others are of the moment, and have no tag.
    if endpoint.path.starts_with("/api/") && matches!(endpoint.answer, Answer::Json(_) | Answer::Document) {
        answers.insert("304".to_owned(), json!({"description": "still the same as If-None-Match says"}));
    }
    for (status, when) in endpoint.errors {
        let answer = json!({"description": when, "content": content("application/json", json!(error))});
        answers.insert(status.to_string(), answer);
    }
    let mut described = json!({
        "operationId": operation(endpoint.path),
        "summary": endpoint.purpose,
        "parameters": (endpoint.parameters)(),
    });
    let mut method = "get";
    if let Answer::Posted(body, _) = endpoint.answer {
        method = "post";
        let body = content("application/json", json!(body(generator)));
        described["requestBody"] = json!({"content": body});
        answers.insert("204".to_owned(), json!({"description": "nothing is to be answered"}));
    }
    described["responses"] = answers.into();
    json!({method: described})
}

/// What is not known is absent, so nothing is ever null.
fn without_null(schema: &mut Schema) {
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    let Some(Value::Array(choices)) = schema.get_mut("anyOf") else { return };
    choices.retain(|choice| choice["type"] != "null");
    if let [Value::Object(only)] = choices.as_slice() {
        let only = only.clone();
        schema.remove("anyOf");
        only.into_iter().for_each(|(key, value)| drop(schema.insert(key, value)));
    }
}

/// A name of letters, from a path.
fn operation(path: &str) -> String {
    let words =
        path.trim_start_matches("/api/v1").split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let name = words.collect::<Vec<_>>().join("_");
    if name.is_empty() { "index".to_owned() } else { name }
}

fn parameter(name: &str, description: &str, schema: &Value) -> Value {
    json!({"name": name, "in": "query", "description": description, "schema": schema})
}

/// Several values with commas between them.
fn comma_list(name: &str, description: &str, items: &[&str]) -> Value {
    let schema = json!({"type": "array", "minItems": 1, "items": {"type": "string", "enum": items}});
    json!({"name": name, "in": "query", "description": description, "style": "form", "explode": false, "schema": schema})
}

fn filters() -> Vec<Value> {
    let patterns = |item: Value| json!({"type": "array", "maxItems": PATTERNS, "items": item});
    vec![
        comma_list("state", "domains in one of these states", &STATES),
        parameter(
            "name",
            "domains whose name is like one of these patterns, in which * is any text and ? any character",
            &patterns(json!({"type": "string", "maxLength": PATTERN})),
        ),
        parameter(
            "metadata",
            "domains with this metadata: a key as in description.metadata, or KEY=VALUE, where VALUE may be a pattern; if given several times, all of it",
            &patterns(json!({"type": "string", "minLength": 1, "maxLength": PATTERN, "pattern": "^[^=]"})),
        ),
        comma_list("fields", "write these fields of each domain and no others", Fields::names()),
    ]
}

fn ages() -> Value {
    let description = "false leaves out ages and what else depends on the moment of asking, so that the ETag stays until there is something new";
    parameter("ages", description, &json!({"type": "boolean", "default": true}))
}

fn list_parameters() -> Vec<Value> {
    let cursor =
        json!({"type": "string", "pattern": "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\\."});
    let mut parameters = filters();
    parameters.extend([
        ages(),
        parameter("limit", "so many domains at most", &json!({"type": "integer", "minimum": 1, "maximum": MOST})),
        parameter("cursor", "go on where an answer ended: its next_cursor", &cursor),
    ]);
    parameters
}

fn stream_parameters() -> Vec<Value> {
    filters()
}

fn domain_parameters() -> Vec<Value> {
    let id = json!({
        "name": "uuid-or-name", "in": "path", "required": true,
        "description": "UUID, with or without hyphens, or name", "schema": {"type": "string", "minLength": 1},
    });
    vec![id, comma_list("fields", "write these fields and no others", Fields::names()), ages()]
}

fn vm_parameters() -> Vec<Value> {
    vec![json!({
        "name": "uuid", "in": "path", "required": true,
        "description": "UUID, with or without hyphens", "schema": {"type": "string", "format": "uuid"},
    })]
}

/// One of several, which is an object with one property.
fn lookup_parameters() -> Vec<Value> {
    let mac = json!({"type": "string", "pattern": "^([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}$", "description": "the address of a NIC; 5254.0012.3456 and 525400123456 are understood too"});
    let schema = json!({
        "type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": false,
        "properties": {
            "mac": mac,
            "ip": {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}], "description": "an address that one of libvirt's networks has leased"},
            "nic": {"type": "string", "minLength": 1, "description": "the name of a NIC on the host"},
            "disk": {"type": "string", "minLength": 1, "description": "the source of a disk, or its serial number"},
            "pid": {"type": "integer", "minimum": 0, "maximum": u32::MAX, "description": "the QEMU process"},
        },
    });
    vec![json!({
        "name": "by", "in": "query", "required": true, "style": "form", "explode": true,
        "description": "exactly one of these", "schema": schema,
    })]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reference_has_its_definition() {
        let document = openapi();
        let text = document.to_string();
        let defined = document["components"]["schemas"].as_object().expect("schemas");
        let mut count = 0;
        for part in text.split("\"$ref\":\"").skip(1) {
            let path = part.split('"').next().expect("a path");
            let name = path.strip_prefix("#/components/schemas/").expect("a schema");
            assert!(defined.contains_key(name), "{path}");
            count += 1;
        }
        assert!(count > 20, "{count}");
        let domain = &defined["Domain"]["properties"];
        assert!(
            Fields::names().iter().filter(|name| !name.contains('.')).all(|name| domain.get(name).is_some()),
            "{domain}"
        );
    }
}
