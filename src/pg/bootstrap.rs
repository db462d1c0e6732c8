//! Users, databases, the extension and their rights: idempotent, each role with exactly what it
//! needs and no superuser among them. What needs which right is in `docs/facts-trixie.md`.

use super::{PgError, Session};
use crate::config::{BarmanMode, Config, NodeKind, Secret};
use postgres_protocol::escape::{escape_identifier, escape_literal};
use postgres_protocol::password::scram_sha_256;

/// What a role may do beside logging in.
struct RoleSpec<'a> {
    name: &'static str,
    replication: bool,
    password: &'a Secret,
    /// Cannot log in while this is off; it exists all the same, so that rights stay the same.
    login: bool,
}

/// Which visit this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// The cluster was created a moment ago: the user's database is made.
    First,
    /// A database that the user has dropped since is not made again.
    Later,
}

/// Changes whenever [`bootstrap`] brings something else into a database: one that was provisioned by an
/// earlier build of the same version is visited again.
pub const PROVISION: &str = "2: pgnode.marker";

/// Brings the server on this port of ours up to date.
///
/// # Errors
/// [`PgError`].
pub async fn bootstrap(config: &Config, port: u16, visit: Visit) -> Result<(), PgError> {
    let session = Session::local(config, port, "postgres").await?;
    // A message of its own: the next one is logged as a whole before any of it is in force.
    session
        .execute(
            "keeping verifiers out of the log",
            "SET log_statement = 'none'; SET log_min_duration_statement = -1; \
             SET log_min_error_statement = 'panic'",
        )
        .await?;
    let version: i32 = session
        .one(
            "reading the server's version",
            "SELECT current_setting('server_version_num')::int",
            &[],
        )
        .await?
        .get(0);
    // Thousands of hash rounds a password: not where the beats of a primary have to leave.
    let verified = config.clone();
    let roles = tokio::task::spawn_blocking(move || roles(&verified, version))
        .await
        .map_err(|why| PgError::Garbled {
            what: "the making of verifiers".into(),
            detail: why.to_string(),
        })?;
    session
        .execute("creating users and granting rights", &roles)
        .await?;
    session
        .execute("making the marker table", MARKER_TABLE)
        .await?;
    databases(config, &session, visit).await?;
    let repmgr = Session::local(config, port, "repmgr").await?;
    repmgr
        .execute(
            "preparing the repmgr database",
            &extension(config.kind, version),
        )
        .await
}

/// Passwords go as SCRAM verifiers, so that no statement log can show one.
fn roles(config: &Config, version: i32) -> String {
    let backups = config.barman.mode != BarmanMode::Off;
    let specs = [
        RoleSpec {
            name: "repmgr",
            replication: true,
            password: &config.repmgr.password,
            login: true,
        },
        RoleSpec {
            name: "repmgr_streaming",
            replication: true,
            password: &config.repmgr.streaming_password,
            login: true,
        },
        RoleSpec {
            name: "barman",
            replication: false,
            password: &config.barman.password,
            login: backups,
        },
        RoleSpec {
            name: "barman_streaming",
            replication: true,
            password: &config.barman.streaming_password,
            login: backups,
        },
    ];
    let mut sql = String::from("SET LOCAL synchronous_commit = local;\n");
    let set_password = |sql: &mut String, user: &str, password: &Secret| {
        let verifier = scram_sha_256(password.reveal().as_bytes());
        let (user, verifier) = (escape_identifier(user), escape_literal(&verifier));
        sql.push_str(&format!("ALTER ROLE {user} PASSWORD {verifier};\n"));
    };
    for spec in &specs {
        let (replication, login) = (
            if spec.replication {
                "REPLICATION"
            } else {
                "NOREPLICATION"
            },
            if spec.login { "LOGIN" } else { "NOLOGIN" },
        );
        sql.push_str(&format!("DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{name}') \
             THEN CREATE ROLE {name}; END IF; END $$;\n\
             ALTER ROLE {name} {login} {replication} INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOBYPASSRLS;\n",
            name = spec.name,
        ));
        set_password(&mut sql, spec.name, spec.password);
    }
    set_password(
        &mut sql,
        &config.postgres.superuser,
        &config.postgres.password,
    );
    // repmgr writes its record while no standby can be there to confirm it; its own connections
    // bring `options` of their own, so PGOPTIONS would not reach the server.
    // PostgreSQL 15 renamed the backup functions and made the checkpoint a right of its own.
    let (start, stop) = if version >= 150_000 {
        ("pg_backup_start(text, boolean)", "pg_backup_stop(boolean)")
    } else {
        (
            "pg_start_backup(text, boolean, boolean)",
            "pg_stop_backup(boolean, boolean)",
        )
    };
    sql.push_str(&format!("GRANT pg_read_all_settings, pg_read_all_stats TO barman;\n\
         GRANT EXECUTE ON FUNCTION {start}, {stop}, pg_switch_wal(), pg_create_restore_point(text), \
         pg_ls_waldir() TO barman;\n\
         GRANT pg_monitor TO repmgr;\n\
         ALTER ROLE repmgr SET synchronous_commit = local;\n"
    ));
    if version >= 150_000 {
        sql.push_str("GRANT pg_checkpoint TO barman, repmgr;\n");
    }
    sql
}

/// What `pgnode doctor` writes to see a row arrive in the archive and come back from a backup. In the
/// database that barman connects to; barman may add, read and remove rows, and nothing else.
const MARKER_TABLE: &str = "\
SET LOCAL synchronous_commit = local;
CREATE SCHEMA IF NOT EXISTS pgnode;
CREATE TABLE IF NOT EXISTS pgnode.marker (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT now(),
    token text NOT NULL
);
GRANT USAGE ON SCHEMA pgnode TO barman;
GRANT SELECT, INSERT, DELETE ON pgnode.marker TO barman;
";

/// `CREATE DATABASE` cannot run in a transaction, and has no `IF NOT EXISTS`.
async fn databases(config: &Config, session: &Session, visit: Visit) -> Result<(), PgError> {
    let rows = session
        .rows(
            "reading the databases",
            "SELECT datname::text FROM pg_database",
            &[],
        )
        .await?;
    let known: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let own = (
        config.postgres.database.as_str(),
        config.postgres.superuser.as_str(),
    );
    let users = (visit == Visit::First).then_some(own);
    for (database, owner) in users.into_iter().chain([("repmgr", "repmgr")]) {
        if !known.iter().any(|k| k == database) {
            let sql = format!(
                "CREATE DATABASE {} OWNER {}",
                escape_identifier(database),
                escape_identifier(owner)
            );
            session
                .execute(&format!("creating database {database}"), &sql)
                .await?;
        }
    }
    Ok(())
}

/// The extension belongs to the superuser; repmgr's user gets what its commands were seen to need,
/// pg_rewind's functions included (they are granted in this database only).
fn extension(kind: NodeKind, version: i32) -> String {
    let mut sql = String::from(
        "SET LOCAL synchronous_commit = local;\n\
         CREATE EXTENSION IF NOT EXISTS repmgr;\n\
         ALTER EXTENSION repmgr UPDATE;\n\
         GRANT USAGE ON SCHEMA repmgr TO repmgr;\n\
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA repmgr TO repmgr;\n\
         GRANT EXECUTE ON FUNCTION pg_wal_replay_resume(), pg_promote(boolean, integer), \
         pg_ls_dir(text, boolean, boolean), pg_stat_file(text, boolean), pg_read_binary_file(text), \
         pg_read_binary_file(text, bigint, bigint, boolean) TO repmgr;\n",
    );
    if kind.is_witness() {
        // Its copy of the table is made anew each time, by `witness register` and by repmgrd.
        sql.push_str("GRANT TRUNCATE ON TABLE repmgr.nodes TO repmgr;\n");
    }
    if version >= 150_000 {
        sql.push_str("GRANT ALTER SYSTEM ON PARAMETER wal_retrieve_retry_interval TO repmgr;\n");
    }
    sql
}
