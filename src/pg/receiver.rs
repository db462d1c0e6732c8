//! The walreceiver of our own standby, and the end of being one.

use super::{PgError, Session, slot_name};
use crate::config::{Address, Config};
use crate::domain::{Lsn, NodeId, Timeline};
use postgres_protocol::escape::{escape_identifier, escape_literal};
use std::convert::Infallible;
use std::time::Duration;
use tokio_postgres::types::ToSql;

/// How long the walreceiver may take to notice that it has nobody to receive from.
const DEAFEN: Duration = Duration::from_secs(2);

/// Stops receiving: what this standby holds afterwards it holds for good, and it acknowledges nothing
/// more. The setting is written to disk, so a restart does not undo it.
///
/// # Errors
/// [`PgError`].
pub async fn deafen(standby: &Session) -> Result<(), PgError> {
    standby
        .execute(
            "stopping the walreceiver",
            "ALTER SYSTEM SET primary_conninfo = ''",
        )
        .await?;
    standby
        .execute("stopping the walreceiver", "SELECT pg_reload_conf()")
        .await?;
    // There is no event for its end. The startup process ends it when it has read the setting; a
    // process that hangs in a send gets the signal as well.
    let gone = async {
        let mut pace = tokio::time::interval(Duration::from_millis(10));
        for turn in 0.. {
            pace.tick().await;
            let sql = if turn % 20 == 19 {
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                 WHERE backend_type = 'walreceiver'"
            } else {
                "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'walreceiver'"
            };
            let left: i64 = standby
                .one("looking for the walreceiver", sql, &[])
                .await?
                .get(0);
            if left == 0 {
                break;
            }
        }
        Ok(())
    };
    match tokio::time::timeout(DEAFEN, gone).await {
        Ok(done) => done,
        Err(_) => Err(PgError::Slow {
            doing: "stopping the walreceiver".into(),
            seconds: DEAFEN.as_secs(),
        }),
    }
}

/// How far a standby's WAL goes, received and synced, replayed or not. The control file names the
/// timeline of the last restart point only; a segment of a later one is there when it has been received.
///
/// # Errors
/// [`PgError`].
pub async fn position(standby: &Session) -> Result<(Timeline, Lsn), PgError> {
    let row = standby
        .one(
            "asking how far our WAL goes",
            "SELECT greatest(c.timeline_id, m.min_recovery_end_timeline, w.received_tli, \
               (SELECT max(('x' || substr(name, 1, 8))::bit(32)::int8) FROM pg_ls_waldir() \
                WHERE name ~ '^[0-9A-F]{24}$'))::int8, \
               greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())::text \
             FROM pg_control_checkpoint() c, pg_control_recovery() m \
             LEFT JOIN pg_stat_wal_receiver w ON true",
            &[],
        )
        .await?;
    let garbled = |detail: String| PgError::Garbled {
        what: "the standby's position".into(),
        detail,
    };
    let (timeline, lsn): (i64, Option<&str>) = (row.get(0), row.get(1));
    let timeline = u32::try_from(timeline).map_err(|_| garbled(timeline.to_string()))?;
    let lsn = lsn
        .and_then(|t| t.parse().ok())
        .ok_or_else(|| garbled(format!("{lsn:?}")))?;
    Ok((Timeline(timeline), lsn))
}

/// Where a primary writes, and on which timeline.
///
/// # Errors
/// [`PgError`].
pub async fn write_position(primary: &Session) -> Result<(Timeline, Lsn), PgError> {
    let row = primary
        .one(
            "asking for the new timeline",
            "SELECT ('x' || substr(pg_walfile_name(l), 1, 8))::bit(32)::int8, l::text \
             FROM pg_current_wal_lsn() l",
            &[],
        )
        .await?;
    let (timeline, lsn): (i64, &str) = (row.get(0), row.get(1));
    let garbled = |detail: String| PgError::Garbled {
        what: "the primary's position".into(),
        detail,
    };
    Ok((
        Timeline(u32::try_from(timeline).map_err(|_| garbled(timeline.to_string()))?),
        lsn.parse().map_err(|_| garbled(lsn.to_owned()))?,
    ))
}

/// Whom a running standby would receive from, as `host:port` of its setting; `None` for nobody.
///
/// # Errors
/// [`PgError`].
pub async fn followed(standby: &Session) -> Result<Option<Address>, PgError> {
    let row = standby
        .one(
            "asking whom we follow",
            "SELECT current_setting('primary_conninfo')",
            &[],
        )
        .await?;
    let text: &str = row.get(0);
    Ok(super::conninfo_value(text, "host").map(|host| Address {
        host,
        port: super::conninfo_value(text, "port")
            .and_then(|p| p.parse().ok())
            .unwrap_or(5432),
    }))
}

/// Points our running standby at a primary; the slot has to be there already. No restart: PostgreSQL
/// reloads the setting since version 13.
///
/// # Errors
/// [`PgError`].
pub async fn follow(standby: &Session, config: &Config, primary: &Address) -> Result<(), PgError> {
    let conninfo = super::standby::conninfo(config, primary);
    for sql in [
        format!(
            "ALTER SYSTEM SET primary_slot_name = {}",
            escape_literal(&slot_name(config.identity.id))
        ),
        format!(
            "ALTER SYSTEM SET primary_conninfo = {}",
            escape_literal(&conninfo)
        ),
        "SELECT pg_reload_conf()".to_owned(),
    ] {
        standby.execute("following the new primary", &sql).await?;
    }
    Ok(())
}

/// What the primary is told about a standby that follows it now: its slot and its record, as
/// `repmgr standby follow` leaves them (`do_standby_follow_internal`).
///
/// # Errors
/// [`PgError`].
pub async fn receive_follower(
    primary: &Session,
    leader: NodeId,
    follower: NodeId,
) -> Result<(), PgError> {
    let name = slot_name(follower);
    primary
        .rows(
            "making our slot on the new primary",
            "SELECT pg_create_physical_replication_slot($1, true) \
             WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)",
            &[&name],
        )
        .await?;
    primary
        .rows(
            "telling repmgr whom we follow",
            "UPDATE repmgr.nodes SET type = 'standby', upstream_node_id = $1, active = true, slot_name = $3 \
             WHERE node_id = $2 RETURNING node_id",
            &[&leader.0, &follower.0, &name],
        )
        .await?;
    Ok(())
}

/// Where a server archives, the end of its recovery waits until WAL is summarized up to the old timeline's last record: only
/// then the segment gets its other name (`CleanupAfterArchiveRecovery` in `xlog.c`, PostgreSQL 17). The summarizer sleeps the
/// longer the less WAL has come, up to 30 s (`MAX_SLEEP_QUANTA` in `walsummarizer.c`), and what waits for it does not wake
/// it. A reload does: it sets every process's latch.
async fn wake_summarizer(aside: &Session) -> Infallible {
    const WAITS: &str = "SELECT pg_reload_conf() FROM pg_stat_activity \
         WHERE backend_type = 'startup' AND wait_event = 'WalSummaryReady'";
    loop {
        let woken = aside.rows("waking the summarizer of WAL", WAITS, &[]).await;
        // It wakes by itself in the end. Again after a while: one that has much to read is not asleep.
        let pause = match woken {
            Ok(rows) if rows.is_empty() => Duration::from_millis(100),
            Ok(_) | Err(_) => Duration::from_secs(1),
        };
        tokio::time::sleep(pause).await;
    }
}

/// Ends recovery and tells repmgr: what `repmgr standby promote` does, without its connections to the
/// dead primary (`do_standby_promote`, `update_node_record_set_primary` in repmgr 5.5). Slots for the
/// other standbys are made at once, so that no WAL they need is removed before they come. `aside` is another session
/// with the same server, as superuser.
///
/// # Errors
/// [`PgError`].
pub async fn promote(
    ours: &Session,
    aside: &Session,
    node: NodeId,
    limit: Duration,
) -> Result<(), PgError> {
    let seconds = i32::try_from(limit.as_secs()).unwrap_or(60).max(1);
    let recovering = || async {
        let row = ours
            .one(
                "asking whether we recover",
                "SELECT pg_is_in_recovery()",
                &[],
            )
            .await?;
        Ok::<bool, PgError>(row.get(0))
    };
    if recovering().await? {
        let longest: [&(dyn ToSql + Sync); 1] = [&seconds];
        let row = tokio::select! {
            row = ours.one("promoting", "SELECT pg_promote(true, $1)", &longest) => row?,
            never = wake_summarizer(aside) => match never {},
        };
        let done: bool = row.get(0);
        if !done && recovering().await? {
            return Err(PgError::Slow {
                doing: "promoting".into(),
                seconds: limit.as_secs(),
            });
        }
    }
    ours.execute(
        "telling repmgr who is primary",
        &format!(
            "BEGIN; \
             UPDATE repmgr.nodes SET active = false WHERE type = 'primary' AND active AND node_id <> {node}; \
             UPDATE repmgr.nodes SET type = 'primary', upstream_node_id = NULL, active = true WHERE node_id = {node}; \
             INSERT INTO repmgr.events (node_id, event, successful, details) \
               VALUES ({node}, 'standby_promote', true, 'promoted by pgnode'); \
             COMMIT"
        ),
    )
    .await?;
    ours.rows(
        "making slots for the other standbys",
        "SELECT pg_create_physical_replication_slot(s, true) FROM \
           (SELECT 'repmgr_slot_' || node_id AS s FROM repmgr.nodes WHERE node_id <> $1 AND type <> 'witness') n \
         WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = s)",
        &[&node.0],
    )
    .await?;
    for name in ["primary_conninfo", "primary_slot_name"] {
        ours.execute(
            "removing what a standby has",
            &format!("ALTER SYSTEM RESET {}", escape_identifier(name)),
        )
        .await?;
    }
    Ok(())
}
