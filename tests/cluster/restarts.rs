//! Restarts (§6) and the stop (§2).

use crate::docker::{BACKUP, Cluster, LONG, Node, cluster_state, eventually};
use std::collections::BTreeMap;

fn pair(test: &str) -> (Cluster, Node, Node) {
    let c = Cluster::new(test);
    let master = c.master().start();
    let slave = c.slave().start();
    master.wait_open();
    slave.wait_streaming();
    master.psql("CREATE TABLE t (n int)");
    (c, master, slave)
}

fn streams_a_new_row(master: &Node, slave: &Node) {
    slave.wait_streaming();
    master.psql("INSERT INTO t VALUES (1)");
    let count = master.psql("SELECT count(*) FROM t");
    slave.wait_row("SELECT count(*) FROM t", &count);
}

/// Where a file is and when it was written: equal means never rewritten.
fn identity(node: &Node) -> String {
    node.sh("cd /var/lib/postgresql/data && stat -c '%i %z' PG_VERSION && stat -c %i .")
        .ok()
}

const FAST_STANDBY: &str = "preflight survey configure opening";
const FAST_PRIMARY: &str = "preflight survey configure decide opening";

/// §2, §6: `docker stop` in order, with an idle client and with a long query, and the restart.
#[test]
fn stop_and_start() {
    let (_c, master, slave) = pair("stopstart");
    let c = &_c;
    let (of_master, of_slave) = (identity(&master), identity(&slave));
    for (node, want, steps) in [
        (&slave, "shut down in recovery", FAST_STANDBY),
        (&master, "shut down", FAST_PRIMARY),
    ] {
        // An idle client, and one with a long query.
        let client = |sql: &str| {
            let shell = format!(
                "(echo \"{sql}\"; exec sleep 900) | psql -XAtq -h /run/postgresql -U postgres -d postgres"
            );
            crate::docker::docker(["exec", "-d", &node.container, "bash", "-c", &shell]).ok();
        };
        client("SELECT 'idle';");
        client("SELECT pg_sleep(900);");
        node.wait_row(
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE query ~ '^SELECT pg_sleep'",
            "t",
        );
        node.wait_row(
            "SELECT count(*) > 0 FROM pg_stat_activity WHERE query ~ '^SELECT .idle'",
            "t",
        );
        node.stop();
        assert_eq!(node.inspect("{{.State.ExitCode}}"), "0", "{}", node.logs());
        assert_eq!(cluster_state(c, &node.name), want);
        assert!(
            !node.logged("shut down at once"),
            "no rung beyond fast was needed"
        );
        node.start();
        node.wait_open();
        assert_eq!(node.boot().join(" "), steps, "{}", node.name);
    }
    streams_a_new_row(&master, &slave);
    assert_eq!(identity(&master), of_master, "the same data directory");
    assert_eq!(identity(&slave), of_slave, "nothing was cloned");
}

/// §6: `docker kill` and the restart, of each and of both at once in both orders.
#[test]
fn kill_and_start() {
    let (_c, master, slave) = pair("killstart");
    let (of_master, of_slave) = (identity(&master), identity(&slave));
    for (node, steps) in [(&slave, FAST_STANDBY), (&master, FAST_PRIMARY)] {
        node.kill("KILL");
        node.start();
        node.wait_open();
        assert_eq!(node.boot().join(" "), steps, "{}", node.name);
        streams_a_new_row(&master, &slave);
    }
    for order in [[&master, &slave], [&slave, &master]] {
        for node in order {
            node.kill("KILL");
        }
        for node in order {
            node.start();
        }
        master.wait_open();
        streams_a_new_row(&master, &slave);
        assert_eq!(master.status().unwrap()["role"], "primary");
        assert_eq!(slave.status().unwrap()["role"], "standby");
    }
    assert_eq!(identity(&master), of_master, "the same data directory");
    assert_eq!(identity(&slave), of_slave, "nothing was cloned");
    assert_eq!(master.psql("SELECT count(*) FROM t"), "4");
}

/// §2, §6: `kill -9` of the postmaster: restarted in place, the container stays.
#[test]
fn kill_9_of_postgres_inside() {
    let (_c, master, slave) = pair("kill9");
    for node in [&slave, &master] {
        let started = node.inspect("{{.State.StartedAt}}");
        let postmaster = |s: &serde_json::Value| {
            let children = s["children"].as_array().unwrap();
            children.iter().find(|v| v["name"] == "postgres").unwrap()["pid"].as_i64()
        };
        let before = postmaster(&node.status().unwrap()).unwrap();
        // With a backend that does something, so that it has orphans.
        crate::docker::docker([
            "exec",
            "-d",
            &node.container,
            "psql",
            "-XAtq",
            "-h",
            "/run/postgresql",
            "-U",
            "postgres",
            "-c",
            "select pg_sleep(900)",
        ])
        .ok();
        node.wait_row(
            "SELECT count(*) FROM pg_stat_activity WHERE query ~ '^select pg_sleep'",
            "1",
        );
        node.sh(&format!("kill -9 {before}")).ok();
        let status = node.wait_status("open again", |s| {
            s["state"] == "open" && s["restarts"] == 1 && postmaster(s).is_some_and(|p| p != before)
        });
        assert_eq!(status["exposure"], "consumer");
        assert_eq!(
            node.inspect("{{.State.StartedAt}}"),
            started,
            "the container stayed"
        );
        let metrics = node.get("/metrics").unwrap().body;
        assert!(
            metrics
                .lines()
                .any(|l| l.contains("restarts") && l.ends_with(" 1")),
            "{metrics}"
        );
        streams_a_new_row(&master, &slave);
    }
}

/// Every file that pgnode manages, with what it contains and when and where it was written.
fn managed(node: &Node) -> BTreeMap<String, String> {
    let shell = "find /run/pgnode /var/lib/postgresql/.pgnode \
        /var/lib/postgresql/data/postgresql.conf /var/lib/postgresql/data/postgresql.auto.conf \
        -type f ! -name lock -print0 | sort -z | \
        while IFS= read -r -d '' f; do echo \"$f $(sha256sum < \"$f\") $(stat -c '%i %Y.%y %a %U %G' \"$f\")\"; done";
    let text = node.sh(shell).ok();
    text.lines()
        .map(|l| l.split_once(' ').unwrap())
        .map(|(file, rest)| (file.to_owned(), rest.to_owned()))
        .collect()
}

/// §2, §6: an unchanged restart rewrites nothing and gives nothing away.
#[test]
fn an_unchanged_restart_rewrites_nothing() {
    let (_c, master, slave) = pair("unchanged");
    // The memory learns of the members when they are seen; from then on nothing changes.
    for node in [&master, &slave] {
        eventually("both members are remembered", LONG, || {
            node.sh("grep -c '\"node_id\"' /var/lib/postgresql/.pgnode/state.json")
                .out
                .trim()
                .eq("3")
                .then_some(())
        });
        node.wait_status("knows two voters", |s| {
            s["election"]["voters"] == 2 && s["election"]["roster_changes"] == false
        });
    }
    for node in [&slave, &master] {
        let before = managed(node);
        for file in [
            "postgresql.conf",
            "pg_hba.conf",
            "pgpass",
            "crontab",
            "repmgr.conf",
            "state.json",
            "barman.conf",
        ] {
            assert!(
                before.keys().any(|f| f.ends_with(file)),
                "{file} is among {:?}",
                before.keys()
            );
        }
        node.stop();
        node.start();
        node.wait_open();
        let after = managed(node);
        assert_eq!(after, before, "{}", node.name);
        let log = node.logs_since_start();
        assert!(log.contains(&format!("{} is open as", node.name)), "{log}");
        assert!(
            !log.contains("gave "),
            "the second boot changes no owner: {log}"
        );
    }
}

/// §6: a changed password and a changed port take effect on restart.
#[test]
fn a_changed_password_and_port_take_effect() {
    let (c, master, slave) = pair("changed");
    let login = |node: &Node, password: &str| {
        let port = node.port;
        node.sh(&format!("PGPASSWORD='{password}' psql -XAtqc 'select 1' 'host=127.0.0.1 port={port} user=postgres'")).code
    };
    assert_eq!(login(&master, "mysecretpassword"), 0);
    master.stop();
    c.remove(master);
    let plan = c.master().env("POSTGRES_PASSWORD", "another one");
    let master = plan.clone().open();
    let steps = master.boot().join(" ");
    assert!(
        steps.contains("bootstrap") && !steps.contains("init"),
        "{steps}"
    );
    assert_eq!(login(&master, "another one"), 0);
    assert_ne!(
        login(&master, "mysecretpassword"),
        0,
        "the former password is no longer good"
    );
    streams_a_new_row(&master, &slave);

    // The slave's own port.
    slave.stop();
    c.remove(slave);
    let slave = c.slave().env("PGPORT", "6543").start();
    slave.wait_streaming();
    assert_eq!(slave.psql("SHOW port"), "6543");
    eventually("repmgr knows the slave's port", LONG, || {
        let row = master.psql("\\c repmgr\nSELECT conninfo FROM repmgr.nodes WHERE node_id = 2");
        row.contains("port=6543").then_some(())
    });

    // The master's: the slave is told by its settings.
    master.stop();
    c.remove(master);
    let master = plan.env("PGPORT", "7654").open();
    assert_eq!(master.psql("SHOW port"), "7654");
    let row = master.psql("\\c repmgr\nSELECT conninfo FROM repmgr.nodes WHERE node_id = 1");
    assert!(row.contains("port=7654"), "{row}");
    slave.stop();
    c.remove(slave);
    let slave = c
        .slave()
        .env("PGPORT", "6543")
        .env("REPMGR_PRIMARY_PORT", "7654")
        .start();
    streams_a_new_row(&master, &slave);
    let check = eventually("barman is green at the new port", BACKUP, || {
        let ran = master.sh_as("barman", "barman check pg1");
        (ran.code == 0).then_some(ran.out)
    });
    assert!(!check.contains("FAILED"), "{check}");
}
