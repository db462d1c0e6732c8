//! A backup's copy becomes a server that recovers by our word alone: nothing of its former life is
//! left in it, and what recovery needs is given on the command line, so that nothing of the restore
//! is left in it either. It recovers as a standby does: such a server waits at the end of the WAL
//! that it gets, and is only promoted when it is told so.

use super::PgError;
use crate::config::{Config, Target};
use crate::domain::{Lsn, Timeline};
use crate::sys::{Account, Children, Spec, write_volatile};
use chrono::{DateTime, NaiveDateTime, Utc};
use std::io::{self, ErrorKind};
use std::path::Path;
use std::time::Duration;

/// Settings of the former life: whom it followed, how it recovered, where it archived to, whom its
/// commits waited for.
const OF_THE_FORMER_LIFE: [&str; 20] = [
    "primary_conninfo",
    "primary_slot_name",
    "promote_trigger_file",
    "recovery_target",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_xid",
    "recovery_target_lsn",
    "recovery_target_inclusive",
    "recovery_target_timeline",
    "recovery_target_action",
    "recovery_min_apply_delay",
    "recovery_end_command",
    "restore_command",
    "archive_cleanup_command",
    "archive_mode",
    "archive_command",
    "archive_library",
    "synchronous_standby_names",
    "synchronized_standby_slots",
];

/// Files that say that a server runs, or how it was to recover.
const SIGNS: [&str; 6] = [
    // Recovery would make links anew, to where the tablespaces were.
    "tablespace_map",
    "postmaster.pid",
    "postmaster.opts",
    "recovery.signal",
    "recovery.done",
    "recovery.conf",
];

/// Makes a copy of a backup ready to recover; the rest of its settings stay. `backup_label` stays as
/// it is: without it the server would begin at the wrong checkpoint and be corrupt without a word.
/// Nothing is synced. Idempotent.
///
/// # Errors
/// What the system said; [`ErrorKind::NotFound`] when there is no `backup_label`.
pub fn strip(dir: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    let label = dir.join("backup_label");
    if !label.is_file() {
        let why = "the copy has no backup_label: a server started from it would be corrupt";
        return Err(io::Error::new(ErrorKind::NotFound, why));
    }
    for name in SIGNS {
        crate::sys::remove(&dir.join(name))?;
    }
    let slots = dir.join("pg_replslot");
    if slots.is_dir() {
        for entry in std::fs::read_dir(&slots)? {
            let path = entry?.path();
            match path.is_dir() {
                true => std::fs::remove_dir_all(path)?,
                false => std::fs::remove_file(path)?,
            }
        }
    }
    rewrite(&dir.join("postgresql.auto.conf"), owner, without)?;
    rewrite(&dir.join("postgresql.conf"), owner, commented)?;
    let wal = dir.join("pg_wal");
    if wal.is_symlink() {
        std::fs::remove_file(&wal)?;
    }
    crate::sys::ensure_dir(&wal, 0o700, owner)?;
    crate::sys::ensure_dir(&wal.join("archive_status"), 0o700, owner)?;
    write_volatile(&dir.join("standby.signal"), b"", 0o600, owner)?;
    Ok(())
}

fn rewrite(path: &Path, owner: Option<(u32, u32)>, change: fn(&str) -> String) -> io::Result<()> {
    let bytes = match std::fs::read(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    // A comment may be in any encoding.
    match String::from_utf8(bytes) {
        Ok(text) => write_volatile(path, change(&text).as_bytes(), 0o600, owner).map(drop),
        Err(_) => Err(io::Error::new(
            ErrorKind::InvalidData,
            format!(
                "{} is not UTF-8: what is in it cannot be told",
                path.display()
            ),
        )),
    }
}

fn is_former(line: &str) -> bool {
    let name = line
        .trim_start()
        .split(|c: char| c == '=' || c.is_whitespace())
        .next()
        .unwrap_or_default();
    OF_THE_FORMER_LIFE
        .iter()
        .any(|n| name.eq_ignore_ascii_case(n))
}

fn without(text: &str) -> String {
    let kept = text.lines().filter(|line| !is_former(line));
    kept.map(|line| format!("{line}\n")).collect()
}

/// In the user's own file nothing is lost.
fn commented(text: &str) -> String {
    let mark = |line: &str| match is_former(line) {
        true => format!("# of the cluster that this was restored from: {line}\n"),
        false => format!("{line}\n"),
    };
    text.lines().map(mark).collect()
}

/// How far a server recovers.
#[derive(Clone, Debug)]
pub struct Recovery {
    /// Where it stops; it waits there.
    pub target: Target,
    /// Whether the target itself is recovered.
    pub inclusive: bool,
    /// The timeline, by number: PostgreSQL's own search for the latest ends at the first number that
    /// is missing (`findNewestTimeLine` in `timeline.c`).
    pub timeline: Timeline,
    /// What it calls for each file.
    pub command: String,
}

impl Recovery {
    /// The settings, for the command line.
    #[must_use]
    pub fn settings(&self) -> Vec<(String, String)> {
        let mut all = vec![
            ("restore_command", self.command.clone()),
            ("recovery_target_timeline", self.timeline.0.to_string()),
            ("recovery_target_action", "pause".to_owned()),
            ("recovery_target_inclusive", self.inclusive.to_string()),
            // Nothing but the archive: no primary, and no place to archive to.
            ("primary_conninfo", String::new()),
            ("primary_slot_name", String::new()),
            ("archive_mode", "off".to_owned()),
            ("archive_command", String::new()),
            ("recovery_end_command", String::new()),
            ("archive_cleanup_command", String::new()),
            ("recovery_min_apply_delay", "0".to_owned()),
            ("synchronous_standby_names", String::new()),
            // It is what it waits for: only we may connect, and queries must not hold replay back.
            ("hot_standby", "on".to_owned()),
            // Subscriptions of the former life must not ask their publishers before the node is open.
            ("max_logical_replication_workers", "0".to_owned()),
            ("wal_retrieve_retry_interval", "200ms".to_owned()),
        ];
        match &self.target {
            Target::End => {}
            Target::Immediate => all.push(("recovery_target", "immediate".to_owned())),
            Target::Time(t) => {
                all.push(("recovery_target_time", t.format("%F %T%.f+00").to_string()));
            }
            Target::Lsn(lsn) => all.push(("recovery_target_lsn", lsn.to_string())),
            Target::Xid(xid) => all.push(("recovery_target_xid", xid.to_string())),
            Target::Name(name) => all.push(("recovery_target_name", name.clone())),
        }
        all.into_iter().map(|(n, v)| (n.to_owned(), v)).collect()
    }
}

/// Settings that a server in recovery needs at least as large as they were where its WAL was written,
/// by the words of `pg_controldata` (`CheckRequiredParameterValues` in `xlogrecovery.c`).
const LIMITS: [(&str, &str); 5] = [
    ("max_connections setting", "max_connections"),
    ("max_worker_processes setting", "max_worker_processes"),
    ("max_wal_senders setting", "max_wal_senders"),
    ("max_prepared_xacts setting", "max_prepared_transactions"),
    ("max_locks_per_xact setting", "max_locks_per_transaction"),
];

/// Those settings as the control data of `dir` have them now.
///
/// # Errors
/// [`PgError`].
pub async fn recovery_limits(
    children: &Children,
    config: &Config,
    account: &Account,
    dir: &Path,
) -> Result<Vec<(String, String)>, PgError> {
    let end = super::controldata::said(children, config, account, dir).await?;
    Ok(limits(&end.stdout))
}

fn limits(text: &str) -> Vec<(String, String)> {
    let value = |key: &str| {
        text.lines()
            .filter_map(|l| l.split_once(':'))
            .find(|(k, _)| k.trim() == key)
            .and_then(|(_, v)| v.trim().parse::<u32>().ok())
    };
    LIMITS
        .iter()
        .filter_map(|(key, name)| Some(((*name).to_owned(), value(key)?.to_string())))
        .collect()
}

/// A segment dumped takes a second; the disk may be slow.
const DUMP: Duration = Duration::from_secs(120);

/// What the valid records of one segment file say: where the last one begins, and when the last
/// transaction in it committed. pg_waldump ends with an error where the records end; what it has said
/// by then counts.
///
/// # Errors
/// [`PgError::Child`].
pub async fn last_records(
    children: &Children,
    config: &Config,
    account: &Account,
    segment: &Path,
) -> Result<(Option<Lsn>, Option<DateTime<Utc>>), PgError> {
    let dump = |args: &[&str]| {
        let mut words: Vec<std::ffi::OsString> = args.iter().map(Into::into).collect();
        words.push(segment.into());
        Spec::new("pg_waldump", words)
            .env(config.environment.base.clone())
            .env([("LC_ALL", "C"), ("TZ", "UTC")])
            .account(Some(account.clone()))
    };
    let all = children.run(dump(&[]), DUMP).await?;
    let commits = children.run(dump(&["--rmgr=Transaction"]), DUMP).await?;
    let record = all.stdout.lines().rev().find_map(position);
    let commit = commits.stdout.lines().rev().find_map(committed);
    Ok((record, commit))
}

/// `rmgr: Heap len (rec/tot): 54/ 54, tx: 740, lsn: 0/03000028, prev 0/02000158, desc: …`
fn position(line: &str) -> Option<Lsn> {
    let rest = line.split_once(", lsn: ")?.1;
    rest.split(',').next()?.trim().parse().ok()
}

/// `… desc: COMMIT 2026-11-21 08:00:00.123456 UTC; …`, also of an abort: both carry a time.
fn committed(line: &str) -> Option<DateTime<Utc>> {
    let desc = line.split_once("desc: ")?.1;
    let mut words = desc.split_whitespace();
    let what = words.next()?;
    if !what.starts_with("COMMIT") && !what.starts_with("ABORT") {
        return None;
    }
    // A prepared transaction's number comes first.
    let words: Vec<&str> = words.filter(|w| !w.ends_with(':')).take(2).collect();
    let text = words.join(" ");
    let time = NaiveDateTime::parse_from_str(text.trim_end_matches(';'), "%Y-%m-%d %H:%M:%S%.f");
    time.ok().map(|t| t.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_the_former_life_is_left() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path();
        assert_eq!(strip(dir, None).unwrap_err().kind(), ErrorKind::NotFound);
        let write = |name: &str, text: &str| std::fs::write(dir.join(name), text).unwrap();
        write("backup_label", "START WAL LOCATION: 0/2000028\n");
        for name in SIGNS {
            write(name, "x");
        }
        std::fs::create_dir_all(dir.join("pg_replslot/repmgr_slot_2")).unwrap();
        std::fs::create_dir_all(dir.join("pg_replslot/mine")).unwrap();
        let elsewhere = dir.join("elsewhere");
        std::fs::create_dir(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, dir.join("pg_wal")).unwrap();
        write(
            "postgresql.auto.conf",
            "# Do not edit\nwork_mem = '8MB'\nprimary_conninfo = 'host=a'\nPrimary_Slot_Name = 'x'\n\
             recovery_target_time = 'y'\nrestore_command='z'\narchive_command = 'cp %p /a'\n\
             archive_timeout = '60'\nsynchronous_standby_names = '*'\n",
        );
        write(
            "postgresql.conf",
            "port = 1\n  archive_mode on\n#archive_mode = on\narchive_command = 'ship'\ninclude_if_exists = 'x'\n",
        );
        for _ in 0..2 {
            strip(dir, None).unwrap();
            let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
            assert_eq!(
                read("postgresql.auto.conf"),
                "# Do not edit\nwork_mem = '8MB'\narchive_timeout = '60'\n"
            );
            assert_eq!(
                read("postgresql.conf"),
                "port = 1\n# of the cluster that this was restored from:   archive_mode on\n\
                 #archive_mode = on\n# of the cluster that this was restored from: archive_command = 'ship'\n\
                 include_if_exists = 'x'\n"
            );
            assert!(SIGNS.iter().all(|name| !dir.join(name).exists()));
            assert_eq!(
                std::fs::read_dir(dir.join("pg_replslot")).unwrap().count(),
                0
            );
            assert!(dir.join("standby.signal").is_file() && dir.join("backup_label").is_file());
            assert!(dir.join("pg_wal/archive_status").is_dir() && !dir.join("pg_wal").is_symlink());
        }
    }

    #[test]
    fn recovery_waits_at_its_target_on_the_timeline_that_was_chosen() {
        let settings = |target: Target| {
            let recovery = Recovery {
                target,
                inclusive: false,
                timeline: Timeline(3),
                command: "x %f %p".into(),
            };
            let all = recovery.settings();
            assert!(all.contains(&("recovery_target_action".into(), "pause".into())));
            assert!(all.contains(&("recovery_target_timeline".into(), "3".into())));
            assert!(all.contains(&("recovery_target_inclusive".into(), "false".into())));
            assert!(all.contains(&("archive_mode".into(), "off".into())));
            let (name, value) = all.last().unwrap().clone();
            format!("{name}={value}")
        };
        let time = Target::Time("2026-11-21T10:15:00.25+02:00".parse().unwrap());
        for (target, want) in [
            (time, "recovery_target_time=2026-11-21 08:15:00.250+00"),
            (Target::Immediate, "recovery_target=immediate"),
            (
                Target::Lsn(Lsn(0x500_0028)),
                "recovery_target_lsn=0/5000028",
            ),
            (Target::Xid(742), "recovery_target_xid=742"),
            (Target::Name("a b".into()), "recovery_target_name=a b"),
            (Target::End, "wal_retrieve_retry_interval=200ms"),
        ] {
            assert_eq!(settings(target), want);
        }
    }

    #[test]
    fn the_words_of_the_tools_are_read() {
        let line = "rmgr: Transaction len (rec/tot):     34/    34, tx:        742, lsn: 0/030001A0, prev 0/03000160, desc: COMMIT 2026-11-21 08:00:00.123456 UTC; rels: base/5/1";
        assert_eq!(position(line), Some(Lsn(0x300_01A0)));
        assert_eq!(
            committed(line),
            Some("2026-11-21T08:00:00.123456Z".parse().unwrap())
        );
        let prepared = "lsn: 0/1, desc: COMMIT_PREPARED 742: 2026-11-21 08:00:00.500000 UTC";
        assert!(committed(prepared).is_some());
        assert_eq!(committed("desc: ASSIGNMENT xtop 1"), None);
        assert_eq!(
            limits(
                "max_connections setting:              100\nwal_level setting: replica\nmax_locks_per_xact setting: 64\n"
            ),
            [
                ("max_connections".to_owned(), "100".to_owned()),
                ("max_locks_per_transaction".to_owned(), "64".to_owned())
            ]
        );
    }
}
