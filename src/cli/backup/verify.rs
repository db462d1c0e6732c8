//! `pgnode backup verify`.

use super::{Desk, fault, view};
use crate::barman::{Backup, BackupStatus, Check, Outcome, Server, Verifier};
use crate::cli::say;
use crate::domain::{ExitCode, Fault};
use serde::Serialize;

/// Something is wrong with a backup.
pub(super) const WRONG: ExitCode = ExitCode(1);

/// What was found about one backup.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    pub(super) server: String,
    pub(super) backup: String,
    pub(super) ok: bool,
    pub(super) checks: Vec<Check>,
}

/// Looks at one, or at all whose copy has not failed, and says what was found as soon as it is.
pub(super) async fn verify(
    desk: &Desk<'_>,
    wanted: Option<&str>,
    json: bool,
) -> Result<ExitCode, Fault> {
    let all = desk.server.backups().map_err(fault)?;
    let chosen: Vec<&Backup> = match wanted {
        Some(wanted) => vec![desk.server.choose(&all, wanted).map_err(fault)?],
        None => all.iter().filter(|b| counts(b)).collect(),
    };
    if chosen.is_empty() {
        let what = format!("{} has no backup that is complete", desk.name);
        return Err(Fault::NeedsPerson(what));
    }
    let (server, size) = (desk.server.clone(), Server::segment_size(&all));
    let archive = tokio::task::spawn_blocking(move || server.archive(size))
        .await
        .map_err(|e| Fault::Bug(e.to_string()))?
        .map_err(fault)?;
    let mut verifier = Verifier::new(desk.client, desk.server, &archive);
    let mut reports = Vec::new();
    for backup in chosen {
        let checks = verifier.look(backup).await.map_err(fault)?;
        let report = Report {
            server: desk.name.to_owned(),
            backup: backup.id.clone(),
            ok: checks.iter().all(|c| c.outcome != Outcome::Fail),
            checks,
        };
        if !json {
            say(&text(&report));
        }
        reports.push(report);
    }
    if json {
        say(&match (wanted, reports.as_slice()) {
            (Some(_), [only]) => view::json(only),
            _ => view::json(&reports),
        });
    }
    Ok(match reports.iter().all(|r| r.ok) {
        true => ExitCode::STOPPED,
        false => WRONG,
    })
}

/// One that failed, or is still being copied, promises nothing.
fn counts(backup: &Backup) -> bool {
    match backup.status {
        BackupStatus::Done | BackupStatus::WaitingForWals | BackupStatus::Other(_) => true,
        BackupStatus::Empty
        | BackupStatus::Started
        | BackupStatus::Failed
        | BackupStatus::Syncing => false,
    }
}

pub(super) fn text(report: &Report) -> String {
    let lines = report.checks.iter();
    let lines = lines.map(|c| format!("  {}  {:10}  {}\n", c.outcome, c.check, c.what));
    format!(
        "{} of {}\n{}",
        report.backup,
        report.server,
        lines.collect::<String>()
    )
}
