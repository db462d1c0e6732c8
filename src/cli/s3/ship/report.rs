//! What a run says at its end.

use crate::domain::{Fault, human_bytes, human_duration};
use crate::s3::S3Error;
use crate::s3::ship::{Act, Kind, Record, Swept, Tally};
use serde::Serialize;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// What a run came to.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pub(super) server: String,
    pub(super) kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) backup: Option<String>,
    pub(super) dry_run: bool,
    pub(super) sent: u64,
    pub(super) sent_bytes: u64,
    pub(super) resumed_bytes: u64,
    pub(super) same: u64,
    pub(super) deleted: u64,
    pub(super) deleted_backups: Vec<String>,
    pub(super) deleted_wals: u64,
    pub(super) deleted_uploads: u64,
    pub(super) deleted_upload_bytes: u64,
    pub(super) took_ms: u64,
    pub(super) error: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) acts: Vec<Act>,
    #[serde(skip)]
    pub(super) fault: Option<Fault>,
}

impl Report {
    /// Of a task that was not begun.
    pub(super) fn failed(stem: &str, kind: Kind, why: String) -> Self {
        let fault = Fault::NeedsPerson(why);
        let nothing = Tally::default();
        let mut report = Self::of(stem, kind, &nothing, Duration::ZERO, Ok(Swept::default()));
        report.error = Some(fault.why().to_owned());
        report.fault = Some(fault);
        report
    }

    pub(super) fn of(
        server: &str,
        kind: Kind,
        tally: &Tally,
        took: Duration,
        ended: Result<Swept, S3Error>,
    ) -> Self {
        let (swept, fault) = match ended {
            Ok(swept) => {
                let refused = swept.refused.as_ref();
                let fault =
                    refused.map(|why| Fault::NeedsPerson(format!("nothing is deleted: {why}")));
                (swept, fault)
            }
            Err(error) => (Swept::default(), Some(error.fault())),
        };
        Self {
            server: server.to_owned(),
            kind,
            backup: None,
            dry_run: false,
            sent: tally.sent.load(Ordering::Relaxed),
            sent_bytes: tally.bytes.load(Ordering::Relaxed),
            resumed_bytes: tally.resumed.load(Ordering::Relaxed),
            same: tally.same.load(Ordering::Relaxed),
            deleted: tally.deleted.load(Ordering::Relaxed),
            deleted_backups: swept.backups,
            deleted_wals: swept.wals,
            deleted_uploads: swept.uploads,
            deleted_upload_bytes: swept.upload_bytes,
            took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            error: fault.as_ref().map(|f| f.why().to_owned()),
            acts: Vec::new(),
            fault,
        }
    }

    /// For status and metrics.
    pub(super) fn record(&self, now_ms: u64) -> Record {
        Record {
            at_ms: now_ms,
            took_ms: self.took_ms,
            sent: self.sent,
            bytes: self.sent_bytes,
            resumed: self.resumed_bytes,
            same: self.same,
            deleted: self.deleted,
            error: self.error.clone(),
            ok_ms: None,
        }
    }

    pub(super) fn text(&self) -> String {
        let what = match &self.backup {
            Some(id) => format!("{}: backup {id}", self.server),
            None => format!("{}-sync {}", self.kind.word(), self.server),
        };
        if let Some(error) = &self.error {
            return format!("{what}: FAILED: {error}\n");
        }
        if self.dry_run {
            return format!("{what}: nothing was changed (--dry-run)\n");
        }
        let mut text = format!(
            "{what}: {} objects sent ({}), {} there already",
            self.sent,
            human_bytes(self.sent_bytes),
            self.same
        );
        if self.resumed_bytes > 0 {
            let bytes = human_bytes(self.resumed_bytes);
            text.push_str(&format!(", {bytes} of an earlier run taken up"));
        }
        if self.deleted > 0 {
            let of = match self.deleted_backups.as_slice() {
                [] => String::new(),
                ids => format!(" (backups {})", ids.join(", ")),
            };
            text.push_str(&format!(", {} deleted{of}", self.deleted));
        }
        if self.deleted_uploads > 0 {
            let bytes = human_bytes(self.deleted_upload_bytes);
            text.push_str(&format!(
                ", of them {} unfinished uploads ({bytes})",
                self.deleted_uploads
            ));
        }
        let took = human_duration(Duration::from_millis(self.took_ms));
        text.push_str(&format!(", in {took}\n"));
        text
    }
}

/// One run is an object, several are a list.
pub(super) fn json(reports: &[Report]) -> String {
    let text = match reports {
        [one] => serde_json::to_string_pretty(one),
        many => serde_json::to_string_pretty(many),
    };
    // They are plain values.
    text.unwrap_or_default() + "\n"
}

/// One act, for a person.
pub(super) fn line(act: &Act, dry: bool) -> String {
    let would = if dry { "would " } else { "" };
    match act {
        Act::Send { key, bytes } => format!("{would}send {key} ({})\n", human_bytes(*bytes)),
        Act::Delete { key, bytes: 0 } => format!("{would}delete {key}\n"),
        Act::Delete { key, bytes } => format!("{would}delete {key} ({})\n", human_bytes(*bytes)),
        Act::Keep { key, why } => format!("keep {key}: {why}\n"),
        Act::Failed { why } => format!("passed over: {why}\n"),
    }
}
