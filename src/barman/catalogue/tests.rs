use super::*;
use crate::domain::{History, Lsn, Timeline};
use std::io::{Read as _, Write as _};
use tempfile::TempDir;

const SIZE: u64 = WalName::DEFAULT_SEGMENT_SIZE;

fn server() -> (TempDir, Server) {
    let tmp = tempfile::tempdir().unwrap();
    let server = Server::at(tmp.path().join("pg1"));
    (tmp, server)
}

fn put(server: &Server, path: &str, contents: impl AsRef<[u8]>) {
    let path = server.dir.join(path);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, contents).unwrap();
}

fn backup(server: &Server, id: &str, text: &str) {
    put(server, &format!("meta/{id}-backup.info"), text);
}

fn segments(server: &Server, names: &[&str]) {
    for name in names {
        put(server, &format!("wals/{}/{name}", &name[..16]), "");
    }
}

fn wal(name: &str) -> WalName {
    WalName::parse(name, SIZE).unwrap()
}

const A: &str = "20261121T070000";
const B: &str = "20261121T080000";
const C: &str = "20261121T090000";

#[test]
fn a_catalogue_that_grew_up_is_read_from_both_places() {
    let (_tmp, server) = server();
    assert_eq!(server.backups().unwrap(), []);
    put(
        &server,
        &format!("base/{A}/backup.info"),
        "end_time=None\nerror=a=b\nstatus=FAILED\n",
    );
    put(
        &server,
        &format!("base/{B}/backup.info"),
        "status=STARTED\n",
    );
    std::fs::create_dir_all(server.dir.join("base").join(C)).unwrap();
    std::fs::create_dir_all(server.dir.join("base/lost+found")).unwrap();
    let new = "end_time=2026-11-21 08:00:03.500000+00:00\nsize=30212096\nstatus=DONE\n";
    backup(&server, B, new);
    put(
        &server,
        &format!("meta/{B}-backup.info.tmp"),
        "status=FAILED\n",
    );
    let all = server.backups().unwrap();
    assert_eq!(all.len(), 2);
    assert_eq!(
        (all[0].status.clone(), all[0].end_ms),
        (BackupStatus::Failed, None)
    );
    assert!(all[1].is_done());
    assert_eq!(
        (all[1].end_ms, all[1].size),
        (Some(1_795_248_003_500), Some(30_212_096))
    );
    assert_eq!(all[1].dir, server.dir.join("base").join(B));
}

#[test]
fn a_backup_is_kept_by_an_annotation_of_either_age() {
    let (_tmp, server) = server();
    for id in [A, B, C] {
        backup(&server, id, "status=DONE\n");
    }
    put(&server, &format!("base/{A}/annotations/keep"), "full");
    put(&server, &format!("meta/{B}-keep"), "standalone");
    let keep: Vec<_> = server.backups().unwrap().iter().map(|b| b.keep).collect();
    assert_eq!(keep, [Some(Keep::Full), Some(Keep::Standalone), None]);
    put(&server, &format!("meta/{B}-keep"), "for ever");
    assert_eq!(server.backups().unwrap()[1].keep, Some(Keep::Full));
    assert!(matches!(server.backup(B), Err(BarmanError::Garbled { .. })));
}

#[test]
fn a_backup_is_found_by_id_name_and_barmans_words() {
    let (_tmp, server) = server();
    backup(
        &server,
        A,
        "status=DONE\nmode=postgres\nbackup_name=nightly\n",
    );
    backup(
        &server,
        B,
        &format!("status=WAITING_FOR_WALS\nmode=postgres\nparent_backup_id={A}\n"),
    );
    backup(&server, C, "status=FAILED\nmode=postgres\n");
    for (wanted, id) in [
        (A, A),
        (C, C),
        ("nightly", A),
        ("latest", B),
        ("last", B),
        ("oldest", A),
        ("first", A),
        ("latest-full", A),
        ("last-full", A),
        ("last-failed", C),
    ] {
        assert_eq!(server.backup(wanted).unwrap().id, id, "{wanted}");
    }
    let error = server.backup("weekly").unwrap_err().to_string();
    assert_eq!(
        error,
        format!("pg1 has no backup `weekly`; it has 2 from {A} to {B} (`pgnode backup list`)")
    );
    backup(&server, B, "status=DONE\nbackup_name=nightly\n");
    let error = server.backup("nightly").unwrap_err().to_string();
    assert!(error.contains(&format!("{A}, {B}; give one")), "{error}");
}

#[test]
fn the_chain_of_an_incremental_backup_begins_with_the_full_one() {
    let (_tmp, server) = server();
    backup(&server, A, "status=DONE\n");
    backup(&server, B, &format!("status=DONE\nparent_backup_id={A}\n"));
    backup(&server, C, &format!("status=DONE\nparent_backup_id={B}\n"));
    let ids = |wanted: &str| -> Vec<String> {
        server
            .chain(wanted)
            .unwrap()
            .into_iter()
            .map(|b| b.id)
            .collect()
    };
    assert_eq!(ids("latest"), [A, B, C]);
    assert_eq!(ids(A), [A]);
    backup(&server, B, &format!("status=DONE\nparent_backup_id={B}\n"));
    assert!(matches!(
        server.chain(C),
        Err(BarmanError::BrokenChain { .. })
    ));
    std::fs::remove_file(server.dir.join(format!("meta/{B}-backup.info"))).unwrap();
    let error = server.chain(C).unwrap_err().to_string();
    assert!(error.contains(C) && error.contains(B), "{error}");
}

#[test]
fn a_wal_file_is_looked_for_where_it_may_be() {
    let (_tmp, server) = server();
    let name = "000000010000000000000006";
    let place = |name: &str| server.wal_file(name).unwrap().map(|f| f.place);
    assert_eq!(place(name), None);
    put(
        &server,
        &format!("wals/0000000100000000/{name}.partial"),
        "",
    );
    assert_eq!(place(name), Some(Place::ArchivedPartial));
    put(&server, &format!("streaming/{name}.partial"), "");
    assert_eq!(place(name), Some(Place::Partial));
    put(&server, &format!("streaming/{name}"), "");
    assert_eq!(place(name), Some(Place::Streaming));
    put(&server, &format!("incoming/{name}"), "");
    assert_eq!(place(name), Some(Place::Incoming));
    put(&server, &format!("wals/0000000100000000/{name}"), "12345");
    assert_eq!(place(name), Some(Place::Archived));
    assert_eq!(server.wal_file(name).unwrap().unwrap().bytes, 5);
    put(
        &server,
        "wals/00000002.history",
        "1\t0/3000000\tno recovery target specified\n",
    );
    assert_eq!(place("00000002.history"), Some(Place::Archived));
    put(&server, "secret", "");
    for name in [
        "../secret",
        "../../secret",
        "",
        "x",
        "000000010000000000000006/../../secret",
        "é00000010000000000000006",
    ] {
        assert_eq!(place(name), None, "{name}");
    }
}

fn packed(codec: &str, plain: &[u8]) -> Vec<u8> {
    match codec {
        "gzip" => {
            let mut w = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            w.write_all(plain).unwrap();
            w.finish().unwrap()
        }
        "bzip2" => {
            let mut w = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
            w.write_all(plain).unwrap();
            w.finish().unwrap()
        }
        "lz4" => {
            let mut w = lz4_flex::frame::FrameEncoder::new(Vec::new());
            w.write_all(plain).unwrap();
            w.finish().unwrap()
        }
        "zstd" => zstd::stream::encode_all(plain, 1).unwrap(),
        _ => plain.to_vec(),
    }
}

/// `timeline` and a newline, packed by Python's lzma, which barman uses.
const XZ: &[u8] = include_bytes!("samples/word.xz");

#[test]
fn a_wal_file_is_unpacked_by_what_its_first_bytes_say() {
    let (_tmp, server) = server();
    let name = "000000010000000000000006";
    let mut plain = vec![0x16, 0xD1];
    plain.resize(100_000, 7);
    let read = || {
        let mut back = Vec::new();
        let file = server.wal_file(name).unwrap().unwrap();
        file.open()?.read_to_end(&mut back)?;
        Ok::<_, std::io::Error>(back)
    };
    for codec in ["plain", "gzip", "bzip2", "lz4", "zstd"] {
        let bytes = packed(codec, &plain);
        put(&server, &format!("streaming/{name}"), &bytes);
        assert!(read().unwrap() == plain, "{codec}");
        if codec != "plain" {
            put(
                &server,
                &format!("streaming/{name}"),
                &bytes[..bytes.len() / 2],
            );
            assert!(read().is_err(), "{codec} cut off");
        }
    }
    put(&server, &format!("streaming/{name}"), XZ);
    assert_eq!(read().unwrap(), b"timeline\n");
    put(
        &server,
        &format!("streaming/{name}"),
        [0x85, 0x01, 0x8C, 0x03, 0, 1, 2],
    );
    let error = read().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
    assert!(error.to_string().contains("gpg"), "{error}");
    put(&server, &format!("streaming/{name}"), [0; 64]);
    assert_eq!(read().unwrap_err().kind(), std::io::ErrorKind::InvalidData);
    put(&server, &format!("streaming/{name}"), "");
    assert_eq!(read().unwrap(), b"");
}

#[test]
fn the_archive_is_told_as_ranges_and_gaps() {
    let (_tmp, server) = server();
    assert_eq!(server.archive(SIZE).unwrap(), Archive::default());
    segments(
        &server,
        &[
            "0000000100000000000000FE",
            "0000000100000000000000FF",
            "000000010000000100000000",
            "000000010000000100000003",
            "000000020000000100000003",
            "000000020000000100000004",
        ],
    );
    put(&server, "wals/00000002.history", "");
    put(&server, "wals/pg1-xlog.db", "");
    for odd in [
        "0000000100000001.tmp",
        "000000010000000100000001.tmp",
        "000000010000000100000003.00000028.backup",
        "000000010000000100000007.partial",
    ] {
        put(&server, &format!("wals/0000000100000001/{odd}"), "");
    }
    let archive = server.archive(SIZE).unwrap();
    let told: Vec<(String, String)> = archive
        .ranges
        .iter()
        .map(|r| (r.first.to_string(), r.last.to_string()))
        .collect();
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(
        told,
        [
            pair("0000000100000000000000FE", "000000010000000100000000"),
            pair("000000010000000100000003", "000000010000000100000003"),
            pair("000000020000000100000003", "000000020000000100000004"),
        ]
    );
    let gaps: Vec<WalRange> = archive.gaps().collect();
    assert_eq!(gaps.len(), 1);
    assert_eq!(gaps[0].first, wal("000000010000000100000001"));
    assert_eq!(
        (gaps[0].last, gaps[0].count()),
        (wal("000000010000000100000002"), 2)
    );
    assert_eq!((archive.strange, archive.count()), (1, 6));
    assert_eq!(archive.histories, [Timeline(2)]);
    assert_eq!(
        archive.newest(Timeline(1)),
        Some(wal("000000010000000100000003"))
    );
    assert_eq!(archive.newest_timeline(), Some(Timeline(2)));
}

#[test]
fn archived_segments_are_counted_across_directories() {
    let (_tmp, server) = server();
    let (first, last) = (
        wal("000000010000000000000010"),
        wal("000000010000000200000001"),
    );
    assert_eq!(server.archived_between(first, last).unwrap(), 0);
    segments(
        &server,
        &[
            "00000001000000000000000F",
            "000000010000000000000010",
            "0000000100000000000000FF",
            "000000010000000100000080",
            "000000010000000200000001",
            "000000010000000200000002",
        ],
    );
    assert_eq!(server.archived_between(first, last).unwrap(), 4);
    assert_eq!(server.archived_between(first, first).unwrap(), 1);
    assert_eq!(server.archived_between(last, first).unwrap(), 0);
}

#[test]
fn replay_reaches_across_timelines_as_far_as_there_is_no_gap() {
    let (_tmp, server) = server();
    segments(
        &server,
        &[
            "000000010000000000000003",
            "000000010000000000000004",
            "000000010000000000000005",
            // Written by the old primary after the new one was promoted.
            "000000010000000000000006",
            "000000010000000000000007",
            "000000020000000000000006",
            "000000020000000000000007",
            "000000020000000000000009",
        ],
    );
    let archive = server.archive(SIZE).unwrap();
    let history =
        History::parse(Timeline(2), "1\t0/6000100\tno recovery target specified\n").unwrap();
    let from = |name: &str| archive.reach(wal(name), &history);
    assert_eq!(
        from("000000010000000000000003"),
        Some(wal("000000020000000000000007"))
    );
    assert_eq!(
        from("000000020000000000000009"),
        Some(wal("000000020000000000000009"))
    );
    assert_eq!(from("000000010000000000000002"), None);
    let alone = History::without_past(Timeline(1));
    assert_eq!(
        archive.reach(wal("000000010000000000000003"), &alone),
        Some(wal("000000010000000000000007"))
    );
    // At a boundary the old timeline ends with the segment before.
    let history = History {
        past: vec![crate::domain::Switch {
            timeline: Timeline(1),
            end: Lsn(0x600_0000),
        }],
        timeline: Timeline(2),
    };
    assert_eq!(
        archive.reach(wal("000000010000000000000005"), &history),
        Some(wal("000000020000000000000007"))
    );
}

#[test]
fn a_timelines_history_is_read_from_the_archive() {
    let (_tmp, server) = server();
    assert_eq!(server.history(Timeline(1)).unwrap().unwrap().past, []);
    assert_eq!(server.history(Timeline(2)).unwrap(), None);
    put(
        &server,
        "wals/00000002.history",
        packed("gzip", b"1\t0/3000000\tno recovery target specified\n"),
    );
    let history = server.history(Timeline(2)).unwrap().unwrap();
    assert_eq!(history.end_of(Timeline(1)), Some(Lsn(0x300_0000)));
    put(&server, "wals/00000002.history", "what\n");
    assert_eq!(
        server.history(Timeline(2)).unwrap_err().kind(),
        std::io::ErrorKind::InvalidData
    );
}

#[test]
fn the_cluster_is_known_from_barmans_identity_file() {
    let (_tmp, server) = server();
    assert_eq!(server.identity().unwrap(), None);
    put(
        &server,
        "identity.json",
        "{\n  \"systemid\": \"7710716249646309413\",\n  \"version\": \"17\"\n}",
    );
    assert_eq!(
        server.identity().unwrap(),
        Some(SystemId(7_710_716_249_646_309_413))
    );
}
