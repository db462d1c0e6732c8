//! `/metrics`, made from the status at the moment of the scrape.

use crate::domain::{Role, Status};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;

type Labels = Vec<(&'static str, String)>;
type Float = Gauge<f64, AtomicU64>;

/// The text format's content type.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The page.
pub(super) fn page(status: &Status) -> String {
    let mut registry = Registry::with_prefix("pgnode");
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    let seconds = |ms: u64| std::time::Duration::from_millis(ms).as_secs_f64();

    let info = Family::<Labels, Gauge>::default();
    info.get_or_create(&vec![
        ("version", status.version.clone()),
        ("node", status.node.to_string()),
        ("node_id", status.node_id.to_string()),
    ])
    .set(1);
    registry.register("build", "Version and identity", info);

    let state = Family::<Labels, Gauge>::default();
    for kind in crate::domain::STATE_NAMES {
        let here = i64::from(*kind == status.state);
        state
            .get_or_create(&vec![("state", (*kind).to_owned())])
            .set(here);
    }
    registry.register("state", "1 for the state that the node is in", state);

    let mut gauge = |name: &str, help: &str, value: Option<i64>| {
        if let Some(value) = value {
            let gauge: Gauge = Gauge::default();
            gauge.set(value);
            registry.register(name, help, gauge);
        }
    };
    let role = status.role.map(|r| i64::from(r == Role::Primary));
    gauge("primary", "1 on a primary, 0 on a standby", role);
    gauge(
        "open",
        "1 while the consumer port is open",
        Some(i64::from(status.is_open())),
    );
    gauge(
        "timeline",
        "Timeline",
        status.timeline.map(|t| i64::from(t.0)),
    );
    gauge(
        "wal_position_bytes",
        "Position in the WAL",
        status.lsn.map(|l| number(l.0)),
    );
    gauge(
        "replay_lag_bytes",
        "WAL received and not replayed",
        status.lag_bytes.map(number),
    );
    gauge(
        "streaming",
        "1 while the walreceiver streams",
        status.streaming.map(i64::from),
    );
    gauge(
        "members",
        "Nodes that repmgr knows",
        Some(number(status.members.len() as u64)),
    );
    gauge(
        "postgres_restarts",
        "Unexpected ends of postgres",
        Some(number(status.restarts)),
    );
    gauge(
        "orphans_reaped",
        "Orphans reaped",
        Some(number(status.orphans_reaped)),
    );
    gauge(
        "backups",
        "Complete backups in the catalogue",
        status.backup.count.map(number),
    );
    gauge(
        "last_backup_size_bytes",
        "Size of the newest backup",
        status.backup.last_size.map(number),
    );

    let mut float = |name: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            let gauge = Float::default();
            gauge.set(value);
            registry.register_with_unit(name, help, Unit::Seconds, gauge);
        }
    };
    float(
        "state_age",
        "Time in the present state",
        Some(seconds(status.state_age_ms())),
    );
    float(
        "replay_lag",
        "Time since the last replayed commit",
        status.lag_ms.map(seconds),
    );
    float("boot", "Start to open", status.boot_total_ms.map(seconds));
    let age = |end: u64| seconds(status.uptime.now_ms.saturating_sub(end));
    float(
        "last_backup_age",
        "Age of the newest complete backup",
        status.backup.last_end_ms.map(age),
    );

    let steps = Family::<Labels, Float>::default();
    for step in &status.boot {
        steps
            .get_or_create(&vec![("state", step.state.clone())])
            .set(seconds(step.took_ms));
    }
    registry.register_with_unit(
        "boot_step",
        "Time that each state of the boot took",
        Unit::Seconds,
        steps,
    );

    let up = Family::<Labels, Gauge>::default();
    let restarts = Family::<Labels, Gauge>::default();
    for child in &status.children {
        let label = || vec![("child", child.name.clone())];
        up.get_or_create(&label())
            .set(i64::from(child.pid.is_some()));
        restarts.get_or_create(&label()).set(number(child.restarts));
    }
    registry.register("child_up", "1 while the process runs", up);
    registry.register("child_restarts", "Unexpected ends of the process", restarts);

    let mut text = String::new();
    // Writing to a String cannot fail.
    // Writing to a String cannot fail.
    encode(&mut text, &registry).ok();
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Exposure;

    #[test]
    fn the_page_has_what_the_status_has() {
        let mut status =
            crate::http::health::tests::status(Some(Role::Standby), Exposure::Consumer);
        status.lag_bytes = Some(42);
        status.boot.push(crate::domain::BootStep {
            state: "init".into(),
            took_ms: 1500,
        });
        let page = page(&status);
        for line in [
            "pgnode_open 1",
            "pgnode_primary 0",
            "pgnode_replay_lag_bytes 42",
            "pgnode_state{state=\"open\"} 1",
            "pgnode_state{state=\"init\"} 0",
            "pgnode_boot_step_seconds{state=\"init\"} 1.5",
            "# EOF",
        ] {
            assert!(
                page.lines().any(|l| l == line),
                "{line} is missing:\n{page}"
            );
        }
        assert!(
            !page.contains("pgnode_timeline"),
            "unknown is left out, not 0"
        );
    }
}
