//! What a person decides: pause, fence, promote --force (issue 3 §4).

use crate::docker::{Cluster, LONG, Node, Plan, Ran, eventually};

/// With the times of the default profile: in the fast one a busy machine fences a primary now and then.
pub(crate) fn plan<'a>(c: &'a Cluster, name: &str) -> Plan<'a> {
    c.node(name)
        .env("BARMAN_MODE", "off")
        .env("REPMGR_PARTNER_NODES", "pg1,pg2,pg3")
        .env(
            "REPMGR_MASTER",
            if name == "pg1" { "true" } else { "false" },
        )
        .env("REPMGR_PRIMARY_HOST", "pg1")
}

fn start(c: &Cluster) -> [Node; 3] {
    let nodes = ["pg1", "pg2", "pg3"].map(|name| plan(c, name).start());
    three(nodes.each_ref());
    nodes
}

/// Waits for a primary with two standbys, all three of them voters; makes a table.
pub(crate) fn three(nodes: [&Node; 3]) {
    nodes[0].wait_open();
    for node in &nodes[1..] {
        node.wait_streaming();
    }
    for node in nodes {
        node.wait_status("knows three voters", |s| {
            s["election"]["voters"] == 3 && s["election"]["roster_changes"] == false
        });
    }
    nodes[0].wait_status("is answered by all", |s| s["election"]["reached"] == 3);
    nodes[0].psql("CREATE TABLE t (n int); INSERT INTO t VALUES (1)");
    for node in &nodes[1..] {
        node.wait_row("SELECT count(*) FROM t", "1");
    }
}

fn verb(node: &Node, words: &str) -> Ran {
    node.sh(&format!("pgnode {words}"))
}

fn refused(node: &Node, words: &str, why: &str) {
    let ran = verb(node, words);
    assert_eq!(ran.code, 1, "{ran:?}");
    assert!(ran.out.contains(why), "{ran:?}");
}

/// The one that is open as the primary, once there is one.
pub(crate) fn elected<'a>(nodes: &[&'a Node]) -> &'a Node {
    eventually("a primary", LONG, || {
        let primary = |n: &&&Node| {
            n.status()
                .is_some_and(|s| s["role"] == "primary" && s["exposure"] == "consumer")
        };
        nodes.iter().find(primary).copied()
    })
}

pub(crate) fn standby_of(node: &Node, primary: &Node) {
    // It streams from the former one for a moment longer.
    let what = format!("streams from {}", primary.name);
    let status = node.wait_status(&what, |s| {
        s["state"] == "open" && s["streaming"] == true && s["upstream"] == primary.name.as_str()
    });
    assert_eq!(status["role"], "standby");
}

#[test]
fn during_a_maintenance_nobody_is_elected() {
    let c = Cluster::new("pause");
    let [one, two, three] = start(&c);
    let said = one.sh("pgnode status").ok();
    assert!(said.contains("term 1: leads, 3 answer"), "{said}");
    assert!(one.logged("is closed within 5.5 s"));
    refused(&two, "pause", "pg1 was heard as the primary");
    refused(&two, "resume", "pg1 was heard as the primary");
    verb(&one, "pause").ok();
    for node in [&one, &two, &three] {
        node.wait_status("knows of it", |s| s["election"]["paused"] == true);
        let said = node.sh("pgnode status").ok();
        assert!(said.lines().nth(1).unwrap().starts_with("PAUSED"), "{said}");
        let metrics = node.get("/metrics").unwrap().body;
        assert!(metrics.contains("pgnode_paused 1"), "{metrics}");
        assert!(metrics.contains("pgnode_voters 3"), "{metrics}");
    }
    one.kill("KILL");
    one.ended();
    // Several promises long; the boot of the old primary is another.
    for node in [&two, &three] {
        node.wait_status("has heard nobody for long", |s| {
            let now = s["now_ms"].as_u64().unwrap_or_default();
            let heard = s["election"]["heard_at_ms"].as_u64().unwrap_or(now);
            now > heard + 15_000
        });
        let status = node.status().unwrap();
        assert_eq!(status["election"]["term"], 1, "{status}");
        assert_eq!(status["role"], "standby");
    }
    one.start();
    let status = one.wait_open();
    assert_eq!(status["role"], "primary");
    assert_eq!(status["timeline"], 1);
    assert_eq!(status["election"]["paused"], true, "it outlasts a restart");
    verb(&one, "resume").ok();
    for node in [&two, &three] {
        node.wait_status("knows of its end", |s| s["election"]["paused"] == false);
    }
    one.kill("KILL");
    one.ended();
    let new = elected(&[&two, &three]);
    one.start();
    standby_of(&one, new);
}

#[test]
fn a_fenced_primary_is_replaced_and_stays_closed() {
    let c = Cluster::new("fence");
    let [one, two, three] = start(&c);
    refused(&one, "unfence", "nobody has fenced this node");
    verb(&one, "fence").ok();
    let fenced = |s: &serde_json::Value| s["state"] == "fenced" && s["exposure"] == "closed";
    let status = one.wait_status("is fenced", fenced);
    assert!(
        status["sentence"]
            .as_str()
            .unwrap()
            .contains("pgnode unfence"),
        "{status}"
    );
    let new = elected(&[&two, &three]);
    new.psql("INSERT INTO t VALUES (2)");
    // Nothing but a person opens it: neither the new primary, nor a restart, nor another verb.
    refused(&one, "rejoin", "fenced with `pgnode fence`");
    refused(&one, "promote --force", "fenced with `pgnode fence`");
    one.stop();
    one.start();
    one.wait_status("is fenced again", fenced);
    let log = one.logs_since_start();
    assert!(!log.contains("state=open"), "{log}");
    let json = verb(&one, "unfence --json").ok();
    assert!(json.starts_with("{\"ok\":true"), "{json}");
    standby_of(&one, new);
    one.wait_row("SELECT count(*) FROM t", "2");
    one.stop();
    one.start();
    one.wait_streaming();

    // A standby is fenced as well, and the primary keeps its lease by it.
    verb(&one, "fence").ok();
    one.wait_status("is fenced as a standby", fenced);
    new.wait_status("is answered by all", |s| s["election"]["reached"] == 3);
    verb(&one, "unfence").ok();
    standby_of(&one, new);
}

#[test]
fn the_last_of_three_is_promoted_by_force() {
    let c = Cluster::new("force");
    let [one, two, three] = start(&c);
    refused(
        &two,
        "promote --force",
        "pg1 (pg1:5432) serves clients as the primary",
    );
    refused(&one, "promote --force", "this node is the primary already");
    for node in [&three, &one] {
        node.kill("KILL");
        node.ended();
    }
    // Until its own promise to the dead primary has run out it takes that one for alive.
    eventually("it is left to a person", LONG, || {
        let ran = verb(&two, "promote");
        assert_eq!(ran.code, 1, "{ran:?}");
        ran.out.contains("not without --force").then_some(())
    });
    refused(
        &two,
        "promote",
        "AT RISK: 3 voters are known and 2 of them elect",
    );
    assert_eq!(two.status().unwrap()["role"], "standby");
    let said = verb(&two, "promote --force").ok();
    assert!(said.contains("AT RISK"), "{said}");
    elected(&[&two]);
    two.psql("INSERT INTO t VALUES (2)");
    // It goes on without them, also over a restart's worth of leases, and takes them in again.
    one.start();
    three.start();
    standby_of(&one, &two);
    standby_of(&three, &two);
    one.wait_row("SELECT count(*) FROM t", "2");
    two.wait_status("counts three voters again", |s| {
        s["election"]["voters"] == 3 && s["election"]["reached"] == 3
    });
    assert_eq!(two.status().unwrap()["restarts"], 0);
}
