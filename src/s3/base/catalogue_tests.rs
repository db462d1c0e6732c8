use super::*;

fn archives(names: &[&str]) -> Vec<Archive> {
    let object = |name: &str| Object {
        key: format!("main/base/20261121T010000/{name}"),
        size: 1,
        etag: None,
        modified: DateTime::<Utc>::UNIX_EPOCH,
    };
    let mut all: Vec<Archive> = names
        .iter()
        .map(|name| Archive {
            name: ArchiveName::parse(name).unwrap(),
            object: object(name),
        })
        .collect();
    all.sort_by_key(|a| a.name);
    all
}

fn tablespace(oid: u32) -> Tablespace {
    Tablespace {
        name: "t".into(),
        oid,
        location: "/t".into(),
    }
}

#[test]
fn a_piece_that_is_missing_is_seen() {
    let look = |names: &[&str], oids: &[u32]| {
        let tablespaces: Vec<_> = oids.iter().map(|oid| tablespace(*oid)).collect();
        lacks(&archives(names), &tablespaces)
    };
    let none: [&str; 0] = [];
    assert_eq!(
        look(&["data.tar.gz", "data_0001.tar.gz", "5.tar.gz"], &[5]),
        none
    );
    assert_eq!(look(&[], &[]), ["data.tar is missing"]);
    assert_eq!(look(&["data.tar"], &[5]), ["5.tar is missing"]);
    assert_eq!(
        look(&["data.tar", "data_0002.tar"], &[]),
        ["data_0001.tar is missing, and data_0002.tar is there"]
    );
    assert_eq!(
        look(&["data_0001.tar.gz"], &[]),
        ["data.tar.gz is missing, and data_0001.tar.gz is there"]
    );
    assert_eq!(
        look(&["data.tar", "data.tar.gz"], &[]),
        ["data.tar and data.tar.gz are both there"]
    );
}

#[test]
fn a_key_belongs_to_the_directory_after_base() {
    let of = |key: &str| id_of("main/base/", key);
    assert_eq!(of("main/base/x/data.tar").as_deref(), Some("x"));
    assert_eq!(of("main/base/x/annotations/keep").as_deref(), Some("x"));
    assert_eq!(of("main/base/x"), None);
    assert_eq!(of("main/wals/x/y"), None);
}

#[test]
fn what_barman_cloud_and_we_store_is_known() {
    for name in [
        "backup.info",
        "data.tar",
        "data_0001.tar.gz",
        "16385.tar.bz2",
        "annotations/keep",
        "pgnode_running.json",
        "pgnode_failed.info",
        "pgnode_manifest.jsonl",
    ] {
        assert!(is_known(name), "{name}");
    }
    for name in [
        "data/PG_VERSION",
        "data/",
        "x.tar",
        "tblspc/1/a",
        "notes.txt",
    ] {
        assert!(!is_known(name), "{name}");
    }
}

/// Made at half past two before the end of summer time, and at half past two after it; or on two nodes.
#[test]
fn backups_are_in_the_order_in_which_they_began() {
    let entry = |id: &str, begin: &str| {
        let text = format!("status=DONE\nbegin_time={begin}\n");
        Entry {
            backup: Backup::parse(id, "/x".into(), &text),
            archives: Vec::new(),
            manifest: None,
            objects: Vec::new(),
            lacks: Vec::new(),
        }
    };
    let entries = vec![
        entry("20261025T023000", "2026-10-25 02:30:00+02:00"),
        entry("20261025T021500", "2026-10-25 02:15:00+01:00"),
        entry("20261025T005900", "2026-10-25 00:59:00+00:00"),
        entry("20261024T120000", "?"),
    ];
    let leftovers = Vec::new();
    let mut shelf = Shelf { entries, leftovers };
    shelf.sort();
    let ids: Vec<&str> = shelf.entries.iter().map(|e| e.backup.id.as_str()).collect();
    assert_eq!(
        ids,
        [
            "20261024T120000",
            "20261025T023000",
            "20261025T005900",
            "20261025T021500"
        ]
    );
}

#[test]
fn only_what_is_surely_dead_is_swept() {
    let now = DateTime::<Utc>::UNIX_EPOCH + chrono::TimeDelta::hours(48);
    let leftover = |node: Option<&str>, hours_ago: i64| Leftover {
        id: "20261121T010000".into(),
        objects: vec![Object {
            key: "k".into(),
            size: 1,
            etag: None,
            modified: now - chrono::TimeDelta::hours(30),
        }],
        uploads: vec![Unfinished {
            key: "k".into(),
            id: "u".into(),
            begun: now - chrono::TimeDelta::hours(hours_ago),
        }],
        marker: node.map(|node| Marker {
            node: node.into(),
            system_id: "7".into(),
            timeline: 1,
            begin_ms: 0,
        }),
        doomed: false,
        foreign: None,
    };
    let dead = |node, hours| leftover(node, hours).is_dead("pg1", "7", now);
    // Ours: we hold the lock.
    assert!(dead(Some("pg1"), 0));
    // Another node's, or barman-cloud's: only its silence tells.
    assert!(!dead(Some("pg2"), 1) && dead(Some("pg2"), 25));
    assert!(!dead(None, 1) && dead(None, 25));
    assert!(!leftover(Some("pg1"), 1).is_dead("pg1", "8", now));
    // What was being deleted, whoever made it and whoever deleted it.
    let doomed = Leftover {
        doomed: true,
        ..leftover(Some("pg2"), 1)
    };
    assert!(doomed.is_dead("pg1", "7", now));
    // A barman host's backup has no backup.info in its directory, and is silent for weeks.
    for node in [Some("pg1"), None] {
        let strange = Leftover {
            doomed: true,
            foreign: Some("s3://b/main/base/x/data/PG_VERSION".into()),
            ..leftover(node, 1000)
        };
        assert!(!strange.is_dead("pg1", "7", now));
    }
}
