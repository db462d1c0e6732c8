//! WAL: written, streamed, flushed, acknowledged; rejoining.

use crate::world::{MS, Message, Port, Timer, World, id, index, note};
use pgnode::plan::vote::Roster;
use std::rc::Rc;

impl World {
    /// The open primary commits something, now and then.
    pub(crate) fn write(&mut self, i: usize) {
        if !self.nodes[i].serves() {
            return;
        }
        let epoch = self.nodes[i].opening;
        let delay = self.delay(20, 500);
        self.timer(i, delay, Timer::Write(epoch));
        self.nodes[i].disk.wal.write(10);
        self.stats.rows += 1;
        let wal = Rc::new(self.nodes[i].disk.wal.clone());
        for (to, connection) in self.nodes[i].followers.clone() {
            let wal = Rc::clone(&wal);
            self.send(i, to, Message::Stream { connection, wal });
        }
    }

    /// A beat of an open primary was accepted: this node's walreceiver connects to it.
    pub(crate) fn follow(&mut self, i: usize, primary: usize) {
        let node = &self.nodes[i];
        if node.witness || node.is_primary() || node.rejoining.is_some() {
            return;
        }
        let connection = match node.following {
            Some((to, connection)) if to == primary => connection,
            _ => self.fresh(),
        };
        self.nodes[i].following = Some((primary, connection));
        if self.nodes[i].disk.broken {
            self.rejoin(i, primary, connection);
            return;
        }
        self.send(i, primary, Message::Connect { connection });
    }

    pub(crate) fn connected(&mut self, i: usize, from: usize, connection: u64) {
        if self.nodes[i].port == Port::Open {
            self.nodes[i].followers.insert(from, connection);
            let wal = Rc::new(self.nodes[i].disk.wal.clone());
            self.send(i, from, Message::Stream { connection, wal });
        }
    }

    pub(crate) fn streamed(
        &mut self,
        i: usize,
        from: usize,
        connection: u64,
        wal: &Rc<crate::wal::Wal>,
    ) {
        let node = &mut self.nodes[i];
        if node.following != Some((from, connection))
            || node.disk.broken
            || node.rejoining.is_some()
        {
            return;
        }
        if node.disk.wal.begins(wal) {
            node.disk.promoted = false;
            let gap = wal.end() - node.disk.wal.end();
            // Sometimes only a part of it arrives.
            let part = if gap > 0 && self.rng.permille(100) {
                wal.upto(node.disk.wal.end() + self.rng.range(0, gap))
            } else {
                (**wal).clone()
            };
            let node = &mut self.nodes[i];
            node.disk.wal = part;
            let (lineage, lsn) = (node.disk.wal.lineage(), node.disk.wal.end());
            let life = self.nodes[from].life;
            self.send(i, from, Message::Flushed { lineage, lsn, life });
        } else if wal.begins(&node.disk.wal) {
            // An older message of the same history.
        } else {
            note!(
                self,
                "node {} has to be rewound: {:?} and {:?}",
                i + 1,
                self.nodes[i].disk.wal,
                wal
            );
            self.rejoin(i, from, connection);
        }
    }

    fn rejoin(&mut self, i: usize, from: usize, connection: u64) {
        let node = &mut self.nodes[i];
        node.disk.broken = true;
        node.rejoining = Some(from);
        let delay = self.delay(100, 3000);
        self.timer(i, delay, Timer::Rejoined(connection));
    }

    pub(crate) fn rejoined(&mut self, i: usize, connection: u64) {
        let Some(from) = self.nodes[i].rejoining.take() else {
            return;
        };
        let source = &self.nodes[from];
        let there = source.alive && !source.frozen && source.port == Port::Open;
        let reached = self.cut[i][from] == 0 && self.cut[from][i] == 0;
        let wanted = self.nodes[i].following == Some((from, connection));
        if !there || !reached || !wanted {
            self.nodes[i].following = None;
            return;
        }
        let wal = source.disk.wal.clone();
        let node = &mut self.nodes[i];
        node.disk.wal = wal;
        node.disk.broken = false;
        node.disk.blank = false;
        node.disk.promoted = false;
        note!(
            self,
            "node {} is a standby of node {} again",
            i + 1,
            from + 1
        );
        self.stand_in(i, MS);
        self.follow(i, from);
    }

    /// How far a roster's rule is satisfied: N − M standbys that vote by it.
    pub(crate) fn confirmed(&self, i: usize, roster: &Roster) -> u64 {
        let node = &self.nodes[i];
        let Some(index_of) = roster.needs_others().checked_sub(1) else {
            return node.disk.wal.end();
        };
        let mut flushed: Vec<u64> = roster
            .voters
            .iter()
            .filter(|v| v.node_id != id(i))
            .filter_map(|v| node.flushed.get(&index(v.node_id)).copied())
            .collect();
        flushed.sort_unstable_by(|a, b| b.cmp(a));
        flushed.get(index_of).copied().unwrap_or(0)
    }

    pub(crate) fn flushed(&mut self, i: usize, from: usize, lineage: u32, lsn: u64, life: u32) {
        let node = &mut self.nodes[i];
        if node.life != life || !node.serves() || node.disk.wal.lineage() != lineage {
            return;
        }
        let newest = node.flushed.entry(from).or_default();
        *newest = (*newest).max(lsn);
        let node = &self.nodes[i];
        let ballot = node.voter.ballot();
        let mut upto = self.confirmed(i, &ballot.roster);
        if let Some(former) = &ballot.former {
            upto = upto.min(self.confirmed(i, former));
        }
        if let Some((next, _)) = &node.barrier {
            upto = upto.min(self.confirmed(i, next));
        }
        if upto > node.acknowledged {
            self.nodes[i].acknowledged = upto;
            let term = self.nodes[i].disk.wal.term();
            let newest = self.acked.entry(lineage).or_insert((term, upto));
            newest.1 = newest.1.max(upto);
            self.check_rows();
        }
    }
}
