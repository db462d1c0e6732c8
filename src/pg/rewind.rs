//! What an old primary needs to rejoin: the new one's history and rights, where its own WAL ends, and
//! pg_rewind. What was measured is in `docs/facts-trixie.md` §10.

use super::{PgError, Session, argv};
use crate::config::{Address, Config};
use crate::domain::{Lsn, SystemId, Timeline, WalName, human_bytes};
use crate::sys::{Account, Children, Finished};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// pg_rewind ends by itself when its connection does; a large one copies for hours.
const REWIND_LIMIT: Duration = Duration::from_secs(24 * 3600);

/// Only to say how much is lost: a day's WAL is not worth an hour of reading.
const WALDUMP_LIMIT: Duration = Duration::from_secs(60);

/// pg_rewind's functions (PostgreSQL manual, "pg_rewind", Notes), granted in the repmgr database.
const NEEDED: [&str; 4] = [
    "pg_ls_dir(text, boolean, boolean)",
    "pg_stat_file(text, boolean)",
    "pg_read_binary_file(text)",
    "pg_read_binary_file(text, bigint, bigint, boolean)",
];

/// What the new primary says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFacts {
    /// It is itself a standby.
    pub recovering: bool,
    /// Its cluster.
    pub system_id: SystemId,
    /// Its timeline.
    pub timeline: Timeline,
    /// Text of its timeline's history file; empty on timeline 1, `None` when it cannot be read.
    pub history: Option<String>,
    /// Functions that the user `repmgr` may not execute.
    pub lacking: Vec<String>,
    /// The timeline of its latest checkpoint: behind its own until the first one after a promotion.
    pub checkpoint_timeline: Timeline,
}

/// Asks a node by a session of user repmgr in its database.
///
/// # Errors
/// [`PgError`].
pub async fn source_facts(primary: &Session) -> Result<SourceFacts, PgError> {
    let needed: Vec<&str> = NEEDED.to_vec();
    let row = primary
        .one(
            "asking the new primary for its timeline and pg_rewind's rights",
            "SELECT r.recovering, (SELECT system_identifier::text FROM pg_control_system()), \
               CASE WHEN r.recovering THEN 0 \
                    ELSE ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int8 END, \
               (SELECT timeline_id::int8 FROM pg_control_checkpoint()), \
               coalesce((SELECT array_agg(f) FROM unnest($1::text[]) f \
                 WHERE NOT has_function_privilege(f, 'EXECUTE')), '{}') \
             FROM (SELECT pg_is_in_recovery() AS recovering) r",
            &[&needed],
        )
        .await?;
    let number = |n: i64| Timeline(u32::try_from(n).unwrap_or(0));
    let (id, timeline): (&str, Timeline) = (row.get(1), number(row.get(2)));
    let lacking: Vec<String> = row.get(4);
    let history = if timeline.0 <= 1 {
        Some(String::new())
    } else if lacking.iter().any(|f| f == NEEDED[2]) {
        None
    } else {
        let name = format!("pg_wal/{:08X}.history", timeline.0);
        let read = "SELECT convert_from(pg_read_binary_file($1), 'UTF8')";
        match primary
            .one("reading the new primary's history", read, &[&name])
            .await
        {
            Ok(row) => Some(row.get(0)),
            // A file that is missing there is the server's answer; a lost connection is not.
            Err(PgError::Sql { source, .. }) if source.code().is_some() => None,
            Err(error) => return Err(error),
        }
    };
    Ok(SourceFacts {
        recovering: row.get(0),
        system_id: SystemId(id.parse().unwrap_or(0)),
        timeline,
        history,
        lacking,
        checkpoint_timeline: number(row.get(3)),
    })
}

/// Where the valid WAL of a stopped cluster ends; `None` when that cannot be said. Read from the fork
/// on, or from the latest checkpoint when that is later. When nothing valid begins at the fork, it ends
/// there at the latest.
pub async fn wal_end(
    children: &Children,
    config: &Config,
    account: &Account,
    timeline: Timeline,
    checkpoint: Lsn,
    fork: Lsn,
) -> Option<Lsn> {
    let dump = async |from, limit| {
        let spec = argv::pg_waldump(config, account, timeline, from, limit);
        match children.run(spec, WALDUMP_LIMIT).await {
            Ok(end) => Some(last_record(&end.stdout)),
            Err(error) => {
                let why = crate::domain::Fault::chain(&error);
                tracing::warn!("where the WAL ends is not known: {why}");
                None
            }
        }
    };
    // It ends with 1 at the end of WAL as well as on a fault of its own. The checkpoint's record is
    // there for sure: only a pg_waldump that finds it is believed when it finds nothing at the fork.
    dump(checkpoint, Some(1)).await??;
    let from = checkpoint.max(fork);
    Some(dump(from, None).await?.unwrap_or(from))
}

/// The end of the last record: `… len (rec/tot): 34/ 34, tx: 740, lsn: 0/030050E0, prev …`. Records
/// begin at multiples of 8.
fn last_record(text: &str) -> Option<Lsn> {
    let line = text.lines().rev().find(|l| l.starts_with("rmgr:"))?;
    let after = |key: &str| Some(line.split_once(key)?.1.trim_start());
    let (_, total) = after("len (rec/tot):")?.split_once('/')?;
    let total: u64 = total.trim_start().split(',').next()?.trim().parse().ok()?;
    let begin: Lsn = after("lsn:")?.split(',').next()?.trim().parse().ok()?;
    Some(Lsn((begin.0 + total).next_multiple_of(8)))
}

/// Rewinds; `progress` hears how far it is. Not synced.
///
/// # Errors
/// [`PgError`]; the directory may then be anything, and only a rewind or a clone makes it sound.
pub async fn rewind(
    children: &Children,
    config: &Config,
    account: &Account,
    source: &Address,
    dry_run: bool,
    mut progress: impl FnMut(String),
) -> Result<Finished, PgError> {
    let spec = argv::pg_rewind(config, account, source, dry_run);
    let end = children
        .run_with_lines(spec, REWIND_LIMIT, |line| {
            if let Some((done, total)) = progress_line(line) {
                let percent = done.saturating_mul(100).checked_div(total).unwrap_or(100);
                progress(format!("rewinding: {percent} % of {}", human_bytes(total)));
            } else if let Some(said) = line.strip_prefix("pg_rewind: ").filter(|_| !dry_run) {
                tracing::info!(source = "pg_rewind", "{said}");
            } else {
                tracing::debug!(source = "pg_rewind", "{line}");
            }
        })
        .await?;
    if end.exit.is_success() {
        return Ok(end);
    }
    Err(PgError::Program {
        program: "pg_rewind",
        exit: end.exit.to_string(),
        last_words: end.last_words(),
    })
}

/// ` 1944/52985 kB (3%) copied`: done and total bytes.
fn progress_line(line: &str) -> Option<(u64, u64)> {
    let (amounts, _) = line.trim_start().split_once(" kB (")?;
    let (done, total) = amounts.split_once('/')?;
    Some((
        done.trim().parse::<u64>().ok()? * 1024,
        total.trim().parse::<u64>().ok()? * 1024,
    ))
}

/// Whether the WAL that a rewound directory begins with is there: pg_rewind 17 removes segments that
/// its source no longer has, also the one with the last common checkpoint.
///
/// # Errors
/// When the directory cannot be read.
pub fn starts_with_wal(dir: &Path) -> std::io::Result<bool> {
    let label = std::fs::read_to_string(dir.join("backup_label"))?;
    let segment = label
        .lines()
        .find_map(|l| l.strip_prefix("START WAL LOCATION: ")?.split_once("(file "))
        .map(|(_, rest)| rest.trim_end_matches(')').to_owned());
    Ok(segment.is_some_and(|name| dir.join("pg_wal").join(name).is_file()))
}

/// Copies the segments of these timelines from the one that holds `from` on into `target`, synced. What
/// is there already from an earlier try is kept: that copy is the truer one.
///
/// # Errors
/// What the system said.
pub fn keep_wal(
    dir: &Path,
    timelines: RangeInclusive<Timeline>,
    from: Lsn,
    segment_size: u64,
    target: &Path,
    owner: Option<(u32, u32)>,
) -> std::io::Result<(usize, u64)> {
    let first = WalName::holding(Timeline(0), from, segment_size).to_string();
    crate::sys::ensure_dir(target, 0o700, owner)?;
    let (mut files, mut bytes) = (0, 0);
    let mut names: Vec<_> = std::fs::read_dir(dir.join("pg_wal"))?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<std::io::Result<_>>()?;
    names.sort();
    for name in names {
        let (Some(timeline), Some(rest)) = (name.get(..8), name.get(8..)) else {
            continue;
        };
        let ours =
            u32::from_str_radix(timeline, 16).is_ok_and(|t| timelines.contains(&Timeline(t)));
        // Both are 16 hexadecimal digits, so their order is the WAL's.
        let segment = rest.len() == 16 && rest >= &first[8..];
        if !ours || !(segment || rest == ".history") {
            continue;
        }
        let to = target.join(&name);
        if !to.is_file() {
            copy_synced(&dir.join("pg_wal").join(&name), &to, owner)?;
        }
        files += usize::from(segment);
        bytes += to.metadata()?.len();
    }
    crate::sys::sync_dir(target)?;
    Ok((files, bytes))
}

fn copy_synced(from: &Path, to: &Path, owner: Option<(u32, u32)>) -> std::io::Result<()> {
    let partial: PathBuf = to.with_extension("new");
    std::fs::copy(from, &partial)?;
    if let Some((uid, gid)) = owner {
        std::os::unix::fs::chown(&partial, Some(uid), Some(gid))?;
    }
    std::fs::File::open(&partial)?.sync_all()?;
    std::fs::rename(&partial, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_last_record_is_found() {
        let text = "\
rmgr: Heap        len (rec/tot):     59/    59, tx:        740, lsn: 0/030050A0, prev 0/03005060, desc: INSERT off: 200
rmgr: Transaction len (rec/tot):     34/    34, tx:        740, lsn: 0/030050E0, prev 0/030050A0, desc: COMMIT
";
        assert_eq!(last_record(text), Some(Lsn(0x0300_5108)));
        let full = "rmgr: XLOG        len (rec/tot):     49/  8205, tx:          0, lsn: 0/02000028, prev 0/0";
        assert_eq!(last_record(full), Some(Lsn(0x0200_2038)));
        assert_eq!(last_record(""), None);
    }

    #[test]
    fn progress_is_read() {
        assert_eq!(
            progress_line(" 1944/52985 kB (3%) copied"),
            Some((1944 * 1024, 52985 * 1024))
        );
        assert_eq!(progress_line("pg_rewind: Done!"), None);
    }

    #[test]
    fn only_the_wal_from_the_fork_on_is_kept() {
        let tmp = tempfile::tempdir().unwrap();
        let wal = tmp.path().join("pg_wal");
        std::fs::create_dir_all(wal.join("archive_status")).unwrap();
        for name in [
            "000000020000000000000002",
            "000000020000000000000003",
            "000000020000000000000004",
            "000000010000000000000003",
            "000000020000000000000003.partial",
            "00000002.history",
        ] {
            std::fs::write(wal.join(name), name).unwrap();
        }
        let kept = tmp.path().join("kept");
        let keep = || {
            keep_wal(
                tmp.path(),
                Timeline(2)..=Timeline(3),
                Lsn(0x0300_37C8),
                16 << 20,
                &kept,
                None,
            )
            .unwrap()
        };
        assert_eq!(keep(), (2, 24 + 24 + 16));
        let names = || {
            let mut names: Vec<_> = std::fs::read_dir(&kept)
                .unwrap()
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        let want = [
            "00000002.history",
            "000000020000000000000003",
            "000000020000000000000004",
        ];
        assert_eq!(names(), want);
        // A second try after a rewind that overwrote a segment keeps the first copy.
        std::fs::write(wal.join(want[1]), "overwritten").unwrap();
        keep();
        assert_eq!(
            std::fs::read_to_string(kept.join(want[1])).unwrap(),
            want[1]
        );
    }

    #[test]
    fn the_first_wal_of_a_rewound_directory_is_looked_for() {
        let tmp = tempfile::tempdir().unwrap();
        let label = "START WAL LOCATION: 0/2000028 (file 000000010000000000000002)\nCHECKPOINT LOCATION: 0/2000080\n";
        std::fs::write(tmp.path().join("backup_label"), label).unwrap();
        assert!(!starts_with_wal(tmp.path()).unwrap());
        std::fs::create_dir(tmp.path().join("pg_wal")).unwrap();
        std::fs::write(tmp.path().join("pg_wal/000000010000000000000002"), "").unwrap();
        assert!(starts_with_wal(tmp.path()).unwrap());
    }
}
