//! What the nodes say to each other over `POST /vote`.

use super::ballot::Term;
use super::roster::{Roster, Version};
use crate::domain::{Lsn, NodeId, SystemId, Timeline};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How far a node's WAL goes. Ordered: a later term first, then a later timeline. The timeline alone
/// does not rank: two nodes that were promoted while they could not see each other take the same
/// number, and a primary that is elected again stays on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// The term of the primary that wrote the last of it. Each primary writes its term into the
    /// database before it serves anybody, so that this is read from the WAL's own content, once all
    /// that was received is replayed.
    pub term: Term,
    /// The timeline that it is on.
    pub timeline: Timeline,
    /// Written and synced here, replayed or not.
    pub lsn: Lsn,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} on timeline {}, written in term {}",
            self.lsn, self.timeline, self.term
        )
    }
}

/// A question with its sender.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Letter {
    /// The cluster.
    pub system_id: SystemId,
    /// Who asks.
    pub from: NodeId,
    /// What.
    pub question: Question,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "lowercase")]
pub enum Question {
    /// The primary: go on granting nobody anything.
    Beat {
        /// The term it was elected in.
        term: Term,
        /// The voters.
        roster: Roster,
        /// The voters before, while they count beside the present ones.
        former: Option<Roster>,
        /// Whether elections are paused.
        paused: bool,
        /// Whether it serves clients, so that others can follow it.
        open: bool,
        /// How long the promise has to be at least, in milliseconds.
        promise_ms: u64,
        /// The blank voters that may begin, each by the ticket that it refused with.
        #[serde(default)]
        admits: Vec<(NodeId, u64)>,
    },
    /// A candidate: would you?
    Poll(Candidacy),
    /// A candidate: do.
    Grant(Candidacy),
    /// The primary has closed in order: promises to it end.
    Release {
        /// Its term.
        term: Term,
        /// Who is to follow it.
        successor: Option<NodeId>,
        /// From this voter's last answer: an old release cannot be sent again.
        ticket: u64,
    },
}

/// A candidate's case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Candidacy {
    /// The term it wants to be elected in.
    pub term: Term,
    /// The roster it counts by.
    pub roster: Version,
    /// How far its WAL goes.
    pub position: Position,
    /// How often it has tried: ties are only broken by id at first.
    pub attempt: u32,
    /// As in [`Question::Beat`].
    pub promise_ms: u64,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Who answers.
    pub from: NodeId,
    /// The latest term it knows of.
    pub term: Term,
    /// The roster it has.
    pub roster: Version,
    /// For a release.
    pub ticket: u64,
    /// Yes, or why not.
    pub answer: Answer,
}

/// Yes or no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// Yes.
    Yes,
    /// No.
    No(Refusal),
}

/// Why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "why", rename_all = "snake_case")]
pub enum Refusal {
    /// Another cluster's node asks.
    OtherCluster,
    /// The asker is not in our roster, or we have none.
    Stranger,
    /// We know a newer roster: this one.
    OldRoster {
        /// The voters.
        roster: Roster,
        /// Those before, while they count.
        former: Option<Roster>,
    },
    /// We have no ballot. It may be lost, and with it a later term's grant: a primary that holds its
    /// lease has to let us in.
    Blank,
    /// A later term, or this one for somebody else, was granted.
    LaterTerm {
        /// Whom.
        granted: Option<NodeId>,
    },
    /// A promise to a primary is running.
    Promised {
        /// To whom; `None`: we have only just started and may have forgotten one.
        to: Option<NodeId>,
        /// For so long, in milliseconds.
        for_ms: u64,
    },
    /// We are the primary.
    Primary,
    /// Elections are paused.
    Paused,
    /// We hold WAL that the candidate lacks.
    HoldsMore {
        /// So far.
        position: Position,
    },
    /// We do not know how far our WAL goes.
    NoPosition,
    /// We are as far as the candidate and our id is lower.
    Better,
    /// A primary that closed in order has named another successor.
    Yields {
        /// Whom.
        to: NodeId,
    },
    /// The release is not for our present promise.
    WrongTicket,
    /// It has closed a moment ago, and said so.
    Released,
    /// A person has fenced us: we keep a primary's lease, and elect nobody.
    Fenced,
    /// Our ballot could not be written.
    Disk,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherCluster => f.write_str("it belongs to another cluster"),
            Self::Stranger => f.write_str("it does not know this node as a voter"),
            Self::OldRoster { .. } => f.write_str("it knows a newer list of voters"),
            Self::Blank => f.write_str("it has no ballot yet"),
            Self::LaterTerm { granted: Some(id) } => {
                write!(f, "it has granted this term or a later one to node {id}")
            }
            Self::LaterTerm { granted: None } => f.write_str("it knows a later term"),
            Self::Promised {
                to: Some(id),
                for_ms,
            } => write!(
                f,
                "it heard the primary, node {id}: promised for {for_ms} ms"
            ),
            Self::Promised { to: None, for_ms } => {
                write!(f, "it has only just started and waits for {for_ms} ms")
            }
            Self::Primary => f.write_str("it is itself the primary"),
            Self::Paused => f.write_str("elections are paused"),
            Self::HoldsMore { position } => write!(f, "it holds WAL up to {position}"),
            Self::NoPosition => f.write_str("it does not know how far its WAL goes"),
            Self::Better => f.write_str("it is as far and has the lower id"),
            Self::Yields { to } => write!(f, "the last primary named node {to}"),
            Self::WrongTicket => f.write_str("it takes the release for an old one"),
            Self::Released => f.write_str("it has just been told that this primary is closed"),
            Self::Fenced => f.write_str("a person has fenced it"),
            Self::Disk => f.write_str("it cannot write its ballot"),
        }
    }
}
