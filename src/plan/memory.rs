//! What a node writes down for its next life: `.pgnode/state.json`, 0600, replaced atomically.

use crate::domain::{NodeId, NodeName, Role, SystemId};
use serde::{Deserialize, Serialize};

/// The marker beside the data. It is written only when what it says is already true and synced;
/// what it does not say is found out again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Who we were: a volume must not become another node by a changed name.
    pub node_id: NodeId,
    /// Our name then.
    pub node_name: NodeName,
    /// The cluster that the data belongs to.
    pub system_id: SystemId,
    /// What we were when last open.
    pub role: Role,
    /// Salt of the fingerprint, hexadecimal.
    pub salt: String,
    /// Fingerprint of the settings that were last brought into the database.
    pub fingerprint: String,
    /// Whether repmgr knows us.
    pub registered: bool,
    /// The cluster's registered nodes when last seen, ourselves included.
    #[serde(default)]
    pub members: Vec<Member>,
}

/// A registered node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// repmgr's id.
    pub node_id: NodeId,
    /// repmgr's name.
    pub name: NodeName,
    /// Host of the registered conninfo.
    pub host: String,
    /// Port of the registered conninfo.
    pub port: u16,
}
