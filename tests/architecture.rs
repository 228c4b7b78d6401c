//! Who may use whom. The table is that of src/lib.rs; any other arrow fails, with its file and line.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Module, and what of ours it may use besides itself.
const ALLOWED: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("clock", &[]),
    ("logging", &[]),
    ("config", &["model"]),
    ("libvirt", &["model", "clock"]),
    ("kernel", &["model", "clock"]),
    ("host", &["model", "clock"]),
    ("store", &["model", "clock"]),
    ("sync", &[]),
    ("sampling", &["model", "clock", "store", "config", "sync"]),
    ("export", &["model", "store"]),
    ("listen", &[]),
    ("http", &["export", "listen", "store"]),
    ("stomp", &["export", "listen", "store"]),
    (
        "daemon",
        &[
            "clock", "config", "export", "host", "http", "kernel", "libvirt", "listen", "logging", "model", "sampling",
            "stomp", "store",
        ],
    ),
    ("client", &[]),
    ("cli", &["client", "config", "daemon", "export", "logging", "model"]),
    ("main", &["cli"]),
    ("lib", &[]),
];

fn sources() -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut open = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).expect("readable").map(|entry| entry.expect("readable").path()) {
            match entry.extension() {
                _ if entry.is_dir() => open.push(entry),
                Some(extension) if extension == "rs" => files.push(entry),
                _ => {}
            }
        }
    }
    files
}

/// The top-level module of a file below src.
fn module_of(file: &Path) -> String {
    let below = file.strip_prefix(Path::new(env!("CARGO_MANIFEST_DIR")).join("src")).expect("below src");
    let first = below.components().next().expect("a name").as_os_str().to_string_lossy().into_owned();
    first.trim_end_matches(".rs").to_owned()
}

/// The modules that a line names as `crate::x`, `virtstatd::x` or in `use crate::{x, y::z}`.
fn arrows(line: &str) -> Vec<String> {
    let code = line.split("//").next().unwrap_or_default();
    let mut found = Vec::new();
    for root in ["crate::", "virtstatd::"] {
        for (at, _) in code.match_indices(root) {
            let path = &code[at + root.len()..];
            let names: Vec<&str> = match path.strip_prefix('{') {
                Some(list) => top_level(list),
                None => vec![path],
            };
            let end = |c: char| !(c.is_alphanumeric() || c == '_');
            let first =
                |name: &&str| name.trim().split(end).next().filter(|first| !first.is_empty()).map(str::to_owned);
            found.extend(names.iter().filter_map(first));
        }
    }
    found
}

/// The items of a `{a, b::{c, d}}` list, without what is nested in them.
fn top_level(list: &str) -> Vec<&str> {
    let (mut depth, mut begin, mut items) = (0_u32, 0, Vec::new());
    for (at, character) in list.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => {
                items.push(&list[begin..at]);
                return items;
            }
            '}' => depth -= 1,
            ',' if depth == 0 => {
                items.push(&list[begin..at]);
                begin = at + 1;
            }
            _ => {}
        }
    }
    items.push(&list[begin..]);
    items
}

/// Statements over several lines, as one.
fn joined_uses(text: &str) -> Vec<(usize, String)> {
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut open = false;
    for (number, line) in text.lines().enumerate() {
        match lines.last_mut() {
            Some((_, last)) if open => last.push_str(line.trim()),
            _ => lines.push((number + 1, line.to_owned())),
        }
        let last = &lines.last().expect("just pushed").1;
        let starts = last.trim_start().trim_start_matches("pub ").trim_start_matches("pub(crate) ").starts_with("use ");
        open = starts && !last.contains(';');
    }
    lines
}

#[test]
fn only_the_arrows_of_the_table() {
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    let mut wrong = Vec::new();
    let mut checked = 0;
    for file in sources() {
        let module = module_of(&file);
        let may_use = *allowed.get(module.as_str()).unwrap_or_else(|| panic!("{module} is not in the table"));
        let text = fs::read_to_string(&file).expect("readable");
        for (number, line) in joined_uses(&text) {
            for target in arrows(&line) {
                checked += 1;
                if target != module && !may_use.contains(&target.as_str()) && allowed.contains_key(target.as_str()) {
                    wrong.push(format!("{}:{number}: {module} may not use {target}", file.display()));
                }
            }
        }
    }
    assert!(checked > 50, "only {checked} arrows found: the search itself is broken");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_map_in_lib_rs_is_this_table() {
    let map = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).expect("readable");
    let rows = map.lines().filter_map(|line| line.strip_prefix("//! | `"));
    let mapped: BTreeMap<String, Vec<&str>> = rows
        .map(|row| {
            let cells: Vec<&str> = row.split(" | ").collect();
            let uses = cells[2].split('`').skip(1).step_by(2).collect();
            (cells[0].trim_end_matches('`').to_owned(), uses)
        })
        .collect();
    let table: BTreeMap<String, Vec<&str>> = ALLOWED
        .iter()
        .filter(|(module, _)| !["main", "lib"].contains(module))
        .map(|(module, uses)| ((*module).to_owned(), uses.to_vec()))
        .collect();
    assert_eq!(mapped, table);
}

#[test]
fn unsafe_code_stays_behind_its_fence() {
    for file in sources() {
        let text = fs::read_to_string(&file).expect("readable");
        let fence = file.ends_with("libvirt/ffi.rs");
        assert_eq!(text.contains("allow(unsafe_code)"), fence, "{}", file.display());
    }
}

#[test]
fn the_search_sees_what_it_should() {
    let uses = joined_uses(
        "use crate::{\n    model::{Group, Stamp},\n    store,\n};\nlet x = crate::http::Y; // crate::cli\n",
    );
    let found: Vec<_> = uses.iter().flat_map(|(_, line)| arrows(line)).collect();
    assert_eq!(found, ["model", "store", "http"]);
}
