//! Base backups in a bucket (issue 5 §3): made, read by barman-cloud, killed, given up.

use crate::docker::{BACKUP, Cluster, LONG, Node, Plan, Ran, docker_with, eventually};
use crate::s3::{Bucket, Seen, backups_rest};
use serde_json::Value;
use std::collections::BTreeMap;

fn verb(node: &Node, words: &str) -> Ran {
    node.sh(&format!("pgnode backup {words}"))
}

#[track_caller]
fn json(node: &Node, words: &str) -> Value {
    let ran = node.sh(&format!("pgnode backup {words} --json 2>/dev/null"));
    serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{words}: {e}: {ran:?}"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Ids in the catalogue, the newest first.
fn ids(node: &Node) -> Vec<String> {
    let all = json(node, "list");
    all.as_array()
        .unwrap()
        .iter()
        .map(|b| text(&b["id"]))
        .collect()
}

/// A primary with a bucket and the first backup, which it makes by itself.
fn start(c: &Cluster, bucket: &Bucket, env: &[(&str, &str)]) -> Node {
    start_as(bucket.give(c.master()), env)
}

fn start_as(plan: Plan<'_>, env: &[(&str, &str)]) -> Node {
    let plan = plan
        .env("BARMAN_MODE", "cloud")
        .env("BARMAN_CLOUD_SERVER_NAME", "main");
    let plan = env
        .iter()
        .fold(plan, |plan, (name, value)| plan.env(name, value));
    let node = plan.open();
    eventually("the first backup", BACKUP, || {
        (json(&node, "list")[0]["status"] == "DONE").then_some(())
    });
    backups_rest(&node);
    node
}

#[test]
fn a_backup_goes_into_the_bucket_and_barman_cloud_restores_it() {
    let c = Cluster::new("s3base");
    let bucket = Bucket::start(&c);
    let node = start(&c, &bucket, &[]);
    let first = ids(&node).remove(0);

    node.sh_as("postgres", "mkdir -p /var/lib/postgresql/ts1")
        .ok();
    node.psql("CREATE TABLESPACE ts1 LOCATION '/var/lib/postgresql/ts1'");
    node.psql("CREATE TABLE t TABLESPACE ts1 AS SELECT g AS n FROM generate_series(1, 5000) g");
    // Nobody writes from here on: the segment of its end is ended all the same.
    let made = json(&node, "--wait");
    let id = text(&made["id"]);
    assert_eq!(made["status"], "DONE", "{made}");
    assert_eq!(made["wal_needed"], made["wal_archived"], "{made}");
    let oid = made["tablespaces"][0]["oid"].as_u64().unwrap();
    let base = format!("prod/main/base/{id}");
    let names: Vec<String> = bucket
        .keys(&format!("{base}/"))
        .iter()
        .map(|key| key.rsplit('/').next().unwrap().to_owned())
        .collect();
    let tar = format!("{oid}.tar.gz");
    assert_eq!(
        names,
        [&tar, "backup.info", "data.tar.gz", "pgnode_manifest.jsonl"]
    );
    let wal = bucket.keys("prod/main/wals/");
    for end in ["wal_first", "wal_last"] {
        let segment = text(&made[end]);
        assert!(
            wal.iter().any(|key| key.contains(&segment)),
            "{segment} {wal:?}"
        );
    }
    assert!(bucket.uploads().is_empty());
    assert_eq!(ids(&node), [&*id, &*first]);

    let listed = bucket.barman("barman-cloud-backup-list", "main").ok();
    assert!(listed.contains(&id) && listed.contains(&first), "{listed}");
    let restored = bucket.barman(
        "barman-cloud-restore",
        &format!("main {id} /tmp/r --tablespace ts1:/tmp/ts1"),
    );
    restored.ok();
    let look = format!(
        "cat /tmp/r/PG_VERSION /tmp/r/backup_label; ls /tmp/ts1; readlink /tmp/r/pg_tblspc/{oid}"
    );
    let look = bucket.tools().sh_as("postgres", &look).ok();
    for part in ["17\n", "START WAL LOCATION", "PG_17_", "/tmp/ts1"] {
        assert!(look.contains(part), "{part:?} is not in {look}");
    }

    // The checksums are those of what is stored, and a changed byte is seen.
    let verified = verb(&node, &format!("verify {id}")).ok();
    assert!(
        verified.contains("PASS  files") && verified.contains("PASS  wal"),
        "{verified}"
    );
    bucket.change(&format!("{base}/data.tar.gz"), |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    let verified = verb(&node, &format!("verify {id}"));
    assert_eq!(verified.code, 1, "{verified:?}");
    assert!(
        verified.out.contains("its checksum is another"),
        "{verified:?}"
    );

    let refused = verb(&node, "--incremental");
    assert_eq!(refused.code, 64, "{refused:?}");
    assert!(refused.err.contains("has none"), "{refused:?}");

    keeps_and_deletes(&node, &bucket, &first, &id);
}

/// What is kept stays, and what goes is told with its reason.
fn keeps_and_deletes(node: &Node, bucket: &Bucket, first: &str, second: &str) {
    verb(node, &format!("keep {first}")).ok();
    let annotation = format!("prod/main/base/{first}/annotations/keep");
    assert_eq!(bucket.text(&annotation).as_deref(), Some("full"));
    let refused = verb(node, &format!("delete {first}"));
    assert!(
        refused.code != 0 && refused.err.contains("is kept"),
        "{refused:?}"
    );
    verb(node, &format!("keep --release {first}")).ok();
    let told = verb(node, &format!("delete --dry-run {first}")).ok();
    assert!(
        told.contains("would delete backup") && told.contains(second),
        "{told}"
    );
    assert_eq!(ids(node).len(), 2);
    bucket.write("prod/main/wals/00000001.history", b"");
    let told = verb(node, &format!("delete {first}")).ok();
    assert!(
        told.contains(&format!("backup {second} is the oldest that needs WAL")),
        "{told}"
    );
    assert_eq!(ids(node), [second]);
    assert!(bucket.keys(&format!("prod/main/base/{first}/")).is_empty());
    let begin = text(&json(node, &format!("show {second}"))["wal_first"]);
    let segments = bucket.keys("prod/main/wals/0000000100000000/");
    let oldest = segments.first().unwrap().rsplit('/').next().unwrap();
    assert!(oldest >= begin.as_str(), "{oldest} {begin}");
    assert!(!bucket.keys("prod/main/wals/00000001.history").is_empty());
    let refused = verb(node, &format!("delete {second}"));
    assert!(
        refused.err.contains("BARMAN_MINIMUM_REDUNDANCY"),
        "{refused:?}"
    );
}

/// Begins a backup that takes a while, until some of it is in the bucket.
fn begin(node: &Node, bucket: &Bucket) {
    node.sh("pgnode backup >/tmp/out 2>&1 & echo $! >/tmp/pid")
        .ok();
    eventually("a part in the bucket", LONG, || {
        bucket.uploads().iter().any(|u| u.bytes > 0).then_some(())
    });
}

#[test]
fn a_killed_backup_is_found_in_bytes_and_cleaned_and_a_stopped_one_cleans_up() {
    let c = Cluster::new("s3basekill");
    let bucket = Bucket::start(&c);
    let slow = [
        ("S3_BASE_COMPRESSION", "none"),
        ("S3_PART_SIZE", "5MB"),
        ("S3_BANDWIDTH_LIMIT", "2MB"),
        ("BARMAN_RETENTION", "redundancy 1"),
        ("BARMAN_MINIMUM_REDUNDANCY", "1"),
    ];
    let node = start(&c, &bucket, &slow);
    let first = ids(&node).remove(0);

    begin(&node, &bucket);
    // Only one at a time.
    let refused = verb(&node, "");
    assert!(
        refused.code != 0 && refused.err.contains("is under way"),
        "{refused:?}"
    );
    node.sh("kill -9 $(cat /tmp/pid)").ok();
    let listed = verb(&node, "list");
    assert!(
        listed.err.contains("is not complete (being made by"),
        "{listed:?}"
    );
    assert!(
        listed.err.contains("MiB in 1 unfinished upload"),
        "{listed:?}"
    );
    assert_eq!(ids(&node), [&*first]);
    let killed: Vec<String> = bucket
        .keys("prod/main/base/")
        .into_iter()
        .filter(|key| key.ends_with("pgnode_running.json"))
        .collect();
    assert_eq!(killed.len(), 1);

    // The next one takes away what it left, and the retention what is not needed any longer.
    let made = eventually("a backup after the killed one", BACKUP, || {
        // Its session may take a moment to end.
        let made = verb(&node, "--wait");
        (made.code == 0).then_some(made)
    });
    assert!(
        made.err.contains("is not complete") && made.err.contains(": removed"),
        "{made:?}"
    );
    assert!(
        made.err.contains(&format!("deleted backup {first}")),
        "{made:?}"
    );
    assert!(bucket.uploads().is_empty());
    assert!(!bucket.keys("prod/main/base/").contains(&killed[0]));
    assert_eq!(ids(&node).len(), 1);

    begin(&node, &bucket);
    node.sh("kill -TERM $(cat /tmp/pid)").ok();
    eventually("the stopped backup's word", LONG, || {
        (json(&node, "list")[0]["status"] == "FAILED").then_some(())
    });
    let failed = &json(&node, "list")[0];
    assert!(
        text(&failed["error"]).contains("the backup was stopped"),
        "{failed}"
    );
    assert!(bucket.uploads().is_empty());
    let id = text(&failed["id"]);
    let prefix = format!("prod/main/base/{id}/");
    assert_eq!(
        bucket.keys(&prefix),
        [format!("{prefix}pgnode_failed.info")]
    );
    assert_eq!(json(&node, "show last-failed")["id"], id.as_str());
    // Of all that barman-cloud might take for the newest backup, whatever its status, it is none.
    let listed = bucket.barman("barman-cloud-backup-list --format json", "main");
    let listed: Value = serde_json::from_str(&listed.ok()).unwrap();
    let theirs = listed["backups_list"].as_array().unwrap();
    let theirs: Vec<&Value> = theirs.iter().map(|b| &b["backup_id"]).collect();
    assert_eq!(theirs, [&ids(&node)[1]], "{listed}");
    // It goes when there is one that is complete.
    let made = verb(&node, "--wait");
    let told = format!("deleted backup {id}: it failed, and a newer one is complete");
    assert!(made.err.contains(&told), "{made:?}");
    assert!(bucket.keys(&prefix).is_empty());
}

#[test]
fn a_standby_makes_none_and_cron_makes_one_where_it_is_due() {
    let c = Cluster::new("s3baseby");
    let bucket = Bucket::start(&c);
    let node = start(&c, &bucket, &[]);
    let standby = bucket
        .give(c.slave())
        .env("BARMAN_MODE", "cloud")
        .env("BARMAN_CLOUD_SERVER_NAME", "main")
        .open();
    let refused = verb(&standby, "");
    assert!(
        refused.code != 0 && refused.err.contains("is a standby"),
        "{refused:?}"
    );
    // It reads the same catalogue, and what cron calls says nothing.
    assert_eq!(ids(&standby), ids(&node));
    let quiet = standby.sh_as(
        "postgres",
        "pgnode backup --run-dir /run/pgnode --occasion due",
    );
    assert_eq!(
        (quiet.code, quiet.out.as_str(), quiet.err.as_str()),
        (0, "", ""),
        "{quiet:?}"
    );
    let before = ids(&node);
    let due = node.sh_as(
        "postgres",
        "pgnode backup --run-dir /run/pgnode --occasion due",
    );
    due.ok();
    assert_eq!(ids(&node).len(), before.len() + 1);
    let owed = node.sh_as(
        "postgres",
        "pgnode backup --run-dir /run/pgnode --occasion owed",
    );
    owed.ok();
    assert_eq!(ids(&node).len(), before.len() + 1);
}

/// SHA-256 and name of each file, as `sha256sum --check` reads them, from the list that lies beside a backup. What comes
/// last under a name counts: settings that lie outside of the data directory come after those inside, as barman-cloud has it.
fn sums(bucket: &Bucket, base: &str) -> String {
    let list = bucket
        .text(&format!("{base}/pgnode_manifest.jsonl"))
        .unwrap();
    let lines = list
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap());
    let files = lines.filter_map(|l| l.get("file").cloned());
    let sums: BTreeMap<String, String> = files
        .map(|f| {
            let path = text(&f["path"]);
            (path.trim_start_matches("./").to_owned(), text(&f["sha256"]))
        })
        .collect();
    sums.iter()
        .map(|(path, sum)| format!("{sum}  {path}\n"))
        .collect()
}

#[test]
fn a_backup_in_several_archives_is_put_together_by_either_side() {
    let c = Cluster::new("s3split");
    let bucket = Bucket::start(&c);
    let node = start(&c, &bucket, &[("S3_BASE_COMPRESSION", "bzip2")]);
    let first = ids(&node).remove(0);
    node.psql("CREATE TABLE t AS SELECT generate_series(1, 5000) AS n");
    // Only this one goes through it: what is seen there is one backup's.
    let proxy = bucket.proxy();
    let made = node.sh(&format!(
        "S3_ENDPOINT_URL={} pgnode backup --max-archive-size 500000 --wait --json",
        proxy.url()
    ));
    let made: Value = serde_json::from_str(&made.ok()).unwrap();
    let id = text(&made["id"]);
    let base = format!("prod/main/base/{id}");
    let names = bucket.keys(&format!("{base}/data"));
    assert!(names.len() > 2, "{names:?}");
    for (n, name) in names.iter().enumerate() {
        // LIST has them in another order: `.` comes before `_`.
        let want = match n {
            0 => format!("{base}/data.tar.bz2"),
            n => format!("{base}/data_{n:04}.tar.bz2"),
        };
        assert_eq!(*name, want, "{names:?}");
    }
    // The catalogue is read before and after, and not more often.
    let reads = proxy.count("GET", &format!("/base/{first}/backup.info"));
    assert_eq!(reads, 2, "{:#?}", proxy.seen());

    verb(&node, &format!("verify {id}")).ok();
    node.sh("pgnode s3 verify --deep").ok();
    let old = Bucket::tools_from(&c, "pgnode-s3tools:bookworm", "old", &[]);
    for tools in [bucket.tools(), &old] {
        let uri = bucket.uri();
        let tool = |command: &str, words: &str| {
            let words = format!("--endpoint-url http://s3:3900 {uri} main {words}");
            tools
                .sh_as("999", &format!("cd /tmp && {command} {words}"))
                .ok()
        };
        assert!(tool("barman-cloud-backup-list", "").contains(&id));
        tool("barman-cloud-restore", &format!("{id} /tmp/r"));
        let check = "cd /tmp/r && sha256sum --check --quiet";
        let check = ["exec", "-i", &tools.container, "bash", "-c", check];
        docker_with(check, &sums(&bucket, &base)).ok();
    }
    let restored = bucket
        .give(c.node("pg7"))
        .env("REPMGR_NODE_ID", "7")
        .env("BARMAN_MODE", "off")
        .env("PGNODE_RESTORE", &id)
        .env("PGNODE_RESTORE_FROM", "s3/main")
        .open();
    assert_eq!(restored.psql("SELECT count(*) FROM t"), "5000");
}

#[test]
fn every_object_is_stored_with_the_encryption_and_the_tags_that_were_asked_for() {
    let c = Cluster::new("s3labels");
    let bucket = Bucket::start(&c);
    let proxy = bucket.proxy();
    let plan = bucket.give_through(&proxy, c.node("pg1"));
    let node = start_as(
        plan,
        &[
            ("S3_SSE", "AES256"),
            ("S3_TAGS", "team=dba,tier=cold"),
            ("S3_HISTORY_TAGS", "tier=hot"),
            ("S3_BASE_COMPRESSION", "none"),
            ("S3_PART_SIZE", "5MB"),
        ],
    );
    let id = ids(&node).remove(0);
    verb(&node, &format!("keep {id}")).ok();
    let history = "cd /tmp && printf '1\\t0/3000000\\tx\\n' >00000002.history && pgnode wal-push 00000002.history";
    node.sh_as("postgres", history).ok();

    let header = |s: &Seen, name: &str| {
        let value = s.headers.get(name)?;
        Some(value.to_str().unwrap().to_owned())
    };
    let begins_upload = |s: &Seen| s.method == "POST" && s.query.contains("uploads");
    let (mut stored, mut parts) = (Vec::new(), 0);
    for s in proxy.seen() {
        let labels = ["x-amz-server-side-encryption", "x-amz-tagging"].map(|name| header(&s, name));
        if s.method == "PUT" && s.query.contains("partNumber") {
            // Nothing belongs there: a part is what its upload is.
            assert_eq!(labels, [None, None], "{s:#?}");
            parts += 1;
        } else if s.method == "PUT" || begins_upload(&s) {
            let tags = match s.path.contains(".history") {
                true => "tier=hot",
                false => "team=dba&tier=cold",
            };
            assert_eq!(labels, [Some("AES256".into()), Some(tags.into())], "{s:#?}");
            stored.push(s.path.clone());
        } else {
            assert_eq!(header(&s, "x-amz-tagging"), None, "{s:#?}");
        }
    }
    assert!(parts > 2, "{parts}");
    let base = format!("/base/{id}");
    for part in [
        &*format!("{base}/data.tar"),
        &format!("{base}/pgnode_running.json"),
        &format!("{base}/pgnode_manifest.jsonl"),
        &format!("{base}/backup.info"),
        &format!("{base}/annotations/keep"),
        "/wals/0000000100000000/",
        "/wals/00000002.history",
        "/main/",
    ] {
        assert!(
            stored.iter().any(|s| s.contains(part)),
            "{part}: {stored:?}"
        );
    }
}
