//! Slaves, beside a master that stays up; and a second master, which is fenced.

use super::docker::{Container, Outcome, Site, eventually};
use super::paths::{Boot, Point};
use super::*;

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
