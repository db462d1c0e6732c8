//! What the cluster's elections mean for this node (`docs/adr/0008-terms-and-leases.md`).

use super::event::{Action, Daemon, Note, Op, Timer};
use super::node::Turn;
use super::state::{End, Resume, Rung, State};
use super::{ladder, mend, step};
use crate::domain::{Fault, NodeId, Role};
use crate::plan::authority::Reason;
use crate::plan::{BootPlan, Provision};

/// The lease has run out: a primary that accepts clients, or is about to, closes.
pub(super) fn lease_lost(turn: &mut Turn, reason: Reason) {
    let primary = turn.node.plan.is_some_and(|p| p.role == Role::Primary);
    match turn.node.state {
        State::Opening | State::Open | State::Recover(Resume::Opening) if primary => {
            let detail = Some(reason.to_string());
            let sentence = "this node has lost the right to be primary";
            ladder::begin(turn, End::Fence(reason), sentence, detail);
        }
        State::Stopping(..) if primary => ladder::hurry(turn),
        // A standby that was elected and has lost its lease before it was promoted.
        State::Open if turn.is_running(Op::Promote) => {
            let detail = Some(reason.to_string());
            let sentence = "this node has lost the right to be primary";
            ladder::begin(turn, End::Fence(reason), sentence, detail);
        }
        // A person closes it, and the time for that is up.
        State::Stopping(rung @ Rung::Fast, End::Fence(Reason::Operator)) => {
            ladder::deadline(turn, rung, End::Fence(Reason::Operator));
        }
        State::Preflight
        | State::Survey
        | State::Configure
        | State::Decide
        | State::Fenced(_)
        | State::Rejoin(_)
        | State::Handover(_)
        | State::Demote
        | State::AwaitPrimary
        | State::Init
        | State::Clone
        | State::Restore
        | State::Replay
        | State::Launch
        | State::Bootstrap
        | State::Scripts
        | State::Register
        | State::Settle
        | State::Commit
        | State::Opening
        | State::Open
        | State::Recover(_)
        | State::Stopping(..)
        | State::Halted(_) => {}
    }
}

/// A majority has granted this node a term, or a person has taken one for it.
pub(super) fn elected(turn: &mut Turn) {
    let Some(plan) = turn.node.plan else { return };
    let standby = plan.role == Role::Standby;
    if turn.node.state == State::Open && standby && !turn.is_running(Op::Promote) {
        turn.run(Op::Promote);
    }
    let primary = plan.role == Role::Primary && plan.provision == Provision::Adopt;
    if matches!(&turn.node.state, State::Fenced(r) if r.may_be_overruled()) && primary {
        demote(turn, Some(plan));
    }
}

/// A person closes this node, wherever it is on its way.
pub(super) fn close(turn: &mut Turn) {
    let why = "a person has fenced this node";
    match &turn.node.state {
        // Closing already: the same rung leads to the fence now.
        State::Stopping(rung, End::Fence(_) | End::Reclone | End::Rejoin(_) | End::Handover(_)) => {
            turn.node.state = State::Stopping(*rung, End::Fence(Reason::Operator));
            turn.act(Action::Say(Note::Remark(why.into())));
        }
        // Not ours yet, closed already, or at its end: the next survey finds it written down.
        State::Preflight
        | State::Fenced(Reason::Operator)
        | State::Stopping(_, End::Exit(_))
        | State::Halted(_) => {}
        State::Survey
        | State::Configure
        | State::Decide
        | State::Fenced(_)
        | State::Rejoin(_)
        | State::Handover(_)
        | State::Demote
        | State::AwaitPrimary
        | State::Init
        | State::Clone
        | State::Restore
        | State::Replay
        | State::Launch
        | State::Bootstrap
        | State::Scripts
        | State::Register
        | State::Settle
        | State::Commit
        | State::Opening
        | State::Open
        | State::Recover(_) => ladder::begin(turn, End::Fence(Reason::Operator), why, None),
    }
}

/// The port is closed. But for a person's word a standby is closed only out of a promotion, and `StartupXLOG` (`xlog.c`)
/// removes standby.signal before it lets anyone write: only the disk tells what the data are now.
pub(super) fn closed(turn: &mut Turn, reason: Reason) {
    let standby = turn.node.plan.is_some_and(|p| p.role == Role::Standby);
    if standby && reason != Reason::Operator {
        let why = "a promotion was under way: the data are a standby's or a primary's";
        return survey_anew(turn, why, Some(reason.to_string()));
    }
    step::fence(turn, reason);
}

/// A person lets it open again: as at a boot.
pub(super) fn reopen(turn: &mut Turn) {
    if turn.node.state == State::Fenced(Reason::Operator) {
        survey_anew(turn, "a person has ended the fence", None);
    }
}

fn survey_anew(turn: &mut Turn, why: &'static str, detail: Option<String>) {
    turn.node.plan = None;
    turn.node.elected = false;
    turn.go(State::Survey, why, detail);
    turn.run(Op::Survey);
}

/// Elected while it was closed.
pub(super) fn demote(turn: &mut Turn, plan: Option<BootPlan>) {
    let known = plan
        .is_some_and(|p| p.provision == Provision::Adopt && p.role == Role::Primary && !p.register);
    if !known {
        // Its own record was lost: a standby cannot be registered without a primary.
        let why = "repmgr's record of this node has to be made again, and there is no primary";
        return step::fence(turn, Reason::NotElected { why: why.into() });
    }
    let why = "elected anew: it needs a timeline of its own";
    turn.go(State::Demote, why, None);
    turn.run(Op::Demote);
}

/// The data are a standby's now.
pub(super) fn demoted(turn: &mut Turn) {
    turn.node.plan = Some(BootPlan {
        provision: Provision::Adopt,
        role: Role::Standby,
        bootstrap: false,
        register: false,
    });
    turn.node.elected = true;
    step::opening(turn, "the data are a standby's that can be promoted");
}

/// A person hands over: closed in order first.
pub(super) fn handover(turn: &mut Turn, to: NodeId) {
    let primary = turn.node.plan.is_some_and(|p| p.role == Role::Primary);
    if turn.node.state == State::Open && primary {
        let why = "handing over to another node";
        ladder::begin(turn, End::Handover(to), why, None);
    }
}

/// The port is closed and everything is written.
pub(super) fn hand_over(turn: &mut Turn, to: NodeId) {
    turn.go(State::Handover(to), "postgres has stopped", None);
    turn.run(Op::Handover(to));
}

/// Whether it succeeded or not, the authority knows what this node is now: the new primary's standby,
/// or the primary again.
pub(super) fn handed_over(turn: &mut Turn, failed: Option<Fault>) {
    let why = match failed {
        None => "the successor is the primary",
        Some(fault) => {
            turn.act(Action::Say(Note::Failed {
                fault,
                next: "this node asks to be the primary again",
                after: None,
            }));
            "the handover failed"
        }
    };
    turn.go(State::Decide, why, None);
    turn.run(Op::Ask);
}

/// It is open: promoted at once when that is what it opened for.
pub(super) fn opened(turn: &mut Turn) {
    if std::mem::take(&mut turn.node.elected) {
        elected(turn);
    }
}

/// Something happened that a look should see now.
pub(super) fn nudge(turn: &mut Turn) {
    if turn.node.state == State::Open && !turn.is_running(Op::Look) {
        turn.act(Action::Disarm(Timer::Look));
        turn.run(Op::Look);
    }
    if turn.node.state.asks() && !turn.is_running(Op::Ask) {
        turn.act(Action::Disarm(Timer::Ask));
        turn.run(Op::Ask);
    }
}

/// The promotion failed, or its postmaster died.
pub(super) fn unpromoted(turn: &mut Turn, why: String) {
    if mend::count_crash(turn, &why) {
        let detail = Some(why.clone());
        let sentence = "the promotion came to nothing";
        ladder::begin(
            turn,
            End::Fence(Reason::NotElected { why }),
            sentence,
            detail,
        );
    }
}

/// This node is the primary now.
pub(super) fn promoted(turn: &mut Turn) {
    if let Some(plan) = &mut turn.node.plan {
        plan.role = Role::Primary;
    }
    turn.act(Action::Say(Note::Remark(
        "this node is the primary now: backups and configuration follow".into(),
    )));
    if !turn.is_running(Op::Reload) {
        turn.run(Op::Reload);
    }
    restart_repmgrd(turn);
    step::warm(turn);
}

/// repmgrd has watched another node than the one it should watch now; a new one reads the records
/// again, where the old one may wait in degraded monitoring for ever (repmgr issue 674).
pub(super) fn restart_repmgrd(turn: &mut Turn) {
    let daemon = Daemon::Repmgrd;
    if let Some(launch) = turn.node.daemon(daemon) {
        turn.act(Action::StopDaemon {
            launch,
            daemon,
            kill: false,
        });
    }
}
