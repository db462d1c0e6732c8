//! `/metrics`: made from the status at the moment of the scrape. `OpenMetrics` text, which every
//! Prometheus since 2.5 reads by its content type.

use crate::domain::{Exposure, Role, Status};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, NoLabelSet, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The content type of [`render`]'s text.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a scrape shows.
#[derive(Debug)]
pub(super) struct Scrape {
    /// The node.
    pub(super) status: Arc<Status>,
    /// Milliseconds since the epoch.
    pub(super) now_ms: u64,
    /// Since the loop's last turn.
    pub(super) loop_age: Duration,
    /// All names that a state can have, so that each is a series from the beginning.
    pub(super) states: &'static [&'static str],
}

/// The text of one scrape; empty when it cannot be made, which does not happen with a `String`.
pub(super) fn render(scrape: Scrape) -> String {
    let mut registry = Registry::with_prefix("pgnode");
    registry.register_collector(Box::new(scrape));
    let mut text = String::new();
    match text::encode(&mut text, &registry) {
        Ok(()) => text,
        Err(fmt::Error) => String::new(),
    }
}

/// Labels of one series.
type Labels<'a> = Vec<(&'static str, &'a str)>;

/// One metric with all of its series.
struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    fn gauges<'a, V: EncodeGaugeValue>(
        &mut self,
        (name, unit): (&str, Option<&Unit>),
        help: &str,
        series: impl IntoIterator<Item = (Labels<'a>, V)>,
    ) -> fmt::Result {
        let mut series = series.into_iter().peekable();
        if series.peek().is_none() {
            return Ok(());
        }
        let mut metric = self
            .0
            .encode_descriptor(name, help, unit, MetricType::Gauge)?;
        for (labels, value) in series {
            if labels.is_empty() {
                metric.encode_gauge(&value)?;
            } else {
                metric.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }

    fn gauge<V: EncodeGaugeValue>(
        &mut self,
        what: (&str, Option<&Unit>),
        help: &str,
        value: Option<V>,
    ) -> fmt::Result {
        self.gauges(what, help, value.map(|v| (Vec::new(), v)))
    }

    fn counters<'a, V: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Labels<'a>, V)>,
    ) -> fmt::Result {
        let mut series = series.into_iter().peekable();
        if series.peek().is_none() {
            return Ok(());
        }
        let mut metric = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in series {
            if labels.is_empty() {
                metric.encode_counter::<NoLabelSet, V, u64>(&value, None)?;
            } else {
                metric
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, V, u64>(&value, None)?;
            }
        }
        Ok(())
    }
}

const SECONDS: Option<&Unit> = Some(&Unit::Seconds);
const BYTES: Option<&Unit> = Some(&Unit::Bytes);

fn seconds(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64()
}

fn one_if(yes: bool) -> u64 {
    u64::from(yes)
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        self.node(&mut out)?;
        self.replication(&mut out)?;
        self.processes(&mut out)?;
        self.boot(&mut out)?;
        self.backups(&mut out)
    }
}

impl Scrape {
    fn age(&self, since_ms: u64) -> f64 {
        seconds(self.now_ms.saturating_sub(since_ms))
    }

    fn node(&self, out: &mut Out<'_>) -> fmt::Result {
        let s = &*self.status;
        let id = s.node_id.to_string();
        out.gauges(
            ("build_info", None),
            "The version of pgnode.",
            [(vec![("version", s.version.as_str())], 1_u64)],
        )?;
        out.gauges(
            ("node_info", None),
            "Name and repmgr id of the node.",
            [(vec![("node", s.node.0.as_str()), ("node_id", &id)], 1_u64)],
        )?;
        let mut states: Vec<&str> = self.states.to_vec();
        if !states.contains(&s.state.as_str()) {
            states.push(&s.state);
        }
        out.gauges(
            ("state", None),
            "1 for the state that the node is in, 0 for the others.",
            states
                .iter()
                .map(|&name| (vec![("state", name)], one_if(name == s.state))),
        )?;
        out.gauge(
            ("state", SECONDS),
            "How long the node has been in its state.",
            Some(self.age(s.uptime.state_since_ms)),
        )?;
        out.gauges(
            ("role", None),
            "1 for the role that the node has, 0 for the other; both 0 while it is not known.",
            [(Role::Primary, "primary"), (Role::Standby, "standby")]
                .map(|(role, name)| (vec![("role", name)], one_if(s.role == Some(role)))),
        )?;
        out.gauges(
            ("exposure", None),
            "1 for where PostgreSQL can be reached: closed, the technical or the consumer port.",
            [
                (Exposure::Closed, "closed"),
                (Exposure::Technical, "technical"),
                (Exposure::Consumer, "consumer"),
            ]
            .map(|(e, name)| (vec![("exposure", name)], one_if(s.exposure == e))),
        )?;
        out.gauge(
            ("open", None),
            "1 while clients can connect to the consumer port.",
            Some(one_if(s.is_open())),
        )?;
        out.gauge(
            ("fault", None),
            "1 while a fault is shown in the status.",
            Some(one_if(s.fault.is_some())),
        )?;
        out.gauge(
            ("start_time", SECONDS),
            "When pgnode started, in seconds since the epoch.",
            Some(seconds(s.uptime.started_ms)),
        )?;
        out.gauge(
            ("loop_age", SECONDS),
            "Time since the last turn of the loop.",
            Some(self.loop_age.as_secs_f64()),
        )
    }

    fn replication(&self, out: &mut Out<'_>) -> fmt::Result {
        let s = &*self.status;
        out.gauge(
            ("timeline", None),
            "The timeline.",
            s.timeline.map(|t| u64::from(t.0)),
        )?;
        out.gauge(
            ("wal_position", BYTES),
            "WAL position as a byte count: written by a primary, replayed by a standby.",
            s.lsn.map(|lsn| lsn.0),
        )?;
        out.gauge(
            ("replication_streaming", None),
            "Standby: 1 while the walreceiver streams.",
            s.streaming.map(one_if),
        )?;
        out.gauge(
            ("replication_lag", BYTES),
            "Standby: bytes of WAL that it is behind.",
            s.lag_bytes,
        )?;
        out.gauge(
            ("replication_lag", SECONDS),
            "Standby: time since the last replayed commit, 0 when nothing is left to replay.",
            s.lag_ms.map(seconds),
        )?;
        fn member(m: &crate::domain::MemberView) -> Labels<'_> {
            vec![("member", m.name.0.as_str()), ("kind", m.kind.as_str())]
        }
        out.gauges(
            ("member_active", None),
            "1 while repmgr's table calls the member active.",
            s.members.iter().map(|m| (member(m), one_if(m.active))),
        )?;
        out.gauges(
            ("member_streaming", None),
            "On the primary: 1 while the member streams from it.",
            s.members
                .iter()
                .filter_map(|m| Some((member(m), one_if(m.streaming?)))),
        )?;
        out.gauges(
            ("member_lag", BYTES),
            "On the primary: bytes of WAL that the member has not replayed.",
            s.members
                .iter()
                .filter_map(|m| Some((member(m), m.lag_bytes?))),
        )
    }

    fn processes(&self, out: &mut Out<'_>) -> fmt::Result {
        let s = &*self.status;
        out.counters(
            "postgres_restarts",
            "Unexpected ends of postgres since pgnode started.",
            [(Vec::new(), s.restarts)],
        )?;
        out.counters(
            "orphans_reaped",
            "Orphaned processes reaped since pgnode started.",
            [(Vec::new(), s.orphans_reaped)],
        )?;
        out.gauges(
            ("child_up", None),
            "1 while the process runs.",
            s.children
                .iter()
                .map(|c| (vec![("child", c.name.as_str())], one_if(c.pid.is_some()))),
        )?;
        out.counters(
            "child_restarts",
            "How often the process was started again after an unexpected end.",
            s.children
                .iter()
                .map(|c| (vec![("child", c.name.as_str())], c.restarts)),
        )
    }

    fn boot(&self, out: &mut Out<'_>) -> fmt::Result {
        let s = &*self.status;
        // A state can be entered twice in one boot; a series must not appear twice.
        let mut steps: BTreeMap<&str, u64> = BTreeMap::new();
        for step in &s.boot {
            let sum = steps.entry(&step.state).or_default();
            *sum = sum.saturating_add(step.took_ms);
        }
        out.gauges(
            ("boot_step", SECONDS),
            "How long each state of the boot took.",
            steps
                .iter()
                .map(|(state, ms)| (vec![("state", *state)], seconds(*ms))),
        )?;
        out.gauge(
            ("boot", SECONDS),
            "From the start of pgnode to the open consumer port.",
            s.boot_total_ms.map(seconds),
        )
    }

    fn backups(&self, out: &mut Out<'_>) -> fmt::Result {
        let b = &self.status.backup;
        out.gauge(
            ("backups", None),
            "Complete backups in the catalogue.",
            b.count,
        )?;
        out.gauge(
            ("backup_last_age", SECONDS),
            "Age of the newest complete backup.",
            b.last_end_ms.map(|end| self.age(end)),
        )?;
        out.gauge(
            ("backup_last_size", BYTES),
            "Size of the newest complete backup.",
            b.last_size,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::samples;

    #[test]
    fn a_scrape_shows_the_node() {
        let text = render(Scrape {
            status: Arc::new(samples::standby()),
            now_ms: 1_000_000,
            loop_age: Duration::from_millis(40),
            states: &["waiting", "open"],
        });
        insta::assert_snapshot!(text, @r#"
        # HELP pgnode_build_info The version of pgnode.
        # TYPE pgnode_build_info gauge
        pgnode_build_info{version="0.1.0"} 1
        # HELP pgnode_node_info Name and repmgr id of the node.
        # TYPE pgnode_node_info gauge
        pgnode_node_info{node="pg2",node_id="2"} 1
        # HELP pgnode_state 1 for the state that the node is in, 0 for the others.
        # TYPE pgnode_state gauge
        pgnode_state{state="waiting"} 0
        pgnode_state{state="open"} 1
        # HELP pgnode_state_seconds How long the node has been in its state.
        # TYPE pgnode_state_seconds gauge
        # UNIT pgnode_state_seconds seconds
        pgnode_state_seconds 600.0
        # HELP pgnode_role 1 for the role that the node has, 0 for the other; both 0 while it is not known.
        # TYPE pgnode_role gauge
        pgnode_role{role="primary"} 0
        pgnode_role{role="standby"} 1
        # HELP pgnode_exposure 1 for where PostgreSQL can be reached: closed, the technical or the consumer port.
        # TYPE pgnode_exposure gauge
        pgnode_exposure{exposure="closed"} 0
        pgnode_exposure{exposure="technical"} 0
        pgnode_exposure{exposure="consumer"} 1
        # HELP pgnode_open 1 while clients can connect to the consumer port.
        # TYPE pgnode_open gauge
        pgnode_open 1
        # HELP pgnode_fault 1 while a fault is shown in the status.
        # TYPE pgnode_fault gauge
        pgnode_fault 0
        # HELP pgnode_start_time_seconds When pgnode started, in seconds since the epoch.
        # TYPE pgnode_start_time_seconds gauge
        # UNIT pgnode_start_time_seconds seconds
        pgnode_start_time_seconds 390.0
        # HELP pgnode_loop_age_seconds Time since the last turn of the loop.
        # TYPE pgnode_loop_age_seconds gauge
        # UNIT pgnode_loop_age_seconds seconds
        pgnode_loop_age_seconds 0.04
        # HELP pgnode_timeline The timeline.
        # TYPE pgnode_timeline gauge
        pgnode_timeline 1
        # HELP pgnode_wal_position_bytes WAL position as a byte count: written by a primary, replayed by a standby.
        # TYPE pgnode_wal_position_bytes gauge
        # UNIT pgnode_wal_position_bytes bytes
        pgnode_wal_position_bytes 50331976
        # HELP pgnode_replication_streaming Standby: 1 while the walreceiver streams.
        # TYPE pgnode_replication_streaming gauge
        pgnode_replication_streaming 1
        # HELP pgnode_replication_lag_bytes Standby: bytes of WAL that it is behind.
        # TYPE pgnode_replication_lag_bytes gauge
        # UNIT pgnode_replication_lag_bytes bytes
        pgnode_replication_lag_bytes 0
        # HELP pgnode_replication_lag_seconds Standby: time since the last replayed commit, 0 when nothing is left to replay.
        # TYPE pgnode_replication_lag_seconds gauge
        # UNIT pgnode_replication_lag_seconds seconds
        pgnode_replication_lag_seconds 0.0
        # HELP pgnode_member_active 1 while repmgr's table calls the member active.
        # TYPE pgnode_member_active gauge
        pgnode_member_active{member="pg1",kind="primary"} 1
        pgnode_member_active{member="pg2",kind="standby"} 1
        # HELP pgnode_postgres_restarts Unexpected ends of postgres since pgnode started.
        # TYPE pgnode_postgres_restarts counter
        pgnode_postgres_restarts_total 0
        # HELP pgnode_orphans_reaped Orphaned processes reaped since pgnode started.
        # TYPE pgnode_orphans_reaped counter
        pgnode_orphans_reaped_total 3
        # HELP pgnode_child_up 1 while the process runs.
        # TYPE pgnode_child_up gauge
        pgnode_child_up{child="postgres"} 1
        pgnode_child_up{child="repmgrd"} 1
        pgnode_child_up{child="crond"} 0
        # HELP pgnode_child_restarts How often the process was started again after an unexpected end.
        # TYPE pgnode_child_restarts counter
        pgnode_child_restarts_total{child="postgres"} 0
        pgnode_child_restarts_total{child="repmgrd"} 1
        pgnode_child_restarts_total{child="crond"} 0
        # HELP pgnode_boot_step_seconds How long each state of the boot took.
        # TYPE pgnode_boot_step_seconds gauge
        # UNIT pgnode_boot_step_seconds seconds
        pgnode_boot_step_seconds{state="clone"} 1.6
        pgnode_boot_step_seconds{state="preflight"} 0.012
        # HELP pgnode_boot_seconds From the start of pgnode to the open consumer port.
        # TYPE pgnode_boot_seconds gauge
        # UNIT pgnode_boot_seconds seconds
        pgnode_boot_seconds 2.75
        # HELP pgnode_backups Complete backups in the catalogue.
        # TYPE pgnode_backups gauge
        pgnode_backups 1
        # HELP pgnode_backup_last_age_seconds Age of the newest complete backup.
        # TYPE pgnode_backup_last_age_seconds gauge
        # UNIT pgnode_backup_last_age_seconds seconds
        pgnode_backup_last_age_seconds 360.0
        # HELP pgnode_backup_last_size_bytes Size of the newest complete backup.
        # TYPE pgnode_backup_last_size_bytes gauge
        # UNIT pgnode_backup_last_size_bytes bytes
        pgnode_backup_last_size_bytes 30722752
        # EOF
        "#);
    }

    #[test]
    fn what_is_not_known_has_no_series_and_nothing_appears_twice() {
        let mut status = samples::standby();
        status.lsn = None;
        status.lag_bytes = None;
        status.state = "a \"new\"\nstate".into();
        let step = status.boot[0].clone();
        status.boot.push(step);
        let text = render(Scrape {
            status: Arc::new(status),
            now_ms: 0,
            loop_age: Duration::ZERO,
            states: &[],
        });
        assert!(!text.contains("wal_position") && !text.contains("lag_bytes"));
        assert!(
            text.contains(r#"pgnode_state{state="a \"new\"\nstate"} 1"#),
            "{text}"
        );
        let mut series: Vec<&str> = text
            .lines()
            .filter(|l| !l.starts_with('#'))
            .filter_map(|l| l.rsplit_once(' ').map(|(name, _)| name))
            .collect();
        let all = series.len();
        series.sort_unstable();
        series.dedup();
        assert_eq!(series.len(), all);
        assert!(text.ends_with("# EOF\n"));
    }
}
