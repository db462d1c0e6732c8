//! Timelines and what they descend from: the contents of PostgreSQL's `.history` files.

use super::{Lsn, Timeline, WalName};
use serde::{Deserialize, Serialize};

/// A timeline that was left, and where: a line of a history file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switch {
    /// The timeline.
    pub timeline: Timeline,
    /// Its end: the first byte that belongs to the next one.
    pub end: Lsn,
}

/// A timeline with all that it descends from, oldest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct History {
    /// The timelines that were left.
    pub past: Vec<Switch>,
    /// The present one.
    pub timeline: Timeline,
}

/// Where two histories part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    /// The last timeline that both have been on.
    pub timeline: Timeline,
    /// The first byte that is not the same.
    pub lsn: Lsn,
}

impl History {
    /// Reads `pg_wal/<timeline>.history`: timeline, position and a reason in each line
    /// (`readTimeLineHistory` in `timeline.c`). Timeline 1 has no such file.
    ///
    /// # Errors
    /// The line that is not understood.
    pub fn parse(timeline: Timeline, text: &str) -> Result<Self, String> {
        let mut past: Vec<Switch> = Vec::new();
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let mut words = line.split_ascii_whitespace();
            let switch = words
                .next()
                .and_then(|w| w.parse().ok())
                .zip(words.next().and_then(|w| w.parse().ok()))
                .map(|(timeline, end)| Switch {
                    timeline: Timeline(timeline),
                    end,
                })
                .filter(|s| past.last().is_none_or(|p| p.timeline < s.timeline))
                .filter(|s| s.timeline < timeline);
            past.push(switch.ok_or_else(|| line.to_owned())?);
        }
        Ok(Self { past, timeline })
    }

    /// That of a cluster that was never promoted.
    #[must_use]
    pub const fn without_past(timeline: Timeline) -> Self {
        Self {
            past: Vec::new(),
            timeline,
        }
    }

    /// The name of the file that holds it: `00000002.history`.
    #[must_use]
    pub fn file_name(timeline: Timeline) -> String {
        format!("{:08X}.history", timeline.0)
    }

    /// The timeline that such a file name belongs to.
    #[must_use]
    pub fn file_timeline(name: &str) -> Option<Timeline> {
        let digits = name.strip_suffix(".history")?;
        let is_digit = |b: u8| b.is_ascii_digit() || matches!(b, b'A'..=b'F');
        if digits.len() != 8 || !digits.bytes().all(is_digit) {
            return None;
        }
        u32::from_str_radix(digits, 16).ok().map(Timeline)
    }

    /// The timeline on which the byte at `lsn` was written, seen from the present one: the one whose
    /// segment replay reads. At a switch it is the new one.
    #[must_use]
    pub fn timeline_at(&self, lsn: Lsn) -> Timeline {
        self.past
            .iter()
            .find(|s| lsn < s.end)
            .map_or(self.timeline, |s| s.timeline)
    }

    /// The segment of this number that replay reads: PostgreSQL takes one in which timelines switch from
    /// the newest of them (`XLogFileReadAnyTLI` in `xlogrecovery.c`).
    #[must_use]
    pub fn segment(&self, name: WalName) -> WalName {
        let last_byte = Lsn(name.end().0.saturating_sub(1));
        WalName {
            timeline: self.timeline_at(last_byte),
            ..name
        }
    }

    /// Where `timeline` was left on the way to the present one; `None` for the present one and for
    /// strangers.
    #[must_use]
    pub fn end_of(&self, timeline: Timeline) -> Option<Lsn> {
        self.past
            .iter()
            .find(|s| s.timeline == timeline)
            .map(|s| s.end)
    }

    /// Whether the present timeline is `timeline` or descends from it.
    #[must_use]
    pub fn descends_from(&self, timeline: Timeline) -> bool {
        self.timeline == timeline || self.end_of(timeline).is_some()
    }

    /// Timeline, beginning, end; the present one has none.
    #[must_use]
    pub fn spans(&self) -> Vec<(Timeline, Lsn, Option<Lsn>)> {
        let mut begin = Lsn(0);
        let mut spans = Vec::new();
        for switch in &self.past {
            spans.push((switch.timeline, begin, Some(switch.end)));
            begin = switch.end;
        }
        spans.push((self.timeline, begin, None));
        spans
    }

    /// Where the two part; `None` when they have nothing in common, or one is the other.
    #[must_use]
    pub fn fork(&self, other: &Self) -> Option<Fork> {
        let (ours, theirs) = (self.spans(), other.spans());
        let common = ours
            .iter()
            .zip(&theirs)
            .take_while(|(a, b)| (a.0, a.1) == (b.0, b.1))
            .last()?;
        let ((timeline, _, end), (_, _, other_end)) = common;
        let lsn = match (end, other_end) {
            (Some(a), Some(b)) => *a.min(b),
            (Some(one), None) | (None, Some(one)) => *one,
            (None, None) => return None,
        };
        Some(Fork {
            timeline: *timeline,
            lsn,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_belongs_to_the_timeline_that_wrote_it() {
        let text = "1\t0/3000000\tno recovery target specified\n\n3\t0/5000028\tbefore 2026\n";
        let history = History::parse(Timeline(4), text).unwrap();
        for (lsn, timeline) in [(0, 1), (0x2FF_FFFF, 1), (0x300_0000, 3), (0x500_0028, 4)] {
            assert_eq!(history.timeline_at(Lsn(lsn)), Timeline(timeline));
        }
        assert_eq!(history.end_of(Timeline(3)), Some(Lsn(0x500_0028)));
        assert!(history.descends_from(Timeline(4)) && history.descends_from(Timeline(1)));
        assert!(!history.descends_from(Timeline(2)));
        assert_eq!(
            History::without_past(Timeline(1)).timeline_at(Lsn(9)),
            Timeline(1)
        );
    }

    #[test]
    fn a_history_file_is_known_by_its_name() {
        assert_eq!(History::file_name(Timeline(26)), "0000001A.history");
        assert_eq!(
            History::file_timeline("0000001A.history"),
            Some(Timeline(26))
        );
        for name in [
            "1A.history",
            "0000001a.history",
            "0000001A",
            "0000001A.history.tmp",
        ] {
            assert_eq!(History::file_timeline(name), None, "{name}");
        }
    }
}
