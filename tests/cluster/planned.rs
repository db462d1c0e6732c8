//! Planned work and cold starts (issue 3 §4): a switchover that is killed on its way, a restart of all
//! nodes one after the other, all nodes killed and started in every order.

use crate::docker::{Cluster, LONG, Node, docker, eventually};
use crate::verbs::{self, elected, plan, standby_of, three};
use std::collections::HashSet;

/// `kill -9` of the old primary in every state that only a handover has: one primary, every row.
#[test]
fn a_switchover_that_is_killed_ends_with_one_primary() {
    let c = Cluster::new("handover");
    let mut points = ["handover:before", "handover:after"].into_iter();
    let hold = |name: &str, point: Option<&'static str>| {
        let plan = plan(&c, name);
        match point {
            Some(point) => plan.env("PGNODE_TEST_HOLD", point),
            None => plan,
        }
    };
    // A node that has used up its hold is made anew with the next.
    let mut held = ["pg1", "pg2", "pg3"].map(|name| {
        let point = points.next();
        (hold(name, point).start(), point)
    });
    three(held.each_ref().map(|(node, _)| node));
    let mut rows = 1;
    while held.iter().any(|(_, point)| point.is_some()) {
        let nodes = held.each_ref().map(|(node, _)| node);
        let name = elected(&nodes).name.clone();
        let at = held.iter().position(|(n, _)| n.name == name).unwrap();
        let Some(point) = held[at].1 else {
            // Make one that has a hold the primary.
            let next = held.iter().find(|(_, point)| point.is_some()).unwrap();
            let order = format!("pgnode switchover --to {}", next.0.name);
            held[at].0.sh(&order).ok();
            elected(&[&next.0]);
            settled(&held.each_ref().map(|(node, _)| node));
            continue;
        };
        rows += 1;
        let primary = &held[at].0;
        primary.psql(&format!("INSERT INTO t VALUES ({rows})"));
        docker(["exec", "-d", &primary.container, "pgnode", "switchover"]).ok();
        let (state, when) = point.split_once(':').unwrap();
        primary.wait_log(&format!(
            "held by PGNODE_TEST_HOLD {when} its work state={state}"
        ));
        primary.kill("KILL");
        primary.ended();
        let others: Vec<&Node> = (0..3).filter(|i| *i != at).map(|i| &held[i].0).collect();
        let new = elected(&others);
        new.psql(&format!(
            "INSERT INTO t SELECT {rows} WHERE (SELECT max(n) FROM t) < {rows}"
        ));
        let next = points.next();
        let again = hold(&name, next).create();
        let old = std::mem::replace(&mut held[at], (again, next));
        c.remove(old.0);
        held[at].0.start();
        let nodes = held.each_ref().map(|(node, _)| node);
        settled(&nodes);
        same_rows(&nodes, rows);
    }
    assert_eq!(rows, 3, "every point was killed");
}

/// A closed primary that is promoted by force makes its data a candidate's first. Only it has the last row, and
/// `kill -9` before and after that loses neither the row nor the way back.
#[test]
fn a_closed_primary_that_is_killed_while_promoted_anew_keeps_its_rows() {
    let c = Cluster::new("anew");
    let start = |point: Option<&str>| match point {
        Some(point) => plan(&c, "pg1").env("PGNODE_TEST_HOLD", point).start(),
        None => plan(&c, "pg1").start(),
    };
    let mut one = start(Some("demote:before"));
    let [two, three] = ["pg2", "pg3"].map(|name| plan(&c, name).start());
    verbs::three([&one, &two, &three]);
    for node in [&three, &two] {
        node.kill("KILL");
        node.ended();
    }
    one.psql("INSERT INTO t VALUES (2)");
    for (when, next) in [("before", Some("demote:after")), ("after", None)] {
        one.wait_status("is closed without a lease", |s| {
            s["state"] == "fenced" && s["exposure"] == "closed"
        });
        docker(["exec", "-d", &one.container, "pgnode", "promote", "--force"]).ok();
        one.wait_log(&format!(
            "held by PGNODE_TEST_HOLD {when} its work state=demote"
        ));
        one.kill("KILL");
        one.ended();
        c.remove(one);
        one = start(next);
    }
    // What was decided before the second kill needs no second decision.
    elected(&[&one]);
    for node in [&two, &three] {
        node.start();
    }
    settled(&[&one, &two, &three]);
    same_rows(&[&one, &two, &three], 2);
}

/// One after the other, each attached again before the next: at most one outage, and nothing lost.
#[test]
fn a_restart_of_all_nodes_is_one_outage() {
    let c = Cluster::new("rolling");
    let nodes = ["pg1", "pg2", "pg3"].map(|name| plan(&c, name).start());
    three(nodes.each_ref());
    let client = c.helper("client", &["sleep", "infinity"], &[]);
    // A session of its own for every row, as a pool that has lost its connections.
    let writer = "for n in $(seq 2 100000); do \
         PGPASSWORD=mysecretpassword psql -XAtq -c \"INSERT INTO t VALUES ($n)\" \
         'user=postgres dbname=postgres host=pg1,pg2,pg3 target_session_attrs=read-write connect_timeout=10' \
         2>/dev/null && echo ok $n || echo no $n; done >/tmp/written";
    docker(["exec", "-d", &client.container, "bash", "-c", writer]).ok();
    let acknowledged = || {
        let log = client.sh("cat /tmp/written; true").ok();
        let numbers = log.lines().filter_map(|l| l.strip_prefix("ok "));
        numbers
            .map(|n| n.parse().unwrap())
            .collect::<HashSet<u32>>()
    };
    let more = || {
        let before = acknowledged().len();
        eventually("writes go on", LONG, || {
            (acknowledged().len() > before + 20).then_some(())
        });
    };
    more();
    for name in ["pg2", "pg3", "pg1"] {
        let node = nodes.iter().find(|n| n.name == name).unwrap();
        node.stop();
        more();
        node.start();
        settled(&nodes.each_ref());
        more();
    }
    client.sh("pkill -f seq; pkill bash; true");
    let log = client.sh("cat /tmp/written").ok();
    let outcomes: Vec<bool> = log.lines().map(|l| l.starts_with("ok")).collect();
    // One session that fails is a slow machine's, not an outage.
    let outages = outcomes
        .windows(3)
        .filter(|w| w[0] && !w[1] && !w[2])
        .count();
    assert!(
        outages <= 1,
        "{outages} outages: {log}\n{}",
        nodes.each_ref().map(Node::logs).join("\n--\n")
    );
    let there: HashSet<u32> = elected(&nodes.each_ref())
        .psql("SELECT n FROM t")
        .lines()
        .map(|n| n.parse().unwrap())
        .collect();
    let lost: Vec<u32> = acknowledged().difference(&there).copied().collect();
    assert!(lost.is_empty(), "lost: {lost:?}");
}

/// All killed, one of them with less data, and started in every order, the third only when the first two
/// have a primary: no order waits for ever, and the one that lacks a row is never the primary.
#[test]
fn a_cold_start_in_every_order_has_the_one_with_the_most_data() {
    let c = Cluster::new("cold");
    let nodes = ["pg1", "pg2", "pg3"].map(|name| plan(&c, name).start());
    three(nodes.each_ref());
    let mut rows = 1;
    for order in [
        [0, 1, 2],
        [2, 1, 0],
        [1, 2, 0],
        [0, 2, 1],
        [2, 0, 1],
        [1, 0, 2],
    ] {
        let primary = elected(&nodes.each_ref());
        let standbys: Vec<&Node> = nodes.iter().filter(|n| n.name != primary.name).collect();
        let [ahead, behind] = standbys[..] else {
            panic!("three nodes")
        };
        behind.kill("KILL");
        behind.ended();
        rows += 1;
        primary.psql(&format!("INSERT INTO t VALUES ({rows})"));
        ahead.wait_row("SELECT max(n) FROM t", &rows.to_string());
        docker(["kill", &primary.container, &ahead.container]).ok();
        primary.ended();
        ahead.ended();
        let started = order.map(|at| [primary, ahead, behind][at]);
        started[0].start();
        started[0].wait_status("is up", |_| true);
        started[1].start();
        let first = elected(&started[..2]);
        assert_ne!(first.name, behind.name, "{order:?}");
        first.wait_row("SELECT max(n) FROM t", &rows.to_string());
        started[2].start();
        settled(&nodes.each_ref());
        same_rows(&nodes.each_ref(), rows);
    }
}

/// One primary, the others its standbys, all of them voters that answer.
#[track_caller]
pub(crate) fn settled(nodes: &[&Node; 3]) {
    let primary = elected(nodes);
    for node in nodes.iter().filter(|n| n.name != primary.name) {
        standby_of(node, primary);
    }
    primary.wait_status("is answered by all", |s| {
        s["election"]["reached"] == 3 && s["election"]["roster_changes"] == false
    });
    for node in nodes {
        node.wait_status("knows three voters", |s| s["election"]["voters"] == 3);
    }
    let open = nodes.iter().filter(|n| {
        let status = n.status().unwrap();
        status["role"] == "primary" && status["exposure"] == "consumer"
    });
    assert_eq!(open.count(), 1);
}

#[track_caller]
pub(crate) fn same_rows(nodes: &[&Node; 3], rows: u32) {
    for node in nodes {
        node.wait_row("SELECT count(*), max(n) FROM t", &format!("{rows}|{rows}"));
    }
}

/// After two promotions the control file of a standby still names the first timeline, where its WAL would be
/// past the end. While it cannot stream that must not be taken for WAL that the primary never had.
#[test]
fn a_standby_that_loses_its_stream_after_promotions_stays_open() {
    let c = Cluster::new("stale");
    let nodes = ["pg1", "pg2", "pg3"].map(|name| plan(&c, name).start());
    three(nodes.each_ref());
    let [one, two, last] = &nodes;
    for (from, to) in [(one, two), (two, one)] {
        from.sh(&format!("pgnode switchover --to {}", to.name)).ok();
        settled(&nodes.each_ref());
        to.psql("INSERT INTO t VALUES (2)");
        last.wait_row("SELECT count(*) > 1 FROM t", "t");
    }
    one.psql(
        "ALTER ROLE repmgr_streaming NOLOGIN; \
         SELECT pg_terminate_backend(pid) FROM pg_stat_replication WHERE application_name = 'pg3'",
    );
    let begun = last.wait_status("does not stream", |s| s["streaming"] == false);
    let begun = begun["now_ms"].as_u64().unwrap();
    // A look every two seconds; after five it asks what is the matter.
    last.wait_status("has looked often enough", |s| {
        s["now_ms"].as_u64().unwrap() > begun + 20_000
    });
    assert_eq!(last.status().unwrap()["state"], "open", "{}", last.logs());
    one.psql("ALTER ROLE repmgr_streaming LOGIN; INSERT INTO t VALUES (3)");
    last.wait_row("SELECT max(n) FROM t", "3");
    standby_of(last, one);
    assert!(!last.logged("never had"), "{}", last.logs());
}
