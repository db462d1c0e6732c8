//! The house is held to its plan: which room may import which, which rooms are pure, and the habits
//! that no compiler checks.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Room → rooms that it may import (itself always). The table of `docs/architecture.md`.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("config", &["domain"]),
    ("plan", &["domain", "config"]),
    ("fsm", &["domain", "plan"]),
    ("render", &["domain", "config"]),
    ("sys", &["domain", "config"]),
    ("pg", &["domain", "config", "sys"]),
    ("repmgr", &["domain", "config", "sys", "pg"]),
    ("barman", &["domain", "config", "sys", "pg"]),
    ("s3", &["domain", "config", "sys", "pg", "barman"]),
    (
        "doctor",
        &[
            "domain", "config", "render", "sys", "pg", "repmgr", "barman", "s3",
        ],
    ),
    ("http", &["domain", "config"]),
    (
        "runtime",
        &[
            "domain", "config", "plan", "fsm", "render", "sys", "pg", "repmgr", "barman", "s3",
            "doctor", "http",
        ],
    ),
    (
        "cli",
        &[
            "domain", "config", "plan", "fsm", "render", "sys", "pg", "repmgr", "barman", "s3",
            "doctor", "http", "runtime",
        ],
    ),
];

/// Rooms without I/O, and the words that would betray it. `config/edge.rs` is the one named
/// exception: it reads the environment and the secret files for the rest of its room.
const PURE: &[&str] = &["domain", "config", "plan", "fsm", "render"];
const IMPURE_WORDS: &[&str] = &[
    "tokio::",
    "std::env",
    "std::fs",
    "Instant::now",
    "SystemTime::now",
    "std::net::Tcp",
];

const LONGEST_FILE: usize = 450;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut todo = vec![root()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    found.sort();
    assert!(
        found.len() > 30,
        "the walk found too little: {}",
        found.len()
    );
    found
}

/// The code without comments and without test modules (tests may reach further).
fn product(path: &Path, text: &str) -> String {
    let name = path.file_name().unwrap().to_string_lossy();
    if name.contains("tests") || name == "explore.rs" || path.to_string_lossy().contains("/tests/")
    {
        return String::new();
    }
    let code: Vec<&str> = text
        .lines()
        .take_while(|l| l.trim() != "#[cfg(test)]")
        .collect();
    let not_comment = |l: &&&str| !l.trim_start().starts_with("//");
    code.iter()
        .filter(not_comment)
        .copied()
        .collect::<Vec<_>>()
        .join("\n")
}

fn room(path: &Path) -> Option<String> {
    let mut parts = path.components();
    let first = parts.next()?.as_os_str().to_string_lossy().into_owned();
    parts.next().map(|_| first)
}

fn imports(code: &str) -> BTreeSet<String> {
    code.split("crate::")
        .skip(1)
        .flat_map(|rest| {
            // `crate::{a::…, b::…}` or `crate::a::…`
            let group = rest
                .strip_prefix('{')
                .map(|g| g.split('}').next().unwrap_or(g));
            group.map_or_else(
                || vec![rest],
                |g| {
                    g.split(',')
                        .map(str::trim)
                        .filter(|s| !s.is_empty())
                        .collect()
                },
            )
        })
        .map(|s| {
            s.chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect()
        })
        .collect()
}

#[test]
fn rooms_import_only_what_they_may() {
    let table: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    for (path, text) in sources() {
        let Some(room) = room(&path) else { continue };
        let may = table
            .get(room.as_str())
            .unwrap_or_else(|| panic!("{room} has no row"));
        seen.insert(room.clone());
        for used in imports(&product(&path, &text)) {
            if table.contains_key(used.as_str()) && used != room && !may.contains(&used.as_str()) {
                wrong.push(format!("{} imports {used}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (room, _) in MAY_IMPORT {
        assert!(
            seen.contains(*room),
            "{room} is in the table and not in the house"
        );
    }
}

#[test]
fn pure_rooms_stay_pure() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let pure = room(&path).is_some_and(|r| PURE.contains(&r.as_str()));
        if !pure || path.ends_with("config/edge.rs") {
            continue;
        }
        let code = product(&path, &text);
        for word in IMPURE_WORDS {
            if code.contains(word) {
                wrong.push(format!("{}: {word}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn only_children_is_unsafe_and_only_it_starts_processes() {
    for (path, text) in sources() {
        if path.ends_with("sys/children.rs") {
            continue;
        }
        let code = product(&path, &text);
        assert!(!code.contains("unsafe {"), "{}", path.display());
        assert!(
            !code.contains("std::process::Command"),
            "{}",
            path.display()
        );
    }
}

#[test]
fn no_file_is_a_god_object() {
    for (path, text) in sources() {
        let lines = text.lines().count();
        // children.rs is one mutex and what needs it; its SAFETY argument wants it in one file.
        let limit = if path.ends_with("sys/children.rs") {
            640
        } else {
            LONGEST_FILE + 50
        };
        assert!(lines <= limit, "{}: {lines} lines", path.display());
    }
}
