//! Health decisions: pure functions from a status to yes or no, with the reason.
//!
//! The names and their meaning are Patroni's (<https://patroni.readthedocs.io/en/latest/rest_api.html>,
//! "Health check endpoints"), so that existing HAProxy and Kubernetes configurations work:
//! - `/`, `/primary`, `/read-write` (`/master`): 200 only on the primary with the leader lock. Here: role
//!   primary and the consumer port open, which the authority allows only to a node that may have it.
//! - `/leader`: the same here, because there are no standby clusters; `/standby-leader` is always 503.
//! - `/replica`: running and a replica. `?lag=` adds a limit in bytes or `16kB`, `64MB`, `1GB`;
//!   `?replication_state=streaming` adds that; `?tag_x=y` is 503 unless the tag is defined, and none is.
//!   A query that cannot be honoured is 503 (`patroni/api.py`, `do_GET`).
//! - `/read-only`: as `/replica` (its limits too), also on the primary, whatever the query.
//! - `/readiness`: the leader, or up, streaming and not too far behind; a witness (Patroni has none) that
//!   is registered. It never serves clients: `/primary`, `/replica` and `/read-only` are 503.
//! - `/health`: PostgreSQL is up and running; a barman host: it keeps its clusters, whatever they do.
//! - `/liveness`: the loop turns; no SQL.
//!
//! Where this differs, it is on the safe side: a limit on the lag while the lag is not known is 503.

use crate::domain::{Exposure, Health, Role, Status, human_bytes, human_duration};
use std::time::Duration;

/// A question about a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Check {
    /// Serves clients as the primary.
    Primary,
    /// Leads a standby cluster: never.
    StandbyLeader,
    /// Serves clients as a standby.
    Replica,
    /// Serves clients.
    ReadOnly,
    /// May be given traffic.
    Readiness,
    /// PostgreSQL is up and open.
    Health,
}

/// What a request adds to the question.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// `lag=`: most bytes behind.
    pub lag: Option<u64>,
    /// `replication_state=`.
    pub replication_state: Option<String>,
    /// What cannot be honoured, as a sentence.
    pub cannot: Option<String>,
}

/// Most bytes behind for readiness of a standby that does not stream, when the request names no
/// limit: Patroni's default of `maximum_lag_on_failover`.
const READY_LAG: u64 = 1024 * 1024;

impl Ask {
    /// Reads the query's pairs. Unknown names are passed over, as Patroni does.
    #[must_use]
    pub fn from_pairs(pairs: &[(String, String)]) -> Self {
        let mut ask = Self::default();
        for (name, value) in pairs {
            match name.as_str() {
                "lag" => match parse_size(value) {
                    Some(bytes) => ask.lag = Some(bytes),
                    None => {
                        ask.cannot = Some(format!(
                            "lag `{value}` is not a size such as 1048576 or 16MB"
                        ));
                    }
                },
                "replication_state" => ask.replication_state = Some(value.clone()),
                tag if tag.starts_with("tag_") => {
                    ask.cannot = Some(format!("this node has no tag `{}`", &tag[4..]));
                }
                _ => {}
            }
        }
        ask
    }
}

/// A size as PostgreSQL and Patroni write it: bytes, or a number with B, kB, MB, GB, TB (powers of
/// 1024). A fraction of a unit is allowed.
#[must_use]
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let number_ends = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(number_ends);
    let unit: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kb" => 1 << 10,
        "mb" => 1 << 20,
        "gb" => 1 << 30,
        "tb" => 1 << 40,
        _ => return None,
    };
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) => (whole, fraction),
        None => (number, ""),
    };
    // Nine digits of a fraction are more than anybody writes.
    if fraction.len() > 9 || fraction.contains('.') {
        return None;
    }
    let part = if fraction.is_empty() {
        0
    } else {
        let scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
        fraction.parse::<u128>().ok()? * u128::from(unit) / scale
    };
    whole
        .parse::<u64>()
        .ok()?
        .checked_mul(unit)?
        .checked_add(u64::try_from(part).ok()?)
}

/// Whether the loop still turns: `age` since its last turn.
#[must_use]
pub fn liveness(age: Duration, limit: Duration) -> Health {
    let (age_text, limit_text) = (human_duration(age), human_duration(limit));
    if age <= limit {
        yes(format!("the loop turned {age_text} ago"))
    } else {
        no(format!(
            "the loop has not turned for {age_text} (limit {limit_text})"
        ))
    }
}

/// Answers a question about a status.
#[must_use]
pub fn decide(check: Check, status: &Status, ask: &Ask) -> Health {
    let answer = match check {
        Check::Health if alone(status) => running(status),
        Check::Readiness if alone(status) => running(status).and_then(|_| green(status)),
        Check::Health => open(status).map(|()| "PostgreSQL is up and open".to_owned()),
        Check::StandbyLeader => Err("there are no standby clusters here".to_owned()),
        // Patroni ignores a query where the leader is asked for.
        Check::Primary => primary(status),
        Check::Replica => replica(status, ask),
        Check::ReadOnly => primary(status).or_else(|_| replica(status, ask)),
        Check::Readiness if status.role == Some(Role::Witness) => match status.host {
            None => ready_witness(status),
            Some(_) => ready_witness(status)
                .and_then(|why| green(status).map(|kept| format!("{why}; {kept}"))),
        },
        Check::Readiness => primary(status).or_else(|_| ready_standby(status, ask)),
    };
    match answer {
        Ok(why) => yes(why),
        Err(why) => no(why),
    }
}

/// A barman host without a vote: it has no postgres that could be open.
fn alone(status: &Status) -> bool {
    status.host.is_some()
        && status.role.is_none()
        && status.exposure == Exposure::Closed
        && status.election.is_none()
}

/// Its configuration is written, and it keeps its clusters, whatever they do.
fn running(status: &Status) -> Result<String, String> {
    let Status {
        state, sentence, ..
    } = status;
    match state.as_str() {
        "running" => Ok("a barman host, running".to_owned()),
        _ => Err(format!("not running: {state}: {sentence}")),
    }
}

/// Every cluster's WAL arrives, and its backups are as they should be.
fn green(status: &Status) -> Result<String, String> {
    let Some(host) = &status.host else {
        return Ok("no barman host".to_owned());
    };
    let named = |s: &crate::domain::KeptView| Some(format!("{}: {}", s.name, s.trouble()?));
    let troubles: Vec<String> = host.servers.iter().filter_map(named).collect();
    match (troubles.is_empty(), host.servers.len()) {
        (false, _) => Err(troubles.join("; ")),
        (true, 0) => Err("no cluster has been looked at yet".to_owned()),
        (true, 1) => Ok("the backups of 1 cluster are green".to_owned()),
        (true, n) => Ok(format!("the backups of {n} clusters are green")),
    }
}

fn yes(why: String) -> Health {
    Health { ok: true, why }
}

fn no(why: String) -> Health {
    Health { ok: false, why }
}

/// Clients can connect.
fn open(status: &Status) -> Result<(), String> {
    let Status {
        state, sentence, ..
    } = status;
    match status.exposure {
        Exposure::Closed => return Err(format!("not open: {state}: {sentence}")),
        Exposure::Technical => {
            return Err(format!(
                "not open, only on the technical port: {state}: {sentence}"
            ));
        }
        Exposure::Consumer => {}
    }
    let gone = |c: &crate::domain::ChildView| c.name == "postgres" && c.pid.is_none();
    if status.children.iter().any(gone) {
        return Err(format!("postgres is not running: {state}: {sentence}"));
    }
    Ok(())
}

fn primary(status: &Status) -> Result<String, String> {
    open(status)?;
    match status.role {
        Some(Role::Primary) => Ok("open as the primary".to_owned()),
        Some(Role::Standby) => Err("open, but a standby".to_owned()),
        Some(Role::Witness) => Err("open, but a witness".to_owned()),
        None => Err("open, but its role is not known yet".to_owned()),
    }
}

fn standby(status: &Status) -> Result<(), String> {
    open(status)?;
    match status.role {
        Some(Role::Standby) => Ok(()),
        Some(Role::Primary) => Err("open, but the primary".to_owned()),
        Some(Role::Witness) => Err("open, but a witness".to_owned()),
        None => Err("open, but its role is not known yet".to_owned()),
    }
}

fn replica(status: &Status, ask: &Ask) -> Result<String, String> {
    standby(status)?;
    if let Some(cannot) = &ask.cannot {
        return Err(cannot.clone());
    }
    if let Some(wanted) = &ask.replication_state {
        let is = replication_state(status);
        if is != wanted {
            return Err(format!("its replication state is `{is}`, not `{wanted}`"));
        }
    }
    match ask.lag {
        None => Ok("open as a standby".to_owned()),
        Some(limit) => within(status, limit).map(|lag| format!("open as a standby, {lag}")),
    }
}

fn ready_standby(status: &Status, ask: &Ask) -> Result<String, String> {
    standby(status)?;
    if let Some(cannot) = &ask.cannot {
        return Err(cannot.clone());
    }
    let streaming = status.streaming == Some(true);
    match (ask.lag, streaming) {
        (None, true) => Ok("open as a standby, streaming".to_owned()),
        (None, false) => within(status, READY_LAG)
            .map(|lag| format!("open as a standby, {lag}"))
            .map_err(|why| format!("does not stream, and {why}")),
        (Some(limit), true) => {
            within(status, limit).map(|lag| format!("open as a standby, streaming, {lag}"))
        }
        (Some(_), false) => Err("open as a standby, but does not stream".to_owned()),
    }
}

/// Its vote counts once its own copy of repmgr's table has it.
fn ready_witness(status: &Status) -> Result<String, String> {
    open(status)?;
    let ours = |m: &&crate::domain::MemberView| m.node_id == status.node_id && m.kind == "witness";
    match status.members.iter().find(ours) {
        Some(_) => Ok("open as a witness, registered".to_owned()),
        None => Err("open, but not registered as a witness".to_owned()),
    }
}

/// Patroni's words for it.
fn replication_state(status: &Status) -> &'static str {
    match status.streaming {
        Some(true) => "streaming",
        Some(false) => "in archive recovery",
        None => "unknown",
    }
}

fn within(status: &Status, limit: u64) -> Result<String, String> {
    let Some(lag) = status.lag_bytes else {
        return Err("its lag is not known".to_owned());
    };
    let text = format!("{} behind", human_bytes(lag));
    if lag <= limit {
        Ok(text)
    } else {
        Err(format!("{text}, more than {}", human_bytes(limit)))
    }
}

#[cfg(test)]
#[path = "health_tests.rs"]
mod tests;
