//! The catalogue, read from `base/<id>/backup.info`: a look at it must not cost a Python start. One
//! `key=value` a line; the keys used here are the same from barman 3.4 to 3.20.

use super::BarmanError;
use crate::config::Config;
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
    read(
        &config
            .paths
            .barman_backup_dir
            .join(&config.identity.name.0)
            .join("base"),
    )
}

fn read(base: &Path) -> Result<Vec<Backup>, BarmanError> {
    let failed = |source| BarmanError::Catalogue {
        path: base.to_owned(),
        source,
    };
    let entries = match std::fs::read_dir(base) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        // A backup that is being made or deleted has none.
        if let Ok(text) = std::fs::read_to_string(path.join("backup.info")) {
            let id = path.file_name().map(|n| n.to_string_lossy().into_owned());
            found.push(Backup::parse(&id.unwrap_or_default(), &text));
        }
    }
    found.sort_by(|a, b| a.id.cmp(&b.id));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backups_are_read_as_barman_writes_them() {
        let tmp = tempfile::tempdir().unwrap();
        assert_eq!(read(&tmp.path().join("none")).unwrap(), []);
        for (id, text) in [
            (
                "20261121T080000",
                "end_time=2026-11-21 08:00:03.500000+00:00\nsize=30212096\ndeduplicated_size=None\nstatus=DONE\n",
            ),
            (
                "20261121T070000",
                "end_time=None\nerror=a=b\nstatus=FAILED\n",
            ),
        ] {
            let dir = tmp.path().join(id);
            std::fs::create_dir(&dir).unwrap();
            std::fs::write(dir.join("backup.info"), text).unwrap();
        }
        std::fs::create_dir(tmp.path().join("20261121T090000")).unwrap();
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
