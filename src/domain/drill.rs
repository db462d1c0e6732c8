//! The result of a drill: a backup restored to prove it.

use super::{Lsn, human_bytes, human_duration};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::Duration;

/// The last drill of a cluster, and what earlier ones said of backups that are still there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DrillView {
    /// barman's name of the cluster.
    pub server: String,
    /// When it ended, milliseconds since the epoch.
    pub at_ms: u64,
    /// The backup that was restored; `None` when none could be chosen.
    pub backup: Option<String>,
    /// Why it failed; `None` when it did not.
    pub error: Option<String>,
    /// The failure's name in `docs/doctor.md`.
    pub ailment: Option<String>,
    /// From the first copied byte to the server that answers, in milliseconds.
    pub restore_ms: Option<u64>,
    /// The whole drill in milliseconds.
    pub took_ms: u64,
    /// Bytes of the restored directory.
    pub bytes: Option<u64>,
    /// The last transaction that was recovered, milliseconds since the epoch.
    pub recovery_point_ms: Option<u64>,
    /// How far the WAL was replayed.
    pub recovery_lsn: Option<Lsn>,
    /// Marker rows that were compared.
    pub rows: Option<u64>,
    /// The largest child's memory in bytes.
    pub peak_memory: Option<u64>,
    /// When a drill last succeeded.
    pub last_success_ms: Option<u64>,
    /// Backups that failed their drill: id and why.
    pub failed: BTreeMap<String, String>,
}

/// Failures that are the backup's, by their names in `docs/doctor.md`; the others are the drill's own.
const BLAMES: [&str; 6] = [
    "drill-lacks",
    "drill-manifest",
    "drill-wal-missing",
    "drill-recovery",
    "drill-rows",
    "drill-checksums",
];

impl DrillView {
    /// Whether it was the backup that failed, and not the drill.
    #[must_use]
    pub fn blames(&self) -> bool {
        self.ailment
            .as_deref()
            .is_some_and(|id| BLAMES.contains(&id))
    }

    /// `2 s for 30.0 MiB, up to 0/5000028, 3 rows compared`.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut parts = Vec::new();
        if let Some(ms) = self.restore_ms {
            let took = human_duration(Duration::from_millis(ms));
            let size = self
                .bytes
                .map_or_else(String::new, |n| format!(" for {}", human_bytes(n)));
            parts.push(format!("{took}{size}"));
        }
        if let Some(lsn) = self.recovery_lsn {
            parts.push(format!("up to {lsn}"));
        }
        if let Some(rows) = self.rows {
            parts.push(format!("{rows} marker rows compared"));
        }
        parts.join(", ")
    }
}
