//! `pgnode backup keep` and `delete`, in a bucket. What goes and what stays is told, and why, before anything is done.

use super::take::{unknown, wal_told};
use super::{Counter, fault, look};
use crate::barman::{Backup, Keep};
use crate::cli::backup::change::{cannot_keep, kept_words, too_few};
use crate::cli::backup::view::{BackupShown, json as as_json};
use crate::cli::{note, say};
use crate::domain::{ExitCode, Fault, human_bytes};
use crate::s3::base::{Gone, Leftover, Needed, Shelf};
use serde::Serialize;
use std::collections::BTreeSet;

pub(super) async fn keep(
    counter: &Counter,
    wanted: &str,
    keep: Option<Keep>,
    json: bool,
) -> Result<ExitCode, Fault> {
    let shelf = counter.catalogue.read().await.map_err(|e| fault(&e))?;
    let all = shelf.backups();
    let backup = counter.choose(&all, wanted)?;
    if let Some(obstacle) = keep.and_then(|_| cannot_keep(backup)) {
        return Err(Fault::NeedsPerson(obstacle));
    }
    let kept = counter.catalogue.keep(&backup.id, keep).await;
    kept.map_err(|e| fault(&e))?;
    if json {
        return look::show(counter, &backup.id, true).await;
    }
    say(&kept_words(&backup.id, keep));
    Ok(ExitCode::STOPPED)
}

/// What goes with a delete.
#[derive(Debug, Serialize)]
struct Deleted {
    /// Whether it is still there.
    dry_run: bool,
    backups: Vec<BackupShown>,
    /// WAL that no other needs.
    wal: Gone,
    /// The oldest backup that still needs WAL, and from where on.
    wal_needed_by: Option<String>,
    wal_needed_from: Option<String>,
}

pub(super) async fn delete(
    counter: &Counter,
    wanted: &str,
    dry_run: bool,
    json: bool,
) -> Result<ExitCode, Fault> {
    // Looking does no harm anywhere; the lock is held to the end.
    let _lock = match dry_run {
        true => None,
        false => Some(counter.locked("delete").await?),
    };
    let shelf = counter.catalogue.read().await.map_err(|e| fault(&e))?;
    if let Some(leftover) = shelf.leftovers.iter().find(|l| l.id == wanted) {
        return sweep(counter, leftover, dry_run).await;
    }
    let all = shelf.backups();
    let backup = counter.choose(&all, wanted)?;
    let broken = counter.broken().await?;
    if let Some(obstacle) = cannot_delete(&all, &broken, backup, counter.kept.redundancy) {
        return Err(Fault::NeedsPerson(obstacle));
    }
    perform(counter, &shelf, backup, dry_run, json).await
}

async fn perform(
    counter: &Counter,
    shelf: &Shelf,
    backup: &Backup,
    dry_run: bool,
    json: bool,
) -> Result<ExitCode, Fault> {
    let Some(entry) = shelf.entry(&backup.id) else {
        return Err(Fault::Bug(format!(
            "{} was listed and is not there",
            backup.id
        )));
    };
    let shown = look::shown(counter, entry).await?;
    let staying: Vec<&Backup> = shelf
        .entries
        .iter()
        .map(|e| &e.backup)
        .filter(|b| b.id != backup.id)
        .collect();
    let foreign = shelf.foreign();
    let needed = Needed::by(&staying).filter(|_| foreign.is_none());
    let word = if dry_run { "would delete" } else { "deleted" };
    let catalogue = &counter.catalogue;
    if !dry_run {
        catalogue.delete(entry).await.map_err(|e| fault(&e))?;
    }
    let gone = match &needed {
        Some(needed) => catalogue.delete_wal(needed, dry_run).await,
        None => Ok(Gone::default()),
    };
    let gone = gone.map_err(|e| fault(&e))?;
    if json {
        say(&as_json(&Deleted {
            dry_run,
            backups: vec![shown],
            wal: gone,
            wal_needed_by: needed.as_ref().map(|n| n.by.clone()),
            wal_needed_from: needed.as_ref().map(|n| n.first().to_string()),
        }));
        return Ok(ExitCode::STOPPED);
    }
    say(&format!(
        "{word} backup {} ({}, {} in the bucket)\n",
        backup.id,
        backup.kind(),
        human_bytes(entry.bytes())
    ));
    say(&match (&needed, foreign) {
        (Some(needed), _) => wal_told(&gone, needed, word) + "\n",
        (None, Some((id, key))) => unknown(id, key) + "\n",
        (None, None) => format!("{word} no WAL: {}\n", why_none(&staying)),
    });
    Ok(ExitCode::STOPPED)
}

/// Why nobody can tell which WAL is needed.
fn why_none(staying: &[&Backup]) -> String {
    if staying.iter().all(|b| !b.is_done()) {
        return "no other backup says which is needed".to_owned();
    }
    let unclear: Vec<&str> = staying
        .iter()
        .filter(|b| !b.garbled.is_empty() || b.begin_wal.is_none())
        .map(|b| b.id.as_str())
        .collect();
    match unclear.as_slice() {
        [] => "only backups that are kept by themselves stay".to_owned(),
        ids => format!("what {} needs is not understood", ids.join(", ")),
    }
}

/// What a killed backup left. By hand also before it is surely dead: the lock says that none of this cluster runs.
async fn sweep(counter: &Counter, leftover: &Leftover, dry_run: bool) -> Result<ExitCode, Fault> {
    let told = look::told(&counter.catalogue, leftover).await;
    let told = told.map_err(|e| fault(&e))?;
    if leftover.foreign.is_some() {
        return Err(Fault::NeedsPerson(format!("{told}: not deleted")));
    }
    if dry_run {
        say(&format!("{told}: would be removed\n"));
        return Ok(ExitCode::STOPPED);
    }
    note(&told);
    let swept = counter.catalogue.sweep(leftover).await;
    swept.map_err(|e| fault(&e))?;
    say(&format!("removed: {}\n", leftover.id));
    Ok(ExitCode::STOPPED)
}

fn cannot_delete(
    all: &[Backup],
    broken: &BTreeSet<String>,
    backup: &Backup,
    least: u32,
) -> Option<String> {
    if backup.keep.is_some() {
        return Some(format!(
            "backup {} is kept; `pgnode backup keep --release {}` first",
            backup.id, backup.id
        ));
    }
    if backup.snapshot {
        return Some(format!(
            "backup {} is made of snapshots of disks: `barman-cloud-backup-delete` deletes those too",
            backup.id
        ));
    }
    let good = |b: &&Backup| b.is_done() && !broken.contains(&b.id);
    if !good(&backup) {
        return None;
    }
    let left = all
        .iter()
        .filter(good)
        .filter(|b| b.id != backup.id)
        .count();
    too_few(&backup.id, left, least)
}
