use super::*;
use crate::barman::{Backup, BackupStatus, Kind};

const MICROS: i64 = 1_795_000_000_000_005;

fn mark(lsn: u64) -> Mark {
    Mark {
        timeline: Timeline(1),
        lsn: Lsn(lsn),
        time: DateTime::from_timestamp_micros(MICROS).unwrap(),
    }
}

fn info() -> Info {
    Info {
        name: None,
        pgdata: "/var/lib/postgresql/data".into(),
        config_file: Some("/var/lib/postgresql/data/postgresql.conf".into()),
        hba_file: Some("/run/pgnode/pg_hba.conf".into()),
        ident_file: Some("/run/pgnode/pg_ident.conf".into()),
        included_files: vec!["/run/pgnode/postgresql.conf".into()],
        tablespaces: vec![Tablespace {
            name: "t's".into(),
            oid: 16385,
            location: "/tbs/ts 1".into(),
        }],
        version: 170_012,
        system_id: "7512345678901234567".into(),
        segment_size: 16 << 20,
        begin: Some(mark(0x300_0028)),
        end: Some(mark(0x400_0158)),
        label: Some(
            "START WAL LOCATION: 0/3000028 (file 000000010000000000000003)\nLABEL: x\n".into(),
        ),
        size: Some(123),
        error: None,
    }
}

#[test]
fn it_is_written_as_barman_cloud_writes_it() {
    let want = "\
backup_label='START WAL LOCATION: 0/3000028 (file 000000010000000000000003)\\nLABEL: x\\n'
begin_offset=40
begin_time=2026-11-18 11:06:40.000005+00:00
begin_wal=000000010000000000000003
begin_xlog=0/3000028
compression=None
config_file=/var/lib/postgresql/data/postgresql.conf
copy_stats=None
deduplicated_size=None
end_offset=344
end_time=2026-11-18 11:06:40.000005+00:00
end_wal=000000010000000000000004
end_xlog=0/4000158
error=None
hba_file=/run/pgnode/pg_hba.conf
ident_file=/run/pgnode/pg_ident.conf
included_files=['/run/pgnode/postgresql.conf']
mode=None
pgdata=/var/lib/postgresql/data
server_name=cloud
size=123
status=DONE
systemid=7512345678901234567
tablespaces=[(\"t's\", 16385, '/tbs/ts 1')]
timeline=1
version=170012
xlog_segment_size=16777216
";
    assert_eq!(info().text(), want);
}

/// The keys that every barman-cloud since 2023 knows; any other breaks its whole catalogue.
#[test]
fn no_key_is_written_that_an_older_barman_cloud_does_not_know() {
    const SAFE: &str = "backup_label backup_name begin_offset begin_time begin_wal begin_xlog compression \
        config_file copy_stats deduplicated_size end_offset end_time end_wal end_xlog error hba_file \
        ident_file included_files mode pgdata server_name size status systemid tablespaces timeline \
        version xlog_segment_size";
    let named = Info {
        name: Some("before the move".into()),
        ..info()
    };
    let text = named.text();
    let keys: Vec<&str> = text.lines().filter_map(|l| l.split('=').next()).collect();
    let mut safe: Vec<&str> = SAFE.split_whitespace().collect();
    safe.sort_unstable();
    assert_eq!(keys, safe);
}

#[test]
fn what_is_written_is_read_back() {
    let info = Info {
        name: Some("before the move".into()),
        ..info()
    };
    let read = Backup::parse("20261118T110640", "/x".into(), &info.text());
    assert_eq!(read.garbled, [] as [&str; 0]);
    assert_eq!(
        (read.status.clone(), read.kind()),
        (BackupStatus::Done, Kind::Full)
    );
    assert_eq!(read.name, info.name);
    assert_eq!(
        (read.begin_lsn, read.end_lsn),
        (Some(Lsn(0x300_0028)), Some(Lsn(0x400_0158)))
    );
    assert_eq!(read.tablespaces, info.tablespaces);
    assert_eq!(read.begin_ms, Some(1_795_000_000_000));
    assert_eq!((read.size, read.timeline), (Some(123), Some(Timeline(1))));
    assert_eq!(read.segments_needed(), Some(2));
}

#[test]
fn a_failure_is_one_line_and_says_nothing_that_is_not_known() {
    let failed = Info {
        begin: None,
        end: None,
        label: None,
        size: None,
        error: Some("failure uploading data (cannot store x:\nstatus=DONE)".into()),
        ..info()
    };
    let text = failed.text();
    assert!(text.contains("\nstatus=FAILED\n"), "{text}");
    assert!(text.contains("\nend_time=None\n") && text.starts_with("backup_label=None\n"));
    let read = Backup::parse("20261118T110640", "/x".into(), &text);
    assert_eq!(read.status, BackupStatus::Failed);
    assert_eq!(
        read.error.as_deref(),
        Some("failure uploading data (cannot store x: status=DONE)")
    );
}
