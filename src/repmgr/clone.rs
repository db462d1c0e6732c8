//! The clone of a primary, and what is checked before it.

use super::RepmgrError;
use super::commands::{conf, spec, succeeded};
use crate::config::{Address, Config};
use crate::domain::{SystemId, human_bytes};
use crate::pg::Session;
use crate::sys::{Account, Children};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A clone may take days; it ends by itself when the connection does.
const LIMIT: Duration = Duration::from_secs(7 * 24 * 3600);

/// What the source says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceFacts {
    /// Its cluster.
    pub system_id: SystemId,
    /// Bytes to copy, about.
    pub bytes: u64,
}

/// Whether `address` is a primary that we can clone: reachable, our password, our major version
/// and, when this node has belonged to a cluster before, that `cluster`.
///
/// # Errors
/// [`RepmgrError`], each with its class.
pub async fn preflight(
    config: &Config,
    address: &Address,
    ours: u32,
    cluster: Option<SystemId>,
) -> Result<SourceFacts, RepmgrError> {
    let session = Session::remote(address, "repmgr", &config.repmgr.password, "repmgr")
        .await
        .map_err(|e| RepmgrError::connecting(address, "repmgr", "REPMGR_PASSWORD", e))?;
    let row = session
        .one(
            "asking the primary",
            "SELECT pg_is_in_recovery(), current_setting('server_version_num')::int4, \
             (SELECT system_identifier::text FROM pg_control_system()), \
             (SELECT sum(pg_database_size(oid))::int8 FROM pg_database)",
            &[],
        )
        .await?;
    if row.get(0) {
        return Err(RepmgrError::NotPrimary {
            address: address.clone(),
        });
    }
    let version: i32 = row.get(1);
    let theirs = version.unsigned_abs() / 10_000;
    if theirs != ours {
        return Err(RepmgrError::OtherMajor {
            address: address.clone(),
            theirs,
            ours,
        });
    }
    let id: &str = row.get(2);
    let system_id = SystemId(id.parse().unwrap_or(0));
    if let Some(ours) = cluster.filter(|ours| *ours != system_id) {
        return Err(RepmgrError::OtherCluster {
            address: address.clone(),
            theirs: system_id,
            ours,
        });
    }
    let bytes: i64 = row.get(3);
    Ok(SourceFacts {
        system_id,
        bytes: u64::try_from(bytes).unwrap_or(0),
    })
}

/// Clones into `staging` with `repmgr standby clone`; `progress` hears per cent and rate.
///
/// # Errors
/// [`RepmgrError`]; what is in `staging` then is worthless.
pub async fn clone(
    children: &Children,
    account: &Account,
    config: &Config,
    staging: &Path,
    upstream: &Address,
    mut progress: impl FnMut(String),
) -> Result<(), RepmgrError> {
    let conf = clone_conf(config, account, staging)?;
    let mut words: Vec<OsString> = vec!["-f".into(), conf.into()];
    words.extend(["-h", &upstream.host, "-p"].map(OsString::from));
    words.push(upstream.port.to_string().into());
    words.extend(["-U", "repmgr", "-d", "repmgr", "standby", "clone", "-c"].map(OsString::from));
    let began = Instant::now();
    let mut shown = Instant::now();
    let end = children
        .run_with_lines(spec(config, account, "repmgr", words), LIMIT, |line| {
            if let Some((done, total)) = progress_line(line) {
                // Twice a second is enough for the status; the log hears every few seconds.
                if shown.elapsed() > Duration::from_millis(500) || done >= total {
                    shown = Instant::now();
                    progress(in_words(done, total, began.elapsed()));
                }
            } else {
                tracing::debug!(source = "repmgr", "{line}");
            }
        })
        .await?;
    succeeded("standby clone", &end)
}

/// repmgr clones into the `data_directory` of its configuration, so it gets one of its own.
fn clone_conf(config: &Config, account: &Account, staging: &Path) -> Result<PathBuf, RepmgrError> {
    let (from, to) = (conf(config), config.paths.run_dir.join("repmgr.clone.conf"));
    let text = std::fs::read_to_string(&from).map_err(|source| RepmgrError::File {
        path: from.clone(),
        source,
    })?;
    let staging = staging.to_string_lossy().replace('\'', "''");
    let lines = text.lines().map(|line| {
        let ours = line.trim_start().starts_with("data_directory");
        if ours {
            format!("data_directory = '{staging}'\n")
        } else {
            format!("{line}\n")
        }
    });
    // The last of two settings counts. The tree is synced as a whole when it is put in its place.
    let text = lines
        .chain(["pg_basebackup_options = '--progress --no-sync'\n".to_owned()])
        .collect::<String>();
    let owner = account.must_switch().then_some((account.uid, account.gid));
    crate::sys::write_volatile(&to, text.as_bytes(), 0o640, owner).map_err(|source| {
        RepmgrError::File {
            path: to.clone(),
            source,
        }
    })?;
    Ok(to)
}

/// `  30212/30212 kB (100%), 1/1 tablespace` (pg_basebackup --progress): done and total bytes.
fn progress_line(line: &str) -> Option<(u64, u64)> {
    let (amounts, _) = line.trim_start().split_once(" kB (")?;
    let (done, total) = amounts.split_once('/')?;
    Some((
        done.trim().parse::<u64>().ok()? * 1024,
        total.trim().parse::<u64>().ok()? * 1024,
    ))
}

fn in_words(done: u64, total: u64, elapsed: Duration) -> String {
    let percent = done.saturating_mul(100).checked_div(total).unwrap_or(0);
    let millis = u64::try_from(elapsed.as_millis())
        .unwrap_or(u64::MAX)
        .max(1);
    let rate = done.saturating_mul(1000) / millis;
    let left = total.saturating_sub(done).checked_div(rate).unwrap_or(0);
    format!(
        "{percent} % of {}, {}.{} MB/s, about {} left",
        human_bytes(total),
        rate / 1_000_000,
        rate / 100_000 % 10,
        crate::domain::human_duration(Duration::from_secs(left))
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_and_shown() {
        let line = "  15106/30212 kB (50%), 0/1 tablespace (...base/1/1259)";
        assert_eq!(progress_line(line), Some((15106 * 1024, 30212 * 1024)));
        assert_eq!(progress_line("NOTICE: starting backup"), None);
        let words = in_words(15106 * 1024, 30212 * 1024, Duration::from_secs(1));
        assert_eq!(words, "50 % of 29.5 MiB, 15.4 MB/s, about 1.0 s left");
        assert_eq!(
            in_words(0, 0, Duration::ZERO),
            "0 % of 0 B, 0.0 MB/s, about 0 ms left"
        );
    }
}
