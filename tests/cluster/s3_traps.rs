//! Promises about a bucket that only show when something comes in the midst: a certificate, a segment that is late, a file that
//! is half there; and what barman-cloud itself stumbles over.

use crate::docker::{BACKUP, Cluster, LONG, Node, docker, eventually, image};
use crate::s3::{Bucket, Fault, PATH, Rule, first_backup, gzip, plain, switch, wal_key};
use crate::s3_restore::Source;
use serde_json::Value;

/// A certificate of an authority that nobody knows is named, and nothing is sent to whoever has it; with the authority in
/// `S3_CA_BUNDLE` what has waited arrives.
#[test]
fn a_bucket_behind_tls_is_trusted_by_its_authority_only() {
    let c = Cluster::new("s3tls");
    let bucket = Bucket::start(&c);
    let tls = bucket.tls(&c);
    let node = |trusting| {
        let plan = c
            .master()
            .env("BARMAN_MODE", "cloud")
            .env("BARMAN_CLOUD_SERVER_NAME", "main")
            .env("S3_RETRY", "2s");
        tls.give(&bucket, plan, trusting).open()
    };
    let blind = node(false);
    let first = switch(&blind);
    blind.wait_row(
        "SELECT failed_count > 0 AND archived_count = 0 FROM pg_stat_archiver",
        "t",
    );
    blind.wait_log("certificate");
    let doctor = plain(&blind.sh("pgnode doctor --step 9 2>&1").out);
    assert!(
        doctor.contains("certificate") && doctor.contains("S3_CA_BUNDLE"),
        "{doctor}"
    );
    assert!(bucket.keys("").is_empty(), "{:?}", bucket.keys(""));
    blind.stop();
    assert_eq!(blind.ended(), 0, "{}", blind.logs_since_start());
    c.remove(blind);

    let trusting = node(true);
    bucket.wait_keys(&format!("{}.zst", wal_key("main", &first)));
    let next = switch(&trusting);
    bucket.wait_keys(&format!("{}.zst", wal_key("main", &next)));
    trusting.wait_status("nothing fails", |s| {
        s["archiving"]["failing_since_ms"].is_null() && s["archiving"]["waiting"] == 0
    });
}

/// The backups of a node, as it lists them.
fn listed(node: &Node) -> Vec<Value> {
    serde_json::from_str(&node.sh("pgnode backup list --json 2>/dev/null").ok()).unwrap()
}

/// The names of a backup's objects.
fn objects(bucket: &Bucket, id: &str) -> Vec<String> {
    let prefix = format!("{PATH}/main/base/{id}/");
    let keys = bucket.keys(&prefix);
    keys.iter()
        .map(|key| key[prefix.len()..].to_owned())
        .collect()
}

/// Whoever finds a `backup.info` may restore: it is there when the last segment that it needs is.
#[test]
fn a_backup_is_one_when_its_wal_is_there_and_not_before() {
    let c = Cluster::new("s3late");
    let bucket = Bucket::start(&c);
    let proxy = bucket.proxy();
    let node = bucket.cloud(Some(&proxy), "main", c.master()).open();
    first_backup(&node);
    let before: Vec<Value> = listed(&node).iter().map(|b| b["id"].clone()).collect();
    proxy.fail(Rule::new(Fault::Held).method("PUT").key("/wals/"));
    node.sh("{ pgnode backup --wait; echo \"ended $?\"; } >/tmp/out 2>&1 &")
        .ok();
    let said = || node.sh("cat /tmp/out").out;
    let waits = "all files are copied; waiting for WAL segment ";
    eventually("all files are copied", BACKUP, || {
        let said = said();
        assert!(!said.contains("ended"), "{said}");
        said.contains(waits).then_some(())
    });
    let keys = bucket.keys(&format!("{PATH}/main/base/"));
    let running = keys.iter().find(|key| key.ends_with("pgnode_running.json"));
    let id = running.unwrap().rsplit('/').nth(1).unwrap();
    assert_eq!(
        objects(&bucket, id),
        [
            "data.tar.gz",
            "pgnode_manifest.jsonl",
            "pgnode_running.json"
        ]
    );
    let list: Vec<Value> = listed(&node).iter().map(|b| b["id"].clone()).collect();
    assert_eq!(list, before);
    let theirs = bucket.barman("barman-cloud-backup-list", "main").ok();
    assert!(!theirs.contains(id), "{theirs}");

    proxy.clear();
    eventually("the backup ends", BACKUP, || {
        said().contains("ended").then_some(())
    });
    assert!(said().contains("ended 0"), "{}", said());
    assert_eq!(
        objects(&bucket, id),
        ["backup.info", "data.tar.gz", "pgnode_manifest.jsonl"]
    );
    let info = bucket
        .text(&format!("{PATH}/main/base/{id}/backup.info"))
        .unwrap();
    assert!(info.lines().any(|line| line == "status=DONE"), "{info}");
    for end in ["begin_wal=", "end_wal="] {
        let segment = info.lines().find_map(|l| l.strip_prefix(end)).unwrap();
        let key = format!("{}.zst", wal_key("main", segment));
        assert!(bucket.head(&key).is_some(), "{end}{segment}");
    }
    let list = listed(&node);
    let made = list.iter().find(|b| b["id"] == id).unwrap();
    assert_eq!(made["status"], "DONE", "{made}");
}

/// What was begun ahead and fails is nobody's failure until it is asked for, and is done again then.
#[test]
fn what_fails_ahead_fails_no_push() {
    let c = Cluster::new("s3ahead");
    let bucket = Bucket::start(&c);
    let proxy = bucket.proxy();
    let node = bucket
        .cloud(Some(&proxy), "main", c.master())
        .env("S3_RETRY", "1s")
        .open();
    first_backup(&node);
    let last = switch(&node);
    node.wait_row("SELECT last_archived_wal FROM pg_stat_archiver", &last);
    node.psql("SELECT pg_stat_reset_shared('archiver')");
    let says = |what: &str| node.psql(&format!("SELECT {what} FROM pg_stat_archiver"));
    let stored = |name: &str| bucket.wait_keys(&format!("{}.zst", wal_key("main", name)));
    // Longer than a listing of what waits serves, and than `S3_RETRY`.
    let pause = || node.psql("SELECT pg_sleep(1.5)");
    let hold = || {
        proxy.fail(Rule::new(Fault::Held).method("PUT").key("/wals/"));
        // Nothing else waits yet when the first is asked for: nothing is begun ahead of it.
        let first = switch(&node);
        eventually("the first is under way", LONG, || {
            (proxy.count("PUT", &first) == 1).then_some(())
        });
        let [second, third, fourth] = [(); 3].map(|()| switch(&node));
        pause();
        assert_eq!(proxy.count("PUT", &second), 0);
        [first, second, third, fourth]
    };

    // The second is under way when it is asked for, and fails then.
    let [first, second, third, fourth] = hold();
    let deaf = Rule::new(Fault::Deaf).method("PUT").key(&second).times(1);
    proxy.release([deaf]);
    stored(&third);
    stored(&fourth);
    eventually("the server asks for the second", LONG, || {
        let asks = format!("pgrep -f '[w]al-push.*{second}'");
        (node.sh(&asks).code == 0).then_some(())
    });
    assert_eq!(says("last_archived_wal"), first);
    assert_eq!(proxy.count("PUT", &second), 1);
    pause();
    proxy.release([]);
    node.wait_row("SELECT last_archived_wal FROM pg_stat_archiver", &fourth);
    assert_eq!(
        says("failed_count, last_failed_wal"),
        "0|",
        "{}",
        node.logs()
    );
    assert_eq!(proxy.count("PUT", &second), 2);
    assert_eq!(proxy.count("PUT", &third), 1);
    stored(&second);

    // It fails each time: that is its own failure, and neither the first's nor the third's.
    let [first, second, third, _] = hold();
    let fails = Rule::new(Fault::Answer(503, "SlowDown"));
    proxy.release([fails.method("PUT").key(&second)]);
    stored(&third);
    node.wait_row("SELECT failed_count > 0 FROM pg_stat_archiver", "t");
    assert_eq!(
        says("last_archived_wal, last_failed_wal"),
        format!("{first}|{second}")
    );
    proxy.clear();
    stored(&second);
}

/// Where files are fetched to.
const GOT: &str = "/var/lib/postgresql/got";

/// PostgreSQL takes what is under the name for whole.
#[test]
fn a_fetched_file_is_there_whole_or_not_at_all() {
    let c = Cluster::new("s3atomic");
    let bucket = Bucket::start(&c);
    let proxy = bucket.proxy();
    let node = bucket
        .cloud(Some(&proxy), "main", c.master())
        .env("S3_COMPRESSION", "none")
        .env("S3_RETRY", "2s")
        .open();
    first_backup(&node);
    let name = switch(&node);
    bucket.wait_keys(&wal_key("main", &name));
    let sum = |path: &str| node.sh(&format!("sha256sum <{path}")).ok();
    let right = sum(&format!("/var/lib/postgresql/data/pg_wal/{name}"));
    node.sh("mkdir -p /tmp/run && cp -p /run/pgnode/s3.json /tmp/run && chown postgres /tmp/run")
        .ok();
    let begun = || node.sh(&format!("find {GOT}* -size +0 2>/dev/null")).out;
    // By the worker, and without it.
    for how in ["", "--run-dir /tmp/run"] {
        let get = |fault| Rule::new(fault).method("GET").key(&name);
        proxy.fail(get(Fault::StallAnswer(5 << 20)));
        let fetch = format!("pgnode wal-fetch {how} {name} {GOT}");
        let run = format!("{{ {fetch}; echo \"ended $?\"; }} >/tmp/fetched 2>&1 &");
        node.sh_as("postgres", &run).ok();
        eventually("some of it is there", LONG, || {
            (!begun().is_empty()).then_some(())
        });
        assert_eq!(begun().trim(), format!("{GOT}.pgnode-new"), "{how}");
        // It breaks off, and does not go on.
        proxy.release([get(Fault::Answer(503, "SlowDown"))]);
        let said = eventually("it is given up", LONG, || {
            let said = node.sh("cat /tmp/fetched").out;
            said.contains("ended").then_some(said)
        });
        assert!(said.contains("ended 255"), "{how}: {said}");
        node.sh(&format!("! ls {GOT}*")).ok();
        proxy.clear();
        node.sh_as("postgres", &fetch).ok();
        assert_eq!(sum(GOT), right, "{how}");
        node.sh(&format!("rm {GOT} /tmp/fetched && ! ls {GOT}*"))
            .ok();
    }
}

/// barman-cloud takes the codec of the file that it passed over, and a partial for the whole; and its own check of an archive
/// tells a used timeline from a free one by ours.
#[test]
fn the_neighbours_of_a_segment_are_not_taken_for_it() {
    let c = Cluster::new("s3beside");
    let bucket = Bucket::start(&c);
    let proxy = bucket.proxy();
    let node = bucket.cloud(Some(&proxy), "main", c.master()).open();
    first_backup(&node);
    let name = switch(&node);
    let key = wal_key("main", &name);
    let packed = eventually("it is archived", LONG, || {
        bucket.read(&format!("{key}.zst"))
    });
    let whole = zstd::decode_all(&*packed).unwrap();
    let sum = |path: &str| node.sh(&format!("sha256sum <{path}")).ok();
    let right = sum(&format!("/var/lib/postgresql/data/pg_wal/{name}"));
    node.sh("mkdir -p /tmp/run && cp -p /run/pgnode/s3.json /tmp/run && chown postgres /tmp/run")
        .ok();
    let fetch = |how: &str, name: &str| {
        let words = format!("rm -f {GOT}; pgnode wal-fetch {how} {name} {GOT} 2>&1");
        let ran = node.sh_as("postgres", &words);
        (ran.code, ran.out)
    };
    let hows = ["", "--run-dir /tmp/run", "--standby"];
    let well = (0, String::new());
    let none = (1, String::new());

    let label = format!("START WAL LOCATION: 0/28 (file {name})\n");
    bucket.delete_all(&key);
    bucket.write(&key, &whole);
    bucket.write(
        &format!("{key}.00000028.backup.gz"),
        &gzip(label.as_bytes()),
    );
    for how in hows {
        proxy.forget_seen();
        assert_eq!(fetch(how, &name), well, "{how}");
        assert_eq!(sum(GOT), right, "{how}");
        // It is not even read.
        let read = proxy.count("GET", ".00000028.backup");
        assert_eq!(read, 0, "{how}: {:#?}", proxy.seen());
        assert_eq!(fetch(how, &format!("{name}.00000028.backup")), well);
        assert_eq!(node.sh(&format!("cat {GOT}")).ok(), label.trim_end());
    }
    for (format, bytes) in [("", &whole), (".gz", &gzip(&whole))] {
        bucket.delete_all(&key);
        bucket.write(&format!("{key}.partial{format}"), bytes);
        for how in hows {
            assert_eq!(fetch(how, &name), none, "{how} {format}");
            node.sh(&format!("! ls {GOT}*")).ok();
            assert_eq!(fetch(how, &format!("{name}.partial")), well);
            assert_eq!(sum(GOT), right, "{how} {format}");
        }
    }

    let check = |timeline: u32| {
        let words = format!("main --timeline {timeline}");
        let ran = bucket.barman("barman-cloud-check-wal-archive", &words);
        let refused = ran.code == 1 && ran.err.contains("equal to or newer than timeline");
        assert!(ran.code == 0 || refused, "{ran:?}");
        ran.code == 0
    };
    assert_eq!([1, 2].map(check), [false, true]);
    let history = "cd /tmp && printf '1\\t0/3000000\\tno recovery target specified\\n' >00000002.history && \
                   pgnode wal-push 00000002.history";
    node.sh_as("postgres", history).ok();
    assert_eq!([1, 2, 3].map(check), [false, false, true]);
}

/// barman-cloud restores the newest whatever became of it, also by its own record of a failure.
#[test]
fn a_backup_that_failed_by_barman_clouds_own_record_is_not_the_latest() {
    let s = Source::new("s3lastfailed", "--gzip");
    s.sql("CREATE TABLE t (n int)");
    let whole = s.backup("--gzip");
    // Its copy ends here.
    let tools = s.bucket.tools();
    tools
        .sh_as(
            "postgres",
            "touch /tmp/src/base/shut && chmod 0 /tmp/src/base/shut",
        )
        .ok();
    let backup = "barman-cloud-backup --gzip --immediate-checkpoint -h /tmp -U postgres";
    let failed = s.bucket.barman(backup, "src");
    assert!(failed.code != 0, "{failed:?}");
    let infos: Vec<String> = s.bucket.keys(&format!("{PATH}/src/base/"));
    let infos: Vec<&String> = infos
        .iter()
        .filter(|k| k.ends_with("backup.info"))
        .collect();
    assert_eq!(infos.len(), 2, "{infos:?}");
    let newest = s.bucket.text(infos[1]).unwrap();
    assert!(newest.contains("\nstatus=FAILED\n"), "{newest}");

    let mut words: Vec<String> = ["run", "--rm", "--network", s.c.network()]
        .map(String::from)
        .into();
    let env = s.bucket.env();
    let more = [
        ("REPMGR_NODE_NAME", "pg9"),
        ("BARMAN_MODE", "off"),
        ("PGNODE_RESTORE_FROM", "s3/src"),
    ];
    let env = env.iter().map(|(name, value)| (*name, value.as_str()));
    for (name, value) in env.chain(more) {
        words.extend(["-e".to_owned(), format!("{name}={value}")]);
    }
    words.push(image());
    words.extend(["restore", "latest", "--check"].map(String::from));
    let said = docker(words).ok();
    assert!(said.contains(&format!("backup      {whole} of ")), "{said}");
}

/// Ids are seconds, and what has an id already keeps it.
#[test]
fn an_id_that_somebody_has_is_not_taken() {
    let c = Cluster::new("s3second");
    let bucket = Bucket::start(&c);
    let proxy = bucket.proxy();
    let node = bucket.cloud(Some(&proxy), "main", c.master()).open();
    first_backup(&node);
    proxy.forget_seen();
    // The look whether it is free.
    let look = "main%2Fbase%2F20";
    proxy.fail(Rule::new(Fault::Held).method("GET").query(look).times(1));
    node.sh("{ pgnode backup --wait --json; echo \"ended $?\"; } >/tmp/out 2>&1 &")
        .ok();
    let wanted = eventually("it looks whether its id is free", LONG, || {
        let seen = proxy.seen();
        let query = seen.iter().find(|s| s.query.contains(look))?.query.clone();
        let (_, id) = query.split_once("main%2Fbase%2F")?;
        Some(id[..15].to_owned())
    });
    // Somebody was quicker.
    let theirs = format!("{PATH}/main/base/{wanted}/data.tar.gz");
    bucket.write(&theirs, b"another's");
    proxy.clear();
    let said = eventually("the backup ends", BACKUP, || {
        let said = node.sh("cat /tmp/out").out;
        said.contains("ended").then_some(said)
    });
    assert!(said.contains("ended 0"), "{said}");
    assert_eq!(objects(&bucket, &wanted), ["data.tar.gz"]);
    assert_eq!(bucket.text(&theirs).unwrap(), "another's");
    let newest = listed(&node).remove(0);
    assert_eq!(newest["status"], "DONE", "{newest}");
    assert!(newest["id"].as_str().unwrap() > wanted.as_str(), "{newest}");
}
