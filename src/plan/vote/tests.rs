//! Tables for single rules; the whole is proven by the simulation (`tests/simulation`).

use super::*;
use crate::domain::{Lsn, NodeId, NodeName, SystemId, Timeline};
use crate::plan::Member;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn member(id: i32) -> Member {
    Member {
        node_id: NodeId(id),
        name: NodeName(format!("pg{id}")),
        host: format!("pg{id}"),
        port: 5432,
    }
}

fn roster(ids: impl IntoIterator<Item = i32>, term: u64) -> Roster {
    Roster {
        version: Version {
            term: Term(term),
            change: 0,
        },
        voters: ids.into_iter().map(member).collect(),
    }
}

const NOW: Moment = Moment(1_000_000);

fn at(term: u64, timeline: u32, lsn: u64) -> Position {
    Position {
        term: Term(term),
        timeline: Timeline(timeline),
        lsn: Lsn(lsn),
    }
}

/// Node `id` of three, in a term that node 1 was elected in, long after its start.
fn voter(id: i32) -> Voter {
    let ballot = Ballot {
        term: Term(3),
        granted: Some(NodeId(1)),
        won: if id == 1 { Term(3) } else { Term(0) },
        roster: roster(1..=3, 3),
        ..Ballot::default()
    };
    let timing = Timing::of(Profile::Fast);
    Voter::new(NodeId(id), timing, ballot, Moment(0), 7)
}

fn standing(holds: Holds) -> Standing {
    Standing {
        system_id: SystemId(1),
        holds,
        primary: false,
    }
}

fn ask(voter: &mut Voter, now: Moment, from: i32, question: Question, ours: Standing) -> Answer {
    let letter = Letter {
        system_id: SystemId(1),
        from: NodeId(from),
        question,
    };
    voter.answer(now, &letter, &ours).answer
}

fn case(term: u64, position: Position) -> Candidacy {
    Candidacy {
        term: Term(term),
        roster: roster([], 3).version,
        position,
        attempt: 0,
        promise_ms: 1900,
    }
}

#[test]
fn a_grant_is_refused_for_each_reason() {
    let ours = standing(Holds::Upto(at(3, 2, 100)));
    let good = case(4, at(3, 2, 100));
    let primary = Standing {
        primary: true,
        ..ours
    };
    let old = Candidacy {
        roster: roster([], 2).version,
        ..good
    };
    let grant = |from, case, ours| ask(&mut voter(2), NOW, from, Question::Grant(case), ours);
    assert_eq!(grant(3, good, ours), Answer::No(Refusal::Better));
    let again = Candidacy { attempt: 3, ..good };
    assert_eq!(grant(3, again, ours), Answer::Yes);
    assert_eq!(grant(1, good, ours), Answer::Yes);
    assert_eq!(grant(9, good, ours), Answer::No(Refusal::Stranger));
    assert!(matches!(
        grant(1, old, ours),
        Answer::No(Refusal::OldRoster { .. })
    ));
    assert!(matches!(
        grant(3, case(3, at(3, 2, 100)), ours),
        Answer::No(Refusal::LaterTerm { .. })
    ));
    assert_eq!(grant(1, good, primary), Answer::No(Refusal::Primary));
    let unknown = standing(Holds::Unknown);
    assert_eq!(grant(1, good, unknown), Answer::No(Refusal::NoPosition));
    // A later term's WAL, whatever its timeline and length.
    let position = at(4, 1, 1);
    let ahead = standing(Holds::Upto(position));
    let refused = Answer::No(Refusal::HoldsMore { position });
    assert_eq!(grant(1, good, ahead), refused);
}

#[test]
fn a_promise_lasts_and_a_start_counts_as_one() {
    let mut promised = voter(2);
    let ours = standing(Holds::Nothing);
    let beat = voter(1).beat(NOW, true);
    assert_eq!(ask(&mut promised, NOW, 1, beat, ours), Answer::Yes);
    let grant = Question::Grant(case(4, at(3, 1, 1)));
    let end = promised.timing().promise;
    let before = Moment(NOW.after(end).0 - 1);
    let early = ask(&mut promised, before, 3, grant.clone(), ours);
    assert!(matches!(early, Answer::No(Refusal::Promised { .. })));
    let late = ask(&mut promised, NOW.after(end), 3, grant.clone(), ours);
    assert_eq!(late, Answer::Yes);
    let fresh = ask(&mut voter(2), Moment(1), 3, grant, ours);
    assert!(matches!(
        fresh,
        Answer::No(Refusal::Promised { to: None, .. })
    ));
}

#[test]
fn the_loser_of_a_term_accepts_its_winner() {
    let mut loser = voter(2);
    let _ = loser.stand(NOW, at(3, 1, 1), Term(3), 0);
    assert_eq!(loser.ballot().term, Term(4));
    let mut winner = voter(3);
    let question = winner.stand(NOW, at(3, 1, 1), Term(3), 0);
    assert!(question.is_some());
    let yes = Reply {
        from: NodeId(1),
        term: Term(4),
        roster: roster([], 3).version,
        ticket: 1,
        answer: Answer::Yes,
    };
    assert_eq!(winner.elected(NOW, &[yes]), Count::Won);
    let beat = winner.beat(NOW, false);
    let ours = standing(Holds::Nothing);
    assert_eq!(ask(&mut loser, NOW, 3, beat, ours), Answer::Yes);
}

#[test]
fn a_blank_voter_is_let_in_by_a_lease_only() {
    let timing = Timing::of(Profile::Fast);
    let mut blank = Voter::new(NodeId(2), timing, Ballot::default(), Moment(0), 7);
    let mut primary = voter(1);
    let ours = standing(Holds::Nothing);
    let letter = |question| Letter {
        system_id: SystemId(1),
        from: NodeId(1),
        question,
    };
    let refused = blank.answer(NOW, &letter(primary.beat(NOW, false)), &ours);
    assert_eq!(refused.answer, Answer::No(Refusal::Blank));
    primary.heard_back(NOW, &refused);
    let still = blank.answer(NOW, &letter(primary.beat(NOW, false)), &ours);
    assert_eq!(still.answer, Answer::No(Refusal::Blank));
    let third = voter(3).answer(NOW, &letter(primary.beat(NOW, false)), &ours);
    primary.heard_back(NOW, &third);
    let taken = blank.answer(NOW, &letter(primary.beat(NOW, true)), &ours);
    assert_eq!(taken.answer, Answer::Yes);
}

#[test]
fn an_old_primary_that_learns_a_later_roster_leads_no_more() {
    let mut old = voter(1);
    assert!(old.ballot().leads());
    let refusal = Reply {
        from: NodeId(2),
        term: Term(5),
        roster: roster([], 5).version,
        ticket: 1,
        answer: Answer::No(Refusal::OldRoster {
            roster: roster(1..=2, 5),
            former: None,
        }),
    };
    let _ = old.count(&[refusal]);
    assert_eq!(old.ballot().roster, roster(1..=2, 5));
    assert!(!old.ballot().leads());
    assert_eq!(old.lease(), Lease::None);
}

#[test]
fn answers_from_before_the_closing_earn_nothing() {
    let mut primary = voter(1);
    let ours = standing(Holds::Nothing);
    let letter = Letter {
        system_id: SystemId(1),
        from: NodeId(1),
        question: primary.beat(NOW, true),
    };
    let reply = voter(2).answer(NOW, &letter, &ours);
    primary.closed(Moment(NOW.0 + 5));
    primary.heard_back(NOW, &reply);
    assert_eq!(primary.lease(), Lease::None);
}

/// One of three that a person puts in the place of the two others, which do not answer.
#[test]
fn who_seizes_the_term_goes_on_alone_and_takes_the_others_in_again() {
    let all = [1, 2, 3].map(member);
    let roster = Roster {
        version: Version {
            term: Term(1),
            change: 2,
        },
        voters: all.to_vec(),
    };
    let ballot = Ballot {
        term: Term(1),
        granted: Some(NodeId(1)),
        roster,
        ..Ballot::default()
    };
    let now = Moment(1_000_000);
    let voter = || {
        Voter::new(
            NodeId(2),
            Timing::of(Profile::Default),
            ballot.clone(),
            now,
            0,
        )
    };
    let mut usurper = voter();
    usurper.usurp(&[], Term(4));
    assert_eq!(usurper.lease(), Lease::None, "the others count");
    let mut seizer = voter();
    seizer.seize(&member(2), Term(4));
    assert_eq!(seizer.lease(), Lease::Unlimited);
    assert!(seizer.ballot().leads());
    let term = seizer.ballot().term;
    assert!(term >= Term(4), "no earlier than its timeline: {term}");
    // The others count again once they answer.
    seizer.enrol(now, &all);
    assert_eq!(seizer.ballot().roster.voters, [member(2)]);
    seizer.heard_back(
        now,
        &Reply {
            from: NodeId(3),
            term,
            roster: seizer.ballot().roster.version,
            ticket: 1,
            answer: Answer::Yes,
        },
    );
    seizer.enrol(now, &all);
    assert_eq!(seizer.ballot().roster.voters, [member(2), member(3)]);
    assert_eq!(seizer.lease(), Lease::Unlimited);
}

#[test]
fn the_profiles_fit_together() {
    for profile in [Profile::Fast, Profile::Default, Profile::Cautious] {
        assert_eq!(Timing::of(profile).check(), Ok(()));
    }
}

proptest! {
    #[test]
    fn majorities_of_neighbouring_rosters_meet(
        n in 1_i32..9, target in prop::collection::btree_set(1_i32..10, 1..9), a: u16, b: u16,
    ) {
        let now = roster(1..=n, 1);
        let registered: Vec<Member> = target.into_iter().map(member).collect();
        if let Some(next) = now.towards(&registered, NodeId(1), Term(1)) {
            let chosen = |r: &Roster, bits: u16| -> BTreeSet<NodeId> {
                let of = r.voters.iter().map(|v| v.node_id);
                of.filter(|id| bits >> id.0 & 1 == 1).collect()
            };
            let (ours, theirs) = (chosen(&now, a), chosen(&next, b));
            let both = now.count(&ours) >= now.majority() && next.count(&theirs) >= next.majority();
            prop_assert!(!both || !ours.is_disjoint(&theirs));
            prop_assert!(next.version > now.version);
        }
        // Those that do not answer could not elect.
        let silent = now.voters.len() - 1 - now.needs_others();
        prop_assert!(silent < now.majority());
    }
}
