//! A barman host ships its catalogue into a real bucket (issue 5 §2), and a plain download of it is one again.

use crate::docker::{BACKUP, Cluster, LONG, NEVER, Node, Plan, docker, eventually};
use crate::s3::{Bucket, Fault, PATH, Rule};
use serde_json::Value;

const QUEUE: &str = "/home/barman/data/.s3-queue";
const HOME: &str = "/home/barman/data";

/// A barman host that ships only when it is told to, its catalogue on a volume of its own.
fn host<'a>(c: &'a Cluster, name: &str, volume: &str) -> Plan<'a> {
    let home = format!("{}:{HOME}", c.volume(volume));
    c.node(name)
        .env("PGNODE_ROLE", "barman")
        .env("BARMAN_SERVERS", "main=pg1")
        .env("S3_WAL_SYNC_SCHEDULE", NEVER)
        .env("S3_BASE_SYNC_SCHEDULE", NEVER)
        .env("S3_FULL_SYNC_SCHEDULE", NEVER)
        .env("S3_RETRY", "3s")
        .flags(&["-v", &home])
}

fn master(c: &Cluster) -> Node {
    let pg = c.master().env("BARMAN_MODE", "remote").open();
    pg.psql("CREATE TABLE t AS SELECT n, repeat('x', 500) AS x FROM generate_series(1, 5000) n");
    pg
}

/// A verb as barman's cron runs it; its JSON.
#[track_caller]
fn run(bk: &Node, words: &str) -> Value {
    let ran = bk.sh(&format!("pgnode s3 {words} --json"));
    assert_eq!(ran.code, 0, "{words}: {} {}", ran.out, ran.err);
    serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("{words}: {e}: {}", ran.out))
}

fn queue(bk: &Node) -> Vec<String> {
    let list = bk.sh(&format!("ls {QUEUE} 2>/dev/null")).out;
    list.lines().map(str::to_owned).collect()
}

/// The newest backup, when barman says that it is complete.
#[track_caller]
fn done(bk: &Node, count: usize) -> Vec<String> {
    eventually("backups are DONE", BACKUP, || {
        let list = bk.sh("pgnode backup list --json").out;
        let list: Value = serde_json::from_str(&list).ok()?;
        let all = list.as_array()?;
        let done = all.iter().filter(|b| b["status"] == "DONE");
        let mut ids: Vec<String> = done.map(|b| b["id"].as_str().unwrap().to_owned()).collect();
        ids.sort();
        (ids.len() >= count).then_some(ids)
    })
}

#[track_caller]
fn queued(bk: &Node, id: &str) {
    eventually("the backup is queued", LONG, || {
        queue(bk).contains(&format!("{id}.run")).then_some(())
    });
}

/// All files of a cluster's catalogue that are shipped, with their checksums.
fn files(node: &Node) -> String {
    node.sh(&format!(
        "cd {HOME}/main && find base wals meta identity.json -type f ! -name pgsql_tmp.pgnode-empty \
         | sort | xargs sha1sum"
    ))
    .ok()
}

/// A plain download into a volume, by a tool that knows nothing of pgnode.
fn download(c: &Cluster, tool: &str, volume: &str) {
    let mount = format!("{}:/dl", c.volume(volume));
    let bench = Bucket::tools_from(c, "pgnode-s3tools:bench", tool, &["-v", &mount]);
    let command = match tool {
        "aws" => format!("aws s3 sync --only-show-errors s3://pgnode/{PATH}/main/ /dl/main/"),
        _ => format!(
            "rclone copy --s3-provider Other --s3-env-auth --s3-endpoint $AWS_ENDPOINT_URL \
             --s3-region $AWS_DEFAULT_REGION :s3:pgnode/{PATH}/main /dl/main"
        ),
    };
    bench
        .sh(&format!("umask 077; {command} && chown -R 998:998 /dl"))
        .ok();
    c.remove(bench);
}

/// §2: by queue and verbs into the bucket; downloaded by somebody else's tool it is barman's again, and ours.
#[test]
fn a_plain_download_is_a_catalogue_again() {
    let c = Cluster::new("s3ship");
    let bucket = Bucket::start(&c);
    let pg = master(&c);
    let bk = bucket.give(host(&c, "bk1", "kept")).start();
    let id = done(&bk, 1).pop().unwrap();
    queued(&bk, &id);
    assert_eq!(bucket.keys(""), Vec::<String>::new());

    // A dry run does nothing.
    let dry = run(&bk, "base-sync --dry-run");
    assert!(dry["acts"].as_array().unwrap().len() > 500, "{dry}");
    assert_eq!(bucket.keys(""), Vec::<String>::new());
    assert_eq!(queue(&bk), [format!("{id}.run")]);

    let report = run(&bk, "base-sync main");
    assert_eq!(report["backup"], id.as_str());
    assert!(report["sent"].as_u64() > Some(500), "{report}");
    assert_eq!(queue(&bk), [format!("{id}.done")]);
    // Whoever started it: all of it is barman's.
    let foreign = bk.sh(&format!("find {QUEUE} ! -user barman")).out;
    assert_eq!(foreign, "");
    let empty: Value = serde_json::from_str("[]").unwrap();
    assert_eq!(run(&bk, "base-sync"), empty);

    // More WAL, after it rows that are only in it.
    pg.psql("INSERT INTO t SELECT n, 'late' FROM generate_series(5001, 6000) n");
    let name = pg.psql("SELECT pg_walfile_name(pg_current_wal_lsn())");
    pg.psql("SELECT pg_switch_wal()");
    eventually("the WAL is archived", BACKUP, || {
        let path = format!("{HOME}/main/wals/{}/{name}", &name[..16]);
        (bk.sh(&format!("test -f {path}")).code == 0).then_some(())
    });
    let report = run(&bk, "wal-sync main");
    assert!(report["sent"].as_u64() >= Some(2), "{report}");
    let again = run(&bk, "wal-sync main");
    assert_eq!(again["sent"], 0, "{again}");
    // A list and a segment that are not what they should be, of the right size and newer: only contents tell.
    let keys = bucket.keys(&format!("{PATH}/main/wals/"));
    let ends = |end: &str| keys.iter().find(|k| k.ends_with(end)).unwrap();
    let wrong = [ends("xlog.db"), ends(&name)];
    let right = wrong.map(|key| bucket.read(key).unwrap());
    for key in wrong {
        bucket.change(key, |bytes| bytes[0] ^= 1);
    }
    assert_eq!(run(&bk, "wal-sync main")["sent"], 0);
    let dry = run(&bk, "wal-sync main --checksum --dry-run");
    assert_eq!(dry["acts"].as_array().unwrap().len(), 2, "{dry}");
    let report = run(&bk, "wal-sync main --checksum");
    assert_eq!(report["sent"], 2, "{report}");
    assert_eq!(wrong.map(|key| bucket.read(key).unwrap()), right);
    let listed = run(&bk, "base-ls main");
    assert_eq!(listed[0]["id"], id.as_str());
    assert_eq!(listed[0]["complete"], true);
    let full = run(&bk, "full-sync main --checksum");
    assert_eq!(
        (full["sent"].as_u64(), full["deleted"].as_u64()),
        (Some(0), Some(0)),
        "{full}"
    );

    let sent = files(&bk);
    c.remove(bk);
    for tool in ["aws", "rclone"] {
        download(&c, tool, tool);
        let again = bucket
            .give(host(&c, "bk2", tool))
            .env("BARMAN_SERVERS", "main=nowhere")
            .start();
        eventually("it has written barman's files", LONG, || {
            (again.sh("test -f /etc/barman.d/main.conf").code == 0).then_some(())
        });
        assert_eq!(files(&again), sent, "{tool}");
        let list = again.sh_as("barman", "barman list-backups main").ok();
        assert!(list.contains(&id) && !list.contains("FAILED"), "{list}");
        again
            .sh_as("barman", &format!("barman check-backup main {id}"))
            .ok();
        again
            .sh_as("barman", &format!("barman recover main {id} /tmp/pg"))
            .ok();
        let opened = again.sh_as(
            "barman",
            "cd /tmp && B=$(ls -d /usr/lib/postgresql/*/bin); echo 'local all all trust' > my.hba; touch my.ident; \
             printf \"listen_addresses=''\\nunix_socket_directories='/tmp'\\ndata_directory='/tmp/pg'\\n\
             hba_file='/tmp/my.hba'\\nident_file='/tmp/my.ident'\\n\" > my.conf; \
             $B/pg_ctl -D /tmp/pg -o '-c config_file=/tmp/my.conf' -w -t 120 -l /tmp/pg.log start >/tmp/ctl 2>&1 \
             || { cat /tmp/ctl /tmp/pg.log >&2; exit 1; }; \
             $B/psql -h /tmp -U postgres -XAtc 'SELECT count(*) FROM t'; $B/pg_ctl -D /tmp/pg -m fast -w stop >/dev/null",
        );
        assert_eq!(opened.out.trim(), "6000", "{tool}: {}", opened.err);
        c.remove(again);
    }

    // And our own restore reads it, markers and all.
    let mount = format!("{}:/srv/barman:ro", c.volume("rclone"));
    let restored = c
        .node("pg7")
        .env("REPMGR_NODE_ID", "7")
        .env("BARMAN_MODE", "off")
        .env("PGNODE_RESTORE", "latest")
        .env("PGNODE_RESTORE_FROM", "/srv/barman/main")
        .flags(&["-v", &mount])
        .open();
    assert_eq!(restored.psql("SELECT count(*) FROM t"), "6000");
    let left = restored
        .sh("find /var/lib/postgresql/data -name 'pgsql_tmp.pgnode*' -o -name '*.rclonelink'");
    assert_eq!(left.out, "");
}

/// §2: a kill leaves `.running`, which the next run picks up, and it sends only what is not there.
#[test]
fn a_killed_sync_is_taken_up_and_a_failed_task_is_retried() {
    let c = Cluster::new("s3kill");
    let bucket = Bucket::start(&c);
    let proxy = bucket.proxy();
    let pg = master(&c);
    // One file of several parts.
    pg.psql("CREATE TABLE big AS SELECT n, md5(n::text) FROM generate_series(1, 900000) n");
    let bk = bucket
        .give_through(&proxy, host(&c, "bk1", "kept"))
        .env("S3_PART_SIZE", "5MB")
        // Longer than anything that is looked at while it hangs.
        .env("S3_RETRY", "90s")
        .start();
    let id = done(&bk, 1).pop().unwrap();
    queued(&bk, &id);

    // The last metadata never arrive; the process is killed while it waits for the answer.
    proxy.fail(Rule::new(Fault::Deaf).method("PUT").key("backup.info"));
    let words = "pgnode s3 base-sync --json";
    docker(["exec", "-d", &bk.container, "sh", "-c", words]).ok();
    eventually("it is at the metadata", BACKUP, || {
        (proxy.count("PUT", "backup.info") > 0).then_some(())
    });
    assert_eq!(queue(&bk), [format!("{id}.running")]);
    // A second run meanwhile has nothing to do with it.
    assert_eq!(bk.sh("pgnode s3 base-sync").code, 0);
    assert_eq!(queue(&bk), [format!("{id}.running")]);
    bk.sh("pkill -9 -f '[p]gnode s3 base-sync'").ok();
    proxy.clear();
    // Half of one is no backup to anybody.
    let listed = run(&bk, "base-ls main");
    assert_eq!(listed[0]["complete"], false, "{listed}");
    let report = run(&bk, "base-sync");
    assert_eq!(queue(&bk), [format!("{id}.done")]);
    assert!(report["sent"].as_u64() < Some(10), "{report}");
    assert!(report["same"].as_u64() > Some(500), "{report}");
    assert_eq!(run(&bk, "base-ls main")[0]["complete"], true);

    // Killed within the parts of a file: what is there is not sent again.
    let big = bucket.objects(&format!("{PATH}/main/base/{id}/data/base/"));
    let big = big.into_iter().max_by_key(|o| o.size).unwrap();
    assert!(big.size > 20 << 20, "{big:?}");
    bucket.delete(&big.key);
    proxy.fail(
        Rule::new(Fault::Deaf)
            .method("PUT")
            .query("partNumber")
            .after(3),
    );
    let words = "pgnode s3 full-sync main";
    docker(["exec", "-d", &bk.container, "sh", "-c", words]).ok();
    eventually("three parts are there", BACKUP, || {
        let uploads = bucket.uploads();
        uploads.iter().any(|u| u.parts >= 3).then_some(())
    });
    bk.sh("pkill -9 -f '[p]gnode s3 full-sync'").ok();
    proxy.clear();
    let report = run(&bk, "full-sync main");
    assert!(
        report["resumed_bytes"].as_u64() >= Some(15 << 20),
        "{report}"
    );
    assert_eq!(report["deleted"], 0, "{report}");
    assert!(bucket.uploads().is_empty());
    assert_eq!(bucket.head(&big.key).unwrap()["size"], big.size);
    // A segment that barman's cron archives in between is sent once.
    eventually("nothing is left to send", LONG, || {
        let clean = run(&bk, "full-sync main --checksum");
        (clean["sent"] == 0).then_some(())
    });

    // The bucket is gone for longer than S3_RETRY: the task fails, says why, and waits for a person.
    bk.sh("pgnode backup main --wait").ok();
    let newer = done(&bk, 2).pop().unwrap();
    queued(&bk, &newer);
    proxy.refuse();
    assert_eq!(bk.sh("pgnode s3 base-sync").code, 75);
    assert!(
        queue(&bk).contains(&format!("{newer}.error")),
        "{:?}",
        queue(&bk)
    );
    proxy.clear();
    assert_eq!(run(&bk, "base-sync"), Value::Array(Vec::new()));
    eventually("status tells it", LONG, || {
        let said = bk.sh("pgnode status").out;
        (said.contains(&newer) && said.contains("--retry-errors")).then_some(())
    });
    let doctor = bk.sh("pgnode doctor --step 7").out;
    assert!(doctor.contains("could not be brought"), "{doctor}");
    run(&bk, "base-sync --retry-errors");
    assert!(queue(&bk).contains(&format!("{newer}.done")));

    // What barman says is no backup to ship is an error at once.
    bk.sh_as(
        "barman",
        "BARMAN_SERVER=main BARMAN_BACKUP_ID=20200101T000000 BARMAN_STATUS=FAILED BARMAN_PHASE=post \
         BARMAN_BACKUP_DIR=/x BARMAN_ERROR=boom pgnode s3 queue-add",
    )
    .ok();
    let ran = bk.sh("pgnode s3 base-sync");
    assert_eq!(ran.code, 78, "{}", ran.out);
    assert!(ran.out.contains("boom"), "{}", ran.out);
    assert!(queue(&bk).contains(&"20200101T000000.error".to_owned()));
}

/// §2: what barman deletes is deleted, and nothing that is needed; a catalogue that lost its disk deletes nothing.
#[test]
fn what_barman_deletes_goes_and_an_empty_catalogue_deletes_nothing() {
    let c = Cluster::new("s3full");
    let bucket = Bucket::start(&c);
    let pg = master(&c);
    let bk = bucket
        .give(host(&c, "bk1", "kept"))
        .env("BARMAN_MINIMUM_REDUNDANCY", "1")
        .start();
    let first = done(&bk, 1).pop().unwrap();
    for n in 0..2 {
        pg.psql(&format!("INSERT INTO t VALUES ({n}, 'x')"));
        bk.sh("pgnode backup main --wait").ok();
    }
    let ids = done(&bk, 3);
    run(&bk, "full-sync main");
    let whole = bucket.keys(PATH);
    for id in &ids {
        assert!(
            whole.contains(&format!("{PATH}/main/meta/{id}-backup.info")),
            "{whole:?}"
        );
    }

    // The mount is gone: nothing is deleted, and it says so. The node itself must not look at that moment: it would have
    // barman make a first backup, and barman removes all WAL before one.
    bk.kill("STOP");
    bk.sh(&format!("mv {HOME}/main/base {HOME}/main/hidden && mkdir {HOME}/main/base && mv {HOME}/main/meta {HOME}/main/hidden-meta")).ok();
    let ran = bk.sh("pgnode s3 full-sync main");
    assert_eq!(ran.code, 78, "{} {}", ran.out, ran.err);
    assert_eq!(bucket.keys(PATH), whole);
    bk.sh(&format!("rmdir {HOME}/main/base; mv {HOME}/main/hidden {HOME}/main/base; rm -rf {HOME}/main/meta; mv {HOME}/main/hidden-meta {HOME}/main/meta")).ok();
    bk.kill("CONT");

    // cron's barman may hold its lock at this moment.
    eventually("barman deletes it", LONG, || {
        let ran = bk.sh_as("barman", &format!("barman delete main {first}"));
        (ran.code == 0).then_some(())
    });
    let before = bucket.keys(PATH);
    let dry = run(&bk, "full-sync main --dry-run");
    assert_eq!(dry["deleted_backups"][0], first.as_str(), "{dry}");
    assert_eq!(bucket.keys(PATH), before);
    let report = run(&bk, "full-sync main");
    assert_eq!(report["deleted_backups"][0], first.as_str(), "{report}");
    let left = bucket.keys(PATH);
    assert!(!left.iter().any(|k| k.contains(&first)), "{left:?}");
    // The archive there is the archive here.
    let here = bk
        .sh(&format!(
            "cd {HOME}/main && find wals -type f ! -name '.*' | LC_ALL=C sort"
        ))
        .ok();
    let there: Vec<&str> = left
        .iter()
        .filter_map(|k| k.strip_prefix(&format!("{PATH}/main/")))
        .filter(|k| k.starts_with("wals/"))
        .collect();
    assert_eq!(there, here.lines().collect::<Vec<_>>());

    // Another cluster's place is not ours.
    bucket.change(&format!("{PATH}/main/identity.json"), |text| {
        *text = br#"{"systemid": "1", "version": "17"}"#.to_vec();
    });
    let ran = bk.sh("pgnode s3 wal-sync main");
    assert_eq!(ran.code, 78, "{}", ran.out);
    assert!(ran.out.contains("another cluster"), "{}", ran.out);
}

/// §2: what nobody could restore is no backup in the bucket either.
#[test]
fn a_backup_whose_wal_is_lost_is_not_shipped_and_does_not_stop_the_others() {
    let c = Cluster::new("s3lack");
    let bucket = Bucket::start(&c);
    let _pg = master(&c);
    let bk = bucket.give(host(&c, "bk1", "kept")).start();
    let id = done(&bk, 1).pop().unwrap();
    queued(&bk, &id);
    let info = |id: &str| format!("{PATH}/main/meta/{id}-backup.info");
    let begin = bk
        .sh(&format!(
            "sed -n 's/^begin_wal=//p' {HOME}/main/meta/{id}-backup.info"
        ))
        .ok();
    let below = format!("main/wals/{}/{begin}", &begin[..16]);
    bk.sh(&format!("mv {HOME}/{below} /tmp/lost")).ok();

    let ran = bk.sh("pgnode s3 base-sync");
    assert_eq!(ran.code, 78, "{ran:?}");
    assert!(ran.out.contains(&begin), "{ran:?}");
    assert_eq!(queue(&bk), [format!("{id}.error")]);
    // Not even its files.
    assert_eq!(
        bucket.keys(&format!("{PATH}/main/base/")),
        Vec::<String>::new()
    );
    eventually("status tells it", LONG, || {
        bk.sh("pgnode status").out.contains(&begin).then_some(())
    });

    // The others go, nothing is deleted.
    bk.sh("pgnode backup main --wait").ok();
    let newer = done(&bk, 2).pop().unwrap();
    let stray = format!("{PATH}/main/base/{newer}/stray");
    bucket.write(&stray, b"x");
    let ran = bk.sh("pgnode s3 full-sync main");
    assert_eq!(ran.code, 78, "{ran:?}");
    assert!(ran.out.contains(&begin), "{ran:?}");
    let keys = bucket.keys(PATH);
    assert!(
        keys.contains(&info(&newer)) && keys.contains(&stray),
        "{keys:?}"
    );
    assert!(!keys.contains(&info(&id)), "{keys:?}");

    // That the bucket has it is enough.
    bk.sh(&format!("mv /tmp/lost {HOME}/{below}")).ok();
    run(&bk, "wal-sync main");
    bk.sh(&format!("mv {HOME}/{below} /tmp/lost")).ok();
    run(&bk, "base-sync --retry-errors");
    assert!(
        queue(&bk).contains(&format!("{id}.done")),
        "{:?}",
        queue(&bk)
    );
    assert!(bucket.keys(PATH).contains(&info(&id)));
    let report = run(&bk, "full-sync main");
    assert_eq!(report["deleted"], 1, "{report}");
    assert!(!bucket.keys(PATH).contains(&stray));
}
