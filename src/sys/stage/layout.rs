//! Where things are on the volume: beside PGDATA, or inside it when it cannot be renamed.

use crate::config::Paths;
use crate::sys::{is_mount_point, same_mount};
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;

/// Where things are on the volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Directory of all that is ours.
    pub anchor: PathBuf,
    /// What the node remembers about itself.
    pub state_json: PathBuf,
    /// What it has promised as a voter.
    pub ballot_json: PathBuf,
    /// There while a person keeps the node closed.
    pub fenced_json: PathBuf,
    /// The copy that is being built.
    pub staging: PathBuf,
    /// There while a swap is due.
    pub journal: PathBuf,
    /// The data directory before the last swap, until the new one is proven.
    pub old: PathBuf,
    /// For [`crate::sys::VolumeLock`].
    pub lock: PathBuf,
    /// The data directory.
    pub pgdata: PathBuf,
    /// Entries are moved one by one, since PGDATA itself cannot be.
    pub in_place: bool,
}

/// Beside PGDATA.
const ANCHOR: &str = ".pgnode";
/// Inside it. Base backups leave out what begins with `pgsql_tmp` (basebackup.c, tried with 17.12), and
/// nothing at PGDATA's top is taken for a temporary file at the start. With any other name a clone of
/// this node would carry our state and, for a while, two copies of the data.
pub(super) const ANCHOR_INSIDE: &str = "pgsql_tmp.pgnode";
/// What is on its way to being deleted.
const DROPPED: &str = "dropped";
/// ext4 makes it at the top of a volume; it is nobody's data.
pub(super) const LOST_AND_FOUND: &str = "lost+found";

/// Pure: the places, given whether PGDATA can be renamed as far as the disk is concerned.
#[must_use]
pub fn layout(paths: &Paths, pgdata_is_mount: bool) -> Layout {
    let inside = paths.pgdata.starts_with(&paths.data_dir) && paths.pgdata != paths.data_dir;
    let in_place = pgdata_is_mount || !inside;
    let anchor = if in_place {
        paths.pgdata.join(ANCHOR_INSIDE)
    } else {
        paths.data_dir.join(ANCHOR)
    };
    Layout {
        state_json: anchor.join("state.json"),
        ballot_json: anchor.join("ballot.json"),
        fenced_json: anchor.join("fenced.json"),
        staging: anchor.join("staging"),
        journal: anchor.join("staged.json"),
        old: anchor.join("old"),
        lock: anchor.join("lock"),
        pgdata: paths.pgdata.clone(),
        anchor,
        in_place,
    }
}

impl Layout {
    /// [`layout`], after a look at the disk. Neither directory needs to exist.
    ///
    /// # Errors
    /// What the system said.
    pub fn find(paths: &Paths) -> io::Result<Self> {
        let pgdata = &paths.pgdata;
        let fixed =
            pgdata.is_symlink() || is_mount_point(pgdata)? || !same_mount(&paths.data_dir, pgdata)?;
        Ok(layout(paths, fixed))
    }

    pub(super) fn dropped(&self) -> PathBuf {
        self.anchor.join(DROPPED)
    }

    /// Whether a top-level entry of PGDATA stays where it is.
    pub(super) fn stays(&self, name: &OsString) -> bool {
        self.in_place && (name == ANCHOR_INSIDE || name == LOST_AND_FOUND)
    }
}
