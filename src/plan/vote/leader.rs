//! The primary's side: beats, the lease that they earn, the roster that they carry.

use super::ballot::Term;
use super::letter::{Answer, Question, Refusal, Reply};
use super::roster::Roster;
use super::voter::Voter;
use crate::domain::NodeId;
use crate::domain::{Moment, millis};
use crate::plan::Member;
use std::collections::BTreeSet;

/// How long the primary may be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lease {
    /// Not at all.
    None,
    /// Until then.
    Until(Moment),
    /// The other voters could not elect anybody without us.
    Unlimited,
}

impl Lease {
    /// Whether it holds at that moment.
    #[must_use]
    pub fn holds(self, now: Moment) -> bool {
        match self {
            Self::None => false,
            Self::Until(end) => now < end,
            Self::Unlimited => true,
        }
    }
}

impl Voter {
    /// The first primary of a new cluster, or of one from before there were terms: it leads term 1
    /// alone; the other voters are enrolled one by one. Changes nothing for a node that knows a term
    /// already. Whoever calls it has made sure that there is no other primary.
    pub fn found(&mut self, registered: &[Member]) {
        if !self.ballot.is_blank() {
            return;
        }
        self.ballot.term = Term(1);
        self.ballot.won = Term(1);
        self.ballot.granted = Some(self.me);
        self.ballot.roster = Roster {
            version: super::Version {
                term: Term(1),
                change: 0,
            },
            voters: registered
                .iter()
                .filter(|m| m.node_id == self.me)
                .cloned()
                .collect(),
        };
    }

    /// A person says that this node is the primary, whatever the others have granted: a new term
    /// without an election. The voters take it once no promise to another runs; another primary that
    /// hears of it closes. `voters` where none are known;
    /// no term earlier than `least`.
    pub fn usurp(&mut self, voters: &[Member], least: Term) {
        if self.ballot.roster.voters.is_empty() {
            self.ballot.roster.voters = voters.to_vec();
        }
        // Far enough on that no election that is under way takes the same one.
        let term = Term(self.ballot.term.0 + 8).max(least);
        self.ballot.term = term;
        self.ballot.won = term;
        self.ballot.granted = Some(self.me);
        self.ballot.roster.version = super::Version { term, change: 0 };
        self.ballot.former = None;
        self.deposed = None;
        self.answered.clear();
        self.known.clear();
        self.blank.clear();
    }

    /// A person puts this node in the place of all that cannot be reached: as [`Voter::usurp`], and it
    /// counts alone. The registered nodes are enrolled again one by one, as they answer.
    pub fn seize(&mut self, ourselves: &Member, least: Term) {
        self.usurp(&[], least);
        self.ballot.roster.voters = vec![ourselves.clone()];
    }

    /// The question for all other voters, of the former roster too, and for all registered nodes
    /// that are not voters yet. A deposed node sends none: the promises it still got would keep the
    /// others from electing. Note the moment **before** it is sent.
    #[must_use]
    pub fn beat(&self, now: Moment, open: bool) -> Question {
        let leased = self.lease().holds(now);
        let blank = self.blank.iter().filter(|_| leased);
        Question::Beat {
            term: self.ballot.won,
            roster: self.ballot.roster.clone(),
            former: self.ballot.former.clone(),
            paused: self.ballot.paused,
            open,
            promise_ms: millis(self.timing.promise),
            admits: blank.map(|(id, ticket)| (*id, *ticket)).collect(),
        }
    }

    /// A voter answered a beat that was sent at that moment. The ballot may change.
    pub fn heard_back(&mut self, sent: Moment, reply: &Reply) {
        if self.closed.is_some_and(|at| sent < at) {
            return;
        }
        let newest = self.answered.get(&reply.from);
        if newest.is_none_or(|at| *at <= sent) {
            self.tickets.insert(reply.from, reply.ticket);
        }
        match &reply.answer {
            Answer::Yes => {
                self.blank.remove(&reply.from);
                let newest = self.answered.entry(reply.from).or_insert(sent);
                *newest = (*newest).max(sent);
                let known = self.known.entry(reply.from).or_default();
                *known = (*known).max(reply.roster);
                self.drop_former();
            }
            Answer::No(Refusal::LaterTerm { granted }) => {
                // A late answer to a beat of an earlier term of ours names ourselves.
                let other = reply.term == self.ballot.won && *granted != Some(self.me);
                if reply.term > self.ballot.won || other {
                    self.deposed = self.deposed.max(Some(reply.term));
                }
            }
            Answer::No(Refusal::Blank) => {
                self.blank.insert(reply.from, reply.ticket);
            }
            Answer::No(_) => {}
        }
    }

    /// A later term that a voter has granted: whoever won it may be open already.
    #[must_use]
    pub const fn deposed(&self) -> Option<Term> {
        self.deposed
    }

    /// How long we may be open, by the answers so far. To be asked with the ballot synced.
    #[must_use]
    pub fn lease(&self) -> Lease {
        if !self.ballot.leads() || self.deposed.is_some() || self.ballot.roster.voters.is_empty() {
            return Lease::None;
        }
        let by = |roster: &Roster| -> Lease {
            let needed = roster.needs_others();
            let Some(index) = needed.checked_sub(1) else {
                return Lease::Unlimited;
            };
            let mut sent: Vec<Moment> = roster
                .voters
                .iter()
                .filter(|v| v.node_id != self.me)
                .filter_map(|v| self.answered.get(&v.node_id).copied())
                .collect();
            sent.sort_unstable_by(|a, b| b.cmp(a));
            sent.get(index)
                .map_or(Lease::None, |at| Lease::Until(at.after(self.timing.lease)))
        };
        let present = by(&self.ballot.roster);
        let former = self.ballot.former.as_ref().map_or(Lease::Unlimited, by);
        present.min(former)
    }

    /// Whether a voter has answered within a lease.
    #[must_use]
    pub fn hears(&self, voter: NodeId, now: Moment) -> bool {
        let at = self.answered.get(&voter);
        at.is_some_and(|at| at.after(self.timing.lease) > now)
    }

    /// The voters whose newest answer is no older than a lease, for a sentence.
    #[must_use]
    pub fn reached(&self, now: Moment) -> usize {
        let fresh = |at: &Moment| at.after(self.timing.lease) > now;
        1 + self.answered.values().filter(|at| fresh(at)).count()
    }

    /// Brings the roster a step nearer to the registered nodes. Only a primary that holds its lease
    /// may, only once the last change is known widely enough, and only when the lease holds by the
    /// new roster as well: with one voter dead of two, a third is taken in once it answers.
    pub fn enrol(&mut self, now: Moment, registered: &[Member]) {
        if !self.lease().holds(now) || self.ballot.former.is_some() {
            return;
        }
        if !registered.iter().any(|m| m.node_id == self.me) {
            return;
        }
        // A voter that has not answered yet could not vote, and would only raise the majority.
        let able: Vec<Member> = registered
            .iter()
            .filter(|m| self.ballot.names(m.node_id) || self.answered.contains_key(&m.node_id))
            .cloned()
            .collect();
        let next = self.ballot.roster.towards(&able, self.me, self.ballot.won);
        if let Some(next) = next {
            let former = std::mem::replace(&mut self.ballot.roster, next);
            self.ballot.former = Some(former.clone());
            self.drop_former();
            if !self.lease().holds(now) {
                self.ballot.roster = former;
                self.ballot.former = None;
            }
        }
    }

    /// Begins or ends the maintenance in which nobody is elected; the beats carry it.
    pub fn pause(&mut self, paused: bool) {
        self.ballot.paused = paused;
    }

    /// The farewell to one voter after the last byte is written and the port is closed.
    #[must_use]
    pub fn release(&self, to: NodeId, successor: Option<NodeId>) -> Question {
        Question::Release {
            term: self.ballot.won,
            successor,
            ticket: self.tickets.get(&to).copied().unwrap_or_default(),
        }
    }

    /// The port is closed: what was earned is gone, also by answers that are still on their way, and
    /// a later opening earns it again.
    pub fn closed(&mut self, now: Moment) {
        self.answered.clear();
        self.closed = Some(now);
    }

    pub(super) fn drop_former(&mut self) {
        let Some(former) = &self.ballot.former else {
            return;
        };
        let version = self.ballot.roster.version;
        let mut acknowledged: BTreeSet<NodeId> = self
            .known
            .iter()
            .filter(|(_, known)| **known >= version)
            .map(|(id, _)| *id)
            .collect();
        acknowledged.insert(self.me);
        if former.is_replaced(&acknowledged) {
            self.ballot.former = None;
        }
    }
}
