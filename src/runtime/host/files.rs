//! barman's directories of one cluster, as far as pgnode looks into them and changes them.

use crate::domain::WalName;
use crate::plan::keeper::Tail;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{OpenOptionsExt as _, chown};
use std::path::{Path, PathBuf};

/// A new backup is owed, and why: kept until one is made.
const OWED: &str = ".pgnode-backup-owed";
/// Where WAL is kept that `pg_receivewal` must not go on from.
const ASIDE: &str = "pgnode-aside";

/// The newest file in `streaming/`, as `FindStreamingStart` in `pg_receivewal.c` chooses it: the highest
/// segment, of these the highest timeline, of these a complete one.
pub(super) fn tail(server: &Path, segment_size: u64) -> io::Result<Option<Tail>> {
    let found = streamed(server, segment_size)?.into_iter().map(|(t, _)| t);
    Ok(found.max_by_key(|t| (t.segment.number, t.segment.timeline, !t.partial)))
}

fn streamed(server: &Path, segment_size: u64) -> io::Result<Vec<(Tail, PathBuf)>> {
    let entries = match fs::read_dir(server.join("streaming")) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        other => other?,
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let bare = name.strip_suffix(".partial");
        if let Ok(segment) = WalName::parse(bare.unwrap_or(&name), segment_size) {
            let partial = bare.is_some();
            found.push((Tail { segment, partial }, path));
        }
    }
    Ok(found)
}

/// Whether the archive's list has an entry: `<server>-xlog.db` since barman 3.13, `xlog.db` before.
pub(super) fn archived(server: &Path) -> io::Result<bool> {
    let entries = match fs::read_dir(server.join("wals")) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(false),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        let list = entry.file_name().to_string_lossy().ends_with("xlog.db");
        if list && entry.metadata()?.len() > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Why a backup is owed.
pub(super) fn owed(server: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(server.join(OWED)) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Writes down that one is owed; `when` tells two occasions apart.
pub(super) fn owe(
    server: &Path,
    why: &str,
    when: u64,
    owner: Option<(u32, u32)>,
) -> io::Result<()> {
    let text = format!("{why} ({when})");
    crate::sys::write_atomic(&server.join(OWED), text.as_bytes(), 0o600, owner).map(|_| ())
}

/// It was made, unless another occasion came meanwhile.
pub(super) fn paid(server: &Path, which: &str) -> io::Result<()> {
    if owed(server)?.as_deref() == Some(which) {
        crate::sys::remove(&server.join(OWED))?;
        crate::sys::sync_dir(server)?;
    }
    Ok(())
}

/// Has `pg_receivewal` go on from `to`: what is at or beyond it, and every incomplete file, is moved to a
/// directory of its own, whose path is given back. Interrupted, it can be done again.
pub(super) fn realign(
    server: &Path,
    to: WalName,
    when: u64,
    owner: Option<(u32, u32)>,
) -> io::Result<Option<PathBuf>> {
    let streaming = server.join("streaming");
    let aside = server.join(ASIDE).join(when.to_string());
    let mut moved = false;
    for (tail, path) in streamed(server, to.segment_size)? {
        let Some(name) = path.file_name() else {
            continue;
        };
        if tail.segment.number < to.number && !tail.partial {
            continue;
        }
        crate::sys::ensure_dir(&server.join(ASIDE), 0o700, owner)?;
        crate::sys::ensure_dir(&aside, 0o700, owner)?;
        fs::rename(&path, aside.join(name))?;
        moved = true;
    }
    let fresh = streaming.join(format!("{to}.partial"));
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&fresh)?;
    if let Some((uid, gid)) = owner {
        chown(&fresh, Some(uid), Some(gid))?;
    }
    crate::sys::sync_dir(&streaming)?;
    if moved {
        crate::sys::sync_dir(&aside)?;
    }
    Ok(moved.then_some(aside))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timeline;

    const SIZE: u64 = WalName::DEFAULT_SEGMENT_SIZE;

    fn server(files: &[&str]) -> tempfile::TempDir {
        let tmp = tempfile::tempdir().unwrap();
        fs::create_dir(tmp.path().join("streaming")).unwrap();
        for name in files {
            fs::write(tmp.path().join("streaming").join(name), name).unwrap();
        }
        tmp
    }

    fn name(timeline: u32, number: u64) -> WalName {
        WalName {
            timeline: Timeline(timeline),
            number,
            segment_size: SIZE,
        }
    }

    #[test]
    fn the_tail_is_where_pg_receivewal_goes_on() {
        for (files, want) in [
            (&[][..], None),
            (&["00000002.history", "x"], None),
            (&["000000010000000000000003"], Some((name(1, 3), false))),
            (
                &[
                    "000000010000000000000003",
                    "000000010000000000000004.partial",
                ],
                Some((name(1, 4), true)),
            ),
            // The segment decides before the timeline.
            (
                &[
                    "000000010000000000000005",
                    "000000020000000000000004.partial",
                ],
                Some((name(1, 5), false)),
            ),
            (
                &[
                    "000000010000000000000004.partial",
                    "000000020000000000000004",
                ],
                Some((name(2, 4), false)),
            ),
            (
                &[
                    "000000020000000000000004.partial",
                    "000000020000000000000004",
                ],
                Some((name(2, 4), false)),
            ),
        ] {
            let tmp = server(files);
            let got = tail(tmp.path(), SIZE).unwrap();
            assert_eq!(got.map(|t| (t.segment, t.partial)), want, "{files:?}");
        }
        assert_eq!(tail(Path::new("/nowhere"), SIZE).unwrap(), None);
    }

    #[test]
    fn what_is_put_aside_is_kept_and_it_goes_on_from_there() {
        let old = "000000010000000000000003";
        let beyond = [
            "000000010000000000000005",
            "000000010000000000000006.partial",
        ];
        let tmp = server(&[old, beyond[0], beyond[1], "00000002.history"]);
        let aside = realign(tmp.path(), name(2, 4), 7, None).unwrap().unwrap();
        for file in beyond {
            assert_eq!(fs::read_to_string(aside.join(file)).unwrap(), file);
        }
        let streaming = tmp.path().join("streaming");
        assert!(streaming.join(old).exists() && streaming.join("00000002.history").exists());
        let at = tail(tmp.path(), SIZE).unwrap().unwrap();
        assert_eq!((at.segment, at.partial), (name(2, 4), true));
        // Killed in between, the next one comes to the same.
        realign(tmp.path(), name(2, 4), 8, None).unwrap();
        assert_eq!(tail(tmp.path(), SIZE).unwrap(), Some(at));
    }

    #[test]
    fn a_debt_is_paid_once_and_only_the_one_that_was_known() {
        let tmp = server(&[]);
        let dir = tmp.path();
        assert_eq!(owed(dir).unwrap(), None);
        owe(dir, "a gap", 1, None).unwrap();
        let first = owed(dir).unwrap().unwrap();
        owe(dir, "a gap", 2, None).unwrap();
        paid(dir, &first).unwrap();
        let second = owed(dir).unwrap().unwrap();
        paid(dir, &second).unwrap();
        assert_eq!(owed(dir).unwrap(), None);
    }

    #[test]
    fn an_empty_list_is_no_archive() {
        let tmp = server(&[]);
        assert!(!archived(tmp.path()).unwrap());
        fs::create_dir(tmp.path().join("wals")).unwrap();
        for list in ["wals/xlog.db", "wals/main-xlog.db"] {
            let list = tmp.path().join(list);
            fs::write(&list, "").unwrap();
            assert!(!archived(tmp.path()).unwrap());
            fs::write(&list, "x\n").unwrap();
            assert!(archived(tmp.path()).unwrap());
            fs::remove_file(&list).unwrap();
        }
    }
}
