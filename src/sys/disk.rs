//! What there is of disk and memory: filesystems, mounts, the cgroup's limit. Texts of the kernel are
//! read by pure functions.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// A filesystem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FsFacts {
    /// Its size in bytes.
    pub total: u64,
    /// Bytes that somebody who is not root can still write.
    pub available: u64,
    /// `ext4`, `overlay`, `tmpfs`, `nfs4` …; empty when it could not be told.
    pub kind: String,
}

/// The filesystem that holds `path` (statvfs(3)).
///
/// # Errors
/// What the system said.
pub fn fs_facts(path: &Path) -> io::Result<FsFacts> {
    let path = fs::canonicalize(path)?;
    let stat = nix::sys::statvfs::statvfs(&path)?;
    let bytes = |blocks: u64| blocks.saturating_mul(stat.fragment_size());
    let mounts = mounts()?;
    Ok(FsFacts {
        total: bytes(stat.blocks()),
        available: bytes(stat.blocks_available()),
        kind: mount_of(&mounts, &path).map_or_else(String::new, |m| m.kind.clone()),
    })
}

/// Makes everything written to the filesystem of `path` durable (syncfs(2), which reports write-back
/// errors since Linux 5.8). Far cheaper than an fsync of each of a thousand files.
///
/// # Errors
/// What the system said.
pub fn sync_tree(path: &Path) -> io::Result<()> {
    Ok(nix::unistd::syncfs(File::open(path)?)?)
}

/// Bytes of all files in `dir` as they count for a reader (length, not blocks). Links are not
/// followed; what vanishes meanwhile is left out. 0 when there is no such directory.
///
/// # Errors
/// What the system said.
pub fn dir_size(dir: &Path) -> io::Result<u64> {
    let mut total = 0_u64;
    let mut todo = vec![dir.to_owned()];
    while let Some(dir) = todo.pop() {
        let entries = match fs::read_dir(&dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(e),
        };
        for entry in entries {
            let entry = entry?;
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => todo.push(entry.path()),
                Ok(meta) if meta.is_file() => total = total.saturating_add(meta.len()),
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                Ok(_) | Err(_) => {}
            }
        }
    }
    Ok(total)
}

// -- Mounts --------------------------------------------------------------------------------------

#[derive(Clone, Debug, PartialEq, Eq)]
struct Mount {
    id: u32,
    point: PathBuf,
    kind: String,
}

fn mounts() -> io::Result<Vec<Mount>> {
    Ok(parse_mounts(&fs::read("/proc/self/mountinfo")?))
}

/// `36 35 98:0 /root /point options tags… - kind source options` (proc_pid_mountinfo(5)); white space
/// and backslashes in a path are written `\ooo`. A line of another shape is passed over.
fn parse_mounts(text: &[u8]) -> Vec<Mount> {
    let line = |line: &[u8]| {
        let fields: Vec<&[u8]> = line.split(|b| *b == b' ').collect();
        let dash = fields.iter().position(|f| *f == b"-")?;
        Some(Mount {
            id: std::str::from_utf8(fields.first()?).ok()?.parse().ok()?,
            point: PathBuf::from(OsString::from_vec(unescape(fields.get(4)?))),
            kind: String::from_utf8_lossy(fields.get(dash + 1)?).into_owned(),
        })
    };
    text.split(|b| *b == b'\n').filter_map(line).collect()
}

fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail.get(..3).filter(|_| first == b'\\');
        let code = code.and_then(|d| u8::from_str_radix(std::str::from_utf8(d).ok()?, 8).ok());
        if let Some(byte) = code {
            out.push(byte);
            rest = &tail[3..];
        } else {
            out.push(first);
            rest = tail;
        }
    }
    out
}

/// The mount that `path` (absolute, without links) is on: the deepest, and of those the last made.
fn mount_of<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    mounts
        .iter()
        .filter(|m| path.starts_with(&m.point))
        .max_by_key(|m| m.point.components().count())
}

/// The nearest directory above (or at) `path` that exists, without links.
fn existing(path: &Path) -> io::Result<PathBuf> {
    let mut path = path;
    loop {
        match (fs::canonicalize(path), path.parent()) {
            (Err(e), Some(above)) if e.kind() == io::ErrorKind::NotFound => path = above,
            (real, _) => return real,
        }
    }
}

/// Whether something is mounted exactly there; bind mounts too, which share the device of their
/// parent. A missing path is none.
///
/// # Errors
/// What the system said.
pub fn is_mount_point(path: &Path) -> io::Result<bool> {
    match fs::canonicalize(path) {
        Ok(real) => Ok(mounts()?.iter().any(|m| m.point == real)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

/// Whether a rename between the two places can work: rename(2) refuses to cross mounts, even two
/// mounts of one filesystem. For a missing path the directory it would be made in counts.
///
/// # Errors
/// What the system said.
pub fn same_mount(a: &Path, b: &Path) -> io::Result<bool> {
    let mounts = mounts()?;
    let id = |path: &Path| Ok::<_, io::Error>(mount_of(&mounts, &existing(path)?).map(|m| m.id));
    Ok(id(a)? == id(b)?)
}

/// What is mounted somewhere below `path`.
///
/// # Errors
/// What the system said.
pub fn mounts_below(path: &Path) -> io::Result<Vec<PathBuf>> {
    let real = existing(path)?;
    if real != path && !path.exists() {
        return Ok(Vec::new());
    }
    let mounts = mounts()?.into_iter().map(|m| m.point);
    Ok(mounts
        .filter(|p| p.starts_with(&real) && *p != real)
        .collect())
}

// -- Memory --------------------------------------------------------------------------------------

/// The memory that this container may use, in bytes: the smallest limit of our cgroup and those
/// above it, and never more than the host has. `None`: no limit.
#[must_use]
pub fn cgroup_memory_limit() -> Option<u64> {
    let read = |path: &Path| fs::read_to_string(path).ok();
    memory_limit(&read)
}

/// The most memory that any one of our ended children has used, in bytes (getrusage(2)).
#[must_use]
pub fn largest_child() -> Option<u64> {
    use nix::sys::resource::{UsageWho, getrusage};
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).ok()?;
    // Linux counts KiB.
    u64::try_from(usage.max_rss()).ok().map(|kib| kib << 10)
}

fn memory_limit(read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let groups = read(Path::new("/proc/self/cgroup"))?;
    let limit = limit_files(&groups)
        .iter()
        .filter_map(|path| parse_limit(&read(path)?))
        .min()?;
    let host = read(Path::new("/proc/meminfo")).and_then(|text| parse_mem_total(&text));
    Some(host.map_or(limit, |host| limit.min(host)))
}

/// Where a limit may stand, from `/proc/self/cgroup` (cgroups(7)): `0::/path` is version 2,
/// `n:memory:/path` version 1. In a cgroup namespace the path is `/`; without one the container may
/// see the host's tree or only its own group at the mount's root, so every level is looked at.
fn limit_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(id), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let (mount, file) = if id == "0" && controllers.is_empty() {
            ("/sys/fs/cgroup", "memory.max")
        } else if controllers.split(',').any(|c| c == "memory") {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        } else {
            continue;
        };
        let below = Path::new(path.trim_start_matches('/'));
        // Outside of our namespace: there is nothing to see.
        if below.starts_with("..") {
            files.push(Path::new(mount).join(file));
            continue;
        }
        files.extend(
            below
                .ancestors()
                .map(|dir| Path::new(mount).join(dir).join(file)),
        );
    }
    files
}

/// A number of bytes; `max`, and version 1's huge number that stands for it, are none.
fn parse_limit(text: &str) -> Option<u64> {
    // PAGE_COUNTER_MAX in bytes is just below 2^63, rounded to pages.
    text.trim().parse().ok().filter(|bytes| *bytes < 1 << 62)
}

/// `MemTotal:       16384 kB`.
fn parse_mem_total(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|l| l.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests;
