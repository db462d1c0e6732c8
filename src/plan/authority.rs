//! Who may be primary: pure functions over what was observed and remembered, in one place, so that
//! another authority (a lease in etcd) can stand beside this one.
//!
//! With N registered nodes, M = N/2 + 1 and R = nodes reached, ourselves included: a primary opens
//! only while the nodes that cannot be reached could not have promoted one of themselves
//! (N − R < M) and no reached node reports another primary or a later timeline.

use super::facts::{Answer, Peer};
use crate::domain::{Lsn, Role, SystemId, Timeline};
use std::fmt;

/// What we are, for the question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// Our cluster.
    pub system_id: SystemId,
    /// Our timeline.
    pub timeline: Timeline,
    /// How far our WAL goes.
    pub lsn: Lsn,
    /// Registered nodes of the cluster when last seen, ourselves included; at least 1.
    pub members: usize,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The consumer port may open, or stay open.
    Open,
    /// Elected anew: it may open as a standby, and be promoted to a timeline of its own.
    Elected,
    /// It must be closed.
    Closed(Reason),
}

/// Why the consumer port is closed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Another node serves clients as the primary.
    OtherPrimary {
        /// Its address.
        peer: String,
        /// Its timeline.
        timeline: Option<Timeline>,
    },
    /// Another node of our cluster serves clients as the primary on a later timeline: this one was
    /// replaced, and rejoins from it.
    Superseded {
        /// Its address.
        peer: String,
        /// Its timeline.
        theirs: Timeline,
        /// Ours.
        ours: Timeline,
    },
    /// The data can only be brought up to date from an open primary, and there is none to use.
    NoSource {
        /// What is missing.
        why: String,
    },
    /// A node has seen a later timeline: somebody was promoted while we were away.
    LaterTimeline {
        /// Its address.
        peer: String,
        /// Its timeline.
        theirs: Timeline,
        /// Ours.
        ours: Timeline,
    },
    /// Another node holds a primary's data of our timeline with at least as much WAL.
    Rival {
        /// Its address.
        peer: String,
        /// How far its WAL goes.
        theirs: Lsn,
        /// Ours.
        ours: Lsn,
    },
    /// A cluster exists already where we were to create one.
    ClusterExists {
        /// A member of it.
        peer: String,
        /// Its identity.
        system_id: SystemId,
    },
    /// A cluster lives where a backup was to become another one, perhaps of the same identity.
    RestoreBeside {
        /// A member of it.
        peer: String,
        /// Its identity.
        system_id: SystemId,
    },
    /// A voter has granted a later term than ours: whoever got it may be the primary.
    LaterTerm {
        /// That term.
        term: u64,
    },
    /// A later term is known and this node was not elected.
    NotElected {
        /// What the voters said.
        why: String,
    },
    /// A person has closed this node, and only a person opens it again.
    Operator,
    /// The node stood still for longer than its lease.
    Frozen {
        /// For so long, in milliseconds.
        ms: u64,
    },
    /// The nodes that cannot be reached could have promoted one of themselves.
    TooFewReached {
        /// Nodes reached, ourselves included.
        reached: usize,
        /// Registered nodes.
        members: usize,
        /// Who did not answer, and why.
        silent: String,
    },
}

impl Reason {
    /// Whether another node contradicts, rather than too few answering.
    #[must_use]
    pub const fn is_conflict(&self) -> bool {
        matches!(
            self,
            Self::OtherPrimary { .. }
                | Self::LaterTimeline { .. }
                | Self::Rival { .. }
                | Self::ClusterExists { .. }
                | Self::RestoreBeside { .. }
        )
    }

    /// Whether asking again may change it; else a person has to.
    #[must_use]
    pub const fn is_asked_again(&self) -> bool {
        !matches!(self, Self::Operator)
    }

    /// Whether a person may overrule it: nobody contradicts, only too few agree.
    #[must_use]
    pub const fn may_be_overruled(&self) -> bool {
        matches!(self, Self::TooFewReached { .. } | Self::NotElected { .. })
    }

    /// Whether the node can rejoin by itself.
    #[must_use]
    pub const fn is_superseded(&self) -> bool {
        matches!(self, Self::Superseded { .. })
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherPrimary {
                peer,
                timeline: Some(t),
            } => {
                write!(f, "{peer} serves clients as the primary on timeline {t}")
            }
            Self::OtherPrimary {
                peer,
                timeline: None,
            } => {
                write!(f, "{peer} serves clients as the primary")
            }
            Self::Superseded { peer, theirs, ours } => write!(
                f,
                "{peer} is the primary on timeline {theirs}, this node's data end on timeline {ours}"
            ),
            Self::NoSource { why } => {
                write!(f, "the data cannot be brought up to date: {why}")
            }
            Self::LaterTimeline { peer, theirs, ours } => write!(
                f,
                "{peer} is on timeline {theirs}, ours is {ours}: \
                 another node was promoted while this one was away"
            ),
            Self::Rival { peer, theirs, ours } => write!(
                f,
                "{peer} also holds a primary's data of our timeline, with WAL up to {theirs} \
                 against our {ours}: a person has to say which one is right"
            ),
            Self::ClusterExists { peer, system_id } => write!(
                f,
                "the disk is empty and REPMGR_MASTER=true would create a new cluster, but {peer} \
                 already belongs to cluster {system_id}: set REPMGR_MASTER=false to clone it"
            ),
            Self::RestoreBeside { peer, system_id } => write!(
                f,
                "PGNODE_RESTORE would begin a cluster here, but {peer} already belongs to cluster \
                 {system_id}: stop that one first, or give the restored node peers of its own \
                 (REPMGR_PARTNER_NODES)"
            ),
            Self::LaterTerm { term } => write!(
                f,
                "term {term}, later than ours, was granted: another node may have been elected"
            ),
            Self::NotElected { why } => {
                write!(f, "this node has to be elected again, and is not: {why}")
            }
            Self::Operator => {
                f.write_str("fenced with `pgnode fence`; `pgnode unfence` lets it open again")
            }
            Self::Frozen { ms } => write!(
                f,
                "this node stood still for {ms} ms, or its clock was set: others may have been elected"
            ),
            Self::TooFewReached {
                reached,
                members,
                silent,
            } => write!(
                f,
                "only {reached} of {members} registered nodes answer, the others could have \
                 promoted one of themselves; no answer from {silent}"
            ),
        }
    }
}

/// Whether a node whose disk says primary may open, or stay open.
#[must_use]
pub fn may_open(ours: &Claim, peers: &[Peer]) -> Verdict {
    if let Some(reason) = other_primary(ours, peers) {
        return Verdict::Closed(reason);
    }
    let mut reached = 1;
    for peer in peers {
        let Some(report) = peer.report() else {
            continue;
        };
        // A peer of another cluster is no member of ours, whatever it says: it can neither be our
        // second primary nor stand in for a node that is silent.
        if report.system_id.is_some_and(|id| id != ours.system_id) {
            continue;
        }
        reached += 1;
        let at = peer.address.clone();
        let Some(theirs) = report.timeline else {
            continue;
        };
        if theirs > ours.timeline {
            return Verdict::Closed(Reason::LaterTimeline {
                peer: at,
                theirs,
                ours: ours.timeline,
            });
        }
        let lsn = report.lsn.unwrap_or_default();
        if report.role == Some(Role::Primary) && theirs == ours.timeline && lsn >= ours.lsn {
            return Verdict::Closed(Reason::Rival {
                peer: at,
                theirs: lsn,
                ours: ours.lsn,
            });
        }
    }
    let members = ours.members.max(1);
    let majority = members / 2 + 1;
    if members.saturating_sub(reached) >= majority {
        return Verdict::Closed(Reason::TooFewReached {
            reached,
            members,
            silent: silent(peers),
        });
    }
    Verdict::Open
}

/// Data that must not open before they have been brought up to date: from whom, if there is somebody.
#[must_use]
pub fn may_rejoin(ours: &Claim, peers: &[Peer]) -> Verdict {
    Verdict::Closed(
        other_primary(ours, peers).unwrap_or_else(|| Reason::NoSource {
            why: "no node serves clients as the primary".into(),
        }),
    )
}

/// The open primary that is not us. Only a single one, on a later timeline and surely of our cluster,
/// is taken for the one that replaced us; anything else is for a person.
fn other_primary(ours: &Claim, peers: &[Peer]) -> Option<Reason> {
    let mut open = peers
        .iter()
        .filter_map(|p| Some((p, p.report()?)))
        .filter(|(_, r)| r.is_open_primary() && r.system_id.is_none_or(|id| id == ours.system_id));
    let (peer, report) = open.next()?;
    let alone = open.next().is_none();
    let peer = peer.address.clone();
    match report.timeline {
        Some(theirs) if alone && theirs > ours.timeline && report.system_id.is_some() => {
            Some(Reason::Superseded {
                peer,
                theirs,
                ours: ours.timeline,
            })
        }
        timeline => Some(Reason::OtherPrimary { peer, timeline }),
    }
}

/// Whether a node with an empty disk may create a cluster: only where there is none.
#[must_use]
pub fn may_create(peers: &[Peer]) -> Verdict {
    member(peers).map_or(Verdict::Open, |(peer, system_id)| {
        Verdict::Closed(Reason::ClusterExists { peer, system_id })
    })
}

/// Whether a node with an empty disk may make a backup a cluster of its own. Beside the one that it
/// was taken from it would be a second primary of the same identity.
#[must_use]
pub fn may_restore(peers: &[Peer]) -> Verdict {
    member(peers).map_or(Verdict::Open, |(peer, system_id)| {
        Verdict::Closed(Reason::RestoreBeside { peer, system_id })
    })
}

fn member(peers: &[Peer]) -> Option<(String, SystemId)> {
    let member = |peer: &Peer| Some((peer.address.clone(), peer.report()?.system_id?));
    peers.iter().find_map(member)
}

fn silent(peers: &[Peer]) -> String {
    let said: Vec<String> = peers
        .iter()
        .filter_map(|p| match &p.answer {
            Answer::Silent(why) => Some(format!("{} ({why})", p.address)),
            Answer::Report(_) => None,
        })
        .collect();
    if said.is_empty() {
        "registered nodes that no setting names".into()
    } else {
        said.join(", ")
    }
}

#[cfg(test)]
#[path = "authority_tests.rs"]
mod tests;
