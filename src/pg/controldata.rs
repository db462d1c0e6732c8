//! `pg_controldata`: the state of a cluster without starting it. The tool is asked rather than the
//! file read, because the file's layout changes between major versions.

use super::PgError;
use crate::config::Config;
use crate::domain::{Lsn, SystemId, Timeline};
use crate::sys::{Account, Children, Finished, Spec};
use std::path::Path;
use std::time::Duration;

/// "Database cluster state" (PostgreSQL source, `dbState` in `pg_controldata.c`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    /// `starting up`.
    StartingUp,
    /// `shut down`.
    ShutDown,
    /// `shut down in recovery`.
    ShutDownInRecovery,
    /// `shutting down`.
    ShuttingDown,
    /// `in crash recovery`.
    InCrashRecovery,
    /// `in archive recovery`: a standby, or a restore.
    InArchiveRecovery,
    /// `in production`.
    InProduction,
}

impl ClusterState {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "starting up" => Self::StartingUp,
            "shut down" => Self::ShutDown,
            "shut down in recovery" => Self::ShutDownInRecovery,
            "shutting down" => Self::ShuttingDown,
            "in crash recovery" => Self::InCrashRecovery,
            "in archive recovery" => Self::InArchiveRecovery,
            "in production" => Self::InProduction,
            _ => return None,
        })
    }

    /// Whether it was shut down in order.
    #[must_use]
    pub const fn is_clean(self) -> bool {
        matches!(self, Self::ShutDown | Self::ShutDownInRecovery)
    }

    /// Whether it was last a standby, or a restore: `StartupXLOG` in `xlog.c` writes another state when a promotion is
    /// complete, and has removed the signal file long before.
    #[must_use]
    pub const fn is_archive_recovery(self) -> bool {
        matches!(self, Self::InArchiveRecovery | Self::ShutDownInRecovery)
    }
}

/// What of `pg_controldata` matters to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlData {
    /// Identity of the cluster.
    pub system_id: SystemId,
    /// State.
    pub state: ClusterState,
    /// Timeline of the latest checkpoint, or of the end of recovery where that is later: a promotion
    /// is known there before its first checkpoint.
    pub timeline: Timeline,
    /// Latest checkpoint's location.
    pub checkpoint: Lsn,
    /// How far a standby has replayed at least; 0/0 on a primary.
    pub min_recovery: Lsn,
    /// Whether data checksums are on.
    pub checksums: bool,
    /// `wal_log_hints` when it was last running.
    pub hints: bool,
    /// Bytes of a WAL segment.
    pub segment_size: u64,
}

impl ControlData {
    /// How far the WAL on disk is known to go.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.checkpoint.max(self.min_recovery)
    }

    fn parse(text: &str) -> Result<Self, String> {
        let field = |name: &str| {
            text.lines()
                .filter_map(|line| line.split_once(':'))
                .find(|(key, _)| key.trim() == name)
                .map(|(_, value)| value.trim())
                .ok_or_else(|| format!("`{name}` is missing"))
        };
        let bad = |name: &str, value: &str| format!("`{name}: {value}`");
        let lsn = |name: &str| field(name)?.parse::<Lsn>().map_err(|e| e.to_string());
        let number = |name: &str| {
            let value = field(name)?;
            value.parse::<u64>().map_err(|_| bad(name, value))
        };
        let state = field("Database cluster state")?;
        let timeline = number("Latest checkpoint's TimeLineID")?
            .max(number("Min recovery ending loc's timeline")?);
        Ok(Self {
            system_id: SystemId(number("Database system identifier")?),
            state: ClusterState::parse(state)
                .ok_or_else(|| bad("Database cluster state", state))?,
            timeline: Timeline(
                u32::try_from(timeline).map_err(|_| bad("TimeLineID", &timeline.to_string()))?,
            ),
            checkpoint: lsn("Latest checkpoint location")?,
            min_recovery: lsn("Minimum recovery ending location")?,
            checksums: number("Data page checksum version")? != 0,
            hints: field("wal_log_hints setting")? == "on",
            segment_size: number("Bytes per WAL segment")?,
        })
    }
}

/// Reads the control data of a directory.
///
/// # Errors
/// [`PgError::Program`] when there is no readable `pg_control`.
pub async fn control_data(
    children: &Children,
    config: &Config,
    account: &Account,
    dir: &Path,
) -> Result<ControlData, PgError> {
    let end = said(children, config, account, dir).await?;
    // A wrong checksum is only a warning there, exit code 0, and "the results are untrustworthy".
    if !end.stderr.trim().is_empty() {
        return Err(PgError::Garbled {
            what: format!("pg_control of {}", dir.display()),
            detail: end.last_words(),
        });
    }
    ControlData::parse(&end.stdout).map_err(|detail| PgError::Garbled {
        what: format!("pg_controldata of {}", dir.display()),
        detail,
    })
}

/// What `pg_controldata` says of a directory.
pub(super) async fn said(
    children: &Children,
    config: &Config,
    account: &Account,
    dir: &Path,
) -> Result<Finished, PgError> {
    let spec = Spec::new("pg_controldata", ["-D".as_ref(), dir.as_os_str()])
        .env(config.environment.base.clone())
        .env([("LC_ALL", "C")])
        .account(Some(account.clone()));
    let end = children.run(spec, Duration::from_secs(30)).await?;
    if !end.exit.is_success() {
        return Err(PgError::Program {
            program: "pg_controldata",
            exit: end.exit.to_string(),
            last_words: end.last_words(),
        });
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEEN: &str = "\
pg_control version number:            1700
Catalog version number:               202406281
Database system identifier:           7575046213424578592
Database cluster state:               shut down in recovery
pg_control last modified:             Sat Nov 21 08:00:00 2026
Latest checkpoint location:           0/3000080
Latest checkpoint's REDO location:    0/3000028
Latest checkpoint's TimeLineID:       2
Latest checkpoint's PrevTimeLineID:   2
Minimum recovery ending location:     0/4000110
Min recovery ending loc's timeline:   3
wal_log_hints setting:                off
Bytes per WAL segment:                16777216
Data page checksum version:           1
";

    #[test]
    fn the_fields_are_read() {
        let control = ControlData::parse(SEEN).unwrap();
        assert_eq!(control.system_id, SystemId(7_575_046_213_424_578_592));
        assert_eq!(control.state, ClusterState::ShutDownInRecovery);
        assert!(control.state.is_clean());
        assert_eq!(control.timeline, Timeline(3));
        assert_eq!(control.lsn(), Lsn(0x0400_0110));
        assert!(control.checksums && !control.hints);
        assert_eq!(control.segment_size, 16 << 20);
    }

    #[test]
    fn anything_else_is_an_error_and_no_guess() {
        assert!(ControlData::parse("").is_err());
        for (from, to) in [
            ("shut down in recovery", "asleep"),
            ("0/3000080", "zero"),
            ("7575046213424578592", "-1"),
            ("TimeLineID:       2", "TimeLineID:       99999999999"),
        ] {
            assert!(ControlData::parse(&SEEN.replace(from, to)).is_err(), "{to}");
        }
    }
}
