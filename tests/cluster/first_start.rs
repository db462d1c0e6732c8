//! The first start of a master and of a slave (§4, §5).

use crate::docker::{BACKUP, Cluster, LONG, eventually};

/// Tries both ports again and again, and asks for the state right after.
const PROBER: &str = r#"
import json, socket, sys, urllib.request
def accepts(port):
    try:
        socket.create_connection(("pg1", port), 0.5).close()
        return True
    except OSError:
        return False
while True:
    technical, consumer = accepts(5434), accepts(5432)
    state = "silent"
    # HTTP is there before anything is: a silence beside an open port is only a slow machine.
    for _ in range(20 if technical or consumer else 1):
        try:
            with urllib.request.urlopen("http://pg1:8008/status", timeout=5) as page:
                state = json.load(page)["state"]
                break
        except OSError:
            pass
    print(technical, consumer, state, flush=True)
"#;

/// A name that is not there yet is told at once, without asking the world outside.
const QUICK_DNS: [&str; 6] = [
    "--dns",
    "127.0.0.1",
    "--dns-opt",
    "attempts:1",
    "--dns-opt",
    "timeout:1",
];

/// §4, §5, §7: a master and a slave from nothing to open, all that the boot promises.
#[test]
fn a_master_and_a_slave_from_nothing_to_open() {
    let c = Cluster::new("first");
    let prober = c.helper("prober", &["python3", "-c", PROBER], &QUICK_DNS);
    eventually("the prober runs", LONG, || {
        prober.logged("silent").then_some(())
    });
    let master = c.master().start();
    let slave = c.slave().start();
    let opened = master.wait_open();
    assert_eq!(opened["role"], "primary");
    slave.wait_streaming();

    // The ports, as seen from outside.
    let seen = prober.logs();
    let mut states = std::collections::BTreeSet::new();
    for line in seen.lines() {
        let [technical, consumer, state] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("prober: {line}");
        };
        states.insert(state.to_owned());
        assert_eq!(
            technical, "False",
            "the technical port is reachable: {line}"
        );
        assert!(
            consumer == "False" || ["opening", "open"].contains(&state),
            "5432 accepts before it may: {line}"
        );
    }
    assert!(
        states.contains("bootstrap") && states.contains("open"),
        "the prober saw too little of the boot: {states:?}"
    );
    assert!(seen.lines().any(|l| l == "False True open"), "{seen}");

    // §4: the steps, in this order.
    let steps = "preflight survey configure decide init launch bootstrap scripts register settle commit opening";
    assert_eq!(master.boot().join(" "), steps);
    let steps = "preflight survey configure await-primary clone register commit opening";
    assert_eq!(slave.boot().join(" "), steps);

    // Rows travel; the slave is read only.
    master.psql("CREATE TABLE t (n int); INSERT INTO t VALUES (42)");
    slave.wait_row("SELECT n FROM t", "42");
    assert!(
        slave
            .try_psql("INSERT INTO t VALUES (1)")
            .err
            .contains("read-only")
    );

    // repmgr's table: consumer addresses, no password.
    let nodes = "SELECT node_id, node_name, type, active, upstream_node_id, conninfo FROM repmgr.nodes ORDER BY 1";
    let table = master.psql(&format!("\\c repmgr\n{nodes}"));
    let rows: Vec<&str> = table.lines().collect();
    assert_eq!(rows.len(), 2, "{table}");
    assert!(rows[0].starts_with("1|pg1|primary|t||"), "{table}");
    assert!(rows[1].starts_with("2|pg2|standby|t|1|"), "{table}");
    for (row, host) in rows.iter().zip(["host=pg1", "host=pg2"]) {
        let row = row.replace('\'', "");
        assert!(row.contains(host) && row.contains("port=5432"), "{row}");
        assert!(!row.contains("pass"), "{row}");
    }
    settings_and_roles(&master);
    slots(&master);
    backups(&master);
    what_a_person_sees(&master, &slave);
}

const MEMBERSHIPS: &str =
    "barman|pg_checkpoint,pg_read_all_settings,pg_read_all_stats\nrepmgr|pg_checkpoint,pg_monitor";

fn settings_and_roles(master: &crate::docker::Node) {
    for (name, want) in [
        ("data_checksums", "on"),
        ("wal_level", "replica"),
        ("wal_log_hints", "on"),
        ("hot_standby", "on"),
        ("shared_preload_libraries", "repmgr"),
        ("password_encryption", "scram-sha-256"),
        ("port", "5432"),
        ("listen_addresses", "*"),
        ("wal_sender_timeout", "5s"),
    ] {
        assert_eq!(master.psql(&format!("SHOW {name}")), want, "{name}");
    }
    let limit =
        master.psql("SELECT setting::int FROM pg_settings WHERE name='max_slot_wal_keep_size'");
    assert!(limit.parse::<i64>().unwrap() >= 64, "{limit} MB");

    let roles = master.psql(
        "SELECT rolname, rolsuper, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls, \
         (SELECT left(rolpassword, 14) FROM pg_authid a WHERE a.oid = r.oid) \
         FROM pg_roles r WHERE rolname !~ '^pg_' ORDER BY 1",
    );
    assert_eq!(
        roles,
        "barman|f|f|f|t|f|f|SCRAM-SHA-256$\n\
         barman_streaming|f|f|f|t|t|f|SCRAM-SHA-256$\n\
         postgres|t|t|t|t|t|t|SCRAM-SHA-256$\n\
         repmgr|f|f|f|t|t|f|SCRAM-SHA-256$\n\
         repmgr_streaming|f|f|f|t|t|f|SCRAM-SHA-256$"
    );
    let member = master.psql(
        "SELECT m.rolname, string_agg(g.rolname, ',' ORDER BY g.rolname) FROM pg_auth_members a \
         JOIN pg_roles m ON m.oid = a.member JOIN pg_roles g ON g.oid = a.roleid \
         WHERE m.rolname !~ '^pg_' GROUP BY 1 ORDER BY 1",
    );
    // What repmgr and barman document that they need, and no more.
    assert_eq!(member, MEMBERSHIPS);

    // Each role reaches what it needs and nothing else, over TCP with its password.
    let login = |user: &str, password: &str, database: &str| {
        let shell = format!(
            "PGPASSWORD='{password}' psql -XAtqc 'select 1' 'host=127.0.0.1 user={user} dbname={database}'"
        );
        master.sh(&shell).code == 0
    };
    assert!(login("postgres", "mysecretpassword", "postgres"));
    assert!(!login("postgres", "wrong", "postgres"));
    assert!(login("repmgr", "iamrepmgr", "repmgr"));
    assert!(
        !login("repmgr", "iamrepmgr", "postgres"),
        "repmgr goes nowhere else"
    );
    assert!(!login("repmgr_streaming", "iamstreamingrepmgr", "repmgr"));
    assert!(login("barman", "iambarman", "postgres"));
    assert!(!login("barman_streaming", "iamstreamingbarman", "postgres"));
}

fn slots(master: &crate::docker::Node) {
    eventually("both slots are in use", LONG, || {
        let slots =
            master.psql("SELECT slot_name, active FROM pg_replication_slots ORDER BY slot_name");
        (slots == "barman|t\nrepmgr_slot_2|t").then_some(())
    });
}

/// §4: barman is green by itself, with a first full backup, cron at work.
fn backups(master: &crate::docker::Node) {
    let check = eventually("barman check is green", BACKUP, || {
        let ran = master.sh_as("barman", "barman check pg1");
        (ran.code == 0).then_some(ran.out)
    });
    assert!(
        !check.contains("FAILED") && check.matches(": OK").count() > 10,
        "{check}"
    );
    let list = eventually("a complete backup", BACKUP, || {
        let ran = master.sh_as("barman", "barman list-backups pg1 --minimal");
        (ran.code == 0 && !ran.out.trim().is_empty()).then_some(ran.out)
    });
    let id = list.lines().last().unwrap().to_owned();
    eventually("the backup is DONE", BACKUP, || {
        let show = master.sh_as("barman", &format!("barman show-backup pg1 {id}"));
        show.out
            .lines()
            .any(|l| l.contains("Status") && l.ends_with("DONE"))
            .then_some(())
    });
    master.wait_status("shows the backup", |s| s["backup"]["last_id"] == *id);
    let configured = master.sh_as("barman", "barman show-servers pg1").ok();
    assert!(
        configured.contains("RECOVERY WINDOW OF 5 DAYS"),
        "the retention is the window asked for: {configured}"
    );
    // cron runs barman by itself once a minute.
    master.wait_log("No xlog segments found from streaming");
}

/// §7: the log and `pgnode status`.
fn what_a_person_sees(master: &crate::docker::Node, slave: &crate::docker::Node) {
    let log = master.logs();
    assert!(
        log.contains("pg1 is open as primary on port 5432 after"),
        "{log}"
    );
    assert!(slave.logged("pg2 is open as standby on port 5432 after"));
    let table = master.sh("pgnode status").ok();
    assert!(
        table.starts_with("OPEN") && table.contains("pg2"),
        "{table}"
    );
    let json: serde_json::Value =
        serde_json::from_str(&master.sh("pgnode status --json").ok()).unwrap();
    assert_eq!(json["state"], "open");
    let members = json["members"].as_array().unwrap();
    assert_eq!(members.len(), 2, "{json}");
    for child in ["postgres", "repmgrd", "crond"] {
        assert!(
            json["children"]
                .as_array()
                .unwrap()
                .iter()
                .any(|v| v["name"] == child && v["pid"].is_number()),
            "{child} is up: {json}"
        );
    }
}
