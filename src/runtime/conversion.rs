//! From one room's words to another's: the rooms do not import each other, the runtime knows both.

use crate::domain::{Lsn, PeerAnswer, SystemId, Timeline};
use crate::pg::{ControlData, DirFacts};
use crate::plan::authority::Claim;
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
        timeline: control.timeline,
        lsn: control.lsn(),
        clean: control.state.is_clean(),
        standby: dir.standby_signal,
        recovering: dir.recovery_signal && !dir.standby_signal,
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

/// Why initdb failed: its own words are the best there are.
pub(super) fn initdb_fault(end: &Finished) -> crate::domain::Fault {
    crate::domain::Fault::NeedsPerson(format!(
        "initdb ended with {}: {}; nothing was put in place",
        end.exit,
        end.last_words()
    ))
}
