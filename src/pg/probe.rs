//! A sample of a running server, for the status.

use super::{PgError, Session};
use crate::domain::{Lsn, MemberView, NodeId, NodeName, Role, SystemId, Timeline};

/// What a server says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct PgView {
    /// Primary or standby.
    pub role: Role,
    /// Its cluster.
    pub system_id: SystemId,
    /// Timeline: of the WAL being written, or received.
    pub timeline: Timeline,
    /// Primary: position of the WAL being written. Standby: last replayed.
    pub lsn: Lsn,
    /// Standby: last received and flushed.
    pub received: Option<Lsn>,
    /// Standby: whether the walreceiver streams.
    pub streaming: Option<bool>,
    /// Standby: the host it receives from.
    pub upstream: Option<String>,
    /// Standby: bytes received and not replayed.
    pub lag_bytes: Option<u64>,
    /// Standby: milliseconds since the last replayed commit, 0 when it streams and all is replayed.
    pub lag_ms: Option<u64>,
    /// `repmgr.nodes`, with what `pg_stat_replication` says of each.
    pub members: Vec<MemberView>,
}

/// The timeline of the latest checkpoint lags behind a promotion by minutes: a primary's is in the
/// name of the segment it writes.
const SAMPLE: &str = "\
SELECT r.recovering, s.system_identifier::text, \
  (CASE WHEN r.recovering THEN greatest(c.timeline_id, m.min_recovery_end_timeline, w.received_tli)::int8 \
        ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int8 END), \
  (CASE WHEN r.recovering THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END)::text, \
  (CASE WHEN r.recovering THEN pg_last_wal_receive_lsn() END)::text, \
  w.status, w.sender_host, \
  (CASE WHEN r.recovering THEN pg_wal_lsn_diff(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::int8 END), \
  (CASE WHEN NOT r.recovering THEN NULL \
        WHEN w.status = 'streaming' AND pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0 \
        ELSE (extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp()) * 1000)::int8 END) \
FROM (SELECT pg_is_in_recovery() AS recovering) r, pg_control_system() s, pg_control_checkpoint() c, \
  pg_control_recovery() m \
LEFT JOIN pg_stat_wal_receiver w ON true";

/// One row a node, also while a walsender that has not noticed its end stands beside the new one: the
/// number of rows is the N of the authority.
const MEMBERS: &str = "\
SELECT n.node_id, n.node_name, n.type::text, n.active, n.upstream_node_id, n.conninfo, \
  r.state, pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_current_wal_lsn() END, r.replay_lsn)::int8 \
FROM repmgr.nodes n LEFT JOIN LATERAL (SELECT state, replay_lsn FROM pg_stat_replication \
  WHERE application_name = n.node_name ORDER BY replay_lsn DESC NULLS LAST LIMIT 1) r ON true \
ORDER BY n.node_id";

/// Samples the server behind a session in the repmgr database.
///
/// # Errors
/// [`PgError`].
pub async fn probe(session: &Session) -> Result<PgView, PgError> {
    let row = session.one("sampling the server", SAMPLE, &[]).await?;
    let recovering: bool = row.get(0);
    let lsn = |text: Option<&str>| text.and_then(|t| t.parse::<Lsn>().ok());
    let id: &str = row.get(1);
    let timeline: i64 = row.get(2);
    let status: Option<&str> = row.get(5);
    let count = |n: Option<i64>| n.map(|n| u64::try_from(n).unwrap_or(0));
    Ok(PgView {
        role: if recovering {
            Role::Standby
        } else {
            Role::Primary
        },
        system_id: SystemId(id.parse().unwrap_or(0)),
        timeline: Timeline(u32::try_from(timeline).unwrap_or(0)),
        lsn: lsn(row.get(3)).unwrap_or_default(),
        received: lsn(row.get(4)),
        streaming: recovering.then_some(status == Some("streaming")),
        upstream: row.get(6),
        lag_bytes: count(row.get(7)),
        lag_ms: count(row.get(8)),
        members: members(session, recovering).await?,
    })
}

/// `repmgr.nodes` as the server behind a session has it.
///
/// # Errors
/// [`PgError`].
pub async fn members(session: &Session, recovering: bool) -> Result<Vec<MemberView>, PgError> {
    let rows = session.rows("reading repmgr's nodes", MEMBERS, &[]).await?;
    Ok(rows.iter().map(|row| member(row, recovering)).collect())
}

fn member(row: &tokio_postgres::Row, recovering: bool) -> MemberView {
    let kind: String = row.get(2);
    let conninfo: &str = row.get(5);
    let state: Option<&str> = row.get(6);
    let lag: Option<i64> = row.get(7);
    let standby_here = kind == "standby" && !recovering;
    MemberView {
        node_id: NodeId(row.get(0)),
        name: NodeName(row.get(1)),
        active: row.get(3),
        upstream: row.get::<_, Option<i32>>(4).map(NodeId),
        host: conninfo_value(conninfo, "host").unwrap_or_default(),
        port: conninfo_value(conninfo, "port")
            .and_then(|p| p.parse().ok())
            .unwrap_or(5432),
        streaming: standby_here.then_some(state == Some("streaming")),
        lag_bytes: lag.map(|n| u64::try_from(n).unwrap_or(0)),
        kind,
    }
}

/// A value of a conninfo string that pgnode itself registered (`key=value key='quoted value'`).
#[must_use]
pub fn conninfo_value(conninfo: &str, key: &str) -> Option<String> {
    let mut rest = conninfo.trim_start();
    while let Some((name, after)) = rest.split_once('=') {
        let (value, next) = take_value(after.trim_start());
        if name.trim() == key {
            return Some(value);
        }
        rest = next.trim_start();
    }
    None
}

fn take_value(text: &str) -> (String, &str) {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut chars = text.char_indices().skip(usize::from(quoted));
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, c)| c)),
            '\'' if quoted => return (value, &text[at + 1..]),
            c if !quoted && c.is_whitespace() => return (value, &text[at..]),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conninfo_is_read() {
        let text = r"host=pg1 port=5432 user='a \'b\' c' application_name='x=y' last=z";
        for (key, want) in [
            ("host", Some("pg1")),
            ("port", Some("5432")),
            ("user", Some("a 'b' c")),
            ("application_name", Some("x=y")),
            ("last", Some("z")),
            ("none", None),
        ] {
            assert_eq!(conninfo_value(text, key).as_deref(), want, "{key}");
        }
    }
}
