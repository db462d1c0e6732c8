use super::*;
use proptest::prelude::*;

const FORK: Lsn = Lsn(0x0300_37C8);

fn history(timeline: u32, past: &[(u32, u64)]) -> History {
    let switch = |(timeline, end): &(u32, u64)| Switch {
        timeline: Timeline(*timeline),
        end: Lsn(*end),
    };
    History {
        past: past.iter().map(switch).collect(),
        timeline: Timeline(timeline),
    }
}

fn ours(left: Left, checkpoint: u64, end: Option<u64>) -> Ours {
    Ours {
        system_id: SystemId(7),
        history: Some(history(1, &[])),
        left,
        checkpoint: Lsn(checkpoint),
        replayed: Lsn(0),
        end: end.map(Lsn),
        hints: true,
        in_place: false,
    }
}

fn theirs() -> Theirs {
    Theirs {
        system_id: SystemId(7),
        history: Some(history(2, &[(1, FORK.0)])),
        lacking: vec![],
        has_segment: true,
    }
}

fn kind(course: &Course) -> &'static str {
    match course {
        Course::Follow => "follow",
        Course::Rewind(_) => "rewind",
        Course::Finish(_) => "finish",
        Course::Clone(..) => "clone",
        Course::Refuse(_) => "refuse",
    }
}

#[test]
fn a_history_file_is_read() {
    let text = "1\t0/30037C8\tno recovery target specified\n\n# x\n2\t0/5000000\tbefore 2026\n";
    assert_eq!(
        History::parse(Timeline(3), text),
        Ok(history(3, &[(1, FORK.0), (2, 0x0500_0000)]))
    );
    assert_eq!(History::parse(Timeline(1), ""), Ok(history(1, &[])));
    for bad in ["x\t0/1", "1", "1\tx", "2\t0/1\n1\t0/2", "3\t0/1"] {
        assert!(History::parse(Timeline(3), bad).is_err(), "{bad}");
    }
}

#[test]
fn where_histories_part() {
    let fork = |timeline, lsn| {
        Some(Fork {
            timeline: Timeline(timeline),
            lsn: Lsn(lsn),
        })
    };
    for (case, a, b, want) in [
        (
            "one promotion",
            history(1, &[]),
            history(2, &[(1, 50)]),
            fork(1, 50),
        ),
        (
            "two promotions in a row",
            history(1, &[]),
            history(3, &[(1, 50), (2, 80)]),
            fork(1, 50),
        ),
        (
            "we were promoted before",
            history(2, &[(1, 50)]),
            history(3, &[(1, 50), (2, 80)]),
            fork(2, 80),
        ),
        (
            "both were promoted from 1, the other one later",
            history(2, &[(1, 50)]),
            history(3, &[(1, 70)]),
            fork(1, 50),
        ),
        (
            "both took the number 2, at different places",
            history(2, &[(1, 50)]),
            history(3, &[(1, 60), (2, 80)]),
            fork(1, 50),
        ),
        (
            "the same",
            history(2, &[(1, 50)]),
            history(2, &[(1, 50)]),
            None,
        ),
        ("strangers", history(2, &[]), history(3, &[(1, 50)]), None),
    ] {
        assert_eq!(a.fork(&b), want, "{case}");
        assert_eq!(b.fork(&a), want, "{case}, the other way round");
    }
}

#[test]
fn the_table_of_courses() {
    use Left::{Crashed, Standby, StandbyCrashed, Stopped};
    let at = FORK.0;
    for (case, ours, want) in [
        (
            "all of its WAL had been sent",
            ours(Stopped, at - 120, None),
            "follow",
        ),
        (
            "its checkpoint had not been sent",
            ours(Stopped, at, Some(at + 120)),
            "rewind",
        ),
        (
            "it wrote on",
            ours(Stopped, at + 9000, Some(at + 9120)),
            "rewind",
        ),
        (
            "crashed, all sent",
            ours(Crashed, at - 9000, Some(at)),
            "follow",
        ),
        (
            "crashed, some of it lost",
            ours(Crashed, at - 9000, Some(at - 50)),
            "follow",
        ),
        (
            "crashed, wrote on",
            ours(Crashed, at - 9000, Some(at + 1)),
            "rewind",
        ),
        (
            "crashed after a checkpoint past it",
            ours(Crashed, at, None),
            "rewind",
        ),
        (
            "crashed, nobody knows where",
            ours(Crashed, at - 9000, None),
            "rewind",
        ),
        (
            "a standby behind the fork",
            ours(Standby, at - 9000, None),
            "follow",
        ),
        (
            "a standby that received more",
            ours(Standby, at - 9000, Some(at + 8)),
            "rewind",
        ),
        (
            "the same, crashed",
            ours(StandbyCrashed, at - 9000, Some(at + 8)),
            "clone",
        ),
        (
            "crashed behind the fork",
            ours(StandbyCrashed, at - 9000, Some(at)),
            "follow",
        ),
    ] {
        assert_eq!(kind(&course(&ours, &theirs())), want, "{case}");
    }
    let mut replayed = ours(Standby, at - 9000, None);
    replayed.replayed = Lsn(at);
    assert_eq!(kind(&course(&replayed, &theirs())), "follow");
    replayed.replayed = Lsn(at + 1);
    assert_eq!(kind(&course(&replayed, &theirs())), "rewind");
}

#[test]
fn what_stands_in_the_way_of_a_rewind() {
    let diverged = || ours(Left::Stopped, FORK.0 + 9000, Some(FORK.0 + 9120));
    let with = |change: fn(&mut Ours, &mut Theirs)| {
        let (mut ours, mut theirs) = (diverged(), theirs());
        change(&mut ours, &mut theirs);
        course(&ours, &theirs)
    };
    let Course::Rewind(lost) = with(|_, _| {}) else {
        panic!("no rewind")
    };
    assert_eq!((lost.fork.lsn, lost.bytes()), (FORK, Some(9120)));
    for (word, got) in [
        ("checksums", with(|o, _| o.hints = false)),
        ("mount point", with(|o, _| o.in_place = true)),
        ("no longer has", with(|_, t| t.has_segment = false)),
        (
            "pg_read_x",
            with(|_, t| t.lacking = vec!["pg_read_x".into()]),
        ),
    ] {
        let Course::Clone(why, Some(lost)) = got else {
            panic!("{word}: {got:?}")
        };
        assert!(why.contains(word), "{why}");
        assert_eq!(lost.bytes(), Some(9120), "{word}: still reported");
    }
    for (word, got) in [
        ("own", with(|o, _| o.history = None)),
        ("new primary's", with(|_, t| t.history = None)),
        (
            "nothing in common",
            with(|o, _| o.history = Some(history(1, &[(0, 5)]))),
        ),
    ] {
        let Course::Clone(why, None) = got else {
            panic!("{word}: {got:?}")
        };
        assert!(why.contains(word), "{why}");
    }
    for got in [
        with(|_, t| t.system_id = SystemId(8)),
        with(|_, t| t.history = Some(history(1, &[]))),
        with(|o, _| o.history = Some(history(2, &[(1, FORK.0)]))),
        with(|o, _| o.history = Some(history(3, &[(1, 5)]))),
    ] {
        assert_eq!(kind(&got), "refuse", "{got:?}");
    }
    // Only a rewind needs the rights; following and cloning do not.
    let mut follows = theirs();
    follows.lacking = vec!["x".into()];
    assert_eq!(
        course(&ours(Left::Stopped, 5, None), &follows),
        Course::Follow
    );
    follows.has_segment = false;
    assert_eq!(
        kind(&course(&ours(Left::Stopped, 5, None), &follows)),
        "clone"
    );
}

#[test]
fn an_interrupted_rewind_is_taken_up_or_given_up() {
    let unfinished = |phase, tries| Unfinished {
        phase,
        tries,
        system_id: SystemId(7),
        timeline: Timeline(1),
        fork: Fork {
            timeline: Timeline(1),
            lsn: FORK,
        },
        end: Some(Lsn(FORK.0 + 80)),
        source: Timeline(2),
        inode: 1,
    };
    let fine = theirs;
    let other = || Theirs {
        history: Some(history(3, &[(1, FORK.0)])),
        ..theirs()
    };
    let lacking = || Theirs {
        lacking: vec!["x".into()],
        ..theirs()
    };
    let gone = || Theirs {
        has_segment: false,
        ..theirs()
    };
    let stranger = || Theirs {
        system_id: SystemId(8),
        ..theirs()
    };
    use Phase::{Begun, Rewound};
    for (phase, tries, rewritten, theirs, want) in [
        (Begun, 1, Some(false), fine(), "rewind"),
        (Begun, TRIES, Some(false), fine(), "clone"),
        (Begun, 1, Some(true), fine(), "clone"),
        (Begun, 1, None, fine(), "clone"),
        (Begun, 1, Some(false), other(), "clone"),
        (Begun, 1, Some(false), lacking(), "clone"),
        (Begun, 1, Some(false), gone(), "clone"),
        (Begun, 1, Some(false), stranger(), "refuse"),
        (Rewound, 1, Some(true), fine(), "finish"),
        (Rewound, TRIES, None, other(), "finish"),
        (Rewound, 1, Some(true), stranger(), "refuse"),
    ] {
        let got = resume(&unfinished(phase, tries), rewritten, &theirs);
        assert_eq!(
            kind(&got),
            want,
            "{phase:?} {tries} {rewritten:?} {theirs:?}"
        );
    }
}

#[test]
fn a_standby_that_cannot_follow() {
    let primary = history(3, &[(1, 50), (2, 80)]);
    for (timeline, position, want) in [
        (1, 50, false),
        (1, 51, true),
        (2, 80, false),
        (2, 81, true),
        (3, 999, false),
        (4, 1, false),
    ] {
        let got = diverged(Timeline(timeline), Lsn(position), &primary);
        assert_eq!(got, want, "{timeline} {position}");
    }
    // Both were promoted: our timeline is not in its past.
    assert!(diverged(Timeline(2), Lsn(1), &history(3, &[(1, 50)])));
}

fn any_history() -> impl Strategy<Value = History> {
    proptest::collection::vec((1_u32..3, 1_u64..100), 0..4).prop_map(|steps| {
        let (mut timeline, mut at, mut past) = (1, 0, vec![]);
        for (more, on) in steps {
            at += on;
            past.push((timeline, at));
            timeline += more;
        }
        history(timeline, &past)
    })
}

proptest! {
    /// Nothing past the fork is ever followed, and nothing is thrown away without cause.
    #[test]
    fn follow_means_nothing_is_lost(
        old in any_history(),
        new in any_history(),
        left in prop_oneof![Just(Left::Stopped), Just(Left::Crashed), Just(Left::Standby)],
        checkpoint in 0_u64..500,
        more in proptest::option::of(0_u64..50),
        has_segment: bool,
    ) {
        let ours = Ours {
            history: Some(old.clone()),
            left,
            checkpoint: Lsn(checkpoint),
            replayed: Lsn(checkpoint),
            end: more.map(|m| Lsn(checkpoint + m)),
            ..ours(left, 0, None)
        };
        let theirs = Theirs { history: Some(new.clone()), has_segment, ..theirs() };
        match course(&ours, &theirs) {
            Course::Follow if old == new => {
                prop_assert!(left == Left::Standby && has_segment);
            }
            Course::Follow => {
                let fork = old.fork(&new).unwrap();
                prop_assert_eq!(fork.timeline, old.timeline, "our timeline is in its past");
                prop_assert!(checkpoint <= fork.lsn.0);
                prop_assert!(left == Left::Standby || checkpoint < fork.lsn.0);
                if left != Left::Stopped {
                    prop_assert!(ours.end.is_none_or(|end| end <= fork.lsn));
                }
                prop_assert!(has_segment);
            }
            Course::Rewind(lost) => {
                prop_assert_eq!(Some(lost.fork), old.fork(&new));
                prop_assert!(has_segment && new.timeline > old.timeline);
            }
            Course::Finish(_) => prop_assert!(false, "nothing was begun"),
            Course::Clone(..) if old == new => {
                prop_assert!(left == Left::Standby && !has_segment);
            }
            Course::Clone(..) => prop_assert!(new.timeline > old.timeline),
            Course::Refuse(_) => prop_assert!(new.timeline <= old.timeline),
        }
    }
}

#[test]
fn on_one_timeline_only_a_standby_follows() {
    let mut theirs = theirs();
    for (left, want) in [
        (Left::Stopped, "refuse"),
        (Left::Crashed, "refuse"),
        (Left::Standby, "follow"),
        (Left::StandbyCrashed, "follow"),
    ] {
        let mut ours = ours(left, FORK.0 + 100, None);
        ours.history = theirs.history.clone();
        ours.replayed = Lsn(FORK.0 + 200);
        assert_eq!(kind(&course(&ours, &theirs)), want, "{left:?}");
        // The number alone is not enough.
        ours.history = Some(history(2, &[(1, FORK.0 - 8)]));
        assert_eq!(kind(&course(&ours, &theirs)), "refuse", "{left:?}");
    }
    theirs.history = Some(history(1, &[]));
    let mut later = ours(Left::Standby, FORK.0, None);
    later.history = Some(history(2, &[(1, FORK.0)]));
    assert_eq!(kind(&course(&later, &theirs)), "refuse");
}
