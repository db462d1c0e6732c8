//! `/docker-entrypoint-initdb.d`, as the official image runs it: in name order, on the first start
//! only, before clients can connect.

use super::PgError;
use crate::config::Config;
use crate::sys::{Account, Children, Spec};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A dump may take its time.
const LIMIT: Duration = Duration::from_secs(24 * 3600);

/// What is done with a file, by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// Executed when it may be, else read by bash.
    Shell,
    /// Fed to psql, through this filter.
    Sql(Option<&'static str>),
    /// Left alone.
    Ignore,
}

fn how(name: &str) -> How {
    let is = |ending: &str| name.ends_with(ending);
    if is(".sh") {
        How::Shell
    } else if is(".sql") {
        How::Sql(None)
    } else if is(".sql.gz") {
        How::Sql(Some("gzip -dc"))
    } else if is(".sql.xz") {
        How::Sql(Some("xz -dc"))
    } else if is(".sql.zst") {
        How::Sql(Some("zstd -dc"))
    } else {
        How::Ignore
    }
}

/// The files in the order in which they run: by byte, as with `LC_ALL=C`.
///
/// # Errors
/// [`PgError::Unreadable`]; a missing directory is an empty one.
pub fn scripts(dir: &Path, account: &Account) -> Result<Vec<PathBuf>, PgError> {
    let failed = |path: &Path, source| PgError::Unreadable {
        path: path.to_owned(),
        account: account.name.clone(),
        source,
    };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(dir, e)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| failed(dir, e))?.path();
        let name = path
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default();
        if how(&name) != How::Ignore {
            // Read now: a permission that is missing should not show after minutes of work.
            std::fs::File::open(&path).map_err(|e| failed(&path, e))?;
            found.push(path);
        } else if path.is_file() {
            tracing::warn!(
                "init script {} is ignored: not .sh, .sql, .sql.gz, .sql.xz or .sql.zst",
                path.display()
            );
        }
    }
    found.sort();
    Ok(found)
}

/// Runs them against the technical port; `begin` is told each name.
///
/// # Errors
/// [`PgError::Script`] names the file and its last words.
pub async fn run_scripts(
    children: &Children,
    config: &Config,
    account: &Account,
    mut begin: impl FnMut(&str),
) -> Result<(), PgError> {
    for path in scripts(&config.paths.init_scripts, account)? {
        let name = path
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default();
        tracing::info!("running init script {name}");
        begin(&name);
        let spec = spec(config, account, &path, &name);
        let end = children
            .run_with_lines(spec, LIMIT, |line| {
                tracing::info!(source = "initdb.d", "{line}")
            })
            .await?;
        if !end.exit.is_success() {
            return Err(PgError::Script {
                name,
                exit: end.exit.to_string(),
                last_words: end.last_words(),
            });
        }
        for line in end.stdout.lines().filter(|l| !l.trim().is_empty()) {
            tracing::debug!(source = "initdb.d", "{line}");
        }
    }
    Ok(())
}

fn spec(config: &Config, account: &Account, path: &Path, name: &str) -> Spec {
    let path = path.as_os_str();
    let psql = "psql --no-psqlrc --quiet -v ON_ERROR_STOP=1";
    let mut args: Vec<std::ffi::OsString> = Vec::new();
    let program = match how(name) {
        How::Sql(Some(filter)) => {
            args.extend(["-o".into(), "pipefail".into(), "-c".into()]);
            args.push(format!("{filter} -- \"$1\" | {psql}").into());
            args.extend(["bash".into(), path.into()]);
            "bash".into()
        }
        How::Sql(None) | How::Ignore => {
            args.extend(["-c".into(), format!("exec {psql} -f \"$1\"").into()]);
            args.extend(["bash".into(), path.into()]);
            "bash".into()
        }
        How::Shell if executable(path) => path.to_owned(),
        // The official image sources such a file; a shell of its own keeps the same variables.
        How::Shell => {
            args.extend(["-e".into(), path.into()]);
            "bash".into()
        }
    };
    Spec::new(program, args)
        .env(config.environment.scripts.clone())
        .env([
            (
                "PGHOST",
                config.paths.socket_dir.to_string_lossy().into_owned(),
            ),
            ("PGPORT", config.postgres.technical_port.to_string()),
            ("PGUSER", config.postgres.superuser.clone()),
            ("PGDATABASE", config.postgres.database.clone()),
            ("POSTGRES_USER", config.postgres.superuser.clone()),
            ("POSTGRES_DB", config.postgres.database.clone()),
        ])
        .env([("HOME", account.home.as_os_str())])
        .account(Some(account.clone()))
}

fn executable(path: &std::ffi::OsStr) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart_by_their_names_and_run_in_order() {
        let tmp = tempfile::tempdir().unwrap();
        for name in [
            "20.sql",
            "10.sh",
            "B.sql.gz",
            "a.sql.zst",
            "x.sql.xz",
            "README.md",
            "sql",
        ] {
            std::fs::write(tmp.path().join(name), "").unwrap();
        }
        let account = Account::ours();
        let names: Vec<String> = scripts(tmp.path(), &account)
            .unwrap()
            .iter()
            .map(|p| p.file_name().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(
            names,
            ["10.sh", "20.sql", "B.sql.gz", "a.sql.zst", "x.sql.xz"]
        );
        assert!(
            scripts(&tmp.path().join("none"), &account)
                .unwrap()
                .is_empty()
        );
    }
}
