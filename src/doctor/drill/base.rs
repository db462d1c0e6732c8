//! The base: which backup, whether its WAL is there, its files copied and compared with their manifest.

use super::Flaw;
use super::guard::Life;
use super::scratch::Scratch;
use crate::barman::{Backup, Kind, Server};
use crate::doctor::facts::Marker;
use crate::doctor::{Doctor, ailments};
use crate::domain::{Fault, History, WalName, human_bytes};
use crate::sys::{self, Finished};
use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::time::Duration;

/// Copying takes what it takes.
const LONG: Duration = Duration::from_secs(7 * 24 * 3600);
/// Room beside the files: WAL that is being replayed, and temporary files.
const BESIDE: u64 = 256 << 20;

/// The newest complete backup and what it rests on, the full one first.
pub(super) fn choose(server: &Server) -> Result<Vec<Backup>, Flaw> {
    let none = |why: String| Flaw::new(&ailments::DRILL_NO_BACKUP, why);
    let all = server.backups().map_err(|e| none(Fault::chain(&e)))?;
    let newest = all.iter().rfind(|b| b.is_done());
    let newest = newest.ok_or_else(|| none(format!("none of {} is DONE", all.len())))?;
    let chain = server
        .chain(&newest.id)
        .map_err(|e| none(Fault::chain(&e)))?;
    for backup in &chain {
        let packed = backup
            .compression
            .as_deref()
            .or(backup.encryption.as_deref());
        if let Some(how) = packed {
            return Err(none(format!("the base of {} is packed ({how})", backup.id)));
        }
        if backup.kind() == Kind::Snapshot {
            return Err(none(format!("{} is a snapshot in a cloud", backup.id)));
        }
    }
    Ok(chain)
}

/// Every segment from the backup's first to the marker's, else to the backup's last, is in the archive.
/// Returns how many.
pub(super) fn wal(server: &Server, backup: &Backup, marker: Option<&Marker>) -> Result<u64, Flaw> {
    let broken = |why: String| Flaw::new(&ailments::DRILL_WAL, why).with("wal", "?");
    let (Some(begin), Some(end)) = (backup.begin_wal, backup.end_wal) else {
        return Err(broken(format!(
            "{} does not say which WAL it needs",
            backup.id
        )));
    };
    let size = backup.segment_size;
    let target = match marker {
        Some(m) => WalName::parse(&m.segment, size).map_err(|e| broken(e.to_string()))?,
        None => end,
    };
    let archive = server.archive(size).map_err(|e| broken(Fault::chain(&e)))?;
    let history = server
        .history(target.timeline)
        .map_err(|e| broken(e.to_string()))?;
    let history = history.ok_or_else(|| {
        let name = History::file_name(target.timeline);
        Flaw::new(&ailments::DRILL_WAL, "").with("wal", name)
    })?;
    let missing = match archive.reach(begin, &history) {
        Some(last) if last.number >= target.number => {
            return Ok((target.number + 1).saturating_sub(begin.number));
        }
        Some(last) => {
            let number = last.number + 1;
            // On the timeline that replay would read it from.
            let timeline = history.timeline_at(crate::domain::Lsn((number + 1) * size - 1));
            WalName {
                timeline,
                number,
                segment_size: size,
            }
        }
        None => begin,
    };
    Err(Flaw::new(&ailments::DRILL_WAL, "").with("wal", missing.to_string()))
}

/// Whether the files fit with a margin. Returns their bytes.
pub(super) fn room(chain: &[Backup], scratch: &Path) -> Result<u64, Flaw> {
    let failed =
        |e: io::Error| Flaw::new(&ailments::DRILL_DIR, format!("{}: {e}", scratch.display()));
    let mut bytes = 0_u64;
    for backup in chain {
        bytes = bytes.saturating_add(sys::dir_size(&backup.dir).map_err(failed)?);
    }
    let need = bytes.saturating_add(bytes / 10).saturating_add(BESIDE);
    let free = sys::fs_facts(scratch).map_err(failed)?.available;
    if free < need {
        let flaw = Flaw::new(&ailments::DRILL_SPACE, "")
            .with("path", scratch.display().to_string())
            .with("free", human_bytes(free))
            .with("need", human_bytes(need));
        return Err(flaw);
    }
    Ok(bytes)
}

/// Copies, or combines, the base into the scratch directory; tablespaces go beside it.
pub(super) async fn copy(
    doctor: &Doctor,
    life: &Life,
    chain: &[Backup],
    scratch: &Scratch,
) -> Result<(), Flaw> {
    let [.., last] = chain else {
        return Err(Flaw::new(&ailments::DRILL_COPY, "there is nothing to copy"));
    };
    if chain.len() > 1 {
        let mut words: Vec<OsString> = vec!["--no-sync".into(), "-o".into(), scratch.data().into()];
        for space in &last.tablespaces {
            // From where the last backup has it.
            let mut pair = last.tablespace_dir(space.oid).into_os_string();
            pair.push("=");
            pair.push(scratch.tablespace(space.oid));
            words.extend(["-T".into(), pair]);
        }
        words.extend(chain.iter().map(|b| b.data_dir().into()));
        return ended(run(doctor, life, "pg_combinebackup", words).await, last);
    }
    let mut copies = vec![(last.data_dir(), scratch.data())];
    for space in &last.tablespaces {
        copies.push((
            last.tablespace_dir(space.oid),
            scratch.tablespace(space.oid),
        ));
    }
    for (from, to) in &copies {
        let words: Vec<OsString> = vec![
            "-a".into(),
            "--reflink=auto".into(),
            "-T".into(),
            from.into(),
            to.into(),
        ];
        ended(run(doctor, life, "cp", words).await, last)?;
    }
    link(last, scratch)
}

/// Links the copy to the tablespaces beside it.
pub(super) fn link(backup: &Backup, scratch: &Scratch) -> Result<(), Flaw> {
    let failed = |e: io::Error| {
        let why = format!("the links of its tablespaces: {e}");
        Flaw::new(&ailments::DRILL_COPY, why).with("id", &backup.id)
    };
    for space in &backup.tablespaces {
        // The backup's own links lead back into the backup: a recovery would write there.
        let link = scratch.data().join("pg_tblspc").join(space.oid.to_string());
        sys::remove(&link).map_err(failed)?;
        std::os::unix::fs::symlink(scratch.tablespace(space.oid), &link).map_err(failed)?;
    }
    no_link_leads_away(scratch).map_err(failed)
}

/// Whatever the catalogue says of tablespaces: nothing outside of the scratch directory may be written to.
fn no_link_leads_away(scratch: &Scratch) -> io::Result<()> {
    for dir in [scratch.data(), scratch.data().join("pg_tblspc")] {
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_symlink()
                && !std::fs::canonicalize(entry.path())?
                    .starts_with(&std::fs::canonicalize(&scratch.dir)?)
            {
                let why = format!("{} leads out of the copy", entry.path().display());
                return Err(io::Error::other(why));
            }
        }
    }
    Ok(())
}

/// Compares files with their manifest: of a full backup the copy, of a chain each of its parts.
/// `false` where there is no manifest.
pub(super) async fn verify(
    doctor: &Doctor,
    life: &Life,
    chain: &[Backup],
    scratch: &Scratch,
) -> Result<bool, Flaw> {
    let dirs: Vec<_> = match chain {
        [_] => vec![scratch.data()],
        _ => chain.iter().map(Backup::data_dir).collect(),
    };
    let mut any = false;
    for (dir, backup) in dirs.iter().zip(chain) {
        if !dir.join("backup_manifest").is_file() {
            continue;
        }
        any = true;
        let words: [OsString; 4] = ["-n".into(), "-e".into(), "-q".into(), dir.into()];
        let end = run(doctor, life, "pg_verifybackup", words).await?;
        if !end.exit.is_success() {
            let flaw = Flaw::new(&ailments::DRILL_VERIFY, end.last_words());
            return Err(flaw.with("id", &backup.id));
        }
    }
    Ok(any)
}

pub(super) async fn run(
    doctor: &Doctor,
    life: &Life,
    program: &str,
    words: impl IntoIterator<Item = OsString>,
) -> Result<Finished, Flaw> {
    let spec = life.command(doctor, "TERM", program, words);
    let end = doctor.children.run(spec, LONG).await;
    end.map_err(|e| Flaw::new(&ailments::DRILL_BROKEN, Fault::chain(&e)))
}

fn ended(end: Result<Finished, Flaw>, backup: &Backup) -> Result<(), Flaw> {
    let end = end?;
    if end.exit.is_success() {
        return Ok(());
    }
    let why = format!("{}: {}", end.exit, end.last_words());
    Err(Flaw::new(&ailments::DRILL_COPY, why).with("id", &backup.id))
}
