//! The environment of children.

use super::names;
use super::types::{Environment, Postgres};
use std::collections::BTreeMap;
use std::path::Path;

/// What every child inherits: how to find programs, and how text and time are written.
fn is_base(name: &str) -> bool {
    matches!(name, "PATH" | "LANG" | "TZ" | "TMPDIR") || name.starts_with("LC_")
}

/// What scripts are given, as by the official image's entrypoint: what is in effect instead of what
/// was set, `PGPASSWORD` for `psql`, no `_FILE`.
pub(super) fn of_children(
    vars: &BTreeMap<String, String>,
    postgres: &Postgres,
    pgdata: &Path,
) -> Environment {
    let pairs = |keep: &dyn Fn(&str) -> bool| -> Vec<(String, String)> {
        vars.iter()
            .filter(|(name, _)| keep(name))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    };
    let effective = [
        ("PGDATA", pgdata.display().to_string()),
        ("POSTGRES_USER", postgres.superuser.clone()),
        ("POSTGRES_PASSWORD", postgres.password.reveal().to_owned()),
        ("POSTGRES_DB", postgres.database.clone()),
        (
            "POSTGRES_INITDB_ARGS",
            shell_words::join(&postgres.initdb_args),
        ),
    ];
    let ours = |name: &str| {
        let plain = name.strip_suffix("_FILE").unwrap_or(name);
        names::prefix(name).is_some()
            // NOTIFY_SOCKET: a postgres that a script starts must not report to our init system.
            || matches!(plain, "PGPORT" | "PGHOST" | "PGHOSTADDR" | "RUST_LOG" | "NOTIFY_SOCKET")
            || effective.iter().any(|(known, _)| *known == plain)
    };
    let mut scripts = pairs(&|name| !ours(name));
    if !vars.contains_key("PGPASSWORD") {
        let password = postgres.password.reveal().to_owned();
        scripts.push(("PGPASSWORD".to_owned(), password));
    }
    scripts.extend(
        effective
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value)),
    );
    Environment {
        base: pairs(&is_base),
        scripts,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn children_get_what_is_theirs() {
        let config = crate::config::tests::config(&[
            ("PATH", "/bin"),
            ("LANG", "C.UTF-8"),
            ("LC_TIME", "de_DE"),
            ("TZ", "Europe/Berlin"),
            ("TMPDIR", "/tmp"),
            ("HOME", "/root"),
            ("MY_APP_TOKEN", "t0ken"),
            ("LD_PRELOAD", "/x.so"),
            ("POSTGRES_PASSWORD_FILE", "/secret"),
            ("POSTGRES_USER", "me"),
            ("PGPORT", "6432"),
            ("REPMGR_PASSWORD", "x"),
            ("BARMAN_PASSWORD_FILE", "/secret"),
            ("S3_SERVICE_HOST", "x"),
            ("NOTIFY_SOCKET", "/x"),
            ("RUST_LOG", "debug"),
        ]);
        let names = |pairs: &[(String, String)]| {
            let names: Vec<_> = pairs.iter().map(|(k, _)| k.as_str()).collect();
            names.join(" ")
        };
        let environment = config.environment;
        assert_eq!(names(&environment.base), "LANG LC_TIME PATH TMPDIR TZ");
        assert_eq!(
            names(&environment.scripts),
            "HOME LANG LC_TIME LD_PRELOAD MY_APP_TOKEN PATH TMPDIR TZ PGPASSWORD PGDATA POSTGRES_USER POSTGRES_PASSWORD POSTGRES_DB POSTGRES_INITDB_ARGS"
        );
        let value = |name: &str| {
            let pair = environment.scripts.iter().find(|(k, _)| k == name);
            pair.map(|(_, v)| v.clone()).unwrap()
        };
        assert_eq!(value("POSTGRES_PASSWORD"), "from the file");
        assert_eq!(value("PGPASSWORD"), "from the file");
        assert_eq!(value("POSTGRES_DB"), "me");
        assert_eq!(value("PGDATA"), "/var/lib/postgresql/data");
    }
}
