//! The world of one schedule: time, the network, what the nodes are made of, and the invariants.

use crate::rng::Rng;
use crate::wal::Wal;
use pgnode::domain::{NodeId, NodeName, SystemId};
use pgnode::plan::Member;
use pgnode::plan::vote::{
    Ballot, Lease, Letter, Moment, Position, Reply, Roster, Term, Timing, Voter,
};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::rc::Rc;
use std::time::Duration;

/// True time, in microseconds. No node sees it.
pub(crate) type Us = u64;
pub(crate) const MS: Us = 1000;
pub(crate) const SYSTEM: SystemId = SystemId(7);

/// A rule that a node breaks on purpose: the simulation must find each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    None,
    /// Answers leave before the ballot is synced.
    Unsynced,
    /// A later term that was granted is no reason to refuse.
    TermIgnored,
    /// After a start promises are given at once.
    NoQuarantine,
    /// The primary believes in a longer lease than the promises bear.
    LongLease,
    /// The walreceiver runs on beside a grant.
    ReceiverKept,
}

#[derive(Clone, Debug)]
pub(crate) enum Message {
    Question {
        id: u64,
        letter: Rc<Letter>,
    },
    Reply {
        id: u64,
        reply: Reply,
    },
    /// A standby's walreceiver to its primary.
    Connect {
        connection: u64,
    },
    Stream {
        connection: u64,
        wal: Rc<Wal>,
    },
    Flushed {
        lineage: u32,
        lsn: u64,
        life: u32,
    },
}

#[derive(Clone, Debug)]
pub(crate) enum Timer {
    Beat(u64),
    Lease,
    Closed(u64),
    Synced,
    /// The walreceiver has ended: now the question can be answered.
    Answer {
        from: usize,
        id: u64,
        letter: Rc<Letter>,
    },
    Stand(u64),
    /// The walreceiver has ended: now our case can be made.
    Case(u64),
    Patience(u64),
    Promoted(u64),
    Opened(u64),
    Rejoined(u64),
    Write(u64),
}

#[derive(Clone, Debug)]
pub(crate) enum Event {
    Deliver {
        from: usize,
        to: usize,
        message: Message,
    },
    Timer {
        node: usize,
        life: u32,
        timer: Timer,
    },
    Fault(crate::faults::Fault),
    Undo(crate::faults::Undo),
    Heal,
}

#[derive(Debug)]
struct Queued(Us, u64, Event);
impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        (self.0, self.1) == (other.0, other.1)
    }
}
impl Eq for Queued {}
impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Queued {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.0, self.1).cmp(&(other.0, other.1))
    }
}

/// A node's clock: its own offset and rate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub(crate) offset: Us,
    /// Microseconds that it goes per second of true time; whole thousands.
    pub(crate) rate: u64,
}

impl Clock {
    pub(crate) const fn read(self, now: Us) -> Moment {
        Moment((self.offset + now * self.rate / 1_000_000) / MS)
    }

    /// The first true instant at which it shows `moment`.
    pub(crate) const fn when(self, moment: Moment) -> Us {
        let local = (moment.0.saturating_mul(MS)).saturating_sub(self.offset);
        (local * 1_000).div_ceil(self.rate / 1_000)
    }

    pub(crate) fn span(self, time: Duration) -> Us {
        u64::try_from(time.as_micros()).unwrap() * 1_000_000 / self.rate
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Port {
    Closed,
    Opening,
    Open,
    Closing,
}

#[derive(Clone, Debug)]
pub(crate) enum Pending {
    Beat(Moment),
    Round(u64),
}

#[derive(Clone, Debug)]
pub(crate) enum Effect {
    Send(usize, Message),
    Ask(u64),
    Recheck,
}

#[derive(Clone, Debug)]
pub(crate) struct Round {
    pub(crate) id: u64,
    pub(crate) grant: bool,
    pub(crate) sent: Moment,
    pub(crate) question: pgnode::plan::vote::Question,
    pub(crate) replies: Vec<Reply>,
    pub(crate) waiting: BTreeSet<usize>,
    pub(crate) position: Position,
}

/// What survives a crash.
#[derive(Clone, Debug, Default)]
pub(crate) struct Disk {
    pub(crate) ballot: Ballot,
    pub(crate) wal: Wal,
    /// It is a primary's data directory, not a standby's.
    pub(crate) promoted: bool,
    /// Being rewound or cloned: not to be started.
    pub(crate) broken: bool,
    /// It has never held anything.
    pub(crate) blank: bool,
}

#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) witness: bool,
    pub(crate) clock: Clock,
    pub(crate) timing: Timing,
    pub(crate) disk: Disk,
    pub(crate) alive: bool,
    pub(crate) frozen: bool,
    pub(crate) backlog: Vec<Event>,
    pub(crate) woke: Option<Us>,
    pub(crate) slow_disk: bool,
    pub(crate) life: u32,
    pub(crate) voter: Voter,
    pub(crate) syncs: VecDeque<(Ballot, Vec<Effect>)>,
    pub(crate) pending: BTreeMap<u64, Pending>,
    // The primary's.
    pub(crate) port: Port,
    pub(crate) promoting: bool,
    pub(crate) elected_unsynced: bool,
    pub(crate) lease: Lease,
    pub(crate) lease_timer: Option<Moment>,
    pub(crate) epoch: u64,
    pub(crate) opening: u64,
    pub(crate) beating: u64,
    pub(crate) stopping: Option<Option<usize>>,
    pub(crate) released_until: Moment,
    pub(crate) followers: BTreeMap<usize, u64>,
    pub(crate) flushed: BTreeMap<usize, u64>,
    pub(crate) barrier: Option<(Roster, u64)>,
    pub(crate) acknowledged: u64,
    // The standby's.
    pub(crate) following: Option<(usize, u64)>,
    pub(crate) rejoining: Option<usize>,
    pub(crate) round: Option<Round>,
    pub(crate) standing: u64,
    pub(crate) attempt: u32,
    pub(crate) seen: Term,
}

impl Node {
    pub(crate) fn serves(&self) -> bool {
        matches!(self.port, Port::Open | Port::Closing)
    }

    /// The `primary` of its `Standing`.
    pub(crate) fn is_primary(&self) -> bool {
        self.port != Port::Closed || self.promoting || self.elected_unsynced
    }
}

/// What was seen over many schedules.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Stats {
    pub(crate) schedules: u64,
    pub(crate) events: u64,
    pub(crate) elections: u64,
    pub(crate) openings: u64,
    pub(crate) fences: u64,
    pub(crate) rows: u64,
    pub(crate) simulated_s: u64,
    /// Two ports open because one node has just woken: how often, and the longest, from waking.
    pub(crate) windows: u64,
    pub(crate) longest_window: Us,
    /// From the end of the faults to exactly one primary.
    pub(crate) longest_heal: Us,
    pub(crate) unhealed_wiped: u64,
}

pub(crate) struct World {
    pub(crate) now: Us,
    pub(crate) rng: Rng,
    queue: BinaryHeap<Reverse<Queued>>,
    sequence: u64,
    pub(crate) ids: u64,
    pub(crate) nodes: Vec<Node>,
    pub(crate) flaw: Flaw,
    pub(crate) synchronous: bool,
    pub(crate) registered: BTreeSet<usize>,
    /// `cut[from][to]`: how many faults cut that way now.
    pub(crate) cut: Vec<Vec<u32>>,
    pub(crate) loss: u64,
    pub(crate) doubled: u64,
    pub(crate) late: u64,
    pub(crate) nasty: u64,
    pub(crate) wiped: bool,
    pub(crate) healed: Option<Us>,
    pub(crate) winners: BTreeMap<Term, usize>,
    /// The newest acknowledged row of each lineage, and the term it was written in.
    pub(crate) acked: BTreeMap<u32, (Term, u64)>,
    pub(crate) violation: Option<String>,
    pub(crate) stats: Stats,
    pub(crate) trace: Option<Vec<String>>,
}

macro_rules! note {
    ($world:expr, $($arg:tt)*) => {
        if $world.trace.is_some() {
            let line = format!($($arg)*);
            $world.note(line);
        }
    };
}
pub(crate) use note;

impl World {
    pub(crate) fn note(&mut self, line: String) {
        let at = self.now;
        let mut line = line;
        for i in 0..self.nodes.len() {
            line = line.replace(&format!("{:?}", Self::member(i)), &(i + 1).to_string());
        }
        if let Some(trace) = &mut self.trace {
            trace.push(format!(
                "{:>4}.{:03} {line}",
                at / 1_000_000,
                at / MS % 1000
            ));
        }
    }

    pub(crate) fn empty(seed: u64, flaw: Flaw, traced: bool) -> Self {
        Self {
            now: 0,
            rng: Rng::new(seed),
            queue: BinaryHeap::new(),
            sequence: 0,
            ids: 0,
            nodes: Vec::new(),
            flaw,
            synchronous: true,
            registered: BTreeSet::new(),
            cut: Vec::new(),
            loss: 0,
            doubled: 0,
            late: 0,
            nasty: 0,
            wiped: false,
            healed: None,
            winners: BTreeMap::new(),
            acked: BTreeMap::new(),
            violation: None,
            stats: Stats::default(),
            trace: traced.then(Vec::new),
        }
    }

    pub(crate) fn member(i: usize) -> Member {
        Member {
            node_id: id(i),
            name: NodeName(String::new()),
            host: String::new(),
            port: 5432,
        }
    }

    pub(crate) fn members(&self) -> Vec<Member> {
        self.registered.iter().map(|i| Self::member(*i)).collect()
    }

    pub(crate) const fn fresh(&mut self) -> u64 {
        self.ids += 1;
        self.ids
    }

    pub(crate) fn at(&mut self, when: Us, event: Event) {
        self.sequence += 1;
        self.queue
            .push(Reverse(Queued(when.max(self.now), self.sequence, event)));
    }

    pub(crate) fn timer(&mut self, node: usize, delay: Us, timer: Timer) {
        let life = self.nodes[node].life;
        self.at(self.now + delay, Event::Timer { node, life, timer });
    }

    pub(crate) fn local(&self, i: usize) -> Moment {
        self.nodes[i].clock.read(self.now)
    }

    /// A delay in milliseconds, mostly at the lower end.
    pub(crate) fn delay(&mut self, low: u64, high: u64) -> Us {
        let top = self.rng.range(low, high);
        self.rng.range(low * MS, top.max(low) * MS)
    }

    pub(crate) fn send(&mut self, from: usize, to: usize, message: Message) {
        let copies = 1 + u64::from(self.rng.permille(self.doubled));
        for _ in 0..copies {
            if self.rng.permille(self.loss) {
                continue;
            }
            let delay = if self.rng.permille(self.late) {
                self.delay(20, 8000)
            } else {
                self.rng.range(200, 12 * MS)
            };
            let message = message.clone();
            self.at(self.now + delay, Event::Deliver { from, to, message });
        }
    }

    pub(crate) fn violate(&mut self, what: String) {
        if self.violation.is_none() {
            note!(self, "VIOLATION: {what}");
            self.violation = Some(what);
        }
    }

    /// One event. `false`: there is none before `end`.
    pub(crate) fn step(&mut self, end: Us) -> bool {
        match self.queue.peek() {
            Some(Reverse(next)) if next.0 <= end => {}
            _ => return false,
        }
        let Some(Reverse(Queued(at, _, event))) = self.queue.pop() else {
            return false;
        };
        self.now = at;
        self.stats.events += 1;
        match event {
            Event::Deliver { to, from, .. } if self.cut[from][to] > 0 || !self.nodes[to].alive => {}
            Event::Timer { node, life, .. }
                if self.nodes[node].life != life || !self.nodes[node].alive => {}
            Event::Deliver { to, .. } if self.nodes[to].frozen => {
                self.nodes[to].backlog.push(event);
            }
            Event::Timer { node, .. } if self.nodes[node].frozen => {
                self.nodes[node].backlog.push(event);
            }
            Event::Deliver { from, to, message } => self.deliver(from, to, message),
            Event::Timer { node, timer, .. } => self.fired(node, timer),
            Event::Fault(fault) => self.strike(fault),
            Event::Undo(undo) => self.undo(undo),
            Event::Heal => self.heal(),
        }
        self.check();
        true
    }

    /// Never two open ports, but for a node that has just woken and closes.
    fn check(&mut self) {
        let serving = |n: &&Node| n.alive && !n.frozen && n.serves();
        if self.nodes.iter().filter(serving).count() < 2 {
            return;
        }
        let rightful = self
            .nodes
            .iter()
            .filter(serving)
            .max_by_key(|n| n.voter.ballot().won)
            .map(|n| n.id);
        let now = self.now;
        for i in 0..self.nodes.len() {
            let node = &self.nodes[i];
            if !serving(&node) || Some(node.id) == rightful {
                continue;
            }
            let bound = 200 * MS + node.clock.span(node.timing.close) + MS;
            match node.woke {
                Some(woke) if now - woke <= bound => {
                    self.stats.windows += 1;
                    self.stats.longest_window = self.stats.longest_window.max(now - woke);
                }
                _ => {
                    let what = format!(
                        "nodes {:?} and {} are open, and {} has not just woken",
                        rightful.map(|n| n.0),
                        node.id,
                        node.id
                    );
                    self.violate(what);
                }
            }
        }
    }

    /// A primary opens, or a row is acknowledged: everything acknowledged is in every later primary.
    pub(crate) fn check_rows(&mut self) {
        if !self.synchronous || self.wiped {
            return;
        }
        let open: Vec<usize> = (0..self.nodes.len())
            .filter(|i| self.nodes[*i].alive && self.nodes[*i].serves())
            .collect();
        let Some(last) = open
            .into_iter()
            .max_by_key(|i| self.nodes[*i].voter.ballot().won)
        else {
            return;
        };
        let won = self.nodes[last].voter.ballot().won;
        let wal = &self.nodes[last].disk.wal;
        let lost = self
            .acked
            .iter()
            .find(|(lineage, (term, lsn))| *term < won && !wal.contains(**lineage, *lsn));
        if let Some((lineage, (_, lsn))) = lost {
            let what = format!(
                "row {lsn} of lineage {lineage} was acknowledged and node {} lacks it: {wal:?}",
                self.nodes[last].id
            );
            self.violate(what);
        }
    }
}

pub(crate) fn id(i: usize) -> NodeId {
    NodeId(i32::try_from(i).unwrap() + 1)
}

pub(crate) fn index(id: NodeId) -> usize {
    usize::try_from(id.0 - 1).unwrap()
}
