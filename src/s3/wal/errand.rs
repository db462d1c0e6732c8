//! What the postmaster's commands ask of the worker: one line of JSON over a Unix socket, and lines back until the answer.

use crate::domain::{ArchiveHealth, Fault};
use serde::{Deserialize, Serialize};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The worker's own directory in the run directory: it may make its socket there.
pub const DIRECTORY: &str = "s3";
/// The socket in it.
const SOCKET: &str = "worker.sock";

/// A worker that works says so this often.
pub(super) const BEAT: Duration = Duration::from_secs(3);
/// One that is silent for so long is stuck.
const SILENCE: Duration = Duration::from_secs(20);

/// Where the worker listens.
#[must_use]
pub fn socket(run_dir: &Path) -> PathBuf {
    run_dir.join(DIRECTORY).join(SOCKET)
}

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Errand {
    /// Archive this file of `pg_wal`.
    Push {
        /// Absolute.
        path: PathBuf,
    },
    /// Fetch a file.
    Fetch {
        /// Its name.
        name: String,
        /// Where it goes, absolute.
        to: PathBuf,
        /// For a standby, which does not wait.
        standby: bool,
    },
    /// Take the archive for this cluster, or find out whose it is: before there is anything to archive.
    Claim,
    /// Say how it is.
    Health,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// None yet: still at it.
    Wait,
    /// Done.
    Done,
    /// There is no such file.
    Absent,
    /// It failed.
    Failed(Fault),
    /// How it is.
    Health(ArchiveHealth),
}

/// Asks the worker, and waits as long as it says that it works.
///
/// # Errors
/// There is none, or it ended or got stuck meanwhile: the file may or may not have been archived.
pub fn ask(socket: &Path, errand: &Errand) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(SILENCE))?;
    stream.set_write_timeout(Some(SILENCE))?;
    let mut line = serde_json::to_vec(errand)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answers = BufReader::new(stream);
    loop {
        let mut line = String::new();
        if answers.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match serde_json::from_str(&line)? {
            Answer::Wait => {}
            answer => return Ok(answer),
        }
    }
}
