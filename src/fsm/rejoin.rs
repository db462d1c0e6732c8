//! The old primary comes back: closed throughout, until its data are a standby's of the new one.

use super::event::{Action, Op, Rejoined, Timer};
use super::mend::backoff;
use super::node::Turn;
use super::state::State;
use super::{ladder, step};
use crate::domain::Fault;
use crate::plan::authority::Reason;
use crate::plan::{BootPlan, Provision};

/// No postmaster runs: every way here leads over the ladder or from a node that was closed.
pub(super) fn begin(turn: &mut Turn, reason: Reason) {
    turn.node.plan = Some(BootPlan::REJOIN);
    let detail = Some(reason.to_string());
    let why = "another node was promoted while this one was away";
    turn.go(State::Rejoin(reason), why, detail);
    turn.run(Op::Rejoin);
}

pub(super) fn rejoined(turn: &mut Turn, how: Rejoined) {
    match how {
        Rejoined::Standby => {
            // From here on a standby like any other that repmgr does not know yet.
            turn.node.plan = Some(BootPlan {
                provision: Provision::Adopt,
                ..BootPlan::REJOIN
            });
            step::register(turn, "the data are a standby's of the new primary");
        }
        Rejoined::CloneAnew(why) => clone_anew(turn, why),
        Rejoined::NoSource(why) => step::fence(turn, no_source(&why)),
    }
}

/// Tried again some times, then the slow way that needs nothing of the old data.
pub(super) fn failed(turn: &mut Turn, fault: Fault) {
    if !fault.is_transient() {
        return ladder::give_up(turn, fault);
    }
    if turn.node.attempts >= turn.node.policy.retries {
        return clone_anew(turn, fault.why().to_owned());
    }
    let after = backoff(turn.node.attempts);
    turn.node.attempts += 1;
    step::remark(turn, fault, "tried again", after);
    turn.act(Action::Arm(Timer::Retry, after));
}

pub(super) fn no_source(why: &str) -> Reason {
    Reason::NoSource { why: why.into() }
}

fn clone_anew(turn: &mut Turn, why: String) {
    let sentence =
        "the old data cannot be used: cloned anew, the old copy stays until the new one streams";
    step::await_primary(turn, sentence, Some(why));
}
