//! Scrapes.

use super::*;
use crate::domain::{ElectionView, FailedTask, LeaseView, ShippingRun, ShippingView};
use crate::http::samples;

#[test]
fn a_scrape_shows_the_node() {
    let text = render(Scrape {
        status: Arc::new(samples::standby()),
        now_ms: 1_000_000,
        loop_age: Duration::from_millis(40),
        states: &["waiting", "open"],
    });
    insta::assert_snapshot!(text, @r#"
    # HELP pgnode_build_info The version of pgnode.
    # TYPE pgnode_build_info gauge
    pgnode_build_info{version="0.1.0"} 1
    # HELP pgnode_node_info Name and repmgr id of the node.
    # TYPE pgnode_node_info gauge
    pgnode_node_info{node="pg2",node_id="2"} 1
    # HELP pgnode_state 1 for the state that the node is in, 0 for the others.
    # TYPE pgnode_state gauge
    pgnode_state{state="waiting"} 0
    pgnode_state{state="open"} 1
    # HELP pgnode_state_seconds How long the node has been in its state.
    # TYPE pgnode_state_seconds gauge
    # UNIT pgnode_state_seconds seconds
    pgnode_state_seconds 600.0
    # HELP pgnode_role 1 for the role that the node has, 0 for the others; all 0 while it is not known.
    # TYPE pgnode_role gauge
    pgnode_role{role="primary"} 0
    pgnode_role{role="standby"} 1
    pgnode_role{role="witness"} 0
    # HELP pgnode_exposure 1 for where PostgreSQL can be reached: closed, the technical or the consumer port.
    # TYPE pgnode_exposure gauge
    pgnode_exposure{exposure="closed"} 0
    pgnode_exposure{exposure="technical"} 0
    pgnode_exposure{exposure="consumer"} 1
    # HELP pgnode_open 1 while clients can connect to the consumer port.
    # TYPE pgnode_open gauge
    pgnode_open 1
    # HELP pgnode_fault 1 while a fault is shown in the status.
    # TYPE pgnode_fault gauge
    pgnode_fault 0
    # HELP pgnode_start_time_seconds When pgnode started, in seconds since the epoch.
    # TYPE pgnode_start_time_seconds gauge
    # UNIT pgnode_start_time_seconds seconds
    pgnode_start_time_seconds 390.0
    # HELP pgnode_loop_age_seconds Time since the last turn of the loop.
    # TYPE pgnode_loop_age_seconds gauge
    # UNIT pgnode_loop_age_seconds seconds
    pgnode_loop_age_seconds 0.04
    # HELP pgnode_timeline The timeline.
    # TYPE pgnode_timeline gauge
    pgnode_timeline 1
    # HELP pgnode_wal_position_bytes WAL position as a byte count: written by a primary, replayed by a standby.
    # TYPE pgnode_wal_position_bytes gauge
    # UNIT pgnode_wal_position_bytes bytes
    pgnode_wal_position_bytes 50331976
    # HELP pgnode_replication_streaming Standby: 1 while the walreceiver streams.
    # TYPE pgnode_replication_streaming gauge
    pgnode_replication_streaming 1
    # HELP pgnode_replication_lag_bytes Standby: bytes of WAL that it is behind.
    # TYPE pgnode_replication_lag_bytes gauge
    # UNIT pgnode_replication_lag_bytes bytes
    pgnode_replication_lag_bytes 0
    # HELP pgnode_replication_lag_seconds Standby: time since the last replayed commit, 0 when nothing is left to replay.
    # TYPE pgnode_replication_lag_seconds gauge
    # UNIT pgnode_replication_lag_seconds seconds
    pgnode_replication_lag_seconds 0.0
    # HELP pgnode_member_active 1 while repmgr's table calls the member active.
    # TYPE pgnode_member_active gauge
    pgnode_member_active{member="pg1",kind="primary"} 1
    pgnode_member_active{member="pg2",kind="standby"} 1
    # HELP pgnode_postgres_restarts Unexpected ends of postgres since pgnode started.
    # TYPE pgnode_postgres_restarts counter
    pgnode_postgres_restarts_total 0
    # HELP pgnode_orphans_reaped Orphaned processes reaped since pgnode started.
    # TYPE pgnode_orphans_reaped counter
    pgnode_orphans_reaped_total 3
    # HELP pgnode_child_up 1 while the process runs.
    # TYPE pgnode_child_up gauge
    pgnode_child_up{child="postgres"} 1
    pgnode_child_up{child="repmgrd"} 1
    pgnode_child_up{child="crond"} 0
    # HELP pgnode_child_restarts How often the process was started again after an unexpected end.
    # TYPE pgnode_child_restarts counter
    pgnode_child_restarts_total{child="postgres"} 0
    pgnode_child_restarts_total{child="repmgrd"} 1
    pgnode_child_restarts_total{child="crond"} 0
    # HELP pgnode_boot_step_seconds How long each state of the boot took.
    # TYPE pgnode_boot_step_seconds gauge
    # UNIT pgnode_boot_step_seconds seconds
    pgnode_boot_step_seconds{state="clone"} 1.6
    pgnode_boot_step_seconds{state="preflight"} 0.012
    # HELP pgnode_boot_seconds From the start of pgnode to the open consumer port.
    # TYPE pgnode_boot_seconds gauge
    # UNIT pgnode_boot_seconds seconds
    pgnode_boot_seconds 2.75
    # HELP pgnode_backups Complete backups in the catalogue.
    # TYPE pgnode_backups gauge
    pgnode_backups 1
    # HELP pgnode_backup_last_age_seconds Age of the newest complete backup.
    # TYPE pgnode_backup_last_age_seconds gauge
    # UNIT pgnode_backup_last_age_seconds seconds
    pgnode_backup_last_age_seconds 360.0
    # HELP pgnode_backup_last_size_bytes Size of the newest complete backup.
    # TYPE pgnode_backup_last_size_bytes gauge
    # UNIT pgnode_backup_last_size_bytes bytes
    pgnode_backup_last_size_bytes 30722752
    # EOF
    "#);
}

#[test]
fn what_is_not_known_has_no_series_and_nothing_appears_twice() {
    let mut status = samples::standby();
    status.lsn = None;
    status.lag_bytes = None;
    status.state = "a \"new\"\nstate".into();
    let step = status.boot[0].clone();
    status.boot.push(step);
    let text = render(Scrape {
        status: Arc::new(status),
        now_ms: 0,
        loop_age: Duration::ZERO,
        states: &[],
    });
    assert!(!text.contains("wal_position") && !text.contains("lag_bytes"));
    assert!(
        text.contains(r#"pgnode_state{state="a \"new\"\nstate"} 1"#),
        "{text}"
    );
    let mut series: Vec<&str> = text
        .lines()
        .filter(|l| !l.starts_with('#'))
        .filter_map(|l| l.rsplit_once(' ').map(|(name, _)| name))
        .collect();
    let all = series.len();
    series.sort_unstable();
    series.dedup();
    assert_eq!(series.len(), all);
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn an_election_is_shown() {
    let scrape = |change: fn(&mut ElectionView)| {
        let mut status = samples::standby();
        let mut view = ElectionView {
            term: 3,
            leads: true,
            lease: LeaseView::Until {
                until_ms: 1_003_200,
            },
            voters: 3,
            majority: 2,
            reached: Some(2),
            ..ElectionView::default()
        };
        change(&mut view);
        status.election = Some(view);
        render(Scrape {
            status: Arc::new(status),
            now_ms: 1_000_000,
            loop_age: Duration::ZERO,
            states: &[],
        })
    };
    let has = |text: &str, line: &str| {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    };
    let leader = scrape(|_| {});
    for line in [
        "pgnode_term 3",
        "pgnode_leads 1",
        "pgnode_lease_seconds 3.2",
        "pgnode_voters 3",
        "pgnode_voters_majority 2",
        "pgnode_voters_reached 2",
        "pgnode_paused 0",
    ] {
        has(&leader, line);
    }
    has(
        &scrape(|e| e.lease = LeaseView::Unlimited),
        "pgnode_lease_seconds inf",
    );
    let standby = scrape(|e| {
        (e.leads, e.reached, e.paused) = (false, None, true);
        e.heard_at_ms = Some(999_600);
    });
    has(&standby, "pgnode_paused 1");
    has(&standby, "pgnode_primary_heard_age_seconds 0.4");
    assert!(!standby.contains("pgnode_lease") && !standby.contains("voters_reached"));
}

#[test]
fn what_commits_wait_for() {
    let mut status = samples::standby();
    status.synchronous = Some(crate::domain::SynchronousView {
        required: 2,
        in_force: 1,
        streaming: vec![crate::domain::NodeName("pg3".into())],
        short_since_ms: Some(940_000),
        ..Default::default()
    });
    let text = render(Scrape {
        status: Arc::new(status),
        now_ms: 1_000_000,
        loop_age: Duration::ZERO,
        states: &[],
    });
    for line in [
        "pgnode_synchronous_required 2",
        "pgnode_synchronous_in_force 1",
        "pgnode_synchronous_streaming 1",
        "pgnode_synchronous_short_seconds 60.0",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
}

#[test]
fn a_barman_host_has_series_for_each_cluster() {
    use crate::domain::{CheckView, HostView, KeptView, Lsn, Timeline};
    let mut status = samples::standby();
    let main = KeptView {
        name: "main".into(),
        attached_since_ms: Some(5),
        received: Some(Lsn(0x500)),
        lag_bytes: Some(7),
        timeline: Some(Timeline(3)),
        slot: Some("unreserved".into()),
        check: Some(CheckView {
            at_ms: 1,
            failed: vec!["a".into(), "b".into()],
        }),
        backups: 2,
        last_end_ms: Some(990_000),
        last_size: Some(11),
        free_bytes: Some(13),
        receiver_restarts: 4,
        ..KeptView::default()
    };
    let gone = KeptView {
        name: "gone".into(),
        problems: vec!["waiting for a primary".into()],
        ..KeptView::default()
    };
    status.host = Some(HostView {
        servers: vec![main, gone],
        shipping: vec![ShippingView {
            name: "main".into(),
            waiting: 2,
            failed: vec![FailedTask::default()],
            runs: vec![ShippingRun {
                kind: "wal".into(),
                at_ms: 999_000,
                ok_ms: Some(990_000),
                bytes: 5,
                error: Some("no route".into()),
            }],
        }],
    });
    let text = render(Scrape {
        status: Arc::new(status),
        now_ms: 1_000_000,
        loop_age: Duration::ZERO,
        states: &[],
    });
    for line in [
        "green{server=\"main\"} 0",
        "green{server=\"gone\"} 0",
        "receiving{server=\"main\"} 1",
        "receiving{server=\"gone\"} 0",
        "lag_bytes{server=\"main\"} 7",
        "received_position_bytes{server=\"main\"} 1280",
        "timeline{server=\"main\"} 3",
        "slot_reserved{server=\"main\"} 0",
        "check_failed{server=\"main\"} 2",
        "problems{server=\"gone\"} 1",
        "ship_last_age_seconds{server=\"main\",kind=\"wal\"} 10.0",
        "ship_failed{server=\"main\",kind=\"wal\"} 1",
        "ship_queue{server=\"main\"} 2",
        "ship_queue_failed{server=\"main\"} 1",
        "backups{server=\"main\"} 2",
        "backup_last_age_seconds{server=\"main\"} 10.0",
        "backup_last_size_bytes{server=\"main\"} 11",
        "free_bytes{server=\"main\"} 13",
        "receiver_restarts_total{server=\"main\"} 4",
    ] {
        let line = format!("\npgnode_barman_{line}\n");
        assert!(text.contains(&line), "{line} in\n{text}");
    }
    assert!(
        !text.contains("barman_lag_bytes{server=\"gone\"}"),
        "not known is not 0"
    );
}
