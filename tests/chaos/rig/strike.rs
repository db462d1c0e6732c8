//! A strike done to a node, and undone.

use super::Outcome;
use super::cluster::Cluster;
use super::docker::{docker, must};
use super::faults::What;
use super::links;
use super::sql::{ask, value};

/// Whether a process of a container is the postmaster: the only `postgres` with arguments.
fn is_postmaster(args: &str) -> bool {
    let program = args.split_whitespace().next().unwrap_or_default();
    program.rsplit('/').next() == Some("postgres") && args.contains(" -")
}

const A_BACKEND: &str = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' \
     AND application_name = 'chaos' AND pid <> pg_backend_pid() ORDER BY backend_start LIMIT 1";

/// More WAL than is set aside in recycled segments. A standby refuses.
const BULK: &str = "SET statement_timeout = '8s'; SET synchronous_commit = local; \
     SELECT count(pg_logical_emit_message(true, 'chaos', repeat('x', 1000000))) FROM generate_series(1, 130)";

impl Cluster {
    pub(crate) fn inject(&self, what: What, node: usize) -> Outcome<()> {
        let node = &self.nodes[node];
        match what {
            What::Postmaster => node.kill_from_host(is_postmaster),
            What::Backend => {
                let pid = value(&node.door, "postgres", A_BACKEND)?;
                node.sh("root", &format!("kill -KILL {pid}")).map(drop)
            }
            What::Container => docker(&["kill", &node.container]).map(drop),
            What::PidOne => must("kill", &["-KILL", &node.pid()?]).map(drop),
            What::Stop => docker(&["stop", "-t", "20", &node.container]).map(drop),
            What::Freeze => node.freeze(),
            What::Cut(_) | What::CutAll | What::Loss(_) | What::Delay(_) | What::Slow(_) => {
                node.link(&self.network.gateway())?.harm(what)
            }
            What::DiskFull => {
                let volume = node.volume.as_ref().ok_or("no volume of its own")?;
                volume.fill()?;
                self.demand_room();
                Ok(())
            }
            What::Switchover => self.switchover(node),
        }
    }

    /// An idle node does not notice that there is no room: whoever is primary is asked for more WAL than has
    /// been set aside. That fails, or the standby that receives it does; both is the point.
    fn demand_room(&self) {
        for node in &self.nodes {
            ask(&node.door, "postgres", BULK).ok();
        }
    }

    pub(crate) fn heal(&self, what: What, node: usize) -> Outcome<()> {
        let node = &self.nodes[node];
        match what {
            What::Postmaster | What::Backend | What::Switchover => Ok(()),
            What::Container | What::PidOne | What::Stop => node.start(),
            What::Freeze => node.thaw().map(drop),
            // Its namespace went with it; see `revive`.
            _ if !matches!(what, What::DiskFull) && !node.is_running() => Ok(()),
            What::Cut(_) | What::CutAll | What::Loss(_) | What::Delay(_) | What::Slow(_) => {
                node.link(&self.network.gateway())?.heal(what)
            }
            What::DiskFull => {
                let volume = node.volume.as_ref().ok_or("no volume of its own")?;
                volume.free()?;
                // Whoever gave up for want of room is started again, as a person would.
                if node.is_running() {
                    Ok(())
                } else {
                    node.start()
                }
            }
        }
    }

    /// Starts nodes that ended by themselves, as a container runtime does: a node that gives up on something
    /// transient says 75 and counts on it. How many there were. One that says *needs a person* is a failure.
    pub(crate) fn revive(&self) -> Outcome<u32> {
        let mut count = 0;
        for node in &self.nodes {
            if node.is_running() {
                continue;
            }
            let code = node.inspect("{{.State.ExitCode}}")?;
            if code == "78" {
                return Err(format!(
                    "{} ended with 78 and waits for a person",
                    node.name()
                ));
            }
            node.start()?;
            count += 1;
        }
        Ok(count)
    }

    /// Why this cluster, or this machine, cannot be hit so.
    pub(crate) fn lacks(&self, what: What) -> Option<String> {
        match what {
            What::Cut(_) | What::CutAll | What::Loss(_) | What::Delay(_) | What::Slow(_) => {
                links::lacks(what)
            }
            What::DiskFull => self
                .nodes
                .iter()
                .any(|n| n.volume.is_none())
                .then(|| "no volumes of their own".to_owned()),
            What::Switchover => {
                (!self.can_switch_over).then(|| "the image has no such verb".to_owned())
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_postmaster_is_told_from_its_children() {
        assert!(is_postmaster(
            "/usr/lib/postgresql/17/bin/postgres -D /var/lib/postgresql/data -c port=5432"
        ));
        assert!(is_postmaster("postgres -D /d"));
        assert!(!is_postmaster("postgres: walwriter "));
        assert!(!is_postmaster(
            "postgres: pg1: walsender repmgr_streaming 10.0.0.2(33) streaming 0/3000060"
        ));
        assert!(!is_postmaster("/usr/local/bin/pgnode run"));
    }
}
