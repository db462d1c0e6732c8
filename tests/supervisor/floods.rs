//! Much of everything: lines, orphans.

use super::rig::{Rig, eventually};
use nix::sys::signal::Signal;

/// The number of a field `name=123`.
fn number(line: &str, name: &str) -> u64 {
    let field = line
        .split(' ')
        .find_map(|w| w.strip_prefix(name)?.strip_prefix('='));
    field.unwrap().parse().unwrap()
}

#[test]
fn a_flood_of_repmgrds_is_cut_and_every_line_is_counted() {
    const LINES: u64 = 20_000;
    let rig = Rig::standby();
    rig.program(
        "repmgrd",
        &format!(
            "for ((i = 0; i < {LINES}; i++)); do echo \"[2026-11-21 08:00:00] [WARNING] unable to ping $i\"; done\nexec sleep infinity"
        ),
    );
    let mut node = rig.start();
    let total = || {
        let lines = node.lines();
        let lines = lines.iter().filter(|l| l.contains("unable to ping"));
        // What was left out is counted by a line of its own, or by the next one that passes.
        let counts = lines.clone().filter(|l| l.contains(" dropped="));
        let dropped = counts.map(|l| number(l, "dropped")).sum::<u64>();
        let written = lines.filter(|l| !l.contains("left out")).count() as u64;
        (written, dropped)
    };
    eventually(|| (total().0 + total().1 == LINES).then_some(()))
        .unwrap_or_else(|| panic!("{:?} of {LINES}", total()));
    let (written, dropped) = total();
    assert!(
        written >= 20 && dropped > LINES / 2,
        "{written} written, {dropped} dropped"
    );
    node.signal(Signal::SIGTERM);
    node.ends_alone(0);
}

#[test]
fn a_flood_of_postgres_stops_nothing() {
    let rig = Rig::standby();
    rig.postgres(
        "trap down INT; up 'ready   '; for ((i = 0; i < 20000; i++)); do echo \"LOG:  line $i\" >&2; done; hang",
    );
    let mut node = rig.start();
    node.await_state("open");
    // None of the server's own lines is lost.
    node.await_line("line 19999");
    assert_eq!(node.count("postgres  line "), 20_000);
    node.signal(Signal::SIGTERM);
    node.ends_alone(0);
}

/// Orphans are held at a gate until they are ours, then end all at once, batch by batch; meanwhile
/// the children that are ours end with statuses that must reach their own waiters.
#[test]
fn two_thousand_orphans_are_reaped_and_our_own_statuses_are_right() {
    let rig = Rig::standby();
    rig.program(
        "repmgrd",
        "
if [ -e $ROOT/done ]; then exit 43; fi
for batch in 1 2 3 4; do
    # A gate of its own: what is left of another's bytes would let somebody pass too early.
    mkfifo $ROOT/gate$batch; exec 5<>$ROOT/gate$batch
    # The subshell in between ends at once: what it started is nobody's, so it is pgnode's.
    for ((i = 0; i < 500; i++)); do ( (read -r -n 1 -u 5; exit 3) & ); done
    printf '%500s' '' >&5
done
: >$ROOT/done; exit 42",
    );
    let mut node = rig.start();
    node.await_line("repmgrd ended with exit code 42;");
    node.await_line("repmgrd ended with exit code 43;");
    let status = node.await_status("all orphans reaped", |s| {
        s["orphans_reaped"].as_u64() >= Some(2000)
    });
    assert_eq!(
        (status["state"].as_str(), status["restarts"].as_u64()),
        (Some("open"), Some(0))
    );
    let zombies = || {
        let ours = |p: &pgnode::sys::Process| p.parent == node.pid.as_raw() && p.zombie;
        pgnode::sys::processes().into_iter().filter(ours).count()
    };
    eventually(|| (zombies() == 0).then_some(()))
        .unwrap_or_else(|| panic!("{} zombies", zombies()));
    node.signal(Signal::SIGTERM);
    node.ends_alone(0);
}
