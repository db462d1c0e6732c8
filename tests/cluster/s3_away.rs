//! A bucket that is away (issue 5 §4): while a server stops, and for a long time under load.

use crate::docker::{Cluster, LONG, Node, cluster_state, docker, eventually};
use crate::s3::{Bucket, Fault, PATH, Rule, first_backup, switch, wal_key};

/// Segments of the archive, by name.
fn segments(bucket: &Bucket) -> Vec<String> {
    let keys = bucket.keys(&format!("{PATH}/main/wals/"));
    let names = keys.iter().filter(|key| !key.contains(".backup"));
    names
        .map(|key| key.rsplit('/').next().unwrap()[..24].to_owned())
        .collect()
}

/// Waits until all of them are in the bucket.
#[track_caller]
fn arrived(bucket: &Bucket, names: &[String]) {
    eventually("all that waited is in the bucket", LONG, || {
        let there = segments(bucket);
        names.iter().all(|name| there.contains(name)).then_some(())
    });
}

/// `pgnode s3 verify`: everything that a restore needs is there, without a gap.
#[track_caller]
fn verified(node: &Node) {
    let ran = node.sh("pgnode s3 verify main 2>&1");
    assert_eq!(ran.code, 0, "{ran:?}");
    assert!(!ran.out.contains("missing"), "{ran:?}");
}

/// `docker stop` with the grace period that pgnode expects where nobody has told it another one.
#[track_caller]
fn stopped_in_order(c: &Cluster, node: &Node) {
    docker(["stop", "-t", "10", &node.container]).ok();
    assert_eq!(node.ended(), 0, "{}", node.logs());
    assert_eq!(cluster_state(c, &node.name), "shut down");
    let logs = node.logs_since_start();
    assert!(!logs.contains("immediate shutdown"), "{logs}");
}

#[test]
fn a_stop_is_clean_while_the_bucket_is_away_and_loses_nothing() {
    let c = Cluster::new("s3stop");
    let bucket = Bucket::start(&c);
    let proxy = bucket.proxy();
    // S3_RETRY is what it is by itself, longer than the stop may take.
    let node = bucket.cloud(Some(&proxy), "main", c.master()).open();
    first_backup(&node);
    node.psql("CREATE TABLE t (n int)");

    // With the bucket there, the last of the WAL is in it before the server has ended.
    node.psql("INSERT INTO t VALUES (0)");
    let last = node.psql("SELECT pg_walfile_name(pg_current_wal_insert_lsn())");
    stopped_in_order(&c, &node);
    let there = segments(&bucket);
    assert!(there.contains(&last), "{last}: {there:?}");

    for (round, away) in [None, Some(Fault::Deaf)].into_iter().enumerate() {
        node.start();
        node.wait_open();
        let first = switch(&node);
        bucket.wait_keys(&wal_key("main", &first));
        match away {
            None => proxy.refuse(),
            Some(fault) => proxy.fail(Rule::new(fault)),
        }
        let mut names: Vec<String> = (0..3)
            .map(|_| {
                node.psql("INSERT INTO t VALUES (1)");
                switch(&node)
            })
            .collect();
        node.psql("INSERT INTO t VALUES (2)");
        names.push(node.psql("SELECT pg_walfile_name(pg_current_wal_insert_lsn())"));
        // The archiver waits for its command.
        eventually("wal-push waits", LONG, || {
            let ran = node.sh("pgrep -f '[w]al-push'");
            (ran.code == 0).then_some(())
        });
        stopped_in_order(&c, &node);
        let there = segments(&bucket);
        assert!(!names.iter().any(|name| there.contains(name)), "{there:?}");

        proxy.clear();
        node.start();
        node.wait_open();
        arrived(&bucket, &names);
        let rows = node.psql("SELECT count(*) FROM t");
        assert_eq!(rows, (1 + 4 * (round + 1)).to_string());
        node.wait_status("nothing waits", |s| {
            s["archiving"]["waiting"] == 0 && s["archiving"]["failing_since_ms"].is_null()
        });
        verified(&node);
        node.stop();
    }
}
