//! What a keeper can do, and its words for it.

use super::Tail;
use crate::domain::{Lsn, SystemId, Timeline, WalName, human_bytes, human_duration};
use std::time::Duration;

/// What to do now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing but to look again.
    Wait(Why),
    /// Start `pg_receivewal`.
    Receive,
    /// End it: it receives from nobody.
    Kick,
    /// Have it go on from there instead, what is newer put aside.
    Realign(Realign),
    /// Remove the lost slot.
    DropSlot,
    /// End whoever uses the slot from here: barman's cron may have started a receiver of its own.
    Evict,
    /// Push the first segment into the archive.
    FirstWal,
    /// Make a full backup.
    Backup(Cause),
    /// Give the backups that wait the WAL of their end.
    Finish,
    /// All is well.
    Rest,
}

/// Where `pg_receivewal` goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Realign {
    /// The segment that it asks for next.
    pub to: WalName,
    /// Why.
    pub gap: Gap,
}

/// Why it cannot go on from where it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Gap {
    /// It received more of a timeline than the present primary has of it.
    Diverged {
        /// That timeline.
        timeline: Timeline,
        /// Where the present primary left it.
        fork: Lsn,
        /// Where it would have gone on.
        had: Lsn,
    },
    /// The primary does not have that WAL any more.
    Removed {
        /// Where it would have gone on.
        had: Lsn,
    },
}

impl Gap {
    /// For the operator.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            Self::Diverged {
                timeline,
                fork,
                had,
            } => format!(
                "WAL of timeline {timeline} was received up to {had}, and the present primary left that \
                 timeline at {fork}: what lies beyond was lost with the old primary"
            ),
            Self::Removed { had } => format!(
                "the primary does not have the WAL from {had} on any more: the archive has a gap there"
            ),
        }
    }
}

/// Why a backup is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// There is none.
    First,
    /// There are fewer than must be kept.
    TooFew,
    /// The newest was made on another timeline.
    NewTimeline,
    /// It was written down that one is owed.
    Owed(String),
}

impl Cause {
    /// For the operator.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            Self::First => "there is none yet".to_owned(),
            Self::TooFew => "there are fewer than BARMAN_MINIMUM_REDUNDANCY".to_owned(),
            Self::NewTimeline => "the cluster is on a new timeline".to_owned(),
            Self::Owed(why) => why.clone(),
        }
    }
}

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// A primary.
    Primary(String),
    /// The right password.
    Password(String),
    /// A person: another cluster answers.
    Stranger {
        /// Whose backups these are.
        ours: SystemId,
        /// Who answers.
        theirs: SystemId,
    },
    /// A person: the primary is behind what was received of it.
    Behind {
        /// The primary's timeline.
        timeline: Timeline,
        /// Its position.
        position: Lsn,
        /// What was received.
        tail: Tail,
    },
    /// Space.
    Space(u64),
    /// Whoever uses the slot.
    SlotTaken,
    /// The next attempt to receive.
    Pause {
        /// Failed ones in a row.
        failures: u32,
        /// How long from now.
        left: Duration,
    },
    /// The slot to be in use.
    Attach,
    /// A backup that is being made.
    Backup,
    /// The next attempt to make one.
    BackupPause(Duration),
}

impl Why {
    /// Whether a person should know: what passes by itself within seconds is none.
    #[must_use]
    pub const fn is_problem(&self) -> bool {
        match self {
            Self::Primary(_)
            | Self::Password(_)
            | Self::Stranger { .. }
            | Self::Behind { .. }
            | Self::Space(_)
            | Self::BackupPause(_) => true,
            Self::Pause { failures, .. } => *failures >= 3,
            Self::SlotTaken | Self::Attach | Self::Backup => false,
        }
    }

    /// For the operator.
    #[must_use]
    pub fn sentence(&self) -> String {
        match self {
            Self::Primary(said) => format!("waiting for a primary: {said}"),
            Self::Password(what) => what.clone(),
            Self::Stranger { ours, theirs } => format!(
                "cluster {theirs} answers, and these backups are of cluster {ours}: give it another name \
                 in BARMAN_SERVERS, or correct its hosts"
            ),
            Self::Behind {
                timeline,
                position,
                tail,
            } => format!(
                "the primary is at {position} on timeline {timeline}, and WAL up to {} on timeline {} was \
                 received: an old primary is open, or the cluster was restored. If it is meant, move \
                 the newest files out of barman's directory `streaming`",
                tail.start(),
                tail.segment.timeline
            ),
            Self::Space(free) => format!(
                "waiting for space: {} are free in BARMAN_BACKUP_DIR; the primary keeps the WAL meanwhile, \
                 up to its limit (PGNODE_MAX_SLOT_WAL there)",
                human_bytes(*free)
            ),
            Self::SlotTaken => {
                "waiting for the slot barman: another receiver uses it at the moment".to_owned()
            }
            Self::Pause { failures, left } => format!(
                "receive-wal ended {failures} times in a row; the next attempt in {}",
                human_duration(*left)
            ),
            Self::Attach => "waiting for receive-wal to attach to its slot".to_owned(),
            Self::Backup => "a backup is being made".to_owned(),
            Self::BackupPause(left) => format!(
                "the last backup failed; the next attempt in {}",
                human_duration(*left)
            ),
        }
    }
}
