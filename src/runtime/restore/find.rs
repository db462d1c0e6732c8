//! Where the backup is, what is there, and how its archive ends. Nothing is changed here.

use super::Tools;
use super::bucket;
use super::source::{Source, SourceError};
use crate::barman::ssh::Files;
use crate::barman::{self, ArchiveEnd, Found, Host, Place, Recipe, Server};
use crate::config::{BarmanMode, Config, Method, Restore, RestoreFrom};
use crate::domain::{Fault, History, Timeline, WalName};
use crate::runtime::survey::blocking;
use crate::{pg, sys};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The source that the settings name.
pub(super) async fn source(tools: &Tools<'_>, wanted: &Restore) -> Result<Source, Fault> {
    let (host, port, server) = match &wanted.from {
        RestoreFrom::Host { host, port, server } => (host, port, server),
        RestoreFrom::Bucket { .. } => return bucket::source(tools.config, wanted).await,
        RestoreFrom::Local | RestoreFrom::Directory(_) => return here(tools.config, wanted).await,
    };
    introduced(tools.config, host, *port).await?;
    let env = tools.config.environment.base.iter();
    Ok(Source::Barman(barman::Source::Host(Host {
        host: host.clone(),
        port: *port,
        server: server.clone(),
        ssh_config: Files::of(tools.config).ssh_config(),
        account: Some(tools.account.clone()),
        env: env
            .map(|(name, value)| (name.into(), value.into()))
            .collect(),
        children: tools.children.clone(),
    })))
}

/// A directory of this container.
async fn here(config: &Config, wanted: &Restore) -> Result<Source, Fault> {
    match &wanted.from {
        RestoreFrom::Directory(dir) => Ok(directory(dir.clone())),
        RestoreFrom::Local => local(config).await,
        RestoreFrom::Host { .. } | RestoreFrom::Bucket { .. } => {
            Err(Fault::Bug(format!("{} is not here", wanted.from)))
        }
    }
}

fn directory(dir: PathBuf) -> Source {
    Source::Barman(barman::Source::Directory(Server::at(dir)))
}

/// How long the two cards may take to be read on both sides; each looks every two seconds.
const INTRODUCED: Duration = Duration::from_secs(30);

/// Waits until the barman host is one that ssh would recognise.
async fn introduced(config: &Config, host: &str, port: u16) -> Result<(), Fault> {
    let Some(keys) = &config.ssh.keys else {
        return Err(Fault::Config(format!(
            "PGNODE_RESTORE_FROM names {host}, and PGNODE_SSH_KEYS is not set: share a directory with \
             it, in which both leave their public keys"
        )));
    };
    let known_hosts = Files::of(config).known_hosts();
    let wanted = format!("[{host}]:{port} ");
    let waiting = async {
        let mut pace = tokio::time::interval(Duration::from_millis(250));
        loop {
            pace.tick().await;
            let path = known_hosts.clone();
            let known = blocking(move || match std::fs::read_to_string(&path) {
                Err(e) if e.kind() == ErrorKind::NotFound => Ok(String::new()),
                other => other,
            });
            if known.await?.lines().any(|line| line.starts_with(&wanted)) {
                return Ok(());
            }
        }
    };
    match tokio::time::timeout(INTRODUCED, waiting).await {
        Ok(done) => done,
        Err(_) => Err(Fault::Transient(format!(
            "the barman host {host}:{port} has left no card in {}: is it the directory of its \
             PGNODE_SSH_KEYS too, and is that its REPMGR_NODE_NETWORK_NAME and PGNODE_SSH_PORT?",
            keys.display()
        ))),
    }
}

/// This container's barman. What the restored node will archive to is never its own source, so that
/// one is passed over where barman runs here.
async fn local(config: &Config) -> Result<Source, Fault> {
    let (home, own) = (
        config.paths.barman_backup_dir.clone(),
        config.barman.server_name.clone(),
    );
    let archives_here = config.barman.mode == BarmanMode::Local;
    let dir = home.clone();
    let names = blocking(move || clusters(&dir)).await?;
    let mut others = names.iter().filter(|name| **name != own);
    let shown = home.display();
    let found = match (others.next(), others.next()) {
        _ if names.contains(&own) && !archives_here => own,
        (Some(only), None) => only.clone(),
        (Some(_), Some(_)) => {
            return Err(Fault::Config(format!(
                "PGNODE_RESTORE_FROM=local: {shown} holds the backups of several clusters ({}): name \
                 one, PGNODE_RESTORE_FROM={shown}/<cluster>",
                names.join(", ")
            )));
        }
        (None, _) if names.contains(&own) => return Err(same_place(&home.join(&own))),
        (None, _) => {
            return Err(Fault::Config(format!(
                "PGNODE_RESTORE_FROM=local: {shown} holds no backups: mount the volume of the barman \
                 that made them, or name another place"
            )));
        }
    };
    Ok(directory(home.join(found)))
}

/// Directories with a `base/`.
fn clusters(home: &Path) -> std::io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(home) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        let mut base = match std::fs::read_dir(entry.path().join("base")) {
            Ok(base) => base,
            Err(_) => continue,
        };
        if base.next().is_some() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn same_place(dir: &Path) -> Fault {
    Fault::Config(format!(
        "the restored node would archive into {}, where its own backup is: both would write WAL of \
         the same cluster identity there; set BARMAN_SERVER_NAME to another name",
        dir.display()
    ))
}

/// The restored node starts an archive of its own, in a place of its own.
pub(super) async fn guard(config: &Config, source: &Source) -> Result<(), Fault> {
    if config.barman.mode == BarmanMode::Remote && config.barman.method == Method::Rsync {
        let ships_to = (config.barman.host.as_ref(), &config.barman.server_name);
        if let Some(RestoreFrom::Host { host, server, .. }) =
            config.restore.as_ref().map(|r| &r.from)
            && ships_to == (Some(host), server)
        {
            return Err(Fault::Config(format!(
                "the restored node would ship its WAL to {server} on {host}, where its own backup is: \
                 set BARMAN_SERVER_NAME to another name"
            )));
        }
    }
    bucket::guard(config, source).await?;
    if config.barman.mode != BarmanMode::Local {
        return Ok(());
    }
    let own = config
        .paths
        .barman_backup_dir
        .join(&config.barman.server_name);
    let theirs = match source {
        Source::Barman(barman::Source::Directory(server)) => Some(server.dir.clone()),
        Source::Barman(barman::Source::Host(_)) | Source::Bucket { .. } => None,
    };
    let (same, used) = {
        let own = own.clone();
        let look = move || {
            let same = theirs.is_some_and(|theirs| is_same(&own, &theirs));
            Ok((same, first_content(&own)?))
        };
        blocking(look).await?
    };
    if same {
        return Err(same_place(&own));
    }
    match used {
        None => Ok(()),
        Some(what) => Err(Fault::Config(format!(
            "expected an empty archive for the restored node, but {} already holds {what}: set \
             BARMAN_SERVER_NAME to another name, or empty it",
            own.display()
        ))),
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    real(one) == real(other)
}

/// A backup or WAL in a barman directory; the directories alone are made by any `barman` command.
fn first_content(dir: &Path) -> std::io::Result<Option<String>> {
    if dir.join("identity.json").exists() {
        return Ok(Some("identity.json".to_owned()));
    }
    for name in ["base", "wals", "incoming", "streaming", "meta"] {
        let entries = match std::fs::read_dir(dir.join(name)) {
            Err(e) if e.kind() == ErrorKind::NotFound => continue,
            other => other?,
        };
        for entry in entries {
            let file = entry?.file_name().to_string_lossy().into_owned();
            // barman's own lists, empty at first.
            if file != "xlog.db" && !file.starts_with('.') {
                return Ok(Some(format!("{name}/{file}")));
            }
        }
    }
    Ok(None)
}

/// All that is there.
pub(super) async fn found(source: &Source) -> Result<Found, Fault> {
    let failed = |e: SourceError| e.fault();
    let backups = source.backups().await.map_err(failed)?;
    let segment_size = Server::segment_size(&backups);
    let archive = source.archive(segment_size).await.map_err(failed)?;
    let mut histories = vec![History::without_past(Timeline(1))];
    for timeline in archive.histories.iter().filter(|t| t.0 > 1) {
        if let Some(history) = source.history(*timeline).await.map_err(failed)? {
            histories.push(history);
        }
    }
    Ok(Found {
        source: source.to_string(),
        tool: source.tool(),
        backups,
        archive,
        histories,
    })
}

/// How far beyond the archive segments are looked for that wait to be archived, and how far back for
/// a commit.
const AHEAD: u64 = 4096;
const BACK: u64 = 16;

/// The end of the WAL, waiting and partial segments included.
pub(super) async fn archive_end(
    tools: &Tools<'_>,
    source: &Source,
    recipe: &Recipe,
) -> Result<ArchiveEnd, Fault> {
    let mut last = recipe.last;
    for _ in 0..AHEAD {
        let next = WalName {
            timeline: recipe.history.timeline,
            ..last.next()
        };
        match fetch(source, recipe, next).await? {
            Some((_, place)) => {
                last = next;
                if matches!(place, Place::Partial | Place::ArchivedPartial) {
                    break;
                }
            }
            None => break,
        }
    }
    let mut end = ArchiveEnd::default();
    let first = recipe.first.number.max(last.number.saturating_sub(BACK));
    for number in (first..=last.number).rev() {
        let lsn = WalName { number, ..last }.begin();
        let lsn = crate::domain::Lsn(lsn.0 + last.segment_size - 1);
        let name = WalName {
            timeline: recipe.history.timeline_at(lsn),
            number,
            ..last
        };
        let Some((bytes, _)) = fetch(source, recipe, name).await? else {
            continue;
        };
        let (record, commit) = dump(tools, &name, bytes).await?;
        end.record = end.record.or(record);
        end.commit = end.commit.or(commit);
        if end.commit.is_some() && end.record.is_some() {
            break;
        }
    }
    Ok(end)
}

/// A segment that is what it should be.
async fn fetch(
    source: &Source,
    recipe: &Recipe,
    name: WalName,
) -> Result<Option<(Vec<u8>, Place)>, Fault> {
    let anchor = recipe.backup().map_or("", |b| b.id.as_str());
    let wal = source.wal(&name.to_string(), anchor).await;
    let Some(mut wal) = wal.map_err(|e| e.fault())? else {
        return Ok(None);
    };
    if barman::is_blank(&wal.bytes) {
        return Ok(None);
    }
    let whole = usize::try_from(name.segment_size).unwrap_or(usize::MAX);
    if matches!(wal.place, Place::Partial | Place::ArchivedPartial) && wal.bytes.len() < whole {
        wal.bytes.resize(whole, 0);
    }
    Ok(Some((wal.bytes, wal.place)))
}

async fn dump(
    tools: &Tools<'_>,
    name: &WalName,
    bytes: Vec<u8>,
) -> Result<
    (
        Option<crate::domain::Lsn>,
        Option<chrono::DateTime<chrono::Utc>>,
    ),
    Fault,
> {
    let dir = tools.config.paths.run_dir.join("restore.scan");
    let file = dir.join(name.to_string());
    let (path, made, owner) = (file.clone(), dir.clone(), tools.owner);
    blocking(move || {
        sys::ensure_dir(&made, 0o700, owner)?;
        sys::write_volatile(&path, &bytes, 0o600, owner)
    })
    .await?;
    let seen = pg::last_records(tools.children, tools.config, tools.account, &file).await;
    blocking(move || std::fs::remove_dir_all(&dir)).await?;
    seen.map_err(|e| e.fault())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Surroundings;

    fn config(home: &Path, vars: &[(&str, &str)]) -> Config {
        let home = home.to_str().unwrap();
        let vars = [
            ("REPMGR_NODE_NAME", "pg1"),
            ("BARMAN_BACKUP_DIR", home),
            ("PGNODE_RESTORE", "latest"),
        ]
        .into_iter()
        .chain(vars.iter().copied())
        .map(|(n, v)| (n.to_owned(), v.to_owned()));
        Config::from_vars(vars, &Surroundings::bare("pg1"))
            .unwrap()
            .0
    }

    async fn resolved(config: &Config) -> Result<String, String> {
        let wanted = config.restore.clone().unwrap();
        let source = here(config, &wanted).await.map_err(|f| f.to_string())?;
        guard(config, &source).await.map_err(|f| f.to_string())?;
        Ok(source.to_string())
    }

    #[tokio::test]
    async fn a_restored_node_never_archives_into_the_place_of_its_source() {
        let tmp = tempfile::tempdir().unwrap();
        let home = tmp.path();
        let other = ("BARMAN_SERVER_NAME", "pg1-restored");
        let refused = |result: Result<String, String>, part: &str| {
            let error = result.unwrap_err();
            assert!(error.contains(part), "{error}");
        };
        refused(resolved(&config(home, &[other])).await, "holds no backups");
        let id = "20261121T020000";
        std::fs::create_dir_all(home.join("pg1/base").join(id)).unwrap();
        let same = "where its own backup is";
        refused(resolved(&config(home, &[])).await, same);
        let here = home.join("pg1").display().to_string();
        assert_eq!(resolved(&config(home, &[other])).await.unwrap(), here);
        let off = ("BARMAN_MODE", "off");
        assert_eq!(resolved(&config(home, &[off])).await.unwrap(), here);
        // By another name for the same directory.
        let link = home.join("link");
        std::os::unix::fs::symlink(home.join("pg1"), &link).unwrap();
        let from = ("PGNODE_RESTORE_FROM", link.to_str().unwrap());
        refused(resolved(&config(home, &[from])).await, same);
        std::fs::remove_file(&link).unwrap();
        // An archive that somebody else began under the new name.
        let wals = home.join("pg1-restored/wals");
        std::fs::create_dir_all(&wals).unwrap();
        std::fs::write(wals.join("xlog.db"), "").unwrap();
        resolved(&config(home, &[other])).await.unwrap();
        std::fs::create_dir(wals.join("0000000100000000")).unwrap();
        refused(
            resolved(&config(home, &[other])).await,
            "already holds wals/0000000100000000",
        );
        std::fs::create_dir_all(home.join("pg2/base").join(id)).unwrap();
        refused(
            resolved(&config(home, &[other])).await,
            "several clusters (pg1, pg2)",
        );
    }
}
