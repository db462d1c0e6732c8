//! `pgnode s3 base-ls`.

use super::desk::Desk;
use crate::barman::Keep;
use crate::cli::table::{lines, wide};
use crate::cli::{say, status::at};
use crate::domain::{ExitCode, Fault, human_bytes};
use crate::s3::S3Error;
use crate::s3::store::Walk;
use comfy_table::{Cell, CellAlignment, Table};
use serde::Serialize;
use std::sync::Arc;

/// A backup in the bucket, as it is shown.
#[derive(Serialize)]
struct Shown {
    id: String,
    /// Its metadata are there: it is a backup.
    complete: bool,
    status: Option<String>,
    end_ms: Option<u64>,
    timeline: Option<u32>,
    objects: u64,
    bytes: u64,
    /// Uploads that were begun and not finished.
    unfinished: u64,
    kept: Option<&'static str>,
    /// The catalogue of this host has it.
    here: Option<bool>,
}

pub(super) async fn list(desk: &Desk<'_>, server: &str, json: bool) -> Result<ExitCode, Fault> {
    let shown = shown(desk, server).await.map_err(|e| e.fault())?;
    if json {
        let text = serde_json::to_string_pretty(&shown).unwrap_or_default();
        say(&format!("{text}\n"));
    } else if shown.is_empty() {
        say(&format!("the bucket has no backup of {server} yet\n"));
    } else {
        say(&lines(&table(&shown)));
    }
    Ok(ExitCode::STOPPED)
}

async fn shown(desk: &Desk<'_>, server: &str) -> Result<Vec<Shown>, S3Error> {
    let ship = desk.ship(server, Arc::new(drop));
    // The bucket can be looked at without the catalogue.
    let local = ship.backups().await.ok();
    let mut all = Vec::new();
    for shelved in ship.shelf().await?.into_iter().rev() {
        let (mut objects, mut bytes) = (0, 0);
        let prefix = format!("{server}/base/{}/", shelved.id);
        desk.store
            .walk(&Walk::below(&prefix), |page| -> Result<(), S3Error> {
                objects += u64::try_from(page.objects.len()).unwrap_or(u64::MAX);
                bytes += page.objects.iter().map(|o| o.size).sum::<u64>();
                Ok(())
            })
            .await?;
        let unfinished = desk.store.unfinished(&prefix).await?.len();
        let info = shelved.info.as_ref();
        all.push(Shown {
            complete: !shelved.commits.is_empty(),
            status: info.map(|b| b.status.to_string()),
            end_ms: info.and_then(|b| b.end_ms),
            timeline: info.and_then(|b| b.timeline).map(|t| t.0),
            objects,
            bytes,
            unfinished: u64::try_from(unfinished).unwrap_or(u64::MAX),
            kept: info.and_then(|b| b.keep).map(|keep| match keep {
                Keep::Full => "full",
                Keep::Standalone => "standalone",
            }),
            here: local
                .as_ref()
                .map(|all| all.iter().any(|b| b.id == shelved.id)),
            id: shelved.id,
        });
    }
    Ok(all)
}

fn table(shown: &[Shown]) -> Table {
    let mut table = wide(false);
    table.set_header([
        "id", "status", "end", "size", "objects", "tl", "kept", "here",
    ]);
    for b in shown {
        let status = match (&b.status, b.complete) {
            (Some(status), true) => status.clone(),
            _ => "half: being shipped, or interrupted".to_owned(),
        };
        let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
        table.add_row([
            Cell::new(&b.id),
            Cell::new(status),
            Cell::new(b.end_ms.map(at).unwrap_or_default()),
            right(human_bytes(b.bytes)),
            right(b.objects.to_string()),
            Cell::new(b.timeline.map(|t| t.to_string()).unwrap_or_default()),
            Cell::new(b.kept.unwrap_or_default()),
            Cell::new(match b.here {
                Some(true) => "yes",
                Some(false) => "no",
                None => "",
            }),
        ]);
    }
    table
}
