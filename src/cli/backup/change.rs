//! `pgnode backup keep` and `delete`. What barman would refuse, or do beyond what was said, is told before
//! anything is done.

use super::view::{BackupShown, json as as_json};
use super::{Desk, fault};
use crate::barman::{Backup, Keep, Kind};
use crate::cli::{note, say};
use crate::domain::{ExitCode, Fault, human_bytes};
use crate::sys::now_ms;
use serde::Serialize;

pub(super) async fn keep(
    desk: &Desk<'_>,
    wanted: &str,
    keep: Option<Keep>,
    json: bool,
) -> Result<ExitCode, Fault> {
    let backup = desk.server.backup(wanted).map_err(fault)?;
    if let Some(obstacle) = keep.and_then(|_| cannot_keep(&backup)) {
        return Err(Fault::NeedsPerson(obstacle));
    }
    desk.client.keep(&backup.id, keep).await.map_err(fault)?;
    if json {
        let backup = desk.server.backup(&backup.id).map_err(fault)?;
        let shown = BackupShown::of(desk.server, &backup, now_ms()).map_err(fault)?;
        say(&as_json(&shown));
        return Ok(ExitCode::STOPPED);
    }
    say(&kept_words(&backup.id, keep));
    Ok(ExitCode::STOPPED)
}

pub(super) fn kept_words(id: &str, keep: Option<Keep>) -> String {
    match keep {
        Some(Keep::Standalone) => {
            format!("backup {id} is kept, with the WAL that makes it consistent\n")
        }
        Some(Keep::Full) => format!("backup {id} is kept, with all WAL from it on\n"),
        None => format!("backup {id} is not kept any longer\n"),
    }
}

pub(super) fn cannot_keep(backup: &Backup) -> Option<String> {
    if let Some(parent) = &backup.parent {
        return Some(format!(
            "backup {} is incremental and lives as long as {parent}, which it rests on: keep that one",
            backup.id
        ));
    }
    (!backup.is_done()).then(|| {
        format!(
            "backup {} is {}: only a complete one can be kept",
            backup.id, backup.status
        )
    })
}

/// What goes with a delete.
#[derive(Debug, Serialize)]
struct Deleted {
    /// Whether it is still there.
    dry_run: bool,
    backups: Vec<BackupShown>,
}

pub(super) async fn delete(
    desk: &Desk<'_>,
    wanted: &str,
    dry_run: bool,
    json: bool,
) -> Result<ExitCode, Fault> {
    let all = desk.server.backups().map_err(fault)?;
    let backup = desk.server.choose(&all, wanted).map_err(fault)?;
    let going = tree(&all, backup);
    let least = desk.config.barman.habits.minimum_redundancy;
    if let Some(obstacle) = cannot_delete(&all, &going, least) {
        return Err(Fault::NeedsPerson(obstacle));
    }
    let shown = Deleted {
        dry_run,
        backups: going
            .iter()
            .map(|b| BackupShown::of(desk.server, b, now_ms()))
            .collect::<Result<_, _>>()
            .map_err(fault)?,
    };
    if !dry_run {
        if !json {
            told(&going, "deletes").iter().for_each(|l| note(l));
        }
        desk.client.delete(&backup.id).await.map_err(fault)?;
    }
    match (json, dry_run) {
        (true, _) => say(&as_json(&shown)),
        (false, true) => told(&going, "would delete")
            .iter()
            .for_each(|l| say(&format!("{l}\n"))),
        (false, false) => say(&format!("deleted: {}\n", ids(&going))),
    }
    Ok(ExitCode::STOPPED)
}

/// The backup and all that rest on it, directly or not.
fn tree<'a>(all: &'a [Backup], root: &'a Backup) -> Vec<&'a Backup> {
    let mut tree = vec![root];
    // A child is younger than its parent, and the catalogue is in order.
    for backup in all {
        let rests = |b: &&Backup| backup.parent.as_ref() == Some(&b.id) && b.id != backup.id;
        if tree.iter().any(rests) {
            tree.push(backup);
        }
    }
    tree
}

fn ids(backups: &[&Backup]) -> String {
    let ids: Vec<&str> = backups.iter().map(|b| b.id.as_str()).collect();
    ids.join(", ")
}

/// barman counts incremental backups towards the minimum redundancy, so it would delete the only full
/// one as long as others rest on it; here only those count that restore by themselves.
fn cannot_delete(all: &[Backup], going: &[&Backup], least: u32) -> Option<String> {
    let root = going.first()?;
    if let Some(kept) = going.iter().find(|b| b.keep.is_some()) {
        return Some(format!(
            "backup {} is kept; `pgnode backup keep --release {}` first",
            kept.id, kept.id
        ));
    }
    if !root.is_done() || root.kind() == Kind::Incremental {
        return None;
    }
    let full = |b: &&Backup| b.is_done() && b.kind() != Kind::Incremental;
    let left = all.iter().filter(full).filter(|b| b.id != root.id).count();
    too_few(&root.id, left, least)
}

/// Why a full backup stays, without which so many would be left.
pub(super) fn too_few(id: &str, left: usize, least: u32) -> Option<String> {
    (left < least as usize).then(|| {
        let plural = if least == 1 { "" } else { "s" };
        format!(
            "backup {id} is needed: {least} full backup{plural} must be there (BARMAN_MINIMUM_REDUNDANCY), and \
             without it there would be {left}. Make another one first: `pgnode backup --wait`"
        )
    })
}

fn told(going: &[&Backup], word: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for (n, backup) in going.iter().enumerate() {
        let size = backup.deduplicated_size.or(backup.size).unwrap_or(0);
        let why = match (n, &backup.parent) {
            (0, _) | (_, None) => String::new(),
            (_, Some(parent)) => format!(", which rests on {parent}"),
        };
        lines.push(format!(
            "{word} backup {} ({}, {}){why}",
            backup.id,
            backup.kind(),
            human_bytes(size)
        ));
    }
    lines.push(format!("{word} the WAL that no other backup needs"));
    lines
}

#[cfg(test)]
#[path = "change_tests.rs"]
mod tests;
