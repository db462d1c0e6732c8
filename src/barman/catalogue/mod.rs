//! The catalogue, read from its files: a look at it must not cost a Python start. Metadata of a backup
//! are in `meta/<id>-backup.info` and `meta/<id>-keep` since barman 3.13.2 and 3.13.3, before in
//! `base/<id>/backup.info` and `base/<id>/annotations/keep`; a catalogue that grew up has both.

mod archive;

mod info;
mod literal;
mod wal;

pub use archive::{Archive, WalRange};
pub use info::{Backup, BackupStatus, Keep, Kind, Tablespace, is_id};
pub use wal::{Place, WalFile};

use super::BarmanError;
use crate::config::{BarmanMode, Config};
use crate::domain::{SystemId, WalName};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A server in barman's sense: a directory with `base/`, `wals/`, `incoming/`, `streaming/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// `<barman_home>/<name>`.
    pub dir: PathBuf,
}

/// The servers that this container's barman keeps: its own on a data node, the clusters of
/// `BARMAN_SERVERS` on a barman host, none where backups are kept elsewhere or not at all.
#[must_use]
pub fn servers(config: &Config) -> Vec<Server> {
    let home = &config.paths.barman_backup_dir;
    if config.kind.keeps_backups() {
        let names = config.barman.servers.iter().map(|s| &s.name);
        return names.map(|name| Server::at(home.join(name))).collect();
    }
    match config.barman.mode {
        BarmanMode::Local => vec![Server::own(config)],
        BarmanMode::Remote | BarmanMode::Cloud | BarmanMode::Off => Vec::new(),
    }
}

impl Server {
    /// The server whose files are in `dir`.
    #[must_use]
    pub const fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// A data node's own.
    #[must_use]
    pub fn own(config: &Config) -> Self {
        let home = &config.paths.barman_backup_dir;
        Self::at(home.join(&config.barman.server_name))
    }

    /// barman's name of it.
    #[must_use]
    pub fn name(&self) -> String {
        let name = self.dir.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    /// All backups, whatever their status, oldest first; none when there is no such directory.
    ///
    /// # Errors
    /// [`BarmanError::Catalogue`].
    pub fn backups(&self) -> Result<Vec<Backup>, BarmanError> {
        let mut found: BTreeMap<String, Backup> = BTreeMap::new();
        for (id, path) in self.infos()? {
            // One that is being made or deleted has none.
            if let Some(text) = text(&path)? {
                let mut backup = Backup::parse(&id, self.base(&id), &text);
                backup.keep = self.keep(&mut backup)?;
                found.insert(id, backup);
            }
        }
        Ok(found.into_values().collect())
    }

    /// One backup by its id, its name, or barman's words for one: `latest` and `last`, `oldest` and
    /// `first`, `latest-full` and `last-full`, `last-failed`. The newest and the oldest are chosen from
    /// those that are copied, also when their WAL has not arrived yet.
    ///
    /// # Errors
    /// [`BarmanError`]; also for metadata that are not understood.
    pub fn backup(&self, wanted: &str) -> Result<Backup, BarmanError> {
        let all = self.backups()?;
        let backup = self.choose(&all, wanted)?.clone();
        self.sound(&backup)?;
        Ok(backup)
    }

    /// What must be restored for `wanted`, the full backup first and `wanted` last.
    ///
    /// # Errors
    /// [`BarmanError`]; also when one of them is missing or not understood.
    pub fn chain(&self, wanted: &str) -> Result<Vec<Backup>, BarmanError> {
        let all = self.backups()?;
        let mut chain = vec![self.choose(&all, wanted)?.clone()];
        while let Some((last, parent)) = chain.last().and_then(|b| Some((b, b.parent.clone()?))) {
            self.sound(last)?;
            // A parent is older than its child, so this comes to an end.
            let found = all.iter().find(|b| b.id == parent && b.id < last.id);
            let broken = || BarmanError::BrokenChain {
                id: wanted.to_owned(),
                missing: parent.clone(),
            };
            chain.push(found.cloned().ok_or_else(broken)?);
        }
        for backup in &chain {
            self.sound(backup)?;
        }
        chain.reverse();
        Ok(chain)
    }

    /// The cluster that barman saw first under this name (`identity.json`); `None` before that.
    ///
    /// # Errors
    /// [`BarmanError::Catalogue`].
    pub fn identity(&self) -> Result<Option<SystemId>, BarmanError> {
        let Some(text) = text(&self.dir.join("identity.json"))? else {
            return Ok(None);
        };
        let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let id = value.get("systemid").and_then(|v| v.as_str());
        Ok(id.and_then(|v| v.parse().ok()).map(SystemId))
    }

    /// Bytes of a WAL segment, as the newest backup that knows has it; PostgreSQL's default without one.
    #[must_use]
    pub fn segment_size(backups: &[Backup]) -> u64 {
        backups
            .last()
            .map_or(WalName::DEFAULT_SEGMENT_SIZE, |b| b.segment_size)
    }

    /// Chooses from backups that were read before, as [`Server::backup`] does.
    ///
    /// # Errors
    /// [`BarmanError::Unknown`], [`BarmanError::Ambiguous`].
    pub fn choose<'a>(&self, all: &'a [Backup], wanted: &str) -> Result<&'a Backup, BarmanError> {
        let copied = || all.iter().filter(|b| b.is_copied());
        let is_full = |b: &&Backup| matches!(b.kind(), Kind::Full | Kind::Rsync);
        let found = match wanted {
            "latest" | "last" => copied().next_back(),
            "oldest" | "first" => copied().next(),
            "latest-full" | "last-full" => copied().rfind(is_full),
            "last-failed" => all.iter().rfind(|b| b.status == BackupStatus::Failed),
            _ => match all.iter().find(|b| b.id == wanted) {
                Some(backup) => Some(backup),
                None => self.named(all, wanted)?,
            },
        };
        found.ok_or_else(|| BarmanError::Unknown {
            server: self.name(),
            wanted: wanted.to_owned(),
            known: known(all),
        })
    }

    fn named<'a>(&self, all: &'a [Backup], name: &str) -> Result<Option<&'a Backup>, BarmanError> {
        let named = || {
            all.iter()
                .filter(|b| b.is_copied() && b.name.as_deref() == Some(name))
        };
        if named().nth(1).is_some() {
            let ids: Vec<&str> = named().map(|b| b.id.as_str()).collect();
            return Err(BarmanError::Ambiguous {
                server: self.name(),
                name: name.to_owned(),
                ids: ids.join(", "),
            });
        }
        Ok(named().next())
    }

    fn sound(&self, backup: &Backup) -> Result<(), BarmanError> {
        if backup.garbled.is_empty() {
            return Ok(());
        }
        Err(BarmanError::Garbled {
            id: backup.id.clone(),
            path: self.dir.clone(),
            what: backup.garbled.join("; "),
        })
    }

    /// Id and metadata file of each backup. Where a backup has two, barman reads the one in `meta/`.
    fn infos(&self) -> Result<BTreeMap<String, PathBuf>, BarmanError> {
        let mut found = BTreeMap::new();
        for entry in entries(&self.dir.join("base"))? {
            let id = entry.file_name().to_string_lossy().into_owned();
            if info::is_id(&id) {
                found.insert(id, entry.path().join("backup.info"));
            }
        }
        for entry in entries(&self.dir.join("meta"))? {
            let name = entry.file_name().to_string_lossy().into_owned();
            if let Some(id) = name.strip_suffix("-backup.info")
                && info::is_id(id)
            {
                found.insert(id.to_owned(), entry.path());
            }
        }
        Ok(found)
    }

    fn base(&self, id: &str) -> PathBuf {
        self.dir.join("base").join(id)
    }

    /// barman moves an annotation from its old place to the new one when it comes across it, so the old
    /// one is the newer word.
    fn keep(&self, backup: &mut Backup) -> Result<Option<Keep>, BarmanError> {
        let meta = self.dir.join("meta").join(format!("{}-keep", backup.id));
        let said = match text(&backup.dir.join("annotations").join("keep"))? {
            Some(said) => said,
            None => match text(&meta)? {
                Some(said) => said,
                None => return Ok(None),
            },
        };
        match said.trim() {
            "standalone" => Ok(Some(Keep::Standalone)),
            "full" => Ok(Some(Keep::Full)),
            other => {
                let what = format!("keep={other} where standalone or full belongs");
                backup.garbled.push(what);
                // Whatever it means, it is not to be deleted.
                Ok(Some(Keep::Full))
            }
        }
    }
}

fn known(all: &[Backup]) -> String {
    let copied: Vec<&Backup> = all.iter().filter(|b| b.is_copied()).collect();
    match copied.as_slice() {
        [] => "it has none that is complete".to_owned(),
        [only] => format!("its only one is {}", only.id),
        [first, .., last] => format!(
            "it has {} from {} to {} (`pgnode backup list`)",
            copied.len(),
            first.id,
            last.id
        ),
    }
}

/// A file's text; `None` when it is not there.
fn text(path: &Path) -> Result<Option<String>, BarmanError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(BarmanError::catalogue(path, e)),
    }
}

/// A directory's entries; none when it is not there.
fn entries(dir: &Path) -> Result<Vec<std::fs::DirEntry>, BarmanError> {
    let failed = |source| BarmanError::catalogue(dir, source);
    match std::fs::read_dir(dir) {
        Ok(entries) => entries.collect::<Result<_, _>>().map_err(failed),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(failed(e)),
    }
}

#[cfg(test)]
mod tests;
