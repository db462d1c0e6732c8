//! `kill -9` of the whole container in every state of the boot, of a master and of a slave, and at
//! random moments: the next start converges to a healthy node with nothing lost, or stays closed
//! with a reason that a person can act on. Needs Docker and the image (`PGNODE_IMAGE`, else
//! `pgnode:local`).

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a test that drives docker, not the product"
)]

mod docker;
mod masters;
mod paths;
mod slaves;
mod witnesses;

use docker::{Container, Outcome, Site, eventually};
use paths::{Boot, Point};
use pgnode::fsm::Kind;
use serde_json::Value;
use std::time::Instant;

/// States of the table that no boot of the matrix visits, each with the reason.
const EXCEPTIONS: &[(Kind, &str)] = &[
    (
        Kind::Restore,
        "needs a backup: tests/cluster/restore.rs kills before and after it",
    ),
    (
        Kind::Replay,
        "needs a backup: tests/cluster/restore.rs kills before and after it",
    ),
    (
        Kind::Rejoin,
        "needs a promoted slave: tests/cluster/rejoin.rs kills before, in and after it",
    ),
    (
        Kind::Handover,
        "needs an open primary and a successor: tests/cluster/planned.rs",
    ),
    (
        Kind::Demote,
        "needs a server that was shut down as a primary: tests/cluster/planned.rs",
    ),
];

#[test]
fn every_state_of_a_boot_is_in_the_matrix() {
    let killed: Vec<Kind> = Boot::ALL
        .iter()
        .flat_map(|boot| boot.points())
        .map(|point| point.kind)
        .collect();
    for kind in Kind::ALL.into_iter().filter(|k| k.is_boot()) {
        let excused = EXCEPTIONS.iter().any(|(known, _)| *known == kind);
        assert_ne!(
            killed.contains(&kind),
            excused,
            "{kind:?}: killed in no boot and not excused, or both"
        );
    }
}

/// Runs all, then tells of all that failed.
#[derive(Default)]
struct Tally {
    passed: u32,
    failed: Vec<String>,
}

impl Tally {
    /// `KILL_ONLY=<text>` leaves out what does not hold the text.
    fn run(&mut self, what: &str, test: impl FnOnce() -> Outcome<()>) {
        if std::env::var("KILL_ONLY").is_ok_and(|only| !what.contains(&only)) {
            return self.passed += 1;
        }
        let began = Instant::now();
        let end = test();
        let took = began.elapsed().as_secs_f32();
        match end {
            Ok(()) => {
                self.passed += 1;
                println!("ok     {what} ({took:.1} s)");
            }
            Err(why) => {
                println!("FAILED {what} ({took:.1} s): {why}");
                self.failed.push(what.to_owned());
            }
        }
    }

    fn end(self) {
        assert!(self.passed > 0, "nothing was tried");
        assert!(self.failed.is_empty(), "failed: {}", self.failed.join(", "));
    }
}

const OPEN: &str = " is open as ";

/// Not idempotent on purpose: a second run over the first one's work would show.
const SCRIPT: &str = "CREATE TABLE scripted (n int); INSERT INTO scripted VALUES (1);";

type Vars = Vec<(&'static str, String)>;

fn start(
    site: &Site,
    host: &str,
    volume: &str,
    vars: &Vars,
    more: &[(&'static str, &str)],
) -> Outcome<Container> {
    let mut all: Vec<(&str, &str)> = vars.iter().map(|(k, v)| (*k, v.as_str())).collect();
    all.extend(more);
    let script = std::env::temp_dir().join(format!("pgnode-kill-{}", std::process::id()));
    std::fs::create_dir_all(&script).unwrap();
    let script = script.join("scripted.sql");
    std::fs::write(&script, SCRIPT).unwrap();
    site.start(host, volume, &all, script.to_str())
}

fn secrets() -> Vars {
    vec![
        ("REPMGR_PASSWORD", "kill-repmgr".into()),
        ("REPMGR_STREAMING_PASSWORD", "kill-repmgr-s".into()),
        ("BARMAN_PASSWORD", "kill-barman".into()),
        ("BARMAN_STREAMING_PASSWORD", "kill-barman-s".into()),
    ]
}

fn master_vars(password: &str) -> Vars {
    let mut vars = secrets();
    vars.push(("REPMGR_NODE_NAME", "pg1".into()));
    vars.push(("REPMGR_MASTER", "true".into()));
    vars.push(("POSTGRES_PASSWORD", password.into()));
    vars
}

/// Until the node says that it is held where it was told to be.
fn await_hold(node: &Container, point: Point) -> Outcome<Value> {
    let when = if point.after { "after" } else { "before" };
    let said = format!(
        "held by PGNODE_TEST_HOLD {when} its work state={}",
        point.kind.name()
    );
    eventually(&format!("`{said}`"), || {
        if node.logs().contains(&said) {
            return Ok(Some(()));
        }
        node.lives().map(|()| None)
    })?;
    let status = eventually("the status of the held node", || Ok(node.status()))?;
    let state = &status["state"];
    if *state == point.kind.name() {
        Ok(status)
    } else {
        Err(format!("held in {state}, wanted {point}"))
    }
}

/// With the log's end, when something is wrong with a node.
fn told<T>(node: &Container, outcome: Outcome<T>) -> Outcome<T> {
    outcome.map_err(|why| {
        let logs = node.logs();
        let lines: Vec<&str> = logs.lines().collect();
        let last: Vec<String> = lines[lines.len().saturating_sub(15)..]
            .iter()
            .map(|line| line.chars().take(240).collect())
            .collect();
        let last = last.join("\n    ");
        format!("{why}\n    {last}")
    })
}

fn await_open(node: &Container, role: &str) -> Outcome<Value> {
    eventually(&format!("an open {role}"), || {
        node.lives()?;
        let Some(status) = node.status() else {
            return Ok(None);
        };
        let up = |name: &str| {
            let children = status["children"].as_array();
            children.is_some_and(|c| c.iter().any(|c| c["name"] == name && !c["pid"].is_null()))
        };
        let streams = role == "primary" || status["streaming"] == true;
        let open = status["state"] == "open" && status["exposure"] == "consumer";
        Ok(
            (open && status["role"] == role && streams && up("postgres") && up("repmgrd"))
                .then_some(status),
        )
    })
}

fn same(what: &str, found: &str, want: &str) -> Outcome<()> {
    if found == want {
        Ok(())
    } else {
        Err(format!("{what}: found {found:?}, wanted {want:?}"))
    }
}

const ROWS: &str = "SELECT node_id, node_name, type, active, upstream_node_id, \
    substring(replace(conninfo, '''', '') FROM 'host=\\S+ port=\\d+') FROM repmgr.nodes ORDER BY 1";
const MASTER_ROW: &str = "1|pg1|primary|t||host=pg1 port=5432";
const SLAVE_ROW: &str = "2|pg2|standby|t|1|host=pg2 port=5432";

/// Nothing of a start that did not end is left beside the data.
fn tidy(node: &Container) -> Outcome<()> {
    let left = node.exec(&["ls", "-A", "/var/lib/postgresql/.pgnode"])?;
    same(".pgnode", &left, "ballot.json\nlock\nstate.json")?;
    let left = node.exec(&["ls", "-A", "/var/lib/postgresql"])?;
    same("the volume", &left, ".pgnode\ndata")
}

/// Writes a row where that is possible, and says whether it was.
fn write_row(node: &Container, status: &Value, row: &str) -> Outcome<bool> {
    let port = match status["exposure"].as_str() {
        Some("consumer") => "5432",
        Some("technical") => "5434",
        _ => return Ok(false),
    };
    let sql =
        format!("CREATE TABLE IF NOT EXISTS kept (row text); INSERT INTO kept VALUES ('{row}')");
    node.psql(port, "postgres", &sql)?;
    Ok(true)
}

const KEPT: &str = "SELECT coalesce(string_agg(row, ' ' ORDER BY row), '') FROM kept";

/// Kills a held node and starts it again, on the same volume, without the hold.
fn kill_held(
    site: &Site,
    host: &str,
    volume: &str,
    vars: &Vars,
    point: Point,
    then: impl FnOnce(&Container, &Value) -> Outcome<()>,
) -> Outcome<Container> {
    let hold = point.to_string();
    let node = start(site, host, volume, vars, &[("PGNODE_TEST_HOLD", &hold)])?;
    told(
        &node,
        await_hold(&node, point).and_then(|status| then(&node, &status)),
    )?;
    node.kill()?;
    drop(node);
    start(site, host, volume, vars, &[])
}

/// A node that opens, whose postgres is killed, and that is held and killed while it recovers.
fn kill_crashed(
    site: &Site,
    host: &str,
    volume: &str,
    vars: &Vars,
    point: Point,
) -> Outcome<Container> {
    let hold = point.to_string();
    let node = start(site, host, volume, vars, &[("PGNODE_TEST_HOLD", &hold)])?;
    told(&node, {
        eventually("an open node", || {
            node.lives()?;
            Ok(node.status().filter(|s| s["state"] == "open"))
        })
        .and_then(|_| {
            let kill = "kill -9 $(head -n 1 /var/lib/postgresql/data/postmaster.pid)";
            node.exec(&["sh", "-c", kill])?;
            await_hold(&node, point).map(drop)
        })
    })?;
    node.kill()?;
    drop(node);
    start(site, host, volume, vars, &[])
}

fn lines_until_open(node: &Container) -> usize {
    let logs = node.logs();
    1 + logs.lines().position(|line| line.contains(OPEN)).unwrap()
}

/// A generator that gives the same numbers again: `KILL_SEED`, else 1.
struct Dice(u64);

impl Dice {
    fn new() -> Self {
        let seed = std::env::var("KILL_SEED")
            .ok()
            .and_then(|s| s.parse().ok())
            .unwrap_or(1);
        println!("KILL_SEED={seed}");
        Self(seed)
    }

    /// From 1 to `most` (splitmix64).
    fn roll(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        1 + usize::try_from(z % most as u64).unwrap()
    }
}
