//! A node as the runtime drives it: questions, beats, the port.

use crate::world::{
    Clock, Disk, Effect, Flaw, MS, Message, Node, Pending, Port, SYSTEM, Timer, Us, World, id,
    index, note,
};
use pgnode::domain::NodeId;
use pgnode::plan::vote::{
    Answer, Holds, Lease, Letter, Moment, Position, Question, Refusal, Reply, Standing, Term,
    Timing, Voter,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::Duration;

/// A process starts with what is on its disk.
#[expect(clippy::too_many_arguments, reason = "what a node is made of")]
pub(crate) fn start(
    now: Us,
    me: NodeId,
    witness: bool,
    clock: Clock,
    timing: Timing,
    disk: Disk,
    life: u32,
    flaw: Flaw,
) -> Node {
    let mut believed = timing;
    if flaw == Flaw::LongLease {
        believed.lease = timing.promise * 2;
    }
    let started = if flaw == Flaw::NoQuarantine {
        Moment(0)
    } else {
        clock.read(now)
    };
    let seed = (now << 20) | u64::from(life);
    Node {
        id: me,
        witness,
        clock,
        timing,
        alive: true,
        frozen: false,
        backlog: Vec::new(),
        woke: None,
        slow_disk: false,
        life,
        voter: Voter::new(me, believed, disk.ballot.clone(), started, seed),
        disk,
        syncs: VecDeque::new(),
        pending: BTreeMap::new(),
        port: Port::Closed,
        promoting: false,
        elected_unsynced: false,
        lease: Lease::None,
        lease_timer: None,
        epoch: 0,
        opening: 0,
        beating: 0,
        stopping: None,
        released_until: Moment(0),
        followers: BTreeMap::new(),
        flushed: BTreeMap::new(),
        barrier: None,
        acknowledged: 0,
        following: None,
        rejoining: None,
        round: None,
        standing: 0,
        attempt: 0,
        seen: Term(0),
    }
}

impl World {
    /// The loops of a node that has started.
    pub(crate) fn boot(&mut self, i: usize) {
        self.beat_soon(i);
        let delay = self.delay(10, 1000);
        self.stand_in(i, delay);
        self.recheck(i);
    }

    pub(crate) fn beat_soon(&mut self, i: usize) {
        let number = self.fresh();
        self.nodes[i].beating = number;
        self.timer(i, 0, Timer::Beat(number));
    }

    pub(crate) fn fired(&mut self, i: usize, timer: Timer) {
        match timer {
            Timer::Beat(number) if number == self.nodes[i].beating => self.beat(i),
            Timer::Lease => self.recheck(i),
            Timer::Closed(epoch) if epoch == self.nodes[i].epoch => self.closed(i),
            Timer::Synced => self.synced(i),
            Timer::Answer { from, id, letter } => self.answer(i, from, id, &letter),
            Timer::Stand(number) if number == self.nodes[i].standing => self.stand_tick(i),
            Timer::Case(number) if number == self.nodes[i].standing => self.make_case(i),
            Timer::Patience(round) => {
                if self.nodes[i].round.as_ref().is_some_and(|r| r.id == round) {
                    self.finish_round(i);
                }
            }
            Timer::Promoted(epoch) if epoch == self.nodes[i].epoch => self.promoted(i),
            Timer::Opened(epoch) if epoch == self.nodes[i].epoch => self.opened(i),
            Timer::Rejoined(connection) => self.rejoined(i, connection),
            Timer::Write(epoch) if epoch == self.nodes[i].opening => self.write(i),
            Timer::Beat(_)
            | Timer::Closed(_)
            | Timer::Stand(_)
            | Timer::Case(_)
            | Timer::Promoted(_)
            | Timer::Opened(_)
            | Timer::Write(_) => {}
        }
    }

    pub(crate) fn deliver(&mut self, from: usize, i: usize, message: Message) {
        match message {
            Message::Question { id, letter } => {
                let grant = matches!(letter.question, Question::Grant(_));
                if grant && self.nodes[i].following.is_some() && self.flaw != Flaw::ReceiverKept {
                    // Rule 3: it ends first, then the position is read.
                    let delay = self.delay(1, 30);
                    self.timer(i, delay, Timer::Answer { from, id, letter });
                } else {
                    self.answer(i, from, id, &letter);
                }
            }
            Message::Reply { id, reply } => self.replied(i, from, id, reply),
            Message::Connect { connection } => self.connected(i, from, connection),
            Message::Stream { connection, wal } => self.streamed(i, from, connection, &wal),
            Message::Flushed { lineage, lsn, life } => self.flushed(i, from, lineage, lsn, life),
        }
    }

    fn answer(&mut self, i: usize, from: usize, id: u64, letter: &Rc<Letter>) {
        let now = self.local(i);
        let grant = matches!(letter.question, Question::Grant(_));
        if grant && self.flaw != Flaw::ReceiverKept {
            self.nodes[i].following = None;
        }
        let ours = Standing {
            system_id: SYSTEM,
            holds: self.holds(i),
            primary: self.nodes[i].is_primary(),
        };
        let before = self.nodes[i].voter.ballot().clone();
        let mut reply = self.nodes[i].voter.answer(now, letter, &ours);
        self.break_rule(letter, &mut reply);
        if *self.nodes[i].voter.ballot() != before {
            note!(
                self,
                "node {} now has {:?}",
                i + 1,
                self.nodes[i].voter.ballot()
            );
        }
        let yes = reply.answer == Answer::Yes;
        if self.trace.is_some() && !(yes && matches!(letter.question, Question::Beat { .. })) {
            note!(
                self,
                "node {} to {}: {:?} → {:?}",
                from + 1,
                i + 1,
                letter.question,
                reply.answer
            );
        }
        if yes && grant {
            self.provoke(i);
        }
        if let (true, Question::Beat { open, .. }) = (yes, &letter.question) {
            if *open {
                self.follow(i, from);
            }
            self.nodes[i].attempt = 0;
        }
        if yes {
            self.stand_in(i, MS);
        }
        if self.flaw == Flaw::Unsynced {
            self.send(i, from, Message::Reply { id, reply });
            self.after_sync(i, Vec::new());
        } else {
            self.after_sync(i, vec![Effect::Send(from, Message::Reply { id, reply })]);
        }
        self.recheck(i);
    }

    fn break_rule(&self, letter: &Letter, reply: &mut Reply) {
        let Question::Grant(case) = &letter.question else {
            return;
        };
        if self.flaw == Flaw::TermIgnored
            && matches!(reply.answer, Answer::No(Refusal::LaterTerm { .. }))
        {
            reply.answer = Answer::Yes;
            reply.term = case.term;
        }
    }

    fn position(&self, i: usize) -> Position {
        self.nodes[i].disk.wal.position()
    }

    pub(crate) fn holds(&self, i: usize) -> Holds {
        let node = &self.nodes[i];
        if node.witness || (node.disk.blank && node.disk.broken) {
            Holds::Nothing
        } else if node.disk.broken {
            Holds::Unknown
        } else {
            Holds::Upto(self.position(i))
        }
    }

    fn replied(&mut self, i: usize, from: usize, id: u64, reply: Reply) {
        match self.nodes[i].pending.remove(&id) {
            Some(Pending::Beat(sent)) => {
                self.nodes[i].voter.heard_back(sent, &reply);
                if let Some(term) = self.nodes[i].voter.deposed() {
                    self.nodes[i].seen = self.nodes[i].seen.max(term);
                    self.stand_in(i, MS);
                }
                self.after_sync(i, vec![Effect::Recheck]);
            }
            Some(Pending::Round(number)) => {
                let Some(round) = self.nodes[i].round.as_mut().filter(|r| r.id == number) else {
                    return;
                };
                round.waiting.remove(&from);
                round.replies.push(reply);
                let old = self.nodes[i].voter.ballot().granted.map(index);
                let round = self.nodes[i].round.as_ref();
                if round.is_some_and(|r| r.waiting.iter().all(|w| Some(*w) == old)) {
                    self.finish_round(i);
                }
            }
            None => {}
        }
    }

    /// What leaves only once the ballot is on the disk.
    pub(crate) fn after_sync(&mut self, i: usize, effects: Vec<Effect>) {
        let ballot = self.nodes[i].voter.ballot().clone();
        if self.nodes[i].syncs.is_empty() && self.nodes[i].disk.ballot == ballot {
            for effect in effects {
                self.perform(i, effect);
            }
            return;
        }
        self.nodes[i].syncs.push_back((ballot, effects));
        if self.nodes[i].syncs.len() == 1 {
            self.start_sync(i);
        }
    }

    fn start_sync(&mut self, i: usize) {
        let delay = match self.nodes[i].slow_disk {
            true => self.delay(200, 3000),
            false => self.delay(1, 40),
        };
        self.timer(i, delay, Timer::Synced);
    }

    fn synced(&mut self, i: usize) {
        let Some((ballot, effects)) = self.nodes[i].syncs.pop_front() else {
            return;
        };
        self.nodes[i].disk.ballot = ballot;
        // Those behind it that need no more than what is there now.
        if !self.nodes[i].syncs.is_empty() {
            self.start_sync(i);
        }
        for effect in effects {
            self.perform(i, effect);
        }
        self.recheck(i);
    }

    fn perform(&mut self, i: usize, effect: Effect) {
        match effect {
            Effect::Send(to, message) => self.send(i, to, message),
            Effect::Ask(round) => self.ask(i, round),
            Effect::Recheck => {
                self.nodes[i].elected_unsynced = false;
                self.recheck(i);
            }
        }
    }

    pub(crate) fn voters(&self, i: usize) -> BTreeSet<usize> {
        let ballot = self.nodes[i].voter.ballot();
        let former = ballot.former.iter().flat_map(|r| &r.voters);
        let all = ballot.roster.voters.iter().chain(former);
        all.map(|v| index(v.node_id)).filter(|v| *v != i).collect()
    }

    pub(crate) fn question(
        &mut self,
        i: usize,
        to: usize,
        question: &Question,
        p: Pending,
    ) -> Message {
        let number = self.fresh();
        let node = &mut self.nodes[i];
        node.pending.insert(number, p);
        while node.pending.len() > 100 {
            node.pending.pop_first();
        }
        let letter = Letter {
            system_id: SYSTEM,
            from: id(i),
            question: question.clone(),
        };
        debug_assert_ne!(to, i);
        Message::Question {
            id: number,
            letter: Rc::new(letter),
        }
    }

    // ---- the primary ----

    fn beat(&mut self, i: usize) {
        let number = self.nodes[i].beating;
        let span = self.nodes[i].clock.span(self.nodes[i].timing.beat);
        self.timer(i, span, Timer::Beat(number));
        let now = self.local(i);
        let node = &self.nodes[i];
        // A deposed one that went on would keep the others from whoever is to follow it.
        if !node.voter.ballot().leads()
            || node.voter.deposed().is_some()
            || node.stopping.is_some()
            || node.released_until > now
        {
            return;
        }
        if self.nodes[i].port == Port::Open {
            self.enrol(i, now);
        }
        let open = self.nodes[i].port == Port::Open;
        let question = self.nodes[i].voter.beat(now, open);
        let mut effects = vec![Effect::Recheck];
        let mut audience = self.voters(i);
        audience.extend(self.registered.iter().copied().filter(|r| *r != i));
        for to in audience {
            let message = self.question(i, to, &question, Pending::Beat(now));
            effects.push(Effect::Send(to, message));
        }
        self.after_sync(i, effects);
    }

    /// One step towards the registered nodes, once all rows are on so many nodes as the next roster's
    /// rule wants; from its beginning on no row is acknowledged with fewer.
    fn enrol(&mut self, i: usize, now: Moment) {
        let members = self.members();
        let before = self.nodes[i].voter.ballot().roster.version;
        let ballot = self.nodes[i].voter.ballot();
        let next = ballot.roster.towards(&members, id(i), ballot.won);
        let Some(next) = next.filter(|_| ballot.former.is_none()) else {
            self.nodes[i].barrier = None;
            return;
        };
        let end = self.nodes[i].disk.wal.end();
        let barrier = self.nodes[i].barrier.get_or_insert((next.clone(), end));
        if barrier.0 != next {
            *barrier = (next, end);
        }
        let (next, end) = barrier.clone();
        let ready = self.confirmed(i, &next) >= end || !self.synchronous;
        if ready {
            self.nodes[i].voter.enrol(now, &members);
        }
        if self.nodes[i].voter.ballot().roster.version != before {
            note!(
                self,
                "node {} has the roster {:?}",
                i + 1,
                self.nodes[i].voter.ballot()
            );
        }
    }

    /// Opens or closes by the lease: a longer one counts once the ballot is on the disk, a shorter one
    /// at once.
    pub(crate) fn recheck(&mut self, i: usize) {
        let now = self.local(i);
        let node = &mut self.nodes[i];
        let synced = *node.voter.ballot() == node.disk.ballot;
        let lease = node.voter.lease();
        node.lease = if synced { lease } else { node.lease.min(lease) };
        let lease = node.lease;
        if lease.holds(now) {
            if let Lease::Until(end) = lease
                && node.lease_timer != Some(end)
            {
                node.lease_timer = Some(end);
                let (node, life) = (i, node.life);
                let at = self.nodes[i].clock.when(end);
                let timer = Timer::Lease;
                self.at(at, crate::world::Event::Timer { node, life, timer });
            }
            self.may_open(i);
        } else if matches!(self.nodes[i].port, Port::Open | Port::Opening) {
            note!(self, "node {} fences itself", i + 1);
            self.stats.fences += 1;
            self.close(i);
        }
    }

    fn may_open(&mut self, i: usize) {
        let now = self.local(i);
        let node = &self.nodes[i];
        let idle = node.port == Port::Closed && !node.promoting && node.stopping.is_none();
        if !idle || node.released_until > now || node.disk.broken || node.witness {
            return;
        }
        self.nodes[i].following = None;
        self.nodes[i].round = None;
        let epoch = self.fresh();
        self.nodes[i].epoch = epoch;
        if self.nodes[i].disk.promoted {
            self.nodes[i].port = Port::Opening;
            let delay = self.delay(10, 300);
            self.timer(i, delay, Timer::Opened(epoch));
        } else {
            self.nodes[i].promoting = true;
            let delay = self.delay(100, 1000);
            self.timer(i, delay, Timer::Promoted(epoch));
        }
        self.provoke(i);
    }

    fn promoted(&mut self, i: usize) {
        let lineage = u32::try_from(self.fresh()).unwrap();
        let node = &mut self.nodes[i];
        node.promoting = false;
        node.disk.promoted = true;
        let term = node.voter.ballot().won;
        node.disk.wal.begin(lineage, term, true);
        note!(
            self,
            "node {} is promoted: {:?}",
            i + 1,
            self.nodes[i].disk.wal
        );
        let now = self.local(i);
        if self.nodes[i].lease.holds(now) {
            self.may_open(i);
        } else {
            self.closed(i);
        }
    }

    fn opened(&mut self, i: usize) {
        let epoch = self.nodes[i].epoch;
        let lineage = u32::try_from(self.fresh()).unwrap();
        let node = &mut self.nodes[i];
        let term = node.voter.ballot().won;
        if node.disk.wal.term() != term {
            // Elected again where it is.
            node.disk.wal.begin(lineage, term, false);
        }
        node.port = Port::Open;
        node.attempt = 0;
        node.followers.clear();
        node.flushed.clear();
        node.barrier = None;
        node.acknowledged = 0;
        note!(
            self,
            "node {} opens in term {}",
            i + 1,
            self.nodes[i].voter.ballot().won
        );
        self.stats.openings += 1;
        self.check_rows();
        self.nodes[i].opening = epoch;
        self.timer(i, 0, Timer::Write(epoch));
        self.beat_soon(i);
        self.recheck(i);
    }

    /// Begins to close; the port is closed at the latest after `close`.
    pub(crate) fn close(&mut self, i: usize) {
        let most = self.nodes[i].clock.span(self.nodes[i].timing.close);
        let delay = if self.rng.permille(300) {
            most
        } else {
            self.rng.range(MS, most)
        };
        let epoch = self.fresh();
        self.nodes[i].epoch = epoch;
        self.nodes[i].port = Port::Closing;
        self.timer(i, delay, Timer::Closed(epoch));
    }

    fn closed(&mut self, i: usize) {
        note!(self, "node {} is closed", i + 1);
        let now = self.local(i);
        self.nodes[i].port = Port::Closed;
        self.nodes[i].woke = None;
        self.nodes[i].followers.clear();
        self.nodes[i].voter.closed(now);
        if let Some(successor) = self.nodes[i].stopping.take() {
            let wait = self.nodes[i].timing.yield_for;
            self.nodes[i].released_until = now.after(wait);
            for to in self.voters(i) {
                let question = self.nodes[i].voter.release(id(to), successor.map(id));
                let message = self.question(i, to, &question, Pending::Round(0));
                self.send(i, to, message);
            }
            if successor.is_none() {
                let time = self.delay(200, 6000);
                self.at(
                    self.now + 5 * MS,
                    crate::world::Event::Fault(crate::faults::Fault::Stopped { node: i, time }),
                );
            }
        }
        self.stand_in(i, 10 * MS);
    }

    /// A planned stop: the open primary closes in order, then says so.
    pub(crate) fn stop_in_order(&mut self, to: Option<usize>) {
        let Some(i) = self
            .nodes
            .iter()
            .position(|n| n.alive && !n.frozen && n.port == Port::Open)
        else {
            return;
        };
        if to == Some(i) {
            return;
        }
        let wal = Rc::new(self.nodes[i].disk.wal.clone());
        for (to, connection) in self.nodes[i].followers.clone() {
            self.send(
                i,
                to,
                Message::Stream {
                    connection,
                    wal: Rc::clone(&wal),
                },
            );
        }
        self.nodes[i].stopping = Some(to);
        self.close(i);
    }

    // ---- the candidate ----

    pub(crate) fn stand_in(&mut self, i: usize, delay: Us) {
        if self.nodes[i].round.is_some() {
            return;
        }
        let number = self.fresh();
        self.nodes[i].standing = number;
        self.timer(i, delay, Timer::Stand(number));
    }

    fn stand_tick(&mut self, i: usize) {
        let node = &self.nodes[i];
        if node.round.is_some() || node.witness {
            return;
        }
        let leads = node.voter.ballot().leads() && node.voter.deposed().is_none();
        if node.is_primary() || node.disk.broken || node.stopping.is_some() || leads {
            self.stand_in(i, 500 * MS);
            return;
        }
        let now = self.local(i);
        match node.voter.should_stand(now) {
            Ok(()) => {
                let number = self.fresh();
                self.nodes[i].standing = number;
                let delay = self.delay(1, 30);
                self.timer(i, delay, Timer::Case(number));
            }
            Err(pgnode::plan::vote::Wait::Until(then, _)) => {
                let at = self.nodes[i].clock.when(then);
                self.stand_in(i, at.saturating_sub(self.now).clamp(MS, 1000 * MS));
            }
            Err(pgnode::plan::vote::Wait::ForNews(_)) => self.stand_in(i, 500 * MS),
        }
    }

    fn make_case(&mut self, i: usize) {
        let now = self.local(i);
        if self.nodes[i].is_primary() || self.nodes[i].voter.should_stand(now).is_err() {
            self.stand_in(i, 100 * MS);
            return;
        }
        self.nodes[i].following = None;
        let position = self.position(i);
        let node = &self.nodes[i];
        let question = node.voter.poll(position, node.seen, node.attempt);
        self.begin_round(i, false, question, position);
    }

    fn begin_round(
        &mut self,
        i: usize,
        grant: bool,
        question: Question,
        position: pgnode::plan::vote::Position,
    ) {
        let number = self.fresh();
        self.nodes[i].round = Some(crate::world::Round {
            id: number,
            grant,
            sent: self.local(i),
            question,
            replies: Vec::new(),
            waiting: self.voters(i),
            position,
        });
        self.after_sync(i, vec![Effect::Ask(number)]);
    }

    fn ask(&mut self, i: usize, number: u64) {
        let now = self.local(i);
        let Some(round) = self.nodes[i].round.as_mut().filter(|r| r.id == number) else {
            return;
        };
        round.sent = now;
        let question = round.question.clone();
        for to in self.voters(i) {
            let message = self.question(i, to, &question, Pending::Round(number));
            self.send(i, to, message);
        }
        let patience = self.nodes[i].clock.span(self.nodes[i].timing.patience);
        self.timer(i, patience, Timer::Patience(number));
        self.provoke(i);
    }

    fn finish_round(&mut self, i: usize) {
        use pgnode::plan::vote::Count;
        let now = self.local(i);
        let Some(round) = self.nodes[i].round.take() else {
            return;
        };
        let heard = round.replies.iter().map(|r| r.term).max();
        let node = &mut self.nodes[i];
        node.seen = node.seen.max(heard.unwrap_or_default());
        let count = if round.grant {
            node.voter.elected(round.sent, &round.replies)
        } else {
            node.voter.count(&round.replies)
        };
        match count {
            Count::Won if round.grant => {
                let term = self.nodes[i].voter.ballot().won;
                note!(self, "node {} wins term {term}", i + 1);
                self.stats.elections += 1;
                if let Some(other) = self.winners.insert(term, i).filter(|o| *o != i) {
                    self.violate(format!(
                        "term {term} was won by {} and {}",
                        other + 1,
                        i + 1
                    ));
                }
                self.nodes[i].elected_unsynced = true;
                self.nodes[i].following = None;
                self.after_sync(i, vec![Effect::Recheck]);
                self.beat_soon(i);
                self.provoke(i);
                self.stand_in(i, 500 * MS);
            }
            Count::Won => {
                let node = &mut self.nodes[i];
                let (seen, attempt) = (node.seen, node.attempt);
                match node.voter.stand(now, round.position, seen, attempt) {
                    Some(question) => self.begin_round(i, true, question, round.position),
                    None => self.stand_in(i, 100 * MS),
                }
            }
            Count::Lost { again_ms, .. } => {
                self.nodes[i].attempt += 1;
                let wait = again_ms.unwrap_or_else(|| self.rng.range(100, 400));
                let span = self.nodes[i].clock.span(Duration::from_millis(wait));
                self.stand_in(i, span);
            }
        }
    }
}
