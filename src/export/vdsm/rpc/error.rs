//! Why there is an error instead of a result: VDSM's codes, which programs go by, and its words.

use std::fmt::Write as _;

/// What a client sent is echoed up to so many characters.
const ECHOED: usize = 100;

/// What is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    /// No domain has this UUID.
    NoSuchVm(Box<str>),
    /// A required parameter is there, and is empty or null.
    Empty(&'static str),
    /// A parameter is not what it should be, which is said.
    Invalid(&'static str, &'static str),
    /// What is asked for is not known yet.
    Recovering,
    /// A batch is too long.
    TooMany,
    /// No JSON at all.
    NoJson,
    /// JSON, but no request; why not.
    NoRequest(&'static str),
    NoSuchMethod(Box<str>),
    /// More parameters than there are, others, or one of them twice.
    Parameters(Box<str>),
    /// A required parameter is not there. It has VDSM's code for whatever Python raises.
    Missing(&'static str),
}

impl Problem {
    pub(super) fn code(&self) -> i32 {
        match self {
            Self::NoSuchVm(_) => 1,
            Self::Empty(_) => 11,
            Self::Invalid(..) => 91,
            Self::Recovering => 99,
            Self::TooMany => 1100,
            Self::NoRequest(_) => -32600,
            Self::NoSuchMethod(_) => -32601,
            Self::Parameters(_) => -32602,
            Self::Missing(_) => -32603,
            Self::NoJson => -32700,
        }
    }

    /// The fixed text of the code, and details if there are any, as Python writes a map.
    fn message(&self) -> String {
        match self {
            Self::NoSuchVm(uuid) => with("Virtual machine does not exist", &[("vmId", uuid)]),
            Self::Empty(name) => with("Missing required parameter", &[("parameter", name)]),
            Self::Invalid(name, reason) => with("Invalid parameter", &[("parameter", name), ("reason", reason)]),
            Self::Recovering => "Recovering from crash or Initializing".to_owned(),
            Self::TooMany => {
                let reason = format!("a batch may have {} elements; send it in parts", super::MOST);
                with("Not enough resources", &[("reason", &reason)])
            }
            Self::NoJson => {
                "Invalid JSON was received by the server. An error occurred on the server while parsing the JSON text."
                    .to_owned()
            }
            Self::NoRequest(reason) => with("Invalid request", &[("reason", reason)]),
            Self::NoSuchMethod(name) => with("The method does not exist or is not available", &[("method", name)]),
            Self::Parameters(reason) => with("Invalid method parameter(s)", &[("reason", reason)]),
            Self::Missing(name) => {
                let reason = format!("the required parameter {name} is missing");
                with("Internal JSON-RPC error", &[("reason", &reason)])
            }
        }
    }

    /// Writes the error object.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(format!("{{\"code\":{},\"message\":", self.code()).as_bytes());
        let message = serde_json::to_string(&self.message()).expect("text is always JSON");
        out.extend_from_slice(message.as_bytes());
        out.push(b'}');
    }
}

/// Each code with the message of an example, and when it is said, for whoever describes them.
pub(in super::super) fn described() -> Vec<(i32, String, &'static str)> {
    [
        (Problem::NoSuchVm("6695eb01-f6a4-8304-79aa-97f2502e193f".into()), "no domain has this UUID"),
        (Problem::Empty("vmID"), "a required parameter is empty or null"),
        (Problem::Invalid("vmID", "it is no UUID"), "a parameter is not what it should be"),
        (Problem::Recovering, "not every running domain was asked yet, or the host was not looked at lately"),
        (Problem::TooMany, "a batch is too long"),
        (Problem::NoJson, "the text is no JSON; `id` is null"),
        (Problem::NoRequest("method is no string"), "it is JSON, but no request; `id` is null"),
        (Problem::NoSuchMethod("VM.shutdown".into()), "there is no such method here"),
        (
            Problem::Parameters("Host.ping: x is none of its parameters".into()),
            "more parameters than there are, others, or one of them twice",
        ),
        (Problem::Missing("vmID"), "a required parameter is not there"),
    ]
    .map(|(problem, when)| (problem.code(), problem.message(), when))
    .into()
}

/// What a client sent, short enough to be echoed.
pub(super) fn short(text: &str) -> Box<str> {
    match text.char_indices().nth(ECHOED) {
        None => text.into(),
        Some((end, _)) => format!("{}...", &text[..end]).into(),
    }
}

fn with(text: &str, details: &[(&str, &str)]) -> String {
    let mut message = format!("{text}: {{");
    for (number, (key, value)) in details.iter().enumerate() {
        message.push_str(if number > 0 { ", " } else { "" });
        quote(key, &mut message);
        message.push_str(": ");
        quote(value, &mut message);
    }
    message.push('}');
    message
}

/// As Python quotes text.
fn quote(text: &str, out: &mut String) {
    let mark = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(mark);
    for character in text.chars() {
        match character {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            it if it == mark => out.extend(['\\', it]),
            it if it.is_control() => write!(out, "\\x{:02x}", u32::from(it)).expect("a String takes all"),
            it => out.push(it),
        }
    }
    out.push(mark);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_quoted_as_python_does() {
        let shown = |name: &str| Problem::NoSuchMethod(short(name)).message();
        let start = "The method does not exist or is not available: {'method': ";
        for (name, quoted) in [
            ("X.y", "'X.y'"),
            ("it's", "\"it's\""),
            ("it's \"so\"", "'it\\'s \"so\"'"),
            ("a\\b\n\u{7f}", "'a\\\\b\\n\\x7f'"),
            ("ü", "'ü'"),
        ] {
            assert_eq!(shown(name), format!("{start}{quoted}}}"));
        }
    }

    #[test]
    fn what_is_echoed_is_short() {
        assert_eq!(&*short(&"ü".repeat(100)), "ü".repeat(100));
        assert_eq!(&*short(&"ü".repeat(101)), "ü".repeat(100) + "...");
    }

    #[test]
    fn what_is_written_is_an_object_with_code_and_message() {
        let mut out = Vec::new();
        Problem::NoSuchMethod("\"\\\u{1}".into()).write(&mut out);
        let value: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
        assert!(value["code"] == -32601 && value["message"].is_string(), "{value}");
    }
}
