//! The metrics of a barman host: one series for each of its clusters.

use super::metrics::{BYTES, Labels, Out, SECONDS, one_if, seconds};
use crate::domain::{KeptView, ShippingView, Status};
use prometheus_client::encoding::EncodeGaugeValue;
use prometheus_client::registry::Unit;
use std::fmt;

/// Adds them; nothing where there is no barman host.
pub(super) fn encode(status: &Status, now_ms: u64, out: &mut Out<'_>) -> fmt::Result {
    let Some(host) = &status.host else {
        return Ok(());
    };
    let all = host.servers.as_slice();
    let age = |since: u64| seconds(now_ms.saturating_sub(since));
    each(
        out,
        all,
        ("barman_green", None),
        "1 while WAL arrives, `barman check` is content and a backup is there.",
        |s| Some(one_if(s.is_green())),
    )?;
    each(
        out,
        all,
        ("barman_receiving", None),
        "1 while WAL is received.",
        |s| Some(one_if(s.attached_since_ms.is_some())),
    )?;
    each(
        out,
        all,
        ("barman_lag", BYTES),
        "WAL that the primary has and this host has not.",
        |s| s.lag_bytes,
    )?;
    each(
        out,
        all,
        ("barman_received_position", BYTES),
        "How far WAL was received, as a byte count.",
        |s| s.received.map(|lsn| lsn.0),
    )?;
    each(
        out,
        all,
        ("barman_timeline", None),
        "The timeline of the cluster.",
        |s| s.timeline.map(|t| u64::from(t.0)),
    )?;
    each(
        out,
        all,
        ("barman_slot_reserved", None),
        "1 while the primary keeps the WAL that is not received yet, 0 when it is about to give it up or has.",
        |s| {
            let word = s.slot.as_deref()?;
            Some(one_if(matches!(word, "reserved" | "extended")))
        },
    )?;
    each(
        out,
        all,
        ("barman_check_failed", None),
        "Lines of the last `barman check` that failed.",
        |s| s.check.as_ref().map(|c| c.failed.len() as u64),
    )?;
    each(
        out,
        all,
        ("barman_problems", None),
        "What a person should know of: 0 when all is well.",
        |s| Some(s.problems.len() as u64),
    )?;
    each(
        out,
        all,
        ("barman_backups", None),
        "Complete backups in the catalogue.",
        |s| Some(s.backups),
    )?;
    each(
        out,
        all,
        ("barman_backup_last_age", SECONDS),
        "Age of the newest complete backup.",
        |s| s.last_end_ms.map(age),
    )?;
    each(
        out,
        all,
        ("barman_backup_last_size", BYTES),
        "Size of the newest complete backup.",
        |s| s.last_size,
    )?;
    each(
        out,
        all,
        ("barman_free", BYTES),
        "What can still be written to BARMAN_BACKUP_DIR.",
        |s| s.free_bytes,
    )?;
    out.counters(
        "barman_receiver_restarts",
        "Unexpected ends of receive-wal since pgnode started.",
        all.iter().map(|s| (labels(s), s.receiver_restarts)),
    )?;
    shipping(&host.shipping, now_ms, out)
}

/// What goes into the bucket.
fn shipping(all: &[ShippingView], now_ms: u64, out: &mut Out<'_>) -> fmt::Result {
    fn of(s: &ShippingView) -> Labels<'_> {
        vec![("server", s.name.as_str())]
    }
    let runs = || {
        all.iter().flat_map(|s| {
            s.runs.iter().map(move |r| {
                (
                    vec![("server", s.name.as_str()), ("kind", r.kind.as_str())],
                    r,
                )
            })
        })
    };
    out.gauges(
        ("barman_ship_last_age", SECONDS),
        "Since a run of this kind last brought everything into the bucket.",
        runs().filter_map(|(l, r)| Some((l, seconds(now_ms.saturating_sub(r.ok_ms?))))),
    )?;
    out.gauges(
        ("barman_ship_failed", None),
        "1 while the last run of this kind has failed.",
        runs().map(|(l, r)| (l, one_if(r.error.is_some()))),
    )?;
    out.gauges(
        ("barman_ship_queue", None),
        "Backups that wait for being shipped.",
        all.iter().map(|s| (of(s), s.waiting)),
    )?;
    out.gauges(
        ("barman_ship_queue_failed", None),
        "Backups that could not be shipped, and that a person has to ask for again.",
        all.iter().map(|s| (of(s), s.failed.len() as u64)),
    )
}

fn labels(server: &KeptView) -> Labels<'_> {
    vec![("server", server.name.as_str())]
}

fn each<V: EncodeGaugeValue>(
    out: &mut Out<'_>,
    all: &[KeptView],
    what: (&str, Option<&Unit>),
    help: &str,
    value: impl Fn(&KeptView) -> Option<V>,
) -> fmt::Result {
    let series = all.iter().filter_map(|s| Some((labels(s), value(s)?)));
    out.gauges(what, help, series)
}
