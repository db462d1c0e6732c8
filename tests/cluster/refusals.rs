//! A slave that cannot have its master yet, or ever (§5); a configuration that cannot be meant (§3); the way
//! out of every state (§2).

use crate::docker::{Cluster, Node};

/// Everything on a node's volume but directories and the lock.
fn files_left(c: &Cluster, node: &str) -> String {
    c.on_volume(
        node,
        "find /v -type f ! -name lock; ls -A /v/data /v/.pgnode/staging 2>/dev/null | grep -v :",
    )
    .out
    .trim()
    .to_owned()
}

/// §5: a slave that is there first waits, says so, and converges when the master comes; also by the
/// address of a peer that is not up.
#[test]
fn a_slave_before_its_master_waits_and_says_so() {
    let c = Cluster::new("early");
    let slave = c.slave().start();
    let status = slave.wait_status("waits and says for how long", |s| {
        s["state"] == "await-primary" && s["sentence"].as_str().unwrap_or("").contains("waited")
    });
    assert_eq!(status["exposure"], "closed", "{status}");
    let sentence = status["sentence"].as_str().unwrap();
    assert!(
        sentence.contains("pg1"),
        "it names whom it waits for: {sentence}"
    );
    let not_ready = slave.get("/health").unwrap();
    assert_eq!(not_ready.code, 503, "{not_ready:?}");
    assert_eq!(slave.get("/liveness").unwrap().code, 200);
    let master = c.master().open();
    slave.wait_streaming();
    master.psql("CREATE TABLE t AS SELECT 7 AS n");
    slave.wait_row("SELECT n FROM t", "7");
    assert!(slave.logged("waiting: "), "the log says it too");
}

/// §5: gives up after the limit with exit 75, and leaves nothing.
#[test]
fn a_slave_gives_up_after_its_limit() {
    let c = Cluster::new("giveup");
    let slave = c.slave().env("PGNODE_PRIMARY_TIMEOUT", "3s").start();
    assert_eq!(slave.ended(), 75, "{}", slave.logs());
    let log = slave.logs();
    assert!(log.contains("ERROR") && log.contains("pg1"), "{log}");
    assert_eq!(files_left(&c, "pg2"), "");
}

/// §5: a wrong password is a fault of the configuration that names the variable; nothing half-made stays.
#[test]
fn a_slave_with_a_wrong_password_says_which() {
    let c = Cluster::new("wrong");
    let _master = c.master().open();
    for (variable, named, exit) in [
        ("REPMGR_PASSWORD", "REPMGR_PASSWORD", 64),
        // Only repmgr sees this one refused; it is tried again before it is given up.
        ("REPMGR_STREAMING_PASSWORD", "repmgr_streaming", 75),
    ] {
        let slave = c.slave().env(variable, "not this").start();
        assert_eq!(slave.ended(), exit, "{variable}: {}", slave.logs());
        let log = slave.logs();
        let error = log
            .lines()
            .find(|l| l.contains("ERROR pgnode"))
            .unwrap_or_else(|| panic!("no error: {log}"));
        assert!(error.contains(named), "{variable}: {error}");
        assert_eq!(files_left(&c, "pg2"), "", "{variable}");
        c.remove(slave);
    }
    // And with the right ones the same volume does.
    c.slave().start().wait_streaming();
}

/// §3: every fault at once, exit 64, and the volume is not touched.
#[test]
fn a_wrong_configuration_touches_nothing() {
    let c = Cluster::new("badconf");
    let node = c
        .master()
        .env("PGPORT", "70000")
        .env("REPMGR_MASTR", "true")
        .env("PGNODE_STOP_TIMEOUT", "soon")
        .env("BARMAN_MODE", "locl")
        .env("POSTGRES_PASSWORD", "a")
        .env("POSTGRES_PASSWORD_FILE", "/run/secrets/none")
        .start();
    assert_eq!(node.ended(), 64);
    let log = node.logs();
    for name in [
        "PGPORT",
        "REPMGR_MASTR",
        "PGNODE_STOP_TIMEOUT",
        "BARMAN_MODE",
        "POSTGRES_PASSWORD_FILE",
    ] {
        assert!(log.contains(name), "{name} is not told: {log}");
    }
    assert!(log.contains("REPMGR_MASTER"), "did you mean: {log}");
    assert!(
        !log.contains("/run/secrets/none: No such"),
        "both are given: that is the fault\n{log}"
    );
    let left = c.on_volume("pg1", "find /v -mindepth 1").ok();
    assert_eq!(left, "");
}

/// `before`: the state is entered and nothing follows. `after` says so in its sentence.
fn held(node: &Node, state: &str, when: &str) {
    node.wait_status(&format!("held in {state}"), |s| {
        let told = s["sentence"].as_str().unwrap_or("").contains("held");
        s["state"] == state && (when == "before" || told)
    });
}

fn stops_quickly(node: &Node, state: &str) {
    node.kill("TERM");
    assert_eq!(node.ended(), 0, "TERM in {state}: {}", node.logs());
    assert!(node.logged("pgnode ends after"), "{}", node.logs());
}

/// §2: TERM ends in order in every state of a master's first start, and the next start goes on from there.
#[test]
fn term_in_every_state_of_a_masters_first_start() {
    let c = Cluster::new("termm");
    for state in [
        "init",
        "launch",
        "bootstrap",
        "scripts",
        "register",
        "settle",
        "commit",
    ] {
        for when in ["before", "after"] {
            // The hold keeps a launch from happening, or its end from being heard: the machine waits for a
            // postmaster that is not there, which only a test can bring about.
            if [("launch", "before"), ("settle", "after")].contains(&(state, when)) {
                continue;
            }
            let node = c
                .master()
                .env("PGNODE_TEST_HOLD", &format!("{state}:{when}"))
                .start();
            held(&node, state, when);
            stops_quickly(&node, state);
            let done = state == "commit" && when == "after";
            if !done {
                let data = c.on_volume("pg1", "ls -A /v/data 2>/dev/null").out;
                assert_eq!(
                    data, "",
                    "{state}:{when} left something that could be taken for done"
                );
            }
            c.remove(node);
            if done {
                break;
            }
        }
    }
    let node = c.master().open();
    assert_eq!(node.psql("SELECT 1"), "1");
    stops_quickly(&node, "open");
}

/// §2, §5: TERM in every state of a slave's first start.
#[test]
fn term_in_every_state_of_a_slaves_first_start() {
    let c = Cluster::new("terms");
    let waiting = c.slave().start();
    waiting.wait_state("await-primary");
    stops_quickly(&waiting, "await-primary");
    assert_eq!(files_left(&c, "pg2"), "");
    c.remove(waiting);
    let _master = c.master().open();
    for state in [
        "clone:before",
        "clone:after",
        "register:before",
        "commit:before",
    ] {
        let node = c.slave().env("PGNODE_TEST_HOLD", state).start();
        let (name, when) = state.split_once(':').unwrap();
        held(&node, name, when);
        stops_quickly(&node, state);
        let data = c.on_volume("pg2", "ls -A /v/data 2>/dev/null").out;
        assert_eq!(
            data, "",
            "{state} left something that could be taken for done"
        );
        c.remove(node);
    }
    let slave = c.slave().start();
    slave.wait_streaming();
    stops_quickly(&slave, "open");
}

/// §2: TERM in the middle of a clone that takes long: over at once, nothing half-made is taken for good.
#[test]
fn term_in_the_middle_of_a_clone() {
    let c = Cluster::new("midclone");
    // Slow: pg_basebackup waits for a checkpoint that the master holds up? No: much data instead.
    let master = c.master().open();
    master.psql("CREATE TABLE big AS SELECT n, repeat(md5(n::text), 30) AS t FROM generate_series(1, 300000) n");
    let slave = c.slave().start();
    slave.wait_status("the clone is on its way", |s| {
        s["state"] == "clone" && s["sentence"].as_str().unwrap_or("").contains('%')
    });
    slave.kill("TERM");
    assert_eq!(slave.ended(), 0, "{}", slave.logs());
    let data = c.on_volume("pg2", "ls -A /v/data 2>/dev/null").out;
    assert_eq!(data, "");
    slave.start();
    slave.wait_streaming();
    slave.wait_row("SELECT count(*) FROM big", "300000");
    let progress = slave.logs();
    assert!(
        progress.contains("MB/s") || progress.contains("cloning"),
        "{progress}"
    );
}

/// §2: a second signal escalates a stop that would take long.
#[test]
fn a_second_signal_escalates() {
    let c = Cluster::new("second");
    let master = c.master().env("PGNODE_STOP_TIMEOUT", "300s").open();
    // A stopped walwriter-like process cannot answer: the fast shutdown would wait for it.
    let stuck = master.psql("SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'");
    master.sh(&format!("kill -STOP {stuck}")).ok();
    master.kill("TERM");
    master.wait_state("stopping");
    master.kill("TERM");
    master.wait_log("at once");
    master.kill("TERM");
    let code = master.ended();
    assert_eq!(code, 128 + 15, "{}", master.logs());
    // The next start recovers.
    master.start();
    master.wait_open();
    assert_eq!(master.psql("SELECT 1"), "1");
}
