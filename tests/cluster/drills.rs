//! Drills: a good backup is proved, a bad one is found and marked, and nothing else is ever touched (issue 4 §5); from a
//! bucket as well.

use crate::docker::{Cluster, LONG, Node, Ran, docker, eventually};
use crate::doctor::{barman, doctor, kept, well};
use crate::s3::{Bucket, PATH};
use serde_json::Value;

const HOME: &str = "/home/barman/data";

/// A drill: exit code and result.
fn drill(node: &Node, env: &str) -> (i32, Value) {
    let ran: Ran = node.sh(&format!("{env} pgnode drill --json"));
    let report: Value = serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{e}: {ran:?}"));
    (ran.code, report["drills"][0].clone())
}

#[track_caller]
fn fails(node: &Node, env: &str, ailment: &str) -> String {
    let (code, view) = drill(node, env);
    assert_eq!(
        (code, view["ailment"].as_str()),
        (1, Some(ailment)),
        "{view:#}"
    );
    view["error"].as_str().unwrap().to_owned()
}

#[track_caller]
fn succeeds(node: &Node) -> Value {
    let (code, view) = drill(node, "");
    assert_eq!((code, &view["error"]), (0, &Value::Null), "{view:#}");
    view
}

fn record(node: &Node) -> Value {
    serde_json::from_str(&node.sh(&format!("cat {HOME}/.drill/pg1.json")).ok()).unwrap()
}

/// Nothing of a drill runs, and nothing of it is left.
fn nothing_runs(node: &Node) {
    eventually("nothing of a drill runs", LONG, || {
        let ran = node.sh("ps -u barman -o args= | grep -c -e '[.]drill/' -e '[d]rill[.]conf'");
        (ran.out.trim() == "0").then_some(())
    });
}

#[test]
fn a_good_backup_is_proved_and_a_bad_one_marked() {
    let c = Cluster::new("drill");
    let node = kept(c.node("pg1"));
    node.psql("CREATE TABLE t AS SELECT generate_series(1, 10000) AS n");
    let report = well(&node, "--full");
    assert_eq!(report["verdict"], "PASS", "{report:#}");
    let view = record(&node);
    assert!(view["rows"].as_u64() >= Some(2), "{view:#}");
    assert!(view["recovery_point_ms"].as_u64().is_some() && view["bytes"].as_u64() > Some(1 << 20));
    let id = view["backup"].as_str().unwrap().to_owned();
    assert_eq!(
        node.sh(&format!("ls -A {HOME}/.drill")).ok(),
        "pg1.json\npg1.lock"
    );
    node.wait_status("shows the drill", |s| {
        s["backup"]["drills"][0]["backup"] == id.as_str()
    });
    let metrics = node.get("/metrics").unwrap().body;
    for metric in [
        "pgnode_drill_success{server=\"pg1\"} 1",
        "pgnode_drill_last_timestamp_seconds{server=\"pg1\"} ",
        "pgnode_drill_duration_seconds{server=\"pg1\"} ",
        "pgnode_drill_recovery_point_timestamp_seconds{server=\"pg1\"} ",
    ] {
        assert!(metrics.contains(metric), "{metric} in {metrics}");
    }

    // A flipped byte.
    let file = format!("{HOME}/pg1/base/{id}/data/base/5/1255");
    let flip = |offset: u32| {
        let byte = format!("$(( $(od -An -tu1 -j{offset} -N1 {file}) ^ 1 ))");
        let put = format!(
            "printf \"\\\\x$(printf %x {byte})\" | dd of={file} bs=1 seek={offset} conv=notrunc status=none"
        );
        node.sh(&put).ok()
    };
    flip(30_000);
    let why = fails(&node, "", "drill-manifest");
    assert!(why.contains("base/5/1255"), "{why}");
    assert!(
        record(&node)["failed"][&id].is_string(),
        "{:#}",
        record(&node)
    );
    let (code, report) = doctor(&node, "--step 8");
    assert_eq!(code, 1, "{report:#}");
    assert!(
        report.to_string().contains("\"ailment\":\"drill-failed\""),
        "{report:#}"
    );
    node.wait_log(&format!("the drill of pg1 failed with {id}"));
    node.wait_status("shows the failure", |s| {
        s["backup"]["drills"][0]["ailment"] == "drill-manifest"
    });
    assert!(node.sh("pgnode status").ok().contains("FAILED"));
    assert!(
        node.get("/metrics")
            .unwrap()
            .body
            .contains("pgnode_drill_success{server=\"pg1\"} 0")
    );
    // Without its manifest the pages' checksums still find it.
    let manifest = format!("{HOME}/pg1/base/{id}/data/backup_manifest");
    node.sh(&format!("mv {manifest} /tmp/")).ok();
    fails(&node, "", "drill-checksums");
    flip(30_000);
    node.sh(&format!(
        "mv {HOME}/pg1/base/{id}/data/global/pg_filenode.map /tmp/"
    ))
    .ok();
    let why = fails(&node, "", "drill-recovery");
    assert!(why.contains("pg_filenode.map"), "{why}");
    node.sh(&format!("mv /tmp/pg_filenode.map {HOME}/pg1/base/{id}/data/global/; mv /tmp/backup_manifest {manifest}")).ok();

    // A missing segment: the one in which the backup begins.
    let wal = barman(&node, "-f json show-backup pg1 latest");
    let wal: Value = serde_json::from_str(&wal).unwrap();
    let begin = wal["pg1"]["base_backup_information"]["begin_wal"]
        .as_str()
        .unwrap();
    let path = format!("{HOME}/pg1/wals/{}/{begin}", &begin[..16]);
    node.sh(&format!("mv {path} /tmp/segment")).ok();
    let why = fails(&node, "", "drill-wal-missing");
    assert!(why.contains(begin), "{why}");
    node.sh(&format!("mv /tmp/segment {path}")).ok();

    succeeds(&node);
    let view = record(&node);
    assert_eq!(
        view["failed"],
        serde_json::json!({}),
        "a good drill clears the mark"
    );
    nothing_runs(&node);
}

#[test]
fn a_drill_touches_nothing_but_its_own_directory_and_ends_with_whoever_started_it() {
    let c = Cluster::new("scratch");
    let node = kept(c.node("pg1").flags(&["--tmpfs", "/small:size=40m"]));
    succeeds(&node);

    let why = fails(&node, "PGNODE_DRILL_DIR=/small", "drill-no-room");
    assert!(why.contains("/small/pg1 has "), "{why}");
    node.sh("mkdir -p /mine/pg1 && echo precious > /mine/pg1/file")
        .ok();
    let why = fails(&node, "PGNODE_DRILL_DIR=/mine", "drill-directory");
    assert!(
        why.contains("/mine holds pg1, which no drill has made"),
        "{why}"
    );
    assert_eq!(
        node.sh("cat /mine/pg1/file; ls -A /mine").ok(),
        "precious\npg1"
    );
    node.sh("ln -s /var/lib/postgresql/data /innocent").ok();
    let why = fails(&node, "PGNODE_DRILL_DIR=/innocent/sub", "drill-directory");
    assert!(why.contains("PGDATA"), "{why}");
    let why = fails(
        &node,
        "PGNODE_DRILL_DIR=/home/barman/data/pg1/base",
        "drill-directory",
    );
    assert!(why.contains("the backups"), "{why}");
    let long = "x".repeat(100);
    fails(
        &node,
        &format!("PGNODE_DRILL_DIR=/tmp/{long}"),
        "drill-directory",
    );

    let hold = format!("exec flock {HOME}/.drill/pg1.lock sleep 3600");
    docker(["exec", "-d", &node.container, "bash", "-c", &hold]).ok();
    eventually("the lock is held", LONG, || {
        (node
            .sh(&format!("flock -n {HOME}/.drill/pg1.lock true"))
            .code
            != 0)
            .then_some(())
    });
    let before = record(&node);
    fails(&node, "", "drill-running");
    assert_eq!(
        record(&node),
        before,
        "another's result is not written over"
    );
    node.sh("kill $(ps -C sleep -o pid=)").ok();

    node.sh("install -d -o postgres -g postgres /var/lib/postgresql/space")
        .ok();
    node.psql("CREATE TABLESPACE space LOCATION '/var/lib/postgresql/space'");
    fails(&node, "", "drill-tablespace");
    barman(&node, "backup pg1");
    node.psql("CREATE TABLE in_space TABLESPACE space AS SELECT generate_series(1, 1000) AS n");
    // The newest complete backup is still the old one until its WAL has come.
    eventually("a backup that knows the tablespace", LONG, || {
        (drill(&node, "").0 == 0).then_some(())
    });
    assert_eq!(node.psql("SELECT count(*) FROM in_space"), "1000");
    node.psql("DROP TABLE in_space");

    // Killed while its server runs: that ends too, and the next drill cleans up.
    eventually("a drill is killed in its midst", LONG, || {
        let shell = format!(
            "pgnode drill & p=$!; until test -e {HOME}/.drill/pg1/data/postmaster.pid; do \
             kill -0 $p || exit 1; done; kill -9 $p; wait $p; test -d {HOME}/.drill/pg1/data"
        );
        (node.sh(&shell).code == 0).then_some(())
    });
    nothing_runs(&node);
    succeeds(&node);
    assert_eq!(
        node.sh(&format!("ls -A {HOME}/.drill")).ok(),
        "pg1.json\npg1.lock"
    );

    // Told to stop: the same in order.
    let shell = format!(
        "pgnode drill & p=$!; until test -e {HOME}/.drill/pg1/data; do kill -0 $p || exit 1; done; \
         kill -TERM $p; wait $p; test $? = 143"
    );
    node.sh(&shell).ok();
    nothing_runs(&node);

    node.sh(&format!("rm -rf {HOME}/pg1/base/* {HOME}/pg1/meta/*"))
        .ok();
    fails(&node, "", "drill-no-backup");
}

/// cron's own way: as barman, with nothing of the container's environment.
#[test]
fn a_schedule_makes_drills() {
    let c = Cluster::new("drillcron");
    let plan = c.node("pg1").env("PGNODE_DRILL_SCHEDULE", "* * * * *");
    let node = kept(plan.env("BARMAN_PASSWORD", "it's: \\ $odd"));
    // The first may come before the first backup is complete.
    let status = node.wait_status("a drill by cron", |s| {
        let drill = &s["backup"]["drills"][0];
        drill["at_ms"].is_u64() && drill["error"].is_null()
    });
    let drill = &status["backup"]["drills"][0];
    assert!(drill["rows"].as_u64() >= Some(1), "{drill:#}");
    assert!(!node.logs().contains("odd"), "no secret is logged");
}

/// The same from a bucket: as postgres, by the settings that the node left for its helpers.
#[test]
fn a_schedule_makes_drills_from_a_bucket_and_a_damaged_backup_is_marked() {
    let c = Cluster::new("drills3");
    let bucket = Bucket::start(&c);
    let plan = bucket
        .give(c.node("pg1"))
        .env("BARMAN_MODE", "cloud")
        .env("BARMAN_CLOUD_SERVER_NAME", "main")
        // What cron's job does not hear of by its environment.
        .env("POSTGRES_USER", "boss")
        .env("PGNODE_DRILL_SCHEDULE", "* * * * *");
    let node = plan.open();
    // The first may come before the first backup is complete.
    let status = node.wait_status("a drill by cron", |s| {
        let drill = &s["backup"]["drills"][0];
        drill["server"] == "main" && drill["backup"].is_string() && drill["error"].is_null()
    });
    let drill_of = |status: &Value| status["backup"]["drills"][0].clone();
    let good = drill_of(&status);
    let id = good["backup"].as_str().unwrap();
    assert!(good["bytes"].as_u64() > Some(1 << 20), "{good:#}");
    let place = "/var/lib/postgresql/.drill";
    let owner = node.sh(&format!("stat -c %U {place}/main.json {place}/main.lock"));
    assert_eq!(owner.ok(), "postgres\npostgres");
    let crontab = node.sh("cat /run/pgnode/crontab").ok();
    assert!(crontab.contains(" drill --run-dir "), "{crontab}");
    for (name, value) in bucket.env() {
        assert!(!crontab.contains(&value), "{name} is in {crontab}");
    }
    let metric = |value: u8| format!("pgnode_drill_success{{server=\"main\"}} {value}");
    let metrics = || node.get("/metrics").unwrap().body;
    assert!(metrics().contains(&metric(1)), "{}", metrics());

    let flip = || {
        bucket.change(&format!("{PATH}/main/base/{id}/data.tar.gz"), |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        });
    };
    let listed = || -> Value {
        let list = node.sh("pgnode backup list --json").ok();
        serde_json::from_str(&list).unwrap()
    };
    assert_eq!(listed()[0]["drill_failed"], Value::Null);
    flip();
    let status = node.wait_status("a drill that failed", |s| {
        drill_of(s)["ailment"] == "drill-manifest"
    });
    assert_eq!(drill_of(&status)["backup"], id, "{status:#}");
    assert!(metrics().contains(&metric(0)), "{}", metrics());
    assert!(listed()[0]["drill_failed"].is_string(), "{:#}", listed());
    let shown = node.sh("pgnode backup list").ok();
    assert!(shown.contains("DONE, drill FAILED"), "{shown}");
    node.wait_log(&format!("the drill of main failed with {id}"));
    flip();

    // By hand, as soon as cron's is through.
    let by_hand = |what: &str, ailment: Value| {
        eventually(what, LONG, || {
            let (_, view) = drill(&node, "");
            (view["ailment"] == ailment).then_some(())
        });
    };
    by_hand("a good drill", Value::Null);
    assert_eq!(listed()[0]["drill_failed"], Value::Null);
    let begin = listed()[0]["wal_first"].as_str().unwrap().to_owned();
    let segments = bucket.keys(&format!("{PATH}/main/wals/{}/{begin}", &begin[..16]));
    // Its label lies beside it.
    let segment = segments.iter().find(|key| !key.contains(".backup"));
    bucket.delete(segment.unwrap());
    by_hand("WAL is missing", "drill-lacks".into());
    let why = listed()[0]["drill_failed"].clone();
    assert!(why.as_str().unwrap().contains(&begin), "{why}");
}
