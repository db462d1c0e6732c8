//! Which clusters can be examined from here.

use super::Doctor;
use crate::barman::Server;
use crate::config::{Address, BarmanMode};
use crate::domain::MemberView;
use crate::pg::{self, Session};

/// A cluster to examine.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    pub(super) name: String,
    pub(super) hosts: Vec<Address>,
    /// barman's directory of it, where that is here.
    pub(super) server: Option<Server>,
    /// There is no barman: the bucket is all.
    pub(super) cloud: bool,
}

/// No such cluster.
#[derive(Debug, thiserror::Error)]
pub enum UnknownServer {
    /// The name is wrong.
    #[error("there is no server `{wanted}` here; there is {known}")]
    Name {
        /// What was asked for.
        wanted: String,
        /// What there is.
        known: String,
    },
    /// Nobody takes backups here.
    #[error("there is nothing to examine: {0}")]
    Nothing(&'static str),
}

impl Doctor {
    /// Owner of what is barman's; `None` where we cannot give files away.
    pub(super) fn owner(&self) -> Option<(u32, u32)> {
        let account = &self.account;
        account.must_switch().then_some((account.uid, account.gid))
    }

    /// The clusters that can be examined from here.
    pub(super) fn clusters(&self, wanted: Option<&str>) -> Result<Vec<Cluster>, UnknownServer> {
        let config = &self.config;
        let all = if config.kind.keeps_backups() {
            let one = |s: &crate::config::BarmanServer| Cluster {
                name: s.name.clone(),
                hosts: s.hosts.clone(),
                server: Some(Server::at(config.paths.barman_backup_dir.join(&s.name))),
                cloud: false,
            };
            config.barman.servers.iter().map(one).collect()
        } else {
            vec![self.own()?]
        };
        let Some(wanted) = wanted else { return Ok(all) };
        let known: Vec<&str> = all.iter().map(|c| c.name.as_str()).collect();
        let known = known.join(", ");
        let found = all.into_iter().find(|c| c.name == wanted);
        let wanted = wanted.to_owned();
        found
            .map(|c| vec![c])
            .ok_or(UnknownServer::Name { wanted, known })
    }

    /// A partner may be a witness, where barman has no business. Without an answer all of them are tried.
    pub(super) async fn leave_out_witnesses(&self, hosts: &mut Vec<Address>) {
        let asked = async {
            let session = Session::local(&self.config, self.config.postgres.port, "repmgr").await?;
            pg::members(&session, true).await
        };
        let members = match asked.await {
            Ok(members) => members,
            Err(error) => {
                tracing::debug!("{}", crate::domain::Fault::chain(&error));
                return;
            }
        };
        let is_witness = |a: &Address| {
            let same = |m: &MemberView| m.port == a.port && m.host.eq_ignore_ascii_case(&a.host);
            members.iter().any(|m| m.kind == "witness" && same(m))
        };
        hosts.retain(|address| !is_witness(address));
    }

    /// The cluster of a data node: barman comes in by the loopback where it is in this container.
    fn own(&self) -> Result<Cluster, UnknownServer> {
        let config = &self.config;
        let name = config.barman.server_name.clone();
        let here = |host: &str| Address {
            host: host.to_owned(),
            port: config.postgres.port,
        };
        if config.kind.is_witness() {
            return Err(UnknownServer::Nothing(
                "a witness has no data (PGNODE_ROLE=witness)",
            ));
        }
        match config.barman.mode {
            BarmanMode::Local => Ok(Cluster {
                server: Some(Server::at(config.paths.barman_backup_dir.join(&name))),
                name,
                hosts: vec![here("127.0.0.1")],
                cloud: false,
            }),
            BarmanMode::Remote => {
                let mut hosts = vec![here("127.0.0.1")];
                hosts.extend(config.peers.partners.iter().cloned());
                Ok(Cluster {
                    name,
                    hosts,
                    server: None,
                    cloud: false,
                })
            }
            BarmanMode::Cloud => Ok(Cluster {
                name: config.barman.cloud_name.clone(),
                hosts: Vec::new(),
                server: None,
                cloud: true,
            }),
            BarmanMode::Off => Err(UnknownServer::Nothing("BARMAN_MODE=off")),
        }
    }
}
