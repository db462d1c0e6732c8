//! What an alarm means, state by state.

use super::event::{Action, Op, Timer};
use super::node::Turn;
use super::state::State;
use super::{ladder, step};
use crate::domain::Fault;
use std::time::Duration;

pub(super) fn fired(turn: &mut Turn, timer: Timer) {
    match timer {
        Timer::Retry => retry(turn),
        Timer::PrimaryWait => {
            if turn.node.state == State::AwaitPrimary {
                let waited = turn.node.policy.primary_wait.unwrap_or_default();
                ladder::give_up(
                    turn,
                    Fault::Transient(format!(
                        "no primary opened its consumer port within {} (PGNODE_PRIMARY_TIMEOUT): \
                         is the master up, and is REPMGR_PRIMARY_HOST its name?",
                        crate::domain::human_duration(waited)
                    )),
                );
            }
        }
        Timer::Ask => {
            if turn.node.state.asks() && !turn.is_running(Op::Ask) {
                turn.run(Op::Ask);
            }
        }
        Timer::Look => {
            if turn.node.state == State::Open && !turn.is_running(Op::Look) {
                turn.run(Op::Look);
            }
        }
        Timer::Warm => {
            if turn.node.state == State::Open {
                step::warm(turn);
            }
        }
        Timer::Rung => match turn.node.state.clone() {
            State::Stopping(rung, end) => ladder::deadline(turn, rung, end),
            State::Settle => {
                if let Some(postmaster) = turn.node.postmaster {
                    turn.act(Action::StopPostmaster(postmaster.launch, super::Stop::Kill));
                }
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
            | State::Commit
            | State::Opening
            | State::Open
            | State::Recover(_)
            | State::Halted(_) => {}
        },
        Timer::Forget(_) => turn.node.crashes = turn.node.crashes.saturating_sub(1),
        Timer::Backoff(daemon) => {
            if turn.node.daemon(daemon).is_some() {
                return;
            }
            if turn.node.state == State::Open {
                turn.start(daemon);
            } else if matches!(turn.node.state, State::Opening | State::Recover(_)) {
                turn.act(Action::Arm(Timer::Backoff(daemon), Duration::from_secs(1)));
            }
        }
        Timer::Steady(daemon) => turn.node.daemons[daemon as usize].failures = 0,
    }
}

/// The state's own operation again.
fn retry(turn: &mut Turn) {
    let op = match turn.node.state {
        State::Preflight => Op::Preflight,
        State::Survey => Op::Survey,
        State::Configure => Op::Configure,
        State::Decide | State::Fenced(_) => Op::Ask,
        State::Rejoin(_) => Op::Rejoin,
        State::Handover(to) => Op::Handover(to),
        State::Demote => Op::Demote,
        State::AwaitPrimary => Op::AwaitPrimary,
        State::Init => Op::Init,
        State::Clone => Op::Clone,
        State::Restore => Op::Restore,
        State::Replay => Op::Replay,
        State::Bootstrap => Op::Bootstrap,
        State::Scripts => Op::Scripts,
        State::Register => Op::Register,
        State::Commit => Op::Commit,
        State::Recover(_) => Op::Clear,
        State::Launch
        | State::Settle
        | State::Opening
        | State::Open
        | State::Stopping(..)
        | State::Halted(_) => return,
    };
    if turn.node.ops.is_empty() {
        turn.run(op);
    }
}
