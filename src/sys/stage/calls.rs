//! The system calls that change something during a swap, so that a test can stop between any two.

use crate::sys::{files, sync_tree};
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, chown};
use std::path::Path;

pub(super) trait Calls: fmt::Debug + Send + Sync {
    /// Writes a file (0600) and syncs it.
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()>;
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Makes a directory, 0700.
    fn make_dir(&self, path: &Path) -> io::Result<()>;
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Gives a directory the mode and owner of another.
    fn liken(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
    fn sync_tree(&self, path: &Path) -> io::Result<()>;
}

/// The real ones.
#[derive(Debug)]
pub(super) struct Kernel;

impl Calls for Kernel {
    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let mut file = options
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn make_dir(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().mode(0o700).create(path)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn liken(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (want, have) = (fs::metadata(from)?, fs::metadata(to)?);
        if (want.uid(), want.gid()) != (have.uid(), have.gid()) {
            chown(to, Some(want.uid()), Some(want.gid()))?;
        }
        if want.mode() != have.mode() {
            fs::set_permissions(to, want.permissions())?;
        }
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        files::sync_dir(path)
    }

    fn sync_tree(&self, path: &Path) -> io::Result<()> {
        sync_tree(path)
    }
}
