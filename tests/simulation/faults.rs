//! What goes wrong, and when it stops.

use crate::node::start;
use crate::wal::Wal;
use crate::world::{Clock, Disk, Event, Flaw, MS, Us, World, id, note};
use pgnode::plan::vote::{Ballot, Profile, Term, Timing};
use std::time::Duration;

#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Messages from these nodes, to these nodes, or both, are lost.
    Cut {
        set: Vec<usize>,
        out: bool,
        into: bool,
        time: Us,
    },
    Crash {
        node: usize,
        time: Us,
    },
    /// The whole volume is gone.
    Wipe {
        node: usize,
        time: Us,
    },
    Freeze {
        node: usize,
        time: Us,
    },
    SlowDisk {
        node: usize,
        time: Us,
    },
    Register(usize),
    Pause(bool),
    /// A planned stop, with or without a successor; the process may end afterwards.
    Switchover(Option<usize>),
    /// The end of a planned stop.
    Stopped {
        node: usize,
        time: Us,
    },
}

#[derive(Clone, Debug)]
pub(crate) enum Undo {
    Cut {
        set: Vec<usize>,
        out: bool,
        into: bool,
    },
    Start(usize, u32),
    Thaw(usize, u32),
    FastDisk(usize),
}

impl World {
    /// A schedule: its cluster, its faults.
    pub(crate) fn build(seed: u64, flaw: Flaw, traced: bool) -> Self {
        let mut w = Self::empty(seed, flaw, traced);
        let n = w.rng.range(2, 7);
        let n = usize::try_from(if w.rng.permille(400) { 3 } else { n }).unwrap();
        let mut timing = Timing::of(match w.rng.range(0, 9) {
            0 => Profile::Default,
            1 => Profile::Cautious,
            _ => Profile::Fast,
        });
        if w.rng.permille(800) {
            timing.cold_wait = Duration::from_secs(2);
        }
        w.synchronous = w.rng.permille(700);
        let witness = n > 2 && w.rng.permille(300);
        let skewed = w.rng.permille(700);
        for i in 0..n {
            let rate = if skewed {
                w.rng.range(990, 1010) * 1000
            } else {
                1_000_000
            };
            let clock = Clock {
                offset: w.rng.range(1, 1_000_000_000) + 100_000 * 1_000_000,
                rate,
            };
            let mut disk = Disk::default();
            disk.wal.begin(1, Term(1), true);
            disk.promoted = i == 0;
            let witness = witness && i == n - 1;
            if witness {
                disk.wal = Wal::default();
            }
            let node = start(w.now, id(i), witness, clock, timing, disk, 0, flaw);
            w.nodes.push(node);
        }
        w.ids = 100;
        w.cut = vec![vec![0; n]; n];
        w.registered = (0..n).collect();
        if w.rng.permille(300) {
            let spare = w.rng.range(1, n as u64 - 1);
            w.registered.remove(&usize::try_from(spare).unwrap());
        }
        let hurried = w.rng.permille(500);
        w.loss = *w.pick(&[0, 0, 10, 50, 200]);
        w.doubled = *w.pick(&[0, 0, 20, 200]);
        w.late = *w.pick(&[0, 0, 10, 50, 200]);
        w.nasty = *w.pick(&[0, 5, 50, 200]);
        let members = w.members();
        w.nodes[0].voter.found(&members);
        w.nodes[0].disk.ballot = w.nodes[0].voter.ballot().clone();
        for i in 0..n {
            w.boot(i);
        }
        let span = w.rng.range(5, if hurried { 10 } else { 25 }) * 1_000_000;
        let faults = w.rng.range(2, 20);
        for _ in 0..faults {
            let at = w.rng.range(500 * MS, span);
            let fault = w.any_fault();
            w.at(at, Event::Fault(fault));
        }
        let end = span + w.rng.range(0, 5_000_000);
        w.at(end, Event::Heal);
        w
    }

    fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.rng.index(all.len())]
    }

    fn any_fault(&mut self) -> Fault {
        let n = self.nodes.len();
        let node = self.rng.index(n);
        let promise = u64::try_from(self.nodes[node].timing.promise.as_millis()).unwrap();
        let time = match self.rng.range(0, 5) {
            0 | 1 => self.delay(20, 1000),
            // About as long as it takes to replace it.
            2 | 3 => (promise + self.rng.range(0, 2500)) * MS,
            _ => self.delay(200, 20_000),
        };
        match self.rng.range(0, 20) {
            0..=5 => {
                let mut set: Vec<usize> = (0..n).filter(|_| self.rng.permille(400)).collect();
                if set.is_empty() || self.rng.permille(300) {
                    set = vec![node];
                }
                let way = self.rng.range(0, 3);
                Fault::Cut {
                    set,
                    out: way != 1,
                    into: way != 2,
                    time,
                }
            }
            6..=9 => Fault::Crash { node, time },
            10..=13 => Fault::Freeze { node, time },
            14 => Fault::SlowDisk { node, time },
            15 | 16 => Fault::Register(node),
            17 => Fault::Pause(self.rng.permille(500)),
            18 if self.rng.permille(300) => Fault::Wipe { node, time },
            _ => {
                let to = self.rng.permille(700).then_some(node);
                Fault::Switchover(to)
            }
        }
    }

    /// Something happens to this node just now, in schedules of that kind.
    pub(crate) fn provoke(&mut self, node: usize) {
        if self.healed.is_some() || !self.rng.permille(self.nasty) {
            return;
        }
        let time = self.delay(200, 10_000);
        let fault = match self.rng.range(0, 3) {
            0 => Fault::Crash { node, time },
            1 => Fault::Freeze { node, time },
            _ => Fault::Cut {
                set: vec![node],
                out: self.rng.permille(800),
                into: true,
                time,
            },
        };
        let at = self.now + self.rng.range(0, 60 * MS);
        self.at(at, Event::Fault(fault));
    }

    /// The primary, half of the time.
    fn aim(&mut self, node: usize) -> usize {
        let primary = self.nodes.iter().position(|n| n.alive && n.serves());
        match primary {
            Some(primary) if self.rng.permille(600) => primary,
            _ => node,
        }
    }

    pub(crate) fn strike(&mut self, fault: Fault) {
        if self.healed.is_some() {
            return;
        }
        note!(self, "fault: {fault:?}");
        match fault {
            Fault::Cut {
                set,
                out,
                into,
                time,
            } => {
                self.cut_off(&set, out, into, 1);
                self.at(self.now + time, Event::Undo(Undo::Cut { set, out, into }));
            }
            Fault::Crash { node, time } => {
                let node = self.aim(node);
                if self.nodes[node].alive {
                    self.crash(node);
                    let life = self.nodes[node].life;
                    self.at(self.now + time, Event::Undo(Undo::Start(node, life)));
                }
            }
            Fault::Stopped { node, time } => {
                if self.nodes[node].alive && !self.nodes[node].is_primary() {
                    self.crash(node);
                    let life = self.nodes[node].life;
                    self.at(self.now + time, Event::Undo(Undo::Start(node, life)));
                }
            }
            Fault::Wipe { node, time } => {
                let node = self.aim(node);
                if self.nodes[node].alive && !self.wiped && self.nodes.len() > 2 {
                    note!(self, "node {} loses its volume", node + 1);
                    self.wiped = true;
                    self.crash(node);
                    let witness = self.nodes[node].witness;
                    self.nodes[node].disk = Disk {
                        broken: !witness,
                        blank: true,
                        ..Disk::default()
                    };
                    let life = self.nodes[node].life;
                    self.at(self.now + time, Event::Undo(Undo::Start(node, life)));
                }
            }
            Fault::Freeze { node, time } => {
                let node = self.aim(node);
                if self.nodes[node].alive && !self.nodes[node].frozen {
                    note!(self, "node {} freezes", node + 1);
                    self.nodes[node].frozen = true;
                    let life = self.nodes[node].life;
                    self.at(self.now + time, Event::Undo(Undo::Thaw(node, life)));
                }
            }
            Fault::SlowDisk { node, time } => {
                self.nodes[node].slow_disk = true;
                self.at(self.now + time, Event::Undo(Undo::FastDisk(node)));
            }
            Fault::Register(node) => {
                if !self.registered.remove(&node) || self.registered.is_empty() {
                    self.registered.insert(node);
                }
            }
            Fault::Pause(paused) => {
                if let Some(i) = self
                    .nodes
                    .iter()
                    .position(|n| n.alive && !n.frozen && n.serves())
                {
                    self.nodes[i].voter.pause(paused);
                }
            }
            Fault::Switchover(to) => self.stop_in_order(to),
        }
    }

    fn cut_off(&mut self, set: &[usize], out: bool, into: bool, by: i64) {
        for from in 0..self.nodes.len() {
            for to in 0..self.nodes.len() {
                let (a, b) = (set.contains(&from), set.contains(&to));
                if (a && !b && out) || (!a && b && into) {
                    let cut = &mut self.cut[from][to];
                    *cut = u32::try_from(i64::from(*cut) + by).unwrap();
                }
            }
        }
    }

    pub(crate) fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Cut { set, out, into } => {
                if self.healed.is_none() {
                    note!(self, "the cut {set:?} is mended");
                    self.cut_off(&set, out, into, -1);
                }
            }
            Undo::Start(node, life) => self.revive(node, life),
            Undo::Thaw(node, life) => self.thaw(node, life),
            Undo::FastDisk(node) => self.nodes[node].slow_disk = false,
        }
    }

    pub(crate) fn crash(&mut self, i: usize) {
        note!(self, "node {} ends", i + 1);
        self.nodes[i].alive = false;
        self.nodes[i].frozen = false;
        self.nodes[i].backlog.clear();
        self.nodes[i].port = crate::world::Port::Closed;
        self.nodes[i].life += 1;
    }

    fn revive(&mut self, i: usize, life: u32) {
        let old = &self.nodes[i];
        if old.alive || old.life != life {
            return;
        }
        let (who, witness, clock, timing) = (old.id, old.witness, old.clock, old.timing);
        let slow = old.slow_disk;
        let disk = old.disk.clone();
        self.nodes[i] = start(
            self.now,
            who,
            witness,
            clock,
            timing,
            disk,
            life + 1,
            self.flaw,
        );
        self.nodes[i].slow_disk = slow;
        note!(self, "node {} starts: {:?}", i + 1, self.nodes[i].disk);
        self.boot(i);
    }

    fn thaw(&mut self, i: usize, life: u32) {
        if !self.nodes[i].frozen || self.nodes[i].life != life {
            return;
        }
        note!(self, "node {} wakes", i + 1);
        self.nodes[i].frozen = false;
        self.nodes[i].woke = Some(self.now);
        let backlog = std::mem::take(&mut self.nodes[i].backlog);
        // Overdue timers and waiting messages, in any order.
        for event in backlog {
            let at = self.now + self.rng.range(0, 200 * MS);
            self.at(at, event);
        }
    }

    /// All faults end.
    pub(crate) fn heal(&mut self) {
        note!(self, "all faults end");
        self.healed = Some(self.now);
        (self.loss, self.doubled, self.late, self.nasty) = (0, 0, 0, 0);
        for row in &mut self.cut {
            row.fill(0);
        }
        for i in 0..self.nodes.len() {
            self.nodes[i].slow_disk = false;
            let life = self.nodes[i].life;
            self.thaw(i, life);
            self.revive(i, life);
            self.nodes[i].voter.pause(false);
        }
    }

    /// Whether there is one open primary, and all know it.
    pub(crate) fn converged(&self) -> bool {
        let mut serving = self.nodes.iter().filter(|n| n.alive && n.serves());
        let (Some(primary), None) = (serving.next(), serving.next()) else {
            return false;
        };
        let agreed = |b: &Ballot| b.granted == Some(primary.id);
        let roster = &primary.voter.ballot().roster;
        primary.voter.ballot().leads()
            && self
                .nodes
                .iter()
                .filter(|n| roster.names(n.id))
                .all(|n| agreed(n.voter.ballot()) && !n.disk.broken)
    }
}
