//! How archiving into a bucket goes.

use serde::{Deserialize, Serialize};

/// How archiving goes, as the worker has seen it since it began.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchiveHealth {
    /// Files that were archived.
    pub archived: u64,
    /// Bytes that they have in the bucket.
    pub bytes: u64,
    /// The last one.
    pub last: Option<String>,
    /// When that was, milliseconds since the epoch.
    pub last_ms: Option<u64>,
    /// Since when it fails, milliseconds since the epoch; `None`: it does not.
    pub failing_since_ms: Option<u64>,
    /// Why.
    pub why: Option<String>,
}

/// On a data node with `BARMAN_MODE=cloud`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArchivingView {
    /// Where to: `s3://bucket/path/server/`.
    pub place: String,
    /// The worker's word.
    #[serde(flatten)]
    pub health: ArchiveHealth,
    /// Files that wait to be archived.
    pub waiting: u64,
    /// Bytes in `pg_wal`.
    pub wal_bytes: u64,
    /// Bytes that are free where `pg_wal` is.
    pub free_bytes: Option<u64>,
}

/// What of the bucket can be restored, as the primary saw it last.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedView {
    /// Whose place: `s3://bucket/path/server`.
    pub place: String,
    /// When, milliseconds since the epoch.
    pub at_ms: u64,
    /// Backups that say what they are.
    pub backups: u64,
    /// Of these, how many can be restored.
    pub restorable: u64,
    /// Things that must be mended.
    pub wrong: u64,
    /// The first of them, as a sentence.
    pub first: Option<String>,
    /// Bytes of backups that were not finished, and of their uploads.
    pub unfinished_bytes: u64,
}
