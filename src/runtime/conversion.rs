//! From one room's words to another's: the rooms do not import each other, the runtime knows both.

use crate::domain::{Lsn, PeerAnswer, SystemId, Timeline};
use crate::pg::{ClusterState, ControlData, DirFacts};
use crate::plan::authority::Claim;
use crate::plan::rejoin::{History, Left, Ours, Unfinished};
use crate::plan::{Answer, ClusterFacts, Peer};
use crate::sys::Finished;

/// A peer's answer as the plan sees it.
pub(super) fn peer(answer: PeerAnswer) -> Peer {
    Peer {
        address: answer.address,
        answer: match answer.result {
            Ok(report) => Answer::Report(report),
            Err(error) => Answer::Silent(error.to_string()),
        },
    }
}

/// A cluster on disk as the plan sees it.
pub(super) fn cluster(dir: &DirFacts, control: &ControlData, major: u32) -> ClusterFacts {
    ClusterFacts {
        major,
        system_id: control.system_id,
        timeline: dir.newest_wal.unwrap_or_default().max(control.timeline),
        lsn: control.lsn(),
        clean: control.state.is_clean(),
        standby: dir.standby_signal,
        recovering: dir.recovery_signal && !dir.standby_signal,
        midway: !dir.standby_signal && !dir.recovery_signal && control.state.is_archive_recovery(),
    }
}

/// A cluster of another major version: only that is known of it.
pub(super) const fn other_major(major: u32) -> ClusterFacts {
    ClusterFacts {
        major,
        system_id: SystemId(0),
        timeline: Timeline(0),
        lsn: Lsn(0),
        clean: false,
        standby: false,
        recovering: false,
        midway: false,
    }
}

/// What this node claims to be.
pub(super) fn claim(control: &ControlData, members: usize) -> Claim {
    Claim {
        system_id: control.system_id,
        timeline: control.timeline,
        lsn: control.lsn(),
        members: members.max(1),
    }
}

/// The data of a node that rejoins, as the plan sees them.
pub(super) fn rejoining(
    control: &ControlData,
    standby: bool,
    history: Option<History>,
    in_place: bool,
) -> Ours {
    Ours {
        system_id: control.system_id,
        history,
        left: match (standby, control.state.is_clean()) {
            (false, true) => Left::Stopped,
            (false, false) => Left::Crashed,
            (true, true) => Left::Standby,
            (true, false) => Left::StandbyCrashed,
        },
        checkpoint: control.checkpoint,
        replayed: control.min_recovery,
        end: None,
        hints: control.checksums || control.hints,
        in_place,
    }
}

/// Whether pg_rewind wrote its `pg_control`, which it does last: the source's, in archive recovery.
pub(super) fn is_rewritten(control: &ControlData, left: &Unfinished) -> bool {
    control.state == ClusterState::InArchiveRecovery || control.timeline != left.timeline
}

/// Why initdb failed: its own words are the best there are.
pub(super) fn initdb_fault(end: &Finished) -> crate::domain::Fault {
    crate::domain::Fault::NeedsPerson(format!(
        "initdb ended with {}: {}; nothing was put in place",
        end.exit,
        end.last_words()
    ))
}
