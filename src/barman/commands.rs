//! The commands. Exit codes are 0 or not; what is wrong is in the last words and in barman's log.

use crate::config::Config;
use crate::domain::Fault;
use crate::sys::{Account, ChildError, Children, Spec};
use std::time::Duration;

/// barman is a Python program: half a second to start, longer on a busy machine.
const SHORT: Duration = Duration::from_secs(120);
/// A backup takes what it takes.
const LONG: Duration = Duration::from_secs(7 * 24 * 3600);

/// Failures of this room.
#[derive(Debug, thiserror::Error)]
pub enum BarmanError {
    /// It could not be run.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// It ended badly.
    #[error("`barman {command}` ended with {exit}: {last_words}")]
    Command {
        /// Which.
        command: &'static str,
        /// How.
        exit: String,
        /// What it said last.
        last_words: String,
    },
    /// Its catalogue cannot be read.
    #[error("the catalogue at {path} cannot be read")]
    Catalogue {
        /// Where.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl BarmanError {
    /// Backups never stop the node: everything is tried again.
    #[must_use]
    pub fn fault(&self) -> Fault {
        Fault::Transient(Fault::chain(self))
    }
}

async fn run(
    children: &Children,
    config: &Config,
    account: &Account,
    command: &'static str,
    args: &[&str],
    limit: Duration,
) -> Result<(), BarmanError> {
    let conf = config.paths.run_dir.join("barman.conf");
    let mut words: Vec<std::ffi::OsString> = vec!["-c".into(), conf.into(), command.into()];
    words.extend(args.iter().map(std::ffi::OsString::from));
    let spec = Spec::new("barman", words)
        .env(config.environment.base.clone())
        .env([("HOME", account.home.as_os_str())])
        .account(Some(account.clone()));
    let end = children.run(spec, limit).await?;
    for line in end.stdout.lines().filter(|l| !l.trim().is_empty()) {
        tracing::debug!(source = "barman", "{line}");
    }
    if end.exit.is_success() {
        return Ok(());
    }
    Err(BarmanError::Command {
        command,
        exit: end.exit.to_string(),
        last_words: end.last_words(),
    })
}

/// `barman cron`: makes the slot, starts receive-wal, archives, in processes that become ours.
///
/// # Errors
/// [`BarmanError`].
pub async fn cron(c: &Children, config: &Config, account: &Account) -> Result<(), BarmanError> {
    run(c, config, account, "cron", &[], SHORT).await
}

/// `barman archive-wal`: from streaming/ into the archive.
///
/// # Errors
/// [`BarmanError`].
pub async fn archive_wal(
    c: &Children,
    config: &Config,
    account: &Account,
) -> Result<(), BarmanError> {
    run(
        c,
        config,
        account,
        "archive-wal",
        &[&config.identity.name.0],
        SHORT,
    )
    .await
}

/// `barman backup`, without `--wait`: on an idle server that would wait for ever
/// (`docs/facts-trixie.md` §5).
///
/// # Errors
/// [`BarmanError`].
pub async fn backup(c: &Children, config: &Config, account: &Account) -> Result<(), BarmanError> {
    run(
        c,
        config,
        account,
        "backup",
        &[&config.identity.name.0],
        LONG,
    )
    .await
}

/// `barman check-backup`: from `WAITING_FOR_WALS` to `DONE` when its WAL has arrived.
///
/// # Errors
/// [`BarmanError`].
pub async fn check_backup(
    c: &Children,
    config: &Config,
    account: &Account,
    id: &str,
) -> Result<(), BarmanError> {
    run(
        c,
        config,
        account,
        "check-backup",
        &[&config.identity.name.0, id],
        SHORT,
    )
    .await
}
