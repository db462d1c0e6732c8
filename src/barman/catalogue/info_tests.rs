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

#[test]
fn a_time_without_a_zone_is_the_hosts_own() {
    let zone = |hours: i32| chrono::FixedOffset::east_opt(hours * 3600).unwrap();
    let noon = 1_795_262_400_500;
    let naive = "2026-11-21 12:00:00.500000";
    for (hours, ms) in [(0, noon), (2, noon - 7_200_000), (-5, noon + 18_000_000)] {
        assert_eq!(time_in(naive, &zone(hours)), Some(ms), "{hours}");
        // With one it is the same everywhere.
        for zoned in [
            "2026-11-21 12:00:00.500000+00:00",
            "2026-11-21 14:00:00.500000+02:00",
        ] {
            assert_eq!(time_in(zoned, &zone(hours)), Some(noon), "{zoned} {hours}");
        }
        assert_eq!(time_in("2026-11-21 25:00:00", &zone(hours)), None);
    }
    // barman leaves the fraction out where it is zero.
    assert_eq!(time_in("2026-11-21 12:00:00", &zone(0)), Some(noon - 500));
    assert_eq!(time(naive), time_in(naive, &Local));
}

/// The hour that a clock goes through twice, and the one that it leaves out.
#[test]
fn an_hour_that_is_there_twice_is_the_first_of_them() {
    #[derive(Clone)]
    struct Autumn;
    impl TimeZone for Autumn {
        type Offset = chrono::FixedOffset;
        fn from_offset(_: &Self::Offset) -> Self {
            Self
        }
        fn offset_from_local_date(
            &self,
            _: &chrono::NaiveDate,
        ) -> chrono::MappedLocalTime<Self::Offset> {
            chrono::MappedLocalTime::None
        }
        fn offset_from_local_datetime(
            &self,
            at: &NaiveDateTime,
        ) -> chrono::MappedLocalTime<Self::Offset> {
            let east = |hours: i32| chrono::FixedOffset::east_opt(hours * 3600).unwrap();
            match at.format("%H").to_string().as_str() {
                "02" => chrono::MappedLocalTime::Ambiguous(east(2), east(1)),
                _ => chrono::MappedLocalTime::None,
            }
        }
        fn offset_from_utc_date(&self, _: &chrono::NaiveDate) -> Self::Offset {
            chrono::FixedOffset::east_opt(0).unwrap()
        }
        fn offset_from_utc_datetime(&self, _: &NaiveDateTime) -> Self::Offset {
            chrono::FixedOffset::east_opt(0).unwrap()
        }
    }
    let first = "2026-10-25T00:30:00Z".parse::<DateTime<Utc>>().unwrap();
    let first = u64::try_from(first.timestamp_millis()).unwrap();
    assert_eq!(time_in("2026-10-25 02:30:00", &Autumn), Some(first));
    assert_eq!(time_in("2026-10-25 05:30:00", &Autumn), None);
}
