//! What barman keeps and how, what an empty disk is restored from, and how backups are proved.

mod read;
mod rules;
mod show;
#[cfg(test)]
mod tests;

use super::Secret;
use super::types::{Address, BarmanMode};
use crate::domain::{Lsn, Timeline};
use chrono::{DateTime, Utc};
pub(super) use show::shown;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How barman takes WAL and backups (`BARMAN_METHOD`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `pg_receivewal` and `pg_basebackup`: no ssh.
    Streaming,
    /// rsync over ssh, and an `archive_command` that ships over ssh.
    Rsync,
}

/// How archived WAL is compressed (`BARMAN_COMPRESSION`), in barman's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip.
    Gzip,
    /// bzip2.
    Bzip2,
}

/// One cluster that a barman host keeps (`BARMAN_SERVERS`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BarmanServer {
    /// barman's name for it.
    pub name: String,
    /// The nodes that can become its primary, consumer ports.
    pub hosts: Vec<Address>,
}

/// barman's users (`barman`, `barman_streaming`), whom it keeps, and how.
#[derive(Clone, Debug)]
pub struct Barman {
    /// `BARMAN_MODE`; `off` on a witness and on a barman host.
    pub mode: BarmanMode,
    /// `BARMAN_PASSWORD`.
    pub password: Secret,
    /// `BARMAN_STREAMING_PASSWORD`.
    pub streaming_password: Secret,
    /// `BARMAN_SERVERS`; empty but on a barman host.
    pub servers: Vec<BarmanServer>,
    /// `BARMAN_SERVER_NAME`: what barman calls the cluster that this data node belongs to.
    pub server_name: String,
    /// `BARMAN_CLOUD_SERVER_NAME`: what the cluster is called in a bucket.
    pub cloud_name: String,
    /// `BARMAN_METHOD`.
    pub method: Method,
    /// `BARMAN_HOST`.
    pub host: Option<String>,
    /// How often, how long kept, how copied.
    pub habits: Habits,
}

/// barman's habits, the same for every cluster that it keeps.
#[derive(Clone, Debug)]
pub struct Habits {
    /// `BARMAN_RETENTION` in barman's words: `RECOVERY WINDOW OF 5 DAYS`.
    pub retention_policy: String,
    /// `BARMAN_MINIMUM_REDUNDANCY`: full backups.
    pub minimum_redundancy: u32,
    /// `BARMAN_COMPRESSION`.
    pub compression: Compression,
    /// `BARMAN_BANDWIDTH_LIMIT`: bytes a second, at least 1 kB.
    pub bandwidth: Option<u64>,
    /// `BARMAN_PARALLEL_JOBS`.
    pub parallel_jobs: u32,
    /// `BARMAN_IMMEDIATE_CHECKPOINT`.
    pub immediate_checkpoint: bool,
    /// `BARMAN_BACKUP_SCHEDULE`: five cron fields for the full backup.
    pub backup_schedule: String,
    /// `BARMAN_INCREMENTAL_SCHEDULE`: the same for incremental ones.
    pub incremental_schedule: Option<String>,
    /// `BARMAN_BACKUP_MAX_AGE`.
    pub max_age: Duration,
}

/// barman's `incoming_wals_directory` of a cluster: what is written into its configuration, told to the
/// nodes, and taken from their `archive_command`s.
#[must_use]
pub fn incoming_wals(barman_home: &Path, cluster: &str) -> PathBuf {
    barman_home.join(cluster).join("incoming")
}

/// Which backup to restore (`PGNODE_RESTORE`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The newest that lies before the target.
    Latest,
    /// This one.
    Id(String),
}

/// Where the backup is (`PGNODE_RESTORE_FROM`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestoreFrom {
    /// This node's own barman.
    Local,
    /// barman's directory of one cluster, mounted here.
    Directory(PathBuf),
    /// A barman host, over ssh.
    Host {
        /// Its name or address.
        host: String,
        /// Its sshd's port.
        port: u16,
        /// barman's name of the cluster there.
        server: String,
    },
    /// A bucket, in barman-cloud's layout.
    Bucket {
        /// Bucket and path, where they are not those of `S3_BUCKET_URI`.
        place: Option<(String, String)>,
        /// The cluster's name there; the only other one unless given.
        server: Option<String>,
    },
}

/// How far to recover (`PGNODE_RESTORE_TARGET_*`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// All WAL there is.
    End,
    /// No further than the backup itself needs.
    Immediate,
    /// A time.
    Time(DateTime<Utc>),
    /// A WAL position.
    Lsn(Lsn),
    /// A transaction: PostgreSQL compares 32 bits.
    Xid(u64),
    /// A named restore point.
    Name(String),
}

/// Which timeline to follow (`PGNODE_RESTORE_TARGET_TIMELINE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetTimeline {
    /// The newest in the archive.
    Latest,
    /// The backup's own.
    Current,
    /// This one.
    Number(Timeline),
}

/// What happens at the target (`PGNODE_RESTORE_TARGET_ACTION`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetAction {
    /// It is promoted and opens.
    Promote,
    /// It stays closed until a person resumes.
    Pause,
    /// It exits; the next start goes on.
    Shutdown,
}

/// A restore that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Restore {
    /// Which.
    pub backup: Choice,
    /// From where.
    pub from: RestoreFrom,
    /// `PGNODE_RESTORE_TABLESPACES`: a name or an oid, and the directory.
    pub tablespaces: Vec<(String, PathBuf)>,
    /// How far.
    pub target: Target,
    /// Whether the target itself is recovered.
    pub inclusive: bool,
    /// Along which timeline.
    pub timeline: TargetTimeline,
    /// What then.
    pub action: TargetAction,
    /// How long a lost source is asked again.
    pub retry: Duration,
}

/// Drills: backups restored on a schedule, to prove them.
#[derive(Clone, Debug)]
pub struct Drill {
    /// `PGNODE_DRILL_SCHEDULE`.
    pub schedule: Option<String>,
    /// `PGNODE_DRILL_DIR`.
    pub dir: PathBuf,
}

/// ssh between the nodes and their barman host.
#[derive(Clone, Debug)]
pub struct Ssh {
    /// `PGNODE_SSH_PORT`.
    pub port: u16,
    /// `PGNODE_SSH_KEYS`.
    pub keys: Option<PathBuf>,
}
