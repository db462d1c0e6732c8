//! What can go wrong with a replacement, and what that means for the node.

use crate::domain::Fault;
use crate::sys::io_fault;
use std::io;
use std::path::PathBuf;

/// Why a data directory was not replaced.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The system refused a step.
    #[error("cannot {doing} {}", path.display())]
    Io {
        /// The step.
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The directory holds no PG_VERSION or no global/pg_control.
    #[error("{} is not a complete data directory", .0.display())]
    NotACluster(PathBuf),
    /// A swap is due: resume first.
    #[error("the last replacement of the data directory is not finished")]
    SwapDue,
    /// The old copy goes back only to where nothing is.
    #[error("{} is not empty", .0.display())]
    NotEmpty(PathBuf),
    /// Something is mounted below PGDATA, and would stay behind or go along with the wrong copy.
    #[error("{} is a mount point inside the data directory, which therefore cannot be replaced", .0.display())]
    MountInside(PathBuf),
    /// A name is taken that was free when the swap began: somebody else wrote here.
    #[error("{} appeared while the data directory was being replaced", .0.display())]
    Taken(PathBuf),
    /// The journal is not ours.
    #[error("{} cannot be understood", path.display())]
    Journal {
        /// The journal.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
    /// The journal promises a copy, and there is none.
    #[error("the copy that was to replace {} is gone", .0.display())]
    Gone(PathBuf),
}

impl StageError {
    /// How bad it is.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Io {
                doing,
                path,
                source,
            } => io_fault(doing, path, source),
            Self::SwapDue => Fault::Bug(self.to_string()),
            Self::NotACluster(_)
            | Self::NotEmpty(_)
            | Self::MountInside(_)
            | Self::Taken(_)
            | Self::Journal { .. }
            | Self::Gone(_) => Fault::NeedsPerson(Fault::chain(self)),
        }
    }
}
