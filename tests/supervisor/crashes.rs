//! What fails, what dies, and what is found of an earlier life.

use super::rig::{GOOD_POSTGRES, Rig};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn programs_that_are_missing_are_named() {
    let mut rig = Rig::new();
    // Only ours: the machine may have its own.
    rig.var("PATH", &rig.path("bin").display().to_string());
    for name in ["pg_basebackup", "repmgr"] {
        std::fs::remove_file(rig.path("bin").join(name)).unwrap();
    }
    let mut node = rig.start();
    node.ends_alone(78);
    let line = node.await_line("pg_basebackup, repmgr not found in PATH=");
    assert!(line.contains("exit=78"), "{line}");
    assert!(!rig.path("volume/data").exists());
}

#[test]
fn no_postgres_at_all() {
    let mut rig = Rig::new();
    rig.var("PATH", &rig.path("bin").display().to_string());
    std::fs::remove_file(rig.path("bin/postgres")).unwrap();
    let mut node = rig.start();
    node.ends_alone(78);
    node.await_line("cannot start postgres");
}

#[test]
fn an_initdb_that_fails_is_quoted_and_nothing_is_put_in_place() {
    for (body, said) in [
        (
            "mkdir \"$2/base\"; echo 'initdb: error: no such locale' >&2; exit 1",
            "exit code 1: initdb: error: no such locale",
        ),
        (
            "mkdir \"$2/base\"; echo 17 >\"$2/PG_VERSION\"; kill -SEGV $$",
            "signal 11 (SIGSEGV)",
        ),
        // More than any buffer keeps; the end is what counts.
        (
            "yes 'a long complaint' | head -n 200000 >&2; echo 'initdb: error: enough' >&2; exit 3",
            "exit code 3: ",
        ),
    ] {
        let rig = Rig::new();
        rig.program("initdb", body);
        let mut node = rig.start();
        node.ends_alone(78);
        let line = node.await_line("nothing was put in place");
        assert!(line.contains(said) && line.contains("exit=78"), "{line}");
        assert!(!rig.path("volume/data").exists());
        // The next start is not hindered by what this one left.
        rig.program("initdb", super::rig::GOOD_INITDB);
        let node = rig.start();
        node.await_state("bootstrap");
    }
}

#[test]
fn control_data_that_cannot_be_read_is_a_persons_business() {
    for body in [
        "exit 1",
        "echo garbage",
        "kill -9 $$",
        "yes | head -c 2000000",
    ] {
        let rig = Rig::standby();
        rig.program("pg_controldata", body);
        let mut node = rig.start();
        node.ends_alone(78);
        node.await_line("neither empty nor a PostgreSQL cluster");
        assert!(rig.path("volume/data/PG_VERSION").exists());
    }
}

#[test]
fn a_postmaster_that_keeps_dying_is_given_up_after_five_restarts() {
    let rig = Rig::standby();
    rig.postgres("echo 'FATAL:  could not map shared memory' >&2; exit 1");
    let mut node = rig.start();
    node.ends_alone(75);
    assert_eq!(node.count("state=recover"), 5);
    assert_eq!(node.count("starting postgres on the consumer port"), 6);
    assert_eq!(node.count("could not map shared memory"), 6);
    assert!(rig.path("volume/data/standby.signal").exists());
}

#[test]
fn on_the_technical_port_a_dead_postmaster_means_a_new_initdb() {
    let rig = Rig::new();
    rig.postgres("up 'ready   '; kill -9 $$");
    let mut node = rig.start();
    node.ends_alone(75);
    assert_eq!(node.count("state=recover"), 5);
    assert_eq!(node.count("state=init "), 6);
    assert!(!rig.path("volume/data").exists());
}

/// Killed while it serves: its backends go first, repmgrd lives on, then it is started again.
#[test]
fn a_killed_postmaster_is_started_again_in_place() {
    let rig = Rig::standby();
    std::fs::create_dir(rig.path("backend")).unwrap();
    std::fs::copy("/usr/bin/sleep", rig.path("backend/postgres")).unwrap();
    rig.postgres(&format!(
        "$ROOT/backend/postgres infinity &\n{GOOD_POSTGRES}"
    ));
    let mut node = rig.start();
    node.await_state("open");
    let repmgrd = super::rig::eventually(|| node.child("repmgrd")).unwrap();
    for round in 1..=2 {
        let pid = super::rig::eventually(|| node.child("postgres")).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
        node.await_lines(
            "orphaned backends did not end by themselves and were killed",
            round,
        );
        let status = node.await_status("open again", |s| {
            s["state"] == "open" && s["restarts"] == round && !s["children"][0]["pid"].is_null()
        });
        assert_ne!(status["children"][0]["pid"], pid);
        assert_eq!(node.child("repmgrd"), Some(repmgrd));
    }
    // One postmaster with its backend, and no other.
    let servers = rig
        .processes()
        .into_iter()
        .filter(|(_, name)| name == "postgres");
    assert_eq!(servers.count(), 2);
    node.signal(Signal::SIGTERM);
    node.ends_alone(0);
}

#[test]
fn a_daemon_that_dies_is_started_again_and_its_end_is_told() {
    let rig = Rig::standby();
    rig.program(
        "repmgrd",
        "[ -e $ROOT/second ] && exec sleep infinity\n[ -e $ROOT/first ] && { : >$ROOT/second; exit 6; }\n: >$ROOT/first; kill -9 $$",
    );
    let mut node = rig.start();
    node.await_line("repmgrd ended with signal 9 (SIGKILL); started again in");
    node.await_line("repmgrd ended with exit code 6; started again in");
    let status = node.await_status("a third repmgrd", |s| {
        let children = s["children"].as_array().cloned().unwrap_or_default();
        children
            .iter()
            .any(|c| c["name"] == "repmgrd" && c["restarts"] == 2 && !c["pid"].is_null())
    });
    assert_eq!(
        (status["state"].as_str(), status["restarts"].as_u64()),
        (Some("open"), Some(0))
    );
    node.signal(Signal::SIGTERM);
    node.ends_alone(0);
}

#[test]
fn stale_lock_files_are_in_nobodys_way() {
    let rig = Rig::standby();
    let pid_file = rig.path("volume/data/postmaster.pid");
    let us = std::process::id();
    for (text, why) in [
        (String::new(), "it is empty"),
        ("junk\n".to_owned(), "it names no pid"),
        (
            "4194304\n/x\n1\n5432\n/x\n*\n1 2\nready   \n".to_owned(),
            "is gone",
        ),
        (
            format!("{us}\n/x\n1\n5432\n/x\n*\n1 2\nready   \n"),
            "no postgres",
        ),
    ] {
        std::fs::write(&pid_file, text).unwrap();
        let mut node = rig.start();
        node.await_state("open");
        let line = node.await_line("removed the stale");
        assert!(line.contains(why), "{line}");
        node.signal(Signal::SIGTERM);
        node.ends_alone(0);
    }
}

#[test]
fn two_nodes_never_share_a_volume() {
    let rig = Rig::standby();
    let mut first = rig.start();
    first.await_state("open");
    let other = |name: &str| rig.path(name).display().to_string();
    let mut second = rig.start_with(&[
        ("PGNODE_HTTP_ADDR", "127.99.99.99:8008"),
        ("PGNODE_RUN_DIR", &other("run2")),
        ("PGNODE_SOCKET_DIR", &other("sock2")),
    ]);
    let line = second.await_line("volume/.pgnode/lock is in use by");
    assert!(line.contains(&format!("(pid {})", first.pid)), "{line}");
    // It would try again for a while, in case the other is about to end.
    second.signal(Signal::SIGTERM);
    assert_eq!(second.end(), 0);
    assert_eq!(second.count("state=survey"), 0);
    first.await_state("open");
    first.signal(Signal::SIGTERM);
    first.ends_alone(0);
}
