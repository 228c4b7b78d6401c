//! Reads Prometheus text, as strictly as Prometheus does where it matters here.

use std::collections::HashMap;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// One series.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) labels: HashMap<String, String>,
    pub(crate) value: f64,
}

/// Every series of a scrape. A line that is none, or a series twice, fails the test.
pub(crate) fn parse(text: &str) -> Vec<Series> {
    let mut seen = HashMap::new();
    let mut all = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value in {line:?}"));
        assert!(seen.insert(series.to_owned(), ()).is_none(), "twice: {series}");
        let (name, block) = series.split_once('{').unwrap_or((series, "}"));
        let labels = parse_labels(block.strip_suffix('}').unwrap_or_else(|| panic!("no brace in {line:?}")));
        let value = value.parse().unwrap_or_else(|_| panic!("no number in {line:?}"));
        all.push(Series { name: name.to_owned(), labels, value });
    }
    all
}

fn parse_labels(block: &str) -> HashMap<String, String> {
    let mut labels = HashMap::new();
    let mut rest = block;
    while !rest.is_empty() {
        let (name, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("no label in {rest:?}"));
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next().unwrap_or_else(|| panic!("no end of {after:?}")) {
                (at, '"') => break at,
                (_, '\\') => match characters.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, escaped @ ('"' | '\\'))) => value.push(escaped),
                    other => panic!("escape {other:?} in {block:?}"),
                },
                (_, other) => value.push(other),
            }
        };
        assert!(labels.insert(name.to_owned(), value).is_none(), "label {name} twice in {block:?}");
        rest = after[end + 1..].trim_start_matches(',');
    }
    labels
}

/// The series of that name and with these labels among its own.
pub(crate) fn find<'a>(all: &'a [Series], name: &str, labels: &[(&str, &str)]) -> Vec<&'a Series> {
    all.iter()
        .filter(|series| series.name == name)
        .filter(|series| labels.iter().all(|(label, value)| series.labels.get(*label).is_some_and(|v| v == value)))
        .collect()
}

/// The value of the one series with that name and these labels.
pub(crate) fn value(all: &[Series], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let found = find(all, name, labels);
    assert!(found.len() <= 1, "{name}{labels:?} is not one series: {found:?}");
    found.first().map(|series| series.value)
}

/// `promtool check metrics` must have nothing to say.
pub(crate) fn assert_promtool_is_silent(text: &str) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is installed (Debian's package prometheus has it; `make test` installs it)");
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "promtool: {}", String::from_utf8_lossy(&said));
}
