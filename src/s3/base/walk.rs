//! What of a data directory belongs in a backup: barman's lists (`EXCLUDE_LIST`, `PGDATA_EXCLUDE_LIST` in
//! `barman/postgres_plumbing.py`, 3.17), and the order of its walk: a directory, its files, its directories.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// Which directory is walked.
#[derive(Clone, Debug)]
pub(super) enum Tree {
    /// The data directory, without these directories in it (tablespaces that lie there).
    Data {
        /// Relative paths.
        without: BTreeSet<PathBuf>,
    },
    /// A tablespace of a server of this major version.
    Tablespace {
        /// PostgreSQL's.
        major: u32,
    },
}

/// Something to be put into an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Where it is.
    pub(super) path: PathBuf,
    /// What barman calls it in the archive: `.`, `./PG_VERSION`, `base`, `base/1/1249`.
    pub(super) name: Vec<u8>,
}

/// Directories whose contents a start makes anew.
const EMPTY: [&str; 7] = [
    "pg_dynshmem",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_stat_tmp",
    "pg_snapshots",
    "pg_subtrans",
];
/// The same, but only at the top: logs, and WAL, which is archived.
const EMPTY_AT_TOP: [&str; 4] = ["log", "pg_log", "pg_wal", "pg_xlog"];
/// Files that belong to the running server, or to how this copy came about.
const NOT: [&str; 7] = [
    "postgresql.auto.conf.tmp",
    "current_logfiles.tmp",
    "pg_internal.init",
    "postmaster.pid",
    "postmaster.opts",
    "recovery.conf",
    "standby.signal",
];
/// What another backup left at the top; `pg_basebackup` leaves them out too.
const NOT_AT_TOP: [&str; 3] = ["backup_label", "tablespace_map", "backup_manifest"];

impl Tree {
    /// Whether a file or directory goes into the archive; `path` is relative.
    fn takes(&self, path: &Path) -> bool {
        let Some(name) = path.file_name() else {
            return true;
        };
        let parent = path.parent().unwrap_or(Path::new(""));
        let at_top = parent.as_os_str().is_empty();
        let is = |all: &[&str]| all.iter().any(|one| name == OsStr::new(one));
        let inside = |all: &[&str]| {
            parent
                .file_name()
                .is_some_and(|dir| all.iter().any(|one| dir == OsStr::new(one)))
        };
        if name.as_bytes().starts_with(b"pgsql_tmp") || is(&NOT) || inside(&EMPTY) {
            return false;
        }
        if is_temporary(parent, name) {
            return false;
        }
        match self {
            Self::Data { without } => {
                let top_parent = parent.parent().is_some_and(|p| p.as_os_str().is_empty());
                !(at_top && is(&NOT_AT_TOP)
                    || top_parent && inside(&EMPTY_AT_TOP)
                    || path == Path::new("global/pg_control")
                    || without.contains(path))
            }
            Self::Tablespace { major } => {
                !at_top
                    || name
                        .as_bytes()
                        .starts_with(format!("PG_{major}_").as_bytes())
            }
        }
    }

    /// Calls `each` for everything in `root`, in the order in which barman would. What vanishes on the way is left
    /// out: replay takes care of it.
    ///
    /// # Errors
    /// What the system said, or `each`.
    pub(super) fn walk<E: From<io::Error>>(
        &self,
        root: &Path,
        mut each: impl FnMut(Found) -> Result<(), E>,
    ) -> Result<(), E> {
        each(Found {
            path: root.to_owned(),
            name: b".".to_vec(),
        })?;
        // Directories that are still to do; the last is the next.
        let mut todo = vec![PathBuf::new()];
        while let Some(dir) = todo.pop() {
            if !dir.as_os_str().is_empty() {
                each(Found {
                    path: root.join(&dir),
                    name: dir.as_os_str().as_bytes().to_vec(),
                })?;
            }
            let (files, mut dirs) = self.look(root, &dir)?;
            for file in files {
                let name = match dir.as_os_str().is_empty() {
                    true => [b"./", file.as_os_str().as_bytes()].concat(),
                    false => file.as_os_str().as_bytes().to_vec(),
                };
                each(Found {
                    path: root.join(&file),
                    name,
                })?;
            }
            dirs.reverse();
            todo.append(&mut dirs);
        }
        Ok(())
    }

    /// Files and directories in one directory, sorted. A link to a directory is neither (`os.walk` does not follow
    /// it): that is how `pg_tblspc` stays empty, and a `pg_wal` that lies elsewhere out.
    fn look(&self, root: &Path, dir: &Path) -> io::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
        let (mut files, mut dirs) = (Vec::new(), Vec::new());
        let entries = match fs::read_dir(root.join(dir)) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok((files, dirs)),
            Err(e) => return Err(e),
        };
        for entry in entries {
            let entry = entry?;
            let path = dir.join(entry.file_name());
            if !self.takes(&path) {
                continue;
            }
            let kind = match entry.file_type() {
                Ok(kind) => kind,
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                Err(e) => return Err(e),
            };
            if kind.is_dir() {
                dirs.push(path);
            } else if kind.is_file() || kind.is_symlink() && is_plain_link(root, dir, &path) {
                files.push(path);
            }
        }
        files.sort_unstable();
        dirs.sort_unstable();
        Ok((files, dirs))
    }
}

/// A link to a file. What `pg_tblspc` links to has an archive of its own, wherever it is.
fn is_plain_link(root: &Path, dir: &Path, path: &Path) -> bool {
    dir != Path::new("pg_tblspc") && !root.join(path).is_dir()
}

/// A session's temporary table, `t3_16385`: a database's directory has a number for its name.
fn is_temporary(parent: &Path, name: &OsStr) -> bool {
    let number = |text: &[u8]| !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let database = parent.file_name().is_some_and(|d| number(d.as_bytes()));
    let relation = || {
        let rest = name.as_bytes().strip_prefix(b"t")?;
        let at = rest.iter().position(|b| *b == b'_')?;
        let (backend, rest) = rest.split_at_checked(at)?;
        let file = rest.get(1..)?;
        Some(number(backend) && file.first().is_some_and(u8::is_ascii_digit))
    };
    database && relation().unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(tree: &Tree, root: &Path) -> Vec<String> {
        let mut names = Vec::new();
        let done: io::Result<()> = tree.walk(root, |found| {
            names.push(String::from_utf8(found.name).unwrap());
            Ok(())
        });
        done.unwrap();
        names
    }

    fn make(files: &[&str]) -> tempfile::TempDir {
        let tmp = tempfile::tempdir().unwrap();
        for file in files {
            let path = tmp.path().join(file);
            if let Some(dir) = file.strip_suffix("/.") {
                fs::create_dir_all(tmp.path().join(dir)).unwrap();
                continue;
            }
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        tmp
    }

    #[test]
    fn the_data_directory_is_walked_as_barman_does() {
        let tmp = make(&[
            "PG_VERSION",
            "postmaster.pid",
            "standby.signal",
            "backup_label",
            "backup_manifest",
            "pgsql_tmp.pgnode/state.json",
            "global/pg_control",
            "global/pg_internal.init",
            "global/1260",
            "base/1/1249",
            "base/1/t3_16385",
            "base/1/t3_16385_fsm",
            "base/1/pg_internal.init",
            "base/1/16385_vm",
            "base/pgsql_tmp/pgsql_tmp7.0",
            "log/postgresql.log",
            "pg_wal/000000010000000000000001",
            "pg_wal/archive_status/x.done",
            "pg_notify/0000",
            "pg_replslot/one/state",
            "pg_logical/mappings/.",
            "pg_tblspc/.",
            "spaces/ts1/PG_17_202406281/5/1",
        ]);
        std::os::unix::fs::symlink("/srv/ts", tmp.path().join("pg_tblspc/16999")).unwrap();
        std::os::unix::fs::symlink("/", tmp.path().join("pg_tblspc/17000")).unwrap();
        let tree = Tree::Data {
            without: [PathBuf::from("spaces/ts1")].into(),
        };
        assert_eq!(
            names(&tree, tmp.path()),
            [
                ".",
                "./PG_VERSION",
                "base",
                "base/1",
                "base/1/1249",
                "base/1/16385_vm",
                "global",
                "global/1260",
                "log",
                "pg_logical",
                "pg_logical/mappings",
                "pg_notify",
                "pg_replslot",
                "pg_tblspc",
                "pg_wal",
                "spaces",
            ]
        );
    }

    /// barman has no member for it then, and its restore makes the directory; ours too.
    #[test]
    fn wal_that_lies_elsewhere_is_not_walked() {
        let wal = make(&["000000010000000000000001", "archive_status/x.done"]);
        let tmp = make(&["PG_VERSION", "base/1/1249"]);
        std::os::unix::fs::symlink(wal.path(), tmp.path().join("pg_wal")).unwrap();
        let tree = Tree::Data {
            without: BTreeSet::new(),
        };
        assert_eq!(
            names(&tree, tmp.path()),
            [".", "./PG_VERSION", "base", "base/1", "base/1/1249"]
        );
    }

    #[test]
    fn of_a_tablespace_only_this_versions_directory_counts() {
        let tmp = make(&[
            "PG_17_202406281/5/1",
            "PG_16_202307071/5/1",
            "PG_17x",
            "other",
        ]);
        let tree = Tree::Tablespace { major: 17 };
        assert_eq!(
            names(&tree, tmp.path()),
            [
                ".",
                "PG_17_202406281",
                "PG_17_202406281/5",
                "PG_17_202406281/5/1"
            ]
        );
    }

    #[test]
    fn a_directory_that_vanishes_is_left_out() {
        let tmp = make(&["a/1", "b/2"]);
        let tree = Tree::Data {
            without: BTreeSet::new(),
        };
        let mut seen = Vec::new();
        let done: io::Result<()> = tree.walk(tmp.path(), |found| {
            seen.push(found.name);
            drop(fs::remove_dir_all(tmp.path().join("b")));
            Ok(())
        });
        done.unwrap();
        assert_eq!(seen, [b".".to_vec(), b"a".to_vec(), b"a/1".to_vec()]);
    }
}
