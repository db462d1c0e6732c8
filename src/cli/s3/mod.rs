//! `pgnode s3 …`: what concerns the bucket. Each verb that others start (archiver, cron, barman) reads `s3.json` in the
//! run directory, because none of them has the node's environment.

mod ship;
mod verify;
pub(super) mod wal;

use crate::config::Kept;
use crate::domain::{ExitCode, Fault};
use clap::Subcommand;
use std::path::{Path, PathBuf};

/// Where the node's run-time files are, unless a verb is told.
pub(super) const RUN_DIR: &str = "/run/pgnode";

/// The verbs.
#[derive(Debug, Subcommand)]
pub(super) enum S3Verb {
    /// What in the bucket can be restored, and what is wrong; exit code 1 when something is
    Verify(verify::Verify),
    /// Archive and fetch WAL for the postmaster: a child of the node
    #[command(hide = true)]
    Worker {
        /// Where the node's run-time files are
        #[arg(long, default_value = RUN_DIR)]
        run_dir: PathBuf,
    },
    #[command(flatten)]
    Ship(ship::Verb),
}

/// Performs one.
pub(super) fn perform(verb: S3Verb) -> ExitCode {
    match verb {
        S3Verb::Verify(words) => verify::verify(words),
        S3Verb::Worker { run_dir } => wal::worker(&run_dir),
        S3Verb::Ship(verb) => ship::perform(verb),
    }
}

/// The settings that the node left for its helpers.
pub(super) fn kept(run_dir: &Path) -> Result<Kept, Fault> {
    let path = run_dir.join(Kept::FILE);
    let text = std::fs::read(&path).map_err(|e| {
        let why = format!(
            "{} cannot be read: {e}; pgnode writes it at its start where S3_BUCKET_URI is set",
            path.display()
        );
        match e.kind() {
            std::io::ErrorKind::NotFound => Fault::Transient(why),
            _ => Fault::NeedsPerson(why),
        }
    })?;
    Kept::from_json(&text, &path).map_err(|e| Fault::NeedsPerson(Fault::chain(&e)))
}
