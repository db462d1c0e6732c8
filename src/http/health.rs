//! What each health endpoint answers, as a pure function of the status. The names and meanings are
//! Patroni's (its manual, "Patroni REST API"), so that existing HAProxy and Kubernetes
//! configurations work.

use crate::domain::{Role, Status, human_bytes, human_duration};
use std::time::Duration;

pub use crate::domain::Health;

/// A question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// The loop turns. No SQL, nothing about PostgreSQL: a container is not killed in a long recovery.
    Liveness,
    /// Clients may come: an open primary, or an open standby that streams (or `lag` holds).
    Readiness,
    /// An open primary.
    Primary,
    /// An open standby; with `?lag=` only one that is not further behind.
    Replica,
    /// Open, as whatever.
    Health,
}

/// Bounds that the asker or the edge gives.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// `?lag=`, bytes.
    pub lag: Option<u64>,
    /// Age of the loop's last turn.
    pub loop_age: Duration,
}

/// A loop that has not turned for so long hangs.
const LOOP_LIMIT: Duration = Duration::from_secs(30);

/// Judges.
#[must_use]
pub fn judge(endpoint: Endpoint, status: &Status, limits: &Limits) -> Health {
    match endpoint {
        Endpoint::Liveness => say(
            limits.loop_age <= LOOP_LIMIT,
            format!("the loop turned {} ago", human_duration(limits.loop_age)),
        ),
        Endpoint::Health => open(status).unwrap_or_else(|| yes(status)),
        Endpoint::Primary => open(status).unwrap_or_else(|| match status.role {
            Some(Role::Primary) => yes(status),
            Some(Role::Standby) | None => no("a standby, not the primary"),
        }),
        Endpoint::Replica => open(status).unwrap_or_else(|| match status.role {
            Some(Role::Standby) => within(status, limits.lag),
            Some(Role::Primary) | None => no("the primary, not a standby"),
        }),
        Endpoint::Readiness => {
            open(status).unwrap_or_else(|| match (status.role, status.streaming) {
                (Some(Role::Standby), Some(false)) if limits.lag.is_none() => {
                    no("a standby that does not stream from its primary")
                }
                (Some(Role::Standby), _) => within(status, limits.lag),
                (Some(Role::Primary) | None, _) => yes(status),
            })
        }
    }
}

/// The refusal of a node that is not open.
fn open(status: &Status) -> Option<Health> {
    (!status.is_open()).then(|| no(&format!("{}: {}", status.state, status.sentence)))
}

fn within(status: &Status, limit: Option<u64>) -> Health {
    match (limit, status.lag_bytes) {
        (Some(limit), Some(lag)) => say(
            lag <= limit,
            format!(
                "{} behind, {} allowed",
                human_bytes(lag),
                human_bytes(limit)
            ),
        ),
        (Some(_), None) => no("the lag is not known yet"),
        (None, _) => yes(status),
    }
}

fn yes(status: &Status) -> Health {
    let role = status
        .role
        .map_or_else(|| "node".to_owned(), |r| r.to_string());
    say(true, format!("open as {role}"))
}

fn no(why: &str) -> Health {
    say(false, why.to_owned())
}

const fn say(ok: bool, why: String) -> Health {
    Health { ok, why }
}

/// `?lag=`: bytes, or with a unit as Patroni takes it (`1kB`, `16MB`, `1GB`; 1024 each).
#[must_use]
pub(super) fn parse_lag(text: &str) -> Option<u64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim() {
        "" | "B" => 1,
        "kB" | "KB" | "K" | "k" => 1 << 10,
        "MB" | "M" => 1 << 20,
        "GB" | "G" => 1 << 30,
        "TB" | "T" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::{BackupView, Exposure, NodeId, NodeName, Uptime};

    pub(in crate::http) fn status(role: Option<Role>, exposure: Exposure) -> Status {
        Status {
            version: "0".into(),
            node: NodeName("pg1".into()),
            node_id: NodeId(1),
            network_name: "pg1".into(),
            state: "open".into(),
            sentence: "serving clients".into(),
            role,
            exposure,
            port: 5432,
            technical_port: 5434,
            uptime: Uptime::default(),
            system_id: None,
            timeline: None,
            lsn: None,
            lag_bytes: None,
            lag_ms: None,
            streaming: None,
            upstream: None,
            members: vec![],
            children: vec![],
            restarts: 0,
            orphans_reaped: 0,
            boot: vec![],
            boot_total_ms: None,
            backup: BackupView::default(),
            fault: None,
        }
    }

    #[test]
    fn the_table_of_answers() {
        use Endpoint::{Health, Liveness, Primary, Readiness, Replica};
        use Exposure::{Closed, Consumer, Technical};
        let p = Some(Role::Primary);
        let s = Some(Role::Standby);
        for (role, exposure, streaming, [health, primary, replica, readiness]) in [
            (p, Consumer, None, [true, true, false, true]),
            (p, Technical, None, [false; 4]),
            (p, Closed, None, [false; 4]),
            (s, Consumer, Some(true), [true, false, true, true]),
            (s, Consumer, Some(false), [true, false, true, false]),
            (s, Closed, Some(true), [false; 4]),
            (None, Closed, None, [false; 4]),
        ] {
            let mut status = status(role, exposure);
            status.streaming = streaming;
            let ask = |endpoint| judge(endpoint, &status, &Limits::default()).ok;
            let got = [ask(Health), ask(Primary), ask(Replica), ask(Readiness)];
            assert_eq!(
                got,
                [health, primary, replica, readiness],
                "{role:?} {exposure:?}"
            );
            assert!(ask(Liveness), "liveness does not look at postgres");
        }
    }

    #[test]
    fn lag_is_held_against_the_limit() {
        let mut status = status(Some(Role::Standby), Exposure::Consumer);
        let ask = |status: &Status, lag| {
            judge(
                Endpoint::Replica,
                status,
                &Limits {
                    lag,
                    ..Limits::default()
                },
            )
            .ok
        };
        assert!(ask(&status, None));
        assert!(!ask(&status, Some(1 << 20)), "unknown is not within");
        status.lag_bytes = Some(1000);
        assert!(ask(&status, Some(1000)));
        assert!(!ask(&status, Some(999)));
    }

    #[test]
    fn a_loop_that_hangs_is_told() {
        let status = status(None, Exposure::Closed);
        let ask = |seconds| {
            let limits = Limits {
                loop_age: Duration::from_secs(seconds),
                ..Limits::default()
            };
            judge(Endpoint::Liveness, &status, &limits).ok
        };
        assert!(ask(30));
        assert!(!ask(31));
    }

    #[test]
    fn lag_has_units() {
        for (text, want) in [
            ("0", Some(0)),
            ("1000", Some(1000)),
            ("1kB", Some(1024)),
            ("16MB", Some(16 << 20)),
            ("1GB", Some(1 << 30)),
            ("1 MB", Some(1 << 20)),
            ("", None),
            ("MB", None),
            ("-1", None),
            ("1XB", None),
            ("99999999999999999999", None),
            ("9999999999999TB", None),
        ] {
            assert_eq!(parse_lag(text), want, "{text}");
        }
    }
}
