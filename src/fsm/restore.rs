//! From a backup to a primary of its own: copied, recovered on the technical port, promoted, then
//! like a cluster that was just created. Whatever goes wrong, nothing was opened.

use super::event::{Action, Door, Note, Op, Site};
use super::node::Turn;
use super::state::{End, Resume, State};
use super::{ladder, mend};
use crate::domain::ExitCode;
use crate::plan::Provision;

/// Whether the boot is a restore.
pub(super) fn is(turn: &Turn) -> bool {
    let plan = turn.node.plan;
    plan.is_some_and(|p| p.provision == Provision::Restore)
}

/// The backup is chosen, checked and copied; what an earlier attempt left is thrown away.
pub(super) fn copy(turn: &mut Turn, why: &'static str) {
    turn.go(State::Restore, why, None);
    turn.run(Op::Restore);
}

/// Recovery, watched from its first moment on.
pub(super) fn replay(turn: &mut Turn, why: &'static str) {
    turn.go(State::Replay, why, None);
    turn.launch(Door::Technical, Site::Staging);
    turn.run(Op::Replay);
}

/// The postmaster ended by itself. Whether that was the archive, the target or a crash is in what it
/// left and in what it asked for, not in how it ended.
pub(super) fn ended(turn: &mut Turn, how: String) {
    turn.cancel_all();
    turn.act(Action::Say(Note::Remark(format!(
        "postgres ended during recovery with {how}"
    ))));
    turn.run(Op::Explain);
}

/// A crash like any other: recovery begins again at its last restart point.
pub(super) fn goes_on(turn: &mut Turn) {
    let how = "during recovery".to_owned();
    mend::crashed(turn, Resume::Replay, how);
}

/// From here on as after initdb, but without the scripts of a first start.
pub(super) fn promoted(turn: &mut Turn) {
    let why = "recovery has reached its target, and the new primary is promoted";
    turn.go(State::Bootstrap, why, None);
    turn.run(Op::Bootstrap);
}

/// That was all that was asked for.
pub(super) fn shut_down(turn: &mut Turn) {
    let why = "recovery has reached its target, and was asked to end there";
    ladder::begin(turn, End::Exit(ExitCode::STOPPED), why, None);
}
