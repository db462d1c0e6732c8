//! Plain words of the field: roles, log positions, timelines, identities, the status that is shown,
//! and the kinds of fault that decide an exit code. No I/O, no clock, no other room.

mod archiving;
mod drill;
mod fault;
mod history;
mod host;
mod ids;
mod lsn;
mod note;
mod peer;
mod status;
mod timing;

pub use archiving::{ArchiveHealth, ArchivingView, VerifiedView};
pub use drill::DrillView;
pub use fault::{ExitCode, Fault};
pub use history::{Fork, History, Switch};
pub use host::{CheckView, FailedTask, HostView, KeptView, ShippingRun, ShippingView};
pub use ids::{NodeId, NodeName, SystemId};
pub use lsn::{Lsn, NotASegment, NotAnLsn, Timeline, WalName};
pub use note::{hex, human_bytes, human_duration, registered_conninfo};
pub use peer::{PeerAnswer, PeerError, Unreachable};
pub use status::{
    BackupView, BootStep, ChildView, ElectionView, Exposure, Health, LeaseView, MemberView,
    PeerReport, RejoinView, Status, SynchronousView, Uptime,
};
pub use timing::{Moment, Profile, Timing, TimingFault, millis};

use serde::{Deserialize, Serialize};

/// What a node is at the moment, in PostgreSQL's words of today.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Writable: `pg_is_in_recovery()` is false.
    Primary,
    /// Replays another node's WAL.
    Standby,
    /// A vote without data: its own little database holds a copy of repmgr's table.
    Witness,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Primary => "primary",
            Self::Standby => "standby",
            Self::Witness => "witness",
        })
    }
}
