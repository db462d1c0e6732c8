//! One backup into the bucket: its files, the WAL that makes it consistent, its metadata, in this order.

use super::merge::Range;
use super::send::blocking;
use super::wals::At;
use super::{Object, Ship};
use crate::barman::{Backup, BackupStatus};
use crate::s3::S3Error;
use crate::s3::store::Walk;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The metadata before barman 3.13.2, among the backup's files.
const OLD_INFO: &str = "backup.info";

/// Where the metadata are since: `meta/<id>-backup.info`.
pub(super) fn info(id: &str) -> String {
    format!("meta/{id}-backup.info")
}

impl Ship {
    /// The backup as barman has it now.
    ///
    /// # Errors
    /// It is not there, or the catalogue cannot be read.
    pub async fn backup(&self, id: &str) -> Result<Backup, S3Error> {
        let all = self.backups().await?;
        all.into_iter().find(|b| b.id == id).ok_or_else(|| {
            S3Error::Unfit(format!(
                "backup {id} is not in the catalogue {}: it was deleted since, or the catalogue is not mounted",
                self.server.dir.display()
            ))
        })
    }

    /// Ships one; `extra` is told what the bucket has of it that is not here.
    ///
    /// # Errors
    /// It is not complete, or no longer there; [`S3Error::Lacks`]: nobody has WAL that it needs, and nothing of it is sent;
    /// the server refuses or does not answer.
    pub async fn ship(&self, id: &str, extra: impl FnMut(Object)) -> Result<(), S3Error> {
        if !self.order.dry_run {
            self.sender.recall(&self.files_of(id)).await?;
        }
        self.bring(id, extra).await
    }

    fn files_of(&self, id: &str) -> String {
        self.key(&format!("base/{id}/"))
    }

    /// As [`Ship::ship`], by a run that has recalled what earlier ones have begun.
    pub(super) async fn bring(&self, id: &str, extra: impl FnMut(Object)) -> Result<(), S3Error> {
        let backup = self.done(id).await?;
        // Before much is sent that nobody could restore.
        self.must_have_wals(&backup, At::Either).await?;
        let prefix = self.files_of(id);
        let range = Range {
            root: backup.dir.clone(),
            prefix,
            want: Arc::new(|key: &str| key != OLD_INFO),
            after: None,
            until: None,
        };
        self.sync(&range, self.rule(), extra).await?;
        self.wals_of(&backup).await?;
        // Nothing of it has gone while it was read.
        let backup = self.done(id).await?;
        if !self.order.dry_run {
            self.must_have_wals(&backup, At::Bucket).await?;
        }
        self.annotate(&backup).await
    }

    async fn done(&self, id: &str) -> Result<Backup, S3Error> {
        let backup = self.backup(id).await?;
        if backup.status == BackupStatus::Done {
            return Ok(backup);
        }
        Err(S3Error::Unfit(format!(
            "backup {id} is {}, not DONE",
            backup.status
        )))
    }

    /// Its metadata, what makes it a backup last.
    async fn annotate(&self, backup: &Backup) -> Result<(), S3Error> {
        let of = format!("{}-", backup.id);
        let meta = self.server.dir.join("meta");
        let names = blocking("read", &meta, move |path| names(path, &of)).await?;
        let new = info(&backup.id);
        for name in names {
            let below = format!("meta/{name}");
            if below != new {
                self.commit(&below, &meta.join(&name)).await?;
            }
        }
        let old = backup.dir.join(OLD_INFO);
        let there = |path: &std::path::Path| path.try_exists();
        if blocking("read", &old, there).await? {
            let below = format!("base/{}/{OLD_INFO}", backup.id);
            self.commit(&below, &old).await?;
        }
        let path = self.server.dir.join(&new);
        if blocking("read", &path, there).await? {
            self.commit(&new, &path).await?;
        }
        Ok(())
    }

    /// As a run of the queue does it: what is no longer here is left to `full-sync`.
    ///
    /// # Errors
    /// The server refuses or does not answer.
    pub async fn refresh_notes(&self) -> Result<(), S3Error> {
        self.refresh(drop).await
    }

    /// Metadata of backups that are there already and were changed here since: a backup that rests on another is
    /// written down in that one's, and `keep` comes and goes. What is no longer here is given to `extra`.
    ///
    /// # Errors
    /// The server refuses or does not answer.
    pub(super) async fn refresh(&self, mut extra: impl FnMut(Object)) -> Result<(), S3Error> {
        let backups = self.backups().await?;
        let there = self.store().list(&Walk::below(self.key("meta/"))).await?;
        let prefix = self.key("").len();
        let mut there: BTreeMap<String, Object> = there
            .objects
            .into_iter()
            .filter_map(|o| Some((o.key.get(prefix..)?.to_owned(), o)))
            .collect();
        for backup in backups.iter().filter(|b| b.is_done()) {
            if there.contains_key(&info(&backup.id)) {
                self.annotate(backup).await?;
            }
            let of = format!("{}-", backup.id);
            let meta = self.server.dir.join("meta");
            let names = blocking("read", &meta, move |path| names(path, &of)).await?;
            for name in names {
                there.remove(&format!("meta/{name}"));
            }
        }
        for (below, object) in there {
            // Of a backup that is here and not complete, or no backup's: not judged here.
            let id = below.strip_prefix("meta/").and_then(|n| n.get(..15));
            let of = id.and_then(|id| backups.iter().find(|b| b.id == id));
            if of.is_some_and(Backup::is_done) {
                extra(object);
            }
        }
        Ok(())
    }
}

/// Files in a directory whose names begin so; none where there is no directory.
fn names(dir: &std::path::Path, begin: &str) -> std::io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with(begin) {
            found.push(name);
        }
    }
    found.sort();
    Ok(found)
}
