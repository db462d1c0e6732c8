//! Waiting until a postmaster of ours accepts connections: `postmaster.pid` is watched, not polled.

use super::datadir::{PidFile, ServerStatus, pid_file};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::unix::pipe;

/// inotify is silent on some network file systems: then the file is read this often.
const SAFETY: Duration = Duration::from_secs(1);
/// Without inotify.
const BLIND: Duration = Duration::from_millis(50);

/// The server's clock for its start is ours, but it is rounded down to seconds.
const ROUNDING: u64 = 2;

/// Ends when line 1 of the file is our child, line 3 is not older than our start and line 8 says
/// `ready`: a file that a killed server left says `ready` as well. Cancel-safe.
///
/// # Errors
/// When the file cannot be read.
pub async fn wait_ready(dir: &Path, pid: i32) -> io::Result<()> {
    let not_before = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs().saturating_sub(ROUNDING));
    let woken = watch(dir);
    let mut scrap = vec![0_u8; 4096];
    let path = pid_file(dir);
    loop {
        if is_ready(&PidFile::read(&path)?, pid, not_before) {
            return Ok(());
        }
        let Some(woken) = &woken else {
            tokio::time::sleep(BLIND).await;
            continue;
        };
        if let Ok(woken_by) = tokio::time::timeout(SAFETY, woken.readable()).await {
            woken_by?;
            while woken.try_read(&mut scrap).is_ok_and(|n| n > 0) {}
        }
    }
}

/// `None` when the kernel gives no watch: `fs.inotify.max_user_instances` (128) is shared by all
/// containers of a host that run as the same uid, and a busy host has none left.
fn watch(dir: &Path) -> Option<pipe::Receiver> {
    let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC).ok()?;
    // postgres writes the status into the file in place, and closes it each time.
    let events =
        AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_CREATE | AddWatchFlags::IN_MOVED_TO;
    inotify.add_watch(dir, events).ok()?;
    // Any readable descriptor will do for tokio's safe wrapper; only its readiness is used, what the
    // kernel writes there is thrown away because the file is read anyway.
    pipe::Receiver::from_owned_fd_unchecked(inotify.into()).ok()
}

fn is_ready(file: &PidFile, ours: i32, not_before: u64) -> bool {
    match file {
        PidFile::Server {
            pid,
            started,
            status,
            ..
        } => *pid == ours && *started >= not_before && *status == ServerStatus::Ready,
        PidFile::Missing | PidFile::Empty | PidFile::Garbage => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(pid: i32, started: u64, status: &str) -> String {
        format!("{pid}\n/data\n{started}\n5432\n/run\n*\n 1 2\n{status}\n")
    }

    #[test]
    fn ready_is_ours_and_of_now() {
        for (content, want) in [
            (text(7, 100, "ready   "), true),
            (text(8, 100, "ready   "), false),
            (text(7, 90, "ready   "), false),
            (text(7, 100, "starting"), false),
            (text(7, 100, "standby "), false),
            (text(7, 100, "stopping"), false),
            (String::new(), false),
        ] {
            assert_eq!(
                is_ready(&PidFile::parse(&content), 7, 99),
                want,
                "{content:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_write_wakes_the_wait() {
        let tmp = tempfile::tempdir().unwrap();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let path = pid_file(tmp.path());
        std::fs::write(&path, text(7, now, "starting")).unwrap();
        let write = async {
            tokio::task::yield_now().await;
            std::fs::write(&path, text(7, now, "ready   ")).unwrap();
        };
        let wait = tokio::time::timeout(Duration::from_secs(30), wait_ready(tmp.path(), 7));
        let (ready, ()) = tokio::join!(wait, write);
        ready.unwrap().unwrap();
    }

    #[tokio::test]
    async fn without_a_watch_the_file_is_read_again() {
        let tmp = tempfile::tempdir().unwrap();
        // What is not there cannot be watched.
        let dir = tmp.path().join("later");
        assert!(watch(&dir).is_none());
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let write = async {
            tokio::task::yield_now().await;
            std::fs::create_dir(&dir).unwrap();
            std::fs::write(pid_file(&dir), text(7, now, "ready   ")).unwrap();
        };
        let wait = tokio::time::timeout(Duration::from_secs(30), wait_ready(&dir, 7));
        let (ready, ()) = tokio::join!(wait, write);
        ready.unwrap().unwrap();
    }
}
