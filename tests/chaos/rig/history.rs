//! What was seen in a run, and what it proves. Pure: the checker's own tests are made-up histories.
//!
//! All instants are of one clock, the test process's. A write that was acknowledged took effect at some
//! instant between its start and its end, so *a before b* is certain only when `a.end < b.start`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// From the moment of asking to the moment of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: Duration,
    pub(crate) end: Duration,
}

/// An acknowledged write: by which node, and on which timeline it wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ack {
    pub(crate) node: usize,
    pub(crate) timeline: u32,
    pub(crate) span: Span,
}

/// What became of an attempt to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Committed, on this timeline.
    Acked(u32),
    /// The node said no: it is read-only, or nobody listens.
    Refused,
    /// The connection or the patience ended before the answer: it may or may not be there.
    Unknown,
}

/// One attempt of a writer. `(writer, seq)` is the row's key and never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) writer: u32,
    pub(crate) seq: u64,
    pub(crate) node: usize,
    pub(crate) span: Span,
    pub(crate) answer: Answer,
}

impl Write {
    pub(crate) fn key(&self) -> Key {
        (self.writer, self.seq)
    }

    pub(crate) fn ack(&self) -> Option<Ack> {
        match self.answer {
            Answer::Acked(timeline) => Some(Ack {
                node: self.node,
                timeline,
                span: self.span,
            }),
            Answer::Refused | Answer::Unknown => None,
        }
    }
}

pub(crate) type Key = (u32, u64);

/// Two nodes accepted writes at once: the old primary acknowledged a write that was *started* after one of
/// the new primary had *ended*. When it began, somebody else had been primary for certain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Double {
    pub(crate) old: Ack,
    pub(crate) new: Ack,
}

/// A reign: a node on a timeline. Reigns follow one another by timeline, and on the same timeline (which must
/// not be, see [`forks`]) by their first acknowledged writes.
type Reigns = Vec<((u32, Duration, usize), Ack)>;

/// Each reign with its first acknowledged write, by its end.
fn reigns(acks: &[Ack]) -> Reigns {
    let mut first: BTreeMap<(u32, usize), Ack> = BTreeMap::new();
    for ack in acks {
        let earliest = first.entry((ack.timeline, ack.node)).or_insert(*ack);
        if ack.span.end < earliest.span.end {
            *earliest = *ack;
        }
    }
    let mut reigns: Reigns = first
        .into_iter()
        .map(|((timeline, node), ack)| ((timeline, ack.span.end, node), ack))
        .collect();
    reigns.sort_unstable_by_key(|(order, _)| *order);
    reigns
}

/// Every acknowledged write that proves two primaries.
pub(crate) fn doubles(acks: &[Ack]) -> Vec<Double> {
    let reigns = reigns(acks);
    let own = |ack: &Ack| {
        let mine = |(_, first): &(_, Ack)| (first.timeline, first.node) == (ack.timeline, ack.node);
        reigns.iter().position(mine).unwrap_or(reigns.len())
    };
    let stale = |old: &Ack| {
        let mut later = reigns.iter().skip(own(old) + 1).map(|(_, first)| *first);
        let new = later.find(|new| new.span.end < old.span.start)?;
        Some(Double { old: *old, new })
    };
    acks.iter().filter_map(stale).collect()
}

/// A node that was frozen, and when it ran again.
pub(crate) type Wake = (usize, Duration);

/// Parts double writes into those of a node that woke less than `grace` before, and the rest. Backends wake at
/// the same instant as whoever is to close them: without synchronous replication a write can slip through.
pub(crate) fn on_waking(
    doubles: &[Double],
    wakes: &[Wake],
    grace: Duration,
) -> (Vec<Double>, Vec<Double>) {
    let woke = |d: &&Double| {
        let mut mine = wakes.iter().filter(|(node, _)| *node == d.old.node);
        mine.any(|(_, at)| *at <= d.old.span.end && d.old.span.end < *at + grace)
    };
    doubles.iter().partition(woke)
}

/// Timelines that more than one node wrote on, with the nodes. Each promotion makes a timeline; two that do
/// not know of each other make the same one, and then nobody can tell their data apart: neither `pg_rewind` nor
/// a standby that changes from one to the other.
pub(crate) fn forks(acks: &[Ack]) -> BTreeMap<u32, BTreeSet<usize>> {
    let mut nodes: BTreeMap<u32, BTreeSet<usize>> = BTreeMap::new();
    for ack in acks {
        nodes.entry(ack.timeline).or_default().insert(ack.node);
    }
    nodes.retain(|_, nodes| nodes.len() > 1);
    nodes
}

/// Acknowledgements that arrived after a later timeline's first one, of writes that were begun before it:
/// in flight, so no proof of two primaries, but a client heard *yes* from a node that was none any more.
pub(crate) fn late(acks: &[Ack]) -> Vec<Ack> {
    let mut first: BTreeMap<u32, Duration> = BTreeMap::new();
    for ack in acks {
        let end = first.entry(ack.timeline).or_insert(ack.span.end);
        *end = (*end).min(ack.span.end);
    }
    let is_late = |ack: &&Ack| {
        let mut later = first.range(ack.timeline + 1..).map(|(_, end)| *end);
        later.any(|end| end < ack.span.end && ack.span.start <= end)
    };
    acks.iter().filter(is_late).copied().collect()
}

/// The longest time in which no write was acknowledged, among gaps that touch `from..to`: from the end of
/// the last acknowledged write before it to the end of the first after it.
pub(crate) fn outage(acks: &[Ack], from: Duration, to: Duration) -> Duration {
    let mut ends: Vec<Duration> = acks.iter().map(|a| a.span.end).collect();
    ends.sort_unstable();
    let begin = ends.iter().copied().rfind(|e| *e <= from).unwrap_or(from);
    let stop = ends.iter().copied().find(|e| *e >= to).unwrap_or(to);
    let mut before = begin;
    let mut longest = Duration::ZERO;
    for end in ends.into_iter().filter(|e| *e > begin && *e < stop) {
        longest = longest.max(end - before);
        before = end;
    }
    longest.max(stop.saturating_sub(before))
}

/// From one timeline to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Handover {
    /// The last write that the old timeline acknowledged, by its end.
    pub(crate) old: Ack,
    /// The first write that the new timeline acknowledged, by its end.
    pub(crate) new: Ack,
}

/// Each timeline's last acknowledged write beside the first one of the next timeline that was written to.
pub(crate) fn handovers(acks: &[Ack]) -> Vec<Handover> {
    let mut by_timeline: BTreeMap<u32, Vec<Ack>> = BTreeMap::new();
    for ack in acks {
        by_timeline.entry(ack.timeline).or_default().push(*ack);
    }
    let lines: Vec<Vec<Ack>> = by_timeline.into_values().collect();
    let last = |line: &[Ack]| line.iter().copied().max_by_key(|a| a.span.end);
    let first = |line: &[Ack]| line.iter().copied().min_by_key(|a| a.span.end);
    lines
        .windows(2)
        .filter_map(|pair| {
            Some(Handover {
                old: last(&pair[0])?,
                new: first(&pair[1])?,
            })
        })
        .collect()
}

/// Writes that a node acknowledged after an instant, and how long after it the last one was.
pub(crate) fn accepted_after(
    acks: &[Ack],
    node: usize,
    timeline: u32,
    from: Duration,
) -> (usize, Duration) {
    let mut count = 0;
    let mut last = Duration::ZERO;
    for ack in acks {
        if ack.node == node && ack.timeline == timeline && ack.span.end > from {
            count += 1;
            last = last.max(ack.span.end - from);
        }
    }
    (count, last)
}

/// Acknowledged rows that are not there.
pub(crate) fn lost(writes: &[Write], present: &BTreeSet<Key>) -> Vec<Write> {
    let gone = |w: &&Write| w.ack().is_some() && !present.contains(&w.key());
    writes.iter().filter(gone).copied().collect()
}

/// Rows that are there though nobody wrote them, or though the node said no.
pub(crate) fn invented(writes: &[Write], present: &BTreeSet<Key>) -> Vec<Key> {
    let possible: BTreeSet<Key> = writes
        .iter()
        .filter(|w| w.answer != Answer::Refused)
        .map(Write::key)
        .collect();
    present.difference(&possible).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    fn ack(node: usize, timeline: u32, start: u64, end: u64) -> Ack {
        Ack {
            node,
            timeline,
            span: Span {
                start: ms(start),
                end: ms(end),
            },
        }
    }

    fn write(seq: u64, answer: Answer) -> Write {
        Write {
            writer: 1,
            seq,
            node: 0,
            span: Span {
                start: ms(seq),
                end: ms(seq + 1),
            },
            answer,
        }
    }

    #[test]
    fn a_clean_failover_is_no_double() {
        let acks = [
            ack(0, 1, 0, 5),
            ack(0, 1, 10, 15),
            ack(1, 2, 16, 20),
            ack(0, 3, 30, 31),
        ];
        assert_eq!(doubles(&acks), []);
        assert_eq!(late(&acks), []);
    }

    #[test]
    fn an_old_primary_that_starts_a_write_after_the_new_one_ended_one() {
        let (new, old) = (ack(1, 2, 16, 20), ack(0, 1, 21, 25));
        let acks = [ack(0, 1, 0, 5), new, old];
        assert_eq!(doubles(&acks), [Double { old, new }]);
        // The order in which they were recorded does not matter.
        assert_eq!(doubles(&[old, new]), [Double { old, new }]);
    }

    #[test]
    fn a_write_in_flight_is_late_and_proves_nothing() {
        // Begun before the new primary's first acknowledgement: it may have taken effect before it.
        let held = ack(0, 1, 10, 60_000);
        let acks = [held, ack(1, 2, 16, 20)];
        assert_eq!(doubles(&acks), []);
        assert_eq!(late(&acks), [held]);
        // At the very instant: not certain either.
        assert_eq!(doubles(&[ack(1, 2, 16, 20), ack(0, 1, 20, 25)]), []);
    }

    #[test]
    fn every_stale_write_counts_also_after_two_failovers() {
        let acks = [
            ack(0, 1, 0, 1),
            ack(1, 2, 10, 11),
            ack(2, 3, 20, 21),
            ack(0, 1, 30, 31),
            ack(1, 2, 32, 33),
        ];
        assert_eq!(doubles(&acks).len(), 2);
        // A return to the first node on a timeline of its own is none.
        assert_eq!(doubles(&[acks[0], acks[1], acks[2], ack(0, 4, 30, 31)]), []);
    }

    #[test]
    fn two_nodes_on_one_timeline_one_after_the_other_is_a_fork_and_no_double() {
        let acks = [
            ack(1, 2, 10, 11),
            ack(1, 2, 12, 13),
            ack(2, 2, 20, 21),
            ack(2, 2, 22, 23),
        ];
        assert_eq!(doubles(&acks), []);
        assert_eq!(forks(&acks), BTreeMap::from([(2, BTreeSet::from([1, 2]))]));
    }

    #[test]
    fn two_nodes_on_one_timeline_in_turn_are_both() {
        let (old, new) = (ack(1, 2, 14, 15), ack(2, 2, 12, 13));
        let acks = [ack(1, 2, 10, 11), new, old];
        assert_eq!(doubles(&acks), [Double { old, new }]);
        assert_eq!(forks(&acks).len(), 1);
    }

    #[test]
    fn a_write_on_waking_is_told_from_one_long_after_and_from_another_nodes() {
        let new = ack(1, 2, 10, 11);
        let double = |node, start| Double {
            old: ack(node, 1, start, start + 10),
            new,
        };
        let all = [
            double(0, 1020),
            double(0, 1500),
            double(2, 1020),
            double(0, 900),
        ];
        let (woken, rest) = on_waking(&all, &[(0, ms(1000))], ms(300));
        assert_eq!(woken, [all[0]]);
        assert_eq!(rest, all[1..]);
    }

    #[test]
    fn a_promotion_after_another_is_no_fork() {
        assert_eq!(
            forks(&[ack(0, 1, 0, 1), ack(1, 2, 2, 3), ack(0, 3, 4, 5)]),
            BTreeMap::new()
        );
    }

    #[test]
    fn the_outage_is_the_longest_gap() {
        let acks = [
            ack(0, 1, 0, 10),
            ack(0, 1, 19, 20),
            ack(1, 2, 4990, 5000),
            ack(1, 2, 5010, 5020),
        ];
        // It began before the fault's own instant: the last proof of a writable node counts.
        assert_eq!(outage(&acks, ms(25), ms(5015)), ms(4980));
        assert_eq!(outage(&acks, ms(5001), ms(5019)), ms(20));
        // Never again: up to the end of the look.
        assert_eq!(outage(&acks, ms(5020), ms(9020)), ms(4000));
        assert_eq!(outage(&[], ms(5), ms(9)), ms(4));
    }

    #[test]
    fn a_handover_has_the_last_of_the_old_and_the_first_of_the_new() {
        let (old, new) = (ack(0, 1, 10, 15), ack(1, 2, 40, 44));
        let acks = [ack(0, 1, 0, 5), old, new, ack(1, 2, 50, 54)];
        assert_eq!(handovers(&acks), [Handover { old, new }]);
    }

    #[test]
    fn what_is_accepted_after_waking() {
        let acks = [
            ack(0, 1, 0, 900),
            ack(0, 1, 10, 1100),
            ack(0, 1, 1110, 1150),
            ack(1, 2, 1, 2000),
        ];
        assert_eq!(accepted_after(&acks, 0, 1, ms(1000)), (2, ms(150)));
        assert_eq!(accepted_after(&acks, 0, 1, ms(1150)), (0, ms(0)));
    }

    #[test]
    fn an_acknowledged_row_that_is_missing_is_lost_and_an_unknown_one_is_not() {
        let gone = write(2, Answer::Acked(1));
        let writes = [
            write(1, Answer::Acked(1)),
            gone,
            write(3, Answer::Unknown),
            write(4, Answer::Refused),
        ];
        assert_eq!(lost(&writes, &BTreeSet::from([(1, 1)])), [gone]);
        assert_eq!(lost(&writes, &BTreeSet::from([(1, 1), (1, 2), (1, 3)])), []);
    }

    #[test]
    fn a_row_that_nobody_wrote_is_invented() {
        let writes = [
            write(1, Answer::Acked(1)),
            write(3, Answer::Unknown),
            write(4, Answer::Refused),
        ];
        let present = BTreeSet::from([(1, 1), (1, 3), (1, 4), (2, 1)]);
        assert_eq!(invented(&writes, &present), [(1, 4), (2, 1)]);
    }

    proptest! {
        /// Whoever serves one after the other is never blamed, whatever the moments.
        #[test]
        fn a_serial_history_has_no_double(steps in prop::collection::vec((0..3usize, 0..50u64, 0..50u64, any::<bool>()), 1..60)) {
            let (mut now, mut timeline, mut node) = (0, 1, 0);
            let mut acks = Vec::new();
            for (next, pause, took, moves) in steps {
                if moves && next != node {
                    (node, timeline) = (next, timeline + 1);
                }
                now += pause;
                acks.push(ack(node, timeline, now, now + took));
                now += took;
            }
            prop_assert_eq!(doubles(&acks), vec![]);
            prop_assert_eq!(late(&acks), vec![]);
        }

        /// One write of an older timeline, begun after a newer one's: found wherever it is put.
        #[test]
        fn a_planted_double_is_found(gap in 1..500u64, took in 0..500u64, at in 0..4usize) {
            let mut acks = vec![ack(0, 1, 0, 5), ack(1, 2, 10, 15), ack(1, 2, 20, 25)];
            let planted = ack(0, 1, 15 + gap, 15 + gap + took);
            acks.insert(at.min(acks.len()), planted);
            let found = doubles(&acks);
            prop_assert_eq!(found.len(), 1);
            let blamed = found[0].old == planted;
            prop_assert!(blamed);
        }
    }
}
