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
mod paths;

use docker::{Container, Outcome, Site, eventually};
use paths::{Boot, Point};
use pgnode::fsm::Kind;
use serde_json::Value;
use std::time::Instant;

/// States of the table that no boot of the matrix visits, each with the reason.
const EXCEPTIONS: &[(Kind, &str)] = &[];

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
    fn run(&mut self, what: &str, test: impl FnOnce() -> Outcome<()>) {
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
    same(".pgnode", &left, "lock\nstate.json")?;
    let left = node.exec(&["ls", "-A", "/var/lib/postgresql"])?;
    same("the volume", &left, ".pgnode\ndata")
}

/// All that a healthy master is; returns its status.
fn healthy_master(node: &Container, password: &str) -> Outcome<Value> {
    let status = await_open(node, "primary")?;
    node.greet("pg1", password)?;
    same(
        "repmgr's rows",
        &node.psql("5432", "repmgr", ROWS)?,
        MASTER_ROW,
    )?;
    same(
        "what the init scripts made",
        &node.psql("5432", "postgres", "SELECT count(*) FROM scripted")?,
        "1",
    )?;
    let slot = "SELECT count(*), bool_and(active) FROM pg_replication_slots";
    eventually("barman on its slot", || {
        Ok((node.psql("5432", "postgres", slot)? == "1|t").then_some(()))
    })?;
    tidy(node)?;
    Ok(status)
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

/// Whether a first start that was killed here has its data in place already.
fn is_committed(point: Point) -> bool {
    point.kind == Kind::Commit && point.after || point.kind == Kind::Opening
}

fn master_first(site: &Site, point: Point) -> Outcome<()> {
    let (volume, vars) = (site.volume()?, master_vars("first"));
    let mut before = Value::Null;
    let mut row = false;
    let node = kill_held(site, "pg1", &volume, &vars, point, |node, status| {
        row = write_row(node, status, "x")?;
        before = status["system_id"].clone();
        Ok(())
    })?;
    told(&node, {
        healthy_master(&node, "first").and_then(|now| {
            if is_committed(point) {
                same(
                    "the cluster",
                    &now["system_id"].to_string(),
                    &before.to_string(),
                )?;
            }
            if is_committed(point) && row {
                same("rows", &node.psql("5432", "postgres", KEPT)?, "x")?;
            }
            Ok(())
        })
    })
}

#[test]
fn a_master_killed_in_its_first_start_converges() {
    let site = Site::new("first");
    let mut tally = Tally::default();
    for point in Boot::MasterFirst.points() {
        tally.run(&format!("{:?} {point}", Boot::MasterFirst), || {
            master_first(&site, point)
        });
    }
    tally.end();
}

#[test]
fn a_used_master_killed_in_its_restart_converges() {
    let site = Site::new("used");
    let mut tally = Tally::default();
    let volume = site.volume().unwrap();
    let node = start(&site, "pg1", &volume, &master_vars("p0"), &[]).unwrap();
    let born = told(&node, healthy_master(&node, "p0")).unwrap();
    write_row(&node, &born, "born").unwrap();
    let lines = lines_until_open(&node);
    let mut rows = vec!["born".to_owned()];
    let mut node = Some(node);
    let boots = [Boot::MasterUsed, Boot::MasterCrashed];
    let points = boots.map(|boot| boot.points().into_iter().map(move |p| (boot, p)));
    for (count, (boot, point)) in points.into_iter().flatten().enumerate() {
        tally.run(&format!("{boot:?} {point}"), || {
            // An open node is killed here.
            node = None;
            let password = format!("p{}", count + 1);
            let vars = master_vars(&password);
            let again = if boot == Boot::MasterCrashed {
                kill_crashed(&site, "pg1", &volume, &vars, point)?
            } else {
                kill_held(&site, "pg1", &volume, &vars, point, |held, status| {
                    let row = point.to_string();
                    if write_row(held, status, &row)? {
                        rows.push(row);
                    }
                    Ok(())
                })?
            };
            rows.sort();
            told(&again, {
                healthy_master(&again, &password).and_then(|now| {
                    same(
                        "the cluster",
                        &now["system_id"].to_string(),
                        &born["system_id"].to_string(),
                    )?;
                    let kept = "SELECT string_agg(row, ' ' ORDER BY row COLLATE \"C\") FROM kept";
                    same(
                        "rows",
                        &again.psql("5432", "postgres", kept)?,
                        &rows.join(" "),
                    )?;
                    match again.greet("pg1", &format!("p{count}")) {
                        Ok(_) => Err("the former password still works".into()),
                        Err(_) => Ok(()),
                    }
                })
            })?;
            node = Some(again);
            Ok(())
        });
    }
    drop(node);
    let mut dice = Dice::new();
    for _ in 0..6 {
        let after = dice.roll(lines);
        tally.run(
            &format!("master's first start, {after} of {lines} lines"),
            || {
                let (volume, vars) = (site.volume()?, master_vars("first"));
                let node = start(&site, "pg1", &volume, &vars, &[])?;
                node.follow(after, OPEN);
                node.kill()?;
                drop(node);
                let node = start(&site, "pg1", &volume, &vars, &[])?;
                told(&node, healthy_master(&node, "first").map(drop))
            },
        );
    }
    tally.end();
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

fn slave_vars() -> Vars {
    let mut vars = secrets();
    vars.push(("REPMGR_NODE_NAME", "pg2".into()));
    vars.push(("REPMGR_MASTER", "false".into()));
    vars.push(("REPMGR_PRIMARY_HOST", "pg1".into()));
    vars.push(("POSTGRES_PASSWORD", "cluster".into()));
    vars
}

/// All that a healthy slave is: streams, is registered once, has one slot and all the rows.
fn healthy_slave(master: &Container, node: &Container, row: &str) -> Outcome<()> {
    let status = await_open(node, "standby")?;
    let id = master.status().map(|s| s["system_id"].to_string());
    same(
        "the cluster",
        &status["system_id"].to_string(),
        &id.unwrap_or_default(),
    )?;
    let rows = format!("{MASTER_ROW}\n{SLAVE_ROW}");
    same(
        "repmgr's rows",
        &master.psql("5432", "repmgr", ROWS)?,
        &rows,
    )?;
    let slots = "SELECT slot_name, active FROM pg_replication_slots";
    same(
        "slots",
        &master.psql("5432", "postgres", slots)?,
        "repmgr_slot_2|t",
    )?;
    let sql = format!("INSERT INTO kept VALUES ('{row}')");
    master.psql("5432", "postgres", &sql)?;
    let want = master.psql("5432", "postgres", KEPT)?;
    eventually("the master's rows", || {
        Ok((node.psql("5432", "postgres", KEPT)? == want).then_some(()))
    })?;
    eventually("a tidy volume", || Ok(tidy(node).ok())).or_else(|_| tidy(node))
}

/// What a slave that went for ever left at its master is taken away.
fn forget_slave(master: &Container) -> Outcome<()> {
    let end = "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE active";
    master.psql("5432", "postgres", end)?;
    let drop = "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots";
    eventually("the slot's end", || {
        Ok(master.psql("5432", "postgres", drop).ok().map(|_| ()))
    })?;
    let sql = "DELETE FROM repmgr.nodes WHERE node_id = 2";
    master.psql("5432", "repmgr", sql).map(|_| ())
}

#[test]
fn a_slave_killed_in_its_boot_converges() {
    let site = Site::new("slave");
    let mut tally = Tally::default();
    let mut vars = master_vars("cluster");
    vars.push(("REPMGR_SLAVES", "pg2".into()));
    // Its backups are another test's business.
    vars.push(("BARMAN_MODE", "off".into()));
    let volume = site.volume().unwrap();
    let master = start(&site, "pg1", &volume, &vars, &[]).unwrap();
    let status = told(&master, await_open(&master, "primary")).unwrap();
    write_row(&master, &status, "born").unwrap();

    for point in Boot::SlaveFirst.points() {
        tally.run(&format!("{:?} {point}", Boot::SlaveFirst), || {
            let volume = site.volume()?;
            forget_slave(&master)?;
            let node = kill_held(&site, "pg2", &volume, &slave_vars(), point, |_, _| Ok(()))?;
            told(&node, healthy_slave(&master, &node, &point.to_string()))
        });
    }

    forget_slave(&master).unwrap();
    let volume = site.volume().unwrap();
    let node = start(&site, "pg2", &volume, &slave_vars(), &[]).unwrap();
    told(&node, healthy_slave(&master, &node, "first")).unwrap();
    let lines = lines_until_open(&node);
    let mut node = Some(node);
    let boots = [Boot::SlaveUsed, Boot::SlaveCrashed];
    for (boot, point) in boots
        .iter()
        .flat_map(|b| b.points().into_iter().map(move |p| (*b, p)))
    {
        tally.run(&format!("{boot:?} {point}"), || {
            node = None;
            let vars = slave_vars();
            let again = if boot == Boot::SlaveCrashed {
                kill_crashed(&site, "pg2", &volume, &vars, point)?
            } else {
                kill_held(&site, "pg2", &volume, &vars, point, |_, _| Ok(()))?
            };
            told(&again, {
                healthy_slave(&master, &again, &point.to_string()).and_then(|()| {
                    // What is on the disk is kept: nothing is cloned a second time.
                    let cloned = again.logs().contains("state=clone");
                    same("cloned again", &cloned.to_string(), "false")
                })
            })?;
            node = Some(again);
            Ok(())
        });
    }
    drop(node);

    let mut dice = Dice::new();
    for _ in 0..4 {
        let after = dice.roll(lines);
        tally.run(
            &format!("slave's first start, {after} of {lines} lines"),
            || {
                let volume = site.volume()?;
                forget_slave(&master)?;
                let node = start(&site, "pg2", &volume, &slave_vars(), &[])?;
                node.follow(after, OPEN);
                node.kill()?;
                drop(node);
                let node = start(&site, "pg2", &volume, &slave_vars(), &[])?;
                told(
                    &node,
                    healthy_slave(&master, &node, &format!("random{after}")),
                )
            },
        );
    }

    for point in Boot::SecondMaster.points() {
        tally.run(&format!("{:?} {point}", Boot::SecondMaster), || {
            forget_slave(&master)?;
            second_master(&site, &master, point)
        });
    }
    tally.end();
}

/// Killed while it is fenced, it is fenced again, and says what to do; doing that helps.
fn second_master(site: &Site, master: &Container, point: Point) -> Outcome<()> {
    let volume = site.volume()?;
    let mut vars = secrets();
    vars.push(("REPMGR_NODE_NAME", "pg2".into()));
    vars.push(("REPMGR_MASTER", "true".into()));
    vars.push(("REPMGR_PARTNER_NODES", "pg1".into()));
    let node = kill_held(site, "pg2", &volume, &vars, point, |_, _| Ok(()))?;
    told(&node, {
        eventually("a reason that can be acted on", || {
            node.lives()?;
            Ok(node.status().filter(|s| {
                let sentence = s["sentence"].as_str().unwrap_or_default();
                s["state"] == "fenced" && sentence.contains("set REPMGR_MASTER=false")
            }))
        })
    })?;
    drop(node);
    let node = start(site, "pg2", &volume, &slave_vars(), &[])?;
    told(&node, healthy_slave(master, &node, &point.to_string()))
}
