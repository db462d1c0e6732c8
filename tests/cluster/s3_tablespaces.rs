//! Backups with tablespaces in a bucket: restored to where they were and elsewhere, refused where somebody else is, and
//! killed on the way.

use crate::docker::{BACKUP, Cluster, Node, Plan, docker, eventually};
use crate::s3::{Bucket, Fault, PATH, Rule, first_backup, switch};
use crate::s3_restore::Source;
use serde_json::Value;

const OWN: &str = "/var/lib/postgresql";
/// Where a volume of its own is mounted.
const ELSEWHERE: &str = "/srv/fast";

/// A node that archives into the bucket as `main` and has tablespaces `fast` and `slow`, on its volume.
fn source(c: &Cluster, bucket: &Bucket) -> Node {
    let node = bucket.cloud(None, "main", c.node("pg1")).open();
    first_backup(&node);
    for name in ["fast", "slow"] {
        tablespace(&node, name);
    }
    node.psql("CREATE TABLE f (n int) TABLESPACE fast");
    node.psql("CREATE TABLE s (n int) TABLESPACE slow");
    node.psql("INSERT INTO f SELECT generate_series(1, 20000)");
    node.psql("INSERT INTO s SELECT generate_series(1, 300)");
    node
}

fn tablespace(node: &Node, name: &str) {
    let make = format!("install -d -o postgres -g postgres {OWN}/{name}");
    node.sh(&make).ok();
    node.psql(&format!("CREATE TABLESPACE {name} LOCATION '{OWN}/{name}'"));
}

/// A new backup; its id.
#[track_caller]
fn backup(node: &Node) -> String {
    let made = node.sh("pgnode backup --wait --json").ok();
    let made: Value = serde_json::from_str(&made).unwrap();
    assert_eq!(made["status"], "DONE", "{made:#}");
    made["id"].as_str().unwrap().to_owned()
}

fn drill(node: &Node) -> (i32, String) {
    let ran = node.sh("pgnode drill --json");
    (ran.code, ran.out)
}

/// A new node on empty volumes, which restores `main` with `fast` elsewhere.
fn target<'a>(c: &'a Cluster, bucket: &Bucket, name: &str, fast: &str) -> Plan<'a> {
    let mount = format!("{}:{ELSEWHERE}", c.volume(fast));
    let plan = c
        .node(name)
        .flags(&["-v", &mount])
        .env("REPMGR_NODE_ID", "7")
        .env("BARMAN_MODE", "off")
        .env("PGNODE_RESTORE", "latest")
        .env("PGNODE_RESTORE_FROM", "s3/main")
        .env("PGNODE_RESTORE_TABLESPACES", &format!("fast={ELSEWHERE}"));
    bucket.give(plan)
}

const ROWS: &str =
    "SELECT (SELECT count(*) || ':' || sum(n) FROM f), (SELECT count(*) || ':' || sum(n) FROM s)";

/// All that is on a volume, with its checksums.
fn everything(c: &Cluster, name: &str) -> String {
    let look = "cd /v && find . -printf '%p %u %m %s %T@\\n' | sort; find . -type f | sort | xargs -r sha256sum";
    c.on_volume(name, look).ok()
}

#[test]
fn tablespaces_are_restored_elsewhere_and_where_they_were_however_often_it_is_killed() {
    let c = Cluster::new("s3spaces");
    let bucket = Bucket::start(&c);
    let pg1 = source(&c, &bucket);
    // Replay would make them where the running server has them.
    let (code, said) = drill(&pg1);
    assert!(code != 0 && said.contains("drill-tablespace"), "{said}");
    let id = backup(&pg1);
    // What replay brings goes through the links too.
    pg1.psql("INSERT INTO f SELECT generate_series(1, 7); INSERT INTO s VALUES (1000)");
    switch(&pg1);
    switch(&pg1);
    let want = pg1.psql(ROWS);
    pg1.psql("CHECKPOINT");
    let last = pg1.psql("SELECT pg_walfile_name(pg_switch_wal())");
    bucket.wait_keys(&format!("{PATH}/main/wals/{}/{last}", &last[..16]));
    let deep = pg1.sh("pgnode s3 verify --deep main");
    assert_eq!(deep.code, 0, "{deep:?}");

    // A drill has them beside its copy.
    let (code, said) = drill(&pg1);
    assert_eq!(code, 0, "{said}");
    assert_eq!(pg1.psql(ROWS), want);
    pg1.stop();
    let source = everything(&c, "pg1");

    // Killed while the data directory comes, when the tablespaces are unpacked; then while it recovers.
    let proxy = bucket.proxy();
    let stalled = |bytes| Rule::new(Fault::StallAnswer(bytes)).method("GET");
    let node = target(&c, &bucket, "pg2", "fast")
        .env("S3_ENDPOINT_URL", &proxy.url())
        .create();
    let looks = [
        (
            "restore",
            stalled(1_500_000).key("data.tar"),
            ".pgnode-restore/new/PG_17_*",
        ),
        ("replay", stalled(1_000).key("/wals/").after(1), "PG_17_*"),
    ];
    for (state, rule, there) in looks {
        proxy.clear();
        let faults = proxy.faults();
        proxy.fail(rule);
        node.start();
        eventually(&format!("half of it is there in {state}"), BACKUP, || {
            let half = node.sh(&format!("ls -d {ELSEWHERE}/{there} {OWN}/slow/{there}"));
            let there = half.code == 0 && node.state() == state;
            (there && proxy.faults() > faults).then_some(())
        });
        node.kill("KILL");
        node.ended();
        let open = c.on_volume("pg2", "find /v/data -name PG_VERSION");
        assert_eq!(open.out, "", "half of it is in its place");
        let mark = c.on_volume("fast", "cat /v/.pgnode-restore/mark.json").ok();
        assert!(mark.contains("not complete"), "{mark}");
    }
    proxy.clear();
    node.start();
    node.wait_open();
    assert_eq!(node.psql(ROWS), want, "{}", node.logs());
    let places = "SELECT string_agg(spcname || '=' || pg_tablespace_location(oid), ' ' ORDER BY spcname) \
                  FROM pg_tablespace WHERE oid > 16383";
    let located = format!("fast={ELSEWHERE} slow={OWN}/slow");
    assert_eq!(node.psql(places), located);
    let held =
        format!("stat -c '%U %a' {ELSEWHERE} {OWN}/slow; ls -A {ELSEWHERE} {OWN}/slow {OWN}/data");
    let held = node.sh(&held).ok();
    assert_eq!(held.matches("postgres 700").count(), 2, "{held}");
    assert_eq!(held.matches("PG_17_").count(), 2, "{held}");
    assert!(
        !held.contains("pgnode-restore") && !held.contains("pgsql_tmp"),
        "{held}"
    );
    // It is a cluster like others from now on.
    node.psql("INSERT INTO f VALUES (0); CREATE TABLE g TABLESPACE fast AS SELECT 1 AS n");
    node.kill("KILL");
    node.ended();
    node.start();
    node.wait_open();
    assert_eq!(node.psql("SELECT count(*) FROM f"), "20008");
    node.stop();
    let checked = docker([
        "run",
        "--rm",
        "--network",
        "none",
        "--entrypoint",
        "pg_checksums",
        "--volumes-from",
        &node.container,
        &crate::docker::image(),
        "--check",
        "-D",
        "/var/lib/postgresql/data",
    ]);
    assert!(checked.ok().contains("Bad checksums:  0"));

    refuses(&c, &bucket, &id);
    assert_eq!(everything(&c, "pg1"), source, "the source was touched");
}

/// Whatever is in the way stays as it is.
fn refuses(c: &Cluster, bucket: &Bucket, id: &str) {
    let refused = |plan: Plan<'_>, code: i32, parts: &[&str]| {
        let node = plan.start();
        assert_eq!(node.ended(), code, "{}", node.logs());
        for part in parts {
            assert!(node.logged(part), "{part}: {}", node.logs());
        }
        let made = c.on_volume(
            &node.name,
            "ls -d /v/data /v/.pgnode/staging /v/slow 2>/dev/null",
        );
        assert_eq!(made.out, "", "something was begun");
        c.remove(node);
    };
    // The tablespace of another cluster, which is down.
    let live = everything(c, "fast");
    refused(
        target(c, bucket, "pg3", "fast"),
        78,
        &[
            &format!("tablespace fast of backup {id} goes to {ELSEWHERE}"),
            "holds PG_17_",
            "nothing was touched",
        ],
    );
    assert_eq!(
        everything(c, "fast"),
        live,
        "another cluster's tablespace was touched"
    );
    c.volume("notes");
    c.on_volume("notes", "echo mine > /v/notes.txt").ok();
    let notes = everything(c, "notes");
    refused(
        target(c, bucket, "pg4", "notes"),
        78,
        &[
            "holds notes.txt: a restore overwrites nothing",
            "PGNODE_RESTORE_TABLESPACES=fast=/path",
        ],
    );
    assert_eq!(everything(c, "notes"), notes);
    // Settings.
    for (value, parts) in [
        (
            "other=/srv/other",
            [
                "PGNODE_RESTORE_TABLESPACES: other=/srv/other names",
                "it has only fast, slow",
            ],
        ),
        (
            "fast=srv",
            ["PGNODE_RESTORE_TABLESPACES", "not an absolute path"],
        ),
        (
            "fast=/var/lib/postgresql/data/x",
            ["PGNODE_RESTORE_TABLESPACES", "is PGDATA, or inside it"],
        ),
    ] {
        let plan = target(c, bucket, "pg5", "unused");
        refused(plan.env("PGNODE_RESTORE_TABLESPACES", value), 64, &parts);
    }
}

/// barman-cloud's own, which has no list of checksums.
#[test]
fn a_tablespace_that_barman_cloud_stored_is_restored() {
    let s = Source::new("s3bcspaces", "--gzip");
    s.bucket.tools().sh_as("postgres", "mkdir /tmp/fast").ok();
    s.sql("CREATE TABLESPACE fast LOCATION '/tmp/fast'");
    s.sql("CREATE TABLE t (n int) TABLESPACE fast");
    s.sql("INSERT INTO t SELECT generate_series(1, 5000)");
    let id = s.backup("--bzip2");
    s.sql("INSERT INTO t VALUES (5001)");
    s.archived();
    let fast = format!("{OWN}/fast");
    let words = ["restore", &id, "--tablespace", &format!("fast={fast}")];
    let node = s.target("pg7").words(&words).start();
    node.wait_open();
    assert_eq!(node.psql("SELECT count(*), max(n) FROM t"), "5001|5001");
    let located =
        node.psql("SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'fast'");
    assert_eq!(located, fast);
    node.stop();
    node.start();
    node.wait_open();
    assert_eq!(node.psql("SELECT count(*) FROM t"), "5001");
}
