//! The managed files: rendered from the settings, written only where they differ.

use super::provision::include_line;
use super::survey::blocking;
use super::world::World;
use super::{chores, preflight};
use crate::config;
use crate::domain::{Fault, Role};
use crate::fsm::Site;
use crate::pg::Session;
use crate::plan::{BootPlan, Provision};
use crate::render::{Owner, RenderFacts, RenderedFile, is_ours, render, server_conf, unwanted};
use crate::sys::{self, Changed, Signal};
use std::path::{Path, PathBuf};

/// Writes them for a role.
pub(super) async fn configure(world: &World, plan: Option<BootPlan>) -> Result<(), Fault> {
    let role = plan.map_or(Role::Primary, |p| p.role);
    write(world, role).await?;
    super::synchronous::prepare(world).await?;
    if plan.is_some_and(|p| p.provision == Provision::Adopt) {
        include_line(world, Site::Live).await?;
    }
    Ok(())
}

/// Renders and writes; says what changed.
pub(super) async fn write(world: &World, role: Role) -> Result<(), Fault> {
    let config = world.config();
    let facts = facts(world, role).await?;
    // Milliseconds of work, in which no beat would leave.
    let rendered = config.clone();
    let files = blocking(move || Ok(render(&rendered, &facts)))
        .await?
        .map_err(|e| e.fault())?;
    let mut changed = Vec::new();
    for file in files {
        let path = file.path.clone();
        let owner = match file.owner {
            Owner::Root => world.accounts.root.then_some((0, 0)),
            Owner::Postgres => world.file_owner(),
            Owner::Barman => world.barman_owner(),
        };
        let written = blocking(move || write_one(&file, owner)).await?;
        if written != Changed::No {
            changed.push(path.display().to_string());
        }
    }
    if super::archiver::prepare(world).await? != Changed::No {
        changed.push(config::Kept::FILE.to_owned());
    }
    for path in unwanted(&config) {
        blocking(move || sys::remove(&path)).await?;
    }
    if config.kind.keeps_backups() {
        super::host::keep_settings(world).await?;
        let kept = config.clone();
        for path in blocking(move || strays(&kept)).await? {
            tracing::info!(
                "removed {}: BARMAN_SERVERS does not name it",
                path.display()
            );
            changed.push(path.display().to_string());
        }
    }
    if changed.is_empty() {
        tracing::debug!("no managed file had to be written");
    } else {
        tracing::debug!("wrote {}", changed.join(", "));
    }
    Ok(())
}

/// Removes our own files of clusters that are no longer listed. The user's own files stay.
fn strays(config: &config::Config) -> std::io::Result<Vec<PathBuf>> {
    let keep: Vec<PathBuf> = config
        .barman
        .servers
        .iter()
        .map(|s| server_conf(config, &s.name))
        .collect();
    let mut removed = Vec::new();
    for entry in std::fs::read_dir(&config.paths.barman_config_dir)? {
        let path = entry?.path();
        let ours = || std::fs::read_to_string(&path).is_ok_and(|text| is_ours(&text));
        let stray = path.extension().is_some_and(|e| e == "conf") && !keep.contains(&path);
        if stray && ours() && sys::remove(&path)? {
            removed.push(path);
        }
    }
    Ok(removed)
}

/// Everything rendered can be rendered again, so nothing is synced.
fn write_one(file: &RenderedFile, owner: Option<(u32, u32)>) -> std::io::Result<Changed> {
    sys::write_volatile(&file.path, file.text.as_bytes(), file.mode, owner)
}

async fn facts(world: &World, role: Role) -> Result<RenderFacts, Fault> {
    let config = world.config();
    let path = config
        .environment
        .base
        .iter()
        .find(|(name, _)| name == "PATH");
    let path = path.map(|(_, value)| value.clone()).unwrap_or_default();
    let pg_bin = preflight::find(&path, "postgres")
        .and_then(|p| p.canonicalize().ok())
        .and_then(|p| p.parent().map(Path::to_owned))
        .unwrap_or_default();
    let accounts = world.accounts.clone();
    let (anchor, user_dir) = (world.layout.anchor.clone(), config.paths.user_dir.clone());
    let pg_major = world.pg_major();
    let foreign_archive = chores::foreign_archive(world).await?.is_some();
    let found = move || {
        let conf_d = user_dir.join("conf.d");
        Ok(RenderFacts {
            role,
            foreign_archive,
            memory_limit: sys::cgroup_memory_limit(),
            volume_bytes: sys::fs_facts(&anchor).ok().map(|f| f.total),
            pg_major,
            barman_account: accounts.barman.name,
            postgres_account: accounts.postgres.name,
            our_account: sys::Account::ours().name,
            root: accounts.root,
            user_conf_dir_exists: conf_d.is_dir(),
            user_hba: fragments(&user_dir.join("pg_hba.d"))?,
            user_preload: user_preload(&fragments(&conf_d)?),
            pg_bin,
            pgnode: std::env::current_exe().unwrap_or_else(|_| PathBuf::from("pgnode")),
        })
    };
    blocking(found).await
}

/// The `.conf` files of a directory with their text, in name order; none when it does not exist.
fn fragments(dir: &Path) -> std::io::Result<Vec<(String, String)>> {
    let entries = match std::fs::read_dir(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default();
        // As postgres' own include_dir: no hidden files.
        if name.ends_with(".conf") && !name.starts_with('.') {
            found.push((name, std::fs::read_to_string(&path)?));
        }
    }
    found.sort();
    Ok(found)
}

/// The user's last `shared_preload_libraries`, so that ours can be put beside it.
fn user_preload(files: &[(String, String)]) -> Option<String> {
    let mut last = None;
    for line in files.iter().flat_map(|(_, text)| text.lines()) {
        let line = line.trim();
        let Some(rest) = line.strip_prefix("shared_preload_libraries") else {
            continue;
        };
        let rest = rest.trim_start();
        let value = rest.strip_prefix('=').unwrap_or(rest).trim();
        let value = match value.strip_prefix('\'') {
            Some(quoted) => quoted.split('\'').next().unwrap_or_default(),
            None => value.split('#').next().unwrap_or_default().trim(),
        };
        last = Some(value.to_owned());
    }
    last
}

/// HUP: the settings are read again (a secret's file may have changed), everything is rendered, a
/// primary's users are brought up to date, postgres and repmgrd read their files again.
pub(super) async fn reload(world: &World, plan: Option<BootPlan>) -> Result<(), Fault> {
    let former = world.config();
    let arguments = former
        .postgres
        .settings
        .iter()
        .flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")])
        .collect();
    let (config, _sources) = config::load(arguments).map_err(|faults| faults.fault())?;
    let fixed = |c: &config::Config| {
        (
            c.postgres.port,
            c.postgres.technical_port,
            c.paths.pgdata.clone(),
            c.identity.id,
            // The peers' signatures are made with it, and theirs with the same.
            c.repmgr.password.reveal().to_owned(),
        )
    };
    if fixed(&config) != fixed(&former) {
        return Err(Fault::Config(
            "ports, PGDATA, the node's id and REPMGR_PASSWORD cannot change while it runs: restart \
             the container"
                .into(),
        ));
    }
    world.set_config(config);
    let role = plan.map_or(Role::Primary, |p| p.role);
    write(world, role).await?;
    world.keepers(|s| s.as_ref().map(super::host::Services::refresh));
    let config = world.config();
    let session = Session::local(&config, config.postgres.port, "postgres")
        .await
        .map_err(|e| e.fault())?;
    // A standby's users come by replication.
    if role != Role::Standby {
        crate::pg::bootstrap(&config, config.postgres.port, crate::pg::Visit::Later)
            .await
            .map_err(|e| e.fault())?;
        chores::remember(world, role).await?;
    }
    session
        .rows("reloading postgres", "SELECT pg_reload_conf()", &[])
        .await
        .map_err(|e| e.fault())?;
    if let Some(pid) = world.repmgrd_pid() {
        world.children.signal(pid, Signal::SIGHUP);
    }
    Ok(())
}

/// As [`reload`], on a barman host.
pub(super) async fn reload_host(world: &World) -> Result<(), Fault> {
    let former = world.config();
    let (config, _sources) = config::load(Vec::new()).map_err(|faults| faults.fault())?;
    let fixed = |c: &config::Config| {
        (
            c.kind,
            c.barman.servers.clone(),
            c.barman.method,
            c.paths.barman_backup_dir.clone(),
        )
    };
    if fixed(&config) != fixed(&former) {
        return Err(Fault::Config(
            "BARMAN_SERVERS, BARMAN_METHOD and BARMAN_BACKUP_DIR cannot change while it runs: restart \
             the container"
                .into(),
        ));
    }
    world.set_config(config);
    write(world, Role::Witness).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_strays_are_removed() {
        let tmp = tempfile::tempdir().unwrap();
        let vars = [
            ("PGNODE_ROLE", "barman"),
            ("BARMAN_SERVERS", "main=pg1"),
            ("BARMAN_CONFIG_DIR", tmp.path().to_str().unwrap()),
        ];
        let vars = vars.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let around = config::Surroundings {
            hostname: "box".into(),
            arguments: Vec::new(),
            not_text: Vec::new(),
            read_file: &|_| Err(String::new()),
        };
        let (config, _) = config::Config::from_vars(vars, &around).unwrap();
        for (name, text) in [
            ("main.conf", "; Written by pgnode at every boot"),
            ("old.conf", "; Written by pgnode at every boot"),
            ("theirs.conf", "[theirs]"),
            ("old.conf.bak", "; Written by pgnode at every boot"),
        ] {
            std::fs::write(tmp.path().join(name), text).unwrap();
        }
        let removed = strays(&config).unwrap();
        assert_eq!(removed, [tmp.path().join("old.conf")]);
        assert_eq!(std::fs::read_dir(tmp.path()).unwrap().count(), 3);
    }

    #[test]
    fn the_users_libraries_are_found() {
        let file = |text: &str| vec![("a.conf".to_owned(), text.to_owned())];
        for (text, want) in [
            ("", None),
            ("# shared_preload_libraries = 'x'", None),
            (
                "shared_preload_libraries = 'pg_stat_statements'",
                Some("pg_stat_statements"),
            ),
            ("shared_preload_libraries='a, b' # why", Some("a, b")),
            (
                "shared_preload_libraries 'a'\nshared_preload_libraries = b # c",
                Some("b"),
            ),
        ] {
            assert_eq!(user_preload(&file(text)).as_deref(), want, "{text}");
        }
    }
}
