//! What was found, for a person and as JSON.

use super::Read;
use crate::domain::human_bytes;
use serde::Serialize;

/// Of one cluster in a bucket.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Its place.
    pub place: String,
    /// The cluster, where something says so.
    pub system_id: Option<String>,
    /// Oldest first.
    pub backups: Vec<BackupView>,
    /// In order.
    pub timelines: Vec<TimelineView>,
    /// Backups without a `backup.info`, and uploads that were not finished.
    pub unfinished: Vec<UnfinishedView>,
    /// Objects below `wals/`.
    pub wal_objects: u64,
    /// Bytes of them, as they are stored.
    pub wal_bytes: u64,
    /// With `--deep`: what was read.
    pub read: Option<Read>,
    /// What must be mended, one sentence each.
    pub wrong: Vec<String>,
    /// What is worth knowing.
    pub remarks: Vec<String>,
}

/// A backup.
#[derive(Clone, Debug, Serialize)]
pub struct BackupView {
    /// Its id.
    pub id: String,
    /// barman's word.
    pub status: String,
    /// Bytes of its objects.
    pub bytes: u64,
    /// The first segment that it needs.
    pub begin_wal: Option<String>,
    /// The last one.
    pub end_wal: Option<String>,
    /// The last segment that recovery of it reaches.
    pub reaches: Option<String>,
    /// Why it cannot be restored; `None`: it can.
    pub why_not: Option<String>,
}

/// Segments of one timeline.
#[derive(Clone, Debug, Serialize)]
pub struct TimelineView {
    /// Its number.
    pub timeline: u32,
    /// First and last segment.
    pub first: String,
    /// The last segment.
    pub last: String,
    /// How many there are.
    pub segments: u64,
    /// What is missing between the first and the last.
    pub gaps: Vec<Gap>,
}

/// Segments that are not there.
#[derive(Clone, Debug, Serialize)]
pub struct Gap {
    /// The first.
    pub first: String,
    /// The last, which may be the first.
    pub last: String,
    /// How many.
    pub segments: u64,
}

/// What has no `backup.info`.
#[derive(Clone, Debug, Serialize)]
pub struct UnfinishedView {
    /// The backup's id.
    pub id: String,
    /// Bytes of objects and of the parts of uploads.
    pub bytes: u64,
    /// Uploads that were begun.
    pub uploads: usize,
    /// The node that makes it, or made it.
    pub node: Option<String>,
    /// When something of it was stored last, by the server's clock.
    pub touched: Option<String>,
}

impl Report {
    /// Whether something must be mended.
    #[must_use]
    pub fn is_wrong(&self) -> bool {
        !self.wrong.is_empty()
    }

    /// Backups that can be restored.
    pub fn restorable(&self) -> impl Iterator<Item = &BackupView> {
        self.backups.iter().filter(|b| b.why_not.is_none())
    }

    /// One line.
    #[must_use]
    pub fn summary(&self) -> String {
        let segments: u64 = self.timelines.iter().map(|t| t.segments).sum();
        format!(
            "{} of {} backups can be restored, {segments} segments ({}) on {} timelines, {} wrong",
            self.restorable().count(),
            self.backups.len(),
            human_bytes(self.wal_bytes),
            self.timelines.len(),
            self.wrong.len()
        )
    }

    /// For a person.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!("{}\n", self.place);
        let mut line = |text: String| {
            out.push_str(&text);
            out.push('\n');
        };
        for b in &self.backups {
            let wal = match (&b.begin_wal, &b.end_wal) {
                (Some(begin), Some(end)) => format!("WAL {begin} to {end}"),
                _ => "no WAL known".to_owned(),
            };
            let reaches = b.reaches.as_ref().map_or_else(String::new, |last| {
                format!(", recovery can go on to {last}")
            });
            let bytes = human_bytes(b.bytes);
            line(format!(
                "  backup {}  {}  {bytes}, {wal}{reaches}",
                b.id, b.status
            ));
            if let Some(why) = &b.why_not {
                line(format!("    cannot be restored: {why}"));
            }
        }
        for t in &self.timelines {
            let (number, segments) = (t.timeline, t.segments);
            line(format!(
                "  timeline {number}  {} to {}, {segments} segments",
                t.first, t.last
            ));
            for gap in &t.gaps {
                line(format!(
                    "    missing: {} to {}, {} segments",
                    gap.first, gap.last, gap.segments
                ));
            }
        }
        for u in &self.unfinished {
            let whose = match &u.node {
                Some(node) => format!("of {node}"),
                None => "of nobody that says so".to_owned(),
            };
            let (bytes, uploads) = (human_bytes(u.bytes), u.uploads);
            line(format!(
                "  unfinished {}  {bytes}, {uploads} uploads, {whose}",
                u.id
            ));
        }
        if let Some(read) = &self.read {
            line(format!("  read: {read}"));
        }
        for text in &self.remarks {
            line(format!("  note: {text}"));
        }
        for text in &self.wrong {
            line(format!("  WRONG: {text}"));
        }
        line(format!("  {}", self.summary()));
        out
    }
}
