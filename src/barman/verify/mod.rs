//! Whether a backup would restore, as far as can be seen without restoring it: its files, its WAL, and
//! the way from it to the end of the archive.

mod files;
mod segment;
mod wal;

use super::{Archive, Backup, BarmanError, Client, Server};
use serde::Serialize;
use std::collections::BTreeMap;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Outcome {
    /// Looked at, and right.
    Pass,
    /// Looked at, and wrong: it does not restore, or not as far as it should.
    Fail,
    /// Could not be looked at.
    Skip,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
            Self::Skip => "SKIP",
        })
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Which: `complete`, `files`, `wal`, `continuity`.
    pub check: &'static str,
    /// How it ended.
    pub outcome: Outcome,
    /// What was looked at and what was found, in a sentence.
    pub what: String,
}

impl Check {
    fn new(check: &'static str, outcome: Outcome, what: impl Into<String>) -> Self {
        Self {
            check,
            outcome,
            what: what.into(),
        }
    }

    fn pass(check: &'static str, what: impl Into<String>) -> Self {
        Self::new(check, Outcome::Pass, what)
    }

    fn fail(check: &'static str, what: impl Into<String>) -> Self {
        Self::new(check, Outcome::Fail, what)
    }

    fn skip(check: &'static str, what: impl Into<String>) -> Self {
        Self::new(check, Outcome::Skip, what)
    }
}

/// Looks at several backups: at what they share only once.
#[derive(Debug)]
pub struct Verifier<'a> {
    client: &'a Client,
    server: &'a Server,
    archive: &'a Archive,
    /// What was found in the files of each.
    seen: BTreeMap<String, Check>,
}

impl<'a> Verifier<'a> {
    /// Nothing is looked at yet. `archive` is what [`Server::archive`] lists.
    #[must_use]
    pub const fn new(client: &'a Client, server: &'a Server, archive: &'a Archive) -> Self {
        Self {
            client,
            server,
            archive,
            seen: BTreeMap::new(),
        }
    }

    /// Looks at one backup, and at those that it rests on. A few kilobytes of memory, whatever the sizes.
    ///
    /// # Errors
    /// [`BarmanError`] when the catalogue cannot be read; what is wrong with a backup is a [`Check`].
    pub async fn look(&mut self, backup: &Backup) -> Result<Vec<Check>, BarmanError> {
        let mut checks = vec![complete(backup)];
        if !backup.is_copied() {
            return Ok(checks);
        }
        match self.server.chain(&backup.id) {
            Ok(chain) => {
                for member in &chain {
                    checks.push(self.files(member).await);
                }
            }
            Err(BarmanError::Catalogue { path, source }) => {
                return Err(BarmanError::Catalogue { path, source });
            }
            Err(other) => checks.push(Check::fail("files", other.to_string())),
        }
        let (server, backup, archive) = (self.server.clone(), backup.clone(), self.archive.clone());
        let walk = move || {
            [
                wal::needed(&server, &backup),
                wal::continuity(&server, &backup, &archive),
            ]
        };
        match tokio::task::spawn_blocking(walk).await {
            Ok(found) => checks.extend(found),
            Err(error) => checks.push(Check::fail("wal", error.to_string())),
        }
        Ok(checks)
    }

    async fn files(&mut self, backup: &Backup) -> Check {
        if let Some(check) = self.seen.get(&backup.id) {
            return check.clone();
        }
        let check = files::look(self.client, backup).await;
        self.seen.insert(backup.id.clone(), check.clone());
        check
    }
}

fn complete(backup: &Backup) -> Check {
    let why = backup.error.as_deref().map(|e| format!(": {e}"));
    let what = format!("status {}{}", backup.status, why.unwrap_or_default());
    match backup.is_done() && backup.garbled.is_empty() {
        true => Check::pass("complete", what),
        false if backup.garbled.is_empty() => Check::fail("complete", what),
        false => {
            let garbled = backup.garbled.join("; ");
            Check::fail("complete", format!("metadata not understood: {garbled}"))
        }
    }
}

#[cfg(test)]
mod tests;
