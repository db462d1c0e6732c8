//! What was found on the disk and at the peers, as data.

use super::Memory;
use crate::domain::{Lsn, PeerReport, SystemId, Timeline};

/// Everything that [`super::plan`] rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What PGDATA holds.
    pub disk: Disk,
    /// What this node wrote down in an earlier life.
    pub memory: Option<Memory>,
    /// What each peer answered.
    pub peers: Vec<Peer>,
    /// Major version of the binaries in this image.
    pub pg_major: u32,
    /// A rewind of PGDATA was begun and not finished.
    pub unfinished: bool,
    /// Fingerprint of the settings that provisioning depends on, with the memory's salt.
    pub fingerprint: Option<String>,
}

/// What PGDATA holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Disk {
    /// Missing or empty.
    Empty,
    /// Missing or empty, but the copy that a swap set aside holds a cluster.
    OldOnly,
    /// A cluster.
    Cluster(ClusterFacts),
    /// Something else, which we do not touch.
    Foreign {
        /// Why it is not taken for a cluster.
        why: String,
    },
}

/// A cluster on disk, from pg_controldata and the signal files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterFacts {
    /// Major version that made it.
    pub major: u32,
    /// Its identity.
    pub system_id: SystemId,
    /// Timeline of the latest checkpoint.
    pub timeline: Timeline,
    /// Latest checkpoint, or the end of recovery reached, whichever is later.
    pub lsn: Lsn,
    /// Whether it was shut down in order.
    pub clean: bool,
    /// `standby.signal` is there.
    pub standby: bool,
    /// `recovery.signal` is there: an unfinished restore.
    pub recovering: bool,
    /// A promotion has removed the signal file, and did not come to its end.
    pub midway: bool,
}

/// A peer that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its PostgreSQL address, `host:port`.
    pub address: String,
    /// What it said.
    pub answer: Answer,
}

/// What a peer said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A signed report.
    Report(PeerReport),
    /// Nothing that could be used; why.
    Silent(String),
}

impl Peer {
    /// The report, when there is one.
    #[must_use]
    pub const fn report(&self) -> Option<&PeerReport> {
        match &self.answer {
            Answer::Report(report) => Some(report),
            Answer::Silent(_) => None,
        }
    }
}
