//! How a node comes to its data. Facts decide; `REPMGR_MASTER` matters on an empty disk only.

use super::facts::{ClusterFacts, Disk, Facts};
use crate::config::{Config, NodeKind, StartAs};
use crate::domain::{Fault, Role};

/// Where the data comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Provision {
    /// initdb in the staging directory; everything up to the registration happens there too, so an
    /// interrupted first start leaves nothing that could be taken for done.
    Init,
    /// A clone of the primary in the staging directory.
    Clone,
    /// A backup, copied into the staging directory and recovered there: an interrupted restore leaves
    /// nothing that could be taken for done either.
    Restore,
    /// What is on the disk.
    Adopt,
    /// What is on the disk, once it has been brought up to date from the primary that replaced us:
    /// until then it is neither a primary's nor a standby's.
    Rejoin,
}

/// What a boot will do, decided once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BootPlan {
    /// Where the data comes from.
    pub provision: Provision,
    /// What the node is with that data.
    pub role: Role,
    /// Whether the database must be visited on the technical port before it opens: users,
    /// passwords, extension. A second start with the same settings skips that.
    pub bootstrap: bool,
    /// Whether repmgr has to be told about us.
    pub register: bool,
}

impl BootPlan {
    /// A backup becomes a primary.
    pub const RESTORE: Self = Self {
        provision: Provision::Restore,
        role: Role::Primary,
        bootstrap: true,
        register: true,
    };

    /// The way back of a node that was replaced.
    pub const REJOIN: Self = Self {
        provision: Provision::Rejoin,
        role: Role::Standby,
        bootstrap: false,
        register: true,
    };
}

/// In words, for the log.
impl std::fmt::Display for BootPlan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match self.provision {
            Provision::Init => "create a new cluster",
            Provision::Clone => "clone the primary",
            Provision::Restore => "restore from a backup",
            Provision::Adopt => "start what is on the disk",
            Provision::Rejoin => "finish an interrupted rewind",
        };
        write!(f, "{what}, as {}", self.role)?;
        if self.provision == Provision::Adopt && self.bootstrap {
            f.write_str(", settings have changed")?;
        }
        Ok(())
    }
}

/// Decides. The error says what a person has to do.
///
/// # Errors
/// A [`Fault`] when the disk cannot be used as it is.
pub fn plan(config: &Config, facts: &Facts) -> Result<BootPlan, Fault> {
    if let Some(memory) = &facts.memory
        && memory.node_id != config.identity.id
    {
        return Err(Fault::NeedsPerson(format!(
            "the volume belongs to node {} ({}), the settings say node {} ({}): \
             give the node its own volume, or set REPMGR_NODE_ID={} and REPMGR_NODE_NAME={}",
            memory.node_id,
            memory.node_name,
            config.identity.id,
            config.identity.name,
            memory.node_id,
            memory.node_name,
        )));
    }
    match config.kind {
        NodeKind::Witness | NodeKind::BarmanWitness => super::witness::plan(config, facts),
        NodeKind::Postgres | NodeKind::Barman => data_node(config, facts),
    }
}

fn data_node(config: &Config, facts: &Facts) -> Result<BootPlan, Fault> {
    // Whatever a half rewound directory looks like, nothing else may be made of it.
    if facts.unfinished {
        return Ok(BootPlan::REJOIN);
    }
    if let Some(memory) = &facts.memory
        && memory.role == Role::Witness
    {
        return Err(Fault::NeedsPerson(
            "the volume belongs to a witness, and PGNODE_ROLE says that this is a data node: give \
             it a volume of its own"
                .into(),
        ));
    }
    match &facts.disk {
        Disk::Empty => match (&facts.memory, config.start_as) {
            (Some(memory), StartAs::Master) => Err(Fault::NeedsPerson(format!(
                "this node held cluster {} and its data directory is gone: is PGDATA={} mounted? \
                 To begin a new cluster, or to restore a backup here, remove `state.json` beside it; to clone the present \
                 primary, set REPMGR_MASTER=false",
                memory.system_id,
                config.paths.pgdata.display()
            ))),
            // All nodes may share one environment: a slave clones what its master restored.
            (None, StartAs::Master)
                if config.restore.is_some() && config.kind == NodeKind::Postgres =>
            {
                Ok(BootPlan::RESTORE)
            }
            (_, start_as) => Ok(on_empty_disk(start_as)),
        },
        Disk::OldOnly => Err(Fault::NeedsPerson(format!(
            "{} is empty, but the copy that was set aside in its `.pgnode/old` holds a cluster: \
             move it back, or remove it to begin anew",
            config.paths.pgdata.display()
        ))),
        Disk::Foreign { why } => Err(Fault::NeedsPerson(format!(
            "{} is neither empty nor a PostgreSQL cluster ({why}): nothing in it was touched; \
             empty it or mount the right volume",
            config.paths.pgdata.display()
        ))),
        Disk::Cluster(cluster) => adopt(config, facts, cluster),
    }
}

const fn on_empty_disk(start_as: StartAs) -> BootPlan {
    match start_as {
        StartAs::Master => BootPlan {
            provision: Provision::Init,
            role: Role::Primary,
            bootstrap: true,
            register: true,
        },
        StartAs::Slave => BootPlan {
            provision: Provision::Clone,
            role: Role::Standby,
            bootstrap: false,
            register: true,
        },
    }
}

fn adopt(config: &Config, facts: &Facts, cluster: &ClusterFacts) -> Result<BootPlan, Fault> {
    if cluster.major != facts.pg_major {
        return Err(Fault::NeedsPerson(format!(
            "the cluster on disk was made by PostgreSQL {}, this image has {}: \
             use an image of that version, or upgrade with pg_upgrade",
            cluster.major, facts.pg_major
        )));
    }
    if let Some(memory) = &facts.memory
        && memory.system_id != cluster.system_id
    {
        return Err(Fault::NeedsPerson(format!(
            "the cluster on disk has system identifier {}, this node's own record says {}: \
             somebody replaced the data; if that was meant, remove `.pgnode/state.json`",
            cluster.system_id, memory.system_id
        )));
    }
    if cluster.recovering {
        return Err(Fault::NeedsPerson(
            "the data directory holds `recovery.signal`, an unfinished restore that this node \
             did not begin: finish it by hand, or restore into an empty volume"
                .into(),
        ));
    }
    let role = if cluster.standby {
        Role::Standby
    } else {
        Role::Primary
    };
    // An address that changed must be told to repmgr too, or the others look for us where we were.
    let registered = facts.memory.as_ref().is_some_and(|m| {
        let moved = m.members.iter().any(|m| {
            m.node_id == config.identity.id
                && (m.host != config.identity.network_name || m.port != config.postgres.port)
        });
        // A primary that rejoined as a standby and was killed before repmgr heard of it.
        let demoted = role == Role::Standby && m.role == Role::Primary;
        m.registered && !moved && !demoted && m.node_name == config.identity.name
    });
    if role == Role::Standby {
        // A standby of another cluster than the primary's would never stream. All that answer
        // agree on another identity: a wrong volume, or wrong peers.
        let others: Vec<_> = facts
            .peers
            .iter()
            .filter_map(|p| p.report()?.system_id.map(|id| (p, id)))
            .collect();
        if let Some((peer, id)) = others.first()
            && others.iter().all(|(_, id)| *id != cluster.system_id)
        {
            return Err(Fault::NeedsPerson(format!(
                "this standby's cluster has system identifier {}, {} has {id}: they are different \
                 clusters; mount the right volume, correct the peers, or empty the volume to clone",
                cluster.system_id, peer.address
            )));
        }
    }
    let changed = match (&facts.memory, &facts.fingerprint) {
        (Some(memory), Some(now)) => memory.fingerprint != *now,
        (None, _) | (_, None) => true,
    };
    Ok(BootPlan {
        provision: Provision::Adopt,
        role,
        // A standby's users come to it by replication.
        bootstrap: role == Role::Primary && (changed || !registered),
        register: !registered,
    })
}

#[cfg(test)]
#[path = "boot_tests.rs"]
mod tests;
