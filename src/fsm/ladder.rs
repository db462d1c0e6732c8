//! The stop ladder: repmgrd and crond, checkpoint, fast, immediate, KILL, the rest; each rung with
//! a deadline, a second signal climbs down faster.

use super::event::{Action, Daemon, Note, Op, Stop, Timer};
use super::node::Turn;
use super::state::{End, Rung, State};
use crate::domain::{ExitCode, Fault};
use crate::plan::authority::Reason;

pub(super) const DAEMONS: [Daemon; 2] = [Daemon::Repmgrd, Daemon::Crond];

/// Begins to bring everything down.
pub(super) fn begin(turn: &mut Turn, end: End, why: &'static str, detail: Option<String>) {
    turn.go(State::Stopping(Rung::Daemons, end.clone()), why, detail);
    turn.node.unclean = false;
    for daemon in DAEMONS {
        turn.act(Action::Disarm(Timer::Backoff(daemon)));
        turn.act(Action::Disarm(Timer::Steady(daemon)));
        if let Some(launch) = turn.node.daemon(daemon) {
            turn.act(Action::StopDaemon {
                launch,
                daemon,
                kill: false,
            });
        }
    }
    let ready = turn.node.postmaster.is_some_and(|p| p.ready);
    if ready && matches!(end, End::Exit(_) | End::Handover(_)) {
        turn.run(Op::Checkpoint);
    }
    match &end {
        // The lease is kept meanwhile: time enough to send the standbys the last of the WAL.
        End::Fence(Reason::Operator) => return enter(turn, Rung::Fast, end),
        // A fence has its time by the clock of the others: no waiting for daemons, no checkpoint.
        End::Fence(_) => return enter(turn, Rung::Immediate, end),
        End::Exit(_) | End::Reclone | End::Rejoin(_) | End::Handover(_) => {}
    }
    arm(turn, Rung::Daemons);
    after_daemons(turn);
}

/// Ends because of a fault.
pub(super) fn give_up(turn: &mut Turn, fault: Fault) {
    let exit = fault.exit_code();
    let next = "the node stops";
    turn.act(Action::Say(Note::Failed {
        fault,
        next,
        after: None,
    }));
    begin(turn, End::Exit(exit), "cannot go on", None);
}

/// TERM, INT or QUIT.
pub(super) fn stop_signal(turn: &mut Turn, number: u8) {
    turn.node.stop_signals = turn.node.stop_signals.saturating_add(1);
    match turn.node.state.clone() {
        State::Stopping(rung, end) => stop_again(turn, rung, end, number),
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
        | State::Halted(_) => begin(turn, End::Exit(ExitCode::STOPPED), "asked to stop", None),
    }
}

/// A stop signal while the ladder is already being climbed down. The second one that a person sends
/// climbs faster; the first one only changes where the ladder leads.
fn stop_again(turn: &mut Turn, rung: Rung, end: End, number: u8) {
    match end {
        End::Exit(_) if turn.node.stop_signals < 2 => {}
        End::Exit(_) => {
            let next = if rung < Rung::Immediate {
                Rung::Immediate
            } else {
                Rung::Kill
            };
            let next = next.max(rung);
            enter(turn, next, End::Exit(ExitCode::signal(number)));
        }
        // The port was being closed for another reason: the same rung now leads to the exit.
        End::Fence(_) | End::Reclone | End::Rejoin(_) | End::Handover(_) => {
            let end = End::Exit(ExitCode::STOPPED);
            turn.act(Action::Say(Note::Entered {
                from: turn.node.state.kind(),
                to: super::Kind::Stopping,
                why: "asked to stop",
                detail: None,
            }));
            turn.node.state = State::Stopping(rung, end);
        }
    }
}

/// The rung's deadline has passed.
pub(super) fn deadline(turn: &mut Turn, rung: Rung, end: End) {
    match rung {
        Rung::Daemons => {
            for daemon in DAEMONS {
                if let Some(launch) = turn.node.daemon(daemon) {
                    turn.act(Action::StopDaemon {
                        launch,
                        daemon,
                        kill: true,
                    });
                }
            }
            enter(turn, Rung::Fast, end);
        }
        Rung::Fast => enter(turn, Rung::Immediate, end),
        Rung::Immediate => enter(turn, Rung::Kill, end),
        // Stuck in the kernel (D state): a fence may not be declared over a live postmaster, so it
        // is killed again until it is gone. For the exit the end of PID 1 takes it along.
        Rung::Kill if !matches!(end, End::Exit(_)) => enter(turn, Rung::Kill, end),
        Rung::Kill | Rung::Reap => arrive(turn, end),
    }
}

/// Clients may not be served any longer while the way down has only begun.
pub(super) fn hurry(turn: &mut Turn) {
    if let State::Stopping(Rung::Daemons | Rung::Fast, end) = &turn.node.state
        && turn.node.postmaster.is_some()
    {
        let end = end.clone();
        enter(turn, Rung::Immediate, end);
    }
}

/// A daemon or the checkpoint ended, or the postmaster died by itself.
pub(super) fn after_daemons(turn: &mut Turn) {
    let State::Stopping(rung, end) = &turn.node.state else {
        return;
    };
    let (rung, end) = (*rung, end.clone());
    let quiet = DAEMONS.iter().all(|d| turn.node.daemon(*d).is_none());
    match rung {
        Rung::Daemons if quiet && !turn.is_running(Op::Checkpoint) => {
            enter(turn, Rung::Fast, end);
        }
        Rung::Fast | Rung::Immediate | Rung::Kill if turn.node.postmaster.is_none() => {
            enter(turn, Rung::Reap, end);
        }
        Rung::Daemons | Rung::Fast | Rung::Immediate | Rung::Kill | Rung::Reap => {}
    }
}

/// The last processes are gone.
pub(super) fn all_ended(turn: &mut Turn) {
    if let State::Stopping(Rung::Reap, end) = &turn.node.state {
        let end = end.clone();
        arrive(turn, end);
    }
}

fn enter(turn: &mut Turn, rung: Rung, end: End) {
    // Nothing to signal: straight to the end of the ladder.
    let rung = if turn.node.postmaster.is_none() {
        Rung::Reap
    } else {
        rung
    };
    turn.cancel_all();
    turn.node.state = State::Stopping(rung, end.clone());
    match (rung, turn.node.postmaster) {
        (Rung::Fast | Rung::Immediate | Rung::Kill, Some(postmaster)) => {
            let stop = match rung {
                Rung::Immediate => Stop::Immediate,
                Rung::Kill => Stop::Kill,
                Rung::Daemons | Rung::Fast | Rung::Reap => Stop::Fast,
            };
            turn.node.unclean |= stop != Stop::Fast;
            turn.act(Action::Say(Note::Rung(rung)));
            turn.act(Action::StopPostmaster(postmaster.launch, stop));
            arm(turn, rung);
        }
        (Rung::Reap, _) => match end {
            End::Exit(_) => {
                turn.run(Op::EndAll);
                arm(turn, rung);
            }
            // Backends outlive a postmaster that was killed, and serve their clients to the end.
            End::Fence(_) | End::Reclone | End::Rejoin(_) | End::Handover(_) => {
                turn.run(Op::Clear);
                arm(turn, rung);
            }
        },
        (Rung::Daemons | Rung::Fast | Rung::Immediate | Rung::Kill, _) => {}
    }
}

fn arrive(turn: &mut Turn, end: End) {
    match end {
        End::Exit(code) => {
            let code = if code == ExitCode::STOPPED && turn.node.unclean {
                ExitCode::TRANSIENT
            } else {
                code
            };
            turn.node.postmaster = None;
            turn.go(State::Halted(code), "everything is down", None);
            turn.act(Action::Halt(code));
        }
        End::Fence(reason) => super::cluster::closed(turn, reason),
        End::Handover(to) => super::cluster::hand_over(turn, to),
        End::Rejoin(reason) => super::rejoin::begin(turn, reason),
        End::Reclone => super::step::await_primary(turn, "the consumer port is closed", None),
    }
}

fn arm(turn: &mut Turn, rung: Rung) {
    let urgent = match &turn.node.state {
        State::Stopping(_, End::Fence(reason)) => *reason != Reason::Operator,
        _ => false,
    };
    let after = if urgent && rung != Rung::Reap {
        turn.node.policy.close / 2
    } else {
        turn.node.policy.rungs[rung as usize]
    };
    turn.act(Action::Arm(Timer::Rung, after));
}
