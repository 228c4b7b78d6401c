//! The shapes of JSON-RPC, for the document: no type of ours is written for them.

use schemars::generate::SchemaGenerator;
use schemars::{Schema, json_schema};
use serde_json::{Value, json};

use crate::export::vdsm::METHODS;

/// A figure of VDSM's is a number, text, a list or an object, and one that was not obtained is absent.
fn record(what: &str) -> Schema {
    let description = format!("{what} of oVirt's VDSM; docs/ovirt.md lists the fields");
    json_schema!({"type": "object", "additionalProperties": true, "description": description})
}

fn defined(generator: &mut SchemaGenerator, name: &str, schema: Schema) -> Value {
    generator.definitions_mut().insert(name.to_owned(), schema.into());
    json!({"$ref": format!("#/components/schemas/{name}")})
}

fn referred(value: Value) -> Schema {
    Schema::try_from(value).expect("an object is a schema")
}

pub(super) fn vm_stats(generator: &mut SchemaGenerator) -> Schema {
    referred(defined(generator, "VmStats", record("VmStats")))
}

pub(super) fn vm_list(generator: &mut SchemaGenerator) -> Schema {
    let items = vm_stats(generator);
    json_schema!({"type": "array", "items": items})
}

pub(super) fn host_stats(generator: &mut SchemaGenerator) -> Schema {
    referred(defined(generator, "HostStats", record("HostStats")))
}

/// The one thing of all that can be null.
fn id(description: &str) -> Value {
    json!({"oneOf": [{"type": "string"}, {"type": "number"}, {"type": "null"}], "description": description})
}

/// One request or several. Anything has an answer, even what is neither.
pub(super) fn request(generator: &mut SchemaGenerator) -> Schema {
    let methods: Vec<&str> = METHODS.iter().map(|method| method.name).collect();
    let one = json_schema!({
        "type": "object",
        "required": ["jsonrpc", "method"],
        "properties": {
            "jsonrpc": {"type": "string", "enum": ["2.0"]},
            "method": {"type": "string", "description": "one of those listed; others are answered with the error -32601", "examples": methods},
            "params": {"type": ["object", "array"], "description": "by name or by position"},
            "id": id("comes back in the answer, byte for byte; a request without one is not answered"),
        },
    });
    let one = defined(generator, "RpcRequest", one);
    json_schema!({
        "description": "a request, or a batch of them; anything else is answered with an error",
        "anyOf": [one, {"type": "array", "items": one}, {}],
    })
}

/// One answer, or a list of them to a batch.
pub(super) fn answer(generator: &mut SchemaGenerator) -> Schema {
    let error = json_schema!({
        "type": "object",
        "required": ["code", "message"],
        "properties": {
            "code": {"type": "integer", "description": "VDSM's; it stays"},
            "message": {"type": "string", "description": "for people; it may change"},
        },
        "additionalProperties": false,
    });
    let error = defined(generator, "RpcError", error);
    let one = json_schema!({
        "type": "object",
        "required": ["jsonrpc", "id"],
        "properties": {
            "jsonrpc": {"type": "string", "enum": ["2.0"]},
            "id": id("of the request; null if that was none"),
            "result": {"description": "what the method answers"},
            "error": error,
        },
        "oneOf": [{"required": ["result"]}, {"required": ["error"]}],
        "additionalProperties": false,
    });
    let one = defined(generator, "RpcAnswer", one);
    json_schema!({"oneOf": [one, {"type": "array", "minItems": 1, "items": one}]})
}
