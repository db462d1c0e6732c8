//! What a promotion leaves that does not come to its end: data that only a survey can judge.

use super::*;
use crate::fsm::Rung;
use crate::plan::BootPlan;

fn open_standby() -> Place {
    let plan = BootPlan {
        provision: Provision::Adopt,
        role: Role::Standby,
        bootstrap: false,
        register: false,
    };
    drive(Place::start(true), Kind::Open, plan).0
}

fn promoting() -> (Place, Event) {
    let (place, actions) = open_standby().hear(&Event::Elected);
    let promotion = actions.iter().find_map(|a| match a {
        Action::Run(id, Op::Promote) => Some(*id),
        _ => None,
    });
    let failed = Fault::Transient("the server closed the connection".into());
    let failed = Event::Done(promotion.unwrap(), Outcome::Failed(failed));
    (place, failed)
}

/// However it is cut short, no postmaster is started on what it left before the disk was looked at.
#[test]
fn a_promotion_that_is_cut_short_leads_to_a_survey() {
    let (place, failed) = promoting();
    let launch = place.node.postmaster.unwrap().launch;
    let died = Event::PostmasterExited {
        launch,
        clean: false,
        how: "signal 9".into(),
    };
    let lost = Event::LeaseLost(Reason::Frozen { ms: 9000 });
    for event in [failed, died.clone(), lost] {
        let (mut next, actions) = place.hear(&event);
        let closing = matches!(&next.node.state, State::Stopping(rung, End::Fence(_)) if *rung >= Rung::Immediate);
        assert!(closing, "{event:?}: {:?}", next.node.state);
        assert!(!launches(&actions), "{event:?}");
        if next.node.postmaster.is_some() {
            (next, _) = next.hear(&died);
        }
        let (id, op) = next.node.ops[0];
        assert_eq!(op, Op::Clear, "{event:?}");
        let (next, actions) = next.hear(&Event::Done(id, Outcome::Ok));
        assert_eq!(next.node.state, State::Survey, "{event:?}");
        assert_eq!(next.node.plan, None, "{event:?}");
        assert!(!launches(&actions), "{event:?}");
    }
}

fn launches(actions: &[Action]) -> bool {
    actions.iter().any(|a| matches!(a, Action::Launch(..)))
}

/// One that fails again and again ends the node: not for ever an election and a failure.
#[test]
fn promotions_that_fail_are_counted() {
    let (mut place, failed) = promoting();
    place.node.crashes = place.node.policy.crash_limit;
    let (next, _) = place.hear(&failed);
    let ends = State::Stopping(Rung::Daemons, End::Exit(ExitCode::TRANSIENT));
    assert_eq!(next.node.state, ends);
}
