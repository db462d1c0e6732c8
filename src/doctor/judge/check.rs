//! Steps 3 and 4: what barman itself says.

use crate::barman::CheckLine;
use crate::doctor::ailments::{self as a, Ailment};
use crate::doctor::finding::Finding;
use serde_json::Value;

/// Key of a line → failure (`barman/server.py`, `wal_archiver.py`, `backup_executor.py` of 3.13; the key
/// is the name with `_` for blanks and dashes, in small letters). Lines about a second connection end in
/// `_(…)`.
const KNOWN: &[(&str, &Ailment)] = &[
    ("wal_archive", &a::WAL_ARCHIVE),
    ("replication_slot", &a::REPLICATION_SLOT),
    ("receive_wal_running", &a::RECEIVE_WAL),
    ("minimum_redundancy_requirements", &a::MINIMUM_REDUNDANCY),
    ("backup_maximum_age", &a::MAXIMUM_AGE),
    ("backup_minimum_size", &a::MINIMUM_SIZE),
    ("failed_backups", &a::FAILED_BACKUPS),
    ("wal_maximum_age", &a::WAL_AGE),
    ("archiver_errors", &a::ARCHIVER_ERRORS),
    ("empty_incoming_directory", &a::INCOMING),
    ("empty_streaming_directory", &a::INCOMING),
    ("incoming_wals_directory", &a::QUEUE),
    ("streaming_wals_directory", &a::QUEUE),
    ("ssh", &a::SSH_LINE),
    ("ssh_output_clean", &a::SSH_LINE),
    ("directories", &a::DIRECTORIES),
    ("systemid_coherence", &a::SYSTEM_ID),
    ("retention_policy_settings", &a::RETENTION),
    ("compression_settings", &a::COMPRESSION_LINE),
    ("pg_basebackup", &a::PG_BASEBACKUP),
    ("pg_basebackup_compatible", &a::PG_BASEBACKUP),
    (
        "pg_basebackup_supports_tablespaces_mapping",
        &a::PG_BASEBACKUP,
    ),
    ("pg_receivexlog", &a::PG_BASEBACKUP),
    ("pg_receivexlog_compatible", &a::PG_BASEBACKUP),
    ("postgresql", &a::POSTGRESQL),
    ("postgresql_streaming", &a::POSTGRESQL),
    (
        "superuser_or_standard_user_with_backup_privileges",
        &a::PRIVILEGES,
    ),
    ("has_monitoring_privileges", &a::PRIVILEGES),
    ("wal_level", &a::WAL_LEVEL),
    ("archive_mode", &a::ARCHIVE_MODE),
    ("archive_command", &a::ARCHIVE_MODE),
    ("continuous_archiving", &a::ARCHIVING),
    ("configuration", &a::CONFIGURATION),
];

/// The failure that a line stands for.
fn ailment(name: &str) -> &'static Ailment {
    let plain = name.split(" (").next().unwrap_or(name).replace(' ', "_");
    KNOWN
        .iter()
        .find(|(known, _)| *known == plain.as_str())
        .map_or(&a::OTHER_LINE, |(_, ailment)| ailment)
}

/// What a person needs to know of barman here.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// barman's name of the cluster.
    pub server: &'a str,
    /// `BARMAN_BACKUP_DIR`.
    pub home: &'a str,
    /// `BARMAN_CONFIG_DIR`.
    pub dir: &'a str,
}

/// Step 4: a finding for each line that is not OK, one for all that are.
#[must_use]
pub fn check_lines(lines: &[CheckLine], place: Place<'_>) -> Vec<Finding> {
    let tried = format!("barman check {}", place.server);
    let words = [
        ("server", place.server),
        ("home", place.home),
        ("dir", place.dir),
    ];
    let mut found: Vec<Finding> = lines
        .iter()
        .filter(|l| !l.ok)
        .map(|line| {
            let seen = if line.hint.is_empty() {
                "FAILED"
            } else {
                &line.hint
            };
            Finding::of(ailment(&line.name), &tried, seen, &words).about(&line.name)
        })
        .collect();
    let well = lines.iter().filter(|l| l.ok).count();
    if well > 0 {
        let names: Vec<String> = lines
            .iter()
            .filter(|l| l.ok)
            .map(|l| l.name.clone())
            .collect();
        let what = format!("{well} lines OK: {}", names.join(", "));
        found.push(Finding::pass(4, "barman check", &tried, what));
    }
    found
}

/// Step 3: whether barman names the cluster, and as active where its primary is at hand.
#[must_use]
pub fn listed(json: &Value, place: Place<'_>, primary: bool) -> Finding {
    let tried = "barman list-servers";
    let words = [("server", place.server), ("dir", place.dir)];
    let Some(entry) = json.get(place.server) else {
        return Finding::of(&a::NOT_LISTED, tried, "", &words);
    };
    let description = entry.get("description").and_then(Value::as_str);
    let description = description.unwrap_or_default();
    if primary && description.ends_with("(inactive)") {
        return Finding::of(&a::INACTIVE, tried, "", &words);
    }
    Finding::pass(
        3,
        "listed",
        tried,
        format!("{} ({description})", place.server),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;
    use serde_json::json;

    const HERE: Place<'_> = Place {
        server: "main",
        home: "/home/barman/data",
        dir: "/etc/barman.d",
    };

    fn line(name: &str, ok: bool, hint: &str) -> CheckLine {
        let (name, hint) = (name.to_owned(), hint.to_owned());
        CheckLine { name, ok, hint }
    }

    #[test]
    fn a_line_that_failed_has_the_hint_the_cause_and_the_remedy() {
        let hint = "See the Barman log file for more details";
        let lines = [
            line("receive wal running", false, hint),
            line("ssh", true, "PostgreSQL server"),
            line("wal level", true, ""),
        ];
        let found = check_lines(&lines, HERE);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].check, "barman check (receive wal running)");
        assert_eq!(
            found[0].why,
            "See the Barman log file for more details: no receive-wal process runs for main: WAL written now is not received"
        );
        assert_eq!(
            found[0].remedy.as_deref(),
            Some(
                "`barman cron` as user barman starts it; if it ends again, `barman receive-wal --reset main` and a new backup, and its reason is in the log"
            )
        );
        assert_eq!(
            (found[1].verdict, found[1].why.as_str()),
            (Verdict::Pass, "2 lines OK: ssh, wal level")
        );
    }

    #[test]
    fn an_unknown_line_is_shown_as_it_is() {
        let found = check_lines(&[line("moon phase", false, "waning")], HERE);
        assert_eq!(found[0].ailment, Some("check-other"));
        assert!(found[0].why.starts_with("waning: "), "{}", found[0].why);
        assert_eq!(
            ailment("replication slot (wal streaming)").id,
            "check-replication-slot"
        );
    }

    #[test]
    fn every_known_line_is_of_step_4_and_none_is_there_twice() {
        for (i, (key, ailment)) in KNOWN.iter().enumerate() {
            assert_eq!(ailment.step, 4, "{key}");
            assert!(
                KNOWN.iter().skip(i + 1).all(|(other, _)| other != key),
                "{key}"
            );
        }
    }

    #[test]
    fn a_missing_or_inactive_server_is_named() {
        let json = json!({"main": {"description": "main (inactive)"}});
        assert_eq!(listed(&json, HERE, false).verdict, Verdict::Pass);
        let f = listed(&json, HERE, true);
        assert_eq!(f.ailment, Some("inactive"));
        let f = listed(&json!({}), HERE, true);
        assert_eq!(
            f.why,
            "barman does not know main: its file in /etc/barman.d is missing"
        );
        assert_eq!(
            f.remedy.as_deref(),
            Some("`pgnode reload` (or a restart of this container) writes the file anew")
        );
    }
}
