//! The scheduler with real shells. A binary and one test of its own: the sweep takes every exit
//! status of the process.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use pgnode::config::LogFormat;
use pgnode::sys::{Children, Surroundings, init_log_on, run_crontab};
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

const CRONTAB: &str = "\
GREETING=hello
@reboot me echo \"$GREETING $HOME\" 2>&1 | logger -t barman
@reboot me echo 'WARNING: careful' >&2 | logger -t barman
@reboot me cat; exit 3%some%input
@reboot me (sleep 90 &) ; echo started
";

#[tokio::test]
async fn jobs_run_and_what_they_say_is_logged() {
    let sink = Sink::default();
    init_log_on(sink.clone(), false, LogFormat::Json, "debug").unwrap();
    let children = Children::new();
    let mut chld = signal(SignalKind::child()).unwrap();
    let sweeper = children.clone();
    tokio::spawn(async move {
        while chld.recv().await.is_some() {
            sweeper.sweep();
        }
    });
    let around = Surroundings {
        children: children.clone(),
        env: vec![
            ("PATH".into(), "/usr/bin:/bin".into()),
            ("HOME".into(), "/nowhere".into()),
        ],
        home: "/".into(),
    };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("crontab");
    std::fs::write(&path, CRONTAB).unwrap();
    let task = tokio::spawn(async move { run_crontab(&path, around).await });

    let wanted = [
        r#""source":"barman","message":"hello /nowhere""#,
        r#""level":"WARN","source":"barman","message":"careful""#,
        r#""source":"crond","message":"some""#,
        r#""source":"crond","message":"input""#,
        r#""level":"WARN","source":"crond","message":"a job failed with exit code 3","statement":"cat; exit 3%some%input""#,
        r#""source":"crond","message":"started""#,
        // Its end is seen although a process of it still holds the pipe.
        r#""message":"a job ended","statement":"(sleep 90 &) ; echo started""#,
    ];
    let log = || String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    let all = async {
        while !wanted.iter().all(|w| log().contains(w)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    let done = tokio::time::timeout(Duration::from_secs(60), all).await;
    assert!(done.is_ok(), "{}", log());
    task.abort();
}
