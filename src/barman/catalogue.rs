//! The catalogue, read from its files: a look at it must not cost a Python start. barman 3.13 keeps
//! `meta/<id>-backup.info` (seen), 3.4 `base/<id>/backup.info`; one `key=value` a line, and the keys
//! used here are the same.

use super::BarmanError;
use crate::config::Config;
use std::collections::BTreeMap;
use std::path::Path;

/// A backup in the catalogue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Its id, the local time of its start.
    pub id: String,
    /// `DONE`, `WAITING_FOR_WALS`, `FAILED`, `STARTED`…
    pub status: String,
    /// When it ended, milliseconds since the epoch.
    pub end_ms: Option<u64>,
    /// Bytes.
    pub size: Option<u64>,
}

impl Backup {
    /// Whether it can be restored.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.status == "DONE"
    }

    fn parse(id: &str, text: &str) -> Self {
        let value = |key: &str| {
            text.lines()
                .filter_map(|l| l.split_once('='))
                .find(|(k, v)| k.trim() == key && v.trim() != "None")
                .map(|(_, v)| v.trim())
        };
        let end = value("end_time").and_then(|t| t.parse::<chrono::DateTime<chrono::Utc>>().ok());
        Self {
            id: id.to_owned(),
            status: value("status").unwrap_or("EMPTY").to_owned(),
            end_ms: end.and_then(|t| u64::try_from(t.timestamp_millis()).ok()),
            size: value("deduplicated_size")
                .or_else(|| value("size"))
                .and_then(|n| n.parse().ok()),
        }
    }
}

/// All backups of this node, oldest first; none when barman has not begun yet.
///
/// # Errors
/// [`BarmanError::Catalogue`].
pub fn catalogue(config: &Config) -> Result<Vec<Backup>, BarmanError> {
    read(&config.paths.barman_backup_dir.join(&config.identity.name.0))
}

fn read(home: &Path) -> Result<Vec<Backup>, BarmanError> {
    let mut found: BTreeMap<String, Backup> = BTreeMap::new();
    for entry in entries(&home.join("base"))? {
        let id = entry.file_name().to_string_lossy().into_owned();
        // A backup that is being made or deleted has none.
        if let Ok(text) = std::fs::read_to_string(entry.path().join("backup.info")) {
            found.insert(id.clone(), Backup::parse(&id, &text));
        }
    }
    for entry in entries(&home.join("meta"))? {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let (Some(id), Ok(text)) = (
            name.strip_suffix("-backup.info"),
            std::fs::read_to_string(entry.path()),
        ) {
            found.insert(id.to_owned(), Backup::parse(id, &text));
        }
    }
    Ok(found.into_values().collect())
}

fn entries(dir: &Path) -> Result<Vec<std::fs::DirEntry>, BarmanError> {
    let failed = |source| BarmanError::Catalogue {
        path: dir.to_owned(),
        source,
    };
    match std::fs::read_dir(dir) {
        Ok(entries) => entries.collect::<Result<_, _>>().map_err(failed),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(e) => Err(failed(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backups_are_read_as_barman_writes_them() {
        let tmp = tempfile::tempdir().unwrap();
        assert_eq!(read(&tmp.path().join("none")).unwrap(), []);
        let old = tmp.path().join("base/20261121T070000");
        std::fs::create_dir_all(&old).unwrap();
        std::fs::create_dir_all(tmp.path().join("base/20261121T090000")).unwrap();
        std::fs::write(
            old.join("backup.info"),
            "end_time=None\nerror=a=b\nstatus=FAILED\n",
        )
        .unwrap();
        let meta = tmp.path().join("meta");
        std::fs::create_dir(&meta).unwrap();
        let new = "end_time=2026-11-21 08:00:03.500000+00:00\nsize=30212096\ndeduplicated_size=None\nstatus=DONE\n";
        std::fs::write(meta.join("20261121T080000-backup.info"), new).unwrap();
        let all = read(tmp.path()).unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!((all[0].status.as_str(), all[0].end_ms), ("FAILED", None));
        assert!(all[1].is_done());
        assert_eq!(
            (all[1].end_ms, all[1].size),
            (Some(1_795_248_003_500), Some(30_212_096))
        );
    }
}
