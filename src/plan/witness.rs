//! The witness: how it comes to its little database, and whom it is registered with. It holds nothing
//! that cannot be made again, so it is made anew where a data node would ask for a person; only the
//! data of others is never taken for its own.

use super::boot::{BootPlan, Provision};
use super::facts::{Disk, Facts, Peer};
use crate::config::Config;
use crate::domain::{Fault, MemberView, NodeId, NodeName, PeerReport, Role, SystemId};

/// Decides how a witness boots. It never asks the authority: opening it makes nobody primary.
///
/// # Errors
/// A [`Fault`] when what is on the disk is not a witness's.
pub(super) fn plan(config: &Config, facts: &Facts) -> Result<BootPlan, Fault> {
    let pgdata = config.paths.pgdata.display();
    if let Some(memory) = &facts.memory
        && memory.role != Role::Witness
    {
        return Err(Fault::NeedsPerson(format!(
            "the volume belongs to a data node (a {} when it was last open), and PGNODE_ROLE says \
             that this is a witness: give it a volume of its own",
            memory.role
        )));
    }
    match (&facts.disk, &facts.memory) {
        (Disk::Empty, _) => Ok(BootPlan {
            provision: Provision::Init,
            role: Role::Witness,
            bootstrap: true,
            register: true,
        }),
        (Disk::OldOnly, _) => Err(Fault::NeedsPerson(format!(
            "{pgdata} is empty, but the copy that was set aside in its `.pgnode/old` holds a \
             cluster, which no witness makes: mount the right volume"
        ))),
        (Disk::Foreign { why }, _) => Err(Fault::NeedsPerson(format!(
            "{pgdata} is neither empty nor a PostgreSQL cluster ({why}): nothing in it was touched; \
             empty it or mount the right volume"
        ))),
        // The record is written before the data is put in its place, so this is somebody's data.
        (Disk::Cluster(_), None) => Err(Fault::NeedsPerson(format!(
            "{pgdata} holds a cluster that this witness did not make: mount the right volume"
        ))),
        (Disk::Cluster(cluster), Some(_)) if cluster.major != facts.pg_major => {
            Err(Fault::NeedsPerson(format!(
                "the witness's database was made by PostgreSQL {}, this image has {}: empty its \
                 volume, it holds nothing that the cluster needs",
                cluster.major, facts.pg_major
            )))
        }
        (Disk::Cluster(_), Some(memory)) => Ok(BootPlan {
            provision: Provision::Adopt,
            role: Role::Witness,
            bootstrap: facts.fingerprint.as_ref() != Some(&memory.fingerprint),
            // The open witness keeps its registration; it needs no primary to open.
            register: false,
        }),
    }
}

/// The primary that a witness belongs to: open, of its cluster, on the latest timeline.
#[must_use]
pub fn present_primary(peers: &[Peer], cluster: SystemId) -> Option<(&Peer, &PeerReport)> {
    peers
        .iter()
        .filter_map(|peer| Some((peer, peer.report()?)))
        .filter(|(_, r)| r.is_open_primary() && r.system_id == Some(cluster))
        .max_by_key(|(_, r)| r.timeline)
}

/// What repmgr's table has to say of a witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registration<'a> {
    /// The witness.
    pub node: NodeId,
    /// The primary that is open.
    pub primary: NodeId,
    /// The host that the others reach the witness at.
    pub host: &'a str,
    /// And the port.
    pub port: u16,
}

impl Registration<'_> {
    /// What is wrong with a table of repmgr's (the primary's own, or the witness's copy), if
    /// anything.
    #[must_use]
    pub fn missing_from(&self, table: &[MemberView]) -> Option<String> {
        let row = |id| table.iter().find(|m| m.node_id == id);
        let Some(own) = row(self.node) else {
            return Some("it has no record of this witness".into());
        };
        if own.kind != "witness" {
            return Some(format!("it has this node as a {}", own.kind));
        }
        if !own.active {
            return Some("it has this witness as inactive".into());
        }
        if own.host != self.host || own.port != self.port {
            let Self { host, port, .. } = self;
            return Some(format!(
                "it has this witness at {}:{}, which is {host}:{port}",
                own.host, own.port
            ));
        }
        if own.upstream != Some(self.primary) {
            return Some("this witness belongs to another primary in it".into());
        }
        match row(self.primary) {
            Some(primary) if primary.kind == "primary" => None,
            Some(primary) => Some(format!("it has the primary as a {}", primary.kind)),
            None => Some("it has no record of the primary".into()),
        }
    }
}

/// Why a node of this id and name cannot be registered as a witness in a table of repmgr's.
#[must_use]
pub fn clash(table: &[MemberView], node: NodeId, name: &NodeName) -> Option<String> {
    let taken = table.iter().find(|m| {
        (m.node_id == node && m.kind != "witness") || (m.name == *name && m.node_id != node)
    })?;
    let (id, theirs, kind) = (taken.node_id, &taken.name, &taken.kind);
    Some(format!(
        "the cluster has node {id} ({theirs}) as a {kind}, this witness is node {node} ({name}): \
         give it an id and a name of its own"
    ))
}

/// Whether a copy of repmgr's table says what the primary's own does. Whether a node is active is left
/// out: repmgrd writes that on the witness too.
#[must_use]
pub fn same_members(ours: &[MemberView], theirs: &[MemberView]) -> bool {
    /// Id, name, kind, upstream, host, port.
    type Row<'a> = (NodeId, &'a str, &'a str, Option<NodeId>, &'a str, u16);
    fn rows(table: &[MemberView]) -> Vec<Row<'_>> {
        let mut rows: Vec<Row<'_>> = table
            .iter()
            .map(|m| {
                (
                    m.node_id, &*m.name.0, &*m.kind, m.upstream, &*m.host, m.port,
                )
            })
            .collect();
        rows.sort_unstable();
        rows
    }
    rows(ours) == rows(theirs)
}

#[cfg(test)]
#[path = "witness_tests.rs"]
mod tests;
