//! What says that a backup is being made, and by whom: there from its first moment until its `backup.info` is. What a
//! killed backup leaves is told by it from one that is under way.

use serde::{Deserialize, Serialize};

/// Its name in `base/<id>/`: one that barman-cloud passes over.
pub(super) const MARKER: &str = "pgnode_running.json";

/// Who makes a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// The node, by the name of its cluster.
    pub node: String,
    /// The cluster.
    pub system_id: String,
    /// The timeline of its start.
    pub timeline: u32,
    /// When it began, milliseconds since the epoch.
    pub begin_ms: u64,
}

impl Marker {
    pub(super) fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }

    pub(super) fn text(&self) -> String {
        // A plain struct cannot fail.
        serde_json::to_string(self).unwrap_or_default()
    }
}
