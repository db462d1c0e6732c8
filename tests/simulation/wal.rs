//! WAL with an identity: two primaries that take the same timeline number write different histories.

use pgnode::domain::{Lsn, Timeline};
use pgnode::plan::vote::{Position, Term};

/// What one primary wrote, up to where the next one forked off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    /// Each promotion has its own.
    pub(crate) lineage: u32,
    pub(crate) timeline: u32,
    /// The term that its primary has written at its beginning.
    pub(crate) term: Term,
    pub(crate) end: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wal(pub(crate) Vec<Part>);

impl Wal {
    pub(crate) fn end(&self) -> u64 {
        self.0.last().map_or(0, |p| p.end)
    }

    pub(crate) fn term(&self) -> Term {
        self.0.last().map_or(Term(0), |p| p.term)
    }

    pub(crate) fn lineage(&self) -> u32 {
        self.0.last().map_or(0, |p| p.lineage)
    }

    pub(crate) fn position(&self) -> Position {
        Position {
            term: self.term(),
            timeline: Timeline(self.0.last().map_or(0, |p| p.timeline)),
            lsn: Lsn(self.end()),
        }
    }

    pub(crate) fn contains(&self, lineage: u32, lsn: u64) -> bool {
        self.0.iter().any(|p| p.lineage == lineage && p.end >= lsn)
    }

    /// Whether this is how the other one began.
    pub(crate) fn begins(&self, other: &Self) -> bool {
        let Some((last, before)) = self.0.split_last() else {
            return true;
        };
        other.0.starts_with(before)
            && other
                .0
                .get(before.len())
                .is_some_and(|p| p.lineage == last.lineage && p.end >= last.end)
    }

    /// The first part of it, not beyond `lsn`.
    pub(crate) fn upto(&self, lsn: u64) -> Self {
        let mut parts = Vec::new();
        for part in &self.0 {
            parts.push(Part {
                end: part.end.min(lsn),
                ..*part
            });
            if part.end >= lsn {
                break;
            }
        }
        Self(parts)
    }

    /// A primary begins to write in a term.
    pub(crate) fn begin(&mut self, lineage: u32, term: Term, promoted: bool) {
        let last = self.0.last().copied();
        self.0.push(Part {
            lineage,
            timeline: last.map_or(0, |p| p.timeline) + u32::from(promoted),
            term,
            end: self.end() + 1,
        });
    }

    pub(crate) fn write(&mut self, bytes: u64) {
        if let Some(last) = self.0.last_mut() {
            last.end += bytes;
        }
    }
}
