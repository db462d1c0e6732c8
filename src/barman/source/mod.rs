//! Where a restore reads from: a barman's directory of one cluster, mounted here or on another host.
//! What a restore needs of it is here and nothing else, so that every kind of source is alike to it.
//!
//! The one rule that data hang on: *not there* is said only of a source that is reachable and whole.
//! Everything else is [`SourceError::Lost`]: the end of recovery is where the archive ends, never
//! where it stopped answering.

mod directory;
mod host;

pub use host::Host;

use super::{Archive, Backup, BarmanError, Place, Server};
use crate::domain::{Fault, History, SystemId, Timeline};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::AtomicU64;

/// A source of backups and WAL. Clones are cheap and share nothing that matters.
#[derive(Clone, Debug)]
pub enum Source {
    /// A directory here.
    Directory(Server),
    /// A barman host.
    Host(Host),
}

/// Why a source did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It cannot be read at the moment: asked again within the budget.
    #[error("{source_name} cannot be read: {doing}")]
    Lost {
        /// The source, for a person.
        source_name: String,
        /// What was being done.
        doing: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It answers, and what it holds cannot be used; asking again does not help.
    #[error("{what}")]
    Unusable {
        /// What, why, and what to do.
        what: String,
    },
    /// Its catalogue.
    #[error(transparent)]
    Catalogue(#[from] BarmanError),
}

impl SourceError {
    /// Whether asking again can help.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.fault().is_transient()
    }

    /// What can be done about it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Lost { .. } => Fault::Transient(Fault::chain(self)),
            Self::Unusable { .. } => Fault::NeedsPerson(Fault::chain(self)),
            Self::Catalogue(error) => error.fault(),
        }
    }
}

/// One entry of a backup, its path relative to [`Backup::dir`]: `data/…`, or `<oid>/…` for a
/// tablespace. A directory comes before what is in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Relative, without `..`.
    pub path: PathBuf,
    /// What it is.
    pub kind: EntryKind,
}

impl Entry {
    /// Bytes of a file; nothing else has any.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        match self.kind {
            EntryKind::File(bytes) => bytes,
            EntryKind::Dir | EntryKind::Link(_) => 0,
        }
    }
}

/// What an entry is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A directory.
    Dir,
    /// A file of so many bytes.
    File(u64),
    /// A symbolic link, to there.
    Link(PathBuf),
}

/// Where the files of a backup go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// Those of the data directory.
    pub data: PathBuf,
    /// Those of each tablespace, by its oid; the links to them are made by the caller.
    pub tablespaces: BTreeMap<u32, PathBuf>,
}

impl Places {
    /// Of the data directory alone.
    #[must_use]
    pub fn of(data: &Path) -> Self {
        Self {
            data: data.to_owned(),
            ..Self::default()
        }
    }

    /// Of a tablespace, or of the data directory.
    #[must_use]
    pub fn root(&self, tablespace: Option<u32>) -> Option<&Path> {
        match tablespace {
            Some(oid) => self.tablespaces.get(&oid).map(PathBuf::as_path),
            None => Some(&self.data),
        }
    }

    /// Where an entry goes; `None` for one that is not copied.
    fn target(&self, entry: &Entry) -> Option<PathBuf> {
        let mut parts = entry.path.components();
        let first = parts.next()?.as_os_str().to_str()?;
        let space = match first {
            "data" => None,
            oid => Some(oid.parse().ok()?),
        };
        let inside = parts.as_path();
        if !inside
            .components()
            .all(|c| matches!(c, Component::Normal(_)))
        {
            return None;
        }
        // A tablespace's link leads to where it was, or into the backup.
        let linked = || {
            let oid = inside.strip_prefix("pg_tblspc").ok()?.to_str()?;
            self.tablespaces.get(&oid.parse().ok()?)
        };
        if matches!(entry.kind, EntryKind::Link(_)) && linked().is_some() {
            return None;
        }
        Some(self.root(space)?.join(inside))
    }
}

/// A WAL, history or label file, unpacked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wal {
    /// Its contents: of a segment a whole one, also when it was only received in part.
    pub bytes: Vec<u8>,
    /// Where it lay.
    pub place: Place,
}

impl Source {
    /// All backups of the cluster, oldest first.
    ///
    /// # Errors
    /// [`SourceError`]; also [`SourceError::Lost`] when there is no catalogue at all.
    pub async fn backups(&self) -> Result<Vec<Backup>, SourceError> {
        match self {
            Self::Directory(server) => directory::backups(server.clone()).await,
            Self::Host(host) => host.backups().await,
        }
    }

    /// The cluster that barman saw first under this name; `None` when it has not written that down.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn identity(&self) -> Result<Option<SystemId>, SourceError> {
        match self {
            Self::Directory(server) => directory::identity(server.clone()).await,
            Self::Host(host) => host.identity().await,
        }
    }

    /// Which segments and histories are archived.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn archive(&self, segment_size: u64) -> Result<Archive, SourceError> {
        match self {
            Self::Directory(server) => directory::archive(server.clone(), segment_size).await,
            Self::Host(host) => host.archive(segment_size).await,
        }
    }

    /// A timeline's history; timeline 1 has an empty one. `None` when it is not archived.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn history(&self, timeline: Timeline) -> Result<Option<History>, SourceError> {
        match self {
            Self::Directory(server) => directory::history(server.clone(), timeline).await,
            Self::Host(host) => host.history(timeline).await,
        }
    }

    /// A segment (24 digits), a history file or a label file, unpacked. `anchor` is the id of the
    /// backup that is being restored: `None` is only said while that one is in the catalogue.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn wal(&self, name: &str, anchor: &str) -> Result<Option<Wal>, SourceError> {
        match self {
            Self::Directory(server) => {
                directory::wal(server.clone(), name.to_owned(), anchor.to_owned()).await
            }
            Self::Host(host) => host.wal(name, anchor).await,
        }
    }

    /// What a backup consists of, with sizes.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn entries(&self, backup: &Backup) -> Result<Vec<Entry>, SourceError> {
        let entries = match self {
            Self::Directory(_) => directory::entries(backup.clone()).await?,
            Self::Host(host) => host.entries(&backup.id).await?,
        };
        let listed = |oid: u32| {
            let root = oid.to_string();
            entries.iter().any(|e| e.path.as_os_str() == root.as_str())
        };
        match backup.tablespaces.iter().find(|t| !listed(t.oid)) {
            None => Ok(entries),
            // A pgnode of before did not send them.
            Some(space) => Err(SourceError::Unusable {
                what: format!(
                    "{self} lists no files of tablespace {} of backup {}: is its pgnode older than this one?",
                    space.name, backup.id
                ),
            }),
        }
    }

    /// Where the files of a backup can be read in place, for `pg_combinebackup`; `None` when they
    /// have to be copied here first.
    #[must_use]
    pub fn in_place(&self, backup: &Backup) -> Option<PathBuf> {
        match self {
            Self::Directory(_) => Some(backup.data_dir()),
            Self::Host(_) => None,
        }
    }

    /// Copies `entries` of a backup to their `places`, which are there and empty: `data/base/1` becomes
    /// `<data>/base/1`; entries without a place are left out. Directories 0700, files 0600, `owner`'s. Nothing is synced: the caller syncs the file system once. `done` is
    /// raised by the bytes that were copied, while they are. A file that is shorter or longer
    /// than it was listed is an error. Dropping the future ends the copying soon.
    ///
    /// # Errors
    /// [`SourceError`]; [`SourceError::Unusable`] also for what is wrong with a place.
    pub async fn copy(
        &self,
        backup: &Backup,
        entries: Vec<Entry>,
        places: &Places,
        owner: Option<(u32, u32)>,
        done: std::sync::Arc<AtomicU64>,
    ) -> Result<(), SourceError> {
        match self {
            Self::Directory(_) => {
                directory::copy(backup.clone(), entries, places, owner, done).await
            }
            Self::Host(host) => host.copy(&backup.id, entries, places, owner, done).await,
        }
    }
}

/// For a person: where it is.
impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory(server) => server.dir.display().fmt(f),
            Self::Host(host) => host.fmt(f),
        }
    }
}
