//! Streams to events.

use super::*;
use crate::sys::limit::Rate;
use std::sync::{Arc, Mutex};
use tokio::io::AsyncWriteExt as _;
use tracing::Level;

fn plain() -> Format {
    Format::Plain {
        source: "test".into(),
        level: Level::INFO,
    }
}

fn gate(flood: Option<Flood>) -> Gate {
    Gate {
        flood,
        source: "test".into(),
    }
}

async fn read_all(bytes: &[u8], format: Format, flood: Option<Flood>) -> Vec<Said> {
    let mut out = Vec::new();
    let never = std::future::pending();
    carry(bytes, format, gate(flood), never, |s| {
        out.push(s);
    })
    .await;
    out
}

#[tokio::test]
async fn bytes_become_lines_however_they_come() {
    let text = "one\n\ntwo\r\nthrée\nlast without newline";
    for size in 1..=text.len() {
        let mut got = Vec::new();
        let mut lines = Lines::default();
        for chunk in text.as_bytes().chunks(size) {
            lines.push(chunk, |line, cut| got.push((line.to_owned(), cut)));
        }
        lines.end(|line, cut| got.push((line.to_owned(), cut)));
        let texts: Vec<&str> = got.iter().map(|(l, _)| l.as_str()).collect();
        assert_eq!(texts, ["one", "", "two\r", "thrée", "last without newline"]);
    }
    let out = read_all(text.as_bytes(), plain(), None).await;
    assert_eq!(out.len(), 4);
    assert_eq!(out[1].message, "two");
}

#[tokio::test]
async fn a_long_line_is_cut_marked_and_the_next_one_whole() {
    let mut bytes = vec![b'x'; 3 * LONGEST + 5];
    bytes.extend_from_slice(b"\nnext\n");
    let out = read_all(&bytes, plain(), None).await;
    assert_eq!(out[0].message.len(), LONGEST);
    assert_eq!(out[0].cut, Some(2 * LONGEST as u64 + 5));
    assert_eq!((out[1].message.as_str(), out[1].cut), ("next", None));
    // Not in the middle of a character.
    let bytes = format!("x{}\n", "é".repeat(LONGEST));
    let out = read_all(bytes.as_bytes(), plain(), None).await;
    assert!(out[0].message.ends_with('é'));
    // Exactly as long as may be.
    let out = read_all(&[b'y'; LONGEST], plain(), None).await;
    assert_eq!((out[0].message.len(), out[0].cut), (LONGEST, None));
}

#[tokio::test]
async fn bytes_that_are_no_utf_8_are_tolerated() {
    let out = read_all(b"a\xff\xfeb\0c\n\xc3\n", plain(), None).await;
    assert_eq!(out[0].message, "a\u{fffd}\u{fffd}b\0c");
    assert_eq!(out[1].message, "\u{fffd}");
}

#[tokio::test(start_paused = true)]
async fn an_event_is_given_out_when_nothing_more_comes() {
    let (mut writer, reader) = tokio::io::duplex(1024);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let format = Format::Repmgr {
        source: "repmgrd".into(),
    };
    let task = tokio::spawn(async move {
        let never = std::future::pending();
        carry(reader, format, gate(None), never, |s| {
            log.lock().unwrap().push((s, Instant::now()));
        })
        .await;
    });
    let began = Instant::now();
    writer
        .write_all(b"[2026-11-21 08:50:11] [ERROR] failed\n")
        .await
        .unwrap();
    writer
        .write_all(b"[2026-11-21 08:50:11] [DETAIL] because\n")
        .await
        .unwrap();
    // Paused time moves only when everybody waits: for the quiet of the first event.
    tokio::time::sleep(QUIET * 3).await;
    {
        let seen = seen.lock().unwrap();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].0.detail.as_deref(), Some("because"));
        assert!(seen[0].1 >= began + QUIET);
    }
    drop(writer);
    task.await.unwrap();
    assert_eq!(seen.lock().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_flood_is_counted_and_its_end_reported_without_another_line() {
    let (mut writer, reader) = tokio::io::duplex(1 << 20);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let flood = Flood::of_each_shape(Rate::REPMGRD);
    let task = tokio::spawn(async move {
        let never = std::future::pending();
        carry(reader, plain(), gate(Some(flood)), never, |s| {
            log.lock().unwrap().push(s);
        })
        .await;
    });
    for i in 0..57 {
        writer
            .write_all(format!("sleeping {i} seconds\n").as_bytes())
            .await
            .unwrap();
    }
    writer.write_all(b"another matter\n").await.unwrap();
    tokio::time::sleep(Duration::from_secs(10)).await;
    {
        let seen = seen.lock().unwrap();
        assert_eq!(seen.len(), 20 + 1 + 1, "{seen:#?}");
        assert_eq!(seen[20].message, "another matter");
        assert_eq!(seen[21].dropped, Some(37));
        assert_eq!(
            seen[21].message,
            "more lines like this were left out: sleeping 56 seconds"
        );
    }
    writer.write_all(b"sleeping 1 seconds\n").await.unwrap();
    drop(writer);
    task.await.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!((seen.len(), seen[22].dropped), (23, None));
}

#[tokio::test]
async fn the_end_of_the_stream_reports_what_was_dropped() {
    let lines = "again\n".repeat(30);
    let flood = Flood::of_all(Rate::REPMGRD);
    let out = read_all(lines.as_bytes(), plain(), Some(flood)).await;
    assert_eq!(out.len(), 21);
    assert_eq!(out[20].dropped, Some(10));
}

#[tokio::test]
async fn a_fifo_outlives_its_writers_and_is_read_empty_when_told_to_stop() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("postgres.json");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let reader = open_fifo(&path).unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let task = tokio::spawn(async move {
        let stop = async { drop(stopped.await) };
        carry(reader, plain(), gate(None), stop, |s| {
            log.lock().unwrap().push(s.message);
        })
        .await;
    });
    for text in ["first\n", "second\n", "database system is shut down\n"] {
        // A writer of its own each time, as a restarted postgres is.
        std::fs::write(&path, text).unwrap();
    }
    stop.send(()).unwrap();
    task.await.unwrap();
    assert_eq!(
        *seen.lock().unwrap(),
        ["first", "second", "database system is shut down"]
    );
}
