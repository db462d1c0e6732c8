//! What backups a bucket has, ours and barman-cloud's: one LIST of `base/`, and each `backup.info`.

use super::archive::ArchiveName;
use super::manifest::MANIFEST;
use super::marker::{MARKER, Marker};
use crate::barman::{Backup, BackupStatus, Keep, Tablespace, is_id};
use crate::s3::S3Error;
use crate::s3::layout::Layout;
use crate::s3::store::{Object, Store, Unfinished, Walk};
use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, TryStreamExt as _};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// `backup.info`, and where barman-cloud keeps the word that a backup is kept.
pub(super) const INFO: &str = "backup.info";
/// The same of a backup of ours that failed. Of barman-cloud's name it would be what `barman-cloud-restore … auto` takes:
/// it never looks at the status (`docs/s3-backups.md`).
pub(super) const FAILED: &str = "pgnode_failed.info";
pub(super) const KEEP: &str = "annotations/keep";
/// There from before a delete's first object until after its last: what a killed one leaves is nobody's backup.
pub(super) const DOOMED: &str = "pgnode_deleted";
/// Longer ones are nobody's: a message of an error is the longest value.
const LONGEST_INFO: u64 = 4 << 20;
/// Another's backup shows no sign of life for so long only when it is dead: barman-cloud's largest archive would have
/// to take that long.
const QUIET: chrono::TimeDelta = chrono::TimeDelta::hours(24);
/// `backup.info` files that are read at once.
const AT_ONCE: usize = 8;

/// One cluster's backups in a bucket. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Catalogue {
    /// The bucket.
    pub store: Store,
    /// The cluster's keys.
    pub layout: Layout,
}

/// What was found in it.
#[derive(Clone, Debug, Default)]
pub struct Shelf {
    /// Every backup that has a `backup.info`, whatever its status, and those of ours that failed; oldest first, by when
    /// they began: an id is local time of whoever made it, and neither a failover nor the end of summer time may turn
    /// two around.
    pub entries: Vec<Entry>,
    /// What has none: being made, killed, or half deleted.
    pub leftovers: Vec<Leftover>,
}

/// A backup with its objects.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What its `backup.info` says; `dir` is its address, `s3://bucket/path/server/base/id`.
    pub backup: Backup,
    /// Its tar archives: the data directory's first, parts in order.
    pub archives: Vec<Archive>,
    /// Our list of checksums ([`super::Manifest`]); barman-cloud's own backups have none.
    pub manifest: Option<Object>,
    /// All its objects, those too that are nothing known.
    pub objects: Vec<Object>,
    /// Why it cannot be restored, as far as a look at the list can tell; empty: nothing is seen to be wrong.
    pub lacks: Vec<String>,
}

/// One tar archive of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Archive {
    /// Which.
    pub name: ArchiveName,
    /// Where, and how large.
    pub object: Object,
}

/// Objects and uploads of a backup that has no `backup.info`.
#[derive(Clone, Debug)]
pub struct Leftover {
    /// Its id, or a directory of another name.
    pub id: String,
    /// Objects.
    pub objects: Vec<Object>,
    /// Uploads that were not finished; [`Catalogue::parts_bytes`] says how much they hold.
    pub uploads: Vec<Unfinished>,
    /// Who makes it, or made it; not with barman-cloud's, or what is left of a delete.
    pub marker: Option<Marker>,
    /// Its delete was begun, and broken off.
    pub doomed: bool,
    /// A key that neither barman-cloud nor we write: a barman host's catalogue, or whatever else. Never to be deleted.
    pub foreign: Option<String>,
}

impl Entry {
    /// When it began, milliseconds since the epoch: as it says, or else by its id, taken for UTC.
    #[must_use]
    pub fn begun_ms(&self) -> u64 {
        self.backup
            .begin_ms
            .or_else(|| id_ms(&self.backup.id))
            .unwrap_or(0)
    }

    /// Bytes that it takes in the bucket.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.objects.iter().map(|o| o.size).sum()
    }

    /// Whether it may be restored as far as the list tells: complete, understood, and no archive missing.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.backup.is_done() && self.backup.garbled.is_empty() && self.lacks.is_empty()
    }

    /// The archives of a tablespace, or of the data directory, in order.
    pub fn archives_of(&self, tablespace: Option<u32>) -> impl Iterator<Item = &Archive> + Clone {
        let same = move |a: &&Archive| a.name.tablespace == tablespace;
        self.archives.iter().filter(same)
    }
}

impl Leftover {
    /// The last sign of life in the bucket, by the server's clock.
    #[must_use]
    pub fn touched(&self) -> Option<DateTime<Utc>> {
        let objects = self.objects.iter().map(|o| o.modified);
        objects.chain(self.uploads.iter().map(|u| u.begun)).max()
    }

    /// When it began, milliseconds since the epoch: as its marker says, or else by its id.
    #[must_use]
    pub fn begun_ms(&self) -> u64 {
        let said = self.marker.as_ref().map(|m| m.begin_ms);
        said.or_else(|| id_ms(&self.id)).unwrap_or(0)
    }

    /// Whether it is surely of nobody who still runs, seen by whoever holds the backup lock of the cluster: it was being
    /// deleted; or this node made it, and makes none now; or nothing has come to it for a day.
    #[must_use]
    pub fn is_dead(&self, node: &str, system_id: &str, now: DateTime<Utc>) -> bool {
        if self.foreign.is_some() {
            return false;
        }
        let ours = |m: &Marker| m.node == node && m.system_id == system_id;
        let quiet = self.touched().is_none_or(|last| now - last > QUIET);
        self.doomed || self.marker.as_ref().is_some_and(ours) || quiet
    }

    /// Bytes of its objects, without those of its uploads.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.objects.iter().map(|o| o.size).sum()
    }
}

impl Shelf {
    /// The backups alone, as barman's catalogue has them.
    #[must_use]
    pub fn backups(&self) -> Vec<Backup> {
        self.entries.iter().map(|e| e.backup.clone()).collect()
    }

    /// Oldest first.
    pub fn sort(&mut self) {
        let age = |e: &Entry| (e.begun_ms(), e.backup.id.clone());
        self.entries.sort_by_cached_key(age);
    }

    /// A directory that is not of our format, with what is strange in it: what it needs, nobody here knows.
    #[must_use]
    pub fn foreign(&self) -> Option<(&str, &str)> {
        self.leftovers
            .iter()
            .find_map(|l| Some((l.id.as_str(), l.foreign.as_deref()?)))
    }

    /// The one with this id.
    #[must_use]
    pub fn entry(&self, id: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.backup.id == id)
    }
}

impl Catalogue {
    /// Of the cluster that is called so in the bucket.
    #[must_use]
    pub fn of(store: Store, server: &str) -> Self {
        Self {
            store,
            layout: Layout::of(server),
        }
    }

    /// Everything below `base/`.
    ///
    /// # Errors
    /// [`S3Error`]; an unreadable `backup.info` is none, but stands in the entry.
    pub async fn read(&self) -> Result<Shelf, S3Error> {
        let uploads = self.store.unfinished(&self.layout.bases()).await?;
        self.with(uploads).await
    }

    /// As [`Catalogue::read`], without the uploads that were not finished: a key that may only read is not allowed to
    /// list them.
    ///
    /// # Errors
    /// As [`Catalogue::read`].
    pub async fn finished(&self) -> Result<Shelf, S3Error> {
        self.with(Vec::new()).await
    }

    async fn with(&self, uploads: Vec<Unfinished>) -> Result<Shelf, S3Error> {
        let bases = self.layout.bases();
        let page = self.store.list(&Walk::below(bases.clone())).await?;
        let mut found: BTreeMap<String, (Vec<Object>, Vec<Unfinished>)> = BTreeMap::new();
        for object in page.objects {
            if let Some(id) = id_of(&bases, &object.key) {
                found.entry(id).or_default().0.push(object);
            }
        }
        for upload in uploads {
            if let Some(id) = id_of(&bases, &upload.key) {
                found.entry(id).or_default().1.push(upload);
            }
        }
        let looks = found
            .into_iter()
            .map(|(id, (objects, uploads))| self.look(id, objects, uploads));
        let mut shelf = Shelf::default();
        let mut looks = futures_util::stream::iter(looks).buffered(AT_ONCE);
        while let Some(piece) = looks.try_next().await? {
            match piece {
                Piece::Entry(entry) => shelf.entries.push(*entry),
                Piece::Leftover(leftover) => shelf.leftovers.push(leftover),
            }
        }
        shelf.sort();
        Ok(shelf)
    }

    /// Bytes that unfinished uploads hold.
    ///
    /// # Errors
    /// [`S3Error`]; not for one that ended meanwhile, which holds none.
    pub async fn parts_bytes(&self, uploads: &[Unfinished]) -> Result<u64, S3Error> {
        let mut bytes = 0;
        for upload in uploads {
            let parts = self.store.parts(upload).await?.unwrap_or_default();
            bytes += parts.iter().map(|p| p.size).sum::<u64>();
        }
        Ok(bytes)
    }

    async fn look(
        &self,
        id: String,
        objects: Vec<Object>,
        uploads: Vec<Unfinished>,
    ) -> Result<Piece, S3Error> {
        let key = |name: &str| self.layout.base(&id, name);
        let has = |name: &str| objects.iter().any(|o| o.key == key(name));
        let info = [INFO, FAILED].into_iter().find(|name| has(name));
        let text = match info.filter(|_| is_id(&id)) {
            Some(name) => self.text(&key(name)).await?,
            None => None,
        };
        let Some(text) = text else {
            let marker = match has(MARKER) {
                true => self.text(&key(MARKER)).await?,
                false => None,
            };
            let keys = objects.iter().map(|o| &o.key);
            let mut keys = keys.chain(uploads.iter().map(|u| &u.key));
            let foreign =
                keys.find(|k| !is_id(&id) || !k.strip_prefix(&key("")).is_some_and(is_known));
            return Ok(Piece::Leftover(Leftover {
                marker: marker.and_then(|text| Marker::parse(&text)),
                doomed: has(DOOMED),
                foreign: foreign.map(|key| self.store.uri(key)),
                id,
                objects,
                uploads,
            }));
        };
        let dir = self.store.uri(&self.layout.base(&id, ""));
        let dir = PathBuf::from(dir.trim_end_matches('/'));
        let mut backup = Backup::parse(&id, dir, &text);
        backup.keep = match has(KEEP) {
            true => self.kept(&key(KEEP), &mut backup.garbled).await?,
            false => None,
        };
        let mut archives: Vec<Archive> = objects
            .iter()
            .filter_map(|object| {
                let name = ArchiveName::parse(object.key.strip_prefix(&key(""))?)?;
                Some(Archive {
                    name,
                    object: object.clone(),
                })
            })
            .collect();
        archives.sort_by_key(|a| a.name);
        Ok(Piece::Entry(Box::new(Entry {
            lacks: match backup.status {
                BackupStatus::Failed => Vec::new(),
                _ if backup.snapshot => vec!["its files are snapshots of disks".to_owned()],
                _ => lacks(&archives, &backup.tablespaces),
            },
            archives,
            manifest: objects.iter().find(|o| o.key == key(MANIFEST)).cloned(),
            backup,
            objects,
        })))
    }

    async fn text(&self, key: &str) -> Result<Option<String>, S3Error> {
        let bytes = self.store.read(key, LONGEST_INFO).await?;
        Ok(bytes.map(|b| String::from_utf8_lossy(&b).into_owned()))
    }

    /// barman-cloud reads the first line.
    async fn kept(&self, key: &str, garbled: &mut Vec<String>) -> Result<Option<Keep>, S3Error> {
        let Some(text) = self.text(key).await? else {
            return Ok(None);
        };
        Ok(Some(match text.lines().next().unwrap_or_default().trim() {
            "standalone" => Keep::Standalone,
            "full" => Keep::Full,
            other => {
                garbled.push(format!("keep={other} where standalone or full belongs"));
                // Whatever it means, it is not to be deleted.
                Keep::Full
            }
        }))
    }
}

enum Piece {
    Entry(Box<Entry>),
    Leftover(Leftover),
}

/// Whether barman-cloud or we give such names, in a backup's directory.
fn is_known(name: &str) -> bool {
    [INFO, FAILED, MARKER, MANIFEST, DOOMED].contains(&name)
        || name.starts_with("annotations/")
        || ArchiveName::parse(name).is_some()
}

/// The moment of an id's text, taken for UTC.
fn id_ms(id: &str) -> Option<u64> {
    let time = chrono::NaiveDateTime::parse_from_str(id, "%Y%m%dT%H%M%S").ok()?;
    u64::try_from(time.and_utc().timestamp_millis()).ok()
}

/// The backup that a key belongs to: the directory after `base/`.
fn id_of(bases: &str, key: &str) -> Option<String> {
    let (id, _) = key.strip_prefix(bases)?.split_once('/')?;
    Some(id.to_owned())
}

/// Archives that must be there and are not. Of a part that is missing at the end nobody but the manifest knows.
fn lacks(archives: &[Archive], tablespaces: &[Tablespace]) -> Vec<String> {
    let owners = tablespaces.iter().map(|t| Some(t.oid));
    let mut lacks = Vec::new();
    for owner in std::iter::once(None).chain(owners) {
        let parts: Vec<&ArchiveName> = archives
            .iter()
            .map(|a| &a.name)
            .filter(|n| n.tablespace == owner)
            .collect();
        let word = owner.map_or_else(|| "data".to_owned(), |oid| oid.to_string());
        if parts.is_empty() {
            lacks.push(format!("{word}.tar is missing"));
        }
        for (n, part) in parts.iter().enumerate() {
            let wanted = u32::try_from(n).unwrap_or(u32::MAX);
            if part.part == wanted {
                continue;
            }
            lacks.push(match parts.get(n.wrapping_sub(1)) {
                Some(before) if before.part == part.part => {
                    format!("{before} and {part} are both there")
                }
                _ => {
                    let missing = ArchiveName {
                        part: wanted,
                        ..**part
                    };
                    format!("{missing} is missing, and {part} is there")
                }
            });
            break;
        }
    }
    lacks
}

#[cfg(test)]
#[path = "catalogue_tests.rs"]
mod tests;
