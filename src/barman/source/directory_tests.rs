use super::*;
use crate::barman::Source;

fn server(dir: &Path) -> Server {
    let data = dir.join("base/20261121T080000/data/base/1");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("1259"), [7; 300]).unwrap();
    std::fs::write(data.join("../../PG_VERSION"), "17\n").unwrap();
    let wals = dir.join("wals/0000000100000000");
    std::fs::create_dir_all(&wals).unwrap();
    std::fs::write(wals.join("000000010000000000000001"), [0, 0xD1, 1]).unwrap();
    let info = "status=DONE\nxlog_segment_size=16777216\n";
    std::fs::write(dir.join("base/20261121T080000/backup.info"), info).unwrap();
    Server::at(dir.to_owned())
}

#[tokio::test]
async fn a_source_that_went_away_is_lost_and_not_empty() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("main");
    let source = Source::Directory(server(&dir));
    let id = "20261121T080000";
    let there = "000000010000000000000001";
    let next = "000000010000000000000002";
    let wal = source.wal(there, id).await.unwrap().unwrap();
    assert_eq!(wal.bytes, [0, 0xD1, 1]);
    assert_eq!(source.wal(next, id).await.unwrap(), None);
    // Another catalogue than the one that the backup is from.
    assert!(
        source
            .wal(next, "20261121T090000")
            .await
            .unwrap_err()
            .is_lost()
    );
    std::fs::rename(&dir, tmp.path().join("away")).unwrap();
    for name in [there, next, "00000002.history"] {
        assert!(source.wal(name, id).await.unwrap_err().is_lost(), "{name}");
    }
    // What a mount point looks like without its mount.
    std::fs::create_dir(&dir).unwrap();
    assert!(source.wal(next, id).await.unwrap_err().is_lost());
    assert!(source.backups().await.unwrap_err().is_lost());
    assert!(source.history(Timeline(2)).await.unwrap_err().is_lost());
    std::fs::create_dir(dir.join("wals")).unwrap();
    assert!(source.wal(next, id).await.unwrap_err().is_lost());
}

#[tokio::test]
async fn a_tablespace_goes_to_its_own_place() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("main");
    let id = "20261121T080000";
    let server = server(&dir);
    let info = dir.join("base").join(id).join("backup.info");
    let text = std::fs::read_to_string(&info).unwrap();
    let text = format!("{text}tablespaces=[('fast', 16385, '/mnt/fast')]\n");
    std::fs::write(info, text).unwrap();
    let source = Source::Directory(server);
    let backup = source.backups().await.unwrap().remove(0);
    // Its metadata say more than there is.
    let error = source.entries(&backup).await.unwrap_err();
    assert!(error.to_string().contains("no files of tablespace fast"));
    assert!(!error.is_lost());

    let space = backup.tablespace_dir(16385);
    std::fs::create_dir_all(space.join("PG_17_1/5")).unwrap();
    std::fs::write(space.join("PG_17_1/5/16400"), "rows").unwrap();
    let links = backup.data_dir().join("pg_tblspc");
    std::fs::create_dir(&links).unwrap();
    std::os::unix::fs::symlink(&space, links.join("16385")).unwrap();
    let entries = source.entries(&backup).await.unwrap();
    let (data, fast) = (tmp.path().join("data"), tmp.path().join("fast"));
    for made in [&data, &fast] {
        std::fs::create_dir(made).unwrap();
    }
    let places = Places {
        tablespaces: [(16385, fast.clone())].into(),
        ..Places::of(&data)
    };
    let done = Arc::new(AtomicU64::new(0));
    source
        .copy(&backup, entries, &places, None, done)
        .await
        .unwrap();
    let rows = std::fs::read_to_string(fast.join("PG_17_1/5/16400"));
    assert_eq!(rows.unwrap(), "rows");
    assert!(data.join("base/1/1259").is_file());
    // The backup's own link leads into the backup.
    let links = std::fs::read_dir(data.join("pg_tblspc")).unwrap();
    assert_eq!(links.count(), 0);
}

#[tokio::test]
async fn a_copy_is_whole_or_an_error() {
    let tmp = tempfile::tempdir().unwrap();
    let source = Source::Directory(server(&tmp.path().join("main")));
    let backup = source.backups().await.unwrap().remove(0);
    let mut entries = source.entries(&backup).await.unwrap();
    let done = Arc::new(AtomicU64::new(0));
    let to = tmp.path().join("to");
    std::fs::create_dir(&to).unwrap();
    let copy = |entries, to: PathBuf, done| {
        let (source, backup) = (source.clone(), backup.clone());
        async move {
            let places = Places::of(&to);
            source.copy(&backup, entries, &places, None, done).await
        }
    };
    copy(entries.clone(), to.clone(), done.clone())
        .await
        .unwrap();
    assert_eq!(std::fs::read(to.join("base/1/1259")).unwrap(), [7; 300]);
    assert_eq!(done.load(Ordering::Relaxed), 303);
    for entry in &mut entries {
        if let EntryKind::File(bytes) = &mut entry.kind {
            *bytes += 1;
        }
    }
    let other = tmp.path().join("other");
    std::fs::create_dir(&other).unwrap();
    let error = copy(entries, other, done).await.unwrap_err();
    assert!(error.is_lost(), "{error}");
}
