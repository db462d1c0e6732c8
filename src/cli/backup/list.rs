//! `pgnode backup list`.

use super::fault;
use super::view::{BackupShown, json as as_json};
use crate::barman::Server;
use crate::cli::status::{at, ms};
use crate::cli::table::{lines, wide};
use crate::doctor::drill::failed_drills;
use crate::domain::{Fault, human_bytes};
use crate::sys::now_ms;
use comfy_table::{Attribute, Cell, CellAlignment, Color, Table};
use std::io::IsTerminal as _;
use std::path::Path;

/// The text of the list, newest first.
pub(super) fn list(server: &Server, drills: &Path, json: bool) -> Result<String, Fault> {
    let failed = failed_drills(drills, &server.name());
    let now = now_ms();
    let backups = server.backups().map_err(fault)?;
    let shown: Vec<BackupShown> = backups
        .iter()
        .rev()
        .map(|b| BackupShown::of(server, b, now).map(|shown| shown.drilled(&failed)))
        .collect::<Result<_, _>>()
        .map_err(fault)?;
    Ok(text(&server.name(), &shown, json))
}

/// Backups as a table or as JSON.
pub(super) fn text(server: &str, shown: &[BackupShown], json: bool) -> String {
    if json {
        return as_json(&shown);
    }
    if shown.is_empty() {
        return format!("{server} has no backup yet\n");
    }
    lines(&table(shown, std::io::stdout().is_terminal()))
}

fn table(shown: &[BackupShown], colour: bool) -> Table {
    let mut table = wide(colour);
    let header = [
        "id", "name", "kind", "status", "end", "age", "size", "wal", "kept", "tl",
    ];
    table.set_header(header.map(|name| Cell::new(name).add_attribute(Attribute::Bold)));
    for b in shown {
        let own = b.deduplicated_bytes.or(b.size_bytes);
        let size = Cell::new(own.map(human_bytes).unwrap_or_default());
        let age = Cell::new(b.age_ms.map(ms).unwrap_or_default());
        let wal = Cell::new(b.wal_words());
        let short = b.wal_archived < b.wal_needed;
        table.add_row([
            Cell::new(&b.id),
            Cell::new(b.name.as_deref().unwrap_or_default()),
            Cell::new(b.kind_words()),
            match &b.drill_failed {
                Some(_) => Cell::new(format!("{}, drill FAILED", b.status)).fg(Color::Red),
                None => status(&b.status),
            },
            Cell::new(b.end_ms.map(at).unwrap_or_default()),
            age.set_alignment(CellAlignment::Right),
            size.set_alignment(CellAlignment::Right),
            match short {
                true => wal.fg(Color::Red),
                false => wal,
            },
            Cell::new(b.kept.as_deref().unwrap_or_default()),
            Cell::new(b.timeline.map(|t| t.to_string()).unwrap_or_default()),
        ]);
    }
    table
}

fn status(word: &str) -> Cell {
    let cell = Cell::new(word);
    match word {
        "DONE" => cell,
        "FAILED" => cell.fg(Color::Red),
        _ => cell.fg(Color::Yellow),
    }
}
