//! Registration and the daemon.

use super::RepmgrError;
use crate::config::{Address, Config};
use crate::domain::NodeId;
use crate::pg::{Session, conninfo_value};
use crate::sys::{Account, Children, Finished, Spec};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// Registration takes well under a second; the primary may be busy.
pub(super) const LIMIT: Duration = Duration::from_secs(120);

/// The configuration file.
pub(super) fn conf(config: &Config) -> PathBuf {
    config.paths.repmgr_config_dir.join("repmgr.conf")
}

/// The configuration file that names the technical port, for a registration while the consumer port is
/// closed.
pub(super) fn register_conf(config: &Config) -> PathBuf {
    config.paths.run_dir.join("repmgr.register.conf")
}

/// A program of repmgr's. Passwords come from the password file.
pub(super) fn spec(
    config: &Config,
    account: &Account,
    program: &str,
    args: impl IntoIterator<Item = OsString>,
) -> Spec {
    Spec::new(program, args)
        .env(config.environment.base.clone())
        .env([("HOME", account.home.as_os_str())])
        .env([(
            "PGPASSFILE",
            config.paths.run_dir.join("pgpass").as_os_str(),
        )])
        // pg_basebackup's progress is parsed.
        .env([("LC_ALL", "C")])
        .account(Some(account.clone()))
}

pub(super) fn args(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

pub(super) fn succeeded(command: &'static str, end: &Finished) -> Result<(), RepmgrError> {
    use crate::sys::Exit;
    if end.exit.is_success() {
        return Ok(());
    }
    Err(RepmgrError::Command {
        command,
        code: match end.exit {
            Exit::Code(code) => Some(code),
            Exit::Signal(_) => None,
        },
        exit: end.exit.to_string(),
        last_words: end.last_words(),
    })
}

/// Registers the server on the technical port as the primary, then corrects the record: the command
/// stores the address that it connected to, the others need the consumer's. `-F` succeeds whatever
/// the truth is (it only reads its own table), so the caller has asked the peers.
///
/// # Errors
/// [`RepmgrError`].
pub async fn register_primary(
    children: &Children,
    account: &Account,
    config: &Config,
) -> Result<(), RepmgrError> {
    let mut words = vec!["-f".into(), register_conf(config).into_os_string()];
    words.extend(args(&["primary", "register", "-F"]));
    let end = children
        .run(spec(config, account, "repmgr", words), LIMIT)
        .await?;
    succeeded("primary register", &end)?;
    let session = Session::local(config, config.postgres.technical_port, "repmgr").await?;
    let conninfo =
        crate::domain::registered_conninfo(&config.identity.network_name, config.postgres.port);
    session
        .rows(
            "correcting repmgr's record",
            "UPDATE repmgr.nodes SET conninfo = $2, config_file = $3 WHERE node_id = $1 RETURNING node_id",
            &[&config.identity.id.0, &conninfo, &conf(config).to_string_lossy().as_ref()],
        )
        .await?;
    Ok(())
}

/// Registers this standby at its primary while it is down itself (`-F`; measured in
/// `docs/facts-trixie.md` §6), so that the record is there before the node opens.
///
/// # Errors
/// [`RepmgrError`].
pub async fn register_standby(
    children: &Children,
    account: &Account,
    config: &Config,
    upstream: &Address,
) -> Result<(), RepmgrError> {
    let mut words = vec!["-f".into(), conf(config).into_os_string()];
    words.extend(args(&[
        "-h",
        &upstream.host,
        "-p",
        &upstream.port.to_string(),
    ]));
    words.extend(args(&[
        "-U", "repmgr", "-d", "repmgr", "standby", "register", "-F",
    ]));
    let end = children
        .run(spec(config, account, "repmgr", words), LIMIT)
        .await?;
    succeeded("standby register", &end)
}

/// Empties repmgr's tables on the technical port: those of a restored cluster name the nodes of the one
/// that it was taken from, and none of them is a node of this one.
///
/// # Errors
/// [`RepmgrError`].
pub async fn forget_cluster(config: &Config) -> Result<(), RepmgrError> {
    let session = Session::local(config, config.postgres.technical_port, "repmgr").await?;
    session
        .execute(
            "forgetting the former cluster's nodes",
            "DELETE FROM repmgr.monitoring_history; DELETE FROM repmgr.events; \
             DELETE FROM repmgr.voting_term; DELETE FROM repmgr.nodes",
        )
        .await?;
    Ok(())
}

/// Makes repmgr's table name the node at `address` as the primary, and us as no longer it: a promotion
/// by `pg_promote` alone leaves it as it was, and `standby register` then makes us our own standby (seen
/// with repmgr 5.5). Changes nothing when the table is right.
///
/// # Errors
/// [`RepmgrError`].
pub async fn record_primary(
    primary: &Session,
    address: &Address,
    us: NodeId,
) -> Result<(), RepmgrError> {
    let rows = primary
        .rows(
            "reading repmgr's nodes",
            "SELECT node_id, conninfo, type = 'primary' AND active AND upstream_node_id IS NULL \
             FROM repmgr.nodes",
            &[],
        )
        .await?;
    let at = |conninfo: &str, key| conninfo_value(conninfo, key);
    let found = rows.iter().find(|row| {
        let conninfo: &str = row.get(1);
        let port = at(conninfo, "port").unwrap_or_else(|| "5432".to_owned());
        at(conninfo, "host").as_ref() == Some(&address.host) && port == address.port.to_string()
    });
    let Some(row) = found else { return Ok(()) };
    let (node, right): (i32, Option<bool>) = (row.get(0), row.get(2));
    if right != Some(true) && node != us.0 {
        primary
            .rows(
                "recording the promotion",
                "WITH old AS (UPDATE repmgr.nodes SET type = 'standby', upstream_node_id = $1 \
                   WHERE node_id = $2 AND type = 'primary') \
                 UPDATE repmgr.nodes SET type = 'primary', active = true, upstream_node_id = NULL \
                 WHERE node_id = $1",
                &[&node, &us.0],
            )
            .await?;
        tracing::warn!("repmgr did not know that {address} is the primary: recorded");
    }
    Ok(())
}

/// The daemon, in the foreground, as our child.
#[must_use]
pub fn repmgrd(config: &Config, account: &Account) -> Spec {
    let mut words = vec!["-f".into(), conf(config).into_os_string()];
    words.extend(args(&["--daemonize=false", "--no-pid-file"]));
    spec(config, account, "repmgrd", words)
}
