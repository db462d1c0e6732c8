//! ssh between the nodes and their barman host: keys without a person, and as little as possible
//! behind each of them.
//!
//! Every member leaves a [`Card`] with its public keys in a directory that all share
//! (`PGNODE_SSH_KEYS`), and trusts the cards that it finds there: whoever may write to that directory
//! is trusted, and nobody else. A trusted key opens no shell but one command of this program, which
//! looks at what was asked ([`Request`]): a barman host gives out backups and WAL and takes WAL in, a
//! data node lets barman's rsync read. sshd runs under the account that it lets in, without rights to
//! anything else, and without passwords.

mod card;
mod gate;
mod shelf;

pub use card::{Card, CardFault, Kind, Trust};
pub use gate::{Refused, Request};
pub use shelf::{Kept, Shelf, ShelfError};

use crate::config::Config;
use std::path::{Path, PathBuf};

/// Files of this room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// Private keys, readable by the account alone.
    pub keys: PathBuf,
    /// What others may read.
    pub run: PathBuf,
}

impl Files {
    /// All of them below `PGNODE_RUN_DIR`.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let run = Self::run_of(&config.paths.run_dir);
        Self {
            keys: run.join("keys"),
            run,
        }
    }

    /// The part that depends on `PGNODE_RUN_DIR` alone.
    #[must_use]
    pub fn run_of(run_dir: &Path) -> PathBuf {
        run_dir.join("ssh")
    }

    /// Who we are to others.
    #[must_use]
    pub fn client_key(&self) -> PathBuf {
        self.keys.join("id_ed25519")
    }

    /// What our sshd shows.
    #[must_use]
    pub fn host_key(&self) -> PathBuf {
        self.keys.join("host_ed25519")
    }

    /// sshd's settings.
    #[must_use]
    pub fn sshd_config(&self) -> PathBuf {
        self.run.join("sshd_config")
    }

    /// ssh's settings, for `ssh -F`.
    #[must_use]
    pub fn ssh_config(&self) -> PathBuf {
        Self::ssh_config_in(&self.run)
    }

    /// The same, from the directory.
    #[must_use]
    pub fn ssh_config_in(run: &Path) -> PathBuf {
        run.join("ssh_config")
    }

    /// The hosts of each cluster, for `pgnode hop`.
    #[must_use]
    pub fn clusters(&self) -> PathBuf {
        self.run.join("clusters.json")
    }

    /// Whom we let in.
    #[must_use]
    pub fn authorized_keys(&self) -> PathBuf {
        self.run.join("authorized_keys")
    }

    /// Whom we recognise.
    #[must_use]
    pub fn known_hosts(&self) -> PathBuf {
        self.run.join("known_hosts")
    }
}
