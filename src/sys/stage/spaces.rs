//! The tablespaces of a copy that is being built. They lie elsewhere, where no rename takes them along, and recovery of
//! the copy writes to them: so each is made in its own place before the copy is put into its own.
//!
//! Whose they are is said twice. The copy has a record of them with a token, and goes with it: in staging the record
//! says that they are half of a copy and may be taken away, in PGDATA that they are a cluster's. In each directory is a
//! mark with the same token, made before anything else there. Nothing is removed where both do not agree, and a
//! directory that holds anything else is not taken. After the swap first the marks go, then the record.

use super::layout::LOST_AND_FOUND;
use super::{Result, Stage, StageError, at, exists};
use crate::sys::files::ensure_dir;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{lchown, symlink};
use std::path::{Path, PathBuf};

/// In the copy. Base backups leave out what begins with `pgsql_tmp`.
const RECORD: &str = "pgsql_tmp.pgnode-tablespaces";
/// In a tablespace's directory: the mark, and what is being unpacked.
const OURS: &str = ".pgnode-restore";
const MARK: &str = "mark.json";
const NEW: &str = "new";

/// A tablespace of a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// Its oid: the name of the link that leads to it.
    pub oid: u32,
    /// Its directory, in which PostgreSQL's own `PG_…` directory is.
    pub at: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    token: String,
    spaces: Vec<Space>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Mark {
    /// For a person who finds it.
    what: String,
    token: String,
    /// What was put into the directory.
    placed: Vec<String>,
}

impl Space {
    /// Where its contents are unpacked.
    #[must_use]
    pub fn unpacked(&self) -> PathBuf {
        self.at.join(OURS).join(NEW)
    }

    fn mark(&self) -> PathBuf {
        self.at.join(OURS).join(MARK)
    }

    /// Whether a kill came before the mark, or after it was removed: without one nothing was ever unpacked.
    fn is_bare(&self) -> Result<bool> {
        let names = names(&self.at.join(OURS))?;
        Ok(names.iter().all(|name| *name == new(MARK)))
    }
}

impl Stage {
    /// What is in a directory that a tablespace is to take, and is neither ours nor nobody's; `None`: it may be taken.
    ///
    /// # Errors
    /// See [`StageError`].
    pub fn stranger(&self, dir: &Path) -> Result<Option<String>> {
        let token = read::<Record>(&self.layout.staging.join(RECORD))?.map(|r| r.token);
        let space = Space {
            oid: 0,
            at: dir.to_owned(),
        };
        let mark = read::<Mark>(&space.mark())?.filter(|m| Some(&m.token) == token.as_ref());
        let placed = mark.as_ref().map(|m| m.placed.as_slice());
        for name in names(dir)? {
            let ours = match name.as_str() {
                LOST_AND_FOUND => true,
                OURS => mark.is_some() || space.is_bare()?,
                name => placed.is_some_and(|placed| placed.iter().any(|p| p == name)),
            };
            if !ours {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// Takes the directories: record, marks, and an empty place in each for what is unpacked. [`Stage::prepare`] came
    /// before, and [`Stage::stranger`] found nobody.
    ///
    /// # Errors
    /// See [`StageError`].
    pub fn begin_spaces(
        &self,
        token: &str,
        spaces: &[Space],
        owner: Option<(u32, u32)>,
    ) -> Result<()> {
        if spaces.is_empty() {
            return Ok(());
        }
        let record = Record {
            token: token.to_owned(),
            spaces: spaces.to_vec(),
        };
        self.keep(&self.layout.staging.join(RECORD), &record)?;
        // The record may not be lost where a mark is not.
        self.sync_ends()?;
        for space in spaces {
            ensure_dir(&space.at, 0o700, owner).map_err(at("make", &space.at))?;
            let ours = space.at.join(OURS);
            ensure_dir(&ours, 0o700, owner).map_err(at("make", &ours))?;
            self.keep(&space.mark(), &Mark::of(token, Vec::new()))?;
            let unpacked = space.unpacked();
            ensure_dir(&unpacked, 0o700, owner).map_err(at("make", &unpacked))?;
        }
        Ok(())
    }

    /// What was unpacked is whole: makes it durable, puts it in its place, and links it to the copy.
    ///
    /// # Errors
    /// See [`StageError`].
    pub fn place_spaces(&self, owner: Option<(u32, u32)>) -> Result<()> {
        let staging = &self.layout.staging;
        let Some(record) = read::<Record>(&staging.join(RECORD))? else {
            return Ok(());
        };
        let links = staging.join("pg_tblspc");
        ensure_dir(&links, 0o700, owner).map_err(at("make", &links))?;
        for space in &record.spaces {
            let (dir, unpacked) = (&space.at, space.unpacked());
            let placed = names(&unpacked)?;
            self.calls.sync_tree(dir).map_err(at("sync", dir))?;
            self.keep(&space.mark(), &Mark::of(&record.token, placed.clone()))?;
            for name in &placed {
                let target = dir.join(name);
                if exists(&target) {
                    return Err(StageError::Taken(target));
                }
                self.rename(&unpacked.join(name), &target)?;
            }
            self.sync_dir(dir)?;
            let link = links.join(space.oid.to_string());
            if link.is_symlink() {
                // A backup's own leads to where it was, or into the backup.
                self.remove_tree(&link)?;
            }
            symlink(dir, &link).map_err(at("make", &link))?;
            if let Some((uid, gid)) = owner {
                lchown(&link, Some(uid), Some(gid)).map_err(at("give away", &link))?;
            }
        }
        Ok(())
    }

    /// The copy in staging is given up, and what it has elsewhere with it.
    pub(super) fn clear_spaces(&self) -> Result<()> {
        let Some(record) = read::<Record>(&self.layout.staging.join(RECORD))? else {
            return Ok(());
        };
        for space in &record.spaces {
            if let Some(mark) = record.mark(space)? {
                for name in &mark.placed {
                    self.remove_tree(&space.at.join(name))?;
                }
                self.unmark(space)?;
            } else if space.is_bare()? {
                self.unmark(space)?;
            }
        }
        Ok(())
    }

    /// The copy is in its place, and they are its own from now on.
    pub(super) fn settle_spaces(&self) -> Result<()> {
        let path = self.layout.pgdata.join(RECORD);
        let Some(record) = read::<Record>(&path)? else {
            return Ok(());
        };
        for space in &record.spaces {
            if record.mark(space)?.is_some() || space.is_bare()? {
                self.unmark(space)?;
            }
        }
        self.calls.remove_file(&path).map_err(at("remove", &path))?;
        self.sync_dir(&self.layout.pgdata)
    }

    /// The mark last: until then it says whose the rest is.
    fn unmark(&self, space: &Space) -> Result<()> {
        let ours = space.at.join(OURS);
        if !exists(&ours) {
            return Ok(());
        }
        for name in names(&ours)?.iter().filter(|name| *name != MARK) {
            self.remove_tree(&ours.join(name))?;
        }
        self.sync_dir(&ours)?;
        self.remove_tree(&ours)?;
        self.sync_dir(&space.at)
    }

    /// Writes it so that a kill leaves the old one or the new one.
    fn keep(&self, path: &Path, what: &impl Serialize) -> Result<()> {
        let text = serde_json::to_vec(what).map_err(|source| StageError::Journal {
            path: path.to_owned(),
            source,
        })?;
        let dir = path.parent().unwrap_or(path);
        let beside = dir.join(new(&path.file_name().unwrap_or_default().to_string_lossy()));
        self.calls
            .write(&beside, &text)
            .map_err(at("write", &beside))?;
        self.rename(&beside, path)?;
        self.sync_dir(dir)
    }
}

impl Record {
    /// The mark of a directory, if it is of this copy.
    fn mark(&self, space: &Space) -> Result<Option<Mark>> {
        let mark = read::<Mark>(&space.mark())?;
        Ok(mark.filter(|m| m.token == self.token))
    }
}

impl Mark {
    fn of(token: &str, placed: Vec<String>) -> Self {
        Self {
            what: "a restore by pgnode that is not complete; the next start of that node takes it away"
                .to_owned(),
            token: token.to_owned(),
            placed,
        }
    }
}

fn new(name: &str) -> String {
    format!("{name}.new")
}

/// A file of ours; `None` where there is none, or none that is understood.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    match fs::read(path) {
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
        Err(e) => Err(at("read", path)(e)),
    }
}

/// What is in a directory, in order; nothing when it is missing.
fn names(dir: &Path) -> Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(at("read", dir)(e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let name = entry.map_err(at("read", dir))?.file_name();
        names.push(name.to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}
