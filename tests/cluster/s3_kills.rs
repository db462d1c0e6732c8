//! `kill -9` at every stage (issue 5 §4). A stage is a write that the server has done and whose answer nobody hears: between
//! two of them nothing in the bucket changes, so that these are all the states that a kill can leave behind.

use crate::docker::{BACKUP, Cluster, NEVER, Node, docker, eventually};
use crate::s3::{
    Bucket, Fault, PATH, Proxy, Rule, Seen, backups_rest, first_backup, switch, wal_key,
};
use serde_json::Value;
use std::collections::BTreeMap;

/// The nth write of a kind ([`Rule::kind`]), counted from 0.
type Stage = (String, usize);

/// What was written since the proxy forgot: of each kind the first and the last. Of deletes all, because each is for something
/// else; of segments only the first, because how many there are is the server's matter.
fn stages(proxy: &Proxy) -> Vec<Stage> {
    let seen = proxy.seen();
    let mut count: BTreeMap<String, usize> = BTreeMap::new();
    let writes = seen.iter().filter(|s| s.writes()).map(Seen::kind);
    let all: Vec<Stage> = writes
        .map(|kind| {
            let next = count.entry(kind.clone()).or_default();
            *next += 1;
            (kind, *next - 1)
        })
        .collect();
    let chosen = |(kind, nth): &Stage| {
        let last = nth + 1 == count[kind] && !kind.contains("/wals/");
        *nth == 0 || last || kind.contains("delete")
    };
    all.into_iter().filter(chosen).collect()
}

/// From now on the proxy keeps the answer of that write to itself.
fn mute(proxy: &Proxy, (kind, nth): &Stage) {
    proxy.forget_seen();
    let rule = Rule::new(Fault::Unheard).kind(kind).after(*nth).times(1);
    proxy.fail(rule);
}

/// Waits until that write is done; `false`: what would write has ended before it came to that.
#[track_caller]
fn at(proxy: &Proxy, stage: &Stage, ended: impl Fn() -> bool) -> bool {
    eventually(&format!("the server has done {stage:?}"), BACKUP, || {
        // In this order: what ends has written before.
        let over = ended();
        let seen = proxy.seen();
        match seen.iter().find(|s| s.fault.is_some()) {
            Some(muted) => {
                let status = muted.status?;
                assert!((200..300).contains(&status), "{muted:?}");
                Some(true)
            }
            None => over.then_some(false),
        }
    })
}

/// A command beside the test, whose end and words are asked for.
struct Beside<'a> {
    node: &'a Node,
}

impl<'a> Beside<'a> {
    /// The command is in a file, so that the shell's own words do not look like what is killed.
    fn of(node: &'a Node, command: &str) -> Self {
        let run = format!("{command} >/tmp/said 2>&1; echo $? >/tmp/ended");
        node.sh(&format!("echo '{run}' >/tmp/run")).ok();
        Self { node }
    }

    fn begin(&self) {
        self.node.sh("rm -f /tmp/ended").ok();
        docker(["exec", "-d", &self.node.container, "bash", "/tmp/run"]).ok();
    }

    fn ended(&self) -> bool {
        self.node.sh("cat /tmp/ended").code == 0
    }

    fn said(&self) -> String {
        self.node.sh("cat /tmp/said").out
    }

    /// To its end, which must be a good one.
    #[track_caller]
    fn run(&self) {
        self.begin();
        eventually("it ends", BACKUP, || self.ended().then_some(()));
        let said = self.said();
        assert_eq!(self.node.sh("cat /tmp/ended").ok(), "0", "{said}");
    }
}

#[track_caller]
fn json(node: &Node, words: &str) -> Value {
    let ran = node.sh(&format!("pgnode {words} --json 2>/dev/null"));
    serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{words}: {e}: {ran:?}"))
}

/// Ids of what the catalogue shows as complete: all of it can be restored, whatever was killed.
#[track_caller]
fn sound(node: &Node) -> Vec<String> {
    let report = json(node, "s3 verify main");
    let backups = report["backups"].as_array().unwrap();
    let complete = backups.iter().filter(|b| b["status"] == "DONE");
    complete
        .map(|b| {
            assert!(b["why_not"].is_null(), "{report}");
            b["id"].as_str().unwrap().to_owned()
        })
        .collect()
}

/// Ids of what says in the bucket that it is complete, for whoever reads it while no node is there: and it is.
#[track_caller]
fn complete(bucket: &Bucket) -> Vec<String> {
    let keys = bucket.keys(&format!("{PATH}/main/"));
    let infos = keys.iter().filter(|key| key.ends_with("/backup.info"));
    let complete = infos.map(|key| {
        let info = bucket.text(key).unwrap();
        let of = |name: &str| {
            info.lines()
                .find_map(|l| l.strip_prefix(&format!("{name}=")))
        };
        assert_eq!(of("status"), Some("DONE"), "{info}");
        let id = key.rsplit('/').nth(1).unwrap();
        let archive = format!("{PATH}/main/base/{id}/data.tar");
        let wal = ["begin_wal", "end_wal"].map(|name| wal_key("main", of(name).unwrap()));
        for piece in wal.iter().chain([&archive]) {
            assert!(
                keys.iter().any(|key| key.starts_with(piece)),
                "{id} lacks {piece}: {keys:?}"
            );
        }
        id.to_owned()
    });
    complete.collect()
}

/// A backup, with the retention that follows it and takes away another, is killed with all of the node at each of its writes.
#[test]
fn a_node_killed_at_any_write_of_a_backup_keeps_what_it_had() {
    let c = Cluster::new("s3kills");
    let bucket = Bucket::start(&c);
    let proxy = bucket.proxy();
    let node = bucket
        .cloud(Some(&proxy), "main", c.master())
        .env("S3_BASE_COMPRESSION", "none")
        .env("S3_PART_SIZE", "5MB")
        .env("BARMAN_RETENTION", "redundancy 1")
        .env("BARMAN_MINIMUM_REDUNDANCY", "1")
        .env("BARMAN_BACKUP_SCHEDULE", NEVER)
        .open();
    node.psql("CREATE TABLE t (n int)");
    first_backup(&node);
    let backup = Beside::of(&node, "pgnode backup --wait");
    let killed_at = |stage: &Stage| {
        mute(&proxy, stage);
        backup.begin();
        let there = at(&proxy, stage, || backup.ended());
        let said = backup.said();
        assert!(there, "{stage:?} did not come: {said}");
        node.kill("KILL");
        node.ended();
        let there = complete(&bucket);
        assert!(!there.is_empty(), "{stage:?}: {said}");
        proxy.clear();
        node.start();
        node.wait_open();
        assert_eq!(sound(&node), there, "{stage:?}: {said}");
    };

    // All that there is to do is seen where one has to clean up after another.
    let part = "PUT prod/main/base/#/data.tar partNumber&uploadId";
    let leave = || killed_at(&(part.to_owned(), 1));
    leave();
    proxy.forget_seen();
    backup.run();
    let stages = stages(&proxy);
    let kinds = [
        "_running.json",
        "uploads",
        "/wals/",
        "backup.info",
        "POST delete",
    ];
    for kind in kinds {
        let there = stages.iter().any(|(k, _)| k.contains(kind));
        assert!(there, "no {kind}: {stages:?}");
    }

    let mut rows = 0;
    for stage in &stages {
        rows += 1;
        node.psql(&format!("INSERT INTO t VALUES ({rows})"));
        leave();
        killed_at(stage);
        let there = node.psql("SELECT count(*) FROM t");
        assert_eq!(there, rows.to_string(), "{stage:?}");
    }

    // In the end one is made, and nothing is left of all the others.
    let made = json(&node, "backup --wait");
    let id = made["id"].as_str().unwrap();
    backups_rest(&node);
    let last = switch(&node);
    assert_eq!(sound(&node), [id]);
    assert_eq!(bucket.uploads().len(), 0, "{:?}", bucket.uploads());
    let prefix = format!("{PATH}/main/base/{id}/");
    let base = bucket.keys(&format!("{PATH}/main/base/"));
    assert!(base.iter().all(|key| key.starts_with(&prefix)), "{base:?}");
    assert!(
        !base.iter().any(|key| key.ends_with("_running.json")),
        "{base:?}"
    );
    bucket.wait_keys(&wal_key("main", &last));
    let verified = json(&node, "s3 verify main --deep");
    assert_eq!(verified["wrong"], Value::Array(Vec::new()), "{verified}");
    assert_eq!(
        verified["unfinished"],
        Value::Array(Vec::new()),
        "{verified}"
    );
}

/// The first use of a place: killed at each write of it, the node that comes back has its archive.
#[test]
fn a_node_killed_while_it_claims_its_archive_has_it_in_the_end() {
    let c = Cluster::new("s3claimed");
    let bucket = Bucket::start(&c);
    let proxy = bucket.proxy();
    let node = |name: &str| bucket.cloud(Some(&proxy), name, c.node(name)).start();
    let rehearsal = node("pg99");
    rehearsal.wait_open();
    first_backup(&rehearsal);
    c.remove(rehearsal);
    let mut stages = stages(&proxy);
    let wal = stages.iter().position(|(kind, _)| kind.contains("/wals/"));
    stages.truncate(wal.unwrap() + 1);
    // What it is about: a note, the marker, the note's end, and the first file.
    assert!(stages.len() >= 4, "{stages:?}");

    for (n, (kind, nth)) in stages.iter().enumerate() {
        let name = format!("pg{}", n + 1);
        let stage = (kind.replace("/pg99/", &format!("/{name}/")), *nth);
        mute(&proxy, &stage);
        let killed = node(&name);
        assert!(at(&proxy, &stage, || !killed.is_running()), "{stage:?}");
        killed.kill("KILL");
        killed.ended();
        proxy.clear();
        killed.start();
        killed.wait_open();
        // By hand: after one that was killed the node waits for ten minutes.
        eventually("a backup", BACKUP, || {
            (killed.sh("pgnode backup --wait").code == 0).then_some(())
        });
        let id = killed.psql("SELECT system_identifier FROM pg_control_system()");
        let place = format!("{PATH}/{name}/");
        let marker = bucket.text(&format!("{place}pgnode.json")).unwrap();
        assert!(marker.contains(&id), "{stage:?}: {marker} {id}");
        let notes = bucket.keys(&format!("{place}pgnode.claim."));
        assert!(notes.is_empty(), "{stage:?}: {notes:?}");
        let last = switch(&killed);
        bucket.wait_keys(&wal_key(&name, &last));
        let verified = json(&killed, "s3 verify");
        assert_eq!(
            verified["wrong"],
            Value::Array(Vec::new()),
            "{stage:?}: {verified}"
        );
        c.remove(killed);
    }
}

/// A barman host's full-sync is killed at each of its writes; in the end the bucket is the catalogue.
#[test]
fn a_full_sync_killed_at_any_write_is_whole_in_the_end() {
    let c = Cluster::new("s3shipkills");
    let bucket = Bucket::start(&c);
    let proxy = bucket.proxy();
    let pg = c.master().env("BARMAN_MODE", "remote").open();
    // A file of several parts.
    pg.psql("CREATE TABLE big AS SELECT n, md5(n::text) FROM generate_series(1, 300000) n");
    let bk = bucket
        .give_through(&proxy, c.node("bk1"))
        .env("PGNODE_ROLE", "barman")
        .env("BARMAN_SERVERS", "main=pg1")
        .env("S3_WAL_SYNC_SCHEDULE", NEVER)
        .env("S3_BASE_SYNC_SCHEDULE", NEVER)
        .env("S3_FULL_SYNC_SCHEDULE", NEVER)
        .env("S3_PART_SIZE", "5MB")
        .start();
    let done = |count: usize| {
        eventually("backups are DONE", BACKUP, || {
            let list = bk.sh("pgnode backup list --json").out;
            let list: Value = serde_json::from_str(&list).ok()?;
            let all = list.as_array()?.iter();
            let done = all.filter(|b| b["status"] == "DONE");
            let ids: Vec<String> = done.map(|b| b["id"].as_str().unwrap().to_owned()).collect();
            (ids.len() == count).then_some(ids)
        })
    };
    let sync = Beside::of(&bk, "pgnode s3 full-sync main");
    // Whether the write came.
    let killed = |stage: Option<&Stage>| {
        sync.begin();
        let any = ("any write".to_owned(), 0);
        let there = at(&proxy, stage.unwrap_or(&any), || sync.ended());
        bk.sh("pkill -9 -f '[p]gnode s3 full-sync'");
        eventually("it is dead", BACKUP, || sync.ended().then_some(()));
        proxy.clear();
        there
    };
    let whole = |of: &[String]| {
        let listed = json(&bk, "s3 base-ls main");
        let listed = listed.as_array().unwrap().iter();
        let complete = listed.filter(|b| b["complete"] == true);
        let there: Vec<&str> = complete.map(|b| b["id"].as_str().unwrap()).collect();
        for id in of {
            assert!(there.contains(&id.as_str()), "{id}: {there:?}");
        }
        there.len()
    };

    let first = done(1);
    sync.run();
    let sending = stages(&proxy);
    let sent = bucket.keys(&format!("{PATH}/main/"));
    for stage in &sending {
        bucket.delete_all(&format!("{PATH}/main/"));
        mute(&proxy, stage);
        assert!(killed(Some(stage)), "{stage:?} did not come");
        sync.run();
        assert_eq!(whole(&first), 1, "{stage:?}");
        let there = bucket.keys(&format!("{PATH}/main/"));
        let lost: Vec<&String> = sent.iter().filter(|key| !there.contains(key)).collect();
        assert!(lost.is_empty(), "{stage:?}: {lost:?}");
        assert!(
            bucket.uploads().is_empty(),
            "{stage:?}: {:?}",
            bucket.uploads()
        );
    }

    // barman deletes one: killed at whatever the sync writes first, until there is nothing more to write.
    bk.sh("pgnode backup main --wait").ok();
    let both = done(2);
    sync.run();
    let (old, new): (Vec<_>, Vec<_>) = both.into_iter().partition(|id| first.contains(id));
    bk.sh(&format!("pgnode backup delete {}", old[0])).ok();
    let mut kills = 0;
    loop {
        proxy.forget_seen();
        proxy.fail(Rule::new(Fault::Unheard).writes().times(1));
        if !killed(None) {
            break;
        }
        kills += 1;
        whole(&new);
    }
    assert!(kills >= 2, "{kills}");
    assert_eq!(whole(&new), 1);
    let left = bucket.keys(&format!("{PATH}/main/base/{}/", old[0]));
    assert!(left.is_empty(), "{left:?}");
    eventually("nothing is left to send", BACKUP, || {
        let report = json(&bk, "s3 full-sync main --checksum");
        (report["sent"] == 0 && report["deleted"] == 0).then_some(())
    });
}
