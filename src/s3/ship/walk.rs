//! What is here, in the order in which LIST shows what is there: by the bytes of the keys. One directory's names are
//! in memory at a time, and those above it.

pub use crate::barman::EMPTY;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// How rclone names the object of a symbolic link, with the target as its text (`rclone --links`).
pub const LINK: &str = ".rclonelink";

/// What an object is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A file.
    File,
    /// An empty directory.
    Empty,
    /// A symbolic link, and where it leads.
    Link(PathBuf),
}

/// Something that is to be an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its key, below the root.
    pub key: String,
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub what: What,
    /// Bytes of the object.
    pub size: u64,
    /// When the file was changed: seconds and nanoseconds since the epoch.
    pub modified: (i64, i64),
}

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// Give more.
    On,
    /// Nobody listens any more.
    Enough,
}

/// Gives all below `root` in the order of their keys. `want` is asked with the key of a file, or of a directory with `/`
/// at its end. What vanishes meanwhile is passed over; `root` must be there.
///
/// # Errors
/// What the system said, with the path; a name that cannot be in a key.
pub fn walk(
    root: &Path,
    want: &dyn Fn(&str) -> bool,
    give: &mut dyn FnMut(Found) -> Flow,
) -> Result<Flow, (PathBuf, io::Error)> {
    let names = list(root, "", want).map_err(|e| (root.to_owned(), e))?;
    below(names, want, give)
}

/// A name with its part of the key, which decides the order.
type Names = Vec<(String, fs::DirEntry)>;

fn list(dir: &Path, prefix: &str, want: &dyn Fn(&str) -> bool) -> io::Result<Names> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|n| !n.chars().any(char::is_control)) else {
            let odd = String::from_utf8_lossy(name.as_bytes())
                .escape_debug()
                .to_string();
            let why = format!("the name `{odd}` in it cannot be an object's");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        };
        let kind = entry.file_type()?;
        let ending = match () {
            () if kind.is_dir() => "/",
            () if kind.is_symlink() => LINK,
            () if kind.is_file() => "",
            // Sockets and pipes are nothing to keep.
            () => continue,
        };
        let key = format!("{prefix}{name}{ending}");
        if want(&key) {
            names.push((key, entry));
        }
    }
    names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(names)
}

fn below(
    names: Names,
    want: &dyn Fn(&str) -> bool,
    give: &mut dyn FnMut(Found) -> Flow,
) -> Result<Flow, (PathBuf, io::Error)> {
    for (key, entry) in names {
        let path = entry.path();
        let found = match one(key, &entry, want) {
            Ok(found) => found,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err((path, e)),
        };
        let flow = match found {
            One::Object(found) => give(found),
            One::Directory(names) => below(names, want, give)?,
        };
        if flow == Flow::Enough {
            return Ok(Flow::Enough);
        }
    }
    Ok(Flow::On)
}

/// The key that keeps an empty directory. postgres takes every entry of `pg_tblspc` for a tablespace's link, and does not
/// start where it leads to a file (seen with 17.12); in `pg_logical/snapshots` it complains of a file at each checkpoint.
/// A directory is passed over in both, and nowhere else: in `pg_replslot` it would be a slot.
fn marker(dir: &str) -> String {
    let name = dir.trim_end_matches('/').rsplit('/').next();
    match name {
        Some("pg_tblspc" | "snapshots") => format!("{dir}{EMPTY}/{EMPTY}"),
        Some(_) | None => format!("{dir}{EMPTY}"),
    }
}

enum One {
    Object(Found),
    Directory(Names),
}

fn one(key: String, entry: &fs::DirEntry, want: &dyn Fn(&str) -> bool) -> io::Result<One> {
    let path = entry.path();
    let meta = entry.metadata()?;
    let modified = (meta.mtime(), meta.mtime_nsec());
    let (key, what, size) = if key.ends_with('/') {
        if fs::read_dir(&path)?.next().is_some() {
            return Ok(One::Directory(list(&path, &key, want)?));
        }
        (marker(&key), What::Empty, 0)
    } else if meta.is_symlink() {
        let to = fs::read_link(&path)?;
        let size = u64::try_from(to.as_os_str().len()).unwrap_or(u64::MAX);
        (key, What::Link(to), size)
    } else {
        (key, What::File, meta.len())
    };
    Ok(One::Object(Found {
        key,
        path,
        what,
        size,
        modified,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(root: &Path, want: &dyn Fn(&str) -> bool) -> Vec<String> {
        let mut keys = Vec::new();
        walk(root, want, &mut |found| {
            keys.push(found.key);
            Flow::On
        })
        .unwrap();
        keys
    }

    #[test]
    fn the_order_is_that_of_the_keys() {
        let tmp = tempfile::tempdir().unwrap();
        for file in ["a/x", "a.b", "a0", "B", "a/.y", "c/d/e", "é", "a-b/z"] {
            let path = tmp.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "x").unwrap();
        }
        fs::create_dir(tmp.path().join("c/empty")).unwrap();
        std::os::unix::fs::symlink("/to/there", tmp.path().join("c/link")).unwrap();
        let found = keys(tmp.path(), &|_| true);
        let mut sorted = found.clone();
        sorted.sort();
        assert_eq!(found, sorted);
        assert_eq!(
            found,
            [
                "B",
                "a-b/z",
                "a.b",
                "a/.y",
                "a/x",
                "a0",
                "c/d/e",
                "c/empty/pgsql_tmp.pgnode-empty",
                "c/link.rclonelink",
                "é"
            ]
        );
        assert_eq!(
            keys(tmp.path(), &|key| !key.starts_with('a')),
            [
                "B",
                "c/d/e",
                "c/empty/pgsql_tmp.pgnode-empty",
                "c/link.rclonelink",
                "é"
            ]
        );
    }

    #[test]
    fn an_empty_directory_is_kept_as_postgres_bears_it() {
        assert_eq!(marker("data/pg_wal/"), "data/pg_wal/pgsql_tmp.pgnode-empty");
        let deep = "data/pg_tblspc/pgsql_tmp.pgnode-empty/pgsql_tmp.pgnode-empty";
        assert_eq!(marker("data/pg_tblspc/"), deep);
    }

    #[test]
    fn a_missing_root_is_no_empty_one() {
        assert!(walk(Path::new("/nowhere/at/all"), &|_| true, &mut |_| Flow::On).is_err());
    }

    #[test]
    fn a_name_that_no_key_can_have_is_said() {
        let tmp = tempfile::tempdir().unwrap();
        fs::write(tmp.path().join("a\nb"), "").unwrap();
        let (_, why) = walk(tmp.path(), &|_| true, &mut |_| Flow::On).unwrap_err();
        assert!(why.to_string().contains("a\\nb"), "{why}");
    }
}
