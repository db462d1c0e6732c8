//! Step 7 with `--full`: a real backup, brought to its end.

use super::passwords::Passwords;
use super::{Doctor, Finding, ailments, gather, keeper, marker};
use crate::barman::{Backup, BackupStatus, Server};
use crate::config::Address;
use crate::domain::{Fault, human_bytes, human_duration};
use std::time::{Duration, Instant};

/// Switches until the WAL of its end is there: one is enough on an idle server.
const PUSHES: u32 = 10;
/// For the segment that a push has finished.
const ARRIVES: Duration = Duration::from_secs(30);

impl Doctor {
    pub(super) async fn new_backup(
        &self,
        server: &Server,
        primary: &Address,
        passwords: &Passwords,
    ) -> Finding {
        let name = server.name();
        let tried = format!("barman backup {name}");
        let began = Instant::now();
        match self.made(server, primary, passwords).await {
            Ok(backup) => {
                let size = backup
                    .size
                    .map_or_else(String::new, |n| format!(", {}", human_bytes(n)));
                let took = human_duration(began.elapsed());
                let what = format!("{} is DONE after {took}{size}", backup.id);
                Finding::pass(7, "a new backup", &tried, what)
            }
            Err(why) => Finding::of(&ailments::BACKUP, &tried, &why, &[("server", &name)]),
        }
    }

    async fn made(
        &self,
        server: &Server,
        primary: &Address,
        passwords: &Passwords,
    ) -> Result<Backup, String> {
        let name = server.name();
        let before = newest(server).await?.map(|b| b.id);
        let client = self.client(&name);
        client.backup(None).await.map_err(|e| Fault::chain(&e))?;
        let session = gather::session(primary, passwords)
            .await
            .map_err(|r| r.words().to_owned())?;
        for _ in 0..PUSHES {
            let made = newest(server)
                .await?
                .filter(|b| Some(&b.id) != before.as_ref());
            let made = made.ok_or("it is not in the catalogue")?;
            match made.status {
                BackupStatus::Done => return Ok(made),
                BackupStatus::WaitingForWals => {}
                BackupStatus::Empty
                | BackupStatus::Started
                | BackupStatus::Failed
                | BackupStatus::Syncing
                | BackupStatus::Other(_) => {
                    let why = made.error.unwrap_or_default();
                    return Err(format!("{} is {}: {why}", made.id, made.status));
                }
            }
            let segment = marker::segment(&session)
                .await
                .map_err(|e| Fault::chain(&e))?;
            crate::barman::push_wal(&session)
                .await
                .map_err(|e| Fault::chain(&e))?;
            self.arrival(server, &segment, ARRIVES).await;
            client
                .check_backup(&made.id)
                .await
                .map_err(|e| Fault::chain(&e))?;
        }
        Err(format!(
            "it still waits for WAL after {PUSHES} forced switches"
        ))
    }
}

async fn newest(server: &Server) -> Result<Option<Backup>, String> {
    let all = keeper::backups(server)
        .await
        .map_err(|e| Fault::chain(&e))?;
    Ok(all.into_iter().next_back())
}
