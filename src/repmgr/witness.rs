//! The registration of a witness: repmgr writes its record on the primary and copies the primary's
//! table to the witness.

use super::RepmgrError;
use super::commands::{LIMIT, args, conf, register_conf, spec, succeeded};
use crate::config::{Address, Config};
use crate::domain::registered_conninfo;
use crate::pg::Session;
use crate::sys::{Account, Children};

/// Where the witness's own server listens at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// On the technical port: the record is corrected afterwards.
    Technical,
    /// On the port that is recorded.
    Consumer,
}

/// Registers this witness at a primary, or again (`-F`), which is also how its copy of the table is
/// made anew.
///
/// On the technical port the command records what it connected with. That has our own name as its host
/// (and `hostaddr` of the loopback), so that nobody who reads it before it is corrected takes itself
/// for the witness.
///
/// # Errors
/// [`RepmgrError`].
pub async fn register_witness(
    children: &Children,
    account: &Account,
    config: &Config,
    primary: &Address,
    door: Door,
) -> Result<(), RepmgrError> {
    let file = match door {
        Door::Technical => register_conf(config),
        Door::Consumer => conf(config),
    };
    let mut words = vec!["-f".into(), file.into_os_string()];
    words.extend(args(&[
        "-h",
        &primary.host,
        "-p",
        &primary.port.to_string(),
    ]));
    words.extend(args(&[
        "-U", "repmgr", "-d", "repmgr", "witness", "register", "-F",
    ]));
    let end = children
        .run(spec(config, account, "repmgr", words), LIMIT)
        .await?;
    succeeded("witness register", &end)?;
    if door == Door::Consumer {
        return Ok(());
    }
    let there = Session::remote(primary, "repmgr", &config.repmgr.password, "repmgr").await?;
    let here = Session::local(config, config.postgres.technical_port, "repmgr").await?;
    for session in [there, here] {
        correct(&session, config).await?;
    }
    Ok(())
}

async fn correct(session: &Session, config: &Config) -> Result<(), RepmgrError> {
    let conninfo = registered_conninfo(&config.identity.network_name, config.postgres.port);
    session
        .one(
            "correcting repmgr's record",
            "UPDATE repmgr.nodes SET conninfo = $2, config_file = $3 \
             WHERE node_id = $1 AND type = 'witness' RETURNING node_id",
            &[
                &config.identity.id.0,
                &conninfo,
                &conf(config).to_string_lossy().as_ref(),
            ],
        )
        .await?;
    Ok(())
}
