use super::*;
use std::collections::BTreeSet;

const GRACE: Duration = Duration::from_secs(10);

fn events(host: &Host) -> Vec<Event> {
    let id = host.running.map_or(OpId(999), |(id, _)| id);
    let why = || "x".to_owned();
    vec![
        Event::Begin,
        Event::Done(id, Ok(())),
        Event::Done(id, Err(Fault::Transient(why()))),
        Event::Done(id, Err(Fault::NeedsPerson(why()))),
        Event::Done(id, Err(Fault::Config(why()))),
        Event::Done(OpId(0), Ok(())),
        Event::Retry,
        Event::RungOver,
        Event::Gone,
        Event::StopSignal(15),
        Event::ReloadSignal,
    ]
}

/// Without the numbers, which only grow.
fn normal(host: &Host) -> String {
    let op = host.running.map(|(_, op)| op);
    format!("{:?} {op:?} {} {}", host.state, host.again, host.told)
}

/// Every host that events can lead to, with the steps between.
fn walk(mut each: impl FnMut(&Host, &Event, &Host, &[Action])) -> Vec<Host> {
    let mut known = BTreeSet::new();
    let mut open = vec![Host::new(GRACE)];
    let mut all = Vec::new();
    while let Some(host) = open.pop() {
        if !known.insert(normal(&host)) {
            continue;
        }
        for event in events(&host) {
            let (after, actions) = step(host.clone(), event.clone());
            each(&host, &event, &after, &actions);
            open.push(after);
        }
        all.push(host);
    }
    all
}

fn is_halted(host: &Host) -> bool {
    matches!(host.state, State::Halted(_))
}

#[test]
fn every_state_takes_every_event() {
    let all = walk(|before, event, after, actions| {
        let halts = actions.iter().any(|a| matches!(a, Action::Halt(_)));
        assert_eq!(halts, is_halted(after) && !is_halted(before), "{event:?}");
        if is_halted(before) {
            assert_eq!((after, actions.len()), (before, 0), "halted is the end");
        }
        let starts = actions.contains(&Action::Start);
        let entered = before.state == State::Configure && after.state == State::Running;
        assert_eq!(starts, entered, "crond and keepers start once: {event:?}");
        for action in actions {
            if matches!(action, Action::Run(..)) {
                assert!(
                    after.running.is_some(),
                    "an operation that nobody waits for"
                );
            }
        }
    });
    assert!(all.len() > 12, "the walk found too little: {}", all.len());
}

#[test]
fn a_stop_ends_from_everywhere_also_when_nothing_answers() {
    for host in walk(|_, _, _, _| {}) {
        let (mut host, _) = step(host, Event::StopSignal(15));
        let mut spent = Duration::ZERO;
        for _ in 0..3 {
            if let State::Stopping(rung, _) = host.state {
                spent += host.patience(rung);
            }
            (host, _) = step(host, Event::RungOver);
        }
        assert!(is_halted(&host), "{:?}", host.state);
        assert!(spent < GRACE, "{spent:?}");
    }
}

#[test]
fn a_stop_in_order_is_0_and_a_forced_one_is_not() {
    let running = Host {
        state: State::Running,
        ..Host::new(GRACE)
    };
    let (host, actions) = step(running, Event::StopSignal(15));
    assert!(actions.contains(&Action::Stop(Rung::Interrupt)));
    let (after, _) = step(host.clone(), Event::Gone);
    assert_eq!(after.state, State::Halted(ExitCode::STOPPED));
    let (host, _) = step(host, Event::RungOver);
    let (after, _) = step(host.clone(), Event::Gone);
    assert_eq!(after.state, State::Halted(ExitCode::STOPPED));
    let (killed, actions) = step(host.clone(), Event::RungOver);
    assert!(actions.contains(&Action::Stop(Rung::Kill)));
    let (after, _) = step(killed, Event::Gone);
    assert_eq!(after.state, State::Halted(ExitCode::TRANSIENT));
    let (host, actions) = step(host, Event::StopSignal(2));
    assert!(actions.contains(&Action::Stop(Rung::Kill)));
    let (after, _) = step(host, Event::Gone);
    assert_eq!(after.state, State::Halted(ExitCode::signal(2)));
}

#[test]
fn what_passes_by_itself_is_tried_again_and_the_rest_ends_it() {
    let (host, _) = step(Host::new(GRACE), Event::Begin);
    let id = host.running.unwrap().0;
    let fault = Fault::Transient("busy".into());
    let (waits, actions) = step(host.clone(), Event::Done(id, Err(fault)));
    assert!(actions.contains(&Action::ArmRetry(RETRY)));
    let (again, actions) = step(waits, Event::Retry);
    assert!(matches!(
        actions.as_slice(),
        [Action::Run(_, Op::Preflight)]
    ));
    assert_ne!(again.running.unwrap().0, id);
    let fault = Fault::NeedsPerson("no barman".into());
    let (host, _) = step(host, Event::Done(id, Err(fault)));
    let (host, _) = step(host, Event::Gone);
    assert_eq!(host.state, State::Halted(ExitCode::NEEDS_PERSON));
}

#[test]
fn a_reload_during_a_reload_is_not_lost() {
    let running = Host {
        state: State::Running,
        ..Host::new(GRACE)
    };
    let (host, _) = step(running, Event::ReloadSignal);
    let (host, actions) = step(host, Event::ReloadSignal);
    assert_eq!(actions, []);
    let id = host.running.unwrap().0;
    let (host, actions) = step(host, Event::Done(id, Ok(())));
    assert!(actions.contains(&Action::Refresh));
    assert!(host.running.is_some_and(|(next, _)| next != id));
}

/// The host's part of `docs/state-machine.md`.
pub(in crate::fsm) fn document() -> String {
    use std::fmt::Write as _;
    let mut text = String::from(
        "\n## A barman host\n\nA container with `PGNODE_ROLE=barman` has a machine of its own (`src/fsm/host.rs`). Beside a witness \
         (`barman,witness`)\nthe keepers run from its `configure` on and stop with it.\n\n\
         | state | what the host does |\n| --- | --- |\n",
    );
    for kind in Kind::ALL {
        writeln!(text, "| `{}` | {} |", kind.name(), kind.sentence()).unwrap();
    }
    text.push_str("\n| from | to | because |\n| --- | --- | --- |\n");
    let mut seen = BTreeSet::new();
    walk(|_, _, _, actions| {
        for action in actions {
            if let Action::Enter(from, to, why) = action {
                seen.insert((*from, *to, *why));
            }
        }
    });
    for (from, to, why) in seen {
        writeln!(text, "| `{}` | `{}` | {why} |", from.name(), to.name()).unwrap();
    }
    text
}
