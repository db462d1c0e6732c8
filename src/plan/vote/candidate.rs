//! The candidate's side: whether to stand, whom to ask, whether it has won.

use super::ballot::Term;
use super::letter::{Answer, Candidacy, Position, Question, Refusal, Reply};
use super::roster::{Roster, Version};
use super::voter::Voter;
use crate::domain::NodeId;
use crate::domain::{Moment, millis};
use std::collections::BTreeSet;

/// Why a node does not stand for election now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until then nothing can change; afterwards it is asked again.
    Until(Moment, &'static str),
    /// Until something happens.
    ForNews(&'static str),
}

/// What came of a round of questions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Count {
    /// A majority said yes, and nobody that answered holds more than we do.
    Won,
    /// Not now; the refusals, for a sentence.
    Lost {
        /// Who said yes, ourselves included.
        granted: usize,
        /// So many are needed.
        needed: usize,
        /// The shortest time after which a refusal may be another, in milliseconds.
        again_ms: Option<u64>,
    },
}

impl Voter {
    /// Whether this node, which holds data and is not the primary, should stand now.
    ///
    /// # Errors
    /// [`Wait`].
    pub fn should_stand(&self, now: Moment) -> Result<(), Wait> {
        if !self.ballot.roster.names(self.me) {
            return Err(Wait::ForNews("this node is not known as a voter"));
        }
        if let Some(promise) = self.running(now) {
            return Err(Wait::Until(promise.until, "the primary is there"));
        }
        let named = self.yields.filter(|(_, until)| *until > now);
        match named {
            // What the last primary asked for.
            Some((to, _)) if to == self.me => return Ok(()),
            Some((_, until)) => {
                return Err(Wait::Until(
                    until,
                    "the last primary named another successor",
                ));
            }
            None if self.ballot.paused => {
                return Err(Wait::ForNews("elections are paused"));
            }
            None => {}
        }
        if self.quarantined(now).is_err() {
            let until = self.started.after(self.longest_promise());
            return Err(Wait::Until(until, "this node has only just started"));
        }
        let cold = self.started.after(self.timing.cold_wait);
        let other = self.ballot.granted.is_some_and(|id| id != self.me);
        if self.heard.is_none() && other && cold > now {
            return Err(Wait::Until(
                cold,
                "the primary of before may only be starting more slowly",
            ));
        }
        Ok(())
    }

    /// The question without obligation, for the term after `seen`.
    #[must_use]
    pub fn poll(&self, position: Position, seen: Term, attempt: u32) -> Question {
        Question::Poll(self.case(self.ballot.term.max(seen).next(), position, attempt))
    }

    /// Stands: the term is raised and granted to ourselves. The ballot must be synced before the
    /// question leaves. `None`: there is a promise to somebody else after all.
    pub fn stand(
        &mut self,
        now: Moment,
        position: Position,
        seen: Term,
        attempt: u32,
    ) -> Option<Question> {
        if self.running(now).is_some() {
            return None;
        }
        self.ballot.term = self.ballot.term.max(seen).next();
        self.ballot.granted = Some(self.me);
        Some(Question::Grant(self.case(
            self.ballot.term,
            position,
            attempt,
        )))
    }

    /// Counts a round, ourselves included. Takes a newer roster from who knows one, for the next
    /// round: else the node with the most WAL could be kept from standing by one that it never heard.
    pub fn count(&mut self, replies: &[Reply]) -> Count {
        let count = self.tally(replies);
        for reply in replies {
            if let Answer::No(Refusal::OldRoster { roster, former }) = &reply.answer
                && roster.version > self.ballot.roster.version
            {
                self.ballot.take_roster(roster, former.as_ref());
                // Its term as well: an old primary that went by a later one's voters would believe
                // that it still leads, of two without asking anybody.
                if reply.term > self.ballot.term {
                    self.ballot.term = reply.term;
                    self.ballot.granted = None;
                }
            }
        }
        count
    }

    fn tally(&self, replies: &[Reply]) -> Count {
        let mut yes: BTreeSet<NodeId> = BTreeSet::from([self.me]);
        let mut ahead = false;
        let mut again_ms = None;
        for reply in replies {
            match &reply.answer {
                Answer::Yes => {
                    yes.insert(reply.from);
                }
                Answer::No(Refusal::HoldsMore { .. }) => ahead = true,
                Answer::No(Refusal::Promised { for_ms, .. }) => {
                    again_ms = Some(again_ms.map_or(*for_ms, |ms: u64| ms.min(*for_ms)));
                }
                Answer::No(_) => {}
            }
        }
        let enough = |r: &Roster| r.count(&yes) >= r.majority();
        if !ahead && self.ballot.by_every_roster(enough) {
            return Count::Won;
        }
        Count::Lost {
            granted: self.ballot.roster.count(&yes),
            needed: self.ballot.roster.majority(),
            again_ms,
        }
    }

    /// Counts the grants for the term that we stand for, asked for at `sent`. Who has granted a later
    /// term meanwhile, ourselves included, no longer counts. When won the ballot has
    /// changed and must be synced before anything is promoted; the grants are the first beats.
    pub fn elected(&mut self, sent: Moment, replies: &[Reply]) -> Count {
        let ours = self.ballot.granted == Some(self.me) && self.ballot.term > self.ballot.won;
        let of_this_term: Vec<Reply> = replies
            .iter()
            .filter(|r| r.term == self.ballot.term)
            .cloned()
            .collect();
        let count = self.tally(&of_this_term);
        if !ours || count != Count::Won {
            return match count {
                Count::Won => Count::Lost {
                    granted: 0,
                    needed: self.ballot.roster.majority(),
                    again_ms: None,
                },
                lost @ Count::Lost { .. } => lost,
            };
        }
        let term = self.ballot.term;
        self.ballot.won = term;
        self.deposed = None;
        self.answered.clear();
        self.known.clear();
        for reply in of_this_term.iter().filter(|r| r.answer == Answer::Yes) {
            self.answered.insert(reply.from, sent);
            self.tickets.insert(reply.from, reply.ticket);
        }
        // Nothing may be changed before a majority has taken the roster as this term's.
        let mut present = self.ballot.roster.clone();
        present.version = Version { term, change: 0 };
        let before = std::mem::replace(&mut self.ballot.roster, present);
        self.ballot.former.get_or_insert(before);
        self.drop_former();
        count
    }

    fn case(&self, term: Term, position: Position, attempt: u32) -> Candidacy {
        Candidacy {
            term,
            roster: self.ballot.roster.version,
            position,
            attempt,
            promise_ms: millis(self.timing.promise),
        }
    }
}
