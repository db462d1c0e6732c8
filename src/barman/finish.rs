//! From copied to complete: a backup needs the segment at its end archived, and a server that nobody
//! writes to never ends that segment.

use super::{Backup, BackupStatus, BarmanError, Client, Server};
use crate::pg::Session;
use std::time::Duration;

/// An idle server writes no WAL, and barman never takes the newest segment: a record, a switch, and
/// a record in the next one (`docs/facts-trixie.md` §5). barman's own role may do it.
///
/// # Errors
/// [`BarmanError::Pg`].
pub async fn push_wal(session: &Session) -> Result<(), BarmanError> {
    for sql in [
        "SELECT pg_create_restore_point('pgnode')::text",
        "SELECT pg_switch_wal()::text",
        "SELECT pg_create_restore_point('pgnode')::text",
    ] {
        session
            .one("switching to the next WAL segment", sql, &[])
            .await?;
    }
    Ok(())
}

/// One round for a backup that waits: WAL is pushed, archived, and the backup looked at. Whoever else
/// completes it meanwhile, and be it a person's `pgnode backup --wait`, does no harm.
///
/// # Errors
/// [`BarmanError`].
pub async fn finish_once(
    client: &Client,
    session: &Session,
    server: &Server,
    id: &str,
) -> Result<(), BarmanError> {
    push_wal(session).await?;
    client.archive_wal().await?;
    if server.backup(id)?.status == BackupStatus::WaitingForWals {
        client.check_backup(id).await?;
    }
    Ok(())
}

/// Between two looks at a backup that waits.
const PACE: Duration = Duration::from_secs(1);
/// Rounds until WAL is pushed once more: it may have gone to a receiver that was lost.
const PUSH_EVERY: u32 = 30;

/// Rounds until the backup is no longer waiting; gives it as it is then.
///
/// # Errors
/// [`BarmanError`]; [`BarmanError::StillWaiting`] after `limit`.
pub async fn finish(
    client: &Client,
    session: &Session,
    server: &Server,
    id: &str,
    limit: Duration,
) -> Result<Backup, BarmanError> {
    let rounds = async {
        let mut pace = tokio::time::interval(PACE);
        pace.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        for round in 0.. {
            pace.tick().await;
            let backup = server.backup(id)?;
            if backup.status != BackupStatus::WaitingForWals {
                return Ok(backup);
            }
            if round % PUSH_EVERY == 0 {
                push_wal(session).await?;
            }
            client.archive_wal().await?;
            client.check_backup(id).await?;
        }
        server.backup(id)
    };
    match tokio::time::timeout(limit, rounds).await {
        Ok(done) => done,
        Err(_) => Err(still_waiting(&server.backup(id)?, limit)),
    }
}

fn still_waiting(backup: &Backup, limit: Duration) -> BarmanError {
    BarmanError::StillWaiting {
        id: backup.id.clone(),
        segment: backup
            .end_wal
            .map_or_else(|| "of its end".to_owned(), |w| w.to_string()),
        limit,
    }
}
