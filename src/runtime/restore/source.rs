//! Where a restore reads from: a barman, or a bucket. What a restore needs of them is here, so that it is alike to
//! the rest.

use crate::barman::{self, Archive, Backup, Entry, Places, Wal};
use crate::config::Format;
use crate::domain::{Fault, History, Timeline};
use crate::s3::S3Error;
use crate::s3::base::Entry as Stored;
use crate::s3::source::{Bucket, pieces};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

/// A source of backups and WAL.
#[derive(Clone, Debug)]
pub(in crate::runtime) enum Source {
    /// A barman's directory, here or on its host.
    Barman(barman::Source),
    /// A bucket in barman-cloud's layout.
    Bucket {
        /// With a short patience: what it does not answer is asked again by those who wait for it, and they say so.
        bucket: Bucket,
        /// With all of `PGNODE_RESTORE_RETRY`, for the copy: what broke off goes on where it was.
        patient: Bucket,
    },
}

/// Why a source did not give what it was asked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    #[error(transparent)]
    Barman(#[from] barman::SourceError),
    #[error(transparent)]
    Bucket(#[from] S3Error),
}

impl SourceError {
    /// Whether asking again can help.
    pub(super) fn is_lost(&self) -> bool {
        self.fault().is_transient()
    }

    /// What can be done about it.
    pub(super) fn fault(&self) -> Fault {
        match self {
            Self::Barman(error) => error.fault(),
            Self::Bucket(error) => error.fault(),
        }
    }
}

/// What a backup consists of.
#[derive(Clone, Debug)]
pub(in crate::runtime) enum Files {
    /// Files as they are.
    Plain(Vec<Entry>),
    /// Tars, which may be packed.
    Tars(Box<Stored>),
}

/// A data directory packs about so well: only where its size was not written down.
const PACKED: u64 = 3;

impl Files {
    /// Bytes that are read.
    pub(super) fn bytes(&self) -> u64 {
        match self {
            Self::Plain(entries) => entries.iter().map(Entry::bytes).sum(),
            Self::Tars(entry) => entry.archives.iter().map(|a| a.object.size).sum(),
        }
    }

    /// Bytes that those of a tablespace, or of the data directory, become, as far as that is known.
    pub(super) fn unpacked(&self, backup: &Backup, tablespace: Option<u32>) -> u64 {
        let cluster = backup.cluster_size.unwrap_or(0);
        match self {
            Self::Plain(entries) => {
                let root = tablespace.map_or("data".to_owned(), |oid| oid.to_string());
                let of = entries.iter().filter(|e| e.path.starts_with(&root));
                let own = of.map(Entry::bytes).sum();
                let others = self.bytes().saturating_sub(own);
                match tablespace {
                    // An incremental one becomes as large as the cluster was.
                    None => cluster.saturating_sub(others).max(own),
                    Some(_) => own,
                }
            }
            Self::Tars(entry) => {
                let of = entry.archives_of(tablespace);
                let packed: u64 = of.clone().map(|a| a.object.size).sum();
                if cluster > 0 {
                    // All of it packs alike, as far as anybody knows.
                    let part = u128::from(cluster) * u128::from(packed);
                    let part = part.checked_div(u128::from(self.bytes()));
                    return part.and_then(|n| n.try_into().ok()).unwrap_or(cluster);
                }
                let each = of.map(|a| match a.name.format {
                    Format::None => a.object.size,
                    _ => a.object.size.saturating_mul(PACKED),
                });
                each.sum()
            }
        }
    }
}

impl Source {
    /// What can restore that which is not restored here.
    pub(super) const fn tool(&self) -> &'static str {
        match self {
            Self::Barman(_) => "barman restore",
            Self::Bucket { .. } => "barman-cloud-restore",
        }
    }

    pub(super) async fn backups(&self) -> Result<Vec<Backup>, SourceError> {
        Ok(match self {
            Self::Barman(source) => source.backups().await?,
            Self::Bucket { bucket, .. } => bucket.backups().await?,
        })
    }

    pub(super) async fn archive(&self, segment_size: u64) -> Result<Archive, SourceError> {
        Ok(match self {
            Self::Barman(source) => source.archive(segment_size).await?,
            Self::Bucket { bucket, .. } => bucket.archive(segment_size).await?,
        })
    }

    pub(super) async fn history(&self, timeline: Timeline) -> Result<Option<History>, SourceError> {
        Ok(match self {
            Self::Barman(source) => source.history(timeline).await?,
            Self::Bucket { bucket, .. } => bucket.history(timeline).await?,
        })
    }

    pub(super) async fn wal(&self, name: &str, anchor: &str) -> Result<Option<Wal>, SourceError> {
        Ok(match self {
            Self::Barman(source) => source.wal(name, anchor).await?,
            Self::Bucket { bucket, .. } => bucket.wal(name, anchor).await?,
        })
    }

    /// What a backup consists of; a part that is missing is an error.
    pub(super) async fn files(&self, backup: &Backup) -> Result<Files, SourceError> {
        match self {
            Self::Barman(source) => Ok(Files::Plain(source.entries(backup).await?)),
            Self::Bucket { bucket, .. } => {
                let id = &backup.id;
                let refused = |why: String| {
                    S3Error::Unfit(format!("backup {id} of {bucket} cannot be restored: {why}"))
                };
                let shelf = bucket.catalogue().finished().await?;
                let entry = shelf.entry(id).cloned();
                let entry = entry.ok_or_else(|| refused("it was deleted meanwhile".to_owned()))?;
                pieces(&entry).map_err(refused)?;
                Ok(Files::Tars(Box::new(entry)))
            }
        }
    }

    pub(super) fn in_place(&self, backup: &Backup) -> Option<PathBuf> {
        match self {
            Self::Barman(source) => source.in_place(backup),
            Self::Bucket { .. } => None,
        }
    }

    /// As [`barman::Source::copy`] and [`Bucket::copy`].
    pub(super) async fn copy(
        &self,
        backup: &Backup,
        files: Files,
        places: &Places,
        owner: Option<(u32, u32)>,
        done: Arc<AtomicU64>,
    ) -> Result<(), SourceError> {
        match (self, files) {
            (Self::Barman(source), Files::Plain(entries)) => {
                source.copy(backup, entries, places, owner, done).await?;
            }
            (Self::Bucket { patient, .. }, Files::Tars(entry)) => {
                patient.copy(&entry, places, owner, done).await?;
            }
            (Self::Barman(_), Files::Tars(_)) | (Self::Bucket { .. }, Files::Plain(_)) => {
                return Err(S3Error::Bug("files of another source".to_owned()).into());
            }
        }
        Ok(())
    }
}

/// For a person: where it is.
impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Barman(source) => source.fmt(f),
            Self::Bucket { bucket, .. } => bucket.fmt(f),
        }
    }
}
