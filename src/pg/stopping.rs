//! A server that stops, seen from outside: at its end it waits for its archiver.

use super::datadir::{PidFile, ServerStatus, pid_file};
use crate::domain::millis;
use std::io::Read as _;
use std::path::Path;
use std::time::UNIX_EPOCH;

/// Where `pg_control` has the state, and its `DB_SHUTDOWNED`: after the system's identifier and two versions, the same
/// in every release (`ControlFileData` in `pg_control.h`).
const STATE: usize = 16;
const SHUT_DOWN: u32 = 1;

/// Since when a server has been stopping, in milliseconds since 1970, when all that it waits for is its archiver (and those
/// who receive its WAL): its last checkpoint is written. `None`: it is not stopping, or not so far.
///
/// Both files are asked: `postmaster.pid` says `stopping` also for as long as clients may stay (a smart shutdown), and
/// `pg_control` says that it was shut down also where nothing runs.
#[must_use]
pub fn waits_for_archiver(dir: &Path) -> Option<u64> {
    let path = pid_file(dir);
    let stopping = matches!(
        PidFile::read(&path),
        Ok(PidFile::Server {
            status: ServerStatus::Stopping,
            ..
        })
    );
    if !stopping || !is_shut_down(dir) {
        return None;
    }
    // It was written last when the stop began.
    let since = std::fs::metadata(&path).and_then(|m| m.modified()).ok()?;
    since.duration_since(UNIX_EPOCH).ok().map(millis)
}

fn is_shut_down(dir: &Path) -> bool {
    let mut head = [0; STATE + 4];
    let read = std::fs::File::open(dir.join("global/pg_control"))
        .and_then(|mut f| f.read_exact(&mut head));
    let state = head.last_chunk().map(|state| u32::from_ne_bytes(*state));
    read.is_ok() && state == Some(SHUT_DOWN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_that_has_written_its_last_checkpoint_waits() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path();
        std::fs::create_dir(dir.join("global")).unwrap();
        let control = |state: u32| {
            let text = [&[7; STATE][..], &state.to_ne_bytes(), &[0; 64]].concat();
            std::fs::write(dir.join("global/pg_control"), text).unwrap();
        };
        let server = |status: &str| {
            let text = format!("7\n/data\n100\n5432\n/run\n*\n 1 2\n{status}\n");
            std::fs::write(pid_file(dir), text).unwrap();
        };
        // Nothing runs.
        control(SHUT_DOWN);
        assert_eq!(waits_for_archiver(dir), None);
        for (status, state, waits) in [
            ("ready   ", 6, false),
            ("stopping", 6, false),
            ("stopping", 3, false),
            ("stopping", SHUT_DOWN, true),
            ("starting", SHUT_DOWN, false),
        ] {
            server(status);
            control(state);
            let since = waits_for_archiver(dir);
            assert_eq!(since.is_some(), waits, "{status} {state}");
        }
        std::fs::remove_file(dir.join("global/pg_control")).unwrap();
        server("stopping");
        assert_eq!(waits_for_archiver(dir), None);
    }
}
