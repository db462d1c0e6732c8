//! `pgnode backup verify`, of a bucket: every archive is read, and compared with the list of checksums that was made when
//! it was. Of barman-cloud's backups, which have none, only that they can be unpacked to their end.

use super::{Counter, fault, look};
use crate::barman::{Backup, BackupStatus, Check, Outcome};
use crate::cli::backup::verify::Reports;
use crate::domain::{ExitCode, Fault, human_bytes};
use crate::s3::base::{Entry, Shelf};

pub(super) async fn verify(
    counter: &Counter,
    wanted: Option<&str>,
    json: bool,
) -> Result<ExitCode, Fault> {
    let shelf = counter.catalogue.read().await.map_err(|e| fault(&e))?;
    let chosen = chosen(counter, &shelf, wanted)?;
    if chosen.is_empty() {
        let what = format!("{} has no backup that is complete", counter.kept.server);
        return Err(Fault::NeedsPerson(what));
    }
    let mut reports = Reports::new(json);
    for entry in chosen {
        let checks = checks(counter, entry).await?;
        reports.add(&counter.kept.server, &entry.backup.id, checks);
    }
    Ok(reports.end(wanted.is_some()))
}

fn chosen<'a>(
    counter: &Counter,
    shelf: &'a Shelf,
    wanted: Option<&str>,
) -> Result<Vec<&'a Entry>, Fault> {
    let all: Vec<Backup> = shelf.backups();
    Ok(match wanted {
        Some(wanted) => {
            let id = &counter.choose(&all, wanted)?.id;
            shelf.entry(id).into_iter().collect()
        }
        None => {
            let counts = |e: &&Entry| e.backup.status != BackupStatus::Failed;
            shelf.entries.iter().filter(counts).collect()
        }
    })
}

async fn checks(counter: &Counter, entry: &Entry) -> Result<Vec<Check>, Fault> {
    let b = &entry.backup;
    let mut checks = vec![complete(b)];
    if !b.is_done() {
        return Ok(checks);
    }
    let check = |check, outcome, what| Check {
        check,
        outcome,
        what,
    };
    checks.push(match entry.lacks.as_slice() {
        [] => match counter.catalogue.compare(entry).await {
            Ok(compared) if !compared.wrong.is_empty() => {
                check("files", Outcome::Fail, compared.wrong.join("; "))
            }
            Ok(compared) if compared.listed => check(
                "files",
                Outcome::Pass,
                format!(
                    "{} archives, {}, have the checksums of {}'s making",
                    compared.archives,
                    human_bytes(compared.bytes),
                    b.id
                ),
            ),
            Ok(compared) => check(
                "files",
                Outcome::Skip,
                format!(
                    "{} archives, {}, were read; there is no list of checksums to compare with (barman-cloud makes none): \
                     `pgnode s3 verify` unpacks them",
                    compared.archives,
                    human_bytes(compared.bytes)
                ),
            ),
            Err(error) if error.is_transient() => return Err(fault(&error)),
            Err(error) => check("files", Outcome::Fail, Fault::chain(&error)),
        },
        lacks => check("files", Outcome::Fail, lacks.join("; ")),
    });
    let shown = look::shown(counter, entry).await?;
    let span = match (&shown.wal_first, &shown.wal_last) {
        (Some(first), Some(last)) => format!("{first} to {last}: {}", shown.wal_words()),
        _ => "it does not say which it needs".to_owned(),
    };
    let whole = shown.wal_needed.is_some() && shown.wal_archived == shown.wal_needed;
    let outcome = if whole { Outcome::Pass } else { Outcome::Fail };
    checks.push(check("wal", outcome, span));
    Ok(checks)
}

fn complete(b: &Backup) -> Check {
    let why = b.error.as_deref().map(|e| format!(": {e}"));
    let (outcome, what) = match b.garbled.as_slice() {
        [] => (
            match b.is_done() {
                true => Outcome::Pass,
                false => Outcome::Fail,
            },
            format!("status {}{}", b.status, why.unwrap_or_default()),
        ),
        garbled => (
            Outcome::Fail,
            format!("metadata not understood: {}", garbled.join("; ")),
        ),
    };
    Check {
        check: "complete",
        outcome,
        what,
    }
}
