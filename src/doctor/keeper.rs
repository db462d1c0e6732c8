//! barman's own commands, as few as can be: each costs a Python start.

use super::Doctor;
use crate::barman::{Backup, BarmanError, Client, Server};
use crate::sys::{ChildError, Finished, Spec};
use serde_json::Value;
use std::ffi::OsString;
use std::time::Duration;

/// A Python start, longer on a busy machine.
const SHORT: Duration = Duration::from_secs(120);

impl Doctor {
    async fn barman(&self, args: &[&str], limit: Duration) -> Result<Finished, ChildError> {
        let conf = self.config.paths.run_dir.join("barman.conf");
        let mut words: Vec<OsString> = vec!["-c".into(), conf.into()];
        words.extend(args.iter().map(OsString::from));
        let spec = Spec::new("barman", words)
            .env(self.config.environment.base.clone())
            .env([("HOME", self.account.home.as_os_str())])
            .account(Some(self.account.clone()));
        self.children.run(spec, limit).await
    }

    /// A command that reports as JSON; its exit code says less than its answer.
    pub(super) async fn barman_json(&self, args: &[&str]) -> Result<Value, String> {
        let words: Vec<&str> = ["-f", "json"].iter().chain(args).copied().collect();
        let end = self
            .barman(&words, SHORT)
            .await
            .map_err(|e| e.to_string())?;
        match serde_json::from_str(&end.stdout) {
            Ok(value) => Ok(value),
            Err(_) => Err(format!("{}: {}", end.exit, end.last_words())),
        }
    }

    /// barman's commands for one server.
    pub(super) fn client(&self, server: &str) -> Client {
        Client {
            children: self.children.clone(),
            config: self.config.clone(),
            account: self.account.clone(),
            server: server.to_owned(),
        }
    }
}

/// The catalogue, off the loop.
pub(super) async fn backups(server: &Server) -> Result<Vec<Backup>, BarmanError> {
    let (server, dir) = (server.clone(), server.dir.clone());
    match tokio::task::spawn_blocking(move || server.backups()).await {
        Ok(read) => read,
        Err(ended) => Err(BarmanError::Catalogue {
            path: dir,
            source: std::io::Error::other(ended),
        }),
    }
}
