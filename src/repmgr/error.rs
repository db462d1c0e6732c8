//! What can go wrong with repmgr.

use crate::config::Address;
use crate::domain::{Fault, SystemId};
use crate::pg::PgError;
use crate::sys::ChildError;
use tokio_postgres::error::SqlState;

/// Failures of this room.
#[derive(Debug, thiserror::Error)]
pub enum RepmgrError {
    /// A command could not be run.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// A command ended badly.
    #[error("`repmgr {command}` ended with {exit}: {last_words}")]
    Command {
        /// Which.
        command: &'static str,
        /// repmgr's exit code (repmgr source, `errcode.h`), when it had one.
        code: Option<i32>,
        /// How it ended.
        exit: String,
        /// What it said last.
        last_words: String,
    },
    /// A file could not be read or written.
    #[error("{path}")]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A statement failed.
    #[error(transparent)]
    Sql(#[from] PgError),
    /// The primary does not accept our password.
    #[error(
        "{address} refuses user {user}: {variable} must be the same on all nodes, and the primary's \
         pg_hba must admit this node"
    )]
    Refused {
        /// Who.
        address: Address,
        /// As whom.
        user: &'static str,
        /// The setting.
        variable: &'static str,
        /// What the server said.
        source: Box<PgError>,
    },
    /// The source is itself a standby.
    #[error("{address} is in recovery: a standby, not the primary")]
    NotPrimary {
        /// Who.
        address: Address,
    },
    /// Another major version.
    #[error(
        "{address} runs PostgreSQL {theirs}, this image has {ours}: all nodes of a cluster need the same major version"
    )]
    OtherMajor {
        /// Who.
        address: Address,
        /// Its.
        theirs: u32,
        /// Ours.
        ours: u32,
    },
    /// Another cluster.
    #[error(
        "{address} belongs to cluster {theirs}, this node to {ours}: wrong primary, or wrong volume"
    )]
    OtherCluster {
        /// Who.
        address: Address,
        /// Its.
        theirs: SystemId,
        /// Ours.
        ours: SystemId,
    },
}

impl RepmgrError {
    /// What can be done about it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        let why = Fault::chain(self);
        match self {
            // Both sides take their passwords from settings: waiting does not change them.
            Self::Refused { .. } => Fault::Config(why),
            Self::OtherMajor { .. } | Self::OtherCluster { .. } | Self::File { .. } => {
                Fault::NeedsPerson(why)
            }
            Self::Sql(error) => error.fault(),
            // Code 1 is "bad configuration" and also what `standby register` ends with while the
            // primary is restarting, so no code can be held against the settings.
            Self::Command { .. } | Self::Child(_) | Self::NotPrimary { .. } => {
                Fault::Transient(why)
            }
        }
    }

    /// A connection that failed, told apart by SQLSTATE.
    #[must_use]
    pub fn connecting(
        address: &Address,
        user: &'static str,
        variable: &'static str,
        source: PgError,
    ) -> Self {
        let refused = match &source {
            PgError::Sql { source, .. } => source.code().is_some_and(|code| {
                *code == SqlState::INVALID_PASSWORD
                    || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION
            }),
            _ => false,
        };
        if refused {
            Self::Refused {
                address: address.clone(),
                user,
                variable,
                source: Box::new(source),
            }
        } else {
            Self::Sql(source)
        }
    }
}
