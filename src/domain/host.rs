//! What a barman host shows of the clusters that it keeps. Times are milliseconds since the Unix
//! epoch, sizes bytes.

use super::{Lsn, Timeline};
use serde::{Deserialize, Serialize};

/// A barman host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostView {
    /// Its clusters, in the order of `BARMAN_SERVERS`.
    pub servers: Vec<KeptView>,
    /// What goes into the bucket, in the same order; empty without one.
    #[serde(default)]
    pub shipping: Vec<ShippingView>,
}

/// One cluster's way into the bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShippingView {
    /// barman's name of the cluster.
    pub name: String,
    /// Backups that wait in the queue, or are being shipped.
    pub waiting: u64,
    /// Those that failed, which a person has to ask for again.
    pub failed: Vec<FailedTask>,
    /// The last run of each kind; none before the first.
    pub runs: Vec<ShippingRun>,
}

/// A task of the queue that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedTask {
    /// The backup.
    pub id: String,
    /// Why.
    pub why: String,
}

/// What a run came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShippingRun {
    /// `wal`, `base` or `full`; `look`: the first word with the bucket after a start.
    pub kind: String,
    /// When it ended.
    pub at_ms: u64,
    /// When one last succeeded.
    pub ok_ms: Option<u64>,
    /// Bytes that it sent.
    pub bytes: u64,
    /// Why it failed.
    pub error: Option<String>,
}

impl HostView {
    /// Whether every cluster's backups are as they should be.
    #[must_use]
    pub fn is_green(&self) -> bool {
        self.servers.iter().all(KeptView::is_green)
    }
}

/// What `barman check` said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckView {
    /// When.
    pub at_ms: u64,
    /// The lines that failed, with barman's hint; empty: all is OK.
    pub failed: Vec<String>,
}

/// A cluster that a barman host keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptView {
    /// barman's name for it.
    pub name: String,
    /// The nodes that can be its primary.
    pub hosts: Vec<String>,
    /// What its keeper does or waits for.
    pub note: String,
    /// Since when.
    pub note_since_ms: u64,
    /// What a person should know of: empty when all is well.
    pub problems: Vec<String>,
    /// The primary, while it answers.
    pub primary: Option<String>,
    /// Its timeline, as last seen.
    pub timeline: Option<Timeline>,
    /// Since when WAL is received; `None` while it is not.
    pub attached_since_ms: Option<u64>,
    /// How far WAL was received and synced.
    pub received: Option<Lsn>,
    /// Bytes of WAL that the primary has and this host has not.
    pub lag_bytes: Option<u64>,
    /// Unexpected ends of receive-wal since pgnode started.
    pub receiver_restarts: u64,
    /// The last `barman check`.
    pub check: Option<CheckView>,
    /// Complete backups.
    pub backups: u64,
    /// The newest complete one.
    pub last_id: Option<String>,
    /// When it ended.
    pub last_end_ms: Option<u64>,
    /// Its bytes.
    pub last_size: Option<u64>,
    /// The timeline that it was made on.
    pub last_timeline: Option<Timeline>,
    /// Bytes that barman can still write.
    pub free_bytes: Option<u64>,
    /// `pg_replication_slots.wal_status` of barman's slot: `reserved`, `extended`, `unreserved`, `lost`.
    pub slot: Option<String>,
}

impl KeptView {
    /// WAL is received, `barman check` has nothing to say, and a complete backup is there.
    #[must_use]
    pub fn is_green(&self) -> bool {
        let checked = self.check.as_ref().is_some_and(|c| c.failed.is_empty());
        self.attached_since_ms.is_some()
            && checked
            && self.last_id.is_some()
            && self.problems.is_empty()
    }

    /// What keeps it from being green, in one phrase.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        if self.is_green() {
            return None;
        }
        if let Some(problem) = self.problems.first() {
            return Some(problem.clone());
        }
        let failed = self.check.as_ref().and_then(|c| c.failed.first());
        Some(match (self.attached_since_ms, failed) {
            (None, _) => self.note.clone(),
            (Some(_), Some(line)) => format!("{}; barman check: {line}", self.note),
            (Some(_), None) => self.note.clone(),
        })
    }
}
