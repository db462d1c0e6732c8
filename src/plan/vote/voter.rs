//! One node's part: what it remembers, and how it answers.

use super::ballot::{Ballot, Term};
use super::leader::Lease;
use super::letter::{Answer, Candidacy, Letter, Position, Question, Refusal, Reply};
use super::roster::Version;
use crate::domain::{Moment, Timing, millis};
use crate::domain::{NodeId, SystemId};
use std::collections::BTreeMap;

/// What the node is at the moment, for an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The cluster.
    pub system_id: SystemId,
    /// What kind of voter it is.
    pub holds: Holds,
    /// It is the primary and its port is not closed: it accepts writes, or may any moment.
    pub primary: bool,
}

/// What WAL a voter holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// None, as a witness or a node that is being cloned.
    Nothing,
    /// Up to here, and no more will be received from the old primary (rule 3).
    Upto(Position),
    /// Some, but how far is not known.
    Unknown,
}

/// A promise that is running.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Promise {
    pub(super) to: NodeId,
    pub(super) until: Moment,
}

/// A node's part in the cluster's elections.
#[derive(Clone, Debug)]
pub struct Voter {
    pub(super) me: NodeId,
    pub(super) timing: Timing,
    pub(super) ballot: Ballot,
    pub(super) started: Moment,
    pub(super) promise: Option<Promise>,
    /// The primary heard last, whether it serves, and when; since the start.
    pub(super) heard: Option<Heard>,
    pub(super) yields: Option<(NodeId, Moment)>,
    /// The primary that released us last: a beat of its may still have been on the way.
    released: Option<(NodeId, Moment)>,
    ticket: u64,
    /// As the primary: when the newest beat was sent that each voter answered.
    pub(super) answered: BTreeMap<NodeId, Moment>,
    /// As the primary: the newest roster that each voter has.
    pub(super) known: BTreeMap<NodeId, Version>,
    /// As the primary: each voter's ticket.
    pub(super) tickets: BTreeMap<NodeId, u64>,
    /// As the primary: voters that have no ballot, with the ticket of their present life.
    pub(super) blank: BTreeMap<NodeId, u64>,
    /// As the primary: when its port was closed last. Answers to what was sent before count no more.
    pub(super) closed: Option<Moment>,
    /// A voter knows a later term.
    pub(super) deposed: Option<Term>,
}

/// The primary as it was heard last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// Who.
    pub primary: NodeId,
    /// Its term.
    pub term: Term,
    /// Whether it serves clients.
    pub open: bool,
    /// When.
    pub at: Moment,
}

impl Voter {
    /// A node that starts now with what it had written down. `seed` makes its tickets differ from
    /// those of its earlier lives.
    #[must_use]
    pub const fn new(me: NodeId, timing: Timing, ballot: Ballot, now: Moment, seed: u64) -> Self {
        Self {
            me,
            timing,
            ballot,
            started: now,
            promise: None,
            heard: None,
            yields: None,
            released: None,
            ticket: seed,
            answered: BTreeMap::new(),
            known: BTreeMap::new(),
            tickets: BTreeMap::new(),
            blank: BTreeMap::new(),
            closed: None,
            deposed: None,
        }
    }

    /// What has to be on the disk before anything that was just decided leaves the node.
    #[must_use]
    pub const fn ballot(&self) -> &Ballot {
        &self.ballot
    }

    /// The durations it goes by.
    #[must_use]
    pub const fn timing(&self) -> &Timing {
        &self.timing
    }

    /// The primary that was heard last.
    #[must_use]
    pub const fn heard(&self) -> Option<Heard> {
        self.heard
    }

    /// Answers. When the ballot has changed the answer may only leave once that is synced.
    pub fn answer(&mut self, now: Moment, letter: &Letter, ours: &Standing) -> Reply {
        let verdict = if letter.system_id == ours.system_id {
            self.judge(now, letter, ours)
        } else {
            Err(Refusal::OtherCluster)
        };
        Reply {
            from: self.me,
            term: self.ballot.term,
            roster: self.ballot.roster.version,
            ticket: self.ticket,
            answer: match verdict {
                Ok(()) => Answer::Yes,
                Err(why) => Answer::No(why),
            },
        }
    }

    /// A refusal that is none of the rules' business.
    #[must_use]
    pub const fn refuse(&self, why: Refusal) -> Reply {
        Reply {
            from: self.me,
            term: self.ballot.term,
            roster: self.ballot.roster.version,
            ticket: self.ticket,
            answer: Answer::No(why),
        }
    }

    fn judge(&mut self, now: Moment, letter: &Letter, ours: &Standing) -> Result<(), Refusal> {
        let from = letter.from;
        match &letter.question {
            Question::Beat { .. } => self.beaten(now, from, &letter.question, ours),
            Question::Poll(case) => self.weigh(now, from, case, ours),
            Question::Grant(case) => {
                self.weigh(now, from, case, ours)?;
                self.ballot.term = case.term;
                self.ballot.granted = Some(from);
                self.promise_to(now, from, case.promise_ms);
                Ok(())
            }
            Question::Release {
                term,
                successor,
                ticket,
            } => {
                let running = self.promise.is_some_and(|p| p.to == from);
                if !running || *term != self.ballot.term || *ticket != self.ticket {
                    return Err(Refusal::WrongTicket);
                }
                self.promise = None;
                self.ticket = self.ticket.wrapping_add(1);
                self.released = Some((from, now.after(LATE_BEATS)));
                self.yields = successor.map(|to| (to, now.after(self.timing.yield_for)));
                Ok(())
            }
        }
    }

    fn beaten(
        &mut self,
        now: Moment,
        from: NodeId,
        beat: &Question,
        ours: &Standing,
    ) -> Result<(), Refusal> {
        let Question::Beat {
            term,
            roster,
            former,
            paused,
            open,
            promise_ms,
            admits,
        } = beat
        else {
            return Ok(());
        };
        // Who beats with a term has won it, whomever we granted it to. Only the first is not won:
        // two nodes may have founded it.
        let other = self.ballot.granted != Some(from);
        let elsewhere = *term == self.ballot.term && *term == Term(1) && other;
        if *term < self.ballot.term || elsewhere {
            return Err(Refusal::LaterTerm {
                granted: self.ballot.granted,
            });
        }
        let late = |(id, until): (NodeId, Moment)| id == from && until > now;
        if self.released.is_some_and(late) {
            return Err(Refusal::Released);
        }
        if ours.primary {
            // Two primaries: the one of the earlier term closes.
            self.deposed = self.deposed.max(Some(*term));
            return Err(Refusal::Primary);
        }
        if self.ballot.is_blank() {
            // It may be a voter that has lost its disk, and with it a promise to another or the
            // grant of a later term. A primary that holds its lease in our present life shows that
            // no such grant has made another one.
            self.quarantined(now)?;
            if !admits.contains(&(self.me, self.ticket)) {
                return Err(Refusal::Blank);
            }
        }
        if let Some(p) = self.running(now).filter(|p| p.to != from) {
            return Err(promised(now, p));
        }
        self.ballot.term = *term;
        self.ballot.granted = Some(from);
        if roster.version > self.ballot.roster.version {
            self.ballot.take_roster(roster, former.as_ref());
        } else if roster.version == self.ballot.roster.version && former.is_none() {
            self.ballot.former = None;
        }
        self.ballot.paused = *paused;
        self.promise_to(now, from, *promise_ms);
        self.yields = None;
        self.ticket = self.ticket.wrapping_add(1);
        self.heard = Some(Heard {
            primary: from,
            term: *term,
            open: *open,
            at: now,
        });
        Ok(())
    }

    /// The rules for a grant; the same for a poll.
    fn weigh(
        &self,
        now: Moment,
        from: NodeId,
        case: &Candidacy,
        ours: &Standing,
    ) -> Result<(), Refusal> {
        if !self.ballot.names(from) || !self.ballot.names(self.me) {
            return Err(Refusal::Stranger);
        }
        if case.roster < self.ballot.roster.version {
            return Err(Refusal::OldRoster {
                roster: self.ballot.roster.clone(),
                former: self.ballot.former.clone(),
            });
        }
        let again = case.term == self.ballot.term && self.ballot.granted == Some(from);
        if case.term <= self.ballot.term && !again {
            return Err(Refusal::LaterTerm {
                granted: self.ballot.granted,
            });
        }
        // A lease that was earned may be used any moment.
        let earned = matches!(self.lease(), Lease::Until(end) if now < end);
        if ours.primary || earned {
            return Err(Refusal::Primary);
        }
        if let Some(p) = self.running(now).filter(|p| p.to != from) {
            return Err(promised(now, p));
        }
        self.quarantined(now)?;
        let named = self
            .yields
            .filter(|(_, until)| *until > now)
            .map(|(to, _)| to);
        match named {
            Some(to) if to != from => return Err(Refusal::Yields { to }),
            Some(_) => {}
            None if self.ballot.paused => return Err(Refusal::Paused),
            None => {}
        }
        match ours.holds {
            Holds::Nothing => Ok(()),
            Holds::Unknown => Err(Refusal::NoPosition),
            Holds::Upto(position) if position > case.position => {
                Err(Refusal::HoldsMore { position })
            }
            Holds::Upto(position) => {
                let tie = position == case.position && self.me < from && named.is_none();
                if tie && !again && case.attempt < TIES && !self.ballot.leads() {
                    return Err(Refusal::Better);
                }
                Ok(())
            }
        }
    }

    pub(super) fn running(&self, now: Moment) -> Option<Promise> {
        self.promise.filter(|p| p.until > now)
    }

    /// Promises are not written down: after a start there may be one that was forgotten.
    pub(super) fn quarantined(&self, now: Moment) -> Result<(), Refusal> {
        let until = self.started.after(self.longest_promise());
        if until > now {
            return Err(Refusal::Promised {
                to: None,
                for_ms: millis(now.until(until)),
            });
        }
        Ok(())
    }

    pub(super) fn longest_promise(&self) -> std::time::Duration {
        let asked = std::time::Duration::from_millis(self.ballot.promise_ms);
        self.timing.promise.max(asked)
    }

    pub(super) fn promise_to(&mut self, now: Moment, to: NodeId, asked_ms: u64) {
        self.ballot.promise_ms = self.ballot.promise_ms.max(asked_ms);
        let until = now.after(self.longest_promise());
        self.promise = Some(Promise { to, until });
    }
}

/// How long a beat may be on its way.
const LATE_BEATS: std::time::Duration = std::time::Duration::from_secs(1);

/// Attempts in which a tie goes to the lower id; afterwards that node is taken for unable.
const TIES: u32 = 3;

fn promised(now: Moment, promise: Promise) -> Refusal {
    Refusal::Promised {
        to: Some(promise.to),
        for_ms: millis(now.until(promise.until)),
    }
}
