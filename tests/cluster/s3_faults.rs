//! A bad line to the bucket (issue 5 §4): while WAL and backups go in, and while a cluster comes back. Nothing is lost, and
//! nothing ends early.

use crate::docker::{Cluster, LONG, Node, eventually};
use crate::s3::{Bucket, Fault, Proxy, Rule, first_backup};
use std::time::Duration;

/// A line that is written and forced out: its segment.
fn row(node: &Node, n: usize) -> String {
    node.psql(&format!("INSERT INTO t SELECT {n}, repeat('x', 500)"));
    node.psql("SELECT pg_walfile_name(pg_switch_wal())")
}

fn primary(bucket: &Bucket, proxy: &Proxy, c: &Cluster) -> Node {
    let node = bucket
        .cloud(Some(proxy), "main", c.master())
        .env("S3_RETRY", "5s")
        .env("S3_PART_SIZE", "5MB")
        .open();
    node.psql("CREATE TABLE t (n int, filler text)");
    node
}

/// Until that segment is in the bucket; those before it are archived before it.
#[track_caller]
fn archived(bucket: &Bucket, server: &str, name: &str) {
    bucket.wait_keys(&format!("prod/{server}/wals/{}/{name}.", &name[..16]));
}

/// The most memory that the worker has had, in kB.
fn worker_peak(node: &Node) -> u64 {
    let said = node
        .sh("awk '/VmHWM/ {print $2}' /proc/$(pgrep -fo 's3 worker')/status")
        .ok();
    said.trim().parse().unwrap()
}

/// What may happen to a request with a body, and to one without.
const SENDING: [Fault; 6] = [
    Fault::Answer(503, "SlowDown"),
    Fault::Answer(500, "InternalError"),
    Fault::Answer(403, "ExpiredToken"),
    Fault::Unanswered,
    Fault::CutRequest(700),
    Fault::FlipRequest(300),
];
const FETCHING: [Fault; 5] = [
    Fault::Answer(503, "SlowDown"),
    Fault::CutAnswer(900),
    Fault::ShortAnswer(900),
    Fault::FlipAnswer(900),
    Fault::Answer(403, "ExpiredToken"),
];

#[test]
fn a_bad_line_loses_no_wal_and_no_backup() {
    let c = Cluster::new("s3bad");
    let bucket = Bucket::start(&c);
    let proxy = bucket.proxy();
    let node = primary(&bucket, &proxy, &c);
    first_backup(&node);
    let mut rows = 0;
    for fault in SENDING {
        proxy.fail(Rule::new(fault).method("PUT").key("/wals/").times(3));
        let mut last = String::new();
        for _ in 0..3 {
            rows += 1;
            last = row(&node, rows);
        }
        eventually("the fault happens", LONG, || {
            (proxy.faults() > 0).then_some(())
        });
        archived(&bucket, "main", &last);
        proxy.clear();
    }
    // Its LISTs are slow, and some are refused.
    proxy.fail(Rule::new(Fault::Late(Duration::from_millis(300))).list());
    proxy.fail(
        Rule::new(Fault::Answer(503, "SlowDown"))
            .list()
            .after(2)
            .times(2),
    );
    rows += 1;
    let last = row(&node, rows);
    archived(&bucket, "main", &last);
    proxy.clear();

    // A backup whose parts fail now and then is whole in the end; one that is refused throughout says so.
    proxy.fail(
        Rule::new(Fault::CutRequest(100_000))
            .query("partNumber")
            .times(2),
    );
    proxy.fail(
        Rule::new(Fault::Answer(503, "SlowDown"))
            .query("partNumber")
            .times(2),
    );
    let made = node.sh("pgnode backup --wait --json 2>&1");
    assert_eq!(made.code, 0, "{made:?}");
    proxy.clear();
    proxy.fail(
        Rule::new(Fault::Answer(403, "ExpiredToken"))
            .key("/base/")
            .method("PUT"),
    );
    proxy.fail(
        Rule::new(Fault::Answer(403, "ExpiredToken"))
            .key("/base/")
            .method("POST"),
    );
    let refused = node.sh("pgnode backup --wait 2>&1");
    assert!(refused.code != 0, "{refused:?}");
    assert!(
        refused.out.contains("ExpiredToken") && refused.out.contains("S3_SESSION_TOKEN"),
        "{refused:?}"
    );
    proxy.clear();
    let verified = node.sh("pgnode s3 verify main --deep 2>&1");
    let sound = node.sh("pgnode backup verify latest 2>&1");
    assert_eq!(sound.code, 0, "{sound:?} {verified:?}");

    // A server that recovers is never told that there is no more, and never given what is not right.
    let first = "000000010000000000000003";
    let right = node
        .sh(&format!(
            "cd /tmp && pgnode wal-fetch {first} right && sha256sum < right | cut -d' ' -f1"
        ))
        .ok();
    // As it is stored, and as barman-cloud's library packs it: nothing in it tells a wrong byte.
    let key = format!("prod/main/wals/{}/{first}.zst", &first[..16]);
    let checked = bucket.read(&key).unwrap();
    let plain = zstd::stream::decode_all(&*checked).unwrap();
    let bare = zstd::stream::encode_all(&*plain, 3).unwrap();
    for (stored, how) in [(bare, "without a checksum"), (checked, "as ours")] {
        bucket.write(&key, &stored);
        for fault in FETCHING {
            proxy.fail(Rule::new(fault).method("GET").key("/wals/"));
            let ran = node.sh(&format!(
                "cd /tmp && rm -f got && pgnode wal-fetch {first} got 2>/dev/null; echo $? $(sha256sum < got 2>/dev/null | cut -d' ' -f1)"
            ));
            let said = ran.out.trim().to_owned();
            let there = said == format!("0 {}", right.trim());
            assert!(there || said == "255", "{fault:?}, {how}: {said}");
            proxy.clear();
        }
    }
    assert!(worker_peak(&node) < 96 << 10, "{} kB", worker_peak(&node));
    assert_eq!(node.psql("SELECT count(*) FROM t"), rows.to_string());
}

#[test]
fn a_cluster_comes_back_over_a_bad_line() {
    let c = Cluster::new("s3pitr");
    let bucket = Bucket::start(&c);
    let proxy = bucket.proxy();
    let node = primary(&bucket, &proxy, &c);
    first_backup(&node);
    let last = (1..=12).map(|n| row(&node, n)).last().unwrap();
    archived(&bucket, "main", &last);
    node.kill("KILL");
    node.ended();

    let gets = |fault| Rule::new(fault).method("GET");
    proxy.fail(gets(Fault::CutAnswer(200_000)).key("/base/").times(4));
    proxy.fail(gets(Fault::Answer(503, "SlowDown")).times(4));
    proxy.fail(gets(Fault::CutAnswer(500)).key("/wals/").after(2).times(3));
    proxy.fail(gets(Fault::FlipAnswer(500)).key("/wals/").after(5).times(2));
    let restored = bucket
        .cloud(Some(&proxy), "again", c.node("pg7"))
        .env("REPMGR_NODE_ID", "7")
        .env("PGNODE_RESTORE", "latest")
        .env("PGNODE_RESTORE_FROM", "s3/main")
        .env("S3_RETRY", "5s")
        .start();
    restored.wait_status("it replays", |s| {
        s["state"] == "replay" || s["state"] == "open"
    });
    // And for a while there is no server at all.
    proxy.refuse();
    restored.wait_log("the S3 server does not answer");
    proxy.clear();
    restored.wait_open();
    assert_eq!(
        restored.psql("SELECT count(*), max(n) FROM t"),
        "12|12",
        "{}",
        restored.logs()
    );
    // It goes on in an archive of its own.
    let next = row(&restored, 13);
    archived(&bucket, "again", &next);
}
