//! What a person sees.

use super::*;
use crate::domain::{
    BackupView, BootStep, ElectionView, LeaseView, Lsn, NodeId, NodeName, SynchronousView,
    Timeline, Uptime,
};
use crate::http::samples;

const HOUR: u64 = 3_600_000;
/// 2026-11-21 08:00:00 UTC.
const T0: u64 = 1_795_248_000_000;

fn open_standby() -> Status {
    let mut s = samples::standby();
    s.uptime = Uptime {
        started_ms: T0,
        state_since_ms: T0 + 2_750,
        now_ms: T0 + 26 * HOUR,
    };
    for c in &mut s.children {
        c.since_ms = T0 + 2_000;
    }
    s.children[2].pid = Some(53);
    s.children[1].restarts = 0;
    s.backup = BackupView {
        mode: "local".into(),
        ..BackupView::default()
    };
    s
}

fn open_primary() -> Status {
    let mut s = open_standby();
    s.node = NodeName("pg1".into());
    s.node_id = NodeId(1);
    s.network_name = "pg1".into();
    s.role = Some(Role::Primary);
    (s.streaming, s.upstream, s.lag_bytes, s.lag_ms) = (None, None, None, None);
    s.members[1].streaming = Some(true);
    s.members[1].lag_bytes = Some(0);
    s.backup = BackupView {
        mode: "local".into(),
        count: Some(5),
        last_id: Some("20261122T031500".into()),
        last_end_ms: Some(s.uptime.now_ms - 6 * HOUR),
        last_size: Some(30_722_752),
        ..BackupView::default()
    };
    s.boot = vec![
        BootStep {
            state: "survey".into(),
            took_ms: 12,
        },
        BootStep {
            state: "init".into(),
            took_ms: 980,
        },
    ];
    s
}

fn shown(s: &Status) -> String {
    let text = status_text(s, false);
    for line in text.lines() {
        assert!(line.chars().count() <= 80, "{line}");
        assert_eq!(line, line.trim_end());
    }
    assert!(!text.contains('\x1b'));
    // Colours add escapes and nothing else.
    let mut plain = String::new();
    let mut escape = false;
    for c in status_text(s, true).chars() {
        match c {
            '\x1b' => escape = true,
            'm' if escape => escape = false,
            c if !escape => plain.push(c),
            _ => {}
        }
    }
    let words = |t: &str| t.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(&plain), words(&text));
    text
}

#[test]
fn a_slave_that_waits_for_its_master() {
    let mut s = open_standby();
    s.state = "await-primary".into();
    s.sentence = "waiting until the master's consumer port is open: pg1:5432 does not answer \
                  (connection refused), asking again every second, giving up in 55 m 48 s"
        .into();
    s.role = None;
    s.exposure = Exposure::Closed;
    s.uptime.now_ms = T0 + 255_000;
    s.uptime.state_since_ms = T0 + 3_000;
    s.system_id = None;
    s.timeline = None;
    s.lsn = None;
    (s.streaming, s.upstream, s.lag_bytes, s.lag_ms) = (None, None, None, None);
    s.members.clear();
    s.children.clear();
    s.boot_total_ms = None;
    insta::assert_snapshot!(shown(&s), @r#"
        NOT OPEN  pg2, role not known yet: await-primary for 4 m 12 s
         state      await-primary: waiting until the master's consumer port is open:
                    pg1:5432 does not answer (connection refused), asking again every
                    second, giving up in 55 m 48 s
         since      2026-11-21T08:00:03Z, 4 m 12 s ago
         clients    pg2:5432 is closed
         processes  none runs
         up         4 m 15 s, pgnode 0.1.0
        "#);
}

#[test]
fn an_open_primary_with_a_standby() {
    insta::assert_snapshot!(shown(&open_primary()), @r#"
        OPEN  pg1, primary: 1 standby streams, nothing behind
         state      open: open to clients, supervising
         since      2026-11-21T08:00:02Z, 1 d 01 h ago
         clients    pg1:5432 is open
         wal        0/3000148 on timeline 1 of cluster 7268616322854375442
         backup     20261122T031500, 6 h 00 m ago, 29.2 MiB; 5 in all
         processes  postgres 40, repmgrd 52, crond 53
         boot       2.8 s, of it init 980 ms, survey 12 ms
         up         1 d 02 h, pgnode 0.1.0

            node   id   type      active   follows   replication               address
        ────────────────────────────────────────────────────────────────────────────────
         *  pg1    1    primary   yes                                          pg1:5432
            pg2    2    standby   yes      pg1       streams, nothing behind   pg2:5432
        "#);
}

#[test]
fn a_witness() {
    let mut s = open_standby();
    (s.node, s.node_id) = (NodeName("pg3".into()), NodeId(3));
    s.network_name = "pg3".into();
    s.role = Some(Role::Witness);
    (s.streaming, s.upstream, s.lag_bytes, s.lag_ms) = (None, None, None, None);
    (s.timeline, s.lsn) = (None, None);
    s.backup.mode = "off".into();
    let mut own = s.members[1].clone();
    own.kind = "witness".into();
    (own.node_id, own.name, own.host) = (NodeId(3), NodeName("pg3".into()), "pg3".into());
    s.members.push(own);
    s.children.pop();
    insta::assert_snapshot!(shown(&s), @"
    OPEN  pg3, witness: votes with pg1 as the primary
     state      open: open to clients, supervising
     since      2026-11-21T08:00:02Z, 1 d 01 h ago
     clients    pg3:5432 is open
     processes  postgres 40, repmgrd 52
     boot       2.8 s, of it clone 1.6 s, preflight 12 ms
     up         1 d 02 h, pgnode 0.1.0

        node   id   type      active   follows   address
    ──────────────────────────────────────────────────────
        pg1    1    primary   yes                pg1:5432
        pg2    2    standby   yes      pg1       pg2:5432
     *  pg3    3    witness   yes      pg1       pg3:5432
    ");
    s.members.remove(0);
    assert!(shown(&s).contains("witness: knows of no primary"));
}

#[test]
fn a_standby_that_lags() {
    let mut s = open_standby();
    s.lag_bytes = Some(734_003_200);
    s.lag_ms = Some(187_000);
    s.children[1].pid = None;
    s.children[1].restarts = 3;
    s.children[1].since_ms = s.uptime.now_ms - 4_200;
    insta::assert_snapshot!(shown(&s), @r#"
        OPEN  pg2, standby: streams from pg1, 700.0 MiB and 3 m 07 s behind
         state      open: open to clients, supervising
         since      2026-11-21T08:00:02Z, 1 d 01 h ago
         clients    pg2:5432 is open
         wal        0/3000148 on timeline 1 of cluster 7268616322854375442
         backup     the primary takes them
         processes  postgres 40, repmgrd DOWN (for 4.2 s, restarted 3×), crond 53
         boot       2.8 s, of it clone 1.6 s, preflight 12 ms
         up         1 d 02 h, pgnode 0.1.0

            node   id   type      active   follows   address
        ──────────────────────────────────────────────────────
            pg1    1    primary   yes                pg1:5432
         *  pg2    2    standby   yes      pg1       pg2:5432
        "#);
}

#[test]
fn a_fenced_node() {
    let mut s = open_primary();
    s.state = "fenced".into();
    s.sentence = "closed, and asking again until it is safe to open: pg2 is open as the primary \
                  on timeline 2"
        .into();
    s.exposure = Exposure::Closed;
    s.uptime.state_since_ms = s.uptime.now_ms - 187_000;
    s.fault = Some("another node is the primary of this cluster".into());
    s.timeline = Some(Timeline(1));
    s.lsn = Some(Lsn(0x0500_0028));
    s.children.iter_mut().for_each(|c| c.pid = None);
    s.members[1].streaming = None;
    s.restarts = 2;
    insta::assert_snapshot!(shown(&s), @r#"
        CLOSED  pg1, primary: fenced for 3 m 07 s
         state      fenced: closed, and asking again until it is safe to open: pg2 is
                    open as the primary on timeline 2
         since      2026-11-22T09:56:53Z, 3 m 07 s ago
         fault      another node is the primary of this cluster
         clients    pg1:5432 is closed
         wal        0/5000028 on timeline 1 of cluster 7268616322854375442
         backup     20261122T031500, 6 h 00 m ago, 29.2 MiB; 5 in all
         processes  none runs
         restarts   postgres ended unexpectedly 2 times
         boot       2.8 s, of it init 980 ms, survey 12 ms
         up         1 d 02 h, pgnode 0.1.0

            node   id   type      active   follows   address
        ──────────────────────────────────────────────────────
         *  pg1    1    primary   yes                pg1:5432
            pg2    2    standby   yes      pg1       pg2:5432
        "#);
}

#[test]
fn nothing_known_and_too_much_known_still_fit() {
    let mut s = open_standby();
    s.node = NodeName("a-node-with-a-name-that-is-really-rather-long".into());
    s.sentence = "x".repeat(300);
    s.members[0].host = "db-1.some.rather.long.domain.name.example.org".into();
    s.uptime.state_since_ms = u64::MAX;
    for line in status_text(&s, false).lines().skip(1) {
        assert!(line.chars().count() <= 80, "{line}");
    }
    s.children.clear();
    s.members.clear();
    s.boot.clear();
    s.role = None;
    (s.lsn, s.streaming, s.lag_bytes) = (None, None, None);
    assert!(status_text(&s, true).contains("role not known yet"));
}

#[test]
fn trouble_has_its_own_words() {
    let mut s = open_primary();
    let text = |s: &Status| status_text(s, false);
    s.members[1].streaming = Some(false);
    assert!(text(&s).starts_with("OPEN  pg1, primary: NONE of 1 standby streams\n"));
    assert!(text(&s).contains("NOT streaming"));
    s.members[1].active = false;
    assert!(text(&s).contains("NO "));
    s.backup.mode = "off".into();
    s.backup.last_id = None;
    assert!(text(&s).contains("nobody takes any (BARMAN_MODE=off)"));
    s.members.clear();
    assert!(text(&s).starts_with("OPEN  pg1, primary: no standby is registered\n"));
    let mut s = open_standby();
    s.streaming = Some(false);
    assert!(text(&s).starts_with("OPEN  pg2, standby: does NOT stream from pg1, nothing behind\n"));
    s.exposure = Exposure::Technical;
    assert!(text(&s).starts_with("NOT OPEN  pg2, standby: open for 1 d 01 h\n"));
    assert!(text(&s).contains("postgres runs on the technical port 5434"));
}

#[test]
fn what_a_rejoin_cost_is_shown() {
    let mut s = open_standby();
    assert!(!shown(&s).contains("rejoined"));
    let view = RejoinView {
        at_ms: T0,
        from: "pg2:5432".into(),
        how: "rewind".into(),
        fork: Some(Lsn(0x0302_33B8)),
        end: Some(Lsn(0x0304_29A0)),
        lost_bytes: Some(128_488),
        kept: None,
    };
    s.rejoin = Some(view.clone());
    let text = shown(&s);
    assert!(
        text.contains("by rewind from pg2:5432; 125.4 KiB of WAL from 0/30233B8"),
        "{text}"
    );
    let unknown = RejoinView {
        lost_bytes: None,
        kept: Some("/d".into()),
        ..view
    };
    assert_eq!(
        rejoined(&unknown),
        "by rewind from pg2:5432; WAL from 0/30233B8 on given up, kept in /d"
    );
    let follow = RejoinView {
        how: "follow".into(),
        from: "pg2:5432".into(),
        ..RejoinView::default()
    };
    assert_eq!(rejoined(&follow), "by follow from pg2:5432");
}

fn with_election(change: impl FnOnce(&mut ElectionView)) -> Status {
    let mut s = open_primary();
    let now_ms = s.uptime.now_ms;
    let mut e = ElectionView {
        term: 3,
        leads: true,
        lease: LeaseView::Until {
            until_ms: now_ms + 3_200,
        },
        voters: 3,
        majority: 2,
        reached: Some(3),
        ..ElectionView::default()
    };
    change(&mut e);
    s.election = Some(e);
    s
}

#[test]
fn the_election_is_one_line() {
    let line = |s: &Status| {
        let text = shown(s);
        let at = text.lines().position(|l| l.contains("election ")).unwrap();
        let words = text.lines().nth(at).unwrap().split_whitespace();
        words.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        line(&with_election(|_| {})),
        "election term 3: leads, 3 answer, lease for 3.2 s; 3 voters, 2 elect"
    );
    assert_eq!(
        line(&with_election(|e| {
            e.reached = Some(1);
            e.lease = LeaseView::None;
        })),
        "election term 3: leads, 1 answer, NO lease; 3 voters, 2 elect"
    );
    assert_eq!(
        line(&with_election(|e| {
            e.voters = 1;
            e.majority = 1;
            e.reached = Some(1);
            e.roster_changes = true;
            e.lease = LeaseView::Unlimited;
        })),
        "election term 3: leads, 1 answer, lease without end; 1 voter, changing"
    );
    let mut standby = open_standby();
    standby.election = Some(ElectionView {
        leads: false,
        reached: None,
        primary: Some(NodeName("pg1".into())),
        heard_at_ms: Some(standby.uptime.now_ms - 400),
        ..with_election(|_| {}).election.unwrap()
    });
    assert_eq!(
        line(&standby),
        "election term 3: pg1 heard 400 ms ago; 3 voters, 2 elect"
    );
}

#[test]
fn a_maintenance_is_the_second_line() {
    let text = shown(&with_election(|e| e.paused = true));
    let second = text.lines().nth(1).unwrap();
    assert!(second.starts_with("PAUSED  nobody is elected"), "{text}");
    assert!(!shown(&with_election(|_| {})).contains("PAUSED"));
}

#[test]
fn what_commits_wait_for() {
    let mut s = open_primary();
    s.synchronous = Some(SynchronousView {
        sentence: "commits wait for NOBODY and can be lost".into(),
        short_since_ms: Some(s.uptime.now_ms - 90_000),
        ..SynchronousView::default()
    });
    let text = shown(&s);
    let words: Vec<&str> = text.split_whitespace().collect();
    let said = "commits commits wait for NOBODY and can be lost (since 2026-11-22T09:58:30Z, 1 m 30 s ago)";
    assert!(words.join(" ").contains(said), "{text}");
}

#[test]
fn a_barman_host_shows_its_clusters() {
    use crate::domain::{CheckView, FailedTask, HostView, KeptView, ShippingView};
    let mut s = open_standby();
    (s.exposure, s.role, s.state) = (Exposure::Closed, None, "running".into());
    s.sentence = "keeping the backups of its clusters".into();
    s.network_name = "barman1".into();
    (s.lsn, s.system_id, s.timeline) = (None, None, None);
    s.members.clear();
    s.children.retain(|c| c.name == "crond");
    (s.boot_total_ms, s.backup.mode) = (None, "off".into());
    let main = KeptView {
        name: "main".into(),
        note: "all is well".into(),
        note_since_ms: T0 + HOUR,
        primary: Some("pg1:5432".into()),
        attached_since_ms: Some(T0),
        lag_bytes: Some(0),
        check: Some(CheckView::default()),
        backups: 2,
        last_id: Some("20261122T030000".into()),
        last_end_ms: Some(T0 + 20 * HOUR),
        last_size: Some(30_722_752),
        ..KeptView::default()
    };
    s.host = Some(HostView {
        servers: vec![main.clone()],
        ..HostView::default()
    });
    assert!(
        status_text(&s, false)
            .starts_with("GREEN  barman1, barman host: the backups of 1 cluster\n")
    );
    let gone = KeptView {
        name: "gone".into(),
        note: "waiting for a primary: db1 is a standby".into(),
        note_since_ms: T0,
        problems: vec!["waiting for a primary: db1 is a standby".into()],
        check: Some(CheckView {
            at_ms: T0,
            failed: vec!["PostgreSQL ()".into()],
        }),
        ..KeptView::default()
    };
    s.host = Some(HostView {
        servers: vec![main, gone],
        shipping: vec![ShippingView {
            name: "main".into(),
            waiting: 1,
            failed: vec![FailedTask {
                id: "20261121T000000".into(),
                why: "no route".into(),
            }],
            runs: Vec::new(),
        }],
    });
    let text = status_text(&s, false);
    for part in [
        "NOT GREEN  barman1, barman host: 1 of 2 clusters need something\n",
        "\n main      pg1:5432   nothing behind   all OK",
        "\n gone      none       NOT received     1 FAILED   none yet",
        "\nmain: all is well (since 2026-11-21T09:00:00Z, 1 d 01 h)\n",
        "\ngone: waiting for a primary: db1 is a standby (since ",
        "\n    barman check: PostgreSQL ()\n",
        "\nmain into the bucket: nothing yet, 1 in the queue\n",
        "\n    backup 20261121T000000 FAILED: no route; `pgnode s3 base-sync main --retry-errors` tries again\n",
    ] {
        assert!(text.contains(part), "{part:?} in\n{text}");
    }
    assert!(!text.contains("clients ") && !text.contains("BARMAN_MODE"));
    s.state = "preflight".into();
    assert!(status_text(&s, false).starts_with("NOT RUNNING"));
}
