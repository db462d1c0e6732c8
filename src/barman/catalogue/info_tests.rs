use super::*;

/// Written by barman 3.13.3 for a PostgreSQL 17.12 with two tablespaces.
const FULL: &str = include_str!("samples/full.info");
const INCREMENTAL: &str = include_str!("samples/incremental.info");
const WAITING: &str = include_str!("samples/waiting.info");
const FAILED: &str = include_str!("samples/failed.info");
const RSYNC: &str = include_str!("samples/rsync.info");

fn parse(text: &str) -> Backup {
    Backup::parse("20261121T195810", "/b/base/20261121T195810".into(), text)
}

#[test]
fn a_full_backup_is_read_as_barman_writes_it() {
    let b = parse(FULL);
    assert_eq!(b.garbled, [] as [&str; 0]);
    assert_eq!(
        (b.status.clone(), b.kind()),
        (BackupStatus::Done, Kind::Full)
    );
    assert_eq!(b.name.as_deref(), Some("firstone"));
    assert_eq!(
        (b.begin_ms, b.end_ms),
        (Some(1_795_291_090_086), Some(1_795_291_091_472))
    );
    assert_eq!(
        (b.begin_lsn, b.end_lsn),
        (Some(Lsn(0x600_0028)), Some(Lsn(0x700_0000)))
    );
    assert_eq!(b.begin_wal.unwrap().to_string(), "000000010000000000000006");
    assert_eq!(b.segments_needed(), Some(2));
    assert_eq!(b.timeline, Some(Timeline(1)));
    assert_eq!(
        (b.size, b.deduplicated_size, b.cluster_size),
        (Some(23_624_930), Some(23_624_930), Some(23_629_073))
    );
    assert_eq!(b.children, ["20261121T195814"]);
    assert_eq!((b.server_version, b.major()), (Some(170_012), Some(17)));
    assert_eq!(b.system_id, Some(SystemId(7_710_716_249_646_309_413)));
    assert_eq!(b.tablespaces[1].name, "t's");
    assert_eq!(b.tablespaces[1].location, PathBuf::from("/lab/ts two"));
    assert_eq!(
        b.tablespace_dir(16386),
        PathBuf::from("/b/base/20261121T195810/16386")
    );
    assert_eq!((b.compression, b.encryption, b.error), (None, None, None));
    assert!(b.summarize_wal);
}

#[test]
fn an_incremental_backup_names_its_parent() {
    let b = parse(INCREMENTAL);
    assert_eq!(b.kind(), Kind::Incremental);
    assert_eq!(b.parent.as_deref(), Some("20261121T195810"));
    assert_eq!(b.children, [] as [&str; 0]);
}

#[test]
fn a_backup_that_waits_for_its_wal_is_copied_but_not_done() {
    let b = parse(WAITING);
    assert!(b.is_copied() && !b.is_done());
}

#[test]
fn a_failed_backup_says_why() {
    let b = parse(FAILED);
    assert_eq!(b.status, BackupStatus::Failed);
    assert_eq!((b.end_ms, b.end_wal, b.size), (None, None, None));
    assert!(b.error.unwrap().starts_with("failure copying files"));
    assert_eq!(b.garbled, [] as [&str; 0]);
}

#[test]
fn a_backup_by_rsync_is_a_kind_of_its_own() {
    let b = parse(RSYNC);
    assert_eq!(b.garbled, [] as [&str; 0]);
    assert_eq!((b.kind(), b.is_copied()), (Kind::Rsync, false));
    assert_eq!(b.mode.as_deref(), Some("rsync-concurrent"));
    assert_eq!(b.segments_needed(), Some(1));
}

#[test]
fn what_is_not_understood_is_named() {
    for (line, key) in [
        ("tablespaces=[('ts1', 16385, None)]", "tablespaces"),
        ("end_xlog=7000000", "end_xlog"),
        ("begin_wal=000000010000000000000106", "begin_wal"),
        ("xlog_segment_size=17", "xlog_segment_size"),
        ("end_time=yesterday", "end_time"),
        ("parent_backup_id=../../etc", "parent_backup_id"),
        (
            "children_backup_ids=20261121T195814,",
            "children_backup_ids",
        ),
        ("version=17beta", "version"),
    ] {
        // The later line counts.
        let b = parse(&format!("{FULL}{line}\n"));
        assert!(
            b.garbled.iter().any(|g| g.starts_with(key)),
            "{line}: {:?}",
            b.garbled
        );
    }
}

#[test]
fn lines_of_a_message_are_not_taken_for_keys() {
    let b = parse("error=no space\nstatus=DONE\n  left on device\nstatus=FAILED\n");
    assert_eq!(b.status, BackupStatus::Failed);
    assert_eq!(b.error.as_deref(), Some("no space"));
}

#[test]
fn the_names_of_segments_follow_the_segment_size() {
    let text = "xlog_segment_size=1048576\nbegin_wal=000000010000000000000FFE\nend_wal=000000010000000100000001\n";
    let b = parse(text);
    assert_eq!(b.garbled, [] as [&str; 0]);
    assert_eq!(b.segments_needed(), Some(4));
}

#[test]
fn only_what_barman_would_have_made_is_an_id() {
    assert!(is_id("20261121T195810"));
    for text in [
        "",
        "20261121T19581",
        "20261121T1958100",
        "20261121X195810",
        "2026112éT195810",
        "20261121T19581a",
        "..",
    ] {
        assert!(!is_id(text), "{text}");
    }
}
