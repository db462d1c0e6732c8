//! What a person decides.

use super::*;
use crate::fsm::Rung;

/// Closed by a person: nothing that is heard opens it, and only the lifted fence leads on.
#[test]
fn only_a_person_ends_a_persons_fence() {
    let fenced = State::Fenced(Reason::Operator);
    let (mut place, _) = open_primary().hear(&Event::Fence);
    let fast = State::Stopping(Rung::Fast, End::Fence(Reason::Operator));
    assert_eq!(place.node.state, fast, "the last of the WAL is sent");
    let (hurried, _) = place.hear(&Event::LeaseLost(Reason::LaterTerm { term: 2 }));
    let at_once = State::Stopping(Rung::Immediate, End::Fence(Reason::Operator));
    assert_eq!(hurried.node.state, at_once);
    (place, _) = kill_postgres(&place);
    let (id, op) = place.node.ops[0];
    assert_eq!(op, Op::Clear);
    (place, _) = place.hear(&Event::Done(id, Outcome::Ok));
    assert_eq!(place.node.state, fenced);
    for event in place.events() {
        let (next, _) = place.hear(&event);
        let ends = matches!(event, Event::Unfence | Event::StopSignal(_));
        assert_eq!(next.node.state == fenced, !ends, "{event:?}");
    }
    let (next, actions) = place.hear(&Event::Unfence);
    assert_eq!(next.node.state, State::Survey);
    let surveys = |a: &Action| matches!(a, Action::Run(_, Op::Survey));
    assert!(actions.iter().any(surveys), "{actions:?}");
}

/// A person's word goes where too few agree, and nowhere else; a nudge asks at once.
#[test]
fn a_fenced_primary_is_overruled_only_where_nobody_contradicts() {
    let not = Reason::NotElected { why: "x".into() };
    let other = Reason::OtherPrimary {
        peer: "x".into(),
        timeline: None,
    };
    for (reason, want) in [
        (not, Kind::Demote),
        (other, Kind::Fenced),
        (Reason::Operator, Kind::Fenced),
    ] {
        let mut place = open_primary();
        place.node.postmaster = None;
        place.node.state = State::Fenced(reason.clone());
        place.node.ops.clear();
        let (next, _) = place.hear(&Event::Elected);
        assert_eq!(next.node.state.kind(), want, "{reason}");
        let (_, actions) = place.hear(&Event::Nudge);
        let asks = actions.iter().any(|a| matches!(a, Action::Run(_, Op::Ask)));
        assert_eq!(asks, reason.is_asked_again(), "{reason}");
    }
}
