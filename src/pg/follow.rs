//! Why a standby does not stream, and what helps: facts from its primary, then a pure decision.

use super::{PgError, Session};
use crate::domain::{Lsn, NodeId, SystemId, Timeline, WalName};
use postgres_protocol::escape::escape_literal;

/// The standby that does not stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its node: repmgr names the slot after it.
    pub node: NodeId,
    /// Its cluster, when that is known.
    pub system_id: Option<SystemId>,
    /// Its timeline.
    pub timeline: Timeline,
    /// How far its WAL goes.
    pub position: Lsn,
}

/// What the node that should be its primary says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotFacts {
    /// It is itself a standby.
    pub recovering: bool,
    /// Its cluster.
    pub system_id: SystemId,
    /// Its timeline.
    pub timeline: Timeline,
    /// How far its WAL goes.
    pub position: Lsn,
    /// The slot exists.
    pub exists: bool,
    /// It was invalidated: it holds nothing back any more.
    pub lost: bool,
    /// Somebody streams from it.
    pub active: bool,
    /// The segment that we need next is still there, on whatever timeline: a promotion copies the
    /// segment in which it happens, and may rename the old one.
    pub has_segment: bool,
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// Make the slot.
    CreateSlot,
    /// Drop the lost one and make it anew.
    RecreateSlot,
    /// The WAL is gone: only a new clone helps.
    CloneAnew,
    /// Nothing here is wrong: the walreceiver will connect.
    Wait,
    /// Nothing that we may do by ourselves; why.
    Stuck(String),
}

/// Decides. Our data is given up for a clone only when the WAL that we lack is gone from a primary of
/// our own cluster which has written more than we hold.
#[must_use]
pub fn repair(ours: &Standing, facts: &SlotFacts) -> Repair {
    if facts.recovering {
        return Repair::Stuck("the node that should be the primary is itself a standby".into());
    }
    if let Some(id) = ours.system_id.filter(|id| *id != facts.system_id) {
        return Repair::Stuck(format!(
            "the primary belongs to cluster {}, this standby to {id}",
            facts.system_id
        ));
    }
    if facts.timeline < ours.timeline
        || (facts.timeline == ours.timeline && facts.position < ours.position)
    {
        return Repair::Stuck(format!(
            "this standby holds WAL up to {} on timeline {}, the primary only up to {} on \
             timeline {}: a person has to say which one is right",
            ours.position, ours.timeline, facts.position, facts.timeline
        ));
    }
    match facts {
        SlotFacts { active: true, .. } => Repair::Wait,
        // At the very end of its WAL the next segment need not exist yet.
        SlotFacts {
            has_segment: false, ..
        } if facts.position > ours.position => Repair::CloneAnew,
        SlotFacts { exists: false, .. } => Repair::CreateSlot,
        SlotFacts { lost: true, .. } => Repair::RecreateSlot,
        SlotFacts { .. } => Repair::Wait,
    }
}

/// repmgr's name for a node's slot.
#[must_use]
pub fn slot_name(node: NodeId) -> String {
    format!("repmgr_slot_{node}")
}

/// Asks the primary (a session of user repmgr, a member of pg_monitor, in its database).
///
/// # Errors
/// [`PgError`].
pub async fn slot_facts(primary: &Session, ours: &Standing) -> Result<SlotFacts, PgError> {
    let row = primary
        .one(
            "asking the primary for its position and our slot",
            "SELECT r.recovering, (SELECT system_identifier::text FROM pg_control_system()), \
               CASE WHEN r.recovering THEN (SELECT timeline_id FROM pg_control_checkpoint())::int8 \
                    ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int8 END, \
               (CASE WHEN r.recovering THEN pg_last_wal_replay_lsn() \
                     ELSE pg_current_wal_lsn() END)::text, \
               (SELECT setting::int8 FROM pg_settings WHERE name = 'wal_segment_size'), \
               s.slot_name IS NOT NULL, coalesce(s.wal_status = 'lost', false), \
               coalesce(s.active, false) \
             FROM (SELECT pg_is_in_recovery() AS recovering) r \
             LEFT JOIN pg_replication_slots s ON s.slot_name = $1",
            &[&slot_name(ours.node)],
        )
        .await?;
    let (id, timeline, position): (&str, i64, &str) = (row.get(1), row.get(2), row.get(3));
    let size = u64::try_from(row.get::<_, i64>(4)).ok().filter(|n| *n > 0);
    let segment =
        WalName::holding(ours.timeline, ours.position, size.unwrap_or(16 << 20)).to_string();
    let there: bool = primary
        .one(
            "asking for the segment",
            "SELECT EXISTS (SELECT FROM pg_ls_waldir() WHERE substr(name, 9) = $1)",
            &[&segment.get(8..).unwrap_or_default()],
        )
        .await?
        .get(0);
    let garbled = |what: &str| PgError::Garbled {
        what: "the primary's answer".into(),
        detail: what.to_owned(),
    };
    Ok(SlotFacts {
        recovering: row.get(0),
        system_id: SystemId(id.parse().map_err(|_| garbled(id))?),
        timeline: Timeline(u32::try_from(timeline).map_err(|_| garbled("timeline"))?),
        position: position.parse().map_err(|_| garbled(position))?,
        exists: row.get(5),
        lost: row.get(6),
        active: row.get(7),
        has_segment: there,
    })
}

/// Removes our slot, left by an interrupted clone or an earlier life, before a clone makes it anew.
/// An invalidated one would be taken as it is: the standby streams through it, and it never holds WAL
/// back again (seen with PostgreSQL 17 and repmgr 5.5). One in use stays; the clone then says so.
///
/// # Errors
/// [`PgError`].
pub async fn forget_slot(primary: &Session, node: NodeId) -> Result<(), PgError> {
    primary
        .rows(
            "dropping our old slot",
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots \
             WHERE slot_name = $1 AND NOT active",
            &[&slot_name(node)],
        )
        .await?;
    Ok(())
}

/// `conninfo` with another port; `None` when it names another host, or that port already.
fn with_port(conninfo: &str, host: &str, port: u16) -> Option<String> {
    let value = |key| super::conninfo_value(conninfo, key);
    let former = value("port").unwrap_or_else(|| "5432".to_owned());
    if value("host").as_deref() != Some(host) || former == port.to_string() {
        return None;
    }
    let tokens = [format!("port={former}"), format!("port='{former}'")];
    let token = tokens.iter().find(|t| conninfo.contains(t.as_str()))?;
    Some(conninfo.replacen(token.as_str(), &format!("port={port}"), 1))
}

/// Points the walreceiver at the port that its primary has now. Another host is another node: whom a
/// standby follows is not decided here.
///
/// # Errors
/// [`PgError`].
pub async fn follow_port(standby: &Session, host: &str, port: u16) -> Result<bool, PgError> {
    let row = standby
        .one(
            "asking whom we follow",
            "SELECT current_setting('primary_conninfo')",
            &[],
        )
        .await?;
    let Some(new) = with_port(row.get(0), host, port) else {
        return Ok(false);
    };
    let sql = format!(
        "ALTER SYSTEM SET primary_conninfo = {}",
        escape_literal(&new)
    );
    standby
        .execute("following the primary's port", &sql)
        .await?;
    standby
        .execute("following the primary's port", "SELECT pg_reload_conf()")
        .await?;
    Ok(true)
}

/// Makes the slot, dropping a lost one first. WAL is held back from now on.
///
/// # Errors
/// [`PgError`].
pub async fn make_slot(primary: &Session, node: NodeId, drop_first: bool) -> Result<(), PgError> {
    let name = slot_name(node);
    if drop_first {
        primary
            .rows(
                "dropping the lost slot",
                "SELECT pg_drop_replication_slot($1)",
                &[&name],
            )
            .await?;
    }
    primary
        .rows(
            "making the slot",
            "SELECT pg_create_physical_replication_slot($1, true)",
            &[&name],
        )
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Standing = Standing {
        node: NodeId(2),
        system_id: Some(SystemId(7)),
        timeline: Timeline(2),
        position: Lsn(0x0500_0200),
    };

    fn primary() -> SlotFacts {
        SlotFacts {
            recovering: false,
            system_id: SystemId(7),
            timeline: Timeline(2),
            position: Lsn(0x0900_0000),
            exists: true,
            lost: false,
            active: false,
            has_segment: true,
        }
    }

    #[test]
    fn only_the_port_of_the_same_host_is_followed() {
        let at = |port| format!("host=pg1 {port}user=repmgr_streaming application_name=pg2");
        for (from, host, port, want) in [
            ("port=5432 ", "pg1", 7654, Some("port=7654 ")),
            ("port='5432' ", "pg1", 7654, Some("port=7654 ")),
            ("port=5432 ", "pg1", 5432, None),
            ("port=5432 ", "pg3", 7654, None),
            ("", "pg1", 5432, None),
        ] {
            assert_eq!(
                with_port(&at(from), host, port),
                want.map(at),
                "{from}{host}"
            );
        }
    }

    #[test]
    fn the_table_of_repairs() {
        for exists in [true, false] {
            for lost in [true, false] {
                for active in [true, false] {
                    for has_segment in [true, false] {
                        let facts = SlotFacts {
                            exists,
                            lost,
                            active,
                            has_segment,
                            ..primary()
                        };
                        let want = match (exists, lost, active, has_segment) {
                            (_, _, true, _) => Repair::Wait,
                            (_, _, _, false) => Repair::CloneAnew,
                            (false, _, _, true) => Repair::CreateSlot,
                            (true, true, _, true) => Repair::RecreateSlot,
                            (true, false, _, true) => Repair::Wait,
                        };
                        assert_eq!(repair(&OURS, &facts), want, "{facts:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn data_is_given_up_only_for_more_of_the_same() {
        let gone = SlotFacts {
            has_segment: false,
            ..primary()
        };
        let (stuck, clone, wait) = ("stuck", "clone", "wait");
        for (case, facts, want) in [
            ("it wrote on", gone.clone(), clone),
            (
                "it was promoted, and wrote on",
                SlotFacts {
                    timeline: Timeline(3),
                    ..gone.clone()
                },
                clone,
            ),
            (
                "it wrote nothing since",
                SlotFacts {
                    position: OURS.position,
                    ..gone.clone()
                },
                wait,
            ),
            (
                "it has less",
                SlotFacts {
                    position: Lsn(0x0400_0000),
                    ..gone.clone()
                },
                stuck,
            ),
            (
                "it is on an older timeline",
                SlotFacts {
                    timeline: Timeline(1),
                    ..gone.clone()
                },
                stuck,
            ),
            (
                "it is of another cluster",
                SlotFacts {
                    system_id: SystemId(8),
                    ..gone.clone()
                },
                stuck,
            ),
            (
                "it is a standby",
                SlotFacts {
                    recovering: true,
                    ..gone
                },
                stuck,
            ),
        ] {
            let got = repair(&OURS, &facts);
            let kind = match &got {
                Repair::Stuck(_) => stuck,
                Repair::CloneAnew => clone,
                Repair::Wait => wait,
                Repair::CreateSlot | Repair::RecreateSlot => "slot",
            };
            assert_eq!(kind, want, "{case}: {got:?}");
        }
    }
}
