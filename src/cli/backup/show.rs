//! `pgnode backup show`.

use super::fault;
use super::view::{BackupShown, json as as_json};
use crate::barman::Server;
use crate::cli::status::{at, ms};
use crate::doctor::drill::failed_drills;
use crate::domain::{Fault, human_bytes};
use crate::sys::now_ms;
use std::path::Path;

/// The text about one backup. One whose metadata are not understood is shown too.
pub(super) fn show(
    server: &Server,
    drills: &Path,
    wanted: &str,
    json: bool,
) -> Result<String, Fault> {
    let failed = failed_drills(drills, &server.name());
    let all = server.backups().map_err(fault)?;
    let backup = server.choose(&all, wanted).map_err(fault)?;
    let shown = BackupShown::of(server, backup, now_ms()).map_err(fault)?;
    let shown = shown.drilled(&failed);
    Ok(match json {
        true => as_json(&shown),
        false => text(&shown),
    })
}

/// In words.
pub(super) fn text(b: &BackupShown) -> String {
    let mut rows: Vec<(&str, String)> = Vec::new();
    let mut row = |name: &'static str, value: Option<String>| {
        rows.extend(value.map(|value| (name, value)));
    };
    row("backup", Some(format!("{} of {}", b.id, b.server)));
    row("name", b.name.clone());
    row("kind", Some(b.kind_words()));
    row("status", Some(b.status.clone()));
    row("error", b.error.clone());
    row("drill FAILED", b.drill_failed.clone());
    row("begun", b.begin_ms.map(at));
    let ago = b.age_ms.map(|age| format!(", {} ago", ms(age)));
    row(
        "ended",
        b.end_ms.map(|end| at(end) + &ago.unwrap_or_default()),
    );
    let took = b.end_ms.zip(b.begin_ms).map(|(e, b)| e.saturating_sub(b));
    row("took", took.map(ms));
    let own = b
        .deduplicated_bytes
        .filter(|own| Some(*own) != b.size_bytes);
    let own = own.map(|own| format!(", {} of it not shared with another", human_bytes(own)));
    row(
        "size",
        b.size_bytes
            .map(|s| human_bytes(s) + &own.unwrap_or_default()),
    );
    row("rests on", b.parent.clone());
    let children = (!b.children.is_empty()).then(|| b.children.join(", "));
    row("rest on it", children);
    row("kept", b.kept.as_deref().map(kept));
    row("timeline", b.timeline.map(|t| t.to_string()));
    row("positions", span(b.begin_lsn.as_ref(), b.end_lsn.as_ref()));
    let wal = span(b.wal_first.as_ref(), b.wal_last.as_ref());
    row(
        "wal",
        wal.map(|w| format!("{w}: {} archived", b.wal_words())),
    );
    row("postgresql", b.server_version.map(version));
    row("cluster", b.system_id.clone());
    row("method", b.mode.clone());
    row("compression", b.compression.clone());
    row("encryption", b.encryption.clone());
    for t in &b.tablespaces {
        row(
            "tablespace",
            Some(format!("{} (oid {}) at {}", t.name, t.oid, t.location)),
        );
    }
    row("files", Some(b.dir.clone()));
    for what in &b.not_understood {
        row("NOT UNDERSTOOD", Some(what.clone()));
    }
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.iter()
        .map(|(name, value)| format!(" {name:width$}  {value}\n"))
        .collect()
}

fn span(from: Option<&String>, to: Option<&String>) -> Option<String> {
    Some(match (from?, to) {
        (from, Some(to)) => format!("{from} to {to}"),
        (from, None) => format!("from {from}"),
    })
}

fn kept(target: &str) -> String {
    match target {
        "standalone" => "standalone: with the WAL that makes it consistent".to_owned(),
        other => format!("{other}: with all WAL from it on"),
    }
}

/// `170012` is 17.12.
fn version(number: u32) -> String {
    format!("{}.{}", number / 10_000, number % 10_000)
}
