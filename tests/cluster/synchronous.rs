//! Zero loss on request (issue 3 §1): what a commit waits for, as standbys come and go.

use crate::docker::{Cluster, LONG, Node, Plan, Ran, docker, eventually};
use std::collections::BTreeSet;
use std::thread::JoinHandle;

const SHOW: &str = "SHOW synchronous_standby_names";
/// Sessions whose commit waits for a standby.
const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";

fn synchronous<'a>(plan: Plan<'a>, strict: &str) -> Plan<'a> {
    plan.env("BARMAN_MODE", "off")
        .env("REPMGR_PARTNER_NODES", "pg1,pg2,pg3,pg4")
        .env("PGNODE_SYNCHRONOUS", "on")
        .env("PGNODE_SYNCHRONOUS_STRICT", strict)
}

fn slave<'a>(c: &'a Cluster, name: &str, strict: &str) -> Plan<'a> {
    synchronous(c.node(name), strict)
        .env("REPMGR_MASTER", "false")
        .env("REPMGR_PRIMARY_HOST", "pg1")
}

/// Master, two slaves, and a witness that keeps the master open when both are away.
fn four(c: &Cluster, strict: &str) -> [Node; 4] {
    let master = synchronous(c.master(), strict).open();
    master.psql("CREATE TABLE t (n int)");
    let second = slave(c, "pg2", strict).start();
    master.wait_row(SHOW, r#"ANY 1 ("pg2")"#);
    let third = slave(c, "pg3", strict).start();
    master.wait_row(SHOW, r#"ANY 1 ("pg2", "pg3")"#);
    let witness = synchronous(c.node("pg4"), strict)
        .env("PGNODE_ROLE", "witness")
        .start();
    second.wait_streaming();
    third.wait_streaming();
    witness.wait_open();
    master.wait_status("four members, all is well", |s| {
        s["members"].as_array().is_some_and(|m| m.len() == 4)
            && s["synchronous"]["streaming"]
                .as_array()
                .is_some_and(|n| n.len() == 2)
            && s["synchronous"]["short_since_ms"].is_null()
            && s["election"]["voters"] == 4
            && s["election"]["roster_changes"] == false
    });
    // The witness holds no data, and nobody waits for it.
    assert_eq!(master.psql(SHOW), r#"ANY 1 ("pg2", "pg3")"#);
    let quorum = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'";
    assert_eq!(master.psql(quorum), "2");
    [master, second, third, witness]
}

/// A statement in a session of its own.
fn aside(node: &Node, sql: &str) -> JoinHandle<Ran> {
    let (container, sql) = (node.container.clone(), sql.to_owned());
    std::thread::spawn(move || {
        docker([
            "exec",
            &container,
            "psql",
            "-XAtq",
            "-h",
            "/run/postgresql",
            "-U",
            "postgres",
            "-c",
            &sql,
        ])
    })
}

#[test]
fn commits_go_on_without_standbys_and_it_is_said() {
    let c = Cluster::new("syncdegrade");
    let [master, second, third, witness] = four(&c, "false");
    // Where it does nothing yet, so that a promotion begins with it.
    second.wait_row(SHOW, r#"ANY 1 ("pg1", "pg3")"#);
    assert!(second.status().unwrap()["synchronous"].is_null());
    assert_eq!(witness.psql(SHOW), "");

    third.stop();
    master.wait_status("pg3 is missed", |s| {
        s["synchronous"]["missing"] == serde_json::json!(["pg3"])
    });
    master.psql("INSERT INTO t VALUES (1)");
    let status = master.status().unwrap()["synchronous"].clone();
    assert_eq!(
        (&status["in_force"], &status["required"]),
        (&1.into(), &1.into())
    );
    assert!(status["short_since_ms"].is_null(), "{status}");
    assert!(!master.logged("commits WAIT"));

    second.stop();
    // Waits until the loss is confirmed, and goes on.
    master.psql("INSERT INTO t VALUES (2)");
    let status = master.wait_status("nobody is waited for", |s| {
        s["synchronous"]["in_force"] == 0
    });
    let status = &status["synchronous"];
    assert_eq!(status["required"], 1);
    assert!(status["short_since_ms"].is_u64(), "{status}");
    assert_eq!(master.psql(SHOW), "");
    master.wait_log("commits wait for NOBODY and can be lost");
    let told = master.sh("pgnode status").ok();
    assert!(told.contains("commits wait for NOBODY"), "{told}");
    let metrics = master.get("/metrics").unwrap().body;
    assert!(
        metrics.contains("\npgnode_synchronous_in_force 0\n"),
        "{metrics}"
    );
    assert_eq!(master.psql("SELECT count(*) FROM t"), "2");

    second.start();
    master.wait_row(SHOW, r#"ANY 1 ("pg2", "pg3")"#);
    master.wait_log("again, after");
    let status = master.wait_status("all is well", |s| s["synchronous"]["in_force"] == 1);
    assert!(status["synchronous"]["short_since_ms"].is_null());
    // A restart begins with it.
    master.stop();
    master.start();
    master.wait_status("is back", |s| s["state"] == "open");
    let conf = master.sh("grep ^sync /run/pgnode/synchronous.conf").ok();
    assert!(
        conf.starts_with("synchronous_standby_names = 'ANY 1 ("),
        "{conf}"
    );
}

#[test]
fn strict_commits_wait() {
    let c = Cluster::new("syncstrict");
    let [master, second, third, _witness] = four(&c, "true");
    second.stop();
    third.stop();
    let first = aside(&master, "INSERT INTO t VALUES (1)");
    master.wait_row(WAITING, "1");
    let status = master.wait_status("commits wait", |s| {
        s["synchronous"]["short_since_ms"].is_u64()
    });
    let said = status["synchronous"]["sentence"].as_str().unwrap();
    assert!(said.starts_with("commits WAIT: 1 standby"), "{said}");
    master.wait_log("(PGNODE_SYNCHRONOUS_STRICT)");
    // A person may end the wait: the row stays, and the client is warned.
    master.psql("SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE wait_event = 'SyncRep'");
    let ended = first.join().unwrap();
    assert!(ended.err.contains("synchronous replication"), "{ended:?}");

    let next = aside(&master, "INSERT INTO t VALUES (2)");
    master.wait_row(WAITING, "1");
    // A reload changes nothing about it.
    master.sh("pgnode reload").ok();
    assert_eq!(master.psql(SHOW), r#"ANY 1 ("pg2", "pg3")"#);
    assert_eq!(master.psql(WAITING), "1");
    second.start();
    next.join().unwrap().ok();
    second.wait_row("SELECT count(*) FROM t", "2");
    master.wait_log("again, after");
}

/// Three writers, a kill, and every row that was acknowledged is on the new primary.
#[test]
fn no_acknowledged_row_is_lost() {
    let c = Cluster::new("synckill");
    let master = synchronous(c.master(), "false")
        .env("REPMGR_PARTNER_NODES", "pg1,pg2,pg3")
        .open();
    let slaves = ["pg2", "pg3"].map(|name| {
        slave(&c, name, "false")
            .env("REPMGR_PARTNER_NODES", "pg1,pg2,pg3")
            .start()
    });
    master.wait_row(SHOW, r#"ANY 1 ("pg2", "pg3")"#);
    for slave in &slaves {
        slave.wait_streaming();
        eventually("the standby is prepared", LONG, || {
            slave
                .psql(SHOW)
                .starts_with("ANY 1 (\"pg1\", ")
                .then_some(())
        });
    }
    master.wait_status("both are waited for", |s| {
        s["synchronous"]["streaming"]
            .as_array()
            .is_some_and(|n| n.len() == 2)
    });
    // One that has not been enrolled yet elects nobody.
    for node in slaves.iter().chain([&master]) {
        node.wait_status("knows three voters", |s| {
            s["election"]["voters"] == 3 && s["election"]["roster_changes"] == false
        });
    }
    master.psql("CREATE TABLE t (n int)");
    let writers: Vec<JoinHandle<Ran>> = (1..=3)
        .map(|i| {
            // psql prints the number once the commit is acknowledged.
            let shell = format!(
                "seq {i}0000000 {i}9999999 | sed 's/.*/INSERT INTO t VALUES (&) RETURNING n;/' | \
                 psql -XAtq -v ON_ERROR_STOP=1 -h /run/postgresql -U postgres"
            );
            let container = master.container.clone();
            std::thread::spawn(move || docker(["exec", &container, "bash", "-c", &shell]))
        })
        .collect();
    eventually("the writers write", LONG, || {
        let count: u32 = master.psql("SELECT count(*) FROM t").parse().ok()?;
        (count > 1000).then_some(())
    });
    master.kill("KILL");
    let acknowledged: BTreeSet<u64> = writers
        .into_iter()
        .flat_map(|w| {
            let out = w.join().unwrap().out;
            // The last line may be half a number.
            let whole = out.rfind('\n').map_or("", |end| &out[..end]);
            whole
                .lines()
                .map(|n| n.parse().unwrap())
                .collect::<Vec<u64>>()
        })
        .collect();
    assert!(acknowledged.len() > 500, "{}", acknowledged.len());
    let primary = eventually("one of them is the primary", LONG, || {
        slaves.iter().find(|s| {
            s.status()
                .is_some_and(|s| s["role"] == "primary" && s["state"] == "open")
        })
    });
    let there: BTreeSet<u64> = primary
        .psql("SELECT n FROM t")
        .lines()
        .map(|n| n.parse().unwrap())
        .collect();
    let lost: Vec<&u64> = acknowledged.difference(&there).collect();
    assert!(
        lost.is_empty(),
        "{} of {}: {lost:?}",
        lost.len(),
        acknowledged.len()
    );
    // And it is one that waits for the other.
    primary.wait_status("the other one streams", |s| {
        s["synchronous"]["in_force"] == 1 && s["synchronous"]["short_since_ms"].is_null()
    });
    primary.psql("INSERT INTO t VALUES (0)");
}
