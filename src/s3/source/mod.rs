//! A bucket as a restore's source: what [`crate::barman::Source`] is for a barman's directory. The same rule holds:
//! *not there* is said only where the server says so and the backup in question is there; whatever else goes wrong
//! is an error.

mod held;
mod listed;
mod piece;
mod untar;

pub use held::Held;
pub use piece::{Piece, pieces};

use super::base::{Catalogue, Entry, Manifest};
use super::pipe::{Hashed, pipe};
use super::{Layout, S3Error, Store};
use crate::barman::{Archive, Backup, Place, Places, Wal};
use crate::domain::{History, SystemId, Timeline};
use crate::s3::codec::Decoder;
use crate::s3::layout::{WalKind, kind};
use crate::s3::store::Walk;
use crate::s3::wal;
use sha2::Sha256;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use untar::Untar;

/// Chunks that wait between the network and the thread that unpacks.
const WAITING: usize = 64;

/// One cluster's place in a bucket.
#[derive(Clone, Debug)]
pub struct Bucket {
    store: Store,
    layout: Layout,
}

/// A backup's metadata, which are stored last.
const INFO: &str = "backup.info";

/// The clusters that a bucket's path holds, in order: folders with a `base/`.
///
/// # Errors
/// The server refuses it, or does not answer.
pub async fn clusters(store: &Store) -> Result<Vec<String>, S3Error> {
    let top = store.list(&Walk::level("")).await?;
    let mut names = Vec::new();
    for folder in top.folders {
        let name = folder.trim_end_matches('/');
        if !store.is_empty(&Layout::of(name).bases()).await? {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

impl Bucket {
    /// The cluster of that name.
    #[must_use]
    pub fn new(store: Store, server: &str) -> Self {
        Self {
            store,
            layout: Layout::of(server),
        }
    }

    /// The client.
    #[must_use]
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// Its keys.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// What lies below `base/`.
    #[must_use]
    pub fn catalogue(&self) -> Catalogue {
        Catalogue::of(self.store.clone(), self.layout.server())
    }

    /// All backups that say what they are, oldest first. A key that may only read is enough.
    ///
    /// # Errors
    /// The server refuses it, or does not answer.
    pub async fn backups(&self) -> Result<Vec<Backup>, S3Error> {
        Ok(self.catalogue().finished().await?.backups())
    }

    /// The cluster, as its newest backup has it.
    ///
    /// # Errors
    /// As [`Bucket::backups`].
    pub async fn identity(&self) -> Result<Option<SystemId>, S3Error> {
        let backups = self.backups().await?;
        Ok(backups.iter().rev().find_map(|b| b.system_id))
    }

    /// All of `wals/`, page by page.
    ///
    /// # Errors
    /// The server refuses it, or does not answer.
    pub async fn held(&self, segment_size: u64) -> Result<Held, S3Error> {
        let mut held = Held::of(segment_size);
        self.store
            .walk(
                &Walk::below(self.layout.wals()),
                |page| -> Result<(), S3Error> {
                    for object in &page.objects {
                        held.add(object);
                    }
                    Ok(())
                },
            )
            .await?;
        held.settle();
        Ok(held)
    }

    /// Which segments and histories are archived.
    ///
    /// # Errors
    /// As [`Bucket::held`].
    pub async fn archive(&self, segment_size: u64) -> Result<Archive, S3Error> {
        Ok(self.held(segment_size).await?.archive)
    }

    /// A timeline's history; timeline 1 has an empty one. `None` when it is not archived, or the number is only
    /// reserved.
    ///
    /// # Errors
    /// The server refuses it, or does not answer; it is damaged.
    pub async fn history(&self, timeline: Timeline) -> Result<Option<History>, S3Error> {
        if timeline.0 == 1 {
            return Ok(Some(History::without_past(timeline)));
        }
        self.wals().history(timeline).await
    }

    /// Its archive.
    #[must_use]
    pub fn wals(&self) -> wal::Archive {
        wal::Archive::new(self.store.clone(), self.layout.server())
    }

    /// A segment (24 digits), a history file or a label file, unpacked. `anchor` is the id of the backup that is
    /// being restored: `None` is only said while that one is there.
    ///
    /// # Errors
    /// The server refuses it, or does not answer; what is stored is damaged, or nothing is where the backup was.
    pub async fn wal(&self, name: &str, anchor: &str) -> Result<Option<Wal>, S3Error> {
        let (wals, partial) = (self.wals(), format!("{name}.partial"));
        if let Some(found) = wals.fetch(name, None).await? {
            return Ok(Some(Wal {
                bytes: found.bytes,
                place: Place::Archived,
            }));
        }
        if kind(name) == Some(WalKind::Segment)
            && let Some(found) = wals.fetch(&partial, None).await?
        {
            return Ok(Some(Wal {
                bytes: found.bytes,
                place: Place::ArchivedPartial,
            }));
        }
        let info = self.layout.base(anchor, INFO);
        if self.store.find(&info).await?.is_none() {
            return Err(S3Error::Gone {
                name: name.to_owned(),
                what: self.store.uri(&info),
            });
        }
        Ok(None)
    }

    /// Unpacks the `pieces` of a backup to their `places`, which are there and empty. Directories 0700, files 0600, `owner`'s. Nothing is
    /// synced: the caller syncs the file system once. `done` is raised by the bytes that were read from the bucket.
    /// Every byte of every piece is read, and whatever is not as it should be is an error. Dropping the future ends
    /// it soon.
    ///
    /// # Errors
    /// The server refuses it, or does not answer; a piece is damaged, or the whole is no data directory;
    /// [`S3Error::Unfit`] for what is wrong with a place.
    pub async fn copy(
        &self,
        entry: &Entry,
        places: &Places,
        owner: Option<(u32, u32)>,
        done: Arc<AtomicU64>,
    ) -> Result<(), S3Error> {
        self.read(entry, Some((places, owner)), &done).await
    }

    /// Reads a backup as [`Bucket::copy`] does, and puts it nowhere. `done` as there.
    ///
    /// # Errors
    /// As [`Bucket::copy`].
    pub async fn prove(&self, entry: &Entry, done: &AtomicU64) -> Result<(), S3Error> {
        self.read(entry, None, done).await
    }

    async fn read(
        &self,
        entry: &Entry,
        to: Option<(&Places, Option<(u32, u32)>)>,
        done: &AtomicU64,
    ) -> Result<(), S3Error> {
        let (to, owner) = to.unzip();
        let untar = |listed| Untar::new(to, owner.flatten(), listed);
        let Some(manifest) = Manifest::open(&self.catalogue(), entry).await? else {
            return self.unpack(entry, untar(None), done).await;
        };
        let (lines, listed) = listed::listed();
        let (unpacked, listed) = tokio::join!(
            self.unpack(entry, untar(Some(listed)), done),
            listed::send(manifest, lines)
        );
        // A list that ends early makes the files strange, and is the reason.
        listed?;
        unpacked
    }

    async fn unpack(
        &self,
        entry: &Entry,
        mut untar: Untar,
        done: &AtomicU64,
    ) -> Result<(), S3Error> {
        let bug = |e: tokio::task::JoinError| S3Error::Bug(format!("unpacking a backup: {e}"));
        let whole = entry.backup.dir.display().to_string();
        let pieces = pieces(entry).map_err(|why| untar::damaged(&whole, why))?;
        for piece in pieces {
            let (sender, pipe) = pipe(WAITING);
            let mut packed = Hashed::<_, Sha256>::new(pipe);
            let (of, uri) = (piece.clone(), self.store.uri(&piece.key));
            let unpacking = tokio::task::spawn_blocking(move || {
                let taken = Decoder::new(of.format, &mut packed)
                    .map_err(|e| untar::cut(&uri, &e))
                    .and_then(|input| untar.part(&uri, &of, input))
                    .and_then(|()| packed.finish().map_err(|e| untar::cut(&uri, &e)))
                    .map(|sha256| untar.archive(&of.name, of.size, sha256));
                (untar, taken)
            });
            let poured = piece::pour(&self.store, &piece, sender, done).await;
            let (back, taken) = unpacking.await.map_err(bug)?;
            untar = back;
            // What ended early for want of bytes says so, and is not the reason.
            poured?;
            taken?;
        }
        let backup = entry.backup.clone();
        tokio::task::spawn_blocking(move || untar.finish(&whole, &backup))
            .await
            .map_err(bug)?
    }
}

/// For a person: where it is.
impl std::fmt::Display for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.store.uri(self.layout.server()))
    }
}
