//! The failures of this room, and how bad they are.

use crate::domain::Fault;
use crate::pg::PgError;
use crate::sys::ChildError;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A backup's metadata say what we do not understand: it must not be restored by guessing.
    #[error("the metadata of backup {id} in {path} are not understood: {what}")]
    Garbled {
        /// Which backup.
        id: String,
        /// The file.
        path: PathBuf,
        /// Key, value and rule.
        what: String,
    },
    /// No such backup.
    #[error("{server} has no backup `{wanted}`; {known}")]
    Unknown {
        /// barman's name of the server.
        server: String,
        /// What was asked for.
        wanted: String,
        /// What there is instead, in words.
        known: String,
    },
    /// A name that several backups have.
    #[error("{server} has several backups named `{name}`: {ids}; give one of these ids")]
    Ambiguous {
        /// barman's name of the server.
        server: String,
        /// The name.
        name: String,
        /// The ids, oldest first.
        ids: String,
    },
    /// PostgreSQL did not do as it was asked.
    #[error(transparent)]
    Pg(#[from] PgError),
    /// The WAL of a backup's end does not arrive.
    #[error(
        "backup {id} is copied, but WAL segment {segment} was not archived within {limit:?}: it is not \
         complete. See `barman check` and whether receive-wal runs; it is completed when the segment comes"
    )]
    StillWaiting {
        /// Which.
        id: String,
        /// The last segment that it needs.
        segment: String,
        /// How long was waited.
        limit: Duration,
    },
    /// An incremental backup without one that it rests on.
    #[error("backup {id} rests on {missing}, which is not in the catalogue: it cannot be restored")]
    BrokenChain {
        /// The one that was asked for.
        id: String,
        /// The parent that is gone.
        missing: String,
    },
}

impl BarmanError {
    /// Of the node at work, backups never stop it: everything is tried again. What a person asked for
    /// wrongly is a matter of the question.
    #[must_use]
    pub fn fault(&self) -> Fault {
        let why = Fault::chain(self);
        match self {
            Self::Pg(error) => error.fault(),
            Self::Child(_)
            | Self::Command { .. }
            | Self::Catalogue { .. }
            | Self::StillWaiting { .. } => Fault::Transient(why),
            Self::Garbled { .. } | Self::BrokenChain { .. } => Fault::NeedsPerson(why),
            Self::Unknown { .. } | Self::Ambiguous { .. } => Fault::Config(why),
        }
    }

    pub(super) fn catalogue(path: &Path, source: std::io::Error) -> Self {
        Self::Catalogue {
            path: path.to_owned(),
            source,
        }
    }
}
