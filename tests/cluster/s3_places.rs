//! What a barman host finds in the bucket: a place that nodes archive into, what killed runs have left, a bucket that does
//! not answer it.

use crate::docker::{BACKUP, Cluster, LONG, NEVER, Node, Plan, docker, eventually};
use crate::s3::{Bucket, Fault, PATH, Rule};
use serde_json::Value;
use std::collections::BTreeMap;

const HOME: &str = "/home/barman/data";
const CLOUDS: &str = "20200101T000000";

/// A barman host whose cron ships nothing while a test runs.
fn host<'a>(c: &'a Cluster, servers: &str) -> Plan<'a> {
    c.node("bk1")
        .env("PGNODE_ROLE", "barman")
        .env("BARMAN_SERVERS", servers)
        .env("S3_WAL_SYNC_SCHEDULE", NEVER)
        .env("S3_BASE_SYNC_SCHEDULE", NEVER)
        .env("S3_FULL_SYNC_SCHEDULE", NEVER)
        .env("S3_RETRY", "3s")
}

fn master(c: &Cluster) -> Node {
    c.master().env("BARMAN_MODE", "remote").open()
}

/// The first backup, complete and queued.
#[track_caller]
fn first(bk: &Node) -> String {
    eventually("the first backup is queued", BACKUP, || {
        let list = bk.sh("pgnode backup list --json 2>/dev/null").out;
        let list: Value = serde_json::from_str(&list).ok()?;
        let done = list.as_array()?.iter().find(|b| b["status"] == "DONE")?;
        let id = done["id"].as_str()?.to_owned();
        let task = format!("test -f {HOME}/.s3-queue/{id}.run");
        (bk.sh(&task).code == 0).then_some(id)
    })
}

/// A verb's JSON.
#[track_caller]
fn run(bk: &Node, words: &str) -> Value {
    let ran = bk.sh(&format!("pgnode s3 {words} --json"));
    assert_eq!(ran.code, 0, "{words}: {} {}", ran.out, ran.err);
    serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{words}: {e}: {}", ran.out))
}

/// Every object as it is: what is written again has another time.
fn all(bucket: &Bucket) -> BTreeMap<String, (u64, String, String)> {
    let objects = bucket.objects("").into_iter();
    objects
        .map(|o| (o.key, (o.size, o.etag, o.modified)))
        .collect()
}

/// No verb takes the place, and each says why; nothing there is touched.
#[track_caller]
fn refused(bk: &Node, bucket: &Bucket, sign: &str) {
    let before = all(bucket);
    for words in [
        "full-sync main --dry-run",
        "full-sync main",
        "wal-sync main",
        "base-sync main --retry-errors",
    ] {
        let ran = bk.sh(&format!("pgnode s3 {words}"));
        assert_eq!(ran.code, 78, "{words}: {} {}", ran.out, ran.err);
        for word in [
            &format!("s3://pgnode/{PATH}/main/"),
            sign,
            "S3_BUCKET_URI",
            "BARMAN_SERVERS",
        ] {
            assert!(ran.out.contains(word), "{words}: no {word}: {}", ran.out);
        }
        assert_eq!(all(bucket), before, "{words}");
    }
}

/// A host of the same cluster would delete all that nodes have brought there: barman's catalogue has none of it.
#[test]
fn a_host_ships_nothing_where_nodes_archive() {
    let c = Cluster::new("s3place");
    let bucket = Bucket::start(&c);
    let pg = master(&c);
    let bk = bucket.give(host(&c, "main=pg1")).start();
    first(&bk);
    let id = pg.psql("SELECT system_identifier FROM pg_control_system()");
    let key = |below: &str| format!("{PATH}/main/{below}");

    // As barman-cloud leaves it, of the same cluster.
    let info = format!(
        "backup_name=None\nstatus=DONE\nsystemid={id}\nbegin_wal=000000010000000000000001\n"
    );
    bucket.write(&key(&format!("base/{CLOUDS}/backup.info")), info.as_bytes());
    let tar = key(&format!("base/{CLOUDS}/data.tar.gz"));
    bucket.write(&tar, b"tar");
    bucket.write(
        &key("wals/0000000100000000/000000010000000000000001.gz"),
        b"wal",
    );
    refused(&bk, &bucket, &format!("base/{CLOUDS}/data.tar.gz"));

    // A node has claimed it, and has no backup yet.
    bucket.delete_all("");
    let marker = format!("{{\"system_id\":\"{id}\",\"segment_size\":16777216}}\n");
    bucket.write(&key("pgnode.json"), marker.as_bytes());
    refused(&bk, &bucket, "main/pgnode.json");

    // That what is shipped is there already makes no difference.
    bucket.delete_all("");
    run(&bk, "full-sync main");
    bucket.write(&key("pgnode.json"), marker.as_bytes());
    refused(&bk, &bucket, "main/pgnode.json");
    bucket.delete(&key("pgnode.json"));
    run(&bk, "full-sync main");
}

/// Begins an upload that nobody will ever finish.
fn begin(bucket: &Bucket, key: &str) {
    let script = format!(
        "import os, boto3; s3 = boto3.client('s3', endpoint_url=os.environ['AWS_ENDPOINT_URL']); \
         b = os.environ['S3_BUCKET']; \
         u = s3.create_multipart_upload(Bucket=b, Key='{key}')['UploadId']; \
         s3.upload_part(Bucket=b, Key='{key}', UploadId=u, PartNumber=1, Body=b'x' * (5 << 20))"
    );
    bucket.tools().sh(&format!("python3 -c \"{script}\"")).ok();
}

/// LIST does not show them, and they cost what they hold, wherever they are.
#[test]
fn a_full_sync_takes_up_or_gives_up_what_killed_runs_have_begun() {
    let c = Cluster::new("s3begun");
    let bucket = Bucket::start(&c);
    let proxy = bucket.proxy();
    let pg = master(&c);
    let bk = bucket
        .give_through(&proxy, host(&c, "main=pg1"))
        // A segment is of several parts.
        .env("BARMAN_COMPRESSION", "none")
        .env("S3_PART_SIZE", "5MB")
        .env("S3_RETRY", "90s")
        .start();
    first(&bk);
    pg.psql("CREATE TABLE t AS SELECT n FROM generate_series(1, 1000) n");
    pg.psql("SELECT pg_switch_wal()");

    // Killed within the parts of a segment.
    proxy.fail(
        Rule::new(Fault::Deaf)
            .method("PUT")
            .key("/wals/")
            .query("partNumber")
            .after(1),
    );
    let words = "pgnode s3 wal-sync main";
    docker(["exec", "-d", &bk.container, "sh", "-c", words]).ok();
    let part = eventually("a part of a segment is there", BACKUP, || {
        let uploads = bucket.uploads();
        uploads.into_iter().find(|u| u.parts > 0)
    });
    assert!(part.key.contains("/wals/"), "{part:?}");
    bk.sh("pkill -9 -f '[p]gnode s3 wal-sync'").ok();
    proxy.clear();
    let report = run(&bk, "full-sync main");
    // It may be the last one, which is small.
    let resumed = report["resumed_bytes"].as_u64();
    assert!(resumed >= Some(part.bytes), "{report}");
    assert_eq!(report["deleted"], 0, "{report}");
    assert!(bucket.uploads().is_empty(), "{:?}", bucket.uploads());
    assert!(bucket.head(&part.key).is_some());
    // From here on cron has nothing to archive between two looks.
    pg.stop();
    bk.sh_as("barman", "barman archive-wal main");
    run(&bk, "full-sync main");

    // Of a segment that is there, of barman's list, and of a backup that was deleted before any file of it was there.
    let dead = [
        part.key,
        format!("{PATH}/main/wals/main-xlog.db"),
        format!("{PATH}/main/base/{CLOUDS}/data/base/1/1"),
    ];
    for key in &dead {
        begin(&bucket, key);
    }
    // Another cluster's are its own.
    let other = format!("{PATH}/main2/wals/main2-xlog.db");
    begin(&bucket, &other);
    let before = all(&bucket);
    let dry = run(&bk, "full-sync main --dry-run");
    let acts = dry["acts"].as_array().unwrap();
    for key in &dead {
        let below = key.strip_prefix(&format!("{PATH}/")).unwrap();
        let upload = format!("{below}?uploadId=");
        let act = acts.iter().find(|a| {
            let key = a["key"].as_str().unwrap_or_default();
            a["act"] == "delete" && key.starts_with(&upload)
        });
        let act = act.unwrap_or_else(|| panic!("no {upload} in {dry}"));
        assert_eq!(act["bytes"], 5 << 20, "{act}");
    }
    assert_eq!(bucket.uploads().len(), 4);
    let report = run(&bk, "full-sync main");
    assert_eq!(report["deleted"], 3, "{report}");
    assert_eq!(report["deleted_uploads"], 3, "{report}");
    assert_eq!(report["deleted_upload_bytes"], 15 << 20, "{report}");
    let left: Vec<String> = bucket.uploads().into_iter().map(|u| u.key).collect();
    assert_eq!(left, [other]);
    // Of the objects themselves none.
    assert_eq!(all(&bucket), before);
}

/// cron comes hours later: a wrong setting is said at the start, and until it is mended.
#[test]
fn a_host_says_at_its_start_that_the_bucket_refuses_it() {
    let c = Cluster::new("s3first");
    let bucket = Bucket::start(&c);
    let env = bucket.env();
    let of = |name: &str| env.iter().find(|(n, _)| *n == name).unwrap().1.clone();
    let id = of("S3_ACCESS_KEY_ID");
    let keys = |secret: &str| {
        let text =
            format!("[default]\\naws_access_key_id={id}\\naws_secret_access_key={secret}\\n");
        let write =
            format!("printf '{text}' >/v/keys.new; chmod 644 /v/keys.new; mv /v/keys.new /v/keys");
        c.on_volume("keys", &write).ok();
    };
    keys("wrong");
    let mount = format!("{}:/srv/keys:ro", c.volume("keys"));
    let plan = host(&c, "main=nowhere")
        .flags(&["-v", &mount])
        .env("S3_CREDENTIALS_FILE", "/srv/keys/keys");
    let plan = ["S3_ENDPOINT_URL", "S3_BUCKET_URI", "S3_REGION"]
        .iter()
        .fold(plan, |plan, name| plan.env(name, &of(name)));
    let bk = plan.start();
    bk.wait_log("nothing can be brought into the bucket");
    let logs = bk.logs();
    let line = logs
        .lines()
        .find(|l| l.contains("nothing can be brought"))
        .unwrap();
    for word in ["ERROR", "S3_SECRET_ACCESS_KEY", "the S3 server says"] {
        assert!(line.contains(word), "no {word}: {line}");
    }
    eventually("status tells it", LONG, || {
        let said = bk.sh("pgnode status").out;
        let told = said.contains("look FAILED") && said.contains("S3_SECRET_ACCESS_KEY");
        told.then_some(())
    });
    // It starts all the same, and says it once.
    bk.wait_status("it runs", |s| s["state"] == "running");
    keys(&of("S3_SECRET_ACCESS_KEY"));
    bk.wait_log("the bucket answers now");
    let said = bk.logs().matches("nothing can be brought").count();
    assert_eq!(said, 1, "{}", bk.logs());
    eventually("status has forgotten it", LONG, || {
        (!bk.sh("pgnode status").out.contains("look FAILED")).then_some(())
    });
    c.remove(bk);

    // Where nothing is wrong nothing is said: its first backup is shipped long after that look.
    // It knows all but the bucket from a config file of Amazon's tools.
    let pg = master(&c);
    let (secret, region) = (of("S3_SECRET_ACCESS_KEY"), of("S3_REGION"));
    let endpoint = of("S3_ENDPOINT_URL");
    let text = format!(
        "[default]\\nregion = nowhere\\n[profile backup]\\nregion = {region}\\nendpoint_url = {endpoint}\\n\
         aws_access_key_id={id}\\naws_secret_access_key={secret}\\ns3 =\\n  addressing_style = path\\n"
    );
    let write = format!("printf '{text}' >/v/config; chmod 644 /v/config");
    c.on_volume("keys", &write).ok();
    let bk = host(&c, "main=pg1")
        .flags(&["-v", &mount])
        .env("S3_BUCKET_URI", &of("S3_BUCKET_URI"))
        .env("AWS_CONFIG_FILE", "/srv/keys/config")
        .env("AWS_PROFILE", "backup")
        .start();
    first(&bk);
    run(&bk, "full-sync main");
    let shown = bk.sh("pgnode config").out;
    let line = shown.lines().find(|l| l.contains("S3_REGION")).unwrap();
    assert!(line.contains("file /srv/keys/config"), "{line}");
    assert!(!shown.contains(&secret), "{shown}");
    let logs = bk.logs();
    for word in ["nothing can be brought", "the bucket answers now"] {
        assert!(!logs.contains(word), "{logs}");
    }
    assert!(!bk.sh("pgnode status").out.contains("look"));
    drop(pg);
}
