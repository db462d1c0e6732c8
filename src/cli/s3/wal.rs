//! `wal-push` and `wal-fetch`: what the postmaster calls for each WAL file. Small, because it does so for each: they ask the
//! worker over its socket, and do the work themselves where there is none.

use super::kept;
use crate::cli::{lament, note};
use crate::config::Kept;
use crate::domain::{ExitCode, Fault};
use crate::pg;
use crate::s3::wal::{Agent, Answer, Errand, Patience, ask, socket, work};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// PostgreSQL takes 1 to 125 for *there is no such file*, and ends a server that recovers for anything above
/// (`RestoreArchivedFile` in `xlogarchive.c`).
const ABSENT: ExitCode = ExitCode(1);
/// A recovery must not end for this.
const LOST: ExitCode = ExitCode(255);
/// As killed by TERM: the archiver ends then instead of asking six times, a second apart each.
const STOPPING: ExitCode = ExitCode(128 + 15);

/// `archive_command`: 0 when this file is durably in the bucket. The codes of a failure are those of every verb, all below
/// 126: above that the archiver takes the command for killed, and ends itself (`shell_archive_file` in `shell_archive.c`).
/// It asks again in any case. Only where the server stops and waits for nothing but its archiver, that is to end: it is
/// not started again then (`PgArchStartupAllowed` in `postmaster.c`), and the shutdown stays a clean one.
pub(in crate::cli) fn push(run_dir: &Path, path: &Path) -> ExitCode {
    let path = absolute(path);
    let errand = Errand::Push { path: path.clone() };
    let pushed = match ask(&socket(run_dir), &errand) {
        Ok(Answer::Done) => return ExitCode::STOPPED,
        Ok(Answer::Failed(fault)) => Err(fault),
        // There is none, or it ended meanwhile: a second time does no harm.
        Ok(_) | Err(_) => alone(run_dir, async |agent| {
            let pushed = agent.push(&path).await;
            pushed.map(|_| ()).map_err(|e| e.fault())
        }),
    };
    match pushed {
        Ok(()) => ExitCode::STOPPED,
        Err(fault) => {
            let code = lament(&fault);
            // `<data directory>/pg_wal/<name>`
            let stops = path.ancestors().nth(2).and_then(pg::waits_for_archiver);
            stops.map_or(code, |_| STOPPING)
        }
    }
}

/// `restore_command`: 0 when it is there, whole and right; 1 only when the server says that there is none. Anything else: 255
/// for a recovery, which must not end because of it; 75 for a standby, which goes on with its primary.
pub(in crate::cli) fn fetch(run_dir: &Path, name: &str, to: &Path, standby: bool) -> ExitCode {
    let to = absolute(to);
    let errand = Errand::Fetch {
        name: name.to_owned(),
        to: to.clone(),
        standby,
    };
    let patience = match standby {
        true => Patience::Standby,
        false => Patience::Recovery,
    };
    let fetched = match ask(&socket(run_dir), &errand) {
        Ok(Answer::Done) => Ok(true),
        Ok(Answer::Absent) => Ok(false),
        Ok(Answer::Failed(fault)) => Err(fault),
        Ok(_) | Err(_) => alone(run_dir, async |agent| {
            agent
                .fetch(name, &to, patience)
                .await
                .map_err(|e| e.fault())
        }),
    };
    match (fetched, standby) {
        (Ok(true), _) => ExitCode::STOPPED,
        (Ok(false), _) => ABSENT,
        (Err(fault), true) => {
            note(fault.why());
            ExitCode::TRANSIENT
        }
        (Err(fault), false) => {
            note(fault.why());
            LOST
        }
    }
}

/// The worker: until it is killed.
pub(super) fn worker(run_dir: &Path) -> ExitCode {
    let worked = kept(run_dir).and_then(|kept| {
        crate::sys::init_helper_log().map_err(|e| Fault::Bug(Fault::chain(&e)))?;
        runtime()?.block_on(work(&kept, &run_dir.join(Kept::FILE)))
    });
    match worked {
        Ok(()) => ExitCode::STOPPED,
        Err(fault) => lament(&fault),
    }
}

fn alone<T>(run_dir: &Path, work: impl AsyncFnOnce(Agent) -> Result<T, Fault>) -> Result<T, Fault> {
    let kept = kept(run_dir)?;
    runtime()?.block_on(async {
        let agent = Agent::open(&kept).map_err(|e| e.fault())?;
        work(agent).await
    })
}

/// One thread, and few for packing: the server has more use for the cores.
fn runtime() -> Result<tokio::runtime::Runtime, Fault> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(4)
        .thread_keep_alive(Duration::from_secs(30))
        .build()
        .map_err(|e| Fault::Transient(format!("no async runtime: {e}")))
}

/// `%p` is relative to the data directory, where PostgreSQL runs its commands.
fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}
