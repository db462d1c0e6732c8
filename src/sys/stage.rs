//! The replacement of a data directory, so that a kill at any moment leaves either the old or the
//! new one, and nothing is deleted before its replacement is complete.
//!
//! A copy is built in `staging/`. [`Stage::commit`] makes it durable, writes a journal, moves what is
//! in PGDATA to `old/` and the copy to PGDATA. From the journal on the swap is due:
//! [`Stage::resume`], the first thing of every boot, finishes it from wherever it was interrupted.
//! Without a journal a staging directory is half made and is removed.
//!
//! Where PGDATA cannot be renamed (it is a mount point, a link, or on another filesystem) its
//! entries are moved one by one under the same journal. It then has two phases, first all out, then
//! all in, so that whose an entry in PGDATA is never depends on its name.
//!
//! Durability rests on directories being synced before the journal says that the step is done.
//! Everything here blocks; call it on the blocking pool, and hold the volume's lock.

mod calls;
mod error;
mod layout;
mod spaces;

pub use error::StageError;
pub use layout::{Layout, layout};
pub use spaces::Space;

use super::disk::mounts_below;
use super::files::ensure_dir;
use calls::{Calls, Kernel};
use layout::ANCHOR_INSIDE;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

/// What a boot finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resumed {
    /// An interrupted swap has been finished just now.
    pub finished: bool,
    /// A copy that was never completed has been removed.
    pub removed_staging: bool,
    /// What is in PGDATA now.
    pub pgdata: Pgdata,
    /// Whether the previous copy is still there.
    pub has_old: bool,
}

/// What is in PGDATA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pgdata {
    /// Missing or empty, and so is `old/`.
    Empty,
    /// Missing or empty, but `old/` holds a cluster: [`Stage::restore_old`] puts it back.
    OnlyOld,
    /// Something; whether it is a sound cluster is for others to say.
    Occupied,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Place {
    Staging,
    Old,
    Dropped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Phase {
    Out,
    In,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Journal {
    /// Where the new copy is.
    from: Place,
    /// Where the present one goes.
    aside: Place,
    /// How far it is; only of interest when entries are moved one by one.
    phase: Phase,
}

type Result<T> = std::result::Result<T, StageError>;

/// The data directory and its replacement.
#[derive(Debug)]
pub struct Stage {
    layout: Layout,
    calls: Box<dyn Calls>,
}

impl Stage {
    /// For a volume whose lock is held.
    #[must_use]
    pub fn new(layout: Layout) -> Self {
        Self {
            layout,
            calls: Box::new(Kernel),
        }
    }

    /// The places.
    #[must_use]
    pub const fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Finishes what was interrupted and clears away what was never completed. Idempotent.
    ///
    /// # Errors
    /// See [`StageError`]; calling it again continues.
    pub fn resume(&self) -> Result<Resumed> {
        let due = self.journal()?;
        if let Some(journal) = due {
            self.finish(journal)?;
        }
        let removed_staging = exists(&self.layout.staging);
        self.clear_spaces()?;
        self.remove_tree(&self.layout.staging)?;
        self.remove_tree(&self.layout.dropped())?;
        self.remove_tree(&self.new_journal())?;
        // What is left of marks proves nothing any more, and the next start tries again.
        self.settle_spaces().ok();
        let has_old = is_cluster(&self.layout.old);
        Ok(Resumed {
            finished: due.is_some(),
            removed_staging,
            pgdata: match (self.is_vacant()?, has_old) {
                (false, _) => Pgdata::Occupied,
                (true, true) => Pgdata::OnlyOld,
                (true, false) => Pgdata::Empty,
            },
            has_old,
        })
    }

    /// Makes an empty staging directory (0700, `owner`'s); a copy that was being built is lost.
    ///
    /// # Errors
    /// [`StageError::SwapDue`] before [`Stage::resume`]; [`StageError::MountInside`] before hours
    /// have gone into a copy that could not be put in place.
    pub fn prepare(&self, owner: Option<(u32, u32)>) -> Result<()> {
        if self.journal()?.is_some() {
            return Err(StageError::SwapDue);
        }
        let pgdata = &self.layout.pgdata;
        let mounted = mounts_below(pgdata).map_err(at("look for mounts in", pgdata))?;
        if let Some(mount) = mounted.into_iter().next() {
            return Err(StageError::MountInside(mount));
        }
        if !self.layout.in_place
            && let Some(above) = pgdata.parent()
            && !above.exists()
        {
            ensure_dir(above, 0o755, owner).map_err(at("make", above))?;
        }
        let (anchor, staging) = (&self.layout.anchor, &self.layout.staging);
        ensure_dir(anchor, 0o700, owner).map_err(at("make", anchor))?;
        self.clear_spaces()?;
        self.remove_tree(staging)?;
        ensure_dir(staging, 0o700, owner).map_err(at("make", staging))?;
        Ok(())
    }

    /// Puts the complete copy in staging in PGDATA's place. What was there is kept in `old/` until
    /// [`Stage::discard_old`]. When there is an `old/` already, what was there was never proven:
    /// `old/` stays, and the unproven copy is deleted, last of all.
    ///
    /// # Errors
    /// See [`StageError`]; PGDATA is then as it was, or a swap is due that [`Stage::resume`] finishes.
    pub fn commit(&self) -> Result<()> {
        if self.journal()?.is_some() {
            return Err(StageError::SwapDue);
        }
        // A copy made file by file may have brought along what its source keeps inside PGDATA.
        self.remove_tree(&self.layout.staging.join(ANCHOR_INSIDE))?;
        self.swap(Place::Staging)?;
        self.settle_spaces().ok();
        Ok(())
    }

    /// Puts `old/` back into an empty or missing PGDATA.
    ///
    /// # Errors
    /// See [`StageError`].
    pub fn restore_old(&self) -> Result<()> {
        if self.journal()?.is_some() {
            return Err(StageError::SwapDue);
        }
        if !self.is_vacant()? {
            return Err(StageError::NotEmpty(self.layout.pgdata.clone()));
        }
        self.swap(Place::Old)
    }

    /// The new copy is proven: deletes the previous one. Says whether there was one.
    ///
    /// # Errors
    /// See [`StageError`]; the rest is deleted by [`Stage::resume`].
    pub fn discard_old(&self) -> Result<bool> {
        if self.journal()?.is_some() {
            return Err(StageError::SwapDue);
        }
        let (old, dropped) = (&self.layout.old, self.layout.dropped());
        if !exists(old) {
            return Ok(false);
        }
        // First out of sight: half a copy must never be taken for one.
        self.remove_tree(&dropped)?;
        self.rename(old, &dropped)?;
        self.sync_dir(&self.layout.anchor)?;
        self.remove_tree(&dropped)?;
        Ok(true)
    }

    fn place(&self, place: Place) -> PathBuf {
        match place {
            Place::Staging => self.layout.staging.clone(),
            Place::Old => self.layout.old.clone(),
            Place::Dropped => self.layout.dropped(),
        }
    }

    fn swap(&self, from: Place) -> Result<()> {
        let source = self.place(from);
        if !is_cluster(&source) {
            return Err(StageError::NotACluster(source));
        }
        self.sync_copy(&source)?;
        if !self.layout.in_place && self.is_vacant()? {
            // One rename, atomic by itself, also over an empty directory: no journal needed.
            self.rename(&source, &self.layout.pgdata)?;
            return self.sync_ends();
        }
        self.remove_tree(&self.layout.dropped())?;
        let aside = if is_cluster(&self.layout.old) {
            Place::Dropped
        } else {
            self.remove_tree(&self.layout.old)?;
            Place::Old
        };
        let journal = Journal {
            from,
            aside,
            phase: Phase::Out,
        };
        self.write_journal(journal)?;
        self.finish(journal)
    }

    /// Every step is skipped where it has been done: this is both the swap and its resumption.
    fn finish(&self, journal: Journal) -> Result<()> {
        let (source, aside) = (self.place(journal.from), self.place(journal.aside));
        if self.layout.in_place {
            if journal.phase == Phase::Out {
                self.move_out(&aside)?;
                self.write_journal(Journal {
                    phase: Phase::In,
                    ..journal
                })?;
            }
            self.move_in(&source)?;
        } else {
            self.move_whole(&source, &aside)?;
        }
        let file = &self.layout.journal;
        self.calls.remove_file(file).map_err(at("remove", file))?;
        self.sync_dir(&self.layout.anchor)?;
        self.remove_tree(&self.layout.dropped())
    }

    fn move_whole(&self, source: &Path, aside: &Path) -> Result<()> {
        let pgdata = &self.layout.pgdata;
        if exists(source) {
            if !self.is_vacant()? {
                if exists(aside) {
                    return Err(StageError::Taken(aside.to_owned()));
                }
                self.rename(pgdata, aside)?;
                self.sync_ends()?;
            }
            self.rename(source, pgdata)?;
        } else if !is_cluster(pgdata) {
            return Err(StageError::Gone(pgdata.clone()));
        }
        self.sync_ends()
    }

    /// Until the journal says otherwise, all that is in PGDATA is of the old copy.
    fn move_out(&self, aside: &Path) -> Result<()> {
        let pgdata = &self.layout.pgdata;
        let mut names = self.entries(pgdata)?;
        if !names.is_empty() && !exists(aside) {
            self.calls.make_dir(aside).map_err(at("make", aside))?;
        }
        if exists(aside) {
            self.calls
                .liken(pgdata, aside)
                .map_err(at("set mode of", aside))?;
        }
        // First, so that what is left is no cluster to anybody.
        names.sort_by_key(|name| name != "PG_VERSION");
        self.move_entries(&names, pgdata, aside)?;
        if exists(aside) {
            self.sync_dir(aside)?;
        }
        self.sync_dir(pgdata)?;
        self.sync_dir(&self.layout.anchor)
    }

    fn move_in(&self, source: &Path) -> Result<()> {
        let pgdata = &self.layout.pgdata;
        if exists(source) {
            let mut names = self.entries(source)?;
            // Last, so that it is a cluster only when it is whole.
            names.sort_by_key(|name| name == "PG_VERSION");
            self.move_entries(&names, source, pgdata)?;
            self.calls
                .liken(source, pgdata)
                .map_err(at("set mode of", pgdata))?;
            self.sync_dir(pgdata)?;
            self.sync_dir(source)?;
            self.remove_tree(source)?;
        } else if !is_cluster(pgdata) {
            return Err(StageError::Gone(pgdata.clone()));
        }
        self.sync_dir(&self.layout.anchor)
    }

    fn move_entries(&self, names: &[OsString], from: &Path, to: &Path) -> Result<()> {
        for name in names {
            let target = to.join(name);
            if exists(&target) {
                return Err(StageError::Taken(target));
            }
            self.rename(&from.join(name), &target)?;
        }
        Ok(())
    }

    fn journal(&self) -> Result<Option<Journal>> {
        let path = &self.layout.journal;
        match fs::read(path) {
            Ok(text) => {
                serde_json::from_slice(&text)
                    .map(Some)
                    .map_err(|source| StageError::Journal {
                        path: path.clone(),
                        source,
                    })
            }
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => Err(at("read", path)(e)),
        }
    }

    fn write_journal(&self, journal: Journal) -> Result<()> {
        let path = &self.layout.journal;
        let new = self.new_journal();
        let text = serde_json::to_vec(&journal).map_err(|source| StageError::Journal {
            path: path.clone(),
            source,
        })?;
        self.calls.write(&new, &text).map_err(at("write", &new))?;
        self.rename(&new, path)?;
        self.sync_dir(&self.layout.anchor)
    }

    fn new_journal(&self) -> PathBuf {
        self.layout.journal.with_extension("new")
    }

    /// Also where a link of the copy leads to another filesystem: `initdb --waldir`, tablespaces.
    fn sync_copy(&self, source: &Path) -> Result<()> {
        let sync = |path: &Path| self.calls.sync_tree(path).map_err(at("sync", path));
        sync(source)?;
        let tablespaces = source.join("pg_tblspc");
        let mut links = vec![source.join("pg_wal")];
        links.extend(
            self.entries(&tablespaces)?
                .iter()
                .map(|n| tablespaces.join(n)),
        );
        for link in links.iter().filter(|l| l.is_symlink() && l.is_dir()) {
            sync(link)?;
        }
        Ok(())
    }

    /// Names of the cluster's entries in a directory; none when it is missing.
    fn entries(&self, dir: &Path) -> Result<Vec<OsString>> {
        let list = match fs::read_dir(dir) {
            Ok(list) => list,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(at("read", dir)(e)),
        };
        let mut names = Vec::new();
        for entry in list {
            let name = entry.map_err(at("read", dir))?.file_name();
            if !self.layout.stays(&name) {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn is_vacant(&self) -> Result<bool> {
        Ok(self.entries(&self.layout.pgdata)?.is_empty())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.calls.rename(from, to).map_err(at("move", from))
    }

    fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.calls.sync_dir(dir).map_err(at("sync", dir))
    }

    /// Both directories whose entries a whole move changes.
    fn sync_ends(&self) -> Result<()> {
        if let Some(above) = self.layout.pgdata.parent() {
            self.sync_dir(above)?;
        }
        self.sync_dir(&self.layout.anchor)
    }

    /// Links are removed, not followed.
    fn remove_tree(&self, path: &Path) -> Result<()> {
        let meta = match fs::symlink_metadata(path) {
            Ok(meta) => meta,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(at("look at", path)(e)),
        };
        if !meta.is_dir() {
            return self.calls.remove_file(path).map_err(at("remove", path));
        }
        for entry in fs::read_dir(path).map_err(at("read", path))? {
            self.remove_tree(&entry.map_err(at("read", path))?.path())?;
        }
        self.calls.remove_dir(path).map_err(at("remove", path))
    }
}

fn at(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StageError {
    move |source| StageError::Io {
        doing,
        path: path.to_owned(),
        source,
    }
}

fn exists(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn is_cluster(dir: &Path) -> bool {
    dir.join("PG_VERSION").is_file() && dir.join("global/pg_control").is_file()
}

#[cfg(test)]
mod tests;
