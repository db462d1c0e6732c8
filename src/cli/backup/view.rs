//! A backup as it is shown: the same for machines and, in words, for people.

use crate::barman::{Backup, BarmanError, Server};
use serde::Serialize;
use std::collections::BTreeMap;

/// A backup, shown.
#[derive(Debug, Serialize)]
pub(super) struct BackupShown {
    pub(super) server: String,
    pub(super) id: String,
    pub(super) name: Option<String>,
    pub(super) kind: String,
    pub(super) status: String,
    pub(super) begin_ms: Option<u64>,
    pub(super) end_ms: Option<u64>,
    pub(super) age_ms: Option<u64>,
    pub(super) size_bytes: Option<u64>,
    pub(super) deduplicated_bytes: Option<u64>,
    pub(super) parent: Option<String>,
    pub(super) children: Vec<String>,
    pub(super) timeline: Option<u32>,
    pub(super) begin_lsn: Option<String>,
    pub(super) end_lsn: Option<String>,
    pub(super) wal_first: Option<String>,
    pub(super) wal_last: Option<String>,
    pub(super) wal_needed: Option<u64>,
    pub(super) wal_archived: Option<u64>,
    pub(super) kept: Option<String>,
    pub(super) server_version: Option<u32>,
    /// Greater than what a JSON number holds in most readers.
    pub(super) system_id: Option<String>,
    pub(super) mode: Option<String>,
    pub(super) compression: Option<String>,
    pub(super) encryption: Option<String>,
    pub(super) tablespaces: Vec<TablespaceShown>,
    pub(super) dir: String,
    pub(super) error: Option<String>,
    /// Why its last drill failed.
    pub(super) drill_failed: Option<String>,
    pub(super) not_understood: Vec<String>,
}

/// A tablespace, shown.
#[derive(Debug, Serialize)]
pub(super) struct TablespaceShown {
    pub(super) name: String,
    pub(super) oid: u32,
    pub(super) location: String,
}

impl BackupShown {
    pub(super) fn of(server: &Server, b: &Backup, now_ms: u64) -> Result<Self, BarmanError> {
        let wal_archived = match (b.begin_wal, b.end_wal) {
            (Some(first), Some(last)) => Some(server.archived_between(first, last)?),
            _ => None,
        };
        Ok(Self::with(server.name(), b, wal_archived, now_ms))
    }

    /// With so many of its segments archived.
    pub(super) fn with(server: String, b: &Backup, wal_archived: Option<u64>, now_ms: u64) -> Self {
        let text = |t: &dyn std::fmt::Display| t.to_string();
        Self {
            server,
            id: b.id.clone(),
            name: b.name.clone(),
            kind: b.kind().to_string(),
            status: b.status.to_string(),
            begin_ms: b.begin_ms,
            end_ms: b.end_ms,
            age_ms: b.end_ms.map(|end| now_ms.saturating_sub(end)),
            size_bytes: b.size,
            deduplicated_bytes: b.deduplicated_size,
            parent: b.parent.clone(),
            children: b.children.clone(),
            timeline: b.timeline.map(|t| t.0),
            begin_lsn: b.begin_lsn.map(|l| text(&l)),
            end_lsn: b.end_lsn.map(|l| text(&l)),
            wal_first: b.begin_wal.map(|w| text(&w)),
            wal_last: b.end_wal.map(|w| text(&w)),
            wal_needed: b.segments_needed(),
            wal_archived,
            kept: b.keep.map(|k| text(&k)),
            server_version: b.server_version,
            system_id: b.system_id.map(|s| text(&s)),
            mode: b.mode.clone(),
            compression: b.compression.clone(),
            encryption: b.encryption.clone(),
            tablespaces: b
                .tablespaces
                .iter()
                .map(|t| TablespaceShown {
                    name: t.name.clone(),
                    oid: t.oid,
                    location: t.location.to_string_lossy().into_owned(),
                })
                .collect(),
            dir: b.dir.to_string_lossy().into_owned(),
            error: b.error.clone(),
            drill_failed: None,
            not_understood: b.garbled.clone(),
        }
    }

    /// With what drills said of it.
    pub(super) fn drilled(mut self, failed: &BTreeMap<String, String>) -> Self {
        self.drill_failed = failed.get(&self.id).cloned();
        self
    }

    /// `full`, `incremental of 20261121T031500`.
    pub(super) fn kind_words(&self) -> String {
        match &self.parent {
            Some(parent) => format!("{} of {parent}", self.kind),
            None => self.kind.clone(),
        }
    }

    /// `2`, or `1 of 2` when some are missing.
    pub(super) fn wal_words(&self) -> String {
        match (self.wal_needed, self.wal_archived) {
            (Some(needed), Some(there)) if there < needed => format!("{there} of {needed}"),
            (Some(needed), _) => needed.to_string(),
            (None, _) => String::new(),
        }
    }
}

/// JSON of anything shown.
pub(super) fn json(value: &impl Serialize) -> String {
    // Plain structs with text keys cannot fail.
    let text = serde_json::to_string_pretty(value).unwrap_or_default();
    format!("{text}\n")
}
