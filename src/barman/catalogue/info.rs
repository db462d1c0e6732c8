//! `backup.info`: one `key=value` a line, the keys sorted, `None` for nothing. The keys are the same
//! from barman 3.4 on; later ones add some (`barman/infofile.py`).

use super::literal;
use crate::domain::{Lsn, SystemId, Timeline, WalName};
use chrono::{DateTime, Local, NaiveDateTime, TimeZone, Utc};
use std::path::PathBuf;
use std::str::FromStr;

/// What barman says of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BackupStatus {
    /// Nothing written down yet.
    Empty,
    /// Being copied; or barman was killed while it was.
    Started,
    /// Copied; the WAL of its end is not archived yet, so it cannot be restored.
    WaitingForWals,
    /// Can be restored.
    Done,
    /// Given up.
    Failed,
    /// Being copied from another barman.
    Syncing,
    /// A word of a later barman.
    Other(String),
}

impl BackupStatus {
    fn parse(word: &str) -> Self {
        match word {
            "EMPTY" => Self::Empty,
            "STARTED" => Self::Started,
            "WAITING_FOR_WALS" => Self::WaitingForWals,
            "DONE" => Self::Done,
            "FAILED" => Self::Failed,
            "SYNCING" => Self::Syncing,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl std::fmt::Display for BackupStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Empty => "EMPTY",
            Self::Started => "STARTED",
            Self::WaitingForWals => "WAITING_FOR_WALS",
            Self::Done => "DONE",
            Self::Failed => "FAILED",
            Self::Syncing => "SYNCING",
            Self::Other(word) => word,
        })
    }
}

/// Kinds of backup, as `barman list-backups` tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// All files, by `pg_basebackup`.
    Full,
    /// What changed since its parent: restored through `pg_combinebackup`.
    Incremental,
    /// All files, by rsync; unchanged ones may be hard links to those of another.
    Rsync,
    /// A snapshot of a disk in a cloud: there are no files.
    Snapshot,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Full => "full",
            Self::Incremental => "incremental",
            Self::Rsync => "rsync",
            Self::Snapshot => "snapshot",
        })
    }
}

/// What a kept backup keeps beside itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The WAL that makes it consistent.
    Standalone,
    /// All WAL from it on.
    Full,
}

impl std::fmt::Display for Keep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Standalone => "standalone",
            Self::Full => "full",
        })
    }
}

/// A tablespace as it was when the backup was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tablespace {
    /// Its name.
    pub name: String,
    /// Its oid: the name of the link in `pg_tblspc` and of its directory in the backup.
    pub oid: u32,
    /// Where it was.
    pub location: PathBuf,
}

/// A backup in the catalogue. Whatever barman does not say yet is `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backup {
    /// Its id, the local time of its start: `20261121T195810`. Ids sort by age.
    pub id: String,
    /// The name that a person gave it.
    pub name: Option<String>,
    /// How far it is.
    pub status: BackupStatus,
    /// Whether the files are snapshots of disks in a cloud (barman-cloud's `snapshots_info`).
    pub snapshot: bool,
    /// barman's word for how it was made: `postgres`, `rsync-concurrent`, `local-rsync-concurrent`…
    pub mode: Option<String>,
    /// When it began, milliseconds since the epoch.
    pub begin_ms: Option<u64>,
    /// When it ended, milliseconds since the epoch.
    pub end_ms: Option<u64>,
    /// Where its WAL begins: the redo position.
    pub begin_lsn: Option<Lsn>,
    /// Where it is consistent.
    pub end_lsn: Option<Lsn>,
    /// The segment of `begin_lsn`.
    pub begin_wal: Option<WalName>,
    /// The last segment that it needs.
    pub end_wal: Option<WalName>,
    /// The timeline that it was made on.
    pub timeline: Option<Timeline>,
    /// Bytes of its files.
    pub size: Option<u64>,
    /// Bytes of those of its files that no other backup shares.
    pub deduplicated_size: Option<u64>,
    /// Bytes of the cluster when it was made (barman 3.11 and later).
    pub cluster_size: Option<u64>,
    /// The backup that an incremental one rests on.
    pub parent: Option<String>,
    /// The incremental ones that rest on this.
    pub children: Vec<String>,
    /// PostgreSQL's `server_version_num`: 170012.
    pub server_version: Option<u32>,
    /// The cluster.
    pub system_id: Option<SystemId>,
    /// The data directory on its host.
    pub pgdata: Option<PathBuf>,
    /// Tablespaces that lay elsewhere.
    pub tablespaces: Vec<Tablespace>,
    /// The base's own compression (`backup_compression`): its files are tar archives.
    pub compression: Option<String>,
    /// The base's encryption (barman 3.16 and later).
    pub encryption: Option<String>,
    /// Whether WAL was summarized: an incremental backup can rest on it (barman 3.11 and later).
    pub summarize_wal: bool,
    /// Why it failed.
    pub error: Option<String>,
    /// Bytes of a WAL segment of the cluster.
    pub segment_size: u64,
    /// Whether retention passes it over.
    pub keep: Option<Keep>,
    /// `<server>/base/<id>`.
    pub dir: PathBuf,
    /// What of the metadata was not understood: key, value, rule. Such a backup must not be restored.
    pub garbled: Vec<String>,
}

impl Backup {
    /// Whether it is complete.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.status == BackupStatus::Done
    }

    /// Whether its files are all copied, be its WAL archived or not. These are what barman's `latest`
    /// and `oldest` choose from.
    #[must_use]
    pub fn is_copied(&self) -> bool {
        matches!(
            self.status,
            BackupStatus::Done | BackupStatus::WaitingForWals
        )
    }

    /// Its kind (`backup_type` in barman).
    #[must_use]
    pub fn kind(&self) -> Kind {
        let mode = self.mode.as_deref().unwrap_or_default();
        if self.snapshot || mode.starts_with("snapshot") {
            Kind::Snapshot
        } else if mode.contains("rsync") {
            Kind::Rsync
        } else if self.parent.is_some() {
            Kind::Incremental
        } else {
            Kind::Full
        }
    }

    /// The files of the data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The files of a tablespace.
    #[must_use]
    pub fn tablespace_dir(&self, oid: u32) -> PathBuf {
        self.dir.join(oid.to_string())
    }

    /// Segments from `begin_wal` to `end_wal`.
    #[must_use]
    pub fn segments_needed(&self) -> Option<u64> {
        let (begin, end) = (self.begin_wal?, self.end_wal?);
        (end.number + 1).checked_sub(begin.number)
    }

    /// PostgreSQL's major version.
    #[must_use]
    pub fn major(&self) -> Option<u32> {
        self.server_version.map(|v| v / 10_000)
    }

    /// Reads `backup.info`. Lines of a message that has several are passed over.
    #[must_use]
    pub fn parse(id: &str, dir: PathBuf, text: &str) -> Self {
        let mut keys = Keys {
            text,
            garbled: Vec::new(),
        };
        let segment_size = keys
            .read(
                "xlog_segment_size",
                "a power of two from 1 MiB to 1 GiB",
                |v| v.parse().ok().filter(|n| WalName::is_segment_size(*n)),
            )
            .unwrap_or(WalName::DEFAULT_SEGMENT_SIZE);
        let wal = |v: &str| WalName::parse(v, segment_size).ok();
        Self {
            id: id.to_owned(),
            name: keys.text("backup_name"),
            status: BackupStatus::parse(keys.find("status").unwrap_or("EMPTY")),
            snapshot: keys.find("snapshots_info").is_some(),
            mode: keys.text("mode"),
            begin_ms: keys.read("begin_time", TIME, time),
            end_ms: keys.read("end_time", TIME, time),
            begin_lsn: keys.parsed("begin_xlog", "a WAL position"),
            end_lsn: keys.parsed("end_xlog", "a WAL position"),
            begin_wal: keys.read("begin_wal", "a WAL segment", wal),
            end_wal: keys.read("end_wal", "a WAL segment", wal),
            timeline: keys.parsed("timeline", "a number").map(Timeline),
            size: keys.parsed("size", "a number"),
            deduplicated_size: keys.parsed("deduplicated_size", "a number"),
            cluster_size: keys.parsed("cluster_size", "a number"),
            parent: keys.read("parent_backup_id", "a backup id", |v| {
                is_id(v).then(|| v.to_owned())
            }),
            children: keys
                .read("children_backup_ids", "backup ids", ids)
                .unwrap_or_default(),
            server_version: keys.parsed("version", "a number"),
            system_id: keys.parsed("systemid", "a number").map(SystemId),
            pgdata: keys.text("pgdata").map(PathBuf::from),
            tablespaces: keys.tablespaces(),
            compression: keys.text("compression"),
            encryption: keys.text("encryption"),
            summarize_wal: keys.find("summarize_wal") == Some("on"),
            error: keys.text("error"),
            segment_size,
            keep: None,
            dir,
            garbled: keys.garbled,
        }
    }
}

const TIME: &str = "a time such as 2026-11-21 19:58:10.086556+00:00";

/// `20261121T195810`, as barman makes it.
#[must_use]
pub fn is_id(text: &str) -> bool {
    let digits = |s: &[u8]| s.iter().all(u8::is_ascii_digit);
    matches!(text.as_bytes(), [day @ .., b'T', _, _, _, _, _, _] if day.len() == 8 && digits(day))
        && text.get(9..).is_some_and(|time| digits(time.as_bytes()))
}

fn ids(text: &str) -> Option<Vec<String>> {
    text.split(',')
        .map(|id| is_id(id).then(|| id.to_owned()))
        .collect()
}

/// One without a zone is the host's local time, as barman takes it.
fn time(text: &str) -> Option<u64> {
    time_in(text, &Local)
}

/// The same on a host in that zone.
fn time_in(text: &str, zone: &impl TimeZone) -> Option<u64> {
    let zoned = text.parse::<DateTime<Utc>>().ok().or_else(|| {
        let naive: NaiveDateTime =
            NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").ok()?;
        let local = naive.and_local_timezone(zone.clone()).earliest()?;
        Some(local.with_timezone(&Utc))
    })?;
    u64::try_from(zoned.timestamp_millis()).ok()
}

/// The lines, and what of them was not understood.
struct Keys<'a> {
    text: &'a str,
    garbled: Vec<String>,
}

impl<'a> Keys<'a> {
    /// The last one counts, as in barman: a failed backup's message may have lines that look like keys.
    fn find(&self, key: &str) -> Option<&'a str> {
        self.text
            .lines()
            .filter_map(|l| l.split_once('='))
            .rfind(|(k, _)| k.trim() == key)
            .map(|(_, v)| v.trim())
            .filter(|v| !v.is_empty() && *v != "None")
    }

    fn text(&self, key: &str) -> Option<String> {
        self.find(key).map(str::to_owned)
    }

    fn read<T>(&mut self, key: &str, rule: &str, read: impl Fn(&str) -> Option<T>) -> Option<T> {
        let value = self.find(key)?;
        let read = read(value);
        if read.is_none() {
            self.garbled
                .push(format!("{key}={value} where {rule} belongs"));
        }
        read
    }

    fn parsed<T: FromStr>(&mut self, key: &str, rule: &str) -> Option<T> {
        self.read(key, rule, |v| v.parse().ok())
    }

    fn tablespaces(&mut self) -> Vec<Tablespace> {
        let Some(text) = self.find("tablespaces") else {
            return Vec::new();
        };
        match literal::tablespaces(text) {
            Ok(all) => all
                .into_iter()
                .map(|(name, oid, location)| Tablespace {
                    name,
                    oid,
                    location: location.into(),
                })
                .collect(),
            Err(why) => {
                self.garbled.push(format!("tablespaces={text}: {why}"));
                Vec::new()
            }
        }
    }
}

#[cfg(test)]
#[path = "info_tests.rs"]
mod tests;
