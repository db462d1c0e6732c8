//! A slave that cannot stream is mended (§6); who may be primary (§6, DESIGN §2).

use crate::docker::{Cluster, LONG, Node, eventually};

const SLOT: &str = "repmgr_slot_2";

fn count(master: &Node, slave: &Node) {
    master.psql("INSERT INTO t VALUES (1)");
    let count = master.psql("SELECT count(*) FROM t");
    slave.wait_row("SELECT count(*) FROM t", &count);
}

fn inode(node: &Node) -> String {
    node.sh("stat -c %i /var/lib/postgresql/data").ok()
}

/// §6: the slot is gone while the WAL is still there: made again, nothing is cloned.
#[test]
fn a_lost_slot_is_made_again() {
    let c = Cluster::new("slot");
    let master = c.master().start();
    let slave = c.slave().start();
    master.wait_open();
    slave.wait_streaming();
    master.psql("CREATE TABLE t (n int)");
    let before = inode(&slave);
    slave.stop();
    eventually("the slot is free to be dropped", LONG, || {
        let ran = master.try_psql(&format!("SELECT pg_drop_replication_slot('{SLOT}')"));
        (ran.code == 0).then_some(())
    });
    master.psql("INSERT INTO t VALUES (1)");
    slave.start();
    slave.wait_open();
    slave.wait_log("made the replication slot repmgr_slot_2");
    slave.wait_streaming();
    count(&master, &slave);
    let active = master.psql(&format!(
        "SELECT active FROM pg_replication_slots WHERE slot_name = '{SLOT}'"
    ));
    assert_eq!(active, "t");
    assert_eq!(inode(&slave), before, "nothing was cloned");
}

/// §6: the WAL is gone as well: cloned anew, and the former copy is kept until the new one streams.
#[test]
fn a_slave_whose_wal_is_gone_is_cloned_anew() {
    let c = Cluster::new("walgone");
    // Without barman's slot, which would hold the WAL back as well.
    let master = c
        .master()
        .env("BARMAN_MODE", "off")
        .words(&["-c", "wal_keep_size=0"])
        .start();
    let slave = c.slave().env("BARMAN_MODE", "off").start();
    master.wait_open();
    slave.wait_streaming();
    master.psql("CREATE TABLE t (n int)");
    let before = inode(&slave);
    slave.stop();
    eventually("the slot is free to be dropped", LONG, || {
        let ran = master.try_psql(&format!("SELECT pg_drop_replication_slot('{SLOT}')"));
        (ran.code == 0).then_some(())
    });
    let needed = master.psql("SELECT pg_walfile_name(pg_current_wal_lsn())");
    eventually("the segment is gone", LONG, || {
        master.psql("INSERT INTO t VALUES (1); SELECT pg_switch_wal(); CHECKPOINT");
        let left = master.psql(&format!(
            "SELECT count(*) FROM pg_ls_waldir() WHERE name = '{needed}'"
        ));
        (left == "0").then_some(())
    });
    slave.start();
    slave.wait_open();
    slave.wait_log("no longer has the WAL");
    slave.wait_status("cloned anew and streams", |s| {
        s["state"] == "open" && s["streaming"] == true
    });
    count(&master, &slave);
    assert_ne!(inode(&slave), before, "a new copy");
    let log = slave.logs_since_start();
    let at = |text: &str| {
        log.find(text)
            .unwrap_or_else(|| panic!("{text:?} is not in\n{log}"))
    };
    assert!(at("state=closing") < at("state=await-primary"));
    assert!(at("state=await-primary") < at("state=clone"));
    eventually("the former copy is removed", LONG, || {
        let old = slave
            .sh("ls /var/lib/postgresql/.pgnode/old 2>/dev/null | wc -l")
            .ok();
        (old == "0").then_some(())
    });
    slave.wait_log("the one that was set aside is removed");
    let log = slave.logs_since_start();
    let removed = log.find("set aside is removed").unwrap();
    let streams = log[log.find("state=clone").unwrap()..]
        .find("started streaming")
        .unwrap();
    assert!(
        removed > streams,
        "the former copy went before the new one streamed\n{log}"
    );
}

/// §6, DESIGN §2: an empty disk that is to become a master beside a cluster that is there: stays closed and
/// says why; lifted by itself when the other is gone.
#[test]
fn an_empty_master_beside_a_primary_stays_fenced() {
    let c = Cluster::new("twin");
    let first = c.master().open();
    let second = c
        .node("pg2")
        .env("REPMGR_MASTER", "true")
        .env("REPMGR_PARTNER_NODES", "pg1")
        .start();
    let status = second.wait_state("fenced");
    assert_eq!(status["exposure"], "closed");
    let why = status["sentence"].as_str().unwrap();
    assert!(
        why.contains("pg1") && why.contains("REPMGR_MASTER=false"),
        "{why}"
    );
    assert_ne!(
        second.sh("exec 3<>/dev/tcp/127.0.0.1/5432").code,
        0,
        "5432 is closed"
    );
    assert_eq!(second.get("/primary").unwrap().code, 503);
    assert_eq!(
        second.get("/liveness").unwrap().code,
        200,
        "nothing restarts it for that"
    );
    let data = second.sh("ls -A /var/lib/postgresql/data 2>/dev/null").out;
    assert_eq!(data, "", "nothing was created");
    first.stop();
    second.wait_open();
    assert_eq!(second.psql("SELECT pg_is_in_recovery()"), "f");
}
