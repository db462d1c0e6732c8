//! Steps 7 and 8 without `--full`: the age of the last backup, the result of the last drill.

use crate::barman::{Backup, BackupStatus};
use crate::doctor::ailments as a;
use crate::doctor::finding::Finding;
use crate::domain::{DrillView, human_bytes, human_duration};
use crate::s3::ship::{Entry, Kind, Record, State};
use std::path::Path;
use std::time::Duration;

fn age(now_ms: u64, then_ms: u64) -> String {
    human_duration(Duration::from_millis(now_ms.saturating_sub(then_ms)))
}

/// Step 7. `running`: a backup is being made at this moment.
#[must_use]
pub fn last_backup(
    all: &[Backup],
    server: &str,
    limit: Duration,
    now_ms: u64,
    running: bool,
) -> Vec<Finding> {
    let tried = "reading the catalogue";
    let done = all.iter().rfind(|b| b.is_done());
    let newer = |b: &&Backup| done.is_none_or(|d| b.id > d.id);
    let mut found = Vec::new();
    if let Some(waiting) = all
        .iter()
        .filter(newer)
        .find(|b| b.status == BackupStatus::WaitingForWals)
    {
        let words = [("id", waiting.id.as_str()), ("server", server)];
        found.push(Finding::of(&a::WAITING, tried, "", &words));
    }
    let is_blank = |b: &&Backup| matches!(b.status, BackupStatus::Empty | BackupStatus::Started);
    if !running && let Some(blank) = all.iter().filter(newer).find(is_blank) {
        let words = [("id", blank.id.as_str()), ("server", server)];
        found.push(Finding::of(&a::BLANK, tried, "", &words));
    }
    let Some(done) = done else {
        if found.is_empty() {
            found.push(Finding::of(&a::NO_BACKUP, tried, "", &[("server", server)]));
        }
        return found;
    };
    let old = age(now_ms, done.end_ms.unwrap_or_default());
    let most = human_duration(limit);
    let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    if now_ms.saturating_sub(done.end_ms.unwrap_or_default()) > limit_ms {
        let seen = format!("{} is {old} old", done.id);
        let words = [("server", server), ("limit", most.as_str())];
        found.push(Finding::of(&a::STALE, tried, &seen, &words));
    }
    if found.is_empty() {
        let size = done
            .size
            .map_or_else(String::new, |n| format!(", {}", human_bytes(n)));
        let what = format!("{} is {old} old{size}; at most {most}", done.id);
        found.push(Finding::pass(7, "last backup", tried, what));
    }
    found
}

/// Step 7: a backup that is only here is lost with this host.
#[must_use]
pub fn shipped(
    tasks: &[Entry],
    runs: &[(Kind, Option<Record>)],
    server: &str,
    queue: &Path,
    now_ms: u64,
) -> Vec<Finding> {
    let tried = "reading the queue and the last runs";
    let mut found = Vec::new();
    let mine = |e: &&Entry| e.task.as_ref().is_none_or(|t| t.server == server);
    for task in tasks
        .iter()
        .filter(mine)
        .filter(|e| e.state == State::Error)
    {
        let file = queue.join(format!("{}.error", task.stem));
        let file = file.display().to_string();
        let words = [("id", &*task.stem), ("server", server), ("file", &*file)];
        found.push(Finding::of(&a::NOT_SHIPPED, tried, task.why(), &words));
    }
    for (kind, record) in runs {
        let failed = record.as_ref().and_then(|r| r.error.as_ref());
        // A task says it itself.
        if let Some(error) = failed.filter(|_| *kind != Kind::Base) {
            let words = [("kind", kind.word()), ("server", server)];
            found.push(Finding::of(&a::SHIPPING, tried, error, &words));
        }
    }
    if found.is_empty() {
        let said = runs.iter().filter_map(|(kind, record)| {
            let at = record.as_ref()?.ok_ms?;
            Some(format!("{} {} ago", kind.word(), age(now_ms, at)))
        });
        let said: Vec<String> = said.collect();
        found.push(match said.is_empty() {
            true => Finding::skip(7, "into the bucket", "nothing was shipped yet: cron does it by S3_WAL_SYNC_SCHEDULE and S3_BASE_SYNC_SCHEDULE"),
            false => Finding::pass(7, "into the bucket", tried, said.join(", ")),
        });
    }
    found
}

/// Step 8: what the last drill said.
#[must_use]
pub fn drill_record(last: Option<&DrillView>, server: &str, now_ms: u64) -> Finding {
    let tried = "reading the last drill's result";
    let Some(last) = last else {
        let why = format!(
            "no drill was made yet: `pgnode doctor --full` or `pgnode drill {server}` makes one, PGNODE_DRILL_SCHEDULE one on a schedule"
        );
        return Finding::skip(8, "last drill", why);
    };
    let old = age(now_ms, last.at_ms);
    let id = last.backup.as_deref().unwrap_or("no backup");
    if let Some(error) = &last.error {
        let seen = format!("{old} ago, with {id}: {error}");
        return Finding::of(&a::DRILL_FAILED, tried, &seen, &[("server", server)]);
    }
    let what = format!("{old} ago {id} was restored: {}", last.summary());
    Finding::pass(8, "last drill", tried, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::barman::Server;
    use crate::doctor::Verdict;

    const HOUR: u64 = 3_600_000;

    fn catalogue(all: &[(&str, &str, Option<u64>)]) -> Vec<Backup> {
        let tmp = tempfile::tempdir().unwrap();
        std::fs::create_dir(tmp.path().join("meta")).unwrap();
        for (id, status, end_ms) in all {
            let end = end_ms.map_or_else(
                || "None".to_owned(),
                |ms| {
                    let end = chrono::DateTime::from_timestamp_millis(ms.cast_signed());
                    end.unwrap().to_rfc3339()
                },
            );
            let text = format!("status={status}\nend_time={end}\nsize=1048576\n");
            let path = tmp.path().join(format!("meta/{id}-backup.info"));
            std::fs::write(path, text).unwrap();
        }
        Server::at(tmp.path().to_owned()).backups().unwrap()
    }

    fn judged(all: &[(&str, &str, Option<u64>)], running: bool) -> Vec<Finding> {
        last_backup(
            &catalogue(all),
            "main",
            Duration::from_secs(26 * 3600),
            100 * HOUR,
            running,
        )
    }

    #[test]
    fn what_is_not_in_the_bucket_is_said() {
        let entry = |stem: &str, state| Entry {
            stem: stem.into(),
            state,
            task: None,
            outcome: None,
        };
        let record = |error: Option<&str>| Record {
            ok_ms: Some(99 * HOUR),
            error: error.map(str::to_owned),
            ..Record::default()
        };
        let judged = |tasks: &[Entry], runs: &[(Kind, Option<Record>)]| {
            let found = shipped(tasks, runs, "main", Path::new("/q"), 100 * HOUR);
            found
                .into_iter()
                .map(|f| (f.verdict, f.ailment))
                .collect::<Vec<_>>()
        };
        assert_eq!(judged(&[], &[(Kind::Wal, None)]), [(Verdict::Skip, None)]);
        let well = [(Kind::Wal, Some(record(None)))];
        let waits = [entry("a", State::Run), entry("b", State::Done)];
        assert_eq!(judged(&waits, &well), [(Verdict::Pass, None)]);
        let failed = [entry("a", State::Error)];
        let ill = [
            (Kind::Wal, Some(record(Some("no route")))),
            // Its task says it.
            (Kind::Base, Some(record(Some("no route")))),
        ];
        assert_eq!(
            judged(&failed, &ill),
            [
                (Verdict::Warn, Some("backup-not-shipped")),
                (Verdict::Warn, Some("shipping-fails"))
            ]
        );
    }

    #[test]
    fn a_young_backup_is_well_and_an_old_one_is_stale() {
        let found = judged(&[("20261121T080000", "DONE", Some(98 * HOUR))], false);
        assert_eq!(found[0].verdict, Verdict::Pass);
        assert_eq!(
            found[0].why,
            "20261121T080000 is 2 h 00 m old, 1.0 MiB; at most 1 d 02 h"
        );
        let found = judged(&[("20261121T080000", "DONE", Some(70 * HOUR))], false);
        assert_eq!(found[0].ailment, Some("stale-backup"));
        assert_eq!(
            found[0].remedy.as_deref(),
            Some(
                "`barman backup main` as user barman, and see in the log why the scheduled one (BARMAN_BACKUP_SCHEDULE) was not made"
            )
        );
    }

    #[test]
    fn none_waiting_and_blank_each_have_their_remedy() {
        assert_eq!(
            judged(&[], false)[0].remedy.as_deref(),
            Some("`barman backup main` as user barman, or `pgnode doctor --full`")
        );
        let failed = [("20261121T080000", "FAILED", None)];
        assert_eq!(judged(&failed, false)[0].ailment, Some("no-backup"));
        let waiting = [("20261121T080000", "WAITING_FOR_WALS", Some(HOUR))];
        assert_eq!(
            judged(&waiting, false)[0].remedy.as_deref(),
            Some(
                "force a switch: as role barman on the primary SELECT pg_create_restore_point('x'), pg_switch_wal(), pg_create_restore_point('y'); then `barman archive-wal main` and `barman check-backup main 20261121T080000`"
            )
        );
        let blank = [("20261121T080000", "STARTED", None)];
        let found = judged(&blank, false);
        assert_eq!(
            found[0].remedy.as_deref(),
            Some("`barman delete main 20261121T080000` and `barman backup main` as user barman")
        );
        assert_eq!(judged(&blank, true)[0].ailment, Some("no-backup"));
    }

    #[test]
    fn what_is_older_than_the_last_good_one_does_not_count() {
        let all = [
            ("20261120T080000", "WAITING_FOR_WALS", Some(HOUR)),
            ("20261121T080000", "DONE", Some(99 * HOUR)),
        ];
        assert_eq!(judged(&all, false)[0].verdict, Verdict::Pass);
    }

    #[test]
    fn the_last_drill_is_told() {
        assert_eq!(drill_record(None, "main", 0).verdict, Verdict::Skip);
        let mut view = DrillView {
            server: "main".into(),
            at_ms: HOUR,
            backup: Some("20261121T080000".into()),
            ..DrillView::default()
        };
        let f = drill_record(Some(&view), "main", 2 * HOUR);
        assert_eq!(f.verdict, Verdict::Pass);
        view.error = Some("boom".into());
        let f = drill_record(Some(&view), "main", 2 * HOUR);
        assert_eq!(
            f.why,
            "1 h 00 m ago, with 20261121T080000: boom: the last drill of main failed"
        );
        assert_eq!(
            f.remedy.as_deref(),
            Some(
                "`pgnode drill main` runs it again; make a new backup first: `barman backup main`"
            )
        );
    }
}
