//! A bucket that is away (issue 5 §4): while a server stops, and for a long time under load.

use crate::docker::{Cluster, LONG, Node, cluster_state, docker, eventually};
use crate::s3::{Bucket, Fault, PATH, Rule, first_backup, minutes_away, plain, switch, wal_key};
use std::time::Duration;

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

/// `pgnode s3 verify`: everything that a restore needs is there, without a gap. What lies before the first backup its
/// retention took, but for what arrived a moment later.
#[track_caller]
fn verified(node: &Node) {
    let ran = node.sh("pgnode s3 verify main 2>&1");
    assert_eq!(ran.code, 0, "{ran:?}");
    let after = |line: &str, word: &str| {
        let rest = line.split_once(word)?.1;
        rest.split(' ').next().map(str::to_owned)
    };
    let begin = ran.out.lines().find_map(|line| after(line, ", WAL "));
    let begin = begin.unwrap_or_else(|| panic!("no backup: {ran:?}"));
    let gaps = ran.out.lines().filter_map(|line| after(line, "missing: "));
    let needed: Vec<_> = gaps.filter(|gap| *gap >= begin).collect();
    assert!(needed.is_empty(), "{needed:?} {ran:?}");
}

/// `docker stop` with the grace period that the node was told.
#[track_caller]
fn stopped_in_order(c: &Cluster, node: &Node) {
    node.stop();
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

/// Rows of one transaction of [`load`].
const ROWS: u64 = 300;

/// pgbench for so many seconds, while the server answers somebody else; how many transactions it has made.
#[track_caller]
fn load(node: &Node, seconds: u64) -> u64 {
    let script = format!(
        "echo \"INSERT INTO load SELECT g, md5(random()::text) FROM generate_series(1, {ROWS}) g\" > /tmp/load.sql && \
         pgbench -n -c 4 -R 150 -T {seconds} -f /tmp/load.sql -h /run/postgresql postgres"
    );
    let container = node.container.clone();
    let bench = std::thread::spawn(move || {
        docker(["exec", "-u", "postgres", &container, "bash", "-c", &script])
    });
    eventually("the load ends", Duration::from_secs(seconds) + LONG, || {
        assert_eq!(node.psql("SELECT 1"), "1");
        bench.is_finished().then_some(())
    });
    let said = bench.join().unwrap().ok();
    let done = said.lines().find_map(|line| {
        let count = line.strip_prefix("number of transactions actually processed: ")?;
        count.split('/').next()?.trim().parse().ok()
    });
    done.unwrap_or_else(|| panic!("{said}"))
}

/// One number of `/metrics`.
fn metric(node: &Node, name: &str) -> Option<f64> {
    let page = node.get("/metrics")?.body;
    let line = page.lines().find_map(|l| l.strip_prefix(name));
    line.and_then(|value| value.trim().parse().ok())
}

#[test]
fn a_long_absence_under_load_is_alarmed_and_caught_up_without_a_gap() {
    let c = Cluster::new("s3load");
    let bucket = Bucket::start(&c);
    let proxy = bucket.proxy();
    // Small segments, so that many wait soon. S3_RETRY is what it is by itself: what is tried again has not failed yet.
    let node = bucket
        .cloud(Some(&proxy), "main", c.master())
        .env("POSTGRES_INITDB_ARGS", "--wal-segsize=1")
        .open();
    first_backup(&node);
    node.psql("CREATE TABLE load (n int, filler text)");
    let began = node.psql("SELECT pg_postmaster_start_time()");
    proxy.refuse();
    let seconds = minutes_away().map_or(20, |minutes| minutes * 60);
    let mut made = load(&node, seconds);
    eventually("many segments wait", LONG, || {
        let waiting = node.status()?["archiving"]["waiting"].as_u64()?;
        if waiting < 64 {
            made += load(&node, 5);
        }
        (waiting >= 64).then_some(())
    });

    // How many, how large, since when, and how long that may go on: for a program, in the log, for a person.
    node.wait_status("it says what waits", |s| {
        let a = &s["archiving"];
        let waiting = a["waiting"].as_u64().unwrap_or_default();
        waiting >= 64
            && a["waiting_bytes"] == waiting << 20
            && a["waiting_since_ms"].is_u64()
            && a["free_bytes"].as_u64() > Some(0)
    });
    node.wait_log("archiving falls behind: ");
    let logs = node.logs();
    let line = logs.lines().find(|l| l.contains("archiving falls behind"));
    let line = line.unwrap();
    for word in [
        " files wait (",
        "MiB, the first for ",
        "pg_wal has ",
        " are free there",
    ] {
        assert!(line.contains(word), "{word}: {line}");
    }
    let said = plain(&node.sh("pgnode status").out);
    for word in [" files wait (", " are free there"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    for (name, least) in [
        ("pgnode_archive_waiting ", 64.0),
        ("pgnode_archive_waiting_bytes ", f64::from(64 << 20)),
        ("pgnode_archive_waiting_age_seconds ", 1.0),
        ("pgnode_wal_bytes ", f64::from(64 << 20)),
        ("pgnode_wal_free_bytes ", 1.0),
    ] {
        let value = metric(&node, name);
        assert!(value >= Some(least), "{name} {value:?}");
    }
    if minutes_away().is_some() {
        node.wait_log("nothing was archived for ");
    }

    proxy.clear();
    eventually(
        "all is caught up",
        LONG + Duration::from_secs(seconds),
        || {
            let status = node.status()?;
            let a = &status["archiving"];
            let done = a["waiting"] == 0
                && a["waiting_since_ms"].is_null()
                && a["failing_since_ms"].is_null();
            done.then_some(())
        },
    );
    node.wait_log("archiving has caught up: ");
    let name = switch(&node);
    bucket.wait_keys(&wal_key("main", &name));
    verified(&node);
    assert_eq!(
        node.psql("SELECT count(*) FROM load"),
        (made * ROWS).to_string()
    );
    assert_eq!(node.psql("SELECT pg_postmaster_start_time()"), began);
}
