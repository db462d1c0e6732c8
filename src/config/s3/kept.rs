//! What a process without the node's environment reads: `archive_command`, cron's jobs, the worker.

use super::S3;
use crate::config::{BarmanMode, Config};
use crate::domain::NodeName;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The settings of one cluster in one bucket, as `s3.json` in `PGNODE_RUN_DIR` keeps them. The file holds the
/// secret key: 0600, owned by the account that archives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// The bucket.
    pub s3: S3,
    /// `BARMAN_CLOUD_SERVER_NAME`.
    pub server: String,
    /// `REPMGR_NODE_NAME`.
    pub node: String,
    /// `PGNODE_DATA_DIR`.
    pub data_dir: PathBuf,
    /// `PGDATA`.
    pub pgdata: PathBuf,
    /// `PGNODE_RUN_DIR`.
    pub run_dir: PathBuf,
    /// `PGNODE_SOCKET_DIR`.
    pub socket_dir: PathBuf,
    /// `PGPORT`.
    pub port: u16,
    /// `POSTGRES_USER`.
    pub superuser: String,
    /// `BARMAN_IMMEDIATE_CHECKPOINT`.
    pub fast_checkpoint: bool,
    /// `BARMAN_RETENTION`, in barman's words.
    pub retention: String,
    /// `BARMAN_MINIMUM_REDUNDANCY`.
    pub redundancy: u32,
    /// How long a server that stops may archive.
    pub closing: Duration,
    /// On a barman host: what it ships.
    #[serde(default)]
    pub host: Option<KeptHost>,
}

/// What a barman host ships.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptHost {
    /// `BARMAN_BACKUP_DIR`.
    pub home: PathBuf,
    /// The clusters of `BARMAN_SERVERS`.
    pub servers: Vec<String>,
    /// `S3_QUEUE_DIR`.
    pub queue: PathBuf,
    /// `S3_QUEUE_KEEP`.
    pub keep: Duration,
}

/// The file is not what [`Kept::to_json`] writes.
#[derive(Debug, thiserror::Error)]
#[error("{path} is not readable as the settings that pgnode writes at its start")]
pub struct BadKept {
    /// The file.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: serde_json::Error,
}

impl Kept {
    /// The file's name in `PGNODE_RUN_DIR`.
    pub const FILE: &str = "s3.json";

    /// What a node writes down; `None` without a bucket.
    #[must_use]
    pub fn of(config: &Config) -> Option<Self> {
        let paths = &config.paths;
        Some(Self {
            s3: config.s3.clone()?,
            server: config.barman.cloud_name.clone(),
            node: config.identity.name.0.clone(),
            superuser: config.postgres.superuser.clone(),
            fast_checkpoint: config.barman.habits.immediate_checkpoint,
            data_dir: paths.data_dir.clone(),
            pgdata: paths.pgdata.clone(),
            run_dir: paths.run_dir.clone(),
            socket_dir: paths.socket_dir.clone(),
            port: config.postgres.port,
            retention: config.barman.habits.retention_policy.clone(),
            redundancy: config.barman.habits.minimum_redundancy,
            closing: config.limits.closing(),
            host: config.kind.keeps_backups().then(|| KeptHost {
                home: paths.barman_backup_dir.clone(),
                servers: config
                    .barman
                    .servers
                    .iter()
                    .map(|s| s.name.clone())
                    .collect(),
                queue: config.shipping.queue_dir.clone(),
                keep: config.shipping.queue_keep,
            }),
        })
    }

    /// The settings of a node that archives into this bucket, with all else from `config`: of a process whose
    /// environment has neither the bucket nor its key.
    #[must_use]
    pub fn over(self, config: &Config) -> Config {
        let mut config = config.clone();
        config.barman.mode = BarmanMode::Cloud;
        config.barman.cloud_name = self.server;
        config.barman.habits.immediate_checkpoint = self.fast_checkpoint;
        config.barman.habits.retention_policy = self.retention;
        config.barman.habits.minimum_redundancy = self.redundancy;
        config.identity.name = NodeName(self.node);
        config.postgres.port = self.port;
        config.postgres.superuser = self.superuser;
        config.paths.data_dir = self.data_dir;
        config.paths.pgdata = self.pgdata;
        config.paths.run_dir = self.run_dir;
        config.paths.socket_dir = self.socket_dir;
        config.s3 = Some(self.s3);
        config
    }

    /// The file's text. It holds the secret key.
    ///
    /// # Errors
    /// A path is not UTF-8.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec_pretty(self)
    }

    /// Reads the file's text; `path` is for the message.
    ///
    /// # Errors
    /// It is not one of ours.
    pub fn from_json(text: &[u8], path: &Path) -> Result<Self, BadKept> {
        serde_json::from_slice(text).map_err(|source| BadKept {
            path: path.to_owned(),
            source,
        })
    }
}

/// A secret as it is: for the one file that may hold it.
pub(super) mod plain {
    use crate::config::Secret;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(in crate::config::s3) fn serialize<S: Serializer>(
        secret: &Secret,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.serialize_str(secret.reveal())
    }

    pub(in crate::config::s3) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Secret, D::Error> {
        String::deserialize(from).map(Secret::new)
    }
}

/// As [`plain`], where there may be none.
pub(super) mod plain_option {
    use crate::config::Secret;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(in crate::config::s3) fn serialize<S: Serializer>(
        secret: &Option<Secret>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match secret {
            Some(secret) => to.serialize_some(secret.reveal()),
            None => to.serialize_none(),
        }
    }

    pub(in crate::config::s3) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Secret>, D::Error> {
        Ok(Option::<String>::deserialize(from)?.map(Secret::new))
    }
}
