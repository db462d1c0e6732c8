//! The files of the backup, into the staging directory: copied, or put together where the backup is an
//! incremental one. Complete or an error: the manifest has the last word.

use super::{Prepared, spaces};
use crate::domain::{Fault, human_bytes, human_duration};
use crate::runtime::survey::{blocking, salt};
use crate::runtime::world::World;
use crate::sys::{self, Spec};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often progress is told.
const PACE: Duration = Duration::from_millis(500);
/// Putting a chain together reads and writes every byte once.
const COMBINE: Duration = Duration::from_secs(7 * 24 * 3600);

pub(super) async fn copy(world: &World, prepared: &Prepared) -> Result<(), Fault> {
    if prepared.recipe.chain.len() > 1 {
        combine(world, prepared).await?;
    } else {
        plain(world, prepared).await?;
    }
    let staging = world.layout.staging.clone();
    blocking(move || Ok(complete(&staging)))
        .await?
        .map_err(|what| Fault::NeedsPerson(format!("the copy of the backup is not whole: {what}")))
}

async fn plain(world: &World, prepared: &Prepared) -> Result<(), Fault> {
    let Some(backup) = prepared.recipe.backup() else {
        return Err(Fault::Bug("a recipe without a backup".into()));
    };
    let done = Arc::new(AtomicU64::new(0));
    let total = prepared.files.bytes();
    let source = &prepared.source;
    let files = prepared.files.clone();
    let owner = world.file_owner();
    begin_spaces(world, prepared).await?;
    let places = spaces::unpacked(&world.layout.staging, &prepared.spaces);
    let copying = source.copy(backup, files, &places, owner, done.clone());
    let mut copying = std::pin::pin!(copying);
    let began = Instant::now();
    let mut pace = tokio::time::interval(PACE);
    loop {
        tokio::select! {
            end = &mut copying => {
                end.map_err(|e| e.fault())?;
                break;
            }
            _ = pace.tick() => {
                world.progress(progress(done.load(Ordering::Relaxed), total, began.elapsed()));
            }
        }
    }
    let stage = world.stage();
    blocking(move || Ok(stage.place_spaces(owner)))
        .await?
        .map_err(|e| e.fault())
}

/// Takes the tablespaces' directories, which were found free.
async fn begin_spaces(world: &World, prepared: &Prepared) -> Result<(), Fault> {
    let (stage, owner, token) = (world.stage(), world.file_owner(), salt()?);
    let spaces: Vec<_> = prepared.spaces.iter().map(|p| p.space.clone()).collect();
    blocking(move || Ok(stage.begin_spaces(&token, &spaces, owner)))
        .await?
        .map_err(|e| e.fault())
}

fn progress(done: u64, total: u64, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs().max(1);
    let rate = done / seconds;
    let rest = total.saturating_sub(done).checked_div(rate);
    let rest = rest.map_or_else(String::new, |s| {
        format!(", {} remain", human_duration(Duration::from_secs(s)))
    });
    format!(
        "copied {} of {} ({}/s{rest})",
        human_bytes(done),
        human_bytes(total),
        human_bytes(rate)
    )
}

/// `pg_combinebackup` as ourselves: barman's files are readable to barman and to root.
async fn combine(world: &World, prepared: &Prepared) -> Result<(), Fault> {
    let config = world.config();
    let staging = world.layout.staging.clone();
    let mut dirs: Vec<PathBuf> = Vec::new();
    for backup in &prepared.recipe.chain {
        let dir = prepared.source.in_place(backup).ok_or_else(|| {
            Fault::NeedsPerson(format!(
                "backup {} is incremental, and its parents cannot be read in place",
                backup.id
            ))
        })?;
        dirs.push(dir);
    }
    let mut words: Vec<std::ffi::OsString> = vec!["--no-sync".into(), "--output".into()];
    words.push(staging.clone().into());
    words.extend(dirs.into_iter().map(Into::into));
    let spec = Spec::new("pg_combinebackup", words)
        .env(config.environment.base.clone())
        .env([("LC_ALL", "C")]);
    let ids: Vec<&str> = prepared
        .recipe
        .chain
        .iter()
        .map(|b| b.id.as_str())
        .collect();
    world.progress(format!("putting {} together", ids.join(" + ")));
    let mut running = std::pin::pin!(world.children.run(spec, COMBINE));
    let began = Instant::now();
    let mut pace = tokio::time::interval(Duration::from_secs(2));
    let end = loop {
        tokio::select! {
            end = &mut running => break end,
            _ = pace.tick() => {
                let dir = staging.clone();
                let done = blocking(move || Ok(sys::dir_size(&dir).unwrap_or(0))).await?;
                world.progress(format!(
                    "put {} together from {} backups in {}",
                    human_bytes(done),
                    ids.len(),
                    human_duration(began.elapsed())
                ));
            }
        }
    };
    let end = end.map_err(|e| Fault::Transient(Fault::chain(&e)))?;
    if !end.exit.is_success() {
        return Err(Fault::NeedsPerson(format!(
            "pg_combinebackup of {} ended with {}: {}",
            ids.join(", "),
            end.exit,
            end.last_words()
        )));
    }
    let owner = world.file_owner();
    blocking(move || give_all(&staging, owner)).await
}

fn give_all(dir: &Path, owner: Option<(u32, u32)>) -> std::io::Result<()> {
    let Some((uid, gid)) = owner else {
        return Ok(());
    };
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            std::os::unix::fs::lchown(entry.path(), Some(uid), Some(gid))?;
            if entry.file_type()?.is_dir() {
                todo.push(entry.path());
            }
        }
    }
    Ok(())
}

#[derive(serde::Deserialize)]
struct Manifest {
    #[serde(rename = "Files")]
    files: Vec<Listed>,
}

#[derive(serde::Deserialize)]
struct Listed {
    /// Missing where the name is no UTF-8.
    #[serde(rename = "Path")]
    path: Option<String>,
    #[serde(rename = "Size")]
    size: u64,
}

/// Every file of `backup_manifest` is there in its size. A backup by rsync has no manifest: its
/// listing was the measure.
fn complete(dir: &Path) -> Result<(), String> {
    let path = dir.join("backup_manifest");
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(format!("{}: {e}", path.display())),
    };
    let manifest: Manifest = serde_json::from_slice(&bytes)
        .map_err(|e| format!("its backup_manifest is not understood: {e}"))?;
    for file in &manifest.files {
        let Some(name) = &file.path else { continue };
        match std::fs::metadata(dir.join(name)) {
            Ok(meta) if meta.len() == file.size => {}
            Ok(meta) => {
                return Err(format!(
                    "{name} has {} bytes, the manifest says {}",
                    meta.len(),
                    file.size
                ));
            }
            Err(e) => return Err(format!("{name}, which the manifest lists: {e}")),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_has_the_last_word() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path();
        complete(dir).unwrap();
        std::fs::write(dir.join("PG_VERSION"), "17\n").unwrap();
        let manifest = |size: u64| {
            let text = format!(
                r#"{{"PostgreSQL-Backup-Manifest-Version": 2, "Files": [
                {{"Path": "PG_VERSION", "Size": {size}, "Checksum": "00"}},
                {{"Encoded-Path": "ff", "Size": 1}}], "WAL-Ranges": []}}"#
            );
            std::fs::write(dir.join("backup_manifest"), text).unwrap();
            complete(dir)
        };
        manifest(3).unwrap();
        assert_eq!(
            manifest(4).unwrap_err(),
            "PG_VERSION has 3 bytes, the manifest says 4"
        );
        std::fs::remove_file(dir.join("PG_VERSION")).unwrap();
        assert!(
            complete(dir)
                .unwrap_err()
                .contains("which the manifest lists")
        );
    }

    #[test]
    fn progress_says_how_much_remains() {
        assert_eq!(
            progress(50 << 20, 150 << 20, Duration::from_secs(5)),
            "copied 50.0 MiB of 150.0 MiB (10.0 MiB/s, 10.0 s remain)"
        );
        assert!(progress(0, 10, Duration::ZERO).starts_with("copied 0 B of 10 B"));
    }
}
