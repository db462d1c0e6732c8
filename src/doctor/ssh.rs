//! Step 1: logins over ssh. The keys are the only thing that may let us in: no prompt, no agent.

use super::judge;
use super::{Doctor, Finding};
use crate::barman::ssh::Files;
use crate::config::{Address, Method};
use crate::sys::{Account, Spec};
use std::ffi::OsString;
use std::time::Duration;

/// Host, handshake and login.
const LIMIT: Duration = Duration::from_secs(5);

impl Doctor {
    /// From barman to every node, or from this node to its barman host; the other way is tried by a doctor
    /// on the other side.
    pub(super) async fn ssh(&self, hosts: &[Address]) -> Vec<Finding> {
        if self.config.barman.method == Method::Streaming {
            let why = "not needed: BARMAN_METHOD is streaming";
            return vec![Finding::skip(1, "ssh", why)];
        }
        let port = self.config.ssh.port;
        let (out, targets) = if self.config.kind.keeps_backups() {
            (true, hosts.iter().map(|a| a.host.clone()).collect())
        } else {
            let host = self.config.barman.host.iter().cloned();
            (false, host.collect::<Vec<String>>())
        };
        let account = if out { &self.account } else { &self.postgres };
        let mut found = Vec::new();
        for host in targets {
            let ended = self.ssh_to(account, &host).await;
            found.push(judge::ssh(
                out,
                &host,
                port,
                match &ended {
                    Ok(()) => Ok(()),
                    Err(why) => Err(why.as_str()),
                },
            ));
        }
        let other = if out {
            "ssh to barman"
        } else {
            "ssh to the nodes"
        };
        let why = "seen from the other side: run `pgnode doctor` there too";
        found.push(Finding::skip(1, other, why));
        found
    }

    /// With the keys, the known hosts and the ports that barman and the archiver use.
    async fn ssh_to(&self, account: &Account, host: &str) -> Result<(), String> {
        let config = Files::of(&self.config).ssh_config();
        let words: [OsString; 4] = ["-F".into(), config.into(), host.into(), "true".into()];
        let spec = Spec::new("ssh", words)
            .env(self.config.environment.base.clone())
            .env([("HOME", account.home.as_os_str())])
            .account(Some(account.clone()));
        let end = self
            .children
            .run(spec, LIMIT)
            .await
            .map_err(|e| crate::domain::Fault::chain(&e))?;
        match end.exit.is_success() {
            true => Ok(()),
            false => Err(format!("{}: {}", end.exit, end.last_words())),
        }
    }
}
