use super::*;
use crate::config::Format;
use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::symlink;

fn plan(pgdata: &Path, format: Format) -> Plan {
    Plan {
        id: "20261121T010000".into(),
        system_id: "7".into(),
        pgdata: pgdata.to_owned(),
        tablespaces: Vec::new(),
        major: 17,
        outside: Vec::new(),
        codec: Codec {
            format,
            level: None,
        },
        part_size: 1000,
        longest: u64::MAX,
    }
}

fn data() -> tempfile::TempDir {
    let tmp = tempfile::tempdir().unwrap();
    for dir in ["global", "base/1", "pg_wal", "pg_tblspc"] {
        std::fs::create_dir_all(tmp.path().join(dir)).unwrap();
    }
    for (file, text) in [
        ("PG_VERSION", "17\n".to_owned()),
        ("global/pg_control", "control".to_owned()),
        ("global/1260", "y".repeat(700)),
        ("base/1/1249", "x".repeat(70_000)),
        ("base/1/1255", String::new()),
    ] {
        std::fs::write(tmp.path().join(file), text).unwrap();
    }
    tmp
}

/// What the uploader would have stored.
type Objects = BTreeMap<String, Vec<u8>>;

/// Copies while `meanwhile` acts on the directory before the first byte.
fn copy(plan: Plan) -> Objects {
    let (to, mut from) = tokio::sync::mpsc::channel(1);
    let work = std::thread::spawn(move || {
        let read = Arc::new(AtomicU64::new(0));
        let copier = Copier::begin(plan, to, read).unwrap();
        copier.copy().unwrap().finish("LABEL\n").unwrap()
    });
    let mut names = BTreeMap::new();
    let mut objects = Objects::new();
    let mut ended = 0;
    while let Some(piece) = from.blocking_recv() {
        match piece {
            Piece::Begin { object, name } => {
                objects.insert(name.clone(), Vec::new());
                names.insert(object, name);
            }
            Piece::Part { object, bytes } => {
                assert!(bytes.len() <= 1000);
                objects.get_mut(&names[&object]).unwrap().extend(&bytes);
            }
            Piece::End { .. } => ended += 1,
        }
    }
    work.join().unwrap();
    assert_eq!(ended, objects.len());
    objects
}

/// Members of an archive: name and contents.
fn members(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    assert_eq!(bytes.len() as u64 % RECORD, 0);
    let mut archive = tar::Archive::new(bytes);
    let entries = archive.entries().unwrap();
    entries
        .map(|entry| {
            let mut entry = entry.unwrap();
            let name = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
            let mut contents = Vec::new();
            entry.read_to_end(&mut contents).unwrap();
            (name, contents)
        })
        .collect()
}

fn names(bytes: &[u8]) -> Vec<String> {
    members(bytes).into_iter().map(|(name, _)| name).collect()
}

fn lines(objects: &Objects) -> Vec<Line> {
    let text = String::from_utf8(objects[MANIFEST].clone()).unwrap();
    text.lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect()
}

#[test]
fn a_data_directory_becomes_an_archive_with_the_label_last() {
    let tmp = data();
    let hba = tempfile::NamedTempFile::with_suffix("pg_hba.conf").unwrap();
    let hba_name = hba
        .path()
        .file_name()
        .unwrap()
        .to_string_lossy()
        .into_owned();
    let mut plan = plan(tmp.path(), Format::None);
    plan.outside = vec![hba.path().to_owned(), "/nowhere/pg_ident.conf".into()];
    let objects = copy(plan);
    let data = &objects["data.tar"];
    let want = [
        "./",
        "./PG_VERSION",
        "base/",
        "base/1/",
        "base/1/1249",
        "base/1/1255",
        "global/",
        "global/1260",
        "pg_tblspc/",
        "pg_wal/",
        "global/pg_control",
        &hba_name,
        "backup_label",
    ];
    assert_eq!(names(data), want);
    assert_eq!(members(data)[4].1, "x".repeat(70_000).into_bytes());
    assert_eq!(members(data)[12].1, b"LABEL\n");
}

#[test]
fn the_list_has_every_file_in_order_and_every_archive_with_its_checksum() {
    let tmp = data();
    for format in [Format::None, Format::Gzip, Format::Bzip2, Format::Snappy] {
        let objects = copy(plan(tmp.path(), format));
        let archive = format!("data.tar{}", format.extension());
        let lines = lines(&objects);
        assert!(
            matches!(&lines[0], Line::Backup { manifest: 1, id, .. } if id == "20261121T010000")
        );
        let paths: Vec<&str> = lines
            .iter()
            .filter_map(|l| match l {
                Line::File { path, .. } => Some(path.as_str()),
                _ => None,
            })
            .collect();
        let want = [
            "./PG_VERSION",
            "base/1/1249",
            "base/1/1255",
            "global/1260",
            "global/pg_control",
            "backup_label",
        ];
        assert_eq!(paths, want);
        let stored = &objects[&archive];
        let sum = Line::Archive {
            archive: archive.clone(),
            size: stored.len() as u64,
            sha256: hex(&Sha256::digest(stored)),
        };
        assert_eq!(lines[lines.len() - 2], sum);
        assert_eq!(
            *lines.last().unwrap(),
            Line::End {
                files: 6,
                archives: 1
            }
        );
        let label = Line::File {
            archive: archive.clone(),
            path: "backup_label".into(),
            size: 6,
            sha256: hex(&Sha256::digest(b"LABEL\n")),
        };
        assert_eq!(lines[lines.len() - 3], label);
        let mut plain = Vec::new();
        // One stream, and no decoder that would go on after its end.
        match format {
            Format::Gzip => flate2::read::GzDecoder::new(stored.as_slice()).read_to_end(&mut plain),
            Format::Bzip2 => bzip2::read::BzDecoder::new(stored.as_slice()).read_to_end(&mut plain),
            Format::Snappy => {
                snap::read::FrameDecoder::new(stored.as_slice()).read_to_end(&mut plain)
            }
            _ => Ok(0),
        }
        .unwrap();
        if format != Format::None {
            assert_eq!(names(&plain).last().unwrap(), "backup_label");
        }
    }
}

#[test]
fn an_archive_that_grows_too_large_is_continued_in_a_whole_one() {
    let tmp = data();
    let mut plan = plan(tmp.path(), Format::None);
    plan.longest = 60_000;
    let objects = copy(plan);
    let archives: Vec<&str> = objects.keys().map(String::as_str).collect();
    assert_eq!(archives, ["data.tar", "data_0001.tar", MANIFEST]);
    assert_eq!(names(&objects["data.tar"]).last().unwrap(), "base/1/1249");
    assert_eq!(names(&objects["data_0001.tar"])[0], "base/1/1255");
    let listed = lines(&objects);
    assert!(listed.iter().any(
        |l| matches!(l, Line::File { archive, path, .. } if archive == "data_0001.tar" && path == "backup_label")
    ));
}

#[test]
fn tablespaces_have_archives_of_their_own_and_come_first() {
    let tmp = data();
    let space = tempfile::tempdir().unwrap();
    let dir = space.path().join("PG_17_202406281/5");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("16390"), "rows").unwrap();
    symlink(space.path(), tmp.path().join("pg_tblspc/16385")).unwrap();
    let inside = tmp.path().join("inside");
    std::fs::create_dir_all(inside.join("PG_17_202406281/5")).unwrap();
    let mut plan = plan(tmp.path(), Format::None);
    let tablespace = |oid, location: &Path| Tablespace {
        name: "t".into(),
        oid,
        location: location.to_owned(),
    };
    plan.tablespaces = vec![tablespace(16385, space.path()), tablespace(16386, &inside)];
    let objects = copy(plan);
    assert_eq!(
        names(&objects["16385.tar"]),
        [
            "./",
            "PG_17_202406281/",
            "PG_17_202406281/5/",
            "PG_17_202406281/5/16390"
        ]
    );
    assert_eq!(
        names(&objects["16386.tar"]),
        ["./", "PG_17_202406281/", "PG_17_202406281/5/"]
    );
    let data = names(&objects["data.tar"]);
    assert!(data.contains(&"pg_tblspc/".to_owned()) && !data.iter().any(|n| n.contains("inside")));
    assert!(!data.iter().any(|n| n.contains("16385")), "{data:?}");
    match &lines(&objects)[1] {
        Line::File { archive, .. } => assert_eq!(archive, "16385.tar"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn wal_that_lies_elsewhere_is_not_copied() {
    let tmp = data();
    let wal = tempfile::tempdir().unwrap();
    std::fs::write(wal.path().join("000000010000000000000001"), "wal").unwrap();
    std::fs::remove_dir(tmp.path().join("pg_wal")).unwrap();
    symlink(wal.path(), tmp.path().join("pg_wal")).unwrap();
    let objects = copy(plan(tmp.path(), Format::None));
    let names = names(&objects["data.tar"]);
    assert!(
        !names
            .iter()
            .any(|n| n.contains("pg_wal") || n.contains("0000000")),
        "{names:?}"
    );
    assert_eq!(names.last().map(String::as_str), Some("backup_label"));
}

#[test]
fn a_file_keeps_the_size_it_had_whatever_postgres_does_to_it() {
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("f");
    let contents = |size: u64| {
        let (to, mut from) = tokio::sync::mpsc::channel(100);
        let plan = plan(tmp.path(), Format::None);
        let open = File::open(&path).unwrap();
        let shown = path.clone();
        std::thread::spawn(move || {
            let mut copier = Copier::begin(plan, to, Arc::default()).unwrap();
            copier.write(None, b"").unwrap();
            let sum = copier.contents(open, size, &shown).unwrap();
            copier.open.take().unwrap().packer.end().unwrap();
            drop(copier);
            let mut bytes = Vec::new();
            while let Ok(piece) = from.try_recv() {
                if let Piece::Part {
                    object: 1,
                    bytes: b,
                } = piece
                {
                    bytes.extend(b);
                }
            }
            assert_eq!(sum, Sha256::digest(&bytes).to_vec());
            bytes
        })
        .join()
        .unwrap()
    };
    std::fs::write(&path, "abc").unwrap();
    // It had eight bytes when its header was written.
    assert_eq!(contents(8), b"abc\0\0\0\0\0");
    // It had two.
    assert_eq!(contents(2), b"ab");
    File::options()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(b"d")
        .unwrap();
    assert_eq!(contents(4), b"abcd");
    assert_eq!(contents(0), b"");
}

#[test]
fn a_data_directory_without_its_control_file_is_no_backup() {
    let tmp = data();
    std::fs::remove_file(tmp.path().join("global/pg_control")).unwrap();
    let plan = plan(tmp.path(), Format::None);
    let (to, mut from) = tokio::sync::mpsc::channel(1);
    let work = std::thread::spawn(move || {
        Copier::begin(plan, to, Arc::default())
            .unwrap()
            .copy()
            .map(drop)
    });
    while from.blocking_recv().is_some() {}
    let error = work.join().unwrap().unwrap_err();
    assert!(error.to_string().contains("global/pg_control"), "{error}");
}

#[test]
fn a_copy_ends_when_the_uploader_is_gone() {
    let tmp = data();
    let plan = plan(tmp.path(), Format::None);
    let (to, from) = tokio::sync::mpsc::channel(1);
    drop(from);
    let error = std::thread::spawn(move || Copier::begin(plan, to, Arc::default()).map(drop))
        .join()
        .unwrap()
        .unwrap_err();
    assert!(error.to_string().contains("the upload ended"), "{error}");
}
