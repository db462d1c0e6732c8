//! The server that is backed up: our own, or the primary among the hosts of a cluster.

use super::Desk;
use crate::config::Address;
use crate::domain::Fault;
use crate::pg::{self, PgError, Session};

/// The database of barman's role, as in its conninfo.
const DATABASE: &str = "postgres";

/// A session with the primary, as barman's own role.
pub(super) async fn session(desk: &Desk<'_>) -> Result<Session, Fault> {
    match desk.config.kind.keeps_backups() {
        true => of_cluster(desk).await,
        false => ours(desk).await,
    }
}

async fn open(desk: &Desk<'_>, address: &Address) -> Result<Session, PgError> {
    let password = &desk.config.barman.password;
    Session::remote(address, "barman", password, DATABASE).await
}

async fn is_standby(session: &Session) -> Result<bool, PgError> {
    let sql = "SELECT pg_is_in_recovery()";
    let row = session.one("asking whether it is a standby", sql, &[]);
    Ok(row.await?.get(0))
}

async fn ours(desk: &Desk<'_>) -> Result<Session, Fault> {
    let address = Address {
        host: "127.0.0.1".to_owned(),
        port: desk.config.postgres.port,
    };
    let session = open(desk, &address).await.map_err(|e| {
        let why = Fault::chain(&e);
        Fault::Transient(format!(
            "no backup: {why}; `pgnode status` says how the node is"
        ))
    })?;
    if !is_standby(&session).await.map_err(|e| e.fault())? {
        return Ok(session);
    }
    let upstream = pg::followed(&session).await.ok().flatten();
    let there = upstream.map_or_else(|| "there".to_owned(), |a| format!("on {}", a.host));
    Err(Fault::NeedsPerson(format!(
        "no backup: {} is a standby, and the primary is backed up. Run `pgnode backup` {there}",
        desk.config.identity.name
    )))
}

async fn of_cluster(desk: &Desk<'_>) -> Result<Session, Fault> {
    let servers = &desk.config.barman.servers;
    let hosts = servers
        .iter()
        .filter(|s| s.name == desk.name)
        .flat_map(|s| &s.hosts);
    let mut heard = Vec::new();
    for address in hosts {
        match open(desk, address).await {
            Ok(session) => match is_standby(&session).await {
                Ok(false) => return Ok(session),
                Ok(true) => heard.push(format!("{address} is a standby")),
                Err(error) => heard.push(format!("{address}: {}", Fault::chain(&error))),
            },
            Err(error) => heard.push(format!("{address}: {}", Fault::chain(&error))),
        }
    }
    Err(Fault::Transient(format!(
        "no backup: none of the hosts of {} is its primary: {}",
        desk.name,
        heard.join("; ")
    )))
}
