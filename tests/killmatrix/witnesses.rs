//! A witness beside a master that stays up. What it passes through as every node does is killed elsewhere; here
//! is what it does differently: its database is made, registered and put in its place.

use super::docker::{Container, Outcome, Site, eventually};
use super::paths::Point;
use super::*;

const WITNESS_ROW: &str = "3|pg3|witness|t|1|host=pg3 port=5432";

fn witness_vars() -> Vars {
    let mut vars = secrets();
    vars.push(("PGNODE_ROLE", "witness".into()));
    vars.push(("REPMGR_NODE_NAME", "pg3".into()));
    vars.push(("REPMGR_PARTNER_NODES", "pg1,pg3".into()));
    vars.push(("POSTGRES_PASSWORD", "cluster".into()));
    vars
}

/// Open, of the master's cluster, registered once and with the same table as the master.
fn healthy_witness(master: &Container, node: &Container) -> Outcome<()> {
    let status = eventually("an open witness", || {
        node.lives()?;
        let open = |s: &Value| s["state"] == "open" && s["role"] == "witness";
        Ok(node.status().filter(open))
    })?;
    let id = master.status().map(|s| s["system_id"].to_string());
    same(
        "the cluster",
        &status["system_id"].to_string(),
        &id.unwrap_or_default(),
    )?;
    let rows = format!("{MASTER_ROW}\n{WITNESS_ROW}");
    for node in [master, node] {
        same("repmgr's rows", &node.psql("5432", "repmgr", ROWS)?, &rows)?;
    }
    let left = node.exec(&["ls", "-A", "/var/lib/postgresql"])?;
    same("the volume", &left, ".pgnode\ndata")?;
    let staged = "ls -A /var/lib/postgresql/.pgnode | grep -E 'stag|old' || true";
    same("left behind", &node.exec(&["sh", "-c", staged])?, "")
}

#[test]
fn a_witness_killed_in_its_boot_converges() {
    let site = Site::new("witness");
    let mut tally = Tally::default();
    let mut vars = master_vars("cluster");
    // Its backups are another test's business.
    vars.push(("BARMAN_MODE", "off".into()));
    let volume = site.volume().unwrap();
    let master = start(&site, "pg1", &volume, &vars, &[]).unwrap();
    told(&master, await_open(&master, "primary")).unwrap();

    let kinds = [Kind::AwaitPrimary, Kind::Init, Kind::Register, Kind::Commit];
    for kind in kinds {
        for after in [false, true] {
            let point = Point { kind, after };
            tally.run(&format!("witness {point}"), || {
                let volume = site.volume()?;
                let node = kill_held(&site, "pg3", &volume, &witness_vars(), point, |_, _| Ok(()))?;
                told(&node, healthy_witness(&master, &node))
            });
        }
    }
    tally.end();
}
