//! Looking at a data directory, and the lock files that a dead server leaves.

use super::PgError;
use crate::domain::Timeline;
use std::io;
use std::path::{Path, PathBuf};

/// What a directory is, without starting anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirFacts {
    /// Missing, or without entries that count (`lost+found` and our own directory do not).
    pub empty: bool,
    /// Major version, from `PG_VERSION`.
    pub major: Option<u32>,
    /// `global/pg_control` is there.
    pub control: bool,
    /// `standby.signal` is there.
    pub standby_signal: bool,
    /// `recovery.signal` is there.
    pub recovery_signal: bool,
    /// The latest timeline of which there is a WAL segment. `pg_control` names that of the last
    /// checkpoint, which a primary may be killed before it has made on its own timeline.
    pub newest_wal: Option<Timeline>,
    /// Some entry, to show a person what is in the way.
    pub first_entry: String,
}

/// Looks.
///
/// # Errors
/// When the directory cannot be read.
pub fn look(dir: &Path) -> io::Result<DirFacts> {
    let mut first_entry = None;
    match std::fs::read_dir(dir) {
        Ok(entries) => {
            for entry in entries {
                let name = entry?.file_name().to_string_lossy().into_owned();
                if !["lost+found", ".pgnode", "pgsql_tmp.pgnode"].contains(&name.as_str()) {
                    first_entry = first_entry.max(Some(name));
                }
            }
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let version = std::fs::read_to_string(dir.join("PG_VERSION")).ok();
    Ok(DirFacts {
        empty: first_entry.is_none(),
        major: version.and_then(|text| text.trim().parse().ok()),
        control: dir.join("global/pg_control").exists(),
        standby_signal: is_standby(dir),
        recovery_signal: dir.join("recovery.signal").exists(),
        newest_wal: newest_wal(&dir.join("pg_wal"))?,
        first_entry: first_entry.unwrap_or_default(),
    })
}

/// Whether a server that is started there is a standby: `standby.signal` is there. A promotion removes it before it has
/// ended (`StartupXLOG` in `xlog.c`).
#[must_use]
pub fn is_standby(dir: &Path) -> bool {
    dir.join("standby.signal").exists()
}

fn newest_wal(pg_wal: &Path) -> io::Result<Option<Timeline>> {
    let entries = match std::fs::read_dir(pg_wal) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut newest = None;
    for entry in entries {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let segment = name.len() == 24 && name.bytes().all(|b| b.is_ascii_hexdigit());
        let timeline = name.get(..8).filter(|_| segment);
        let number = timeline.and_then(|t| u32::from_str_radix(t, 16).ok());
        newest = newest.max(number.map(Timeline));
    }
    Ok(newest)
}

/// Line 8 of `postmaster.pid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerStatus {
    /// Not up yet, or not said.
    Starting,
    /// Going down.
    Stopping,
    /// Accepts connections.
    Ready,
    /// Up in recovery and accepts none.
    Standby,
}

/// `postmaster.pid` (PostgreSQL source, `miscinit.h` and `pidfile.h`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PidFile {
    /// None.
    Missing,
    /// Nothing in it: a server died while it made it.
    Empty,
    /// The first line is no pid.
    Garbage,
    /// A server's.
    Server {
        /// Line 1; a standalone backend writes it negative.
        pid: i32,
        /// Line 3: start, seconds since the epoch.
        started: u64,
        /// Line 4.
        port: Option<u16>,
        /// Line 8.
        status: ServerStatus,
    },
}

impl PidFile {
    /// Reads the text.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if text.trim().is_empty() {
            return Self::Empty;
        }
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let Some(pid) = lines
            .first()
            .and_then(|l| l.parse::<i32>().ok())
            .filter(|p| *p != 0)
        else {
            return Self::Garbage;
        };
        Self::Server {
            pid: pid.saturating_abs(),
            started: lines.get(2).and_then(|l| l.parse().ok()).unwrap_or(0),
            port: lines.get(3).and_then(|l| l.parse().ok()),
            status: match lines.get(7).copied() {
                Some("ready") => ServerStatus::Ready,
                Some("standby") => ServerStatus::Standby,
                Some("stopping") => ServerStatus::Stopping,
                Some(_) | None => ServerStatus::Starting,
            },
        }
    }

    /// Reads the file of a data directory.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    pub fn read(path: &Path) -> io::Result<Self> {
        match std::fs::read(path) {
            Ok(bytes) => Ok(Self::parse(&String::from_utf8_lossy(&bytes))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::Missing),
            Err(e) => Err(e),
        }
    }
}

/// Removes the lock files of a server that is gone: `postmaster.pid` and the socket's lock. In a
/// container pids come again, so postgres itself would take any process of its own user under the
/// old number for a live server and refuse to start. Here only a process *named* postgres counts.
/// The volume's own lock keeps other containers away.
///
/// # Errors
/// [`PgError::Live`] when a server really runs, [`PgError::File`].
pub fn clear_stale_locks(dir: &Path, socket_dir: &Path, port: u16) -> Result<(), PgError> {
    for path in [
        dir.join("postmaster.pid"),
        socket_dir.join(format!(".s.PGSQL.{port}.lock")),
    ] {
        let failed = |source| PgError::File {
            path: path.clone(),
            source,
        };
        let why = match PidFile::read(&path).map_err(failed)? {
            PidFile::Missing => continue,
            PidFile::Empty => "it is empty".to_owned(),
            PidFile::Garbage => "it names no pid".to_owned(),
            PidFile::Server { pid, .. } => match crate::sys::process(pid) {
                Some(p) if p.name == "postgres" => {
                    return Err(PgError::Live {
                        pid,
                        path: dir.to_owned(),
                    });
                }
                Some(p) => format!("pid {pid} is `{}`, no postgres", p.name),
                None => format!("pid {pid} is gone"),
            },
        };
        std::fs::remove_file(&path).map_err(failed)?;
        tracing::info!("removed the stale {}: {why}", path.display());
    }
    Ok(())
}

/// The path of the pid file.
#[must_use]
pub fn pid_file(dir: &Path) -> PathBuf {
    dir.join("postmaster.pid")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(pid: i32, status: ServerStatus) -> PidFile {
        PidFile::Server {
            pid,
            started: 1_700_000_000,
            port: Some(5432),
            status,
        }
    }

    #[test]
    fn a_pid_file_is_read_line_by_line() {
        let text = |pid: &str, status: &str| {
            format!("{pid}\n/data\n1700000000\n5432\n/run/postgresql\n*\n  123  4\n{status}\n")
        };
        for (text, want) in [
            (String::new(), PidFile::Empty),
            ("\n\n".into(), PidFile::Empty),
            ("hello".into(), PidFile::Garbage),
            ("0\n".into(), PidFile::Garbage),
            (text("42", "ready   "), server(42, ServerStatus::Ready)),
            (text("42", "standby "), server(42, ServerStatus::Standby)),
            (text("42", "stopping"), server(42, ServerStatus::Stopping)),
            (text("42", "starting"), server(42, ServerStatus::Starting)),
            (text("-42", "starting"), server(42, ServerStatus::Starting)),
            (
                "42\n/data\n".into(),
                PidFile::Server {
                    pid: 42,
                    started: 0,
                    port: None,
                    status: ServerStatus::Starting,
                },
            ),
        ] {
            assert_eq!(PidFile::parse(&text), want, "{text:?}");
        }
    }

    #[test]
    fn stale_locks_go_and_a_live_server_stays() {
        let tmp = tempfile::tempdir().unwrap();
        let pid = pid_file(tmp.path());
        let lock = tmp.path().join(".s.PGSQL.5432.lock");
        let us = std::process::id();
        for content in ["", "junk", "4194304\n/data\n", &format!("{us}\n/data\n")] {
            std::fs::write(&pid, content).unwrap();
            std::fs::write(&lock, content).unwrap();
            clear_stale_locks(tmp.path(), tmp.path(), 5432).unwrap();
            assert!(!pid.exists() && !lock.exists(), "{content:?}");
        }
    }

    #[test]
    fn the_newest_timeline_is_that_of_a_segment() {
        let dir = tempfile::tempdir().unwrap();
        let wal = dir.path().join("pg_wal");
        assert_eq!(newest_wal(&wal).unwrap(), None);
        std::fs::create_dir_all(wal.join("archive_status")).unwrap();
        for name in [
            "000000020000000000000005",
            "00000001000000000000000A",
            "00000009.history",
        ] {
            std::fs::write(wal.join(name), "").unwrap();
        }
        assert_eq!(newest_wal(&wal).unwrap(), Some(Timeline(2)));
    }

    #[test]
    fn what_counts_as_empty() {
        let tmp = tempfile::tempdir().unwrap();
        assert!(look(&tmp.path().join("missing")).unwrap().empty);
        std::fs::create_dir(tmp.path().join("lost+found")).unwrap();
        std::fs::create_dir(tmp.path().join(".pgnode")).unwrap();
        assert!(look(tmp.path()).unwrap().empty);
        std::fs::write(tmp.path().join("PG_VERSION"), "17\n").unwrap();
        let facts = look(tmp.path()).unwrap();
        assert_eq!(
            (facts.empty, facts.major, facts.control),
            (false, Some(17), false)
        );
    }
}
