//! A volume whose operations can be killed at any call.

use super::super::calls::{Calls, Kernel};
use super::super::layout::LOST_AND_FOUND;
use super::super::{Layout, Stage, exists, layout};
use crate::config::Paths;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use tempfile::{TempDir, tempdir};

/// The real calls, without waiting for the disk, until so many have been made; then none any more,
/// as if the process had been killed. A write is killed half way.
#[derive(Debug)]
struct Killed {
    left: Arc<AtomicUsize>,
}

impl Killed {
    fn step(&self) -> io::Result<()> {
        self.left
            .fetch_update(SeqCst, SeqCst, |n| n.checked_sub(1))
            .map(drop)
            .map_err(|_| io::Error::other("killed"))
    }
}

impl Calls for Killed {
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        if let Err(killed) = self.step() {
            fs::write(path, &bytes[..bytes.len() / 2])?;
            return Err(killed);
        }
        fs::write(path, bytes)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        Kernel.rename(from, to)
    }
    fn make_dir(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        Kernel.make_dir(path)
    }
    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        Kernel.remove_file(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.step()?;
        Kernel.remove_dir(path)
    }
    fn liken(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        Kernel.liken(from, to)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        assert!(path.is_dir(), "{}", path.display());
        self.step()
    }
    fn sync_tree(&self, path: &Path) -> io::Result<()> {
        assert!(path.is_dir(), "{}", path.display());
        self.step()
    }
}

pub(super) const ENDLESS: usize = usize::MAX;

pub(super) fn paths(root: &Path) -> Paths {
    let data_dir = root.join("volume");
    Paths {
        pgdata: data_dir.join("data"),
        repmgr_config_dir: root.into(),
        barman_config_dir: root.into(),
        barman_backup_dir: root.into(),
        run_dir: root.into(),
        socket_dir: root.into(),
        user_dir: root.into(),
        init_scripts: root.into(),
        data_dir,
    }
}

/// In memory where that can be had: thousands are made.
pub(super) fn scratch() -> TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempdir())
        .unwrap()
}

/// A volume in a temporary directory.
pub(super) struct Volume {
    _dir: TempDir,
    pub(super) layout: Layout,
}

impl Volume {
    pub(super) fn new(in_place: bool) -> Self {
        let dir = scratch();
        let layout = layout(&paths(dir.path()), in_place);
        fs::create_dir_all(&layout.anchor).unwrap();
        fs::write(&layout.state_json, "{}").unwrap();
        if in_place {
            fs::create_dir(layout.pgdata.join(LOST_AND_FOUND)).unwrap();
        }
        Self { _dir: dir, layout }
    }

    pub(super) fn stage(&self, calls: usize) -> (Stage, Arc<AtomicUsize>) {
        let left = Arc::new(AtomicUsize::new(calls));
        let calls = Box::new(Killed { left: left.clone() });
        let layout = self.layout.clone();
        (Stage { layout, calls }, left)
    }

    /// What PGDATA and old hold; `None` for nothing.
    pub(super) fn holds(&self) -> (Option<Tree>, Option<Tree>) {
        (
            tree(&self.layout, &self.layout.pgdata),
            tree(&self.layout, &self.layout.old),
        )
    }

    pub(super) fn check_clean(&self) {
        let l = &self.layout;
        for gone in [
            &l.staging,
            &l.journal,
            &l.dropped(),
            &l.journal.with_extension("new"),
        ] {
            assert!(!exists(gone), "{}", gone.display());
        }
        assert_eq!(fs::read(&l.state_json).unwrap(), b"{}");
        assert!(!l.in_place || l.pgdata.join(LOST_AND_FOUND).is_dir());
    }
}

pub(super) type Tree = BTreeMap<PathBuf, String>;

pub(super) fn tree(layout: &Layout, top: &Path) -> Option<Tree> {
    fn walk(layout: &Layout, top: &Path, dir: &Path, into: &mut Tree) {
        for entry in fs::read_dir(dir).unwrap().map(|e| e.unwrap()) {
            if dir == top && layout.stays(&entry.file_name()) {
                continue;
            }
            let (path, meta) = (entry.path(), entry.metadata().unwrap());
            let what = if meta.is_symlink() {
                format!("-> {}", fs::read_link(&path).unwrap().display())
            } else if meta.is_dir() {
                walk(layout, top, &path, into);
                "dir".into()
            } else {
                fs::read_to_string(&path).unwrap()
            };
            into.insert(path.strip_prefix(top).unwrap().into(), what);
        }
    }
    let mut found = Tree::new();
    if exists(top) {
        walk(layout, top, top, &mut found);
    }
    if found.is_empty() {
        return None;
    }
    // The directory's own mode belongs to the copy: the server refuses to start with another.
    let mode = fs::metadata(top).unwrap().permissions().mode() & 0o777;
    found.insert(PathBuf::new(), format!("{mode:o}"));
    Some(found)
}

/// A cluster that can be told from others, with names of its own and names they share.
pub(super) fn cluster(dir: &Path, name: &str, mode: u32) {
    for sub in [
        "global",
        "base/1",
        "pg_wal",
        "pg_tblspc",
        &format!("only_{name}"),
    ] {
        fs::create_dir_all(dir.join(sub)).unwrap();
    }
    for file in [
        "PG_VERSION",
        "global/pg_control",
        "base/1/1259",
        "pg_wal/0001",
        "postgresql.conf",
    ] {
        fs::write(dir.join(file), name).unwrap();
    }
    symlink(format!("/somewhere/{name}"), dir.join("pg_tblspc/16384")).unwrap();
    fs::set_permissions(dir, fs::Permissions::from_mode(mode)).unwrap();
}
