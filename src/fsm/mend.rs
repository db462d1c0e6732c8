//! What follows when a process ends that should have stayed: restarts in place, with a limit for the
//! postmaster and growing pauses for the daemons.

use super::event::{Action, Daemon, Note, Op, Site, Timer};
use super::node::Turn;
use super::state::{Resume, State};
use super::{cluster, ladder, restore, step};
use crate::domain::Fault;
use std::time::Duration;

pub(super) fn postmaster_exited(turn: &mut Turn, clean: bool, how: String) {
    match turn.node.state {
        State::Settle if clean => {
            // Nothing was built beside a cluster that was there before.
            step::commit(turn, "postgres has stopped in order");
        }
        State::Stopping(..) => ladder::after_daemons(turn),
        State::Launch | State::Bootstrap | State::Scripts | State::Register | State::Settle => {
            let resume = match step::site(turn) {
                // What scripts did by half cannot be told from what they did.
                Site::Staging if restore::is(turn) => Resume::Restore,
                Site::Staging => Resume::Init,
                Site::Live => Resume::Launch,
            };
            crashed(turn, resume, how);
        }
        State::Replay => restore::ended(turn, how),
        State::Open if turn.is_running(Op::Promote) => cluster::unpromoted(turn, how),
        State::Opening | State::Open => crashed(turn, Resume::Opening, how),
        // No postmaster runs in these; an exit of one that does not run is never heard.
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
        | State::Commit
        | State::Recover(_)
        | State::Halted(_) => {}
    }
}

/// Restarted in place, at once, unless it keeps dying.
pub(super) fn crashed(turn: &mut Turn, resume: Resume, how: String) {
    if count_crash(turn, &how) {
        turn.go(
            State::Recover(resume),
            "postgres ended by itself",
            Some(how),
        );
        turn.run(Op::Clear);
    }
}

/// Whether it is mended in place once more; else the node ends.
pub(super) fn count_crash(turn: &mut Turn, how: &str) -> bool {
    turn.node.crashes = turn.node.crashes.saturating_add(1);
    let (count, limit) = (turn.node.crashes, turn.node.policy.crash_limit);
    if count > limit {
        let window = crate::domain::human_duration(turn.node.policy.crash_window);
        let why = format!(
            "postgres ended, or could not be promoted, {count} times within {window}, the last time with {how}: see its own \
             messages above"
        );
        ladder::give_up(turn, Fault::Transient(why));
        return false;
    }
    let id = turn.number();
    turn.act(Action::Arm(
        Timer::Forget(id),
        turn.node.policy.crash_window,
    ));
    true
}

pub(super) fn cleared(turn: &mut Turn) {
    let State::Recover(resume) = turn.node.state else {
        return;
    };
    match resume {
        Resume::Init => {
            turn.go(State::Init, "the staged cluster is made again", None);
            turn.run(Op::Init);
        }
        Resume::Restore => restore::copy(turn, "the backup is copied again"),
        Resume::Replay => restore::replay(turn, "recovery goes on where it was"),
        Resume::Launch => step::launch_technical(turn, "nothing of the dead postmaster is left"),
        Resume::Opening => {
            // The daemons were left running; they wait for their database.
            step::opening(turn, "nothing of the dead postmaster is left");
        }
    }
}

pub(super) fn daemon_exited(turn: &mut Turn, daemon: Daemon, how: &str) {
    turn.act(Action::Disarm(Timer::Steady(daemon)));
    match turn.node.state {
        State::Stopping(..) => ladder::after_daemons(turn),
        State::Open | State::Opening | State::Recover(_) => {
            let slot = &mut turn.node.daemons[daemon as usize];
            let after = backoff(slot.failures);
            slot.failures = slot.failures.saturating_add(1).min(7);
            turn.act(Action::Say(Note::Remark(format!(
                "{} ended with {how}; started again in {}",
                daemon.name(),
                crate::domain::human_duration(after)
            ))));
            turn.act(Action::Arm(Timer::Backoff(daemon), after));
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
        | State::Halted(_) => {}
    }
}

/// 1, 2, 4 … seconds, a minute at most.
pub(super) fn backoff(failures: u8) -> Duration {
    Duration::from_secs(1 << failures.min(6)).min(Duration::from_secs(60))
}
