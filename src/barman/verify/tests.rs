use super::*;
use crate::domain::{History, Lsn, SystemId, Timeline, WalName};
use std::io::Write as _;
use std::path::Path;
use tempfile::TempDir;

const BYTES: usize = 1 << 20;
const SIZE: u64 = BYTES as u64;
const CLUSTER: u64 = 7_710_716_249_646_309_413;

fn wal_name(timeline: u32, number: u64) -> WalName {
    WalName {
        timeline: Timeline(timeline),
        number,
        segment_size: SIZE,
    }
}

/// A segment as PostgreSQL would have begun it: a header on each page, zeros behind a switch.
fn contents(name: &WalName, begun_on: u32, system: u64, pages: u64) -> Vec<u8> {
    let mut all = Vec::with_capacity(BYTES);
    for n in 0..SIZE / 8192 {
        let mut page = vec![0_u8; 8192];
        if n < pages {
            let info: u16 = if n == 0 { 2 } else { 0 };
            page[0..2].copy_from_slice(&0xD116_u16.to_ne_bytes());
            page[2..4].copy_from_slice(&info.to_ne_bytes());
            page[4..8].copy_from_slice(&begun_on.to_ne_bytes());
            page[8..16].copy_from_slice(&(name.begin().0 + n * 8192).to_ne_bytes());
            if n == 0 {
                page[24..32].copy_from_slice(&system.to_ne_bytes());
                page[32..36].copy_from_slice(&(1_u32 << 20).to_ne_bytes());
                page[36..40].copy_from_slice(&8192_u32.to_ne_bytes());
            }
        }
        all.extend(page);
    }
    all
}

fn put(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

fn place(server: &Server, name: &WalName) -> std::path::PathBuf {
    let name = name.to_string();
    server.dir.join("wals").join(&name[..16]).join(name)
}

fn archived(server: &Server, name: &WalName, bytes: &[u8]) {
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(bytes).unwrap();
    put(&place(server, name), &packed.finish().unwrap());
}

/// Timeline 1 from segment 3 to 6, a backup that needs 4 and 5.
fn scene() -> (TempDir, Server, Backup) {
    let tmp = tempfile::tempdir().unwrap();
    let server = Server::at(tmp.path().join("pg1"));
    for number in 3..=6 {
        let name = wal_name(1, number);
        archived(&server, &name, &contents(&name, 1, CLUSTER, 128));
    }
    let info = format!(
        "status=DONE\nmode=postgres\ntimeline=1\nxlog_segment_size={SIZE}\nsystemid={CLUSTER}\n\
         begin_xlog=0/400028\nend_xlog=0/600000\nbegin_wal={}\nend_wal={}\n",
        wal_name(1, 4),
        wal_name(1, 5)
    );
    put(
        &server.dir.join("meta/20261121T195810-backup.info"),
        info.as_bytes(),
    );
    let backup = server.backup("latest").unwrap();
    assert_eq!(backup.garbled, [] as [&str; 0]);
    (tmp, server, backup)
}

fn continuity(server: &Server, backup: &Backup) -> Check {
    wal::continuity(server, backup, &server.archive(SIZE).unwrap())
}

#[track_caller]
fn told(check: &Check, outcome: Outcome, part: &str) {
    assert_eq!(check.outcome, outcome, "{check:?}");
    assert!(check.what.contains(part), "{check:?}");
}

#[test]
fn the_wal_of_a_sound_backup_passes() {
    let (_tmp, server, backup) = scene();
    told(&wal::needed(&server, &backup), Outcome::Pass, "2 segments");
    told(
        &continuity(&server, &backup),
        Outcome::Pass,
        &wal_name(1, 6).to_string(),
    );
}

#[test]
fn what_lies_behind_a_switch_of_the_segment_is_zero() {
    let (_tmp, server, backup) = scene();
    let name = wal_name(1, 5);
    archived(&server, &name, &contents(&name, 1, CLUSTER, 3));
    told(&wal::needed(&server, &backup), Outcome::Pass, "");
}

#[test]
fn a_segment_that_is_not_what_its_name_says_fails() {
    let (_tmp, server, backup) = scene();
    let name = wal_name(1, 5);
    let sound = contents(&name, 1, CLUSTER, 128);
    let mut torn = sound.clone();
    torn[8192 * 9 + 8] ^= 1;
    let mut other_size = sound.clone();
    other_size[34] = 1;
    put(&place(&server, &name), b"\x85\x01\x8c\x03 and so on");
    told(
        &wal::needed(&server, &backup),
        Outcome::Skip,
        "is packed with gpg encryption",
    );
    let cases: [(&[u8], &str); 9] = [
        (
            &contents(&name, 1, 1, 128),
            "is of the cluster 1, not of 7710716249646309413",
        ),
        (
            &contents(&wal_name(1, 4), 1, CLUSTER, 128),
            "the page at byte 0 is not that of 0/500000",
        ),
        (&contents(&name, 2, CLUSTER, 128), "was begun on timeline 2"),
        (
            &sound[..BYTES - 1],
            "1048575 bytes unpacked where 1048576 belong",
        ),
        (&sound[..20], "20 bytes"),
        (&[&sound[..], &[0]].concat(), "1048577 bytes"),
        (&torn, "the page at byte 73728 is not that of 0/512000"),
        (&other_size, "segments of"),
        (&[7; BYTES], "does not begin with the header"),
    ];
    for (bytes, why) in cases {
        archived(&server, &name, bytes);
        let check = wal::needed(&server, &backup);
        told(&check, Outcome::Fail, why);
        told(&check, Outcome::Fail, &name.to_string());
    }
    archived(&server, &name, &sound);
    let packed = std::fs::read(place(&server, &name)).unwrap();
    put(&place(&server, &name), &packed[..packed.len() - 20]);
    told(
        &wal::needed(&server, &backup),
        Outcome::Fail,
        "cannot be read",
    );
}

#[test]
fn a_segment_that_is_missing_is_named() {
    let (_tmp, server, backup) = scene();
    let name = wal_name(1, 5);
    std::fs::rename(place(&server, &name), server.dir.join("kept")).unwrap();
    told(
        &wal::needed(&server, &backup),
        Outcome::Fail,
        &format!("segment {name} of"),
    );
    told(
        &continuity(&server, &backup),
        Outcome::Fail,
        &format!("segment {name} is missing"),
    );
    std::fs::create_dir_all(server.dir.join("streaming")).unwrap();
    std::fs::rename(
        server.dir.join("kept"),
        server.dir.join("streaming").join(name.to_string()),
    )
    .unwrap();
    told(
        &wal::needed(&server, &backup),
        Outcome::Fail,
        "is not archived yet (streaming)",
    );
}

#[test]
fn a_gap_behind_the_backup_is_found() {
    let (_tmp, server, backup) = scene();
    let name = wal_name(1, 8);
    archived(&server, &name, b"");
    told(&wal::needed(&server, &backup), Outcome::Pass, "");
    let check = continuity(&server, &backup);
    told(
        &check,
        Outcome::Fail,
        &format!("segment {} is missing", wal_name(1, 7)),
    );
    told(&check, Outcome::Fail, &format!("goes on to {name}"));
}

#[test]
fn the_way_goes_on_along_the_newest_timeline_that_descends_from_the_backups() {
    let (_tmp, server, backup) = scene();
    for (timeline, number) in [(2, 6), (2, 7), (3, 8)] {
        archived(&server, &wal_name(timeline, number), b"");
    }
    told(
        &continuity(&server, &backup),
        Outcome::Fail,
        "00000003.history is missing",
    );
    put(
        &server.dir.join("wals/00000003.history"),
        b"1\t0/680000\tx\n2\t0/800000\tx\n",
    );
    told(
        &continuity(&server, &backup),
        Outcome::Pass,
        "along the timelines from 1 to 3",
    );
    std::fs::remove_file(place(&server, &wal_name(2, 7))).unwrap();
    told(
        &continuity(&server, &backup),
        Outcome::Fail,
        &format!("segment {} is missing", wal_name(2, 7)),
    );
    // A branch that left before the backup was consistent is none of its business.
    put(
        &server.dir.join("wals/00000003.history"),
        b"1\t0/480000\tx\n",
    );
    put(
        &server.dir.join("wals/00000002.history"),
        b"1\t0/480000\tx\n",
    );
    told(
        &continuity(&server, &backup),
        Outcome::Pass,
        "along timeline 1",
    );
}

#[test]
fn a_segment_of_a_promotion_may_begin_with_its_parents_pages() {
    let name = wal_name(2, 6);
    let bytes = contents(&name, 1, CLUSTER, 128);
    let history = History::parse(Timeline(2), "1\t0/680000\tx\n").unwrap();
    let ours = Some(SystemId(CLUSTER));
    assert!(segment::check(&bytes[..], &name, ours, |t| history.descends_from(t)).is_ok());
    assert!(segment::check(&bytes[..], &name, ours, |t| t == Timeline(2)).is_err());
    assert_eq!(history.segment(wal_name(1, 6)), name);
    assert_eq!(history.timeline_at(Lsn(0x67_FFFF)), Timeline(1));
}
