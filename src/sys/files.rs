//! Files as this program writes them: whole or not at all, and only when something differs.
//! Everything here blocks; call it on the blocking pool.

use crate::domain::Fault;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::Mode;
use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::os::unix::fs::{
    DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown, lchown,
};
use std::path::{Path, PathBuf};

/// Whether anything was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// It was as asked for: not touched, inode and mtime are the same.
    No,
    /// Written, or its mode or owner set.
    Yes,
}

impl From<bool> for Changed {
    fn from(changed: bool) -> Self {
        if changed { Self::Yes } else { Self::No }
    }
}

const PERMISSIONS: u32 = 0o7777;

/// What an I/O error means for the node: a full, read-only or forbidden disk is for a person, the
/// rest may pass.
#[must_use]
pub fn io_fault(doing: &str, path: &Path, error: &io::Error) -> Fault {
    let why = format!("cannot {doing} {}: {error}", path.display());
    match error.kind() {
        ErrorKind::StorageFull
        | ErrorKind::QuotaExceeded
        | ErrorKind::ReadOnlyFilesystem
        | ErrorKind::PermissionDenied
        | ErrorKind::NotADirectory
        | ErrorKind::IsADirectory
        | ErrorKind::CrossesDevices => Fault::NeedsPerson(why),
        _ => Fault::Transient(why),
    }
}

/// Writes a file so that a reader, or a crash at any moment, sees the old or the new one: a new file
/// beside it, fsync, rename, fsync of the directory. A symbolic link at `path` is replaced, one
/// among its directories followed. `owner` is `(uid, gid)`; without one the file is the caller's.
///
/// # Errors
/// What the system said; the old file is then as it was.
pub fn write_atomic(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    owner: Option<(u32, u32)>,
) -> io::Result<Changed> {
    replace(path, bytes, mode, owner, true)
}

/// [`write_atomic`] without the two fsyncs, for what the next boot makes again anyway: a power cut
/// may leave an older or empty file, a killed process never does.
///
/// # Errors
/// What the system said; the old file is then as it was.
pub fn write_volatile(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    owner: Option<(u32, u32)>,
) -> io::Result<Changed> {
    replace(path, bytes, mode, owner, false)
}

fn replace(
    path: &Path,
    bytes: &[u8],
    mode: u32,
    owner: Option<(u32, u32)>,
    durable: bool,
) -> io::Result<Changed> {
    if is_same(path, bytes, mode, owner)? {
        return Ok(Changed::No);
    }
    let new = beside(path)?;
    let written =
        write_new(&new, bytes, mode, owner, durable).and_then(|()| fs::rename(&new, path));
    if let Err(error) = written {
        // Best effort: the error that matters is the first one.
        drop(fs::remove_file(&new));
        return Err(error);
    }
    if durable {
        sync_dir(parent(path))?;
    }
    Ok(Changed::Yes)
}

/// A fixed name, so that what a crash leaves is overwritten next time. Hidden and without a known
/// ending: cron, barman and `include_dir` pass it over.
fn beside(path: &Path) -> io::Result<PathBuf> {
    let name = path
        .file_name()
        .ok_or_else(|| io::Error::new(ErrorKind::InvalidInput, "not a file name"))?;
    let mut new = std::ffi::OsString::from(".");
    new.push(name);
    new.push(".pgnode-new");
    Ok(path.with_file_name(new))
}

fn write_new(
    new: &Path,
    bytes: &[u8],
    mode: u32,
    owner: Option<(u32, u32)>,
    durable: bool,
) -> io::Result<()> {
    remove(new)?;
    // Exclusive and private until it has its owner: nobody may open it before, nor plant a link.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(new)?;
    file.write_all(bytes)?;
    if let Some((uid, gid)) = owner {
        fchown(&file, Some(uid), Some(gid))?;
    }
    file.set_permissions(Permissions::from_mode(mode))?;
    if durable {
        file.sync_all()?;
    }
    Ok(())
}

fn is_same(path: &Path, bytes: &[u8], mode: u32, owner: Option<(u32, u32)>) -> io::Result<bool> {
    let Some(meta) = found(fs::symlink_metadata(path))? else {
        return Ok(false);
    };
    let alike = meta.is_file()
        && meta.len() == bytes.len() as u64
        && meta.mode() & PERMISSIONS == mode
        && owner.is_none_or(|ids| ids == (meta.uid(), meta.gid()));
    // Not readable is not the same: replacing it needs no right to read it.
    Ok(alike && fs::read(path).is_ok_and(|now| now == bytes))
}

/// `Ok(None)` for what is not there.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

/// Makes the entries of a directory durable.
///
/// # Errors
/// What the system said.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Whether one of the two is the other or inside it, links followed; neither needs to exist.
///
/// # Errors
/// What the system said.
pub fn overlap(a: &Path, b: &Path) -> io::Result<bool> {
    let (a, b) = (real(a)?, real(b)?);
    Ok(a.starts_with(&b) || b.starts_with(&a))
}

/// The path without links, as far as it exists.
fn real(path: &Path) -> io::Result<PathBuf> {
    match found(fs::canonicalize(path))? {
        Some(real) => Ok(real),
        None => match (path.parent(), path.file_name()) {
            (Some(above), Some(name)) => Ok(real(above)?.join(name)),
            _ => Ok(path.to_owned()),
        },
    }
}

/// Whether we may make entries in a directory.
#[must_use]
pub fn is_writable(dir: &Path) -> bool {
    use nix::unistd::AccessFlags;
    nix::unistd::access(dir, AccessFlags::W_OK | AccessFlags::X_OK).is_ok()
}

/// Removes a file, pipe, socket or symbolic link; says whether there was one.
///
/// # Errors
/// What the system said; not that it was missing.
pub fn remove(path: &Path) -> io::Result<bool> {
    Ok(found(fs::remove_file(path))?.is_some())
}

/// Makes a directory with all that leads to it and gives its real path. Symbolic links are followed,
/// also those whose target is missing: `/etc/repmgr.d` → `/run/pgnode/repmgr.d` on a fresh tmpfs.
/// Directories on the way get 0755. An existing one gets mode and owner when they differ; without
/// `owner` and without the right to, it is left as it is.
///
/// # Errors
/// What the system said.
pub fn ensure_dir(path: &Path, mode: u32, owner: Option<(u32, u32)>) -> io::Result<PathBuf> {
    make_dir(path, mode, 40)?;
    let real = fs::canonicalize(path)?;
    let meta = fs::metadata(&real)?;
    let us = nix::unistd::geteuid();
    if owner.is_some() || us.is_root() || us.as_raw() == meta.uid() {
        settle(&real, &meta, mode, owner)?;
    }
    Ok(real)
}

fn make_dir(path: &Path, mode: u32, links: u32) -> io::Result<()> {
    if let Some(meta) = found(fs::metadata(path))? {
        return if meta.is_dir() {
            Ok(())
        } else {
            Err(ErrorKind::NotADirectory.into())
        };
    }
    let left = links.checked_sub(1).ok_or(nix::errno::Errno::ELOOP)?;
    if let Ok(target) = fs::read_link(path) {
        return make_dir(&parent(path).join(target), mode, left);
    }
    if let Some(above) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
        make_dir(above, 0o755, left)?;
    }
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(e),
        // The umask had its say.
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(mode)),
    }
}

/// Mode and owner of what is no symbolic link.
fn settle(path: &Path, meta: &Metadata, mode: u32, owner: Option<(u32, u32)>) -> io::Result<bool> {
    let mut changed = false;
    if let Some((uid, gid)) = owner
        && (uid, gid) != (meta.uid(), meta.gid())
    {
        lchown(path, Some(uid), Some(gid))?;
        changed = true;
    }
    if changed || meta.mode() & PERMISSIONS != mode {
        fs::set_permissions(path, Permissions::from_mode(mode))?;
        changed = true;
    }
    Ok(changed)
}

/// Makes `path` a named pipe, or keeps the one that is there (a reader may hold it open). A file,
/// socket or link in its place is removed, a directory is not.
///
/// # Errors
/// What the system said.
pub fn fifo(path: &Path, mode: u32, owner: Option<(u32, u32)>) -> io::Result<Changed> {
    if let Some(meta) = found(fs::symlink_metadata(path))? {
        if meta.file_type().is_fifo() {
            return Ok(settle(path, &meta, mode, owner)?.into());
        }
        fs::remove_file(path)?;
    }
    nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR)?;
    settle(path, &fs::symlink_metadata(path)?, mode, owner)?;
    Ok(Changed::Yes)
}

/// Gives everything in `tree` to one owner and says how many entries had another one. Symbolic links
/// are changed themselves and not followed (but `tree` may be one), so tablespaces outside keep
/// their owner: whoever mounts them there decides. Other filesystems mounted inside are passed over.
///
/// # Errors
/// What the system said, except that an entry vanished meanwhile.
pub fn fix_ownership(tree: &Path, uid: u32, gid: u32) -> io::Result<u64> {
    let top = fs::canonicalize(tree)?;
    let meta = fs::symlink_metadata(&top)?;
    let device = meta.dev();
    let mut changed = 0;
    let mut todo = vec![(top, meta)];
    while let Some((path, meta)) = todo.pop() {
        if (meta.uid(), meta.gid()) != (uid, gid)
            && found(lchown(&path, Some(uid), Some(gid)))?.is_some()
        {
            changed += 1;
        }
        if !meta.is_dir() {
            continue;
        }
        for entry in found(fs::read_dir(&path))?.into_iter().flatten() {
            let entry = entry?;
            // Of the entry itself, not of what a link points to.
            if let Some(meta) = found(entry.metadata())?
                && meta.dev() == device
            {
                todo.push((entry.path(), meta));
            }
        }
    }
    Ok(changed)
}

/// Why the volume is not ours.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another container, or another pgnode in this one, keeps a node on it.
    #[error("{} is in use by {holder}", path.display())]
    Held {
        /// The lock.
        path: PathBuf,
        /// What the holder wrote about itself.
        holder: String,
    },
    /// The lock itself cannot be used.
    #[error("cannot lock {}", path.display())]
    Io {
        /// The lock.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl LockError {
    /// How bad it is. A holder may be a container that is just being replaced.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Held { .. } => Fault::Transient(self.to_string()),
            Self::Io { path, source } => io_fault("lock", path, source),
        }
    }
}

/// The right to use a volume, until it is dropped or the process ends (flock(2), so nothing stale
/// can stay behind; it works across containers of one host, and on NFS where the server does locks).
/// The file stays: removing it would let two processes lock two files of one name.
#[derive(Debug)]
pub struct VolumeLock {
    _file: Flock<File>,
}

impl VolumeLock {
    /// Takes the lock at once or not at all, and writes down who we are for whoever loses.
    /// Children do not inherit it (close-on-exec).
    ///
    /// # Errors
    /// See [`LockError`].
    pub fn acquire(path: &Path) -> Result<Self, LockError> {
        let io = |source: io::Error| LockError::Io {
            path: path.to_owned(),
            source,
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
            .map_err(io)?;
        let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((mut file, nix::errno::Errno::EWOULDBLOCK)) => {
                return Err(LockError::Held {
                    path: path.to_owned(),
                    holder: holder(&mut file),
                });
            }
            Err((_, errno)) => return Err(io(errno.into())),
        };
        note(&mut file).map_err(io)?;
        Ok(Self { _file: file })
    }
}

/// Whether somebody holds a lock (flock(2)) on this file; a missing one is held by nobody.
#[must_use]
pub fn is_locked(path: &Path) -> bool {
    let Ok(file) = File::open(path) else {
        return false;
    };
    // Given back at once, when this file is closed.
    matches!(
        Flock::lock(file, FlockArg::LockSharedNonblock),
        Err((_, nix::errno::Errno::EWOULDBLOCK))
    )
}

fn note(file: &mut File) -> io::Result<()> {
    let host = nix::unistd::gethostname()?;
    let since = chrono::Utc::now().format("%Y-%m-%dT%H:%M:%SZ");
    let text = format!(
        "{} (pid {}) since {since}\n",
        host.to_string_lossy(),
        std::process::id()
    );
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(text.as_bytes())
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    match file.take(500).read_to_string(&mut text) {
        Ok(n) if n > 0 => text.trim().to_owned(),
        Ok(_) | Err(_) => "somebody who left no name".to_owned(),
    }
}

#[cfg(test)]
mod tests;
