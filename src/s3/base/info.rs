//! `backup.info` as barman-cloud writes it: one `key=value` a line, the keys sorted, `None` for nothing.
//!
//! Only keys that every barman-cloud since 2023 knows: one that it does not know breaks list, restore and delete for
//! all backups of the cluster (`docs/s3-backups.md`).

use super::python;
use crate::barman::Tablespace;
use crate::domain::{Lsn, Timeline, WalName};
use chrono::{DateTime, Utc};
use std::path::PathBuf;

/// What is known of a backup of ours. What is not known yet is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Info {
    pub(super) name: Option<String>,
    pub(super) pgdata: PathBuf,
    pub(super) config_file: Option<String>,
    pub(super) hba_file: Option<String>,
    pub(super) ident_file: Option<String>,
    pub(super) included_files: Vec<String>,
    pub(super) tablespaces: Vec<Tablespace>,
    pub(super) version: u32,
    pub(super) system_id: String,
    pub(super) segment_size: u64,
    pub(super) begin: Option<Mark>,
    pub(super) end: Option<Mark>,
    pub(super) label: Option<String>,
    /// Bytes of its files.
    pub(super) size: Option<u64>,
    /// Why it failed; `None` once it is done.
    pub(super) error: Option<String>,
}

/// Where and when a backup begins or ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) timeline: Timeline,
    pub(super) lsn: Lsn,
    pub(super) time: DateTime<Utc>,
}

impl Info {
    /// The segment of a mark.
    pub(super) fn segment(&self, mark: &Mark) -> WalName {
        WalName::holding(mark.timeline, mark.lsn, self.segment_size)
    }

    /// The file's text.
    pub(super) fn text(&self) -> String {
        let wal = |m: &Mark| self.segment(m).to_string();
        let offset = |m: &Mark| (m.lsn.0 % self.segment_size.max(1)).to_string();
        let lsn = |m: &Mark| m.lsn.to_string();
        let time = |m: &Mark| m.time.format("%Y-%m-%d %H:%M:%S%.6f+00:00").to_string();
        let (begin, end) = (self.begin.as_ref(), self.end.as_ref());
        let spaces = self.tablespaces.iter().map(|t| {
            let location = t.location.to_string_lossy();
            let (name, location) = (python::text(&t.name), python::text(&location));
            format!("({name}, {}, {location})", t.oid)
        });
        let files = self.included_files.iter().map(|f| python::text(f));
        let status = match self.error {
            None => "DONE",
            Some(_) => "FAILED",
        };
        let lines = [
            ("backup_label", self.label.as_deref().map(python::text)),
            ("backup_name", self.name.as_deref().map(plain)),
            ("begin_offset", begin.map(offset)),
            ("begin_time", begin.map(time)),
            ("begin_wal", begin.map(wal)),
            ("begin_xlog", begin.map(lsn)),
            ("compression", None),
            ("config_file", self.config_file.as_deref().map(plain)),
            ("copy_stats", None),
            ("deduplicated_size", None),
            ("end_offset", end.map(offset)),
            ("end_time", end.map(time)),
            ("end_wal", end.map(wal)),
            ("end_xlog", end.map(lsn)),
            ("error", self.error.as_deref().map(plain)),
            ("hba_file", self.hba_file.as_deref().map(plain)),
            ("ident_file", self.ident_file.as_deref().map(plain)),
            (
                "included_files",
                (!self.included_files.is_empty()).then(|| python::list(files)),
            ),
            ("mode", None),
            ("pgdata", Some(plain(&self.pgdata.to_string_lossy()))),
            // The word, not the cluster's name: so does barman-cloud.
            ("server_name", Some("cloud".to_owned())),
            ("size", self.size.map(|n| n.to_string())),
            ("status", Some(status.to_owned())),
            ("systemid", Some(self.system_id.clone())),
            (
                "tablespaces",
                (!self.tablespaces.is_empty()).then(|| python::list(spaces)),
            ),
            ("timeline", begin.map(|m| m.timeline.0.to_string())),
            ("version", Some(self.version.to_string())),
            ("xlog_segment_size", Some(self.segment_size.to_string())),
        ];
        let mut text = String::new();
        for (key, value) in lines {
            // The only key that is left out when there is nothing to say.
            if key == "backup_name" && value.is_none() {
                continue;
            }
            let value = value.unwrap_or_else(|| "None".to_owned());
            text.push_str(&format!("{key}={value}\n"));
        }
        text
    }
}

/// On one line, whatever it was: a second line would be read as a key.
fn plain(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[path = "info_tests.rs"]
mod tests;
