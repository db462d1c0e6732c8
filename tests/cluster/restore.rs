//! Restore (issue 4 §3): from a node's barman directory, mounted read-only into another container.

use crate::docker::{BACKUP, Cluster, LONG, Node, Plan, docker, eventually, image};
use std::fmt::Write as _;

/// A source whose backups are on a volume of their own.
struct Source {
    c: Cluster,
    node: Node,
}

const BARMAN: &str = "barman -c /run/pgnode/barman.conf";

impl Source {
    /// Open, with its first backup.
    fn new(test: &str, settings: &[&str]) -> Self {
        let c = Cluster::new(test);
        let backups = format!("{}:/home/barman/data", c.volume("backups"));
        let mut words = vec!["run"];
        words.extend(settings);
        let node = c.node("pg1").flags(&["-v", &backups]).words(&words).open();
        let source = Self { c, node };
        source.wait_done(1);
        source
    }

    fn wait_done(&self, count: u64) -> String {
        let status = self.node.wait_status("backups are DONE", |s| {
            s["backup"]["count"].as_u64() >= Some(count)
        });
        status["backup"]["last_id"].as_str().unwrap().to_owned()
    }

    fn backup(&self, more: &str, count: u64) -> String {
        let command = format!("{BARMAN} backup {more} pg1");
        self.node.sh_as("barman", &command).ok();
        self.wait_done(count)
    }

    /// All WAL so far is archived.
    fn archived(&self) {
        let name = self.node.psql(
            "SELECT pg_create_restore_point('x') IS NULL OR NULL; SELECT pg_walfile_name(pg_switch_wal()); \
             SELECT pg_create_restore_point('y') IS NULL OR NULL",
        );
        let name = name.trim().to_owned();
        eventually(&format!("{name} is archived"), BACKUP, || {
            self.node
                .sh_as("barman", &format!("{BARMAN} archive-wal pg1"));
            let path = format!("/home/barman/data/pg1/wals/{}/{name}", &name[..16]);
            (self.node.sh(&format!("test -f {path}")).code == 0).then_some(())
        });
    }

    /// A new node on an empty volume, with the source's backups read-only.
    fn target(&self, name: &str) -> Plan<'_> {
        let backups = format!("{}:/srv/barman:ro", self.c.volume("backups"));
        self.c
            .node(name)
            .env("REPMGR_NODE_ID", "7")
            .env("BARMAN_MODE", "off")
            .env("PGNODE_RESTORE", "latest")
            .env("PGNODE_RESTORE_FROM", "/srv/barman/pg1")
            .flags(&["-v", &backups])
    }

    /// A shell on the backups' volume, at `/b`.
    fn on_backups(&self, shell: &str) -> String {
        let mount = format!("{}:/b", self.c.volume("backups"));
        let words = ["run", "--rm", "--entrypoint", "bash", "-v", &mount];
        let image = image();
        docker(words.into_iter().chain([image.as_str(), "-c", shell])).ok()
    }

    /// Every file with its checksum.
    fn everything(&self) -> String {
        self.on_backups("cd /b && find . -type f ! -name '*.lock' | sort | xargs -d '\\n' sha1sum")
    }
}

/// Of the old life nothing is left, and the node is a primary like any other.
fn anew(node: &Node) {
    let asked = node.psql(
        "SELECT pg_is_in_recovery(), \
         (SELECT count(*) FROM pg_replication_slots WHERE slot_name IN ('old', 'barman')), \
         (SELECT string_agg(name || '=' || setting, ',' ORDER BY name) FROM pg_settings WHERE setting <> '' \
          AND name IN ('primary_conninfo', 'primary_slot_name', 'restore_command', 'recovery_target', \
          'recovery_target_time', 'recovery_target_xid', 'recovery_target_lsn', 'recovery_target_name')), \
         current_setting('archive_mode'), current_setting('work_mem'), \
         (SELECT timeline_id > 1 FROM pg_control_checkpoint())",
    );
    assert_eq!(asked, "f|0||off|7MB|t");
    let nodes = node
        .sh_as(
            "postgres",
            "psql -XAtq -d repmgr -c 'SELECT node_name, type FROM repmgr.nodes'",
        )
        .ok();
    assert_eq!(nodes, format!("{}|primary", node.name));
    let files = node
        .sh("cd /var/lib/postgresql && ls -A .pgnode; ls data | grep -E 'signal|backup_label$'; ls /run/pgnode | grep restore")
        .out;
    assert_eq!(files.trim(), "ballot.json\nlock\nstate.json");
}

fn rows(node: &Node) -> String {
    node.psql("SELECT count(*), min(n), max(n) FROM t")
}

/// Opens with exactly these rows.
#[track_caller]
fn restored(plan: Plan<'_>, want: &str) -> Node {
    let node = plan.start();
    node.wait_open();
    assert_eq!(rows(&node), want, "{}", node.logs());
    anew(&node);
    node
}

/// §3: each kind of target, exactly; nothing of the old life; the source as it was.
#[test]
fn each_target_is_met_exactly() {
    let s = Source::new("targets", &[]);
    let pg1 = &s.node;
    pg1.psql("CREATE TABLE t (n int)");
    pg1.psql("ALTER SYSTEM SET work_mem = '7MB'");
    pg1.psql("ALTER SYSTEM SET primary_conninfo = 'host=nowhere'");
    pg1.psql("SELECT pg_create_physical_replication_slot('old', true) IS NULL OR NULL");
    let backup = s.backup("", 2);
    pg1.psql("INSERT INTO t SELECT generate_series(1, 100)");
    let xid = pg1.psql("BEGIN; INSERT INTO t VALUES (101); SELECT txid_current(); COMMIT");
    let lsn = pg1.psql("SELECT pg_current_wal_insert_lsn()");
    pg1.psql("SELECT pg_create_restore_point('here') IS NULL OR NULL");
    pg1.psql("INSERT INTO t VALUES (102)");
    let time = pg1.psql("SELECT clock_timestamp()");
    pg1.psql("INSERT INTO t VALUES (103)");
    s.archived();
    // Only in what is being received.
    pg1.psql("INSERT INTO t VALUES (104)");
    eventually("the last row is received", LONG, || {
        let lag = pg1.psql("SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'barman' AND restart_lsn >= pg_current_wal_flush_lsn()");
        let got = pg1.psql("SELECT count(*) FROM pg_stat_replication WHERE flush_lsn >= pg_current_wal_flush_lsn()");
        (lag == "1" || got != "0").then_some(())
    });
    pg1.stop();
    let before = s.everything();

    let with = |name: &str, vars: &[(&str, &str)]| {
        vars.iter()
            .fold(s.target(name), |plan, (n, v)| plan.env(n, v))
    };
    let exclusive = ("PGNODE_RESTORE_TARGET_INCLUSIVE", "false");
    let by_xid = ("PGNODE_RESTORE_TARGET_XID", xid.as_str());
    for (name, vars, want) in [
        ("end", vec![], "104|1|104"),
        (
            "bytime",
            vec![("PGNODE_RESTORE_TARGET_TIME", time.as_str())],
            "102|1|102",
        ),
        (
            "bylsn",
            vec![("PGNODE_RESTORE_TARGET_LSN", lsn.as_str())],
            "101|1|101",
        ),
        ("byxid", vec![by_xid], "101|1|101"),
        ("before", vec![by_xid, exclusive], "100|1|100"),
        (
            "byname",
            vec![("PGNODE_RESTORE_TARGET_NAME", "here")],
            "101|1|101",
        ),
        (
            "immediate",
            vec![
                ("PGNODE_RESTORE_TARGET_IMMEDIATE", "true"),
                ("PGNODE_RESTORE", &backup),
            ],
            "0||",
        ),
    ] {
        let node = restored(with(name, &vars), want);
        let boot = node.boot().join(" ");
        let path = "preflight survey configure decide restore replay bootstrap register settle commit opening";
        assert_eq!(boot, path);
        s.c.remove(node);
    }
    assert_eq!(s.everything(), before, "the source was touched");

    // The same by the command line, paused at the target, resumed by a person.
    let node = s
        .target("paused")
        .words(&[
            "restore",
            &backup,
            "--target-name",
            "here",
            "--action",
            "pause",
        ])
        .start();
    node.wait_status("waits for a person", |s| {
        s["sentence"]
            .as_str()
            .unwrap_or_default()
            .contains("waits for `pgnode restore --resume`")
    });
    assert_eq!(node.state(), "replay");
    let looked = node.sh_as(
        "postgres",
        "psql -XAtq -p 5434 -c 'SELECT pg_is_in_recovery(), max(n) FROM t'",
    );
    assert_eq!(looked.ok(), "t|101");
    assert_ne!(node.try_psql("SELECT 1").code, 0, "5432 is closed");
    node.sh("pgnode restore --resume").ok();
    node.wait_open();
    assert_eq!(rows(&node), "101|1|101");
    anew(&node);
    // On a used disk the setting does nothing.
    node.stop();
    node.start();
    node.wait_open();
    assert!(
        node.logs_since_start()
            .contains("PGNODE_RESTORE does nothing here")
    );
    assert_eq!(rows(&node), "101|1|101");

    let node = s
        .target("ends")
        .words(&["restore", "--target-lsn", &lsn, "--action", "shutdown"])
        .start();
    assert_eq!(node.ended(), 0);
    assert!(node.logged("was asked to end there"), "{}", node.logs());
}

/// A name that is in no WAL: everything is replayed, and nothing is promoted.
#[test]
fn bad_input_is_refused_and_nothing_is_touched() {
    let s = Source::new("refused", &[]);
    s.node
        .psql("CREATE TABLE t (n int); INSERT INTO t VALUES (1)");
    s.archived();
    s.node.stop();
    let id = s.on_backups("ls /b/pg1/base").trim().to_owned();
    let before = s.everything();
    let refused = |name: &str, vars: &[(&str, &str)], flags: &[&str], code: i32, parts: &[&str]| {
        let plan = vars
            .iter()
            .fold(s.target(name), |plan, (n, v)| plan.env(n, v));
        let node = plan.flags(flags).start();
        assert_eq!(node.ended(), code, "{}", node.logs());
        for part in parts {
            assert!(node.logged(part), "{part}: {}", node.logs());
        }
        let left = s.c.on_volume(
            name,
            "ls /v/data /v/.pgnode 2>/dev/null | grep -cE 'PG_VERSION|staging'",
        );
        // What was recovered in vain goes with the next start.
        let want = if name == "name" { "1" } else { "0" };
        assert_eq!(left.out.trim(), want, "{name}: something was left");
        s.c.remove(node);
    };
    let time = "PGNODE_RESTORE_TARGET_TIME";
    let range = ["the valid range is from 0/", "the last commit at 20"];
    refused(
        "unknown",
        &[("PGNODE_RESTORE", "20200101T000000")],
        &[],
        64,
        &[&format!("there are {id} (DONE")],
    );
    refused(
        "early",
        &[(time, "2020-01-01 00:00:00")],
        &[],
        64,
        &["lies before the end of backup", &id],
    );
    refused("late", &[(time, "2099-01-01 00:00:00")], &[], 64, &range);
    refused(
        "beyond",
        &[("PGNODE_RESTORE_TARGET_LSN", "FF/0")],
        &[],
        64,
        &range,
    );
    refused(
        "line",
        &[("PGNODE_RESTORE_TARGET_TIMELINE", "9")],
        &[],
        64,
        &["timeline 9 cannot be reached"],
    );
    refused(
        "name",
        &[("PGNODE_RESTORE_TARGET_NAME", "nowhere")],
        &[],
        78,
        &["before the target, restore point \"nowhere\"; the archive holds WAL from 0/"],
    );
    let small = [
        "--mount",
        "type=tmpfs,tmpfs-size=30m,dst=/var/lib/postgresql/data",
    ];
    refused(
        "small",
        &[("PGDATA", "/var/lib/postgresql/data")],
        &small,
        78,
        &["MiB free: make room"],
    );

    // Its own place, and one that somebody else archives to.
    let backups = format!("{}:/home/barman/data", s.c.volume("backups"));
    let here = ["-v", backups.as_str()];
    let local = ("BARMAN_MODE", "local");
    let own = ("PGNODE_RESTORE_FROM", "local");
    refused(
        "same",
        &[local, own, ("BARMAN_SERVER_NAME", "pg1")],
        &here,
        64,
        &["set BARMAN_SERVER_NAME to another name"],
    );
    refused(
        "link",
        &[local, ("BARMAN_SERVER_NAME", "pg1")],
        &here,
        64,
        &["expected an empty archive", "pg1 already holds"],
    );

    // What the metadata say; each with a copy of the catalogue.
    for (name, change, part) in [
        (
            "status",
            "s/^status=.*/status=FAILED/",
            "is FAILED, not DONE",
        ),
        (
            "major",
            "s/^version=.*/version=160004/",
            "was made by PostgreSQL 16, this image has 17",
        ),
        (
            "packed",
            "s/^compression=.*/compression=gzip/",
            "`backup_compression`",
        ),
        (
            "spaces",
            "s|^tablespaces=.*|tablespaces=[('fast', 16400, '/mnt/fast')]|",
            "has no files of tablespace fast",
        ),
        ("alien", "s/^systemid=.*/systemid=1/", "where barman says 1"),
    ] {
        s.on_backups(&format!(
            "cp -a /b/pg1 /b/{name} && sed -i \"{change}\" /b/{name}/meta/{id}-backup.info"
        ));
        let from = format!("/srv/barman/{name}");
        let vars = [
            ("PGNODE_RESTORE", id.as_str()),
            ("PGNODE_RESTORE_FROM", &from),
        ];
        let plan = vars
            .iter()
            .fold(s.target(name), |plan, (n, v)| plan.env(n, v));
        let node = plan.start();
        assert_eq!(node.ended(), 78, "{name}: {}", node.logs());
        assert!(node.logged(part), "{name}: {}", node.logs());
        s.c.remove(node);
        s.on_backups(&format!("rm -rf /b/{name}"));
    }

    // A peer that lives.
    s.node.start();
    s.node.wait_open();
    let node = s
        .target("beside")
        .env("REPMGR_PARTNER_NODES", "pg1")
        .start();
    node.wait_state("fenced");
    assert!(
        node.logged("PGNODE_RESTORE would begin a cluster here, but pg1:5432 already belongs to")
    );
    s.c.remove(node);
    s.node.stop();

    // A new cluster on the volume of another one's backups: it opens, and leaves them alone.
    let listed = "cd /b/pg1 && ls -R base wals streaming incoming | sort";
    let there = s.on_backups(listed);
    let node =
        s.c.node("pg5")
            .env("BARMAN_SERVER_NAME", "pg1")
            .flags(&here)
            .open();
    node.wait_log("nothing is backed up: /home/barman/data/pg1 belongs to cluster");
    node.sh_as("barman", &format!("{BARMAN} cron")).ok();
    node.psql("SELECT pg_switch_wal()");
    node.sh_as("barman", &format!("{BARMAN} archive-wal pg1"));
    assert_eq!(s.on_backups(listed), there);
    s.c.remove(node);

    // Without a node: what would be done.
    let mount = format!("{}:/srv/barman:ro", s.c.volume("backups"));
    let image = image();
    let words = [
        "run",
        "--rm",
        "-v",
        &mount,
        "-e",
        "REPMGR_NODE_NAME=pg9",
        "-e",
        "BARMAN_MODE=off",
        &image,
        "restore",
        "latest",
        "--from",
        "/srv/barman/pg1",
        "--check",
        "--json",
    ];
    let plan: serde_json::Value = serde_json::from_str(&docker(words).ok()).unwrap();
    assert_eq!(plan["backup"], id.as_str());
    assert_eq!(plan["timeline"], 1);
    assert!(plan["latest_commit_ms"].as_u64() > plan["earliest_ms"].as_u64());
    assert!(plan["bytes_needed"].as_u64() > Some(20 << 20), "{plan}");
    let after = s.everything();
    for line in before
        .lines()
        .filter(|l| l.contains("/base/") || l.contains("/wals/0"))
    {
        assert!(after.contains(line), "{line}");
    }
}

/// §3: `kill -9` in each state of a restore; the next start begins again and ends with every row.
#[test]
fn a_restore_killed_anywhere_begins_again() {
    let s = Source::new("rkill", &[]);
    s.node.psql("ALTER SYSTEM SET work_mem = '7MB'");
    s.node.psql("CREATE TABLE t (n int)");
    let id = s.backup("", 2);
    s.node.psql("INSERT INTO t SELECT generate_series(1, 100)");
    s.archived();
    s.node.stop();
    let before = s.everything();
    let mut held = String::new();
    for state in [
        "restore",
        "replay",
        "bootstrap",
        "register",
        "settle",
        "commit",
        "opening",
    ] {
        for when in ["before", "after"] {
            let name = format!("{state}-{when}");
            let plan = s.target(&name).env("PGNODE_RESTORE", &id);
            let node = plan
                .clone()
                .env("PGNODE_TEST_HOLD", &format!("{state}:{when}"))
                .start();
            node.wait_log("held by PGNODE_TEST_HOLD");
            let answers = node.try_psql("SELECT 1").code == 0;
            assert_eq!(answers, name == "opening-after", "{name}: 5432");
            node.kill("KILL");
            s.c.remove(node);
            let node = plan.start();
            node.wait_open();
            assert_eq!(rows(&node), "100|1|100", "{name}: {}", node.logs());
            anew(&node);
            s.c.remove(node);
            writeln!(held, "{name}").unwrap();
        }
    }
    assert_eq!(held.lines().count(), 14);
    assert_eq!(s.everything(), before, "the source was touched");
}

/// §3: a lost source is waited for, within the budget; a damaged segment is refused; neither is ever
/// taken for the end.
#[test]
fn lost_wal_is_never_the_end_of_the_archive() {
    let s = Source::new("lost", &[]);
    s.node.psql("ALTER SYSTEM SET work_mem = '7MB'");
    s.node.psql("CREATE TABLE t (n int)");
    let id = s.backup("", 2);
    for n in 1..=4 {
        s.node.psql(&format!("INSERT INTO t VALUES ({n})"));
        s.archived();
    }
    s.node.stop();
    let dir = "/b/pg1/wals/0000000100000000";
    let middle = s.on_backups(&format!(
        "ls {dir} | grep -E '^.{{24}}$' | tail -n 3 | head -n 1"
    ));
    let middle = middle.trim();
    // A pipe is listed like a file, and is none.
    s.on_backups(&format!(
        "mv {dir}/{middle} /b/kept && mkfifo {dir}/{middle}"
    ));
    let target = |name: &str| s.target(name).env("PGNODE_RESTORE", &id);

    let brief = target("brief").env("PGNODE_RESTORE_RETRY", "3s").start();
    assert_eq!(brief.ended(), 75, "{}", brief.logs());
    assert!(
        brief.logged(&format!("gave up on {middle}")),
        "{}",
        brief.logs()
    );

    let stopped = target("stopped").start();
    stopped.wait_log("recovery waits up to");
    stopped.stop();
    assert_eq!(stopped.ended(), 0, "{}", stopped.logs());
    s.c.remove(stopped);

    let node = target("patient").start();
    let waits = |node: &Node| {
        node.wait_status("says what it waits for", |s| {
            let sentence = s["sentence"].as_str().unwrap_or_default();
            s["state"] == "replay"
                && sentence.contains(middle)
                && sentence.contains("source is lost")
        })
    };
    waits(&node);
    // The whole source, as a mount that went away.
    s.on_backups("mv /b/pg1 /b/away && mkdir /b/pg1");
    node.wait_status("says why", |s| {
        s["sentence"]
            .as_str()
            .unwrap_or_default()
            .contains("No such file or directory")
    });
    let promoted = "psql -XAtq -p 5434 -c 'SELECT NOT pg_is_in_recovery()'";
    assert_ne!(node.sh_as("postgres", promoted).out.trim(), "t");
    assert_ne!(node.try_psql("SELECT 1").code, 0, "5432 is closed");
    s.on_backups(&format!(
        "rmdir /b/pg1 && mv /b/away /b/pg1 && rm {dir}/{middle} && mv /b/kept {dir}/{middle}"
    ));
    node.wait_open();
    assert_eq!(rows(&node), "4|1|4");
    anew(&node);
    assert!(node.logged("the source answers again"));
    s.c.remove(node);

    brief.start();
    brief.wait_open();
    assert_eq!(rows(&brief), "4|1|4", "the next start went on");
    s.c.remove(brief);

    // Half of it, whole again, and half of another one's.
    s.on_backups(&format!(
        "cd {dir} && cp -a {middle} /b/kept && gzip -dc < {middle} | head -c 8000000 | gzip > /b/half && cat /b/half > {middle}"
    ));
    let node = target("half").start();
    assert_eq!(node.ended(), 78, "{}", node.logs());
    assert!(
        node.logged("it has 8000000 bytes of 16777216"),
        "{}",
        node.logs()
    );
    s.c.remove(node);
    // Right at its beginning, and damaged in the middle of a record.
    s.on_backups(&format!(
        "cd {dir} && gzip -dc < /b/kept > /b/plain && head -c 200 /dev/zero | tr '\\0' x | dd of=/b/plain bs=1 seek=60 conv=notrunc status=none && cat /b/plain > {middle}"
    ));
    let node = target("torn").start();
    assert_eq!(node.ended(), 78, "{}", node.logs());
    assert!(
        node.logged(&format!("WAL segment {middle} is damaged")),
        "{}",
        node.logs()
    );
    assert!(!node.logged("is promoted"), "{}", node.logs());
}

/// §3: across a promotion; along the old timeline on request.
#[test]
fn recovery_follows_the_timelines() {
    let s = Source::new("lines", &[]);
    s.node.psql("ALTER SYSTEM SET work_mem = '7MB'");
    s.node.psql("CREATE TABLE t (n int)");
    let id = s.backup("", 2);
    s.node.psql("INSERT INTO t VALUES (1)");
    s.archived();
    s.node.psql("INSERT INTO t VALUES (2)");
    s.archived();
    s.node.stop();
    // Promoted by hand.
    let shell = "cd /v/data && touch standby.signal && chown postgres: standby.signal && \
        mkdir -p /run/postgresql && chown postgres: /run/postgresql && \
        setpriv --reuid postgres --regid postgres --init-groups pg_ctl -D /v/data -w -o '-c shared_preload_libraries= -c max_wal_senders=16 -p 5434' start && \
        setpriv --reuid postgres --regid postgres --init-groups pg_ctl -D /v/data -w promote && \
        setpriv --reuid postgres --regid postgres --init-groups pg_ctl -D /v/data -w -m fast stop";
    let ran = s.c.on_volume("pg1", shell);
    assert_eq!(ran.code, 0, "{ran:?}");
    s.node.start();
    s.node.wait_open();
    s.node.psql("INSERT INTO t VALUES (3)");
    s.archived();
    s.node.stop();
    let target = |name: &str| s.target(name).env("PGNODE_RESTORE", &id);
    s.c.remove(restored(target("newest"), "3|1|3"));
    let along = |name: &str, line: &str| target(name).env("PGNODE_RESTORE_TARGET_TIMELINE", line);
    s.c.remove(restored(along("current", "current"), "2|1|2"));
    s.c.remove(restored(along("second", "2"), "3|1|3"));
}

/// §3: limits that the source was given after the backup: recovery is started again with them.
#[test]
fn a_source_that_grew_is_recovered() {
    let s = Source::new("grew", &[]);
    s.node.psql("ALTER SYSTEM SET work_mem = '7MB'");
    s.node.psql("CREATE TABLE t (n int)");
    let id = s.backup("", 2);
    s.node
        .psql("INSERT INTO t SELECT generate_series(1, 100000)");
    s.archived();
    s.node.psql("ALTER SYSTEM SET max_connections = 170");
    s.node.stop();
    s.node.start();
    s.node.wait_open();
    s.node.psql("INSERT INTO t VALUES (100001)");
    s.archived();
    s.node.stop();
    let node = restored(
        s.target("grown").env("PGNODE_RESTORE", &id),
        "100001|1|100001",
    );
    assert!(node.logged("insufficient parameter settings"));
    assert_eq!(node.psql("SHOW max_connections"), "100", "as in the backup");
}

/// §3: an incremental backup, on another node with an archive of its own, and a slave that clones it.
#[test]
fn an_incremental_backup_becomes_a_cluster() {
    let s = Source::new("incr", &["-c", "summarize_wal=on"]);
    s.node.psql("ALTER SYSTEM SET work_mem = '7MB'");
    s.node
        .psql("CREATE TABLE t (n int); INSERT INTO t SELECT generate_series(1, 1000)");
    s.backup("", 2);
    s.node
        .psql("INSERT INTO t SELECT generate_series(1001, 2000)");
    let id = s.backup("--incremental last-full", 3);
    s.node.psql("INSERT INTO t VALUES (2001)");
    s.archived();
    s.node.stop();
    let before = s.everything();
    let node = s
        .target("pg7")
        .env("REPMGR_SLAVES", "pg8")
        .env("BARMAN_MODE", "local")
        .env("BARMAN_SERVER_NAME", "pg7")
        .start();
    node.wait_open();
    assert!(
        node.logged(&format!("restoring backup {id}")),
        "{}",
        node.logs()
    );
    assert_eq!(rows(&node), "2001|1|2001");
    let slave =
        s.c.node("pg8")
            .env("REPMGR_MASTER", "false")
            .env("REPMGR_PRIMARY_HOST", "pg7")
            .start();
    slave.wait_streaming();
    node.psql("INSERT INTO t VALUES (2002)");
    slave.wait_row("SELECT count(*) FROM t", "2002");
    // Its own archive, with a backup of its own.
    node.wait_status("has its own backup", |s| {
        s["backup"]["count"].as_u64() >= Some(1)
    });
    assert!(node.sh("ls /home/barman/data").ok().contains("pg7"));
    assert_eq!(s.everything(), before, "the source was touched");
}

/// From barman's directory, where a tablespace is a directory beside the data, and the backup's own link leads to it.
#[test]
fn a_tablespace_comes_from_barmans_directory() {
    let s = Source::new("rspaces", &[]);
    s.node.psql("ALTER SYSTEM SET work_mem = '7MB'");
    s.node
        .sh("install -d -o postgres -g postgres /var/lib/postgresql/fast")
        .ok();
    s.node
        .psql("CREATE TABLESPACE fast LOCATION '/var/lib/postgresql/fast'");
    s.node.psql(
        "CREATE TABLE t (n int) TABLESPACE fast; INSERT INTO t SELECT generate_series(1, 1000)",
    );
    let id = s.backup("", 2);
    s.node.psql("INSERT INTO t VALUES (1001)");
    s.archived();
    s.node.stop();
    let before = s.everything();
    let located = "SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'fast'";
    for (name, moved, place) in [
        ("stays", "", "/var/lib/postgresql/fast"),
        ("moves", "fast=/srv/fast", "/srv/fast"),
    ] {
        let plan = s.target(name).env("PGNODE_RESTORE", &id);
        let plan = match moved {
            "" => plan,
            moved => plan.env("PGNODE_RESTORE_TABLESPACES", moved),
        };
        let node = restored(plan, "1001|1|1001");
        assert_eq!(node.psql(located), place);
        let held = node.sh(&format!("ls -A {place}")).ok();
        assert!(held.starts_with("PG_17_") && !held.contains('\n'), "{held}");
        // Its own, and not the backup's.
        node.psql("INSERT INTO t VALUES (1002); CHECKPOINT");
        s.c.remove(node);
    }
    assert_eq!(s.everything(), before, "the source was touched");
}
