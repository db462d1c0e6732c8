//! The old primary comes back (issue 3 §3): by following, by a rewind, by a new clone; a kill on the way
//! leads to the next try.

use crate::docker::{Cluster, LONG, Node, Plan, eventually};

const PGNODE: &str = "/var/lib/postgresql/.pgnode";

fn master(c: &Cluster) -> Plan<'_> {
    c.master().env("BARMAN_MODE", "off")
}

/// Master and slave with a table of 100 rows on both.
fn pair(c: &Cluster) -> (Node, Node) {
    let (master, slave) = (
        master(c).start(),
        c.slave().env("BARMAN_MODE", "off").start(),
    );
    master.wait_open();
    slave.wait_streaming();
    master.psql("CREATE TABLE t (n int); INSERT INTO t SELECT generate_series(1, 100)");
    slave.wait_row("SELECT count(*) FROM t", "100");
    (master, slave)
}

/// What an election does, by hand.
///
/// Of three nodes it may be closed for a moment right after that: the others' promises to the old primary still run, and
/// a person's promotion has no lease before they answer.
fn promote(slave: &Node) {
    slave.psql("SELECT pg_promote()");
    insist(
        slave,
        "\\c repmgr\n\
         UPDATE repmgr.nodes SET type = 'standby', active = false, upstream_node_id = 2 WHERE node_id = 1;\n\
         UPDATE repmgr.nodes SET type = 'primary', upstream_node_id = NULL WHERE node_id = 2;",
    );
    slave.wait_status("is the primary", |s| {
        s["role"] == "primary" && s["state"] == "open"
    });
    insist(slave, "INSERT INTO t SELECT generate_series(201, 210)");
}

fn insist(node: &Node, sql: &str) {
    eventually(&format!("{sql} is accepted"), LONG, || {
        (node.try_psql(sql).code == 0).then_some(())
    });
}

/// The master writes rows that the slave never gets, and dies.
fn diverge(master: &Node, slave: &Node) {
    slave.psql("ALTER SYSTEM SET primary_conninfo = ''; SELECT pg_reload_conf()");
    slave.wait_row("SELECT count(*) FROM pg_stat_wal_receiver", "0");
    master.psql("INSERT INTO t SELECT generate_series(1001, 3000)");
    master.kill("KILL");
    master.ended();
    promote(slave);
}

/// A streaming standby of the slave, with the same rows, registered, its slot in use.
#[track_caller]
fn is_its_standby(old: &Node, new: &Node) {
    let status = old.wait_streaming();
    assert_eq!(status["role"], "standby");
    assert_eq!(status["upstream"], "pg2");
    new.psql("INSERT INTO t VALUES (999)");
    let all = "SELECT count(*) || ' ' || sum(n) || ' ' || max(n) FROM t";
    let rows = new.psql(all);
    old.wait_row(all, &rows);
    assert_eq!(old.psql("SELECT pg_is_in_recovery()"), "t");
    assert_eq!(new.psql("SELECT pg_is_in_recovery()"), "f");
    let nodes = "\\c repmgr\nSELECT string_agg(node_id || type || active || coalesce(upstream_node_id, 0), ' ' ORDER BY node_id) FROM repmgr.nodes";
    assert_eq!(new.psql(nodes), "1standbytrue2 2primarytrue0");
    let slot = "SELECT active FROM pg_replication_slots WHERE slot_name = 'repmgr_slot_1'";
    assert_eq!(new.psql(slot), "t");
    let left = old.sh(&format!("ls {PGNODE} | grep rewind")).out;
    assert_eq!(left, "", "nothing is unfinished");
    assert_eq!(old.psql("SELECT count(*) FROM pg_replication_slots"), "0");
}

fn inode(node: &Node) -> String {
    node.sh("stat -c %i /var/lib/postgresql/data").ok()
}

/// Everything had been sent: nothing is copied, nothing is lost. A second start is a standby's.
#[test]
fn a_clean_master_follows() {
    let c = Cluster::new("follow");
    let (master, slave) = pair(&c);
    let before = inode(&master);
    master.stop();
    promote(&slave);
    // Reserved for a promotion that did not happen: a standby would look for its own WAL on timeline 9, for ever.
    let reserve = "for n in 2 3 4 5 6 7 8 9; do echo '# no timeline: term' >/v/data/pg_wal/0000000$n.history; done";
    c.on_volume("pg1", reserve).ok();
    master.start();
    is_its_standby(&master, &slave);
    assert!(master.logged("gave back 8 numbers"));
    assert_eq!(inode(&master), before, "nothing was cloned");
    let status = master.status().unwrap();
    assert_eq!(status["rejoin"]["how"], "follow");
    assert!(status["rejoin"]["lost_bytes"].is_null(), "{status}");
    let log = master.logs_since_start();
    assert!(
        !log.contains("pg_rewind") && !log.contains("given up"),
        "{log}"
    );
    master.stop();
    master.start();
    is_its_standby(&master, &slave);
    let boot = master.boot();
    assert!(!boot.contains(&"rejoin".to_owned()), "{boot:?}");
}

/// An idle master that was killed had sent everything: it needs neither recovery nor a rewind. And the
/// promotion was `pg_promote` alone: repmgr's table is put right.
#[test]
fn a_killed_idle_master_follows() {
    let c = Cluster::new("idle");
    let (master, slave) = pair(&c);
    eventually("the slave has all of it", LONG, || {
        let (ours, theirs) = (
            master.psql("SELECT pg_current_wal_lsn()"),
            slave.psql("SELECT pg_last_wal_replay_lsn()"),
        );
        (ours == theirs).then_some(())
    });
    master.kill("KILL");
    master.ended();
    slave.psql("SELECT pg_promote()");
    slave.wait_status("is the primary", |s| s["role"] == "primary");
    master.start();
    is_its_standby(&master, &slave);
    let how = master.status().unwrap()["rejoin"]["how"].clone();
    let log = master.logs_since_start();
    // repmgrd may have written a row between the look and the kill.
    assert!(how == "follow" || log.contains("given up"), "{how}\n{log}");
    assert!(master.logged("repmgr did not know that pg2:5432 is the primary"));
}

/// Rows that only the old master had are reported, kept on request, and gone.
#[test]
fn a_killed_master_with_rows_of_its_own_is_rewound() {
    let c = Cluster::new("rewind");
    let (first, slave) = pair(&c);
    let before = inode(&first);
    diverge(&first, &slave);
    c.remove(first);
    let master = master(&c).env("PGNODE_KEEP_DIVERGED", "true").start();
    is_its_standby(&master, &slave);
    assert_eq!(inode(&master), before, "nothing was cloned");
    assert_eq!(master.psql("SELECT count(*) FROM t WHERE n > 1000"), "0");
    let status = master.status().unwrap();
    let rejoin = &status["rejoin"];
    assert_eq!(rejoin["how"], "rewind");
    assert!(
        rejoin["lost_bytes"].as_u64().unwrap() > 2000 * 27,
        "{rejoin}"
    );
    let kept = rejoin["kept"].as_str().unwrap();
    assert!(master.logged("WAL that only this node had") && master.logged(kept));
    let found = master
        .sh_as(
            "postgres",
            &format!(
                "pg_waldump -p {kept} -s {} | grep -c Heap",
                rejoin["fork"].as_str().unwrap()
            ),
        )
        .out;
    assert!(found.trim().parse::<u32>().unwrap() >= 2000, "{found}");
    // What the log promised before, it said before anything was given up.
    let log = master.logs_since_start();
    assert!(log.find("given up").unwrap() < log.find("rewinding from").unwrap());
}

/// A rewind that was given up: cloned anew, and the half rewound copy goes last.
#[test]
fn a_half_rewound_master_is_cloned() {
    let c = Cluster::new("marker");
    let (master, slave) = pair(&c);
    let id = master.psql("SELECT system_identifier FROM pg_control_system()");
    master.stop();
    // Nobody tells repmgr: the clone must not take itself for its primary.
    slave.psql("SELECT pg_promote()");
    slave.wait_status("is the primary", |s| s["role"] == "primary");
    // As a kill in the middle of the third try leaves it: files half written.
    c.on_volume(
        "pg1",
        &format!(
            "rm /v/data/PG_VERSION && i=$(stat -c %i /v/data/global) && \
             echo '{{\"phase\":\"begun\",\"tries\":3,\"system_id\":{id},\"timeline\":1,\
             \"fork\":{{\"timeline\":1,\"lsn\":\"0/3000028\"}},\"end\":null,\"source\":2,\"inode\":'$i'}}' \
             > /v/.pgnode/rewind.json"
        ),
    )
    .ok();
    let before = inode_on(&c);
    master.start();
    is_its_standby(&master, &slave);
    assert_ne!(inode(&master), before, "a new copy");
    assert_eq!(master.status().unwrap()["rejoin"]["how"], "clone");
    master.wait_log("the one that was set aside is removed");
    let log = master.logs_since_start();
    let at = |text: &str| log.find(text).unwrap_or_else(|| panic!("{text:?}\n{log}"));
    assert!(at("finish an interrupted rewind") < at("state=rejoin"));
    assert!(at("pg_rewind failed several times") < at("state=clone"));
    assert!(at("state=clone") < at("set aside is removed"));
}

/// Where PGDATA is a mount point our own files are inside it, and pg_rewind would remove them.
#[test]
fn a_master_on_a_mount_point_is_cloned() {
    let c = Cluster::new("mount");
    let mount = format!("{}:/var/lib/postgresql/data", c.volume("pg1data"));
    let planned = || {
        master(&c)
            .env("PGNODE_KEEP_DIVERGED", "true")
            .flags(&["-v", &mount])
    };
    let first = planned().start();
    let slave = c.slave().env("BARMAN_MODE", "off").start();
    first.wait_open();
    slave.wait_streaming();
    first.psql("CREATE TABLE t (n int); INSERT INTO t SELECT generate_series(1, 100)");
    slave.wait_row("SELECT count(*) FROM t", "100");
    diverge(&first, &slave);
    first.start();
    is_its_standby(&first, &slave);
    let rejoin = first.status().unwrap()["rejoin"].clone();
    assert_eq!(rejoin["how"], "clone");
    assert!(
        rejoin["lost_bytes"].as_u64().unwrap() > 2000 * 27,
        "{rejoin}"
    );
    assert!(first.logged("PGDATA is itself a mount point"));
    // What was kept outlives the swap and the old copy.
    first.wait_log("the one that was set aside is removed");
    let kept = rejoin["kept"].as_str().unwrap();
    first.sh(&format!("ls {kept}/0000000100000000000000*")).ok();
}

fn inode_on(c: &Cluster) -> String {
    c.on_volume("pg1", "stat -c %i /v/data").ok()
}

/// While the new primary is away a half rewound master waits, closed, and says for what.
#[test]
fn a_half_rewound_master_waits_for_a_primary() {
    let c = Cluster::new("lonely");
    let (first, slave) = pair(&c);
    diverge(&first, &slave);
    c.remove(first);
    let held = master(&c).env("PGNODE_TEST_HOLD", "rejoin:after").start();
    held.wait_log("held by PGNODE_TEST_HOLD");
    held.kill("KILL");
    held.ended();
    c.remove(held);
    slave.stop();
    // As after a kill in the middle: the files of the standby were not written yet.
    c.on_volume(
        "pg1",
        "rm /v/data/standby.signal && i=$(stat -c %i /v/data/global) && \
         id=$(pg_controldata /v/data | awk '/system identifier/ {print $4}') && \
         echo '{\"phase\":\"rewound\",\"tries\":1,\"system_id\":'$id',\"timeline\":1,\
         \"fork\":{\"timeline\":1,\"lsn\":\"0/3000028\"},\"end\":null,\"source\":2,\"inode\":'$i'}' \
         > /v/.pgnode/rewind.json",
    )
    .ok();
    let master = master(&c).start();
    let status = master.wait_state("fenced");
    let why = status["sentence"].as_str().unwrap();
    assert!(
        why.contains("no node serves clients as the primary"),
        "{why}"
    );
    assert_eq!(status["exposure"], "closed");
    slave.start();
    slave.wait_open();
    is_its_standby(&master, &slave);
    assert_eq!(master.status().unwrap()["rejoin"]["how"], "rewind");
}

/// A kill before, in the middle of and after the rewind: the next start converges.
#[test]
fn a_kill_during_the_rewind_converges() {
    let c = Cluster::new("kill");
    let (first, slave) = pair(&c);
    diverge(&first, &slave);
    c.remove(first);
    let held = master(&c).env("PGNODE_TEST_HOLD", "rejoin:before").start();
    held.wait_log("held by PGNODE_TEST_HOLD");
    let told = held.sh("pgnode rejoin --dry-run").ok();
    for word in ["would be rewound from pg2:5432", "would be given up"] {
        assert!(told.contains(word), "{told}");
    }
    let unchanged = held.sh(&format!("ls {PGNODE} | grep rewind")).out;
    assert_eq!(unchanged, "", "a dry run changes nothing");
    let refused = slave.sh("pgnode rejoin");
    assert!(
        refused.code == 1 && refused.out.contains("the node is open"),
        "{refused:?}"
    );
    held.kill("KILL");
    held.ended();
    c.remove(held);
    let cut = master(&c).start();
    eventually("the rewind has begun", LONG, || {
        (cut.sh(&format!("test -f {PGNODE}/rewind.json")).code == 0).then_some(())
    });
    cut.kill("KILL");
    cut.ended();
    c.remove(cut);
    let held = master(&c).env("PGNODE_TEST_HOLD", "rejoin:after").start();
    eventually(
        "the data are a standby's, or are to be cloned",
        LONG,
        || held.logged("held by PGNODE_TEST_HOLD").then_some(()),
    );
    held.kill("KILL");
    held.ended();
    c.remove(held);
    let master = master(&c).start();
    is_its_standby(&master, &slave);
    assert_eq!(master.psql("SELECT count(*) FROM t WHERE n > 1000"), "0");
}

/// An open master that sees a later primary closes, and rejoins by itself.
#[test]
fn an_open_master_gives_way() {
    let c = Cluster::new("giveway");
    let (master, slave) = pair(&c);
    promote(&slave);
    is_its_standby(&master, &slave);
    let log = master.logs();
    let at = |text: &str| log.find(text).unwrap_or_else(|| panic!("{text:?}\n{log}"));
    assert!(at("state=closing") < at("state=rejoin"));
}

/// A slave that received more than the one that was promoted can never follow it: it closes and is
/// rewound.
#[test]
fn a_slave_that_has_more_than_the_new_primary_is_rewound() {
    let c = Cluster::new("ahead");
    let all = "pg1,pg2,pg3";
    let partners = |plan: Plan<'_>| plan.env("REPMGR_PARTNER_NODES", all).start();
    let master = partners(master(&c));
    let second = partners(c.slave().env("BARMAN_MODE", "off"));
    let third = partners(
        c.node("pg3")
            .env("BARMAN_MODE", "off")
            .env("REPMGR_MASTER", "false")
            .env("REPMGR_PRIMARY_HOST", "pg1"),
    );
    master.wait_open();
    second.wait_streaming();
    third.wait_streaming();
    // One that has not been enrolled yet elects nobody.
    for node in [&second, &third] {
        node.wait_status("knows three voters", |s| s["election"]["voters"] == 3);
    }
    master.psql("CREATE TABLE t (n int); INSERT INTO t SELECT generate_series(1, 100)");
    second.wait_row("SELECT count(*) FROM t", "100");
    second.psql("ALTER SYSTEM SET primary_conninfo = ''; SELECT pg_reload_conf()");
    second.wait_row("SELECT count(*) FROM pg_stat_wal_receiver", "0");
    master.psql("INSERT INTO t SELECT generate_series(1001, 3000)");
    third.wait_row("SELECT count(*) FROM t", "2100");
    master.kill("KILL");
    master.ended();
    promote(&second);
    let status = third.wait_status("streams from pg2", |s| {
        s["state"] == "open" && s["streaming"] == true && s["upstream"] == "pg2"
    });
    assert_eq!(status["rejoin"]["how"], "rewind", "{status}");
    let rows = second.psql("SELECT count(*) FROM t");
    third.wait_row("SELECT count(*) FROM t", &rows);
    assert_eq!(third.psql("SELECT count(*) FROM t WHERE n > 1000"), "0");
    let log = third.logs();
    let at = |text: &str| log.find(text).unwrap_or_else(|| panic!("{text:?}\n{log}"));
    assert!(at("holds WAL that the new primary never had") < at("state=rejoin"));
    // The old master comes back beside it.
    master.start();
    let status = master.wait_streaming();
    assert_eq!(
        (&status["role"], &status["upstream"]),
        (&"standby".into(), &"pg2".into())
    );
}
