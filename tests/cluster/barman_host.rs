//! A barman host in real containers (issue 4 §1): from nothing to green without a person, and back to green
//! after whatever happens to it or to its clusters.

use crate::docker::{Cluster, LONG, Node, Plan, docker, eventually};
use serde_json::Value;
use std::collections::BTreeSet;

/// A barman host that keeps those clusters.
fn host<'a>(c: &'a Cluster, servers: &str) -> Plan<'a> {
    c.node("bk1")
        .env("PGNODE_ROLE", "barman")
        .env("BARMAN_SERVERS", servers)
}

fn remote<'a>(plan: Plan<'a>) -> Plan<'a> {
    plan.env("BARMAN_MODE", "remote")
}

/// The host's view of one cluster.
fn kept(status: &Value, name: &str) -> Value {
    let servers = status["host"]["servers"].as_array();
    let found = servers.and_then(|all| all.iter().find(|s| s["name"] == name));
    found.cloned().unwrap_or_default()
}

fn is_green(kept: &Value) -> bool {
    let empty = |v: &Value| v.as_array().is_some_and(Vec::is_empty);
    kept["attached_since_ms"].is_u64()
        && empty(&kept["check"]["failed"])
        && empty(&kept["problems"])
        && kept["last_id"].is_string()
}

/// Waits until a cluster is green and `look` likes it, and believes barman only.
#[track_caller]
fn wait_green(bk: &Node, name: &str, what: &str, look: impl Fn(&Value) -> bool) -> Value {
    let what = format!("{name} is green, {what}");
    let status = bk.wait_status(&what, |s| {
        let kept = kept(s, name);
        is_green(&kept) && look(&kept)
    });
    eventually(&format!("barman check {name}"), LONG, || {
        let ran = bk.sh_as("barman", &format!("barman check {name}"));
        (ran.code == 0).then_some(())
    });
    kept(&status, name)
}

fn always(_: &Value) -> bool {
    true
}

/// Segments that the host has of a cluster, in the archive or just received; in this order, because one may be moved
/// from the one to the other meanwhile.
fn segments(bk: &Node, name: &str) -> BTreeSet<(u32, u64)> {
    let find = format!(
        "cd /home/barman/data/{name} && find streaming wals -type f -printf '%f\\n' | grep -E '^[0-9A-F]{{24}}$'"
    );
    let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let parse = |line: &str| {
        let timeline = u32::from_str_radix(&line[..8], 16).unwrap();
        (timeline, number(&line[8..16]) * 256 + number(&line[16..24]))
    };
    bk.sh(&find).out.lines().map(parse).collect()
}

/// Every segment between the first and the last is there.
#[track_caller]
fn no_gap(bk: &Node, name: &str) {
    let numbers: BTreeSet<u64> = segments(bk, name).into_iter().map(|(_, n)| n).collect();
    let (first, last) = (*numbers.first().unwrap(), *numbers.last().unwrap());
    let missing: Vec<u64> = (first..=last).filter(|n| !numbers.contains(n)).collect();
    assert!(missing.is_empty(), "{missing:?} of {first} to {last}");
}

/// Writes so many segments, and gives the position after them.
fn write_wal(primary: &Node, segments: u32) -> String {
    for _ in 0..segments {
        primary.psql("SELECT pg_logical_emit_message(false, 'x', repeat('x', 16000000))");
    }
    // Written is not flushed, and only that is sent.
    primary.psql("SELECT pg_switch_wal()");
    primary.psql("SELECT pg_current_wal_lsn()")
}

/// A position as a number.
fn lsn(text: &str) -> u64 {
    let (high, low) = text.trim().split_once('/').unwrap();
    let number = |t: &str| u64::from_str_radix(t, 16).unwrap();
    number(high) << 32 | number(low)
}

fn received(kept: &Value) -> u64 {
    kept["received"].as_str().map_or(0, lsn)
}

#[test]
fn a_host_is_green_from_nothing_and_after_every_stop() {
    let c = Cluster::new("bkfirst");
    let master = remote(c.master()).start();
    let slave = remote(c.slave()).start();
    let bk = host(&c, "main=pg1,pg2").start();
    let kept_now = wait_green(&bk, "main", "from nothing", always);
    assert_eq!(kept_now["primary"], "pg1:5432");
    let list = bk.sh_as("barman", "barman list-backups main").ok();
    assert_eq!(list.lines().count(), 1, "{list}");
    assert!(
        !list.contains("WAITING") && !list.contains("FAILED"),
        "{list}"
    );
    slave.wait_streaming();
    assert_eq!(bk.get("/readiness").unwrap().code, 200);
    assert_eq!(bk.get("/health").unwrap().code, 200);
    assert_eq!(bk.get("/primary").unwrap().code, 503);
    let metrics = bk.get("/metrics").unwrap().body;
    assert!(
        metrics.contains("pgnode_barman_green{server=\"main\"} 1"),
        "{metrics}"
    );
    assert!(bk.sh("pgnode status").ok().starts_with("GREEN  bk1"));
    assert_eq!(bk.sh("pgnode switchover").code, 1);

    // receive-wal dies.
    let before = kept_now["receiver_restarts"].as_u64().unwrap();
    bk.sh("pkill -9 pg_receivewal").ok();
    bk.wait_status("receives again", |s| {
        let kept = kept(s, "main");
        kept["receiver_restarts"].as_u64() > Some(before) && kept["attached_since_ms"].is_u64()
    });
    let end = lsn(&write_wal(&master, 2));
    wait_green(&bk, "main", "the WAL has come", |k| received(k) >= end);

    // A stop in order, and a kill.
    bk.stop();
    assert_eq!(bk.inspect("{{.State.ExitCode}}"), "0");
    assert!(bk.logs_since_start().contains("everything has ended"));
    let end = lsn(&write_wal(&master, 2));
    bk.start();
    wait_green(&bk, "main", "started again", |k| received(k) >= end);
    bk.kill("KILL");
    bk.ended();
    let end = lsn(&write_wal(&master, 2));
    bk.start();
    wait_green(&bk, "main", "after a kill", |k| received(k) >= end);
    no_gap(&bk, "main");
    // One of cron's may have ended this very moment.
    eventually("every orphan is reaped", LONG, || {
        let processes = bk.sh("cat /proc/[0-9]*/stat").out;
        (!processes.contains(") Z ")).then_some(())
    });
}

#[test]
fn clusters_do_not_hold_up_each_other() {
    let c = Cluster::new("bktwo");
    let bk = host(&c, "gone=nowhere;main=pg1,pg2;other=db1").start();
    let _master = remote(c.master()).open();
    let _other = remote(c.node("db1")).open();
    for name in ["main", "other"] {
        wait_green(&bk, name, "beside one that is gone", always);
    }
    let status = bk.status().unwrap();
    let gone = kept(&status, "gone");
    let note = gone["note"].as_str().unwrap();
    assert!(
        note.contains("waiting for a primary") && note.contains("nowhere"),
        "{note}"
    );
    assert!(gone["note_since_ms"].is_u64());
    let page = bk.get("/readiness").unwrap();
    assert!(
        page.code == 503 && page.body.contains("gone:"),
        "{}",
        page.body
    );
    assert_eq!(bk.get("/health").unwrap().code, 200);
}

/// The third vote keeps the backups. The standby is cut off, the host receives what it never gets, the
/// primary dies: the votes of standby and host make the standby the primary.
#[test]
fn a_host_that_votes_follows_a_failover_that_lost_wal_and_a_switchover() {
    let c = Cluster::new("bkvote");
    // Not of the fast profile: in it a busy machine fences a primary now and then.
    let master = remote(c.master()).open();
    let slave = remote(c.slave()).start();
    slave.wait_streaming();
    let bk = c
        .node("pg3")
        .env("PGNODE_ROLE", "barman,witness")
        .env("REPMGR_PARTNER_NODES", "pg1,pg2,pg3")
        .env("BARMAN_SERVERS", "main=pg1,pg2")
        .start();
    bk.wait_open();
    let first = wait_green(&bk, "main", "beside a vote", always);
    for node in [&master, &slave, &bk] {
        node.wait_status("knows all voters", |s| s["election"]["voters"] == 3);
    }

    docker(["network", "disconnect", c.network(), &slave.container]).ok();
    let end = lsn(&write_wal(&master, 4));
    bk.wait_status("has received it", |s| received(&kept(s, "main")) >= end);
    // Frozen first: it keeps its address, and the standby gets nothing of it.
    master.pause();
    docker([
        "network",
        "connect",
        "--alias",
        "pg2",
        c.network(),
        &slave.container,
    ])
    .ok();
    docker(["kill", &master.container]).ok();
    slave.wait_status("is the primary", |s| {
        s["role"] == "primary" && s["state"] == "open"
    });
    let after = wait_green(&bk, "main", "on the new timeline", |k| {
        k["timeline"] == 2 && k["last_timeline"] == 2
    });
    assert_ne!(after["last_id"], first["last_id"]);
    assert_eq!(after["primary"], "pg2:5432");
    bk.wait_log("receive-wal goes on from segment 00000002");
    let aside = bk.sh("ls /home/barman/data/main/pgnode-aside/*/").ok();
    assert!(aside.contains("00000001"), "{aside}");
    // The new timeline is in the archive from its beginning on: where the old one was left.
    let fork = slave
        .sh("cut -f 2 /var/lib/postgresql/data/pg_wal/00000002.history")
        .ok();
    let fork = lsn(fork.lines().next().unwrap()) >> 24;
    assert!(
        segments(&bk, "main").contains(&(2, fork)),
        "{:?}",
        segments(&bk, "main")
    );
    no_gap(&bk, "main");

    // Back by a switchover.
    master.start();
    master.wait_streaming();
    slave.wait_status("knows all voters", |s| s["election"]["reached"] == 3);
    slave.sh("pgnode switchover --to pg1").ok();
    wait_green(&bk, "main", "after the switchover", |k| {
        k["timeline"] == 3 && k["last_timeline"] == 3 && k["primary"] == "pg1:5432"
    });
    bk.stop();
    assert_eq!(bk.inspect("{{.State.ExitCode}}"), "0");
}

#[test]
fn a_full_disk_and_an_absence_lose_nothing() {
    let c = Cluster::new("bkfull");
    let master = remote(c.master()).open();
    let disk = "/home/barman/data:size=300m,mode=700,uid=998,gid=998";
    let bk = host(&c, "main=pg1").flags(&["--tmpfs", disk]).start();
    let first = wait_green(&bk, "main", "from nothing", always);
    bk.sh("head -c 1G /dev/zero >/home/barman/data/fill");
    let end = lsn(&write_wal(&master, 6));
    bk.wait_status("says that it has no space", |s| {
        let kept = kept(s, "main");
        let said = kept["problems"][0].as_str().unwrap_or_default();
        said.contains("BARMAN_BACKUP_DIR") && kept["attached_since_ms"].is_null()
    });
    assert_eq!(bk.get("/readiness").unwrap().code, 503);
    bk.sh("rm /home/barman/data/fill").ok();
    wait_green(&bk, "main", "with space again", |k| received(k) >= end);
    no_gap(&bk, "main");

    // Away for a while: the slot keeps what is written.
    bk.kill("STOP");
    let end = lsn(&write_wal(&master, 3));
    bk.kill("CONT");
    let last = wait_green(&bk, "main", "back again", |k| received(k) >= end);
    no_gap(&bk, "main");
    assert_eq!(
        first["last_id"], last["last_id"],
        "nothing was lost: no new backup is owed"
    );
}

#[test]
fn a_slot_that_the_primary_gave_up_is_made_again_and_a_backup_with_it() {
    let c = Cluster::new("bklost");
    let master = remote(c.master()).env("PGNODE_MAX_SLOT_WAL", "64MB").open();
    let bk = host(&c, "main=pg1").start();
    let first = wait_green(&bk, "main", "from nothing", always);
    bk.stop();
    write_wal(&master, 30);
    eventually("the slot is lost", LONG, || {
        let sql =
            "CHECKPOINT;\nSELECT wal_status FROM pg_replication_slots WHERE slot_name = 'barman'";
        write_wal(&master, 4);
        (master.psql(sql) == "lost").then_some(())
    });
    bk.start();
    let last = wait_green(&bk, "main", "with a new slot", |k| k["slot"] == "reserved");
    assert_ne!(first["last_id"], last["last_id"]);
    assert!(bk.logged("the primary gave up the slot"));
}

#[test]
fn wrong_passwords_are_named_and_green_once_corrected() {
    let c = Cluster::new("bkpass");
    let master = remote(c.master()).open();
    let secret = "/var/lib/postgresql/password";
    c.on_volume("bk1", "echo \"wrong 'one'\" >/v/password").ok();
    let bk = host(&c, "main=pg1")
        .env("BARMAN_PASSWORD_FILE", secret)
        .env("BARMAN_STREAMING_PASSWORD", "another: wrong")
        .start();
    let says = |what: &str| {
        bk.wait_status(what, |s| {
            let said = kept(s, "main")["problems"][0].to_string();
            said.contains(&format!("{what} "))
        })
    };
    says("BARMAN_PASSWORD");
    // Corrected on the host, and the settings are read again.
    bk.sh(&format!("echo iambarman >{secret} && pgnode reload"))
        .ok();
    says("BARMAN_STREAMING_PASSWORD");
    master.psql("ALTER ROLE barman_streaming PASSWORD 'another: wrong'");
    wait_green(&bk, "main", "with the right passwords", always);
    let shown = format!(
        "{}{}",
        bk.logs(),
        bk.sh("cat /proc/[0-9]*/cmdline | tr '\\0' ' '").out
    );
    assert!(!shown.contains("wrong 'one'") && !shown.contains("another: wrong"));
}

#[test]
fn a_host_without_clusters_is_refused() {
    let c = Cluster::new("bknone");
    let bk = c.node("bk1").env("PGNODE_ROLE", "barman").start();
    assert_eq!(bk.ended(), 64);
    assert!(bk.logged("BARMAN_SERVERS"));
}
