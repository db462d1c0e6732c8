//! What the role barman can see of a server.

use super::facts::{Archiver, NodeLogin, ServerFacts, Slot};
use super::passwords::Passwords;
use crate::config::Address;
use crate::pg::{PgError, Refusal, Session, replication_login};
use crate::sys::wall_time;
use std::time::{Duration, Instant};

/// The database that barman connects to.
pub(super) const DATABASE: &str = "postgres";

/// For one login on the replication protocol.
const LOGIN: Duration = Duration::from_secs(5);

/// Both logins to one node, side by side.
pub(super) async fn node(address: Address, passwords: &Passwords) -> NodeLogin {
    let plain = async {
        let session = session(&address, passwords).await?;
        server(&session).await.map_err(|e| Refusal::from(&e))
    };
    let user = "barman_streaming";
    let streaming = replication_login(&address, user, &passwords.streaming, LOGIN);
    let (plain, streaming) = tokio::join!(plain, streaming);
    NodeLogin {
        plain,
        streaming,
        address,
    }
}

/// A session as barman.
pub(super) async fn session(address: &Address, passwords: &Passwords) -> Result<Session, Refusal> {
    Session::remote(address, "barman", &passwords.plain, DATABASE)
        .await
        .map_err(|e| Refusal::from(&e))
}

/// The rights that barman needs: what, how to ask, what grants it. `{start}` and `{stop}` are the backup
/// functions, which PostgreSQL 15 renamed.
const RIGHTS: &[(&str, &str, &str)] = &[
    (
        "EXECUTE on pg_switch_wal()",
        "has_function_privilege('pg_switch_wal()', 'EXECUTE')",
        "GRANT EXECUTE ON FUNCTION pg_switch_wal() TO barman",
    ),
    (
        "EXECUTE on pg_create_restore_point(text)",
        "has_function_privilege('pg_create_restore_point(text)', 'EXECUTE')",
        "GRANT EXECUTE ON FUNCTION pg_create_restore_point(text) TO barman",
    ),
    (
        "EXECUTE on {start}",
        "has_function_privilege('{start}', 'EXECUTE')",
        "GRANT EXECUTE ON FUNCTION {start} TO barman",
    ),
    (
        "EXECUTE on {stop}",
        "has_function_privilege('{stop}', 'EXECUTE')",
        "GRANT EXECUTE ON FUNCTION {stop} TO barman",
    ),
    (
        "membership of pg_read_all_settings",
        "pg_has_role('pg_read_all_settings', 'USAGE')",
        "GRANT pg_read_all_settings TO barman",
    ),
    (
        "membership of pg_read_all_stats",
        "pg_has_role('pg_read_all_stats', 'USAGE')",
        "GRANT pg_read_all_stats TO barman",
    ),
];

/// Half of a right that exists since 15.
const CHECKPOINT: (&str, &str, &str) = (
    "membership of pg_checkpoint",
    "pg_has_role('pg_checkpoint', 'USAGE')",
    "GRANT pg_checkpoint TO barman",
);

const GENERAL: &str = "
SELECT pg_is_in_recovery(),
       current_setting('server_version_num')::int,
       (extract(epoch FROM clock_timestamp()) * 1000)::bigint,
       pg_size_bytes(current_setting('wal_segment_size')),
       (SELECT setting::bigint FROM pg_settings WHERE name = 'max_slot_wal_keep_size'),
       EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
               WHERE n.nspname = 'pgnode' AND c.relname = 'marker' AND has_schema_privilege(n.oid, 'USAGE')
                 AND has_table_privilege(c.oid, 'INSERT') AND has_table_privilege(c.oid, 'SELECT')
                 AND has_table_privilege(c.oid, 'DELETE'))";

const SLOTS: &str = "
SELECT slot_name::text, active, wal_status,
       CASE WHEN pg_is_in_recovery() THEN NULL
            ELSE pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn)::bigint END
FROM pg_replication_slots ORDER BY slot_name";

const ARCHIVER: &str = "
SELECT m.setting, c.setting, c.sourcefile, m.pending_restart, a.failed_count,
       CASE WHEN a.last_failed_time > coalesce(a.last_archived_time, '-infinity') THEN a.last_failed_wal END
FROM pg_settings m, pg_settings c, pg_stat_archiver a
WHERE m.name = 'archive_mode' AND c.name = 'archive_command'";

const TABLESPACES: &str = "
SELECT oid, pg_tablespace_location(oid) FROM pg_tablespace WHERE pg_tablespace_location(oid) <> ''";

/// Everything that is asked of a server.
pub(super) async fn server(session: &Session) -> Result<ServerFacts, PgError> {
    let (ours, asked) = (wall_time(), Instant::now());
    let row = session
        .one("asking what the server is", GENERAL, &[])
        .await?;
    let took = u64::try_from(asked.elapsed().as_millis()).unwrap_or(u64::MAX);
    let ours = i64::try_from(ours.as_millis()).unwrap_or(i64::MAX);
    let theirs: i64 = row.get(2);
    let limit: Option<i64> = row.get(4);
    let version: i32 = row.get(1);
    let segment: i64 = row.get(3);
    let (rights, slots, archiver, tablespaces) = (
        missing(session, version).await?,
        session.rows("asking for the slots", SLOTS, &[]).await?,
        session
            .one("asking for the archiver", ARCHIVER, &[])
            .await?,
        session
            .rows("asking for the tablespaces", TABLESPACES, &[])
            .await?,
    );
    Ok(ServerFacts {
        standby: row.get(0),
        version,
        skew_ms: theirs - ours - i64::try_from(took / 2).unwrap_or_default(),
        asked_ms: took,
        missing: rights,
        marker: row.get(5),
        segment_size: segment.unsigned_abs(),
        slots: slots
            .iter()
            .map(|row| Slot {
                name: row.get(0),
                active: row.get(1),
                status: row.get(2),
                held: row
                    .get::<_, Option<i64>>(3)
                    .and_then(|n| u64::try_from(n).ok()),
            })
            .collect(),
        // Megabytes; -1 is no limit.
        slot_limit: limit.and_then(|n| u64::try_from(n).ok()).map(|n| n << 20),
        archiver: Archiver {
            mode: archiver.get(0),
            command: archiver.get(1),
            source: archiver.get(2),
            pending_restart: archiver.get(3),
            failed_count: archiver.get(4),
            failing: archiver.get(5),
        },
        tablespaces: tablespaces
            .iter()
            .map(|row| (row.get(0), row.get(1)))
            .collect(),
    })
}

async fn missing(session: &Session, version: i32) -> Result<Vec<(String, String)>, PgError> {
    let (start, stop) = if version >= 150_000 {
        ("pg_backup_start(text, boolean)", "pg_backup_stop(boolean)")
    } else {
        (
            "pg_start_backup(text, boolean, boolean)",
            "pg_stop_backup(boolean, boolean)",
        )
    };
    let fill = |text: &str| text.replace("{start}", start).replace("{stop}", stop);
    let newer = (version >= 150_000).then_some(&CHECKPOINT);
    let rights: Vec<_> = RIGHTS.iter().chain(newer).collect();
    let asked: Vec<String> = rights.iter().map(|(_, ask, _)| fill(ask)).collect();
    let sql = format!("SELECT ARRAY[{}]", asked.join(", "));
    let row = session.one("asking for barman's rights", &sql, &[]).await?;
    let has: Vec<bool> = row.get(0);
    Ok(rights
        .iter()
        .zip(has)
        .filter(|(_, has)| !has)
        .map(|((what, _, sql), _)| (fill(what), fill(sql)))
        .collect())
}
