//! `pgnode doctor`: a healthy node is well, and every failure that it can name is provoked and named (issue 4 §4).

use crate::docker::{Cluster, LONG, Node, Plan, docker, eventually};
use serde_json::Value;

/// What the doctor says: exit code and report.
pub(crate) fn doctor(node: &Node, words: &str) -> (i32, Value) {
    let ran = node.sh(&format!("pgnode doctor --json {words}"));
    let report = serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
    (ran.code, report)
}

fn findings(report: &Value) -> &Vec<Value> {
    report["servers"][0]["findings"].as_array().unwrap()
}

/// The finding with this name.
fn named<'a>(report: &'a Value, ailment: &str) -> Option<&'a Value> {
    findings(report).iter().find(|f| f["ailment"] == ailment)
}

/// The failure is named, with a remedy that contains this; exit code 1.
#[track_caller]
fn ill(node: &Node, words: &str, ailment: &str, remedy: &str) -> Value {
    let (code, report) = doctor(node, words);
    let Some(found) = named(&report, ailment) else {
        panic!("no {ailment} in {report:#}")
    };
    assert!(
        found["remedy"].as_str().unwrap().contains(remedy),
        "{found:#}"
    );
    assert_eq!((code, found["verdict"].as_str()), (1, Some("FAIL")));
    found.clone()
}

/// Nothing fails any more in these steps.
#[track_caller]
pub(crate) fn well(node: &Node, words: &str) -> Value {
    let mut last = Value::Null;
    eventually(&format!("doctor {words} is content"), LONG, || {
        let (code, report) = doctor(node, words);
        last = report;
        (code == 0).then_some(())
    });
    last
}

/// A primary with its own barman and a complete backup.
pub(crate) fn kept(plan: Plan<'_>) -> Node {
    let node = plan.open();
    node.wait_status("has a backup", |s| s["backup"]["count"].as_u64() >= Some(1));
    node
}

pub(crate) fn barman(node: &Node, words: &str) -> String {
    node.sh_as(
        "barman",
        &format!("barman -c /run/pgnode/barman.conf {words}"),
    )
    .ok()
}

#[test]
fn a_healthy_node_is_well_and_every_wrong_login_is_named() {
    let c = Cluster::new("doctor");
    let node = kept(c.node("pg1"));
    let report = well(&node, "");
    assert_eq!(report["verdict"], "PASS", "{report:#}");
    for step in 1..=8 {
        assert!(
            findings(&report).iter().any(|f| f["step"] == step),
            "{step}"
        );
    }
    let plain = |f: &Value| f["verdict"] == "PASS" || f["verdict"] == "SKIP";
    assert!(findings(&report).iter().all(plain), "{report:#}");
    let (_, report) = doctor(&node, "pg1 --step 6");
    assert!(
        findings(&report).iter().all(|f| f["step"] == 6),
        "{report:#}"
    );
    let ran = node.sh("pgnode doctor nobody");
    assert_eq!(ran.code, 64, "{ran:?}");
    assert!(
        ran.err
            .contains("there is no server `nobody` here; there is pg1"),
        "{ran:?}"
    );
    let text = node.sh("pgnode doctor").ok();
    assert!(
        text.starts_with("PASS  pg1\n") && !text.contains('\x1b'),
        "{text}"
    );

    // 2: logins, rights, the password file.
    node.psql("ALTER ROLE barman PASSWORD 'other'");
    ill(&node, "--step 2", "wrong-password", "set BARMAN_PASSWORD ");
    node.psql("ALTER ROLE barman PASSWORD 'iambarman'; ALTER ROLE barman NOLOGIN");
    ill(
        &node,
        "--step 2",
        "role-cannot-log-in",
        "BARMAN_MODE=local or remote",
    );
    node.psql("ALTER ROLE barman LOGIN; ALTER ROLE barman_streaming NOREPLICATION");
    ill(
        &node,
        "--step 2",
        "role-without-replication",
        "ALTER ROLE barman_streaming REPLICATION",
    );
    node.psql("ALTER ROLE barman_streaming REPLICATION PASSWORD 'other'");
    ill(
        &node,
        "--step 2",
        "wrong-password",
        "set BARMAN_STREAMING_PASSWORD ",
    );
    node.psql("ALTER ROLE barman_streaming PASSWORD 'iamstreamingbarman'");
    node.psql("REVOKE EXECUTE ON FUNCTION pg_switch_wal() FROM barman");
    let grant = "GRANT EXECUTE ON FUNCTION pg_switch_wal() TO barman";
    ill(&node, "--step 2", "missing-grant", grant);
    ill(
        &node,
        "--step 6",
        "no-switch",
        "GRANT EXECUTE ON FUNCTION pg_switch_wal()",
    );
    node.psql(grant);
    let hba = "/run/pgnode/pg_hba.conf";
    node.sh(&format!(
        "cp {hba} /tmp/hba; sed -i '/barman.*127/s/scram-sha-256/reject/' {hba}"
    ))
    .ok();
    node.psql("SELECT pg_reload_conf()");
    eventually("pg_hba.conf is in force", LONG, || {
        let (_, report) = doctor(&node, "--step 2");
        named(&report, "pg-hba").map(drop)
    });
    ill(&node, "--step 2", "pg-hba", "BARMAN_MODE=remote");
    node.sh(&format!("cp /tmp/hba {hba}")).ok();
    node.psql("SELECT pg_reload_conf()");
    well(&node, "--step 2");
    node.sh("chmod 644 /run/pgnode/barman.pgpass").ok();
    let found = ill(&node, "--step 2", "pgpass", "restart this container");
    assert!(
        found["why"].as_str().unwrap().contains("its mode is 0644"),
        "{found}"
    );
    node.sh("chmod 600 /run/pgnode/barman.pgpass").ok();
    well(&node, "--step 2");

    // 3 and 4: what barman knows and says. The remedy is what mends it.
    node.sh("rm /etc/barman.d/pg1.conf").ok();
    ill(&node, "--step 3", "not-listed", "`pgnode reload`");
    node.sh("pgnode reload").ok();
    well(&node, "--step 3");
    node.sh("sed -i '/^active/d; s/^description.*/&\\nactive = false/' /etc/barman.d/pg1.conf")
        .ok();
    ill(&node, "--step 3", "inactive", "`pgnode reload`");
    node.sh("pgnode reload").ok();
    well(&node, "--step 3");
    node.sh("mv /run/pgnode/barman.conf /tmp/").ok();
    ill(
        &node,
        "--step 3",
        "barman-does-not-run",
        "run `barman list-servers`",
    );
    ill(
        &node,
        "--step 4",
        "barman-does-not-run",
        "run `barman check`",
    );
    node.sh("mv /tmp/barman.conf /run/pgnode/").ok();
    node.sh_as("barman", "touch /home/barman/data/pg1/errors/x.unknown")
        .ok();
    ill(&node, "--step 4", "check-archiver-errors", "move them away");
    node.sh("rm /home/barman/data/pg1/errors/x.unknown").ok();
    node.sh("mv /home/barman/data/pg1/identity.json /tmp/; sed 's/[0-9]\\{19\\}/1/' /tmp/identity.json > /home/barman/data/pg1/identity.json").ok();
    ill(
        &node,
        "--step 4",
        "check-system-id",
        "give the new cluster another one",
    );
    node.sh("mv /tmp/identity.json /home/barman/data/pg1/").ok();
    well(&node, "--step 4");

    // 6: the marker's table, which a start of the primary makes.
    node.psql("ALTER SCHEMA pgnode RENAME TO away");
    ill(
        &node,
        "--step 6",
        "no-marker",
        "restart the primary's container",
    );
    node.psql("ALTER SCHEMA away RENAME TO pgnode");
    node.psql("INSERT INTO pgnode.marker (at, token) VALUES (now() - interval '8 days', 'old')");
    well(&node, "--step 6");
    let old = node.psql("SELECT count(*) FROM pgnode.marker WHERE token = 'old'");
    assert_eq!(old, "0", "old markers are pruned");
}

/// The catalogue as it may be found: stale, waiting, blank, empty. Faked, because barman and pgnode mend it.
#[test]
fn a_backup_that_is_stale_waits_or_is_blank_is_named_and_so_is_a_full_disk() {
    let c = Cluster::new("catalogue");
    let tmpfs = "/home/barman/data:size=400m,uid=998,gid=998,mode=700";
    let node = kept(c.node("pg1").flags(&["--tmpfs", tmpfs]));
    well(&node, "--step 7");
    let id = node.status().unwrap()["backup"]["last_id"]
        .as_str()
        .unwrap()
        .to_owned();
    let info = format!("/home/barman/data/pg1/meta/{id}-backup.info");
    let edit = |sed: &str| {
        node.sh(&format!("cp /tmp/info {info}; sed -i '{sed}' {info}"))
            .ok()
    };
    node.sh(&format!("cp {info} /tmp/info")).ok();
    edit("s/^end_time=.*/end_time=2020-01-01 00:00:00+00:00/");
    ill(&node, "--step 7", "stale-backup", "`barman backup pg1`");
    // Its last segment never comes, or pgnode would finish it in seconds.
    edit("s/^status=.*/status=WAITING_FOR_WALS/; s/^end_wal=.*/end_wal=0000000100000000000000EE/");
    ill(&node, "--step 7", "backup-waits-for-wal", "force a switch");
    edit("s/^status=.*/status=STARTED/");
    ill(
        &node,
        "--step 7",
        "blank-backup",
        &format!("`barman delete pg1 {id}`"),
    );
    edit("s/^status=.*/status=FAILED/");
    ill(&node, "--step 7", "no-backup", "`pgnode doctor --full`");
    ill(
        &node,
        "--step 4",
        "check-failed-backups",
        "barman show-backup pg1 last-failed",
    );
    ill(
        &node,
        "--step 4",
        "check-minimum-redundancy",
        "BARMAN_MINIMUM_REDUNDANCY",
    );
    edit("");
    well(&node, "");

    let fill = |left: &str| {
        let shell = format!(
            "rm -f /home/barman/data/filler; free=$(df -m --output=avail /home/barman/data | tail -1); \
             fallocate -l $((free - {left}))M /home/barman/data/filler"
        );
        node.sh(&shell).ok()
    };
    fill("20");
    let found = ill(&node, "--step 6", "disk-nearly-full", "BARMAN_RETENTION");
    assert!(
        found["check"].as_str().unwrap().contains("backups"),
        "{found}"
    );
    let (_, report) = doctor(&node, "--step 6");
    let room = named(&report, "no-room-for-a-backup").unwrap();
    assert_eq!(room["verdict"], "WARN", "{room}");
    let ran = doctor(&node, "--full --step 7");
    assert!(named(&ran.1, "backup-fails").is_some(), "{:#}", ran.1);
    node.sh("rm /home/barman/data/filler").ok();
}

/// receive-wal is ended and kept away.
#[test]
fn wal_that_does_not_arrive_is_told_by_its_cause() {
    let c = Cluster::new("receive");
    let node = kept(c.node("pg1").env("PGNODE_MAX_SLOT_WAL", "160MB").words(&[
        "-c",
        "archive_mode=on",
        "-c",
        "archive_command=true",
        "-c",
        "wal_keep_size=0",
    ]));
    well(&node, "--step 6");
    node.psql("ALTER SYSTEM SET archive_command = 'false'; SELECT pg_reload_conf()");
    eventually("the archiver has failed", LONG, || {
        let (_, report) = doctor(&node, "--step 6");
        named(&report, "archiver-fails").map(drop)
    });
    ill(
        &node,
        "--step 6",
        "archiver-fails",
        "run the command by hand as user postgres: false",
    );
    node.psql("ALTER SYSTEM RESET archive_command; SELECT pg_reload_conf()");
    // Whoever starts it again finds no program; it ends at once.
    node.sh("mv /usr/lib/postgresql/17/bin/pg_receivewal /tmp/")
        .ok();
    barman(&node, "receive-wal --stop pg1");
    node.wait_row(
        "SELECT active::text FROM pg_replication_slots WHERE slot_name = 'barman'",
        "false",
    );
    ill(
        &node,
        "--step 6",
        "slot-inactive",
        "`barman cron` as user barman starts receive-wal",
    );
    ill(
        &node,
        "--step 6",
        "wal-not-received",
        "is receive-wal running",
    );
    ill(
        &node,
        "--step 4",
        "check-receive-wal",
        "`barman receive-wal --reset pg1`",
    );
    ill(&node, "--step 4", "check-replication-slot", "`barman cron`");
    let push = "SELECT pg_create_restore_point('x')::text; SELECT pg_switch_wal()::text;";
    node.psql(&push.repeat(6));
    ill(&node, "--step 6", "slot-holds-wal", "PGNODE_MAX_SLOT_WAL");
    node.psql(&push.repeat(12));
    eventually("the slot is lost", LONG, || {
        node.psql("CHECKPOINT");
        let lost = "SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'barman'";
        (node.psql(lost) == "lost").then_some(())
    });
    ill(&node, "--step 6", "slot-lost", "a new backup at once");
    node.psql("SELECT pg_drop_replication_slot('barman')");
    ill(
        &node,
        "--step 6",
        "slot-missing",
        "`barman cron` as user barman",
    );
}

/// From a node whose barman is elsewhere: what can be seen from there.
#[test]
fn a_node_with_its_barman_elsewhere_sees_logins_slots_and_what_is_sent() {
    let c = Cluster::new("elsewhere");
    let all = "pg1,pg2,pg3";
    let node = c
        .master()
        .env("REPMGR_PARTNER_NODES", all)
        .env("BARMAN_MODE", "remote")
        .open();
    let found = ill(&node, "--step 2", "unreachable", "REPMGR_SLAVES");
    assert!(
        found["check"].as_str().unwrap().contains("pg2:5432"),
        "{found}"
    );
    let (_, report) = doctor(&node, "");
    for step in [1, 3, 4, 5, 7, 8] {
        let all = || findings(&report).iter().filter(|f| f["step"] == step);
        assert!(
            all().count() > 0 && all().all(|f| f["verdict"] == "SKIP"),
            "{report:#}"
        );
    }
    ill(&node, "--step 6", "slot-missing", "--create-slot");
    ill(
        &node,
        "--step 6",
        "wal-not-received",
        "is receive-wal running",
    );
    let receive = "export PGPASSWORD=iamstreamingbarman; mkdir /tmp/w; \
                   set -- -h 127.0.0.1 -U barman_streaming -w --slot barman; \
                   pg_receivewal \"$@\" --create-slot; exec pg_receivewal \"$@\" -D /tmp/w";
    docker(["exec", "-d", &node.container, "bash", "-c", receive]).ok();
    node.wait_row(
        "SELECT active::text FROM pg_replication_slots WHERE slot_name = 'barman'",
        "true",
    );
    let report = well(&node, "--step 6");
    let sent = findings(&report)
        .iter()
        .find(|f| f["check"] == "round trip")
        .unwrap();
    assert!(
        sent["why"].as_str().unwrap().starts_with("sent; "),
        "{sent}"
    );
    let ran = node.sh("BARMAN_MODE=off pgnode doctor");
    assert_eq!(ran.code, 64, "{ran:?}");
    c.slave()
        .env("BARMAN_MODE", "remote")
        .start()
        .wait_streaming();
    // Where barman has no business, it is not tried.
    c.node("pg3")
        .env("PGNODE_ROLE", "witness")
        .env("REPMGR_PARTNER_NODES", all)
        .open();
    let report = well(&node, "--step 2");
    assert!(!report.to_string().contains("pg3:5432"), "{report:#}");
    let standby = |f: &Value| f["why"] == "let in; it is a standby";
    assert!(findings(&report).iter().any(standby), "{report:#}");
}

/// Where WAL is shipped: what is live counts, not what was meant.
#[test]
fn an_archive_command_that_ships_elsewhere_is_named() {
    let c = Cluster::new("shipping");
    let plan = c
        .node("pg1")
        .env("BARMAN_MODE", "remote")
        .env("BARMAN_METHOD", "rsync");
    let plan = plan
        .env("BARMAN_HOST", "nobody.invalid")
        .env("PGNODE_SSH_KEYS", "/keys");
    let node = plan.flags(&["--tmpfs", "/keys"]).open();
    ill(&node, "--step 1", "ssh-to-barman", "PGNODE_SSH_KEYS");
    let set = |name: &str, value: &str| {
        node.psql(&format!("ALTER SYSTEM SET {name} = '{value}'"));
        node.psql("SELECT pg_reload_conf()");
    };
    set("archive_command", "/bin/true");
    let named_soon = |ailment: &str, remedy: &str| {
        eventually(ailment, LONG, || {
            let (_, report) = doctor(&node, "--step 5");
            named(&report, ailment).map(drop)
        });
        ill(&node, "--step 5", ailment, remedy);
    };
    named_soon("archive-off", "archive_mode needs a restart");
    set("archive_mode", "always");
    named_soon("archive-restart-pending", "restart the primary");
    node.stop();
    node.start();
    node.wait_open();
    set(
        "archive_command",
        "barman-wal-archive nobody.invalid other %p",
    );
    named_soon(
        "archive-elsewhere",
        "a reload is enough for archive_command",
    );
    set(
        "archive_command",
        "rsync %p barman@nobody.invalid:/elsewhere/%f",
    );
    named_soon("archive-overridden", "ALTER SYSTEM RESET archive_command");
}
