//! What a voter must not forget.

use super::roster::Roster;
use crate::domain::NodeId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// The number of an election.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Term(pub u64);

impl Term {
    /// The next one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// `.pgnode/ballot.json`: written and synced before the answer that it is about leaves the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ballot {
    /// The latest term that this node knows of.
    pub term: Term,
    /// Whom that term was granted to.
    pub granted: Option<NodeId>,
    /// The latest term that this node itself won.
    pub won: Term,
    /// The voters.
    pub roster: Roster,
    /// The roster before, which counts beside the new one until that is known widely enough.
    #[serde(default)]
    pub former: Option<Roster>,
    /// No elections: maintenance.
    #[serde(default)]
    pub paused: bool,
    /// The longest promise that was ever asked of this node, in milliseconds: for so long it grants
    /// nothing after a start.
    #[serde(default)]
    pub promise_ms: u64,
}

impl Ballot {
    /// Whether this node is the one elected last, as far as it knows.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.won == self.term && self.term > Term(0)
    }

    /// Whether these voters satisfy `enough` by every roster that counts. Never by an empty one.
    pub(super) fn by_every_roster(&self, enough: impl Fn(&Roster) -> bool) -> bool {
        !self.roster.voters.is_empty()
            && enough(&self.roster)
            && self.former.as_ref().is_none_or(enough)
    }

    /// Goes by these voters from now on.
    pub(super) fn take_roster(&mut self, roster: &Roster, former: Option<&Roster>) {
        self.roster = roster.clone();
        self.former = former.cloned();
    }

    /// Whether a roster that counts names this node.
    #[must_use]
    pub fn names(&self, id: NodeId) -> bool {
        self.roster.names(id) || self.former.as_ref().is_some_and(|r| r.names(id))
    }

    /// Whether this node has taken part in anything yet.
    #[must_use]
    pub const fn is_blank(&self) -> bool {
        self.term.0 == 0 && self.roster.voters.is_empty()
    }
}
