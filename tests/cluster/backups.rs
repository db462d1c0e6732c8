//! `pgnode backup` on a node with its own barman (issue 4 §2).

use crate::docker::{BACKUP, Cluster, LONG, Node, Ran, eventually};
use serde_json::Value;

fn verb(node: &Node, words: &str) -> Ran {
    node.sh(&format!("pgnode backup {words}"))
}

#[track_caller]
fn json(node: &Node, words: &str) -> Value {
    let ran = node.sh(&format!("pgnode backup {words} --json 2>/dev/null"));
    serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{words}: {e}: {ran:?}"))
}

#[track_caller]
fn refused(node: &Node, words: &str, code: i32, why: &str) {
    let ran = verb(node, words);
    assert_eq!(ran.code, code, "{ran:?}");
    assert!(ran.err.contains(why), "{ran:?}");
}

/// Open, with the first full backup that it makes by itself.
fn start(c: &Cluster) -> Node {
    let node = c.node("pg1").env("BARMAN_MODE", "local").start();
    node.wait_open();
    eventually("the first backup", BACKUP, || {
        (node.status()?["backup"]["count"] == 1).then_some(())
    });
    node
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// The outcome of one check of `backup verify ID --json`, and its sentence.
#[track_caller]
fn check(report: &Value, name: &str) -> (String, String) {
    let checks = report["checks"].as_array().unwrap();
    let found = checks.iter().rfind(|c| c["check"] == name).unwrap();
    (text(&found["outcome"]), text(&found["what"]))
}

#[test]
fn a_full_and_an_incremental_backup_are_made_and_the_rows_restored() {
    let c = Cluster::new("backups");
    let node = start(&c);
    node.psql("CREATE TABLE t AS SELECT g AS n, md5(g::text) AS m FROM generate_series(1, 5000) g");
    let full = json(&node, "--wait");
    assert_eq!(
        (&full["kind"], &full["status"]),
        (&"full".into(), &"DONE".into()),
        "{full}"
    );
    node.psql("UPDATE t SET m = 'changed' WHERE n % 7 = 0; DELETE FROM t WHERE n % 5 = 0");
    node.psql("INSERT INTO t SELECT g, 'new' FROM generate_series(6000, 7000) g");
    let said = verb(&node, "--incremental --wait").ok();
    let full_id = text(&full["id"]);
    assert!(
        said.contains(&format!("incremental of {full_id}")) && said.contains("DONE"),
        "{said}"
    );

    // The list, newest first, the same for root and for barman.
    let list = json(&node, "list");
    let kinds: Vec<&Value> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|b| &b["kind"])
        .collect();
    assert_eq!(kinds, ["incremental", "full", "full"], "{list}");
    assert_eq!(list[0]["parent"], full_id.as_str());
    assert_eq!(list[1]["children"][0], list[0]["id"]);
    assert_eq!(list[0]["wal_archived"], list[0]["wal_needed"]);
    let table = node.sh_as("barman", "pgnode backup list").ok();
    assert_eq!(table.lines().count(), 5, "{table}");
    refused_as(&node, "postgres", "list", "run it as root or as barman");
    let shown = verb(&node, "show latest").ok();
    assert!(shown.contains(&format!("rests on    {full_id}")), "{shown}");

    let reports = json(&node, "verify --all");
    for report in reports.as_array().unwrap() {
        assert_eq!(report["ok"], true, "{report}");
        for name in ["complete", "files", "wal", "continuity"] {
            assert_eq!(check(report, name).0, "PASS", "{report}");
        }
    }
    restores(&node, &text(&list[0]["id"]));
    delete_and_keep(&node, &full_id);
}

#[track_caller]
fn refused_as(node: &Node, user: &str, words: &str, why: &str) {
    let ran = node.sh_as(user, &format!("pgnode backup {words}"));
    assert_eq!(ran.code, 78, "{ran:?}");
    assert!(ran.err.contains(why), "{ran:?}");
}

/// By barman, which combines the two (and forgets `pg_tblspc`, docs/facts-trixie.md §5); started beside the live server with settings of its own.
#[track_caller]
fn restores(node: &Node, id: &str) {
    let rows = "SELECT count(*), sum(hashtext(t::text)::int8) FROM t";
    let want = node.psql(rows);
    let script = format!(
        "set -e; cd /tmp; bin=$(pg_config --bindir 2>/dev/null || ls -d /usr/lib/postgresql/*/bin); \
         barman -q -c /run/pgnode/barman.conf restore --local-staging-path /home/barman/data/.staging \
           pg1 {id} /home/barman/data/scratch; \
         mkdir -p /home/barman/data/scratch/pg_tblspc; \
         printf 'local all all trust\\n' >/tmp/scratch.hba; \
         printf 'data_directory=/home/barman/data/scratch\\nhba_file=/tmp/scratch.hba\\nport=5999\\n\
           listen_addresses=\\nunix_socket_directories=/tmp\\n' | tr -d ' ' >/tmp/scratch.conf; \
         sed -i \"s/listen_addresses=/listen_addresses=''/; s|directories=.*|directories='/tmp'|; \
           s|_file=.*|_file='/tmp/scratch.hba'|; s|_directory=.*|_directory='/home/barman/data/scratch'|\" \
           /tmp/scratch.conf; \
         $bin/pg_ctl -s -w -t 60 -D /home/barman/data/scratch -o '-c config_file=/tmp/scratch.conf' \
           -l /tmp/scratch.log start; \
         $bin/psql -h /tmp -p 5999 -U postgres -Atc '{rows}'; \
         $bin/pg_ctl -s -w -D /home/barman/data/scratch -m fast stop"
    );
    let ran = node.sh_as("barman", &script);
    assert_eq!(ran.code, 0, "{ran:?} {:?}", node.sh("cat /tmp/scratch.log"));
    assert!(ran.out.lines().any(|l| l == want.trim()), "{want}: {ran:?}");
}

/// What is kept stays; what is deleted goes with all that rests on it.
#[track_caller]
fn delete_and_keep(node: &Node, full: &str) {
    refused(node, "keep latest", 78, "keep that one");
    verb(node, "keep latest-full --target standalone").ok();
    assert_eq!(json(node, &format!("show {full}"))["kept"], "standalone");
    refused(
        node,
        &format!("delete {full}"),
        78,
        &format!("keep --release {full}"),
    );
    verb(node, &format!("keep --release {full}")).ok();
    let would = verb(node, &format!("delete --dry-run {full}")).ok();
    assert_eq!(would.matches("would delete backup").count(), 2, "{would}");
    assert_eq!(json(node, "list").as_array().unwrap().len(), 3);
    verb(node, &format!("delete {full}")).ok();
    assert_eq!(json(node, "list").as_array().unwrap().len(), 1);
    refused(node, "delete latest", 78, "BARMAN_MINIMUM_REDUNDANCY");
    refused(node, "delete nonsense", 64, "its only one is");
    refused(node, "list pg9", 64, "only pg1");
}

#[test]
fn verify_finds_a_lost_segment_and_a_flipped_byte() {
    let c = Cluster::new("verify");
    let node = start(&c);
    node.psql("CREATE TABLE t AS SELECT g AS n FROM generate_series(1, 5000) g");
    let backup = json(&node, "--wait");
    let dir = text(&backup["dir"]);
    assert_eq!(json(&node, "verify latest")["ok"], true);

    // The node completes a backup by itself, too: barman would fail it for the segment that is taken away here.
    eventually("nobody looks at the backup", LONG, || {
        (node
            .sh("pgrep -f 'barman .*(check-backup|archive-wal)'")
            .code
            == 1)
            .then_some(())
    });
    let last = text(&backup["wal_last"]);
    let path = format!("/home/barman/data/pg1/wals/{}/{last}", &last[..16]);
    node.sh(&format!("mv {path} /tmp/segment")).ok();
    let report = json(&node, "verify latest");
    assert_eq!(verb(&node, "verify latest").code, 1);
    for name in ["wal", "continuity"] {
        let (outcome, what) = check(&report, name);
        assert!(
            outcome == "FAIL" && what.contains(&format!("segment {last}")),
            "{report}"
        );
    }
    assert_eq!(json(&node, "show latest")["wal_archived"], 1);
    // Half of it: unpacking says so.
    node.sh(&format!("head -c 1000 /tmp/segment >{path}")).ok();
    let (outcome, what) = check(&json(&node, "verify latest"), "wal");
    assert!(
        outcome == "FAIL" && what.contains("cannot be read"),
        "{what}"
    );
    node.sh(&format!("mv /tmp/segment {path}")).ok();
    assert_eq!(json(&node, "verify latest")["ok"], true);

    let flip = |byte: &str| {
        let script = format!(
            "f=$(find {dir}/data/base -type f -size +16k -name '[0-9]*' | sort | head -1); \
             printf '\\{byte}' | dd of=$f bs=1 seek=9000 conv=notrunc status=none; basename $f"
        );
        node.sh(&script).ok()
    };
    let file = flip("377");
    let report = json(&node, "verify latest");
    let (outcome, what) = check(&report, "files");
    let told = what.contains("checksum mismatch") && what.contains(file.trim());
    assert!(outcome == "FAIL" && told, "{report}");
    assert_eq!(check(&report, "wal").0, "PASS", "{report}");
    assert_eq!(verb(&node, "verify --all").code, 1);
}

#[test]
fn a_backup_is_refused_where_it_would_be_none() {
    let c = Cluster::new("nobackup");
    let master = c.master().start();
    let slave = c.slave().start();
    master.wait_open();
    slave.wait_streaming();
    refused(&slave, "--wait", 78, "pg2 is a standby");
    refused(&slave, "", 78, "Run `pgnode backup` on pg1");
    let off = master.sh("BARMAN_MODE=off pgnode backup --wait");
    assert_eq!(off.code, 64, "{off:?}");
    assert!(off.err.contains("Set BARMAN_MODE=local"), "{off:?}");
    eventually("the first backup", BACKUP, || {
        (master.status()?["backup"]["count"] == 1).then_some(())
    });
    master.psql("ALTER SYSTEM SET summarize_wal = off; SELECT pg_reload_conf()");
    eventually("the reload", LONG, || {
        (master.psql("SHOW summarize_wal").trim() == "off").then_some(())
    });
    refused(&master, "--incremental", 78, "summarize_wal is off");
}
