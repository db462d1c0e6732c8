use super::*;
use crate::barman::Backup;
use crate::domain::{History, SystemId, Timeline};
use crate::s3::Layout;
use crate::s3::base::{Archive, ArchiveName, Entry};
use crate::s3::source::Held;
use crate::s3::store::Object;

fn object(key: String, size: u64) -> Object {
    Object {
        key,
        size,
        etag: None,
        modified: chrono::DateTime::UNIX_EPOCH,
    }
}

fn segment(timeline: u32, number: u64) -> String {
    format!("{timeline:08X}{:08X}{:08X}", number >> 8, number & 0xFF)
}

fn held(segments: &[(u32, std::ops::RangeInclusive<u64>)], more: &[&str]) -> Held {
    let mut held = Held::of(16 << 20);
    let names = segments
        .iter()
        .flat_map(|(t, range)| range.clone().map(|n| segment(*t, n)));
    for name in names.chain(more.iter().map(|m| (*m).to_owned())) {
        held.add(&object(Layout::of("main").wal(&name), 100));
    }
    held.settle();
    held
}

/// A backup from segment `begin` to the next one.
fn entry(id: &str, timeline: u32, begin: u64, status: &str) -> Entry {
    let info = format!(
        "begin_wal={}\nbegin_xlog=0/{:X}\nend_wal={}\nend_xlog=0/{:X}\nstatus={status}\nsystemid=7\n\
         timeline={timeline}\nxlog_segment_size=16777216\n",
        segment(timeline, begin),
        (begin << 24) + 0x28,
        segment(timeline, begin + 1),
        ((begin + 1) << 24) + 0x100,
    );
    let name = ArchiveName::parse("data.tar.gz").unwrap();
    let data = object(format!("main/base/{id}/data.tar.gz"), 1000);
    Entry {
        backup: Backup::parse(id, format!("s3://b/main/base/{id}").into(), &info),
        archives: vec![Archive {
            name,
            object: data.clone(),
        }],
        manifest: None,
        objects: vec![data],
        lacks: Vec::new(),
    }
}

fn seen(entries: Vec<Entry>, held: Held) -> Seen {
    Seen {
        place: "s3://b/main".into(),
        entries,
        held,
        histories: vec![History::without_past(Timeline(1))],
        ..Seen::default()
    }
}

fn why(report: &Report, n: usize) -> &str {
    report.backups[n].why_not.as_deref().unwrap_or("")
}

const A: &str = "20261121T010000";
const B: &str = "20261121T020000";

#[test]
fn what_is_whole_is_said_to_be() {
    let report = judge(&seen(
        vec![entry(A, 1, 3, "DONE")],
        held(&[(1, 3..=9)], &[]),
    ));
    assert!(!report.is_wrong(), "{:?}", report.wrong);
    assert_eq!(report.backups[0].reaches.as_deref(), Some(&*segment(1, 9)));
    assert_eq!(report.system_id.as_deref(), Some("7"));
    assert!(
        report
            .text()
            .contains("1 of 1 backups can be restored, 7 segments")
    );
}

#[test]
fn a_backup_without_its_wal_cannot_be_restored() {
    let look = |segments: &[(u32, std::ops::RangeInclusive<u64>)]| {
        judge(&seen(vec![entry(A, 1, 3, "DONE")], held(segments, &[])))
    };
    let report = look(&[(1, 4..=9)]);
    assert!(why(&report, 0).contains(&format!("{}, its first, is missing", segment(1, 3))));
    let report = look(&[(1, 3..=3), (1, 5..=9)]);
    assert!(why(&report, 0).contains(&format!("{} is missing", segment(1, 4))));
    assert!(report.is_wrong());
    assert!(
        report
            .wrong
            .iter()
            .any(|w| w == "there is no backup that can be restored")
    );
    assert!(look(&[]).is_wrong());
}

#[test]
fn a_gap_counts_where_a_backup_needs_to_cross_it() {
    let gap = held(&[(1, 1..=5), (1, 8..=20)], &[]);
    let before = judge(&seen(vec![entry(A, 1, 3, "DONE")], gap.clone()));
    assert_eq!(before.backups[0].why_not, None);
    assert!(before.wrong[0].contains(&format!("WAL segment {} is missing", segment(1, 6))));
    assert!(before.wrong[0].contains(A));
    let after = judge(&seen(vec![entry(A, 1, 9, "DONE")], gap));
    assert!(!after.is_wrong(), "{:?}", after.wrong);
    assert_eq!(after.timelines[0].gaps[0].segments, 2);
}

#[test]
fn a_timeline_is_followed_by_its_history() {
    let two = History::parse(Timeline(2), "1\t0/8000100\tpromoted\n").unwrap();
    let mut all = seen(
        vec![entry(A, 1, 3, "DONE")],
        held(&[(1, 3..=8), (2, 8..=12)], &["00000002.history"]),
    );
    let without = judge(&all);
    assert!(
        without.wrong[0].contains("00000002.history is missing"),
        "{:?}",
        without.wrong
    );
    all.histories.push(two.clone());
    let report = judge(&all);
    assert!(!report.is_wrong(), "{:?}", report.wrong);
    assert_eq!(report.backups[0].reaches.as_deref(), Some(&*segment(2, 12)));
    // The segment of the switch is not there on the new timeline.
    all.held = held(&[(1, 3..=8), (2, 9..=12)], &["00000002.history"]);
    let torn = judge(&all);
    assert!(
        torn.wrong[0].contains(&format!("{} is missing", segment(2, 8))),
        "{:?}",
        torn.wrong
    );
}

#[test]
fn a_failed_backup_is_wrong_only_while_none_came_after_it() {
    let wal = held(&[(1, 3..=9)], &[]);
    let last = judge(&seen(
        vec![entry(A, 1, 3, "DONE"), entry(B, 1, 5, "FAILED")],
        wal.clone(),
    ));
    assert!(last.wrong[0].contains("it is FAILED"), "{:?}", last.wrong);
    let first = judge(&seen(
        vec![entry(A, 1, 3, "FAILED"), entry(B, 1, 5, "DONE")],
        wal,
    ));
    assert!(!first.is_wrong(), "{:?}", first.wrong);
    assert!(first.remarks[0].contains("it is FAILED"));
}

#[test]
fn pieces_lists_and_identities_count() {
    let wal = held(&[(1, 3..=9)], &[]);
    let one = || seen(vec![entry(A, 1, 3, "DONE")], wal.clone());
    let mut missing = one();
    missing.entries[0].lacks = vec!["data_0001.tar is missing".into()];
    assert_eq!(why(&judge(&missing), 0), "data_0001.tar is missing");
    let mut empty = one();
    empty.entries[0].archives[0].object.size = 0;
    assert_eq!(why(&judge(&empty), 0), "data.tar.gz is empty");
    let mut cut = one();
    cut.lists.insert(
        A.into(),
        "data.tar.gz has 9 bytes, and was stored with 1000".into(),
    );
    assert!(why(&judge(&cut), 0).contains("stored with 1000"));
    let mut stranger = one();
    stranger.claim = Some(SystemId(8));
    assert!(why(&judge(&stranger), 0).contains("of cluster 7, and this place is of 8"));
    for bad in [missing, empty, cut, stranger] {
        assert!(judge(&bad).is_wrong());
    }
    let mut killed = one();
    killed.unfinished.push(Unfinished {
        id: B.into(),
        bytes: 5 << 20,
        uploads: 1,
        node: Some("pg1".into()),
        touched: None,
    });
    let report = judge(&killed);
    assert!(!report.is_wrong());
    assert!(
        report.remarks[0].starts_with("5.0 MiB in 20261121T020000"),
        "{:?}",
        report.remarks
    );
    assert!(report.text().contains("1 uploads, of pg1"));
}

#[test]
fn objects_that_do_not_belong_there_are_told_apart() {
    let mut all = seen(vec![entry(A, 1, 3, "DONE")], held(&[(1, 3..=9)], &[]));
    all.held
        .add(&object("main/wals/0000000100000000/x".into(), 1));
    assert!(!judge(&all).is_wrong());
    all.held
        .add(&object(Layout::of("main").wal(&segment(1, 10)), 0));
    assert!(judge(&all).wrong[0].contains("have no byte"));
}
