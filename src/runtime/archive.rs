//! What barman needs of the server that it backs up, the same on a data node and on a barman host.

use super::survey::blocking;
use crate::barman::{self, Backup, BackupStatus, Client, Server};
use crate::domain::Fault;
use crate::pg::Session;

/// A segment pushed through, from the server into the archive.
pub(super) async fn round_trip(client: &Client, session: &Session) -> Result<(), Fault> {
    barman::push_wal(session).await.map_err(|e| e.fault())?;
    client.archive_wal().await.map_err(|e| e.fault())
}

/// A backup on an idle server waits for WAL that nobody writes.
pub(super) async fn finish_waiting(
    client: &Client,
    session: &Session,
    all: &[Backup],
) -> Result<(), Fault> {
    for backup in all.iter().filter(|b| waits(b)) {
        barman::finish_once(client, session, &server(client), &backup.id)
            .await
            .map_err(|e| e.fault())?;
    }
    Ok(())
}

/// Whether it waits for the WAL of its end.
pub(super) fn waits(backup: &Backup) -> bool {
    backup.status == BackupStatus::WaitingForWals
}

/// Where barman has a server's files.
pub(super) fn server(client: &Client) -> Server {
    let home = &client.config.paths.barman_backup_dir;
    Server::at(home.join(&client.server))
}

/// The catalogue.
pub(super) async fn catalogue(client: &Client) -> Result<Vec<Backup>, Fault> {
    let server = server(client);
    blocking(move || Ok(server.backups()))
        .await?
        .map_err(|e| e.fault())
}
