//! Metrics of archiving into a bucket.

use super::metrics::{BYTES, Out, SECONDS, seconds};
use crate::domain::{ArchivingView, VerifiedView};
use std::fmt;

pub(super) fn encode(view: Option<&ArchivingView>, now_ms: u64, out: &mut Out<'_>) -> fmt::Result {
    let Some(view) = view else {
        return Ok(());
    };
    let one = |value: f64| [(Vec::new(), value)];
    let age = |then: u64| seconds(now_ms.saturating_sub(then));
    out.gauges(
        ("archive_waiting", None),
        "Files of pg_wal that wait to be archived.",
        [(Vec::new(), view.waiting)],
    )?;
    out.gauges(
        ("archive_waiting", BYTES),
        "Bytes of those files.",
        [(Vec::new(), view.waiting_bytes)],
    )?;
    out.gauges(
        ("archive_waiting_age", SECONDS),
        "For how long the first of those files has waited; 0 when none does.",
        one(view.waiting_since_ms.map_or(0.0, age)),
    )?;
    out.gauges(
        ("archive_failing", SECONDS),
        "For how long archiving into the bucket has failed; 0 when it does not.",
        one(view.health.failing_since_ms.map_or(0.0, age)),
    )?;
    out.gauges(
        ("archive_last_age", SECONDS),
        "Age of the last file that the worker archived.",
        view.health.last_ms.map(|then| (Vec::new(), age(then))),
    )?;
    out.gauges(
        ("wal", BYTES),
        "Bytes in pg_wal.",
        [(Vec::new(), view.wal_bytes)],
    )?;
    out.gauges(
        ("wal_free", BYTES),
        "Bytes that are free where pg_wal is.",
        view.free_bytes.map(|free| (Vec::new(), free)),
    )?;
    out.counters(
        "archived_files",
        "Files that the worker has archived since it began.",
        [(Vec::new(), view.health.archived)],
    )
}

/// What of the bucket can be restored, as the primary saw it last.
pub(super) fn verified(view: Option<&VerifiedView>, out: &mut Out<'_>) -> fmt::Result {
    let Some(view) = view else {
        return Ok(());
    };
    let one = |value: u64| [(Vec::new(), value)];
    out.gauges(
        ("bucket_backups", None),
        "Backups in the bucket.",
        one(view.backups),
    )?;
    out.gauges(
        ("bucket_backups_restorable", None),
        "Backups in the bucket whose archives and WAL are there.",
        one(view.restorable),
    )?;
    out.gauges(
        ("bucket_wrong", None),
        "Things in the bucket that must be mended (`pgnode s3 verify`).",
        one(view.wrong),
    )?;
    out.gauges(
        ("bucket_unfinished", BYTES),
        "Bytes of backups that were not finished, and of their uploads.",
        one(view.unfinished_bytes),
    )?;
    out.gauges(
        ("bucket_verified_timestamp", SECONDS),
        "When that was seen, since 1970.",
        [(Vec::new(), seconds(view.at_ms))],
    )
}
