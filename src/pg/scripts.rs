//! `/docker-entrypoint-initdb.d`, as the official image runs it: in name order, on the first start
//! only, before clients can connect.

use super::PgError;
use crate::config::Config;
use crate::sys::{Account, Children, Spec};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A dump may take its time.
const LIMIT: Duration = Duration::from_secs(24 * 3600);
/// A few `access(2)`.
const CHECK: Duration = Duration::from_secs(30);

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

/// Checks before anything is made that the account can read every script: a permission that is
/// missing should not show after minutes of work. The account itself tries: root can read all, and
/// what ACLs and closed parent directories mean only the kernel knows.
///
/// # Errors
/// [`PgError::Unreadable`] for the first that it cannot.
pub async fn scripts_readable(
    children: &Children,
    config: &Config,
    account: &Account,
) -> Result<(), PgError> {
    let found = scripts(&config.paths.init_scripts, account)?;
    if found.is_empty() {
        return Ok(());
    }
    let test = r#"for f; do [ -r "$f" ] || { printf '%s' "$f"; exit 3; }; done"#;
    let args = ["-c", test, "check"].map(std::ffi::OsString::from);
    let spec = Spec::new("bash", args.into_iter().chain(found.iter().map(Into::into)))
        .env(config.environment.base.clone())
        .account(Some(account.clone()));
    let end = children.run(spec, CHECK).await?;
    if end.exit.is_success() {
        return Ok(());
    }
    Err(PgError::Unreadable {
        path: PathBuf::from(end.stdout),
        account: account.name.clone(),
        source: std::io::Error::from(std::io::ErrorKind::PermissionDenied),
    })
}

/// Runs them against the server on the technical port, whose data directory is `pgdata`; `begin` is
/// told each name.
///
/// # Errors
/// [`PgError::Script`] names the file and its last words.
pub async fn run_scripts(
    children: &Children,
    config: &Config,
    account: &Account,
    pgdata: &Path,
    mut begin: impl FnMut(&str),
) -> Result<(), PgError> {
    for path in scripts(&config.paths.init_scripts, account)? {
        let name = path
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default();
        tracing::info!("running init script {name}");
        begin(&name);
        let spec = spec(config, account, pgdata, &path, &name);
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

fn spec(config: &Config, account: &Account, pgdata: &Path, path: &Path, name: &str) -> Spec {
    let path = path.as_os_str();
    let psql = "psql --no-psqlrc --quiet -v ON_ERROR_STOP=1";
    let mut args: Vec<std::ffi::OsString> = Vec::new();
    match how(name) {
        How::Sql(Some(filter)) => {
            args.extend(["-o".into(), "pipefail".into(), "-c".into()]);
            args.push(format!("{filter} -- \"$1\" | {psql}").into());
            args.extend(["bash".into(), path.into()]);
        }
        How::Sql(None) | How::Ignore => {
            args.extend(["-c".into(), format!("exec {psql} -f \"$1\"").into()]);
            args.extend(["bash".into(), path.into()]);
        }
        How::Shell => {
            args.extend(["-c".into(), SHELL.into(), "bash".into(), path.into()]);
        }
    }
    Spec::new("bash", args)
        // No standby can confirm a commit yet; the user's own PGOPTIONS win.
        .env([("PGOPTIONS", "-c synchronous_commit=local")])
        .env(config.environment.scripts.clone())
        // Scripts append to "$PGDATA/postgresql.conf": the directory that is being built.
        .env([("PGDATA", pgdata.as_os_str())])
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

/// Executed when the account may (it asks the kernel: a directory may be mounted noexec), otherwise
/// sourced as in the official image, whose function and array are there; a shell of its own, so what
/// it exports does not reach the next one.
const SHELL: &str = r#"
if [ -x "$1" ]; then exec "$1"; fi
psql=(psql -v ON_ERROR_STOP=1 --no-psqlrc)
docker_process_sql() { "${psql[@]}" "$@"; }
set -Eeo pipefail
. "$1"
"#;

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
