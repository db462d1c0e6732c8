//! `pgnode backup verify`.

use super::{Desk, fault, view};
use crate::barman::{Backup, BackupStatus, Check, Outcome, Server, Verifier};
use crate::cli::say;
use crate::domain::{ExitCode, Fault};
use serde::Serialize;

/// Something is wrong with a backup.
const WRONG: ExitCode = ExitCode(1);

/// What was found about one backup.
#[derive(Debug, Serialize)]
struct Report {
    server: String,
    backup: String,
    ok: bool,
    checks: Vec<Check>,
}

/// What was found about one backup after the other: said as soon as it is, or as JSON at the end.
#[derive(Debug)]
pub(super) struct Reports {
    json: bool,
    all: Vec<Report>,
}

impl Reports {
    pub(super) const fn new(json: bool) -> Self {
        Self {
            json,
            all: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, server: &str, backup: &str, checks: Vec<Check>) {
        let report = Report {
            server: server.to_owned(),
            backup: backup.to_owned(),
            ok: checks.iter().all(|c| c.outcome != Outcome::Fail),
            checks,
        };
        if !self.json {
            say(&text(&report));
        }
        self.all.push(report);
    }

    /// `alone`: a certain backup was asked for.
    pub(super) fn end(self, alone: bool) -> ExitCode {
        if self.json {
            say(&match (alone, self.all.as_slice()) {
                (true, [only]) => view::json(only),
                _ => view::json(&self.all),
            });
        }
        match self.all.iter().all(|r| r.ok) {
            true => ExitCode::STOPPED,
            false => WRONG,
        }
    }
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
    let mut reports = Reports::new(json);
    for backup in chosen {
        let checks = verifier.look(backup).await.map_err(fault)?;
        reports.add(desk.name, &backup.id, checks);
    }
    Ok(reports.end(wanted.is_some()))
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

fn text(report: &Report) -> String {
    let lines = report.checks.iter();
    let lines = lines.map(|c| format!("  {}  {:10}  {}\n", c.outcome, c.check, c.what));
    format!(
        "{} of {}\n{}",
        report.backup,
        report.server,
        lines.collect::<String>()
    )
}
