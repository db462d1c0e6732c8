//! Masters: the first start, the restart with another password, the recovery of a killed server.

use super::docker::{Container, Outcome, Site, eventually};
use super::paths::{Boot, Point};
use super::*;

/// All that a healthy master is; returns its status.
fn healthy_master(node: &Container, password: &str, barman: bool) -> Outcome<Value> {
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
    let want = if barman { "1|t" } else { "0|" };
    eventually("barman on its slot", || {
        Ok((node.psql("5432", "postgres", slot)? == want).then_some(()))
    })?;
    tidy(node)?;
    Ok(status)
}

/// Whether a first start that was killed here has its data in place already.
fn is_committed(point: Point) -> bool {
    point.kind == Kind::Commit && point.after || point.kind == Kind::Opening
}

fn master_first(site: &Site, point: Point) -> Outcome<()> {
    let (volume, mut vars) = (site.volume()?, master_vars("first"));
    // barman costs more time than all the rest: it is with every second one.
    let barman = point.after;
    if !barman {
        vars.push(("BARMAN_MODE", "off".into()));
    }
    let mut before = Value::Null;
    let mut row = false;
    let node = kill_held(site, "pg1", &volume, &vars, point, |node, status| {
        row = write_row(node, status, "x")?;
        before = status["system_id"].clone();
        Ok(())
    })?;
    told(&node, {
        healthy_master(&node, "first", barman).and_then(|now| {
            if is_committed(point) {
                same(
                    "the cluster",
                    &now["system_id"].to_string(),
                    &before.to_string(),
                )?;
            }
            if point.kind == Kind::Opening && point.after && !row {
                return Err("the open master took no row".into());
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
    let born = told(&node, healthy_master(&node, "p0", true)).unwrap();
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
                healthy_master(&again, &password, true).and_then(|now| {
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
                told(&node, healthy_master(&node, "first", true).map(drop))
            },
        );
    }
    tally.end();
}
