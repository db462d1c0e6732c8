//! Identities: of a node, of a cluster.

use serde::{Deserialize, Serialize};

/// repmgr's `node_id`: a positive 32-bit number, unique in the cluster, kept on the volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub i32);

impl std::fmt::Display for NodeId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// repmgr's `node_name`: also barman's server name and the `application_name` of its walreceiver.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeName(pub String);

impl NodeName {
    /// The number at the end of the name: `pg2` is 2, `db-10` is 10. `None` without one, or when it
    /// is not a valid node id.
    #[must_use]
    pub fn number(&self) -> Option<NodeId> {
        let head = self.0.trim_end_matches(|c: char| c.is_ascii_digit());
        let n: i32 = self.0.get(head.len()..)?.parse().ok()?;
        (n > 0).then_some(NodeId(n))
    }
}

impl std::fmt::Display for NodeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The database system identifier that initdb gives a cluster; every physical copy shares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SystemId(pub u64);

impl std::fmt::Display for SystemId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_what_the_name_ends_in() {
        for (name, want) in [
            ("node1", Some(1)),
            ("pg2", Some(2)),
            ("db-10", Some(10)),
            ("7", Some(7)),
            ("pg", None),
            ("pg0", None),
            ("", None),
            ("pg99999999999", None),
            ("1pg", None),
        ] {
            assert_eq!(NodeName(name.into()).number(), want.map(NodeId), "{name}");
        }
    }
}
