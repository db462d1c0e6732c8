//! `.pgnode/rewind.json`: while it stands beside the data they are neither a primary's nor a standby's.

use super::super::survey::blocking;
use super::super::world::World;
use super::case::Case;
use crate::domain::Fault;
use crate::plan::rejoin::{Lost, Phase, Unfinished};
use crate::sys;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

fn marker_path(world: &World) -> PathBuf {
    world.layout.anchor.join("rewind.json")
}

fn control_copy(world: &World) -> PathBuf {
    world.layout.anchor.join("rewind.pg_control")
}

/// The rewind that was begun on the data in PGDATA. A marker of data that were replaced since is
/// removed.
pub(in crate::runtime) async fn unfinished(world: &World) -> Result<Option<Unfinished>, Fault> {
    let (path, pgdata) = (marker_path(world), world.config().paths.pgdata.clone());
    let read = path.clone();
    let found = blocking(move || match std::fs::read(read) {
        Ok(text) => Ok(Some((text, inode(&pgdata).ok()))),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    })
    .await?;
    let Some((text, inode)) = found else {
        return Ok(None);
    };
    let marker: Unfinished = serde_json::from_slice(&text).map_err(|error| {
        Fault::NeedsPerson(format!(
            "{} is not readable ({error}): it is written atomically, so somebody else changed it; \
             the data may be half rewound: empty PGDATA to clone it anew",
            path.display()
        ))
    })?;
    if inode != Some(marker.inode) {
        tracing::info!("the half rewound data were replaced: nothing is left to be finished");
        forget(world).await?;
        return Ok(None);
    }
    Ok(Some(marker))
}

/// pg_rewind never replaces this directory; a new copy has another.
fn inode(pgdata: &Path) -> std::io::Result<u64> {
    Ok(pgdata.join("global").metadata()?.ino())
}

/// From here on the data count as half rewound. `pg_control` is kept for a person.
pub(super) async fn begin(world: &World, case: &Case, lost: Lost) -> Result<(), Fault> {
    let marker = match &case.unfinished {
        Some(former) => Unfinished {
            tries: former.tries.saturating_add(1),
            ..former.clone()
        },
        None => {
            let (pgdata, owner) = (world.config().paths.pgdata.clone(), world.file_owner());
            let copy = control_copy(world);
            let inode = blocking(move || {
                let control = std::fs::read(pgdata.join("global/pg_control"))?;
                sys::write_atomic(&copy, &control, 0o600, owner)?;
                inode(&pgdata)
            })
            .await?;
            Unfinished {
                phase: Phase::Begun,
                tries: 1,
                system_id: case.facts.system_id,
                timeline: case.timeline,
                fork: lost.fork,
                end: lost.end,
                source: case.facts.timeline,
                inode,
            }
        }
    };
    write_marker(world, &marker).await
}

pub(super) async fn write_marker(world: &World, marker: &Unfinished) -> Result<(), Fault> {
    let (path, owner) = (marker_path(world), world.file_owner());
    let text = serde_json::to_vec_pretty(marker)
        .map_err(|e| Fault::Bug(format!("the marker cannot be written down: {e}")))?;
    blocking(move || sys::write_atomic(&path, &text, 0o600, owner))
        .await
        .map(|_changed| ())
}

pub(super) async fn forget(world: &World) -> Result<(), Fault> {
    let (marker, copy) = (marker_path(world), control_copy(world));
    let anchor = world.layout.anchor.clone();
    blocking(move || {
        sys::remove(&marker)?;
        sys::remove(&copy)?;
        sys::sync_dir(&anchor)
    })
    .await
}
