//! Whose an archive is (docs/s3-wal.md): a wrong place shows before there is any WAL.

use crate::docker::{BACKUP, Cluster, Node, eventually};
use crate::s3::{Bucket, PATH, first_backup, switch, wal_key};
use serde_json::Value;

#[test]
fn a_place_of_another_cluster_shows_before_there_is_any_wal() {
    let c = Cluster::new("s3whose");
    let bucket = Bucket::start(&c);
    // Nothing is archived but what the test asks for.
    let quiet = ["-c", "archive_timeout=0"];
    let pg1 = bucket.cloud(None, "main", c.master()).words(&quiet).open();
    first_backup(&pg1);
    let doctor = |node: &Node| node.sh("pgnode doctor --step 9 2>&1").out;
    assert!(
        doctor(&pg1).contains("it is this cluster's"),
        "{}",
        doctor(&pg1)
    );
    pg1.stop();
    let before = bucket.keys("");

    let other = bucket
        .cloud(None, "main", c.node("pg9"))
        .words(&quiet)
        .open();
    let refused = "expected an empty archive at s3://pgnode/prod/main/";
    other.wait_status("it says that the place is another's", |s| {
        s["archiving"]["why"]
            .as_str()
            .is_some_and(|why| why.contains(refused))
    });
    other.wait_log(refused);
    let said = other.sh("pgnode status").out;
    assert!(said.contains("expected an empty archive"), "{said}");
    let said = doctor(&other);
    assert!(
        said.contains("it is the archive of cluster") && said.contains("BARMAN_CLOUD_SERVER_NAME"),
        "{said}"
    );
    // Whatever a person or cron asks for, what is there stays: also what looks like nobody's.
    let id = before.iter().find_map(|key| {
        let (_, rest) = key.split_once("/base/")?;
        Some(rest.split_once('/')?.0.to_owned())
    });
    for words in [
        "".to_owned(),
        "--occasion due".to_owned(),
        format!("delete {}", id.unwrap()),
    ] {
        let ran = other.sh_as("postgres", &format!("pgnode backup {words} 2>&1"));
        assert_eq!(ran.code, 78, "{words}: {ran:?}");
        assert!(ran.out.contains(refused), "{words}: {ran:?}");
    }
    // The archiver was never asked for anything, and nothing was written.
    let asked = other.psql("SELECT archived_count + failed_count FROM pg_stat_archiver");
    assert_eq!(asked, "0");
    assert_eq!(bucket.keys(""), before);
    // It serves all the same.
    assert_eq!(other.psql("SELECT pg_is_in_recovery()"), "f");

    // Where the other one is gone for good: its things are moved away, and the next file takes the place.
    bucket.delete_all(&format!("{PATH}/main/"));
    let name = switch(&other);
    bucket.wait_keys(&wal_key("main", &name));
    other.wait_status("it archives", |s| {
        s["archiving"]["failing_since_ms"].is_null()
    });
}

/// A barman host's catalogue has no `backup.info` beside its files, and nobody writes to an old backup for weeks.
#[test]
fn a_barman_hosts_catalogue_is_never_taken_for_leftovers() {
    let c = Cluster::new("s3shipped");
    let bucket = Bucket::start(&c);
    let shipped = |server: &str| {
        let place = format!("{PATH}/{server}");
        for key in [
            "base/20200101T000000/data/PG_VERSION",
            "meta/20200101T000000-backup.info",
        ] {
            bucket.write(&format!("{place}/{key}"), b"17\n");
        }
        bucket.keys(&format!("{place}/"))
    };
    // A place that one ships to is not taken.
    let before = shipped("other");
    let refused = "a barman host ships its catalogue to s3://pgnode/prod/other/";
    let other = bucket.cloud(None, "other", c.node("pg9")).open();
    other.wait_log(refused);
    let ran = other.sh_as("postgres", "pgnode backup 2>&1");
    assert!(ran.code == 78 && ran.out.contains(refused), "{ran:?}");
    assert_eq!(bucket.keys(&format!("{PATH}/other/")), before);

    // One that comes later is left alone, and no WAL goes that it may need.
    let pg1 = bucket
        .cloud(None, "main", c.master())
        .env("BARMAN_RETENTION", "REDUNDANCY 1")
        .open();
    first_backup(&pg1);
    let before = shipped("main");
    let backup = |words: &str| pg1.sh_as("postgres", &format!("pgnode backup {words} 2>&1"));
    let said = backup("").ok();
    assert!(said.contains("deleted backup"), "{said}");
    assert!(
        said.contains("20200101T000000 is left alone") && said.contains("no WAL was deleted"),
        "{said}"
    );
    let ran = backup("delete 20200101T000000");
    assert!(
        ran.code == 78 && ran.out.contains("is left alone"),
        "{ran:?}"
    );
    let there = bucket.keys(&format!("{PATH}/main/"));
    let strange = before.iter().filter(|k| k.contains("20200101"));
    for key in strange {
        assert!(there.contains(key), "{key}");
    }
    let wals = |keys: &[String]| keys.iter().filter(|k| k.contains("/wals/")).count();
    assert!(wals(&there) >= wals(&before));
}

/// The retention goes by what can be restored.
#[test]
fn a_backup_that_has_lost_a_piece_does_not_push_out_a_good_one() {
    let c = Cluster::new("s3broken");
    let bucket = Bucket::start(&c);
    let pg1 = bucket
        .cloud(None, "main", c.master())
        .env("BARMAN_RETENTION", "REDUNDANCY 2")
        .open();
    first_backup(&pg1);
    let backup = || {
        let said = pg1
            .sh_as("postgres", "pgnode backup --json 2>/tmp/said")
            .ok();
        let made: Value = serde_json::from_str(&said).unwrap();
        made["id"].as_str().unwrap().to_owned()
    };
    let ids = || {
        let all = pg1.sh("pgnode backup list --json 2>/dev/null").ok();
        let all: Value = serde_json::from_str(&all).unwrap();
        let ids = all
            .as_array()
            .unwrap()
            .iter()
            .map(|b| b["id"].as_str().unwrap().to_owned());
        ids.collect::<Vec<_>>()
    };
    let good = ids().remove(0);
    let bad = backup();
    let tars: Vec<String> = bucket
        .keys(&format!("{PATH}/main/base/{bad}/data"))
        .into_iter()
        .collect();
    assert!(!tars.is_empty());
    for tar in tars {
        bucket.delete(&tar);
    }
    let third = backup();
    assert_eq!(ids(), [third.clone(), bad.clone(), good.clone()]);
    let said = pg1.sh("cat /tmp/said").ok();
    assert!(said.contains(&format!("backup {bad} stays")), "{said}");
    // With two that are good, the oldest goes; the broken one is a person's.
    let fourth = backup();
    assert_eq!(ids(), [fourth, third, bad.clone()]);
    let ran = pg1.sh_as("postgres", &format!("pgnode backup delete {bad}"));
    assert_eq!(ran.code, 0, "{ran:?}");
    eventually("it is gone", BACKUP, || {
        (!ids().contains(&bad)).then_some(())
    });
}
