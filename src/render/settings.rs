//! Settings that the node cannot do without, as data: the same list ends postgresql.conf and is
//! there for whoever starts the server with arguments (only those win over ALTER SYSTEM).

use super::{RenderFacts, RunFiles};
use crate::config::Config;
use serde::Serialize;

/// One setting of PostgreSQL's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Its name.
    pub name: &'static str,
    /// Its value, not quoted.
    pub value: String,
    /// Why it must be so.
    pub why: &'static str,
}

/// What a user's file may not change.
#[must_use]
pub fn enforced(config: &Config, facts: &RenderFacts) -> Vec<Setting> {
    let files = RunFiles::of(config);
    let shown = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let set = |name, value: String, why| Setting { name, value, why };
    vec![
        set(
            "hba_file",
            shown(&files.pg_hba),
            "Rewritten at every boot; additions belong in pg_hba.d",
        ),
        set("ident_file", shown(&files.pg_ident), ""),
        set(
            "unix_socket_directories",
            shown(&config.paths.socket_dir),
            "pgnode itself comes in here, as the superuser and without a password",
        ),
        set(
            "shared_preload_libraries",
            preload(facts.user_preload.as_deref()),
            "repmgrd needs repmgr; the rest is the user's",
        ),
        set(
            "hot_standby",
            "on".into(),
            "A standby answers queries, pgnode's among them",
        ),
        set(
            "wal_log_hints",
            "on".into(),
            "pg_rewind can bring an old primary back, also without checksums",
        ),
        set(
            "password_encryption",
            "scram-sha-256".into(),
            "pg_hba.conf accepts nothing else: a password stored as md5 could never be used",
        ),
        set(
            "logging_collector",
            "on".into(),
            "The log goes to named pipes that pgnode reads and prints",
        ),
        set("log_destination", "jsonlog".into(), ""),
        set("log_directory", shown(&files.log_dir), ""),
        set("log_filename", "postgres.log".into(), ""),
        set("log_rotation_age", "0".into(), "A pipe cannot be rotated"),
        set("log_rotation_size", "0".into(), ""),
        set("log_truncate_on_rotation", "off".into(), ""),
        set(
            "log_timezone",
            "UTC".into(),
            "pgnode's own events are in UTC",
        ),
    ]
}

/// repmgr first, then the user's libraries as they were given, each once.
fn preload(user: Option<&str>) -> String {
    let mut libraries = vec!["repmgr"];
    for name in user.unwrap_or_default().split(',').map(str::trim) {
        let bare = name.trim_matches('"');
        if !bare.is_empty() && !libraries.iter().any(|l| l.trim_matches('"') == bare) {
            libraries.push(name);
        }
    }
    libraries.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_libraries_join_repmgr() {
        for (user, want) in [
            (None, "repmgr"),
            (Some(""), "repmgr"),
            (Some("pg_stat_statements"), "repmgr,pg_stat_statements"),
            (
                Some(" auto_explain , repmgr,\"repmgr\", auto_explain,"),
                "repmgr,auto_explain",
            ),
            (Some("\"$libdir/x y\""), "repmgr,\"$libdir/x y\""),
        ] {
            assert_eq!(preload(user), want);
        }
    }
}
