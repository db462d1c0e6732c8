//! The backups that the bucket has.

use super::{Ship, base};
use crate::barman::{Backup, Keep};
use crate::s3::S3Error;
use crate::s3::store::Walk;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// A backup in the bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shelved {
    /// Its id.
    pub id: String,
    /// The objects that make it a backup, below the cluster's; none: it is half of one.
    pub commits: Vec<String>,
    /// Its other objects in `meta/`.
    pub notes: Vec<String>,
    /// What its metadata say.
    pub info: Option<Backup>,
}

/// No metadata are larger: one line has the error's text, one each tablespace.
const MOST: u64 = 4 << 20;

impl Ship {
    /// All backups in the bucket, oldest first, with what their metadata say.
    ///
    /// # Errors
    /// The server refuses or does not answer.
    pub async fn shelf(&self) -> Result<Vec<Shelved>, S3Error> {
        let mut found: BTreeMap<String, Shelved> = BTreeMap::new();
        let bases = self.layout.bases();
        let level = self.store().list(&Walk::level(&bases)).await?;
        let ids = level.folders.iter().filter_map(|f| {
            let id = f.strip_prefix(&bases)?.trim_end_matches('/');
            super::task::is_backup_id(id).then(|| id.to_owned())
        });
        let old: BTreeSet<String> = ids.collect();
        for id in &old {
            found.entry(id.clone()).or_default();
        }
        let metas = self.store().list(&Walk::below(self.key("meta/"))).await?;
        for object in metas.objects {
            let below = object.key.get(self.key("").len()..).unwrap_or_default();
            let name = below.strip_prefix("meta/").unwrap_or_default();
            let Some(id) = name.get(..15).filter(|id| super::task::is_backup_id(id)) else {
                continue;
            };
            let shelved = found.entry(id.to_owned()).or_default();
            match below == base::info(id) {
                true => shelved.commits.push(below.to_owned()),
                false => shelved.notes.push(below.to_owned()),
            }
        }
        for (id, shelved) in &mut found {
            shelved.id.clone_from(id);
            let below = format!("base/{id}/backup.info");
            if old.contains(id) && self.store().find(&self.key(&below)).await?.is_some() {
                shelved.commits.push(below);
            }
            self.describe(shelved).await?;
        }
        Ok(found.into_values().collect())
    }

    /// Where a backup has two, barman reads the one in `meta/`, which is the first here.
    async fn describe(&self, shelved: &mut Shelved) -> Result<(), S3Error> {
        let Some(below) = shelved.commits.first() else {
            return Ok(());
        };
        let Some(text) = self.store().read(&self.key(below), MOST).await? else {
            return Ok(());
        };
        let text = String::from_utf8_lossy(&text);
        let mut backup = Backup::parse(&shelved.id, PathBuf::new(), &text);
        let keeps = [
            format!("base/{}/annotations/keep", shelved.id),
            format!("meta/{}-keep", shelved.id),
        ];
        for below in keeps {
            if let Some(text) = self.store().read(&self.key(&below), MOST).await? {
                backup.keep = Some(match text.trim_ascii() {
                    b"standalone" => Keep::Standalone,
                    // Whatever it means, it is not to be deleted.
                    _ => Keep::Full,
                });
                break;
            }
        }
        shelved.info = Some(backup);
        Ok(())
    }
}
