//! All of a catalogue into the bucket, and what barman has deleted out of it.

use super::doom::{self, Needs, Verdict};
use super::merge::{Merge, Side};
use super::send::add;
use super::{Act, Ship};
use crate::barman::Backup;
use crate::s3::store::Walk;
use crate::s3::{Object, S3Error};

/// What was deleted, or why nothing was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Ids of backups.
    pub backups: Vec<String>,
    /// Files of the archive.
    pub wals: u64,
    /// Uploads that were begun and never finished.
    pub uploads: u64,
    /// What the bucket kept of them.
    pub upload_bytes: u64,
    /// Why nothing may be deleted.
    pub refused: Option<String>,
}

/// Objects that one request deletes.
const BATCH: usize = 1000;

impl Ship {
    /// Ships every complete backup, the archive, and deletes what the catalogue no longer has.
    ///
    /// # Errors
    /// The server refuses or does not answer; a file cannot be read. A backup that lacks WAL is one at the end: the others
    /// and the archive are there then. In all cases nothing was deleted.
    pub async fn full(&self) -> Result<Swept, S3Error> {
        let claimed = self.claim().await?;
        // All of them, wherever: a run of this kind is the only one that sends anything.
        self.sender.recall(&self.layout.all()).await?;
        let mut extra: Vec<Object> = Vec::new();
        let mut lacks = None;
        for backup in self.backups().await?.iter().filter(|b| b.is_done()) {
            match self.bring(&backup.id, |object| extra.push(object)).await {
                Err(error @ S3Error::Lacks { .. }) => {
                    let why = crate::domain::Fault::chain(&error);
                    (self.ear)(Act::Failed { why });
                    lacks.get_or_insert(error);
                }
                shipped => shipped?,
            }
        }
        self.ship_wals(drop).await?;
        self.refresh(|object| extra.push(object)).await?;
        if let Some(error) = lacks {
            return Err(error);
        }
        // All that is kept is there now. Whose place it is was asked before; a dry run has not taken it.
        let theirs = self.theirs().await?;
        if theirs.is_some_and(|id| id != claimed) {
            return Err(S3Error::Unfit(format!(
                "{} became another cluster's meanwhile",
                self.store().uri(&self.layout.all())
            )));
        }
        self.sweep(extra).await
    }

    async fn sweep(&self, extra: Vec<Object>) -> Result<Swept, S3Error> {
        let local = self.backups().await?;
        if let Some(why) = doom::unsound(&local, self.segments().await?) {
            return Ok(Swept {
                refused: Some(why),
                ..Swept::default()
            });
        }
        let shelf = self.shelf().await?;
        let verdicts = doom::judge(&local, &shelf);
        let mut stays: Vec<&Backup> = Vec::new();
        let mut doomed = Vec::new();
        for shelved in &shelf {
            match verdicts.get(&shelved.id) {
                None => {}
                Some(Verdict::Delete) => doomed.push(shelved),
                Some(Verdict::Stays(why)) => {
                    stays.extend(&shelved.info);
                    self.stays(&self.key(&format!("base/{}/", shelved.id)), why);
                }
            }
        }
        let needs = match Needs::of(&local, stays) {
            Ok(needs) => needs,
            Err(why) => {
                return Ok(Swept {
                    refused: Some(why),
                    ..Swept::default()
                });
            }
        };
        // What makes them backups goes first, so that nobody begins to read one.
        let commits = doomed.iter().flat_map(|s| &s.commits);
        let commits: Vec<_> = commits.map(|below| (self.key(below), 0)).collect();
        self.delete(commits).await?;
        for shelved in &doomed {
            let notes = shelved.notes.iter().map(|below| (self.key(below), 0));
            self.delete(notes.collect()).await?;
            self.delete_below(&format!("base/{}/", shelved.id)).await?;
        }
        let extra = extra.into_iter().map(|o| (o.key, o.size));
        self.delete(extra.collect()).await?;
        let wals = self.sweep_wals(&needs).await?;
        let (uploads, upload_bytes) = self.sweep_uploads().await?;
        Ok(Swept {
            backups: doomed.iter().map(|s| s.id.clone()).collect(),
            wals,
            uploads,
            upload_bytes,
            refused: None,
        })
    }

    /// What killed runs had begun and this one did not go on with: of files that are there by now, or that barman has
    /// deleted since. LIST does not show it, and it costs what its parts cost.
    async fn sweep_uploads(&self) -> Result<(u64, u64), S3Error> {
        let (mut count, mut all) = (0, 0);
        for upload in self.sender.abandoned() {
            let Some(parts) = self.store().parts(&upload).await? else {
                continue;
            };
            let bytes = parts.iter().map(|p| p.size).sum::<u64>();
            let key = format!("{}?uploadId={}", upload.key, upload.id);
            (self.ear)(Act::Delete { key, bytes });
            count += 1;
            all += bytes;
            if !self.order.dry_run {
                self.store().discard(&upload).await?;
                add(&self.tally.deleted, 1);
            }
        }
        Ok((count, all))
    }

    /// How many segments and such the archive here has; a few are enough to know.
    async fn segments(&self) -> Result<u64, S3Error> {
        let range = self.archive();
        let root = range.root.clone();
        super::blocking("read", &root, move |root| {
            let mut count = 0;
            super::walk(root, &*range.want, &mut |found| {
                count += u64::from(found.what == super::What::File);
                match count {
                    0 => super::Flow::On,
                    _ => super::Flow::Enough,
                }
            })
            .map_err(|(_, e)| e)?;
            Ok(count)
        })
        .await
    }

    fn stays(&self, key: &str, why: &str) {
        (self.ear)(Act::Keep {
            key: key.to_owned(),
            why: why.to_owned(),
        });
    }

    async fn delete(&self, objects: Vec<(String, u64)>) -> Result<(), S3Error> {
        for (key, bytes) in &objects {
            (self.ear)(Act::Delete {
                key: key.clone(),
                bytes: *bytes,
            });
        }
        if self.order.dry_run || objects.is_empty() {
            return Ok(());
        }
        let count = u64::try_from(objects.len()).unwrap_or(u64::MAX);
        let keys: Vec<String> = objects.into_iter().map(|(key, _)| key).collect();
        self.store().delete(&keys).await?;
        add(&self.tally.deleted, count);
        Ok(())
    }

    async fn delete_below(&self, below: &str) -> Result<(), S3Error> {
        let walk = Walk::below(self.key(below));
        let mut more = None;
        loop {
            let page = self.store().page(&walk, more, None).await?;
            let keys = page.objects.into_iter().map(|o| (o.key, o.size));
            self.delete(keys.collect()).await?;
            more = page.more;
            if more.is_none() {
                return Ok(());
            }
        }
    }

    async fn sweep_wals(&self, needs: &Needs) -> Result<u64, S3Error> {
        let mut merge = Merge::begin(self.store(), &self.archive());
        let mut batch = Vec::new();
        let (mut gone, mut lost) = (0, 0_u64);
        while let Some(side) = merge.next().await? {
            let Side::There(object) = side else {
                continue;
            };
            if needs.keep(&object.key) {
                lost += u64::from(!object.key.ends_with(".history"));
                continue;
            }
            gone += 1;
            batch.push((object.key, object.size));
            if batch.len() >= BATCH {
                self.delete(std::mem::take(&mut batch)).await?;
            }
        }
        self.delete(batch).await?;
        if lost > 0 {
            let why =
                format!("{lost} files that the catalogue has lost, and that a backup may need");
            self.stays(&self.layout.wals(), &why);
        }
        Ok(gone)
    }
}
