//! `pgnode backup list` and `show`, of a bucket.

use super::{Counter, fault};
use crate::barman::Backup;
use crate::cli::backup::view::{BackupShown, json as as_json};
use crate::cli::backup::{list as table, show as words};
use crate::cli::{note, say};
use crate::doctor::drill::{failed_drills, records_beside};
use crate::domain::{ExitCode, Fault, human_bytes};
use crate::s3::S3Error;
use crate::s3::base::{Catalogue, Entry, Leftover};
use crate::sys::now_ms;

/// A backup as it is shown, with its WAL counted.
pub(super) async fn shown(counter: &Counter, entry: &Entry) -> Result<BackupShown, Fault> {
    let b = &entry.backup;
    let archived = match (b.begin_wal, b.end_wal) {
        (Some(first), Some(last)) if first.timeline == last.timeline => {
            let found = counter.catalogue.archived(first, last).await;
            let found = found.map_err(|e| fault(&e))?;
            Some(u64::try_from(found.len()).unwrap_or(u64::MAX))
        }
        _ => None,
    };
    let mut shown = BackupShown::with(counter.kept.server.clone(), b, archived, now_ms());
    // What it takes in the bucket.
    shown.deduplicated_bytes = Some(entry.bytes());
    shown.not_understood.extend(entry.lacks.iter().cloned());
    let codec = entry.archives.first().map(|a| a.name.format.extension());
    let codec = codec.filter(|e| !e.is_empty());
    shown.compression = codec.map(|e| e.trim_start_matches('.').to_owned());
    let drills = records_beside(&counter.kept.data_dir);
    Ok(shown.drilled(&failed_drills(&drills, &counter.kept.server)))
}

pub(super) async fn list(counter: &Counter, json: bool) -> Result<ExitCode, Fault> {
    let shelf = counter.catalogue.read().await.map_err(|e| fault(&e))?;
    let mut all = Vec::new();
    for entry in shelf.entries.iter().rev() {
        all.push(shown(counter, entry).await?);
    }
    for entry in shelf.entries.iter().filter(|e| !e.lacks.is_empty()) {
        let lacks = entry.lacks.join(", ");
        note(&format!("{} CANNOT BE RESTORED: {lacks}", entry.backup.id));
    }
    say(&table::text(&counter.kept.server, &all, json));
    for leftover in &shelf.leftovers {
        let told = told(&counter.catalogue, leftover).await;
        note(&told.map_err(|e| fault(&e))?);
    }
    Ok(ExitCode::STOPPED)
}

/// `20261121T031500 is not complete: 1.2 GiB in 3 objects, 40 MiB in 1 upload that was not finished; …`.
pub(super) async fn told(catalogue: &Catalogue, leftover: &Leftover) -> Result<String, S3Error> {
    if let Some(key) = &leftover.foreign {
        return Ok(format!(
            "{} is left alone: neither barman-cloud nor pgnode stores {key}, it may be a barman host's catalogue; give the \
             cluster a place of its own with BARMAN_CLOUD_SERVER_NAME or S3_BUCKET_URI",
            leftover.id
        ));
    }
    let parts = catalogue.parts_bytes(&leftover.uploads).await?;
    let who = match &leftover.marker {
        _ if leftover.doomed => "being deleted, or the rest of a delete".to_owned(),
        Some(marker) => format!("being made by {}, or killed", marker.node),
        None => "no backup.info says what it is".to_owned(),
    };
    Ok(format!(
        "{} is not complete ({who}): {} in {}, {} in {}",
        leftover.id,
        human_bytes(leftover.bytes()),
        many(leftover.objects.len(), "object"),
        human_bytes(parts),
        many(leftover.uploads.len(), "unfinished upload"),
    ))
}

fn many(n: usize, word: &str) -> String {
    match n {
        1 => format!("1 {word}"),
        n => format!("{n} {word}s"),
    }
}

pub(super) async fn show(counter: &Counter, wanted: &str, json: bool) -> Result<ExitCode, Fault> {
    let shelf = counter.catalogue.read().await.map_err(|e| fault(&e))?;
    let all: Vec<Backup> = shelf.backups();
    let id = &counter.choose(&all, wanted)?.id;
    let Some(entry) = shelf.entry(id) else {
        return Err(Fault::Bug(format!("{id} was listed and is not there")));
    };
    let shown = shown(counter, entry).await?;
    say(&match json {
        true => as_json(&shown),
        false => words::text(&shown),
    });
    Ok(ExitCode::STOPPED)
}
