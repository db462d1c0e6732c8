//! `BARMAN_METHOD=rsync`, and restores from a barman host (issue 4 §1, §3): keys without a person, nothing
//! but what is needed behind each, WAL that is never replaced.

use crate::docker::{BACKUP, Cluster, LONG, Node, Plan, docker, eventually};
use serde_json::Value;

/// With the directory of keys that all share.
fn member<'a>(c: &Cluster, plan: Plan<'a>) -> Plan<'a> {
    let mount = format!("{}:/srv/keys", c.volume("keys"));
    plan.flags(&["-v", &mount])
        .env("PGNODE_SSH_KEYS", "/srv/keys")
        .env("REPMGR_PARTNER_NODES", "pg1,pg2")
}

fn shipping<'a>(c: &Cluster, plan: Plan<'a>) -> Plan<'a> {
    member(c, plan)
        .env("BARMAN_MODE", "remote")
        .env("BARMAN_METHOD", "rsync")
        .env("BARMAN_HOST", "bk1")
        .env("BARMAN_SERVER_NAME", "main")
}

fn host(c: &Cluster) -> Plan<'_> {
    let backups = format!("{}:/home/barman/data", c.volume("backups"));
    member(c, c.node("bk1"))
        .flags(&["-v", &backups])
        .env("PGNODE_ROLE", "barman")
        .env("BARMAN_SERVERS", "main=pg1,pg2")
}

fn rsync_host(c: &Cluster) -> Node {
    host(c).env("BARMAN_METHOD", "rsync").start()
}

fn backups(bk: &Node) -> Vec<Value> {
    let list = bk.sh("pgnode backup list main --json").ok();
    serde_json::from_str(&list).unwrap()
}

/// barman itself says that all is OK, and a backup of that timeline is complete.
#[track_caller]
fn wait_green(bk: &Node, timeline: u64) {
    eventually("barman is green", BACKUP, || {
        let check = bk.sh_as("barman", "barman check main");
        let done = |b: &Value| b["status"] == "DONE" && b["timeline"] == timeline;
        (check.code == 0 && backups(bk).iter().any(done)).then_some(())
    });
}

/// The last finished segment of a node reaches the archive.
#[track_caller]
fn wait_shipped(node: &Node, bk: &Node) {
    // A segment that nothing was written to is not switched away from.
    node.psql("SELECT pg_logical_emit_message(true, 'x', 'x')");
    let last = node.psql("SELECT pg_walfile_name(pg_switch_wal())");
    let find = format!("find /home/barman/data/main -name {last} | grep -q .");
    eventually(&format!("{last} is on the barman host"), LONG, || {
        (bk.sh(&find).code == 0).then_some(())
    });
}

#[test]
fn rsync_is_green_from_nothing_and_follows_a_switchover() {
    let c = Cluster::new("rsync");
    let bk = rsync_host(&c);
    let master = shipping(&c, c.master()).open();
    let slave = shipping(&c, c.slave()).start();
    slave.wait_streaming();
    wait_green(&bk, 1);
    assert_eq!(backups(&bk)[0]["kind"], "rsync");

    // The two that must not differ, as both sides have them now.
    let live = master.psql("SHOW archive_command");
    let said = bk
        .sh_as(
            "barman",
            "barman show-servers main | grep incoming_wals_directory:",
        )
        .ok();
    let incoming = said.split(": ").nth(1).unwrap().trim();
    assert!(
        live.contains(&format!("--into {incoming} ")),
        "{live} / {said}"
    );

    master.psql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n");
    wait_shipped(&master, &bk);

    // Doctor sees the logins of both sides, and the same directory twice.
    for (node, steps) in [(&bk, ["1", "5"]), (&master, ["1", "2"])] {
        for step in steps {
            let ran = node.sh(&format!("pgnode doctor --step {step}"));
            assert!(ran.code == 0 && ran.out.contains("  PASS  "), "{ran:?}");
        }
    }
    let full = bk.sh("pgnode doctor --full");
    assert!(
        full.code == 0 && full.out.contains("as they were written"),
        "{full:?}"
    );

    // barman goes where the primary is, with the configuration that it had.
    let ran = master.sh("pgnode switchover --to pg2");
    assert_eq!(ran.code, 0, "{ran:?}");
    slave.wait_status("is the primary", |s| {
        s["role"] == "primary" && s["state"] == "open"
    });
    slave.psql("INSERT INTO t SELECT generate_series(1, 1000)");
    wait_shipped(&slave, &bk);
    wait_green(&bk, 2);
    // One connection that was too slow is tried again.
    let sound = "SELECT last_failed_time IS NULL OR last_archived_time > last_failed_time FROM pg_stat_archiver";
    assert_eq!(slave.psql(sound), "t", "{}", slave.logs());
}

#[test]
fn a_trusted_key_opens_what_it_is_for_and_nothing_else() {
    let c = Cluster::new("sshgate");
    let bk = rsync_host(&c);
    let master = shipping(&c, c.master()).open();
    let to = |user: &'static str, host: &'static str, command: &str| {
        let node = if host == "bk1" { &master } else { &bk };
        node.sh_as(
            user,
            &format!("ssh -F /run/pgnode/ssh/ssh_config {host} {command:?}"),
        )
    };
    eventually("both trust each other", LONG, || {
        let both = [to("barman", "pg1", "true"), to("postgres", "bk1", "true")];
        both.iter().all(|ran| ran.code == 0).then_some(())
    });
    for (user, host, command) in [
        ("barman", "pg1", "id"),
        ("barman", "pg1", "rsync --server -sLtpre.iLsfxCIvu . /tmp"),
        ("barman", "pg1", "true; id"),
        ("postgres", "bk1", "id"),
        (
            "postgres",
            "bk1",
            "rsync --server --sender -sLtpre.iLsfxCIvu",
        ),
        (
            "postgres",
            "bk1",
            "put-wal other 000000010000000000000001 1 /home/barman/data/other/incoming",
        ),
        (
            "postgres",
            "bk1",
            "put-wal main 000000010000000000000001 1 /tmp",
        ),
        ("postgres", "bk1", "base main ../../etc"),
    ] {
        let ran = to(user, host, command);
        assert!(
            ran.code != 0 && !ran.out.contains("uid="),
            "{command}: {ran:?}"
        );
    }
    // No password, no root, no key of a stranger's.
    let options = "-F /run/pgnode/ssh/ssh_config -o IdentitiesOnly=yes";
    bk.sh("rm -f /tmp/k; ssh-keygen -q -t ed25519 -N '' -f /tmp/k && chown barman /tmp/k")
        .ok();
    let stranger = bk.sh_as(
        "barman",
        "sed '/IdentityFile/d' /run/pgnode/ssh/ssh_config >/tmp/c; \
         ssh -F /tmp/c -o IdentitiesOnly=yes -i /tmp/k pg1 true",
    );
    assert!(stranger.err.contains("Permission denied"), "{stranger:?}");
    let root = bk.sh_as("barman", &format!("ssh {options} -l root pg1 true"));
    assert!(root.err.contains("Permission denied"), "{root:?}");

    // Somebody else answers under the name: not talked to, and WAL waits.
    let card = "/srv/keys/barman-bk1.json";
    master.sh(&format!("cp {card} /tmp/card && sed -i 's/\"host_key\".*/\"host_key\": \"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOcwen3\\/io86Q0ByeGJAKho3vjEyHnu4EFGtYIPNEosg\"/' {card}")).ok();
    // The barman host puts its own card back within seconds.
    eventually("the card is the host's own again", LONG, || {
        (master.sh(&format!("cmp -s {card} /tmp/card")).code == 0).then_some(())
    });
    // What is no card is not trusted.
    master
        .sh("echo '{\"kind\":\"barman\",\"host\":\"x y\"}' >/srv/keys/barman-evil.json")
        .ok();
    master.wait_log("barman-evil.json is not trusted");
    wait_green(&bk, 1);
}

#[test]
fn wal_waits_for_a_barman_host_that_is_away_and_none_is_replaced() {
    let c = Cluster::new("sshaway");
    let bk = rsync_host(&c);
    let master = shipping(&c, c.master()).open();
    wait_green(&bk, 1);
    bk.stop();
    master.psql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n");
    for _ in 0..3 {
        master.psql("SELECT pg_logical_emit_message(false, 'x', repeat('x', 15000000)); SELECT pg_switch_wal()");
    }
    master.wait_row("SELECT failed_count > 0 FROM pg_stat_archiver", "t");
    bk.start();
    wait_shipped(&master, &bk);
    wait_green(&bk, 1);
    // The same again is fine, another file of that name is not.
    let last = bk
        .sh("ls /home/barman/data/main/wals/*/ | grep -E '^[0-9A-F]{24}$' | tail -n 1")
        .ok();
    let ship = |bytes: &str| {
        master.sh_as(
            "postgres",
            &format!(
                "mkdir -p /tmp/w && {bytes} >/tmp/w/{last} && pgnode wal-ship --run-dir /run/pgnode --host bk1 \
                 --cluster main --into /home/barman/data/main/incoming /tmp/w/{last}"
            ),
        )
    };
    let other = ship("printf '\\026\\321\\002'");
    assert!(
        other.code != 0 && other.err.contains("already has another file"),
        "{other:?}"
    );
    let stranger =
        ship("(printf '\\026\\321\\002\\000'; head -c 16777212 /dev/zero | tr '\\000' '\\007')");
    assert!(
        stranger.code != 0 && stranger.err.contains("system identifier"),
        "{stranger:?}"
    );
    let left = bk
        .sh("ls /home/barman/data/main/incoming /home/barman/data/main/errors")
        .ok();
    assert!(
        !left.contains(".tmp") && !left.contains("duplicate"),
        "{left}"
    );
}

#[test]
fn a_restore_comes_from_a_barman_host_and_survives_its_absence() {
    let c = Cluster::new("sshrestore");
    let bk = host(&c).start();
    let master = member(&c, c.master())
        .env("BARMAN_MODE", "remote")
        .env("BARMAN_HOST", "bk1")
        .open();
    eventually("barman is green", BACKUP, || {
        (bk.sh_as("barman", "barman check main").code == 0).then_some(())
    });
    master
        .sh("install -d -o postgres -g postgres /var/lib/postgresql/fast")
        .ok();
    master.psql("CREATE TABLESPACE fast LOCATION '/var/lib/postgresql/fast'");
    master.psql("CREATE TABLE t TABLESPACE fast AS SELECT generate_series(1, 19000) AS n");
    bk.sh_as("barman", "barman backup main").ok();
    eventually("a backup that has the tablespace", BACKUP, || {
        master.psql("SELECT pg_switch_wal()");
        let has = |b: &Value| b["tablespaces"][0]["name"] == "fast" && b["status"] == "DONE";
        backups(&bk).iter().any(has).then_some(())
    });
    master.psql("INSERT INTO t SELECT generate_series(19001, 20000)");
    let moment = master.psql("SELECT clock_timestamp()");
    master.psql("INSERT INTO t SELECT 0");
    master.psql("SELECT pg_switch_wal(); DROP TABLE t");
    let before = bk.sh("find /home/barman/data/main/base /home/barman/data/main/wals -type f | sort | xargs sha256sum | grep -v xlog.db").ok();
    // All that is left is the barman host.
    master.kill("KILL");
    master.ended();
    let restored = |name: &str| {
        member(&c, c.node(name))
            .env("REPMGR_PARTNER_NODES", "")
            .env("BARMAN_MODE", "off")
            .env("PGNODE_RESTORE", "latest")
            .env("PGNODE_RESTORE_FROM", "ssh://bk1/main")
            .env("PGNODE_RESTORE_TARGET_TIME", &moment)
            .env(
                "PGNODE_RESTORE_TABLESPACES",
                "fast=/var/lib/postgresql/moved",
            )
    };
    let node = restored("pg4")
        .env("PGNODE_TEST_HOLD", "restore:after")
        .start();
    node.wait_state("restore");
    node.wait_log("held");
    bk.stop();
    // Copied, and then the source of its WAL is gone: it waits and promotes nothing.
    node.kill("KILL");
    node.ended();
    c.remove(node);
    bk.start();
    let node = restored("pg4").start();
    let status = node.wait_open();
    assert_eq!(status["role"], "primary");
    assert_eq!(node.psql("SELECT count(*), min(n) FROM t"), "20000|1");
    assert_eq!(node.psql("SHOW archive_mode"), "off");
    let located = "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'fast'";
    assert_eq!(node.psql(located), "/var/lib/postgresql/moved");
    let after = bk.sh("find /home/barman/data/main/base /home/barman/data/main/wals -type f | sort | xargs sha256sum | grep -v xlog.db").ok();
    assert!(
        after.starts_with(&before) || before.lines().all(|l| after.contains(l)),
        "the source changed"
    );
    // A barman host that is not in the keys is a fault that says so, and nothing is touched.
    let lost = member(&c, c.node("pg5"))
        .env("REPMGR_PARTNER_NODES", "")
        .env("BARMAN_MODE", "off")
        .env("PGNODE_RESTORE", "latest")
        .env("PGNODE_RESTORE_FROM", "ssh://bk9/main")
        .start();
    lost.wait_log("the barman host bk9:2222 has left no card");
    assert_eq!(
        c.on_volume("pg5", "ls /v/data 2>/dev/null | wc -l").ok(),
        "0"
    );
    docker(["kill", &lost.container]).ok();
}
