//! All of it read: every backup unpacked into nowhere and compared with its list, every segment unpacked and looked at.

use super::judge::Seen;
use super::report::Report;
use crate::domain::{Fault, SystemId, WalName, human_bytes};
use crate::s3::S3Error;
use crate::s3::base::MANIFEST;
use crate::s3::source::Bucket;
use futures_util::StreamExt as _;
use serde::Serialize;
use std::sync::atomic::{AtomicU64, Ordering};

/// What was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Read {
    /// Backups, all of their archives.
    pub backups: u64,
    /// Of these, how many have a list of checksums.
    pub with_checksums: u64,
    /// Bytes of their archives.
    pub bytes: u64,
    /// WAL segments.
    pub segments: u64,
}

impl std::fmt::Display for Read {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} backups ({}, {} with checksums), {} segments",
            self.backups,
            human_bytes(self.bytes),
            self.with_checksums,
            self.segments
        )
    }
}

/// Segments that are read at once: each costs its size in memory, twice while it is unpacked.
const AT_ONCE: usize = 4;
/// Damaged segments that are named.
const NAMED: usize = 20;

/// Reads what [`super::look()`] has seen, and adds what is wrong to the report.
///
/// # Errors
/// The server refuses it, or does not answer: then nothing is known.
pub async fn deep(
    bucket: &Bucket,
    seen: &Seen,
    report: &mut Report,
    tell: &(dyn Fn(String) + Sync),
) -> Result<(), S3Error> {
    let mut read = Read::default();
    for (entry, view) in seen.entries.iter().zip(&mut report.backups) {
        if view.why_not.is_some() {
            continue;
        }
        if entry.archives.is_empty() {
            let id = &view.id;
            report.remarks.push(format!(
                "backup {id} is a barman host's copy: its files are not read"
            ));
            continue;
        }
        tell(format!("reading backup {}", view.id));
        let done = AtomicU64::new(0);
        match bucket.prove(entry, &done).await {
            Ok(()) => {}
            Err(error @ S3Error::Damaged { .. }) => {
                let why = Fault::chain(&error);
                report
                    .wrong
                    .push(format!("backup {} cannot be restored: {why}", view.id));
                view.why_not = Some(why);
            }
            Err(error) => return Err(error),
        }
        read.backups += 1;
        read.with_checksums += u64::from(entry.manifest.is_some());
        read.bytes += done.into_inner();
    }
    let cluster = seen.claim.or_else(|| {
        let mut ids = seen.entries.iter().rev();
        ids.find_map(|e| e.backup.system_id)
    });
    wal(bucket, seen, cluster, &mut read, report, tell).await?;
    if report.restorable().next().is_none() && report.wrong.is_empty() {
        report
            .wrong
            .push("there is no backup that can be restored".to_owned());
    }
    if !seen.entries.iter().all(|e| e.manifest.is_some()) {
        report.remarks.push(format!(
            "barman-cloud's own backups have no {MANIFEST}: their archives were read to the end, and their files compared \
             with nothing"
        ));
    }
    report.read = Some(read);
    Ok(())
}

async fn wal(
    bucket: &Bucket,
    seen: &Seen,
    cluster: Option<SystemId>,
    read: &mut Read,
    report: &mut Report,
    tell: &(dyn Fn(String) + Sync),
) -> Result<(), S3Error> {
    let (wals, count) = (bucket.wals(), AtomicU64::new(0));
    let mut bad = 0;
    for range in &seen.held.archive.ranges {
        tell(format!("reading WAL {} to {}", range.first, range.last));
        let names = (range.first.number..=range.last.number).map(|number| WalName {
            number,
            ..range.first
        });
        let (wals, count) = (&wals, &count);
        let looks = names.map(|name| async move {
            let name = name.to_string();
            let found = wals.fetch(&name, cluster).await;
            count.fetch_add(1, Ordering::Relaxed);
            (name, found.map(|f| f.is_some()))
        });
        let mut looks = futures_util::stream::iter(looks).buffered(AT_ONCE);
        while let Some((name, found)) = looks.next().await {
            let why = match found {
                Ok(true) => continue,
                Ok(false) => format!("{name} was listed and is gone"),
                Err(error @ S3Error::Damaged { .. }) => Fault::chain(&error),
                Err(error) => return Err(error),
            };
            bad += 1;
            if bad <= NAMED {
                report
                    .wrong
                    .push(format!("WAL segment {name} cannot be used: {why}"));
            }
        }
    }
    if bad > NAMED {
        let more = bad - NAMED;
        report
            .wrong
            .push(format!("{more} more segments cannot be used"));
    }
    read.segments = count.into_inner();
    Ok(())
}
