use super::explore::{self, Edge, Place, halted, listens};
use super::{
    Action, Daemon, Door, End, Event, Kind, Node, Note, Op, Outcome, Site, State, Stop, Timer,
};
use crate::domain::{ExitCode, Exposure, Fault, Role};
use crate::plan::Provision;
use crate::plan::authority::Reason;
use std::collections::BTreeSet;

#[test]
fn every_step_keeps_the_rules() {
    let mut steps = 0_u64;
    let places = explore::walk(|edge| {
        steps += 1;
        one_postmaster(edge);
        doors(edge);
        daemons(edge);
        data(edge);
        votes(edge);
        stale_and_end(edge);
        spoken(edge);
        never_stuck(edge.after);
    });
    assert!(
        places > 500,
        "the walk is too small to mean anything: {places}"
    );
    assert!(steps > 10_000, "{steps}");
}

fn one_postmaster(edge: &Edge<'_>) {
    let launches = edge
        .actions
        .iter()
        .filter(|a| matches!(a, Action::Launch(..)))
        .count();
    assert!(launches <= 1, "{edge:?}");
    if launches == 1 {
        let gone = edge.before.node.postmaster.is_none()
            || matches!(edge.event, Event::PostmasterExited { .. });
        assert!(gone, "a second postmaster: {edge:?}");
    }
}

fn doors(edge: &Edge<'_>) {
    for action in edge.actions {
        if let Action::Launch(_, door, site) = action {
            match door {
                Door::Consumer => {
                    assert_eq!(edge.after.node.state, State::Opening, "{edge:?}");
                    assert_eq!(*site, Site::Live, "{edge:?}");
                    let plan = edge.after.node.plan.unwrap();
                    assert_eq!(
                        plan.provision,
                        Provision::Adopt,
                        "an open node asks as a member: {edge:?}"
                    );
                    assert!(
                        edge.after.registered,
                        "opens before repmgr knows it: {edge:?}"
                    );
                    let primary = plan.role == Role::Primary;
                    assert!(
                        !primary || edge.after.allowed,
                        "opens without leave: {edge:?}"
                    );
                }
                Door::Technical => match edge.after.node.state {
                    State::Launch => {}
                    // Nothing but a backup is recovered, and never where the live data are.
                    State::Replay => assert_eq!(*site, Site::Staging, "{edge:?}"),
                    _ => panic!("{edge:?}"),
                },
            }
        }
    }
    let most = edge.after.node.state.kind().exposure();
    match listens(&edge.after.node) {
        None => {}
        Some((Door::Technical, _)) => assert_ne!(most, Exposure::Closed, "{edge:?}"),
        Some((Door::Consumer, _)) => assert_eq!(most, Exposure::Consumer, "{edge:?}"),
    }
}

fn daemons(edge: &Edge<'_>) {
    for action in edge.actions {
        match action {
            Action::StartDaemon(_, daemon) => {
                assert_eq!(edge.after.node.state, State::Open, "{edge:?}");
                assert!(edge.after.registered, "{edge:?}");
                assert_eq!(
                    edge.before.node.daemon(*daemon),
                    None,
                    "a second {daemon:?}"
                );
            }
            Action::StopPostmaster(..) => {
                for daemon in [Daemon::Repmgrd, Daemon::Crond] {
                    let quiet = edge.after.node.daemon(daemon).is_none()
                        || edge.after.told.contains(&daemon);
                    assert!(quiet, "{daemon:?} is not told before postgres: {edge:?}");
                }
            }
            _ => {}
        }
    }
}

fn data(edge: &Edge<'_>) {
    for action in edge.actions {
        if let Action::Run(_, op) = action {
            let kind = edge.after.node.state.kind();
            match op {
                Op::Init => assert_eq!(kind, Kind::Init),
                Op::Clone => assert_eq!(kind, Kind::Clone),
                Op::Restore => {
                    assert_eq!(kind, Kind::Restore);
                    assert!(edge.after.node.postmaster.is_none(), "{edge:?}");
                }
                Op::Replay => assert_eq!(kind, Kind::Replay),
                Op::Explain => {
                    assert_eq!(kind, Kind::Replay);
                    assert!(edge.after.node.postmaster.is_none(), "{edge:?}");
                }
                Op::Rejoin => {
                    assert_eq!(kind, Kind::Rejoin);
                    assert!(
                        edge.after.node.postmaster.is_none(),
                        "a rewind under a live server"
                    );
                }
                Op::Commit => {
                    assert_eq!(kind, Kind::Commit);
                    assert!(
                        edge.after.node.postmaster.is_none(),
                        "a swap under a live server"
                    );
                }
                Op::Clear => assert!(edge.after.node.postmaster.is_none()),
                _ => {}
            }
        }
    }
}

/// A witness stays one, and does nothing that only data calls for.
fn votes(edge: &Edge<'_>) {
    let is = |node: &Node| node.plan.is_some_and(|p| p.role == Role::Witness);
    // After a fence it looks at its disk anew, as at a boot.
    if !is(&edge.before.node) || edge.before.node.state == State::Fenced(Reason::Operator) {
        return;
    }
    assert!(is(&edge.after.node), "{edge:?}");
    for action in edge.actions {
        if let Action::Run(_, op) = action {
            let data = matches!(
                op,
                Op::Ask | Op::Clone | Op::Restore | Op::Replay | Op::Scripts | Op::Warm
            );
            assert!(!data, "{edge:?}");
        }
    }
}

fn stale_and_end(edge: &Edge<'_>) {
    let stale = matches!(
        edge.event,
        Event::Done(id, _) | Event::Ready(id)
            | Event::PostmasterExited { launch: id, .. }
            | Event::DaemonExited { launch: id, .. } if *id == explore::STALE
    );
    if stale || halted(&edge.before.node) {
        assert!(edge.actions.is_empty(), "{edge:?}");
        assert_eq!(edge.before.node, edge.after.node);
    }
    let halts = edge.actions.iter().any(|a| matches!(a, Action::Halt(_)));
    assert_eq!(
        halts,
        halted(&edge.after.node) && !halted(&edge.before.node),
        "{edge:?}"
    );
}

fn spoken(edge: &Edge<'_>) {
    let (from, to) = (edge.before.node.state.kind(), edge.after.node.state.kind());
    if from != to {
        let said = edge.actions.iter().any(|a| {
            matches!(a, Action::Say(Note::Entered { to: told, why, .. }) if *told == to && !why.is_empty())
        });
        assert!(said, "{from:?} -> {to:?} without a sentence: {edge:?}");
    }
}

/// Something will happen: an operation, an alarm, or a process whose end or readiness is awaited.
fn never_stuck(place: &Place) {
    let node = &place.node;
    let own: BTreeSet<_> = place
        .timers
        .iter()
        .filter(|t| !matches!(t, Timer::Forget(_)))
        .collect();
    let begun = node.state != State::Preflight || !node.ops.is_empty();
    let moves = !node.ops.is_empty()
        || !own.is_empty()
        || node.postmaster.is_some()
        || halted(node)
        // For a person.
        || node.state == State::Fenced(Reason::Operator)
        || !begun;
    assert!(moves, "nothing is awaited: {place:?}");
    if matches!(node.state, State::Stopping(..)) {
        let deadline = place.timers.contains(&Timer::Rung);
        assert!(deadline, "a rung without a deadline: {place:?}");
    }
}

/// Stop from anywhere, while every operation and every process hangs: only deadlines pass.
#[test]
fn a_stop_ends_even_when_everything_hangs() {
    let mut from = BTreeSet::new();
    explore::walk(|edge| {
        if halted(&edge.after.node) {
            return;
        }
        let (mut place, _) = edge.after.hear(&Event::StopSignal(15));
        let mut steps = 0;
        while !halted(&place.node) {
            steps += 1;
            assert!(steps <= 8, "no end in sight: {place:?}");
            (place, _) = place.hear(&Event::Timer(Timer::Rung));
        }
        from.insert(edge.after.node.state.kind());
    });
    let all: BTreeSet<_> = Kind::ALL
        .into_iter()
        .filter(|k| *k != Kind::Halted)
        .collect();
    assert_eq!(from, all, "a stop was not tried from every state");
}

/// The rungs' deadlines together stay below the grace period.
#[test]
fn the_ladder_fits_into_the_grace_period() {
    for seconds in [3, 10, 60, 600] {
        let grace = std::time::Duration::from_secs(seconds);
        let policy = super::Policy::new(grace, std::time::Duration::from_secs(1), None, true);
        let sum: std::time::Duration = policy.rungs.iter().sum();
        assert!(sum <= grace * 9 / 10, "{sum:?} of {grace:?}");
    }
}

/// Every kind of state is reachable, so the table describes the machine and not a wish.
#[test]
fn every_state_is_reached() {
    let mut seen = BTreeSet::from([Kind::Preflight]);
    explore::walk(|edge| {
        seen.insert(edge.after.node.state.kind());
    });
    assert_eq!(seen, Kind::ALL.into_iter().collect());
}

/// Walks one way through the machine: each operation succeeds, each postmaster becomes ready.
fn drive(mut place: Place, until: Kind, plan: crate::plan::BootPlan) -> (Place, Vec<Kind>) {
    let mut path = vec![];
    for _ in 0..60 {
        if path.last() != Some(&place.node.state.kind()) {
            path.push(place.node.state.kind());
        }
        if place.node.state.kind() == until {
            return (place, path);
        }
        let event = if let Some((id, op)) = place.node.ops.first() {
            Event::Done(
                *id,
                match op {
                    Op::Survey => Outcome::Planned(plan),
                    Op::Ask => Outcome::Verdict(crate::plan::authority::Verdict::Open),
                    _ => Outcome::Ok,
                },
            )
        } else if let Some(p) = place.node.postmaster {
            if place.node.state == State::Settle {
                Event::PostmasterExited {
                    launch: p.launch,
                    clean: true,
                    how: String::new(),
                }
            } else {
                Event::Ready(p.launch)
            }
        } else {
            Event::Begin
        };
        (place, _) = place.hear(&event);
    }
    panic!("did not get there: {path:?}");
}

#[test]
fn boots_take_the_way_that_the_contract_names() {
    use crate::plan::BootPlan;
    use Kind::{
        AwaitPrimary, Bootstrap, Clone, Commit, Configure, Decide, Init, Launch, Open, Opening,
        Preflight, Register, Replay, Restore, Scripts, Settle, Survey,
    };
    let plan = |provision, role, bootstrap, register| BootPlan {
        provision,
        role,
        bootstrap,
        register,
    };
    let start = [Preflight, Survey, Configure];
    for (plan, rest) in [
        (
            plan(Provision::Init, Role::Primary, true, true),
            vec![
                Decide, Init, Launch, Bootstrap, Scripts, Register, Settle, Commit, Opening, Open,
            ],
        ),
        (
            plan(Provision::Clone, Role::Standby, false, true),
            vec![AwaitPrimary, Clone, Register, Commit, Opening, Open],
        ),
        (
            plan(Provision::Restore, Role::Primary, true, true),
            vec![
                Decide, Restore, Replay, Bootstrap, Register, Settle, Commit, Opening, Open,
            ],
        ),
        (
            plan(Provision::Adopt, Role::Primary, false, false),
            vec![Decide, Opening, Open],
        ),
        (
            plan(Provision::Adopt, Role::Primary, true, false),
            vec![Decide, Launch, Bootstrap, Settle, Commit, Opening, Open],
        ),
        (
            plan(Provision::Adopt, Role::Standby, false, false),
            vec![Opening, Open],
        ),
        (
            plan(Provision::Init, Role::Witness, true, true),
            vec![
                AwaitPrimary,
                Init,
                Launch,
                Bootstrap,
                Register,
                Settle,
                Commit,
                Opening,
                Open,
            ],
        ),
        (
            plan(Provision::Adopt, Role::Witness, false, false),
            vec![Opening, Open],
        ),
        (
            plan(Provision::Adopt, Role::Witness, true, false),
            vec![Launch, Bootstrap, Settle, Commit, Opening, Open],
        ),
    ] {
        let (_, path) = drive(Place::start(true), Open, plan);
        let want: Vec<Kind> = start.into_iter().chain(rest).collect();
        assert_eq!(path, want);
    }
}

fn open_primary() -> Place {
    let plan = crate::plan::BootPlan {
        provision: crate::plan::Provision::Adopt,
        role: Role::Primary,
        bootstrap: false,
        register: false,
    };
    drive(Place::start(true), Kind::Open, plan).0
}

fn kill_postgres(place: &Place) -> (Place, Vec<Action>) {
    let launch = place.node.postmaster.unwrap().launch;
    place.hear(&Event::PostmasterExited {
        launch,
        clean: false,
        how: "signal 9".into(),
    })
}

#[test]
fn a_crash_is_mended_in_place_until_the_limit() {
    let mut place = open_primary();
    for _ in 0..place.node.policy.crash_limit {
        let (after, _) = kill_postgres(&place);
        assert_eq!(after.node.state.kind(), Kind::Recover);
        let (id, op) = after.node.ops[0];
        assert_eq!(op, Op::Clear);
        let (after, _) = after.hear(&Event::Done(id, Outcome::Ok));
        assert_eq!(after.node.state.kind(), Kind::Opening);
        let launch = after.node.postmaster.unwrap().launch;
        let (after, actions) = after.hear(&Event::Ready(launch));
        assert_eq!(after.node.state.kind(), Kind::Open);
        let started = actions
            .iter()
            .filter(|a| matches!(a, Action::StartDaemon(..)))
            .count();
        assert_eq!(started, 0, "the daemons lived on");
        place = after;
    }
    let (after, _) = kill_postgres(&place);
    assert_eq!(
        after.node.state,
        State::Stopping(super::Rung::Daemons, End::Exit(ExitCode::TRANSIENT))
    );
}

#[test]
fn an_old_crash_is_forgotten() {
    let mut place = open_primary();
    for _ in 0..20 {
        let (after, _) = kill_postgres(&place);
        let forget = *after
            .timers
            .iter()
            .find(|t| matches!(t, Timer::Forget(_)))
            .unwrap();
        let (after, _) = after.hear(&Event::Timer(forget));
        let (id, _) = after.node.ops[0];
        let (after, _) = after.hear(&Event::Done(id, Outcome::Ok));
        let launch = after.node.postmaster.unwrap().launch;
        (place, _) = after.hear(&Event::Ready(launch));
        assert_eq!(place.node.state, State::Open);
    }
}

#[test]
fn a_second_signal_climbs_down_faster_and_names_itself() {
    let (place, _) = open_primary().hear(&Event::StopSignal(15));
    let (place, actions) = place.hear(&Event::StopSignal(2));
    assert!(
        actions
            .iter()
            .any(|a| matches!(a, Action::StopPostmaster(_, Stop::Immediate))),
        "{actions:?}"
    );
    let (place, actions) = place.hear(&Event::StopSignal(2));
    assert!(
        actions
            .iter()
            .any(|a| matches!(a, Action::StopPostmaster(_, Stop::Kill)))
    );
    let launch = place.node.postmaster.unwrap().launch;
    let (place, _) = place.hear(&Event::PostmasterExited {
        launch,
        clean: false,
        how: String::new(),
    });
    let end = place
        .node
        .ops
        .iter()
        .find(|(_, op)| *op == Op::EndAll)
        .unwrap()
        .0;
    let (place, _) = place.hear(&Event::Done(end, Outcome::Ok));
    assert_eq!(place.node.state, State::Halted(ExitCode::signal(2)));
}

#[test]
fn a_stop_that_had_to_be_forced_is_not_called_clean() {
    let (mut place, _) = open_primary().hear(&Event::StopSignal(15));
    while !halted(&place.node) {
        (place, _) = place.hear(&Event::Timer(Timer::Rung));
    }
    assert_eq!(place.node.state, State::Halted(ExitCode::TRANSIENT));
}

#[test]
fn state_machine_document() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/state-machine.md");
    let now = explore::document();
    #[expect(
        clippy::disallowed_methods,
        reason = "a switch of the test, not of the product"
    )]
    let bless = std::env::var_os("BLESS").is_some();
    if bless {
        std::fs::write(path, &now).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        kept == now,
        "docs/state-machine.md is stale: BLESS=1 cargo test --lib state_machine_document"
    );
}

#[path = "person_tests.rs"]
mod person;
#[path = "promotion_tests.rs"]
mod promotion;
