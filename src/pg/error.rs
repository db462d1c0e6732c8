//! What can go wrong between us and PostgreSQL.

use crate::domain::Fault;
use crate::sys::ChildError;
use std::path::PathBuf;
use tokio_postgres::error::SqlState;

/// Failures of this room.
#[derive(Debug, thiserror::Error)]
pub enum PgError {
    /// A program could not be run.
    #[error(transparent)]
    Child(#[from] ChildError),
    /// A program ended badly.
    #[error("{program} ended with {exit}: {last_words}")]
    Program {
        /// Which.
        program: &'static str,
        /// How.
        exit: String,
        /// What it said last.
        last_words: String,
    },
    /// A file could not be used.
    #[error("{path}")]
    File {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file does not say what it should.
    #[error("{what} is not understood: {detail}")]
    Garbled {
        /// Which.
        what: String,
        /// Where.
        detail: String,
    },
    /// A statement or a connection failed.
    #[error("{doing}")]
    Sql {
        /// What was being done.
        doing: String,
        /// What the server or the network said.
        source: tokio_postgres::Error,
    },
    /// It took too long.
    #[error("{doing} took longer than {seconds} s")]
    Slow {
        /// What was being done.
        doing: String,
        /// The limit.
        seconds: u64,
    },
    /// Another postmaster serves this data directory.
    #[error("a postmaster (pid {pid}) already serves {path}: stop it first")]
    Live {
        /// Its pid.
        pid: i32,
        /// The directory.
        path: PathBuf,
    },
    /// An init script failed.
    #[error(
        "init script {name} failed with {exit}: {last_words}; nothing was opened, the next start begins the first start anew"
    )]
    Script {
        /// Which.
        name: String,
        /// How.
        exit: String,
        /// What it said last.
        last_words: String,
    },
    /// An init script cannot be read.
    #[error("init script {path} cannot be read by {account}")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// By whom.
        account: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl PgError {
    /// What can be done about it.
    #[must_use]
    pub fn fault(&self) -> Fault {
        let why = Fault::chain(self);
        match self {
            Self::Child(_) | Self::Slow { .. } => Fault::Transient(why),
            Self::Sql { source, .. } => match source.code() {
                Some(code)
                    if *code == SqlState::INVALID_PASSWORD
                        || *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION =>
                {
                    Fault::NeedsPerson(why)
                }
                Some(code) if *code == SqlState::DISK_FULL => Fault::NeedsPerson(why),
                // An error of a statement of ours would come again; a lost connection may not.
                Some(_) | None => Fault::Transient(why),
            },
            Self::Program { .. }
            | Self::File { .. }
            | Self::Garbled { .. }
            | Self::Live { .. }
            | Self::Script { .. }
            | Self::Unreadable { .. } => Fault::NeedsPerson(why),
        }
    }
}
