//! How archiving into a bucket goes.

use super::{human_bytes, human_duration};
use serde::{Deserialize, Serialize};
use std::time::Duration;

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
    /// Bytes that they have.
    #[serde(default)]
    pub waiting_bytes: u64,
    /// Since when the oldest of them waits, milliseconds since the epoch; `None`: none does, or nobody archives them here.
    #[serde(default)]
    pub waiting_since_ms: Option<u64>,
    /// Bytes in `pg_wal`.
    pub wal_bytes: u64,
    /// Bytes that are free where `pg_wal` is.
    pub free_bytes: Option<u64>,
}

impl ArchivingView {
    /// What is stuck for so long is worth a warning.
    pub const PATIENCE: Duration = Duration::from_secs(60);

    /// Since when nothing is archived that should be, milliseconds since the epoch. A file that is tried again and again
    /// has not failed yet, and waits all the same.
    #[must_use]
    pub fn stuck_since_ms(&self) -> Option<u64> {
        let last = self.health.last_ms.unwrap_or(0);
        let waits = self.waiting_since_ms.map(|since| since.max(last));
        [self.health.failing_since_ms, waits]
            .into_iter()
            .flatten()
            .min()
    }

    /// What is kept here meanwhile, in words.
    #[must_use]
    pub fn kept(&self, now_ms: u64) -> String {
        let since = self.waiting_since_ms.map_or_else(String::new, |since| {
            let age = Duration::from_millis(now_ms.saturating_sub(since));
            format!(", the first for {}", human_duration(age))
        });
        format!(
            "{} files wait ({}{since}), pg_wal has {}, {} are free there",
            self.waiting,
            human_bytes(self.waiting_bytes),
            human_bytes(self.wal_bytes),
            self.free_bytes.map_or_else(|| "?".to_owned(), human_bytes),
        )
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_archived_since_the_first_that_waits_or_the_last_that_went() {
        let view = |failing, waiting, last| ArchivingView {
            health: ArchiveHealth {
                failing_since_ms: failing,
                last_ms: last,
                ..ArchiveHealth::default()
            },
            waiting_since_ms: waiting,
            ..ArchivingView::default()
        };
        for (failing, waiting, last, stuck) in [
            (None, None, None, None),
            (None, None, Some(9), None),
            // It catches up.
            (None, Some(5), Some(9), Some(9)),
            (None, Some(5), Some(3), Some(5)),
            // What has failed at last had been tried before.
            (Some(8), Some(5), None, Some(5)),
            // Another cluster's place.
            (Some(8), None, None, Some(8)),
        ] {
            assert_eq!(view(failing, waiting, last).stuck_since_ms(), stuck);
        }
    }

    #[test]
    fn what_waits_is_told_in_words() {
        let view = ArchivingView {
            waiting: 12,
            waiting_bytes: 12 << 24,
            waiting_since_ms: Some(1_000),
            wal_bytes: 20 << 24,
            free_bytes: Some(5 << 30),
            ..ArchivingView::default()
        };
        assert_eq!(
            view.kept(181_000),
            "12 files wait (192.0 MiB, the first for 3 m 00 s), pg_wal has 320.0 MiB, 5.0 GiB are free there"
        );
    }
}
