//! Directories: each by itself, and all of them together.

use super::fault::{Faults, Problem, Wrong};
use super::rules::Ruled;
use super::table::{self, Var};
use std::path::{Component, Path, PathBuf};

/// `sun_path` holds 107 bytes and a NUL; `/.s.PGSQL.65535.lock` and `/control.sock` must fit.
const SOCKET_DIR_MAX: usize = 107 - "/.s.PGSQL.65535.lock".len();

/// An absolute directory other than `/`, without `..` (a symbolic link would make it lie), and of
/// characters that every file it is written into can carry unquoted: postgresql.conf, repmgr.conf,
/// barman's configuration, a crontab.
pub(super) fn directory(text: &str) -> Ruled<PathBuf> {
    let path = Path::new(text);
    if !path.is_absolute() {
        return Err("is not an absolute path".to_owned());
    }
    let plain =
        |c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | '@' | '=' | '~');
    if !text.chars().all(plain) {
        return Err("holds a character other than letters, digits and / . _ - + @ = ~".to_owned());
    }
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => return Err("holds ..".to_owned()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    if out == Path::new("/") {
        return Err("is the root directory".to_owned());
    }
    Ok(out)
}

/// A directory that holds Unix sockets.
pub(super) fn socket_directory(text: &str) -> Ruled<PathBuf> {
    let path = directory(text)?;
    if path.as_os_str().len() > SOCKET_DIR_MAX {
        return Err(format!(
            "is too long for a Unix socket: at most {SOCKET_DIR_MAX} bytes"
        ));
    }
    Ok(path)
}

/// The directories, as far as each of them is right by itself.
#[derive(Default)]
pub(super) struct Given {
    pub(super) data_dir: Option<PathBuf>,
    pub(super) pgdata: Option<PathBuf>,
    pub(super) backups: Option<PathBuf>,
    pub(super) repmgr: Option<PathBuf>,
    pub(super) barman: Option<PathBuf>,
    pub(super) user: Option<PathBuf>,
    pub(super) run: Option<PathBuf>,
    pub(super) socket: Option<PathBuf>,
}

/// Checks the directories against each other: what is replaced as a whole (PGDATA) or is private
/// (`.pgnode`) must not hold, or be, anything else.
pub(super) fn check_together(given: &Given, faults: &mut Faults) {
    let others: [(&'static Var, &Option<PathBuf>); 6] = [
        (&table::BARMAN_BACKUP_DIR, &given.backups),
        (&table::REPMGR_CONFIG_DIR, &given.repmgr),
        (&table::BARMAN_CONFIG_DIR, &given.barman),
        (&table::PGNODE_CONFIG_DIR, &given.user),
        (&table::PGNODE_RUN_DIR, &given.run),
        (&table::PGNODE_SOCKET_DIR, &given.socket),
    ];
    let mut wrong = |var: &'static Var, path: &Path, rule: String| {
        faults.push(Wrong::of(var, path.to_str(), Problem::Value { rule }));
    };
    let private = given.data_dir.as_ref().map(|dir| dir.join(".pgnode"));
    let within =
        |path: &Path, dir: &Option<PathBuf>| dir.as_ref().is_some_and(|d| path.starts_with(d));

    if let Some(pgdata) = &given.pgdata {
        if within(pgdata, &private) {
            wrong(
                &table::PGDATA,
                pgdata,
                "is inside $PGNODE_DATA_DIR/.pgnode, which is pgnode's own".to_owned(),
            );
        }
        // PGDATA = PGNODE_DATA_DIR is the habit of those who mount PGDATA itself.
        if given
            .data_dir
            .as_ref()
            .is_some_and(|dir| dir != pgdata && dir.starts_with(pgdata))
        {
            wrong(
                &table::PGDATA,
                pgdata,
                "holds PGNODE_DATA_DIR, which must not be inside it".to_owned(),
            );
        }
    }
    for (at, (var, path)) in others.iter().enumerate() {
        let Some(path) = path else { continue };
        if within(path, &private) {
            wrong(
                var,
                path,
                "is inside $PGNODE_DATA_DIR/.pgnode, which is pgnode's own".to_owned(),
            );
        }
        if let Some(pgdata) = &given.pgdata {
            if path.starts_with(pgdata) {
                wrong(
                    var,
                    path,
                    "is inside PGDATA, which a clone replaces".to_owned(),
                );
            } else if pgdata.starts_with(path) {
                wrong(var, path, "holds PGDATA, which must stand apart".to_owned());
            }
        }
        if given.data_dir.as_ref() == Some(path) && given.pgdata.as_ref() != Some(path) {
            wrong(var, path, "is PGNODE_DATA_DIR itself".to_owned());
        }
        if let Some((twin, _)) = others[..at]
            .iter()
            .find(|(_, other)| other.as_ref() == Some(path))
        {
            wrong(var, path, format!("is {} as well", twin.name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_absolute_and_plain() {
        for (text, want) in [
            ("/a", Some("/a")),
            ("/a//b/./c/", Some("/a/b/c")),
            (
                "/var/lib/postgresql-17/données",
                Some("/var/lib/postgresql-17/données"),
            ),
            ("a", None),
            ("./a", None),
            ("", None),
            ("/", None),
            ("///", None),
            ("/a/../b", None),
            ("/a b", None),
            ("/a\n", None),
            ("/a'b", None),
            ("/a%b", None),
            ("/a,b", None),
            ("/a$b", None),
        ] {
            assert_eq!(directory(text).ok(), want.map(PathBuf::from), "{text}");
        }
        let long = format!("/{}", "r".repeat(SOCKET_DIR_MAX));
        assert!(directory(&long).is_ok() && socket_directory(&long).is_err());
        assert!(socket_directory(&long[..SOCKET_DIR_MAX]).is_ok());
    }

    #[test]
    fn directories_must_not_overlap() {
        let check = |vars: &[(&str, &str)]| {
            crate::config::tests::load(vars)
                .err()
                .map_or_else(String::new, |faults| {
                    let names: Vec<_> = faults.list().iter().map(|w| w.name.clone()).collect();
                    names.join(" ")
                })
        };
        for (vars, want) in [
            (&[("PGDATA", "/var/lib/postgresql")][..], ""),
            (&[("PGDATA", "/mnt/pg")], ""),
            (&[("BARMAN_BACKUP_DIR", "/var/lib/postgresql/barman")], ""),
            (&[("PGDATA", "/var/lib")], "PGDATA"),
            (&[("PGDATA", "/var/lib/postgresql/.pgnode/data")], "PGDATA"),
            (&[("PGDATA", "/home/barman/data")], "BARMAN_BACKUP_DIR"),
            (&[("PGDATA", "/home/barman/data/pg")], "BARMAN_BACKUP_DIR"),
            (&[("PGDATA", "/home/barman")], "BARMAN_BACKUP_DIR"),
            (
                &[("PGNODE_RUN_DIR", "/var/lib/postgresql/data/run")],
                "PGNODE_RUN_DIR",
            ),
            (
                &[("PGNODE_RUN_DIR", "/var/lib/postgresql/.pgnode")],
                "PGNODE_RUN_DIR",
            ),
            (
                &[("PGNODE_RUN_DIR", "/var/lib/postgresql")],
                "PGNODE_RUN_DIR PGNODE_RUN_DIR",
            ),
            (
                &[("BARMAN_CONFIG_DIR", "/etc/repmgr.d")],
                "BARMAN_CONFIG_DIR",
            ),
            (
                &[("PGNODE_SOCKET_DIR", "/run/pgnode/")],
                "PGNODE_SOCKET_DIR",
            ),
        ] {
            assert_eq!(check(vars), want, "{vars:?}");
        }
    }
}
