//! Archiving straight into the bucket: `BARMAN_MODE=cloud`.

use crate::docker::{Cluster, LONG, Node, eventually};
use crate::s3::{Bucket, Fault, PATH, Rule, first_backup, switch, wal_key};
use serde_json::Value;

fn archived(bucket: &Bucket, server: &str, name: &str) -> String {
    let key = wal_key(server, name);
    eventually(&format!("{name} in the bucket"), LONG, || {
        let keys = bucket.keys(&key);
        keys.into_iter().find(|k| *k == format!("{key}.zst"))
    })
}

fn fetch(node: &Node, words: &str) -> (i32, String) {
    let ran = node.sh_as(
        "postgres",
        &format!("cd /var/lib/postgresql/data && pgnode wal-fetch {words} 2>&1; echo \"=$?\""),
    );
    let said = ran.ok();
    let (text, code) = said.trim().rsplit_once('=').unwrap();
    (code.parse().unwrap(), text.to_owned())
}

#[test]
fn wal_goes_into_the_bucket_and_comes_back() {
    let c = Cluster::new("s3wal");
    let bucket = Bucket::start(&c);
    let pg1 = bucket.cloud(None, "main", c.master()).open();
    // Its retention takes what lies before it.
    first_backup(&pg1);
    let first = switch(&pg1);
    let found = archived(&bucket, "main", &first);
    // Somebody else's tools read it.
    let out = format!("/tmp/{first}");
    bucket
        .barman("barman-cloud-wal-restore", &format!("main {first} {out}"))
        .ok();
    let theirs = bucket.tools().sh(&format!("sha256sum < {out}")).ok();
    let ours = pg1.sh(&format!(
        "sha256sum < /var/lib/postgresql/data/pg_wal/{first}"
    ));
    assert_eq!(theirs, ours.ok());
    let marker = bucket.text(&format!("{PATH}/main/pgnode.json")).unwrap();
    let system = pg1.psql("SELECT system_identifier FROM pg_control_system()");
    assert!(
        marker.contains(&format!("\"system_id\":\"{system}\"")),
        "{marker}"
    );
    // Nothing else of ours stays beside it.
    let keys = bucket.keys(&format!("{PATH}/main/pgnode."));
    assert_eq!(keys, [format!("{PATH}/main/pgnode.json")]);
    // The secret is in one file, which only its owner reads.
    let mode = pg1.sh("stat -c '%a %U' /run/pgnode/s3.json").ok();
    assert_eq!(mode.trim(), "600 postgres");

    // And back: with the worker, and without it.
    let (code, said) = fetch(&pg1, &format!("{first} /tmp/back"));
    assert_eq!((code, said.as_str()), (0, ""));
    let back = pg1.sh("sha256sum < /tmp/back").ok();
    assert_eq!(back, theirs);
    let without = "--run-dir /tmp/run";
    pg1.sh("mkdir -p /tmp/run && cp -p /run/pgnode/s3.json /tmp/run && chown postgres /tmp/run")
        .ok();
    let (code, said) = fetch(&pg1, &format!("{without} {first} /tmp/back2"));
    assert_eq!((code, said.as_str()), (0, ""));
    let back = pg1.sh("sha256sum < /tmp/back2").ok();
    assert_eq!(back, theirs);
    for how in ["", without] {
        // Not there is 1, and leaves no file.
        let (code, said) = fetch(&pg1, &format!("{how} 000000010000000900000001 /tmp/none"));
        assert_eq!((code, said.as_str()), (1, ""));
        let (code, _) = fetch(&pg1, &format!("{how} --standby 00000009.history /tmp/none"));
        assert_eq!(code, 1);
        pg1.sh("! ls /tmp/none*").ok();
    }

    // What is stored already is success; another content under the name is not, and is not replaced.
    let push = |path: &str| {
        let ran = pg1.sh_as(
            "postgres",
            &format!("pgnode wal-push {path} 2>&1; echo \"=$?\""),
        );
        let said = ran.ok();
        let (text, code) = said.trim().rsplit_once('=').unwrap();
        (code.parse::<i32>().unwrap(), text.to_owned())
    };
    let data = "/var/lib/postgresql/data/pg_wal";
    assert_eq!(push(&format!("{data}/{first}")), (0, String::new()));
    pg1.sh_as("postgres", &format!("mkdir /tmp/other && cp {data}/{first} /tmp/other/ && printf xyz | dd of=/tmp/other/{first} bs=1 seek=9000 conv=notrunc")).ok();
    let (code, said) = push(&format!("/tmp/other/{first}"));
    assert_eq!(code, 78);
    assert!(said.contains("is there with other contents"), "{said}");
    // Of another cluster, by its header.
    pg1.sh_as(
        "postgres",
        &format!("printf xyz | dd of=/tmp/other/{first} bs=1 seek=24 conv=notrunc"),
    )
    .ok();
    let (code, said) = push(&format!("/tmp/other/{first}"));
    assert_eq!(code, 78);
    assert!(said.contains("it is of cluster"), "{said}");

    // Damage is neither there nor not there.
    bucket.change(&found, |bytes| bytes.truncate(bytes.len() / 2));
    for how in ["", without] {
        let (code, said) = fetch(&pg1, &format!("{how} {first} /tmp/damaged"));
        assert_eq!(code, 255, "{said}");
        assert!(said.contains("cannot be unpacked as zstd"), "{said}");
    }
    assert_eq!(
        fetch(&pg1, &format!("--standby {first} /tmp/damaged")).0,
        75
    );

    // A worker that is killed is replaced, and is not missed.
    pg1.sh("kill -9 $(pgrep -fo 's3 worker')").ok();
    let next = switch(&pg1);
    archived(&bucket, "main", &next);
    pg1.wait_log("the worker ended with signal 9");
}

#[test]
fn another_cluster_is_refused() {
    let c = Cluster::new("s3claim");
    let bucket = Bucket::start(&c);
    let pg1 = bucket.cloud(None, "main", c.master()).open();
    // Its retention takes what lies before it.
    first_backup(&pg1);
    let first = switch(&pg1);
    archived(&bucket, "main", &first);
    let marker = format!("{PATH}/main/pgnode.json");
    let segment = archived(&bucket, "main", &first);
    let version = |key: &str| {
        let headers = &bucket.head(key).unwrap()["headers"];
        (headers["etag"].clone(), headers["last-modified"].clone())
    };
    let before = [version(&marker), version(&segment)];
    let other = bucket.cloud(None, "main", c.node("pg9")).open();
    // Far ahead of the first one: nothing but the claim keeps them out.
    let names: Vec<_> = (0..9).map(|_| switch(&other)).collect();
    other.wait_log("expected an empty archive at s3://pgnode/prod/main/");
    assert_eq!(before, [version(&marker), version(&segment)]);
    assert!(bucket.keys(&wal_key("main", &names[8])).is_empty());
    // Also where barman-cloud made the archive, which leaves no marker.
    bucket.delete(&format!("{PATH}/main/pgnode.json"));
    let push = "pgnode wal-push /var/lib/postgresql/data/pg_wal/000000010000000000000001 2>&1";
    let said = other.sh_as("postgres", &format!("{push} || echo =$?")).ok();
    assert!(
        said.contains("expected an empty archive") && said.contains("=78"),
        "{said}"
    );
    // Its own cluster claims it again.
    let next = switch(&pg1);
    archived(&bucket, "main", &next);
}

#[test]
fn the_bucket_may_be_away() {
    let c = Cluster::new("s3away");
    let bucket = Bucket::start(&c);
    let proxy = bucket.proxy();
    let pg1 = bucket
        .cloud(Some(&proxy), "main", c.master())
        .env("S3_RETRY", "2s")
        .open();
    let first = switch(&pg1);
    archived(&bucket, "main", &first);
    proxy.refuse();
    let names: Vec<_> = (0..12).map(|_| switch(&pg1)).collect();
    pg1.wait_status("archiving fails", |s| {
        s["archiving"]["failing_since_ms"].is_u64()
            && s["archiving"]["waiting"].as_u64() >= Some(12)
    });
    // Neither there nor not there.
    assert_eq!(fetch(&pg1, &format!("{first} /tmp/x")).0, 255);
    assert_eq!(fetch(&pg1, &format!("--standby {first} /tmp/x")).0, 75);
    proxy.clear();
    proxy.fail(
        Rule::new(Fault::Answer(503, "SlowDown"))
            .method("PUT")
            .key("/wals/")
            .after(1)
            .times(3),
    );
    for name in &names {
        archived(&bucket, "main", name);
    }
    pg1.wait_status("all is archived", |s| {
        s["archiving"]["failing_since_ms"].is_null() && s["archiving"]["waiting"] == 0
    });
}

#[test]
fn a_new_primary_goes_on_in_the_archive_and_the_old_one_does_not() {
    let c = Cluster::new("s3over");
    let bucket = Bucket::start(&c);
    let proxy = bucket.proxy();
    let pg1 = bucket
        .cloud(Some(&proxy), "main", c.master())
        .env("S3_RETRY", "2s")
        .open();
    let pg2 = bucket.cloud(None, "main", c.slave()).start();
    pg2.wait_streaming();
    let first = switch(&pg1);
    archived(&bucket, "main", &first);

    // A standby that gets nothing from its primary gets it from the bucket.
    pg2.psql("ALTER SYSTEM SET primary_conninfo = ''; SELECT pg_reload_conf()");
    pg2.wait_row("SELECT count(*) FROM pg_stat_wal_receiver", "0");
    for _ in 0..3 {
        let name = switch(&pg1);
        archived(&bucket, "main", &name);
    }
    pg2.wait_row("SELECT count(*) FROM filler", "4000");
    pg2.psql("ALTER SYSTEM RESET primary_conninfo; SELECT pg_reload_conf()");
    pg2.wait_streaming();

    // What the old primary could not archive is brought by the new one.
    proxy.refuse();
    let (one, two) = (switch(&pg1), switch(&pg1));
    pg2.wait_row("SELECT count(*) FROM filler", "6000");
    assert!(bucket.keys(&wal_key("main", &one)).is_empty());
    pg1.kill("KILL");
    pg1.ended();
    pg2.psql("SELECT pg_promote()");
    pg2.psql(
        "\\c repmgr\n\
         UPDATE repmgr.nodes SET type = 'standby', active = false, upstream_node_id = 2 WHERE node_id = 1;\n\
         UPDATE repmgr.nodes SET type = 'primary', upstream_node_id = NULL WHERE node_id = 2;",
    );
    pg2.wait_status("is the primary", |s| {
        s["role"] == "primary" && s["state"] == "open"
    });
    archived(&bucket, "main", "00000002.history");
    archived(&bucket, "main", &one);
    archived(&bucket, "main", &two);
    let next = eventually("the new primary writes", LONG, || {
        let insert = "INSERT INTO filler VALUES ('x'); SELECT pg_walfile_name(pg_switch_wal())";
        let ran = pg2.try_psql(insert);
        (ran.code == 0).then(|| ran.out.lines().last().unwrap_or_default().to_owned())
    });
    assert!(next.starts_with("00000002"), "{next}");
    archived(&bucket, "main", &next);

    // The same segment on the timeline that was left, by its header too, and without a word of the new one.
    let old = next.replacen("00000002", "00000001", 1);
    let make = format!(
        "mkdir /tmp/old && cp /var/lib/postgresql/data/pg_wal/{next} /tmp/old/{old} && \
         printf '\\001' | dd of=/tmp/old/{old} bs=1 seek=4 conv=notrunc && pgnode wal-push /tmp/old/{old} 2>&1; echo =$?"
    );
    let said = pg2.sh_as("postgres", &make).ok();
    assert!(
        said.contains("timeline 1 was left at") && said.contains("=78"),
        "{said}"
    );
    assert_eq!(bucket.read(&format!("{}.zst", wal_key("main", &old))), None);

    // It comes back as a standby.
    proxy.clear();
    pg1.start();
    let status = pg1.wait_streaming();
    assert_eq!(status["role"], "standby");
    let last = switch(&pg2);
    archived(&bucket, "main", &last);
}

#[test]
fn the_worker_stays_small() {
    let c = Cluster::new("s3small");
    let bucket = Bucket::start(&c);
    let proxy = bucket.proxy();
    // Nothing gets smaller: every body has 16 MiB.
    let pg1 = bucket
        .give_through(&proxy, c.master())
        .env("BARMAN_MODE", "cloud")
        .env("BARMAN_CLOUD_SERVER_NAME", "main")
        .env("S3_COMPRESSION", "none")
        .env("S3_MAX_PARALLEL", "4")
        .env("S3_RETRY", "1s")
        .open();
    proxy.refuse();
    let names: Vec<_> = (0..20).map(|_| switch(&pg1)).collect();
    proxy.clear();
    let last = wal_key("main", names.last().unwrap());
    eventually("all is archived", LONG, || {
        bucket
            .read(&last)
            .map(|bytes| assert_eq!(bytes.len(), 16 << 20))
    });
    pg1.wait_status("nothing waits", |s| s["archiving"]["waiting"] == 0);
    // Once more: now everything is there, and is compared. So it is where an answer was lost.
    let archived = |s: &Value| s["archiving"]["archived"].as_u64().unwrap();
    let before = archived(&pg1.status().unwrap());
    let again = "cd /var/lib/postgresql/data/pg_wal/archive_status && for f in *.done; do mv $f ${f%.done}.ready; done; ls | wc -l";
    let again: u64 = pg1.sh(again).ok().trim().parse().unwrap();
    assert!(again >= 20, "{again}");
    switch(&pg1);
    pg1.wait_status("all is compared", |s| {
        s["archiving"]["waiting"] == 0 && archived(s) > before + again
    });
    // The program itself is larger in a test's build: its pages are the file's.
    let kb = |what: &str| -> u64 {
        let get = format!("grep {what}: /proc/$(pgrep -fo 's3 worker')/status | tr -dc 0-9");
        pg1.sh(&get).ok().trim().parse().unwrap()
    };
    let peak = kb("VmHWM") - kb("RssFile");
    assert!(peak < 54 << 10, "{peak} kB");
}
