use super::*;
use crate::domain::{Exposure, NodeId, NodeName, PeerReport};
use proptest::prelude::*;

fn claim(members: usize) -> Claim {
    Claim {
        system_id: SystemId(7),
        timeline: Timeline(3),
        lsn: Lsn(1000),
        members,
    }
}

fn report(role: Role, exposure: Exposure, timeline: u32, lsn: u64) -> PeerReport {
    PeerReport {
        node: NodeName("pg2".into()),
        node_id: NodeId(2),
        state: "open".into(),
        role: Some(role),
        exposure,
        system_id: Some(SystemId(7)),
        timeline: Some(Timeline(timeline)),
        lsn: Some(Lsn(lsn)),
    }
}

fn said(report: PeerReport) -> Peer {
    Peer {
        address: "pg2:5432".into(),
        answer: Answer::Report(report),
    }
}

fn silent_peer() -> Peer {
    Peer {
        address: "pg3:5432".into(),
        answer: Answer::Silent("timed out".into()),
    }
}

fn kind(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Open => "open",
        Verdict::Elected => "elected",
        Verdict::Closed(Reason::OtherPrimary { .. }) => "other primary",
        Verdict::Closed(Reason::Superseded { .. }) => "superseded",
        Verdict::Closed(Reason::NoSource { .. }) => "no source",
        Verdict::Closed(Reason::LaterTimeline { .. }) => "later timeline",
        Verdict::Closed(Reason::Rival { .. }) => "rival",
        Verdict::Closed(Reason::ClusterExists { .. }) => "exists",
        Verdict::Closed(Reason::TooFewReached { .. }) => "too few",
        Verdict::Closed(Reason::LaterTerm { .. }) => "later term",
        Verdict::Closed(Reason::NotElected { .. }) => "not elected",
        Verdict::Closed(Reason::Frozen { .. }) => "frozen",
        Verdict::Closed(Reason::Operator) => "operator",
        Verdict::Closed(Reason::RestoreBeside { .. }) => "restore-beside",
    }
}

#[test]
fn the_table_of_cases() {
    use Exposure::{Closed, Consumer, Technical};
    use Role::{Primary, Standby};
    let standby = || said(report(Standby, Consumer, 3, 1000));
    let foreign = || {
        let mut r = report(Primary, Consumer, 9, 9000);
        r.system_id = Some(SystemId(8));
        said(r)
    };
    let nameless = || {
        let mut r = report(Primary, Consumer, 4, 1);
        r.system_id = None;
        said(r)
    };
    let blank = || {
        let mut r = report(Standby, Closed, 1, 0);
        (r.system_id, r.role, r.timeline, r.lsn) = (None, None, None, None);
        said(r)
    };
    // It shows the cluster that it votes in, and nothing of its own database.
    let witness = || {
        let mut r = report(Role::Witness, Consumer, 1, 0);
        (r.timeline, r.lsn) = (None, None);
        said(r)
    };
    for (case, members, peers, want) in [
        ("alone", 1, vec![], "open"),
        ("alone of two may run", 2, vec![silent_peer()], "open"),
        ("two, standby answers", 2, vec![standby()], "open"),
        (
            "three, one answers",
            3,
            vec![standby(), silent_peer()],
            "open",
        ),
        (
            "three, nobody answers",
            3,
            vec![silent_peer(), silent_peer()],
            "too few",
        ),
        (
            "four, one answers",
            4,
            vec![standby(), silent_peer(), silent_peer()],
            "open",
        ),
        ("four, nobody answers", 4, vec![silent_peer(); 3], "too few"),
        (
            "five, one answers",
            5,
            vec![standby(), silent_peer(), silent_peer()],
            "too few",
        ),
        (
            "five, two answer",
            5,
            vec![standby(), standby(), silent_peer()],
            "open",
        ),
        (
            "registered, yet no setting names them",
            3,
            vec![],
            "too few",
        ),
        (
            "another open primary",
            2,
            vec![said(report(Primary, Consumer, 3, 1))],
            "other primary",
        ),
        (
            "even on an older timeline",
            2,
            vec![said(report(Primary, Consumer, 2, 1))],
            "other primary",
        ),
        (
            "a closed old primary",
            2,
            vec![said(report(Primary, Closed, 2, 9000))],
            "open",
        ),
        (
            "a closed newer primary",
            2,
            vec![said(report(Primary, Technical, 4, 1))],
            "later timeline",
        ),
        (
            "a standby that followed somebody else",
            2,
            vec![said(report(Standby, Consumer, 4, 1))],
            "later timeline",
        ),
        (
            "a rival with more WAL",
            2,
            vec![said(report(Primary, Closed, 3, 2000))],
            "rival",
        ),
        (
            "a rival with the same WAL",
            2,
            vec![said(report(Primary, Closed, 3, 1000))],
            "rival",
        ),
        (
            "a rival with less WAL",
            2,
            vec![said(report(Primary, Closed, 3, 999))],
            "open",
        ),
        (
            "a standby with more WAL than our checkpoint",
            2,
            vec![said(report(Standby, Closed, 3, 5000))],
            "open",
        ),
        (
            "another cluster's primary is no member",
            2,
            vec![foreign()],
            "open",
        ),
        (
            "nor does it stand in for a silent one",
            3,
            vec![foreign(), silent_peer()],
            "too few",
        ),
        (
            "a witness is no rival, however far its own little WAL goes",
            3,
            vec![said(report(Role::Witness, Consumer, 3, 9000))],
            "open",
        ),
        (
            "a witness that is open is a vote and no primary",
            3,
            vec![witness(), silent_peer()],
            "open",
        ),
        (
            "a node that is being made counts as reached",
            3,
            vec![blank(), silent_peer()],
            "open",
        ),
        (
            "the conflict is found behind a good answer",
            3,
            vec![standby(), said(report(Primary, Consumer, 3, 1))],
            "other primary",
        ),
        (
            "somebody was promoted and is open",
            2,
            vec![said(report(Primary, Consumer, 4, 1))],
            "superseded",
        ),
        (
            "behind a standby that already follows it",
            3,
            vec![
                said(report(Standby, Consumer, 4, 1)),
                said(report(Primary, Consumer, 4, 1)),
            ],
            "superseded",
        ),
        (
            "two were promoted: for a person",
            3,
            vec![
                said(report(Primary, Consumer, 4, 1)),
                said(report(Primary, Consumer, 5, 1)),
            ],
            "other primary",
        ),
        (
            "it does not say of which cluster",
            2,
            vec![nameless()],
            "other primary",
        ),
    ] {
        let verdict = may_open(&claim(members), &peers);
        assert_eq!(kind(&verdict), want, "{case}: {verdict:?}");
    }
}

#[test]
fn data_that_must_be_brought_up_to_date_never_open() {
    use Exposure::{Closed, Consumer};
    for (peers, want) in [
        (vec![], "no source"),
        (vec![silent_peer()], "no source"),
        (vec![said(report(Role::Primary, Closed, 4, 1))], "no source"),
        (
            vec![said(report(Role::Primary, Consumer, 4, 1))],
            "superseded",
        ),
        (
            vec![said(report(Role::Primary, Consumer, 3, 1))],
            "other primary",
        ),
    ] {
        assert_eq!(kind(&may_rejoin(&claim(2), &peers)), want);
    }
}

#[test]
fn a_cluster_is_created_only_where_there_is_none() {
    assert_eq!(may_create(&[]), Verdict::Open);
    assert_eq!(may_create(&[silent_peer()]), Verdict::Open);
    for exposure in [Exposure::Closed, Exposure::Technical, Exposure::Consumer] {
        for role in [Role::Primary, Role::Standby, Role::Witness] {
            let verdict = may_create(&[silent_peer(), said(report(role, exposure, 1, 1))]);
            assert_eq!(kind(&verdict), "exists");
            let verdict = may_restore(&[silent_peer(), said(report(role, exposure, 1, 1))]);
            assert_eq!(kind(&verdict), "restore-beside");
        }
    }
    assert_eq!(may_restore(&[silent_peer()]), Verdict::Open);
}

fn any_peer() -> impl Strategy<Value = Peer> {
    let role = prop_oneof![
        Just(None),
        Just(Some(Role::Primary)),
        Just(Some(Role::Standby)),
        Just(Some(Role::Witness))
    ];
    let exposure = prop_oneof![
        Just(Exposure::Closed),
        Just(Exposure::Technical),
        Just(Exposure::Consumer)
    ];
    let system = prop_oneof![Just(None), Just(Some(SystemId(7))), Just(Some(SystemId(8)))];
    prop_oneof![
        Just(silent_peer()),
        (
            role,
            exposure,
            system,
            proptest::option::of(1_u32..6),
            proptest::option::of(0_u64..2000)
        )
            .prop_map(|(role, exposure, system_id, timeline, lsn)| {
                let mut r = report(Role::Standby, exposure, 1, 1);
                r.role = role;
                r.system_id = system_id;
                r.timeline = timeline.map(Timeline);
                r.lsn = lsn.map(Lsn);
                said(r)
            })
    ]
}

proptest! {
    /// Never open beside an open primary of our cluster, never behind a later timeline, never when
    /// the silent ones are a majority of the registered nodes.
    #[test]
    fn open_means_open(members in 1_usize..8, peers in proptest::collection::vec(any_peer(), 0..7)) {
        if may_open(&claim(members), &peers) == Verdict::Open {
            let mut reached = 1;
            for r in peers.iter().filter_map(Peer::report) {
                if r.system_id == Some(SystemId(8)) { continue }
                reached += 1;
                prop_assert!(!r.is_open_primary());
                prop_assert!(r.timeline.is_none_or(|t| t <= Timeline(3)));
            }
            prop_assert!(members.saturating_sub(reached) < members / 2 + 1);
        }
    }

    /// One more answer never opens what a conflict closed.
    #[test]
    fn a_conflict_stays(members in 1_usize..8, mut peers in proptest::collection::vec(any_peer(), 0..6), more in any_peer()) {
        let before = may_open(&claim(members), &peers);
        let was_conflict = matches!(&before, Verdict::Closed(r) if !matches!(r, Reason::TooFewReached { .. }));
        peers.push(more);
        if was_conflict {
            prop_assert_ne!(may_open(&claim(members), &peers), Verdict::Open);
        }
    }

    /// Two nodes of one cluster that both hold a primary's data never both open, whatever the
    /// timelines and positions, when they can see each other.
    #[test]
    fn two_claims_never_both_open(t1 in 1_u32..4, t2 in 1_u32..4, l1 in 0_u64..4, l2 in 0_u64..4, members in 2_usize..5) {
        let of = |t, l| Claim { system_id: SystemId(7), timeline: Timeline(t), lsn: Lsn(l), members };
        let seen = |t, l| vec![said(report(Role::Primary, Exposure::Closed, t, l))];
        let first = may_open(&of(t1, l1), &seen(t2, l2));
        let second = may_open(&of(t2, l2), &seen(t1, l1));
        prop_assert!(first != Verdict::Open || second != Verdict::Open);
    }
}
