//! barman's commands for one server, whoever asks: a data node for its own, a barman host for each of
//! its clusters. Exit codes are 0 or not; what is wrong is in the last words and in barman's log.

use super::{BarmanError, Keep};
use crate::config::Config;
use crate::sys::{Account, Children, Finished, Spec};
use std::sync::Arc;
use std::time::Duration;

/// barman is a Python program: half a second to start, longer on a busy machine.
const SHORT: Duration = Duration::from_secs(120);
/// A backup takes what it takes.
pub(super) const LONG: Duration = Duration::from_secs(7 * 24 * 3600);

/// Who runs barman, and for which server.
#[derive(Clone, Debug)]
pub struct Client {
    /// The table of children.
    pub children: Children,
    /// Where things are.
    pub config: Arc<Config>,
    /// barman's account.
    pub account: Account,
    /// barman's name of the server.
    pub server: String,
}

/// A line of `barman check`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckLine {
    /// Its name: `replication slot`.
    pub name: String,
    /// Whether it is OK.
    pub ok: bool,
    /// What barman adds.
    pub hint: String,
}

impl Client {
    fn spec<'a>(&self, words: impl IntoIterator<Item = &'a str>) -> Spec {
        let conf = self.config.paths.run_dir.join("barman.conf");
        let mut all: Vec<std::ffi::OsString> = vec!["-c".into(), conf.into()];
        all.extend(words.into_iter().map(Into::into));
        self.program("barman", all)
    }

    /// A program run as barman, with the node's environment and barman's home.
    pub(super) fn program<A: Into<std::ffi::OsString>>(
        &self,
        program: &str,
        args: impl IntoIterator<Item = A>,
    ) -> Spec {
        Spec::new(program, args)
            .env(self.config.environment.base.clone())
            .env([("HOME", self.account.home.as_os_str())])
            .account(Some(self.account.clone()))
    }

    async fn run(
        &self,
        command: &'static str,
        args: &[&str],
        limit: Duration,
    ) -> Result<Finished, BarmanError> {
        let words = std::iter::once(command).chain(args.iter().copied());
        let end = self.children.run(self.spec(words), limit).await?;
        for line in end.stdout.lines().filter(|l| !l.trim().is_empty()) {
            tracing::debug!(source = "barman", server = self.server, "{line}");
        }
        if end.exit.is_success() {
            return Ok(end);
        }
        Err(failed(command, &end))
    }

    /// `barman cron`, for all servers: makes slots, starts receive-wal, archives, in processes that
    /// become ours.
    ///
    /// # Errors
    /// [`BarmanError`].
    pub async fn cron(&self) -> Result<(), BarmanError> {
        self.run("cron", &[], SHORT).await.map(drop)
    }

    /// `barman archive-wal`: from streaming/ into the archive. After an absence there may be much.
    ///
    /// # Errors
    /// [`BarmanError`].
    pub async fn archive_wal(&self) -> Result<(), BarmanError> {
        self.run("archive-wal", &[&self.server], LONG)
            .await
            .map(drop)
    }

    /// `barman backup`, without `--wait`: on an idle server that would wait for ever
    /// (`docs/facts-trixie.md` §5). With a parent it is incremental (barman 3.11 and later).
    ///
    /// # Errors
    /// [`BarmanError`].
    pub async fn backup(&self, parent: Option<&str>) -> Result<(), BarmanError> {
        let mut args = vec![self.server.as_str()];
        args.extend(parent.iter().flat_map(|id| ["--incremental", id]));
        self.run("backup", &args, LONG).await.map(drop)
    }

    /// `barman check-backup`: from `WAITING_FOR_WALS` to `DONE` when its WAL has arrived.
    ///
    /// # Errors
    /// [`BarmanError`].
    pub async fn check_backup(&self, id: &str) -> Result<(), BarmanError> {
        self.run("check-backup", &[&self.server, id], SHORT)
            .await
            .map(drop)
    }

    /// `barman delete`: a backup, all that rest on it, and WAL that no other needs.
    ///
    /// # Errors
    /// [`BarmanError`].
    pub async fn delete(&self, id: &str) -> Result<(), BarmanError> {
        self.run("delete", &[&self.server, id], LONG)
            .await
            .map(drop)
    }

    /// `barman keep`: retention passes it over; `None` takes that back.
    ///
    /// # Errors
    /// [`BarmanError`].
    pub async fn keep(&self, id: &str, keep: Option<Keep>) -> Result<(), BarmanError> {
        let order: &[&str] = match keep {
            Some(Keep::Standalone) => &["--target", "standalone"],
            Some(Keep::Full) => &["--target", "full"],
            None => &["--release"],
        };
        let args = [order, &[&self.server, id]].concat();
        self.run("keep", &args, SHORT).await.map(drop)
    }

    /// barman's version, major and minor.
    ///
    /// # Errors
    /// [`BarmanError`].
    pub async fn version(&self) -> Result<(u32, u32), BarmanError> {
        let end = self.run("--version", &[], SHORT).await?;
        version(&end.stdout).ok_or(BarmanError::Command {
            command: "--version",
            exit: "a text that names no version".into(),
            last_words: end.stdout,
        })
    }

    /// `barman receive-wal --drop-slot`.
    ///
    /// # Errors
    /// [`BarmanError`].
    pub async fn drop_slot(&self) -> Result<(), BarmanError> {
        self.run("receive-wal", &["--drop-slot", &self.server], SHORT)
            .await
            .map(drop)
    }

    /// `barman receive-wal --stop`: ends a receiver that barman's cron started.
    ///
    /// # Errors
    /// [`BarmanError`], also when there was none.
    pub async fn stop_receiver(&self) -> Result<(), BarmanError> {
        self.run("receive-wal", &["--stop", &self.server], SHORT)
            .await
            .map(drop)
    }

    /// `barman receive-wal` in the foreground: makes the slot where it is missing, and holds barman's
    /// lock, so that its cron leaves it alone.
    #[must_use]
    pub fn receive_wal(&self) -> Spec {
        self.spec(["receive-wal", &self.server])
    }

    /// `barman check`: all lines, also when some fail.
    ///
    /// # Errors
    /// [`BarmanError`]; it said nothing that is understood.
    pub async fn check(&self) -> Result<Vec<CheckLine>, BarmanError> {
        let spec = self.spec(["-f", "json", "check", &self.server]);
        let end = self.children.run(spec, SHORT).await?;
        check_lines(&end.stdout, &self.server).ok_or_else(|| failed("check", &end))
    }
}

fn failed(command: &'static str, end: &Finished) -> BarmanError {
    BarmanError::Command {
        command,
        exit: end.exit.to_string(),
        last_words: end.last_words(),
    }
}

/// `3.13.3 Barman by EnterpriseDB (www.enterprisedb.com)`.
fn version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.split_whitespace().next()?.split('.');
    let mut next = || numbers.next().and_then(|n| n.parse().ok());
    Some((next()?, next()?))
}

/// `{"main": {"wal_archive": {"hint": "…", "status": "FAILED"}, …}}`.
fn check_lines(text: &str, server: &str) -> Option<Vec<CheckLine>> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let lines = value.get(server)?.as_object()?.iter();
    let lines = lines.filter_map(|(name, line)| {
        let word = |key: &str| line.get(key).and_then(|v| v.as_str());
        Some(CheckLine {
            name: name.replace('_', " "),
            ok: word("status")? == "OK",
            hint: word("hint").unwrap_or_default().to_owned(),
        })
    });
    Some(lines.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn barmans_version_is_the_first_word() {
        let text = "3.13.3 Barman by EnterpriseDB (www.enterprisedb.com)\n";
        assert_eq!(version(text), Some((3, 13)));
        assert_eq!(version("barman"), None);
    }

    #[test]
    fn a_check_is_read_as_barman_writes_it() {
        let text = r#"{"main": {"wal_archive": {"hint": "please make sure", "status": "FAILED"},
            "postgresql": {"hint": "", "status": "OK"}, "directories": {"status": "OK"}}}"#;
        let lines = check_lines(text, "main").unwrap();
        let bad: Vec<_> = lines.iter().filter(|l| !l.ok).collect();
        assert_eq!(lines.len(), 3);
        assert_eq!(bad[0].name, "wal archive");
        assert_eq!(bad[0].hint, "please make sure");
        assert_eq!(check_lines(text, "other"), None);
        assert_eq!(check_lines("", "main"), None);
    }
}
