//! `pgnode backup`: makes one, and says how far it is.

use super::view::{BackupShown, json};
use super::{Desk, fault, primary};
use crate::barman::{self, Backup, BackupStatus, BarmanError, Kind};
use crate::cli::progress::Progress;
use crate::cli::status::ms;
use crate::cli::{note, say};
use crate::config::Method;
use crate::domain::{ExitCode, Fault, human_bytes};
use crate::pg::Session;
use crate::sys::{dir_size, now_ms};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    pub(super) incremental: bool,
    pub(super) wait: bool,
    pub(super) json: bool,
}

/// How long the WAL of a backup's end may take.
const WAIT: Duration = Duration::from_secs(600);

pub(super) async fn take(desk: &Desk<'_>, order: Order) -> Result<ExitCode, Fault> {
    let session = primary::session(desk).await?;
    let before = desk.server.backups().map_err(fault)?;
    let parent = match order.incremental {
        true => Some(parent(desk, &session, &before).await?),
        false => None,
    };
    let expected = match order.incremental {
        // How much has changed nobody knows before.
        true => None,
        false => Some(cluster_size(&session).await?),
    };
    // The copy may take hours, and the primary may be another one then.
    drop(session);
    let known: BTreeSet<String> = before.into_iter().map(|b| b.id).collect();
    let began = Instant::now();
    copy(desk, order, parent.as_deref(), expected, &known).await?;
    let mut backup = newest(desk, &known)?.ok_or_else(|| {
        Fault::Bug("barman made a backup that is not in its catalogue".to_owned())
    })?;
    if backup.status == BackupStatus::WaitingForWals && order.wait {
        backup = wait(desk, &backup).await?;
    }
    report(desk, order, &backup, began.elapsed())
}

/// Runs barman, and looks how much has been written.
async fn copy(
    desk: &Desk<'_>,
    order: Order,
    parent: Option<&str>,
    expected: Option<u64>,
    known: &BTreeSet<String>,
) -> Result<(), Fault> {
    let tool = desk.client;
    let mut work = std::pin::pin!(tool.backup(parent));
    let mut progress = Progress::begin(format!("copying {}", desk.name), expected, order.json);
    let mut pause = Duration::from_secs(1);
    let ended = loop {
        tokio::select! {
            ended = &mut work => break ended,
            () = tokio::time::sleep(pause) => {
                let look = Instant::now();
                progress.at(written(desk, known).await);
                // A large tree takes long to walk: a tenth of the time is enough.
                pause = Duration::from_secs(1).max(look.elapsed() * 10);
            }
        }
    };
    progress.end();
    match ended {
        Ok(()) => Ok(()),
        Err(error) => Err(explained(desk, &error).await),
    }
}

/// Bytes of the backup that is being made.
async fn written(desk: &Desk<'_>, known: &BTreeSet<String>) -> u64 {
    let Ok(Some(backup)) = newest(desk, known) else {
        return 0;
    };
    let size = tokio::task::spawn_blocking(move || dir_size(&backup.dir));
    size.await.ok().and_then(Result::ok).unwrap_or(0)
}

fn newest(desk: &Desk<'_>, known: &BTreeSet<String>) -> Result<Option<Backup>, Fault> {
    let all = desk.server.backups().map_err(fault)?;
    Ok(all.into_iter().rfind(|b| !known.contains(&b.id)))
}

/// barman names the reason in its checks only.
async fn explained(desk: &Desk<'_>, error: &BarmanError) -> Fault {
    let fault = error.fault();
    let lines = desk.client.check().await.unwrap_or_default();
    let failed: Vec<String> = lines
        .iter()
        .filter(|l| !l.ok)
        .map(|l| match l.hint.is_empty() {
            true => l.name.clone(),
            false => format!("{} ({})", l.name, l.hint),
        })
        .collect();
    match (fault, failed.is_empty()) {
        (Fault::Transient(why), false) => Fault::Transient(format!(
            "{why}\n`barman check` finds wrong: {}",
            failed.join(", ")
        )),
        (fault, _) => fault,
    }
}

async fn wait(desk: &Desk<'_>, backup: &Backup) -> Result<Backup, Fault> {
    if let Some(segment) = backup.end_wal {
        note(&format!(
            "backup {} is copied; waiting for WAL segment {segment}, in which it ends, to be archived",
            backup.id
        ));
    }
    let session = primary::session(desk).await?;
    let done = barman::finish(desk.client, &session, desk.server, &backup.id, WAIT);
    done.await.map_err(fault)
}

fn report(
    desk: &Desk<'_>,
    order: Order,
    backup: &Backup,
    took: Duration,
) -> Result<ExitCode, Fault> {
    let shown = BackupShown::of(desk.server, backup, now_ms()).map_err(fault)?;
    if order.json {
        say(&json(&shown));
    } else {
        let size = backup.deduplicated_size.or(backup.size).unwrap_or(0);
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        say(&format!(
            "backup {} of {}: {}, {} in {}, {}\n",
            shown.id,
            shown.server,
            shown.kind_words(),
            human_bytes(size),
            ms(took_ms),
            shown.status
        ));
    }
    match &backup.status {
        BackupStatus::Done => Ok(ExitCode::STOPPED),
        BackupStatus::WaitingForWals => {
            let segment = shown.wal_last.unwrap_or_default();
            note(&format!(
                "it can be restored as soon as WAL segment {segment} is archived; `--wait` waits for that"
            ));
            Ok(ExitCode::STOPPED)
        }
        status => {
            let why = backup.error.as_deref().unwrap_or("no reason is given");
            Err(Fault::Transient(format!(
                "backup {} is {status}: {why}",
                backup.id
            )))
        }
    }
}

/// Bytes of all databases: about what will be copied.
async fn cluster_size(session: &Session) -> Result<u64, Fault> {
    let sql = "SELECT sum(pg_database_size(oid))::int8 FROM pg_database";
    let row = session.one("asking for the size of the databases", sql, &[]);
    let bytes: i64 = row.await.map_err(|e| e.fault())?.get(0);
    Ok(u64::try_from(bytes).unwrap_or_default())
}

/// What an incremental backup can rest on, with everything else that it needs.
async fn parent(desk: &Desk<'_>, session: &Session, all: &[Backup]) -> Result<String, Fault> {
    let lacking = |why: String| Err(Fault::NeedsPerson(format!("no incremental backup: {why}")));
    if desk.config.barman.method == Method::Rsync {
        return lacking("BARMAN_METHOD is rsync; `streaming` can make them".into());
    }
    let (major, minor) = desk.client.version().await.map_err(fault)?;
    if (major, minor) < (3, 11) {
        return lacking(format!(
            "this is barman {major}.{minor}, and 3.11 is the first that makes them"
        ));
    }
    let sql = "SELECT current_setting('server_version_num')::int4, \
               coalesce(current_setting('summarize_wal', true), 'off')";
    let row = session.one("asking for summarize_wal", sql, &[]).await;
    let row = row.map_err(|e| e.fault())?;
    let (version, summarize): (i32, &str) = (row.get(0), row.get(1));
    if version < 170_000 {
        return lacking(format!(
            "the server is PostgreSQL {}, and 17 is the first that summarizes WAL",
            version / 10_000
        ));
    }
    if summarize != "on" {
        return lacking(format!(
            "summarize_wal is {summarize}; `ALTER SYSTEM RESET summarize_wal`, or mend the setting that \
             turns it off, reload, and make a full backup to rest on"
        ));
    }
    suitable(all).map_or_else(lacking, Ok)
}

/// The newest full backup, when an incremental one can rest on it.
fn suitable(all: &[Backup]) -> Result<String, String> {
    let full = all
        .iter()
        .rfind(|b| b.is_copied() && b.kind() == Kind::Full);
    match full {
        None => Err("there is no full backup to rest on; `pgnode backup` makes one".into()),
        Some(b) if !b.summarize_wal => Err(format!(
            "summarize_wal was off when the newest full backup {} was made; make a full one first",
            b.id
        )),
        Some(b) => match (&b.compression, &b.encryption) {
            (Some(how), _) | (None, Some(how)) => Err(format!(
                "the newest full backup {} is packed ({how}), and an incremental one rests on plain files",
                b.id
            )),
            (None, None) => Ok(b.id.clone()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::barman::Server;

    fn catalogue(infos: &[(&str, &str)]) -> Vec<Backup> {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir(tmp.path().join("meta")).unwrap();
        for (id, text) in infos {
            let path = tmp.path().join(format!("meta/{id}-backup.info"));
            std::fs::write(path, text).unwrap();
        }
        Server::at(tmp.path().to_owned()).backups().unwrap()
    }

    #[test]
    fn an_incremental_backup_rests_on_the_newest_full_one_or_says_why_not() {
        const A: &str = "20261121T070000";
        const B: &str = "20261121T080000";
        let full = "status=DONE\nmode=postgres\nsummarize_wal=on\n";
        let child = format!("{full}parent_backup_id={A}\n");
        let failed = "status=FAILED\nmode=postgres\nsummarize_wal=on\n";
        assert_eq!(
            suitable(&catalogue(&[(A, full), (B, &child)])),
            Ok(A.into())
        );
        assert_eq!(
            suitable(&catalogue(&[(A, full), (B, failed)])),
            Ok(A.into())
        );
        for (text, why) in [
            (failed.to_owned(), "there is no full backup"),
            (
                "status=DONE\nmode=rsync-concurrent\n".into(),
                "there is no full backup",
            ),
            (
                "status=DONE\nmode=postgres\nsummarize_wal=off\n".into(),
                "was off when",
            ),
            (format!("{full}compression=gzip\n"), "is packed (gzip)"),
        ] {
            let error = suitable(&catalogue(&[(B, &text)])).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}
