//! The files that make a stopped data directory a standby's, exactly as `repmgr standby clone` leaves
//! them (seen with repmgr 5.5), and what an older role left behind.

use super::slot_name;
use crate::config::{Address, Config};
use std::io::{self, ErrorKind};
use std::path::Path;

/// Settings in `postgresql.auto.conf` that belong to a role, not to the user.
const OF_THE_ROLE: [&str; 10] = [
    "primary_conninfo",
    "primary_slot_name",
    "recovery_target",
    "recovery_target_name",
    "recovery_target_time",
    "recovery_target_xid",
    "recovery_target_lsn",
    "recovery_target_inclusive",
    "recovery_target_timeline",
    "recovery_target_action",
];

/// Points a stopped directory at its primary and makes it a standby; the signal comes last, so that a
/// kill leaves a primary that asks again, or a standby that is whole. Synced.
///
/// # Errors
/// What the system said.
pub fn become_standby(
    config: &Config,
    source: &Address,
    owner: Option<(u32, u32)>,
) -> io::Result<()> {
    let dir = &config.paths.pgdata;
    drop_own_slots(dir)?;
    let path = dir.join("postgresql.auto.conf");
    let former = match std::fs::read_to_string(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
        other => other?,
    };
    let slot = slot_name(config.identity.id);
    let text = follow_settings(&former, &conninfo(config, source), &slot);
    crate::sys::write_atomic(&path, text.as_bytes(), 0o600, owner)?;
    crate::sys::write_atomic(&dir.join("standby.signal"), b"", 0o600, owner)?;
    Ok(())
}

/// Makes a stopped directory a standby's that follows nobody: recovery ends with the WAL that is here,
/// and it can be promoted. Synced, the signal last.
///
/// # Errors
/// What the system said.
pub fn become_candidate(config: &Config, owner: Option<(u32, u32)>) -> io::Result<()> {
    let dir = &config.paths.pgdata;
    let path = dir.join("postgresql.auto.conf");
    let former = match std::fs::read_to_string(&path) {
        Err(e) if e.kind() == ErrorKind::NotFound => String::new(),
        other => other?,
    };
    let text = without_role(&former);
    crate::sys::write_atomic(&path, text.as_bytes(), 0o600, owner)?;
    crate::sys::write_atomic(&dir.join("standby.signal"), b"", 0o600, owner)?;
    Ok(())
}

/// Takes every number below `term` that no timeline has, so that the promotion takes `term` itself:
/// PostgreSQL uses the first one without a history file (`findNewestTimeLine` in `timeline.c`), and a
/// standby that follows asks for all of those in between (`WalRcvFetchTimeLineHistoryFiles`). Only the
/// history of the timeline in use is ever read; lines that begin with `#` are comments.
///
/// # Errors
/// What the system said.
pub fn reserve_timelines(pg_wal: &Path, term: u64, owner: Option<(u32, u32)>) -> io::Result<()> {
    // More would be years of failed elections; the next free number does as well then.
    const MOST: u64 = 10_000;
    for number in (2..term).rev().take_while(|n| term - n < MOST) {
        let path = pg_wal.join(format!("{number:08X}.history"));
        if path.try_exists()? {
            continue;
        }
        let text = format!("{RESERVED}: term {number} has no primary that this node knows of\n");
        crate::sys::write_atomic(&path, text.as_bytes(), 0o600, owner)?;
    }
    Ok(())
}

/// How a reserved number's history begins.
const RESERVED: &str = "# no timeline";

/// Gives back the numbers that were reserved for a promotion that did not happen, or whose successor's
/// history did not arrive. A standby that starts takes the newest number for its target, and with an
/// empty history it looks for its own checkpoint on that timeline, for ever (`readTimeLineHistory`,
/// `XLogFileReadAnyTLI`). Those below a timeline that exists stay: the search for the newest stops at
/// the first gap.
///
/// # Errors
/// What the system said.
pub fn release_timelines(pg_wal: &Path) -> io::Result<()> {
    let mut reserved = Vec::new();
    let mut newest = 0;
    let entries = match std::fs::read_dir(pg_wal) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(number) = name
            .strip_suffix(".history")
            .filter(|n| n.len() == 8)
            .and_then(|n| u32::from_str_radix(n, 16).ok())
        else {
            continue;
        };
        if std::fs::read(&path)?.starts_with(RESERVED.as_bytes()) {
            reserved.push((number, path.clone()));
        } else {
            newest = newest.max(number);
        }
    }
    reserved.retain(|(number, _)| *number > newest);
    if reserved.is_empty() {
        return Ok(());
    }
    for (_, path) in &reserved {
        std::fs::remove_file(path)?;
    }
    tracing::info!(
        "gave back {} numbers that were reserved for a timeline after {newest}, which was not begun",
        reserved.len()
    );
    crate::sys::sync_dir(pg_wal)
}

/// As the clone writes it: repmgr's record of the primary with the replication user, our name and the
/// password file.
pub(super) fn conninfo(config: &Config, source: &Address) -> String {
    let quote = |text: &str| text.replace('\\', r"\\").replace('\'', r"\'");
    format!(
        "host='{}' port={} user=repmgr_streaming application_name='{}' connect_timeout=2 \
         keepalives_idle=1 keepalives_interval=1 keepalives_count=2 tcp_user_timeout=3000 \
         passfile='{}'",
        quote(&source.host),
        source.port,
        quote(&config.identity.name.0),
        quote(&config.paths.run_dir.join("pgpass").to_string_lossy()),
    )
}

fn without_role(former: &str) -> String {
    let of_the_role = |line: &&str| {
        let name = line.split('=').next().unwrap_or_default().trim();
        OF_THE_ROLE.iter().any(|n| name.eq_ignore_ascii_case(n))
    };
    former
        .lines()
        .filter(|line| !of_the_role(line))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// ALTER SYSTEM writes one setting a line and refuses line breaks in values.
fn follow_settings(former: &str, conninfo: &str, slot: &str) -> String {
    let mut text = without_role(former);
    // In this file a quote is doubled and a backslash escapes.
    let value = |text: &str| text.replace('\\', r"\\").replace('\'', "''");
    text.push_str(&format!("primary_conninfo = '{}'\n", value(conninfo)));
    text.push_str(&format!("primary_slot_name = '{}'\n", value(slot)));
    text
}

/// Slots of a former primary hold WAL back for nodes that no longer stream from here. repmgr's and
/// barman's go, as with a rewind or a clone; those of the user's are the user's.
fn drop_own_slots(dir: &Path) -> io::Result<()> {
    let slots = dir.join("pg_replslot");
    let entries = match std::fs::read_dir(&slots) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name == "barman" || name.starts_with("repmgr_slot_") {
            std::fs::remove_dir_all(entry.path())?;
            tracing::info!("removed the slot {name} of the former role");
        }
    }
    crate::sys::sync_dir(&slots)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Surroundings;

    fn config(dir: &Path) -> Config {
        let vars = [
            ("REPMGR_NODE_NAME", "pg1".to_owned()),
            ("PGDATA", dir.to_string_lossy().into_owned()),
        ];
        let vars = vars.map(|(k, v)| (k.to_owned(), v));
        Config::from_vars(vars, &Surroundings::bare("pg1"))
            .unwrap()
            .0
    }

    #[test]
    fn a_directory_becomes_a_standby() {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path();
        for slot in ["barman", "repmgr_slot_2", "mine"] {
            std::fs::create_dir_all(dir.join("pg_replslot").join(slot)).unwrap();
        }
        let auto = dir.join("postgresql.auto.conf");
        std::fs::write(
            &auto,
            "# Do not edit\nwork_mem = '8MB'\nprimary_conninfo = 'host=''old'' a=b'\nPrimary_Slot_Name = 'x'\nrecovery_target_lsn = '0/1'\nrestore_command = 'false'\n",
        )
        .unwrap();
        let source = Address {
            host: "pg2".into(),
            port: 6432,
        };
        for _ in 0..2 {
            become_standby(&config(dir), &source, None).unwrap();
            assert!(dir.join("standby.signal").is_file());
            let text = std::fs::read_to_string(&auto).unwrap();
            assert_eq!(
                text,
                "# Do not edit\nwork_mem = '8MB'\nrestore_command = 'false'\n\
                 primary_conninfo = 'host=''pg2'' port=6432 user=repmgr_streaming application_name=''pg1'' \
                 connect_timeout=2 keepalives_idle=1 keepalives_interval=1 keepalives_count=2 \
                 tcp_user_timeout=3000 passfile=''/run/pgnode/pgpass'''\nprimary_slot_name = 'repmgr_slot_1'\n"
            );
            let left: Vec<_> = std::fs::read_dir(dir.join("pg_replslot"))
                .unwrap()
                .map(|e| e.unwrap().file_name())
                .collect();
            assert_eq!(left, ["mine"]);
        }
    }

    #[test]
    fn only_numbers_above_every_timeline_are_given_back() {
        let tmp = tempfile::tempdir().unwrap();
        let wal = tmp.path();
        let there = || {
            let names = std::fs::read_dir(wal).unwrap();
            let mut names: Vec<String> = names
                .map(|e| e.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names.join(" ")
        };
        release_timelines(&wal.join("none")).unwrap();
        reserve_timelines(wal, 3, None).unwrap();
        std::fs::write(wal.join("00000003.history"), "1\t0/3000000\tno\n").unwrap();
        std::fs::write(wal.join("000000030000000000000003"), "").unwrap();
        let before = there();
        release_timelines(wal).unwrap();
        assert_eq!(there(), before, "2 leads to 3");
        reserve_timelines(wal, 7, None).unwrap();
        assert!(there().contains("00000006.history"));
        release_timelines(wal).unwrap();
        assert_eq!(there(), before, "4, 5 and 6 lead nowhere");
    }

    #[test]
    fn any_value_survives_the_file() {
        let text = follow_settings("", r"password='a\'b\\c'", "s");
        assert_eq!(
            text,
            "primary_conninfo = 'password=''a\\\\''b\\\\\\\\c'''\nprimary_slot_name = 's'\n"
        );
    }
}
