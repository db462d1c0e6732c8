//! Metrics of drills: what the last one of each cluster said.

use super::metrics::{BYTES, Out, SECONDS, one_if, seconds};
use crate::domain::DrillView;
use std::fmt;

pub(super) fn encode(drills: &[DrillView], out: &mut Out<'_>) -> fmt::Result {
    let each = |value: fn(&DrillView) -> Option<f64>| {
        let series = drills
            .iter()
            .filter_map(move |d| Some((vec![("server", d.server.as_str())], value(d)?)));
        series.collect::<Vec<_>>()
    };
    out.gauges(
        ("drill_last_timestamp", SECONDS),
        "When the last drill ended, since 1970.",
        each(|d| Some(seconds(d.at_ms))),
    )?;
    out.gauges(
        ("drill_success", None),
        "1 when the last drill restored its backup.",
        drills.iter().map(|d| {
            let labels = vec![("server", d.server.as_str())];
            (labels, one_if(d.error.is_none()))
        }),
    )?;
    out.gauges(
        ("drill_last_success_timestamp", SECONDS),
        "When a drill last restored its backup, since 1970.",
        each(|d| d.last_success_ms.map(seconds)),
    )?;
    out.gauges(
        ("drill_duration", SECONDS),
        "How long the last drill took as a whole.",
        each(|d| Some(seconds(d.took_ms))),
    )?;
    out.gauges(
        ("drill_restore", SECONDS),
        "From the first copied byte to the server that answers, in the last drill.",
        each(|d| d.restore_ms.map(seconds)),
    )?;
    out.gauges(
        ("drill_size", BYTES),
        "Size of the cluster that the last drill restored.",
        drills.iter().filter_map(|d| {
            let labels = vec![("server", d.server.as_str())];
            Some((labels, d.bytes?))
        }),
    )?;
    out.gauges(
        ("drill_recovery_point_timestamp", SECONDS),
        "Time of the last transaction that the last drill recovered, since 1970.",
        each(|d| d.recovery_point_ms.map(seconds)),
    )?;
    out.gauges(
        ("drill_failed_backups", None),
        "Backups in the catalogue that failed their drill.",
        drills.iter().map(|d| {
            let labels = vec![("server", d.server.as_str())];
            (labels, u64::try_from(d.failed.len()).unwrap_or(u64::MAX))
        }),
    )
}
