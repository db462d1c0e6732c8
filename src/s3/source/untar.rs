//! A backup's tars, unpacked into a data directory and its tablespaces. What a tar reader passes over in silence is an error here: a tar
//! that ends at the end of a file without the blocks that end a tar, bytes behind them, a file that is shorter than
//! it says, a name that leads out of the directory.

use super::Piece;
use super::listed::Listed;
use crate::barman::{Backup, Places};
use crate::s3::S3Error;
use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{self, BufRead as _, BufReader, Read, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, fchown, lchown, symlink};
use std::path::{Component, Path, PathBuf};
use tar::EntryType;

/// A tar ends with two blocks of zeros (POSIX `pax`, "ustar interchange format").
const BLOCK: u64 = 512;
/// Directories whose contents a backup leaves out; PostgreSQL wants them there.
const DIRS: [&str; 9] = [
    "pg_wal",
    "pg_tblspc",
    "pg_dynshmem",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat_tmp",
    "pg_subtrans",
];
/// Without one of these it is no data directory of a backup. The last two are the last ones in the last tar.
const NEEDED: [&str; 4] = ["PG_VERSION", "base", "global/pg_control", "backup_label"];
/// Names of PostgreSQL's own at the top that must be what they are, and never lead elsewhere.
const OWN: [&str; 6] = [
    "PG_VERSION",
    "base",
    "global",
    "backup_label",
    "tablespace_map",
    "postgresql.auto.conf",
];

/// A label is a few lines.
const LONGEST_LABEL: usize = 64 * 1024;

/// A data directory that is being unpacked; or only looked at, where there is no place to put it.
#[derive(Debug)]
pub(super) struct Untar {
    to: Option<Places>,
    owner: Option<(u32, u32)>,
    /// The tablespace that is being read; `None`: the data directory.
    space: Option<u32>,
    /// Directories that are there, of that one.
    dirs: BTreeSet<PathBuf>,
    /// Those of [`NEEDED`] that were found.
    found: BTreeSet<&'static str>,
    /// Tablespaces whose own directory was found.
    spaces: BTreeSet<u32>,
    label: Vec<u8>,
    /// Made last, so that nothing is ever written through one.
    links: Vec<(PathBuf, PathBuf)>,
    buffer: Vec<u8>,
    listed: Option<Listed>,
    /// The archive that is being read, as the list calls it.
    archive: String,
}

pub(super) fn damaged(key: &str, why: impl Into<String>) -> S3Error {
    S3Error::Damaged {
        key: key.to_owned(),
        why: why.into(),
    }
}

/// It cannot be read any further.
pub(super) fn cut(key: &str, error: &io::Error) -> S3Error {
    damaged(key, format!("is cut off or damaged: {error}"))
}

/// Our own disk: a full one does not get better by asking again.
fn unwritable(path: &Path) -> impl FnOnce(io::Error) -> S3Error {
    let path = path.display().to_string();
    move |error| S3Error::Unfit(format!("cannot write {path}: {error}"))
}

/// Notices that the end of the input was asked for.
struct Watched<R> {
    inner: R,
    ended: bool,
}

impl<R: Read> Read for Watched<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(to)?;
        self.ended |= n == 0 && !to.is_empty();
        Ok(n)
    }
}

impl Untar {
    pub(super) fn new(
        to: Option<&Places>,
        owner: Option<(u32, u32)>,
        listed: Option<Listed>,
    ) -> Self {
        Self {
            to: to.cloned(),
            owner,
            space: None,
            dirs: BTreeSet::new(),
            found: BTreeSet::new(),
            spaces: BTreeSet::new(),
            label: Vec::new(),
            links: Vec::new(),
            buffer: vec![0; 256 * 1024],
            listed,
            archive: String::new(),
        }
    }

    /// One tar, from its first byte to its last.
    pub(super) fn part(
        &mut self,
        key: &str,
        piece: &Piece,
        input: impl Read,
    ) -> Result<(), S3Error> {
        piece.name.clone_into(&mut self.archive);
        if piece.tablespace != self.space {
            self.space = piece.tablespace;
            self.dirs.clear();
        }
        let mut input = Watched {
            inner: BufReader::with_capacity(64 * 1024, input),
            ended: false,
        };
        let mut archive = tar::Archive::new(&mut input);
        for entry in archive.entries().map_err(|e| cut(key, &e))? {
            let mut entry = entry.map_err(|e| cut(key, &e))?;
            self.member(key, &mut entry)?;
        }
        if input.ended {
            let why = "ends without the blocks that end a tar: it is cut off";
            return Err(damaged(key, why));
        }
        // The reader stopped at the first block of zeros. To the end, so that the packing's own check is made.
        let mut rest = 0;
        loop {
            let bytes = input.inner.fill_buf().map_err(|e| cut(key, &e))?;
            if bytes.is_empty() {
                break;
            }
            if bytes.iter().any(|b| *b != 0) {
                return Err(damaged(key, "goes on behind its end"));
            }
            let n = bytes.len();
            rest += n as u64;
            input.inner.consume(n);
        }
        if rest < BLOCK {
            return Err(damaged(
                key,
                "ends within the blocks that end a tar: it is cut off",
            ));
        }
        Ok(())
    }

    /// An archive was read, packed, with this SHA-256.
    pub(super) fn archive(&mut self, name: &str, size: u64, sha256: String) {
        if let Some(listed) = &mut self.listed {
            listed.archive(name, size, sha256);
        }
    }

    fn member<R: Read>(&mut self, key: &str, entry: &mut tar::Entry<'_, R>) -> Result<(), S3Error> {
        let kind = entry.header().entry_type();
        if kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        let path = inside(&entry.path_bytes()).map_err(|why| damaged(key, why))?;
        if path.as_os_str().is_empty() {
            return match kind {
                EntryType::Directory => Ok(()),
                _ => Err(damaged(key, "has a member without a name")),
            };
        }
        match self.space {
            Some(space) => {
                own_directory(&path, kind).map_err(|why| damaged(key, why))?;
                self.spaces.insert(space);
            }
            None => self
                .found
                .extend(NEEDED.into_iter().filter(|name| path == Path::new(name))),
        }
        match kind {
            EntryType::Directory => self.dir(&path),
            EntryType::Regular | EntryType::Continuous => self.file(key, &path, entry),
            EntryType::Symlink => {
                let target = entry.link_name_bytes().unwrap_or_default();
                let target = PathBuf::from(std::ffi::OsStr::from_bytes(&target));
                self.link(key, path, target)
            }
            other => Err(damaged(
                key,
                format!(
                    "has {} as a {other:?}, which no data directory holds",
                    path.display()
                ),
            )),
        }
    }

    /// A directory, and those above it.
    fn dir(&mut self, path: &Path) -> Result<(), S3Error> {
        if path.as_os_str().is_empty() || self.dirs.contains(path) {
            return Ok(());
        }
        if let Some(above) = path.parent() {
            self.dir(above)?;
        }
        if let Some(target) = self.target(path)? {
            crate::sys::ensure_dir(&target, 0o700, self.owner).map_err(unwritable(&target))?;
        }
        self.dirs.insert(path.to_owned());
        Ok(())
    }

    /// Where something of the archive that is being read goes; `None` where it is only looked at.
    fn target(&self, path: &Path) -> Result<Option<PathBuf>, S3Error> {
        let Some(places) = &self.to else {
            return Ok(None);
        };
        let root = places.root(self.space).ok_or_else(|| {
            S3Error::Bug(format!("a backup's {} has no place to go", self.archive))
        })?;
        Ok(Some(root.join(path)))
    }

    fn file<R: Read>(
        &mut self,
        key: &str,
        path: &Path,
        entry: &mut tar::Entry<'_, R>,
    ) -> Result<(), S3Error> {
        let above = path.parent().unwrap_or(Path::new(""));
        self.dir(above)?;
        let mut output = self.create(key, path, above.as_os_str().is_empty())?;
        let is_label = self.space.is_none() && path == Path::new("backup_label");
        if is_label {
            self.label.clear();
        }
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let mut expected = match &mut self.listed {
            Some(listed) => {
                let expected = listed.file(&self.archive, &name);
                Some(expected.map_err(|why| damaged(key, why))?)
            }
            None => None,
        };
        let (whole, mut copied) = (entry.size(), 0_u64);
        loop {
            let n = entry.read(&mut self.buffer).map_err(|e| cut(key, &e))?;
            let bytes = self.buffer.get(..n).unwrap_or_default();
            if bytes.is_empty() {
                break;
            }
            if let Some((output, target)) = &mut output {
                output.write_all(bytes).map_err(unwritable(target))?;
            }
            if let Some(expected) = &mut expected {
                expected.update(bytes);
            }
            if is_label && self.label.len() < LONGEST_LABEL {
                self.label.extend_from_slice(bytes);
            }
            copied += n as u64;
        }
        if copied != whole {
            let path = path.display();
            return Err(damaged(
                key,
                format!("ends after {copied} of the {whole} bytes of {path}: it is cut off"),
            ));
        }
        if let Some(expected) = expected {
            expected.judge(&name).map_err(|why| damaged(key, why))?;
        }
        match (self.owner, output) {
            (Some((uid, gid)), Some((output, target))) => {
                fchown(&output, Some(uid), Some(gid)).map_err(unwritable(&target))
            }
            _ => Ok(()),
        }
    }

    /// Where a file goes. A configuration file that lay elsewhere comes after the one of its name in the data directory,
    /// and counts.
    fn create(
        &self,
        key: &str,
        path: &Path,
        at_the_top: bool,
    ) -> Result<Option<(std::fs::File, PathBuf)>, S3Error> {
        let Some(target) = self.target(path)? else {
            return Ok(None);
        };
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .create_new(!at_the_top)
            .truncate(true)
            .mode(0o600)
            .open(&target)
            .map_err(|e| match e.kind() {
                io::ErrorKind::AlreadyExists => {
                    damaged(key, format!("has {} twice", path.display()))
                }
                _ => unwritable(&target)(e),
            })?;
        Ok(Some((file, target)))
    }

    /// Only where it is somebody's own: a certificate or a configuration file at the top.
    fn link(&mut self, key: &str, path: PathBuf, target: PathBuf) -> Result<(), S3Error> {
        let name = path.to_string_lossy();
        let hba = matches!(&*name, "pg_hba.conf" | "pg_ident.conf");
        let own =
            self.space.is_some() || OWN.contains(&&*name) || (name.starts_with("pg_") && !hba);
        if own || path.components().count() != 1 {
            return Err(damaged(
                key,
                format!(
                    "has {} as a link to {}, where files of the data directory belong",
                    path.display(),
                    target.display()
                ),
            ));
        }
        self.links.push((path, target));
        Ok(())
    }

    /// After the last part: whether it is all of this backup.
    pub(super) fn finish(mut self, whole: &str, backup: &Backup) -> Result<(), S3Error> {
        if let Some(listed) = self.listed.take() {
            listed.finish().map_err(|why| damaged(whole, why))?;
        }
        if let Some(name) = NEEDED.into_iter().find(|name| !self.found.contains(name)) {
            let why = format!("has no {name}: parts of it are missing");
            return Err(damaged(whole, why));
        }
        let mut spaces = backup.tablespaces.iter();
        if let Some(space) = spaces.find(|t| !self.spaces.contains(&t.oid)) {
            let why = format!(
                "has nothing in tablespace {}: parts of it are missing",
                space.name
            );
            return Err(damaged(whole, why));
        }
        self.complete(whole)?;
        let label = String::from_utf8_lossy(&self.label);
        match backup.begin_wal {
            // `START WAL LOCATION: 0/3000028 (file 000000010000000000000003)`
            Some(begin) if !label.contains(&format!("(file {begin})")) => Err(damaged(
                whole,
                format!("has a backup_label that does not begin at {begin}, as its metadata do"),
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// What a backup leaves out, and the links.
    fn complete(&mut self, whole: &str) -> Result<(), S3Error> {
        for dir in DIRS {
            self.dir(Path::new(dir))?;
        }
        for (path, target) in std::mem::take(&mut self.links) {
            let Some(at) = self.target(&path)? else {
                continue;
            };
            if at.symlink_metadata().is_ok() {
                let path = path.display();
                return Err(damaged(
                    whole,
                    format!("has {path} as a file and as a link"),
                ));
            }
            symlink(&target, &at).map_err(unwritable(&at))?;
            if let Some((uid, gid)) = self.owner {
                lchown(&at, Some(uid), Some(gid)).map_err(unwritable(&at))?;
            }
        }
        Ok(())
    }
}

/// All that PostgreSQL has in a tablespace's directory is in one of its own: `PG_17_202406281`.
fn own_directory(path: &Path, kind: EntryType) -> Result<(), String> {
    let mut parts = path.components();
    let first = parts.next().map(|c| c.as_os_str().to_string_lossy());
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let own = first.as_deref().and_then(|name| {
        let (major, catalogue) = name.strip_prefix("PG_")?.split_once('_')?;
        Some(digits(major) && digits(catalogue))
    });
    let inside = parts.next().is_some() || kind == EntryType::Directory;
    if own == Some(true) && inside {
        return Ok(());
    }
    Err(format!(
        "has {}, which does not belong in a tablespace",
        path.display()
    ))
}

/// The path below the data directory; empty for the directory itself.
fn inside(bytes: &[u8]) -> Result<PathBuf, String> {
    let path = Path::new(std::ffi::OsStr::from_bytes(bytes));
    let mut inside = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::Normal(name) => inside.push(name),
            Component::RootDir | Component::ParentDir | Component::Prefix(_) => {
                let shown = path.display();
                return Err(format!(
                    "has {shown}, which leads out of the data directory"
                ));
            }
        }
    }
    Ok(inside)
}

#[cfg(test)]
#[path = "untar_tests.rs"]
mod tests;
