//! Promotions that are cut short after PostgreSQL has removed standby.signal: from there on the data look like a
//! primary's, and nothing but an election may open them.

use crate::docker::{Cluster, LONG, Node, docker, eventually};
use crate::planned::{same_rows, settled};
use crate::s3::{Bucket, first_backup};
use crate::verbs::{elected, plan, three};

const HOME: &str = "/var/lib/postgresql";

/// PostgreSQL runs it when standby.signal is gone and nobody can write yet (`StartupXLOG` in `xlog.c`).
fn hold(node: &Node) {
    let command = format!("mv {HOME}/hold {HOME}/held && sleep infinity; true");
    node.sh(&format!("touch {HOME}/hold; chown postgres: {HOME}/hold"))
        .ok();
    node.psql(&format!(
        "ALTER SYSTEM SET recovery_end_command = '{command}'"
    ));
    node.psql("SELECT pg_reload_conf()");
}

fn let_go(node: &Node) {
    node.psql("ALTER SYSTEM RESET recovery_end_command");
    node.psql("SELECT pg_reload_conf()");
}

/// The one whose promotion is held.
fn held<'a>(nodes: [&'a Node; 2]) -> usize {
    let held = |n: &&'a Node| n.sh(&format!("test -e {HOME}/held")).code == 0;
    eventually("a promotion is held", LONG, || nodes.iter().position(held))
}

/// Kills the primary; the standby that is in the midst of its promotion, and the other.
fn cut_short<'a>(primary: &Node, standbys: [&'a Node; 2]) -> (&'a Node, &'a Node) {
    for node in standbys {
        hold(node);
    }
    primary.kill("KILL");
    primary.ended();
    let at = held(standbys);
    let (elected, other) = (standbys[at], standbys[1 - at]);
    let signal = format!("test -e {HOME}/data/standby.signal");
    assert_ne!(elected.sh(&signal).code, 0, "{}", elected.logs());
    (elected, other)
}

/// Frozen there, and awake while another is elected and not open yet, which is when nobody contradicts it: not one row
/// is taken, and it becomes the other's standby.
#[test]
fn a_candidate_that_was_frozen_while_promoted_never_takes_a_row() {
    let c = Cluster::new("frozen");
    let nodes = ["pg1", "pg2", "pg3"].map(|name| plan(&c, name).start());
    three(nodes.each_ref());
    let [one, two, last] = &nodes;
    hold(one);
    let (frozen, other) = cut_short(one, [two, last]);
    frozen.pause();
    one.start();
    let next = [one, other];
    let new = next[held(next)];

    // A client that knows only the frozen one.
    let client = c.helper("client", &["sleep", "infinity"], &[]);
    let writer = format!(
        "while :; do PGPASSWORD=mysecretpassword psql -XAtq -c 'INSERT INTO t VALUES (99)' \
         'user=postgres dbname=postgres host={} target_session_attrs=read-write connect_timeout=2' \
         >/dev/null 2>&1 && echo taken; echo tried; done >/tmp/written",
        frozen.name
    );
    docker(["exec", "-d", &client.container, "bash", "-c", &writer]).ok();
    frozen.unpause();
    let written = || client.sh("cat /tmp/written; true").ok();
    eventually("it takes a row, or has looked and is closed", LONG, || {
        let closed = frozen.status().is_some_and(|s| s["state"] == "fenced");
        let looked = frozen.logged("a promotion was under way");
        ((closed && looked) || written().contains("taken")).then_some(())
    });
    new.sh("pkill -x sleep").ok();
    settled(&nodes.each_ref());
    let written = written();
    assert!(written.contains("tried"), "{written}");
    assert!(!written.contains("taken"), "{written}\n{}", frozen.logs());
    assert!(frozen.logged("a promotion was under way"));
    assert!(frozen.is_running(), "mended without a new start");
    new.psql("INSERT INTO t VALUES (2)");
    same_rows(&nodes.each_ref(), 2);
}

/// Its postmaster killed there: it, or another, is the primary of a timeline that nobody has written before.
#[test]
fn a_postmaster_that_is_killed_while_promoted_opens_only_after_an_election() {
    let c = Cluster::new("midway");
    let nodes = ["pg1", "pg2", "pg3"].map(|name| plan(&c, name).start());
    three(nodes.each_ref());
    let [one, two, last] = &nodes;
    let (killed, other) = cut_short(one, [two, last]);
    let_go(other);
    let number = |timeline: &str| u32::from_str_radix(timeline, 16).unwrap();
    let begun = killed
        .sh(&format!(
            "ls {HOME}/data/pg_wal | grep -E '^[0-9A-F]{{24}}$' | cut -c1-8 | sort | tail -n 1"
        ))
        .ok();
    killed
        .sh(&format!("kill -9 $(head -n 1 {HOME}/data/postmaster.pid)"))
        .ok();
    killed.wait_log("a promotion was under way");
    let new = elected(&[killed, other]);
    let now = new.psql("SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)");
    assert!(number(&now) > number(&begun), "{begun}, then {now}");
    new.psql("INSERT INTO t VALUES (2)");
    one.start();
    settled(&nodes.each_ref());
    same_rows(&nodes.each_ref(), 2);
}

/// The whole container killed before the new timeline has a record: crash recovery would write on the old one, where the
/// old primary wrote as well.
#[test]
fn a_candidate_that_is_killed_before_its_timeline_begins_does_not_write_on_the_old_one() {
    let c = Cluster::new("gap");
    let nodes = ["pg1", "pg2", "pg3"].map(|name| plan(&c, name).start());
    three(nodes.each_ref());
    let [one, two, last] = &nodes;
    for node in [two, last] {
        node.sh(&format!(
            "cp -p {HOME}/data/global/pg_control {HOME}/before"
        ))
        .ok();
    }
    let (killed, other) = cut_short(one, [two, last]);
    let_go(other);
    for node in [killed, other] {
        node.kill("KILL");
        node.ended();
    }
    // What `StartupXLOG` leaves between `durable_unlink(STANDBY_SIGNAL_FILE)` and `CreateEndOfRecoveryRecord()`.
    let gap = "cd /v && mv before data/global/pg_control && rm data/pg_wal/00000002*";
    c.on_volume(&killed.name, gap).ok();
    killed.start();
    killed.wait_status("is closed", |s| s["state"] == "fenced");
    other.start();
    let new = elected(&[killed, other]);
    let timeline = new.psql("SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)");
    assert_ne!(timeline, "00000001", "{}", new.logs());
    new.psql("INSERT INTO t VALUES (2)");
    one.start();
    settled(&nodes.each_ref());
    same_rows(&nodes.each_ref(), 2);
}

/// PostgreSQL waits, at the end of a recovery where it archives, for its summarizer of WAL, which sleeps the longer the
/// less WAL comes: a standby whose primary has been gone for half a minute was promoted in up to half a minute more.
#[test]
fn a_promotion_does_not_wait_for_a_summarizer_that_sleeps() {
    let c = Cluster::new("sleeper");
    let bucket = Bucket::start(&c);
    let one = bucket.cloud(None, "main", c.master()).open();
    let two = bucket.cloud(None, "main", c.slave()).open();
    one.psql("CREATE TABLE t AS SELECT 1 AS n");
    first_backup(&one);
    two.wait_streaming();
    one.kill("KILL");
    one.ended();
    // Its sleeps are 0.2 s, 0.4 s, …; nothing says how long the present one is. After 27 s it is one of 25.6 s.
    let since = two.psql("SELECT now()");
    two.wait_row(&format!("SELECT now() - '{since}' > '27 s'"), "t");
    two.sh("pgnode promote --force").ok();
    two.wait_log("promoted took_ms=");
    let logs = two.logs();
    assert!(logs.contains("archive recovery complete"), "{logs}");
    // PostgreSQL says so after ten seconds.
    let waited = logs.contains("still waiting for WAL summarization");
    assert!(!waited, "{logs}");
    assert_eq!(two.psql("SELECT n FROM t"), "1");
    // And the summaries reach to the end of the old timeline, as an incremental backup needs them.
    let end = two.psql("SELECT max(end_lsn) FROM pg_available_wal_summaries() WHERE tli = 1");
    let history = two.sh("cat /var/lib/postgresql/data/pg_wal/*.history").ok();
    assert!(history.contains(&format!("1\t{end}\t")), "{end}: {history}");
}
