//! Step 6: WAL on its way from the primary to the archive, and what could stop it.

use super::Place;
use crate::doctor::ailments as a;
use crate::doctor::facts::{Archiver, Arrival, ServerFacts, Slot};
use crate::doctor::finding::Finding;
use crate::domain::{human_bytes, human_duration};
use std::time::Duration;

/// barman's slot, in every server section that pgnode renders.
const SLOT: &str = "barman";
/// Held back without a limit: so much that somebody should know.
const MUCH: u64 = 16 << 30;

/// Slots of the primary. `streams`: barman receives WAL from its slot.
#[must_use]
pub fn slots(facts: &ServerFacts, server: &str, streams: bool) -> Vec<Finding> {
    let tried = "asking the primary for its slots";
    let words = [("server", server)];
    let mut found = Vec::new();
    let barman = facts.slots.iter().find(|s| s.name == SLOT);
    match barman {
        None if streams => found.push(Finding::of(&a::SLOT_MISSING, tried, "", &words)),
        Some(slot) if streams && !slot.active && !is_lost(slot) => {
            let seen = slot.held.map_or_else(String::new, |held| {
                format!("it holds back {}", human_bytes(held))
            });
            found.push(Finding::of(&a::SLOT_INACTIVE, tried, &seen, &words));
        }
        None | Some(_) => {}
    }
    for slot in &facts.slots {
        found.extend(holds_back(slot, facts.slot_limit, server, tried));
    }
    if found.is_empty() {
        let limit = facts.slot_limit.map_or_else(|| "none".into(), human_bytes);
        let what = match barman.and_then(|s| s.held) {
            Some(held) => format!(
                "in use, {} behind (limit for all slots: {limit})",
                human_bytes(held)
            ),
            None => format!("{} slots, none holds back much", facts.slots.len()),
        };
        found.push(Finding::pass(6, "slot", tried, what));
    }
    found
}

fn is_lost(slot: &Slot) -> bool {
    slot.status.as_deref() == Some("lost")
}

fn holds_back(slot: &Slot, limit: Option<u64>, server: &str, tried: &str) -> Option<Finding> {
    let name = slot.name.as_str();
    if is_lost(slot) {
        let words = [("slot", name), ("server", server)];
        return Some(Finding::of(&a::SLOT_LOST, tried, "wal_status is lost", &words).about(name));
    }
    let held = slot.held?;
    let near = limit.is_some_and(|limit| held >= limit / 2) || (limit.is_none() && held >= MUCH);
    if !near && slot.status.as_deref() != Some("unreserved") {
        return None;
    }
    let reader = if name == SLOT {
        "`barman cron` as user barman"
    } else {
        "start that standby"
    };
    let (shown, most) = (
        human_bytes(held),
        limit.map_or_else(|| "no limit".into(), human_bytes),
    );
    let words = [
        ("slot", name),
        ("held", &shown),
        ("limit", &most),
        ("reader", reader),
    ];
    Some(Finding::of(&a::SLOT_HOLDS, tried, "", &words).about(name))
}

/// The archiver, where one runs.
#[must_use]
pub fn wal_archiver(archiver: &Archiver) -> Finding {
    if archiver.mode.is_empty() || archiver.mode == "off" {
        return Finding::skip(6, "archiver", "archive_mode is off: barman streams");
    }
    let tried = "asking pg_stat_archiver";
    match &archiver.failing {
        None => Finding::pass(6, "archiver", tried, "its last segment was archived"),
        Some(wal) => {
            let seen = format!("failed {} times", archiver.failed_count);
            let words = [
                ("wal", wal.as_str()),
                ("command", archiver.command.as_str()),
            ];
            Finding::of(&a::ARCHIVER, tried, &seen, &words)
        }
    }
}

/// A volume: a twentieth free, and room for a few segments.
#[must_use]
pub fn disk(what: &str, path: &str, server: &str, total: u64, free: u64) -> Finding {
    let tried = format!("looking at the volume of {path}");
    let (shown, all) = (human_bytes(free), human_bytes(total));
    if free < total / 20 || free < 64 << 20 {
        let words = [
            ("path", path),
            ("free", &shown),
            ("total", &all),
            ("server", server),
        ];
        return Finding::of(&a::DISK, &tried, "", &words).about(what);
    }
    Finding::pass(6, "disk", &tried, format!("{shown} of {all} free")).about(what)
}

/// Whether the next full backup fits beside the others; `None` when it does.
#[must_use]
pub fn room_for_backup(path: &str, server: &str, free: u64, last: u64) -> Option<Finding> {
    let (shown, size) = (human_bytes(free), human_bytes(last));
    let words = [
        ("path", path),
        ("free", &shown),
        ("size", &size),
        ("server", server),
    ];
    let tried = format!("looking at the volume of {path}");
    (free < last).then(|| Finding::of(&a::DISK_BACKUP, &tried, "", &words))
}

/// So far apart that a restore to a time misses it.
const SKEW: u64 = 2000;

/// The server's clock against ours.
#[must_use]
pub fn clock(host: &str, skew_ms: i64, asked_ms: u64) -> Finding {
    let tried = format!("SELECT now() at {host}");
    // Half of the way there and back is not known.
    let surely = skew_ms.unsigned_abs().saturating_sub(asked_ms / 2);
    let shown = human_duration(Duration::from_millis(skew_ms.unsigned_abs()));
    if surely < SKEW {
        let what = format!("{shown} apart at most");
        return Finding::pass(6, "clock", &tried, what).about(host);
    }
    let word = if skew_ms > 0 { "ahead" } else { "behind" };
    let seen = format!("{host} is {shown} {word}");
    Finding::of(&a::CLOCK, &tried, &seen, &[("host", host)]).about(host)
}

/// How the marker's segment arrived, and after how long.
#[must_use]
pub fn round_trip(segment: &str, arrival: Arrival, took: Duration, place: Place<'_>) -> Finding {
    let tried =
        format!("a marker written, a switch forced, waiting for segment {segment} in the archive");
    let words = [("server", place.server), ("home", place.home)];
    let waited = format!("waited for {}", human_duration(took));
    match arrival {
        Arrival::Archived => {
            let what = format!("archived after {}", human_duration(took));
            Finding::pass(6, "round trip", &tried, what)
        }
        Arrival::Received => Finding::of(&a::NOT_ARCHIVED, &tried, &waited, &words),
        Arrival::Missing => Finding::of(&a::NOT_RECEIVED, &tried, &waited, &words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    const GIB: u64 = 1 << 30;

    fn slot(name: &str, active: bool, status: &str, held: u64) -> Slot {
        Slot {
            name: name.into(),
            active,
            status: Some(status.into()),
            held: Some(held),
        }
    }

    fn judged(all: Vec<Slot>, streams: bool) -> Vec<Finding> {
        let facts = ServerFacts {
            slots: all,
            slot_limit: Some(GIB),
            ..ServerFacts::default()
        };
        slots(&facts, "main", streams)
    }

    #[test]
    fn a_slot_in_use_is_well_and_a_missing_one_only_where_barman_streams() {
        let found = judged(vec![slot("barman", true, "reserved", 100)], true);
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].why,
            "in use, 100 B behind (limit for all slots: 1.0 GiB)"
        );
        assert_eq!(judged(vec![], false)[0].verdict, Verdict::Pass);
        let f = &judged(vec![], true)[0];
        assert_eq!(f.ailment, Some("slot-missing"));
        assert_eq!(
            f.remedy.as_deref(),
            Some(
                "`barman cron` as user barman, or `barman receive-wal --create-slot main`; if it stays away a new backup is needed: `barman backup main`"
            )
        );
    }

    #[test]
    fn an_idle_slot_and_one_that_holds_back_wal_are_both_named() {
        let found = judged(vec![slot("barman", false, "extended", GIB / 2)], true);
        let ids: Vec<_> = found.iter().filter_map(|f| f.ailment).collect();
        assert_eq!(ids, ["slot-inactive", "slot-holds-wal"]);
        assert_eq!(
            found[1].why,
            "the slot `barman` holds back 512.0 MiB of WAL, and at 1.0 GiB (max_slot_wal_keep_size) it is given up"
        );
        assert_eq!(
            found[0].remedy.as_deref(),
            Some(
                "`barman cron` as user barman starts receive-wal; is cron running (`pgnode status`), is the barman host up?"
            )
        );
        let found = judged(vec![slot("repmgr_slot_2", false, "unreserved", 5)], false);
        assert_eq!(found[0].check, "slot (repmgr_slot_2)");
        assert_eq!(
            found[0].remedy.as_deref(),
            Some(
                "bring its reader back (start that standby); if it is gone for good: SELECT pg_drop_replication_slot('repmgr_slot_2') on the primary; for more room PGNODE_MAX_SLOT_WAL"
            )
        );
    }

    #[test]
    fn a_lost_slot_asks_for_a_new_backup() {
        let found = judged(vec![slot("barman", false, "lost", 0)], true);
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].remedy.as_deref(),
            Some(
                "for barman: `barman receive-wal --drop-slot main`, `barman receive-wal --reset main`, `barman cron`, and a new backup at once: `barman backup main`; a standby is cloned anew by itself"
            )
        );
    }

    #[test]
    fn a_failing_archiver_names_segment_and_command() {
        let mut archiver = Archiver {
            mode: "on".into(),
            command: "false".into(),
            failing: Some("000000010000000000000003".into()),
            failed_count: 7,
            ..Archiver::default()
        };
        let f = wal_archiver(&archiver);
        assert_eq!(
            f.why,
            "failed 7 times: archive_command fails for 000000010000000000000003, and WAL piles up on the primary until it works"
        );
        assert_eq!(
            f.remedy.as_deref(),
            Some(
                "run the command by hand as user postgres: false; then look at the log of the primary for what it says"
            )
        );
        archiver.failing = None;
        assert_eq!(wal_archiver(&archiver).verdict, Verdict::Pass);
        archiver.mode = "off".into();
        assert_eq!(wal_archiver(&archiver).verdict, Verdict::Skip);
    }

    #[test]
    fn a_disk_nearly_full_is_named_with_its_path() {
        assert_eq!(
            disk("PGDATA", "/d", "main", 100 * GIB, 6 * GIB).verdict,
            Verdict::Pass
        );
        let f = disk("PGDATA", "/d", "main", 100 * GIB, 4 * GIB);
        assert_eq!(
            f.why,
            "/d has 4.0 GiB left of 100.0 GiB: WAL or backups soon do not fit"
        );
        assert_eq!(
            f.remedy.as_deref(),
            Some(
                "enlarge the volume of /d; for backups also lower BARMAN_RETENTION, or delete one: `barman delete main oldest`"
            )
        );
        assert_eq!(
            disk("PGDATA", "/d", "main", GIB, 60 << 20).verdict,
            Verdict::Fail
        );
        assert_eq!(room_for_backup("/d", "main", 10, 10), None);
        let f = room_for_backup("/d", "main", 9, 10).unwrap();
        assert_eq!(
            (f.verdict, f.ailment),
            (Verdict::Warn, Some("no-room-for-a-backup"))
        );
    }

    #[test]
    fn a_clock_is_wrong_only_when_the_way_there_cannot_explain_it() {
        assert_eq!(clock("pg1", -1999, 0).verdict, Verdict::Pass);
        assert_eq!(clock("pg1", 3000, 2500).verdict, Verdict::Pass);
        let f = clock("pg1", -90_000, 10);
        assert_eq!(
            f.why,
            "pg1 is 1 m 30 s behind: the clocks of this container and of pg1 differ: a restore to a time would miss it by as much"
        );
        assert_eq!(
            f.remedy.as_deref(),
            Some(
                "let both hosts keep time (chrony, systemd-timesyncd); containers have the clock of their host"
            )
        );
        assert!(clock("pg1", 90_000, 10).why.contains("ahead"));
    }

    #[test]
    fn a_segment_that_did_not_arrive_is_told_from_one_that_was_not_archived() {
        let place = Place {
            server: "main",
            home: "/h",
            dir: "/d",
        };
        let f = |arrival| round_trip("X", arrival, Duration::from_secs(2), place);
        assert_eq!(f(Arrival::Archived).verdict, Verdict::Pass);
        assert_eq!(
            f(Arrival::Received).remedy.as_deref(),
            Some(
                "`barman archive-wal main` as user barman, and read what it says; look for files in /h/main/errors"
            )
        );
        assert_eq!(
            f(Arrival::Missing).remedy.as_deref(),
            Some(
                "is receive-wal running (`barman cron` as user barman starts it), is there room in /h, does `pg_stat_archiver` (rsync) show a failure? The reason is in barman's log"
            )
        );
    }
}
