//! Stops: from every state that scripts can reach, while whatever runs there does its worst.

use super::rig::{Rig, eventually};
use nix::sys::signal::Signal;

const DEAF: &str = "trap '' INT QUIT TERM HUP\n";
/// Lives on when its parent is gone, three generations of it.
const ORPHANS: &str = "(trap '' TERM; (sleep infinity & sleep infinity & wait) & wait) &\n";

fn nothing_is_half_made(rig: &Rig) {
    assert!(!rig.path("volume/data").exists(), "PGDATA was touched");
}

#[test]
fn term_before_the_first_state() {
    let rig = Rig::standby();
    rig.script(
        "postgres",
        &format!("{DEAF}: >$ROOT/deaf; exec sleep infinity"),
    );
    let mut node = rig.start();
    eventually(|| rig.path("deaf").exists().then_some(())).unwrap();
    node.signal(Signal::SIGTERM);
    assert_eq!(node.end(), 0);
    // Killed, not awaited.
    eventually(|| rig.processes().is_empty().then_some(())).unwrap();
}

#[test]
fn term_while_the_disk_is_looked_at() {
    let rig = Rig::standby();
    rig.program("pg_controldata", &format!("{DEAF}{ORPHANS}sleep infinity"));
    let mut node = rig.start();
    node.await_state("survey");
    node.signal(Signal::SIGTERM);
    node.ends_alone(0);
}

#[test]
fn term_while_initdb_hangs() {
    let rig = Rig::new();
    rig.program(
        "initdb",
        &format!("mkdir -p \"$2/base\"; echo 17 >\"$2/PG_VERSION\"\n{DEAF}{ORPHANS}sleep infinity"),
    );
    let mut node = rig.start();
    node.await_state("init");
    node.signal(Signal::SIGTERM);
    node.ends_alone(0);
    nothing_is_half_made(&rig);
}

#[test]
fn term_while_a_slave_waits_for_its_master() {
    let mut rig = Rig::new();
    rig.var("REPMGR_MASTER", "false");
    // Nobody listens there.
    rig.var("REPMGR_PRIMARY_HOST", "127.0.0.1");
    rig.var("REPMGR_PRIMARY_PORT", "1");
    let mut node = rig.start();
    node.await_line("waiting:");
    node.signal(Signal::SIGTERM);
    node.ends_alone(0);
    nothing_is_half_made(&rig);
}

#[test]
fn term_while_postgres_does_not_get_ready() {
    let rig = Rig::new();
    rig.postgres("trap down INT; up starting; hang");
    let mut node = rig.start();
    node.await_status("postgres in launch", |s| {
        s["state"] == "launch" && !s["children"][0]["pid"].is_null()
    });
    node.signal(Signal::SIGTERM);
    node.ends_alone(0);
    nothing_is_half_made(&rig);
}

#[test]
fn term_while_the_database_is_brought_up_to_date() {
    let rig = Rig::new();
    let mut node = rig.start();
    // The script speaks no SQL.
    node.await_line("tried again in");
    assert_eq!(node.await_state("bootstrap")["exposure"], "technical");
    node.signal(Signal::SIGTERM);
    node.ends_alone(0);
    assert_eq!(node.count("told to shut down fast"), 1);
    nothing_is_half_made(&rig);
}

#[test]
fn term_while_a_dead_postmaster_is_cleared_away() {
    let rig = Rig::standby();
    // A backend that ignores everything but KILL.
    std::fs::create_dir(rig.path("backend")).unwrap();
    std::fs::copy("/usr/bin/sleep", rig.path("backend/postgres")).unwrap();
    rig.postgres("$ROOT/backend/postgres infinity & up 'ready   '; hang");
    let mut node = rig.start();
    node.await_state("open");
    let pid = node.child("postgres").unwrap();
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    node.await_line("state=recover");
    node.signal(Signal::SIGTERM);
    node.ends_alone(0);
}

/// A used standby that repmgr does not know: the way leads through `register` and `commit`.
fn unregistered() -> Rig {
    let mut rig = Rig::standby();
    rig.unregister();
    rig.var("REPMGR_MASTER", "false");
    rig.var("REPMGR_PRIMARY_HOST", "127.0.0.1");
    rig.var("REPMGR_PRIMARY_PORT", "1");
    rig
}

#[test]
fn term_while_repmgr_hangs() {
    let rig = unregistered();
    rig.program(
        "repmgr",
        &format!("{DEAF}{ORPHANS}: >$ROOT/deaf; sleep infinity"),
    );
    let mut node = rig.start();
    node.await_state("register");
    eventually(|| rig.path("deaf").exists().then_some(())).unwrap();
    node.signal(Signal::SIGTERM);
    node.ends_alone(0);
    assert!(!rig.is_registered(), "what did not happen was written down");
}

#[test]
fn a_repmgr_that_dies_is_asked_again() {
    let rig = unregistered();
    rig.program(
        "repmgr",
        "[ -e $ROOT/second ] && exit 0\n[ -e $ROOT/first ] && { : >$ROOT/second; echo 'ERROR: no' >&2; exit 8; }\n: >$ROOT/first; kill -9 $$",
    );
    let mut node = rig.start();
    node.await_lines("tried again in", 2);
    node.await_state("open");
    assert!(rig.is_registered());
    node.signal(Signal::SIGTERM);
    node.ends_alone(0);
}

#[test]
fn term_while_the_commit_hangs() {
    let rig = unregistered();
    rig.program("repmgr", "exit 0");
    let good = rig.read("pg_controldata");
    // The first look at the disk is the survey's.
    let hang =
        format!("[ -e $ROOT/seen ] && {{ {DEAF} : >$ROOT/deaf; sleep infinity; }}\n: >$ROOT/seen");
    rig.program("pg_controldata", &format!("{hang}\n{good}"));
    let mut node = rig.start();
    node.await_state("commit");
    eventually(|| rig.path("deaf").exists().then_some(())).unwrap();
    node.signal(Signal::SIGTERM);
    node.ends_alone(0);
    assert!(!rig.is_registered());
}

#[test]
fn term_while_recovery_takes_its_time() {
    let rig = Rig::standby();
    rig.postgres("trap down INT; up standby; : >$ROOT/deaf; hang");
    let mut node = rig.start();
    node.await_state("opening");
    eventually(|| rig.path("deaf").exists().then_some(())).unwrap();
    node.signal(Signal::SIGTERM);
    node.ends_alone(0);
    assert_eq!(node.count("state=open "), 0);
}

/// A stop at once after the start, before anything has had time to become what it will be.
#[test]
fn term_at_any_moment_of_a_start_ends_it() {
    // How many lines the node has said so far is as good a clock as any.
    for lines in 1..=6 {
        let rig = Rig::standby();
        let mut node = rig.start();
        eventually(|| (node.lines().len() > lines).then_some(())).unwrap();
        node.signal(Signal::SIGTERM);
        node.ends_alone(0);
    }
}

#[test]
fn every_stop_signal_stops() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGQUIT] {
        let rig = Rig::standby();
        let mut node = rig.start();
        node.await_state("open");
        node.signal(signal);
        node.ends_alone(0);
        assert_eq!(node.count("told to shut down fast"), 1, "{signal}");
        assert!(!rig.path("volume/data/postmaster.pid").exists());
    }
}

#[test]
fn a_server_that_ignores_int_is_told_to_quit() {
    let rig = Rig::standby();
    rig.postgres("trap '' INT TERM; trap down QUIT; up 'ready   '; hang");
    let mut node = rig.start();
    node.await_state("open");
    node.signal(Signal::SIGTERM);
    // Forced is not called clean.
    node.ends_alone(75);
    for (words, count) in [
        ("shut down fast", 1),
        ("shut down at once", 1),
        ("is killed", 0),
    ] {
        assert_eq!(node.count(words), count, "{words}");
    }
}

#[test]
fn a_server_that_ignores_everything_is_killed() {
    let rig = Rig::standby();
    rig.postgres(&format!("{DEAF}{ORPHANS}up 'ready   '; hang"));
    let mut node = rig.start();
    node.await_state("open");
    node.signal(Signal::SIGTERM);
    node.ends_alone(75);
    for words in ["shut down fast", "shut down at once", "is killed"] {
        assert_eq!(node.count(words), 1, "{words}");
    }
}

/// The grace period is so long that only the signals can have moved it on.
#[test]
fn further_signals_climb_down_faster() {
    let mut rig = Rig::standby();
    rig.var("PGNODE_STOP_TIMEOUT", "1h");
    rig.postgres(&format!("{DEAF}up 'ready   '; hang"));
    let mut node = rig.start();
    node.await_state("open");
    for words in ["shut down fast", "shut down at once", "is killed"] {
        node.signal(Signal::SIGTERM);
        node.await_line(words);
    }
    node.ends_alone(128 + 15);
}

#[test]
fn a_daemon_that_ignores_term_is_killed_and_the_stop_is_clean() {
    let rig = Rig::standby();
    rig.program(
        "repmgrd",
        &format!("{DEAF}{ORPHANS}: >$ROOT/deaf\nwhile :; do sleep infinity; done"),
    );
    let mut node = rig.start();
    node.await_state("open");
    eventually(|| rig.path("deaf").exists().then_some(())).unwrap();
    node.signal(Signal::SIGTERM);
    node.ends_alone(0);
    assert_eq!(node.count("shut down at once"), 0);
}

#[test]
fn hup_without_a_database_changes_nothing_and_harms_nothing() {
    let rig = Rig::standby();
    let mut node = rig.start();
    node.await_state("open");
    node.signal(Signal::SIGHUP);
    node.await_line("the former settings stay in force");
    assert_eq!(node.await_state("open")["restarts"], 0);
    node.signal(Signal::SIGTERM);
    node.ends_alone(0);
}
