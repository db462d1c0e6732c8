//! `pgnode restore --check`: what a restore with these settings would do. Nothing is changed.

use super::{Need, Prepared, Tools, prepare};
use crate::config::Config;
use crate::domain::{Fault, human_bytes};
use crate::runtime::start::major_version;
use crate::runtime::survey::blocking;
use crate::sys::{Accounts, Children, Layout};

/// Text for a person, or the same as JSON.
///
/// # Errors
/// The fault that the restore would end in before it touches anything.
pub async fn check(config: &Config, children: &Children, json: bool) -> Result<String, Fault> {
    let Some(wanted) = config.restore.clone() else {
        return Err(Fault::Config(
            "PGNODE_RESTORE is not set: nothing would be restored".into(),
        ));
    };
    let accounts = Accounts::find()?;
    let major = major_version(children, config, &accounts).await?;
    let layout = Layout::find(&config.paths)
        .map_err(|e| Fault::Transient(format!("cannot look at the volume: {e}")))?;
    let postgres = &accounts.postgres;
    let pgdata = config.paths.pgdata.clone();
    let disk = blocking(move || crate::pg::look(&pgdata)).await?;
    if !disk.empty {
        return Err(Fault::NeedsPerson(format!(
            "{} is not empty: the setting does nothing there; use an empty volume",
            config.paths.pgdata.display()
        )));
    }
    // What is there of the volume: nothing is made.
    let mut anchor = layout.anchor.clone();
    while !anchor.exists() && anchor.pop() {}
    let tools = Tools {
        children,
        config,
        account: postgres,
        owner: accounts.root.then_some((postgres.uid, postgres.gid)),
        major,
        anchor,
        layout: &layout,
    };
    let prepared = prepare(&tools, &wanted, Need::Tell).await?;
    Ok(if json {
        format!("{:#}\n", as_json(&prepared, &wanted))
    } else {
        as_text(&prepared, &wanted)
    })
}

fn as_json(prepared: &Prepared, wanted: &crate::config::Restore) -> serde_json::Value {
    let recipe = &prepared.recipe;
    let ids: Vec<&str> = recipe.chain.iter().map(|b| b.id.as_str()).collect();
    serde_json::json!({
        "source": prepared.source.to_string(),
        "backup": ids.last(),
        "chain": ids,
        "target": wanted.target.to_string(),
        "action": wanted.action.to_string(),
        "timeline": recipe.history.timeline.0,
        "system_id": recipe.system_id.map(|id| id.to_string()),
        "first_wal": recipe.first.to_string(),
        "last_wal": recipe.last.to_string(),
        "earliest_lsn": recipe.consistent.to_string(),
        "earliest_ms": recipe.backup().and_then(|b| b.end_ms),
        "latest_lsn": prepared.end.record.map(|l| l.to_string()),
        "latest_commit_ms": prepared.end.commit.map(|t| t.timestamp_millis()),
        "tablespaces": prepared.spaces.iter().map(|p| serde_json::json!({
            "name": p.name,
            "oid": p.space.oid,
            "directory": p.space.at.display().to_string(),
        })).collect::<Vec<_>>(),
        "bytes_needed": prepared.need,
        "bytes_available": prepared.available,
    })
}

fn as_text(prepared: &Prepared, wanted: &crate::config::Restore) -> String {
    let recipe = &prepared.recipe;
    let ids: Vec<&str> = recipe.chain.iter().map(|b| b.id.as_str()).collect();
    let spaces = prepared.spaces.iter().map(|p| {
        let dir = p.space.at.display();
        format!("tablespace  {} to {dir}\n", p.name)
    });
    format!(
        "backup      {} of {}\ntarget      {}, then {}\nWAL         {} to {} ({}), timeline {}\n\
         range       {}\n{}space       {} needed, {} available\nNothing was touched.\n",
        ids.join(" + "),
        prepared.source,
        wanted.target,
        wanted.action,
        recipe.first,
        recipe.last,
        human_bytes(recipe.wal_bytes()),
        recipe.history.timeline,
        recipe.range(&prepared.end),
        spaces.collect::<String>(),
        human_bytes(prepared.need),
        human_bytes(prepared.available),
    )
}
