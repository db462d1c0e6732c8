//! Every check against every role, exposure and lag.

use super::*;
use crate::http::samples;

fn ask(pairs: &[(&str, &str)]) -> Ask {
    let pairs: Vec<_> = pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    Ask::from_pairs(&pairs)
}

const CHECKS: [Check; 6] = [
    Check::Primary,
    Check::StandbyLeader,
    Check::Replica,
    Check::ReadOnly,
    Check::Readiness,
    Check::Health,
];

/// Every status that a check can tell apart.
fn everything() -> Vec<Status> {
    let mut all = Vec::new();
    for exposure in [Exposure::Closed, Exposure::Technical, Exposure::Consumer] {
        let roles = [Role::Primary, Role::Standby, Role::Witness];
        for role in roles.map(Some).into_iter().chain([None]) {
            for streaming in [None, Some(false), Some(true)] {
                for lag_bytes in [None, Some(0), Some(READY_LAG), Some(READY_LAG + 1)] {
                    for up in [false, true] {
                        let mut s = samples::standby();
                        (s.exposure, s.role) = (exposure, role);
                        (s.streaming, s.lag_bytes) = (streaming, lag_bytes);
                        s.children[0].pid = up.then_some(40);
                        all.push(s.clone());
                        s.members[1].kind = "witness".into();
                        all.push(s);
                    }
                }
            }
        }
    }
    all
}

/// What the checks mean, said a second time and as plainly as can be.
fn expected(check: Check, s: &Status, ask: &Ask) -> bool {
    let open = s.exposure == Exposure::Consumer && s.children[0].pid.is_some();
    let primary = open && s.role == Some(Role::Primary);
    let standby = open && s.role == Some(Role::Standby);
    let witness = open && s.role == Some(Role::Witness);
    let streams = s.streaming == Some(true);
    let within = |limit| s.lag_bytes.is_some_and(|lag| lag <= limit);
    let replica = standby && ask.cannot.is_none() && ask.lag.is_none_or(within);
    match check {
        Check::Health => open,
        Check::Primary => primary,
        Check::StandbyLeader => false,
        Check::Replica => replica,
        Check::ReadOnly => primary || replica,
        Check::Readiness => {
            primary
                || witness && s.members[1].kind == "witness"
                || standby
                    && ask.cannot.is_none()
                    && match ask.lag {
                        None => streams || within(READY_LAG),
                        Some(limit) => streams && within(limit),
                    }
        }
    }
}

#[test]
fn every_check_on_every_status_with_every_query() {
    let queries = [
        ask(&[]),
        ask(&[("lag", "0")]),
        ask(&[("lag", "1MB")]),
        ask(&[("lag", "1TB")]),
        ask(&[("lag", "much")]),
        ask(&[("tag_x", "y")]),
        ask(&[("unknown", "z")]),
    ];
    let mut cases = 0;
    for status in everything() {
        for check in CHECKS {
            for query in &queries {
                let health = decide(check, &status, query);
                assert_eq!(
                    health.ok,
                    expected(check, &status, query),
                    "{check:?} {query:?} {health:?} {status:#?}"
                );
                assert!(!health.why.is_empty() && !health.why.ends_with('.'));
                cases += 1;
            }
        }
    }
    assert_eq!(cases, 3 * 4 * 3 * 4 * 2 * 2 * 6 * 7);
}

#[test]
fn never_both_primary_and_replica_and_read_only_is_either() {
    for status in everything() {
        let is = |check| decide(check, &status, &Ask::default()).ok;
        let (primary, replica) = (is(Check::Primary), is(Check::Replica));
        assert!(!(primary && replica));
        assert_eq!(is(Check::ReadOnly), primary || replica);
        assert!(is(Check::Health) || !is(Check::ReadOnly) && !is(Check::Readiness));
    }
}

#[test]
fn the_reason_is_one_a_person_can_use() {
    let why = |check, s: &Status, q: &[(&str, &str)]| decide(check, s, &ask(q)).why;
    let mut s = samples::standby();
    assert_eq!(why(Check::Replica, &s, &[]), "open as a standby");
    assert_eq!(why(Check::Primary, &s, &[]), "open, but a standby");
    let mut w = samples::standby();
    w.role = Some(Role::Witness);
    for check in [Check::Primary, Check::Replica, Check::ReadOnly] {
        assert_eq!(why(check, &w, &[]), "open, but a witness");
    }
    assert_eq!(
        why(Check::Readiness, &w, &[]),
        "open, but not registered as a witness"
    );
    w.members[1].kind = "witness".into();
    assert_eq!(
        why(Check::Readiness, &w, &[("lag", "1MB")]),
        "open as a witness, registered"
    );
    s.lag_bytes = Some(20 << 20);
    assert_eq!(
        why(Check::Replica, &s, &[("lag", "16MB")]),
        "20.0 MiB behind, more than 16.0 MiB"
    );
    assert_eq!(
        why(Check::Replica, &s, &[("lag", "lots")]),
        "lag `lots` is not a size such as 1048576 or 16MB"
    );
    assert_eq!(
        why(Check::Replica, &s, &[("tag_zone", "a")]),
        "this node has no tag `zone`"
    );
    s.streaming = Some(false);
    assert_eq!(
        why(Check::Readiness, &s, &[]),
        "does not stream, and 20.0 MiB behind, more than 1.0 MiB"
    );
    s.exposure = Exposure::Technical;
    s.state = "fenced".into();
    s.sentence = "another node is the primary".into();
    assert_eq!(
        why(Check::Health, &s, &[]),
        "not open, only on the technical port: fenced: another node is the primary"
    );
}

#[test]
fn the_replication_state_is_asked_for_in_patronis_words() {
    let mut s = samples::standby();
    for (streaming, word) in [
        (Some(true), "streaming"),
        (Some(false), "in archive recovery"),
    ] {
        s.streaming = streaming;
        for wanted in ["streaming", "in archive recovery", "stopped"] {
            let got = decide(Check::Replica, &s, &ask(&[("replication_state", wanted)]));
            assert_eq!(got.ok, wanted == word, "{wanted}");
        }
    }
}

#[test]
fn the_loop_is_alive_up_to_the_limit() {
    let limit = Duration::from_secs(30);
    assert!(liveness(Duration::ZERO, limit).ok);
    assert!(liveness(limit, limit).ok);
    let dead = liveness(limit + Duration::from_millis(1), limit);
    assert!(!dead.ok);
    assert_eq!(
        dead.why,
        "the loop has not turned for 30.0 s (limit 30.0 s)"
    );
}

#[test]
fn sizes_are_read_as_postgres_writes_them() {
    for (text, want) in [
        ("0", Some(0)),
        ("1048576", Some(1 << 20)),
        ("16kB", Some(16 << 10)),
        ("64MB", Some(64 << 20)),
        ("1GB", Some(1 << 30)),
        ("1 TB", Some(1 << 40)),
        ("1.5kB", Some(1536)),
        ("10B", Some(10)),
        (" 7 ", Some(7)),
        ("", None),
        ("kB", None),
        (".", None),
        (".5MB", None),
        ("-1", None),
        ("+1", None),
        ("1e3", None),
        ("1MiB", None),
        ("1.1.1", None),
        ("0x10", None),
        ("18446744073709551615", Some(u64::MAX)),
        ("18446744073709551616", None),
        ("18446744073709551615kB", None),
        ("1.0000000000GB", None),
    ] {
        assert_eq!(parse_size(text), want, "{text}");
    }
}

/// A barman host that keeps one cluster, green.
fn host() -> Status {
    use crate::domain::{CheckView, HostView, KeptView};
    let mut s = samples::standby();
    (s.exposure, s.role, s.state) = (Exposure::Closed, None, "running".into());
    s.host = Some(HostView {
        servers: vec![KeptView {
            name: "main".into(),
            note: "all is well".into(),
            attached_since_ms: Some(1),
            check: Some(CheckView::default()),
            last_id: Some("20261121T080000".into()),
            ..KeptView::default()
        }],
        ..HostView::default()
    });
    s
}

#[test]
fn a_barman_host_is_healthy_while_it_runs_and_ready_while_all_is_green() {
    let says = |s: &Status| {
        [Check::Health, Check::Readiness].map(|check| decide(check, s, &Ask::default()))
    };
    let [health, ready] = says(&host());
    assert!(health.ok && ready.ok, "{health:?} {ready:?}");
    let broken: [fn(&mut crate::domain::KeptView); 4] = [
        |k| k.attached_since_ms = None,
        |k| k.check = None,
        |k| k.last_id = None,
        |k| k.problems.push("waiting for space".into()),
    ];
    for broken in broken {
        let mut s = host();
        broken(&mut s.host.as_mut().unwrap().servers[0]);
        let [health, ready] = says(&s);
        assert!(health.ok && !ready.ok, "{ready:?}");
        assert!(ready.why.starts_with("main: "), "{}", ready.why);
    }
    let mut s = host();
    s.state = "configure".into();
    let [health, ready] = says(&s);
    assert!(!health.ok && !ready.ok);
    s = host();
    s.host = Some(crate::domain::HostView::default());
    assert!(!says(&s)[1].ok, "nothing has been looked at yet");
    for check in CHECKS {
        if !matches!(check, Check::Health | Check::Readiness) {
            assert!(!decide(check, &host(), &Ask::default()).ok, "{check:?}");
        }
    }
}

#[test]
fn a_vote_with_backups_is_ready_when_both_are() {
    let mut s = host();
    (s.exposure, s.role) = (Exposure::Consumer, Some(Role::Witness));
    s.members[1].kind = "witness".into();
    let ready = |s: &Status| decide(Check::Readiness, s, &Ask::default());
    assert!(ready(&s).ok, "{:?}", ready(&s));
    s.host.as_mut().unwrap().servers[0].last_id = None;
    assert!(!ready(&s).ok);
    s = host();
    (s.exposure, s.role) = (Exposure::Consumer, Some(Role::Witness));
    assert!(!ready(&s).ok, "not registered");
}
