//! One step. No `_` arm stands for states: a new state must be thought about here.

use super::alarm;
use super::cluster;
use super::event::{Action, Daemon, Door, Event, Finding, Note, Op, OpId, Outcome, Site, Timer};
use super::ladder;
use super::mend::{self, backoff};
use super::node::{Node, Turn};
use super::rejoin;
use super::restore;
use super::state::{End, State};
use super::witness;
use crate::domain::{Fault, Role};
use crate::plan::authority::{Reason, Verdict};
use crate::plan::{BootPlan, Provision};
use std::time::Duration;

/// What the node does about an event. Total: no I/O, no clock, no panic.
#[must_use]
pub fn step(node: Node, event: Event) -> (Node, Vec<Action>) {
    let mut turn = Turn {
        node,
        actions: Vec::new(),
    };
    if !matches!(turn.node.state, State::Halted(_)) {
        hear(&mut turn, event);
    }
    (turn.node, turn.actions)
}

fn hear(turn: &mut Turn, event: Event) {
    match event {
        Event::Begin => {
            if turn.node.state == State::Preflight && turn.node.ops.is_empty() {
                turn.run(Op::Preflight);
            }
        }
        Event::Done(id, outcome) => {
            if let Some(at) = turn.node.ops.iter().position(|(known, _)| *known == id) {
                let (_, op) = turn.node.ops.remove(at);
                done(turn, op, outcome);
            }
        }
        Event::Ready(launch) => ready(turn, launch),
        Event::PostmasterExited { launch, clean, how } => {
            if turn.node.postmaster.is_some_and(|p| p.launch == launch) {
                turn.node.postmaster = None;
                mend::postmaster_exited(turn, clean, how);
            }
        }
        Event::DaemonExited {
            daemon,
            launch,
            how,
        } => {
            if turn.node.daemon(daemon) == Some(launch) {
                turn.node.daemons[daemon as usize].launch = None;
                mend::daemon_exited(turn, daemon, &how);
            }
        }
        Event::Timer(timer) => alarm::fired(turn, timer),
        Event::LeaseLost(reason) => cluster::lease_lost(turn, reason),
        Event::Elected => cluster::elected(turn),
        Event::Handover(to) => cluster::handover(turn, to),
        Event::Nudge => cluster::nudge(turn),
        Event::Fence => cluster::close(turn),
        Event::Unfence => cluster::reopen(turn),
        Event::StopSignal(number) => ladder::stop_signal(turn, number),
        Event::ReloadSignal => {
            if turn.node.state == State::Open {
                if !turn.is_running(Op::Reload) {
                    turn.run(Op::Reload);
                }
            } else {
                turn.act(Action::Say(Note::Remark(
                    "HUP: not open; the settings are read again when the node opens or restarts"
                        .into(),
                )));
            }
        }
    }
}

/// An operation of the present state ended. Leaving a state cancels its operations, so an operation
/// that is still waited for belongs to the state that began it.
fn done(turn: &mut Turn, op: Op, outcome: Outcome) {
    match (op, outcome) {
        (Op::Preflight, Outcome::Ok) => {
            turn.go(
                State::Survey,
                "binaries, directories and the lock are sound",
                None,
            );
            turn.run(Op::Survey);
        }
        (Op::Survey, Outcome::Planned(plan)) => {
            turn.node.plan = Some(plan);
            turn.go(
                State::Configure,
                "the boot is planned",
                Some(plan.to_string()),
            );
            turn.run(Op::Configure);
        }
        // A person closed it in an earlier life.
        (Op::Survey, Outcome::Verdict(Verdict::Closed(reason))) => fence(turn, reason),
        (Op::Configure, Outcome::Ok) => configured(turn),
        (Op::Ask, Outcome::Verdict(verdict)) => judged(turn, verdict),
        (Op::AwaitPrimary, Outcome::Ok) if witness::is(turn) => witness::init(turn),
        (Op::AwaitPrimary, Outcome::Ok) => {
            turn.go(
                State::Clone,
                "the primary is open and accepts our password",
                None,
            );
            turn.run(Op::Clone);
        }
        (Op::Rejoin, Outcome::Rejoined(how)) => rejoin::rejoined(turn, how),
        (Op::Rejoin, Outcome::Failed(fault)) => rejoin::failed(turn, fault),
        (Op::Init, Outcome::Ok) => launch_technical(turn, "the cluster is created"),
        (Op::Clone, Outcome::Ok) => register(turn, "the clone is complete"),
        (Op::Restore, Outcome::Ok) => {
            restore::replay(turn, "the backup is in the staging directory");
        }
        // It has asked again for as long as it was told to.
        (Op::Restore, Outcome::Failed(fault)) => ladder::give_up(turn, fault),
        (Op::Replay, Outcome::Ok) => restore::promoted(turn),
        (Op::Replay, Outcome::Shutdown) => restore::shut_down(turn),
        (Op::Explain, Outcome::Ok) => restore::goes_on(turn),
        (Op::Explain, Outcome::Failed(fault)) => ladder::give_up(turn, fault),
        (Op::Bootstrap, Outcome::Ok) => match turn.node.plan {
            // The user's scripts are for the user's databases.
            Some(BootPlan {
                provision: Provision::Init,
                role: Role::Witness,
                ..
            }) => register(turn, "users and the extension are there"),
            Some(BootPlan {
                provision: Provision::Init,
                ..
            }) => {
                turn.go(
                    State::Scripts,
                    "users, databases and the extension are there",
                    None,
                );
                turn.run(Op::Scripts);
            }
            Some(BootPlan { register: true, .. }) => {
                register(turn, "users, databases and the extension are up to date");
            }
            Some(_) | None => settle(turn, "users, databases and the extension are up to date"),
        },
        (Op::Scripts, Outcome::Ok) => register(turn, "the init scripts have run"),
        (Op::Register, Outcome::Ok) => {
            if turn.node.postmaster.is_some() {
                settle(turn, "repmgr knows this node");
            } else {
                commit(turn, "repmgr knows this node");
            }
        }
        (Op::Commit, Outcome::Ok) => {
            // From now on it is what is on the disk, whatever it came from.
            if let Some(plan) = &mut turn.node.plan {
                *plan = BootPlan {
                    provision: Provision::Adopt,
                    bootstrap: false,
                    register: false,
                    ..*plan
                };
            }
            opening(turn, "the data is in its place");
        }
        (Op::Clear, _) if matches!(turn.node.state, State::Stopping(..)) => {
            ladder::all_ended(turn);
        }
        (Op::Clear, Outcome::Ok) => mend::cleared(turn),
        (Op::Handover(_), Outcome::Ok) => cluster::handed_over(turn, None),
        (Op::Handover(_), Outcome::Failed(fault)) => cluster::handed_over(turn, Some(fault)),
        (Op::Demote, Outcome::Ok) => cluster::demoted(turn),
        (Op::Promote, Outcome::Ok) => cluster::promoted(turn),
        (Op::Promote, Outcome::Failed(fault)) if fault.is_transient() => {
            cluster::unpromoted(turn, fault.why().to_owned());
        }
        (Op::Promote, Outcome::Failed(fault)) => ladder::give_up(turn, fault),
        (Op::Look, Outcome::Saw(finding)) => saw(turn, finding),
        (Op::Warm, Outcome::Ok) => {}
        (Op::Reload, Outcome::Ok) => {
            turn.act(Action::Say(Note::Remark("settings reloaded".into())));
        }
        // A failed checkpoint only makes the shutdown longer.
        (Op::Checkpoint, _) => ladder::after_daemons(turn),
        (Op::EndAll, _) => ladder::all_ended(turn),
        (Op::Look, Outcome::Failed(fault)) => {
            remark(turn, fault, "looked at again", turn.node.policy.ask_every);
            turn.act(Action::Arm(Timer::Look, turn.node.policy.ask_every));
        }
        (Op::Warm, Outcome::Failed(fault)) => {
            remark(turn, fault, "tried again", WARM_AGAIN);
            turn.act(Action::Arm(Timer::Warm, WARM_AGAIN));
        }
        (Op::Reload, Outcome::Failed(fault)) => {
            turn.act(Action::Say(Note::Failed {
                fault,
                next: "the former settings stay in force",
                after: None,
            }));
        }
        (_, Outcome::Failed(fault)) => failed(turn, fault),
        (
            op,
            outcome @ (Outcome::Ok
            | Outcome::Planned(_)
            | Outcome::Shutdown
            | Outcome::Verdict(_)
            | Outcome::Rejoined(_)
            | Outcome::Saw(_)),
        ) => ladder::give_up(
            turn,
            Fault::Bug(format!("{op:?} cannot end in {outcome:?}")),
        ),
    }
}

/// The operation that a state consists of failed: tried again with growing pauses when that can
/// help, else the node ends.
fn failed(turn: &mut Turn, fault: Fault) {
    if fault.is_transient() && turn.node.attempts < turn.node.policy.retries {
        let after = backoff(turn.node.attempts);
        turn.node.attempts += 1;
        remark(turn, fault, "tried again", after);
        turn.act(Action::Arm(Timer::Retry, after));
    } else {
        ladder::give_up(turn, fault);
    }
}

pub(super) fn remark(turn: &mut Turn, fault: Fault, next: &'static str, after: Duration) {
    turn.act(Action::Say(Note::Failed {
        fault,
        next,
        after: Some(after),
    }));
}

const WARM_AGAIN: Duration = Duration::from_secs(15);

fn configured(turn: &mut Turn) {
    match turn.node.plan {
        Some(
            plan @ BootPlan {
                role: Role::Witness,
                ..
            },
        ) => witness::configured(turn, plan),
        Some(BootPlan {
            provision: Provision::Rejoin,
            ..
        }) => {
            turn.go(State::Decide, "a rewind of the data was interrupted", None);
            turn.run(Op::Ask);
        }
        Some(BootPlan {
            provision: Provision::Clone,
            ..
        }) => {
            await_primary(turn, "the disk is empty and this node is a slave", None);
        }
        Some(BootPlan {
            role: Role::Standby,
            register: true,
            ..
        }) => {
            register(turn, "a standby is on the disk, and repmgr may not know it");
        }
        Some(BootPlan {
            role: Role::Standby,
            ..
        }) => {
            opening(turn, "a standby that repmgr knows is on the disk");
        }
        Some(BootPlan {
            role: Role::Primary,
            ..
        }) => {
            turn.go(State::Decide, "the configuration is written", None);
            turn.run(Op::Ask);
        }
        None => ladder::give_up(turn, Fault::Bug("configured without a plan".into())),
    }
}

fn judged(turn: &mut Turn, verdict: Verdict) {
    match (verdict, turn.node.plan) {
        (
            Verdict::Open,
            Some(BootPlan {
                provision: Provision::Init,
                ..
            }),
        ) => {
            turn.go(State::Init, "no peer belongs to a cluster", None);
            turn.run(Op::Init);
        }
        (Verdict::Open, Some(plan)) if plan.provision == Provision::Restore => {
            restore::copy(turn, "the disk is empty and no peer belongs to a cluster");
        }
        (
            Verdict::Open,
            Some(BootPlan {
                bootstrap: true, ..
            }),
        ) => {
            launch_technical(turn, "this node may be primary, and settings have changed");
        }
        // Half rewound, or superseded: never to be opened as it is, whoever says so.
        (Verdict::Open, Some(plan)) if plan.provision == Provision::Rejoin => {
            fence(turn, rejoin::no_source("it was superseded"));
        }
        (Verdict::Elected, plan) => cluster::demote(turn, plan),
        (Verdict::Open, _) => opening(turn, "this node may be primary"),
        (Verdict::Closed(reason), _) => fence(turn, reason),
    }
}

/// Closed, and asking again.
pub(super) fn fence(turn: &mut Turn, reason: Reason) {
    if reason.is_superseded() {
        return rejoin::begin(turn, reason);
    }
    let known = matches!(&turn.node.state, State::Fenced(same) if *same == reason);
    if !known {
        let detail = Some(reason.to_string());
        if turn.node.state.kind() == super::Kind::Fenced {
            turn.act(Action::Say(Note::Remark(format!("still fenced: {reason}"))));
        }
        let why = match reason.is_asked_again() {
            true => "it is not safe to open",
            false => "a person keeps it closed",
        };
        turn.go(State::Fenced(reason), why, detail);
    }
    if turn.node.state.asks() {
        turn.act(Action::Arm(Timer::Ask, turn.node.policy.ask_every));
    }
}

/// A first-time slave, or one that is cloned anew.
pub(super) fn await_primary(turn: &mut Turn, why: &'static str, detail: Option<String>) {
    turn.node.plan = Some(BootPlan {
        provision: Provision::Clone,
        role: Role::Standby,
        bootstrap: false,
        register: true,
    });
    wait_for_primary(turn, why, detail);
}

pub(super) fn wait_for_primary(turn: &mut Turn, why: &'static str, detail: Option<String>) {
    turn.go(State::AwaitPrimary, why, detail);
    turn.run(Op::AwaitPrimary);
    if let Some(limit) = turn.node.policy.primary_wait {
        turn.act(Action::Arm(Timer::PrimaryWait, limit));
    }
}

pub(super) fn site(turn: &Turn) -> Site {
    match turn.node.plan {
        Some(BootPlan {
            provision: Provision::Init | Provision::Clone | Provision::Restore,
            ..
        }) => Site::Staging,
        Some(BootPlan {
            provision: Provision::Adopt | Provision::Rejoin,
            ..
        })
        | None => Site::Live,
    }
}

pub(super) fn launch_technical(turn: &mut Turn, why: &'static str) {
    turn.go(State::Launch, why, None);
    let site = site(turn);
    turn.launch(Door::Technical, site);
}

pub(super) fn register(turn: &mut Turn, why: &'static str) {
    turn.go(State::Register, why, None);
    turn.run(Op::Register);
}

fn settle(turn: &mut Turn, why: &'static str) {
    turn.go(State::Settle, why, None);
    if let Some(postmaster) = turn.node.postmaster {
        turn.act(Action::StopPostmaster(postmaster.launch, super::Stop::Fast));
        turn.act(Action::Arm(Timer::Rung, SETTLE_LIMIT));
    }
}

/// A fast shutdown of a server without clients; beyond that it is treated as hung.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);

pub(super) fn commit(turn: &mut Turn, why: &'static str) {
    turn.go(State::Commit, why, None);
    turn.run(Op::Commit);
}

pub(super) fn opening(turn: &mut Turn, why: &'static str) {
    turn.go(State::Opening, why, None);
    turn.launch(Door::Consumer, Site::Live);
}

fn ready(turn: &mut Turn, launch: OpId) {
    let Some(postmaster) = turn.node.postmaster.as_mut().filter(|p| p.launch == launch) else {
        return;
    };
    postmaster.ready = true;
    match turn.node.state {
        State::Launch => {
            turn.go(
                State::Bootstrap,
                "postgres answers on the technical port",
                None,
            );
            turn.run(Op::Bootstrap);
        }
        State::Opening => {
            turn.go(State::Open, "postgres answers on the consumer port", None);
            turn.start(Daemon::Repmgrd);
            if turn.node.policy.backups {
                turn.start(Daemon::Crond);
            }
            warm(turn);
            cluster::opened(turn);
            turn.act(Action::Arm(Timer::Look, turn.node.policy.ask_every));
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
        | State::Bootstrap
        | State::Scripts
        | State::Register
        | State::Settle
        | State::Commit
        | State::Open
        | State::Recover(_)
        | State::Stopping(..)
        | State::Halted(_) => {}
    }
}

/// Only a primary archives and backs up.
pub(super) fn warm(turn: &mut Turn) {
    let primary = turn.node.plan.is_some_and(|p| p.role == Role::Primary);
    if turn.node.policy.backups && primary && !turn.is_running(Op::Warm) {
        turn.run(Op::Warm);
    }
}

fn saw(turn: &mut Turn, finding: Finding) {
    if witness::is(turn) && finding != Finding::Fine {
        let why = format!("a witness has no data, and its look ended in {finding:?}");
        return ladder::give_up(turn, Fault::Bug(why));
    }
    match finding {
        Finding::Fine => {}
        Finding::Promoted => cluster::promoted(turn),
        Finding::Follows(primary) => {
            turn.act(Action::Say(Note::Remark(format!("follows {primary} now"))));
            cluster::restart_repmgrd(turn);
        }
        Finding::CloneAnew(why) => {
            let sentence = "the standby cannot be mended in place and is cloned anew";
            return ladder::begin(turn, End::Reclone, sentence, Some(why));
        }
        Finding::Diverged(reason) => {
            let detail = Some(reason.to_string());
            let sentence = "the standby holds WAL that the new primary never had";
            return ladder::begin(turn, End::Rejoin(reason), sentence, detail);
        }
        Finding::MustClose(reason) => {
            let detail = Some(reason.to_string());
            let sentence = "this node must not be open any longer";
            return ladder::begin(turn, End::Fence(reason), sentence, detail);
        }
    }
    turn.act(Action::Arm(Timer::Look, turn.node.policy.ask_every));
}
