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
pub(super) type Labels<'a> = Vec<(&'static str, &'a str)>;

/// One metric with all of its series.
pub(super) struct Out<'a>(DescriptorEncoder<'a>);

impl Out<'_> {
    pub(super) fn gauges<'a, V: EncodeGaugeValue>(
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

    pub(super) fn counters<'a, V: EncodeCounterValue>(
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

pub(super) const SECONDS: Option<&Unit> = Some(&Unit::Seconds);
pub(super) const BYTES: Option<&Unit> = Some(&Unit::Bytes);

pub(super) fn seconds(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64()
}

pub(super) fn one_if(yes: bool) -> u64 {
    u64::from(yes)
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(encoder);
        self.node(&mut out)?;
        self.replication(&mut out)?;
        self.election(&mut out)?;
        self.processes(&mut out)?;
        self.boot(&mut out)?;
        self.backups(&mut out)?;
        super::drills::encode(&self.status.backup.drills, &mut out)?;
        super::archiving::encode(self.status.archiving.as_ref(), self.now_ms, &mut out)?;
        super::archiving::verified(self.status.verified.as_ref(), &mut out)?;
        super::kept::encode(&self.status, self.now_ms, &mut out)
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
            "1 for the role that the node has, 0 for the others; all 0 while it is not known.",
            [
                (Role::Primary, "primary"),
                (Role::Standby, "standby"),
                (Role::Witness, "witness"),
            ]
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
        let sync = s.synchronous.as_ref();
        out.gauge(
            ("synchronous_required", None),
            "Primary: standbys that must have a commit on disk, by the settings.",
            sync.map(|v| v.required as u64),
        )?;
        out.gauge(
            ("synchronous_in_force", None),
            "Primary: standbys that a commit waits for at the moment.",
            sync.map(|v| v.in_force as u64),
        )?;
        out.gauge(
            ("synchronous_streaming", None),
            "Primary: standbys that can confirm a commit.",
            sync.map(|v| v.streaming.len() as u64),
        )?;
        out.gauge(
            ("synchronous_short", SECONDS),
            "Primary: how long fewer standbys have streamed than are required; 0 when enough do.",
            sync.map(|v| v.short_since_ms.map_or(0.0, |since| self.age(since))),
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

    fn election(&self, out: &mut Out<'_>) -> fmt::Result {
        let Some(e) = &self.status.election else {
            return Ok(());
        };
        out.gauge(
            ("term", None),
            "The latest term that the node knows of.",
            Some(e.term),
        )?;
        out.gauge(
            ("leads", None),
            "1 while the node is the one elected last, as far as it knows.",
            Some(one_if(e.leads)),
        )?;
        out.gauge(
            ("lease", SECONDS),
            "While it leads: how long it may stay open without another answer; inf: without end.",
            e.leads
                .then(|| e.lease.left_ms(self.now_ms).map_or(f64::INFINITY, seconds)),
        )?;
        out.gauge(
            ("primary_heard_age", SECONDS),
            "Time since the primary was heard.",
            e.heard_at_ms.map(|at| self.age(at)),
        )?;
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        out.gauge(("voters", None), "All voters.", Some(count(e.voters)))?;
        out.gauge(
            ("voters_majority", None),
            "So many voters elect.",
            Some(count(e.majority)),
        )?;
        out.gauge(
            ("voters_reached", None),
            "While it leads: voters that have answered within a lease, itself included.",
            e.reached.map(count),
        )?;
        out.gauge(
            ("paused", None),
            "1 during a maintenance, while nobody is elected.",
            Some(one_if(e.paused)),
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
#[path = "metrics_tests.rs"]
mod tests;
