//! Before anything is changed: the programs are there, the directories are ours, nobody else has the
//! volume.

use super::survey::blocking;
use super::world::World;
use crate::config::NodeKind;
use crate::domain::Fault;
use crate::render::RunFiles;
use crate::sys::{self, Format, VolumeLock};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Looks, takes the lock on the volume, makes the directories and pipes of a run.
pub(super) async fn preflight(world: &Arc<World>) -> Result<(), Fault> {
    let config = world.config();
    programs(world)?;
    let shared = world.clone();
    blocking(move || directories(&shared)).await??;
    if !world.holds_lock() {
        let (path, owner) = (world.layout.lock.clone(), world.file_owner());
        let lock = blocking(move || {
            let lock = VolumeLock::acquire(&path);
            if let Some((uid, gid)) = owner {
                // Whose volume it is: a second boot must find nothing to mend.
                std::os::unix::fs::chown(&path, Some(uid), Some(gid))?;
            }
            Ok(lock)
        })
        .await?;
        world.hold_lock(lock.map_err(|e| e.fault())?);
    }
    let files = RunFiles::of(&config);
    let mut pipes = vec![
        (
            files.postgres_log.clone(),
            Format::PostgresRest,
            0o600,
            world.file_owner(),
        ),
        (
            files.postgres_json.clone(),
            Format::PostgresJson,
            0o600,
            world.file_owner(),
        ),
    ];
    if world.has_barman() {
        pipes.push((
            files.barman_log.clone(),
            Format::Barman,
            0o660,
            world.barman_owner(),
        ));
    }
    for (path, format, mode, owner) in pipes {
        listen(path, format, mode, owner).await?;
    }
    Ok(())
}

/// As [`preflight`], without a data directory: the lock is on barman's.
pub(super) async fn host(world: &Arc<World>) -> Result<(), Fault> {
    let config = world.config();
    programs(world)?;
    let files = RunFiles::of(&config);
    let (barman, ours) = (world.barman_owner(), world.accounts.root.then_some((0, 0)));
    let home = config.paths.barman_backup_dir.clone();
    let wanted = [
        (config.paths.run_dir.clone(), 0o755, ours),
        (files.log_dir.clone(), 0o755, ours),
        (config.paths.barman_config_dir.clone(), 0o755, barman),
        (home.clone(), 0o700, barman),
    ];
    let holds = world.holds_lock();
    let lock = blocking(move || {
        for (dir, mode, owner) in wanted {
            if let Err(error) = sys::ensure_dir(&dir, mode, owner) {
                return Ok(Err(sys::io_fault("make the directory", &dir, &error)));
            }
        }
        if holds {
            return Ok(Ok(None));
        }
        let lock = VolumeLock::acquire(&home.join(".pgnode.lock"));
        Ok(lock.map(Some).map_err(|e| e.fault()))
    })
    .await??;
    if let Some(lock) = lock {
        world.hold_lock(lock);
        listen(files.barman_log, Format::Barman, 0o660, barman).await?;
    }
    Ok(())
}

/// A pipe that we hold open for reading and writing: its writers never block on a missing reader
/// and never see an end.
async fn listen(
    path: PathBuf,
    format: Format,
    mode: u32,
    owner: Option<(u32, u32)>,
) -> Result<(), Fault> {
    let made = path.clone();
    blocking(move || sys::fifo(&made, mode, owner)).await?;
    let pipe = sys::open_fifo(&path).map_err(|e| sys::io_fault("listen at", &path, &e))?;
    tokio::spawn(sys::pump(pipe, format));
    Ok(())
}

/// Every program that a boot can need, looked up as the shell does.
fn programs(world: &World) -> Result<(), Fault> {
    let config = world.config();
    let mut wanted = vec!["postgres", "pg_basebackup", "psql"];
    if config.kind != NodeKind::Barman {
        wanted.extend(["initdb", "pg_controldata", "repmgr", "repmgrd"]);
    }
    if config.kind.keeps_backups() {
        wanted.push("pg_receivewal");
    }
    if world.has_barman() {
        wanted.push("barman");
        if world.accounts.root {
            wanted.push("cron");
        }
    }
    let path = config
        .environment
        .base
        .iter()
        .find(|(name, _)| name == "PATH");
    let path = path.map_or("", |(_, value)| value.as_str());
    let missing: Vec<&str> = wanted
        .into_iter()
        .filter(|name| find(path, name).is_none())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(Fault::NeedsPerson(format!(
        "{} not found in PATH={path}: use the image, or add the directory of PostgreSQL's programs",
        missing.join(", ")
    )))
}

/// Where PATH has a program.
pub(super) fn find(path: &str, name: &str) -> Option<PathBuf> {
    path.split(':')
        .map(|dir| Path::new(dir).join(name))
        .find(|file| file.is_file())
}

fn directories(world: &World) -> std::io::Result<Result<(), Fault>> {
    let config = world.config();
    let paths = &config.paths;
    let (postgres, barman) = (world.file_owner(), world.barman_owner());
    let ours = world.accounts.root.then_some((0, 0));
    let files = RunFiles::of(&config);
    let mut wanted = vec![
        (&paths.run_dir, 0o755, ours),
        (&files.log_dir, 0o755, ours),
        (&paths.repmgr_config_dir, 0o755, postgres),
        (&paths.socket_dir, 0o2775, postgres),
        (&paths.data_dir, 0o755, postgres),
        (&world.layout.anchor, 0o700, postgres),
    ];
    if world.has_barman() {
        wanted.push((&paths.barman_config_dir, 0o755, barman));
        wanted.push((&paths.barman_backup_dir, 0o700, barman));
    }
    for (dir, mode, owner) in wanted {
        if let Err(error) = sys::ensure_dir(dir, mode, owner) {
            return Ok(Err(sys::io_fault("make the directory", dir, &error)));
        }
    }
    // Only what is wrong is changed: on a second boot nothing is.
    if world.accounts.root {
        let mut trees = vec![(&paths.data_dir, world.accounts.postgres.clone())];
        if !paths.pgdata.starts_with(&paths.data_dir) {
            trees.push((&paths.pgdata, world.accounts.postgres.clone()));
        }
        if world.backs_up() {
            trees.push((&paths.barman_backup_dir, world.accounts.barman.clone()));
        }
        for (tree, account) in trees {
            if !tree.exists() {
                continue;
            }
            match sys::fix_ownership(tree, account.uid, account.gid) {
                Ok(0) => {}
                Ok(changed) => tracing::info!(
                    changed,
                    "gave {changed} entries below {} to {}",
                    tree.display(),
                    account.name
                ),
                Err(error) => return Ok(Err(sys::io_fault("give to its account", tree, &error))),
            }
        }
    }
    Ok(Ok(()))
}
