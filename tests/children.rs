//! The owner of children, against the races that were measured elsewhere. A binary of its own: the
//! sweep's `waitpid(-1)` would steal the children of other tests in the same process.

#![expect(clippy::unwrap_used, reason = "a failed set-up fails the test")]

use nix::sys::signal::Signal;
use pgnode::sys::{Children, Exit, Input, Spec, processes};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

/// One test at a time: they share the process's children.
static ALONE: Mutex<()> = Mutex::new(());

const LONG: Duration = Duration::from_secs(60);

/// Runs a test with a table that is swept on SIGCHLD, as the runtime does it.
fn with_children<F: Future<Output = ()>>(test: impl FnOnce(Children) -> F) {
    let _alone = ALONE
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let children = Children::new();
        children.adopt_orphans().unwrap();
        let mut chld = signal(SignalKind::child()).unwrap();
        let sweeping = children.clone();
        let sweeper = tokio::spawn(async move {
            loop {
                let sweeping = sweeping.clone();
                tokio::task::spawn_blocking(move || sweeping.sweep())
                    .await
                    .unwrap();
                chld.recv().await;
            }
        });
        test(children.clone()).await;
        eventually("no child is left", || ours().is_empty()).await;
        assert_eq!(children.known(), 0, "the table is empty");
        sweeper.abort();
    });
}

/// Our children at the moment, zombies included.
fn ours() -> Vec<pgnode::sys::Process> {
    let us = std::process::id().cast_signed();
    processes().into_iter().filter(|p| p.parent == us).collect()
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + LONG;
    while !holds() {
        assert!(
            Instant::now() < deadline,
            "never: {what}; children {:?}",
            ours()
        );
        tokio::task::yield_now().await;
    }
}

fn sh(script: &str) -> Spec {
    Spec::new("/bin/sh", ["-c", script]).env([("PATH", "/usr/bin:/bin")])
}

#[test]
fn four_hundred_at_once_lose_nothing() {
    with_children(|children| async move {
        for _round in 0..3 {
            let before = children.orphans_reaped();
            let mut set = tokio::task::JoinSet::new();
            for i in 0..400_u32 {
                let children = children.clone();
                set.spawn(async move {
                    match i % 4 {
                        0 => {
                            let code = i32::try_from(i % 200).unwrap();
                            let end = children
                                .run(sh(&format!("exit {code}")), LONG)
                                .await
                                .unwrap();
                            assert_eq!(end.exit, Exit::Code(code));
                        }
                        1 => {
                            let end = children.run(sh("kill -9 $$"), LONG).await.unwrap();
                            assert_eq!(end.exit, Exit::Signal(9));
                        }
                        2 => {
                            let missing = Spec::new("/nonexistent/program", [""; 0]);
                            assert!(children.run(missing, LONG).await.is_err());
                        }
                        _ => {
                            // The inner shell is orphaned when the outer one ends.
                            let orphan = "(exec >&- 2>&-; read x </dev/null; exit 3) & exit 7";
                            let end = children.run(sh(orphan), LONG).await.unwrap();
                            assert_eq!(end.exit, Exit::Code(7));
                        }
                    }
                });
            }
            while let Some(done) = set.join_next().await {
                done.unwrap();
            }
            eventually("every orphan is reaped", || {
                children.orphans_reaped() - before == 100 && children.known() == 0
            })
            .await;
        }
    });
}

#[test]
fn a_death_by_real_time_signal_is_told() {
    with_children(|children| async move {
        let end = children.run(sh("kill -36 $$"), LONG).await.unwrap();
        assert_eq!(end.exit, Exit::Signal(36));
    });
}

#[test]
fn a_timeout_kills_the_whole_group_and_tells_the_last_words() {
    with_children(|children| async move {
        let spec = sh("echo so far >&2; sleep 1000 & sleep 1000");
        let failed = children
            .run(spec, Duration::from_secs(5))
            .await
            .unwrap_err();
        assert!(failed.to_string().contains("so far"), "{failed}");
        eventually("the grandchild is gone too", || ours().is_empty()).await;
    });
}

#[test]
fn a_dropped_run_leaves_nothing_behind() {
    with_children(|children| async move {
        let run = children.run(sh("sleep 1000 & sleep 1000"), LONG);
        assert!(
            tokio::time::timeout(Duration::from_millis(200), run)
                .await
                .is_err()
        );
        eventually("all of it has ended", || {
            children.known() == 0 && ours().is_empty()
        })
        .await;
    });
}

#[test]
fn a_grandchild_that_keeps_the_pipe_does_not_hold_up_the_end() {
    with_children(|children| async move {
        let end = children
            .run(sh("sleep 30 & echo done"), LONG)
            .await
            .unwrap();
        assert_eq!((end.exit, end.stdout.trim()), (Exit::Code(0), "done"));
        children.signal_orphans(Signal::SIGKILL, |p| p.name == "sleep");
    });
}

#[test]
fn input_and_output_arrive() {
    with_children(|children| async move {
        let mut spec = sh("read a; echo \"got $a\"; echo oops >&2; env").env([("X", "1")]);
        spec.input = Input::Bytes(b"word\n".to_vec());
        let end = children.run(spec, LONG).await.unwrap();
        assert!(end.stdout.starts_with("got word\n"), "{}", end.stdout);
        assert!(end.stdout.contains("X=1"));
        assert!(
            !end.stdout.contains("CARGO"),
            "the environment is inherited: {}",
            end.stdout
        );
        assert_eq!(end.stderr, "oops\n");
        assert_eq!(end.last_words(), "oops");
    });
}

#[test]
fn lines_come_as_they_are_written() {
    with_children(|children| async move {
        let mut lines = Vec::new();
        let spec = sh("printf 'a\\rb\\nc' >&2");
        children
            .run_with_lines(spec, LONG, |l| lines.push(l.to_owned()))
            .await
            .unwrap();
        assert_eq!(lines, ["a", "b", "c"]);
    });
}

#[test]
fn a_signal_never_reaches_a_stranger() {
    with_children(|children| async move {
        assert!(
            !children.signal(1, Signal::SIGCONT),
            "pid 1 is not in the table"
        );
        let end = children.run(sh("exit 0"), LONG).await.unwrap();
        assert!(end.exit.is_success());
        let us = std::process::id().cast_signed();
        assert!(!children.signal(us, Signal::SIGKILL), "nor are we");
    });
}

#[test]
fn adopted_orphans_can_be_seen_and_ended() {
    with_children(|children| async move {
        children
            .run(sh("sleep 1000 >/dev/null 2>&1 & exit 0"), LONG)
            .await
            .unwrap();
        eventually("it is ours", || {
            children.orphans(|p| p.name == "sleep").len() == 1
        })
        .await;
        assert_eq!(
            children.signal_orphans(Signal::SIGKILL, |p| p.name == "sleep"),
            1
        );
    });
}
