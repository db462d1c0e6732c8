//! How the data of a node that was replaced become a standby's again: compared with the new primary's
//! timelines as pg_rewind compares them (`findCommonAncestorTimeline` in `pg_rewind.c`), decided
//! before anything is touched.

use crate::domain::{Lsn, SystemId, Timeline};
use serde::{Deserialize, Serialize};

/// A timeline with what it descends from, and where two of them part.
pub use crate::domain::{Fork, History, Switch};

/// How the data were left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// A primary, shut down in order: its checkpoint is its last record.
    Stopped,
    /// A primary that crashed.
    Crashed,
    /// A standby, shut down in order.
    Standby,
    /// A standby that crashed.
    StandbyCrashed,
}

/// A rewind that was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// `pg_rewind` may have changed anything.
    Begun,
    /// `pg_rewind` is done, and what it wrote is on the disk.
    Rewound,
}

/// What is written down beside the data before they are rewound: `.pgnode/rewind.json`. While it is
/// there the data are neither a primary's nor a standby's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    /// How far it came.
    pub phase: Phase,
    /// How often `pg_rewind` was started.
    pub tries: u8,
    /// The cluster.
    pub system_id: SystemId,
    /// The timeline of the data before.
    pub timeline: Timeline,
    /// Where they part from the new primary's.
    pub fork: Fork,
    /// Where their WAL ended, when that could be found out.
    pub end: Option<Lsn>,
    /// The timeline of the primary that they are rewound to.
    pub source: Timeline,
    /// Inode of the data's `global` directory: a copy that replaced them is not what this is about.
    pub inode: u64,
}

/// How often a rewind of the same data is tried.
pub const TRIES: u8 = 3;

/// What is on our disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ours {
    /// The cluster.
    pub system_id: SystemId,
    /// Our timelines; `None` when the history file is missing or not understood.
    pub history: Option<History>,
    /// How the data were left.
    pub left: Left,
    /// The latest checkpoint.
    pub checkpoint: Lsn,
    /// How far a standby has replayed.
    pub replayed: Lsn,
    /// Where valid WAL ends, when it was found out.
    pub end: Option<Lsn>,
    /// Data checksums, or `wal_log_hints`: what pg_rewind needs to see every changed block.
    pub hints: bool,
    /// Our own files are inside the data directory, where pg_rewind removes them.
    pub in_place: bool,
}

/// What the new primary says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Theirs {
    /// The cluster.
    pub system_id: SystemId,
    /// Its timelines; `None` when its history file cannot be read.
    pub history: Option<History>,
    /// Rights that pg_rewind needs and the user `repmgr` lacks there.
    pub lacking: Vec<String>,
    /// The segment at the fork is still there.
    pub has_segment: bool,
}

/// What was on the old timeline only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Where the histories part.
    pub fork: Fork,
    /// Where our WAL ends, when that is known.
    pub end: Option<Lsn>,
}

impl Lost {
    /// How many bytes of WAL.
    #[must_use]
    pub fn bytes(&self) -> Option<u64> {
        self.end.map(|end| end.bytes_since(self.fork.lsn))
    }
}

/// What is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Course {
    /// Our WAL ends where the new primary's goes on: it only has to stream.
    Follow,
    /// pg_rewind.
    Rewind(Lost),
    /// pg_rewind is through: what follows it is done again.
    Finish(Lost),
    /// A new copy; why, and what is lost where that is known.
    Clone(String, Option<Lost>),
    /// Nothing: this is no primary to rejoin from; why.
    Refuse(String),
}

/// Where our histories part; `None` when that cannot be said.
#[must_use]
pub fn fork(ours: &Ours, theirs: &Theirs) -> Option<Fork> {
    ours.history.as_ref()?.fork(theirs.history.as_ref()?)
}

/// Decides.
#[must_use]
pub fn course(ours: &Ours, theirs: &Theirs) -> Course {
    if ours.system_id != theirs.system_id {
        return Course::Refuse(format!(
            "it belongs to cluster {}, this node to {}",
            theirs.system_id, ours.system_id
        ));
    }
    let clone = |why: &str, lost| Course::Clone(why.to_owned(), lost);
    let Some(new) = &theirs.history else {
        return clone("the new primary's timeline history cannot be read", None);
    };
    let Some(old) = &ours.history else {
        return clone("this node's own timeline history cannot be read", None);
    };
    // Two primaries on one timeline are for a person; a standby on it has lost nothing but its way.
    let strayed = matches!(ours.left, Left::Standby | Left::StandbyCrashed);
    if strayed && new == old {
        return follow(theirs);
    }
    if new.timeline <= old.timeline {
        return Course::Refuse(format!(
            "it is on timeline {}, this node's data on {}: not a later one",
            new.timeline, old.timeline
        ));
    }
    let Some(fork) = old.fork(new) else {
        return clone("the two timeline histories have nothing in common", None);
    };
    if !is_past(ours, old, fork) {
        return follow(theirs);
    }
    let lost = Lost {
        fork,
        end: ours.end,
    };
    let obstacle = if !ours.hints {
        "neither data checksums nor wal_log_hints are on, which pg_rewind needs".to_owned()
    } else if ours.in_place {
        "PGDATA is itself a mount point, and pg_rewind would remove pgnode's own files in it".into()
    } else if ours.left == Left::StandbyCrashed {
        "a standby that crashed cannot be recovered for pg_rewind".into()
    } else if !theirs.lacking.is_empty() {
        format!(
            "user repmgr may not execute {} on the new primary, which pg_rewind needs",
            theirs.lacking.join(", ")
        )
    } else if !theirs.has_segment {
        "the new primary no longer has the WAL since the fork".into()
    } else {
        return Course::Rewind(lost);
    };
    Course::Clone(obstacle, Some(lost))
}

fn follow(theirs: &Theirs) -> Course {
    if theirs.has_segment {
        return Course::Follow;
    }
    let why = "the new primary no longer has the WAL that this node needs next";
    Course::Clone(why.to_owned(), None)
}

/// Decides about data that an earlier rewind left behind; `rewritten`: whether pg_rewind came to its
/// last step, the new `pg_control`, or `None` when that file cannot be read.
#[must_use]
pub fn resume(left: &Unfinished, rewritten: Option<bool>, theirs: &Theirs) -> Course {
    if left.system_id != theirs.system_id {
        return Course::Refuse(format!(
            "it belongs to cluster {}, this node to {}",
            theirs.system_id, left.system_id
        ));
    }
    let lost = Lost {
        fork: left.fork,
        end: left.end,
    };
    let same_source = theirs.history.as_ref().map(|h| h.timeline) == Some(left.source);
    let obstacle = match (left.phase, rewritten) {
        (Phase::Rewound, _) => return Course::Finish(lost),
        (Phase::Begun, None) => "an interrupted rewind left no readable pg_control",
        // After a power cut nobody knows what of it reached the disk.
        (Phase::Begun, Some(true)) => "a rewind was interrupted at its last step",
        (Phase::Begun, Some(false)) if left.tries >= TRIES => "pg_rewind failed several times",
        // Files of the former source would be taken for our own.
        (Phase::Begun, Some(false)) if !same_source => {
            "a rewind was interrupted, and another node is the primary by now"
        }
        (Phase::Begun, Some(false)) if !theirs.lacking.is_empty() || !theirs.has_segment => {
            "a rewind was interrupted and cannot be repeated"
        }
        (Phase::Begun, Some(false)) => return Course::Rewind(lost),
    };
    Course::Clone(obstacle.to_owned(), Some(lost))
}

/// Whether a standby that has replayed up to `position` on a timeline can never follow a primary with
/// this history.
#[must_use]
pub fn diverged(timeline: Timeline, position: Lsn, primary: &History) -> bool {
    primary.timeline > timeline
        && primary
            .past
            .iter()
            .find(|s| s.timeline == timeline)
            .is_none_or(|s| s.end < position)
}

/// Whether our WAL holds a record that the new primary never had. A record that begins at the fork is
/// one; WAL that ends there is not.
fn is_past(ours: &Ours, history: &History, fork: Fork) -> bool {
    if fork.timeline != history.timeline {
        // Our own promotion's first record is past it at the least.
        return true;
    }
    let beyond = ours.end.is_some_and(|end| end > fork.lsn);
    match ours.left {
        Left::Stopped => ours.checkpoint >= fork.lsn,
        // Where the WAL of a crash ends must be known before it may be taken for harmless.
        Left::Crashed => ours.checkpoint >= fork.lsn || beyond || ours.end.is_none(),
        Left::Standby | Left::StandbyCrashed => ours.replayed > fork.lsn || beyond,
    }
}

#[cfg(test)]
#[path = "rejoin_tests.rs"]
mod tests;
