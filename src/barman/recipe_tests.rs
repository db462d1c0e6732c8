use super::*;
use crate::barman::{BackupStatus, Server, WalRange};
use crate::config::{RestoreFrom, TargetAction};
use std::path::Path;
use std::time::Duration;

const SEGMENT: u64 = 16 << 20;

fn wanted(backup: &str, target: Target) -> Restore {
    Restore {
        backup: match backup {
            "latest" => Choice::Latest,
            id => Choice::Id(id.to_owned()),
        },
        from: RestoreFrom::Local,
        tablespaces: Vec::new(),
        target,
        inclusive: true,
        timeline: TargetTimeline::Latest,
        action: TargetAction::Promote,
        retry: Duration::from_secs(60),
    }
}

fn wal(timeline: u32, number: u64) -> WalName {
    WalName {
        timeline: Timeline(timeline),
        number,
        segment_size: SEGMENT,
    }
}

/// A backup of one segment that ends within it.
fn backup(dir: &Path, id: &str, timeline: u32, number: u64) {
    let base = dir.join("base").join(id);
    std::fs::create_dir_all(&base).unwrap();
    let at = wal(timeline, number);
    let text = format!(
        "begin_wal={at}\nend_wal={at}\nbegin_xlog={}\nend_xlog={}\nend_time=2026-11-21 {:02}:00:00+00:00\n\
         mode=postgres\nstatus=DONE\nsystemid=7\ntimeline={timeline}\nversion=170012\n\
         xlog_segment_size={SEGMENT}\n",
        Lsn(at.begin().0 + 0x28),
        Lsn(at.begin().0 + 0x100),
        number % 24,
    );
    std::fs::write(base.join("backup.info"), text).unwrap();
}

const A: &str = "20261121T020000";
const B: &str = "20261121T060000";
const C: &str = "20261121T090000";

/// Backups in segments 2 and 6 of timeline 1, which was left in segment 8; one in segment 9 of
/// timeline 3. WAL up to segment 12.
fn found() -> Found {
    let tmp = tempfile::tempdir().unwrap();
    backup(tmp.path(), A, 1, 2);
    backup(tmp.path(), B, 1, 6);
    backup(tmp.path(), C, 3, 9);
    let fork = Lsn(8 * SEGMENT + 0x500);
    Found {
        source: "/srv/main".into(),
        tool: "barman restore",
        backups: Server::at(tmp.path().to_owned()).backups().unwrap(),
        archive: Archive {
            ranges: vec![
                WalRange {
                    first: wal(1, 1),
                    last: wal(1, 8),
                },
                WalRange {
                    first: wal(3, 8),
                    last: wal(3, 12),
                },
            ],
            histories: vec![Timeline(3)],
            strange: 0,
        },
        histories: vec![
            History::without_past(Timeline(1)),
            History::parse(Timeline(3), &format!("1\t{fork}\tno\n")).unwrap(),
        ],
    }
}

fn at(hour: u32, minute: u32) -> Target {
    Target::Time(
        format!("2026-11-21T{hour:02}:{minute:02}:00Z")
            .parse()
            .unwrap(),
    )
}

fn chosen(wanted: &Restore, found: &Found) -> (String, u32, u64) {
    let recipe = choose(wanted, found, 17).unwrap();
    let id = recipe.backup().unwrap().id.clone();
    (id, recipe.history.timeline.0, recipe.last.number)
}

#[test]
fn the_newest_backup_before_the_target_is_taken() {
    let found = found();
    for (target, id) in [
        (Target::End, C),
        (Target::Immediate, C),
        (Target::Xid(742), C),
        (at(9, 0), C),
        (at(8, 59), B),
        (at(5, 0), A),
        (Target::Lsn(Lsn(9 * SEGMENT + 0x100)), C),
        (Target::Lsn(Lsn(9 * SEGMENT + 0xFF)), B),
        (Target::Lsn(Lsn(3 * SEGMENT)), A),
    ] {
        let got = chosen(&wanted("latest", target.clone()), &found);
        assert_eq!(got, (id.to_owned(), 3, 12), "{target}");
    }
}

#[test]
fn timelines_with_gaps_in_their_numbers_are_followed() {
    let found = found();
    let along = |timeline, backup| Restore {
        timeline,
        ..wanted(backup, Target::End)
    };
    // PostgreSQL's own `latest` would try timeline 2, find none, and stay on 1.
    assert_eq!(
        chosen(&along(TargetTimeline::Latest, A), &found),
        (A.into(), 3, 12)
    );
    assert_eq!(
        chosen(&along(TargetTimeline::Current, A), &found),
        (A.into(), 1, 8)
    );
    let number = |n| TargetTimeline::Number(Timeline(n));
    assert_eq!(chosen(&along(number(1), B), &found), (B.into(), 1, 8));
    assert_eq!(
        chosen(&along(number(1), "latest"), &found),
        (B.into(), 1, 8)
    );
    for (timeline, id) in [(2, A), (1, C)] {
        let error = choose(&along(number(timeline), id), &found, 17).unwrap_err();
        assert!(
            error.why().contains("cannot be reached from backup"),
            "{error}"
        );
    }
    // A timeline that was left before the backup was complete does not lead from it.
    let mut early = found.clone();
    early.histories[1] = History::parse(Timeline(3), "1\t0/2000028\tno\n").unwrap();
    assert_eq!(
        chosen(&along(TargetTimeline::Latest, B), &early),
        (B.into(), 1, 8)
    );
}

#[test]
fn what_cannot_be_restored_is_refused_with_what_there_is() {
    let full = found();
    let refused = |wanted: &Restore, found: &Found, part: &str, code: u8| {
        let fault = choose(wanted, found, 17).unwrap_err();
        assert!(fault.why().contains(part), "{fault}");
        assert_eq!(fault.exit_code().0, code, "{fault}");
    };
    refused(
        &wanted("20260101T000000", Target::End),
        &full,
        &format!("there are {C} (DONE, ended 2026-11-21 09:00:00.000+00 at 0/9000100)"),
        64,
    );
    refused(
        &wanted("latest", at(1, 0)),
        &full,
        &format!(
            "before the end of backup {A}, which is at 0/2000100 (2026-11-21 02:00:00.000+00)"
        ),
        64,
    );
    refused(
        &wanted(B, at(5, 0)),
        &full,
        &format!("before the end of backup {B}"),
        64,
    );
    refused(
        &wanted("latest", Target::Lsn(Lsn(1))),
        &full,
        "lies before",
        64,
    );
    let fault = choose(&wanted(A, Target::End), &full, 18).unwrap_err();
    assert!(
        fault
            .why()
            .contains("made by PostgreSQL 17, this image has 18"),
        "{fault}"
    );
    let with = |change: fn(&mut Backup)| {
        let mut found = full.clone();
        change(&mut found.backups[2]);
        found
    };
    let c = wanted(C, Target::End);
    refused(
        &c,
        &with(|b| b.status = BackupStatus::Started),
        "is STARTED, not DONE",
        78,
    );
    refused(
        &c,
        &with(|b| b.compression = Some("gzip".into())),
        "`backup_compression`",
        78,
    );
    fn spaced(b: &mut Backup) {
        b.tablespaces = vec![crate::barman::Tablespace {
            name: "fast".into(),
            oid: 16385,
            location: "/mnt/fast".into(),
        }];
    }
    choose(&c, &with(spaced), 17).unwrap();
    refused(
        &c,
        &with(|b| {
            spaced(b);
            b.parent = Some(A.into());
        }),
        "is incremental and has tablespaces (fast)",
        78,
    );
    refused(
        &c,
        &with(|b| b.encryption = Some("gpg".into())),
        "is encrypted with gpg",
        78,
    );
    refused(
        &c,
        &with(|b| b.garbled.push("timeline=x".into())),
        "not understood: timeline=x",
        78,
    );
    refused(
        &c,
        &with(|b| b.parent = Some("20261120T000000".into())),
        "rests on 20261120T000000",
        78,
    );
    let mut none = full.clone();
    none.backups.clear();
    refused(
        &wanted("latest", Target::End),
        &none,
        "holds no complete backup",
        78,
    );
}

#[test]
fn a_hole_in_the_archive_is_not_its_end() {
    let mut found = found();
    found.archive.ranges = vec![
        WalRange {
            first: wal(1, 1),
            last: wal(1, 8),
        },
        WalRange {
            first: wal(3, 8),
            last: wal(3, 10),
        },
        WalRange {
            first: wal(3, 12),
            last: wal(3, 12),
        },
    ];
    let refused = |target: Target| {
        let fault = choose(&wanted(B, target), &found, 17).unwrap_err();
        assert!(
            fault.why().contains(
                "WAL is missing between 00000003000000000000000A and 00000003000000000000000C"
            ),
            "{fault}"
        );
    };
    refused(Target::End);
    refused(Target::Lsn(Lsn(11 * SEGMENT)));
    assert_eq!(
        chosen(&wanted(B, Target::Lsn(Lsn(11 * SEGMENT - 1))), &found).2,
        10
    );
    assert_eq!(chosen(&wanted(B, at(7, 0)), &found).2, 10);
    // The backup's own.
    found.archive.ranges.remove(0);
    let fault = choose(&wanted(A, Target::Immediate), &found, 17).unwrap_err();
    assert!(
        fault
            .why()
            .contains("000000010000000000000002, which backup"),
        "{fault}"
    );
}

#[test]
fn a_target_beyond_the_last_wal_is_refused_with_the_valid_range() {
    let found = found();
    let end = ArchiveEnd {
        record: Some(Lsn(12 * SEGMENT + 0x40)),
        commit: Some("2026-11-21T11:00:00Z".parse().unwrap()),
    };
    let covered = |target: Target, inclusive: bool| {
        let wanted = Restore {
            inclusive,
            ..wanted("latest", target)
        };
        choose(&wanted, &found, 17).unwrap().covers(&wanted, &end)
    };
    covered(Target::End, true).unwrap();
    covered(Target::Xid(1), true).unwrap();
    covered(at(10, 59), true).unwrap();
    // Only a later commit shows that the time has passed.
    covered(at(11, 0), true).unwrap_err();
    covered(at(11, 0), false).unwrap();
    covered(at(11, 1), false).unwrap_err();
    covered(Target::Lsn(Lsn(12 * SEGMENT + 0x40)), true).unwrap();
    let fault = covered(Target::Lsn(Lsn(12 * SEGMENT + 0x41)), true).unwrap_err();
    assert_eq!(
        fault.why(),
        "the target, position 0/C000041, lies beyond the last WAL: the valid range is from 0/9000100 \
         (2026-11-21 09:00:00.000+00) to 0/C000040 (the last commit at 2026-11-21 11:00:00.000000+00) on \
         timeline 3; to recover all there is, set no target"
    );
}
