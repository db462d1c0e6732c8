//! A barman's directory of one cluster, mounted here. A mount that went away shows as an empty or a
//! missing directory: then nothing in it is taken for absent.

use super::{Entry, EntryKind, Places, SourceError, Wal};
use crate::barman::{Archive, Backup, Place, Server, Tablespace};
use crate::domain::{History, SystemId, Timeline};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, fchown, lchown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// File work on the blocking pool.
async fn blocking<T: Send + 'static>(
    doing: &'static str,
    work: impl FnOnce() -> Result<T, SourceError> + Send + 'static,
) -> Result<T, SourceError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(failed) => Err(SourceError::Unusable {
            what: format!("{doing} ended in a bug: {failed}"),
        }),
    }
}

fn lost(server: &Server, doing: String) -> impl FnOnce(io::Error) -> SourceError {
    let source_name = server.dir.display().to_string();
    move |source| SourceError::Lost {
        source_name,
        doing,
        source,
    }
}

/// `base/` is made with the server and stays: without it this is not barman's directory at the moment.
fn present(server: &Server) -> Result<(), SourceError> {
    std::fs::read_dir(server.dir.join("base"))
        .map(drop)
        .map_err(lost(server, "its directory `base`".to_owned()))
}

pub(super) async fn backups(server: Server) -> Result<Vec<Backup>, SourceError> {
    blocking("reading the catalogue", move || {
        present(&server)?;
        Ok(server.backups()?)
    })
    .await
}

pub(super) async fn identity(server: Server) -> Result<Option<SystemId>, SourceError> {
    blocking("reading the identity", move || {
        present(&server)?;
        Ok(server.identity()?)
    })
    .await
}

pub(super) async fn archive(server: Server, segment_size: u64) -> Result<Archive, SourceError> {
    blocking("listing the archive", move || {
        present(&server)?;
        Ok(server.archive(segment_size)?)
    })
    .await
}

pub(super) async fn history(
    server: Server,
    timeline: Timeline,
) -> Result<Option<History>, SourceError> {
    blocking("reading a history", move || {
        present(&server)?;
        let name = History::file_name(timeline);
        match server.history(timeline) {
            Ok(history) => Ok(history),
            Err(e) if e.kind() == ErrorKind::InvalidData => Err(SourceError::Unusable {
                what: e.to_string(),
            }),
            Err(e) => Err(lost(&server, name)(e)),
        }
    })
    .await
}

pub(super) async fn wal(
    server: Server,
    name: String,
    anchor: String,
) -> Result<Option<Wal>, SourceError> {
    blocking("reading WAL", move || {
        let failed = |e| lost(&server, name.clone())(e);
        let Some(found) = server.wal_file(&name).map_err(failed)? else {
            return absent(&server, &anchor).map(|()| None);
        };
        let mut bytes = Vec::with_capacity(16 << 20);
        // What is being received is as PostgreSQL wrote it, and blank at first.
        let read = match found.place {
            Place::Partial => File::open(&found.path).and_then(|mut f| f.read_to_end(&mut bytes)),
            _ => found.open().and_then(|mut f| f.read_to_end(&mut bytes)),
        };
        match read {
            Ok(_) => Ok(Some(Wal {
                bytes,
                place: found.place,
            })),
            // Packed in a way that is not read here, or damaged: asking again does not help.
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::Unsupported | ErrorKind::InvalidData | ErrorKind::InvalidInput
                ) =>
            {
                Err(SourceError::Unusable {
                    what: format!("{}: {e}", found.path.display()),
                })
            }
            Err(e) => Err(lost(&server, found.path.display().to_string())(e)),
        }
    })
    .await
}

/// The name was nowhere. That counts while the archive and the backup in question are there, after
/// the name was looked for.
fn absent(server: &Server, anchor: &str) -> Result<(), SourceError> {
    let wals = server.dir.join("wals");
    std::fs::read_dir(&wals).map_err(lost(server, "its directory `wals`".to_owned()))?;
    std::fs::read_dir(server.dir.join("base").join(anchor))
        .map(drop)
        .map_err(lost(server, format!("backup {anchor}")))
}

fn without(backup: &Backup, space: &Tablespace) -> SourceError {
    SourceError::Unusable {
        what: format!(
            "backup {} has no files of tablespace {}: {} is missing",
            backup.id,
            space.name,
            backup.tablespace_dir(space.oid).display()
        ),
    }
}

/// Directories before what is in them.
pub(super) async fn entries(backup: Backup) -> Result<Vec<Entry>, SourceError> {
    blocking("listing the backup", move || {
        let root = backup.data_dir();
        let mut found = Vec::new();
        let mut todo = vec![PathBuf::from("data")];
        for space in &backup.tablespaces {
            let path = PathBuf::from(space.oid.to_string());
            let kind = EntryKind::Dir;
            todo.push(path.clone());
            found.push(Entry { path, kind });
        }
        while let Some(dir) = todo.pop() {
            let path = backup.dir.join(&dir);
            let failed = |source| SourceError::Lost {
                source_name: root.display().to_string(),
                doing: dir.display().to_string(),
                source,
            };
            let listing = match std::fs::read_dir(&path) {
                // The rest is there: this is no mount that went away.
                Err(e) if e.kind() == ErrorKind::NotFound && root.exists() => {
                    let mut spaces = backup.tablespaces.iter();
                    let of = |t: &&Tablespace| dir.as_os_str() == t.oid.to_string().as_str();
                    match spaces.find(of) {
                        Some(space) => return Err(without(&backup, space)),
                        None => Err(e),
                    }
                }
                other => other,
            };
            for entry in listing.map_err(failed)? {
                let entry = entry.map_err(failed)?;
                // The directory is empty, and a bucket kept it so.
                if entry.file_name() == crate::barman::EMPTY {
                    continue;
                }
                let meta = entry.metadata().map_err(failed)?;
                let path = dir.join(entry.file_name());
                let kind = if meta.is_dir() {
                    todo.push(path.clone());
                    EntryKind::Dir
                } else if meta.is_symlink() {
                    EntryKind::Link(std::fs::read_link(entry.path()).map_err(failed)?)
                } else if meta.is_file() {
                    EntryKind::File(meta.len())
                } else {
                    // A socket or a pipe is no data.
                    continue;
                };
                found.push(Entry { path, kind });
            }
        }
        Ok(found)
    })
    .await
}

/// Files that are copied at once: enough to keep a disk busy, few enough for the blocking pool.
const JOBS: usize = 4;

/// Ends the copying when the future is dropped.
struct Ended(Arc<AtomicBool>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(super) async fn copy(
    backup: Backup,
    entries: Vec<Entry>,
    places: &Places,
    owner: Option<(u32, u32)>,
    done: Arc<AtomicU64>,
) -> Result<(), SourceError> {
    let ended = Ended(Arc::default());
    let mut files = Vec::new();
    for entry in entries {
        let Some(target) = places.target(&entry) else {
            continue;
        };
        match entry.kind {
            // A tablespace's own is there.
            EntryKind::Dir if entry.path.components().count() == 1 => {}
            EntryKind::Dir => make_dir(&target, owner)?,
            EntryKind::Link(link) => make_link(&link, &target, owner)?,
            EntryKind::File(bytes) => files.push((backup.dir.join(&entry.path), target, bytes)),
        }
    }
    let files = Arc::new(files);
    let next = Arc::new(AtomicU64::new(0));
    let mut jobs: tokio::task::JoinSet<Result<(), SourceError>> = tokio::task::JoinSet::new();
    for _ in 0..JOBS {
        let (files, next) = (files.clone(), next.clone());
        let (done, ended) = (done.clone(), ended.0.clone());
        jobs.spawn_blocking(move || {
            let mut buffer = vec![0; 256 * 1024];
            while !ended.load(Ordering::Relaxed) {
                let mine = usize::try_from(next.fetch_add(1, Ordering::Relaxed));
                let Some((from, to, bytes)) = mine.ok().and_then(|n| files.get(n)) else {
                    return Ok(());
                };
                copy_file(from, to, *bytes, owner, &done, &ended, &mut buffer)?;
            }
            Ok(())
        });
    }
    while let Some(job) = jobs.join_next().await {
        job.map_err(|failed| SourceError::Unusable {
            what: format!("copying ended in a bug: {failed}"),
        })??;
    }
    Ok(())
}

/// Larger pieces would make the progress jump and a stop wait.
fn copy_file(
    from: &Path,
    to: &Path,
    bytes: u64,
    owner: Option<(u32, u32)>,
    done: &AtomicU64,
    ended: &AtomicBool,
    buffer: &mut [u8],
) -> Result<(), SourceError> {
    let unreadable = |source| SourceError::Lost {
        source_name: from.display().to_string(),
        doing: "copying it".to_owned(),
        source,
    };
    let mut input = File::open(from).map_err(unreadable)?;
    let mut output = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(unwritable(to))?;
    let mut copied = 0_u64;
    while !ended.load(Ordering::Relaxed) {
        let n = input.read(buffer).map_err(unreadable)?;
        if n == 0 {
            break;
        }
        output.write_all(&buffer[..n]).map_err(unwritable(to))?;
        copied += n as u64;
        done.fetch_add(n as u64, Ordering::Relaxed);
    }
    if copied != bytes && !ended.load(Ordering::Relaxed) {
        return Err(SourceError::Lost {
            source_name: from.display().to_string(),
            doing: format!("it was listed with {bytes} bytes and has {copied}"),
            source: ErrorKind::UnexpectedEof.into(),
        });
    }
    match owner {
        Some((uid, gid)) => fchown(&output, Some(uid), Some(gid)).map_err(unwritable(to)),
        None => Ok(()),
    }
}

pub(super) fn make_dir(path: &Path, owner: Option<(u32, u32)>) -> Result<(), SourceError> {
    DirBuilder::new()
        .mode(0o700)
        .create(path)
        .and_then(|()| give(path, owner))
        .map_err(unwritable(path))
}

pub(super) fn make_link(
    link: &Path,
    path: &Path,
    owner: Option<(u32, u32)>,
) -> Result<(), SourceError> {
    std::os::unix::fs::symlink(link, path)
        .and_then(|()| give(path, owner))
        .map_err(unwritable(path))
}

pub(super) fn give(path: &Path, owner: Option<(u32, u32)>) -> io::Result<()> {
    owner.map_or(Ok(()), |(uid, gid)| lchown(path, Some(uid), Some(gid)))
}

/// Our own disk: a full one does not get better by asking again.
pub(super) fn unwritable(path: &Path) -> impl FnOnce(io::Error) -> SourceError {
    let path = path.display().to_string();
    move |error| SourceError::Unusable {
        what: format!("cannot write {path}: {error}"),
    }
}

#[cfg(test)]
#[path = "directory_tests.rs"]
mod tests;
