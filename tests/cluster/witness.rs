//! The third vote: a witness beside a master and a slave (issue 3 §1).

use crate::docker::{Cluster, LONG, Node, Plan, eventually};

/// The usual witness `pg3`.
fn witness(c: &Cluster) -> Plan<'_> {
    c.node("pg3")
        .env("PGNODE_ROLE", "witness")
        .env("REPMGR_PARTNER_NODES", "pg1,pg2,pg3")
}

/// repmgr's own view, from that node; all is well when it ends with 0.
fn cluster_show(node: &Node) -> Result<String, String> {
    let ran = node.sh_as(
        "postgres",
        "PGPASSFILE=/run/pgnode/pgpass repmgr -f /etc/repmgr.d/repmgr.conf cluster show --compact 2>&1",
    );
    let clean = ran.code == 0 && !ran.out.contains(['!', '?']);
    if clean { Ok(ran.out) } else { Err(ran.out) }
}

/// Id, kind, whether active, and upstream of each row of repmgr's table; nothing while the node is closed.
fn table(node: &Node) -> Option<String> {
    let ran = node.try_psql(
        "\\c repmgr\nSELECT string_agg(concat_ws(' ', node_id, type, active, upstream_node_id), ', ' \
         ORDER BY node_id) FROM repmgr.nodes",
    );
    (ran.code == 0).then(|| ran.out.trim_end().to_owned())
}

fn wait_table(node: &Node, want: &str) {
    eventually(&format!("{}'s table is {want}", node.name), LONG, || {
        (table(node)? == want).then_some(())
    });
}

const WHOLE: &str = "1 primary t, 2 standby t 1, 3 witness t 1";

#[test]
fn a_witness_joins_restarts_and_comes_back_from_nothing() {
    let c = Cluster::new("witness");
    // Before there is a cluster: it waits, and says for what.
    let third = witness(&c).start();
    third.wait_state("await-primary");
    let master = c.master().open();
    let slave = c.slave().start();
    slave.wait_streaming();
    third.wait_open();
    for node in [&master, &slave, &third] {
        wait_table(node, WHOLE);
        eventually("cluster show is clean", LONG, || cluster_show(node).ok());
    }
    let show = eventually("cluster show is clean", LONG, || cluster_show(&third).ok());
    assert!(show.contains("witness") && show.contains("pg3"), "{show}");
    what_it_shows(&third, &master);
    what_it_holds(&third);

    // A restart needs no primary, and finds what it had. The slave and the witness would elect on a slow machine.
    master.sh("pgnode pause").ok();
    for node in [&slave, &third] {
        node.wait_status("knows of the maintenance", |s| {
            s["election"]["paused"] == true
        });
    }
    master.stop();
    third.stop();
    third.start();
    third.wait_open();
    let log = third.logs_since_start();
    assert!(!log.contains("creating the cluster"), "{log}");
    assert_eq!(table(&third).as_deref(), Some(WHOLE));
    // And a master comes back with a witness and a slave beside it.
    master.start();
    master.wait_open();
    master.sh("pgnode resume").ok();

    // Nothing is lost with its volume.
    third.stop();
    c.on_volume("pg3", "find /v -mindepth 1 -delete").ok();
    third.start();
    third.wait_open();
    for node in [&master, &slave, &third] {
        wait_table(node, WHOLE);
        eventually("cluster show is clean", LONG, || cluster_show(node).ok());
    }
}

/// A vote of the cluster, and nowhere for clients to go.
fn what_it_shows(third: &Node, master: &Node) {
    let status = third.wait_status("is registered", |s| {
        s["members"].as_array().is_some_and(|m| m.len() == 3)
    });
    assert_eq!(status["role"], "witness", "{status}");
    assert!(status["timeline"].is_null() && status["lsn"].is_null());
    let cluster = master.wait_open()["system_id"].clone();
    assert!(cluster.is_number());
    assert_eq!(status["system_id"], cluster);
    let codes = [
        "/health",
        "/readiness",
        "/primary",
        "/replica",
        "/read-only",
    ]
    .map(|path| third.get(path).unwrap().code);
    assert_eq!(codes, [200, 200, 503, 503, 503]);
    let shown = third.sh("pgnode status").ok();
    assert!(
        shown.starts_with("OPEN  pg3, witness: votes with pg1"),
        "{shown}"
    );
}

/// Its own database, repmgr's, and neither barman nor cron.
fn what_it_holds(third: &Node) {
    let databases = third.psql(
        "SELECT string_agg(datname, ' ' ORDER BY 1) FROM pg_database WHERE NOT datistemplate",
    );
    assert_eq!(databases, "postgres repmgr");
    let names = third.sh("cat /proc/[0-9]*/comm").out;
    assert!(names.contains("repmgrd"), "{names}");
    assert!(
        !names.contains("cron") && !names.contains("barman"),
        "{names}"
    );
    assert_eq!(third.sh("test -e /run/pgnode/barman.conf").code, 1);
}

/// A promotion by hand, as a person does it who has lost the primary, where nobody could be elected.
pub(crate) fn promote_by_hand(node: &Node, id: u32, lost: u32) {
    let sql = format!(
        "\\c repmgr\nSELECT pg_promote();\nUPDATE repmgr.nodes SET active = false WHERE node_id = {lost};\n\
         UPDATE repmgr.nodes SET type = 'primary', upstream_node_id = NULL WHERE node_id = {id}"
    );
    assert_eq!(node.psql(&sql), "t");
}

#[test]
fn a_witness_goes_with_the_new_primary() {
    let c = Cluster::new("wfollow");
    let master = c.master().open();
    let slave = c.slave().start();
    let third = witness(&c).start();
    slave.wait_streaming();
    third.wait_open();
    wait_table(&slave, WHOLE);

    // Two of three votes are left: the slave is elected. A voter counts once it has answered.
    for node in [&slave, &third] {
        node.wait_status("knows all voters", |s| s["election"]["voters"] == 3);
    }
    master.stop();
    slave.wait_status("is the primary", |s| {
        s["role"] == "primary" && s["state"] == "open"
    });
    let after = "1 primary f, 2 primary t, 3 witness t 2";
    wait_table(&slave, after);
    wait_table(&third, after);
    // Its repmgrd goes along: by itself, where it saw the new one first, or started anew.
    eventually("repmgrd of the witness follows pg2", LONG, || {
        let logs = third.logs();
        let ways = ["now following new", "witness monitoring connection to"];
        let goes = |way: &&str| logs.contains(&format!("{way} primary node \"pg2\""));
        ways.iter().any(goes).then_some(())
    });

    // A record that somebody removed is made again.
    slave.psql("\\c repmgr\nDELETE FROM repmgr.nodes WHERE node_id = 3");
    wait_table(&slave, after);
    // repmgrd may have brought its absence into the copy first.
    third.wait_log("it has no record of this witness");
}

/// A witness must not take a data node's record.
#[test]
fn a_witness_with_a_data_nodes_id_is_refused() {
    let c = Cluster::new("wclash");
    let master = c.master().open();
    let third = witness(&c).env("REPMGR_NODE_ID", "1").start();
    assert_eq!(third.ended(), 78);
    assert!(third.logged("give it an id and a name of its own"));
    assert_eq!(table(&master).as_deref(), Some("1 primary t"));
}
