//! The scratch directory. It is emptied, so it must be ours beyond doubt: only a directory that is empty or
//! carries our marker is ever touched, never one that is PGDATA's or a catalogue's.

use super::Flaw;
use crate::doctor::{Doctor, ailments};
use crate::pg::{PidFile, pid_file};
use crate::sys::{self, LockError, VolumeLock};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// In a directory that a drill has made.
const MARKER: &str = ".pgnode-drill";
/// `sun_path` holds 108 bytes, and `/s/.s.PGSQL.5432` comes behind.
const LONGEST: usize = 107 - 16;

/// A directory to restore into, and the right to do so.
#[derive(Debug)]
pub(super) struct Scratch {
    pub(super) dir: PathBuf,
    _lock: VolumeLock,
}

impl Scratch {
    pub(super) fn data(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub(super) fn sockets(&self) -> PathBuf {
        self.dir.join("s")
    }

    pub(super) fn tablespace(&self, oid: u32) -> PathBuf {
        self.dir.join("tblspc").join(oid.to_string())
    }

    /// Makes the directory, empty, with nothing of a former drill in it. `home` is the catalogue, where that is a directory.
    pub(super) fn claim(doctor: &Doctor, server: &str, home: Option<&Path>) -> Result<Self, Flaw> {
        let (top, owner) = (doctor.config.drill.dir.clone(), doctor.owner());
        let dir = top.join(server);
        let refuse = |why: String| Flaw::new(&ailments::DRILL_DIR, why);
        let failed = |e: io::Error| refuse(format!("{}: {e}", dir.display()));
        if dir.as_os_str().len() > LONGEST {
            let long = dir.as_os_str().len();
            return Err(refuse(format!(
                "{} has {long} bytes, and a socket in it may have {LONGEST} at most",
                dir.display()
            )));
        }
        let pgdata = &doctor.config.paths.pgdata;
        let backups = home.map(|home| ("the backups", home));
        for (what, live) in [("PGDATA", pgdata.as_path())].into_iter().chain(backups) {
            if sys::overlap(&dir, live).map_err(failed)? {
                return Err(refuse(format!(
                    "{} is in, or holds, {what} ({})",
                    dir.display(),
                    live.display()
                )));
            }
        }
        if let Some(stranger) = stranger(&top).map_err(failed)? {
            return Err(refuse(format!(
                "{} holds {stranger}, which no drill has made",
                top.display()
            )));
        }
        sys::ensure_dir(&top, 0o700, owner).map_err(failed)?;
        let lock = lock(&top, server, owner)?;
        if let PidFile::Server { pid, .. } =
            PidFile::read(&pid_file(&dir.join("data"))).map_err(failed)?
            && sys::process(pid).is_some_and(|p| p.name == "postgres")
        {
            let why = format!("a server of a former drill (pid {pid}) still ends");
            return Err(Flaw::new(&ailments::DRILL_BUSY, why));
        }
        clear(&dir).map_err(failed)?;
        sys::ensure_dir(&dir, 0o700, owner).map_err(failed)?;
        sys::write_atomic(
            &dir.join(MARKER),
            b"a drill's; may be removed\n",
            0o600,
            owner,
        )
        .map_err(failed)?;
        for inner in ["data", "s", "tblspc"] {
            sys::ensure_dir(&dir.join(inner), 0o700, owner).map_err(failed)?;
        }
        Ok(Self { dir, _lock: lock })
    }

    /// Removes it.
    pub(super) fn remove(&self) -> io::Result<()> {
        clear(&self.dir)?;
        std::fs::remove_dir(&self.dir)
    }
}

fn lock(top: &Path, server: &str, owner: Option<(u32, u32)>) -> Result<VolumeLock, Flaw> {
    let path = top.join(format!("{server}.lock"));
    let lock = VolumeLock::acquire(&path).map_err(|error| match error {
        LockError::Held { holder, .. } => Flaw::new(&ailments::DRILL_BUSY, holder),
        LockError::Io { source, .. } => Flaw::new(
            &ailments::DRILL_DIR,
            format!("{}: {source}", path.display()),
        ),
    })?;
    if let Some((uid, gid)) = owner {
        // A drill that cron starts is barman's.
        let changed = std::os::unix::fs::chown(&path, Some(uid), Some(gid));
        changed.map_err(|e| Flaw::new(&ailments::DRILL_DIR, format!("{}: {e}", path.display())))?;
    }
    Ok(lock)
}

/// Something in the directory that is neither a result, nor a lock, nor a former drill's.
fn stranger(top: &Path) -> io::Result<Option<String>> {
    let entries = match std::fs::read_dir(top) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let plain = [".json", ".lock", ".pgnode-new"]
            .iter()
            .any(|end| name.ends_with(end));
        let ours = match entry.file_type()?.is_dir() {
            true => is_ours(&entry.path())?,
            false => plain,
        };
        if !ours {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn is_ours(dir: &Path) -> io::Result<bool> {
    Ok(dir.join(MARKER).is_file() || std::fs::read_dir(dir)?.next().is_none())
}

/// Empties a directory of ours; the marker goes last, so that a kill on the way leaves one that is known.
fn clear(dir: &Path) -> io::Result<()> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    if !is_ours(dir)? {
        return Err(io::Error::new(
            ErrorKind::DirectoryNotEmpty,
            "it is no drill's",
        ));
    }
    for entry in entries {
        let entry = entry?;
        if entry.file_name() == MARKER {
            continue;
        }
        // Links are removed, not followed.
        match entry.file_type()?.is_dir() {
            true => std::fs::remove_dir_all(entry.path())?,
            false => std::fs::remove_file(entry.path())?,
        }
    }
    sys::remove(&dir.join(MARKER)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_drill_has_made_is_ever_emptied() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("main");
        clear(&dir).unwrap();
        std::fs::create_dir(&dir).unwrap();
        clear(&dir).unwrap();
        std::fs::create_dir(dir.join("precious")).unwrap();
        assert!(clear(&dir).is_err());
        assert!(dir.join("precious").exists());
        assert_eq!(stranger(tmp.path()).unwrap().as_deref(), Some("main"));
        std::fs::write(dir.join(MARKER), "").unwrap();
        assert_eq!(stranger(tmp.path()).unwrap(), None);
        std::os::unix::fs::symlink(tmp.path(), dir.join("link")).unwrap();
        clear(&dir).unwrap();
        assert!(std::fs::read_dir(&dir).unwrap().next().is_none());
        assert!(tmp.path().exists());
        std::fs::write(tmp.path().join("main.json"), "").unwrap();
        std::fs::write(tmp.path().join("main.lock"), "").unwrap();
        assert_eq!(stranger(tmp.path()).unwrap(), None);
        std::fs::write(tmp.path().join("notes.txt"), "").unwrap();
        assert_eq!(stranger(tmp.path()).unwrap().as_deref(), Some("notes.txt"));
    }

    #[test]
    fn a_link_does_not_hide_the_live_directory() {
        let tmp = tempfile::tempdir().unwrap();
        let live = tmp.path().join("live");
        std::fs::create_dir(&live).unwrap();
        let link = tmp.path().join("link");
        std::os::unix::fs::symlink(&live, &link).unwrap();
        assert!(sys::overlap(&link.join("drill"), &live).unwrap());
        assert!(sys::overlap(&live, &link.join("data")).unwrap());
        assert!(!sys::overlap(&tmp.path().join("drill"), &live).unwrap());
        assert!(!sys::overlap(&tmp.path().join("live2"), &live).unwrap());
    }
}
