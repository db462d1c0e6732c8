//! The voters, and how their number may change.

use super::ballot::Term;
use crate::domain::NodeId;
use crate::plan::Member;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Which roster is the newer one: first by the term of the primary that made it.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
pub struct Version {
    /// Of the primary that made it.
    pub term: Term,
    /// Its changes since it was elected.
    pub change: u64,
}

/// All voters. Empty: not known yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    /// Which one.
    pub version: Version,
    /// By id, each once.
    pub voters: Vec<Member>,
}

impl Roster {
    /// Whether it names this node.
    #[must_use]
    pub fn names(&self, id: NodeId) -> bool {
        self.voters.iter().any(|v| v.node_id == id)
    }

    /// A voter by id.
    #[must_use]
    pub fn voter(&self, id: NodeId) -> Option<&Member> {
        self.voters.iter().find(|v| v.node_id == id)
    }

    /// M: so many grants elect.
    #[must_use]
    pub const fn majority(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    /// How many of its voters are in a set.
    #[must_use]
    pub fn count(&self, among: &BTreeSet<NodeId>) -> usize {
        self.voters
            .iter()
            .filter(|v| among.contains(&v.node_id))
            .count()
    }

    /// So many voters beside the primary must answer that the silent ones could not elect:
    /// N − R < M with R = 1 + this.
    #[must_use]
    pub const fn needs_others(&self) -> usize {
        self.voters.len().saturating_sub(self.majority())
    }

    /// The next roster on the way to the registered nodes: one voter more, one less, or one with
    /// another address. One at a time, so that every majority of the one meets every majority of the
    /// next (Ongaro, "Consensus: Bridging Theory and Practice", 4.1).
    #[must_use]
    pub fn towards(&self, registered: &[Member], ourselves: NodeId, term: Term) -> Option<Self> {
        let added = registered.iter().find(|m| !self.names(m.node_id));
        let removed = self
            .voters
            .iter()
            .find(|v| v.node_id != ourselves && !registered.iter().any(|m| m.node_id == v.node_id));
        let moved = registered
            .iter()
            .find(|m| self.voter(m.node_id).is_some_and(|v| v != *m));
        let mut voters = self.voters.clone();
        if let Some(member) = moved {
            voters.retain(|v| v.node_id != member.node_id);
            voters.push(member.clone());
        } else if let Some(member) = added {
            voters.push(member.clone());
        } else {
            let gone = removed?.node_id;
            voters.retain(|v| v.node_id != gone);
        }
        voters.sort_by_key(|v| v.node_id);
        let change = if self.version.term == term {
            self.version.change + 1
        } else {
            1
        };
        Some(Self {
            version: Version { term, change },
            voters,
        })
    }

    /// Whether so many of its voters have taken a successor that the rest cannot elect by this one,
    /// and no other successor of this one can have been taken.
    #[must_use]
    pub fn is_replaced(&self, acknowledged: &BTreeSet<NodeId>) -> bool {
        let count = self.count(acknowledged);
        // Of two, one alone elects nobody; and a dead second one could otherwise never be removed.
        count >= self.majority() || (self.voters.len() == 2 && count == 1)
    }
}
