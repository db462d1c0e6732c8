//! The values as `pgnode config` shows them; each can be given back as it is.

use super::{
    Choice, Compression, Method, Restore, RestoreFrom, Target, TargetAction, TargetTimeline,
};
use crate::config::Config;
use crate::config::show::{BYTES, SECONDS, exact};
use std::fmt;

/// The effective value of a variable of this room; `None` for another's.
pub(in crate::config) fn shown(config: &Config, name: &str) -> Option<String> {
    let (barman, habits) = (&config.barman, &config.barman.habits);
    let list = |server: &super::BarmanServer| {
        let hosts: Vec<_> = server.hosts.iter().map(ToString::to_string).collect();
        format!("{}={}", server.name, hosts.join(","))
    };
    Some(match name {
        "BARMAN_MODE" => barman.mode.to_string(),
        "BARMAN_SERVERS" => barman
            .servers
            .iter()
            .map(list)
            .collect::<Vec<_>>()
            .join("; "),
        "BARMAN_SERVER_NAME" => barman.server_name.clone(),
        "BARMAN_METHOD" => barman.method.to_string(),
        "BARMAN_HOST" => barman.host.clone().unwrap_or_default(),
        "BARMAN_RETENTION" => habits.retention_policy.clone(),
        "BARMAN_BACKUP_SCHEDULE" => habits.backup_schedule.clone(),
        "BARMAN_INCREMENTAL_SCHEDULE" => habits.incremental_schedule.clone().unwrap_or_default(),
        "BARMAN_MINIMUM_REDUNDANCY" => habits.minimum_redundancy.to_string(),
        "BARMAN_COMPRESSION" => habits.compression.to_string(),
        "BARMAN_BANDWIDTH_LIMIT" => habits
            .bandwidth
            .map_or_else(String::new, |n| exact(n, &BYTES)),
        "BARMAN_PARALLEL_JOBS" => habits.parallel_jobs.to_string(),
        "BARMAN_IMMEDIATE_CHECKPOINT" => habits.immediate_checkpoint.to_string(),
        "BARMAN_BACKUP_MAX_AGE" => exact(habits.max_age.as_secs(), &SECONDS),
        "PGNODE_DRILL_SCHEDULE" => config.drill.schedule.clone().unwrap_or_default(),
        "PGNODE_DRILL_DIR" => config.drill.dir.display().to_string(),
        "PGNODE_SSH_PORT" => config.ssh.port.to_string(),
        "PGNODE_SSH_KEYS" => {
            let keys = config.ssh.keys.as_ref();
            keys.map_or_else(String::new, |dir| dir.display().to_string())
        }
        name if name.starts_with("PGNODE_RESTORE") => {
            let restore = config.restore.as_ref();
            restore.map_or_else(String::new, |restore| of_restore(restore, name))
        }
        _ => return None,
    })
}

fn of_restore(restore: &Restore, name: &str) -> String {
    match (name, &restore.target) {
        ("PGNODE_RESTORE", _) => restore.backup.to_string(),
        ("PGNODE_RESTORE_FROM", _) => restore.from.to_string(),
        ("PGNODE_RESTORE_TABLESPACES", _) => {
            let moved = restore.tablespaces.iter();
            let words: Vec<_> = moved
                .map(|(name, dir)| format!("{name}={}", dir.display()))
                .collect();
            words.join(",")
        }
        ("PGNODE_RESTORE_TARGET_TIME", Target::Time(time)) => time.to_rfc3339(),
        ("PGNODE_RESTORE_TARGET_LSN", Target::Lsn(lsn)) => lsn.to_string(),
        ("PGNODE_RESTORE_TARGET_XID", Target::Xid(xid)) => xid.to_string(),
        ("PGNODE_RESTORE_TARGET_NAME", Target::Name(name)) => name.clone(),
        ("PGNODE_RESTORE_TARGET_IMMEDIATE", target) => (*target == Target::Immediate).to_string(),
        ("PGNODE_RESTORE_TARGET_INCLUSIVE", _) => restore.inclusive.to_string(),
        ("PGNODE_RESTORE_TARGET_TIMELINE", _) => restore.timeline.to_string(),
        ("PGNODE_RESTORE_TARGET_ACTION", _) => restore.action.to_string(),
        ("PGNODE_RESTORE_RETRY", _) => exact(restore.retry.as_secs(), &SECONDS),
        _ => String::new(),
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Streaming => "streaming",
            Self::Rsync => "rsync",
        })
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
        })
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Id(id) => f.write_str(id),
        }
    }
}

impl fmt::Display for RestoreFrom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Directory(dir) => dir.display().fmt(f),
            Self::Bucket { place, server } => {
                let server = server.as_deref().unwrap_or_default();
                match place {
                    None if server.is_empty() => f.write_str("s3"),
                    None => write!(f, "s3/{server}"),
                    Some((bucket, path)) if path.is_empty() => write!(f, "s3://{bucket}/{server}"),
                    Some((bucket, path)) => write!(f, "s3://{bucket}/{path}/{server}"),
                }
            }
            Self::Host { host, port, server } if host.contains(':') => {
                write!(f, "ssh://[{host}]:{port}/{server}")
            }
            Self::Host { host, port, server } => write!(f, "ssh://{host}:{port}/{server}"),
        }
    }
}

impl fmt::Display for TargetTimeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Current => f.write_str("current"),
            Self::Number(timeline) => timeline.fmt(f),
        }
    }
}

impl fmt::Display for TargetAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Promote => "promote",
            Self::Pause => "pause",
            Self::Shutdown => "shutdown",
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::End => f.write_str("the end of the archive"),
            Self::Immediate => f.write_str("the end of the backup"),
            Self::Time(time) => write!(f, "time {}", time.format("%F %T%.f+00")),
            Self::Lsn(lsn) => write!(f, "position {lsn}"),
            Self::Xid(xid) => write!(f, "transaction {xid}"),
            Self::Name(name) => write!(f, "restore point {name:?}"),
        }
    }
}
